"""Models are judged by what was held back, and published fitted on everything.

What is popular this week is in the newest acts, which the split holds back. A model that is counted or solved
has nothing to overfit by training longer: the same config is fitted again on all acts when it is published. A
network that is trained by steps is trained again as long as the judged one was (refit_training.py). The
verdict stays that of the split. The refitted export lies in `exports/<model>/everything/`.

Some are published as they were judged, and the manifest says why: whose scores a ranker reads, because it
learned what those scores mean; and the ranker itself, which learns from acts that no retriever learned from:
on everything, there are none.
"""

import logging
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etalage.errors import TableMissing, TooLittleData
from etalage.models.own import SOURCE
from etalage.shop import behaviour_steps
from etalage.shop.behaviour_steps import Behaviour
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.bundle.draft import DraftedModel
    from etalage.models.recipe import Recipe

log = logging.getLogger(__name__)

EVERYTHING = "everything"
Facts = dict[str, Any]


def refitted(
    workspace: Workspace,
    drafted: "tuple[DraftedModel, ...]",
    force: bool = False,
    as_judged: bool = False,
) -> "tuple[DraftedModel, ...]":
    """The same models, fitted on all acts that the tables hold now; those that are not say why.

    Those that their gate keeps out stay as they are: they are not published (unless by `force`), or stay
    behind a ranker. as_judged: none is fitted again.
    """
    from etalage.runtime.export_files import read_facts

    facts = [read_facts(one.export) for one in drafted]
    rule = "--as-judged" if as_judged else workspace.config.publish.refit
    if rule in ("--as-judged", "none"):
        said = rule if as_judged else f'[publish] refit = "{rule}"'
        return tuple(replace(one, as_judged=said) for one in drafted)
    read, everything = _read_by_rankers(drafted, facts), _Everything(workspace)
    found = []
    for one, fact in zip(drafted, facts, strict=True):
        if _is_out(one, fact, force):
            found.append(one)
        elif (why := _why_not(workspace, one.export, fact, read, rule)) is not None:
            found.append(replace(one, as_judged=why))
        else:
            found.append(_again(workspace, one, fact, everything))
    return tuple(found)


def _is_out(one: "DraftedModel", facts: Facts, force: bool) -> bool:
    """Whether its gate keeps it out: nothing is trained for a model that is not published."""
    from etalage.bundle.admission import admitted, standing

    if force:
        return False
    if _takes_steps(facts):
        return not admitted([one], force=False)[0]
    return one.outdated is not None or standing(one.verdict) == "loses"


def _why_not(workspace: Workspace, export: Path, facts: Facts, read: dict[str, str], rule: str) -> str | None:
    """Why a model is published as it was judged; None: it is fitted again."""
    from etalage.runtime.export_files import export_role

    name = str(facts["name"])
    if name in read:
        return f"{read[name]} learned from its scores"
    if not _is_of_its_file(workspace, facts):
        return "its file is not the one that was judged"
    steps = _takes_steps(facts)
    if steps and workspace.models.listed()[name].data != "behaviour":
        return "it learned from what the retrievers found for acts that were held back from them"
    if steps and rule == "closed_form":
        return '[publish] refit = "closed_form"'
    if "config" not in facts or (steps and not facts.get("history")):
        log.warning(
            "%s is published as it was judged: %s does not say how it was trained; `etalage train %s` writes "
            "one that does", name, export / "export.json", name,
        )  # fmt: skip
        return "its export does not say how it was trained"
    if SOURCE not in facts and facts["config"].get("rows") is not None:
        return "it learned from a file of rows, of which nothing is held back for a test"
    if export_role(facts) != "closed_form" and find_spec("torch") is None:
        log.warning("%s is published as it was judged: torch is not installed", name)
        return "torch is not installed"
    return None


