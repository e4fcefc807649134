"""What users did, as arrays: what models of behaviour learn from and are judged on.

    M interactions   U users   N items   B queries   H acts in the histories of all queries

User and item rows are those of the set's vocabularies: row 0 is unknown and never stands in an
interaction of `train`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from etalage.features.encoder import Encoder, Features
from etalage.features.history import Histories, newest
from etalage.features.sources import FeatureSource, with_sources
from etalage.features.taken_back import off_slate
from etalage.features.vocabulary import Vocabulary

NEVER = np.iinfo(np.int64).min
"""The time of an interaction whose time is not known; it sorts before every other."""

PARTS = ("train", "rank", "validation", "test")
"""In order of time where the split is by time. `rank`: what a ranker learns from, behind the retrievers'
`train`."""

Part = Literal["train", "rank", "validation", "test"]


def pair_keys(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """int64 of the broadcast shape: one number for each pair of rows, ordered by (user, item)."""
    return np.asarray(users, np.int64) << 32 | np.asarray(items, np.int64)


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """starts[0], starts[0] + 1, … so many as counts[0] says, then those of the next: (Σ counts,) int64."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)


@dataclass(frozen=True)
class Interactions:
    """Sorted by (user, time, order of arrival); all arrays have the length M."""

    users: np.ndarray
    """(M,) int64 user rows."""
    items: np.ndarray
    """(M,) int64 item rows."""
    kinds: np.ndarray
    """(M,) int64 codes: 0 = no kind given, else 1 + the position in BehaviourSet.kinds."""
    values: np.ndarray
    """(M,) float32; NaN = none."""
    times: np.ndarray
    """(M,) int64 microseconds since 1970; NEVER = not known."""
    labels: np.ndarray
    """(M,) float32: 1 positive, 0 explicit negative (one star stays a negative)."""

    def __len__(self) -> int:
        return len(self.users)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """In the order of the fields."""
        return self.users, self.items, self.kinds, self.values, self.times, self.labels

    def take(self, rows: np.ndarray) -> "Interactions":
        """These rows (a mask, or ascending positions)."""
        return Interactions(*(column[rows] for column in self.columns))

    def slice(self, start: int, stop: int) -> "Interactions":
        """Interactions start … stop; their arrays are views."""
        return Interactions(*(column[start:stop] for column in self.columns))

    def of_users(self, users: np.ndarray) -> "Interactions":
        """Those of these user rows, which rise. Where the arrays lie in a file, only those are read."""
        begin, end = self.users.searchsorted(users), self.users.searchsorted(users, side="right")
        return self.take(ranges(begin, end - begin))

    @property
    def positive(self) -> "Interactions":
        positive = self.labels > 0
        return self if positive.all() else self.take(positive)

    @property
    def keys(self) -> np.ndarray:
        """(M,) int64: one number for each pair (user, item), in the order of (user, item)."""
        return pair_keys(self.users, self.items)

    def starts(self, users: int) -> np.ndarray:
        """(users + 1,) int64: the interactions of user row u are starts[u] … starts[u + 1]."""
        return np.searchsorted(self.users, np.arange(users + 1))

    @classmethod
    def sorted(
        cls,
        users: np.ndarray,
        items: np.ndarray,
        kinds: np.ndarray | None = None,
        values: np.ndarray | None = None,
        times: np.ndarray | None = None,
        labels: np.ndarray | None = None,
    ) -> "Interactions":
        """From columns in any order; what is not given is kind 0, NaN, NEVER, positive."""
        count = len(users)
        times = np.full(count, NEVER) if times is None else np.asarray(times, np.int64)
        whole = cls(
            np.asarray(users, np.int64),
            np.asarray(items, np.int64),
            np.zeros(count, np.int64) if kinds is None else np.asarray(kinds, np.int64),
            np.full(count, np.nan, np.float32) if values is None else np.asarray(values, np.float32),
            times,
            np.ones(count, np.float32) if labels is None else np.asarray(labels, np.float32),
        )
        return whole.take(np.lexsort((np.arange(count), times, whole.users)))

    @classmethod
    def none(cls) -> "Interactions":
        return cls.sorted(np.empty(0, np.int64), np.empty(0, np.int64))

    @classmethod
    def joined(cls, *parts: "Interactions") -> "Interactions":
        """All of them, sorted again: of one user and time, those of an earlier part come first. One alone is
        itself."""
        parts = tuple(part for part in parts if len(part))
        if len(parts) < 2:
            return parts[0] if parts else cls.none()
        return cls.sorted(*map(np.concatenate, zip(*(part.columns for part in parts), strict=True)))


