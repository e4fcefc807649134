"""Histories that run in a circle: the order of the items says all, which go together says nothing."""

import numpy as np

from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.split_interactions import leave_one_out
from etalage.features.vocabulary import Vocabulary

ITEMS = 7
"""Rows 1 … 7, which follow each other; most shoppers begin at row 6."""


def in_turn(shoppers: int = 200, length: int = 6, seed: int = 0) -> BehaviourSet:
    """Each shopper begins somewhere and goes on item by item."""
    rng = np.random.default_rng(seed)
    begins = np.where(rng.random(shoppers) < 0.5, 5, rng.integers(0, ITEMS, shoppers))
    rows = 1 + (begins[:, None] + np.arange(length)) % ITEMS
    users = np.repeat(np.arange(1, shoppers + 1), length)
    acts = Interactions.sorted(users, rows.ravel(), np.ones(len(users)))
    names = [f"s{n:03d}" for n in range(shoppers)], [f"i{n}" for n in range(1, ITEMS + 1)]
    return BehaviourSet(
        Vocabulary.fit(names[0]),
        Vocabulary.fit(names[1]),
        ("view",),
        leave_one_out(acts, repeat=True),
        own_split=False,
    )
