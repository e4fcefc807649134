"""A feature source: what one trained model embeds of the items, as a dense feature for other models.

`photo` is the embedding of an item's photo, `text` of what is written about it, by a sentence encoder; every
other source has the name of the model that made it: `item2vec` → `dssm`, `two_tower`. It is known by the hash
of the export, or encoder, that made it: embeddings of another training have other axes, and a network that
learned from the one can make nothing of the other.

    N items, row 0 unknown   n items of the source   D of its embeddings
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from etalage.errors import ConfigError
from etalage.features.encoder import Features
from etalage.features.vocabulary import Vocabulary

PHOTO = "photo"
"""The source that a model of photos makes: known of every item with a photo, also of one that is new."""
TEXT = "text"
"""The source that the encoder of [text] makes: known of every item with a word, also of one that is new."""


@dataclass(frozen=True)
class FeatureSource:
    """What one export embeds of the items that it knows. Zeros: nothing is known of the item."""

    item_ids: pa.Array | pa.ChunkedArray | Sequence[str]
    """(n,) unique."""
    embeddings: np.ndarray
    """(n, D) float32."""
    model_hash: str
    """Of the export, or the encoder, that made them."""

    def __post_init__(self) -> None:
        if self.embeddings.ndim != 2 or len(self.item_ids) != len(self.embeddings):
            raise ValueError(
                f"{len(self.item_ids)} items with embeddings of shape {self.embeddings.shape}; "
                "expected (n, D)"
            )

    def by_row(self, items: Vocabulary) -> np.ndarray:
        """(N + 1, D) float32 by row of `items`; zeros for the unknown row and for items it does not know."""
        found = np.zeros((len(items), self.embeddings.shape[1]), np.float32)
        found[items.rows(self.item_ids)] = self.embeddings
        found[0] = 0
        return found


def unknown_items(rows: np.ndarray) -> int:
    """How many items a source does not know; rows: (N + 1, D), as `by_row` gives them."""
    return int((~rows[1:].any(axis=1)).sum())


def with_sources(features: Features, sources: Mapping[str, FeatureSource], items: Vocabulary) -> Features:
    """Features of `items`, with one more dense feature for each source."""
    for name, source in sources.items():
        features = features.plus(name, source.by_row(items))
    return features


def require_features(features: Features, names: Sequence[str], model: str) -> None:
    """Raises ConfigError: items lack a feature that `[models.<model>] feature_sources` names."""
    missing = [name for name in names if name not in features.dense]
    if missing:
        there = ", ".join(features.dense) or "none"
        raise ConfigError(
            f"[models.{model}] feature_sources = {list(names)}: items lack the numbers of {missing[0]!r} "
            f"(they have: {there}); a model that embeds items makes them: `etalage train item2vec` first"
        )
