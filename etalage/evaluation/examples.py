"""A handful of shoppers whose slates are worth a look, chosen by a rule and not by hand.

B queries
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from etalage.evaluation.ranking import Ranked
from etalage.evaluation.slices import Questions
from etalage.features.behaviour import BehaviourSet

RULE = (
    "Chosen by a rule, not by hand, among {queries:,} {asked} of {part}: by the difference of {chosen} and "
    "{over} at {metric}, the largest gain, two near the mean difference of those for whom either found "
    "something, and the largest loss"
)
GAIN, TYPICAL, LOSS, NEW = "largest gain", "typical", "largest loss", "shortest history"
SHOWN, REMEMBERED = 6, 6


@dataclass(frozen=True)
class ShopperExample:
    """One shopper: what they did, what each system would show, what they took."""

    why: str
    """Which part of the rule chose them."""
    shopper: str
    """Shortened: it names nobody."""
    acts: int
    """How many acts were known."""
    history: tuple[str, ...]
    """The newest items of them, the newest last."""
    slates: Mapping[str, tuple[tuple[str, int, bool], ...]]
    """System → item, its place and whether it is right: the first places, and right ones further down."""
    values: Mapping[str, float]
    """System → the metric for this shopper."""
    took: tuple[str, ...]

    @property
    def items(self) -> set[str]:
        """All items that are shown of this shopper."""
        return {*self.history, *self.took, *(item for slate in self.slates.values() for item, *_ in slate)}


def choose(
    gain_B: np.ndarray, usable_B: np.ndarray | None = None, acts_B: np.ndarray | None = None
) -> list[tuple[str, int]]:
    """Why, and which query: each at most once, of equals the first.

    gain_B: of one system over another. usable_B: (B,) bool, those of whom typical ones are chosen; None, or
    none: all. acts_B: how many acts are known; None: the shortest history does not matter.
    """
    order = np.arange(len(gain_B))
    usable = usable_B if usable_B is not None and usable_B.any() else np.ones(len(gain_B), bool)
    away = np.where(usable, np.abs(gain_B - gain_B.mean()), np.inf)
    ways = [(GAIN, -gain_B)] if gain_B.max() > 0 else []
    ways += [(TYPICAL, away)] * 2
    ways += [(LOSS, gain_B)] if gain_B.min() < 0 else []
    ways += [] if acts_B is None else [(NEW, acts_B)]
    found: list[tuple[str, int]] = []
    for why, by in ways:
        taken = {query for _, query in found}
        left = [int(query) for query in np.lexsort((order, by)) if int(query) not in taken]
        found += [(why, left[0])] if left else []
    return found


def shopper_examples(
    data: BehaviourSet,
    asked: Questions,
    ranked: Mapping[str, Ranked],
    systems: Sequence[str],
    metric: str,
) -> list[ShopperExample]:
    """Examples for the first of `systems` beside the second; the slates of all of them."""
    values = {name: ranked[name].per_query[metric] for name in systems}
    chosen, over = systems[0], systems[min(1, len(systems) - 1)]
    hit = (values[chosen] > 0) | (values[over] > 0)
    found = choose(values[chosen] - values[over], hit, np.diff(asked.queries.starts))
    users = [int(asked.queries.users[query]) for _, query in found]
    told = told_apart([data.users.id(user) if user > 0 else "" for user in users])
    return [
        _example(data, asked, ranked, values, why, query, shopper)
        for (why, query), shopper in zip(found, told, strict=True)
    ]


def _example(
    data: BehaviourSet,
    asked: Questions,
    ranked: Mapping[str, Ranked],
    values: Mapping[str, np.ndarray],
    why: str,
    query: int,
    shopper: str,
) -> ShopperExample:
    begin, end = (int(at) for at in asked.queries.starts[query : query + 2])
    right = {int(row) for row in asked.truth[query]}
    newest = asked.queries.items[max(begin, end - REMEMBERED) : end]
    slates = {
        name: tuple(
            (data.items.id(int(row)), place, int(row) in right)
            for place, row in enumerate(ranked[name].slates[query], start=1)
            if row > 0 and (place <= SHOWN or int(row) in right)
        )
        for name in values
    }
    return ShopperExample(
        why,
        shopper,
        end - begin,
        tuple(data.items.id(int(row)) for row in newest if row > 0),
        slates,
        {name: float(one[query]) for name, one in values.items()},
        tuple(data.items.id(row) for row in sorted(right) if row > 0),
    )


def told_apart(user_ids: Sequence[str]) -> list[str]:
    """The ids shortened; different shoppers whose ids then look equal are numbered. "": an unknown one."""
    alike: dict[str, list[str]] = {}
    for user_id in dict.fromkeys(user_ids):
        alike.setdefault(shortened(user_id) if user_id else "an unknown shopper", []).append(user_id)
    told = {
        user_id: f"{short} ({number})" if len(those) > 1 else short
        for short, those in alike.items()
        for number, user_id in enumerate(those, start=1)
    }
    return [told[user_id] for user_id in user_ids]


def shortened(user_id: str) -> str:
    """The end of an id, at most half of it and four characters; of an address the first letter alone."""
    if "@" in user_id:
        return f"{user_id[:1]}…@…"
    keep = min(4, len(user_id) // 2)
    return f"…{user_id[len(user_id) - keep :]}" if keep else "…"
