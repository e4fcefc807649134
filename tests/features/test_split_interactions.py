"""Interactions fall into parts: none is lost, none is in two, and nothing later is learned from."""

from collections import Counter
from itertools import pairwise
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.config import BehaviourConfig
from etalage.errors import TooLittleData
from etalage.features.behaviour import NEVER, PARTS, Interactions
from etalage.features.split_interactions import at_random, by_time, last_n, leave_one_out, parted

Rows = list[tuple[int, int, int, int, bool]]
ROWS = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(0, 2), st.integers(0, 9), st.booleans()),
    max_size=40,
)
"""(user, item, kind, time, positive)"""
SPLITS: tuple[Literal["time", "leave_one_out", "last_n", "random"], ...] = (
    "time", "leave_one_out", "last_n", "random")  # fmt: skip


def acts(rows: Rows) -> Interactions:
    users, items, kinds, times, labels = np.array(rows, np.int64).reshape(-1, 5).T
    # The value is the row's number, so that each act can be recognised.
    return Interactions.sorted(users, items, kinds, np.arange(len(rows)), times, labels)


def told(part: Interactions) -> list[tuple[int, int]]:
    return list(zip(part.users.tolist(), part.items.tolist(), strict=True))


def of_one_user(*items: int) -> Rows:
    return [(1, item, 0, n, True) for n, item in enumerate(items)]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("repeat", [False, True])
@settings(deadline=None, max_examples=60)
@given(rows=ROWS, targets=st.sampled_from([(), (1,), (1, 2)]), rank=st.sampled_from([0.0, 0.2]))
def test_no_act_is_in_two_parts_and_those_left_out_stand_in_an_earlier_one(
    split: Literal["time", "leave_one_out", "last_n", "random"],
    repeat: bool,
    rows: Rows,
    targets: tuple[int, ...],
    rank: float,
) -> None:
    config = BehaviourConfig(split=split, repeat=repeat, rank=rank, last_n=2, validation=0.2, test=0.3)
    parts = parted(acts(rows), config, targets)
    assert tuple(parts) == PARTS
    seen = Counter(value for part in parts.values() for value in part.values.tolist())
    assert not seen or max(seen.values()) == 1
    left_out = [row for n, row in enumerate(rows) if float(n) not in seen]
    if repeat:
        assert left_out == []
    for user, item, kind, _, _ in left_out:
        assert not targets or kind in targets
        assert any((user, item) in told(part) for part in parts.values())
    taken: set[tuple[int, int]] = set()
    for part in parts.values():
        judged = part.take(np.isin(part.kinds, targets)) if targets else part
        if not repeat:
            assert taken.isdisjoint(told(judged))
        taken |= set(told(judged))
        assert part.keys.tolist() == sorted(part.keys.tolist(), key=lambda key: key >> 32)
    if split == "random":
        return
    for earlier, later in pairwise(PARTS):
        for user in range(1, 5):
            before = parts[earlier].times[parts[earlier].users == user]
            after = parts[later].times[parts[later].users == user]
            assert not len(before) or not len(after) or before.max() <= after.min()


@settings(deadline=None, max_examples=60)
@given(ROWS)
def test_leave_one_out_agrees_with_the_plain_way_of_doing_it(rows: Rows) -> None:
    parts = leave_one_out(acts(rows), repeat=True)
    whole = acts(rows)
    for user in range(1, 5):
        mine = whole.take(whole.users == user)
        liked = [n for n in range(len(mine)) if mine.labels[n] > 0]
        expected = {"train": mine.values.tolist(), "validation": [], "test": []}
        if len(liked) == 2:
            expected = {"train": mine.values[: liked[1]].tolist(), "validation": [],
                        "test": mine.values[liked[1] :].tolist()}  # fmt: skip
        if len(liked) > 2:
            expected = {"train": mine.values[: liked[-2]].tolist(),
                        "validation": mine.values[liked[-2] : liked[-1]].tolist(),
                        "test": mine.values[liked[-1] :].tolist()}  # fmt: skip
        for name, values in expected.items():
            part = parts[name]
            assert part.values[part.users == user].tolist() == values


def test_leave_one_out_holds_out_what_a_user_has_not_had_yet() -> None:
    parts = leave_one_out(acts(of_one_user(3, 1, 2, 1, 3)))
    assert told(parts["train"]) == [(1, 3)]
    assert told(parts["validation"]) == [(1, 1)]
    assert told(parts["test"]) == [(1, 2)]  # the last two acts repeat earlier ones
    again = leave_one_out(acts(of_one_user(3, 1, 2, 1, 3)), repeat=True)
    assert told(again["train"]) == [(1, 3), (1, 1), (1, 2)]
    assert (told(again["validation"]), told(again["test"])) == ([(1, 1)], [(1, 3)])


def test_users_of_one_and_two_acts_are_learned_from_first() -> None:
    parts = leave_one_out(acts([(1, 4, 0, 1, True), (2, 5, 0, 1, True), (2, 6, 0, 2, True)]))
    assert told(parts["train"]) == [(1, 4), (2, 5)]
    assert told(parts["test"]) == [(2, 6)]
    assert len(parts["validation"]) == 0


