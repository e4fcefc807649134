"""Interactions, queries and histories as arrays."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.features.behaviour import NEVER, BehaviourSet, Interactions, Queries, pair_keys
from etalage.features.encoder import Features
from etalage.features.vocabulary import Vocabulary


def acts(*rows: tuple[int, int, int], labels: list[float] | None = None) -> Interactions:
    """(user, item, time)"""
    users, items, times = np.array(rows, np.int64).reshape(-1, 3).T
    return Interactions.sorted(users, items, times=times, labels=None if labels is None else np.array(labels))


def a_set(**parts: Interactions) -> BehaviourSet:
    return BehaviourSet(Vocabulary(list("uvw")), Vocabulary(list("abcde")), (), parts)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(0, 3)), max_size=30))
def test_acts_are_in_the_order_of_user_time_and_arrival(rows: list[tuple[int, int, int]]) -> None:
    found = acts(*rows)
    expected = sorted(enumerate(rows), key=lambda row: (row[1][0], row[1][2], row[0]))
    assert list(zip(found.users, found.items, found.times, strict=True)) == [row for _, row in expected]
    starts = found.starts(5)
    for user in range(5):
        assert found.items[starts[user] : starts[user + 1]].tolist() == [
            r[1] for _, r in expected if r[0] == user
        ]


def test_an_unknown_time_comes_before_every_other() -> None:
    found = Interactions.sorted(np.array([1, 1]), np.array([5, 6]), times=np.array([-(10**15), NEVER]))
    assert found.items.tolist() == [6, 5]
    bare = Interactions.sorted(np.array([2, 1, 2]), np.array([7, 8, 9]))
    assert bare.items.tolist() == [8, 7, 9]
    assert np.isnan(bare.values).all() and not bare.kinds.any() and bare.labels.all()


def test_joined_parts_keep_the_earlier_first() -> None:
    found = Interactions.joined(acts((1, 9, 5), (2, 1, 0)), acts((1, 3, 5), (1, 4, 2)))
    assert found.items.tolist() == [4, 9, 3, 1]
    assert len(Interactions.joined(Interactions.none(), Interactions.none())) == 0


def test_keys_tell_every_pair_apart_in_order() -> None:
    large = 2**31 - 1
    pairs = [(0, 0), (0, large), (1, 0), (1, 1), (2**22, 5)]
    keys = pair_keys(*np.array(pairs).T)
    assert (np.diff(keys) > 0).all()
    assert acts((3, 4, 0)).keys.tolist() == [3 * 2**32 + 4]


def test_queries_know_what_was_before_and_nothing_of_the_part_itself() -> None:
    data = a_set(
        train=acts((1, 1, 10), (1, 2, 20), (3, 5, 15), labels=[1, 0, 1]),
        validation=acts((1, 3, 30)),
        test=acts((1, 5, 50), (1, 4, 40), (1, 4, 60), (2, 2, 45)),
    )
    queries, wanted = data.queries("test")
    assert queries.users.tolist() == [1, 2]
    assert [w.tolist() for w in wanted] == [[4, 5], [2]]
    assert queries.now.tolist() == [40, 45]
    assert queries.starts.tolist() == [0, 2, 2]  # the explicit negative is no history; user 2 has none at all
    assert queries.items.tolist() == [1, 3] and queries.owners.tolist() == [0, 0]
    earlier, _ = data.queries("validation")
    assert earlier.items.tolist() == [1]
    none, nothing = data.queries("rank")
    assert len(none) == 0 and nothing == []


def test_hits_are_of_the_target_kinds_and_seen_is_what_was_taken() -> None:
    kinds = np.array([1, 2, 1, 2])
    early = Interactions.sorted(np.array([1, 1, 2, 2]), np.array([1, 2, 3, 4]), kinds)
    late = Interactions.sorted(np.array([1, 1, 2, 3]), np.array([3, 4, 5, 5]), kinds)
    data = BehaviourSet(Vocabulary(list("uvw")), Vocabulary(list("abcde")), ("buy", "view"),
                        {"train": early, "test": late}, targets=(1,))  # fmt: skip
    queries, wanted = data.queries("test")
    assert queries.users.tolist() == [1, 2] and [w.tolist() for w in wanted] == [[3], [5]]
    assert queries.items.tolist() == [1, 2, 3, 4]  # views are history all the same
    assert data.seen("test").items.tolist() == [1, 3]
    served = replace(data, off_slate=(1,))
    assert served.truth("train").items.tolist() == [1, 3], "nothing is before what is learned from"
    assert served.truth("test").items.tolist() == [3, 5]
    again = BehaviourSet(data.users, data.items, data.kinds, data.parts, facts={"repeat": True})
    assert len(again.seen("test")) == 0 and len(again.truth("test")) == 4


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=6), st.integers(1, 5))
def test_the_newest_acts_end_every_row_with_padding_in_front(histories: list[list[int]], length: int) -> None:
    starts = np.cumsum([0, *map(len, histories)])
    flat = np.array([item for history in histories for item in history], np.int64)
    count = len(histories)
    queries = Queries(np.ones(count, np.int64), starts, flat, flat + 10, flat * 100, np.full(count, NEVER))
    items, kinds, times = queries.last(length)
    for row, history in enumerate(histories):
        kept = history[-length:]
        padding = length - len(kept)
        assert items[row].tolist() == [0] * padding + kept
        assert kinds[row].tolist() == [0] * padding + [item + 10 for item in kept]
        assert times[row].tolist() == [NEVER] * padding + [item * 100 for item in kept]


def test_a_block_of_queries_is_those_queries() -> None:
    features = Features(dense={"age": np.arange(4, dtype=np.float32)[:, None]})
    data = BehaviourSet(Vocabulary(list("uvw")), Vocabulary(list("abcde")), (), {
        "train": acts((1, 1, 1), (2, 2, 1), (2, 3, 2), (3, 4, 1)),
        "test": acts((1, 5, 9), (2, 5, 9), (3, 5, 9)),
    }, user_features=features)  # fmt: skip
    queries, _ = data.queries("test")
    block = queries.block(1, 3)
    assert block.users.tolist() == [2, 3] and block.items.tolist() == [2, 3, 4]
    assert block.starts.tolist() == [0, 2, 3]
    assert block.features.dense["age"].ravel().tolist() == [2, 3]
    np.testing.assert_array_equal(block.last(2)[0], queries.last(2)[0][1:])


def test_a_fingerprint_sees_every_column_and_part() -> None:
    data = a_set(train=acts((1, 1, 1), (2, 2, 2)))
    others = [
        a_set(train=acts((1, 1, 1), (2, 2, 3))),
        a_set(train=acts((1, 1, 1), (2, 2, 2), labels=[1, 0])),
        a_set(test=acts((1, 1, 1), (2, 2, 2))),
        data.with_parts(test=acts((1, 3, 9))),
    ]
    prints = {data.fingerprint(), *(other.fingerprint() for other in others)}
    assert data.fingerprint() == a_set(train=acts((1, 1, 1), (2, 2, 2))).fingerprint()
    assert len(prints) == 5
