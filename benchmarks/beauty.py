"""Amazon Beauty, the last item of 22,363 users among all 12,101: networks beside the simple ones.

    OMP_NUM_THREADS=1 python benchmarks/beauty.py [--data FOLDER] [--seeds 0,1,2] [--only "SYSTEM;SYSTEM"]

The protocol of S3-Rec (Zhou et al., CIKM 2020): the last item is the test, the one before it the validation;
what a user already has is not ranked. Two cases, since published figures come from both: models that learned
from the training part alone, and models that learned from everything before the test item, with the settings
and the number of epochs of the first case. Settings were chosen on the validation part. Every model is
exported, and the export's scores are what is measured. Each part (one system, one case, one seed) is kept
under build/, so that a benchmark that was stopped goes on.
"""

import hashlib
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.datasets.published import sequences  # noqa: E402
from etalage.evaluation.ranking import rank_all  # noqa: E402
from etalage.features.behaviour import BehaviourSet, Interactions  # noqa: E402
from etalage.metrics import bootstrap_all  # noqa: E402
from etalage.models import recipe as recipes  # noqa: E402
from etalage.runtime.opening import open_scorer  # noqa: E402
from etalage.training.behaviour_export import export_behaviour  # noqa: E402
from etalage.training.export_source import Source  # noqa: E402
from etalage.training.loop import fit  # noqa: E402

METRICS = {"hit_at_10": "HR@10", "ndcg_at_10": "nDCG@10"}
Settings = dict[str, Any]
TWO_TOWER: Settings = {
    "width": 64,
    "layers": 2,
    "heads": 2,
    "history": 50,
    "dropout": 0.5,
    "attention_dropout": 0.1,
    "forget_item": 0.1,
    "temperature": 0.07,
    "batch_size": 2048,
    "learning_rate": 2e-3,
    "epochs": 24,
    "validate_queries": 30_000,
}
SYSTEMS: dict[str, tuple[str, Settings]] = {
    "popularity": ("popularity", {}),
    "ItemKNN, TF-IDF": ("item_knn", {"similarity": "tf_idf", "neighbours": 300, "shrink": 10.0}),
    "what follows what": (
        "item_knn",
        {"similarity": "sequence", "backward": 0.3, "shrink": 100.0, "decay": 0.6},
    ),
    "EASE": ("ease", {"regularisation": 300.0, "neighbours": 500}),
    "two-tower": ("two_tower", TWO_TOWER),
    "sequence transformer": ("sequence_transformer", {"validate_queries": 30_000}),
}
NETWORKS = ("two_tower", "sequence_transformer")
CASES = {"learned from train": "train", "learned from all before the test": "before"}
NOTE = (
    "HR@10 and nDCG@10 over all items, less those that the user has. Intervals: the lowest and the "
    "highest of several seeds; of one alone, and of models without a seed, 95% bootstrap over the users. "
    "Processor time is that of training, memory the peak of the process that trained."
)


