"""Shopify's products_export.csv: a product stands over several rows, one a variant or one a further picture.

https://help.shopify.com/en/manual/products/import-export/using-csv. A product's first row alone has its
title, vendor and category. Each variant becomes an item: `item_id` is its SKU, or made of the product's
handle where it has none of its own; `item_group_id` is the handle. Where the shop's own mapping says that an
item's id is the handle (or anything that a product has once), a product is one item.

The export of the inventory has a row for each variant at each location: of it the stock alone is read.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from etalage.config import MappingConfig, texts_of
from etalage.lake.feeds.cells import plain_text
from etalage.lake.feeds.contract import Feed, Gathered, Head, named, renamed
from etalage.lake.notes import Notes
from etalage.lake.raw import RawChunk, Refusal
from etalage.lake.readers import open_table

HANDLE, SKU, VARIANT_IMAGE = "Handle", "Variant SKU", "Variant Image"
ITEM_ID, PHOTOS, IN_STOCK, CATEGORY = "(item_id)", "(photos)", "(in_stock)", "(category)"
"""Columns that are made of several of Shopify's."""
_NEW_NAMES = {
    "URL handle": HANDLE,
    "Description": "Body (HTML)",
    "Body HTML": "Body (HTML)",
    "Product category": "Product Category",
    "Published on online store": "Published",
    "SKU": SKU,
    "Barcode": "Variant Barcode",
    "Price": "Variant Price",
    "Compare-at price": "Variant Compare At Price",
    "Inventory tracker": "Variant Inventory Tracker",
    "Inventory quantity": "Variant Inventory Qty",
    "Continue selling when out of stock": "Variant Inventory Policy",
    "Product image URL": "Image Src",
    "Image position": "Image Position",
    "Image alt text": "Image Alt Text",
    "Variant image URL": VARIANT_IMAGE,
    **{f"Option{n} {word}": f"Option{n} {word.title()}" for n in (1, 2, 3) for word in ("name", "value")},
}
"""The names of Shopify's newer exports → those of the others."""
_GOOGLE = "Google Shopping / "
_TELLING = (
    "Title", "Vendor", "Body (HTML)", SKU, "Variant Price", "Image Src", "Option1 Name", "Product Category",
)  # fmt: skip
_OF_PICTURE = ("Image Src", "Image Position", "Image Alt Text")
_OF_VARIANT = ("Variant ", "Cost per item", "Price / ", "Compare At Price / ", "Unit Price", "Unit price")
_LOCATION = "Location"
_STOCK = ("Available", "Available (not editable)", "Available (current)", "On hand", "On hand (current)")
"""What an inventory calls the pieces at a location; the first that it has counts."""
_TRUE = ("true", "1", "yes")
_LONGEST = 10_000
"""Rows of one product that are held; one of Shopify has at most 2,048 variants and 250 pictures."""
Row = dict[str, Any]


def _why(head: Head) -> str | None:
    there = {_NEW_NAMES.get(name, name) for name in head.names}
    telling = [name for name in _TELLING if name in there]
    return (
        "its columns are Handle, " + ", ".join(telling[:4]) if HANDLE in there and len(telling) > 2 else None
    )


def _is_of_variant(name: str) -> bool:
    """Whether a column says something of one variant, or of one picture, and not of the whole product."""
    options = name.startswith("Option") and name.endswith("Value")
    return options or name in _OF_PICTURE or name.startswith(_OF_VARIANT) or "variant.metafields" in name


def _is_variant(row: Row) -> bool:
    """Whether a row is a variant, and not a further picture of the product."""
    return any(name in row for name in (SKU, "Variant Price", "Option1 Value"))


