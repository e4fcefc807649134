"""Image similarity on the real Fashion-MNIST: how good, how fast, and on classes never seen?

    python benchmarks/fashion_mnist.py --data FOLDER [--seeds 0,1,2] [--original-seeds 0]

Every trained network is exported, and the export's embeddings are what is measured. Each part (one
system, one seed) is kept under build/, so that a benchmark that was stopped goes on where it was.
Nothing here was tuned on the test images; see docs/log.md for what was tried on validation images.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "examples" / "fashion_mnist"), str(Path(__file__).parent)]
import files  # noqa: E402
import miniature  # noqa: E402
from run import load  # noqa: E402
from table import DATA, Out, Row, Run, Small, run_main  # noqa: E402

from etalage.evaluation.photos import untrained  # noqa: E402
from etalage.evaluation.protocols import evaluate_embeddings, raw_pixels  # noqa: E402
from etalage.features.photo import PhotoEncoder  # noqa: E402
from etalage.features.photo_set import PhotoSet  # noqa: E402
from etalage.models import recipe as recipes  # noqa: E402
from etalage.runtime.photos import PhotoEmbedder  # noqa: E402
from etalage.shop import MODEL, Shop, photo_steps  # noqa: E402
from etalage.training.run import resolve, run  # noqa: E402

UNSEEN = ("T-shirt/top", "Coat", "Sneaker")
"""Not trained on in the third case; the index holds all ten. Their siblings stay: Shirt, Pullover, Sandal."""
PER_CLASS = 20
ORIGINAL = {
    "backbone": "small",
    "network": "original",
    "classes_per_batch": 7,
    "examples_per_class": 20,
    "learning_rate": 0.00135,
    "schedule": "constant",
    "warm_up": 0,
    "weight_decay": 0,
    "betas": [0.9, 0.999],
    "softmax_weight": 0,
    "flip": False,
    "crop": 0,
    "average": None,
    "epochs": 20,
    "steps_per_epoch": 1100,
    "precision": "float32",
}
"""S0.4: the original's network and its own settings; float32, in which it is the faster one here."""
OURS = ("stem", "widths", "augment_until")
"""Settings of the shop that say nothing of the original's network, which sees photos as they are."""
SHORT: dict[str, Any] = {"epochs": 1, "steps_per_epoch": 2}
SETTINGS: dict[str, Any] = {}
"""Of both networks, over everything else: SHORT in a small run."""
COMMAND = (
    "OMP_NUM_THREADS=1 python benchmarks/fashion_mnist.py --data FOLDER --seeds {} --original-seeds {} "
    "--original-epochs {}"
)
NOTE = (
    "10,000 test images search in the 60,000 training images. R@1: the nearest bears the query's class; "
    "P@5: share of the five nearest that do. Value: mean over seeds; interval: the lowest and the "
    "highest of {ours} seeds. The original's CNN has its own settings (Multi-Similarity alone, Adam, "
    "7 classes x 20 a batch): {epochs} of its 20 epochs of 1,100 steps, {theirs} seed; it was not trained "
    "without classes. Unseen: {unseen} are not trained on, the queries are of these three, the index "
    "holds all ten. `nearest other class`: share of an unseen class's queries whose nearest image of "
    "another class is of that class. Seconds are of training alone, its validation included, on one "
    "thread, with another training beside it on the other core; `cpu` is processor time over the number "
    "of cores: what two cores need if they share the work evenly."
)
BOTH = ("everything indexed", f"{PER_CLASS} a class indexed")


