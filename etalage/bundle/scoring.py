"""Who → a score for every item, by any exported model of behaviour. numpy and ONNX Runtime, no torch.

Evaluation, publish, sync and the server all score through what `open_scorer` opens, so what is measured
is what is served.

    B queries   N items (row 0: unknown)   K items a query
"""

from pathlib import Path
from typing import Protocol

import numpy as np

from etalage.bundle.counting import ItemItemScorer, PriorScorer
from etalage.bundle.embedding import EmbeddingScorer
from etalage.bundle.opened import Base, read_opened
from etalage.bundle.pairing import PairScorer
from etalage.errors import ExportDamaged
from etalage.features.behaviour import Queries
from etalage.features.vocabulary import Vocabulary

__all__ = ["EmbeddingScorer", "ItemItemScorer", "PairScorer", "PriorScorer", "Scorer", "open_scorer"]


class Scorer(Protocol):
    """An opened model. Safe to share between threads; never changes."""

    name: str
    role: str
    model_hash: str
    items: Vocabulary
    users: Vocabulary
    kinds: tuple[str, ...]

    def knows(self, queries: Queries) -> np.ndarray:
        """(B,) bool: it can say more of this shopper than of anybody."""
        ...

    def scores(self, queries: Queries) -> np.ndarray:
        """(B, N + 1) float32 of every item; column 0 is -inf."""
        ...

    def scores_of(self, queries: Queries, items_BK: np.ndarray) -> np.ndarray:
        """(B, K) float32 of these item rows; -inf for row 0."""
        ...


def open_scorer(folder: Path, threads: int = 1, verify: bool = True) -> Base:
    """Any export of a model of behaviour, placed or not. Raises ExportDamaged."""
    opened = read_opened(Path(folder), verify)
    scoring = opened.facts["scoring"]
    if scoring == "prior":
        return PriorScorer(opened)
    if scoring == "item_item":
        return ItemItemScorer(opened)
    if scoring == "embeddings":
        return EmbeddingScorer(opened, threads)
    if scoring == "pairs":
        return PairScorer(opened, threads)
    raise ExportDamaged(f"{folder}: scoring {scoring!r}, which this version cannot open; install a newer one")
