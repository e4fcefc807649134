"""What does a taxonomy of thousands of leaves cost: one head a level against one softmax over the leaves?

    python benchmarks/taxonomy_scale.py [--taxonomy FILE.txt] [--rows 300000]

Ready features of a photo network, drawn so that leaves of one parent lie near each other. Each case runs in a
process of its own, so that its peak memory is its own.
"""

import json
import resource
import subprocess
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
from etalage.lake.taxonomy_files import read_google  # noqa: E402

GOOGLE = "taxonomy-with-ids.en-US.txt"
LEVEL, WIDTH, EPOCHS, BATCH = 4, 512, 2, 256
CASES = ("levels", "flat", "bare loop")
SPREAD = (1.0, 0.8, 0.6, 0.45)
"""How far a category lies from its parent, by depth; a photo's noise is 1 in every direction."""
NOTE = (
    "Google's taxonomy cut at level {level}: {leaves:,} leaves of {categories:,} categories. {rows:,} rows "
    "of {width} float16 features ({data:.0f} MB), drawn around a centre a leaf, centres of one parent near "
    "each other; a tenth is validation. Adam, batches of {batch}. `levels`: one head a level, weighed by "
    "depth; `flat`: one softmax over the leaves; both through Etalage's loop. `bare loop`: the flat softmax "
    "in twenty lines of torch over the same rows, no validation: the limit. `best possible`: the nearest "
    "centre by those who know the centres. Seconds are of processor time an epoch (of {epochs}: the range); "
    "memory is the peak of the process. Other work ran beside it."
)


