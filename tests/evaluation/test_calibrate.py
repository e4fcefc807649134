"""Thresholds reach their target, on the pairs they came from and on fresh ones."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.errors import ConfigError, TooLittleData
from etalage.evaluation.calibrate import NO_MATCH, calibrate, match, promise


def pairs(seed: int, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Similarities of held-out pairs: those of one category are higher, with overlap."""
    rng = np.random.default_rng(seed)
    same = rng.random(count) < 0.4
    return np.tanh(rng.normal(np.where(same, 0.9, 0.1), 0.5)), same


@settings(max_examples=150, deadline=None)
@given(
    scores=st.lists(st.integers(0, 6), min_size=1, max_size=30),
    bits=st.integers(0, 2**30 - 1),
    target=st.sampled_from(["precision", "recall"]),
    value=st.floats(0.05, 1),
)
def test_of_all_thresholds_that_reach_the_target_the_best_is_taken(scores, bits, target, value) -> None:
    same = np.array([bool(bits >> i & 1) for i in range(len(scores))])
    values = np.array(scores) / 7
    if not same.any():
        with pytest.raises(TooLittleData):
            calibrate(values, same, target, value)
        return
    by_hand = []
    for score in sorted(set(values.tolist())):
        near = values >= score
        by_hand.append((score, same[near].mean(), same[near].sum() / same.sum()))
    goal, other = (1, 2) if target == "precision" else (2, 1)
    good = [row for row in by_hand if row[goal] >= value]
    if not good:
        with pytest.raises(ConfigError, match="out of reach"):
            calibrate(values, same, target, value)
        return
    found = calibrate(values, same, target, value)
    assert (found.score, found.precision, found.recall) in [pytest.approx(row) for row in by_hand]
    assert (found.score, found.precision, found.recall)[other] == pytest.approx(max(r[other] for r in good))


@pytest.mark.parametrize(("target", "value"), [("precision", 0.9), ("recall", 0.8)])
def test_a_threshold_keeps_its_promise_on_fresh_pairs(target, value) -> None:
    threshold = calibrate(*pairs(1), target, value)
    scores, same = pairs(2)
    near = scores >= threshold.score
    fresh = {"precision": same[near].mean(), "recall": same[near].sum() / same.sum()}
    assert fresh[target] == pytest.approx(value, abs=0.03)
    assert fresh["precision"] == pytest.approx(threshold.precision, abs=0.03)
    assert fresh["recall"] == pytest.approx(threshold.recall, abs=0.03)


@pytest.mark.parametrize(("target", "value"), [("precision", 0), ("recall", 1.5), ("f1", 0.5)])
def test_an_impossible_target_is_refused(target, value) -> None:
    with pytest.raises(ConfigError, match="is no target"):
        calibrate(*pairs(3), target, value)


def test_a_match_is_the_vote_of_the_near_ones_or_none() -> None:
    similarities = np.array([[0.9, 0.8, 0.7], [0.9, 0.4, 0.3], [0.4, 0.3, 0.2], [0.9, -np.inf, -np.inf]])
    labels = np.array([[2, 5, 5], [2, 5, 5], [2, 5, 5], [7, -1, -1]])
    assert match(similarities, labels, 0.5).tolist() == [2, 2, NO_MATCH, 7]
    assert match(similarities, labels, 0.5, k=3).tolist() == [5, 2, NO_MATCH, 7]
    assert match(similarities, labels, 0.95).tolist() == [NO_MATCH] * 4


def test_what_is_promised_is_found_on_fresh_pairs_in_nineteen_of_twenty_cases() -> None:
    kept, old = 0, 0
    fresh, same = pairs(999, 50_000)
    for seed in range(60):
        found = promise(*pairs(seed, 400), 0.9)
        assert found.promise <= found.precision
        kept += bool(same[fresh >= found.score].mean() >= found.promise)
        old += bool(same[fresh >= calibrate(*pairs(seed, 400), "precision", 0.9).score].mean() >= 0.9)
    assert kept >= 57
    assert old < 45  # the observed precision promises too much


def test_of_few_pairs_little_is_promised_and_of_many_what_was_asked_for() -> None:
    few, many = promise(*pairs(1, 60), 0.9), promise(*pairs(1, 20_000), 0.9)
    assert few.precision >= 0.9 > few.promise
    assert many.precision >= many.promise >= 0.9