def main(
    data: Annotated[
        Path | None, typer.Option(help="Folder of Beauty.txt and Beauty_item2attributes.json.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Of the networks.")] = "0,1,2",
    only: Annotated[str, typer.Option(help="Names of systems, a semicolon between; default: all.")] = "",
    case: Annotated[str, typer.Option(help="`train`, `before` or both.")] = "train,before",
    epochs: Annotated[int | None, typer.Option(help="Fewer epochs, for a look.")] = None,
    work: Annotated[Path | None, typer.Option(help="Where parts are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("beauty", small, out)
    work, folder = bench.work(work), bench.data(data, "s3rec-amazon-beauty", miniature.beauty)
    if small:
        seeds, epochs = "0", 1
    numbers = [int(seed) for seed in seeds.split(",")]
    chosen = [name for name in SYSTEMS if not only or name in only.split(";")]
    rows = []
    for title, short in CASES.items():
        if short not in case.split(","):
            continue
        for system in chosen:
            model, settings = SYSTEMS[system]
            if model in NETWORKS and epochs is not None:
                settings = {**settings, "epochs": epochs}
            several = numbers if model in NETWORKS else [0]
            parts = [_part(work, folder, system, model, {**settings, "seed": n}, short) for n in several]
            rows += _rows(title, system, parts)
    command = f"OMP_NUM_THREADS=1 python benchmarks/beauty.py --data FOLDER --seeds {seeds}"
    packages = ["numpy", "scipy", "torch", "onnxruntime"]
    bench.write(rows, command=command, seeds=numbers, packages=packages, note=NOTE)


def _part(
    work: Path, folder: Path, system: str, model: str, settings: Settings, case: str
) -> dict[str, list[float]]:
    recipe = recipes.find(model)
    if case == "before" and model in NETWORKS:
        settings = {**settings, **_chosen(work, folder, system, model, settings)}
    config = recipe.config(**settings)
    file = _file(work, system, model, config.model_dump(mode="json"), case)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        data = load(folder, case, attributes="without" not in system)
        started = time.process_time()
        # The run's folder stays until the part is done: a run that was stopped goes on at its checkpoint.
        trained = fit(recipe, recipe.bind(config, data), config, file.with_suffix(""))
        with tempfile.TemporaryDirectory() as exports:
            scorer = open_scorer(export_behaviour(recipe, trained, Source.of(data), Path(exports)))
            seconds = trained.cpu_seconds or time.process_time() - started
            queries, truth = data.queries("test")
            ranked = rank_all(scorer, queries, truth, exclude=data.seen("test"))
        values = {metric: ranked.per_query[metric] for metric in METRICS}
        figures = {METRICS[metric]: list(one) for metric, one in bootstrap_all(values).items()}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        figures |= {"processor time": [seconds] * 3, "peak memory": [peak] * 3}
        if "ndcg_at_10" in trained.metrics:
            figures["nDCG@10 on validation"] = [trained.metrics["ndcg_at_10"]] * 3
        given, found = (c.model_dump(mode="json") for c in (config, trained.config))
        chosen = {setting: value for setting, value in found.items() if value != given[setting]}
        file.with_suffix(".chosen").write_text(json.dumps(chosen))
        file.write_text(json.dumps(figures, indent=1))
        print(system, case, config.seed, figures, flush=True)
    kept: dict[str, list[float]] = json.loads(file.read_text())
    return kept


def _chosen(work: Path, folder: Path, system: str, model: str, settings: Settings) -> Settings:
    """The settings that the network left to its training, as they were chosen on validation."""
    _part(work, folder, system, model, settings, "train")
    settled = recipes.find(model).config(**settings).model_dump(mode="json")
    found: Settings = json.loads(
        _file(work, system, model, settled, "train").with_suffix(".chosen").read_text()
    )
    return found


def _file(work: Path, system: str, model: str, settled: Settings, case: str) -> Path:
    named = json.dumps([system, case, model, settled])
    return work / f"{model}-{case}-{hashlib.sha256(named.encode()).hexdigest()[:8]}.json"


def load(folder: Path, case: str, attributes: bool) -> BehaviourSet:
    data = sequences(folder / "Beauty.txt", folder / "Beauty_item2attributes.json" if attributes else None)
    if case == "train":
        return data
    return data.with_parts(train=data.before("test"), validation=Interactions.none())


def _rows(case: str, system: str, parts: list[dict[str, list[float]]]) -> list[Row]:
    rows = []
    for metric in parts[0]:
        values = [part[metric] for part in parts]
        middle = float(np.mean([value for value, _, _ in values]))
        ends = [value for value, _, _ in values] if len(parts) > 1 else values[0][1:]
        unit = {"processor time": "s", "peak memory": "GiB"}.get(metric, "")
        rows.append(Row(case, system, metric, middle, min(ends), max(ends), unit))
    return rows


if __name__ == "__main__":
    run_main(main)
