"""A bundle's items, opened for reading: rows by id, filters as masks, words, categories, photos.

Everything stays memory-mapped; what the filters need is unpacked once into flat arrays, so that a
filter over 100,000 items costs a few vectorised passes.

    N items   P distinct category paths   S photos
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.bundle.files import ITEMS, PHOTOS, read_arrow
from etalage.errors import BundleDamaged, NotFound

SEPARATOR = " > "
"""Between the steps of a category path: `Clothing > Dresses > Maxi dress`."""

SHOWN = ("title", "brand", "price", "currency", "category_id", "in_stock")
"""The columns of an item that every slot of a slate carries."""

HIDDEN = ("photo_sha256",)
"""Columns of the payload that stay inside."""


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


class Kept(NamedTuple):
    """One filter and the number of items that it alone leaves."""

    name: str
    items: int


class Page(NamedTuple):
    """`rows` (≤ limit,) of `total` items that match."""

    rows: np.ndarray
    total: int


class Catalogue:
    """The items and photos of one opened bundle."""

    def __init__(self, items: pa.Table, photos: pa.Table) -> None:
        """`items` in item_row order; `photos` (sha256, bytes), unique. Raises BundleDamaged."""
        self._columns = {name: _whole(items, name) for name in items.column_names}
        missing = {"item_id", "category_id", "photo_sha256", "popularity", "price", "in_stock"} - set(
            self._columns
        )
        if missing:
            raise BundleDamaged(f"items.arrow lacks the columns {sorted(missing)}; publish again")
        self.ids: list[str] = self._columns["item_id"].to_pylist()
        self._row_of = {item_id: row for row, item_id in enumerate(self.ids)}
        if len(self._row_of) != len(self.ids):
            raise BundleDamaged("items.arrow holds the same item_id twice; publish again")
        self.popularity: np.ndarray = _floats(self._columns["popularity"], missing=0.0)
        self.has_photo: np.ndarray = _bools(pc.is_valid(self._columns["photo_sha256"]))
        self._price = _floats(self._columns["price"], missing=np.nan)
        self._stocked = _bools(pc.fill_null(self._columns["in_stock"], True))
        self._paths, self._codes = _encoded(self._columns["category_id"])
        self.by_popularity: np.ndarray = np.argsort(-self.popularity, kind="stable")
        self._photos = _whole(photos, "bytes")
        self._photo_of: dict[str, int] = {
            name: row for row, name in enumerate(_whole(photos, "sha256").to_pylist())
        }

    @classmethod
    def open(cls, folder: Path) -> "Catalogue":
        """The bundle in `folder`. Raises BundleDamaged: items or photos cannot be read."""
        return cls(read_arrow(folder / ITEMS), read_arrow(folder / PHOTOS))

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, item_id: str) -> int | None:
        """The item's row; None when there is no such item."""
        return self._row_of.get(item_id)

    def known_row(self, item_id: str) -> int:
        """The item's row. Raises NotFound."""
        row = self._row_of.get(item_id)
        if row is None:
            raise NotFound(f"item_id {_short(item_id)}: no such item in this bundle")
        return row

    def shown(self, row: int) -> dict[str, Any]:
        """What a slate shows of one item: its id, SHOWN, and whether it has a photo."""
        slot: dict[str, Any] = {"item_id": self.ids[row]}
        for name in SHOWN:
            column = self._columns.get(name)
            slot[name] = None if column is None else column[row].as_py()
        slot["has_photo"] = bool(self.has_photo[row])
        return slot

    def everything(self, row: int) -> dict[str, Any]:
        """All columns of one item, those of HIDDEN left out."""
        item = {n: column[row].as_py() for n, column in self._columns.items() if n not in HIDDEN}
        return {**item, "has_photo": bool(self.has_photo[row])}

    def photo(self, row: int) -> bytes:
        """The image file of an item, unchanged. Raises NotFound when it has none."""
        name = self._columns["photo_sha256"][row].as_py()
        if name is None:
            raise NotFound(f"item_id {_short(self.ids[row])}: this item has no photo")
        photo: bytes = self._photos[self._photo_of[name]].as_py()
        return photo

    def category(self, row: int) -> str | None:
        """The category path of one item."""
        path: str | None = self._columns["category_id"][row].as_py()
        return path

    def mask(self, filters: Filters) -> np.ndarray:
        """(N,) bool: the items that pass every filter. The array is the caller's to change."""
        mask = np.ones(len(self), dtype=bool)
        for _, part in self._parts(filters):
            mask &= part
        return mask

    def kept(self, filters: Filters, among: np.ndarray) -> list[Kept]:
        """How many items of `among` (N,) bool each filter alone leaves: why a slate is short."""
        return [Kept(name, int((part & among).sum())) for name, part in self._parts(filters)]

    def _parts(self, filters: Filters) -> Iterator[tuple[str, np.ndarray]]:
        if filters.category is not None:
            beneath = filters.category + SEPARATOR
            paths = [path == filters.category or path.startswith(beneath) for path in self._paths]
            # The last entry stands for "no category": code -1 picks it.
            yield f"category {_short(filters.category)}", np.array([*paths, False])[self._codes]
        if filters.min_price is not None:
            yield f"min_price {filters.min_price:g}", self._price >= filters.min_price
        if filters.max_price is not None:
            yield f"max_price {filters.max_price:g}", self._price <= filters.max_price
        if filters.in_stock is not None:
            yield f"in_stock {str(filters.in_stock).lower()}", self._stocked == filters.in_stock

    def browse(self, search: str, filters: Filters, offset: int, limit: int) -> Page:
        """Items that pass the filters and hold every word of `search`; the most popular first."""
        mask = self.mask(filters)
        for word in _folded(search).split():
            mask &= _bools(pc.match_substring(self._text, word))
        rows = self.by_popularity[mask[self.by_popularity]]
        return Page(rows[offset : offset + limit], len(rows))

    @cached_property
    def _text(self) -> pa.Array:
        """(N,) title, brand and category in one folded string; made at the first search."""
        parts = [
            pc.fill_null(self._columns[name].cast(pa.large_string()), "")
            for name in ("title", "brand", "category_id")
            if name in self._columns
        ]
        line = pa.scalar("\n", pa.large_string())
        return pc.utf8_lower(pc.utf8_normalize(pc.binary_join_element_wise(*parts, line), "NFKC"))

    def categories(self) -> list[tuple[str, int]]:
        """Every node of the category tree, by path, with the number of items at or beneath it."""
        own = np.bincount(self._codes[self._codes >= 0], minlength=len(self._paths))
        counts: dict[str, int] = {}
        for path, count in zip(self._paths, own, strict=True):
            steps = path.split(SEPARATOR)
            for depth in range(1, len(steps) + 1):
                node = SEPARATOR.join(steps[:depth])
                counts[node] = counts.get(node, 0) + int(count)
        return sorted(counts.items(), key=lambda pair: pair[0].split(SEPARATOR))


