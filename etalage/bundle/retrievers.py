"""Retrievers: each brings the best of what is allowed, by its kind of model, with the filters in the search.

    B queries   N items   Q quota   D embedding dimension   E neighbours

Item rows are those of a vocabulary: 0 = none, items have 1 … N. `allow` is a (N,) mask without the row 0:
allow[r - 1] says whether row r may be found.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from etalage.bundle.counting import ItemItemScorer, PriorScorer
from etalage.bundle.embedding import EmbeddingScorer
from etalage.bundle.opened import Base
from etalage.config import IndexConfig
from etalage.features.behaviour import Queries
from etalage.index import Index, build

QUERIES_AT_ONCE = 256
"""Queries in memory at a time, for the neighbours of all their acts."""
MOSTLY = 0.1
"""Where at least this share of the items is allowed, a plain search that asks for more and drops what is not
allowed finds the same, without looking at every item's mask; where it does not, the mask is used."""
SCORED_ALL = 32_768
"""So few allowed items are all scored: sooner done than a search that looks for them in every list."""
FEW = 0.02
"""Where fewer are allowed, they are sorted; else the prior's order is walked until enough are found."""


class Brought(NamedTuple):
    """What one retriever found, best first; 0 and -inf where there is nothing more."""

    rows: np.ndarray
    """(B, Q) int64."""
    scores: np.ndarray
    """(B, Q) float32."""


class Excluded:
    """Items that single queries must not be given: seen ones, above all."""

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
        """Those of some of the queries, numbered anew."""
        return Excluded([self.rows[query] for query in queries], self._items)


class Retriever(Protocol):
    name: str

    def knows(self, queries: Queries) -> np.ndarray:
        """(B,) bool: it can say more of this shopper than of anybody."""
        ...

    def find(self, queries: Queries, quota: int, allow: np.ndarray | None, excluded: Excluded) -> Brought:
        """The `quota` best allowed items for each query; fewer only where it has no more to say."""
        ...


class PriorRetriever:
    """The same order for everybody, less what is not allowed: it always has k."""

    def __init__(self, name: str, prior: np.ndarray) -> None:
        """prior (N + 1,) float32; the score of row 0 is not looked at."""
        self.name = name
        self.prior = np.array(prior, np.float32)
        self.prior[0] = -np.inf
        self.order = (np.argsort(-self.prior[1:], kind="stable") + 1).astype(np.int32)

    def knows(self, queries: Queries) -> np.ndarray:
        return np.zeros(len(queries), bool)

    def walk(self, allow: np.ndarray | None) -> Iterator[np.ndarray]:
        """The allowed rows, best first, some at a time."""
        count = len(self.order)
        if allow is not None and np.count_nonzero(allow) < FEW * count:
            rows = np.flatnonzero(allow) + 1
            yield rows[np.argsort(-self.prior[rows], kind="stable")]
            return
        start, size = 0, 1024
        while start < count:
            rows = self.order[start : start + size].astype(np.int64)
            yield rows if allow is None else rows[allow[rows - 1]]
            start, size = start + size, size * 2

    def find(self, queries: Queries, quota: int, allow: np.ndarray | None, excluded: Excluded) -> Brought:
        wanted, parts, there = quota + excluded.most, [np.empty(0, np.int64)], 0
        for some in self.walk(allow):
            parts.append(some[: wanted - there])
            there += len(parts[-1])
            if there == wanted:
                break
        rows = np.broadcast_to(np.concatenate(parts), (len(queries), there))
        return kept(Brought(rows, self.prior[rows]), excluded, quota)


