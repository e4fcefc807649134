"""Does one more worker halve a step? The backbone of `item_category` trained by one and by several processes.

    python benchmarks/training_workers.py [--photos FOLDER] [--workers 2]

FOLDER: JPEGs, looked through to its depths.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.engine.threads import configure_threads  # noqa: E402

PHOTOS, LEAVES, STEPS, ROUNDS = 256, 12, 4, 3
SMALL = {"backbone": "small", "weights": None, "size": 64, "batch_size": 8}
NOTE = (
    "EfficientNet-lite0, 224 px, batch 32: seconds a step by the clock, the median of {rounds} rounds, and "
    "from the fastest to the slowest; {steps} steps a round, the first two left out. `faster`: than one "
    "worker of one thread, round by round; the limit is {workers}. Systems take turns."
)


def main(
    photos: Annotated[Path | None, typer.Option(help="A folder of JPEGs.")] = None,
    workers: Annotated[int, typer.Option(min=2)] = 2,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("training_workers", small, out)
    photos = bench.data(photos, "grocery-store", miniature.photos)
    rounds = 1 if small else ROUNDS
    settings: dict[str, Any] = {"epochs": 1, "frozen_epochs": 0, "steps_per_epoch": STEPS + 2}
    if small:
        settings |= SMALL
    configure_threads()
    items = _items(photos, settings.get("size", 224))
    systems = {"1 worker, 1 thread": (1, 1), f"1 worker, {workers} threads": (1, workers)}
    systems[f"{workers} workers, 1 thread each"] = (workers, workers)
    found: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(rounds):
        for name, (count, threads) in systems.items():
            found[name].append(_seconds(items, {**settings, "workers": count}, threads))
            print(name, f"{found[name][-1]:.2f} s a step", flush=True)
    rows = [
        Row("a step", name, "seconds", float(np.median(some)), min(some), max(some), "s")
        for name, some in found.items()
    ]
    alone, *others = found
    for name in others:
        ratios = [one / other for one, other in zip(found[alone], found[name], strict=True)]
        rows.append(Row("a step", name, "faster", float(np.median(ratios)), min(ratios), max(ratios)))
    bench.write(
        rows,
        command=f"python benchmarks/training_workers.py --photos FOLDER --workers {workers}",
        seeds=[0],
        packages=["torch", "timm"],
        note=NOTE.format(rounds=rounds, steps=STEPS, workers=workers),
    )


def _items(photos: Path, size: int) -> Any:
    """PHOTOS items of LEAVES leaves; which is which changes no time."""
    from etalage.features.category_set import CategorySet
    from etalage.features.photo import PhotoEncoder
    from etalage.lake.taxonomy import Taxonomy

    files = sorted(photos.rglob("*.jpg"))
    files = files[:: 5 if len(files) >= 5 * PHOTOS else 1][:PHOTOS]
    taxonomy = Taxonomy(
        [f"c{n}" for n in range(LEAVES)], [f"Leaf {n}" for n in range(LEAVES)], np.full(LEAVES, -1)
    )
    return CategorySet(
        item_ids=[f"i{n}" for n in range(len(files))],
        taxonomy=taxonomy,
        labels_N=taxonomy.leaves_L[np.arange(len(files)) % LEAVES],
        parts_N=np.full(len(files), "train"),
        titles=[None] * len(files),
        owners_P=np.arange(len(files)),
        pixels_PHWC=PhotoEncoder(size, 3, "pad", "bicubic").decode_all([file.read_bytes() for file in files]),
    )


def _seconds(items: Any, settings: dict[str, Any], threads: int) -> float:
    """By the clock, a step; the median of those after the first two."""
    import torch

    from etalage.models import recipe as recipes
    from etalage.training.loop import fit
    from etalage.training.workers import together

    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # of the processes that are started
    recipe = recipes.find("item_category")
    config = recipe.config(**settings)
    task = recipe.bind(config, items)
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        with together(recipe, config, items, task, run) as context:
            fit(
                recipe, task, config, run,
                progress=lambda *_: ends.append(time.perf_counter()), context=context,
            )  # fmt: skip
    return float(np.median(np.diff(ends)[1:]))


if __name__ == "__main__":
    run_main(main)
