"""`etalage tune`: trials of a model's settings on validation; the best one is trained, and can be kept."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from etalage.config import EvaluateConfig, validated
from etalage.errors import ConfigError, TooLittleData
from etalage.features.array_blocks import ArrayLoop
from etalage.lake.durable_files import replace_durably
from etalage.models import MODEL
from etalage.models.recipe import Recipe, Trained, TrainingConfig, count
from etalage.models.search_space import Choice, Dimension, SearchSpace
from etalage.shop import behaviour_steps, category_steps, photo_steps, table_steps
from etalage.shop.search_steps import Judge
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.models.own import Source
    from etalage.training.export_source import Source as Kept
    from etalage.training.tune import Report, Study, Trial

log = logging.getLogger(__name__)
STUDIES = "studies"
Settings = dict[str, Any]


@dataclass(frozen=True, repr=False)
class Tuned:
    """What a study found."""

    model: str
    metric: str
    study: "Study"
    trials: "list[Trial]"
    best: "Trial"
    current: "Trial | None"
    """The trial of the settings as they stood; None: they are outside of the space, or it failed."""
    settings: Settings
    """What stands beneath [models.NAME], with the best settings in it."""
    report: Path
    trained: "tuple[Trained[Any], Path] | None" = None
    """Of the best settings, trained as `etalage train` does; and the export."""

    def __repr__(self) -> str:
        value = "" if self.best.value is None else f"{self.best.value:.4f}"
        return (
            f"<{self.model}: {len(self.trials)} trials, best {self.metric} {value} with {self.best.settings}>"
        )

    @property
    def toml(self) -> str:
        """The settings as they stand in shop.toml."""
        import tomlkit

        return tomlkit.dumps({"models": {self.model: _toml_values(self.settings)}}).strip()


@dataclass(frozen=True)
class TrialTask:
    """What every trial needs, handed to workers by a file: the data as the model takes it, and how it is
    judged."""

    model: str
    given: Settings
    """Settings that no trial changes."""
    data: Any
    kept: "Kept | None"
    metric: str
    slice: str
    evaluate: EvaluateConfig
    threads: int | None = None


def tune(
    workspace: Workspace,
    recipe: Recipe[Any],
    *,
    trials: int = 32,
    parallel: int = 1,
    fixed: Mapping[str, Any] | None = None,
    metric: str | None = None,
    seed: int = 0,
    fresh: bool = False,
    write: bool = False,
) -> Tuned:
    """Try `trials` settings of the model, `parallel` at a time; run again, the same study goes on.

    fixed: settings that no trial changes. metric: of closed-form models, which are ranked on validation;
    those that are trained by steps are judged by what their own training validates. write: the best settings
    go into shop.toml. Raises ConfigError, TooLittleData, TrainingError: every trial failed.
    """
    from etalage.training.tune import best_of

    fixed = dict(fixed or {})
    space: SearchSpace = {name: dimension for name, dimension in recipe.space.items() if name not in fixed}
    if not space:
        raise ConfigError(
            f"{recipe.name} has nothing to tune: its file names no search space (RECIPE's `space`)"
            + (", or all of it is set by --set" if recipe.space else "")
        )
    shop = dict(workspace.config.models.get(recipe.name, {}))
    config = validated(recipe.config, {**shop, **fixed}, where=f"[models.{recipe.name}]")
    by_steps = {MODEL: _of_small_network, "item_category": _of_heads_by_steps}.get(recipe.name)
    if by_steps is not None:
        shop, fixed = by_steps(config, shop, fixed)
        config = validated(recipe.config, {**shop, **fixed}, where=f"[models.{recipe.name}]")
    config, task, fingerprint = task_of(workspace, recipe, config, {**shop, **fixed}, space, metric)
    space = _reaching(space, config.model_dump())
    study = _study(workspace, recipe, space, config, task, fingerprint, seed, fresh)
    done = _run(workspace, recipe, study, replace(task, threads=_threads(parallel)), trials, parallel)
    best = best_of(done)
    current = next((one for one in done if one.number == 0 and one.state == "done"), None)
    tried = _without_defaults(recipe, best.settings)
    settings = {**_acting(recipe, task.given, tried), **tried}
    report = workspace.folder / "reports" / f"{recipe.name}-tune.html"
    tuned = Tuned(recipe.name, task.metric, study, done, best, current, settings, report)
    _write_report(workspace, tuned)
    if write:
        write_settings(workspace.folder / "shop.toml", recipe, settings)
    return tuned


def task_of(
    workspace: Workspace,
    recipe: Recipe[Any],
    config: Any,
    given: Settings,
    space: SearchSpace,
    metric: str | None,
) -> tuple[Any, TrialTask, str]:
    """The config (with what a transfer fills in), the task of every trial, and the fingerprint of its
    data."""
    kept = None
    if recipe.data == "photos":
        from etalage.features.photo_set import fingerprint

        data: Any = photo_steps.learned(workspace, config)[0]
        mark = fingerprint(data)
    elif recipe.data == "categories":
        labelled = category_steps.labelled(workspace, config.photo_encoder(), config)
        category_steps.ensure_golden_set(workspace, labelled)
        data, mark = labelled.data, labelled.data.fingerprint()
    elif table_steps.named_table(config) is not None:
        # With every value: what a trial's min_count leaves out it says itself.
        whole_config = config.model_copy(update={"min_count": 1})
        data, kept, _ = table_steps.examples_of(workspace, whole_config)
        mark = data.fingerprint()
    else:
        whole = behaviour_steps.for_training(workspace, recipe, config)
        learned = behaviour_steps.learned(workspace, recipe, config, whole)
        config, data, kept = learned.config, learned.data, learned.source
        mark = json.dumps([whole.data.fingerprint(), learned.inputs], sort_keys=True)
    fixed = {name: value for name, value in given.items() if name not in space}
    if getattr(config, "pretrained", None) is not None:
        fixed["pretrained"] = config.pretrained
    slice = "all"
    if recipe.role == "closed_form":
        metric = metric or workspace.evaluating.retrieval_metric
        slice = workspace.evaluating.slices.get(recipe.name, slice)
    else:
        own = recipe.bind(config, data).metric
        if metric not in (None, own):
            raise ConfigError(
                f"--metric {metric}: {recipe.name} is validated by {own} while it trains; leave it out"
            )
        metric = own
    return config, TrialTask(recipe.name, fixed, data, kept, metric, slice, workspace.evaluating), mark


def _of_small_network(config: Any, shop: Settings, fixed: Settings) -> tuple[Settings, Settings]:
    """What image_similarity is tried with: its small network, and none of the settings of features. Raises
    ConfigError: shop.toml, or --set, wants those, whose head every training chooses itself."""
    from etalage.models.backbones import SMALL
    from etalage.models.image_similarity import OF_FEATURES

    if config.frozen:
        raise ConfigError(
            f"backbone = {config.backbone!r} has nothing to tune: every training chooses the head over its "
            f"features itself; `--set backbone={SMALL}` tunes the small network"
        )
    if config.backbone == SMALL:
        return shop, fixed
    log.warning(
        "trials are of the small network (backbone = %r): features of another have nothing to tune", SMALL
    )
    return {name: one for name, one in shop.items() if name not in OF_FEATURES}, {**fixed, "backbone": SMALL}


def _of_heads_by_steps(config: Any, shop: Settings, fixed: Settings) -> tuple[Settings, Settings]:
    """What item_category is tried with: heads that are trained by steps. Raises ConfigError: shop.toml, or
    --set, wants solved ones, whose settings were chosen for all shops."""
    from etalage.models.item_category import OF_SOLVED

    if config.heads != "solved":
        return shop, fixed
    if "heads" in {**shop, **fixed}:
        raise ConfigError(
            'heads = "solved" has nothing to tune: they are computed; `--set heads=levels` tunes heads that '
            "are trained by steps"
        )
    log.warning('trials are of heads that are trained by steps (heads = "levels"): solved ones are computed')
    return {name: one for name, one in shop.items() if name not in OF_SOLVED}, {**fixed, "heads": "levels"}


def _reaching(space: SearchSpace, given: Mapping[str, Any]) -> SearchSpace:
    """The space with the current settings in it, so that the first trial can start from them."""
    found: dict[str, Dimension] = {}
    for name, dimension in space.items():
        value = given[name]
        if isinstance(dimension, Choice):
            options = dimension.options if value in dimension.options else (*dimension.options, value)
            found[name] = replace(dimension, options=options)
        elif isinstance(value, int | float) and (value > 0 or not dimension.log):
            bounds: dict[str, Any] = {"low": min(dimension.low, value), "high": max(dimension.high, value)}
            found[name] = replace(dimension, **bounds)
        else:
            found[name] = dimension
    return found


def _study(
    workspace: Workspace,
    recipe: Recipe[Any],
    space: SearchSpace,
    config: Any,
    task: TrialTask,
    fingerprint: str,
    seed: int,
    fresh: bool,
) -> "Study":
    """The study of this model, space, data and metric: the same command finds the same folder."""
    from etalage.training.tune import Study

    given = config.model_dump()
    decides = [
        recipe.name,
        repr(space),
        repr(sorted(given.items())),
        fingerprint,
        task.metric,
        task.slice,
        seed,
    ]
    if recipe.source is not None:
        decides.append(recipe.source.sha256)
    name = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:12]
    folder = workspace.runs / recipe.name / STUDIES / name
    if fresh and folder.exists():
        shutil.rmtree(folder)
    prunes = isinstance(config, TrainingConfig) and config.epochs > 1
    return Study(folder, space, given, seed, prunes)


def _threads(parallel: int) -> int | None:
    return None if parallel == 1 else max(1, (os.cpu_count() or 1) // parallel)


def _run(
    workspace: Workspace, recipe: Recipe[Any], study: "Study", task: TrialTask, count: int, parallel: int
) -> "list[Trial]":
    from etalage.training.tracking import StudyRun
    from etalage.training.tune import JOURNAL, run_trials
    from etalage.training.workers import hand_over, shared

    study.folder.mkdir(parents=True, exist_ok=True)
    for left in study.folder.glob(".handed-*"):  # by a study that was killed
        shutil.rmtree(left, ignore_errors=True)
    handed = Path(tempfile.mkdtemp(prefix=".handed-", dir=study.folder))
    try:
        with (
            workspace.disk(),
            workspace.bar(f"tune {recipe.name}", count) as meter,
            StudyRun(workspace.runs, recipe.name, study.folder.name) as tracked,
        ):
            hand_over(replace(task, data=shared(task.data, handed / "data")), handed)
            meter(min(count, len(study.trials()) if (study.folder / JOURNAL).exists() else 0))
            tracked.parameters({"trials": count, "parallel": parallel, "metric": task.metric, **task.given})

            def tell(trial: "Trial") -> None:
                meter(1)
                tracked.trial(trial, task.metric)

            objective = partial(run_trial, handed, recipe.source)
            done = run_trials(
                study, objective, count, parallel=parallel, engine=workspace.engine, on_trial=tell
            )
            for trial in done:
                tracked.trial(trial, task.metric)
            return done
    finally:
        shutil.rmtree(handed, ignore_errors=True)


def unheard(epoch: int, value: float) -> None:
    """A report to nobody."""


def run_trial(handed: Path, own: "Source | None", settings: Settings, report: "Report") -> float:
    """One trial, in a worker: train or count with these settings; → the metric on validation.

    own: the file of a model of the shop's own, which runs before anything is unpacked: what is handed over
    may hold objects of its classes. Raises what training raises; TooLittleData: nothing to validate on.
    """
    from etalage.models import recipe as recipes

    mine = None if own is None else own.recipe()
    task = _opened(handed)
    recipe = mine or recipes.find(task.model)
    given = {**_acting(recipe, task.given, settings), **settings}
    if "workers" in recipe.config.model_fields:
        given["workers"] = 1  # trials run beside each other instead
    config = validated(recipe.config, given, where=f"[models.{task.model}]")
    with tempfile.TemporaryDirectory(dir=handed) as folder:
        if recipe.role == "closed_form":
            return _counted(recipe, config, task, Path(folder))
        return _trained(recipe, config, task, Path(folder), report)


@lru_cache(maxsize=1)
def _opened(handed: Path) -> TrialTask:
    """What was handed over; a worker keeps it from one trial to the next."""
    from etalage.training.workers import handed as taken

    task: TrialTask = taken(handed)
    return replace(task, data=task.data() if isinstance(task.data, partial) else task.data)


def _trained(recipe: Recipe[Any], config: Any, task: TrialTask, folder: Path, report: "Report") -> float:
    import torch

    from etalage.training.loop import fit

    if task.threads is not None:
        torch.set_num_threads(task.threads)
    trained = fit(
        recipe, recipe.bind(config, task.data), config, folder, tracker=_Epochs(task.metric, report)
    )
    if task.metric not in trained.metrics:
        raise TooLittleData(
            f"{recipe.name}: the data has no validation part, by which settings could be compared"
        )
    return trained.metrics[task.metric]


class _Epochs:
    """The loop's tracker: it reports the metric of every epoch to the study, which may stop the trial."""

    def __init__(self, metric: str, report: "Report") -> None:
        self.metric, self.report = metric, report

    def metrics(self, step: int, values: dict[str, float]) -> None:
        if self.metric in values:
            self.report(step, values[self.metric])


