"""What a bundle answers: slates, scores of pairs, shoppers, categories."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from etalage.lake.shown import shown
from etalage.nearest import nearest
from etalage.online import Act
from etalage.runtime.classifier import Classified

_NAMED = 3


@dataclass(frozen=True)
class Unknown:
    """Of some acts, those that a bundle can make nothing of."""

    acts: int
    """How many of them: on an unknown item, or of an unknown kind, or both."""
    items: int
    kinds: int
    notes: list[str]
    """Which items and kinds, most frequent first, and what becomes of them."""

    @classmethod
    def among(
        cls,
        acts: Sequence[Act],
        knows_item: Callable[[Act], bool],
        knows_kind: Callable[[Act], bool],
        kinds: Iterable[str],
    ) -> "Unknown":
        """`kinds`: names that somebody may have meant by one that is not known."""
        items = [act.item_id for act in acts if not knows_item(act)]
        strange = [act.kind for act in acts if not knows_kind(act)]
        both = sum(not (knows_item(act) and knows_kind(act)) for act in acts)
        notes = []
        if items:
            listed = ", ".join(shown(one) for one, _ in Counter(items).most_common(_NAMED))
            notes.append(
                f"{len(items)} events on items that this bundle lacks ({listed}): kept, and taught to no "
                "model until the catalogue has them"
            )
        if strange:
            named = []
            for one, _ in Counter(strange).most_common(_NAMED):
                near = nearest(one, kinds)
                named.append(f"{shown(one)}{f'; did you mean {near}?' if near else ''}")
            notes.append(
                f"{len(strange)} events of a kind that nobody knows ({', '.join(named)}): kept, and taught "
                "to no model until [behaviour] of shop.toml names it"
            )
        return cls(both, len(items), len(strange), notes)


@dataclass(frozen=True)
class Slot:
    """One place of a slate. `item` is what is shown: title, brand, price, …"""

    rank: int
    item_id: str
    score: float
    """Inner product with the query, the ranker's score, or the item's popularity in a fallback."""
    item: dict[str, Any]
    why: str | None = None
    """For the shopper: "because you bought …"."""
    trace: dict[str, Any] | None = None
    """For the shop: which retrievers found it, each stage's score."""


@dataclass(frozen=True)
class Answer:
    """The slate for one query, and how it came about."""

    row: int
    """Position of the query in the request."""
    slate: list[Slot]
    fallback: str | None = None
    """`unknown_item` or `item_without_photo`: the slate is the most popular, not the most similar.
    `by_behaviour`: without photos to compare, what the same shoppers want."""
    reason: str | None = None
    """Why the slate is shorter than asked."""
    trace: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recommended:
    """The slate for one shopper, and how it came about."""

    user_id: str | None
    rung: str
    """Who spoke: `deep`, `collaborative`, `photo` or `popular` (funnel/funnel.py)."""
    known: bool
    """Whether anything is known of the shopper."""
    slate: list[Slot]
    reason: str | None
    """Why the slate is shorter than asked."""
    trace: dict[str, Any]


@dataclass(frozen=True)
class Ranked:
    """The score of one pair of a shopper and an item."""

    row: int
    user_id: str
    item_id: str
    score: float
    """Higher is better, among pairs of one shopper; 0 for an unknown item."""
    probability: float | None
    """That the shopper likes it; None where no ranker that gives probabilities knows both."""
    liked: bool | None
    known_user: bool
    known_item: bool


@dataclass(frozen=True)
class Near:
    user_id: str
    score: float


@dataclass(frozen=True)
class StoredCategory:
    """What the bundle holds of an item of its catalogue: as it was classified, and as it came."""

    category_id: str | None
    path: str | None
    confidence: float | None
    own: str | None
    """The merchant's own category."""


@dataclass(frozen=True)
class Categorised:
    """What one item is, by the bundle's classifier, now."""

    row: int
    """Position of the item in the request."""
    found: Classified
    reason: str | None
    """Why it is not classified; None: it is."""
    stored: StoredCategory | None = None
    """Of an item of the catalogue."""
