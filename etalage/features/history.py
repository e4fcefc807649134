"""What an act means: one rule for training, evaluation, publishing, syncing, browsing and serving.

A kind has a meaning by its name (etalage/kinds.py), unless [behaviour] gives it one. What [behaviour] names
may be written otherwise in the acts: `add_to_cart` there is `AddToCart` here.

Two things are told by several acts of one shopper on one item: what was taken back (`stands`), and an
explicit negative that a later like overrules (`overruled`). Of likes and ratings the last one holds.

    M acts
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import BehaviourConfig, FunnelConfig
from etalage.kinds import QUANTITIES, Meaning, known_meaning, plain_kind, takes_back

Column: TypeAlias = pa.ChunkedArray | pa.Array


_KINDS_KEPT = 4096
"""Of so many kinds the rule keeps what it found out."""
_TAKEN_BACK: tuple[Meaning, ...] = ("has", "cart", "like")
_ABOVE_ZERO = float(np.nextafter(0, 1))


@dataclass(frozen=True)
class KindRule:
    """What [behaviour] and its name say of one kind."""

    meaning: Meaning
    weight: float
    counts: bool
    threshold: float | None
    has: bool
    named: bool
    back: frozenset[Meaning]
    """The meanings of acts of which one of this kind takes back the one before it: a refund, a purchase."""

    @property
    def least(self) -> float:
        """The value from which on an act is positive: the threshold; without one no value below 0 is, and of
        a like not 0 either."""
        if self.threshold is not None:
            return self.threshold
        return _ABOVE_ZERO if self.meaning == "like" else 0.0

    def positive(self, value: float | None) -> bool:
        return self.weight > 0 and (value is None or not value < self.least)

    def idle(self, value: float | None) -> bool:
        """Says nothing for or against its item, by its value: less than nothing bought or viewed (a return,
        in books of sales), a like of 0."""
        if value is None or self.weight <= 0 or self.threshold is not None:
            return False
        return value < 0 if self.meaning in QUANTITIES else self.meaning == "like" and value == 0

    def negative(self, value: float | None) -> bool:
        return self.counts and not self.positive(value) and not self.idle(value)

    @property
    def replaced(self) -> bool:
        """Is an opinion and nothing else, so that a worse one after it takes its place."""
        return self.meaning in ("like", "rating")

    @property
    def opinion(self) -> bool:
        """Says that the shopper likes the item, or has it, and not only that they looked."""
        return self.meaning in ("like", "rating", "has") or self.threshold is not None


@dataclass(frozen=True)
class BehaviourRule:
    """[behaviour] and [funnel] as a rule for single acts. A kind is what the tables hold; None and "" are an
    act of no kind: interest of weight 1."""

    behaviour: BehaviourConfig
    funnel: FunnelConfig = field(default_factory=FunnelConfig)

    def of(self, kind: str | None) -> KindRule:
        """What is said of this kind."""
        name = kind or ""
        if name not in self._kinds:
            if len(self._kinds) >= _KINDS_KEPT:
                self._kinds.clear()
            self._kinds[name] = self._said_of(name)
        return self._kinds[name]

    @cached_property
    def _kinds(self) -> dict[str, KindRule]:
        return {}

    def _said_of(self, kind: str) -> KindRule:
        config, meaning = self.behaviour, known_meaning(kind)
        if meaning == "other" and _is_given(config.has, kind):
            meaning = "has"
        default = {"negative": -1.0, "undone": 0.0, "shown": 0.0}.get(meaning, 0.0 if config.weights else 1.0)
        weight = float(given(config.weights, kind, default))
        threshold: float | None
        if isinstance(config.positive_from, dict):
            threshold = given(config.positive_from, kind, None)
            starts: Collection[str] = config.positive_from
        else:
            threshold = None if meaning in (*QUANTITIES, "like") else config.positive_from
            starts = ()
        everywhere = (*config.weights, *config.has, *config.kinds, *config.targets, *starts)
        return KindRule(
            meaning,
            weight,
            weight != 0,
            threshold,
            _is_given((*config.has, *config.targets), kind) or meaning in ("has", "rating"),
            meaning != "other" or _is_given(everywhere, kind),
            # A kind that weights names means what its weight says.
            frozenset() if _is_given(config.weights, kind) else takes_back(kind),
        )

    def weight(self, kind: str | None) -> float:
        """How much a positive act of this kind counts; 0: not at all, negative: it speaks against the item.

        As [behaviour] weights says, which counts no kind that it does not name; without it every kind
        counts 1, those that take something back or were only shown 0. Those that are negative by name count
        -1, unless it names them.
        """
        return self.of(kind).weight

    def counts(self, kind: str | None) -> bool:
        """Whether models learn from acts of this kind, as positives or as explicit negatives."""
        return self.of(kind).counts

    def weighs_nothing(self, kind: str | None) -> bool:
        """Whether [behaviour] weights says of this kind that it weighs 0."""
        return self.of(kind).weight == 0 and _is_given(self.behaviour.weights, kind)

    def threshold(self, kind: str | None) -> float | None:
        """The value from which on an act of this kind is positive, by [behaviour] positive_from; None: it is
        not about this kind."""
        return self.of(kind).threshold

    def positive(self, kind: str | None, value: float | None) -> bool:
        """Whether an act speaks for its item."""
        return self.of(kind).positive(value)

    def negative(self, kind: str | None, value: float | None) -> bool:
        """Whether an act is an explicit negative: its item is kept off the shopper's slates."""
        return self.of(kind).negative(value)

    def named(self, kind: str | None) -> bool:
        """Whether its name or [behaviour] says what an act of this kind means."""
        return self.of(kind).named

    def has(self, kind: str | None) -> bool:
        """Whether a shopper has the item after an act of this kind."""
        return self.of(kind).has

    def buys(self, kind: str | None) -> bool:
        """Whether an act of this kind is a purchase: by its name, or by [behaviour] has."""
        return self.of(kind).meaning == "has" or _is_given(self.behaviour.has, kind)

    @cached_property
    def seen(self) -> Literal["drop_bought", "drop_all", "keep"]:
        """Where things are bought again and again, what was bought may be shown."""
        repeat = self.behaviour.repeat and self.funnel.seen == "drop_bought"
        return "keep" if repeat else self.funnel.seen

    def drops(self, kind: str | None) -> bool:
        """Whether an act of this kind keeps its item off the slate, whatever its value."""
        return self.seen == "drop_all" or (self.seen == "drop_bought" and self.of(kind).has)

    def lasting(self, kind: str | None) -> bool:
        """Whether an act of this kind may keep its item off the slate, or take back what does, however old it
        is."""
        return self._always_lasts(kind) or self._lasts_below_zero(kind)

    def _always_lasts(self, kind: str | None) -> bool:
        said = self.of(kind)
        telling = said.weight <= 0 or said.threshold is not None or said.meaning == "like"
        return self.drops(kind) or (said.counts and telling) or said.meaning == "undone"

    def _lasts_below_zero(self, kind: str | None) -> bool:
        return self.negative(kind, -1.0)

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
        least = np.array([self.of(kind).least for kind in kinds], np.float64)
        return np.asarray((self.weights_of(kinds) > 0)[codes] & ~(values < least[codes]))

    def idles(self, kinds: Sequence[str | None], codes: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(M,) bool: which acts say nothing for or against their items, as `positives` has them."""
        below = np.array([self.of(kind).idle(-1.0) for kind in kinds], bool)
        zero = np.array([self.of(kind).idle(0.0) for kind in kinds], bool)
        return np.asarray((below[codes] & (values < 0)) | (zero[codes] & (values == 0)))

    def negatives(self, kinds: Sequence[str | None], codes: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(M,) bool: which acts are explicit negatives, as `positives` has them."""
        counts = np.array([self.counts(kind) for kind in kinds], bool)[codes]
        return np.asarray(counts & ~self.positives(kinds, codes, values) & ~self.idles(kinds, codes, values))

    def takes(self, kinds: Sequence[str | None], codes: np.ndarray, values: np.ndarray) -> bool:
        """Whether any act may take something back; arguments as of `positives`."""
        if any(self.of(kind).back for kind in kinds) or self.idles(kinds, codes, values).any():
            return True
        replaced = any(self.of(kind).replaced for kind in kinds)
        return replaced and bool(self.negatives(kinds, codes, values).any())

    def changing(self, kinds: Column, values: Column) -> np.ndarray:
        """(M,) bool: which acts a later one may take back, or take something back themselves; what shoppers
        looked at is none of them. Arguments as of `weighed`."""
        names, codes = coded(kinds)
        rules = [self.of(name) for name in names]
        own = np.array([bool(one.back) or one.meaning in (*_TAKEN_BACK, "rating") for one in rules], bool)
        return np.asarray(own[codes] | self.negatives(names, codes, _numbers(values)))

    def stands(
        self,
        kinds: Sequence[str | None],
        codes: np.ndarray,
        values: np.ndarray,
        times: np.ndarray,
        pairs: np.ndarray,
    ) -> np.ndarray:
        """(M,) bool: False for acts that a later one of the same shopper on the same item took back, as a
        refund takes back the purchase before it.

        kinds, codes, values: as of `positives`; times: (M,) int64; pairs: (M,) one number for each shopper
        and item. A refund takes back one purchase, and nothing where it is of less than what was bought; an
        `unlike` takes back every like, an explicit negative every like and rating.
        """
        idle = self.idles(kinds, codes, values)
        speaks = self.positives(kinds, codes, values)
        replaced = np.array([self.of(kind).replaced for kind in kinds], bool)[codes]
        worse = self.negatives(kinds, codes, values)
        stands = ~_followed(pairs, times, speaks & replaced, worse)
        for meaning in _TAKEN_BACK:
            own = np.array([self.of(kind).meaning == meaning for kind in kinds], bool)[codes]
            taking = np.array([meaning in self.of(kind).back for kind in kinds], bool)[codes] | (own & idle)
            if meaning == "like":
                stands &= ~_followed(pairs, times, own & speaks, taking)
                continue
            at = np.flatnonzero((own & speaks) | taking)
            at = at[np.lexsort((taking[at], times[at]))]
            if taking.any():
                given, taken = _matched(pairs[at], taking[at])
                partial = np.abs(values[at[taken]]) < np.abs(values[at[given]])
                stands[at[given[~partial]]] = False
        return stands

    def weighed(self, kinds: Column, values: Column) -> np.ndarray:
        """(M,) float64 from columns of the table of interactions: the weight of each positive, else 0."""
        names, codes = coded(kinds)
        return np.where(self.positives(names, codes, _numbers(values)), self.weights_of(names)[codes], 0.0)

    def lasts(self, kinds: Column, values: Column) -> np.ndarray:
        """(M,) bool: which acts keep their items off the slate, or take back what does, however old they
        are."""
        names, codes = coded(kinds)
        always = np.array([self._always_lasts(name) for name in names], bool)[codes]
        below = np.array([self._lasts_below_zero(name) for name in names], bool)[codes]
        return always | (below & (np.asarray(pc.fill_null(values.cast(pa.float64()), 0.0)) < 0))


def standing(acts: pa.Table, rule: BehaviourRule) -> np.ndarray:
    """(M,) bool: False for acts of a table of interactions that a later one took back."""
    names, codes = coded(acts["kind"])
    values = _numbers(acts["value"])
    if not acts.num_rows or not rule.takes(names, codes, values):
        return np.ones(acts.num_rows, bool)
    users, items = (
        acts[name].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
        for name in ("user_id", "item_id")
    )
    times = pc.fill_null(acts["time"].cast(pa.int64()), np.iinfo(np.int64).min).to_numpy()
    return rule.stands(names, codes, values, times, users << 32 | items)


def purchases(acts: pa.Table, rule: BehaviourRule) -> pa.Table:
    """Those of a table of interactions that are purchases, less what was returned."""
    names, codes = coded(acts["kind"])
    buys = np.array([rule.buys(name) for name in names], bool)[codes]
    returned = _numbers(acts["value"]) < 0
    return acts.filter(pa.array(buys & ~returned & standing(acts, rule), pa.bool_()))


def overruled(pairs: np.ndarray, times: np.ndarray, negative: np.ndarray, opinion: np.ndarray) -> np.ndarray:
    """(M,) bool: explicit negatives behind which the same shopper says that they like the item.

    pairs: (M,) one number for each shopper and item; times: (M,) int64; negative, opinion: (M,) bool, what
    each act is.
    """
    return _followed(pairs, times, negative, opinion, ties=False)


def _followed(
    pairs: np.ndarray, times: np.ndarray, what: np.ndarray, by: np.ndarray, ties: bool = True
) -> np.ndarray:
    """(M,) bool: the acts of `what` behind which, or at whose time with `ties`, one of `by` is of their
    pair."""
    out = np.zeros(len(pairs), bool)
    if not (what.any() and by.any()):
        return out
    later, at = np.flatnonzero(by), np.flatnonzero(what)
    later = later[np.lexsort((times[later], pairs[later]))]
    later = later[np.append(np.diff(pairs[later]) != 0, True)]  # the newest of each pair
    place = np.minimum(np.searchsorted(pairs[later], pairs[at]), len(later) - 1)
    known, newest = pairs[later[place]], times[later[place]]
    out[at] = (known == pairs[at]) & ((newest > times[at]) | (ties & (newest == times[at])))
    return out


def _matched(pairs: np.ndarray, taking: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(positions of what was taken back, positions of what took it): each taking act and the newest act of
    its pair before it that none took yet, as brackets match. pairs, taking: in the order of time."""
    order = np.argsort(pairs, kind="stable")
    steps = np.where(taking[order], -1, 1)
    first = np.concatenate([[True], np.diff(pairs[order]) != 0])
    starts = np.flatnonzero(first)
    owner = np.cumsum(first) - 1
    depth = np.cumsum(steps)
    depth -= np.concatenate([[0], depth])[starts][owner]
    # A taking act with nothing before it closes no bracket: the depth is counted from the lowest one so far.
    wide = np.int64(len(order) + 1)
    lowest = np.minimum.accumulate(depth - owner * 2 * wide) + owner * 2 * wide
    floor = np.minimum(np.concatenate([[0], lowest[:-1]]), 0)
    floor[starts] = 0
    idle = (steps < 0) & (depth < floor)
    level = depth - np.minimum(lowest, 0) + (steps < 0)
    kept = np.flatnonzero(~idle)
    by_level = kept[np.lexsort((kept, level[kept], owner[kept]))]
    same = (owner[by_level[:-1]] == owner[by_level[1:]]) & (level[by_level[:-1]] == level[by_level[1:]])
    closes = np.flatnonzero(same & (steps[by_level[:-1]] > 0) & (steps[by_level[1:]] < 0))
    return order[by_level[closes]], order[by_level[closes + 1]]


def given(named: Mapping[str, Any], kind: str | None, otherwise: Any) -> Any:
    """What a setting says of a kind, by its name or by one that is written otherwise."""
    name = kind or ""
    if name in named or not named:
        return named.get(name, otherwise)
    plain = plain_kind(name)
    return next((value for one, value in named.items() if plain_kind(one) == plain), otherwise)


def _is_given(named: Collection[str], kind: str | None) -> bool:
    name = kind or ""
    return name in named or plain_kind(name) in {plain_kind(one) for one in named}


def _numbers(values: Column) -> np.ndarray:
    """(M,) float64, NaN = none."""
    return np.asarray(pc.fill_null(values.cast(pa.float64()), np.nan))


def coded(kinds: Column) -> tuple[list[str | None], np.ndarray]:
    """The different kinds of a column, and (M,) int64 which of them each act is of; null is a kind too."""
    flat = kinds.combine_chunks() if isinstance(kinds, pa.ChunkedArray) else kinds
    found = flat.cast(pa.string()).dictionary_encode(null_encoding="encode")
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    names = found.dictionary.to_pylist()
    return names or [None], found.indices.to_numpy(zero_copy_only=False).astype(np.int64)
