"""The features of items while their photos stream by, against all of them at once."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from etalage.bundle import pooling
from etalage.bundle.pooling import Pooling
from etalage.errors import TableDamaged
from etalage.lake.item_photos import ItemPhotos
from etalage.runtime.classifier import ItemClassifier
from tests.category_exports import classifier_export, coloured

OWN = [["p0", "p1"], [], ["p2"], ["p1", "p3", "p4"], ["bad"], ["bad", "p5"]]
"""Photos of six items; p1 is of two, `bad` is no image."""


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> ItemClassifier:
    return ItemClassifier.open(classifier_export(tmp_path_factory.mktemp("export") / "0001-tiny"))


def content(sha: str) -> bytes:
    return b"no image" if sha == "bad" else coloured(("300", "301", "21", "50")[int(sha[1]) % 4], int(sha[1]))


def batches(order: list[str]) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(order), 2):
        some = order[start : start + 2]
        photos = [None if sha.endswith("?") else content(sha) for sha in some]
        yield pa.record_batch(
            {"sha256": [sha.rstrip("?") for sha in some], "bytes": pa.array(photos, pa.binary())}
        )


def photos() -> ItemPhotos:
    counts = [len(some) for some in OWN]
    return ItemPhotos(
        np.concatenate([[0], np.cumsum(counts)]),
        np.arange(sum(counts)),
        pa.array([sha for some in OWN for sha in some], pa.string()),
    )


def gathered(
    classifier: ItemClassifier, order: list[str], rows: list[int]
) -> tuple[Pooling, dict[int, np.ndarray]]:
    one, found = Pooling(photos(), rows, classifier), {}
    for some in one.items(lambda: batches(order)):
        for row, features, there in zip(some.rows, some.features_NF, some.has_photo_N, strict=True):
            assert row not in found and there == bool(features.any())
            found[row] = features
    return one, found


def expected(classifier: ItemClassifier, row: int) -> np.ndarray:
    good = [content(sha) for sha in OWN[row] if sha != "bad"]
    if not good:
        return np.zeros(classifier.dimension, np.float32)
    pixels, _, _ = classifier.encoder.decode_some(good)
    return classifier.features(pixels).mean(axis=0)


EVERY = ["p5", "p4?", "p3", "p1", "p0", "bad", "p2", "p4", "p1"]


@pytest.mark.parametrize("begun", [1, 50_000])
@pytest.mark.parametrize("at_once", [1, 3, 64])
def test_every_item_gets_the_mean_of_its_own_photos(
    classifier: ItemClassifier, monkeypatch: pytest.MonkeyPatch, begun: int, at_once: int
) -> None:
    monkeypatch.setattr(pooling, "BEGUN_AT_ONCE", begun)
    monkeypatch.setattr(pooling, "BLOCK_PHOTOS", at_once)
    monkeypatch.setattr(pooling, "ITEMS_AT_ONCE", 2)
    one, found = gathered(classifier, EVERY, [0, 1, 2, 3, 4, 5])
    assert sorted(found) == [0, 1, 2, 3, 4, 5]
    for row, features in found.items():
        np.testing.assert_allclose(features, expected(classifier, row), atol=1e-5)
    assert list(one.refused) == ["bad"] and "not an image" in one.refused["bad"]


def test_only_the_items_that_are_asked_for_are_looked_at(classifier: ItemClassifier) -> None:
    _, found = gathered(classifier, ["p2", "p0", "p1"], [2, 0])
    assert sorted(found) == [0, 2]


def test_a_photo_that_is_nowhere_is_named(classifier: ItemClassifier) -> None:
    with pytest.raises(TableDamaged, match="no bytes for the photo with SHA-256 p4; ingest it again"):
        gathered(classifier, ["p5", "p3", "p1", "p0", "bad", "p2", "p4?"], [0, 1, 2, 3, 4, 5])
