"""The features of items, averaged over their photos while the photos stream by: no photo is held for long.

N items   P photos   F features
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from etalage.errors import TableDamaged
from etalage.features.photo_blocks import BLOCK_PHOTOS, Looked, PhotoLoop, wanted_blocks
from etalage.lake.item_photos import ItemPhotos
from etalage.runtime.classifier import ItemClassifier

log = logging.getLogger(__name__)
ITEMS_AT_ONCE = 256
BEGUN_AT_ONCE = 50_000
"""Items of which some photos were seen and others are still to come; one more waits for the next pass."""


class Pooled(NamedTuple):
    """Some items, all of whose photos were seen."""

    rows: list[int]
    features_NF: np.ndarray
    """float32, the mean over an item's photos; zeros without one."""
    has_photo_N: np.ndarray


class Pooling:
    """One pass or more over the photos, until every item that was asked for is complete."""

    def __init__(
        self,
        photos: ItemPhotos,
        rows: Sequence[int] | np.ndarray,
        classifier: ItemClassifier,
        loop: PhotoLoop | None = None,
    ) -> None:
        """loop: where photos are looked at; None: in this process."""
        self.refused: dict[str, str] = {}
        """sha256 of a photo that cannot be decoded → why: its item does without."""
        self._classifier, self._loop = classifier, loop or PhotoLoop()
        self._owners: dict[str, list[int]] = {}
        self._left: dict[int, int] = {}
        self._without = []
        shas = photos.sha256.to_pylist()
        for row in map(int, rows):
            theirs = (
                shas[photos.starts[row] : photos.starts[row + 1]] if classifier.encoder is not None else []
            )
            if theirs:
                self._left[row] = len(theirs)
            else:
                self._without.append(row)
            for sha in theirs:
                self._owners.setdefault(sha, []).append(row)
        self._sums: dict[int, tuple[np.ndarray, int]] = {}
        self._done: list[int] = []

    def items(self, read: Callable[[], Iterable[pa.RecordBatch]]) -> Iterator[Pooled]:
        """`read` begins a pass over all photos: (sha256, bytes). Raises TableDamaged: one is nowhere."""
        for start in range(0, len(self._without), ITEMS_AT_ONCE):
            some = self._without[start : start + ITEMS_AT_ONCE]
            zeros = np.zeros((len(some), self._classifier.dimension), np.float32)
            yield Pooled(some, zeros, np.zeros(len(some), bool))
        while self._owners:
            before = sum(self._left.values())
            blocks = wanted_blocks(read(), set(self._owners), BLOCK_PHOTOS)
            look = self._loop.run(self._classifier.shared(), blocks, len(self._owners), self._classifier.look)
            for names, looked in look:
                self._take(names, looked)
                while len(self._done) >= ITEMS_AT_ONCE:
                    yield self._complete()
            if self._owners and sum(self._left.values()) == before:
                name = next(iter(self._owners))
                raise TableDamaged(
                    f"table photos: no bytes for the photo with SHA-256 {name}; ingest it again"
                )
        while self._done:
            yield self._complete()

    def _take(self, names: list[str], looked: Looked) -> None:
        for place, feature_F in zip(looked.good.tolist(), looked.values, strict=True):
            self._give(names[place], feature_F)
        for place, why in looked.refused.items():
            self.refused[names[place]] = why
            log.warning("photo %s is left out: %s", names[place][:12], why)
            self._give(names[place], None)

    def _give(self, sha: str, feature_F: np.ndarray | None) -> None:
        waiting = []
        for row in self._owners.pop(sha):
            begun = self._sums.get(row)
            if begun is None and self._left[row] > 1 and len(self._sums) - len(self._done) >= BEGUN_AT_ONCE:
                waiting.append(row)
                continue
            total, count = begun or (np.zeros(self._classifier.dimension, np.float32), 0)
            self._sums[row] = (total, count) if feature_F is None else (total + feature_F, count + 1)
            self._left[row] -= 1
            if self._left[row] == 0:
                del self._left[row]
                self._done.append(row)
        if waiting:
            self._owners[sha] = waiting

    def _complete(self) -> Pooled:
        rows, self._done = self._done[:ITEMS_AT_ONCE], self._done[ITEMS_AT_ONCE:]
        sums = [self._sums.pop(row) for row in rows]
        features_NF = np.stack([total / max(count, 1) for total, count in sums]).astype(np.float32)
        return Pooled(rows, features_NF, np.array([count > 0 for _, count in sums], bool))
