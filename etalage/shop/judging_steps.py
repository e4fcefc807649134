"""`etalage evaluate NAME`: a model beside the simple ones of its kind; and the closed-form ones before they
are published."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etalage.errors import ConfigError, EtalageError, NothingToPublish
from etalage.shop import behaviour_steps, category_steps, photo_steps, table_steps
from etalage.shop.behaviour_steps import QUOTA, Behaviour
from etalage.shop.search_steps import searched
from etalage.shop.settings_steps import outdated_by
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.bundle.draft import DraftedModel
    from etalage.evaluation.behaviour import BehaviourEvaluator
    from etalage.evaluation.blocks import Workers
    from etalage.evaluation.evaluation import Evaluation, Evaluator
    from etalage.models.recipe import Recipe
    from etalage.runtime.scorer import Scorer

log = logging.getLogger(__name__)

FLOOR = "popularity"
EASE_UP_TO = 200_000
"""Items: of more, solving each among its neighbours takes longer than most trainings, and iALS stands in."""


def evaluate(workspace: Workspace, recipe: "Recipe[Any]", exported: Path) -> "Evaluation":
    """Measure a model of whatever kind beside the simple ones; keep the verdict beside its export, write the
    report.

    Raises ConfigError (other data than it learned from), TooLittleData.
    """
    from etalage.evaluation.evaluation import evaluate
    from etalage.runtime.export_files import read_facts

    history = read_facts(exported).get("history", ())
    evaluator = evaluator_of(workspace, recipe, exported)
    title = f"measure {recipe.name} beside the simple ones, draw the report"
    with workspace.disk(), workspace.bar(title, None) as meter:
        return evaluate(evaluator, reports=workspace.folder / "reports", history=history, progress=meter)


def evaluator_of(workspace: Workspace, recipe: "Recipe[Any]", exported: Path) -> "Evaluator[Any]":
    """How this model is measured, by what it learns from: a new kind of data has a line here."""
    if recipe.data == "photos":
        return photo_steps.evaluator(workspace, recipe, exported)
    if recipe.data == "categories":
        return category_steps.evaluator(workspace, recipe, exported)
    return behaviour_evaluator(workspace, recipe, exported)


def behaviour_evaluator(workspace: Workspace, recipe: "Recipe[Any]", exported: Path) -> "BehaviourEvaluator":
    """A trained network beside popularity, item_knn, EASE (iALS where the catalogue is large) and the other
    retrievers; a closed-form model beside popularity, and nothing is trained for that.

    Raises ConfigError: it learned from other data than it would be judged on.
    """
    from etalage.evaluation.behaviour import BehaviourEvaluator
    from etalage.evaluation.names import ALL
    from etalage.runtime.export_files import read_facts
    from etalage.runtime.opening import open_scorer

    config, facts = workspace.evaluating, read_facts(exported)
    table_steps.require_own_data(facts, exported)
    whole = behaviour_steps.behaviour(workspace)
    ours = open_scorer(exported)
    if (why := not_of_today(workspace, facts, whole)) is not None:
        raise ConfigError(f"{exported}: {why}; what it would be judged by it may have learned from")
    if recipe.role == "closed_form":
        simple: dict[str, Scorer] = {} if recipe.name == FLOOR else {FLOOR: floor(workspace, whole)}
    else:
        simple = simple_ones(workspace, whole)
    others = behaviour_steps.retrievers(workspace, whole.data) if recipe.role == "ranker" else {}
    systems: dict[str, Scorer] = {recipe.name: ours, **others}
    for name, one in simple.items():
        systems.setdefault(name, one)
    metric = config.ranking_metric if recipe.role == "ranker" else config.retrieval_metric
    return BehaviourEvaluator(
        whole.data,
        systems,
        config,
        metric=metric,
        slice=config.slices.get(recipe.name, ALL),
        quota={name: workspace.config.funnel.retrievers.get(name, QUOTA) for name in others} or QUOTA,
        simple=None if recipe.role == "ranker" else list(simple),
        export=exported,
        versions=whole.versions,
        titles=whole.titles,
        workers=workers_of(workspace),
    )


def workers_of(workspace: Workspace) -> "Workers":
    """Where blocks of shoppers are ranked, when there are enough: on the shop's engine."""
    from etalage.evaluation.blocks import PAYS, SAVES, Workers

    saving = workspace.config.engine.saving
    return Workers(workspace.engine, workspace.runs, pays=round(PAYS * saving / SAVES))


def simple_ones(workspace: Workspace, whole: Behaviour) -> "dict[str, Scorer]":
    """The closed-form models that others must beat: as they were trained on this data, or trained now, as
    yardsticks, where nothing that publishes looks for a model."""
    from etalage.runtime.opening import open_scorer

    found: dict[str, Scorer] = {FLOOR: floor(workspace, whole)}
    for name in yardsticks(whole)[1:]:
        aside = workspace.runs / "yardsticks" / name
        export = of_this_data(workspace.exports(name), whole) or of_this_data(aside, whole)
        if export is None:
            log.info("%s is trained to compare with; `etalage train %s` trains it to publish", name, name)
            export = behaviour_steps.yardstick(workspace, name, whole, aside)
        found[name] = open_scorer(export)
    return found


