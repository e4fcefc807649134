"""Who asks: a shopper's acts as the models are asked about them, and what they have seen.

H acts   N items of the bundle   B queries   U shoppers
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.features.behaviour import NEVER, Queries
from etalage.features.history import Acts, BehaviourRule, Histories, Judged
from etalage.features.vocabulary import Vocabulary
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
    history: Histories
    """B = 1; vocabulary rows of items of the bundle."""
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
        taught: Collection[str] = (),
    ) -> "Shopper":
        """`acts` as many as there are: the newest positives are kept. Where every act has a time, the times
        say which is behind which, as in the tables; else their order, oldest first, and in_order says that
        no two are of one moment. taught: the kinds that the models learnt from."""
        if not acts:
            return cls(user_id, Histories.none(1), np.empty(0, np.int64), now, attributes)
        told = Acts.of_one(
            [catalogue.row(act.item_id) for act in acts],
            [act.kind for act in acts],
            [act.value for act in acts],
            [act.time for act in acts],
            in_order,
        )
        judged = Judged(told.taught(rules, taught).by_time(), rules)
        return cls(user_id, judged.histories(1), judged.seen()[1], now, attributes)

    @property
    def rows(self) -> np.ndarray:
        """(H,) int64 vocabulary rows of the positives, oldest first."""
        return self.history.items

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """(H,) as they were told."""
        names = self.history.names or ()
        return tuple(names[code] or "" for code in self.history.kinds.tolist())

    @property
    def known_acts(self) -> int:
        """Positives on items of the bundle."""
        return len(self.rows)

    def queries(self, model: ExportScorer) -> Queries:
        """The question as `model` understands it: B = 1."""
        if model.name not in self._asked:
            user = np.array([model.users.row(self.user_id)], np.int64)
            encoded = model.user_encoder is not None
            attributes = pa.array([self.attributes], pa.string()) if encoded else None
            self._asked[model.name] = model.ask(user, self.history, self._moment, attributes)
        return self._asked[model.name]

    def plain_queries(self) -> Queries:
        """For retrievers that have no vocabulary of users or kinds."""
        return Queries.of(np.zeros(1, np.int64), self.history, self._moment)

    @property
    def _moment(self) -> np.ndarray:
        return np.array([self.now], np.int64)


@dataclass(frozen=True)
class UserHistories:
    """The shoppers that a bundle knows: `users` (user_id, attributes), and the newest acts of each,
    `acts` (user_id, item_id, kind, value, time), by user and oldest first."""

    users: pa.Table
    acts: pa.Table

    def __len__(self) -> int:
        return int(self.users.num_rows)

    @classmethod
    def of(
        cls, users: pa.Table | None, interactions: pa.Table | None, rules: BehaviourRule, most: int
    ) -> "UserHistories":
        """Of the lake's tables, the `most` shoppers who acted last: their newest acts, and of those that keep
        their items off the slate all, however old. Acts of one time follow by interaction_id, as they do
        where models learn from them, and of shoppers who acted last at one time the first by name are
        taken."""
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
        by_name = np.empty(len(names), np.int64)
        by_name[pc.sort_indices(names).to_numpy()] = np.arange(len(names))
        chosen[np.lexsort((by_name, -latest.astype(np.float64)))[:most]] = True
        lasting = rules.lasts(acts["kind"], acts["value"])[order] if acts.num_rows else np.empty(0, bool)
        keep = order[((back < newest) | lasting) & chosen[codes]]
        known = names.filter(pa.array(chosen))
        known = known.take(pc.sort_indices(known))
        attributes = pa.nulls(len(known), pa.string())
        if users is not None and users.num_rows:
            place = pc.index_in(known, value_set=_one(users["user_id"]))
            attributes = _one(users["attributes"]).take(place).cast(pa.string())
        return cls(pa.table({"user_id": known, "attributes": attributes}), acts.take(pa.array(keep)))

    def without_erased(self, known: Known) -> "UserHistories":
        """The same without those who were erased after they acted."""
        lasting = without_erased(self.acts, TABLES["interactions"], known)
        if not lasting.left:
            return self
        there = pc.is_in(self.users["user_id"], value_set=_one(pc.unique(lasting.rows["user_id"])))
        return UserHistories(self.users.filter(there), lasting.rows)

    def judged(self, items: Vocabulary, rules: BehaviourRule, taught: Collection[str] = ()) -> Judged:
        """What their acts mean, as of who asks (`Shopper.of`); items: of the bundle."""
        owners = pc.index_in(self.acts["user_id"], value_set=_one(self.users["user_id"])).to_numpy()
        order = np.argsort(owners, kind="stable")
        rows = items.rows(self.acts["item_id"])
        acts = Acts.of_table(self.acts.take(order), owners[order].astype(np.int64), rows[order])
        return Judged(acts.taught(rules, taught), rules)

    def queries(self, model: ExportScorer, rules: BehaviourRule, taught: Collection[str] = ()) -> Queries:
        """One question a shopper, in the order of `users`; B = U."""
        histories = self.judged(model.items, rules, taught).histories(len(self))
        now = np.full(len(self), histories.times.max(initial=NEVER), np.int64)
        return model.ask(
            model.users.rows(self.users["user_id"]), histories, now, self.users["attributes"].to_pylist()
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