@dataclass(frozen=True)
class Queries:
    """B shoppers at a moment: who they are, and what they did until then.

    The history of query b is `items[starts[b] : starts[b + 1]]`, oldest first; rows that the model does
    not know are 0 and stay in it.
    """

    users: np.ndarray
    """(B,) int64 user rows, 0 = unknown."""
    starts: np.ndarray
    """(B + 1,) int64."""
    items: np.ndarray
    """(H,) int64 item rows."""
    kinds: np.ndarray
    """(H,) int64 codes, as in Interactions."""
    times: np.ndarray
    """(H,) int64 microseconds; NEVER = not known."""
    now: np.ndarray
    """(B,) int64 microseconds: the moment of the question; NEVER = not known."""
    features: Features = field(default_factory=Features)
    """Of the B users, one row a query."""

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def of(
        cls,
        users: np.ndarray,
        histories: Histories,
        now: np.ndarray,
        features: Features | None = None,
        code: Mapping[str, int] | None = None,
    ) -> "Queries":
        """Of these shoppers, (B,) user rows, with their histories. code: name of a kind → the model's code;
        None: nothing is known of kinds, unless the histories have codes."""
        return cls(
            users,
            histories.starts,
            histories.items,
            histories.codes(code or {}),
            histories.times,
            now,
            Features() if features is None else features,
        )

    def block(self, start: int, stop: int) -> "Queries":
        """Queries start … stop."""
        first, last = self.starts[start], self.starts[stop]
        return Queries(
            self.users[start:stop],
            self.starts[start : stop + 1] - first,
            self.items[first:last],
            self.kinds[first:last],
            self.times[first:last],
            self.now[start:stop],
            self.features.take(np.arange(start, stop)) if len(self.features) else self.features,
        )

    def only(self, rows: np.ndarray) -> "Queries":
        """These queries, in this order."""
        lengths = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        at = ranges(self.starts[:-1][rows], lengths)
        features = self.features.take(rows) if len(self.features) else self.features
        acts = (self.items[at], self.kinds[at], self.times[at])
        return Queries(self.users[rows], starts, *acts, self.now[rows], features)

    @property
    def owners(self) -> np.ndarray:
        """(H,) int64: the query that each act belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def last(self, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The newest `length` acts of each, newest last, padded in FRONT: (B, L) rows, kinds, times.

        Padding is row 0, kind 0, time NEVER.
        """
        back = self.starts[1:, None] - np.arange(length, 0, -1)[None, :]
        inside = back >= self.starts[:-1, None]
        at = np.where(inside, back, 0)
        if len(self.items) == 0:
            empty = np.zeros(at.shape, np.int64)
            return empty, empty, np.full(at.shape, NEVER)
        rows, kinds = (np.where(inside, column[at], 0) for column in (self.items, self.kinds))
        return rows, kinds, np.where(inside, self.times[at], NEVER)