class ItemItemRetriever:
    """Neighbours of the items in the history; only their entries are touched."""

    def __init__(self, scorer: ItemItemScorer) -> None:
        self.name = scorer.name
        self.scorer = scorer

    def knows(self, queries: Queries) -> np.ndarray:
        return self.scorer.knows(queries)

    def find(self, queries: Queries, quota: int, allow: np.ndarray | None, excluded: Excluded) -> Brought:
        parts = [_nothing(0, quota)]
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            some = queries.block(start, min(start + QUERIES_AT_ONCE, len(queries)))
            theirs = excluded.of(np.arange(start, start + len(some))) if excluded.most else excluded
            parts.append(self._find(some, quota, allow, theirs))
        return Brought(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _find(self, queries: Queries, quota: int, allow: np.ndarray | None, excluded: Excluded) -> Brought:
        acts, weights, owners = self.scorer.speaking(queries)
        lengths = self.scorer.indptr[acts + 1] - self.scorer.indptr[acts]
        count = len(self.scorer.items)
        if int(lengths.sum()) > 4 * count * len(queries):  # a matrix so full that whole rows are cheaper
            return self._scanned(queries, quota, allow, excluded)
        rows, products, act = self.scorer.spread(acts, weights)
        owner = owners[act]
        good = rows > 0
        if allow is not None:
            good[good] = allow[rows[good] - 1]
        good &= ~excluded.holds(owner, rows)
        keys, which = np.unique(owner[good] * count + rows[good], return_inverse=True)
        sums = np.bincount(which, products[good], minlength=len(keys)).astype(np.float32)
        speaks = sums > 0  # a history that speaks against an item does not bring it
        keys, sums = keys[speaks], sums[speaks]
        owner, rows = keys // count, keys % count
        order = np.lexsort((rows, -sums, owner))
        starts = np.searchsorted(owner, np.arange(len(queries)))
        place = np.arange(len(order)) - starts[owner[order]]
        order, place = order[place < quota], place[place < quota]
        found = _nothing(len(queries), quota)
        found.rows[owner[order], place] = rows[order]
        found.scores[owner[order], place] = sums[order]
        return found

    def _scanned(self, queries: Queries, quota: int, allow: np.ndarray | None, excluded: Excluded) -> Brought:
        scores = np.array(self.scorer.scores(queries))
        scores[scores <= 0] = -np.inf
        if allow is not None:
            scores[:, 1:][:, ~allow] = -np.inf
        for query, rows in enumerate(excluded.rows[: len(queries)]):
            scores[query, rows] = -np.inf
        width = min(quota, scores.shape[1])
        rows = np.argpartition(-scores, width - 1, axis=1)[:, :width]
        found = np.take_along_axis(scores, rows, axis=1)
        order = np.lexsort((rows, -found))
        rows, found = np.take_along_axis(rows, order, 1), np.take_along_axis(found, order, 1)
        brought = _nothing(len(queries), quota)
        brought.rows[:, :width] = np.where(np.isfinite(found), rows, 0)
        brought.scores[:, :width] = found
        return brought


class EmbeddingRetriever:
    """The query's embedding, made now, searched among the items' in an index."""

    def __init__(self, scorer: EmbeddingScorer, index: Index) -> None:
        """`index` holds rows b = vocabulary row - 1."""
        self.name = scorer.name
        self.scorer = scorer
        self.index = index

    def knows(self, queries: Queries) -> np.ndarray:
        return self.scorer.knows(queries)

    def find(self, queries: Queries, quota: int, allow: np.ndarray | None, excluded: Excluded) -> Brought:
        embeddings = self.scorer.embed_queries(queries)
        every = np.asarray(self.scorer.item_embeddings)[1:]
        found = searched(self.index, every, embeddings, quota, allow, excluded)
        silent = ~self.knows(queries)
        found.rows[silent], found.scores[silent] = 0, -np.inf
        return found


class LookAlikeRetriever:
    """Photos like those of the items that the shopper acted on last."""

    RECENT = 5

    def __init__(self, name: str, embeddings: np.ndarray, index: Index) -> None:
        """embeddings (N, D) float32, zeros without a photo; `index` of them, rows as `embeddings`."""
        self.name = name
        self.embeddings = embeddings
        self.index = index
        self._there = np.zeros(len(embeddings) + 1, bool)
        self._there[index.rows + 1] = True

    def knows(self, queries: Queries) -> np.ndarray:
        return np.bincount(queries.owners[self._there[queries.items]], minlength=len(queries)) > 0

    def find(self, queries: Queries, quota: int, allow: np.ndarray | None, excluded: Excluded) -> Brought:
        means = np.zeros((len(queries), self.embeddings.shape[1]), np.float32)
        for query in range(len(queries)):
            rows = queries.items[queries.starts[query] : queries.starts[query + 1]]
            rows = rows[self._there[rows]][-self.RECENT :]
            if len(rows):
                mean = np.asarray(self.embeddings[rows - 1]).sum(axis=0)
                means[query] = mean / max(float(np.linalg.norm(mean)), 1e-12)
        found = searched(self.index, self.embeddings, means, quota, allow, excluded)
        silent = ~self.knows(queries)
        found.rows[silent], found.scores[silent] = 0, -np.inf
        return found


def retriever(scorer: Base, index: Index | None = None) -> Retriever:
    """The retriever of an opened model; an embedder without an index is searched exactly."""
    if isinstance(scorer, PriorScorer):
        return PriorRetriever(scorer.name, scorer.prior)
    if isinstance(scorer, ItemItemScorer):
        return ItemItemRetriever(scorer)
    if isinstance(scorer, EmbeddingScorer):
        if index is None:
            every = np.asarray(scorer.item_embeddings[1:], np.float32)
            rows = np.flatnonzero(np.einsum("nd,nd->n", every, every) > 0)
            index = build(rows, every[rows], IndexConfig(kind="exact"), norm="none")
        return EmbeddingRetriever(scorer, index)
    raise TypeError(f"{scorer.name}: a {scorer.role} retrieves nothing")


# -- shared ------------------------------------------------------------------------------------


def searched(
    index: Index,
    embeddings: np.ndarray,
    queries: np.ndarray,
    quota: int,
    allow: np.ndarray | None,
    excluded: Excluded,
) -> Brought:
    """(B, D) queries → the `quota` best allowed of each; `embeddings` (N, D) are those in the index."""
    wanted = min(quota + excluded.most, len(index))
    if wanted == 0 or len(queries) == 0:
        return _nothing(len(queries), quota)
    if allow is None:
        found = index.search(queries, wanted)
        return kept(Brought(found.rows + 1, found.scores), excluded, quota)
    count = int(np.count_nonzero(allow))
    wide = int(1.2 * wanted * len(allow) / max(count, 1)) + 16
    mostly = count >= MOSTLY * len(allow) and wide < len(index)
    if count <= SCORED_ALL and not index.is_exact and not mostly:
        return _scored_all(index, embeddings, queries, quota, allow, excluded)
    if index.is_exact or not mostly:
        found = index.search(queries, wanted, allow)
        return kept(Brought(found.rows + 1, found.scores), excluded, quota)
    plain = index.search(queries, wide)
    brought = kept(Brought(plain.rows + 1, plain.scores), excluded, quota, allow)
    short = np.flatnonzero((brought.rows > 0).sum(axis=1) < quota)
    if len(short):
        found = index.search(queries[short], wanted, allow)
        again = kept(Brought(found.rows + 1, found.scores), excluded.of(short), quota)
        brought.rows[short], brought.scores[short] = again
    return brought


def _scored_all(
    index: Index,
    embeddings: np.ndarray,
    queries: np.ndarray,
    quota: int,
    allow: np.ndarray,
    excluded: Excluded,
) -> Brought:
    rows = np.flatnonzero(allow)
    if len(index) < len(allow):
        at = np.minimum(np.searchsorted(index.rows, rows), len(index) - 1)
        rows = rows[index.rows[at] == rows]
    wanted = min(quota + excluded.most, len(rows))
    if wanted == 0:
        return _nothing(len(queries), quota)
    scores = np.asarray(queries, np.float32) @ np.asarray(embeddings[rows], np.float32).T
    best = np.argpartition(-scores, wanted - 1, axis=1)[:, :wanted]
    found = np.take_along_axis(scores, best, axis=1)
    order = np.lexsort((best, -found))
    best, found = np.take_along_axis(best, order, 1), np.take_along_axis(found, order, 1)
    return kept(Brought(rows[best] + 1, found), excluded, quota)


def kept(brought: Brought, excluded: Excluded, quota: int, allow: np.ndarray | None = None) -> Brought:
    """What is neither excluded nor, where a mask is given, not allowed, moved together; (B, quota)."""
    rows = brought.rows
    good = rows > 0
    if excluded.most:
        good &= ~excluded.holds(np.arange(len(rows))[:, None], rows)
    if allow is not None:
        good &= allow[np.maximum(rows, 1) - 1]
    order = np.argsort(~good, axis=1, kind="stable")[:, :quota]
    good = np.take_along_axis(good, order, 1)
    found = _nothing(len(rows), quota)
    width = order.shape[1]
    found.rows[:, :width] = np.where(good, np.take_along_axis(rows, order, 1), 0)
    found.scores[:, :width] = np.where(good, np.take_along_axis(brought.scores, order, 1), -np.inf)
    return found


def _nothing(queries: int, quota: int) -> Brought:
    return Brought(np.zeros((queries, quota), np.int64), np.full((queries, quota), -np.inf, np.float32))
