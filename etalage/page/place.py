"""Where the shopper is: what is searched, filtered and opened. It stands in the address bar."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

SORTS = {"price": "Price: low to high", "-price": "Price: high to low", "title": "Name"}
"""What the grid may be sorted by, beside how popular its items are, and how that is said."""
NO_PHOTO = "unknown"
"""In place of the name of a photo that no photo ever had."""
_TOKEN = re.compile(r"[A-Za-z0-9_-]{22}")


@dataclass(frozen=True)
class Place:
    """One view of the page. The same address always shows the same view."""

    item: str | None = None
    """The item that is open; None: the grid."""
    for_shopper: bool = False
    """The page of one shopper, in place of the grid."""
    for_categories: bool = False
    """The page that shows which category is taken for which, in place of the grid."""
    shopper: str | None = None
    """Whose page it is; None: nobody was chosen yet."""
    photo: str | None = None
    """The grid shows what is like this uploaded photo: the name that it was given."""
    search: str = ""
    category: str | None = None
    """A category path; everything beneath it is shown too."""
    classified: str | None = None
    """A path of the taxonomy, as the classifier told it; everything beneath it is shown too."""
    brand: str | None = None
    in_stock: bool = False
    """Only what is in stock."""
    min_price: float | None = None
    max_price: float | None = None
    sort: str | None = None
    """A key of SORTS; None: the most popular first."""
    same_colour: bool = False
    """Of what is like an item, only what has its colour."""
    page: int = 1

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> "Place":
        """The place that an address names. What makes no sense in it is left out."""
        page, photo, sort = query.get("page", "1"), query.get("photo", ""), query.get("sort")
        return cls(
            item=query.get("item") or None,
            for_shopper=query.get("view") == "shopper",
            for_categories=query.get("view") == "categories",
            shopper=query.get("shopper") or None,
            photo=(photo if _TOKEN.fullmatch(photo) else NO_PHOTO) if photo else None,
            search=query.get("q", "").strip(),
            category=query.get("category") or None,
            classified=query.get("classified") or None,
            brand=query.get("brand") or None,
            in_stock=query.get("in_stock") == "1",
            min_price=_price(query.get("min_price")),
            max_price=_price(query.get("max_price")),
            sort=sort if sort in SORTS else None,
            same_colour=query.get("colour") == "same",
            page=int(page) if page.isascii() and page.isdigit() and 0 < len(page) < 7 and int(page) else 1,
        )

    def to_query(self) -> dict[str, str]:
        """The address of this place; what asks nothing is left out."""
        query = {
            "item": self.item or "",
            "view": "shopper" if self.for_shopper else "categories" if self.for_categories else "",
            "shopper": self.shopper or "",
            "photo": self.photo or "",
            "q": self.search,
            "category": self.category or "",
            "classified": self.classified or "",
            "brand": self.brand or "",
            "in_stock": "1" if self.in_stock else "",
            "min_price": written_price(self.min_price),
            "max_price": written_price(self.max_price),
            "sort": self.sort or "",
            "colour": "same" if self.same_colour else "",
            "page": str(self.page) if self.page > 1 else "",
        }
        return {name: value for name, value in query.items() if value}

    def address(self, **changes: Any) -> str:
        """The address of the place that differs from this one by `changes`."""
        query = replace(self, **changes).to_query()
        return f"/?{urlencode(query)}" if query else "/"

    def narrowed(self, **changes: Any) -> str:
        """The address of the grid with other filters: at its first page."""
        return self.address(**{"item": None, "page": 1, "same_colour": False, **changes})

    def within(self, category: str | None = None, classified: str | None = None) -> str:
        """The address of the grid of one category, nothing else filtered."""
        return Place(category=category, classified=classified).address()

    def filters(self) -> dict[str, Any]:
        """What an item must be, to be shown; without what asks nothing."""
        asked = {
            "category": self.category,
            "classified": self.classified,
            "brand": self.brand,
            "in_stock": self.in_stock or None,
            "min_price": self.min_price,
            "max_price": self.max_price,
        }
        return {name: value for name, value in asked.items() if value is not None}

    @property
    def filter_count(self) -> int:
        """How many filters are in use; a search is none, for its words stand in a field of their own."""
        return len(self.filters())

    @property
    def is_filtered(self) -> bool:
        """Whether anything is left out of the grid."""
        return bool(self.search or self.filters())


def written_price(price: float | None) -> str:
    """A price as the address and the fields have it."""
    return "" if price is None else f"{price:.15g}"


def _price(text: str | None) -> float | None:
    try:
        price = float(text or "nan")
    except ValueError:
        return None
    return price if math.isfinite(price) and price >= 0 else None