class _Everything:
    """All acts as `train`, read once for all models that read the same of them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._known: dict[bool, Behaviour] = {}

    def of(self, recipe: "Recipe[Any]", config: Any) -> Behaviour:
        """As this model reads it. Raises TableMissing, TooLittleData."""
        from etalage.shop import stream_steps

        if stream_steps.streams(self._workspace, config):
            return behaviour_steps.for_training(self._workspace, recipe, config, whole=True)
        wide = bool(recipe.columns) or recipe.role != "closed_form"
        if wide not in self._known:
            self._known[wide] = _everything(self._workspace, wide)
        return self._known[wide]


def _again(
    workspace: Workspace, one: "DraftedModel", facts: Facts, everything: _Everything
) -> "DraftedModel":
    """The model, fitted on everything; as it was judged where that fails, and it says why."""
    from etalage.config import validated

    name = str(facts["name"])
    try:
        recipe = workspace.models.find(name)
        config = validated(recipe.config, facts["config"], where=f"{one.export}: config")
        return replace(one, export=_refit(workspace, recipe, config, one.export, facts, everything))
    except (TableMissing, TooLittleData) as error:
        why = f"on everything it cannot be fitted: {error}"
    except Exception as error:  # a model of the shop's own may raise anything, and the judged one is there
        why = f"fitted on everything it is not to be served: {type(error).__name__}: {error}"
    log.warning("%s is published as it was judged; %s", name, why)
    return replace(one, as_judged=why)


def forget_unpublished(workspace: Workspace) -> None:
    """Remove refitted exports that no bundle on disk holds: `sync` and `rollback` ask for no others."""
    from etalage.runtime.export_files import read_facts

    held = {
        model.hash
        for one in workspace.bundles.survey()
        if one.manifest is not None
        for model in one.manifest.models
    }
    with workspace.disk():
        for export in (workspace.folder / "exports").glob(f"*/{EVERYTHING}/[0-9]*-*"):
            if read_facts(export).get("model_hash") not in held:
                shutil.rmtree(export)


def _read_by_rankers(drafted: "tuple[DraftedModel, ...]", facts: "list[dict[str, Any]]") -> dict[str, str]:
    """Retriever → the ranker that reads its scores."""
    from etalage.runtime.opening import open_scorer
    from etalage.runtime.pairs import PairScorer

    found: dict[str, str] = {}
    for one, fact in zip(drafted, facts, strict=True):
        if fact.get("role") == "ranker":
            ranker = open_scorer(one.export)
            if isinstance(ranker, PairScorer):
                found |= dict.fromkeys(ranker.asks_retrievers, ranker.name)
    return found


def _is_of_its_file(workspace: Workspace, facts: "dict[str, Any]") -> bool:
    """Whether the file of a model of the shop's own is still the one that was judged; said where it isn't."""
    if SOURCE not in facts:
        return True
    now = next((one.sha256 for one, _ in workspace.models.sources() if one.name == facts["name"]), None)
    if now != facts[SOURCE]:
        log.warning(
            "%s is published as it was judged: %s %s since; `etalage train %s` trains what it is now",
            facts["name"], workspace.models.folder / f"{facts['name']}.py",
            "is gone" if now is None else "changed", facts["name"],
        )  # fmt: skip
    return bool(now == facts[SOURCE])


def _everything(workspace: Workspace, wide: bool) -> Behaviour:
    """All acts as `train`; wide: with what is known of items and shoppers, for models that have `columns`.
    Closed-form models of ours read nothing but ids."""
    from etalage.features.behaviour_set import behaviour_set, describe_facts

    if wide:
        return behaviour_steps.behaviour(workspace, whole=True)
    at = {name: v for name, v in workspace.lake.versions().items() if name in ("items", "interactions")}
    if "interactions" not in at:
        raise TableMissing("there are no interactions")
    with workspace.bar("read what users did", None):
        acts = workspace.lake.table("interactions").read(at["interactions"])
        items = (
            workspace.lake.table("items").read(at["items"], columns=["item_id"]) if "items" in at else None
        )
        data = behaviour_set(acts, items, None, workspace.config.behaviour, whole=True)
    for line in describe_facts(data.facts):
        log.warning("%s", line)
    return Behaviour(data, at, {})


def _refit(
    workspace: Workspace,
    recipe: "Recipe[Any]",
    config: Any,
    judged: Path,
    facts: Facts,
    everything: _Everything,
) -> Path:
    """The export of the judged model's config fitted on everything; the newest one, if it is just that."""
    from etalage.errors import NothingToPublish
    from etalage.models.recipe import Trained, count
    from etalage.runtime.export_files import newest_export, read_facts
    from etalage.training.closed_form import export_closed_form  # needs no torch, which is slow to load
    from etalage.training.export_source import Source

    whole, steps = everything.of(recipe, config), _takes_steps(facts)
    folder = workspace.exports(recipe.name) / EVERYTHING
    kept = {"judged": facts["model_hash"], "data": whole.data.fingerprint(), "fitted_on": EVERYTHING}
    try:
        newest = newest_export(folder)
        if kept.items() <= read_facts(newest).items():
            return newest
    except NothingToPublish:
        pass
    acts = len(whole.data.part("train"))
    kept["refit"] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "judged": facts["model_hash"],
        "interactions": acts,
    }
    if steps:
        from etalage.shop.refit_training import Again, again_config, best_epoch, trained_again

        kept["refit"] |= {"epochs": best_epoch(facts)}
        config = again_config(config, facts, acts)
        return trained_again(workspace, Again(recipe, config, judged, kept, whole), folder)
    more = {
        **kept,
        **{k: facts[k] for k in (SOURCE, "inputs") if k in facts},
        "tables": whole.versions,
        "mlflow_run": facts.get("mlflow_run"),
    }
    with workspace.disk(), workspace.bar(f"fit {recipe.name} on everything", None):
        if recipe.role != "closed_form":
            return _solved_again(workspace, recipe, config, whole, folder, more, judged)
        counted = count(recipe.bind(config, whole.data), workspace.array_loop)
        trained = Trained(recipe.name, config, None, {}, [], 0.0, 0.0, judged, facts=more, counted=counted)
        return export_closed_form(recipe, trained, Source.of(whole.data), folder)


def _takes_steps(facts: Facts) -> bool:
    from etalage.runtime.export_files import export_role

    return export_role(facts) != "closed_form" and not facts.get("solved", False)


def _solved_again(
    workspace: Workspace,
    recipe: "Recipe[Any]",
    config: Any,
    whole: Behaviour,
    folder: Path,
    facts: "dict[str, Any]",
    judged: Path,
) -> Path:
    """The export of a network that is solved."""
    from etalage.training.behaviour_export import export_behaviour
    from etalage.training.loop import fit

    learned = behaviour_steps.learned(workspace, recipe, config, whole)
    trained = fit(recipe, recipe.bind(learned.config, learned.data), learned.config, judged)
    return export_behaviour(
        recipe, replace(trained, facts={**trained.facts, **facts}), learned.source, folder
    )
