"""One history: of the same acts, whoever asks, a crowd and the data that models learn from know the same."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import assume, given
from hypothesis import strategies as st

from etalage.config import BehaviourConfig, FunnelConfig
from etalage.errors import ConfigError, TooLittleData
from etalage.features.behaviour import NEVER, BehaviourSet, Queries
from etalage.features.behaviour_set import behaviour_set
from etalage.features.history import BehaviourRule, Histories
from etalage.features.vocabulary import Vocabulary
from etalage.funnel.shoppers import Shopper, UserHistories
from etalage.lake.schema import TABLES
from etalage.online import Act

ITEMS = [f"i{n}" for n in range(5)]
NOW = 10**15


@dataclass
class Model:
    """What a question asks of an opened model."""

    items: Vocabulary
    users: Vocabulary
    kinds: tuple[str, ...]
    name: str = "model"
    user_encoder: None = None

    def ask(
        self, users: np.ndarray, histories: Histories, now: np.ndarray, attributes: Any = None
    ) -> Queries:
        code = {kind: n for n, kind in enumerate(self.kinds, start=1)}
        return Queries.of(users, histories, now, code=code)

    def row(self, item_id: str) -> int:
        """As of a catalogue of these items."""
        return self.items.row(item_id)


@dataclass(frozen=True)
class Done:
    user: str
    item: str
    kind: str | None
    value: float | None
    time: int | None


KINDS = (
    None, "view", "buy", "Order", "refund", "cart", "remove_from_cart", "like", "unlike", "dislike", "rating",
    "search", "play", "zork",
)  # fmt: skip
DONE = st.builds(
    Done,
    st.sampled_from(["ann", "bob", "cat"]),
    st.sampled_from([*ITEMS, "gone", "other"]),
    st.sampled_from(KINDS),
    st.sampled_from([None, -1.0, 0.0, 1.0, 2.0, 3.3, 4.0, 5.0]),
    st.one_of(st.none(), st.integers(1, 6)),
)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "weights": st.sampled_from([{"view": 1.0, "buy": 5.0, "rating": 2.0}, {"buy": 1.0, "dislike": -1.0}]),
        "positive_from": st.sampled_from([3, 3.3, {"rating": 4.0, "play": 2.0}]),
        "has": st.just(("play",)),
        "targets": st.just(("buy",)),
        "repeat": st.booleans(),
    },
)
FUNNELS = st.builds(
    FunnelConfig,
    history=st.sampled_from([4, 6, 100]),
    seen=st.sampled_from(["drop_bought", "drop_all", "keep"]),
)


def table_of(acts: list[Done]) -> pa.Table:
    """Interactions, in an order that says nothing: ids tell which of one time came first."""
    columns: dict[str, list[Any]] = {
        "interaction_id": [f"a{n:03d}" for n in range(len(acts))],
        "user_id": [act.user for act in acts],
        "item_id": [act.item for act in acts],
        "kind": [act.kind for act in acts],
        "value": [act.value for act in acts],
        "time": [act.time for act in acts],
        "part": [None] * len(acts),
    }
    schema = TABLES["interactions"].schema
    table = pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names})
    return table.take(np.random.default_rng(len(acts)).permutation(len(acts)))


def learnt(table: pa.Table, config: BehaviourConfig, funnel: FunnelConfig) -> BehaviourSet:
    return behaviour_set(table, pa.table({"item_id": ITEMS}), None, config, funnel=funnel, whole=True)


def history_of(queries: Queries, at: int) -> list[tuple[int, int, int]]:
    mine = slice(queries.starts[at], queries.starts[at + 1])
    columns = (queries.items[mine], queries.kinds[mine], queries.times[mine])
    return list(zip(*(column.tolist() for column in columns), strict=True))


@given(st.lists(DONE, min_size=1, max_size=40), RULES, FUNNELS)
def test_one_who_asks_a_crowd_and_the_data_have_the_same_histories_and_seen_items(
    acts: list[Done], said: dict[str, Any], funnel: FunnelConfig
) -> None:
    config = BehaviourConfig(split="random", **said)
    rules, table = BehaviourRule(config, funnel), table_of(acts)
    try:
        data = learnt(table, config, funnel)
    except (ConfigError, TooLittleData):
        assume(False)
    model: Any = Model(data.items, data.users, data.kinds)

    user_histories = UserHistories.of(None, table, rules, 10)
    names = user_histories.users["user_id"].to_pylist()
    assert names == sorted({act.user for act in acts})
    of_crowd = user_histories.queries(model, rules, data.kinds)
    judged = user_histories.judged(data.items, rules, data.kinds)
    owners, seen = judged.seen()

    rows = data.users.rows(names)
    of_data = data.queries_of(rows, data.part("train").positive, np.full(len(names), NOW))
    off = data.with_parts(test=data.part("train").take(np.zeros(len(data.part("train")), bool))).seen("test")

    for at, name in enumerate(names):
        mine = [act for act in acts if act.user == name]
        mine.sort(key=lambda act: NEVER if act.time is None else act.time)
        told = [Act(act.item, act.kind or "", act.value, act.time) for act in mine]
        shopper = Shopper.of(told, model, rules, name, NOW, taught=data.kinds)
        alone = shopper.queries(model)
        assert alone.users.tolist() == [of_crowd.users[at]] == [rows[at]]
        assert history_of(alone, 0) == history_of(of_crowd, at)
        assert shopper.seen.tolist() == seen[owners == at].tolist()
        if rows[at]:
            assert history_of(alone, 0) == history_of(of_data, at)
            assert shopper.seen.tolist() == np.unique(off.items[off.users == rows[at]]).tolist()
            assert alone.now.tolist() == [of_data.now[at]]
        assert not shopper.plain_queries().kinds.any()
        assert shopper.plain_queries().items.tolist() == alone.items.tolist()


def test_of_shoppers_who_acted_last_at_one_time_the_same_ones_are_known_in_whatever_order_they_lie() -> None:
    acts = table_of([Done(user, "pear", "view", None, 3) for user in ("dan", "ann", "cat", "bob")])
    rules = BehaviourRule(BehaviourConfig())
    for order in itertools.permutations(range(4)):
        known = UserHistories.of(None, acts.take(list(order)), rules, 2)
        assert known.users["user_id"].to_pylist() == ["ann", "bob"], order