@dataclass(frozen=True)
class BehaviourSet:
    """One shop's behaviour, split; what `bind` of a behaviour recipe is given."""

    users: Vocabulary
    items: Vocabulary
    kinds: tuple[str, ...]
    """Names of the kinds; code = position + 1."""
    parts: dict[str, Interactions]
    """By name of PARTS; a part that is not there is empty."""
    item_features: Features = field(default_factory=Features)
    """(N + 1) rows, aligned with `items`; row 0 = unknown. Empty: ids alone."""
    user_features: Features = field(default_factory=Features)
    item_encoder: Encoder | None = None
    user_encoder: Encoder | None = None
    negatives: dict[str, np.ndarray] = field(default_factory=dict)
    """Published negatives by part: (B, n) item rows, in the order of `queries(part)`."""
    own_split: bool = True
    """False: the split was published by somebody else; its faults are counted, not refused."""
    facts: dict[str, Any] = field(default_factory=dict)
    """How it was made: protocol, rule for positives, table versions, counts."""
    targets: tuple[int, ...] = ()
    """Codes of the kinds that count as a hit when a model is judged; empty: every kind."""
    weights: tuple[float, ...] = ()
    """How much an act counts, by the code of its kind (0 = of no kind); empty: each 1."""
    off_slate: tuple[int, ...] | None = None
    """Codes of the kinds after which an item is not shown to its shopper again, as served; None: targets."""
    opinions: tuple[int, ...] = ()
    """Codes of the kinds whose positives overrule an explicit negative before them."""
    held: Interactions = field(default_factory=Interactions.none)
    """Acts that teach nothing, since their kinds do not count, but after which an item is not shown again."""
    history: int | None = None
    """How many of a shopper's newest positives a question looks at, as served; None: all."""
    feature_sources: dict[str, str] = field(default_factory=dict)
    """Those of the dense features of items that other models made, with the hash of the export of each."""
    shop_begins: dict[str, int] | None = None
    """Of a set of some shoppers: `begins` of the whole shop. None: this is the whole shop."""

    def part(self, name: str) -> Interactions:
        return self.parts.get(name, Interactions.none())

    def truth(self, part: str) -> Interactions:
        """The hits of a part: its positives of the kinds in `targets`. Of our own split, less what acts
        before it keep off the slate that are no hits themselves: a view of what was bought, returned or
        disliked is none. Of one that somebody published every one is a hit; check_leakage counts the rest."""
        acts = self.part(part).positive
        acts = acts.take(np.isin(acts.kinds, self.targets)) if self.targets else acts
        if not self.own_split or self.off_slate is None or not len(acts):
            return acts
        off = self._off_before(part)
        # A pair that is a hit stands in one part alone (split_interactions.py): another is a leak, and found.
        other = off.labels <= 0
        if self.targets:
            other |= np.isin(off.kinds, self.targets, invert=True)
        held = self._held_before(part).keys
        return acts.take(~np.isin(acts.keys, np.concatenate([off.keys[other], held])))

    def before(self, part: str) -> Interactions:
        """Everything of the parts before `part`: what a model may know when it is judged on it."""
        earlier = [self.part(name) for name in PARTS[: PARTS.index(part)]]
        return Interactions.joined(*earlier)

    @cached_property
    def begins(self) -> dict[str, int]:
        """The first moment of each part behind train that has any."""
        if self.shop_begins is not None:
            return self.shop_begins
        found = {}
        for name in PARTS[1:]:
            times = self.part(name).times
            timed = times != NEVER
            if timed.any():
                found[name] = int(times.min(initial=np.iinfo(np.int64).max, where=timed))
        return found

    def of_shoppers(self, users: np.ndarray) -> "BehaviourSet":
        """The same shop with the acts of these user rows alone, which rise: what is asked about them has the
        same answer."""
        parts = {name: self.part(name).of_users(users) for name in PARTS}
        held = self.held.of_users(users)
        return replace(self, parts=parts, held=held, negatives={}, shop_begins=self.begins)

    def queries(
        self, part: str, history: Interactions | None = None, truth: Interactions | None = None
    ) -> tuple[Queries, list[np.ndarray]]:
        """One query for each user with hits in `part`, ascending, and their item rows (unique, sorted).

        Histories are the positives `before(part)`, or those of `history`. truth: some users' hits; None:
        `truth(part)`.
        """
        truth = self.truth(part) if truth is None else truth
        users, first = np.unique(truth.users, return_index=True)
        bounds = np.append(first, len(truth))
        wanted = [np.unique(truth.items[a:b]) for a, b in pairwise(bounds)]
        known = (self.before(part) if history is None else history).positive
        now = truth.times[first] if len(first) else np.empty(0, np.int64)
        return self.queries_of(users, known, now), wanted

    def queries_of(self, users: np.ndarray, known: Interactions, now: np.ndarray) -> Queries:
        """Queries of these user rows with the newest of their acts in `known` (sorted) as history."""
        starts, at = newest(known.users, users, self.history)
        histories = Histories(starts, known.items[at], known.kinds[at], known.times[at])
        features = self.user_features.take(users) if len(self.user_features) else self.user_features
        return Queries.of(users, histories, now, features)

    def seen(self, part: str) -> Interactions:
        """The acts before `part` whose items are not to be shown again to their users: those of the kinds
        `off_slate`, and explicit negatives that no later like overrules. Without `off_slate`: those of the
        kinds in `targets`; none where shoppers take the same again (facts["repeat"])."""
        if self.off_slate is not None:
            acts = self._off_before(part)
            return Interactions.joined(acts, self._held_before(part)) if len(self.held) else acts
        acts = Interactions.none() if self.facts.get("repeat") else self.before(part)
        return acts.take(np.isin(acts.kinds, self.targets)) if self.targets else acts

    def _off_before(self, part: str) -> Interactions:
        """Of the acts before the part, those of the kinds `off_slate`, and explicit negatives that stand."""
        acts = self.before(part)
        negative = acts.labels <= 0
        opinion = ~negative & np.isin(acts.kinds, self.opinions)
        drops = np.isin(acts.kinds, self.off_slate or ())
        return acts.take(off_slate(acts.keys, acts.times, drops, negative, opinion))

    def _held_before(self, part: str) -> Interactions:
        """The acts `held` that came before the part: before its first act, where the split is by time; before
        its user's first, where it is by each user's order; all, where it is by neither."""
        split = self.facts.get("split")
        if not len(self.held) or part not in self.begins or split not in ("time", "leave_one_out", "last_n"):
            return self.held
        if split == "time":
            return self.held.take(self.held.times < self.begins[part])
        judged = self.part(part)
        judged = judged.take(judged.times != NEVER)
        first = np.full(len(self.users), np.iinfo(np.int64).max)
        np.minimum.at(first, judged.users, judged.times)
        return self.held.take(self.held.times < first[self.held.users])

    def with_sources(self, sources: Mapping[str, FeatureSource]) -> "BehaviourSet":
        """With what other models embed of the items as dense features, by the names of the sources."""
        made = {name: source.model_hash for name, source in sources.items()}
        features = with_sources(self.item_features, sources, self.items)
        return replace(self, item_features=features, feature_sources={**self.feature_sources, **made})

    def with_parts(self, **parts: Interactions) -> "BehaviourSet":
        return replace(self, parts={**self.parts, **parts})

    def fingerprint(self) -> str:
        """A short hash of what a run learned from."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for vocabulary in (self.users, self.items):
            digest.update("\0".join([*vocabulary.ids.to_pylist(), "\0"]).encode())
        for name in PARTS:
            part = self.part(name)
            digest.update(f"{name} {len(part)} ".encode())
            for column in part.columns:
                digest.update(np.ascontiguousarray(column).data)  # no copy: it may lie in a file
        for features in (self.item_features, self.user_features):
            digest.update(features.fingerprint().encode())
        if any(weight not in (0.0, 1.0) for weight in self.weights):
            digest.update(repr(self.weights).encode())
        return digest.hexdigest()[:16]