def test_a_view_before_the_sale_does_not_take_the_sale_out_of_the_test() -> None:
    view, buy = 1, 2
    rows: Rows = [(1, 5, buy, 0, True), (1, 6, view, 1, True), (1, 6, buy, 2, True), (1, 7, view, 3, True)]
    parts = leave_one_out(acts(rows), targets=(buy,))
    assert told(parts["train"]) == [(1, 5), (1, 6)]
    assert told(parts["test"]) == [(1, 6), (1, 7)]
    as_one = leave_one_out(acts(rows))
    assert told(as_one["test"]) == [(1, 7)]
    assert told(as_one["validation"]) == [(1, 6), (1, 6)]  # each pair in one part, there as often as it was


def test_time_is_cut_at_moments_of_the_whole_shop_by_shares() -> None:
    rng = np.random.default_rng(3)
    count = 4000
    whole = Interactions.sorted(
        rng.integers(1, 90, count), rng.integers(1, 900, count), times=rng.integers(0, 10**9, count)
    )
    parts = by_time(whole, rank=0.15, validation=0.1, test=0.2, repeat=True)
    assert [round(len(parts[name]) / count, 2) for name in PARTS] == [0.55, 0.15, 0.1, 0.2]
    for earlier, later in pairwise(PARTS):
        assert parts[earlier].times.max() < parts[later].times.min()


def test_acts_of_one_moment_stay_together() -> None:
    times = [0] * 3 + [7] * 6 + [9]
    rows: Rows = [(1 + n % 2, 1 + n, 0, time, True) for n, time in enumerate(times)]
    parts = by_time(acts(rows), 0.0, validation=0.3, test=0.3)
    assert sorted({*parts["train"].times.tolist()}) == [0]
    assert {*parts["validation"].times.tolist(), *parts["test"].times.tolist()} == {7, 9}
    for part in parts.values():
        assert len(part) == sum(time in set(part.times.tolist()) for time in times)


def test_users_and_items_that_are_new_behind_the_cut_stay() -> None:
    rows: Rows = [(1, 1 + n, 0, n, True) for n in range(8)] + [(2, 30, 0, 8, True), (3, 2, 0, 9, True)]
    parts = by_time(acts(rows), 0.0, validation=0.1, test=0.2)
    assert told(parts["test"]) == [(2, 30), (3, 2)]


def test_all_acts_of_one_moment_are_learned_from() -> None:
    parts = by_time(acts([(1, n, 0, 5, True) for n in range(1, 9)]), 0.1, 0.1, 0.1)
    assert [len(parts[name]) for name in PARTS] == [8, 0, 0, 0]


def test_acts_without_a_time_cannot_be_split_by_time() -> None:
    bare = Interactions.sorted(np.array([1, 2]), np.array([3, 4]))
    with pytest.raises(TooLittleData, match="leave_one_out"):
        parted(bare, BehaviourConfig())
    some = Interactions.sorted(np.arange(1, 11), np.arange(1, 11), times=np.array([NEVER] * 8 + [4, 5]))
    assert set(by_time(some, 0.0, 0.1, 0.1)["train"].times.tolist()) == {NEVER}


def test_the_newest_n_of_each_user_are_tested() -> None:
    rows = of_one_user(*range(1, 21)) + [(2, 30 + n, 0, n, True) for n in range(3)]
    parts = last_n(acts(rows), 10, rank=0.0, validation=0.1)
    assert told(parts["test"]) == [(1, n) for n in range(11, 21)] + [(2, 31), (2, 32)]
    assert told(parts["validation"]) == [(1, 10)]
    assert told(parts["train"]) == [(1, n) for n in range(1, 10)] + [(2, 30)]


def test_a_low_rating_counts_among_the_newest_n() -> None:
    rows: Rows = [(1, n, 0, n, n % 2 == 1) for n in range(1, 7)]
    test = last_n(acts(rows), 3, 0.0, 0.1)["test"]
    assert (test.items.tolist(), test.labels.tolist()) == ([4, 5, 6], [0, 1, 0])


def test_a_ranker_gets_the_newest_share_before_what_is_held_out() -> None:
    parts = leave_one_out(acts(of_one_user(*range(1, 13))), rank=0.3)
    assert told(parts["rank"]) == [(1, n) for n in (8, 9, 10)]
    assert told(parts["train"]) == [(1, n) for n in range(1, 8)]


def test_a_random_split_is_of_its_seed_alone_and_keeps_a_pair_together() -> None:
    rng = np.random.default_rng(5)
    users, items = rng.integers(1, 60, 5000), rng.integers(1, 40, 5000)
    whole = Interactions.sorted(users, items, values=np.arange(5000))
    parts = at_random(whole, 0.1, 0.1, 0.2, seed=7)
    assert sum(map(len, parts.values())) == 5000
    for name, share in zip(PARTS, (0.6, 0.1, 0.1, 0.2), strict=True):
        assert abs(len(parts[name]) / 5000 - share) < 0.03
    keys = [set(part.keys.tolist()) for part in parts.values()]
    assert sum(map(len, keys)) == len(set.union(*keys))
    same, other = at_random(whole, 0.1, 0.1, 0.2, seed=7), at_random(whole, 0.1, 0.1, 0.2, seed=8)
    assert told(same["test"]) == told(parts["test"]) != told(other["test"])


@pytest.mark.parametrize("split", SPLITS)
def test_nothing_and_a_single_act_can_be_split(
    split: Literal["time", "leave_one_out", "last_n", "random"],
) -> None:
    assert all(len(part) == 0 for part in parted(Interactions.none(), BehaviourConfig(split=split)).values())
    parts = parted(acts([(1, 1, 0, 3, True)]), BehaviourConfig(split=split))
    assert sum(map(len, parts.values())) == 1
    if split != "random":
        assert len(parts["train"]) == 1
