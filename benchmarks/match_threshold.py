"""What a match threshold promises, and what other photos find.

    OMP_NUM_THREADS=1 python benchmarks/match_threshold.py [--data GROCERY] [--taxonomy GOOGLE.txt] \
        [--fashion FASHION]

GROCERY, FASHION: the folders of the Grocery Store data set and of Fashion-MNIST.
"""

import gzip
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

sys.path[:0] = [str(Path(__file__).parent)]
import miniature  # noqa: E402
from grocery import KEPT, grocery  # noqa: E402
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.evaluation.calibrate import Threshold, calibrate, promise  # noqa: E402
from etalage.features.photo import PhotoEncoder  # noqa: E402
from etalage.models.feature_heads import HEADS, LinearHead, solve_head  # noqa: E402

GOOGLE = "taxonomy-with-ids.en-US.txt"
WANTED = (0.8, 0.9, 0.95)
DRAWS = 8
INDEXED, ASKING = 6000, 1000
"""Photos of Fashion-MNIST that are searched in, and that calibrate, in each draw."""
COMMAND = (
    "OMP_NUM_THREADS=1 python benchmarks/match_threshold.py --data GROCERY --taxonomy GOOGLE.txt "
    "--fashion FASHION"
)
NOTE = (
    "A photo's nearest neighbour has its category or has not; from a threshold on it shall be so in .8, "
    ".9 or .95 of cases. {draws} draws of which photos calibrate; mean, lowest and highest. `before`: "
    "the head that finds most on the calibration photos, and the lowest threshold that has the "
    "precision on those same photos. `now`: the head by one half of them, the threshold by the other, "
    "with its lower bound (95% sure). `promised`: the precision that is named; `found`: that of test "
    "photos; `kept`: share of the draws in which at least the promise is found; `answered`: share of "
    "the test photos that reach the threshold. Grocery: features of EfficientNet-lite0, a tenth of the "
    "bursts of `train` calibrates, the test photos are `val`, of other shelves, which no bound covers. "
    "Fashion-MNIST: pixels, {indexed:,} photos are searched in, {asking:,} calibrate, the 10,000 of its "
    "test part ask."
)


def main(
    data: Annotated[Path | None, typer.Option(help="The Grocery Store data set.")] = None,
    taxonomy: Annotated[Path | None, typer.Option(help="Google's file with ids.")] = None,
    fashion: Annotated[Path | None, typer.Option(help="Fashion-MNIST.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("match_threshold", small, out)
    data = bench.data(data, "grocery-store", miniature.grocery)
    if taxonomy is None:
        taxonomy = bench.data(None, "google-product-taxonomy", miniature.google) / GOOGLE
    fashion = bench.data(fashion, "fashion-mnist", miniature.fashion)
    bench.work(None).mkdir(parents=True, exist_ok=True)
    kept = bench.work(None) / "features.npy" if small else KEPT
    draws = 2 if small else DRAWS
    shop = grocery(data, taxonomy, PhotoEncoder(32, 3, "pad", "bicubic"), kept=kept)
    labels_N, test_N = shop.data.labels_N, shop.data.parts_N == "test"

    def by_bursts(seed: int) -> tuple[np.ndarray, np.ndarray]:
        bursts, places_n = np.unique(shop.groups_N[~test_N], return_inverse=True)
        held_n = (np.random.default_rng(seed).permutation(len(bursts)) % 10 == 0)[places_n]
        within = np.flatnonzero(~test_N)
        return within[~held_n], within[held_n]

    rows = _rows("Grocery", shop.features_NF, labels_N, np.flatnonzero(test_N), by_bursts, draws)
    pixels_NF, classes_N, test = _fashion(fashion)

    def by_chance(seed: int) -> tuple[np.ndarray, np.ndarray]:
        drawn = np.random.default_rng(seed).permutation(np.flatnonzero(~test))
        indexed = min(INDEXED, len(drawn) * 6 // 7)
        return drawn[:indexed], drawn[indexed : indexed + ASKING]

    rows += _rows("Fashion-MNIST", pixels_NF, classes_N, np.flatnonzero(test), by_chance, draws)
    bench.write(
        rows,
        command=COMMAND,
        seeds=list(range(draws)),
        packages=["numpy", "scipy", "onnxruntime"],
        note=NOTE.format(draws=draws, indexed=INDEXED, asking=ASKING),
    )


def _fashion(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, 784) float32 pixels, (N,) classes, (N,) whether of the test part."""
    pixels, labels = [], []
    for part in ("train", "t10k"):
        images = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
        labels.append(gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())[8:])
        pixels.append(np.frombuffer(images, np.uint8, offset=16).reshape(-1, 784).astype(np.float32) / 255)
    test = np.arange(sum(map(len, pixels))) >= len(pixels[0])
    return np.concatenate(pixels), np.frombuffer(b"".join(labels), np.uint8).astype(np.int64), test


def _rows(
    case: str,
    features_NF: np.ndarray,
    labels_N: np.ndarray,
    test: np.ndarray,
    drawn: Callable[[int], tuple[np.ndarray, np.ndarray]],
    draws: int,
) -> list[Row]:
    found: dict[tuple[str, str], list[float]] = {}
    for seed in range(draws):
        index, asking = drawn(seed)
        heads = [solve_head(head, features_NF[index], labels_N[index], 128, 0.1) for head in HEADS]
        half = np.random.default_rng([seed, 1]).permutation(len(asking)) % 2 == 0
        ways = {"before": (asking, asking), "now": (asking[half], asking[~half])}
        for way, (choosing, matching) in ways.items():
            head = max(heads, key=lambda one: _nearest(one, features_NF, labels_N, choosing, index)[1].mean())
            pairs = _nearest(head, features_NF, labels_N, matching, index)
            fresh = _nearest(head, features_NF, labels_N, test, index)
            for wanted in WANTED:
                for metric, value in _told(way, pairs, fresh, wanted).items():
                    found.setdefault((f"{way}, {wanted:g} wanted", metric), []).append(value)
    return [
        Row(case, system, metric, float(np.mean(values)), min(values), max(values))
        for (system, metric), values in found.items()
    ]


Pairs = tuple[np.ndarray, np.ndarray]


def _nearest(
    head: LinearHead, features_NF: np.ndarray, labels_N: np.ndarray, queries: np.ndarray, index: np.ndarray
) -> Pairs:
    """(Q,) similarity of each query's nearest in the index, and whether it has its category."""
    indexed_nD = head(features_NF[index])
    scores, same = [], []
    for part in np.array_split(queries, max(1, len(queries) // 500)):
        found = head(features_NF[part]) @ indexed_nD.T
        nearest = found.argmax(axis=1)
        scores.append(found[np.arange(len(part)), nearest])
        same.append(labels_N[index[nearest]] == labels_N[part])
    return np.concatenate(scores), np.concatenate(same)


def _told(way: str, pairs: Pairs, fresh: Pairs, wanted: float) -> dict[str, float]:
    from etalage.errors import ConfigError, TooLittleData

    try:
        if way == "before":
            threshold: Threshold = calibrate(*pairs, "precision", wanted)
            promised = threshold.precision
        else:
            threshold = promise(*pairs, wanted)
            promised = threshold.promise
    except (ConfigError, TooLittleData):
        return {}
    near = fresh[0] >= threshold.score
    right = float(fresh[1][near].mean()) if near.any() else 1.0
    return {
        "promised": promised,
        "found": right,
        "kept": float(right >= promised),
        "answered": float(near.mean()),
    }


if __name__ == "__main__":
    run_main(main)
