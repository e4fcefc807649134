"""Parts that do not belong together are refused, whatever their hashes say."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etalage.bundle.files import SELF_CHECK, read_embeddings
from etalage.bundle.manifest import Manifest, verify
from etalage.bundle.pointer import Bundles
from etalage.bundle.selfcheck import QUERIES, check_consistency, spread
from etalage.errors import (
    BundleDamaged,
    ExportDamaged,
    IndexMismatch,
)
from etalage.lake.delta import Lake
from etalage.runtime.photos import FILES
from tests.bundle.forged import rehash, writable
from tests.shops import PHOTO_EMBEDDINGS, PHOTO_INDEX, PHOTO_MODEL, small_shop

EXPORT = [f"{PHOTO_MODEL}/{name}" for name in FILES]

Shop = tuple[Lake, Bundles, Manifest]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Bundles of a model; of another model of the same size; of a model of another size."""
    root = tmp_path_factory.mktemp("three")
    folders = []
    for name, options in (("a", {"seed": 1}), ("b", {"seed": 2}), ("c", {"seed": 1, "dimension": 12})):
        _, bundles, manifest = small_shop(root / name, 30, **options)  # type: ignore[arg-type]
        folders.append(bundles.path(manifest.id))
        writable(folders[-1])
    return folders


@pytest.fixture
def two(three: list[Path], tmp_path: Path) -> tuple[Path, Path, Path]:
    """The first of `three` copied, to be damaged, and the other two."""
    return shutil.copytree(three[0], tmp_path / three[0].name), three[1], three[2]


def refuse(folder: Path, **changed: Any) -> None:
    """Make the folder's hashes right again: verify passes, and still it is refused."""
    folder = rehash(folder, **changed)
    manifest = verify(folder)
    with pytest.raises((IndexMismatch, BundleDamaged, ExportDamaged)):
        check_consistency(folder, manifest)


@pytest.mark.parametrize("other", [1, 2])
@pytest.mark.parametrize(
    "swapped",
    [
        [PHOTO_EMBEDDINGS],
        [PHOTO_INDEX],
        [PHOTO_EMBEDDINGS, PHOTO_INDEX],
        EXPORT,
        [PHOTO_EMBEDDINGS, PHOTO_INDEX, SELF_CHECK],
    ],
)
def test_f54_parts_of_another_bundle_are_refused_even_when_hashed_again(
    two: tuple[Path, Path, Path], other: int, swapped: list[str]
) -> None:
    folder, donor = two[0], two[other]
    for name in swapped:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
            shutil.copytree(donor / name, folder / name)
        else:
            shutil.copyfile(donor / name, folder / name)
    refuse(folder)


def test_f54_another_model_is_refused_even_when_every_recorded_hash_is_patched(
    two: tuple[Path, Path, Path],
) -> None:
    folder, donor = two[0], two[1]
    for name in EXPORT:
        shutil.copyfile(donor / name, folder / name)
    (model,) = json.loads((donor / "manifest.json").read_bytes())["models"]
    header = json.loads((folder / PHOTO_INDEX / "index.json").read_bytes())
    (folder / PHOTO_INDEX / "index.json").write_text(json.dumps({**header, "model_hash": model["hash"]}))
    folder = rehash(folder, models=[model])
    with pytest.raises(IndexMismatch, match="does not make the stored embeddings"):
        check_consistency(folder, verify(folder))


@pytest.mark.parametrize("fault", ["float64", "scaled", "nan", "short", "wide", "shuffled"])
def test_f54_wrong_embeddings_are_refused_even_when_hashed_again(
    two: tuple[Path, Path, Path], fault: str
) -> None:
    folder = two[0]
    array = np.array(read_embeddings(folder, PHOTO_EMBEDDINGS))
    wrong = {
        "float64": array.astype(np.float64),
        "scaled": array * np.float32(1.01),
        "nan": array * np.float32(np.nan),
        "short": array[:-1],
        "wide": np.hstack([array, array[:, :1]]),
        "shuffled": np.roll(array, 1, axis=0),
    }[fault]
    np.save(folder / PHOTO_EMBEDDINGS, wrong, allow_pickle=False)
    refuse(folder)


def test_f54_an_index_of_the_same_model_with_other_rows_is_refused_by_its_answers(
    two: tuple[Path, Path, Path],
) -> None:
    file = two[0] / PHOTO_INDEX / "embeddings.npy"
    np.save(file, np.roll(np.load(file), 1, axis=0), allow_pickle=False)
    folder = rehash(two[0])
    with pytest.raises(BundleDamaged, match="self-check: the answer"):
        check_consistency(folder, verify(folder))


def test_f54_one_embedding_of_a_wrong_length_is_named_also_where_no_self_check_looks(tmp_path: Path) -> None:
    _, bundles, manifest = small_shop(tmp_path, 90)
    folder = bundles.path(manifest.id)
    writable(folder)
    array = np.array(read_embeddings(folder, PHOTO_EMBEDDINGS))
    (row, *_) = set(range(90)) - set(spread(np.arange(90), QUERIES).tolist())
    array[row] *= np.float32(1.01)
    np.save(folder / PHOTO_EMBEDDINGS, array, allow_pickle=False)
    folder = rehash(folder)
    with pytest.raises(IndexMismatch, match=f"row {row} is not of length 1"):
        check_consistency(folder, verify(folder))


class Marker:
    """Unpickled, it makes a folder."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize(
    "name",
    [PHOTO_EMBEDDINGS, f"{PHOTO_INDEX}/embeddings.npy", f"{PHOTO_INDEX}/rows.npy", "items.arrow", SELF_CHECK],
)
def test_f15_a_pickle_in_the_place_of_a_file_is_never_opened_even_when_listed(
    two: tuple[Path, Path, Path], tmp_path: Path, name: str
) -> None:
    marker = tmp_path / "was-run"
    if name.endswith(".npy"):
        np.save(two[0] / name, np.array([Marker(marker)], dtype=object), allow_pickle=True)
    else:
        (two[0] / name).write_bytes(pickle.dumps(Marker(marker)))
    refuse(two[0])
    assert not marker.exists()


def test_a_whole_bundle_that_was_hashed_again_passes(two: tuple[Path, Path, Path]) -> None:
    folder = rehash(two[0])
    check_consistency(folder, verify(folder))


def test_a_bundle_needs_nothing_outside_itself(shop: Shop, tmp_path: Path) -> None:
    _, bundles, first = shop
    moved = tmp_path / "far" / first.id
    moved.parent.mkdir()
    bundles.path(first.id).rename(moved)
    shutil.rmtree(tmp_path / "exports")
    shutil.rmtree(tmp_path / "tables")
    check_consistency(moved, verify(moved))
