"""An opened sparse matrix from item to item: ItemKNN, EASE, co-occurrence.

B queries   N items (row 0: unknown)   A acts   E entries of the matrix   H acts of a history
"""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa

from etalage.errors import ExportDamaged
from etalage.features.behaviour import Queries
from etalage.index import Index
from etalage.runtime.export_files import ExportFiles, save_array
from etalage.runtime.retrieving import Excluded, Hits, Retriever, nothing
from etalage.runtime.scorer import ExportScorer, SourceRows

QUERIES_AT_ONCE = 256
"""How many queries' neighbours are in memory at a time."""


class ItemItemScorer(ExportScorer):
    """score(i) = Σ over the history of w(act) · weights[act's item, i], where w falls by `decay` a step back.

    An item acted on several times counts once, by its newest act; with `every_act`, each time.
    """

    kind = "item_item"

    def __init__(self, opened: ExportFiles) -> None:
        super().__init__(opened)
        self.indptr = np.array(opened.array("indptr", 1), np.int64)
        self.indices = opened.array("indices", 1)
        self.weights = opened.array("weights", 1)
        count = len(self.items)
        fits = len(self.indptr) == count + 1 and self.indptr[-1] == len(self.indices) == len(self.weights)
        if not fits:
            raise ExportDamaged(f"{opened.folder}: the matrix does not fit {count} rows of items")
        settings = opened.facts.get("settings", {})
        self.decay = float(settings.get("decay") or 1.0)
        self.last: int | None = settings.get("last")
        self.every_act = bool(settings.get("every_act", False))
        self._dense: np.ndarray | None = None
        if len(self.indices) > 0.2 * count * count:  # whole rows are then added faster than their entries
            self._dense = np.zeros((count, count), np.float32)
            rows = np.repeat(np.arange(count), np.diff(self.indptr))
            self._dense[rows, self.indices] = self.weights

    def knows(self, queries: Queries) -> np.ndarray:
        rows, _, owners = self.speaking(queries)
        speaks = self.indptr[rows + 1] > self.indptr[rows]
        return np.bincount(owners[speaks], minlength=len(queries)) > 0

    def speaking(self, queries: Queries) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The acts that count: (A,) item rows, (A,) float32 weights, (A,) their queries."""
        owners = queries.owners
        back = np.repeat(queries.starts[1:], np.diff(queries.starts)) - 1 - np.arange(len(queries.items))
        keep = queries.items > 0
        if self.last is not None:
            keep &= back < self.last
        at = np.flatnonzero(keep)
        if self.every_act:
            return self._weighted(at, back, queries, owners)
        key = owners[at] * len(self.items) + queries.items[at]
        _, newest = np.unique(key[::-1], return_index=True)  # the first in reverse is the newest
        at = np.sort(at[len(at) - 1 - newest])
        return self._weighted(at, back, queries, owners)

    def _weighted(
        self, at: np.ndarray, back: np.ndarray, queries: Queries, owners: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return queries.items[at], np.power(self.decay, back[at]).astype(np.float32), owners[at]

    def spread(self, rows: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every neighbour of the acts `rows`: (E,) item rows, (E,) float32 products, (E,) the act of each."""
        starts, lengths = self.indptr[rows], self.indptr[rows + 1] - self.indptr[rows]
        act = np.repeat(np.arange(len(rows)), lengths)
        at = np.arange(len(act)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + starts[act]
        return self.indices[at].astype(np.int64), self.weights[at] * weights[act], act

    def neighbours(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Of one item: (E,) rows of the items that the same shoppers acted on, (E,) float32 weights above 0,
        the highest first."""
        at = slice(int(self.indptr[row]), int(self.indptr[row + 1]))
        rows, weights = self.indices[at].astype(np.int64), np.asarray(self.weights[at], np.float32)
        keep = (weights > 0) & (rows > 0)
        rows, weights = rows[keep], weights[keep]
        order = np.lexsort((rows, -weights))
        return rows[order], weights[order]

    def scores(self, queries: Queries) -> np.ndarray:
        rows, weights, owners = self.speaking(queries)
        count = len(self.items)
        if self._dense is not None:
            bounds = np.searchsorted(owners, np.arange(len(queries) + 1))
            found = np.zeros((len(queries), count), np.float32)
            for query, (a, b) in enumerate(itertools.pairwise(bounds)):
                found[query] = weights[a:b] @ self._dense[rows[a:b]]
        else:
            columns, products, act = self.spread(rows, weights)
            flat = owners[act] * count + columns
            added = np.bincount(flat, products, minlength=len(queries) * count)
            found = added.reshape(len(queries), count).astype(np.float32)
        found[:, 0] = -np.inf
        return found

    @classmethod
    def align(
        cls, export: ExportFiles, to_model: np.ndarray, items: pa.Table, target: Path, sources: SourceRows
    ) -> None:
        """Put rows into the catalogue's order and renumber columns; drop the items that the catalogue
        lacks."""
        indptr, indices, weights = (export.array(name, 1) for name in ("indptr", "indices", "weights"))
        to_bundle = np.zeros(len(export.items), np.int64)
        to_bundle[to_model] = np.arange(len(to_model))
        to_bundle[0] = 0
        lengths = np.where(to_model > 0, indptr[to_model + 1] - indptr[to_model], 0)
        owner = np.repeat(np.arange(len(to_model)), lengths)
        at = (
            np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + indptr[to_model][owner]
        )
        columns = to_bundle[indices[at]]
        keep = columns > 0
        counts = np.bincount(owner[keep], minlength=len(to_model))
        order = np.lexsort((columns[keep], owner[keep]))
        found = {
            "indptr": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            "indices": columns[keep][order].astype(np.int32),
            "weights": np.asarray(weights[at][keep][order], np.float32),
        }
        for name, array in found.items():
            save_array(target / f"{name}.npy", array)

    def retriever(self, index: Index | None = None) -> Retriever:
        """Neighbours of the items in the history."""
        return ItemItemRetriever(self)


class ItemItemRetriever:
    """Scores from the neighbours of the items in the history; it reads only their entries."""

    def __init__(self, scorer: ItemItemScorer) -> None:
        self.name = scorer.name
        self.scorer = scorer

    def knows(self, queries: Queries) -> np.ndarray:
        return self.scorer.knows(queries)

    def find(self, queries: Queries, quota: int, allow: np.ndarray | None, excluded: Excluded) -> Hits:
        parts = [nothing(0, quota)]
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            some = queries.block(start, min(start + QUERIES_AT_ONCE, len(queries)))
            theirs = excluded.of(np.arange(start, start + len(some))) if excluded.most else excluded
            parts.append(self._find(some, quota, allow, theirs))
        return Hits(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _find(self, queries: Queries, quota: int, allow: np.ndarray | None, excluded: Excluded) -> Hits:
        acts, weights, owners = self.scorer.speaking(queries)
        lengths = self.scorer.indptr[acts + 1] - self.scorer.indptr[acts]
        count = len(self.scorer.items)
        if int(lengths.sum()) > 4 * count * len(queries):  # a matrix so full that whole rows are cheaper
            return self._scanned(queries, quota, allow, excluded)
        rows, products, act = self.scorer.spread(acts, weights)
        owner = owners[act]
        good = rows > 0
        if allow is not None:
            good[good] = allow[rows[good]]
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
        found = nothing(len(queries), quota)
        found.rows[owner[order], place] = rows[order]
        found.scores[owner[order], place] = sums[order]
        return found

    def _scanned(self, queries: Queries, quota: int, allow: np.ndarray | None, excluded: Excluded) -> Hits:
        scores = np.array(self.scorer.scores(queries))
        scores[scores <= 0] = -np.inf
        if allow is not None:
            scores[:, ~allow] = -np.inf
        for query, rows in enumerate(excluded.rows[: len(queries)]):
            scores[query, rows] = -np.inf
        width = min(quota, scores.shape[1])
        rows = np.argpartition(-scores, width - 1, axis=1)[:, :width]
        found = np.take_along_axis(scores, rows, axis=1)
        order = np.lexsort((rows, -found))
        rows, found = np.take_along_axis(rows, order, 1), np.take_along_axis(found, order, 1)
        brought = nothing(len(queries), quota)
        brought.rows[:, :width] = np.where(np.isfinite(found), rows, 0)
        brought.scores[:, :width] = found
        return brought

    def votes(self, acts: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The weight from each act's item to each item, times the weight of the act."""
        back = len(acts) - 1 - np.arange(len(acts))
        decay = np.power(self.scorer.decay, back)
        if self.scorer.last is not None:
            decay = np.where(back < self.scorer.last, decay, 0)
        columns, products, act = self.scorer.spread(acts, decay.astype(np.float32))
        place = {int(row): n for n, row in enumerate(rows)}
        found = np.zeros((len(rows), len(acts)))
        hit = np.isin(columns, rows)
        at = np.array([place[int(column)] for column in columns[hit]], np.int64)
        found[at, act[hit]] = products[hit]
        found[:, acts == 0] = 0
        return found
