"""One tracked training run: data → task → fit → export → MLflow.

A run's folder is named by what decides its outcome, config and data: the same command after a crash
goes on where the last checkpoint was, and after a success finds the trained weights again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etalage.config import as_values, validated
from etalage.engine.contract import Engine
from etalage.engine.local import LOCAL
from etalage.features.array_blocks import ArrayLoop
from etalage.features.photo_set import FeatureSet, PhotoSet, fingerprint
from etalage.models.own import SOURCE
from etalage.models.recipe import Recipe, Solves, Trained, TrainingConfig, photo_encoder
from etalage.training.closed_form import export_closed_form, solve
from etalage.training.export_source import Source
from etalage.training.learned_from import learned_from
from etalage.training.tracking import Run, Untracked

if TYPE_CHECKING:
    from etalage.features.behaviour import BehaviourSet
    from etalage.features.behaviour_stream import BehaviourStream
    from etalage.features.category_set import CategorySet
    from etalage.features.example_stream import ExampleStream
    from etalage.features.examples import Examples
    from etalage.models.dssm import VectorRows
    from etalage.runtime.photos import PhotoEmbedder

Progress = Callable[[int, int, str], None]


def resolve(recipe: Recipe[Any], shop: dict[str, Any], settings: dict[str, Any]) -> Any:
    """The recipe's config: its defaults, then the shop's [models.NAME], then `--set key=value`.

    Values of `settings` are JSON where they parse as JSON, else text. Raises ConfigError.
    """
    return validated(recipe.config, {**shop, **as_values(settings)}, where=f"[models.{recipe.name}]")


def run(
    recipe: Recipe[Any],
    config: Any,
    photos: PhotoSet,
    versions: dict[str, int],
    *,
    runs: Path,
    exports: Path,
    fresh: bool = False,
    progress: Progress | None = None,
    engine: Engine = LOCAL,
    about: Mapping[str, Any] | None = None,
) -> tuple[Trained[Any], Path]:
    """Train a model of photos and export it; → the trained model and its export's folder.

    versions: the tables' versions that `photos` were read at. fresh: forget what an earlier run of the
    same config and data left. about: what the export says of the training besides.
    Raises what `fit` and `export` raise.
    """
    from etalage.training.export import export

    facts = {"data": fingerprint(photos), "tables": versions, "rows": len(photos.rows("train"))}
    facts |= dict(about or {})

    def write(trained: Trained[Any], task: Any) -> Path:
        return export(trained, photo_encoder(config), exports)

    return _tracked(
        recipe, config, photos, facts, write, runs=runs, fresh=fresh, progress=progress, engine=engine
    )


def train_frozen(
    recipe: Recipe[Any],
    config: Any,
    features: FeatureSet,
    backbone: "PhotoEmbedder",
    versions: dict[str, int],
    *,
    runs: Path,
    exports: Path,
    fresh: bool = False,
    about: Mapping[str, Any] | None = None,
) -> tuple[Trained[Any], Path]:
    """The same for a head that is solved over features of a backbone that stays as it is.

    features: what `backbone` made of the photos; config names the head. Raises what `export_frozen` raises.
    """
    from etalage.training.frozen import export_frozen, solve_frozen

    photos = features.photos
    facts = {
        "data": features.fingerprint(),
        "tables": versions,
        "rows": len(photos.rows("train")),
        "inputs": {"backbone": backbone.model_hash},
        **(about or {}),
    }
    solved = solve_frozen(recipe.name, config, features)

    def write(trained: Trained[Any], task: Any) -> Path:
        return export_frozen(trained, backbone, solved.head, exports)

    return _tracked(
        recipe,
        config,
        photos,
        facts,
        write,
        runs=runs,
        fresh=fresh,
        progress=None,
        engine=LOCAL,
        made=solved.trained,
    )


def train_categories(
    recipe: Recipe[Any],
    config: Any,
    items: "CategorySet",
    *,
    runs: Path,
    exports: Path,
    versions: dict[str, int] | None = None,
    golden: str | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    engine: Engine = LOCAL,
    about: Mapping[str, Any] | None = None,
) -> tuple[Trained[Any], Path]:
    """The same for a classifier of items; golden: the hash of the golden set, which it did not see; about:
    what the export says of the training besides.

    Raises what `fit` and the export raise.
    """
    from etalage.training.category_export import export_classifier

    facts = {
        "data": items.fingerprint(),
        "tables": versions or {},
        "rows": len(items.rows("train")),
        "taxonomy": items.taxonomy.version,
        "golden": golden,
        **(about or {}),
    }

    def write(trained: Trained[Any], task: Any) -> Path:
        return export_classifier(trained, items, exports, task)

    return _tracked(
        recipe, config, items, facts, write, runs=runs, fresh=fresh, progress=progress, engine=engine
    )


def train_behaviour(
    recipe: Recipe[Any],
    config: Any,
    data: "BehaviourSet | BehaviourStream | Examples | ExampleStream | VectorRows",
    *,
    runs: Path,
    exports: Path,
    source: Source | None = None,
    versions: dict[str, int] | None = None,
    learned: tuple[str, Mapping[str, str]] | None = None,
    start: Mapping[str, Any] | None = None,
    behaviour: Mapping[str, Any] | None = None,
    search: Mapping[str, Any] | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    engine: Engine = LOCAL,
    blocks: ArrayLoop | None = None,
    tracked: bool = True,
    about: Mapping[str, Any] | None = None,
) -> tuple[Trained[Any], Path]:
    """The same for a model of behaviour, closed-form models included, and for rows of vectors out of files.

    source: what an export keeps of the data beside the model; that of the BehaviourSet by default.
    learned: where `data` holds what other models made, or rows of a file: the fingerprint of the data that is
    behind it, and the models' hashes and the files' facts by name. start: what the export is to say of the
    training that this one starts from.
    behaviour: the settings of [behaviour], which it says too. search: which settings were compared on
    validation, and what came of it; said too. blocks: where a closed-form model is counted,
    if it can be by blocks.
    tracked: whether MLflow keeps the run. about: what the export says of the training besides.
    Raises what `fit` and the export raise.
    """
    from etalage.features.behaviour import BehaviourSet
    from etalage.features.behaviour_stream import BehaviourStream
    from etalage.features.example_stream import ExampleStream
    from etalage.features.examples import Examples

    if source is None:
        assert isinstance(data, BehaviourSet | Examples | ExampleStream)
        source = Source.of(data) if isinstance(data, BehaviourSet) else _source_of(data)
    kept = source
    facts: dict[str, Any] = {"tables": versions or {}, **(about or {})}
    if learned is not None:
        facts |= {"data": learned[0], "inputs": dict(learned[1])}
    else:
        assert isinstance(data, BehaviourSet | BehaviourStream | Examples | ExampleStream)
        facts["data"] = data.fingerprint()

    if start is not None:
        facts["start"] = dict(start)
    if behaviour is not None:
        facts["behaviour"] = dict(behaviour)
    if search is not None:
        facts["search"] = dict(search)

    def write(trained: Trained[Any], task: Any) -> Path:
        if recipe.role == "closed_form":
            return export_closed_form(recipe, trained, kept, exports)
        from etalage.training.behaviour_export import export_behaviour

        return export_behaviour(recipe, trained, kept, exports)

    return _tracked(
        recipe,
        config,
        data,
        facts,
        write,
        runs=runs,
        fresh=fresh,
        progress=progress,
        engine=engine,
        blocks=blocks,
        tracked=tracked,
    )


def _source_of(examples: "Examples | ExampleStream") -> Source:
    return Source(sizes=dict(zip(examples.sparse_names, examples.sizes, strict=True)))


def _tracked(
    recipe: Recipe[Any],
    config: Any,
    data: Any,
    facts: dict[str, Any],
    write: Callable[[Trained[Any], Any], Path],
    *,
    runs: Path,
    fresh: bool,
    progress: Progress | None,
    engine: Engine,
    blocks: ArrayLoop | None = None,
    tracked: bool = True,
    made: Callable[[Path], Trained[Any]] | None = None,
) -> tuple[Trained[Any], Path]:
    """made: the model of this run's folder, where it was solved already; None: it is trained, or counted."""
    settled = config.model_dump(mode="json")
    # Where it was trained decides nothing, and a run that an older Etalage began knows no `stop_after`.
    decides = {k: v for k, v in settled.items() if k != "device" and (k, v) != ("stop_after", None)}
    outcome = [decides, facts["data"], *([facts["inputs"]] if "inputs" in facts else [])]
    facts = {**facts, "learned_from": learned_from(data)}
    if recipe.source is not None:  # ours stay as they are between releases, a shop's own is edited meanwhile
        facts = {**facts, SOURCE: recipe.source.sha256}
        outcome.append(facts[SOURCE])
    name = hashlib.sha256(json.dumps(outcome, sort_keys=True).encode()).hexdigest()[:12]
    folder = runs / recipe.name / name
    if fresh:
        folder = _unused(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(config, TrainingConfig) and made is None:
        from etalage.training.workers import follow_torchrun

        follow_torchrun(recipe, config, data, folder)
    note = folder / "mlflow-run"
    known = note.read_text(encoding="utf-8").strip() if note.exists() else None
    with Run(runs, recipe.name, folder.name, resume=known) if tracked else Untracked() as tracker:
        if tracker.id is not None:
            note.write_text(tracker.id, encoding="utf-8")
        tracker.parameters({**settled, **{f"data_{key}": value for key, value in facts.items()}})
        task: Any = None if made is not None else recipe.bind(config, data)
        if made is not None:
            trained = made(folder)
        elif recipe.role == "closed_form":
            trained = solve(recipe, task, config, folder, blocks)
        else:
            trained = _fitted(recipe, config, data, task, folder, engine, tracker, progress)
        if tracker.id is not None:
            facts = {**facts, "mlflow_run": tracker.id}
        trained = replace(trained, facts={**trained.facts, **facts})
        exported = write(trained, task)
        tracker.file(exported, "model")
        if trained.network is not None:
            tracker.graph(exported)
    return trained, exported


def _fitted(
    recipe: Recipe[Any],
    config: Any,
    data: Any,
    task: Any,
    folder: Path,
    engine: Engine,
    tracker: Run | Untracked,
    progress: Progress | None,
) -> Trained[Any]:
    from etalage.training.loop import fit
    from etalage.training.workers import together

    if isinstance(task, Solves):
        return fit(recipe, task, config, folder)
    if progress is not None and hasattr(task, "say"):
        progress, task.say = _with_lines(progress)
    with together(recipe, config, data, task, folder, engine) as context:
        return fit(recipe, task, config, folder, tracker=tracker, progress=progress, context=context)


def _with_lines(progress: Progress) -> tuple[Progress, Callable[[str], None]]:
    """The same progress, and a way to say what is being done without a step."""
    last = (0, 0)

    def step(done: int, total: int, line: str) -> None:
        nonlocal last
        last = (done, total)
        progress(done, total, line)

    def say(line: str) -> None:
        progress(*last, line)

    return step, say


def _unused(folder: Path) -> Path:
    taken = 1
    while (candidate := folder.with_name(f"{folder.name}-{taken}")).exists():
        taken += 1
    return candidate
