"""What an item must be to be shown, and what can be bought now."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Filters:
    """What an item must be, to be shown; None asks nothing."""

    category: str | None = None
    """This category path and everything beneath it."""
    min_price: float | None = None
    max_price: float | None = None
    """Inclusive, in the item's own currency; an item of unknown price passes neither."""
    in_stock: bool | None = None
    """An item whose stock is not known counts as in stock."""
    brand: str | None = None
    attributes: Mapping[str, str] | None = None
    """Every one of these must be just so."""
    exclude: tuple[str, ...] = ()
    """item_ids that must not come."""
    classified: str | None = None
    """This path of the taxonomy and everything beneath it, as the classifier told it; `category` is the
    merchant's own."""
    min_confidence: float | None = None
    """Classified with at least this confidence; an item that is not classified passes no such filter."""


@dataclass(frozen=True)
class Stock:
    """What can be bought now at which price: the bundle's columns, with later changes over them."""

    stocked: np.ndarray
    """(N,) bool, read-only."""
    price: np.ndarray
    """(N,) float64, NaN = not known; read-only."""
    changes: Mapping[int, Mapping[str, Any]]
    """Of single rows: `in_stock`, `price`."""

    @cached_property
    def mask(self) -> np.ndarray | None:
        """`stocked`; None when everything is."""
        return None if self.stocked.all() else self.stocked
