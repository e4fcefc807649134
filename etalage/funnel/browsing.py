"""Browses a catalogue: search, filters and order, and what else there is of each brand.

N items
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pyarrow.compute as pc

from etalage.funnel.catalogue import Catalogue, Filters, Stock, bools, folded
from etalage.funnel.spelling import PROPOSED

Sort = Literal["popular", "price", "-price", "title"]
BRANDS_LISTED = 100
"""Most brands of a facet: those with the most items."""


@dataclass(frozen=True)
class Wish:
    """What is looked for."""

    search: str = ""
    filters: Filters = field(default_factory=Filters)
    sort: Sort = "popular"
    forgiving: bool = False
    """A word that no item has is read as the nearest word that some have."""


@dataclass(frozen=True)
class Found:
    """`rows` (≤ limit,) of `total` items that match."""

    rows: np.ndarray
    total: int
    instead: str | None
    """What was searched instead, where words were read as others; None: what was asked."""
    brands: list[tuple[str, int]]
    """How many items of each brand match all but the brand asked for; the most first. Only if asked for."""
    proposed: str | None = None
    """A search that finds something within the filters, where this one finds nothing, even forgiven."""


def browse(
    catalogue: Catalogue,
    wish: Wish,
    offset: int,
    limit: int,
    stock: Stock | None = None,
    *,
    brands: bool = False,
) -> Found:
    """Items that pass the filters and contain every word of the search, in the order wished for."""
    passing = mask = catalogue.mask(replace(wish.filters, brand=None), stock)
    having, instead = _having_words(catalogue, wish)
    mask = mask if having is None else np.asarray(mask & having)
    counted = _brands(catalogue, mask) if brands else []
    if wish.filters.brand is not None:
        of_brand = catalogue.mask(Filters(brand=wish.filters.brand))
        mask, passing = np.asarray(mask & of_brand), np.asarray(passing & of_brand)
    rows = catalogue.by_popularity[mask[catalogue.by_popularity]]
    rows = _sorted(catalogue, rows, wish.sort, stock)
    proposed = None
    if wish.forgiving and having is not None and not len(rows):
        proposed = _proposed(catalogue, wish.search, passing)
    return Found(rows[offset : offset + limit], len(rows), instead, counted, proposed)


def _having_words(catalogue: Catalogue, wish: Wish) -> tuple[np.ndarray | None, str | None]:
    """(N + 1,) bool of the items that have every word, None: there is none to have; and what was searched
    instead."""
    words = list(dict.fromkeys(folded(wish.search).split()))
    mask: np.ndarray | None = None
    read_as: dict[str, str] = {}
    for word in words:
        found = _having(catalogue, word)
        if wish.forgiving and not found.any():
            meant = catalogue.vocabulary.nearest(word)
            if meant is not None:
                read_as[word], found = meant, _having(catalogue, meant)
        mask = found if mask is None else mask & found
    if wish.forgiving and mask is not None and not mask.any():
        mask, read_as = _read_anew(catalogue, words, mask, read_as)
    return mask, " ".join(read_as.get(word, word) for word in words) if read_as else None


def _read_anew(
    catalogue: Catalogue, words: list[str], mask: np.ndarray, read_as: dict[str, str]
) -> tuple[np.ndarray, dict[str, str]]:
    """The same where no item has all words together: a word that only stands within others (`stori` within
    `stories`) may be a slip too. As before where that finds nothing either."""
    near = {word: read_as.get(word) or catalogue.vocabulary.nearest(word) or word for word in words}
    found = np.logical_and.reduce([_having(catalogue, meant) for meant in near.values()])
    return (
        (found, {word: meant for word, meant in near.items() if meant != word})
        if found.any()
        else (mask, read_as)
    )


def _proposed(catalogue: Catalogue, search: str, passing: np.ndarray) -> str | None:
    """All words together, each read as the nearest that some item has; else the longest of them that finds
    something alone. passing: (N + 1,) bool of the items that the filters let through."""
    read: dict[str, np.ndarray] = {}
    for word in dict.fromkeys(folded(search).split()):
        meant = word if _having(catalogue, word).any() else catalogue.vocabulary.nearest(word, PROPOSED)
        if meant is not None:
            read[meant] = _having(catalogue, meant) & passing
    if not read:
        return None
    if np.logical_and.reduce(list(read.values())).any():
        return " ".join(read)
    alone = [word for word, found in read.items() if found.any()]
    return max(alone, key=len, default=None)


def _having(catalogue: Catalogue, word: str) -> np.ndarray:
    found = np.zeros(len(catalogue) + 1, bool)
    found[1:] = bools(pc.match_substring(catalogue.text, word))
    return found


def _brands(catalogue: Catalogue, mask: np.ndarray) -> list[tuple[str, int]]:
    names, codes = catalogue.brands
    counts = np.bincount(codes[mask & (codes >= 0)], minlength=len(names))
    most = sorted(np.flatnonzero(counts).tolist(), key=lambda n: (-counts[n], names[n]))[:BRANDS_LISTED]
    return [(names[n], int(counts[n])) for n in most]


def _sorted(catalogue: Catalogue, rows: np.ndarray, sort: Sort, stock: Stock | None) -> np.ndarray:
    """Item rows, the most popular first, in another order; those of equal keys stay. What has no price or no
    title comes last."""
    if sort == "popular":
        return rows
    if sort == "title":
        return rows[np.argsort(catalogue.title_ranks[rows], kind="stable")]
    prices = (stock or catalogue.stock).price[rows]
    return rows[np.argsort(-prices if sort == "-price" else prices, kind="stable")]
