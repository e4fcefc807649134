"""The contract of a retriever, and the search in an index among allowed items.

    B queries   N items   Q quota   D embedding dimension

Item rows are those of a vocabulary, and of every index: 0 = none, items have 1 … N. `allow` is a (N + 1,)
mask: allow[r] says whether row r may be found; allow[0] is False.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from etalage.features.behaviour import Queries
from etalage.index import Index

MOSTLY = 0.1
"""If at least this share of the items is allowed, a search without the mask asks for more and drops what is
not allowed: it finds the same without looking up every item in the mask. Queries that it leaves short are
searched again with the mask."""
SCORED_ALL = 32_768
"""Up to this many allowed items are all scored, which is faster than searching every list for them."""


class Hits(NamedTuple):
    """What one retriever found, best first; then 0 and -inf."""

    rows: np.ndarray
    """(B, Q) int64."""
    scores: np.ndarray
    """(B, Q) float32."""


class Excluded:
    """Items that must not be found for single queries: above all those already seen."""

    def __init__(self, rows: Sequence[np.ndarray], items: int) -> None:
        """`rows`: the excluded item rows of each query; `items`: N + 1."""
        self._items = items
        unique = [np.unique(some[some > 0]) for some in rows]
        self.most = max(map(len, unique), default=0)
        owners = np.repeat(np.arange(len(unique)), [len(some) for some in unique])
        self._keys = owners * items + np.concatenate([*unique, np.empty(0, np.int64)]).astype(np.int64)
        self.rows = unique

    @classmethod
    def none(cls, queries: int) -> "Excluded":
        return cls([np.empty(0, np.int64)] * queries, 1)

    def holds(self, owners: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Which of these (query, row) pairs are excluded; the shape of `rows`."""
        if self.most == 0:
            return np.zeros(np.broadcast_shapes(owners.shape, rows.shape), bool)
        keys = owners * self._items + rows
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.asarray(self._keys[at] == keys)

    def of(self, queries: np.ndarray) -> "Excluded":
        """The exclusions of some of the queries, renumbered from 0."""
        return Excluded([self.rows[query] for query in queries], self._items)


class Retriever(Protocol):
    name: str

    def knows(self, queries: Queries) -> np.ndarray:
        """(B,) bool: whether it can say more about this shopper than about a stranger."""
        ...

    def find(self, queries: Queries, quota: int, allow: np.ndarray | None, excluded: Excluded) -> Hits:
        """The `quota` best allowed items for each query; fewer only if it finds no more."""
        ...

    def votes(self, acts: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
        """(K, H) how much each act's item (H,), newest last, recommends each item (K,); None: it does not use
        single acts."""
        ...


def searched(
    index: Index,
    embeddings: np.ndarray,
    queries: np.ndarray,
    quota: int,
    allow: np.ndarray | None,
    excluded: Excluded,
) -> Hits:
    """Search the `quota` best allowed items for (B, D) queries; `embeddings` (N + 1, D) are those in the
    index."""
    wanted = min(quota + excluded.most, len(index))
    if wanted == 0 or len(queries) == 0:
        return nothing(len(queries), quota)
    if allow is None:
        found = index.search(queries, wanted)
        return kept(Hits(np.maximum(found.rows, 0), found.scores), excluded, quota)
    count = int(np.count_nonzero(allow))
    wide = int(1.2 * wanted * len(allow) / max(count, 1)) + 16
    mostly = count >= MOSTLY * len(allow) and wide < len(index)
    if count <= SCORED_ALL and not index.is_exact and not mostly:
        return _scored_all(index, embeddings, queries, quota, allow, excluded)
    if index.is_exact or index.filters_itself or not mostly:
        found = index.search(queries, wanted, allow)
        return kept(Hits(np.maximum(found.rows, 0), found.scores), excluded, quota)
    plain = index.search(queries, wide)
    brought = kept(Hits(np.maximum(plain.rows, 0), plain.scores), excluded, quota, allow)
    short = np.flatnonzero((brought.rows > 0).sum(axis=1) < quota)
    if len(short):
        found = index.search(queries[short], wanted, allow)
        again = kept(Hits(np.maximum(found.rows, 0), found.scores), excluded.of(short), quota)
        brought.rows[short], brought.scores[short] = again
    return brought


def _scored_all(
    index: Index,
    embeddings: np.ndarray,
    queries: np.ndarray,
    quota: int,
    allow: np.ndarray,
    excluded: Excluded,
) -> Hits:
    rows = np.flatnonzero(allow)
    if len(index) < len(allow):
        at = np.minimum(np.searchsorted(index.rows, rows), len(index) - 1)
        rows = rows[index.rows[at] == rows]
    wanted = min(quota + excluded.most, len(rows))
    if wanted == 0:
        return nothing(len(queries), quota)
    scores = np.asarray(queries, np.float32) @ np.asarray(embeddings[rows], np.float32).T
    best = np.argpartition(-scores, wanted - 1, axis=1)[:, :wanted]
    found = np.take_along_axis(scores, best, axis=1)
    order = np.lexsort((best, -found))
    best, found = np.take_along_axis(best, order, 1), np.take_along_axis(found, order, 1)
    return kept(Hits(rows[best], found), excluded, quota)


def kept(brought: Hits, excluded: Excluded, quota: int, allow: np.ndarray | None = None) -> Hits:
    """(B, quota): `brought` without items that are excluded or, if a mask is given, not allowed, without
    gaps."""
    rows = brought.rows
    good = rows > 0
    if excluded.most:
        good &= ~excluded.holds(np.arange(len(rows))[:, None], rows)
    if allow is not None:
        good &= allow[rows]
    order = np.argsort(~good, axis=1, kind="stable")[:, :quota]
    good = np.take_along_axis(good, order, 1)
    found = nothing(len(rows), quota)
    width = order.shape[1]
    found.rows[:, :width] = np.where(good, np.take_along_axis(rows, order, 1), 0)
    found.scores[:, :width] = np.where(good, np.take_along_axis(brought.scores, order, 1), -np.inf)
    return found


def nothing(queries: int, quota: int) -> Hits:
    return Hits(np.zeros((queries, quota), np.int64), np.full((queries, quota), -np.inf, np.float32))


def cosines(embeddings: np.ndarray, rows: np.ndarray, acts: np.ndarray) -> np.ndarray:
    """(K, H) cosine of each item (K,) and each act's item (H,), both rows of `embeddings`; 0 for acts on
    unknown items."""
    found = _unit(embeddings[rows]) @ _unit(embeddings[acts]).T
    return np.where(acts > 0, found, 0) if (acts == 0).any() else np.asarray(found)


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1))
