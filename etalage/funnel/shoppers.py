"""Who asks: a shopper's acts as the models are asked about them, and what they have seen.

H acts   N items of the bundle   B queries   U shoppers
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.features.behaviour import NEVER, Queries
from etalage.features.encoder import Features
from etalage.features.history import BehaviourRule, overruled, standing
from etalage.funnel.catalogue import Catalogue
from etalage.lake.erasures import Known, without_erased
from etalage.lake.schema import TABLES
from etalage.online import Act
from etalage.runtime.scorer import ExportScorer

LOOKED_BACK = 10
"""So many times the acts that the models look at are kept of each shopper; of those that keep their items off
the slate, all."""


@dataclass(frozen=True)
class Shopper:
    """One who asks, with the acts that count."""

    user_id: str | None
    rows: np.ndarray
    """(H,) int64 vocabulary rows of the positives, oldest first; 0 = not in the bundle."""
    kinds: tuple[str, ...]
    times: np.ndarray
    """(H,) int64 microseconds, NEVER = not known."""
    seen: np.ndarray
    """Vocabulary rows that are not to be shown."""
    now: int = NEVER
    attributes: str | None = None
    _asked: dict[str, Queries] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(
        cls,
        acts: Sequence[Act],
        catalogue: Catalogue,
        rules: BehaviourRule,
        user_id: str | None = None,
        now: int = NEVER,
        attributes: str | None = None,
        in_order: bool = False,
    ) -> "Shopper":
        """`acts` oldest first, as many as there are: the newest positives are kept. in_order: which act is
        behind which is told by their order alone; else by their times, as in the tables."""
        rows = [catalogue.row(act.item_id) for act in acts]
        when = np.array([NEVER if act.time is None else act.time for act in acts], np.int64)
        pairs, moments = np.array(rows, np.int64), np.arange(len(acts)) if in_order else when
        stands = _standing(acts, pairs, moments, rules)
        negative = [rules.negative(act.kind, act.value) for act in acts]
        if any(negative):
            liked = [rules.positive(a.kind, a.value) and rules.of(a.kind).opinion for a in acts] & stands
            over = overruled(pairs, moments, np.array(negative, bool), liked)
            negative = (np.array(negative, bool) & ~over).tolist()
        seen = [
            row
            for row, act, bad in zip(rows, acts, negative, strict=True)
            if row and (bad or rules.drops(act.kind))
        ]
        # Acts on items that are not in the bundle are passed over before the newest are taken: models never
        # saw them.
        good = [
            n for n, act in enumerate(acts) if rows[n] and stands[n] and rules.positive(act.kind, act.value)
        ]
        good = good[-rules.funnel.history :]
        times = when[good]
        return cls(
            user_id,
            np.array([rows[n] for n in good], np.int64),
            tuple(acts[n].kind for n in good),
            times,
            np.unique(np.array(seen, np.int64)),
            now,
            attributes,
        )

    @cached_property
    def known_acts(self) -> int:
        """Positives on items of the bundle."""
        return int((self.rows > 0).sum())

    def queries(self, model: ExportScorer) -> Queries:
        """The question as `model` understands it: B = 1."""
        if model.name not in self._asked:
            self._asked[model.name] = model.ask(
                self.user_id, self.rows, self.kinds, self.times, self.now, self.attributes
            )
        return self._asked[model.name]

    def plain_queries(self) -> Queries:
        """For retrievers that have no vocabulary of users or kinds."""
        count = len(self.rows)
        return Queries(
            np.zeros(1, np.int64),
            np.array([0, count], np.int64),
            self.rows,
            np.zeros(count, np.int64),
            self.times,
            np.array([self.now], np.int64),
        )


@dataclass(frozen=True)
class Crowd:
    """The shoppers that a bundle knows: `users` (user_id, attributes), and the newest acts of each,
    `acts` (user_id, item_id, kind, value, time), by user and oldest first."""

    users: pa.Table
    acts: pa.Table

    def __len__(self) -> int:
        return int(self.users.num_rows)

    @classmethod
    def of(
        cls, users: pa.Table | None, interactions: pa.Table | None, rules: BehaviourRule, most: int
    ) -> "Crowd":
        """Of the lake's tables, the `most` shoppers who acted last: their newest acts, and of those that keep
        their items off the slate all, however old. Acts of one time follow by interaction_id, as they do
        where models learn from them."""
        newest = LOOKED_BACK * rules.funnel.history
        acts = (
            _EMPTY if interactions is None else interactions.select(_EMPTY.column_names).cast(_EMPTY.schema)
        )
        named = pc.and_(acts["user_id"].is_valid(), acts["item_id"].is_valid())
        acts = acts.filter(named).combine_chunks()
        ids = acts["user_id"].combine_chunks().dictionary_encode() if acts.num_rows else None
        codes = np.empty(0, np.int64) if ids is None else _one(ids).indices.to_numpy().astype(np.int64)
        names = pa.array([], pa.string()) if ids is None else _one(ids).dictionary
        times = pc.fill_null(acts["time"].cast(pa.int64()), NEVER).to_numpy()
        order = np.lexsort((np.arange(len(codes)), times, codes))
        codes, times = codes[order], times[order]
        if interactions is not None and "interaction_id" in interactions.column_names:
            order = _by_id(order, codes, times, interactions["interaction_id"].filter(named))
        ends = np.searchsorted(codes, np.arange(len(names)), side="right")
        back = ends[codes] - 1 - np.arange(len(codes))
        latest = times[ends - 1] if len(names) else times
        chosen = np.zeros(len(names), bool)
        chosen[np.argsort(-latest.astype(np.float64), kind="stable")[:most]] = True
        lasting = rules.lasts(acts["kind"], acts["value"])[order] if acts.num_rows else np.empty(0, bool)
        keep = order[((back < newest) | lasting) & chosen[codes]]
        known = names.filter(pa.array(chosen))
        known = known.take(pc.sort_indices(known))
        attributes = pa.nulls(len(known), pa.string())
        if users is not None and users.num_rows:
            place = pc.index_in(known, value_set=_one(users["user_id"]))
            attributes = _one(users["attributes"]).take(place).cast(pa.string())
        return cls(pa.table({"user_id": known, "attributes": attributes}), acts.take(pa.array(keep)))

    def without_erased(self, known: Known) -> "Crowd":
        """The same without those who were erased after they acted."""
        lasting = without_erased(self.acts, TABLES["interactions"], known)
        if not lasting.left:
            return self
        there = pc.is_in(self.users["user_id"], value_set=_one(pc.unique(lasting.rows["user_id"])))
        return Crowd(self.users.filter(there), lasting.rows)

    def queries(self, model: ExportScorer, rules: BehaviourRule) -> Queries:
        """One question a shopper, in the order of `users`; B = U."""
        acts = self.acts
        speaks = rules.weighed(acts["kind"], acts["value"]) > 0
        known = model.items.rows(acts["item_id"]) > 0  # as of one who asks: others are passed over
        acts = acts.filter(pa.array(known & speaks & standing(acts, rules), pa.bool_()))
        owners = pc.index_in(acts["user_id"], value_set=_one(self.users["user_id"])).to_numpy()
        order = np.argsort(owners, kind="stable")
        ends = np.searchsorted(owners[order], owners[order], side="right")
        order = order[ends - 1 - np.arange(len(order)) < rules.funnel.history]
        starts = np.searchsorted(owners[order], np.arange(len(self) + 1))
        code = {kind: n for n, kind in enumerate(model.kinds, start=1)}
        codes = np.array([code.get(kind, 0) for kind in acts["kind"].to_pylist()], np.int64)
        times = pc.fill_null(acts["time"].cast(pa.int64()), NEVER).to_numpy()
        now = np.full(len(self), times.max(initial=NEVER), np.int64)
        encoder = model.user_encoder
        features = Features() if encoder is None else encoder.encode(self.users)
        return Queries(
            model.users.rows(self.users["user_id"]),
            starts.astype(np.int64),
            model.items.rows(acts["item_id"])[order],
            codes[order],
            times[order],
            now,
            features,
        )

    def histories(self, count: int, length: int) -> list[list[tuple[str, str, float | None]]]:
        """The newest acts (item_id, kind, value) of some shoppers, always the same ones."""
        ids = self.users["user_id"].to_pylist()
        step = max(1, len(ids) // max(count, 1))
        some = set(ids[::step][:count])
        rows = self.acts.filter(pc.is_in(self.acts["user_id"], value_set=pa.array(sorted(some), pa.string())))
        found: dict[str, list[tuple[str, str, float | None]]] = {}
        for row in rows.select(["user_id", "item_id", "kind", "value"]).to_pylist():
            found.setdefault(row["user_id"], []).append((row["item_id"], row["kind"] or "", row["value"]))
        return [found[name][-length:] for name in sorted(found)]


def _standing(acts: Sequence[Act], rows: np.ndarray, times: np.ndarray, rules: BehaviourRule) -> np.ndarray:
    """(H,) bool: False for acts that a later one took back. rows: (H,) of their items."""
    said = [(rules.of(act.kind), act.value) for act in acts]
    if not any(rule.back or rule.idle(value) or rule.negative(value) for rule, value in said):
        return np.ones(len(acts), bool)
    names = list(dict.fromkeys(act.kind for act in acts))
    place = {name: n for n, name in enumerate(names)}
    codes = np.array([place[act.kind] for act in acts], np.int64)
    values = np.array([np.nan if act.value is None else act.value for act in acts], np.float64)
    return rules.stands(names, codes, values, times, rows)


def _by_id(order: np.ndarray, codes: np.ndarray, times: np.ndarray, ids: pa.ChunkedArray) -> np.ndarray:
    """`order` with the acts of one shopper and one time in the order of their `ids`; codes, times: in that
    of `order`."""
    same = (codes[1:] == codes[:-1]) & (times[1:] == times[:-1])
    tied = np.flatnonzero(np.append(False, same) | np.append(same, False))
    if not len(tied):
        return order
    ranks = pc.rank(ids.take(pa.array(order[tied]))).to_numpy(zero_copy_only=False)
    order = order.copy()
    order[tied] = order[tied][np.lexsort((ranks, times[tied], codes[tied]))]
    return order


# Not `schema.empty_table()`: that imports pandas, where it is installed.
_EMPTY = pa.Table.from_batches(
    [],
    schema=pa.schema(
        [
            ("user_id", pa.string()),
            ("item_id", pa.string()),
            ("kind", pa.string()),
            ("value", pa.float64()),
            ("time", pa.timestamp("us", tz="UTC")),
        ]
    ),
)


def _one(column: Any) -> Any:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
