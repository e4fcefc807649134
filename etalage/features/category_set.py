"""The catalogue as a classifier learns it: photos or ready features, titles, and labels in the taxonomy.

N items   P photos   H W height and width in pixels   F features   L leaves   D depth of the taxonomy
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from etalage.lake.taxonomy import Taxonomy


@dataclass(frozen=True)
class CategorySet:
    """An item has any number of photos, a title, or both. Arrays of P are in the order of their items.

    Photos are given as pixels, or as ready features of a network that stays as it is: one of them.
    """

    item_ids: Sequence[str]
    taxonomy: Taxonomy
    """Cut as it is to be learned."""
    labels_N: np.ndarray
    """(N,) int64 rows of the taxonomy, -1 = none. A row above the leaves is a label that is known so far."""
    parts_N: np.ndarray
    """(N,) "train", "validation" or "test"."""
    titles: Sequence[str | None]
    owners_P: np.ndarray
    """(P,) int64, rising: the item of each photo."""
    pixels_PHWC: np.ndarray | None = None
    """(P, H, W, 3) uint8."""
    features_PF: np.ndarray | None = None
    """(P, F) float32 or float16."""
    weak_N: np.ndarray | None = None
    """(N,) bool: the label was read from a merchant's text. None: no label is weak."""
    sha256_P: Sequence[str] = ()
    frozen_PF: np.ndarray | None = None
    """(P, F) float32 beside the pixels: what the backbone makes of photos as its weights came, kept from
    before; rows of NaN where it was not asked. None: nothing is kept."""

    def __len__(self) -> int:
        return len(self.labels_N)

    @cached_property
    def leaf_N(self) -> np.ndarray:
        """(N,) int64 place among the taxonomy's leaves; -1: no label, or one above the leaves."""
        place = np.full(len(self.taxonomy.ids) + 1, -1, dtype=np.int64)
        place[self.taxonomy.leaves_L] = np.arange(len(self.taxonomy.leaves_L))
        return place[self.labels_N]

    @cached_property
    def targets_ND(self) -> np.ndarray:
        """(N, D) int64: the item's place in each level (Taxonomy.at_level); -1 where it is not known."""
        depth = self.taxonomy.depth
        table = np.full((len(self.taxonomy.ids) + 1, depth), -1, dtype=np.int64)  # the last row: no label
        for level in range(1, depth + 1):
            rows_K, _ = self.taxonomy.at_level(level)
            place = {int(row): n for n, row in enumerate(rows_K)}
            for row in np.unique(self.labels_N[self.labels_N >= 0]):
                table[row, level - 1] = place.get(self.taxonomy.ancestor(int(row), level), -1)
        return table[self.labels_N]

    @cached_property
    def has_photo_N(self) -> np.ndarray:
        """(N,) bool."""
        there = np.zeros(len(self), dtype=bool)
        there[self.owners_P] = True
        return there

    def rows(self, *parts: str, leaf: bool = False) -> np.ndarray:
        """(n,) int64 items of these parts that have a label; leaf: a sure one at a leaf, to be judged by."""
        known = (self.leaf_N if leaf else self.labels_N) >= 0
        if leaf and self.weak_N is not None:
            known = known & ~self.weak_N
        return np.flatnonzero(np.isin(self.parts_N, parts) & known)

    def photos_of(self, rows: np.ndarray) -> np.ndarray:
        """(p,) int64 photos of these items."""
        chosen = np.zeros(len(self), dtype=bool)
        chosen[rows] = True
        return np.flatnonzero(chosen[self.owners_P])

    def means(self, values_PF: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(p, F) of `photos_of(rows)` → (n, F) float32 of these items, rising: the mean of its photos."""
        place = np.full(len(self), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        return mean_by_owner(values_PF, place[self.owners_P[self.photos_of(rows)]], len(rows))

    def with_features(self, features_PF: np.ndarray) -> "CategorySet":
        """The same items by ready features instead of pixels."""
        return replace(self, pixels_PHWC=None, features_PF=features_PF)

    def fingerprint(self) -> str:
        """A short hash of what a run learns from."""
        digest = hashlib.sha256(self.taxonomy.version.encode())
        for array in (self.labels_N, self.owners_P, self.pixels_PHWC, self.features_PF, self.weak_N):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).data)
        digest.update("\0".join(self.parts_N.tolist()).encode())
        digest.update("\0".join(title or "" for title in self.titles).encode())
        return digest.hexdigest()[:16]


def mean_by_owner(values_PF: np.ndarray, owners_P: np.ndarray, count: int) -> np.ndarray:
    """(P, F) by photo, owners rising → (count, F) float32 by item: the mean of its photos, zeros without."""
    means = np.zeros((count, values_PF.shape[1]), dtype=np.float32)
    if len(owners_P):
        starts = np.flatnonzero(np.diff(owners_P, prepend=-1))
        sums = np.add.reduceat(values_PF, starts, axis=0, dtype=np.float32)
        means[owners_P[starts]] = sums / np.diff(starts, append=len(owners_P))[:, None]
    return means


def shares(labels_N: np.ndarray, count: int) -> np.ndarray:
    """(count,) float32: how often each label is among those that are not -1, with one of each for a start."""
    found = np.bincount(labels_N[labels_N >= 0], minlength=count) + 1.0
    return (found / found.sum()).astype(np.float32)
