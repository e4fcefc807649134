"""Where the shopper is: what is searched, filtered and opened. It stands in the address bar."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
    photo: bool = False
    """The grid shows what is like the uploaded photo (which itself never stands in an address)."""
    search: str = ""
    category: str | None = None
    """A category path; everything beneath it is shown too."""
    classified: str | None = None
    """A path of the taxonomy, as the classifier told it; everything beneath it is shown too."""
    in_stock: bool = False
    """Only what is in stock."""
    min_price: float | None = None
    max_price: float | None = None
    page: int = 1

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> "Place":
        """The place that an address names. What makes no sense in it is left out."""
        page = query.get("page", "1")
        return cls(
            item=query.get("item") or None,
            for_shopper=query.get("view") == "shopper",
            for_categories=query.get("view") == "categories",
            shopper=query.get("shopper") or None,
            photo=query.get("photo") == "1",
            search=query.get("q", ""),
            category=query.get("category") or None,
            classified=query.get("classified") or None,
            in_stock=query.get("in_stock") == "1",
            min_price=_price(query.get("min_price")),
            max_price=_price(query.get("max_price")),
            page=int(page) if page.isascii() and page.isdigit() and 0 < len(page) < 7 and int(page) else 1,
        )

    def to_query(self) -> dict[str, str]:
        """The address of this place; what asks nothing is left out."""
        query = {
            "item": self.item or "",
            "view": "shopper" if self.for_shopper else "categories" if self.for_categories else "",
            "shopper": self.shopper or "",
            "photo": "1" if self.photo else "",
            "q": self.search,
            "category": self.category or "",
            "classified": self.classified or "",
            "in_stock": "1" if self.in_stock else "",
            "min_price": "" if self.min_price is None else f"{self.min_price:.15g}",
            "max_price": "" if self.max_price is None else f"{self.max_price:.15g}",
            "page": str(self.page) if self.page > 1 else "",
        }
        return {name: value for name, value in query.items() if value}

    def filters(self) -> dict[str, Any]:
        """What an item must be, to be shown; without what asks nothing."""
        asked = {
            "category": self.category,
            "classified": self.classified,
            "in_stock": self.in_stock or None,
            "min_price": self.min_price,
            "max_price": self.max_price,
        }
        return {name: value for name, value in asked.items() if value is not None}

    @property
    def is_filtered(self) -> bool:
        """Whether anything is left out of the grid."""
        return bool(self.search or self.filters())


def _price(text: str | None) -> float | None:
    try:
        price = float(text or "nan")
    except ValueError:
        return None
    return price if math.isfinite(price) and price >= 0 else None
