"""An opened ranker: it scores pairs of a shopper and an item.

B queries   K items a query   R = B · K pairs   S sparse   F dense inputs   W output columns
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from etalage.errors import ExportDamaged
from etalage.features.behaviour import Queries
from etalage.features.encoder import Features
from etalage.features.pairs import PairEncoder, pair_sparse
from etalage.runtime.export_files import ITEM_FEATURES, PAIRS, RANK, ExportFiles, save_array
from etalage.runtime.scorer import ExportScorer, SourceRows, features_of
from etalage.runtime.sessions import Session

PAIRS_AT_ONCE = 1 << 17


class PairScorer(ExportScorer):
    """A ranker's network, with the features of user, item and pair that it reads."""

    kind = "pairs"
    ranks = True

    def __init__(self, opened: ExportFiles, threads: int = 1) -> None:
        super().__init__(opened)
        facts = opened.facts
        self._session = Session.open(opened.folder / RANK, threads)
        self.sparse_inputs: tuple[str, ...] = tuple(facts["sparse_inputs"])
        self.dense_inputs: tuple[str, ...] = tuple(facts["dense_inputs"])
        self.objectives: list[dict[str, Any]] = list(facts["objectives"])
        self.item_features = self._item_features()
        self.pairs: PairEncoder | None = None
        if (opened.folder / PAIRS).is_dir():
            self.pairs = PairEncoder.from_folder(opened.folder / PAIRS)

    def _item_features(self) -> Features:
        """Sparse features and bags of the items, (N + 1) rows each."""
        folder = self.opened.folder / ITEM_FEATURES
        sparse: dict[str, np.ndarray] = {}
        bags: dict[str, np.ndarray] = {}
        for file in sorted(folder.glob("*.npy")) if folder.is_dir() else []:
            ndim = np.load(file, mmap_mode="r", allow_pickle=False).ndim
            column = self.opened.array(f"{ITEM_FEATURES}/{file.stem}", ndim)
            (sparse if ndim == 1 else bags)[file.stem] = column
        return Features(sparse, bags)

    @property
    def asks_retrievers(self) -> tuple[str, ...]:
        """Names of the retrievers whose scores are inputs."""
        return self.pairs.retrievers if self.pairs is not None else ()

    def knows(self, queries: Queries) -> np.ndarray:
        known = queries.users > 0 if "user" in self.sparse_inputs else np.zeros(len(queries), bool)
        if self.pairs is not None:
            known = known | (np.bincount(queries.owners[queries.items > 0], minlength=len(queries)) > 0)
        return known

    def score_rows(self, sparse: np.ndarray, dense: np.ndarray) -> np.ndarray:
        """(R, S) int64 and (R, F) float32 → (R, W) float32: the network's output, logits included."""
        parts = []
        for start in range(0, max(len(sparse), 1), PAIRS_AT_ONCE):
            feed = {
                "sparse": np.ascontiguousarray(sparse[start : start + PAIRS_AT_ONCE]),
                "dense": np.ascontiguousarray(dense[start : start + PAIRS_AT_ONCE]),
            }
            parts.append(self._session.run({n: feed[n] for n in self._session.inputs})[0])
        return np.concatenate(parts)

    def first_objective(self, outputs: np.ndarray) -> np.ndarray:
        """(R, W) → (R,) scores that order candidates: the logit, the value, or the expected value of the
        classes."""
        objective = self.objectives[0]
        if objective["kind"] != "classes":
            return np.asarray(outputs[:, 0], np.float32)
        logits = outputs[:, : len(objective["classes"])]
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return np.asarray(shares @ np.asarray(objective["classes"], np.float32), np.float32)

    def probability(self, scores: np.ndarray) -> np.ndarray | None:
        """The sigmoid of the logits; None if the first objective is not a probability."""
        if self.objectives[0]["kind"] != "binary":
            return None
        return np.asarray(1 / (1 + np.exp(-np.asarray(scores, np.float64))))

    def scores_of(
        self,
        queries: Queries,
        items_BK: np.ndarray,
        scores: Mapping[str, np.ndarray] | None = None,
    ) -> np.ndarray:
        """`scores`: retriever → (B, K); -inf or NaN where it did not find the item."""
        count, k = items_BK.shape
        sparse = pair_sparse(self.sparse_inputs, queries, items_BK, self.item_features)
        if "item" in self.sparse_inputs:
            sparse[..., self.sparse_inputs.index("item")] = self.opened.model_rows(items_BK)
        dense = np.zeros((count, k, len(self.dense_inputs)), np.float32)
        if self.dense_inputs:
            if self.pairs is None or self.pairs.names != self.dense_inputs:
                raise ExportDamaged(
                    f"{self.opened.folder}: {PAIRS}/ does not give {self.dense_inputs}; export again"
                )
            dense = self.pairs.encode(queries, items_BK, scores)
        # The widths are named: with no candidate at all, -1 could be anything.
        flat = self.score_rows(
            sparse.reshape(count * k, sparse.shape[-1]), dense.reshape(count * k, dense.shape[-1])
        )
        found = self.first_objective(flat).reshape(count, k)
        return np.where(items_BK > 0, found, -np.inf).astype(np.float32)

    def scores(self, queries: Queries) -> np.ndarray:
        every = np.arange(len(self.items))
        found = np.empty((len(queries), len(every)), np.float32)
        step = max(1, PAIRS_AT_ONCE // len(every))
        for start in range(0, len(queries), step):
            some = queries.block(start, min(start + step, len(queries)))
            found[start : start + step] = self.scores_of(
                some, np.broadcast_to(every, (len(some), len(every)))
            )
        return found

    @classmethod
    def align(
        cls, export: ExportFiles, to_model: np.ndarray, items: pa.Table, target: Path, sources: SourceRows
    ) -> None:
        """Encode items' features if the export has an encoder of items; else keep them as exported."""
        source = export.folder / ITEM_FEATURES
        if source.is_dir():
            (target / ITEM_FEATURES).mkdir()
            columns = features_of(export, items).columns
            for file in sorted(source.glob("*.npy")):
                ndim = np.load(file, mmap_mode="r", allow_pickle=False).ndim
                known = export.array(f"{ITEM_FEATURES}/{file.stem}", ndim)
                save_array(target / ITEM_FEATURES / file.name, columns.get(file.stem, known[to_model]))
        if (export.folder / PAIRS).is_dir():
            PairEncoder.from_folder(export.folder / PAIRS).aligned(to_model).to_folder(target / PAIRS)
