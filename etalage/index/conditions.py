"""What filters say about an item's fields: for an index on another machine, which stores them, and to which
no mask over all items is sent.

    A length of the mask
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

How = Literal["is", "is_not", "beneath", "at_least", "at_most"]

TEXTS = ("id", "category", "classified", "brand")
NUMBERS = ("price", "confidence")
FIELDS = (*TEXTS, *NUMBERS, "in_stock", "attributes")
"""What an index may store of each item, besides its row: the columns of the `fields` that `build` takes. By
`id`, the item's own, others can read a collection."""
LIVE = frozenset({"price", "in_stock"})
"""Fields that change while a bundle is served."""


@dataclass(frozen=True)
class Condition:
    """One thing that must hold of an item, in terms of the fields in FIELDS.

    `is`: the field has this value. `is_not`: it has another one, or none. `beneath`: this path, or one
    beneath it. `at_least` and `at_most` are inclusive; no value passes neither. `key`: which attribute.
    """

    field: str
    how: How
    value: Any
    key: str | None = None


class Mask(np.ndarray):
    """A bool mask by item_row that also knows what it was made from.

    It is an array like any other, so that nothing that takes a mask needs to know of it. The mask is what
    counts. `conditions` are a shorter way to say nearly the same: every allowed item fulfils all of them,
    except those in `changed`, whose stored fields are out of date. A mask that somebody closed further is
    still told by its conditions, and the items that it lost are dropped from the answer. What is computed
    from a mask (`mask & other`, `~mask`, a slice) has no conditions.
    """

    conditions: tuple[Condition, ...] | None
    changed: np.ndarray
    """(C,) item_rows."""

    @classmethod
    def of(
        cls, mask: np.ndarray, conditions: Sequence[Condition], changed: np.ndarray | None = None
    ) -> "Mask":
        """`mask` itself, with its conditions; not a copy."""
        made = np.asarray(mask).view(cls)
        made.conditions = tuple(conditions)
        made.changed = np.empty(0, np.int64) if changed is None else changed
        return made

    def __array_finalize__(self, made_from: object) -> None:
        self.conditions = None
        self.changed = np.empty(0, np.int64)

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        return array[()] if return_scalar else np.asarray(array)


def conditions_of(allow: np.ndarray | None) -> tuple[Condition, ...] | None:
    """What `allow` was made from; None: it does not say."""
    return allow.conditions if isinstance(allow, Mask) else None
