"""How things are said to a shopper: prices, categories, facts, amounts. Plain text, never HTML."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from etalage import sentences
from etalage.api import Item
from etalage.kinds import known_meaning
from etalage.sentences import is_within

SEPARATOR = sentences.SEPARATOR

SYMBOLS = {"EUR": "€", "GBP": "£", "USD": "$", "JPY": "¥", "INR": "₹", "KRW": "₩", "ILS": "₪", "UAH": "₴"}
WITHOUT_CENTS = frozenset({"JPY", "KRW", "CLP", "ISK", "VND", "XAF", "XOF", "PYG", "UGX"})

SHOWN_APART = frozenset(
    {"item_id", "title", "description", "brand", "price", "currency", "category_id", "in_stock", "photo"}
    | {"attributes", "photo_url", "popularity", "updated_at", "item_group_id"}
    | {"classified_id", "classified_path", "classified_confidence"}
)
"""Columns of an item that have a place of their own on the page, or none."""


def price(value: float | None, currency: str | None) -> str:
    """`€12.50`; `12.50 SEK` where the currency has no sign that everybody knows; "" without a price."""
    if value is None:
        return ""
    code = (currency or "").strip().upper()
    amount = f"{value:,.0f}" if code in WITHOUT_CENTS else f"{value:,.2f}"
    if code in SYMBOLS:
        return f"{SYMBOLS[code]}{amount}"
    return f"{amount} {currency}" if currency else amount


@dataclass(frozen=True)
class Branch:
    """One line of the category tree as it is shown."""

    path: str
    label: str
    depth: int
    count: int
    is_open: bool
    """It is the selected one, or lies above it."""


def branches(categories: Iterable[tuple[str, int]], selected: str | None) -> list[Branch]:
    """The top level, and beneath it only the way to the selected category and its children."""
    shown = []
    for path, count in categories:
        steps = path.split(SEPARATOR)
        parent = SEPARATOR.join(steps[:-1])
        if len(steps) > 1 and not is_within(selected, parent):
            continue
        shown.append(Branch(path, steps[-1], len(steps) - 1, count, is_within(selected, path)))
    return shown


def crumbs(path: str | None) -> list[tuple[str, str]]:
    """(path, label) of every step from the top down to a category."""
    steps = path.split(SEPARATOR) if path else []
    return [(SEPARATOR.join(steps[: depth + 1]), step) for depth, step in enumerate(steps)]


def facts(item: Mapping[str, Any]) -> list[tuple[str, str]]:
    """An item's attributes and the shop's own columns, as (name, value) to be read."""
    attributes = item.get("attributes")
    named = dict(attributes) if isinstance(attributes, Mapping) else {}
    named.update({name: value for name, value in item.items() if name not in SHOWN_APART})
    return [(_label(name), _value(value)) for name, value in named.items() if value not in (None, "", [], {})]


def _label(name: str) -> str:
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_value(part) for part in value)
    return str(value)


DONE = {
    "view": "viewed",
    "cart": "put in the cart",
    "has": "bought",
    "rating": "rated",
    "like": "liked",
    "negative": "not wanted",
}
"""By meaning of the kind."""


def name(item: Item) -> str:
    """What an item is called."""
    return sentences.called(item.title, item.brand, item.category_id, item.item_id)


def done(kind: str, value: float | None = None) -> str:
    """`bought`, `rated 4.5`; a kind of the shop's own stays as it is."""
    meaning = known_meaning(kind)
    said = "played" if kind == "play" else DONE.get(meaning, kind)
    return f"{said} {value:g}" if meaning == "rating" and value is not None else said


def tier(name: str, known: bool, acted: bool = True) -> str:
    """Who made a slate, in a sentence. acted: whether anybody acted on any item of the shop."""
    said = sentences.tier(name, acted)
    return said if known else f"Nothing is known of this shopper yet. {said}"


def percent(share: float) -> str:
    """`93%`; `<1%` and `>99%`, for nothing that a classifier says is certain."""
    return "<1%" if share < 0.01 else ">99%" if share > 0.99 else f"{share:.0%}"


SURE = ((0.95, "almost certainly"), (0.75, "very likely"), (0.5, "probably"), (0.2, "perhaps"))


def sureness(share: float) -> str:
    """How sure a classifier is, in words: a shopper is shown no figure."""
    return next((said for least, said in SURE if share >= least), "hardly")


def currency_sign(codes: Iterable[str | None]) -> str:
    """The sign of the one currency of some prices, for the fields of a price; "" where there are several."""
    known = {code.strip().upper() for code in codes if code}
    if len(known) != 1:
        return ""
    (code,) = known
    return SYMBOLS.get(code, code)


def amount(number: int, one: str, many: str) -> str:
    """`1 item`, `1,204 items`."""
    return f"{number:,} {one if number == 1 else many}"


def took(seconds: float) -> str:
    """`8 ms`, `1.2 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
