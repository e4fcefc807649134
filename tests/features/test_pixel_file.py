"""Photos that would not fit into memory: pixels in a file, written by one pass over the table."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from etalage.config import SplitConfig
from etalage.errors import TableDamaged
from etalage.features.photo import PhotoEncoder
from etalage.features.photo_set import PhotoSet, fingerprint, photo_set
from etalage.features.pixel_file import MappedPixels, PixelFile
from etalage.models.image_similarity import ImageSimilarityConfig, ImageSimilarityTask
from tests.features.test_photo_set import tables

ENCODER, SPLIT = PhotoEncoder(8, 1), SplitConfig(validation=0, test=0)
LEVELS = [10, None, 30, 10, 50, 60, 70, 80]
CATEGORIES = ["b", "b", "a", "a", "c", None, "b", "c"]


class Table:
    """The table of photos, as a stream; counts how often it was read."""

    def __init__(self, photos: pa.Table) -> None:
        self.photos, self.reads = photos, 0

    def __call__(self) -> Iterator[pa.RecordBatch]:
        self.reads += 1
        yield from self.photos.to_batches(max_chunksize=2)


def in_file(folder: Path, items: pa.Table, table: Table) -> PhotoSet:
    return PixelFile(folder, ENCODER).photo_set(items, table, SPLIT)


def test_what_is_learned_from_a_file_is_what_memory_would_hold(tmp_path: Path) -> None:
    items, photos = tables(LEVELS, CATEGORIES)
    held, streamed = photo_set(items, photos, ENCODER, SPLIT), in_file(tmp_path, items, Table(photos))
    assert isinstance(streamed.pixels_NHWC, MappedPixels)
    assert fingerprint(streamed) == fingerprint(held)
    assert streamed.item_ids == held.item_ids
    config = ImageSimilarityConfig(size=8, channels=1, classes_per_batch=3, examples_per_class=2)
    tasks = [ImageSimilarityTask(config, one) for one in (held, streamed)]
    assert [task.ahead for task in tasks] == [0, 2]
    for step in range(tasks[0].steps):
        ours, theirs = (task.batch(0, step) for task in tasks)
        assert all(bool((ours[name] == theirs[name]).all()) for name in ours)


def test_photos_that_cannot_be_decoded_are_closed_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items, photos = tables(LEVELS, CATEGORIES)
    at = photos["sha256"].to_pylist().index("sha30")
    files = photos["bytes"].to_pylist()
    broken = photos.set_column(1, "bytes", pa.array([*files[:at], b"broken", *files[at + 1 :]]))
    table = Table(broken)
    for _ in range(2):
        found = in_file(tmp_path, items, table)
        assert found.item_ids == ["i0", "i3", "i4", "i5", "i6", "i7"]
        assert found.pixels_NHWC[:, 0, 0, 0].tolist() == [10, 10, 50, 60, 70, 80]
    assert caplog.text.count("left out of training") == 1
    assert table.reads == 1


def test_the_file_is_made_once_and_another_set_of_photos_takes_its_place(tmp_path: Path) -> None:
    items, photos = tables(LEVELS, CATEGORIES)
    table = Table(photos)
    first, again = in_file(tmp_path, items, table), in_file(tmp_path, items, table)
    assert table.reads == 1
    in_file(tmp_path, items.slice(1), table)
    assert table.reads == 2
    assert len(list(tmp_path.glob("*.pixels"))) == 1
    # What is mapped stays readable.
    assert np.array_equal(first.pixels_NHWC, again.pixels_NHWC)


def test_a_pass_that_was_killed_is_done_again(tmp_path: Path) -> None:
    items, photos = tables(LEVELS, CATEGORIES)
    table = Table(photos)
    in_file(tmp_path, items, table)
    next(tmp_path.glob("*.refused")).unlink()
    next(tmp_path.glob("*.pixels")).write_bytes(b"half")
    assert len(in_file(tmp_path, items, table).item_ids) == 7
    assert table.reads == 2


def test_another_worker_maps_the_same_file_and_rows_travel_as_they_are(tmp_path: Path) -> None:
    items, photos = tables(LEVELS, CATEGORIES)
    pixels = in_file(tmp_path, items, Table(photos)).pixels_NHWC
    large = pickle.dumps(pixels, protocol=5)
    assert len(large) < 400
    assert np.array_equal(pickle.loads(large), pixels)  # noqa: S301
    assert np.array_equal(pickle.loads(pickle.dumps(pixels[2:4])), pixels[2:4])  # noqa: S301


def test_a_file_that_was_cut_is_named(tmp_path: Path) -> None:
    items, photos = tables(LEVELS, CATEGORIES)
    in_file(tmp_path, items, Table(photos))
    file = next(tmp_path.glob("*.pixels"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(TableDamaged, match=file.name):
        in_file(tmp_path, items, Table(photos))


def test_a_photo_that_is_nowhere_in_the_table_is_named(tmp_path: Path) -> None:
    items, photos = tables([10, 20], ["a", "b"])
    with pytest.raises(TableDamaged, match="sha20"):
        in_file(tmp_path, items, Table(photos.filter(pa.array([False, True]))))