def main(
    taxonomy: Annotated[Path | None, typer.Option(help="Google's file with ids.")] = None,
    rows: Annotated[int, typer.Option()] = 300_000,
    seed: Annotated[int, typer.Option()] = 0,
    case: Annotated[str | None, typer.Option(help="One case alone, printed as JSON.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    configure_threads()
    if case is not None:
        assert taxonomy is not None
        print(json.dumps(_measured(case, taxonomy, rows, seed)))
        return
    bench = Run.of("taxonomy_scale", small, out)
    if taxonomy is None:
        taxonomy = bench.data(None, "google-product-taxonomy", miniature.google) / GOOGLE
    rows = 3_000 if small else rows
    found: dict[str, dict[str, Any]] = {}
    for name in CASES:
        command = [sys.executable, __file__, "--case", name, "--taxonomy", str(taxonomy)]
        command += ["--rows", str(rows), "--seed", str(seed)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, found[name], flush=True)
    table = []
    for name, one in found.items():
        epochs = one["cpu_seconds"]
        table.append(
            _row(name, "processor time an epoch", float(np.mean(epochs)), min(epochs), max(epochs), "s")
        )
        table.append(_row(name, "peak memory", one["memory"], one["memory"], one["memory"], "MB"))
        for metric, (value, low, high) in one["metrics"].items():
            table.append(_row(name, metric, value, low, high, ""))
    facts = found["levels"]["facts"]
    value, low, high = found["levels"]["best"]
    table.append(_row("best possible", "leaf accuracy", value, low, high, ""))
    bench.write(
        table,
        command=f"python benchmarks/taxonomy_scale.py --taxonomy FILE --rows {rows} --seed {seed}",
        seeds=[seed],
        packages=["torch", "numpy"],
        note=NOTE.format(level=LEVEL, width=WIDTH, batch=BATCH, epochs=EPOCHS, rows=rows, **facts),
    )


def _row(system: str, metric: str, value: float, low: float, high: float, unit: str) -> Row:
    return Row(f"level {LEVEL}", system, metric, value, low, high, unit)


def _measured(case: str, file: Path, rows: int, seed: int) -> dict[str, Any]:

    tree = read_google(file).cut(LEVEL)
    features, leaves, best = _drawn(tree, rows, seed)
    held_out = np.arange(rows) % 10 == 0
    done = (_bare if case == "bare loop" else _etalage)(case, tree, features, leaves, held_out, seed)
    return done | {
        "best": _interval(best[held_out]),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "facts": {
            "leaves": len(tree.leaves_L),
            "categories": len(tree.ids),
            "data": features.nbytes / 2**20,
        },
    }


def _drawn(tree: Any, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, WIDTH) float16, (rows,) places of the leaves, (rows,) bool: is its own centre the nearest?"""
    rng = np.random.default_rng(seed)
    centres = np.zeros((len(tree.ids), WIDTH), np.float32)
    for row in np.argsort(tree.depths_N, kind="stable"):
        parent, spread = tree.parents_N[row], SPREAD[tree.depths_N[row] - 1]
        above = centres[parent] if parent >= 0 else 0
        centres[row] = above + spread * rng.standard_normal(WIDTH, np.float32) / 4
    of_leaf = centres[tree.leaves_L]
    shares = 1 / np.arange(1, len(of_leaf) + 1)  # a few leaves are common, most are rare
    leaves = rng.choice(len(of_leaf), rows, p=rng.permutation(shares / shares.sum()))
    features = np.empty((rows, WIDTH), np.float16)
    nearest = np.empty(rows, np.int64)
    squares = (of_leaf**2).sum(axis=1) / 2
    for start in range(0, rows, 4096):
        part = slice(start, min(start + 4096, rows))
        made = of_leaf[leaves[part]] + rng.standard_normal((part.stop - start, WIDTH), np.float32)
        features[part] = made
        nearest[part] = (made @ of_leaf.T - squares).argmax(axis=1)
    return features, leaves, nearest == leaves


def _etalage(
    case: str, tree: Any, features: np.ndarray, leaves: np.ndarray, held_out: np.ndarray, seed: int
) -> dict[str, Any]:
    from etalage.features.category_set import CategorySet
    from etalage.models import recipe as recipes
    from etalage.models.item_category import ItemCategory, ItemCategoryTask
    from etalage.training.loop import fit

    rows = len(leaves)
    data = CategorySet(
        [str(n) for n in range(rows)],
        tree,
        tree.leaves_L[leaves],
        np.where(held_out, "validation", "train"),
        [None] * rows,
        np.arange(rows),
        features_PF=features,
    )
    recipe = recipes.find("item_category")
    config = recipe.config(
        heads=case, epochs=EPOCHS, batch_size=BATCH, frozen_batch_size=BATCH, seed=seed,
        dropout=0, smoothing=0, weight_decay=0.0, learning_rate=2e-3, precision="float32",
        checkpoint_steps=10**6,
    )  # fmt: skip
    task = recipe.bind(config, data)
    assert isinstance(task, ItemCategoryTask)
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        trained = fit(recipe, task, config, Path(folder), tracker=clock)
        assert isinstance(trained.network, ItemCategory)
        decided, truth = _decided(task, trained.network)
    metrics = {"leaf accuracy": _interval(decided == truth)}
    for level in range(1, tree.depth):
        _, places = tree.at_level(level)
        metrics[f"accuracy of level {level}"] = _interval(places[decided] == places[truth])
    return {"cpu_seconds": np.diff([0.0, *clock.seconds]).tolist(), "metrics": metrics}


class _Clock:
    """Processor time at the end of each epoch, as the loop reports it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.seconds.append(values["cpu_seconds"])


def _decided(task: Any, network: Any) -> tuple[np.ndarray, np.ndarray]:
    import torch

    found = []
    for start in range(0, len(task.validation), 4096):
        with torch.inference_mode():
            ((scores, _),) = task.scores(network, task.validation[start : start + 4096])
        found.append(scores.argmax(axis=1))
    return np.concatenate(found), task.items.leaf_N[task.validation]


def _bare(
    case: str, tree: Any, features: np.ndarray, leaves: np.ndarray, held_out: np.ndarray, seed: int
) -> dict[str, Any]:
    import torch
    import torch.nn.functional as F

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    head = torch.nn.Linear(WIDTH, len(tree.leaves_L))
    optimiser = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.0)
    rows, targets = torch.from_numpy(features), torch.from_numpy(leaves)
    train, seconds = np.flatnonzero(~held_out), []
    for _ in range(EPOCHS):
        started = time.process_time()
        for batch in np.array_split(torch.from_numpy(rng.permutation(train)), -(-len(train) // BATCH)):
            loss = F.cross_entropy(head(rows[batch].float()), targets[batch])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        seconds.append(time.process_time() - started)
    with torch.inference_mode():
        found = torch.cat([head(part.float()).argmax(1) for part in rows[held_out].split(4096)]).numpy()
    return {"cpu_seconds": seconds, "metrics": {"leaf accuracy": _interval(found == leaves[held_out])}}


def _interval(right: np.ndarray) -> tuple[float, float, float]:
    from etalage.metrics import bootstrap

    found = bootstrap(right.astype(np.float64), 200, 0)
    return found.value, found.low, found.high


if __name__ == "__main__":
    run_main(main)
