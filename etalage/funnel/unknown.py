"""What a bundle answers is in etalage.api; here is what it can make nothing of."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from etalage.lake.shown import shown
from etalage.nearest import nearest
from etalage.online import Act

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
