"""A bundle's items, opened for reading: rows by id, filters as masks, search, categories, photos.

Everything stays memory-mapped; what the filters need is unpacked once into flat arrays, so that a
filter over 100,000 items costs a few vectorised passes.

Row 0 is the unknown item, as everywhere; items have rows 1 … N, in the order of their ids. Row 0 passes no
filter.

    N items   P distinct category paths   S photos
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.api import photo_path
from etalage.errors import BundleDamaged, NotFound
from etalage.funnel.attributes import AttributeIndex
from etalage.funnel.filters import Filters, Stock
from etalage.funnel.spelling import Vocabulary
from etalage.index.conditions import Mask
from etalage.sentences import called

__all__ = ["HIDDEN", "SEPARATOR", "SHOWN", "Catalogue", "Filters", "Kept", "Stock"]

MASKS_KEPT = 32
"""How many masks of category, brand and attribute filters are kept; each takes a byte per item."""
SEPARATOR = " > "
"""Separates the steps of a category path: `Clothing > Dresses > Maxi dress`."""
Whose = Literal["merchants", "classified"]
"""Which categories: the merchants' own, or the classifier's."""

NOT_SOLD_OUT = "not sold out"
"""Filter → its name in the explanation of a slate."""
SHOWN = ("title", "brand", "price", "currency", "category_id", "in_stock")
"""The columns of an item that every slot of a slate carries."""

COLOUR_NAMES = frozenset(
    {"colour", "color", "main_colour", "main_color", "base_colour", "base_color", "basecolour"}
    | {"basecolor", "farbe", "couleur", "kleur"}
)
"""Attributes that name the colour of an item, in shops' own words."""

HIDDEN = ("photo_sha256", "source_updated_at")
"""Columns of the payload that no answer shows."""


class Kept(NamedTuple):
    """One filter, and how many items it leaves by itself."""

    name: str
    items: int


