"""Scores every item for shoppers: what every model of behaviour does, in evaluation and in serving.

B queries   N items (row 0: unknown)   K items a query   H acts of a history
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import pyarrow as pa

from etalage.errors import ExportDamaged
from etalage.features.behaviour import Queries
from etalage.features.encoder import Encoder, Features
from etalage.features.history import Histories
from etalage.features.vocabulary import Vocabulary
from etalage.index import Index
from etalage.runtime.export_files import ITEM_ENCODER, USER_ENCODER, ExportFiles, ModelKind, export_role
from etalage.runtime.retrieving import Retriever

SourceRows = Mapping[str, np.ndarray]
"""Feature source → (N + 1, D) float32 in the order of a catalogue's items; zeros for unknown items."""


class Scorer(Protocol):
    """An opened model. It never changes, and threads may share it."""

    name: str
    role: str
    model_hash: str
    items: Vocabulary
    users: Vocabulary
    kinds: tuple[str, ...]

    def knows(self, queries: Queries) -> np.ndarray:
        """(B,) bool: whether the model can say more about this shopper than about a stranger."""
        ...

    def scores(self, queries: Queries) -> np.ndarray:
        """(B, N + 1) float32 scores of every item; column 0 is -inf."""
        ...

    def scores_of(self, queries: Queries, items_BK: np.ndarray) -> np.ndarray:
        """(B, K) float32 scores of these item rows; -inf for row 0."""
        ...


class ExportScorer(ABC):
    """An opened export: its name, its vocabularies, and how to make a query for it. Each kind of model scores
    and, if it can, aligns itself to a catalogue, retrieves and explains."""

    kind: ClassVar[ModelKind]
    """The name of this kind in export.json."""
    ranks: ClassVar[bool] = False
    """Whether it only orders candidates, and finds none in a catalogue."""
    dimension: int | None = None
    """Dimension of its item embeddings, which an index searches; None: it needs no index."""

    def __init__(self, opened: ExportFiles) -> None:
        facts = opened.facts
        self.opened = opened
        self.name, self.role = str(facts["name"]), export_role(facts)
        self.model_hash = str(facts.get("export_hash", facts["model_hash"]))
        self.kinds: tuple[str, ...] = tuple(facts.get("kinds", ()))
        self.items, self.users = opened.items, opened.users
        self._code = {kind: n for n, kind in enumerate(self.kinds, start=1)}
        file = opened.folder / USER_ENCODER
        self.user_encoder = Encoder.from_json(file.read_text("utf-8"), str(file)) if file.exists() else None

    def ask(
        self,
        users: np.ndarray,
        histories: Histories,
        now: np.ndarray,
        attributes: pa.Array | pa.ChunkedArray | None = None,
    ) -> Queries:
        """Make the queries about B shoppers, with this model's vocabularies and features.

        users: (B,) rows of `self.users`. histories: item rows of `self.items`. now: (B,) int64 microseconds.
        attributes: (B,) each user's JSON from the users table; None: nobody has attributes.
        """
        features = None
        if self.user_encoder is not None:
            said = pa.nulls(len(users), pa.string()) if attributes is None else attributes
            features = self.user_encoder.encode(pa.table({"attributes": said}))
        return Queries.of(users, histories, now, features, self._code)

    @abstractmethod
    def knows(self, queries: Queries) -> np.ndarray: ...

    @abstractmethod
    def scores(self, queries: Queries) -> np.ndarray: ...

    def scores_of(self, queries: Queries, items_BK: np.ndarray) -> np.ndarray:
        return np.take_along_axis(self.scores(queries), items_BK, axis=1)

    @classmethod
    @abstractmethod
    def align(
        cls, export: ExportFiles, to_model: np.ndarray, items: pa.Table, target: Path, sources: SourceRows
    ) -> None:
        """Write into the folder `target` everything that the export stores per item, in the order of `items`.

        to_model: (N + 1,) int64 row of the catalogue's item → the model's row; 0: the model never saw it.
        Raises ExportDamaged.
        """

    def retriever(self, index: Index | None = None) -> Retriever:
        """Its retriever; without an index, an embedder's items are searched exactly. Raises TypeError: this
        kind retrieves nothing."""
        raise TypeError(f"{self.name}: a {self.role} retrieves nothing")


def features_of(export: ExportFiles, items: pa.Table) -> Features:
    """The features of the bundle's items, encoded as for this model's training: (N + 1) rows, the unknown
    item first. Without an encoder there are no features."""
    file = export.folder / ITEM_ENCODER
    if not file.exists():
        return Features()
    return Encoder.from_json(file.read_text(encoding="utf-8"), str(file)).encode(items).with_unknown()


def user_feature(queries: Queries, name: str) -> np.ndarray:
    columns = queries.features.columns
    key = name.removeprefix("user.")
    if key not in columns:
        raise ExportDamaged(
            f"the model asks for {name!r}; of a shopper there are: {', '.join(columns) or 'none'}"
        )
    return columns[key]
