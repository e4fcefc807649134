"""Opened embedders of behaviour: the score is the inner product of the query's embedding, computed now, and
the item's.

B queries   N items (row 0: unknown)   K items a query   D embedding dimension   L acts of a history
"""

from pathlib import Path

import numpy as np
import pyarrow as pa

from etalage.config import IndexConfig
from etalage.errors import ExportDamaged
from etalage.features.behaviour import NEVER, Queries
from etalage.index import Index, build
from etalage.runtime.export_files import ITEM, QUERY, ExportFiles, save_array
from etalage.runtime.retrieving import Excluded, Hits, Retriever, cosines, searched
from etalage.runtime.scorer import ExportScorer, SourceRows, features_of, user_feature
from etalage.runtime.sessions import Session

ROWS_AT_ONCE = 4096
DAY = 86_400_000_000
"""Microseconds."""


class EmbeddingScorer(ExportScorer):
    """Inner product of the query's embedding and the item's."""

    kind = "embeddings"
    dimension: int

    def __init__(self, opened: ExportFiles, threads: int = 1) -> None:
        super().__init__(opened)
        self.item_embeddings = opened.array("item_embeddings", 2)
        if len(self.item_embeddings) != len(self.items):
            raise ExportDamaged(
                f"{opened.folder}: {len(self.item_embeddings)} embeddings for {len(self.items)} rows of items"
            )
        self.dimension = int(self.item_embeddings.shape[1])
        self._session = (
            Session.open(opened.folder / QUERY, threads) if (opened.folder / QUERY).exists() else None
        )
        settings = opened.facts.get("settings", {})
        self.alpha, self.reg = float(settings.get("alpha", 1.0)), float(settings.get("reg", 0.0))
        # What older exports say nothing of: every history's ridge is `reg` there.
        self.others = float(settings.get("others", 0.0))
        self.frequency = float(settings.get("frequency", 0.0))
        self._gram = opened.array("gram", 2) if (opened.folder / "gram.npy").exists() else None
        self._basis: tuple[np.ndarray, np.ndarray] | None = None
        """Of the gram: its eigenvalues and eigenvectors, when the first query is folded in."""
        table = opened.folder / "user_embeddings.npy"
        self._user_embeddings = opened.array("user_embeddings", 2) if table.exists() else None
        self._history_embeddings: np.ndarray | None = None
        if (opened.folder / "history_embeddings.npy").exists():
            self._history_embeddings = opened.array("history_embeddings", 2)
        self.history_length = int(opened.facts.get("history_length", 0))

    @property
    def inputs(self) -> tuple[str, ...]:
        return () if self._session is None else self._session.inputs

    def knows(self, queries: Queries) -> np.ndarray:
        known = np.zeros(len(queries), bool)
        if self._user_embeddings is not None or "user" in self.inputs:
            known |= queries.users > 0
        if self._gram is not None or any(name.startswith("history") for name in self.inputs):
            rows = (
                self.opened.model_rows(queries.items) if self._history_embeddings is None else queries.items
            )
            known |= np.bincount(queries.owners[rows > 0], minlength=len(queries)) > 0
        return known

    def embed_queries(self, queries: Queries) -> np.ndarray:
        """(B, D) float32."""
        if self._session is not None:
            return self._session.run(self._feed(queries))[0]
        if self._user_embeddings is not None:
            return np.asarray(self._user_embeddings[queries.users], np.float32)
        return self._folded_in(queries)

    def _feed(self, queries: Queries) -> dict[str, np.ndarray]:
        rows, kinds, times = queries.last(max(self.history_length, 1))
        feed: dict[str, np.ndarray] = {}
        for name in self.inputs:
            if name == "user":
                feed[name] = queries.users
            elif name == "history":
                feed[name] = self.opened.model_rows(rows)
            elif name == "history_kinds":
                feed[name] = kinds
            elif name == "history_ages":
                feed[name] = ages(times, queries.now)
            elif name == "history_embeddings":
                assert self._history_embeddings is not None
                feed[name] = np.where((rows > 0)[:, :, None], self._history_embeddings[rows], np.float32(0))
            elif name == "history_mask":
                feed[name] = rows > 0
            else:
                feed[name] = user_feature(queries, name)
        return feed

    def _folded_in(self, queries: Queries) -> np.ndarray:
        """Embed users that implicit ALS has not seen: Hu, Koren, Volinsky (2008), eq. 4.

        x = (gram + alpha Σ y yᵀ + ridge I)⁻¹ Σ (1 + alpha) y, over the h different items y of the history,
        where ridge = reg · (others + alpha · h)^frequency. Of a history that is shorter than embeddings are
        wide it is the same by h equations (Woodbury's identity), in the basis where the gram is diagonal.
        """
        assert self._gram is not None
        if self._basis is None:
            self._basis = np.linalg.eigh(np.asarray(self._gram, np.float64))
        spread_D, basis_DD = self._basis
        embeddings = np.zeros((len(queries), self.dimension), np.float32)
        for query in range(len(queries)):
            rows = np.unique(queries.items[queries.starts[query] : queries.starts[query + 1]])
            acted = np.asarray(self.item_embeddings[rows[rows > 0]], np.float64) @ basis_DD
            if not len(acted):
                continue
            diagonal_D = spread_D + self.reg * (self.others + self.alpha * len(acted)) ** self.frequency
            if len(acted) < self.dimension and diagonal_D.min() > 0:
                scaled = acted / diagonal_D
                left = np.eye(len(acted)) + self.alpha * scaled @ acted.T
                found_D = np.linalg.solve(left, np.full(len(acted), 1 + self.alpha)) @ scaled
            else:
                left = np.diag(diagonal_D) + self.alpha * acted.T @ acted
                found_D = np.linalg.solve(left, (1 + self.alpha) * acted.sum(axis=0))
            embeddings[query] = basis_DD @ found_D
        return embeddings

    def scores(self, queries: Queries) -> np.ndarray:
        found = self.embed_queries(queries) @ np.asarray(self.item_embeddings).T
        found[:, 0] = -np.inf
        return np.asarray(found, np.float32)

    def scores_of(self, queries: Queries, items_BK: np.ndarray) -> np.ndarray:
        found = np.einsum("bd,bkd->bk", self.embed_queries(queries), self.item_embeddings[items_BK])
        return np.where(items_BK > 0, found, -np.inf).astype(np.float32)

    @classmethod
    def align(
        cls, export: ExportFiles, to_model: np.ndarray, items: pa.Table, target: Path, sources: SourceRows
    ) -> None:
        """Embed items by content if the model reads content, because prices change and items are new; else as
        exported."""
        for name, array in cls._embeddings(export, to_model, items, sources).items():
            save_array(target / f"{name}.npy", array)

    @staticmethod
    def _embeddings(
        export: ExportFiles, to_model: np.ndarray, items: pa.Table, sources: SourceRows
    ) -> dict[str, np.ndarray]:
        kept = {"item_embeddings": export.array("item_embeddings", 2)[to_model]}
        if (export.folder / "history_embeddings.npy").exists():
            kept["history_embeddings"] = export.array("history_embeddings", 2)[to_model]
        if not (export.folder / ITEM).exists():
            return kept
        session = Session.open(export.folder / ITEM)
        columns = {**features_of(export, items).columns, **sources}
        missing = [n for n in session.inputs if n != "item" and n.removeprefix("item.") not in columns]
        if missing:
            return kept  # features that only the training set had: what it embedded still stands
        feed = {n: to_model if n == "item" else columns[n.removeprefix("item.")] for n in session.inputs}
        blocks = [
            session.run({name: values[start : start + ROWS_AT_ONCE] for name, values in feed.items()})
            for start in range(0, len(to_model), ROWS_AT_ONCE)
        ]
        found = {name: np.concatenate([block[n] for block in blocks]) for n, name in enumerate(kept)}
        content = {n.removeprefix("item.") for n in session.inputs if n != "item"}
        if content <= set(sources):
            # Neither its id nor any source tells it from others: no index is to hold it.
            unknown = (to_model == 0) & ~np.any([sources[n].any(axis=1) for n in content], axis=0)
            found["item_embeddings"][unknown] = 0
        return found

    def retriever(self, index: Index | None = None) -> Retriever:
        """Retrieves the nearest items in `index`; without an index it searches exactly."""
        if index is None:
            every = np.asarray(self.item_embeddings, np.float32)
            rows = np.flatnonzero(np.einsum("nd,nd->n", every[1:], every[1:]) > 0) + 1
            index = build(rows, every[rows], IndexConfig(kind="exact"), norm="none")
        return EmbeddingRetriever(self, index)


