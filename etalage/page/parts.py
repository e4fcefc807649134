"""What the templates are given: cards, trees, chips, pages. Plain texts and addresses, never HTML."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from etalage.api import BrandCount, Item, PastAct, ReasonedSlot
from etalage.page import wording
from etalage.page.place import Place

CARD_PIXELS = 480
SMALL_PIXELS = 240
LARGE_PIXELS = 1200
SIDES = (SMALL_PIXELS, CARD_PIXELS, LARGE_PIXELS)
"""Sizes in which photos are sent."""
AT_ONCE = 5
"""Photos of a grid that are asked for at once; the others as they come into view."""
SHOP, OTHER = "shop", "other"
"""Whose photos an address means: the shop's, or those of the server that it is compared with."""


@dataclass(frozen=True)
class Card:
    """One item as a grid shows it."""

    item_id: str
    href: str | None
    title: str
    brand: str | None
    price: str
    sold_out: bool
    photo: str | None
    side: int
    lazy: bool
    why: str | None = None
    rank: int | None = None
    mark: str | None = None
    did: str | None = None


def photo_address(bundle: str, item_id: str, side: int, of: str = SHOP) -> str:
    """Where the page has an item's photo; the same address always means the same picture."""
    return f"/photos/{of}/{quote(bundle, safe='')}/{side}/{quote(item_id, safe='')}"


def card(item: Item, place: Place, bundle: str, number: int, *, of: str = SHOP) -> Card:
    """The card of an item that is the `number`-th of its grid, from 0; those of SHOP lead to the item."""
    named = wording.name(item)
    return Card(
        item_id=item.item_id,
        href=place.address(item=item.item_id, same_colour=False) if of == SHOP else None,
        title=named,
        brand=item.brand if item.title else None if named == item.item_id else item.item_id,
        price=wording.price(item.price, item.currency),
        sold_out=item.in_stock is False,
        photo=None if item.photo is None else photo_address(bundle, item.item_id, CARD_PIXELS, of),
        side=CARD_PIXELS,
        lazy=number >= AT_ONCE,
    )


def cards(items: Iterable[Item], place: Place, bundle: str) -> list[Card]:
    """The cards of a grid."""
    return [card(item, place, bundle, number) for number, item in enumerate(items)]


def reasoned(
    slots: Sequence[ReasonedSlot],
    place: Place,
    bundle: str,
    marks: Mapping[str, str] | None = None,
    of: str = SHOP,
) -> list[Card]:
    """The cards of a slate with its reasons; `marks`: item_id → a few words on its card."""
    return [
        replace(
            card(slot, place, bundle, number, of=of),
            why=slot.why,
            rank=slot.rank,
            mark=(marks or {}).get(slot.item_id),
        )
        for number, slot in enumerate(slots)
    ]


def past(acts: Iterable[PastAct], place: Place, bundle: str) -> list[Card]:
    """What a shopper did, as small cards, in the order given."""
    found = []
    for act in acts:
        item = act.item
        has_photo = item is not None and item.photo is not None
        found.append(
            Card(
                item_id=act.item_id,
                href=place.address(item=act.item_id),
                title=wording.name(item) if item else act.item_id,
                brand=None,
                price="",
                sold_out=False,
                photo=photo_address(bundle, act.item_id, SMALL_PIXELS) if has_photo else None,
                side=SMALL_PIXELS,
                lazy=True,
                did=wording.done(act.kind, act.value),
            )
        )
    return found


@dataclass(frozen=True)
class Choice:
    """One link of a list of which one is chosen."""

    label: str
    href: str
    value: str
    depth: int = 0
    count: int | None = None
    chosen: bool = False
    open: bool = False


def tree(branches: Sequence[wording.Branch], place: Place, name: str) -> list[Choice]:
    """The category tree whose choice is the place's `name`: `category` or `classified`."""
    selected = getattr(place, name)
    every = Choice("Everything", place.narrowed(**{name: None}), "", chosen=selected is None)
    return [
        every,
        *(
            Choice(
                branch.label,
                place.narrowed(**{name: branch.path}),
                branch.path,
                branch.depth,
                branch.count,
                chosen=branch.path == selected,
                open=branch.is_open,
            )
            for branch in branches
        ),
    ]


def brands(found: Sequence[BrandCount], place: Place) -> list[Choice]:
    """The brands of a grid; none where there is nothing to choose."""
    if len(found) < 2 and place.brand is None:
        return []
    every = Choice("All brands", place.narrowed(brand=None), "", chosen=place.brand is None)
    return [
        every,
        *(
            Choice(
                one.brand,
                place.narrowed(brand=one.brand),
                one.brand,
                count=one.count,
                chosen=one.brand == place.brand,
            )
            for one in found
        ),
    ]


@dataclass(frozen=True)
class Chip:
    """A filter in use, and the address without it."""

    label: str
    href: str


def chips(place: Place, sign: str) -> list[Chip]:
    """Every filter in use. `sign`: of the currency."""
    found: list[tuple[str, dict[str, Any]]] = []
    if place.search:
        found.append((f"“{place.search}”", {"search": ""}))
    if place.category:
        found.append((place.category.split(wording.SEPARATOR)[-1], {"category": None}))
    if place.classified:
        found.append((place.classified.split(wording.SEPARATOR)[-1], {"classified": None}))
    if place.brand:
        found.append((place.brand, {"brand": None}))
    if place.min_price is not None:
        found.append((f"from {sign}{place.min_price:.15g}", {"min_price": None}))
    if place.max_price is not None:
        found.append((f"to {sign}{place.max_price:.15g}", {"max_price": None}))
    if place.in_stock:
        found.append(("In stock", {"in_stock": False}))
    return [Chip(label, place.narrowed(**changes)) for label, changes in found]


@dataclass(frozen=True)
class Pages:
    """The links between the pages of a grid; None among `numbers`: some are left out."""

    number: int
    before: str | None
    after: str | None
    numbers: list[tuple[int, str] | None]


def pages(place: Place, count: int) -> Pages | None:
    """None: there is one page, or none."""
    if count <= 1:
        return None
    here = min(place.page, count)
    near = sorted({1, count, *range(max(1, here - 1), min(count, here + 1) + 1)})
    numbers: list[tuple[int, str] | None] = []
    for number in near:
        if numbers and numbers[-1] is not None and number - numbers[-1][0] > 1:
            numbers.append(None)
        numbers.append((number, place.address(page=number)))
    return Pages(
        here,
        place.address(page=here - 1) if here > 1 else None,
        place.address(page=here + 1) if here < count else None,
        numbers,
    )