class _Products:
    """The products of a file, one after another. Of those whose rows stand apart all rows are kept until the
    last of them."""

    def __init__(self, head: Head, rows: int, own: MappingConfig) -> None:
        self._head = head
        self._own = own
        self._kept = named(own)
        self._names = {_NEW_NAMES.get(name, name) for name in head.names} | set(head.names)
        said = texts_of(own.columns["item_id"]) if "item_id" in own.columns else ()
        said = tuple(text for text in said if text in self._names)
        self._as_product = bool(said) and not any(_is_of_variant(_NEW_NAMES.get(text, text)) for text in said)
        self._stock = next((name for name in _STOCK if name in head.names), None)
        self._is_inventory = _LOCATION in head.names and self._stock is not None
        self._gathered = Gathered(rows)
        self._notes = Notes()
        self._given: set[int] = set()
        """Hashes of the ids that are given."""

    def chunks(self) -> Iterator[RawChunk]:
        runs = self._runs()
        apart: dict[str, list[tuple[int, Row]]] = {}
        rows: list[tuple[int, Row]] = []
        handle: str | None = None
        for line, row in self._rows():
            if row[HANDLE] != handle or len(rows) >= _LONGEST:
                if handle is not None:
                    self._end(handle, rows, runs, apart)
                    if self._gathered.full:
                        yield self._chunk()
                handle, rows = row[HANDLE], []
            rows.append((line, row))
        if handle is not None:
            self._end(handle, rows, runs, apart)
        yield self._chunk()

    def _raw(self) -> Iterator[RawChunk]:
        table = open_table(self._head.file, self._head.container, 10_000, self._head.style)
        return renamed(table.chunks(), _NEW_NAMES, self._own)

    def _runs(self) -> Counter[int]:
        """Hash of each handle whose rows stand apart → in how many places they stand."""
        runs: Counter[int] = Counter()
        before = None
        for chunk in self._raw():
            for handle in chunk.columns.get(HANDLE, ()):
                if handle != before and handle is not None:
                    runs[hash(handle)] += 1
                before = handle or before
        return Counter({code: count for code, count in runs.items() if count > 1})

    def _rows(self) -> Iterator[tuple[int, Row]]:
        """(line, what is filled) of each row with a handle; the others are refused."""
        for chunk in self._raw():
            self._gathered.chunk.refused += chunk.refused
            for note in chunk.notes:
                self._notes.add(note.what, note.count, note.example)
            for n, line in enumerate(chunk.lines):
                row = {name: values[n] for name, values in chunk.columns.items() if values[n] is not None}
                if HANDLE in row:
                    yield line, row
                    continue
                why = "Handle: is missing"
                self._gathered.chunk.refused.append(Refusal(str(self._head.file), line, why, chunk.row(n)))

    def _end(
        self,
        handle: str,
        rows: list[tuple[int, Row]],
        runs: Counter[int],
        apart: dict[str, list[tuple[int, Row]]],
    ) -> None:
        """One place of a product was read: its items come with the last."""
        code = hash(handle)
        if code in runs:
            apart.setdefault(handle, []).extend(rows)
            runs[code] -= 1
            if runs[code]:
                return
            rows = apart.pop(handle)
            self._notes.add("a product's rows stand apart; they are read as one product", 1, f"{handle}")
        self._product(handle, rows)

    def _product(self, handle: str, rows: list[tuple[int, Row]]) -> None:
        if self._is_inventory:
            self._at_locations(handle, rows)
            return
        first: Row = {}
        for _, row in rows:
            for name, value in row.items():
                if not _is_of_variant(name):
                    first.setdefault(name, value)
        variants = [(line, row) for line, row in rows if _is_variant(row)] or rows[:1]
        for line, row in rows:
            if "Image Src" in row and not _is_variant(row) and line != variants[0][0]:
                self._notes.add(
                    "rows with a further picture of a product: photos of its items", 1, f"line {line}"
                )
        own_links = {row[VARIANT_IMAGE] for _, row in variants if VARIANT_IMAGE in row}
        pictures = _pictures(rows)
        if self._as_product:
            self._as_one(first, variants, [*pictures, *own_links], handle)
            return
        shared = [link for link in pictures if link not in own_links]
        for line, row in variants:
            item = first | row
            links = [item[VARIANT_IMAGE], *shared] if VARIANT_IMAGE in item else shared or pictures
            item[ITEM_ID] = self._item_id(item, handle, len(variants), line)
            item[IN_STOCK] = self._can_be_bought(item, line)
            self._add(line, item, links)

    def _as_one(self, first: Row, variants: list[tuple[int, Row]], links: list[str], handle: str) -> None:
        """The product as one item, with what its first variant says of itself."""
        line, row = variants[0]
        item = first | row
        said = [self._can_be_bought(first | other, at) for at, other in variants]
        item[IN_STOCK] = True if True in said else next((one for one in said if one is not None), None)
        if len(variants) > 1:
            what = "a product of several variants is one item, as item_id says; price and SKU are the first's"
            self._notes.add(what, 1, handle)
        self._add(line, item, links)

    def _at_locations(self, handle: str, rows: list[tuple[int, Row]]) -> None:
        """A product in the export of the inventory: a variant is in stock if it is at any location."""
        variants: dict[tuple[Any, ...], list[tuple[int, Row]]] = {}
        names = (SKU, *(f"Option{n} Value" for n in (1, 2, 3)))
        for line, row in rows:
            key = () if self._as_product else tuple(row.get(name) for name in names)
            variants.setdefault(key, []).append((line, row))
        for those in variants.values():
            line, row = those[0]
            if len(those) > 1:
                self._notes.add("an item at several locations: in stock if it is at one", 1, f"line {line}")
            item = {name: row[name] for name in ("Title", SKU) if name in row} | {HANDLE: handle}
            item[ITEM_ID] = self._item_id(row, handle, len(variants), line)
            item[IN_STOCK] = any(_pieces(one.get(self._stock or "")) > 0 for _, one in those)
            self._gathered.add(line, {name: self._plain(name, value, line) for name, value in item.items()})

    def _add(self, line: int, item: Row, links: list[str]) -> None:
        item[PHOTOS] = list(dict.fromkeys(links)) or None
        item[CATEGORY] = item.get("Product Category") or item.get("Type")
        item["Body (HTML)"] = plain_text(item.get("Body (HTML)"))
        for n in (1, 2, 3):
            value, name = item.get(f"Option{n} Value"), item.get(f"Option{n} Name")
            if value is not None and value != "Default Title":
                item.setdefault(str(name or f"option{n}").strip().lower(), value)
        made = {f"Option{n} {word}" for n in (1, 2, 3) for word in ("Name", "Value", "Linked To")}
        for name in (*_OF_PICTURE, VARIANT_IMAGE, *made):
            if name not in self._kept:
                item.pop(name, None)
        if "Image Src" in self._kept and links:
            item["Image Src"] = item[PHOTOS]
        row = {self._name(name): self._plain(name, value, line) for name, value in item.items()}
        self._gathered.add(line, row, sum(len(value) for value in row.values() if isinstance(value, str)))

    def _name(self, name: str) -> str:
        """`Google Shopping / Age Group` → `age_group`."""
        if not name.startswith(_GOOGLE) or name in self._kept:
            return name
        return name.removeprefix(_GOOGLE).lower().replace(" ", "_")

    def _plain(self, name: str, value: Any, line: int) -> Any:
        """Without the apostrophe before it, by which Shopify keeps spreadsheets from reading a number."""
        if name not in (ITEM_ID, SKU, "Variant Barcode") or not str(value).startswith("'"):
            return value
        if name != ITEM_ID:
            what = f"{name}: the apostrophe before it, Shopify's for spreadsheets, is taken away"
            self._notes.add(what, 1, f"line {line}: {value}")
        return str(value)[1:] or None

    def _item_id(self, item: Row, handle: str, variants: int, line: int) -> str:
        sku = str(item.get(SKU, "")).removeprefix("'")
        if sku and hash(sku) not in self._given:
            self._given.add(hash(sku))
            return sku
        options = [str(item[name]) for n in (1, 2, 3) if (name := f"Option{n} Value") in item]
        made = "-".join([handle, *options]) if variants > 1 else handle
        what = "Variant SKU is another item's too" if sku else "no Variant SKU"
        self._notes.add(f"{what}: item_id is made of the handle", 1, f"line {line}: {made}")
        return made

    def _can_be_bought(self, item: Row, line: int) -> bool | None:
        status = str(item.get("Status", "active")).strip().lower()
        if status != "active" or str(item.get("Published", "true")).strip().lower() not in _TRUE:
            what = f"Status is {status}" if status != "active" else "not published"
            self._notes.add(f"{what}: taken with in_stock = false", 1, f"line {line}")
            return False
        tracked = "Variant Inventory Tracker" in item
        if not tracked:  # an export without any column of stock says nothing of it
            return True if "Variant Inventory Tracker" in self._names else None
        if str(item.get("Variant Inventory Policy", "deny")).strip().lower() in ("continue", *_TRUE):
            return True
        try:
            return float(item["Variant Inventory Qty"]) > 0
        except (KeyError, TypeError, ValueError):
            return None

    def _chunk(self) -> RawChunk:
        chunk = replace(self._gathered.chunk, notes=self._notes.all())
        self._notes = Notes()
        self._gathered.clear()
        return chunk


