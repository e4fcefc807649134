"""A ranker opened: a score for pairs of a shopper and an item.

B queries   K items a query   R = B · K pairs   S sparse   F dense inputs   W output columns
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from etalage.bundle.opened import ITEM_FEATURES, PAIRS, RANK, Base, Opened, user_feature
from etalage.bundle.sessions import Session
from etalage.errors import ExportDamaged
from etalage.features.behaviour import Queries

if TYPE_CHECKING:
    from collections.abc import Mapping

PAIRS_AT_ONCE = 1 << 17


class PairScorer(Base):
    """The network of a ranker over what it asks for of user, item and pair."""

    def __init__(self, opened: Opened, threads: int = 1) -> None:
        super().__init__(opened)
        facts = opened.facts
        self._session = Session.open(opened.folder / RANK, threads)
        self.sparse_inputs: tuple[str, ...] = tuple(facts["sparse_inputs"])
        self.dense_inputs: tuple[str, ...] = tuple(facts["dense_inputs"])
        self.objectives: list[dict[str, Any]] = list(facts["objectives"])
        self._item_columns = {name: self._item_column(name) for name in self.sparse_inputs}
        self.pairs: Any = None
        if (opened.folder / PAIRS).is_dir():
            from etalage.features.pairs import PairEncoder

            self.pairs = PairEncoder.from_folder(opened.folder / PAIRS)

    def _item_column(self, name: str) -> np.ndarray | None:
        """(N + 1,) rows of a sparse input of the item, `item.<feature>` or `item.<bag>.<place>`."""
        if not name.startswith("item."):
            return None
        folder = self.opened.folder / ITEM_FEATURES
        key, _, place = name.removeprefix("item.").rpartition(".")
        if (folder / f"{name.removeprefix('item.')}.npy").exists():
            return np.array(self.opened.array(f"{ITEM_FEATURES}/{name.removeprefix('item.')}", 1), np.int64)
        if place.isdigit() and (folder / f"{key}.npy").exists():
            return np.array(self.opened.array(f"{ITEM_FEATURES}/{key}", 2)[:, int(place)], np.int64)
        raise ExportDamaged(f"{self.opened.folder}: no feature {name!r} of the items; export the model again")

    @property
    def asks_retrievers(self) -> tuple[str, ...]:
        """Names of the retrievers whose scores are inputs."""
        names = (
            n.split(".", 1)[1] for n in self.dense_inputs if n.startswith(("score.", "found.", "place."))
        )
        return tuple(dict.fromkeys(names))

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
        """(R, W) → (R,) what candidates are ordered by: logit, value, or expected value of the classes."""
        objective = self.objectives[0]
        if objective["kind"] != "classes":
            return np.asarray(outputs[:, 0], np.float32)
        logits = outputs[:, : len(objective["classes"])]
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return np.asarray(shares @ np.asarray(objective["classes"], np.float32), np.float32)

    def probability(self, scores: np.ndarray) -> np.ndarray | None:
        """sigmoid of the logits; None where the first objective is no probability."""
        if self.objectives[0]["kind"] != "binary":
            return None
        return np.asarray(1 / (1 + np.exp(-np.asarray(scores, np.float64))))

    def scores_of(
        self,
        queries: Queries,
        items_BK: np.ndarray,
        scores: "Mapping[str, np.ndarray] | None" = None,
    ) -> np.ndarray:
        """`scores`: (B, K) of each retriever asked for; -inf or NaN where it did not find the item."""
        count, k = items_BK.shape
        sparse = np.empty((count, k, len(self.sparse_inputs)), np.int64)
        for column, name in enumerate(self.sparse_inputs):
            of_items = self._item_columns[name]
            if name == "user":
                sparse[:, :, column] = queries.users[:, None]
            elif name == "item":
                sparse[:, :, column] = self.opened.model_rows(items_BK)
            elif of_items is not None:
                sparse[:, :, column] = of_items[items_BK]
            else:
                sparse[:, :, column] = user_feature(queries, name)[:, None]
        dense = np.zeros((count, k, len(self.dense_inputs)), np.float32)
        if self.dense_inputs:
            if self.pairs is None:
                raise ExportDamaged(
                    f"{self.opened.folder}: no {PAIRS}/ for {self.dense_inputs}; export again"
                )
            dense = self.pairs.encode(queries, items_BK, scores or {})
        flat = self.score_rows(sparse.reshape(count * k, -1), dense.reshape(count * k, -1))
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
