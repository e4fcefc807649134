"""The demo shop's hidden truth: how much any shopper likes any item.

The truth is for benchmarks (the best possible ranking, regret, how much signal there is); it is in none
of the shop's tables, and no model may ask for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from etalage.demo.brands import brands
from etalage.demo.categories import leaves
from etalage.demo.draws import choice, normal, normals, uniform
from etalage.demo.facts import Facts
from etalage.demo.patterns import COLOURS, PATTERNS
from etalage.errors import DataError

_STYLE = 12  # dimensions of the hidden style space
_PERSONAS = 10
_BASE = -2.6  # so that a shopper likes about one item in eight


def user_ids(numbers: NDArray[np.int64]) -> list[str]:
    """The shoppers' ids: number 17 is "u000017"."""
    return [f"u{n:06d}" for n in numbers.tolist()]


def _styles(seed: int, name: str, count: int) -> NDArray[np.float64]:
    return normals(seed, f"style/{name}", np.arange(count, dtype=np.int64), _STYLE)


def _leaf_styles(seed: int) -> NDArray[np.float64]:
    """(leaves, _STYLE): leaves of one aisle, and aisles of one department, are liked by the same people."""
    departments = sorted({leaf.department for leaf in leaves()})
    aisles = sorted({leaf.aisle for leaf in leaves()})
    upper, middle = _styles(seed, "department", len(departments)), _styles(seed, "aisle", len(aisles))
    own = _styles(seed, "leaf", len(leaves()))
    return np.stack(
        [
            0.6 * upper[departments.index(leaf.department)]
            + 0.9 * middle[aisles.index(leaf.aisle)]
            + 0.7 * own[i]
            for i, leaf in enumerate(leaves())
        ]
    )


def item_tastes(seed: int, f: Facts) -> NDArray[np.float32]:
    """What there is to like about N items: (N, _STYLE + 4), in the order of `user_tastes`."""
    numbers = f.numbers
    style = _leaf_styles(seed)[f.leaf]
    style = style + 0.65 * _styles(seed, "brand", len(brands()))[f.brand]
    style = style + 0.55 * _styles(seed, "colour", len(COLOURS))[f.colour]
    style = style + 0.55 * _styles(seed, "pattern", len(PATTERNS))[f.pattern]
    style = style + 0.30 * normals(seed, "style/item", numbers, _STYLE)
    median = np.array([leaf.price for leaf in leaves()])[f.leaf]
    dear = np.log(f.price / median)
    quality = 0.45 * normal(seed, "quality", numbers)
    ones = np.ones_like(dear)
    return np.column_stack([style / np.sqrt(_STYLE), quality, dear, dear**2, ones]).astype(np.float32)


def user_tastes(seed: int, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
    """What U shoppers like: (U, _STYLE + 4); its inner product with `item_tastes` is the log-odds.

    A shopper is one of ten personas with a good deal of her own, and a purse: the further an item's
    price (relative to its category) is from what she wants to spend, the less she likes it.
    """
    persona = choice(seed, "persona", numbers, 1.0 / np.arange(2.0, _PERSONAS + 2))
    style = 1.25 * _styles(seed, "persona", _PERSONAS)[persona]
    style = style + 0.95 * normals(seed, "style/user", numbers, _STYLE)
    purse = 0.45 * normal(seed, "purse", numbers)
    care = 0.4 + 1.8 * uniform(seed, "care", numbers)
    rest = [np.ones_like(purse), 2 * care * purse, -care, _BASE - care * purse**2]
    return np.column_stack([style, *rest]).astype(np.float32)


def liking_of(users: NDArray[np.float32], items: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of liking: users (..., T), items (..., T) → (...,) float32."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.einsum("...t,...t->...", users, items))), dtype=np.float32)


def _numbers(ids: Sequence[str], letter: str, count: int, what: str) -> NDArray[np.int64]:
    try:
        numbers = np.array([int(one[1:]) if one[:1] == letter else -1 for one in ids], dtype=np.int64)
    except ValueError as error:
        raise DataError(f"the demo shop has no {what} of that id: {error}") from error
    wrong = np.flatnonzero((numbers < 0) | (numbers >= count))
    if len(wrong):
        last = f"{letter}{count - 1:06d}"
        given = ids[wrong[0]]
        raise DataError(f"the demo shop has no {what} {given!r}; its ids go from {letter}000000 to {last}")
    return numbers


@dataclass(frozen=True)
class Truth:
    """The hidden truth of one demo shop. For benchmarks only."""

    users: NDArray[np.float32]
    items: NDArray[np.float32]

    def liking(self, user_ids: Sequence[str], item_ids: Sequence[str]) -> NDArray[np.float32]:
        """How much each of these U shoppers likes each of these I items: (U, I) float32 in (0, 1).

        Raises DataError for an id that the shop does not have.
        """
        rows = self.users[_numbers(user_ids, "u", len(self.users), "shopper")]
        columns = self.items[_numbers(item_ids, "i", len(self.items), "item")]
        odds = rows @ columns.T
        return np.asarray(1.0 / (1.0 + np.exp(-odds)), dtype=np.float32)
