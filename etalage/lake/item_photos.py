"""Which photos an item is seen by: the main one first, then by url, each file once.

N items   P photos that can be looked at, those of one item next to each other
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.lake.schema import PHOTO_OK


@dataclass(frozen=True)
class ItemPhotos:
    """The usable photos of N items: those of item n are at starts[n] … starts[n + 1], the main one first."""

    starts: np.ndarray
    """(N + 1,) int64."""
    places: np.ndarray
    """(P,) int64: where each is in the table that was asked."""
    sha256: pa.Array
    """(P,) text; two items may have the same file."""

    @property
    def counts(self) -> np.ndarray:
        """(N,) int64."""
        return np.diff(self.starts)

    @property
    def owners(self) -> np.ndarray:
        """(P,) int64 row of each one's item, rising."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def main(self) -> pa.Array:
        """(N,) sha256 of each item's main photo, null without one."""
        without = self.counts == 0
        if not len(self.sha256):
            return pa.nulls(len(without), pa.string())
        return self.sha256.take(pa.array(np.where(without, 0, self.starts[:-1]), mask=without))


def photos_of(items: pa.Table, facts: pa.Table, most: int | None = None) -> ItemPhotos:
    """The photos of `items` (item_id, photo_url), out of `facts` (item_id, url, status, sha256).

    The main one is that whose url is `photo_url`, the others follow by url; those of status ok alone. `most`:
    so many of an item, None: all.
    """
    usable = pc.and_(pc.equal(facts["status"], PHOTO_OK), pc.is_valid(facts["sha256"]))
    usable = pc.and_(usable, pc.is_in(facts["item_id"], value_set=flat(items["item_id"])))
    place = np.flatnonzero(flat(pc.fill_null(usable, False)).to_numpy(zero_copy_only=False))
    some = facts.take(pa.array(place))
    row = pc.index_in(some["item_id"], value_set=flat(items["item_id"]))
    rows = flat(row).to_numpy(zero_copy_only=False).astype(np.int64)
    named = flat(pc.fill_null(pc.equal(some["url"], items["photo_url"].take(row)), False))
    by_url = np.empty(len(rows), np.int64)
    by_url[pc.sort_indices(some["url"]).to_numpy()] = np.arange(len(rows))
    order = np.lexsort((by_url, ~named.to_numpy(zero_copy_only=False), rows))
    sha256 = flat(some["sha256"]).cast(pa.string())
    order = order[_first_of_each(rows[order], sha256.take(pa.array(order)))]
    counts = np.bincount(rows[order], minlength=items.num_rows)
    if most is not None:
        nth = np.arange(len(order)) - (np.cumsum(counts) - counts)[rows[order]]
        order, counts = order[nth < most], np.minimum(counts, most)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return ItemPhotos(starts, place[order], sha256.take(pa.array(order)))


def _first_of_each(rows: np.ndarray, sha256: pa.Array) -> np.ndarray:
    """Where each pair of an item's row and a file stands first, ascending."""
    codes = sha256.dictionary_encode().indices.to_numpy().astype(np.int64)
    _, first = np.unique(rows * (codes.max(initial=0) + 1) + codes, return_index=True)
    return np.sort(first)


def flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
