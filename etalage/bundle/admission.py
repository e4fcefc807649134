"""Which models go into a bundle, and what they may do there, by their verdicts.

A trained network has to beat the simple ones at its own job. A closed-form model has to hold its own
against popularity, which costs nothing: one that loses to it, shopper by shopper, stays out. Where a ranker
is in the bundle, it stays *behind*: it brings candidates, as it did when the ranker was judged, and only the
ranker says where they stand.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from etalage.bundle.draft import DraftedModel
from etalage.bundle.manifest import ModelEntry, RefusedFacts
from etalage.errors import ExportDamaged, GateRefused, NothingToPublish
from etalage.runtime.export_files import FACTS, export_kind, export_role

FEWEST = 20
"""Of fewer questions no resample tells what another day would have brought: nothing passes, nothing loses."""
FLOOR = "popularity"
"""What every other model is held against."""
CHANCE = "chance"
"""Items in any order, as every verdict has it."""
AGAIN = "buy_again"
"""Finds what a shopper had before."""
REMEDY = "set [models.{name}] and train it again, or publish it all the same with --force"


def admitted(
    drafted: Sequence[DraftedModel], force: bool
) -> tuple[list[tuple[DraftedModel, dict[str, Any]]], list[RefusedFacts]]:
    """The models that may be published, with their export's facts, and those that may not.

    Raises NothingToPublish (an export that is not there), GateRefused (two of one name).
    """
    read = [(one, _read_facts(one.export)) for one in drafted]
    names = [str(facts["name"]) for _, facts in read]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise GateRefused(f"two models are called {twice!r}; publish one of them")
    troubles = [_trouble(one, facts) for one, facts in read]
    ranked = any(
        facts.get("role") == "ranker" and (trouble is None or force or one.forced)
        for (one, facts), trouble in zip(read, troubles, strict=True)
    )
    good: list[tuple[DraftedModel, dict[str, Any]]] = []
    refused: list[RefusedFacts] = []
    for (one, facts), trouble in zip(read, troubles, strict=True):
        if trouble is None:
            good.append((replace(one, forced=False, unjudged=_unjudged(one, facts)), facts))
        elif force or one.forced:
            good.append((replace(one, forced=True), facts))
        elif ranked and one.outdated is None and _about_it(one, facts) and _closed_form(facts):
            good.append((replace(one, behind=True), facts))
        else:
            name, model_hash = str(facts["name"]), str(facts["model_hash"])
            refused.append(RefusedFacts(name=name, hash=model_hash, reason=trouble, kind=export_kind(facts)))
    return good, refused


def compared(verdict: Mapping[str, Any] | None, system: str = FLOOR) -> str | None:
    """How a model stands against another, in figures; None: its verdict does not say."""
    row = _row_of(verdict, system)
    if verdict is None or row is None:
        return None
    where = "" if verdict.get("slice", "all") == "all" else f" of {verdict['slice']}"
    ours, low, high = verdict["rows"][0]["value"], row["gain_low"], row["gain_high"]
    return (
        f"{ours:.4f} against {row['value']:.4f} at {verdict.get('metric')}{where}, a gain of "
        f"{row['gain']:+.4f} [{low:+.4f}, {high:+.4f}]"
    )


def standing(verdict: Mapping[str, Any] | None) -> Literal["beats", "loses", "level", "unknown"]:
    """What the paired interval of a model's gain over popularity says; `level`: that it tells nothing."""
    row = _row_of(verdict)
    if verdict is None or row is None or tells_nothing(verdict):
        return "unknown"
    if verdict["rows"][0].get("questions", FEWEST) < FEWEST:
        return "unknown"
    return "beats" if row["gain_low"] > 0 else "loses" if row["gain_high"] < 0 else "level"


def tells_nothing(verdict: Mapping[str, Any] | None) -> str | None:
    """Why the metric of a verdict cannot tell models apart, and what to do; None: it can.

    In a catalogue of twenty items all that is to be found is among the first twenty, in any order.
    """
    row = _row_of(verdict, CHANCE)
    if verdict is None or row is None or row.get("value", 0.0) < 1:
        return None
    setting = "ranking_metric" if verdict.get("role") == "ranker" else "retrieval_metric"
    return (
        f"{verdict.get('metric')} is 1 for items in any order, since they are so few: set [evaluate] "
        f"{setting} to one of fewer places, such as ndcg_at_5, and evaluate again"
    )


def cold_words(verdict: Mapping[str, Any] | None) -> str | None:
    """That most shoppers by whom a model was judged are cold, and what then to set; None: they are not."""
    ours: Mapping[str, Any] = next(iter((verdict or {}).get("rows", ())), {})
    if "cold" not in ours:
        return None
    return (
        f"{ours['cold']:,} of {ours['questions']:,} judged shoppers have fewer than {ours['few_acts']} acts "
        'of history, too few to know them by: [behaviour] split = "leave_one_out" asks each for their last'
    )