class Catalogue:
    """The items and photos of one opened bundle."""

    def __init__(self, items: pa.Table, photos: pa.Table, currency: str | None = None) -> None:
        """`items` in item_row order; `photos` (sha256, bytes), unique; `currency`: for items that name none.
        Raises BundleDamaged."""
        self._columns = {name: _whole(items, name) for name in items.column_names}
        if currency is not None:
            own = self._columns.get("currency", pa.nulls(items.num_rows, pa.string()))
            self._columns["currency"] = pc.fill_null(own, currency)
        missing = {"item_id", "category_id", "photo_sha256", "popularity", "price", "in_stock"} - set(
            self._columns
        )
        if missing:
            raise BundleDamaged(f"items.arrow lacks the columns {sorted(missing)}; publish again")
        self.ids: list[str] = ["", *self._columns["item_id"].to_pylist()]
        """(N + 1,) by row; row 0 has none."""
        self._row_of = {item_id: row for row, item_id in enumerate(self.ids) if row}
        if len(self._row_of) != len(self):
            raise BundleDamaged("items.arrow holds the same item_id twice; publish again")
        self.popularity: np.ndarray = _with_unknown(_floats(self._columns["popularity"], missing=0.0), 0.0)
        self.has_photo: np.ndarray = _with_unknown(bools(pc.is_valid(self._columns["photo_sha256"])), False)
        stocked = self._columns["in_stock"]
        self.stock = Stock(
            _frozen(_with_unknown(bools(pc.fill_null(stocked, False)), False)),
            _frozen(_with_unknown(bools(pc.invert(pc.fill_null(stocked, True))), False)),
            _frozen(_with_unknown(_floats(self._columns["price"], missing=np.nan), np.nan)),
            {},
        )
        """Stock and prices in the tables when the bundle was made."""
        self._attributes = AttributeIndex(
            self._columns.get("attributes", pa.nulls(items.num_rows, pa.string()))
        )
        # Few filters are asked for again and again; each costs a pass over all items the first time.
        self._masks: dict[tuple[str, str, str], np.ndarray] = {}
        classified = self._columns.get("classified_path", pa.nulls(len(self), pa.string()))
        self._trees = {
            "merchants": _encoded(self._columns["category_id"]),
            "classified": _encoded(classified),
        }
        confidence = self._columns.get("classified_confidence", pa.nulls(len(self), pa.float64()))
        self.confidence: np.ndarray = _frozen(_with_unknown(_floats(confidence, missing=np.nan), np.nan))
        """(N + 1,) float64 confidence of the classified category; NaN = not classified."""
        self.by_popularity: np.ndarray = np.argsort(-self.popularity[1:], kind="stable") + 1
        """(N,) item rows, the most popular first."""
        self._shown = [(name, self._columns.get(name)) for name in SHOWN]
        self._photos = _whole(photos, "bytes")
        self._photo_of: dict[str, int] = {
            name: row for row, name in enumerate(_whole(photos, "sha256").to_pylist())
        }

    def __len__(self) -> int:
        """N."""
        return len(self.ids) - 1

    def row(self, item_id: str) -> int:
        """The item's row; 0 when there is no such item."""
        return self._row_of.get(item_id, 0)

    def rows(self, item_ids: Iterable[str]) -> np.ndarray:
        """(K,) int64 of `row`."""
        return np.array([self._row_of.get(item_id, 0) for item_id in item_ids], np.int64)

    def _cell(self, column: pa.Array, row: int) -> Any:
        """The value of a file's column for the item in a row."""
        return column[row - 1].as_py()

    def known_row(self, item_id: str) -> int:
        """The item's row. Raises NotFound."""
        row = self.row(item_id)
        if row == 0:
            raise NotFound(f"item_id {_short(item_id)}: no such item in this bundle")
        return row

    def stock_after(self, changes: Mapping[str, Mapping[str, Any]]) -> Stock:
        """The stock, updated with the `changes` of an online store {item_id: {in_stock, price, time}}.

        A value in the tables that is newer than a change (`updated_at`) stays; unknown items are ignored.
        """
        rows: dict[int, Mapping[str, Any]] = {}
        for item_id, change in changes.items():
            row = self.row(item_id)
            if row and change.get("time", 0) >= self._updated(row):
                rows[row] = change
        if not rows:
            return self.stock
        stocked, sold_out = self.stock.stocked.copy(), self.stock.sold_out.copy()
        price = self.stock.price.copy()
        for row, change in rows.items():
            if "in_stock" in change:
                stocked[row], sold_out[row] = change["in_stock"], not change["in_stock"]
            price[row] = change.get("price", price[row])
        return Stock(_frozen(stocked), _frozen(sold_out), _frozen(price), rows)

    def _updated(self, row: int) -> int:
        column = self._columns.get("updated_at")
        if column is None or not column[row - 1].is_valid:
            return 0
        return int(column[row - 1].cast(pa.timestamp("us", tz="UTC")).value)

    def shown(self, row: int, stock: Stock | None = None) -> dict[str, Any]:
        """The fields of api.Item: what a slate shows of one item, as it is in `stock`."""
        item: dict[str, Any] = {"item_id": self.ids[row]}
        for name, column in self._shown:
            item[name] = None if column is None else column[row - 1].as_py()
        item["photo"] = self._photo_path(row)
        if stock is not None and row in stock.changes:
            item |= {name: value for name, value in stock.changes[row].items() if name in item}
        return item

    def title(self, row: int) -> str:
        """An item's name for shoppers: its title, or else what `called` makes of it."""
        brand, category = (self._text(name, row) for name in ("brand", "category_id"))
        return called(self.own_title(row), brand, category, self.ids[row])

    def own_title(self, row: int) -> str | None:
        """The title as it is; None if the item has none."""
        return self._text("title", row)

    def _text(self, name: str, row: int) -> str | None:
        column = self._columns.get(name)
        found: str | None = None if column is None else self._cell(column, row)
        return found

    def classified(self, row: int) -> tuple[str | None, str | None, float | None]:
        """Id, path and confidence of the classified category; all None if the item is not classified."""
        columns = (self._columns.get(f"classified_{name}") for name in ("id", "path", "confidence"))
        leaf, path, confidence = (None if column is None else self._cell(column, row) for column in columns)
        return leaf, path, confidence

    def everything(self, row: int) -> dict[str, Any]:
        """All columns of one item except those in HIDDEN."""
        item = {n: self._cell(column, row) for n, column in self._columns.items() if n not in HIDDEN}
        return {**item, "photo": self._photo_path(row)}

    def _photo_path(self, row: int) -> str | None:
        return photo_path(self.ids[row]) if self.has_photo[row] else None

    def photo(self, row: int) -> bytes:
        """The image file of an item, unchanged. Raises NotFound: it has none."""
        name = self._cell(self._columns["photo_sha256"], row)
        if name is None:
            raise NotFound(f"item_id {_short(self.ids[row])}: this item has no photo")
        photo: bytes = self._photos[self._photo_of[name]].as_py()
        return photo

    def colour(self, row: int) -> tuple[str, str] | None:
        """The attribute that names an item's colour, and its value; None: no attribute does."""
        column = self._columns.get("attributes")
        written = None if column is None else self._cell(column, row)
        try:
            attributes = json.loads(written) if written else {}
        except ValueError:
            return None
        for name, value in attributes.items() if isinstance(attributes, dict) else ():
            if name.casefold() in COLOUR_NAMES and isinstance(value, str) and value.strip():
                return name, value
        return None

    def category(self, row: int) -> str | None:
        """The category path of one item."""
        path: str | None = self._cell(self._columns["category_id"], row)
        return path

    def mask(self, filters: Filters, stock: Stock | None = None) -> np.ndarray:
        """(N + 1,) bool: the items that pass every filter. The caller may close the array further."""
        mask = self.every
        for _, part in self.parts(filters, stock):
            mask &= part
        return self._told(mask, filters, stock)

    def _told(self, mask: np.ndarray, filters: Filters, stock: Stock | None) -> Mask:
        """The mask with what an index elsewhere can be told of it: the fields that it stores of an item are
        those of the bundle, and of some items stock and price have changed since."""
        return Mask.of(mask, filters.conditions, (stock or self.stock).changed)

    @property
    def every(self) -> np.ndarray:
        """(N + 1,) bool: all items, but not row 0. The caller may change the array."""
        mask = np.ones(len(self) + 1, dtype=bool)
        mask[0] = False
        return mask

    def allowed(self, filters: Filters, stock: Stock | None = None) -> np.ndarray | None:
        """As `mask`, but read-only and without `exclude`; None if everything passes.

        The most frequent filter, "not sold out", costs nothing.
        """
        stock = stock or self.stock
        mask = stock.mask if filters.not_sold_out else None
        rest = replace(filters, not_sold_out=False, exclude=())
        for _, part in self.parts(rest, stock):
            mask = part if mask is None else mask & part
        return None if mask is None else self._told(mask, filters, stock)

    def kept(self, filters: Filters, among: np.ndarray, stock: Stock | None = None) -> list[Kept]:
        """How many items of `among` (N + 1,) bool each filter leaves by itself, to explain a short slate."""
        return [Kept(name, int((part & among).sum())) for name, part in self.parts(filters, stock)]

    def parts(self, filters: Filters, stock: Stock | None = None) -> Iterator[tuple[str, np.ndarray]]:
        """Each requested filter by name, and the (N + 1,) bool of the items that pass it."""
        stock = stock or self.stock
        if filters.category is not None:
            yield f"category {_short(filters.category)}", self._having("category", "", filters.category)
        if filters.classified is not None:
            yield (
                f"classified {_short(filters.classified)}",
                self._having("classified", "", filters.classified),
            )
        if filters.min_confidence is not None:
            yield f"min_confidence {filters.min_confidence:g}", self.confidence >= filters.min_confidence
        if filters.brand is not None:
            yield f"brand {_short(filters.brand)}", self._having("brand", "", filters.brand)
        for key, value in sorted((filters.attributes or {}).items()):
            yield f"{_short(key)} = {_short(value)}", self._having("attribute", key, value)
        if filters.min_price is not None:
            yield f"min_price {filters.min_price:g}", stock.price >= filters.min_price
        if filters.max_price is not None:
            yield f"max_price {filters.max_price:g}", stock.price <= filters.max_price
        if filters.in_stock is not None:
            yield (
                f"in_stock {str(filters.in_stock).lower()}",
                (stock.stocked if filters.in_stock else stock.sold_out),
            )
        if filters.not_sold_out:
            yield NOT_SOLD_OUT, self.every if stock.mask is None else stock.mask
        if filters.exclude:
            mask = self.every
            mask[self.rows(filters.exclude)] = False
            yield f"exclude {len(filters.exclude)}", mask

    def _having(self, *asked: str) -> np.ndarray:
        """`_make_having` with a cache of the MASKS_KEPT newest masks."""
        what, key, value = asked
        mask = self._masks.get((what, key, value))
        if mask is None:
            mask = self._make_having(what, key, value)
            for old in list(self._masks)[: len(self._masks) - MASKS_KEPT + 1]:
                self._masks.pop(old, None)
            self._masks[what, key, value] = mask
        return mask

    def _make_having(self, what: str, key: str, value: str) -> np.ndarray:
        """(N + 1,) bool, read-only: the items in a category or beneath it (the merchant's or the classified
        one), of a brand, or with an attribute."""
        if what in ("category", "classified"):
            every, codes = self._trees["classified" if what == "classified" else "merchants"]
            beneath = value + SEPARATOR
            paths = [path == value or path.startswith(beneath) for path in every]
            # The last entry stands for "no category": code -1 picks it.
            return _frozen(np.array([*paths, False])[codes])
        if what == "brand":
            column = self._columns.get("brand")
            equal = None if column is None else pc.fill_null(pc.equal(column, value), False)
            found = np.zeros(len(self), bool) if equal is None else bools(equal)
            return _frozen(_with_unknown(found, False))
        return _frozen(_with_unknown(self._attributes.mask(key, value), False))

    @cached_property
    def category_codes(self) -> np.ndarray:
        """(N + 1,) int32 codes of the categories, the classified one if an item has none of its own; -1 =
        none."""
        own, classified = self._columns["category_id"], self._columns.get("classified_path")
        if own.null_count == 0 or classified is None:
            return self._trees["merchants"][1]
        return _encoded(pc.coalesce(own, classified.cast(own.type)))[1]

    @cached_property
    def brands(self) -> tuple[list[str], np.ndarray]:
        """The distinct brands, and (N + 1,) int32 codes into them; -1 = none."""
        column = self._columns.get("brand")
        return ([], np.full(len(self) + 1, -1, np.int32)) if column is None else _encoded(column)

    @property
    def brand_codes(self) -> np.ndarray:
        """(N + 1,) int32 codes of the brands; -1 = none."""
        return self.brands[1]

    @cached_property
    def group_codes(self) -> np.ndarray | None:
        """(N + 1,) int32 codes of item_group_id, -1 = none; None: no product has two items."""
        column = self._columns.get("item_group_id")
        if column is None or column.null_count == len(self):
            return None
        codes = _encoded(column)[1]
        return codes if np.bincount(codes[codes >= 0]).max() > 1 else None

    def values(self, name: str, rows: np.ndarray, stock: Stock | None = None) -> np.ndarray:
        """(K,) float64: `price`, or the number in `attributes.<key>`; NaN where there is none."""
        if name == "price":
            return (stock or self.stock).price[rows]
        column, key = self._columns.get("attributes"), name.removeprefix("attributes.")
        found = np.full(len(rows), np.nan)
        if column is None:
            return found
        for place, row in enumerate(rows):
            written = self._cell(column, int(row))
            try:
                found[place] = float(json.loads(written)[key]) if written else np.nan
            except (ValueError, KeyError, TypeError):
                continue
        return found

    @cached_property
    def text(self) -> pa.Array:
        """(N,) title, brand and both categories in one folded string; made at the first search."""
        parts = [
            pc.fill_null(self._columns[name].cast(pa.large_string()), "")
            for name in ("title", "brand", "category_id", "classified_path")
            if name in self._columns
        ]
        line = pa.scalar("\n", pa.large_string())
        return pc.utf8_lower(pc.utf8_normalize(pc.binary_join_element_wise(*parts, line), "NFKC"))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words of `text`; made when the first search finds nothing."""
        return Vocabulary(self.text)

    @cached_property
    def title_ranks(self) -> np.ndarray:
        """(N + 1,) int64 place of each title in the alphabet; items without one come last."""
        titles = self._columns.get("title", pa.nulls(len(self), pa.string())).cast(pa.large_string())
        lowered = pc.utf8_lower(pc.utf8_normalize(titles, "NFKC"))
        ranks = pc.rank(lowered, tiebreaker="dense")  # nulls last
        return _with_unknown(np.asarray(ranks).astype(np.int64), np.int64(0))

    def categories(self, of: Whose = "merchants") -> list[tuple[str, int]]:
        """Every node of the category tree, by path, with the number of items at or beneath it."""
        paths, codes = self._trees[of]
        own = np.bincount(codes[codes >= 0], minlength=len(paths))
        counts: dict[str, int] = {}
        for path, count in zip(paths, own, strict=True):
            steps = path.split(SEPARATOR)
            for depth in range(1, len(steps) + 1):
                node = SEPARATOR.join(steps[:depth])
                counts[node] = counts.get(node, 0) + int(count)
        return sorted(counts.items(), key=lambda pair: pair[0].split(SEPARATOR))


def _whole(table: pa.Table, name: str) -> pa.Array:
    """One column as one array. A file with one record batch stays memory-mapped; more batches are copied."""
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


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def bools(column: pa.Array) -> np.ndarray:
    """(N,) bool of a column without nulls."""
    return np.array(column.to_numpy(zero_copy_only=False), dtype=bool)


def _encoded(column: pa.Array) -> tuple[list[str], np.ndarray]:
    """Category column → (P distinct paths, (N + 1,) codes into them; -1 for no category and for row 0)."""
    encoded = column.dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
    return encoded.dictionary.to_pylist(), _with_unknown(codes, np.int32(-1))


def _with_unknown(array: np.ndarray, unknown: Any) -> np.ndarray:
    """(N,) values of the items → (N + 1,), with the value for row 0 in front."""
    return np.concatenate([np.array([unknown], array.dtype), array])


def folded(text: str) -> str:
    """As `Catalogue.text` is."""
    # Folded by the same functions as the items' text: Python's own lower() knows more special cases.
    folded: str = pc.utf8_lower(pc.utf8_normalize(pa.scalar(text, pa.large_string()), "NFKC")).as_py()
    return folded


def _short(text: str) -> str:
    return repr(text) if len(text) <= 60 else repr(text[:57]) + "…"