def main(
    data: Annotated[Path | None, typer.Option(help="Folder of the four IDX files.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of our network.")] = "0,1,2",
    original_seeds: Annotated[str, typer.Option(help="Seeds of the original's CNN.")] = "0",
    original_epochs: Annotated[
        int,
        typer.Option(help="Of its 20; the rate is constant, so fewer are a prefix."),
    ] = 20,
    download: Annotated[bool, typer.Option(help="Fetch the files where they are not found.")] = False,
    work: Annotated[Path | None, typer.Option(help="Where parts are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("fashion_mnist", small, out)
    work = bench.work(work)
    if small:
        seeds, original_seeds, original_epochs = "0", "0", 1
        found = miniature.fashion(bench.out / "data")
        SETTINGS.update(SHORT)
    else:
        there = DATA / "fashion-mnist"
        found = files.find(data or (there if there.is_dir() else None), work / "files" if download else None)
    shop = load(work / "shop", found)
    settled = json.dumps(
        [shop.config.models, shop.config.split.model_dump(), ORIGINAL, UNSEEN, SETTINGS], sort_keys=True
    )
    work = work / hashlib.sha256(settled.encode()).hexdigest()[:8]  # other settings, other parts
    photos = photo_steps.photos(shop, photo_steps.payload(shop), PhotoEncoder(28, 1))
    ours, theirs = _numbers(seeds), _numbers(original_seeds)
    parts: dict[tuple[str, int], dict[str, float]] = {}
    for seed in ours:
        parts["raw pixels", seed] = _part(work, "raw", seed, lambda seed=seed: _raw(photos, seed))
        parts["untrained network", seed] = _part(
            work, "untrained", seed, lambda seed=seed: _floor(shop, photos, seed)
        )
        parts["etalage", seed] = _part(
            work, "etalage", seed, lambda seed=seed: _trained(shop, photos, {"seed": seed}, unseen=True)
        )
    for seed in theirs:
        parts["original CNN", seed] = _part(
            work,
            f"original-{original_epochs}",
            seed,
            lambda seed=seed: _trained(shop, photos, {**ORIGINAL, "epochs": original_epochs, "seed": seed}),
        )
    bench.write(
        _rows(parts),
        command=COMMAND.format(seeds, original_seeds, original_epochs),
        seeds=ours,
        packages=["torch", "onnxruntime", "numpy"],
        note=NOTE.format(
            ours=len(ours), theirs=len(theirs), epochs=original_epochs, unseen=", ".join(UNSEEN)
        ),
    )


def _part(work: Path, name: str, seed: int, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    file = work / "parts" / f"{name}-{seed}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        found = measure()
        file.write_text(json.dumps(found, indent=1))
        print(name, seed, {key: round(value, 4) for key, value in found.items()}, flush=True)
    loaded: dict[str, float] = json.loads(file.read_text())
    return loaded


def _raw(photos: PhotoSet, seed: int) -> dict[str, float]:
    found = raw_pixels(photos.pixels_NHWC)
    return {**_seen(photos, found, seed), **_unseen(photos, found)}


def _floor(shop: Shop, photos: PhotoSet, seed: int) -> dict[str, float]:
    recipe = recipes.find(MODEL)
    config = resolve(recipe, shop.config.models[MODEL], {"seed": str(seed)})
    found = untrained(recipe, config, photos)
    return {**_seen(photos, found, seed), **_unseen(photos, found)}


def _trained(
    shop: Shop, photos: PhotoSet, settings: dict[str, Any], unseen: bool = False
) -> dict[str, float]:
    """Train on all ten classes; with `unseen` once more, without the classes never to be seen."""
    seed = int(settings["seed"])
    embeddings, seconds, cpu = _train(shop, photos, settings)
    figures = {"training|wall": seconds, "training|cpu": cpu, **_seen(photos, embeddings, seed)}
    if unseen:
        without = photos.without(set(UNSEEN))
        embeddings, _, _ = _train(shop, without, settings)
        figures |= _unseen(photos, embeddings)
    return figures


def _train(shop: Shop, photos: PhotoSet, settings: dict[str, Any]) -> tuple[np.ndarray, float, float]:
    recipe = recipes.find(MODEL)
    ours = dict(shop.config.models[MODEL])
    if settings.get("network") == "original":
        ours = {name: value for name, value in ours.items() if name not in OURS}
    config = recipe.config(**{**ours, **settings, **SETTINGS})
    with shop.bar("train", None) as meter:
        done = 0

        def tell(step: int, total: int, line: str) -> None:
            nonlocal done
            meter.say(f"train {settings}: {line}"[:100], total)
            meter(step - done)
            done = step

        trained, exported = run(
            recipe, config, photos, {}, runs=shop.runs, exports=shop.exports(MODEL), progress=tell
        )
    found = PhotoEmbedder.open(exported, threads=2).embed_pixels(photos.pixels_NHWC)
    return found, trained.seconds, trained.cpu_seconds / (os.cpu_count() or 1)


def _seen(photos: PhotoSet, found: np.ndarray, seed: int) -> dict[str, float]:
    queries = photos.rows("test")
    index = np.flatnonzero(photos.parts_N != "test")
    rng = np.random.default_rng(seed)
    few = np.concatenate(
        [rng.choice(index[photos.labels_N[index] == c], PER_CLASS, replace=False) for c in range(10)]
    )
    figures = {}
    for case, rows in zip(BOTH, (index, few), strict=True):
        figures |= _figures(case, photos, found, queries, rows)
    return figures


def _unseen(photos: PhotoSet, found: np.ndarray) -> dict[str, float]:
    index = np.flatnonzero(photos.parts_N != "test")
    labels = photos.labels_N
    unseen = [photos.categories.index(name) for name in UNSEEN]
    queries = np.flatnonzero((photos.parts_N == "test") & np.isin(labels, unseen))
    figures = _figures("three classes never trained on", photos, found, queries, index)
    for number in unseen:
        own = queries[labels[queries] == number]
        others = index[labels[index] != number]
        nearest = labels[
            others[np.concatenate([(part @ found[others].T).argmax(1) for part in _some(found[own])])]
        ]
        shares = np.bincount(nearest, minlength=10) / len(own)
        for other in np.argsort(-shares)[:2]:
            key = f"unseen {photos.categories[number]}: nearest other class|{photos.categories[other]}"
            figures[key] = float(shares[other])
    return figures


def _some(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, max(1, len(rows) // 250))


def _figures(
    case: str, photos: PhotoSet, found: np.ndarray, queries: np.ndarray, index: np.ndarray
) -> dict[str, float]:
    labels = photos.labels_N
    scores = evaluate_embeddings(
        found[queries], labels[queries], found[index], labels[index], ks=(1, 5), bootstrap=100
    )
    return {
        f"{case}|R@1": scores.intervals["hit_at_1"].value,
        f"{case}|P@5": scores.intervals["precision_at_5"].value,
    }


def _rows(parts: dict[tuple[str, int], dict[str, float]]) -> list[Row]:
    rows = []
    for system in dict.fromkeys(system for system, _ in parts):
        found = [figures for (name, _), figures in parts.items() if name == system]
        for key in found[0]:
            if any(key not in figures for figures in found):
                continue  # the second nearest class is another one from seed to seed
            values = [figures[key] for figures in found]
            case, metric = key.split("|")
            unit = "s" if case == "training" else ""
            rows.append(Row(case, system, metric, float(np.mean(values)), min(values), max(values), unit))
    return sorted(rows, key=lambda row: row.case)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


if __name__ == "__main__":
    run_main(main)