def yardsticks(whole: Behaviour) -> tuple[str, ...]:
    """The closed-form models that a network has to beat on this data; popularity first."""
    return (FLOOR, "item_knn", "ease" if len(whole.data.items) <= EASE_UP_TO else "ials")


def floor(workspace: Workspace, whole: Behaviour) -> "Scorer":
    """Popularity: as it was trained on this data, else counted now; counting takes no training."""
    from etalage.evaluation.measured import Prior
    from etalage.runtime.opening import open_scorer
    from etalage.training.export_source import Source
    from etalage.training.run import resolve

    export = of_this_data(workspace.exports(FLOOR), whole)
    if export is not None:
        return open_scorer(export)
    recipe = workspace.models.find(FLOOR)
    config = resolve(recipe, workspace.config.models.get(FLOOR, {}), {})
    config, _ = searched(workspace, recipe, config, whole.data, Source.of(whole.data))
    counted = recipe.bind(config, whole.data).count()
    return Prior(FLOOR, counted.arrays["scores"], whole.data.items, whole.data.users)


def of_this_data(exports: Path, whole: Behaviour) -> Path | None:
    """The newest export of a folder, if its model learned from just this data."""
    from etalage.runtime.export_files import newest_export, read_facts

    try:
        export = newest_export(exports)
    except NothingToPublish:
        return None
    return export if learned_from(read_facts(export), whole) else None


def learned_from(facts: Mapping[str, Any], whole: Behaviour) -> bool:
    """Whether the model of an export learned from just this data. What a ranker learned from are candidates:
    the versions of the tables say whether they are of it."""
    if facts.get("role") == "ranker":
        return bool(facts.get("tables") == whole.versions)
    return bool(facts.get("data") == whole.data.fingerprint())


def not_of_today(workspace: Workspace, facts: Mapping[str, Any], whole: Behaviour) -> str | None:
    """Why a model is not to be judged on this data, and what to do: the settings or the tables changed since
    it was trained. None: it is of this data."""
    if (why := outdated_by(facts, workspace.config.behaviour)) is not None:
        return why
    if learned_from(facts, whole):
        return None
    return (
        f"{facts['name']} was trained on other data than the tables hold now: `etalage train {facts['name']}`"
    )


def judged(workspace: Workspace, drafted: "Sequence[DraftedModel]") -> "tuple[DraftedModel, ...]":
    """The same models; the closed-form ones among them that nobody judged yet are judged now, against
    popularity, and the verdict is kept beside each export. One that cannot be judged says why."""
    from etalage.runtime.export_files import export_role, read_facts

    facts = [read_facts(one.export) for one in drafted]
    names = {
        fact["name"]: fact
        for one, fact in zip(drafted, facts, strict=True)
        if export_role(fact) == "closed_form" and fact["name"] != FLOOR and one.verdict is None
    }
    if not names:
        return tuple(drafted)
    exports = {fact["name"]: one.export for one, fact in zip(drafted, facts, strict=True)}
    unjudged = {name: _no_data(name) for name, fact in names.items() if "data" not in fact}
    some = [name for name in names if name not in unjudged]
    verdicts: dict[str, dict[str, Any]] = {}
    try:
        if some:
            verdicts, older = _verdicts(workspace, {name: exports[name] for name in some})
            unjudged |= older
    except EtalageError as error:
        unjudged |= dict.fromkeys(some, f"there is nothing to judge it by: {error}")
    return tuple(
        replace(one, verdict=verdicts.get(fact["name"], one.verdict), unjudged=unjudged.get(fact["name"]))
        for one, fact in zip(drafted, facts, strict=True)
    )


def _no_data(name: str) -> str:
    return f"its export does not say what it learned from: `etalage train {name}` again"


def _verdicts(
    workspace: Workspace, exports: "dict[str, Path]"
) -> "tuple[dict[str, dict[str, Any]], dict[str, str]]":
    """Verdicts of closed-form models, as they are written beside their exports; and why others have none.

    Raises EtalageError: nothing can be asked of this shop's behaviour.
    """
    from etalage.evaluation.comparison import Comparison
    from etalage.evaluation.evaluation import keep_verdict
    from etalage.runtime.export_files import read_facts
    from etalage.runtime.opening import open_scorer

    whole = behaviour_steps.behaviour(workspace)
    good = {name: export for name, export in exports.items() if learned_from(read_facts(export), whole)}
    older = {
        name: f"it was trained on other data than the tables hold now: `etalage train {name}` again"
        for name in exports
        if name not in good
    }
    if not good:
        return {}, older
    systems = {name: open_scorer(export) for name, export in good.items()}
    every: dict[str, Scorer] = {FLOOR: floor(workspace, whole), **systems}
    with workspace.disk(), workspace.bar(f"measure {', '.join(good)} beside {FLOOR}", None) as meter:
        asked = Comparison(
            whole.data,
            every,
            {},
            {},
            config=workspace.evaluating,
            progress=meter,
            workers=workers_of(workspace),
        )
        found = asked.verdicts(dict.fromkeys(good, (FLOOR,)))
        kept = {
            name: keep_verdict(good[name], systems[name].model_hash, verdict)
            for name, verdict in found.items()
        }
    return kept, older