def _pieces(value: Any) -> float:
    """A number of pieces; none where it says `not stocked`."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _pictures(rows: list[tuple[int, Row]]) -> list[str]:
    """The product's pictures by their positions, each once."""

    def position(pair: tuple[int, Row]) -> float:
        try:
            return float(pair[1]["Image Position"])
        except (KeyError, TypeError, ValueError):
            return float("inf")

    found = [pair for pair in rows if "Image Src" in pair[1]]
    return list(dict.fromkeys(row["Image Src"] for _, row in sorted(found, key=position)))


def _read(head: Head, rows: int, own: MappingConfig) -> Iterator[RawChunk]:
    return _Products(head, rows, own).chunks()


def _preset(head: Head, own: MappingConfig) -> MappingConfig:
    return MappingConfig(
        columns={
            "item_id": ITEM_ID,
            "title": "Title",
            "description": "Body (HTML)",
            "brand": "Vendor",
            "price": "Variant Price",
            "category_id": CATEGORY,
            "item_group_id": HANDLE,
            "photo_url": PHOTOS,
            "in_stock": IN_STOCK,
            "attributes.sku": SKU,
            "attributes.gtin": "Variant Barcode",
            "attributes.compare_at_price": "Variant Compare At Price",
            "attributes.tags": "Tags",
            "attributes.product_type": "Type",
            "attributes.google_product_category": "google_product_category",
        },
        leave_out=(ITEM_ID, PHOTOS, IN_STOCK, CATEGORY, "Product Category"),
        keep_others=True,
    )


FEED = Feed(
    name="shopify",
    title="a product export of Shopify",
    table="items",
    containers=("csv",),
    why=_why,
    read=_read,
    preset=_preset,
    canonical=lambda name: _NEW_NAMES.get(name, name),
    made={
        ITEM_ID: "Variant SKU, or made of Handle and the options where a variant has none of its own",
        PHOTOS: "made of Variant Image, and of Image Src in all rows of the product",
        IN_STOCK: "made of Status, Published and the columns of the inventory",
        CATEGORY: "Product Category, else Type",
    },
    notes=(
        "an item for each variant: item_id is Variant SKU, or made of Handle where a variant has none of its "
        'own; item_group_id is Handle. For one item a product: item_id = "Handle"',
        "price is what is asked now; compare_at_price, what was asked before, is an attribute",
        "in_stock is false of drafts, of what is archived or not published, and of what is sold out",
        "of an export of the inventory (a row for each location) in_stock alone is read; that a variant is "
        "sold though there is none, only the export of the products says",
        "the export does not say the currency: [ingest.items.constants] currency",
    ),
)
