"""What `etalage train item_category` does with nothing said: chosen within `train`, then asked once of `val`.

    OMP_NUM_THREADS=1 python benchmarks/category_recipe.py [--data GROCERY] [--taxonomy GOOGLE.txt]

GROCERY: the folder of the Grocery Store data set; GOOGLE.txt: Google's taxonomy with ids.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from grocery import KEPT, LITE0, WEIGHTS, Grocery, grocery  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.features.category_set import CategorySet  # noqa: E402
from etalage.features.photo import PhotoEncoder  # noqa: E402

GOOGLE = "taxonomy-with-ids.en-US.txt"
FOLDS = 5
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/category_recipe.py --data GROCERY --taxonomy GOOGLE.txt"
NOTE = (
    "Share of the photos whose leaf is right, of 81, with 95% bootstrap intervals over bursts. `within "
    "train`: {folds} folds of whole bursts of the {train:,} photos of `train`, one of which is left out "
    "in turn, half a fold for calibration; by this the recipe was chosen. `val`: the {val} photos of "
    "the published part `val`, of other shelves; learned from `train` but for the {held} photos that "
    "calibrate. One model each: `photo` is asked without titles, `photo + title` with them. The titles "
    "are made up (half of them tell the class): what they add is no claim. A solved head has no seed. "
    "All over EfficientNet-lite0 as ImageNet made it: `last, 224`: its last layer at 224 pixels, as "
    "before; `stages, {size}`: the mean of every stage's planes at {size} pixels, the default. Seconds: "
    "processor time of training, features not counted."
)


def main(
    data: Annotated[Path | None, typer.Option(help="The Grocery Store data set.")] = None,
    taxonomy: Annotated[Path | None, typer.Option(help="Google's file with ids.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    from etalage.models.item_category import SOLVED_SIZE

    bench = Run.of("category_recipe", small, out)
    data = bench.data(data, "grocery-store", miniature.grocery)
    if taxonomy is None:
        taxonomy = bench.data(None, "google-product-taxonomy", miniature.google) / GOOGLE
    size = 64 if small else SOLVED_SIZE
    work = bench.work(None)
    work.mkdir(parents=True, exist_ok=True)
    encoder = PhotoEncoder(size, 3, "pad", "bicubic")
    shop = grocery(data, taxonomy, encoder, kept=work / "features.npy" if small else KEPT)
    systems = {"last, 224": shop.features_NF, f"stages, {size}": _stages(shop, encoder, work)}
    rows = [row for name, found in systems.items() for row in _measured(shop, name, found)]
    bench.write(
        rows,
        command=COMMAND,
        seeds=[0],
        packages=["torch", "timm", "onnxruntime", "scipy"],
        note=NOTE.format(
            folds=FOLDS,
            train=len(shop.data.rows("train", "validation")),
            val=len(shop.data.rows("test")),
            held=len(shop.data.rows("validation")),
            size=size,
        ),
    )


def _stages(shop: Grocery, encoder: PhotoEncoder, work: Path) -> np.ndarray:
    """(N, F) float32, made once, then read from `work`."""
    from etalage.training.frozen import frozen_backbone

    file = work / f"stages-{encoder.size}.npy"
    if not file.exists():
        backbone = frozen_backbone(work / "backbones", LITE0, WEIGHTS, encoder, "stages")
        assert shop.data.pixels_PHWC is not None
        np.save(file, backbone.embed_pixels(shop.data.pixels_PHWC))
    found: np.ndarray = np.load(file)
    return found


def _measured(shop: Grocery, name: str, features_NF: np.ndarray) -> list[Row]:
    data = shop.data.with_features(features_NF)
    within = data.rows("train", "validation")
    right: dict[str, np.ndarray] = {seen: np.zeros(len(data)) for seen in ("photo", "photo + title")}
    for fold in range(FOLDS):
        parts_N = _fold(shop, within, fold)
        asked, _ = _answered(replace(data, parts_N=parts_N))
        for seen, right_n in asked.items():
            right[seen][parts_N == "test"] = right_n
    published, seconds = _answered(data)
    rows = []
    for seen, right_N in right.items():
        told = {"within train": (within, right_N[within]), "val": (data.rows("test"), published[seen])}
        for metric, (asked_n, right_n) in told.items():
            one = _interval(right_n, shop.groups_N[asked_n])
            rows.append(Row(name, seen, metric, *one))
    return [*rows, Row(name, "photo + title", "seconds", seconds, seconds, seconds, "s")]


def _fold(shop: Grocery, within: np.ndarray, fold: int) -> np.ndarray:
    """(N,) parts: whole bursts; `val` is left aside."""
    bursts, places_n = np.unique(shop.groups_N[within], return_inverse=True)
    drawn_n = np.random.default_rng(0).permutation(len(bursts))[places_n] % (2 * FOLDS)
    parts_N = np.full(len(shop.groups_N), "aside", dtype="<U10")
    parts_N[within] = "train"
    parts_N[within[drawn_n // 2 == fold]] = "test"
    parts_N[within[drawn_n == (2 * fold + 2) % (2 * FOLDS)]] = "validation"
    return parts_N


def _answered(data: CategorySet) -> tuple[dict[str, np.ndarray], float]:
    """What is seen → (n,) whether the leaf of each test photo is right; processor seconds."""
    import tempfile

    import torch

    from etalage.models import recipe as recipes
    from etalage.training.calibrating import calibrated
    from etalage.training.loop import fit

    recipe = recipes.find("item_category")
    config = recipe.config()
    task: Any = recipe.bind(config, data)
    with tempfile.TemporaryDirectory() as folder:
        trained = fit(recipe, task, config, Path(folder))
    assert trained.network is not None
    deciding, _ = calibrated(task, trained.network)
    rows = data.rows("test")
    titled_n = (task.words_NT[torch.from_numpy(rows)] > 0).any(dim=1).numpy()
    found = {}
    for seen, hide in {"photo": "title", "photo + title": None}.items():
        with torch.inference_mode():
            scores = [one for one, _ in task.scores(trained.network, rows, hide)]
        given = deciding.probabilities(scores, np.ones(len(rows), bool), titled_n & (hide is None))
        found[seen] = (deciding.decide(given, data.taxonomy) == data.leaf_N[rows]).astype(np.float64)
    return found, trained.cpu_seconds


def _interval(right_n: np.ndarray, groups_n: np.ndarray, draws: int = 1000) -> tuple[float, float, float]:
    """Mean, and the 95% of bootstrap means when whole bursts are drawn."""
    _, places_n = np.unique(groups_n, return_inverse=True)
    sums, counts = np.bincount(places_n, right_n), np.bincount(places_n)
    drawn = np.random.default_rng(0).integers(0, len(sums), (draws, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(right_n.mean()), float(low), float(high)


if __name__ == "__main__":
    run_main(main)
