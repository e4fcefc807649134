"""What an act means: one rule for training, evaluation, publishing, syncing, browsing and serving.

A kind has a meaning by its name (etalage/kinds.py), unless [behaviour] gives it one.

    M acts
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import BehaviourConfig, FunnelConfig
from etalage.kinds import QUANTITIES, known_meaning

Column: TypeAlias = pa.ChunkedArray | pa.Array


@dataclass(frozen=True)
class BehaviourRule:
    """[behaviour] and [funnel] as a rule for single acts. A kind is what the tables hold; None and "" are an
    act of no kind: interest of weight 1."""

    behaviour: BehaviourConfig
    funnel: FunnelConfig = field(default_factory=FunnelConfig)

    def weight(self, kind: str | None) -> float:
        """How much a positive act of this kind counts; 0: not at all, negative: it speaks against the item.

        As [behaviour] weights says, which counts no kind that it does not name; without it every kind
        counts 1, those that are negative by name -1, those that take something back 0.
        """
        if self.behaviour.weights:
            return self.behaviour.weights.get(kind or "", 0.0)
        return {"negative": -1.0, "undone": 0.0}.get(known_meaning(kind or ""), 1.0)

    def counts(self, kind: str | None) -> bool:
        """Whether models learn from acts of this kind, as positives or as explicit negatives."""
        return self.weight(kind) != 0 or (kind or "") in self.behaviour.weights

    def threshold(self, kind: str | None) -> float | None:
        """The value from which on an act of this kind is positive; None: whatever its value."""
        given = self.behaviour.positive_from
        if isinstance(given, dict):
            return given.get(kind or "")
        return None if known_meaning(kind or "") in QUANTITIES else given

    def positive(self, kind: str | None, value: float | None) -> bool:
        """Whether an act speaks for its item."""
        start = self.threshold(kind)
        return self.weight(kind) > 0 and (start is None or value is None or not value < start)

    def negative(self, kind: str | None, value: float | None) -> bool:
        """Whether an act is an explicit negative: its item is kept off the shopper's slates."""
        return self.counts(kind) and not self.positive(kind, value)

    def named(self, kind: str | None) -> bool:
        """Whether its name or [behaviour] says what an act of this kind means."""
        given = self.behaviour
        starts = given.positive_from if isinstance(given.positive_from, dict) else ()
        named = (*given.weights, *given.has, *given.kinds, *given.targets, *starts)
        return (kind or "") in named or known_meaning(kind or "") != "other"

    def has(self, kind: str | None) -> bool:
        """Whether a shopper has the item after an act of this kind."""
        named = (*self.behaviour.has, *self.behaviour.targets)
        return (kind or "") in named or known_meaning(kind or "") in ("has", "rating")

    @property
    def seen(self) -> Literal["drop_bought", "drop_all", "keep"]:
        """Where things are bought again and again, what was bought may be shown."""
        repeat = self.behaviour.repeat and self.funnel.seen == "drop_bought"
        return "keep" if repeat else self.funnel.seen

    def drops(self, kind: str | None) -> bool:
        """Whether an act of this kind keeps its item off the slate, whatever its value."""
        return self.seen == "drop_all" or (self.seen == "drop_bought" and self.has(kind))

    def lasting(self, kind: str | None) -> bool:
        """Whether an act of this kind may keep its item off the slate for ever, however old it is."""
        return self.drops(kind) or (self.counts(kind) and (
            self.weight(kind) <= 0 or self.threshold(kind) is not None))  # fmt: skip

    def keeps_off(self, kind: str | None, value: float | None) -> bool:
        """Whether this act keeps its item off the shopper's slates: they have it, or do not want it."""
        return self.drops(kind) or self.negative(kind, value)

    # -- many acts at once ---------------------------------------------------------------------

    def weights_of(self, kinds: Iterable[str | None]) -> np.ndarray:
        """float64 of the length of `kinds`."""
        return np.array([self.weight(kind) for kind in kinds], np.float64)

    def positives(self, kinds: Sequence[str | None], codes: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(M,) bool: which acts speak for their items.

        codes: (M,) positions in `kinds`; values: (M,) float, NaN = none.
        """
        starts = [self.threshold(kind) for kind in kinds]
        least = np.array([-np.inf if start is None else start for start in starts], np.float64)
        return np.asarray((self.weights_of(kinds) > 0)[codes] & ~(values < least[codes]))

    def weighed(self, kinds: Column, values: Column) -> np.ndarray:
        """(M,) float64 from columns of the table of interactions: the weight of each positive, else 0."""
        names, codes = coded(kinds)
        numbers = np.asarray(pc.fill_null(values.cast(pa.float64()), np.nan))
        return np.where(self.positives(names, codes, numbers), self.weights_of(names)[codes], 0.0)

    def lasts(self, kinds: Column) -> np.ndarray:
        """(M,) bool: `lasting` of a column of kinds."""
        names, codes = coded(kinds)
        return np.array([self.lasting(name) for name in names], bool)[codes]


def coded(kinds: Column) -> tuple[list[str | None], np.ndarray]:
    """The different kinds of a column, and (M,) int64 which of them each act is of; null is a kind too."""
    flat = kinds.combine_chunks() if isinstance(kinds, pa.ChunkedArray) else kinds
    found = flat.cast(pa.string()).dictionary_encode(null_encoding="encode")
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    names = found.dictionary.to_pylist()
    return names or [None], found.indices.to_numpy(zero_copy_only=False).astype(np.int64)
