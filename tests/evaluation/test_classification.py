"""Metrics of categories, against scikit-learn, torchmetrics and counting by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from etalage.evaluation.classification import (
    Sureness,
    bins_of,
    macro_f1,
    ranks,
    reliability,
    value_weighted,
)

pytestmark = pytest.mark.usefixtures("torchmetrics")

RNG = np.random.default_rng(11)
N, L = 700, 9
LOGITS = RNG.normal(size=(N, L)) * 2
TRUTH = np.minimum(RNG.geometric(0.3, N) - 1, L - 2)  # the last category is never true
LOGITS[np.arange(N), TRUTH] += 1.5
GIVEN = (np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)).astype(np.float32)
PREDICTED = GIVEN.argmax(axis=1)
CORRECT = PREDICTED == TRUTH
CONFIDENCE = GIVEN.max(axis=1)
TIMES = RNG.integers(0, 4, N)
REPEATED = np.repeat(np.arange(N), TIMES)


def test_ranks_are_those_of_torchmetrics_top_k() -> None:
    from torchmetrics.functional.classification import multiclass_accuracy

    found = ranks(GIVEN, TRUTH)
    assert (found == 1).tolist() == CORRECT.tolist()
    for k in (1, 2, 5, 9):
        expected = multiclass_accuracy(
            torch.from_numpy(GIVEN), torch.from_numpy(TRUTH), L, average="micro", top_k=k
        )
        assert (found <= k).mean() == pytest.approx(float(expected), abs=1e-6)


def test_of_equally_probable_categories_the_first_leads() -> None:
    level = np.full((3, 4), 0.25, np.float32)
    assert ranks(level, np.array([0, 1, 3])).tolist() == [1, 2, 4]
    assert ranks(np.array([[0.2, 0.4, 0.4]]), np.array([2])).tolist() == [2]


def test_macro_f1_is_scikit_learns() -> None:
    assert macro_f1(TRUTH, PREDICTED, L) == pytest.approx(
        reference.f1_score(TRUTH, PREDICTED, average="macro"), abs=1e-12
    )
    assert macro_f1(TRUTH, np.full(N, 2), L) == pytest.approx(
        reference.f1_score(TRUTH, np.full(N, 2), average="macro", zero_division=0), abs=1e-12
    )


def test_weights_are_as_good_as_repeated_rows() -> None:
    weights = TIMES.astype(float)
    again = TRUTH[REPEATED], PREDICTED[REPEATED]
    assert macro_f1(TRUTH, PREDICTED, L, weights) == pytest.approx(macro_f1(*again, L))
    worth = RNG.random(N)
    assert value_weighted(CORRECT, worth, weights) == pytest.approx(
        value_weighted(CORRECT[REPEATED], worth[REPEATED])
    )
    for way in ("mass", "width"):
        bins = bins_of(CONFIDENCE, way)
        assert reliability(CONFIDENCE, CORRECT, bins, weights).error == pytest.approx(
            reliability(CONFIDENCE[REPEATED], CORRECT[REPEATED], bins[REPEATED]).error
        )
    weighted = Sureness(CONFIDENCE, CORRECT).coverage(weights)
    repeated = Sureness(CONFIDENCE[REPEATED], CORRECT[REPEATED]).coverage()
    assert weighted.risk_area == pytest.approx(repeated.risk_area)
    for one, other in zip(weighted[:3], repeated[:3], strict=True):
        assert np.allclose(one, other)


def test_value_weighted_by_hand() -> None:
    correct = np.array([True, False, True, False])
    assert value_weighted(correct, np.array([1.0, 5, 3, 1])) == pytest.approx(0.4)
    assert value_weighted(correct, np.zeros(4)) == 0.0
    assert value_weighted(CORRECT, np.full(N, 7.0)) == pytest.approx(CORRECT.mean())


@pytest.mark.parametrize("bins", [5, 15])
def test_calibration_error_of_equal_width_is_torchmetrics(bins: int) -> None:
    from torchmetrics.functional.classification import multiclass_calibration_error

    found = reliability(CONFIDENCE, CORRECT, bins_of(CONFIDENCE, "width", bins))
    expected = multiclass_calibration_error(torch.from_numpy(GIVEN), torch.from_numpy(TRUTH), L, n_bins=bins)
    assert found.error == pytest.approx(float(expected), abs=1e-5)
    assert found.counts.sum() == N


def test_bins_of_equal_mass_hold_about_as_many_rows() -> None:
    counts = np.bincount(bins_of(CONFIDENCE, "mass", 10))
    assert len(counts) == 10 and counts.min() >= 69 and counts.max() <= 71
    order = np.argsort(CONFIDENCE)
    by_hand = sum(
        abs(CONFIDENCE[part].mean(dtype=float) - CORRECT[part].mean()) * len(part)
        for part in np.array_split(order, 10)
    )
    assert reliability(CONFIDENCE, CORRECT, bins_of(CONFIDENCE, "mass", 10)).error == pytest.approx(
        by_hand / N, abs=1e-3
    )


def test_one_confidence_for_everything_is_one_bin_in_any_order() -> None:
    sure = np.full(40, 0.7, np.float32)
    correct = np.arange(40) < 30
    for way in ("mass", "width"):
        for hits in (correct, correct[::-1]):
            found = reliability(sure, hits, bins_of(sure, way))
            assert found.error == pytest.approx(0.05, abs=1e-6) and len(found.counts) == 1


def test_the_curve_by_hand() -> None:
    curve = Sureness(np.array([0.9, 0.5, 0.8, 0.5]), np.array([True, True, False, False])).coverage()
    assert curve.threshold.tolist() == [0.9, 0.8, 0.5]
    assert curve.coverage.tolist() == [0.25, 0.5, 1.0]
    assert curve.accuracy.tolist() == [1.0, 0.5, 0.5]
    assert curve.at_accuracy(0.9) == 0.25 and curve.at_accuracy(0.5) == 1.0 and curve.at_accuracy(1.01) == 0.0
    # Risks 0, 1/2, then the two of 0.5 spread evenly: 1.5/3 and 2/4.
    assert curve.risk_area == pytest.approx((0 + 0.5 + 0.5 + 0.5) / 4)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_the_area_is_the_mean_risk_over_places_and_does_not_depend_on_the_order(
    rows: list[tuple[int, bool]], random: object
) -> None:
    confidence = np.array([sure / 7 for sure, _ in rows])
    correct = np.array([hit for _, hit in rows])
    found = Sureness(confidence, correct).coverage()
    # By hand: of each run of equals the mean share of wrong ones, place by place.
    wrong, risks = 0.0, []
    for value in sorted(set(confidence.tolist()), reverse=True):
        own = ~correct[confidence == value]
        for _ in own:
            wrong += own.mean()
            risks.append(wrong / (len(risks) + 1))
    assert found.risk_area == pytest.approx(np.mean(risks), abs=1e-9)
    order = np.array(random.sample(range(len(rows)), len(rows)))  # type: ignore[attr-defined]
    again = Sureness(confidence[order], correct[order]).coverage()
    assert again.risk_area == pytest.approx(found.risk_area)
    assert np.array_equal(again.coverage, found.coverage) and np.allclose(again.accuracy, found.accuracy)
    assert found.accuracy[-1] == pytest.approx(correct.mean()) and found.coverage[-1] == 1.0


def test_a_better_order_has_a_smaller_area_and_thinning_keeps_the_ends() -> None:
    best = Sureness(CORRECT + RNG.random(N) * 0.5, CORRECT).coverage()
    worst = Sureness(~CORRECT + RNG.random(N) * 0.5, CORRECT).coverage()
    given = Sureness(CONFIDENCE, CORRECT).coverage()
    assert best.risk_area < given.risk_area < 1 - CORRECT.mean() < worst.risk_area
    thin = given.thinned(20)
    assert len(thin.coverage) == 20 and thin.risk_area == given.risk_area
    assert (thin.coverage[[0, -1]] == given.coverage[[0, -1]]).all()
    assert given.thinned(10_000) is given


def test_shapes_that_do_not_fit_are_refused() -> None:
    for call in (
        lambda: macro_f1(TRUTH, PREDICTED[1:], L),
        lambda: ranks(GIVEN, TRUTH[1:]),
        lambda: value_weighted(CORRECT, np.ones(3)),
        lambda: Sureness(CONFIDENCE, CORRECT[:5]),
        lambda: reliability(CONFIDENCE, CORRECT, np.zeros(3, int)),
        lambda: macro_f1(TRUTH[:0], TRUTH[:0], L),
    ):
        with pytest.raises(ValueError, match="same rows"):
            call()