class EmbeddingRetriever:
    """Searches the query's embedding, computed now, among the items' in an index."""

    def __init__(self, scorer: EmbeddingScorer, index: Index) -> None:
        """`index` holds the rows of `scorer.item_embeddings`."""
        self.name = scorer.name
        self.scorer = scorer
        self.index = index

    def knows(self, queries: Queries) -> np.ndarray:
        return self.scorer.knows(queries)

    def find(self, queries: Queries, quota: int, allow: np.ndarray | None, excluded: Excluded) -> Hits:
        embeddings = self.scorer.embed_queries(queries)
        every = np.asarray(self.scorer.item_embeddings)
        found = searched(self.index, every, embeddings, quota, allow, excluded)
        silent = ~self.knows(queries)
        found.rows[silent], found.scores[silent] = 0, -np.inf
        return found

    def votes(self, acts: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The cosine of an item and an act's item."""
        return cosines(np.asarray(self.scorer.item_embeddings), rows, acts)


def ages(times: np.ndarray, now: np.ndarray) -> np.ndarray:
    """(B, L) float32 days before now; 0 where either is not known."""
    known = (times != NEVER) & (now != NEVER)[:, None]
    gone = np.where(known, now[:, None] - np.where(known, times, 0), 0)
    return (np.maximum(gone, 0) / DAY).astype(np.float32)
