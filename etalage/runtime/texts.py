"""What a sentence encoder made of the catalogue's texts, as a bundle holds it: the encoder is not needed."""

from dataclasses import dataclass

import numpy as np

from etalage.index import Index


@dataclass(frozen=True)
class TextModel:
    """Embeddings of the items' texts, and the index of them."""

    embeddings: np.ndarray
    """(N + 1, D) float32 of the bundle's items, zeros without a text and for row 0."""
    index: Index
