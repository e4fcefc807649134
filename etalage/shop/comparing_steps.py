"""`etalage evaluate` without a name: every trained model of behaviour at once. Nothing is trained for it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from etalage.bundle.admission import CHANCE
from etalage.errors import NothingToPublish
from etalage.shop import behaviour_steps, judging_steps
from etalage.shop.behaviour_steps import QUOTA, Behaviour
from etalage.shop.contender_steps import behaviour_contenders
from etalage.shop.judging_steps import FLOOR
from etalage.shop.photo_steps import newest_exports
from etalage.shop.trust_steps import orphan_exports
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.evaluation.comparison import Comparison, ModelComparison
    from etalage.evaluation.gate import Verdict
    from etalage.evaluation.whole_funnel import WholeFunnel
    from etalage.runtime.scorer import ExportScorer, Scorer

log = logging.getLogger(__name__)

REPORT = "behaviour.html"
SYSTEMS = 3
"""So many systems are shown side by side for some shoppers."""


@dataclass(frozen=True)
class _Trained:
    """The models of behaviour that were trained on what the tables hold now, opened."""

    whole: Behaviour
    retrievers: "dict[str, ExportScorer]"
    rankers: "dict[str, ExportScorer]"
    exports: dict[str, Path]
    notes: list[str]
    """Of those that are not compared: why."""


def trained(workspace: Workspace) -> list[str]:
    """Names of the models of behaviour that have an export."""
    return list(newest_exports(workspace, "behaviour", "examples"))


def evaluate_all(workspace: Workspace) -> "ModelComparison":
    """Judge all of them, keep their verdicts beside the exports, write reports/behaviour.html.

    A network is judged where everything that it has to beat is trained; else it has figures, and a note.
    Raises NothingToPublish: none was trained, or none on what the tables hold now.
    """
    from etalage.evaluation.comparison import Comparison
    from etalage.evaluation.comparison_report import write_comparison_report
    from etalage.evaluation.evaluation import keep_verdict

    there = _opened(workspace)
    every: dict[str, Scorer] = {FLOOR: judging_steps.floor(workspace, there.whole), **there.retrievers}
    quota = {
        name: workspace.config.funnel.retrievers.get(name, QUOTA)
        for name in _candidate_retrievers(workspace, there)
    }
    against, notes = _against(there, list(quota))
    title = f"measure {', '.join([*there.retrievers, *there.rankers])} beside each other"
    with workspace.disk(), workspace.bar(title, None) as meter:
        asked = Comparison(
            there.whole.data,
            every,
            there.rankers,
            quota,
            config=workspace.evaluating,
            progress=meter,
            workers=judging_steps.workers_of(workspace),
        )
        verdicts = asked.verdicts(against)
        for name, verdict in verdicts.items():
            scorer = (there.retrievers | there.rankers)[name]
            keep_verdict(there.exports[name], scorer.model_hash, verdict)
        funnels, left_out, more = _funnels(workspace, there, every[FLOOR])
        done = asked.compared(verdicts, funnels, left_out, [*there.notes, *notes, *more])
        done = _decided(workspace, there, asked, done, every, funnels)
        files = write_comparison_report(
            workspace.folder / "reports" / REPORT, done, _facts(there, done, verdicts)
        )
    return replace(done, report=files[0], files=files)


def _decided(
    workspace: Workspace,
    there: _Trained,
    asked: "Comparison",
    done: "ModelComparison",
    every: "Mapping[str, Scorer]",
    funnels: "Mapping[str, WholeFunnel]",
) -> "ModelComparison":
    """With what to publish, and the shoppers who show it."""
    from etalage.bundle.admission import tells_nothing
    from etalage.evaluation.decision import SHOPPER, Evidence, decide
    from etalage.evaluation.examples import shopper_examples

    if done.gate is None or done.shown is None or asked.answers is None:
        return done
    questions, ranked = asked.answers
    contenders = behaviour_contenders(
        workspace, every, there.rankers, there.exports, funnels, _prior(every[FLOOR]), questions
    )
    useless = (tells_nothing(one.to_json()) for name, one in done.verdicts.items() if name in every)
    evidence = Evidence(
        SHOPPER,
        contenders,
        done.metric,
        done.gate,
        done.shown,
        "shoppers",
        floor=FLOOR,
        slices=done.by_slice,
        useless=next((one for one in useless if one is not None), None),
        notes=done.notes,
    )
    decision = decide(evidence)
    by_mean = done.gate.values
    means = sorted(by_mean, key=lambda name: -by_mean[name].value)
    wanted = [decision.publish, decision.over, decision.simpler, *means]
    systems = list(dict.fromkeys(n for n in wanted if n is not None and n in ranked and n != CHANCE))[
        :SYSTEMS
    ]
    examples = shopper_examples(there.whole.data, questions, ranked, systems, done.metric)
    return replace(done, evidence=evidence, decision=decision, examples=tuple(examples))


def _opened(workspace: Workspace) -> _Trained:
    from etalage.runtime.export_files import newest_export, read_facts
    from etalage.runtime.opening import open_scorer

    names = trained(workspace)
    if not names:
        gone = "".join(f"; {one.sentence}" for one in orphan_exports(workspace))
        raise NothingToPublish(
            f"{workspace.folder / 'exports'}: no model of behaviour was trained: `etalage train {FLOOR}` and "
            f"`etalage train item_knn` first{gone}"
        )
    whole = behaviour_steps.behaviour(workspace)
    listed = workspace.models.listed()
    retrievers: dict[str, ExportScorer] = {}
    rankers: dict[str, ExportScorer] = {}
    exports: dict[str, Path] = {}
    notes = [one.sentence for one in orphan_exports(workspace)]
    for name in names:
        export = newest_export(workspace.exports(name))
        if (why := judging_steps.not_of_today(workspace, read_facts(export), whole)) is not None:
            notes.append(why)
            continue
        exports[name] = export
        (rankers if listed[name].role == "ranker" else retrievers)[name] = open_scorer(export)
    if not retrievers:
        raise NothingToPublish("; ".join(notes) or f"no retriever was trained: `etalage train {FLOOR}`")
    return _Trained(whole, retrievers, rankers, exports, notes)


def _candidate_retrievers(workspace: Workspace, there: _Trained) -> list[str]:
    """The retrievers that bring candidates to a ranker: those that [funnel] names, else all."""
    named = workspace.config.funnel.retrievers
    return [name for name in there.retrievers if not named or name in named]


def _against(there: _Trained, asked: list[str]) -> tuple[dict[str, Sequence[str]], list[str]]:
    """Who is judged, and against whom; and why others are not. asked: who brings a ranker its candidates."""
    against: dict[str, Sequence[str]] = {}
    notes = []
    simple = judging_steps.yardsticks(there.whole)
    missing = [name for name in simple if name != FLOOR and name not in there.retrievers]
    for name, one in {**there.retrievers, **there.rankers}.items():
        if one.role == "closed_form":
            against[name] = () if name == FLOOR else (FLOOR,)
        elif missing:
            notes.append(
                f"{name} has figures, and no verdict: it has to beat {', '.join(missing)} too; train "
                f"{'it' if len(missing) == 1 else 'them'}, or `etalage evaluate {name}`, which does"
            )
        elif one.role == "ranker":
            against[name] = list(dict.fromkeys([*asked, *simple]))
        else:
            against[name] = simple
    return against, notes


def _funnels(
    workspace: Workspace, there: _Trained, floor: "Scorer"
) -> "tuple[dict[str, WholeFunnel], list[str], list[str]]":
    """The funnel as `publish` would make it of these models; with a ranker, the same without it too. And why
    models are left out of it, and why there is none."""
    from etalage.bundle.admission import admitted
    from etalage.evaluation.whole_funnel import FUNNEL, WholeFunnel
    from etalage.features.history import BehaviourRule
    from etalage.shop.bundling import drafted_behaviour

    opened = there.retrievers | there.rankers
    try:
        every = drafted_behaviour(workspace)
    except NothingToPublish as error:
        return {}, [], [f"the funnel is not measured: {error}"]
    mine = [one for one in every if one.export in there.exports.values()]
    good, refused = admitted(mine, force=False)
    models = [(opened[str(facts["name"])], one.behind) for one, facts in good]
    rule = BehaviourRule(workspace.config.behaviour, workspace.config.funnel)
    popularity = _prior(floor)
    funnels = {FUNNEL: WholeFunnel(models, rule, popularity)}
    if (ranker := funnels[FUNNEL].fallback_policy.ranker) is not None:
        without = [(one, behind) for one, behind in models if one.role != "ranker"]
        funnels[f"{FUNNEL}, without {ranker.name}"] = WholeFunnel(without, rule, popularity)
    asked = {one.export for one in mine}
    idle = [name for name in opened if there.exports[name] not in asked]
    said = [f"{name} is not part of the funnel: [funnel] does not name it" for name in idle]
    return funnels, [one.reason for one in refused], said


def _prior(floor: "Scorer") -> np.ndarray:
    """(N + 1,) scores of popularity."""
    from etalage.evaluation.measured import Prior
    from etalage.runtime.prior import PriorScorer

    assert isinstance(floor, PriorScorer | Prior)
    return np.asarray(floor.prior)


def _facts(there: _Trained, done: "ModelComparison", verdicts: "Mapping[str, Verdict]") -> dict[str, str]:
    """What stands above the report's answer."""
    from etalage.evaluation.evaluation import describe_versions

    data = there.whole.data
    return {
        "figures on": f"{done.part}: {done.queries:,} shoppers",
        "verdicts on": f"validation, of {', '.join(verdicts) or 'none'}",
        "items": f"{len(data.items) - 1:,}",
        "tables": describe_versions(there.whole.versions),
    }
