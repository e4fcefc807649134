"""Photos of a catalogue become pixels once each, streamed; their layout tells duplicates."""

import itertools
import logging
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from etalage.features.catalogue_photos import LAYOUT, decoded, layout
from etalage.features.photo import PhotoEncoder
from etalage.lake.item_photos import ItemPhotos
from tests.category_sets import SIDE, leaves, photos
from tests.stripes import png

ENCODER = PhotoEncoder(SIDE)


def of_items(names: list[str]) -> ItemPhotos:
    """One item has all of them: whose they are does not matter here."""
    return ItemPhotos(np.array([0, len(names)]), np.arange(len(names)), pa.array(names, pa.string()))


def batches(files: dict[str, bytes | None], size: int = 2) -> Iterator[pa.RecordBatch]:
    table = pa.table(
        {"sha256": pa.array(list(files), pa.string()), "bytes": pa.array(list(files.values()), pa.binary())}
    )
    yield from table.to_batches(max_chunksize=size)


def drawn(count: int) -> np.ndarray:
    return photos(leaves(count))


def test_every_photo_has_its_own_pixels_in_whatever_order_files_come() -> None:
    pixels = drawn(5)
    files = {f"f{n}": png(pixels[n]) for n in (3, 0, 4, 2, 1)}
    found, kept = decoded(of_items(["f0", "f1", "f2", "f3", "f4"]), batches(files), ENCODER)
    assert np.array_equal(found, pixels) and kept.tolist() == [0, 1, 2, 3, 4]


def test_a_file_of_several_items_is_decoded_once() -> None:
    pixels, told = drawn(2), []
    files = {"a": png(pixels[0]), "unasked": b"no photo", "b": png(pixels[1])}
    found, kept = decoded(of_items(["b", "a", "b", "b"]), batches(files), ENCODER, told.append)
    assert np.array_equal(found, pixels[[1, 0, 1, 1]]) and kept.tolist() == [0, 1, 2, 3]
    assert sum(told) == 2


def test_what_cannot_be_decoded_or_is_not_there_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    pixels = drawn(3)
    files = {"good": png(pixels[0]), "broken": png(pixels[1])[:90], "null": None, "last": png(pixels[2])}
    with caplog.at_level(logging.WARNING):
        found, kept = decoded(
            of_items(["broken", "good", "null", "gone", "last", "good"]), batches(files, 1), ENCODER
        )
    assert kept.tolist() == [1, 4, 5]
    assert np.array_equal(found, pixels[[0, 2, 0]])
    assert caplog.text.count("a photo is left out") == 1
    assert "2 photos are left out: the table `photos` has no bytes of them" in caplog.text


def test_reading_stops_when_all_are_there() -> None:
    read: list[int] = []

    def watched() -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(batches({f"f{n}": png(one) for n, one in enumerate(drawn(4))}, 1)):
            read.append(number)
            yield batch

    decoded(of_items(["f1", "f0"]), watched(), ENCODER)
    assert read == [0, 1]
    assert decoded(of_items([]), watched(), ENCODER)[0].shape == (0, SIDE, SIDE, 3)
    assert read == [0, 1]


def test_grey_photos_have_one_channel() -> None:
    found, _ = decoded(of_items(["a"]), batches({"a": png(drawn(1)[0])}), PhotoEncoder(12, 1, "stretch"))
    assert found.shape == (1, 12, 12, 1)


# -- layout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [8, 32, 37])
def test_a_layout_is_the_mean_colour_of_each_cell(side: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (3, side, side, 3), np.uint8)
    found = layout(pixels)
    assert found.shape == (3, 3 * LAYOUT**2) and found.dtype == np.float32
    edges = [int(edge) for edge in np.linspace(0, side, LAYOUT, endpoint=False)] + [side]
    spans = [slice(*pair) for pair in itertools.pairwise(edges)]
    cells = np.array(
        [
            [one[down, across].mean((0, 1)) for down in spans for across in spans]
            for one in pixels.astype(float)
        ]
    ).reshape(3, -1)
    cells -= cells.mean(1, keepdims=True)
    assert np.allclose(found, cells / np.linalg.norm(cells, axis=1, keepdims=True), atol=1e-5)


def test_the_same_view_in_another_light_and_size_is_near_another_view_is_not() -> None:
    pixels = drawn(40)
    larger = np.repeat(np.repeat(pixels, 2, axis=1), 2, axis=2)
    dimmer = (larger * 0.7 + 20).astype(np.uint8)
    near = layout(pixels) @ layout(dimmer).T
    assert np.diag(near).min() > 0.99
    assert (near.argmax(axis=1) == np.arange(40)).all()
    mirrored, turned = layout(pixels[:, :, ::-1]), layout(pixels.transpose(0, 2, 1, 3))
    assert float((layout(pixels) * mirrored).sum(1).mean()) < 0.95
    assert float((layout(pixels) * turned).sum(1).mean()) < 0.95


def test_a_photo_of_one_colour_is_like_none() -> None:
    plain = np.full((2, 16, 16, 3), 200, np.uint8)
    assert not layout(plain).any()
    assert layout(plain[:0]).shape == (0, 192)


def test_more_photos_than_are_worked_on_at_once() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (300, 8, 8, 3), np.uint8)
    assert np.allclose(layout(pixels)[[0, 255, 256, 299]], layout(pixels[[0, 255, 256, 299]]))
