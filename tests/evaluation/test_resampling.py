"""Intervals by group: as wide as there are groups, not as there are photos."""

import numpy as np
import pytest

from etalage.evaluation.gate import FEWEST, judge
from etalage.evaluation.resampling import grouped_bootstrap, resamples
from etalage.metrics import bootstrap

RNG = np.random.default_rng(2)


def test_a_resample_takes_whole_groups() -> None:
    groups = np.array([7, 7, 3, 9, 3, 3])
    blocks = np.concatenate(list(resamples(groups, 500)))
    assert blocks.shape == (500, 6)
    assert (blocks[:, 0] == blocks[:, 1]).all() and (blocks[:, [2, 4, 5]] == blocks[:, [2]]).all()
    assert (blocks[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert np.abs(blocks.mean(axis=0) - 1).max() < 0.15


def test_the_same_seed_draws_the_same_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    import etalage.evaluation.resampling as module

    groups = np.arange(40) // 2
    first = np.concatenate(list(resamples(groups, 50, seed=3)))
    assert not np.array_equal(first, np.concatenate(list(resamples(groups, 50, seed=4))))
    monkeypatch.setattr(module, "_CELLS", 100)
    assert np.array_equal(first, np.concatenate(list(resamples(groups, 50, seed=3))))


def test_groups_of_one_give_the_plain_bootstrap() -> None:
    values = RNG.random(400)
    plain, grouped = bootstrap(values), grouped_bootstrap(values, np.arange(400))
    assert grouped.value == pytest.approx(plain.value)
    assert grouped.low == pytest.approx(plain.low, abs=0.005)
    assert grouped.high == pytest.approx(plain.high, abs=0.005)


def test_photos_that_fail_together_make_the_interval_wider() -> None:
    of_group = RNG.random(40) < 0.7
    values, groups = np.repeat(of_group, 25).astype(float), np.repeat(np.arange(40), 25)
    plain, grouped = bootstrap(values), grouped_bootstrap(values, groups)
    ratio = (grouped.high - grouped.low) / (plain.high - plain.low)
    assert ratio == pytest.approx(5, rel=0.2)  # the square root of the size of a group


def test_the_gate_counts_groups_as_its_questions() -> None:
    groups = np.repeat(np.arange(40), 25)
    ours = np.repeat(RNG.random(40) < 0.75, 25).astype(float)
    theirs = np.repeat(RNG.random(40) < 0.60, 25).astype(float)
    plain = judge("m", "classifier", "accuracy", ours, {"s": theirs})
    grouped = judge("m", "classifier", "accuracy", ours, {"s": theirs}, groups=groups)
    assert plain.rows[0]["questions"] == 1000 and grouped.rows[0]["questions"] == 40
    assert plain.passed and not grouped.passed
    assert grouped.rows[1]["gain"] == pytest.approx(plain.rows[1]["gain"])
    few = judge(
        "m",
        "classifier",
        "accuracy",
        np.ones(900),
        {"s": np.zeros(900)},
        groups=np.arange(900) % (FEWEST - 1),
    )
    assert not few.passed and "too few to tell" in few.sentence


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        grouped_bootstrap(np.array([1.0, np.nan]), np.arange(2))
    with pytest.raises(ValueError, match="finite"):
        grouped_bootstrap(np.ones(3), np.arange(2))
    with pytest.raises(ValueError, match="no item"):
        next(resamples(np.zeros(0, int), 5))
