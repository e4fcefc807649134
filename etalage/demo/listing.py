"""The demo shop's items table: titles, descriptions and attributes in words."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etalage.demo.brands import brands
from etalage.demo.categories import leaves
from etalage.demo.draws import words
from etalage.demo.facts import CURRENCY, TODAY, Facts, facts, item_ids
from etalage.demo.patterns import COLOURS, PATTERNS
from etalage.lake.schema import TABLES

_LINES = (
    "Alba", "Bryn", "Cleo", "Dara", "Elva", "Faro", "Gaia", "Hest", "Isla", "Juno", "Kaya", "Lark", "Mira",
    "Nell", "Orla", "Petra", "Quinn", "Rhea", "Sol", "Tess", "Una", "Vale", "Wren", "Yara", "Zola",
)  # fmt: skip
_FEELS = {
    "Clothing": ("A relaxed fit", "A flattering cut", "An easy shape", "A neat silhouette"),
    "Shoes": ("A soft footbed", "A sturdy sole", "A light step", "A shape that breaks in quickly"),
    "Bags": ("Room for the day", "Well-sized pockets", "A firm base", "A strap that stays put"),
    "Accessories": ("A small thing done well", "A good present", "Light and durable", "A finishing touch"),
    "Home": ("Made to be used daily", "A quiet presence in any room", "Easy to clean", "A pleasure to hold"),
}
_SEASONS = {"all": "all year", "gifts": "all year"}


def _row(f: Facts, i: int, bits: int) -> dict[str, Any]:
    leaf, brand = leaves()[int(f.leaf[i])], brands()[int(f.brand[i])]
    names = list(COLOURS)
    colour, pattern = names[int(f.colour[i])], PATTERNS[int(f.pattern[i])]
    second = names[int(f.second[i])] if pattern != "plain" else None
    material = leaf.materials[int(f.material[i])]
    line = _LINES[bits % len(_LINES)]
    shown = "" if pattern == "plain" else pattern + " "
    said = material in leaf.noun.split()  # no "wool wool coat"
    made = f"{material} " if pattern == "plain" and not said else ""
    feel = _FEELS[leaf.department][(bits >> 8) % 4]
    attributes = {
        "colour": colour, "pattern": pattern, "material": material,
        "season": _SEASONS.get(leaf.season, leaf.season),
    }  # fmt: skip
    if second:
        attributes["second_colour"] = second
    return {
        "title": f"{brand.name} {line} {shown}{made}{leaf.noun}, {colour}",
        "description": f"{feel}: the {line} {leaf.noun} in {colour}"
        + (f", {pattern} with {second}" if second else "")
        + f". Material: {material}. {brand.blurb}",
        "brand": brand.name,
        "category_id": leaf.path,
        "attributes": json.dumps(attributes, ensure_ascii=False, sort_keys=True),
    }


def times(seconds: NDArray[np.int64]) -> pa.Array:
    """Moments this many seconds before TODAY, as timestamp(us, UTC)."""
    moments = (int(TODAY.timestamp()) - seconds) * 1_000_000
    return pa.array(moments, pa.int64()).cast(pa.timestamp("us", tz="UTC"))


def items(seed: int, numbers: NDArray[np.int64]) -> pa.Table:
    """The rows of the items table for these item numbers."""
    f = facts(seed, numbers)
    bits = (words(seed, "words", numbers) >> np.uint64(16)).tolist()
    rows = [_row(f, i, bits[i]) for i in range(len(numbers))]
    ids = item_ids(numbers)
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]} if rows else {}
    columns |= {
        "item_id": ids,
        "price": f.price,
        "currency": [CURRENCY] * len(ids),
        "photo_url": [f"demo://{item_id}" for item_id in ids],
        "in_stock": f.in_stock,
        "updated_at": times(f.changed_second),
        "source_updated_at": times(f.changed_second),
        "item_group_id": pa.nulls(len(ids), pa.string()),
    }
    return pa.table({name: columns[name] for name in TABLES["items"].names}, schema=TABLES["items"].schema)