def _whole(table: pa.Table, name: str) -> pa.Array:
    """One column as one array. A file of one record batch stays mapped; more batches are copied."""
    if name not in table.column_names:
        raise BundleDamaged(f"a table of the bundle lacks the column {name!r}; publish again")
    column = table.column(name)
    if column.num_chunks == 1:
        return column.chunk(0)
    # 32-bit offsets would overflow at 2 GB of photos in one array.
    wide = {pa.binary(): pa.large_binary(), pa.string(): pa.large_string()}.get(column.type, column.type)
    return column.cast(wide).combine_chunks()


def _floats(column: pa.Array, missing: float) -> np.ndarray:
    return np.asarray(pc.fill_null(column.cast(pa.float64()), missing).to_numpy(zero_copy_only=False))


def _bools(column: pa.Array) -> np.ndarray:
    return np.array(column.to_numpy(zero_copy_only=False), dtype=bool)


def _encoded(column: pa.Array) -> tuple[list[str], np.ndarray]:
    """Category column → (P distinct paths, (N,) codes into them, -1 for none)."""
    encoded = column.dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
    return encoded.dictionary.to_pylist(), codes


def _folded(text: str) -> str:
    # Folded by the same functions as the items' text: Python's own lower() knows more special cases.
    folded: str = pc.utf8_lower(pc.utf8_normalize(pa.scalar(text, pa.large_string()), "NFKC")).as_py()
    return folded


def _short(text: str) -> str:
    return repr(text) if len(text) <= 60 else repr(text[:57]) + "…"
