"""What is to be predicted must not stand in what was learned from: counted whenever a model is judged.

B queries   n published negatives of each   F faults of one kind
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from etalage.errors import LeakageFound
from etalage.features.behaviour import NEVER, PARTS, BehaviourSet, Interactions, pair_keys
from etalage.features.negatives import repeats

_JUDGED = ("validation", "test")
_FAULTS = {
    "known": "is to be found for them, but they took it before",
    "negatives_in_train": "is a negative of theirs, but they took it before",
    "negatives_in_part": "is a negative of theirs, and to be found for them",
    "later": "was learned from, but came later",
}
_COUNTED = (*_FAULTS, "negatives_repeated", "repeated")


@dataclass(frozen=True)
class Leakage:
    """Counts by judged part (`validation`, `test`), and the mask of the negatives that are clean."""

    known: dict[str, int]
    """Hits whose pair (user, item) stands in an earlier part; 0 where shoppers take the same again."""
    negatives_in_train: dict[str, int]
    """Published negatives that are positives of their user in an earlier part."""
    negatives_in_part: dict[str, int]
    """Published negatives that are hits of their user in this very part."""
    later: dict[str, int]
    """Acts learned from that are later than what is judged: than its first act, where the split is by time;
    than its user's first, where it is by each user's order. 0 for other splits."""
    negatives_repeated: dict[str, int]
    """Published negatives that stand beside their query already. No leak, but they count twice."""
    repeated: dict[str, int]
    """Hits whose pair the part has already: each counts once. No leak."""
    cleaned: dict[str, np.ndarray] = field(default_factory=dict)
    """By part: (B, n) bool, the negatives that stand there once and are no positive of any part."""
    example: str = ""
    """The first leak in words; empty when there is none."""

    @property
    def found(self) -> bool:
        """Is there any leak?"""
        return any(sum(getattr(self, name).values()) for name in _FAULTS)

    def to_json(self) -> dict[str, Any]:
        """The counts and the example, for a report."""
        return {name: value for name, value in asdict(self).items() if name != "cleaned"}


def check_leakage(data: BehaviourSet) -> Leakage:
    """Look through `data` as it is judged. Raises LeakageFound, with counts and an example, when the split is
    our own; the faults of a published one are returned, with what is clean of its negatives."""
    counts = {name: dict.fromkeys(_JUDGED, 0) for name in _COUNTED}
    examples = []
    for part in _JUDGED:
        for name, users, items in _found(data, part):
            counts[name][part] = len(users)
            if len(users) and name in _FAULTS:
                user, item = data.users.id(int(users[0])), data.items.id(int(items[0]))
                examples.append(f"{part}: user {user!r}, item {item!r}: it {_FAULTS[name]}")
    cleaned = {part: _clean(data, part) for part in _JUDGED if part in data.negatives}
    leakage = Leakage(**counts, cleaned=cleaned, example=next(iter(examples), ""))
    if leakage.found and data.own_split:
        said = ", ".join(f"{name} {n}" for name in _FAULTS if (n := sum(counts[name].values())))
        raise LeakageFound(
            f"what is judged stands in what was learned from ({said}); {leakage.example}. Split by "
            f"features.split_interactions, and draw negatives by features.negatives.candidates"
        )
    return leakage


def _found(data: BehaviourSet, part: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(what, (F,) user rows, (F,) item rows)."""
    truth = data.truth(part)
    known = truth.take(np.isin(truth.keys, data.seen(part).keys))
    yield "known", known.users, known.items
    later = _later(data, part)
    yield "later", later.users, later.items
    first = np.zeros(len(truth), bool)
    first[np.unique(truth.keys, return_index=True)[1]] = True
    yield "repeated", truth.users[~first], truth.items[~first]
    if part not in data.negatives:
        return
    users, drawn, keys = _published(data, part)
    for name, wrong in (
        ("negatives_in_train", np.isin(keys, data.before(part).positive.keys)),
        ("negatives_in_part", np.isin(keys, truth.keys)),
        ("negatives_repeated", repeats(drawn)),
    ):
        yield name, users[wrong], drawn[wrong]


def _later(data: BehaviourSet, part: str) -> Interactions:
    """The acts learned from that came after what is judged."""
    learned, judged = data.before(part), data.part(part)
    judged = judged.take(judged.times != NEVER)
    split = data.facts.get("split")
    if not len(judged) or split not in ("time", "leave_one_out", "last_n"):
        return Interactions.none()
    if split == "time":
        return learned.take(learned.times > judged.times.min())
    first = np.full(len(data.users), np.iinfo(np.int64).max)
    np.minimum.at(first, judged.users, judged.times)
    return learned.take(learned.times > first[learned.users])


def _published(data: BehaviourSet, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(B, n) each: user rows, item rows, keys. Raises ValueError: negatives of other queries."""
    users, drawn = np.unique(data.truth(part).users), data.negatives[part]
    if drawn.ndim != 2 or len(drawn) != len(users):
        raise ValueError(f"negatives of shape {drawn.shape} for the {len(users)} queries of {part}")
    owners = np.broadcast_to(users[:, None], drawn.shape)
    return owners, drawn, pair_keys(owners, drawn)


def _clean(data: BehaviourSet, part: str) -> np.ndarray:
    _, drawn, keys = _published(data, part)
    positive = np.concatenate([data.part(name).positive.keys for name in PARTS])
    return (drawn > 0) & ~np.isin(keys, positive) & ~repeats(drawn)
