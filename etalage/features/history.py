"""What an act means, and a shopper's history: one rule and one builder for training, evaluation, publishing,
syncing, browsing and serving.

A kind has a meaning by its name (etalage/kinds.py), unless [behaviour] gives it one. What [behaviour] names
may be written otherwise in the acts: `add_to_cart` there is `AddToCart` here.

Two things are told by several acts of one shopper on one item: what was taken back (`stands`), and an
explicit negative that a later like overrules (`overruled`). Of likes and ratings the last one holds.

`Acts` are what shoppers did; `Judged` says by the rule what each act means, and builds of it the `Histories`
that models look at and the items that are `seen`, not to be shown again.

    M acts   B shoppers   H acts in the histories of all
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import BehaviourConfig, FunnelConfig
from etalage.features.taken_back import followed, matched, off_slate
from etalage.kinds import QUANTITIES, Meaning, known_meaning, plain_kind, takes_back

Column: TypeAlias = pa.ChunkedArray | pa.Array


_KINDS_KEPT = 4096
"""Of so many kinds the rule keeps what it found out."""
_TABLES_KEPT = 1024
_TAKEN_BACK: tuple[Meaning, ...] = ("has", "cart", "like")
_ABOVE_ZERO = float(np.nextafter(0, 1))
_NEVER = np.iinfo(np.int64).min


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
        if (found := self._kinds.get(name)) is None:  # another thread may empty it at any moment
            if len(self._kinds) >= _KINDS_KEPT:
                self._kinds.clear()
            found = self._kinds[name] = self._rule_of(name)
        return found

    @cached_property
    def _kinds(self) -> dict[str, KindRule]:
        return {}

    def _rule_of(self, kind: str) -> KindRule:
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

    def about(self, kinds: Sequence[str | None]) -> "KindTable":
        """What is said of each of these kinds, as arrays."""
        names = tuple(kinds)
        if (found := self._tables.get(names)) is None:
            if len(self._tables) >= _TABLES_KEPT:
                self._tables.clear()
            found = self._tables[names] = KindTable.of(self, names)
        return found

    @cached_property
    def _tables(self) -> dict[tuple[str | None, ...], "KindTable"]:
        return {}

    @cached_property
    def seen(self) -> Literal["drop_bought", "drop_all", "keep"]:
        """Where things are bought again and again, what was bought may be shown."""
        repeat = self.behaviour.repeat and self.funnel.seen == "drop_bought"
        return "keep" if repeat else self.funnel.seen

    def drops(self, kind: str | None) -> bool:
        """Whether an act of this kind keeps its item off the slate, whatever its value. One of a kind that is
        neither named nor counted says nothing: a slate passes it over."""
        said = self.of(kind)
        every = self.seen == "drop_all" and (said.named or said.counts or not kind)
        return every or (self.seen == "drop_bought" and said.has)

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

    def positives(self, kinds: Sequence[str | None], codes: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(M,) bool: which acts speak for their items.

        codes: (M,) positions in `kinds`; values: (M,) float64, NaN = none.
        """
        said = self.about(kinds)
        return np.asarray(said.speaks[codes] & ~(values < said.least[codes]))

    def idles(self, kinds: Sequence[str | None], codes: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(M,) bool: which acts say nothing for or against their items, as `positives` has them."""
        said = self.about(kinds)
        return np.asarray((said.idle_below[codes] & (values < 0)) | (said.idle_at[codes] & (values == 0)))

    def negatives(self, kinds: Sequence[str | None], codes: np.ndarray, values: np.ndarray) -> np.ndarray:
        """(M,) bool: which acts are explicit negatives, as `positives` has them."""
        counts = self.about(kinds).counts[codes]
        return np.asarray(counts & ~self.positives(kinds, codes, values) & ~self.idles(kinds, codes, values))

    def takes(self, kinds: Sequence[str | None], codes: np.ndarray, values: np.ndarray) -> bool:
        """Whether any act may take something back; arguments as of `positives`."""
        said = self.about(kinds)
        if said.takes_back or self.idles(kinds, codes, values).any():
            return True
        return bool(said.replaced.any() and self.negatives(kinds, codes, values).any())

    def changing(self, kinds: Column, values: Column) -> np.ndarray:
        """(M,) bool: which acts a later one may take back, or take something back themselves; what shoppers
        looked at is none of them. Arguments as of `weighed`."""
        names, codes = coded(kinds)
        return np.asarray(
            self.about(names).changing[codes] | self.negatives(names, codes, numbers_of(values))
        )

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
        replaced = self.about(kinds).replaced[codes]
        worse = self.negatives(kinds, codes, values)
        stands = ~followed(pairs, times, speaks & replaced, worse)
        for meaning, (of_meaning, back) in self.about(kinds).taken_back.items():
            own = of_meaning[codes]
            taking = back[codes] | (own & idle)
            if meaning == "like":
                stands &= ~followed(pairs, times, own & speaks, taking)
                continue
            at = np.flatnonzero((own & speaks) | taking)
            at = at[np.lexsort((taking[at], times[at]))]
            if taking.any():
                given, taken = matched(pairs[at], taking[at])
                partial = np.abs(values[at[taken]]) < np.abs(values[at[given]])
                stands[at[given[~partial]]] = False
        return stands

    def weighed(self, kinds: Column, values: Column) -> np.ndarray:
        """(M,) float64 from columns of the table of interactions: the weight of each positive, else 0."""
        names, codes = coded(kinds)
        return np.where(
            self.positives(names, codes, numbers_of(values)), self.about(names).weights[codes], 0.0
        )

    def lasts(self, kinds: Column, values: Column) -> np.ndarray:
        """(M,) bool: which acts keep their items off the slate, or take back what does, however old they
        are."""
        names, codes = coded(kinds)
        always = np.array([self._always_lasts(name) for name in names], bool)[codes]
        below = np.array([self._lasts_below_zero(name) for name in names], bool)[codes]
        return always | (below & (np.asarray(pc.fill_null(values.cast(pa.float64()), 0.0)) < 0))


@dataclass(frozen=True)
class KindTable:
    """What the rule says of some kinds, as arrays by the position of the kind."""

    weights: np.ndarray
    """float64."""
    speaks: np.ndarray
    """Its weight is above 0."""
    least: np.ndarray
    """float64: the value from which on an act is positive."""
    counts: np.ndarray
    idle_below: np.ndarray
    """An act of a value below 0 says nothing."""
    idle_at: np.ndarray
    """An act of a value of 0 says nothing."""
    replaced: np.ndarray
    opinion: np.ndarray
    drops: np.ndarray
    changing: np.ndarray
    """A later act may take it back, or it takes something back itself."""
    named: np.ndarray
    taken_back: dict[Meaning, tuple[np.ndarray, np.ndarray]]
    """Meaning → which kinds have it, which take back what has it."""

    @classmethod
    def of(cls, rule: BehaviourRule, kinds: Sequence[str | None]) -> "KindTable":
        said = [rule.of(kind) for kind in kinds]

        def flags(found: Iterable[bool]) -> np.ndarray:
            return np.fromiter(found, bool, len(said))

        return cls(
            np.array([one.weight for one in said], np.float64),
            flags(one.weight > 0 for one in said),
            np.array([one.least for one in said], np.float64),
            flags(one.counts for one in said),
            flags(one.idle(-1.0) for one in said),
            flags(one.idle(0.0) for one in said),
            flags(one.replaced for one in said),
            flags(one.opinion for one in said),
            flags(rule.drops(kind) for kind in kinds),
            flags(bool(one.back) or one.meaning in (*_TAKEN_BACK, "rating") for one in said),
            flags(one.named for one in said),
            {
                meaning: (
                    flags(one.meaning == meaning for one in said),
                    flags(meaning in one.back for one in said),
                )
                for meaning in _TAKEN_BACK
            },
        )

    @cached_property
    def takes_back(self) -> bool:
        return any(bool(back.any()) for _, back in self.taken_back.values())

    @cached_property
    def all_named(self) -> bool:
        return bool(self.named.all())


# -- acts → histories --------------------------------------------------------------------------


@dataclass(frozen=True)
class Acts:
    """What B shoppers did, whatever it means: by shopper, oldest first of each."""

    owners: np.ndarray
    """(M,) int64, ascending: which of the shoppers each act is of, 0 … B - 1."""
    items: np.ndarray
    """(M,) int64 item rows; 0 = not known."""
    names: tuple[str | None, ...]
    """Of the kinds; None and "" = of no kind."""
    kinds: np.ndarray
    """(M,) int64 positions in `names`."""
    values: np.ndarray
    """(M,) float64; NaN = none."""
    times: np.ndarray
    """(M,) int64 microseconds; the least int64 = not known."""
    in_order: bool = False
    """Which act is behind which is told by their order alone; else by their times, and acts of one time are
    of one moment."""

    @classmethod
    def of_one(
        cls,
        items: Sequence[int],
        kinds: Sequence[str],
        values: Sequence[float | None],
        times: Sequence[int | None],
        in_order: bool = False,
    ) -> "Acts":
        """Those of a single shopper, oldest first."""
        count = len(items)
        place: dict[str, int] = {}
        codes = [place.setdefault(kind, len(place)) for kind in kinds]
        return cls(
            np.zeros(count, np.int64),
            np.array(items, np.int64),
            tuple(place) or ("",),
            np.array(codes, np.int64),
            np.array([np.nan if value is None else value for value in values], np.float64),
            np.array([_NEVER if time is None else time for time in times], np.int64),
            in_order,
        )

    @classmethod
    def of_table(cls, acts: pa.Table, owners: np.ndarray, items: np.ndarray) -> "Acts":
        """Those of a table of interactions, by shopper already and oldest first of each."""
        names, codes = coded(acts["kind"])
        return cls(owners, items, tuple(names), codes, numbers_of(acts["value"]), _times(acts["time"]))

    def take(self, rows: np.ndarray) -> "Acts":
        """These acts: a mask, or positions."""
        columns = (self.owners, self.items, self.kinds, self.values, self.times)
        owners, items, kinds, values, times = (column[rows] for column in columns)
        return Acts(owners, items, self.names, kinds, values, times, self.in_order)

    def by_time(self) -> "Acts":
        """Of a single shopper: sorted by time, where every act has one; those of one time as they are."""
        times = self.times
        if (times[1:] >= times[:-1]).all():
            timed, found = len(times) == 0 or times[0] != _NEVER, self
        else:
            timed = not (times == _NEVER).any()
            found = self.take(np.argsort(times, kind="stable")) if timed else self
        return replace(found, in_order=False) if timed and found.in_order else found

    def taught(self, rule: BehaviourRule, kinds: Collection[str]) -> "Acts":
        """Without acts of kinds that are neither among `kinds`, those that models learnt from, nor named by
        the rule: models learnt nothing from them. Where no model learnt from kinds, all."""
        said = rule.about(self.names)
        if not kinds or said.all_named:
            return self
        knows = np.array([not name or name in kinds for name in self.names], bool) | said.named
        return self if knows.all() else self.take(knows[self.kinds])


class Judged:
    """What each act says of its item, by the rule: (M,) bool each, made when it is asked for."""

    def __init__(self, acts: Acts, rule: BehaviourRule) -> None:
        self.acts, self.rule = acts, rule
        self._said = rule.about(acts.names)
        self._columns = acts.names, acts.kinds, acts.values
        self._known = acts.items > 0

    @cached_property
    def _moments(self) -> np.ndarray:
        return np.arange(len(self.acts.items)) if self.acts.in_order else self.acts.times

    @cached_property
    def _pairs(self) -> np.ndarray:
        return self.acts.owners << 32 | self.acts.items

    @cached_property
    def positive(self) -> np.ndarray:
        return self.rule.positives(*self._columns)

    @cached_property
    def negative(self) -> np.ndarray:
        """Is an explicit negative; a later like may overrule it."""
        # Most shoppers have none, and wait for their slate.
        return ~self.positive if self.positive.all() else self.rule.negatives(*self._columns)

    @cached_property
    def idle(self) -> np.ndarray:
        """Says nothing for or against its item, by its value."""
        return self.rule.idles(*self._columns)

    @cached_property
    def teaches(self) -> np.ndarray:
        """Models learn from it, as from a positive or from an explicit negative."""
        return np.asarray(self._said.counts[self.acts.kinds] & ~self.idle & self.stands)

    @cached_property
    def stands(self) -> np.ndarray:
        """False: a later act took it back."""
        plain = not self._said.takes_back and self.positive.all()
        if plain or not self.rule.takes(*self._columns):
            return np.ones(len(self.acts.items), bool)
        return self.rule.stands(*self._columns, self._moments, self._pairs)

    @cached_property
    def off_slate(self) -> np.ndarray:
        """Keeps its item off the slate: its shopper has the item, or does not want it."""
        if not self.negative.any():
            return self.drops
        opinion = self.positive & self.stands & self._said.opinion[self.acts.kinds]
        return off_slate(self._pairs, self._moments, self.drops, self.negative, opinion)

    @property
    def drops(self) -> np.ndarray:
        """Is of a kind that keeps its item off the slate, whatever its value."""
        return np.asarray(self._said.drops[self.acts.kinds])

    def histories(self, shoppers: int) -> "Histories":
        """Of each shopper the newest acts on known items that speak for them and stand, as many as a question
        looks at."""
        acts = self.acts
        good = (self._known & self.positive & self.stands).nonzero()[0]
        length = self.rule.funnel.history
        if shoppers == 1:  # one who waits for a slate
            good = good[-length:]
            starts = np.array([0, len(good)], np.int64)
        else:
            starts, at = newest(acts.owners[good], np.arange(shoppers), length)
            good = good[at]
        return Histories(starts, acts.items[good], acts.kinds[good], acts.times[good], acts.names)

    def seen(self) -> tuple[np.ndarray, np.ndarray]:
        """(shoppers, item rows): what is not to be shown again to whom, each pair once and in order."""
        pairs = self._pairs[self._known & self.off_slate]
        pairs = np.unique(pairs) if len(pairs) > 1 else pairs
        return pairs >> 32, pairs & 0xFFFFFFFF


@dataclass(frozen=True)
class Histories:
    """What models look at of B shoppers. Shopper b's is `starts[b] : starts[b + 1]`, oldest first."""

    starts: np.ndarray
    """(B + 1,) int64."""
    items: np.ndarray
    """(H,) int64 item rows."""
    kinds: np.ndarray
    """(H,) int64 positions in `names`; where there are no names, codes of a BehaviourSet."""
    times: np.ndarray
    """(H,) int64 microseconds."""
    names: tuple[str | None, ...] | None = None

    @classmethod
    def none(cls, shoppers: int) -> "Histories":
        """Of shoppers who did nothing."""
        nothing = np.empty(0, np.int64)
        return cls(np.zeros(shoppers + 1, np.int64), nothing, nothing, nothing)

    def codes(self, code: Mapping[str, int]) -> np.ndarray:
        """(H,) int64: the kinds as a model knows them, 0 = not."""
        if self.names is None:
            return self.kinds
        return np.array([code.get(name or "", 0) for name in self.names], np.int64)[self.kinds]


def newest(owners: np.ndarray, shoppers: np.ndarray, length: int | None) -> tuple[np.ndarray, np.ndarray]:
    """(B + 1,) starts and (H,) positions: the newest `length` acts of each of these shoppers; None: all.

    owners: (M,) whose each act is, ascending, and oldest first of each. shoppers: (B,).
    """
    begin, end = owners.searchsorted(shoppers), owners.searchsorted(shoppers, side="right")
    if length is not None:
        begin = np.maximum(begin, end - length)
    lengths = end - begin
    starts = np.zeros(len(shoppers) + 1, np.int64)
    lengths.cumsum(out=starts[1:])
    return starts, np.arange(starts[-1]) + (begin - starts[:-1]).repeat(lengths)


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


def numbers_of(values: Column) -> np.ndarray:
    """(M,) float64, NaN = none."""
    return np.asarray(pc.fill_null(values.cast(pa.float64()), np.nan))


def _times(times: Column) -> np.ndarray:
    """(M,) int64 microseconds; the least int64 = not known."""
    return np.asarray(pc.fill_null(times.cast(pa.int64()), _NEVER))


def coded(kinds: Column) -> tuple[list[str | None], np.ndarray]:
    """The different kinds of a column, and (M,) int64 which of them each act is of; null is a kind too."""
    found = dictionary_of(kinds)
    return found.dictionary.to_pylist() or [None], codes_of(found)


def dictionary_of(column: Column) -> pa.DictionaryArray:
    """The different texts of a column, null among them."""
    flat = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    found = flat.cast(pa.string()).dictionary_encode(null_encoding="encode")
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def codes_of(found: pa.DictionaryArray) -> np.ndarray:
    """(M,) int64: which of them stands in each row."""
    return np.asarray(found.indices.to_numpy(zero_copy_only=False).astype(np.int64))
