"""Negatives: never a positive, with the probabilities that were asked for, the same for the same seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.errors import TooLittleData
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.negatives import Negatives, candidates, in_batch_log_q, popularity, repeats
from etalage.features.vocabulary import Vocabulary

USERS, ITEMS = 6, 12
PAIRS = st.sets(st.tuples(st.integers(1, USERS - 1), st.integers(1, ITEMS - 1)), max_size=40)


def taken(pairs: Any) -> Interactions:
    users, items = np.array(sorted(pairs), np.int64).reshape(-1, 2).T
    return Interactions.sorted(users, items)


def a_set(train: Any, test: Any = (), labels: Sequence[float] | None = None) -> BehaviourSet:
    learned = taken(train)
    if labels is not None:
        learned = Interactions.sorted(learned.users, learned.items, labels=np.array(labels))
    users, items = ([f"{n}" for n in range(1, size)] for size in (USERS, ITEMS))
    return BehaviourSet(Vocabulary(users), Vocabulary(items), (), {"train": learned, "test": taken(test)})


@settings(deadline=None, max_examples=80)
@given(PAIRS, st.none() | st.lists(st.floats(0.001, 1e6), min_size=ITEMS, max_size=ITEMS), st.integers(0, 9))
def test_a_positive_is_never_drawn_and_neither_is_row_0(
    pairs: set[tuple[int, int]], weights: list[float] | None, seed: int
) -> None:
    sampler = Negatives(taken(pairs), USERS, ITEMS, None if weights is None else np.array(weights))
    users = np.flatnonzero(sampler.drawable)
    for draw in (sampler.draw, sampler.distinct):
        drawn = draw(users, 30, (seed, 1, 2))
        assert drawn.shape == (len(users), 30) and drawn.dtype == np.int64
        assert drawn.max(initial=0) < ITEMS
        for user, row in zip(users.tolist(), drawn.tolist(), strict=True):
            assert pairs.isdisjoint((user, item) for item in row)
            if draw == sampler.draw:
                assert 0 not in row
            else:
                left = ITEMS - 1 - sum(owner == user for owner, _ in pairs)
                assert len(set(row) - {0}) == left and row[left:] == [0] * (30 - left)


def chi_square(drawn: np.ndarray, expected: np.ndarray) -> float:
    counts = np.bincount(drawn.ravel(), minlength=len(expected))
    wanted = expected / expected.sum() * drawn.size
    assert not counts[wanted == 0].any()
    there = wanted > 0
    return float(((counts - wanted)[there] ** 2 / wanted[there]).sum())


@pytest.mark.parametrize("weights", [None, np.array([99, 1, 7, 2, 2, 9, 0.5, 3, 1, 1, 4, 6.0])])
def test_items_come_as_often_as_their_weights_say(weights: np.ndarray | None) -> None:
    pairs = {(1, 1), (1, 2), (1, 5), (1, 11), (2, 6), (3, 3), (3, 4)}
    sampler = Negatives(taken(pairs), USERS, ITEMS, weights)
    for user in (0, 1, 2, 3, 5):
        drawn = sampler.draw(np.full(400, user), 50, (4, user))
        expected = np.ones(ITEMS) if weights is None else weights.copy()
        expected[0] = 0
        expected[[item for owner, item in pairs if owner == user]] = 0
        assert chi_square(drawn, expected) < 35  # 10 degrees of freedom: once in ten thousand


def test_the_order_of_a_batch_does_not_mix_users_up() -> None:
    everything_but = {
        user: {(user, item) for item in range(1, ITEMS) if item != user + 2} for user in (1, 2, 3)
    }
    sampler = Negatives(taken(set.union(*everything_but.values())), USERS, ITEMS)
    users = np.array([3, 1, 2, 1, 3, 3])
    assert sampler.draw(users, 4, (0,)).tolist() == [[user + 2] * 4 for user in users.tolist()]


def test_draws_are_a_pure_function_of_their_seeds() -> None:
    sampler = Negatives(taken({(1, 3)}), USERS, ITEMS)
    users = np.array([1, 2, 1, 4])
    first = sampler.draw(users, 9, (5, 0, 3))
    sampler.draw(users, 9, (5, 0, 4))
    assert np.array_equal(first, sampler.draw(users, 9, (5, 0, 3)))
    others = [(5, 0, 4), (5, 1, 3), (6, 0, 3)]
    assert not any(np.array_equal(first, sampler.draw(users, 9, seeds)) for seeds in others)
    assert np.array_equal(sampler.distinct(users, 9, (1,)), sampler.distinct(users, 9, (1,)))


def test_a_user_who_took_everything_is_named() -> None:
    data = a_set([(2, item) for item in range(1, ITEMS)] + [(1, 1)])
    sampler = Negatives.of(data)
    assert sampler.drawable.tolist() == [True, True, False, True, True, True]
    with pytest.raises(TooLittleData, match=r"user '2' \(row 2\) has taken all 11 items"):
        sampler.draw(np.array([1, 2]), 3, (0,))
    assert sampler.distinct(np.array([2, 1]), 3, (0,))[0].tolist() == [0, 0, 0]


def test_popularity_and_mixture_weigh_as_they_say() -> None:
    train = [(user, 1) for user in (1, 2, 3, 4)] + [(1, 2), (2, 2), (1, 3), (5, 11)]
    data = a_set(train)
    assert popularity(data.part("train"), ITEMS).tolist() == [0, 4, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    items = np.arange(1, ITEMS)
    halves = np.exp(Negatives.of(data, alpha=0.5).log_q(items))
    np.testing.assert_allclose(halves[:3] / halves[3], [2, np.sqrt(2), 1], rtol=1e-4)
    np.testing.assert_allclose(halves.sum(), 1, rtol=1e-5)
    mixed = np.exp(Negatives.of(data, alpha=1.0, uniform=0.25).log_q(items))
    expected = 0.75 * np.array([4, 2, *[1] * 9]) / 15 + 0.25 / 11
    np.testing.assert_allclose(mixed, expected, rtol=1e-4)
    np.testing.assert_allclose(np.exp(Negatives.of(data).log_q(items)), 1 / 11, rtol=1e-5)


def test_positives_of_train_and_test_are_left_out_but_one_star_can_be_drawn() -> None:
    rest = [(1, item) for item in range(1, 9)]
    data = a_set(rest, [(1, 9), (1, 10)], labels=[1] * 7 + [0])
    assert set(Negatives.of(data).draw(np.array([1]), 200, (0,)).ravel().tolist()) == {8, 11}
    train_alone = Negatives.of(data, never=("train",)).draw(np.array([1]), 200, (0,))
    assert set(train_alone.ravel().tolist()) == {8, 9, 10, 11}


def test_log_q_says_how_often_an_item_is_drawn() -> None:
    weights = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 45.0])
    sampler = Negatives(Interactions.none(), USERS, ITEMS, weights)
    drawn = sampler.draw(np.ones(1000, np.int64), 100, (0,))
    found = np.bincount(drawn.ravel(), minlength=ITEMS)[1:] / drawn.size
    np.testing.assert_allclose(np.exp(sampler.log_q(np.arange(1, ITEMS))), found, atol=0.005)
    assert sampler.log_q(np.array([[3, 11]])).dtype == np.float32


def test_in_batch_log_q_is_the_share_of_the_acts() -> None:
    data = a_set([(1, 1), (2, 1), (3, 1), (1, 4)])
    found = np.exp(in_batch_log_q(data.part("train"), 5))
    np.testing.assert_allclose(found[1:], np.array([3, 1, 1, 1]) / 6, rtol=1e-6)
    assert found[0] == 1


def test_candidates_are_distinct_and_no_positive_of_any_part() -> None:
    rng = np.random.default_rng(0)
    pairs = {(int(u), int(i)) for u, i in zip(rng.integers(1, 6, 25), rng.integers(1, 12, 25), strict=True)}
    test = set(sorted(pairs)[::3])
    data = a_set(pairs - test, test)
    found = candidates(data, "test", 8, seed=3)
    queries, _ = data.queries("test")
    assert found.shape == (len(queries), 8)
    for user, row in zip(queries.users.tolist(), found.tolist(), strict=True):
        drawn = [item for item in row if item]
        left = ITEMS - 1 - sum(owner == user for owner, _ in pairs)
        assert len(drawn) == len(set(drawn)) == min(8, left)
        assert pairs.isdisjoint((user, item) for item in drawn)


def test_distinct_draws_come_in_the_proportion_of_their_weights() -> None:
    weights = np.array([0, 1, 2, 3, 14.0])
    sampler = Negatives(Interactions.none(), 2, 5, weights)
    pairs = sampler.distinct(np.ones(20_000, np.int64), 2, (1,))
    first = np.bincount(pairs[:, 0], minlength=5)[1:] / 20_000
    np.testing.assert_allclose(first, weights[1:] / 20, atol=0.012)
    share = weights[1:] / 20
    second = [sum(share[i] * share[j] / (1 - share[i]) for i in range(4) if i != j) for j in range(4)]
    np.testing.assert_allclose(np.bincount(pairs[:, 1], minlength=5)[1:] / 20_000, second, atol=0.012)


def test_many_items_and_users_keep_their_weights_apart() -> None:
    users, items = 1_000_000, 300_000
    taken_all = Interactions.sorted(np.array([users - 1, users - 1, 1]), np.array([1, items - 1, 2]))
    weights = np.ones(items)
    weights[[1, items - 1]] = 1e7
    drawn = Negatives(taken_all, users, items, weights).draw(np.array([users - 1, 1]), 4000, (0,))
    assert not np.isin(drawn[0], [1, items - 1]).any() and len(np.unique(drawn[0])) > 3900
    assert np.isin(drawn[1], [1, items - 1]).mean() > 0.97


@pytest.mark.parametrize("bad", [[0, 1, -1], [0, np.nan, 1], [9, 0, 0]])
def test_weights_that_are_none_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Negatives(Interactions.none(), 2, 3, np.array(bad))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 4), min_size=5, max_size=5), max_size=5))
def test_repeats_are_all_but_the_first(rows: list[list[int]]) -> None:
    found = repeats(np.array(rows, np.int64).reshape(-1, 5))
    expected = [[item > 0 and item in row[:n] for n, item in enumerate(row)] for row in rows]
    assert found.tolist() == expected