def beside_popularity(models: Sequence[ModelEntry]) -> list[str]:
    """How each closed-form model of a bundle stands against popularity, or why nobody knows: a line each."""
    lines = []
    for one in models:
        if one.role != "closed_form" or one.name == FLOOR:
            continue
        if one.unjudged is not None:
            lines.append(f"not judged: {one.name}, published all the same: {one.unjudged}")
            continue
        figures = compared(one.verdict)
        line = f"{one.name} {_WORDS[standing(one.verdict)]} {FLOOR}"
        line += "" if figures is None else f": {figures}"
        lines.append(f"{line}; it only brings what the ranker orders" if one.behind else line)
    return lines


_WORDS = {
    "beats": "beats",
    "loses": "loses to",
    "level": "cannot be told apart from",
    "unknown": "may be no better than",
}


def _row_of(verdict: Mapping[str, Any] | None, system: str = FLOOR) -> Mapping[str, Any] | None:
    rows = () if verdict is None else verdict.get("rows", ())
    return next((row for row in rows[1:] if row.get("system") == system), None)


def _read_facts(export: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((export / FACTS).read_text(encoding="utf-8"))
        if facts.get("model_hash") and facts.get("name"):
            return facts
    except OSError as error:
        raise NothingToPublish(f"{export}: no model (no {FACTS}): `etalage train` first") from error
    except ValueError as error:
        raise ExportDamaged(f"{export / FACTS}: {error}; export the model again") from error
    raise ExportDamaged(f"{export / FACTS}: no name or hash in it; export the model again")


def _closed_form(facts: Mapping[str, Any]) -> bool:
    return export_role(facts) == "closed_form"


def _about_it(one: DraftedModel, facts: Mapping[str, Any]) -> bool:
    """Whether the verdict is about this very export; one that was fitted again on everything names the one
    that was judged."""
    judged = facts.get("judged", facts["model_hash"])
    return one.verdict is not None and one.verdict.get("model_hash", judged) == judged


def _trouble(one: DraftedModel, facts: Mapping[str, Any]) -> str | None:
    """Why the gate keeps this model out."""
    name, verdict = facts["name"], one.verdict
    if one.outdated is not None:
        return one.outdated
    if verdict is None:
        return None if _closed_form(facts) else f"{name} was not evaluated: `etalage evaluate {name}` first"
    if not _about_it(one, facts):
        return f"the verdict of {name} is about another model: `etalage evaluate {name}` again"
    if _closed_form(facts):
        loses = name != FLOOR and standing(verdict) == "loses"
        return (
            f"{name} loses to {FLOOR}: {compared(verdict)}; {_remedy(facts)}{_cold(verdict)}"
            if loses
            else None
        )
    if verdict.get("passed") is not True:
        best = next((str(row["system"]) for row in verdict.get("rows", ())[1:] if row.get("best")), "")
        if (asked := verdict["rows"][0].get("questions", FEWEST) if verdict.get("rows") else FEWEST) < FEWEST:
            return f"{name}: {asked} questions are too few to tell, {FEWEST} are needed"
        figures = compared(verdict, best)
        if figures is None:
            return f"{name} does not beat the simple ones at {verdict.get('metric', 'its metric')}"
        return f"{name} does not beat {best}: {figures}{_cold(verdict)}"
    return None


def _cold(verdict: Mapping[str, Any]) -> str:
    return "" if (said := cold_words(verdict)) is None else f"; {said}"


def _remedy(facts: Mapping[str, Any]) -> str:
    """What may help a closed-form model that loses to popularity."""
    name = str(facts["name"])
    if name == AGAIN and not (facts.get("behaviour") or {}).get("repeat"):
        return (
            "it finds what a shopper had before, which [behaviour] repeat = false keeps from them: set it to "
            f"true and `etalage train {name}` again, or publish it all the same with --force"
        )
    return REMEDY.format(name=name)


def _unjudged(one: DraftedModel, facts: Mapping[str, Any]) -> str | None:
    """Why nobody knows whether a closed-form model is better than popularity; None: it is known."""
    name, verdict = facts["name"], one.verdict
    if not _closed_form(facts) or name == FLOOR:
        return None
    if verdict is None:
        return one.unjudged or f"it was not evaluated: `etalage evaluate {name}`"
    if standing(verdict) != "unknown":
        return None
    asked = verdict["rows"][0].get("questions") if _row_of(verdict) else None
    if asked is not None and asked >= FEWEST:
        return tells_nothing(verdict)
    if asked is not None:
        return f"{asked} shoppers to judge by are too few to tell, {FEWEST} are needed"
    return f"its verdict does not compare it with {FLOOR}: `etalage evaluate {name}` again"
