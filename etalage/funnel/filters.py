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
    """Known to be in stock, or known not to be; an item whose stock is not known passes neither."""
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
    not_sold_out: bool = False
    """Leaves out what is known not to be in stock; an item whose stock is not known passes."""


@dataclass(frozen=True)
class Stock:
    """What can be bought now at which price: the bundle's columns, with later changes over them."""

    stocked: np.ndarray
    """(N + 1,) bool, read-only: known to be in stock; row 0 is not."""
    sold_out: np.ndarray
    """(N + 1,) bool, read-only: known not to be; of what is in neither, the stock is not known."""
    price: np.ndarray
    """(N + 1,) float64, NaN = not known; read-only."""
    changes: Mapping[int, Mapping[str, Any]]
    """Of single rows: `in_stock`, `price`."""

    @cached_property
    def mask(self) -> np.ndarray | None:
        """(N + 1,) bool: what is not sold out; None when nothing is."""
        if not self.sold_out.any():
            return None
        mask = ~self.sold_out
        mask[0] = False
        return mask
