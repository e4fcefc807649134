"""Which acts of a table of interactions count, and what a shop should know of the others.

What is counted of blocks of shoppers adds up to what is counted of all of them (`KindCounts`).

    M acts
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import BehaviourConfig, suggestion
from etalage.errors import ConfigError
from etalage.features.behaviour import PARTS
from etalage.features.history import BehaviourRule
from etalage.features.interaction_tables import judged_table
from etalage.kinds import plain_kind
from etalage.lake.schema import INSTANT

POSITIVE = "positive"
"""The column, while a set is made, of what each act was judged to be among all acts of the table."""
READ = {"interaction_id": pa.string(), "user_id": pa.string(), "item_id": pa.string(), "kind": pa.string(),
        "value": pa.float64(), "time": INSTANT, "part": pa.string()}  # fmt: skip
"""The columns of interactions that are looked at."""


@dataclass(frozen=True)
class KindCounts:
    """Of the acts of one kind."""

    acts: int = 0
    valued: int = 0
    """Those that have a value."""
    low: float = np.inf
    high: float = -np.inf
    """The least and the largest value."""
    below_zero: int = 0
    below_threshold: int = 0

    def __add__(self, other: "KindCounts") -> "KindCounts":
        return KindCounts(
            self.acts + other.acts,
            self.valued + other.valued,
            min(self.low, other.low),
            max(self.high, other.high),
            self.below_zero + other.below_zero,
            self.below_threshold + other.below_threshold,
        )

    @classmethod
    def of(cls, values: np.ndarray, threshold: float | None) -> "KindCounts":
        """values: of its acts, NaN = none."""
        own = values[~np.isnan(values)]
        if not len(own):
            return cls(len(values))
        below = 0 if threshold is None else int((own < threshold).sum())
        return cls(len(values), len(own), float(own.min()), float(own.max()), int((own < 0).sum()), below)


@dataclass
class Counted:
    """The acts of a table that count, judged among all acts of their shoppers."""

    acts: pa.Table
    """Those that teach, with POSITIVE."""
    held: pa.Table
    """Those that keep their items off the slate all the same."""
    kinds: dict[str | None, KindCounts]
    idle: int = 0
    taken_back: int = 0


def counted(interactions: pa.Table, rule: BehaviourRule) -> Counted:
    """interactions: all acts of some shoppers, in any order."""
    acts = with_ids(interactions)
    # Equal times are ordered by interaction_id, as in `standing`: the order of rows in a table changes as its
    # files are merged.
    acts = acts.take(pc.sort_indices(acts["interaction_id"]))
    judged = judged_table(acts, rule)
    names, codes, values = judged.acts.names, judged.acts.kinds, judged.acts.values
    kinds = {
        name: KindCounts.of(values[codes == code], rule.threshold(name))
        for code, name in enumerate(names)
        if acts.num_rows
    }
    acts = acts.append_column(POSITIVE, pa.array(judged.positive))
    held = acts.filter(pa.array(judged.drops & ~judged.teaches))
    taken_back = int((~judged.stands).sum())
    return Counted(acts.filter(pa.array(judged.teaches)), held, kinds, int(judged.idle.sum()), taken_back)


def with_ids(interactions: pa.Table) -> pa.Table:
    """The acts that name a shopper and an item, with the columns READ."""
    count, there = interactions.num_rows, set(interactions.column_names)
    acts = pa.table(
        {n: interactions[n].cast(t) if n in there else pa.nulls(count, t) for n, t in READ.items()}
    )
    return acts.filter(pc.and_(acts["user_id"].is_valid(), acts["item_id"].is_valid()))


def kind_facts(rule: BehaviourRule, kinds: Mapping[str | None, KindCounts], read: int) -> dict[str, Any]:
    """For BehaviourSet.facts: what is not counted; kinds that nobody knows, and what values of stars are
    taken for where nobody says it. read: all acts of the table."""
    unknown, between, stars, below, split = {}, {}, {}, {}, {}
    for kind, seen in kinds.items():
        said, name = rule.of(kind), kind or ""
        if not said.named:
            unknown[name] = seen.acts
            if seen.high > seen.low:
                between[name] = (seen.low, seen.high)
        if said.weight <= 0 or not seen.valued or said.meaning not in ("rating", "other"):
            continue
        if said.threshold is not None:
            if said.meaning == "other" and not isinstance(rule.behaviour.positive_from, dict):
                split[name] = (seen.below_threshold, seen.valued)
        elif seen.below_zero:
            below[name] = seen.below_zero
        elif said.meaning == "rating" and seen.high > seen.low:
            stars[name] = (seen.low, seen.high)
    measured = any(rule.threshold(kind) is not None for kind in kinds)
    given = isinstance(rule.behaviour.positive_from, float | int)
    nobody = rule.seen == "drop_bought" and not any(rule.has(kind) for kind in kinds)
    return {
        "of_other_kinds": read - sum(seen.acts for kind, seen in kinds.items() if rule.counts(kind)),
        "other_kinds": {
            kind or "": seen.acts
            for kind, seen in kinds.items()
            if not rule.counts(kind) and not rule.weighs_nothing(kind)
        },
        "unknown_kinds": unknown,
        "unknown_values": between,
        "stars": stars,
        "below_zero": below,
        "split_by_stars": split,
        "no_threshold": [] if measured or not given else [kind or "(none)" for kind in kinds],
        "nobody_has": {kind or "": seen.acts for kind, seen in kinds.items()} if nobody else {},
    }


def require_kinds(config: BehaviourConfig, found: Sequence[str]) -> None:
    """Raises ConfigError: [behaviour] names a kind that no act has, where one that acts have is nearly it, or
    where none of those that the setting names is there."""
    starts = config.positive_from if isinstance(config.positive_from, dict) else {}
    for option, named in (
        ("weights", tuple(config.weights)),
        ("targets", config.targets),
        ("has", config.has),
        ("positive_from", tuple(starts)),
    ):
        there = {*found, *map(plain_kind, found)}
        missing = [kind for kind in named if kind not in there and plain_kind(kind) not in there]
        near = {kind: difflib.get_close_matches(kind, [f for f in found if f not in named], n=1, cutoff=0.75)
                for kind in missing}  # fmt: skip
        typo = next(((kind, close[0]) for kind, close in near.items() if close), None)
        if found and typo is not None:
            raise ConfigError(
                f"[behaviour] {option} names {typo[0]!r}, but no interaction is of that kind; did you mean "
                f"{typo[1]!r}?"
            )
        if found and named and len(missing) == len(named):
            raise ConfigError(
                f"[behaviour] {option} names {', '.join(sorted(named))}, but the interactions are of kind "
                f"{', '.join(found)}"
            )
    weighed = {plain_kind(kind) for kind in config.weights}
    idle = [kind for kind in config.targets if plain_kind(kind) not in weighed]
    if config.weights and idle:
        raise ConfigError(
            f"[behaviour] targets has {', '.join(sorted(idle))}, which [behaviour] weights does not count; "
            "give it a weight there"
        )


@dataclass
class SaidParts:
    """The parts of a published split that acts say they are of."""

    there: set[str] = field(default_factory=set)
    acts: int = 0
    without: int = 0

    def of(self, acts: pa.Table) -> pa.Table:
        """Those of the acts that say their part; they are counted. Raises ConfigError: what one says is no
        part."""
        self.there |= set(pc.unique(acts["part"].drop_null()).to_pylist())
        wrong = sorted(self.there - set(PARTS))
        if wrong:
            raise ConfigError(
                f'[behaviour] split = "published": interactions say that they are of the part {wrong[0]!r}; '
                f"{suggestion(wrong[0], PARTS)}: map it, [ingest.interactions.values.part], and load them "
                "again"
            )
        self.acts += acts.num_rows
        self.without += acts["part"].null_count
        return acts.filter(acts["part"].is_valid())

    def require_train(self) -> None:
        """Raises ConfigError: no act is to be learned from."""
        if self.acts and "train" not in self.there:
            raise ConfigError(
                '[behaviour] split = "published": no interaction says that it is of the part train; load '
                "each file with its part: `etalage ingest FILE interactions --part train`"
            )
