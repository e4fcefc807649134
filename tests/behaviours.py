"""A small shop's behaviour with tastes and an order in it: a shopper keeps to one group of items, and what
comes next follows from the last act.

Asymmetric on purpose: groups differ in size and in popularity, items within a group too, users in activity,
and i → j does not mean j → i.
"""

import numpy as np

from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.encoder import Features
from etalage.features.vocabulary import Vocabulary

USERS, KINDS = 300, ("view", "buy")
SIZES = (14, 18, 22, 28, 35)
"""Of the groups."""
SHARES = (0.35, 0.25, 0.2, 0.1, 0.1)
"""Of the shoppers who keep to them."""
COLD = 3
"""The last items of the catalogue, which nobody ever touched."""
ITEMS = sum(SIZES) + COLD
DAY = 86_400_000_000


def behaviour(seed: int = 0, features: bool = True) -> BehaviourSet:
    """300 shoppers walk through their groups, a day an act, in steps of their own (1, 2 or 3: the user
    attribute `stride`), never to the same item twice, with one act in ten at random. The last positive is
    the test, the one before validation.

    Items have the features `stand` (sparse: the group), `words` (a bag) and `photo` (dense). An act in three
    is a purchase; its value is stars from 1 to 5, and a view below 3 is an explicit negative.
    """
    rng = np.random.default_rng(seed)
    first = np.concatenate([[0], np.cumsum(SIZES)])
    strides = rng.choice([1, 2, 3], USERS + 1, p=[0.5, 0.3, 0.2])
    rows: list[tuple[int, int, int, float, int]] = []
    for user in range(1, USERS + 1):
        group = int(rng.choice(len(SIZES), p=SHARES))
        place, taken = int(rng.exponential(4)), set[int]()
        for time in range(int(rng.integers(5, min(16, SIZES[group] - 2)))):
            item = int(first[group] + place % SIZES[group])
            while item in taken:
                place += 1
                item = int(first[group] + place % SIZES[group])
            if rng.random() < 0.1 and (drawn := int(rng.integers(first[-1]))) not in taken:
                item = drawn
            taken.add(item)
            stars = float(np.clip(round(5 - 3 * ((item + user) % 3 == 0) + rng.normal()), 1, 5))
            rows.append((user, item + 1, 1 + int(rng.random() < 1 / 3), stars, time))
            place += int(strides[user])
    users, items, kinds, values, times = (np.array(column) for column in zip(*rows, strict=True))
    labels = np.where((values < 3) & (kinds == 1), 0, 1)
    acts = Interactions.sorted(users, items, kinds, values, times * DAY, labels)
    return BehaviourSet(
        Vocabulary([f"u{n:03d}" for n in range(1, USERS + 1)]),
        Vocabulary([f"i{n:03d}" for n in range(1, ITEMS + 1)]),
        KINDS,
        _parts(acts),
        _item_features() if features else Features(),
        Features(sparse={"stride": strides}, sizes={"stride": 4}) if features else Features(),
    )


def _parts(acts: Interactions) -> dict[str, Interactions]:
    positives = np.flatnonzero(acts.labels > 0)
    owners = acts.users[positives]
    from_end = np.zeros(len(acts), np.int64)
    from_end[positives] = np.searchsorted(owners, owners, side="right") - np.arange(len(positives))
    names = {"train": ~np.isin(from_end, (1, 2)), "validation": from_end == 2, "test": from_end == 1}
    return {name: acts.take(mask) for name, mask in names.items()}


def _item_features() -> Features:
    """The cold items belong to the last group."""
    rows = np.arange(ITEMS + 1)
    known = rows > 0
    group = np.minimum(np.searchsorted(np.cumsum(SIZES), rows - 1, side="right"), len(SIZES) - 1)
    within = 2 * np.pi * rows / np.array(SIZES)[group]
    photo = np.concatenate(
        [2 * np.eye(len(SIZES))[group], np.sin(within)[:, None], np.cos(within)[:, None]], 1
    )
    return Features(
        sparse={"stand": np.where(known, 1 + group, 0)},
        bags={"words": np.where(known[:, None], np.stack([1 + group, 8 + rows % 5], 1), 0)},
        dense={"photo": np.where(known[:, None], photo, 0).astype(np.float32)},
        sizes={"stand": len(SIZES) + 1, "words": 13},
    )
