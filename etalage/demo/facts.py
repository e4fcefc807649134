"""What the demo shop sells, as numbers: facts about item n are a pure function of (seed, n)."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from etalage.demo.brands import brands
from etalage.demo.categories import PATTERN_WEIGHTS, leaves
from etalage.demo.draws import choice, normal, uniform
from etalage.demo.patterns import COLOURS, PARTNERS

TODAY = datetime(2026, 6, 1, tzinfo=UTC)
"""The demo shop's constant present: nothing here reads a clock."""
CURRENCY = "EUR"

_SHADES: dict[str, tuple[str, ...]] = {
    "denim": ("navy", "blue", "sky", "black", "grey", "white", "charcoal"),
    "leather": (
        "black",
        "brown",
        "tan",
        "white",
        "beige",
        "burgundy",
        "navy",
        "grey",
        "red",
        "olive",
        "rust",
    ),
}
_COLOUR_LIKING = dict.fromkeys(COLOURS, 1.0) | {
    "black": 3.0, "white": 2.4, "navy": 2.4, "grey": 1.6, "beige": 1.6, "cream": 1.4, "blue": 1.6,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """Columns about N items, each (N,); the int columns index leaves(), brands(), COLOURS, PATTERNS."""

    numbers: NDArray[np.int64]
    leaf: NDArray[np.int64]
    brand: NDArray[np.int64]
    colour: NDArray[np.int64]
    second: NDArray[np.int64]
    pattern: NDArray[np.int64]
    material: NDArray[np.int64]  # index into the leaf's materials
    price: NDArray[np.float64]
    release_day: NDArray[np.int64]  # days before TODAY that the item came into the shop
    changed_second: NDArray[np.int64]  # seconds before TODAY of the row's last change
    in_stock: NDArray[np.bool_]


def item_ids(numbers: NDArray[np.int64]) -> list[str]:
    """The items' ids: number 17 is "i000017"."""
    return [f"i{n:06d}" for n in numbers.tolist()]


def _leaf_of(seed: int, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leaves are dealt from shuffled decks of 100 cards: every leaf is present from 100 items on."""
    cards = np.repeat(np.arange(len(leaves())), [leaf.cards for leaf in leaves()])
    size = len(cards)
    decks, inverse = np.unique(numbers // size, return_inverse=True)
    keys = uniform(seed, "deck", (decks[:, None] * size + np.arange(size)).ravel()).reshape(-1, size)
    order = np.argsort(keys, axis=1, kind="stable")
    return np.asarray(cards[order[inverse, numbers % size]], dtype=np.int64)


def _brand_weights() -> NDArray[np.float64]:
    """(leaves, brands): how likely a brand makes such a product."""
    return np.array(
        [[b.share * (leaf.department in b.departments) for b in brands()] for leaf in leaves()],
        dtype=np.float64,
    )


def _colour_weights() -> NDArray[np.float64]:
    """(leaves, colours)."""
    rows = []
    for leaf in leaves():
        allowed = _SHADES.get(leaf.patterns, tuple(COLOURS))
        rows.append([_COLOUR_LIKING[name] * (1.0 if name in allowed else 0.05) for name in COLOURS])
    return np.array(rows, dtype=np.float64)


def _priced(raw: NDArray[np.float64], cents: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prices as shops print them: ending in .95, .99 or .50."""
    step = np.where(raw >= 100, 5.0, 1.0)
    whole = np.maximum(np.round(raw / step) * step, 3.0)
    return np.asarray(np.round(whole - np.select([cents < 0.5, cents < 0.85], [0.05, 0.01], 0.5), 2))


def facts(seed: int, numbers: NDArray[np.int64]) -> Facts:
    """The facts about the items of these numbers, whatever the size of the shop."""
    names = list(COLOURS)
    partners = np.array([[names.index(p) for p in (PARTNERS[n] * 5)[:5]] for n in names])
    patterns = np.array([PATTERN_WEIGHTS[leaf.patterns] for leaf in leaves()])
    leaf = _leaf_of(seed, numbers)
    brand = choice(seed, "brand", numbers, _brand_weights()[leaf])
    colour = choice(seed, "colour", numbers, _colour_weights()[leaf])
    median = np.array([one.price for one in leaves()])[leaf]
    level = np.array([one.level for one in brands()])[brand]
    raw = median * level**0.8 * np.exp(0.28 * normal(seed, "price", numbers))
    counts = np.array([len(one.materials) for one in leaves()])[leaf]
    # Four in ten items are older than the year that the shop's interactions cover.
    age = uniform(seed, "age", numbers)
    release = np.where(age < 0.4, 366 + age * 1000, 2 + (age - 0.4) / 0.6 * 363).astype(np.int64)
    return Facts(
        numbers=numbers,
        leaf=leaf,
        brand=brand,
        colour=colour,
        second=partners[colour, (uniform(seed, "second", numbers) * 5).astype(np.int64)],
        pattern=choice(seed, "pattern", numbers, patterns[leaf]),
        material=(uniform(seed, "material", numbers) * counts).astype(np.int64),
        price=_priced(raw, uniform(seed, "cents", numbers)),
        release_day=release,
        changed_second=(uniform(seed, "changed", numbers) * release * 86_400).astype(np.int64),
        in_stock=uniform(seed, "stock", numbers) < 0.92,
    )
