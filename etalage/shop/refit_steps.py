"""Models that are counted or solved are judged by what was held back, and published fitted on everything.

What is popular this week is in the newest acts, which the split holds back. A model that is counted or solved
has nothing to overfit by training longer: the same config is fitted again on all acts when it is published.
The verdict stays that of the split. The refitted export lies in `exports/<model>/everything/`.
"""

import logging
import shutil
from dataclasses import replace
from importlib.util import find_spec
from itertools import compress
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


def refitted(
    workspace: Workspace, drafted: "tuple[DraftedModel, ...]", force: bool = False
) -> "tuple[DraftedModel, ...]":
    """The same models, those that are counted or solved fitted on all acts that the tables hold now.

    Those whose scores a ranker among them reads stay as they are: it learned what those scores mean. Those
    that lose to popularity do too: they are not published (unless by `force`), or stay behind a ranker.
    """
    from etalage.bundle.admission import standing
    from etalage.runtime.export_files import export_role, read_facts

    facts = [read_facts(one.export) for one in drafted]
    read = _read_by_rankers(drafted, facts)
    chosen = [
        (export_role(fact) == "closed_form" or fact.get("solved", False))
        and fact["name"] not in read
        and (force or (one.outdated is None and standing(one.verdict) != "loses"))
        and _has_config(one.export, fact)
        and _is_of_its_file(workspace, fact)
        for one, fact in zip(drafted, facts, strict=True)
    ]
    for name in (
        fact["name"] for fact in facts if fact["name"] in read and export_role(fact) == "closed_form"
    ):
        log.info("%s is published as it was judged: %s learned from its scores", name, read[name])
    if not any(chosen):
        return drafted
    again = {str(fact["name"]): workspace.models.find(str(fact["name"])) for fact in compress(facts, chosen)}
    networks = {name for name, one in again.items() if one.role != "closed_form"}
    if networks and find_spec("torch") is None:
        log.warning("networks that are solved are published as they were judged: torch is not installed")
        again = {name: one for name, one in again.items() if name not in networks}
    try:
        everything = {
            wide: _everything(workspace, wide) for wide in {bool(r.columns) for r in again.values()}
        }
    except (TableMissing, TooLittleData) as error:
        log.warning("closed-form models are published as they were judged, on a part of the acts: %s", error)
        return drafted
    return tuple(
        replace(one, export=_refit(workspace, recipe, one.export, fact, everything[bool(recipe.columns)]))
        if (recipe := again.get(str(fact["name"]))) is not None
        else one
        for one, fact in zip(drafted, facts, strict=True)
    )


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


def _has_config(export: Path, facts: "dict[str, Any]") -> bool:
    """Whether the export says how its model was fitted; said where it doesn't."""
    if "config" not in facts:
        log.warning(
            "%s is published as it was judged: %s says no config to fit it with again; "
            "`etalage train %s` writes one that does", facts["name"], export / "export.json", facts["name"],
        )  # fmt: skip
    return "config" in facts


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
    judged: Path,
    facts: "dict[str, Any]",
    whole: Behaviour,
) -> Path:
    """The export of the judged model's config fitted on everything; the newest one, if it is just that."""
    from etalage.config import validated
    from etalage.errors import NothingToPublish
    from etalage.models.recipe import Trained, count
    from etalage.runtime.export_files import newest_export, read_facts
    from etalage.training.closed_form import export_closed_form  # needs no torch, which is slow to load
    from etalage.training.export_source import Source

    name = str(facts["name"])
    config = validated(recipe.config, facts["config"], where=f"{judged}: config")
    folder = workspace.exports(name) / EVERYTHING
    kept = {"judged": facts["model_hash"], "data": whole.data.fingerprint(), "fitted_on": EVERYTHING}
    try:
        newest = newest_export(folder)
        if kept.items() <= read_facts(newest).items():
            return newest
    except NothingToPublish:
        pass
    more = {
        **kept,
        **{k: facts[k] for k in (SOURCE, "inputs") if k in facts},
        "tables": whole.versions,
        "mlflow_run": facts.get("mlflow_run"),
    }
    with workspace.disk(), workspace.bar(f"fit {name} on everything", None):
        if recipe.role != "closed_form":
            return _solved_again(workspace, recipe, config, whole, folder, more, judged)
        counted = count(recipe.bind(config, whole.data), workspace.array_loop)
        trained = Trained(name, config, None, {}, [], 0.0, 0.0, judged, facts=more, counted=counted)
        return export_closed_form(recipe, trained, Source.of(whole.data), folder)


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
