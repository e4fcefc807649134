"""The photos of a catalogue as arrays: what an embedder or a classifier learns from."""

import hashlib
import logging
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import SplitConfig
from etalage.errors import TooLittleData
from etalage.features.photo import PhotoEncoder
from etalage.features.photo_blocks import Decode, PhotoLoop
from etalage.features.split_items import assign

log = logging.getLogger(__name__)
FEWEST_MATCHING = 50
"""Photos that a match threshold is calibrated on, at least, for them to be kept apart from others."""
_HASHED_AT_ONCE = 1024


@dataclass(frozen=True)
class PhotoSet:
    """One row a photo; all arrays have the length N."""

    item_ids: list[str]
    photos: list[bytes]
    """The files as they are in the lake; none where the pixels are on disk."""
    pixels_NHWC: np.ndarray
    """(N, H, W, C) uint8."""
    labels_N: np.ndarray
    """(N,) int64 into `categories`; -1 where the item has none."""
    categories: list[str]
    parts_N: np.ndarray
    """(N,) "train", "validation" or "test"."""

    def rows(self, *parts: str) -> np.ndarray:
        """Rows of these parts that have a category, (n,) int64."""
        return np.flatnonzero(np.isin(self.parts_N, parts) & (self.labels_N >= 0))

    def choosing(self) -> np.ndarray:
        """(n,) int64 validation photos by which a training chooses: an epoch, a head, a backbone."""
        validation = self.rows("validation")
        return np.setdiff1d(validation, self.matching()) if self.kept_apart else validation

    def matching(self) -> np.ndarray:
        """(n,) int64 validation photos by which the match threshold is calibrated. Half of them all, by a
        hash of the item's id, are kept apart for that and choose nothing, where there are enough for both."""
        validation = self.rows("validation")
        if not self.kept_apart:
            return validation
        drawn = [zlib.crc32(f"match {self.item_ids[row]}".encode()) % 2 for row in validation]
        return validation[np.array(drawn, dtype=bool)]

    @property
    def kept_apart(self) -> bool:
        """Whether the photos of `matching` choose nothing."""
        return len(self.rows("validation")) >= 2 * FEWEST_MATCHING

    def without(self, categories: set[str]) -> "PhotoSet":
        """The same photos with the training rows of these categories taken out of training: they go
        to the part "held out" (S0.7)."""
        hidden = np.array([name in categories for name in self.categories])
        parts = self.parts_N.astype("<U10")
        parts[(parts != "test") & (self.labels_N >= 0) & hidden[self.labels_N]] = "held out"
        return PhotoSet(self.item_ids, self.photos, self.pixels_NHWC, self.labels_N, self.categories, parts)


@dataclass(frozen=True)
class FeatureSet:
    """The same photos by features of a network that stays as it is."""

    photos: PhotoSet
    """Without pixels and files."""
    features_NF: np.ndarray
    """(N, F) float32."""
    sha256_N: list[str]
    """Of each photo's file."""

    @classmethod
    def of(cls, items: pa.Table, features_NF: np.ndarray, split: SplitConfig) -> "FeatureSet":
        """items: those whose photo the (N, F) features are of, with its `photo_sha256`."""
        photos = labelled(items, [], np.empty((items.num_rows, 0, 0, 0), np.uint8), split)
        return cls(photos, features_NF, items["photo_sha256"].to_pylist())

    def fingerprint(self) -> str:
        """A short hash of what is learned from: which photos, labels and parts."""
        digest = hashlib.sha256("".join(self.sha256_N).encode())
        digest.update(self.photos.labels_N.tobytes())
        digest.update("".join(self.photos.parts_N.tolist()).encode())
        return digest.hexdigest()[:16]


def photo_set(
    items: pa.Table,
    photos: pa.Table,
    encoder: PhotoEncoder,
    split: SplitConfig,
    progress: Callable[[int], None] | None = None,
    loop: PhotoLoop | None = None,
) -> PhotoSet:
    """Decode every photo of a bundle's payload.

    items: the payload of bundle.contents, `photo_sha256` null where an item has no photo;
    photos: sha256, bytes. A photo that cannot be decoded is left out, with a warning.
    loop: where they are decoded; None: in this process. Raises TooLittleData when no item has a photo.
    """
    items = items.filter(pc.is_valid(items["photo_sha256"]))
    files = dict(zip(photos["sha256"].to_pylist(), photos["bytes"].to_pylist(), strict=True))
    sources = [files[sha256] for sha256 in items["photo_sha256"].to_pylist()]
    pixels, good, refused = _decoded(sources, encoder, progress, loop or PhotoLoop())
    for reason in refused:
        log.warning("a photo is left out of training: %s", reason)
    if len(good) == 0:
        raise TooLittleData("no item has a photo that can be decoded; ingest photos first")
    return labelled(items.take(pa.array(good)), [sources[row] for row in good], pixels, split)


def labelled(items: pa.Table, files: list[bytes], pixels_NHWC: np.ndarray, split: SplitConfig) -> PhotoSet:
    """The set of these items, each with its photo. files: empty where the pixels are on disk."""
    found = items["category_id"].to_pylist()
    categories = sorted({name for name in found if name is not None})
    number = {name: place for place, name in enumerate(categories)}
    labels = np.array([number.get(name, -1) for name in found], dtype=np.int64)
    parts = assign(items, split)
    return PhotoSet(items["item_id"].to_pylist(), files, pixels_NHWC, labels, categories, parts)


def _decoded(
    photos: Sequence[bytes],
    encoder: PhotoEncoder,
    progress: Callable[[int], None] | None,
    loop: PhotoLoop,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """→ (n, H, W, C) of those that can be decoded, their (n,) places, why the others cannot."""
    work = Decode(encoder)
    pixels = np.empty((len(photos), encoder.size, encoder.size, encoder.channels), np.uint8)
    good: list[int] = []
    refused: list[str] = []
    blocks = ((at, photos[at : at + work.block]) for at in range(0, len(photos), work.block))
    for start, looked in loop.run(work, blocks, len(photos)):
        pixels[len(good) : len(good) + len(looked.good)] = looked.values
        good += (looked.good + start).tolist()
        refused += looked.refused.values()
        if progress is not None:
            progress(len(looked.good) + len(looked.refused))
    return pixels[: len(good)], np.array(good, np.int64), refused


def fingerprint(photos: PhotoSet) -> str:
    """A short hash of what a run learned from: pixels, labels and parts."""
    digest = hashlib.sha256()
    for start in range(0, len(photos.pixels_NHWC), _HASHED_AT_ONCE):  # they may not fit into memory
        digest.update(photos.pixels_NHWC[start : start + _HASHED_AT_ONCE].tobytes())
    digest.update(photos.labels_N.tobytes())
    digest.update("".join(photos.parts_N.tolist()).encode())
    return digest.hexdigest()[:16]
