"""Counters opened: a prior for everybody, or a sparse matrix from item to item.

B queries   N items (row 0: unknown)   K items a query   A acts   E entries of the matrix
"""

import itertools

import numpy as np

from etalage.bundle.opened import Base, Opened
from etalage.errors import ExportDamaged
from etalage.features.behaviour import Queries


class SameForAll:
    """Scores `prior` (N + 1,) float32 for everybody."""

    prior: np.ndarray

    def knows(self, queries: Queries) -> np.ndarray:
        return np.zeros(len(queries), bool)

    def scores(self, queries: Queries) -> np.ndarray:
        return np.broadcast_to(self.prior, (len(queries), len(self.prior)))

    def scores_of(self, queries: Queries, items_BK: np.ndarray) -> np.ndarray:
        return self.prior[items_BK]


class PriorScorer(SameForAll, Base):
    """The same score for everybody: popularity."""

    def __init__(self, opened: Opened) -> None:
        super().__init__(opened)
        self.prior = np.array(opened.array("scores", 1), np.float32)
        if len(self.prior) != len(self.items):
            raise ExportDamaged(
                f"{opened.folder}: {len(self.prior)} scores for {len(self.items)} rows of items"
            )
        self.prior[0] = -np.inf


class ItemItemScorer(Base):
    """score(i) = Σ over the history of w(act) · weights[act's item, i], where w falls by `decay` a step back.

    An item acted on several times counts once, by its newest act; with `every_act`, each time.
    """

    def __init__(self, opened: Opened) -> None:
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
        """Every neighbour of the acts `rows`: (E,) item rows, (E,) float32 products, (E,) which act."""
        starts, lengths = self.indptr[rows], self.indptr[rows + 1] - self.indptr[rows]
        act = np.repeat(np.arange(len(rows)), lengths)
        at = np.arange(len(act)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + starts[act]
        return self.indices[at].astype(np.int64), self.weights[at] * weights[act], act

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
