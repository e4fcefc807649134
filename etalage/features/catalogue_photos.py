"""The pixels of a catalogue's photos, as a classifier learns from them.

P photos   H W height and width in pixels
"""

import logging
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa

from etalage.features.photo import PhotoEncoder
from etalage.features.photo_blocks import Decode, PhotoLoop, wanted_blocks
from etalage.lake.item_photos import ItemPhotos

log = logging.getLogger(__name__)


def decoded(
    photos: ItemPhotos,
    batches: Iterable[pa.RecordBatch],
    encoder: PhotoEncoder,
    progress: Callable[[int], None] | None = None,
    loop: PhotoLoop | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """→ (p, H, W, 3) uint8 of those that can be decoded, and (p,) int64 which of the P they are, rising.

    batches: (sha256, bytes), streamed; a file that several items have is decoded once. The others are left
    out, with a warning. loop: where they are decoded; None: in this process.
    """
    count = len(photos.sha256)
    pixels = np.empty((count, encoder.size, encoder.size, encoder.channels), np.uint8)
    good = np.zeros(count, dtype=bool)
    for places, some in _blocks(photos, batches, encoder, progress, loop):
        for of_file, one in zip(places, some, strict=True):
            pixels[of_file], good[of_file] = one, True
    kept = np.flatnonzero(good)
    return (pixels if len(kept) == len(pixels) else pixels[kept]), kept


def layouts(
    photos: ItemPhotos,
    batches: Iterable[pa.RecordBatch],
    encoder: PhotoEncoder,
    progress: Callable[[int], None] | None = None,
    loop: PhotoLoop | None = None,
) -> np.ndarray:
    """(P, 64 · C) float32 `layout` of each photo, zeros of those that cannot be decoded; arguments as of
    `decoded`. The pixels of one block are in memory at a time."""
    every = np.zeros((len(photos.sha256), LAYOUT * LAYOUT * encoder.channels), np.float32)
    for places, some in _blocks(photos, batches, encoder, progress, loop):
        for of_file, one in zip(places, layout(some), strict=True):
            every[of_file] = one
    return every


def _blocks(
    photos: ItemPhotos,
    batches: Iterable[pa.RecordBatch],
    encoder: PhotoEncoder,
    progress: Callable[[int], None] | None,
    loop: PhotoLoop | None,
) -> Iterator[tuple[list[list[int]], np.ndarray]]:
    """Those that can be decoded, some at a time: the places that each has among the P, and (n, H, W, C)."""
    places: dict[str, list[int]] = {}
    for place, sha256 in enumerate(photos.sha256.to_pylist()):
        places.setdefault(sha256, []).append(place)
    found = 0
    work = Decode(encoder)
    blocks = wanted_blocks(batches, set(places), work.block)
    for names, looked in (loop or PhotoLoop()).run(work, blocks, len(places)):
        yield [places[names[row]] for row in looked.good], looked.values
        for reason in looked.refused.values():
            log.warning("a photo is left out: %s", reason)
        found += len(names)
        if progress is not None:
            progress(len(names))
    if without := len(places) - found:
        log.warning("%d photos are left out: the table `photos` has no bytes of them", without)


LAYOUT = 8


def layout(pixels_PHWC: np.ndarray) -> np.ndarray:
    """(P, H, W, C) uint8 → (P, 64 · C) float32 of length 1: which colours lie where, on a grid of 8 × 8.

    Zeros for a photo of one colour. What near-duplicates and bursts are told by: it depends on nothing that
    is trained, so a split stays the same from model to model.
    """
    count, height, width, channels = pixels_PHWC.shape
    rows, columns = (np.linspace(0, side, LAYOUT, endpoint=False).astype(int) for side in (height, width))
    tall, wide = np.diff(rows, append=height), np.diff(columns, append=width)
    cells = np.empty((count, LAYOUT, LAYOUT, channels), np.float32)
    for start in range(0, count, 256):
        part = pixels_PHWC[start : start + 256].astype(np.float32)
        cells[start : start + 256] = np.add.reduceat(np.add.reduceat(part, rows, axis=1), columns, axis=2)
    cells /= (tall[:, None, None] * wide[:, None]).astype(np.float32)
    flat = cells.reshape(count, LAYOUT * LAYOUT * channels)
    flat -= flat.mean(axis=1, keepdims=True)
    found: np.ndarray = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return found
