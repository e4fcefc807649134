"""Items of a ragged taxonomy, by photos and titles that tell their leaves: learned in seconds."""

import numpy as np

from etalage.features.category_set import CategorySet
from etalage.lake.taxonomy import Taxonomy
from etalage.models.item_category import ItemCategoryConfig

SIDE = 32
QUICK: dict[str, object] = {
    "backbone": "small",
    "size": SIDE,
    "epochs": 5,
    "batch_size": 32,
    "learning_rate": 0.01,
    "trunk_rate": 0.003,
    "precision": "float32",
    "buckets": 512,
    "words": 8,
    "text_width": 16,
    "hidden": 24,
    "light": 0.1,
    "crop": 0.7,
    "average": 0.8,
    "served": "float32",
}
"""What learns `category_set` in a second or two."""


def quick(**changes: object) -> dict[str, object]:
    """QUICK with these changes, without what does nothing then."""
    whole = QUICK | changes
    idle = ItemCategoryConfig.model_construct(**whole).idle()
    return {name: value for name, value in whole.items() if name in changes or name not in idle}


SHARES = (0.3, 0.1, 0.2, 0.4)
"""Of the four leaves: no two are as common."""
COLOURS = ((170, 40, 30), (60, 70, 180), (200, 200, 190), (50, 160, 60))
WORDS = ("braeburn crisp", "cotton dress", "whole litre", "conference ripe")


def ragged() -> Taxonomy:
    """Six categories, a child before its parent; the four leaves lie 3, 1, 2 and 3 deep.

    Food > Fruit > Apples, Clothing, Food > Milk, Food > Fruit > Pears
    """
    names = ["Apples", "Food", "Clothing", "Fruit", "Milk", "Pears"]
    return Taxonomy([f"c{n}" for n in (7, 1, 2, 3, 4, 5)], names, np.array([3, -1, -1, 1, 1, 3]))


def leaves(count: int, seed: int = 3) -> np.ndarray:
    """(count,) int64 place among the leaves, by SHARES."""
    places = np.repeat(np.arange(4), np.round(np.array(SHARES) * count).astype(int))
    return np.random.default_rng(seed).permutation(np.resize(places, count)).astype(np.int64)


def photos(places: np.ndarray, seed: int = 5) -> np.ndarray:
    """(P, SIDE, SIDE, 3) uint8: a block in the leaf's colour, high or low, over fading noise."""
    rng = np.random.default_rng(seed)
    fade = np.linspace(1.0, 0.3, SIDE)[:, None, None]
    drawn = rng.integers(0, 120, (len(places), SIDE, SIDE, 3)) * fade
    for one, place in zip(drawn, places, strict=True):
        top, left = (3 if place % 2 else 15) + rng.integers(0, 4), rng.integers(1, 12)
        one[top : top + 12, left : left + 17] = np.array(COLOURS[place]) + rng.normal(0, 20, 3)
    return np.clip(drawn, 0, 255).astype(np.uint8)


def title_of(place: int, number: int) -> str:
    return f"{WORDS[place]} no{number % 5}"


def category_set(count: int = 240, seed: int = 3) -> CategorySet:
    """An item with one photo each; two of three have a title; one in four is for validation."""
    places, taxonomy = leaves(count, seed), ragged()
    return CategorySet(
        item_ids=[f"i{n}" for n in range(count)],
        taxonomy=taxonomy,
        labels_N=taxonomy.leaves_L[places],
        parts_N=np.where(np.arange(count) % 4 == 0, "validation", "train"),
        titles=[title_of(int(place), n) if n % 3 else None for n, place in enumerate(places)],
        owners_P=np.arange(count),
        pixels_PHWC=photos(places, seed),
    )
