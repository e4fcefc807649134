"""The demo shop's photos: drawn by code, the same everywhere, neither trivial nor hopeless to tell apart."""

import hashlib
import io
from random import Random

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from etalage.demo import drawn, tables
from etalage.demo.categories import leaves
from etalage.demo.facts import facts
from etalage.demo.sketch import curve, mirrored
from etalage.demo.tables import DemoSize
from etalage.lake.schema import TABLES

SIZE = DemoSize(items=1_000, shoppers=1, seed=7)


@pytest.fixture(scope="module")
def photos() -> pa.Table:
    return pa.concat_tables(tables.photos(SIZE, workers=2))


@pytest.fixture(scope="module")
def pixels(photos: pa.Table) -> np.ndarray:
    """(N, 32, 32, 3) float32."""
    small = [
        np.asarray(Image.open(io.BytesIO(photo)).resize((32, 32), Image.Resampling.BOX))
        for photo in photos["bytes"].to_pylist()
    ]
    return np.stack(small).astype(np.float32)


def test_photos_have_exactly_the_columns_of_the_photos_table(photos: pa.Table) -> None:
    assert photos.schema.equals(TABLES["photos"].schema)
    assert photos["item_id"].to_pylist() == [f"i{n:06d}" for n in range(1_000)]
    assert set(photos["status"].to_pylist()) == {"ok"}


def test_each_item_has_the_photo_that_it_names(photos: pa.Table) -> None:
    assert photos["url"].to_pylist() == tables.catalogue(SIZE)["photo_url"].to_pylist()


def test_every_photo_decodes_to_its_stated_size_and_hash(photos: pa.Table) -> None:
    for row in photos.slice(0, 120).to_pylist():
        image = Image.open(io.BytesIO(row["bytes"]))
        image.load()
        assert (image.format, image.mode) == ("JPEG", "RGB")
        assert image.size == (row["width"], row["height"]) == (192, 192)
        assert hashlib.sha256(row["bytes"]).hexdigest() == row["sha256"]
    sizes = [len(photo) for photo in photos["bytes"].to_pylist()]
    assert 2_000 < np.mean(sizes) < 10_000


def test_no_two_items_share_a_photo(photos: pa.Table) -> None:
    assert len(set(photos["sha256"].to_pylist())) == 1_000


def test_a_photo_does_not_depend_on_the_shop_s_size_nor_on_which_process_drew_it(photos: pa.Table) -> None:
    alone = drawn.drawn(7, (731, 734))
    assert [one.photo for one in alone] == photos["bytes"].to_pylist()[731:734]
    assert [one.phash for one in alone] == photos["phash"].to_pylist()[731:734]


def test_another_seed_draws_other_photos(photos: pa.Table) -> None:
    assert drawn.drawn(8, (3, 4))[0].photo != photos["bytes"][3].as_py()


def test_progress_adds_up_to_the_number_of_items() -> None:
    seen: list[int] = []
    rows = sum(table.num_rows for table in tables.photos(DemoSize(130, 1, seed=1), seen.append, workers=1))
    assert rows == 130
    assert seen == [100, 30]


def test_every_product_lies_inside_its_photo_on_a_light_background(pixels: np.ndarray) -> None:
    rim = np.concatenate([pixels[:, 0], pixels[:, -1]], axis=1)
    assert np.median(rim) > 200
    middle = pixels[:, 8:24, 8:24].reshape(len(pixels), -1)
    assert (middle.std(axis=1) > 4).mean() > 0.99


def test_raw_pixels_find_the_category_sometimes_but_far_from_always(pixels: np.ndarray) -> None:
    labels = facts(7, np.arange(len(pixels), dtype=np.int64)).leaf
    flat = pixels.reshape(len(pixels), -1)
    flat = flat - flat.mean(axis=0)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    likeness = flat @ flat.T
    np.fill_diagonal(likeness, -np.inf)
    accuracy = (labels[likeness.argmax(axis=1)] == labels).mean()
    chance = ((np.bincount(labels) / len(labels)) ** 2).sum()
    assert chance < 0.03
    assert 0.2 < accuracy < 0.6


def test_every_leaf_can_be_drawn_many_times_with_finite_outlines() -> None:
    for leaf in leaves():
        sizes = set()
        for seed in range(8):
            sketch = leaf.sketch(Random(seed))
            assert all(np.isfinite(stroke.points).all() for stroke in sketch.strokes)
            assert any(stroke.kind == "mark" for stroke in sketch.strokes)
            sizes.add(round(float(sum(np.abs(stroke.points).sum() for stroke in sketch.strokes)), 6))
        assert len(sizes) == 8, leaf.path


def test_an_outline_is_straight_between_corners_and_passes_its_smooth_points() -> None:
    square = curve([(0, 0), (2, 0), (2, 1), (0, 1)])
    assert square[:, 0].min() == 0
    assert square[:, 0].max() == 2
    assert set(np.round(square[square[:, 0] == 1][:, 1], 9)) <= {0.0, 1.0}
    arch = curve([(0, 0), (1, -1, 1), (2, 0)], closed=False)
    assert np.abs(arch - [1, -1]).sum(axis=1).min() < 1e-9
    assert arch[-1].tolist() == [2, 0]


def test_a_mirrored_outline_does_not_repeat_its_middle() -> None:
    assert mirrored([(0, 0, 1), (3, 1), (0, 2)]) == [(0, 0, 1), (3, 1), (0, 2), (-3, 1)]
