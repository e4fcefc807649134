"""What is asked of a part of the data, and which right answers are of a kind: cold, rare, of a category.

A model that is best on the whole may be worst for those who need it: newcomers, and new items.

    B queries   N items   T right answers of all queries
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from etalage.errors import TooLittleData
from etalage.evaluation.names import (
    ALL,
    CATEGORY,
    COLD_AMONG_ALL,
    COLD_ITEMS,
    COLD_USERS,
    RARE_ITEMS,
    TAKEN_AGAIN,
    TAKEN_ANEW,
)  # fmt: skip
from etalage.features.behaviour import BehaviourSet, Interactions, Queries

RARE = 5
"""An item with no more positives than this in train is rare."""
FEW_ACTS = 3
"""A shopper with a shorter history is cold; so many acts the deep models ask for ([funnel] enough)."""
CATEGORIES = 8
"""The slices by category: the most frequent ones."""


@dataclass(frozen=True)
class Questions:
    """The questions of one part: shoppers, and what they came to take."""

    part: str
    queries: Queries
    truth: list[np.ndarray]
    """B arrays of item rows, each once, none of them in `seen` of its user, none empty."""
    seen: Interactions
    """What is not shown again to these shoppers."""
    dropped: int
    """Right answers that stand in `seen`, and are therefore not asked for."""

    @property
    def owners(self) -> np.ndarray:
        """(T,) int64: the query of each right answer."""
        return np.repeat(np.arange(len(self.truth)), [len(right) for right in self.truth])

    @property
    def items(self) -> np.ndarray:
        """(T,) int64 item rows of the right answers."""
        return np.concatenate([*self.truth, np.empty(0, np.int64)]).astype(np.int64)

    def only(self, right: np.ndarray) -> tuple["Questions", np.ndarray]:
        """With these (T,) bool of the right answers, without queries that have none left; and which stay."""
        counts = np.bincount(self.owners[right], minlength=len(self.truth))
        stay = np.flatnonzero(counts)
        truth = np.split(self.items[right], np.cumsum(counts[stay])[:-1]) if len(stay) else []
        return Questions(self.part, self.queries.only(stay), truth, self.seen, self.dropped), stay


def ask(data: BehaviourSet, part: str, most: int, seed: int = 0) -> Questions:
    """The questions of `part`: at most `most` shoppers, drawn by the seed. Raises TooLittleData: none."""
    truth, seen = data.truth(part), data.seen(part)
    pairs = np.unique(truth.keys)
    users, items = pairs >> 32, pairs & 0xFFFFFFFF
    had = _taken(users, items, seen, len(data.items))
    there = np.unique(users[~had])
    if len(there) == 0:
        raise TooLittleData(
            f"no shopper has anything new in {part}: nothing to evaluate; see [behaviour] in shop.toml"
        )
    if len(there) > most:
        chosen = np.random.default_rng(seed).choice(np.arange(len(there)), most, replace=False)
        there = there[np.sort(chosen)]
    mine = np.isin(seen.users, there)
    seen = seen.take(mine) if 2 * mine.sum() < len(mine) else seen  # it can be most of the memory
    queries, wanted = data.queries(part, truth=truth.take(np.isin(truth.users, there)))
    some = Questions(part, queries, wanted, seen, int(np.count_nonzero(had)))
    asked, _ = some.only(~_taken(queries.users[some.owners], some.items, seen, len(data.items)))
    return asked


@dataclass(frozen=True)
class Slice:
    name: str
    words: str
    """What it is made of, for the report."""
    right: np.ndarray
    """(T,) bool: the right answers that count; the queries that have none of them are not asked."""
    candidates: np.ndarray | None = None
    """(N + 1,) bool: what may be shown; None: everything."""


def slices(data: BehaviourSet, asked: Questions) -> dict[str, Slice]:
    """By name, `all` first; those without a single right answer are left out."""
    items, owners = asked.items, asked.owners
    known = np.bincount(data.part("train").positive.items, minlength=len(data.items))
    cold = known == 0
    cold[0] = False
    short = np.diff(asked.queries.starts) < FEW_ACTS
    of_cold = cold[items] & (items > 0)
    found = [
        Slice(ALL, "every shopper, the whole catalogue", np.ones(len(items), bool)),
        Slice(COLD_ITEMS, "nobody took them in train; ranked among themselves", of_cold, cold),
        Slice(COLD_AMONG_ALL, "nobody took them in train; the whole catalogue", of_cold),
        Slice(RARE_ITEMS, f"taken 1 to {RARE} times in train", (known[items] > 0) & (known[items] <= RARE)),
        Slice(COLD_USERS, f"fewer than {FEW_ACTS} acts of history", short[owners]),
    ]
    if data.facts.get("repeat"):
        before = data.before(asked.part).positive
        again = _taken(asked.queries.users[owners], items, before, len(data.items))
        found += [
            Slice(TAKEN_AGAIN, "what the shopper had before", again),
            Slice(TAKEN_ANEW, "what the shopper did not have before", ~again),
        ]
    for name, codes in _categories(data).items():
        found.append(Slice(f"{CATEGORY}{name}", "right answers of this category", codes[items]))
    return {one.name: one for one in found if one.right.any()}


def _taken(users: np.ndarray, items: np.ndarray, acts: Interactions, width: int) -> np.ndarray:
    """(T,) bool: does this user have this item in `acts`? Sorts the few pairs, not the many acts."""
    pairs = users * width + items
    wanted = np.unique(pairs)
    if len(wanted) == 0:
        return np.zeros(0, bool)
    keys = acts.users * width + acts.items
    at = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
    found = np.zeros(len(wanted), bool)
    found[at[wanted[at] == keys]] = True
    return found[np.searchsorted(wanted, pairs)]


def _categories(data: BehaviourSet) -> Mapping[str, np.ndarray]:
    """The most frequent first steps of the category paths: name → (N + 1,) bool."""
    steps = data.item_features.bags.get("category_id")
    encoder = data.item_encoder
    if steps is None or encoder is None or "category_id" not in encoder.bags or steps.shape[1] == 0:
        return {}
    first = steps[:, 0]
    counts = np.bincount(first[1:])
    counts[:1] = 0
    largest = np.argsort(-counts, kind="stable")[:CATEGORIES]
    names = encoder.bags["category_id"]
    return {names.id(int(code)): first == code for code in largest if counts[code]}