def _counted(recipe: Recipe[Any], config: Any, task: TrialTask, folder: Path) -> float:
    """The mean over the shoppers of validation of what would be served."""
    assert task.kept is not None
    judge = Judge(task.data, task.kept, task.metric, task.slice, task.evaluate)
    counted = count(recipe.bind(config, task.data), ArrayLoop())
    return float(judge.values(recipe, config, counted, folder).mean())


def _acting(recipe: Recipe[Any], given: Settings, tried: Settings) -> Settings:
    """What of the shop's settings acts beside those that a trial tries."""
    try:
        acting: Settings = recipe.config.acting(given, tried)
        return acting
    except ValidationError:  # told as that of the whole, with where it stands
        return given


def _without_defaults(recipe: Recipe[Any], settings: Settings) -> Settings:
    """What TOML cannot hold is left out: None, where it is the default."""
    fields = recipe.config.model_fields
    found = {}
    for name, value in settings.items():
        if value is not None:
            found[name] = round(value, 6 if abs(value) >= 1 else 8) if isinstance(value, float) else value
        elif fields[name].get_default(call_default_factory=True) is not None:
            raise ConfigError(f"{recipe.name}: {name} = None was best, which shop.toml cannot say")
    return found


def _toml_values(settings: Settings) -> Settings:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}


def write_settings(file: Path, recipe: Recipe[Any], settings: Settings) -> None:
    """Write the settings beneath [models.NAME]; comments and all other lines stay as they are."""
    import tomlkit

    document = tomlkit.parse(file.read_text(encoding="utf-8"))
    models = document.setdefault("models", tomlkit.table(is_super_table=True))
    table = models.setdefault(recipe.name, tomlkit.table())
    for name in [name for name in table if name not in settings]:
        del table[name]  # it does nothing beside the best ones
    for name, value in _toml_values(settings).items():
        table[name] = value
    replace_durably(file, tomlkit.dumps(document).encode())


def _write_report(workspace: Workspace, tuned: Tuned) -> None:
    from etalage.evaluation.tuning_report import write_tuning_report

    with workspace.disk(), workspace.bar("draw the report", None):
        write_tuning_report(tuned.report, tuned)
