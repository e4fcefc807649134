"""What every loop over photos keeps to: two workers give what this process gives, broken photos included.

Its photos are all different, of several shapes, and lie in another order than their items; some are of
several items, and some cannot be opened. A block has three.
"""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from etalage.bundle import contents, pooling
from etalage.bundle.contents import Embedded, embed, gather
from etalage.bundle.pooling import Pooling
from etalage.config import SplitConfig
from etalage.engine.contract import Engine
from etalage.engine.local import LOCAL
from etalage.features import photo_blocks
from etalage.features.catalogue_photos import decoded
from etalage.features.photo import PhotoEncoder
from etalage.features.photo_blocks import Decode, PhotoLoop
from etalage.features.photo_set import photo_set
from etalage.lake.delta import Lake
from etalage.lake.item_photos import ItemPhotos
from etalage.runtime.classifier import ItemClassifier
from etalage.runtime.photos import PhotoEmbedder
from tests.category_exports import classifier_export, coloured
from tests.exports import tiny_export
from tests.shops import drawn_photo, item_row, photo_row, rows_of

ENGINES: dict[str, Engine] = {"local": LOCAL}
ITEMS = 17
BROKEN = (0, 7, 8, 16)
"""The first and the last, and two beside each other."""
SHARED = {3: 12, 14: 7}
"""Item → whose photo it has too; 7's cannot be opened."""


def content(number: int) -> bytes:
    number = SHARED.get(number, number)
    if number in BROKEN:
        return drawn_photo(number)[: 60 + number] if number % 2 else b"no image, but number %d" % number
    return drawn_photo(number, size=20 + 3 * number) if number % 3 else coloured("21", number, 40)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("shop") / "tables")
    lake.table("items").merge(rows_of("items", [item_row(n) for n in range(ITEMS)]))
    lake.table("photos").merge(rows_of("photos", [photo_row(n, content(n)) for n in range(ITEMS) if n != 5]))
    return lake


@pytest.fixture(params=ENGINES)
def workers(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PhotoLoop:
    for module in (contents, pooling, photo_blocks):
        monkeypatch.setattr(module, "BLOCK_PHOTOS", 3)
    return PhotoLoop(ENGINES[request.param], tmp_path / "spool", workers=2, measured=0)


def sha_of(number: int) -> str:
    return hashlib.sha256(content(number)).hexdigest()


def test_embedding(lake: Lake, workers: PhotoLoop, tmp_path: Path) -> None:
    payload = gather(lake)
    embedder = PhotoEmbedder.open(tiny_export(tmp_path / "export"))
    carried = {sha_of(4): np.full(embedder.dimension, 0.25, np.float32)}

    def made(loop: PhotoLoop | None) -> tuple[Embedded, dict[str, np.ndarray], int]:
        told: list[int] = []
        kept: dict[str, np.ndarray] = {}
        return embed(payload, embedder, carried, told.append, loop, kept.update), kept, sum(told)

    (here, kept_here, told_here), (there, kept, told) = made(None), made(workers)
    np.testing.assert_array_equal(there.embeddings, here.embeddings)
    assert there.embeddings[1:].any(axis=1).tolist() == [n not in (0, 5, 7, 8, 14, 16) for n in range(ITEMS)]
    assert there.payload.items.equals(here.payload.items) and there.payload.photos.equals(here.payload.photos)
    assert (there.embedded, there.refused) == (here.embedded, here.refused) and len(there.refused) == 4
    assert list(there.refused) == list(here.refused), "told in the same order"
    assert told == told_here == payload.photos.num_rows - 1, "what was carried is not embedded"
    assert list(kept) == list(kept_here) and len(kept) == there.embedded
    np.testing.assert_array_equal(kept[sha_of(9)], there.embeddings[10])


def of_items(numbers: list[int]) -> ItemPhotos:
    """Item k has the photos numbers[k], and with an even k the one after it too."""
    counts = [1 + (k % 2 == 0) for k in range(len(numbers))]
    shas = [sha_of(n + more) for n, count in zip(numbers, counts, strict=True) for more in range(count)]
    return ItemPhotos(np.concatenate([[0], np.cumsum(counts)]), np.arange(len(shas)), pa.array(shas))


def batches() -> Iterator[pa.RecordBatch]:
    """The photos as no item has them in order, one twice."""
    numbers = [*range(ITEMS - 1, -1, -2), *range(1, ITEMS, 2), 9]
    table = pa.table({"sha256": [sha_of(n) for n in numbers], "bytes": [content(n) for n in numbers]})
    yield from table.to_batches(max_chunksize=4)


NUMBERS = [4, 9, 15, 0, 11, 1, 6, 13, 10]


def test_features_of_items(workers: PhotoLoop, tmp_path: Path) -> None:
    classifier = ItemClassifier.open(classifier_export(tmp_path / "export"))

    def made(loop: PhotoLoop | None) -> tuple[dict[int, np.ndarray], dict[str, str]]:
        one = Pooling(of_items(NUMBERS), range(len(NUMBERS)), classifier, loop)
        rows = {
            row: feature
            for some in one.items(batches)
            for row, feature in zip(some.rows, some.features_NF, strict=True)
        }
        return rows, one.refused

    (here, refused_here), (there, refused) = made(None), made(workers)
    assert list(there) == list(here) and sorted(there) == list(range(len(NUMBERS)))
    for row, features in there.items():
        np.testing.assert_array_equal(features, here[row])
    assert refused == refused_here and set(refused) == {sha_of(0), sha_of(7), sha_of(16)}
    assert len({features.tobytes() for features in there.values()}) == len(NUMBERS), "all different"


def test_pixels_of_a_catalogue(
    workers: PhotoLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Decode, "block", 3)
    encoder = PhotoEncoder(12)
    with caplog.at_level(logging.WARNING):
        here, kept_here = decoded(of_items(NUMBERS), batches(), encoder)
        said = [record.getMessage() for record in caplog.records]
        caplog.clear()
        there, kept = decoded(of_items(NUMBERS), batches(), encoder, loop=workers)
    assert [record.getMessage() for record in caplog.records] == said and len(said) == 3
    np.testing.assert_array_equal(there, here)
    assert kept.tolist() == kept_here.tolist() and len(kept) == 14 - 3


def test_photos_to_learn_from(
    lake: Lake, workers: PhotoLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Decode, "block", 3)
    payload, encoder = gather(lake), PhotoEncoder(12, 1)
    told: list[int] = []
    with caplog.at_level(logging.WARNING):
        here = photo_set(payload.items, payload.photos, encoder, SplitConfig())
        there = photo_set(payload.items, payload.photos, encoder, SplitConfig(), told.append, workers)
    said = [record.getMessage() for record in caplog.records]
    assert said[:5] == said[5:] and len(said) == 10, "of each of the five items that do without"
    np.testing.assert_array_equal(there.pixels_NHWC, here.pixels_NHWC)
    assert there.item_ids == here.item_ids and len(there.item_ids) == 11
    assert there.photos == here.photos and sum(told) == 16
    assert there.labels_N.tolist() == here.labels_N.tolist()
    np.testing.assert_array_equal(there.pixels_NHWC[2], there.pixels_NHWC[8])
