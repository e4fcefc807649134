"""The views for shoppers: the grid, one item, what is like a photo; and what is said in trouble.

Each is a template with what it is given. They ask the server through Source, and raise what it raises.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from etalage import sentences
from etalage.api import Categorised
from etalage.errors import (
    BodyTooLarge,
    BundleError,
    EtalageError,
    HostRefused,
    KeyRefused,
    NotFound,
    OriginRefused,
    Overloaded,
    PhotoRefused,
    ServeError,
)
from etalage.page import parts, wording
from etalage.page.place import SORTS, Place
from etalage.page.source import Shown, Source

GRID = 30
LIKE_PHOTO = 30
LIKE_ITEM, LIKE_WANTED = 12, 6
NEAREST = 10
"""Shown of what is no match."""
MAY_BE = 3
"""Other categories that are named of a shopper's photo."""


@dataclass(frozen=True)
class View:
    """What is sent: a template, what it is given, and the status."""

    template: str
    title: str
    facts: dict[str, Any] = field(default_factory=dict)
    status: int = 200


def answered(bundle: str, seconds: float) -> dict[str, str]:
    """What the foot says."""
    return {"bundle": bundle, "took": wording.took(seconds)}


def grid(place: Place, shop: Source) -> View:
    """The items that match, a page of them."""
    shown = shop.listing(place, GRID)
    if not shown.items and shown.total and place.page > 1:  # an address beyond the last page
        place = replace(place, page=-(-shown.total // GRID))
        shown = shop.listing(place, GRID)
    sign = wording.currency_sign(item.currency for item in shown.items)
    heading = _heading(place)
    return View(
        "grid.html.j2",
        heading,
        {
            "place": place,
            "heading": heading,
            "amount": wording.amount(shown.total, "item", "items"),
            "cards": parts.cards(shown.items, place, shown.bundle),
            "pages": parts.pages(place, -(-shown.total // GRID)),
            "sorts": SORTS,
            "instead": shown.instead,
            "ways": [] if shown.items or not place.search else _ways(place, shop, shown.proposed),
            **side(place, shop, shown, sign),
            **answered(shown.bundle, shown.seconds),
        },
    )


def _ways(place: Place, shop: Source, proposed: str | None) -> list[tuple[str, str]]:
    """(words, address) of what finds something where a search found nothing."""
    ways = [] if proposed is None else [(f"Did you mean “{proposed}”?", place.narrowed(search=proposed))]
    if place.filters():
        everywhere = Place(search=place.search)
        count = shop.listing(everywhere, 1).total
        if count:
            amount = wording.amount(count, "item", "items")
            ways.append((f"“{place.search}” in the whole shop: {amount}", everywhere.address()))
    return ways


def _heading(place: Place) -> str:
    names = [path.split(wording.SEPARATOR)[-1] for path in (place.category, place.classified) if path]
    label = ", ".join([*names, *([place.brand] if place.brand else [])])
    if place.search:
        return f"“{place.search}” in {label}" if label else f"“{place.search}”"
    return label or "Everything"


def side(place: Place, shop: Source, shown: Shown, sign: str) -> dict[str, Any]:
    """The filters beside a grid."""
    told = shop.tree(shown.bundle, place.classified, "classified")
    return {
        "categories": parts.tree(shop.tree(shown.bundle, place.category), place, "category"),
        "classified": parts.tree(told, place, "classified") if told else [],
        "chips": parts.chips(place, sign),
        "sign": sign,
        "brands": parts.brands(shown.brands, place),
    }


def like_photo(place: Place, shop: Source, photo: bytes) -> View:
    """What is like an uploaded photo, and what that shows; few items where none of them is a match."""
    shown = shop.similar_to_photo(photo, LIKE_PHOTO, place)
    if shown.match is False:
        shown = replace(shown, items=shown.items[:NEAREST])
    told = shop.what_is(photo, MAY_BE)
    return View(
        "photo.html.j2",
        "Like your photo",
        {
            "place": place,
            "amount": wording.amount(len(shown.items), "item", "items"),
            "reason": shown.reason,
            "match": shown.match,
            "told": None if told is None or not told.steps else photo_categories(told),
            "cards": parts.cards(shown.items, place, shown.bundle),
            "back": place.address(photo=None, page=1),
            **side(place, shop, shown, wording.currency_sign(item.currency for item in shown.items)),
            **answered(shown.bundle, shown.seconds),
        },
    )


def photo_categories(found: Categorised) -> dict[str, Any]:
    """What a photo shows: each step of the path with how sure that is, and what else it may be."""
    return {
        "sure": found.category_id is not None,
        "steps": [(step.name, step.confidence, wording.sureness(step.confidence)) for step in found.steps],
        "others": [
            leaf.path.split(wording.SEPARATOR)[-1] for leaf in found.others if leaf.confidence >= 0.01
        ],
    }


def item(place: Place, shop: Source) -> View:
    """One item, what looks like it, and what is wanted with it."""
    assert place.item is not None
    whole = shop.item(place.item)
    found = whole.item
    same_colour = place.same_colour and whole.colour is not None
    alike = shop.similar_to_item(place.item, LIKE_ITEM, same_colour)
    acted = shop.facts(whole.bundle).acted_on > 0
    shelves = [_similar(place, alike, whole.colour, found, acted)]
    if alike.fallback != "by_behaviour":
        wanted = shop.wanted_with(place.item, LIKE_WANTED)
        shelves += [_wanted(place, wanted)] if wanted.items else []
    title = sentences.called(found.get("title"), found.get("brand"), found.get("category_id"), place.item)
    photo = parts.photo_address(whole.bundle, place.item, parts.LARGE_PIXELS) if found.get("photo") else None
    stocked = found.get("in_stock")
    return View(
        "item.html.j2",
        title,
        {
            "place": place,
            "item_id": place.item,
            "name": title,
            "brand": found.get("brand"),
            "price": wording.price(found.get("price"), found.get("currency")),
            "stocked": stocked,
            "stock": "Stock not known" if stocked is None else "In stock" if stocked else "Sold out",
            "description": found.get("description"),
            "crumbs": [(place.within(at), label) for at, label in wording.crumbs(found.get("category_id"))],
            "classified": _classified(place, found),
            "attributes": [*wording.facts(found), ("Item number", place.item)],
            "photo": photo,
            "shelves": shelves,
            "back": place.address(item=None, same_colour=False),
            "back_to": _before(place),
            **answered(alike.bundle, alike.seconds),
        },
    )


def _before(place: Place) -> str:
    return "the shopper" if place.for_shopper else "the photo's results" if place.photo else "the shop"


def _classified(place: Place, found: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the classifier told of an item; None where it told nothing."""
    path, sure = found.get("classified_path"), found.get("classified_confidence")
    if not path or sure is None:
        return None
    crumbs = [(place.within(classified=at), label) for at, label in wording.crumbs(path)]
    return {"crumbs": crumbs, "share": sure, "sure": wording.sureness(sure)}


@dataclass(frozen=True)
class Wish:
    """A switch that asks for less: what it says, whether it is on, and where it leads."""

    label: str
    on: bool
    href: str


@dataclass(frozen=True)
class Shelf:
    """A row of items beneath an item."""

    key: str
    heading: str
    note: str
    cards: list[parts.Card]
    wish: Wish | None = None
    none: str = "There is nothing like that here."


def _similar(place: Place, shown: Shown, colour: str | None, item: Mapping[str, Any], acted: bool) -> Shelf:
    found = parts.cards(shown.items, place, shown.bundle)
    if shown.fallback == "by_behaviour":
        return _wanted(place, shown)
    if shown.fallback == "by_text":
        return Shelf("similar", "Similar items", "by what is written about them", found)
    if shown.fallback:
        return _instead(item, shown, acted, found)
    if colour is None:
        return Shelf("similar", "Similar items", "by their photos", found)
    on = place.same_colour
    wish = Wish(f"Only in {colour}", on, place.address(same_colour=not on) + "#similar")
    return Shelf("similar", "Similar items", "by their photos", found, wish)


def _instead(item: Mapping[str, Any], shown: Shown, acted: bool, cards: list[parts.Card]) -> Shelf:
    """What stands in for similar items, called what it is. acted: whether anybody acted on any item."""
    category = item.get("category_id")
    of = sentences.whose(category, [one.category_id for one in shown.items])
    near = category.split(wording.SEPARATOR)[-1] if category and of != "the shop" else "the shop"
    near = f"{near} and the shop" if of == sentences.BOTH else near
    heading = f"Popular in {near}" if acted else f"More of {near}"
    why = "Its photo is not compared" if item.get("photo") else "There is no photo of this item to compare"
    return Shelf("similar", heading, f"{why}: {sentences.in_place_of_similar(of, acted)}.", cards)


def _wanted(place: Place, shown: Shown) -> Shelf:
    cards = parts.cards(shown.items, place, shown.bundle)
    return Shelf("wanted", "Wanted with it", "by what shoppers did", cards)


# -- trouble -----------------------------------------------------------------------------------

ANOTHER_PHOTO = ("We could not use this photo", "Please try another one: JPEG, PNG or WebP work well.")
TROUBLES: dict[type[EtalageError], tuple[str, str]] = {
    PhotoRefused: ANOTHER_PHOTO,
    BodyTooLarge: ("This is too large", "A photo may have at most 10 MB."),
    NotFound: ("This item is not here", "It may have left the shop. The others are still there."),
    KeyRefused: ("The server asks for a key", "Start the page with ETALAGE_KEY set to the server's key."),
    OriginRefused: ("This came from another site", "Please use the shop's own page."),
    HostRefused: ("This page has another name", "Please use the address that the page was started with."),
    BundleError: ("The window is still empty", "No bundle can be shown yet: `etalage publish` makes one."),
    Overloaded: ("The shop is very busy", "Please try again in a moment."),
    ServeError: ("The shop does not answer", "Its server may be starting, or stopped."),
}
OTHER_TROUBLE = ("That did not work", "The server refused the question.")
STATUS = {BundleError: 503, ServeError: 503, KeyRefused: 502}
"""Where the page's own status is another than the server's."""


def trouble(error: EtalageError, place: Place) -> View:
    """What went wrong, in a shopper's words, with the server's own beneath; and the way on."""
    title, text = next((told for kind, told in TROUBLES.items() if isinstance(error, kind)), OTHER_TROUBLE)
    if isinstance(error, PhotoRefused | BodyTooLarge):
        way = ("Back to the shop", place.address(photo=None, page=1))
    elif isinstance(error, NotFound):
        way = ("Back to the shop", place.address(item=None))
    else:
        way = ("Try again", place.address())
    status = next((found for kind, found in STATUS.items() if isinstance(error, kind)), error.http_status)
    detail = str(error).removeprefix("row 0: ")
    facts = {"place": place, "heading": title, "text": text, "detail": detail, "way": way}
    return View("trouble.html.j2", title, facts, status)


def photo_is_gone(place: Place) -> View:
    """The photo that an address names is not kept any more."""
    text = "The page keeps photos for a short while only. Please choose it again with “Find by photo”."
    return _without_photo(place, "That photo is no longer kept", text)


def no_search_by_photo(place: Place) -> View:
    """The bundle has no model of photos."""
    return _without_photo(place, "This shop has no search by photo", "Please search by word, or by category.")


def _without_photo(place: Place, title: str, text: str) -> View:
    way = ("Back to the shop", place.address(photo=None, page=1))
    facts = {"place": place, "heading": title, "text": text, "detail": "", "way": way}
    return View("trouble.html.j2", title, facts, 404)
