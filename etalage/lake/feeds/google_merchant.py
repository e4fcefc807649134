"""Google Merchant Center's product feed, as text by tab (or comma), as RSS or Atom, and as JSON; Meta's
catalogue is the same.

https://support.google.com/merchants/answer/7052112. Names are written with underscores or blanks. The price
is the regular one; `sale_price`, and all else that has no column of ours, is an attribute.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from etalage.config import MappingConfig
from etalage.lake.column_names import plain
from etalage.lake.feeds.cells import main_path, plain_text, several_paths
from etalage.lake.feeds.contract import Feed, Head, named, renamed
from etalage.lake.notes import Note
from etalage.lake.raw import RawChunk
from etalage.lake.readers import open_table

_NAMES_WORDS = """
id title description link image_link additional_image_link mobile_link lifestyle_image_link availability
availability_date expiration_date price sale_price sale_price_effective_date cost_of_goods_sold
unit_pricing_measure unit_pricing_base_measure google_product_category fb_product_category product_type
brand gtin mpn identifier_exists condition adult multipack is_bundle age_group color gender material
pattern size size_type size_system item_group_id product_length product_width product_height
product_weight product_detail product_highlight custom_label_0 custom_label_1 custom_label_2
custom_label_3 custom_label_4 promotion_id shipping shipping_label shipping_weight shipping_length
shipping_width shipping_height tax tax_category installment energy_efficiency_class
quantity_to_sell_on_facebook inventory canonical_link ads_redirect
"""
_NAMES = frozenset(_NAMES_WORDS.split())
_TELLING_WORDS = """
image_link additional_image_link availability google_product_category fb_product_category item_group_id
identifier_exists sale_price_effective_date mobile_link product_type gtin condition
"""
_TELLING = frozenset(_TELLING_WORDS.split())
_OTHER_NAMES = {
    "offer_id": "id",
    "product_types": "product_type",
    "additional_image_links": "additional_image_link",
}
"""As the Content API says in JSON."""
_SUPPLEMENTS = ("price", "sale_price", "brand", "link", "title")
"""What a supplemental feed adds to items that are known, besides what tells a feed."""
_MORE_PHOTOS = re.compile(r"(?:additional_)?image_link[\s_(]*\d+\)?")
"""`additional_image_link (2)`: columns that plugins number, or that stood in the header more than once."""
CATEGORY = "(category)"
"""A column that is made of the two of Google's."""
_SEVERAL = frozenset({"additional_image_link", "image_link", "product_type"})
"""What may stand several times in an item; of others that we have a column for, the first counts."""
_ONCE = {
    "item_id": "id",
    "title": "title",
    "description": "description",
    "brand": "brand",
    "price": "price",
    "in_stock": "availability",
    "item_group_id": "item_group_id",
}


def plain_name(name: str) -> str:
    """`Image Link`, `imageLink`, `g:image_link` → `image_link`; what is no name of Google's stays."""
    called = plain(name.strip().removeprefix("g:").removeprefix("G:"))
    called = _OTHER_NAMES.get(called, called)
    return called if called in _NAMES else name


def _why(head: Head) -> str | None:
    there = {plain_name(name) for name in head.names}
    telling = sorted(there & _TELLING)
    named_so = "title" in there or len(telling) >= 2 or there <= _NAMES
    if head.container == "xml" and "id" in there and there & {"title", "price", "image_link"} and named_so:
        return "its items have an id, and " + ", ".join(sorted(there & _NAMES - {"id"})[:4])
    if {"id", "title"} <= there and len(telling) >= 2 and there & {"image_link", "availability", "link"}:
        return "its columns are id, title, " + ", ".join(telling[:4])
    if {"id"} <= there <= _NAMES and telling and len(there & {*_TELLING, *_SUPPLEMENTS}) >= 2:
        return "its columns are all of a feed: " + ", ".join(sorted(there)[:6])
    return None


def _read(head: Head, rows: int, own: MappingConfig) -> Iterator[RawChunk]:
    chunks: Iterator[RawChunk] = open_table(head.file, head.container, rows, head.style).chunks()
    chunks = renamed(chunks, {name: plain_name(name) for name in head.names}, own)
    kept = named(own)
    for chunk in chunks:
        notes: dict[str, int] = {}
        columns = {
            name: _firsts(name, values, notes) if name in _ONCE.values() and name not in _SEVERAL else values
            for name, values in chunk.columns.items()
        }
        for name in ("price", "sale_price"):
            if name in columns:
                columns[name] = [_amount(value) for value in columns[name]]
        for name in ("description", "summary", "content"):
            if name in columns:
                columns[name] = [plain_text(value) for value in columns[name]]
        count = len(chunk.lines)
        types = columns.get("product_type", [None] * count)
        google = columns.get("google_product_category", [None] * count)
        paths = [_category(own_path, known) for own_path, known in zip(types, google, strict=True)]
        columns[CATEGORY] = paths
        if "product_type" in kept:
            columns["product_type"] = [main_path(_paths_of(said)) for said in types]
        if "product_type" in columns and "product_type" not in kept:
            # What the category says already needs no attribute.
            columns["product_type"] = [
                None if _list(said) == [path] else said for said, path in zip(types, paths, strict=True)
            ]
        told = [Note(what, n, None) for what, n in notes.items()]
        yield replace(chunk, columns=columns, notes=[*chunk.notes, *told])


def _firsts(name: str, values: list[Any], notes: dict[str, int]) -> list[Any]:
    if not any(isinstance(value, list) for value in values):
        return values
    several = sum(isinstance(value, list) for value in values)
    notes[f"{name} stands several times in an item; the first counts"] = several
    return [value[0] if isinstance(value, list) and value else value for value in values]


def _amount(value: Any) -> Any:
    """`{"value": "12.99", "currency": "USD"}`, as JSON has it, as text."""
    if isinstance(value, dict) and "value" in value:
        return " ".join(str(value[name]) for name in ("value", "currency") if value.get(name) is not None)
    return value


def _category(product_type: Any, google: Any) -> str | None:
    """The shop's own path, else Google's; an id of Google's is no path, and stays an attribute alone."""
    paths = _paths_of(product_type) or [one for one in _list(google) if not one.strip().isdecimal()]
    return main_path(paths)


def _paths_of(product_type: Any) -> list[str]:
    return [path for one in _list(product_type) for path in several_paths(one, repeated=True)]


def _list(value: Any) -> list[str]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str) and one]


def _preset(head: Head, own: MappingConfig) -> MappingConfig:
    columns: dict[str, Any] = dict(_ONCE)
    if head.container == "xml":
        columns["description"] = ("description", "summary", "content")
    columns["category_id"] = CATEGORY
    more = [name for name in head.names if _MORE_PHOTOS.fullmatch(name.lower())]
    columns["photo_url"] = ("image_link", "additional_image_link", *more)
    columns["attributes.google_product_category"] = "google_product_category"
    return MappingConfig(columns=columns, keep_others=True, leave_out=(CATEGORY,))


FEED = Feed(
    name="google_merchant",
    title="a product feed of Google Merchant Center",
    table="items",
    containers=("csv", "xml", "jsonl", "parquet"),
    why=_why,
    read=_read,
    preset=_preset,
    canonical=plain_name,
    made={CATEGORY: "made of product_type, else of google_product_category where that is a path"},
    notes=(
        "category_id is product_type, else google_product_category where that is a path",
        "price is the regular one; sale_price is an attribute, with the dates of it",
    ),
)
