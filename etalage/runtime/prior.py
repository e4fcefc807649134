"""An opened prior, such as popularity: it gives everybody the same scores.

B queries   N items (row 0: unknown)   K items a query
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from etalage.errors import ExportDamaged
from etalage.features.behaviour import Queries
from etalage.index import Index
from etalage.runtime.export_files import ExportFiles, save_array
from etalage.runtime.retrieving import Excluded, Hits, Retriever, kept
from etalage.runtime.scorer import ExportScorer, SourceRows

FEW = 0.02
"""If fewer items than this are allowed, they are sorted; otherwise the prior's order is walked until enough
are found."""


class SameForAll:
    """Scores `prior` (N + 1,) float32 for everybody."""

    prior: np.ndarray

    def knows(self, queries: Queries) -> np.ndarray:
        return np.zeros(len(queries), bool)

    def scores(self, queries: Queries) -> np.ndarray:
        return np.broadcast_to(self.prior, (len(queries), len(self.prior)))

    def scores_of(self, queries: Queries, items_BK: np.ndarray) -> np.ndarray:
        return self.prior[items_BK]


class PriorScorer(SameForAll, ExportScorer):
    """The same score for everybody: popularity."""

    kind = "prior"

    def __init__(self, opened: ExportFiles) -> None:
        super().__init__(opened)
        self.prior = np.array(opened.array("scores", 1), np.float32)
        if len(self.prior) != len(self.items):
            raise ExportDamaged(
                f"{opened.folder}: {len(self.prior)} scores for {len(self.items)} rows of items"
            )
        self.prior[0] = -np.inf

    @classmethod
    def align(
        cls, export: ExportFiles, to_model: np.ndarray, items: pa.Table, target: Path, sources: SourceRows
    ) -> None:
        """Items that the model never saw come after all items that it saw."""
        scores = np.array(export.array("scores", 1), np.float32)
        known = scores[1:][np.isfinite(scores[1:])]
        scores[0] = min(float(known.min(initial=0.0)), 0.0)
        save_array(target / "scores.npy", scores[to_model])

    def retriever(self, index: Index | None = None) -> Retriever:
        """The same order for everybody."""
        return PriorRetriever(self.name, self.prior)


class PriorRetriever:
    """The same order for everybody, without what is not allowed: it always finds k."""

    def __init__(self, name: str, prior: np.ndarray) -> None:
        """prior: (N + 1,) float32 scores; that of row 0 is ignored."""
        self.name = name
        self.prior = np.array(prior, np.float32)
        self.prior[0] = -np.inf
        self.order = (np.argsort(-self.prior[1:], kind="stable") + 1).astype(np.int32)

    def knows(self, queries: Queries) -> np.ndarray:
        return np.zeros(len(queries), bool)

    def walk(self, allow: np.ndarray | None) -> Iterator[np.ndarray]:
        """Yield the allowed rows, best first, in blocks."""
        count = len(self.order)
        if allow is not None and np.count_nonzero(allow) < FEW * count:
            rows = np.flatnonzero(allow)
            yield rows[np.argsort(-self.prior[rows], kind="stable")]
            return
        start, size = 0, 1024
        while start < count:
            rows = self.order[start : start + size].astype(np.int64)
            yield rows if allow is None else rows[allow[rows]]
            start, size = start + size, size * 2

    def find(self, queries: Queries, quota: int, allow: np.ndarray | None, excluded: Excluded) -> Hits:
        wanted, parts, there = quota + excluded.most, [np.empty(0, np.int64)], 0
        for some in self.walk(allow):
            parts.append(some[: wanted - there])
            there += len(parts[-1])
            if there == wanted:
                break
        rows = np.broadcast_to(np.concatenate(parts), (len(queries), there))
        return kept(Hits(rows, self.prior[rows]), excluded, quota)

    def votes(self, acts: np.ndarray, rows: np.ndarray) -> None:
        """None: it uses no acts."""
