"""Which acts a bundle does not understand: about unknown items, or of unknown kinds."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from etalage.lake.shown import shown
from etalage.nearest import nearest
from etalage.online import Act

_NAMED = 3


@dataclass(frozen=True)
class Unknown:
    """The acts among some that a bundle does not understand."""

    acts: int
    """How many acts are about an unknown item, of an unknown kind, or both."""
    items: int
    kinds: int
    notes: list[str]
    """Which items and kinds they are, most frequent first, and what happens to them."""

    @classmethod
    def among(
        cls,
        acts: Sequence[Act],
        knows_item: Callable[[Act], bool],
        knows_kind: Callable[[Act], bool],
        kinds: Iterable[str],
    ) -> "Unknown":
        """`kinds`: known names, to suggest what an unknown kind may have meant."""
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
