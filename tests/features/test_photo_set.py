"""Photos of a catalogue as arrays."""

import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from etalage.config import SplitConfig
from etalage.errors import TooLittleData
from etalage.features.photo import PhotoEncoder
from etalage.features.photo_set import PhotoSet, fingerprint, photo_set


def grey(level: int) -> bytes:
    sink = io.BytesIO()
    Image.new("L", (4, 4), level).save(sink, "PNG")
    return sink.getvalue()


def tables(levels: list[int | None], categories: list[str | None]) -> tuple[pa.Table, pa.Table]:
    items = pa.table(
        {
            "item_id": [f"i{n}" for n in range(len(levels))],
            "category_id": pa.array(categories, pa.string()),
            "attributes": pa.array([None] * len(levels), pa.string()),
            "photo_sha256": pa.array([None if v is None else f"sha{v}" for v in levels], pa.string()),
        }
    )
    known = sorted({v for v in levels if v is not None}, reverse=True)
    photos = pa.table({"sha256": [f"sha{v}" for v in known], "bytes": [grey(v) for v in known]})
    return items, photos


def read(levels: list[int | None], categories: list[str | None]) -> PhotoSet:
    return photo_set(*tables(levels, categories), PhotoEncoder(4, 1), SplitConfig(validation=0, test=0))


def test_items_without_a_photo_are_left_out_and_rows_stay_together() -> None:
    found = read([10, None, 30, 10], ["b", "b", "a", None])
    assert found.item_ids == ["i0", "i2", "i3"]
    assert found.pixels_NHWC[:, 0, 0, 0].tolist() == [10, 30, 10]
    assert found.categories == ["a", "b"]
    assert found.labels_N.tolist() == [1, 0, -1]


def test_a_photo_without_a_category_is_in_no_part_that_is_learned_from() -> None:
    assert read([10, 30, 20], ["b", "a", None]).rows("train").tolist() == [0, 1]


def test_a_photo_that_cannot_be_decoded_is_left_out() -> None:
    items, photos = tables([10, 20, 30], ["a", "b", "c"])
    broken = photos.set_column(1, "bytes", pa.array([grey(30), b"broken", grey(10)]))
    found = photo_set(items, broken, PhotoEncoder(4, 1), SplitConfig())
    assert found.item_ids == ["i0", "i2"]
    assert found.categories == ["a", "c"]


def test_held_out_categories_leave_training_alone() -> None:
    whole = read([10, 20, 30, 40, 50], ["a", "b", "a", "c", None])
    parts = np.array(["train", "train", "test", "validation", "train"])
    part = PhotoSet(whole.item_ids, whole.photos, whole.pixels_NHWC, whole.labels_N, whole.categories, parts)
    without = part.without({"a", "c"})
    assert without.parts_N.tolist() == ["held out", "train", "test", "held out", "train"]
    assert without.rows("train").tolist() == [1]


def test_no_photo_at_all_is_too_little() -> None:
    with pytest.raises(TooLittleData, match="no item has a photo"):
        read([None, None], ["a", "b"])


def test_the_fingerprint_follows_pixels_labels_and_parts() -> None:
    one = read([10, 20, 30], ["a", "b", "a"])
    assert fingerprint(one) == fingerprint(read([10, 20, 30], ["a", "b", "a"]))
    assert fingerprint(one) != fingerprint(read([10, 20, 31], ["a", "b", "a"]))
    assert fingerprint(one) != fingerprint(read([10, 20, 30], ["a", "a", "b"]))
    assert fingerprint(one) != fingerprint(one.without({"b"}))


def test_photos_that_a_threshold_is_calibrated_on_choose_nothing() -> None:
    parts = np.array(["validation", "train"] * 150)
    pixels = np.zeros((300, 1, 1, 1), np.uint8)
    some = PhotoSet([f"i{n}" for n in range(300)], [], pixels, np.zeros(300, np.int64), ["a"], parts)
    choosing, matching = some.choosing(), some.matching()
    assert some.kept_apart
    assert not set(choosing) & set(matching)
    assert sorted([*choosing, *matching]) == some.rows("validation").tolist()
    assert 50 < len(matching) < 100


def test_of_few_validation_photos_none_is_kept_apart() -> None:
    parts = np.array(["validation", "train"] * 20)
    pixels = np.zeros((40, 1, 1, 1), np.uint8)
    some = PhotoSet([f"i{n}" for n in range(40)], [], pixels, np.zeros(40, np.int64), ["a"], parts)
    assert not some.kept_apart
    assert some.choosing().tolist() == some.matching().tolist() == some.rows("validation").tolist()
