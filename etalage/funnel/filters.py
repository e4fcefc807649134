"""The filters of a request, and the stock: which items may be shown, and which can be bought now."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from etalage.index.conditions import FIELDS, Condition, How


@dataclass(frozen=True)
class Filters:
    """What an item must be to be shown; None: no condition."""

    category: str | None = None
    """This category path and everything beneath it."""
    min_price: float | None = None
    max_price: float | None = None
    """Inclusive bounds in the item's own currency; an item of unknown price passes neither."""
    in_stock: bool | None = None
    """True: known to be in stock; False: known not to be. An item of unknown stock passes neither."""
    brand: str | None = None
    attributes: Mapping[str, str] | None = None
    """The item must have every one of these attributes with exactly this value."""
    exclude: tuple[str, ...] = ()
    """item_ids that must not be shown."""
    classified: str | None = None
    """The classified category: this path of the taxonomy and everything beneath it. (`category` is the
    merchant's own.)"""
    min_confidence: float | None = None
    """Least confidence of the classified category; an item that is not classified does not pass."""
    not_sold_out: bool = False
    """Leave out items known to be sold out; an item of unknown stock passes."""

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The same in terms of the fields that an index stores. `exclude` names items: it is none."""
        asked: list[tuple[str, How, Any]] = [
            ("category", "beneath", self.category),
            ("classified", "beneath", self.classified),
            ("confidence", "at_least", self.min_confidence),
            ("brand", "is", self.brand),
            ("price", "at_least", self.min_price),
            ("price", "at_most", self.max_price),
            ("in_stock", "is", self.in_stock),
            ("in_stock", "is_not", False if self.not_sold_out else None),
        ]
        found = [Condition(*one) for one in asked if one[2] is not None]
        found += [
            Condition("attributes", "is", *pair[::-1]) for pair in sorted((self.attributes or {}).items())
        ]
        return tuple(found)


@dataclass(frozen=True)
class Stock:
    """What can be bought now at which price: the bundle's columns, updated with later changes."""

    stocked: np.ndarray
    """(N + 1,) bool, read-only: known to be in stock; False for row 0."""
    sold_out: np.ndarray
    """(N + 1,) bool, read-only: known not to be in stock. If both are False, the stock is unknown."""
    price: np.ndarray
    """(N + 1,) float64, NaN = not known; read-only."""
    changes: Mapping[int, Mapping[str, Any]]
    """Row → its changed `in_stock` and `price`."""

    @cached_property
    def changed(self) -> np.ndarray:
        """(C,) int64 rows of `changes`."""
        return np.fromiter(self.changes, np.int64, len(self.changes))

    @cached_property
    def mask(self) -> np.ndarray | None:
        """(N + 1,) bool: items that are not sold out; None if no item is sold out."""
        if not self.sold_out.any():
            return None
        mask = ~self.sold_out
        mask[0] = False
        return mask


FIELD_OF = {
    "id": "item_id",
    "category": "category_id",
    "classified": "classified_path",
    "brand": "brand",
    "price": "price",
    "confidence": "classified_confidence",
    "in_stock": "in_stock",
    "attributes": "attributes",
}
"""Field of an index → column of a bundle's items."""


def fields_of(items: pa.Table) -> pa.Table:
    """(N,) rows of conditions.FIELDS, of a bundle's items in their order."""
    return pa.table(
        {
            name: items[FIELD_OF[name]] if FIELD_OF[name] in items.column_names else pa.nulls(items.num_rows)
            for name in FIELDS
        }
    )


def nothing_known(ids: pa.Array) -> pa.Table:
    """(N,) rows of conditions.FIELDS, of which nothing is known but the `ids`."""
    return pa.table({name: ids if name == "id" else pa.nulls(len(ids)) for name in FIELDS})
