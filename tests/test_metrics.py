"""Metrics against torchmetrics, scikit-learn and numbers worked out by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from etalage import metrics

pytestmark = pytest.mark.usefixtures("torchmetrics")
HAND = np.array([[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]], bool)
TOTAL = np.array([3, 1, 5])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (metrics.precision_at_k(HAND, 3), [2 / 3, 0, 0]),
        (metrics.precision_at_k(HAND, 4), [1 / 2, 1 / 4, 0]),
        (metrics.recall_at_k(HAND, 4, TOTAL), [2 / 3, 1, 0]),
        (metrics.recall_at_k(HAND, 1, TOTAL), [1 / 3, 0, 0]),
        (metrics.hit_at_k(HAND, 1), [1, 0, 0]),
        (metrics.hit_at_k(HAND, 4), [1, 1, 0]),
        (metrics.average_precision_at_k(HAND, 4, TOTAL), [(1 + 2 / 3) / 3, 1 / 4, 0]),
        (metrics.average_precision_at_k(HAND, 2, TOTAL), [1 / 2, 0, 0]),
        (metrics.ndcg_at_k(HAND, 4, TOTAL), [1.5 / (1 + 1 / np.log2(3) + 0.5), 1 / np.log2(5), 0]),
        (metrics.ndcg_at_k(HAND, 1, TOTAL), [1, 0, 0]),
        (metrics.reciprocal_rank(HAND), [1, 1 / 4, 0]),
    ],
)
def test_metrics_are_what_the_formula_gives_by_hand(value: np.ndarray, expected: list[float]) -> None:
    np.testing.assert_allclose(value, expected, atol=1e-12)


def test_a_query_with_nothing_to_find_scores_zero() -> None:
    nothing, total = np.zeros((1, 3), bool), np.array([0])
    for value in (
        metrics.recall_at_k(nothing, 3, total),
        metrics.average_precision_at_k(nothing, 3, total),
        metrics.ndcg_at_k(nothing, 3, total),
        metrics.reciprocal_rank(nothing),
    ):
        assert value.tolist() == [0.0]


def ranked(seed: int, queries: int = 25, items: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """(Q, N) whole rankings with rare, and sometimes no, right answers, and their totals."""
    rng = np.random.default_rng(seed)
    relevant = rng.random((queries, items)) < rng.choice([0.0, 0.1, 0.5, 1.0], (queries, 1))
    return relevant, relevant.sum(axis=1)


def by_torchmetrics(metric: object, relevant: np.ndarray) -> float:
    """A torchmetrics retrieval metric over rankings in which the score falls with the rank."""
    import torch

    queries, items = relevant.shape
    falling = torch.linspace(1, 0.1, items).repeat(queries)
    where = torch.arange(queries).repeat_interleave(items)
    return float(metric(falling, torch.tensor(relevant.ravel()), indexes=where))  # type: ignore[operator]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 3, 12])
def test_the_means_are_those_of_torchmetrics(seed: int, k: int) -> None:
    from torchmetrics import retrieval

    relevant, total = ranked(seed)
    ours_and_theirs: list[tuple[np.ndarray, Callable[..., object]]] = [
        (metrics.precision_at_k(relevant, k), retrieval.RetrievalPrecision),
        (metrics.recall_at_k(relevant, k, total), retrieval.RetrievalRecall),
        (metrics.hit_at_k(relevant, k), retrieval.RetrievalHitRate),
        (metrics.ndcg_at_k(relevant, k, total), retrieval.RetrievalNormalizedDCG),
        (metrics.reciprocal_rank(relevant[:, :k]), retrieval.RetrievalMRR),
    ]
    for ours, theirs in ours_and_theirs:
        expected = by_torchmetrics(theirs(top_k=k), relevant)
        assert ours.mean() == pytest.approx(expected, abs=1e-6), theirs


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_of_whole_rankings_is_that_of_torchmetrics_and_scikit_learn(seed: int) -> None:
    from sklearn.metrics import average_precision_score
    from torchmetrics.retrieval import RetrievalMAP

    relevant, total = ranked(seed)
    ours = metrics.average_precision_at_k(relevant, 12, total)
    assert ours.mean() == pytest.approx(by_torchmetrics(RetrievalMAP(), relevant), abs=1e-6)
    for value, row in zip(ours, relevant, strict=True):
        if row.any():
            assert value == pytest.approx(average_precision_score(row, -np.arange(12)))


@pytest.mark.parametrize("k", [1, 3, 12])
def test_average_precision_differs_from_torchmetrics_by_the_stated_divisor_only(k: int) -> None:
    from torchmetrics.retrieval import RetrievalMAP

    relevant, total = ranked(7)
    found = relevant[:, :k].sum(axis=1)
    ours = metrics.average_precision_at_k(relevant, k, total)
    rescaled = ours * np.minimum(total, k) / np.maximum(found, 1)
    assert rescaled.mean() == pytest.approx(by_torchmetrics(RetrievalMAP(top_k=k), relevant), abs=1e-6)
    if k == 3:
        assert (found < np.minimum(total, k)).any(), "the two divisors never differ here"


@pytest.mark.parametrize("k", [1, 4, 12])
def test_ndcg_is_that_of_scikit_learn(k: int) -> None:
    from sklearn.metrics import ndcg_score

    relevant, total = ranked(8)
    expected = ndcg_score(relevant.astype(float), np.tile(-np.arange(12.0), (25, 1)), k=k)
    assert metrics.ndcg_at_k(relevant, k, total).mean() == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_knn_votes_are_those_of_scikit_learn_where_no_two_labels_tie(k: int) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(9)
    points, labels = rng.normal(size=(200, 3)), rng.integers(0, 4, 200)
    queries, own = rng.normal(size=(80, 3)), rng.integers(0, 4, 80)
    model = KNeighborsClassifier(k).fit(points, labels)
    neighbours = labels[model.kneighbors(queries, return_distance=False)]
    counts = np.sort(np.stack([(neighbours == label).sum(axis=1) for label in range(4)]), axis=0)
    clear = counts[-1] > counts[-2]
    assert clear.any()
    ours = metrics.knn_vote(neighbours, k)
    np.testing.assert_array_equal(ours[clear], model.predict(queries)[clear])
    assert metrics.knn_accuracy(neighbours, own, k)[clear].mean() == model.score(queries[clear], own[clear])


def test_equal_votes_go_to_the_nearest_and_missing_neighbours_do_not_vote() -> None:
    neighbours = np.array([[7, 3, 3, 7], [-1, -1, 2, -1], [-1, -1, -1, -1], [3, 7, 7, 9]])
    assert metrics.knn_vote(neighbours, 4).tolist() == [7, 2, -1, 7]
    assert metrics.knn_vote(neighbours, 2).tolist() == [7, -1, -1, 3]
    words = np.array([["coat", "boot", "boot"], ["coat", "boot", "bag"]])
    assert metrics.knn_vote(words, 3).tolist() == ["boot", "coat"]
    assert metrics.knn_accuracy(words, np.array(["boot", "boot"]), 3).tolist() == [1.0, 0.0]


@settings(max_examples=50, deadline=None)
@given(relevant=arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=8)), data=st.data())
def test_every_metric_lies_between_zero_and_one_and_a_perfect_answer_scores_one(relevant, data) -> None:
    k = data.draw(st.integers(1, relevant.shape[1]))
    total = relevant.sum(axis=1) + data.draw(st.integers(0, 3))
    every = [metrics.precision_at_k(relevant, k), metrics.hit_at_k(relevant, k)]
    with_total = [metrics.recall_at_k, metrics.average_precision_at_k, metrics.ndcg_at_k]
    every += [metric(relevant, k, total) for metric in with_total]
    assert all(((value >= 0) & (value <= 1 + 1e-12)).all() for value in every)
    perfect = -np.sort(-relevant.astype(int), axis=1) == 1
    some = relevant.any(axis=1)
    for metric in with_total[1:]:
        np.testing.assert_allclose(metric(perfect, k, relevant.sum(axis=1))[some], 1)


@pytest.mark.parametrize("k", [0, 5])
def test_k_outside_the_answers_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"k = {k} of 4"):
        metrics.precision_at_k(HAND, k)


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="more right answers"):
        metrics.recall_at_k(HAND, 4, np.array([1, 1, 1]))
    with pytest.raises(ValueError, match="bool"):
        metrics.hit_at_k(HAND.astype(int), 2)
    with pytest.raises(ValueError, match=r"\(Q, K\)"):
        metrics.hit_at_k(HAND[0], 2)
    with pytest.raises(ValueError, match="finite"):
        metrics.bootstrap(np.array([0.5, np.nan]))
    with pytest.raises(ValueError, match="at least one query"):
        metrics.bootstrap(np.empty(0))
    with pytest.raises(ValueError, match="same queries"):
        metrics.paired_bootstrap(np.ones(3), np.ones(4))


def test_the_interval_covers_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(10)
    covered = 0
    for seed in range(300):
        interval = metrics.bootstrap((rng.random(120) < 0.3).astype(float), n=300, seed=seed)
        covered += interval.low <= 0.3 <= interval.high
    assert 0.90 <= covered / 300 <= 0.98


def test_the_interval_is_that_of_scipy() -> None:
    from scipy.stats import bootstrap

    values = np.random.default_rng(11).exponential(size=400)
    ours = metrics.bootstrap(values, n=4000, seed=1)
    theirs = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=2).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.012)


def test_the_same_seed_gives_the_same_interval_whatever_else_is_measured() -> None:
    values = np.random.default_rng(12).random((2, 500))
    alone = metrics.bootstrap(values[1], n=200, seed=3)
    together = metrics.bootstrap_all({"a": values[0], "b": values[1]}, n=200, seed=3)["b"]
    assert alone == pytest.approx(together, rel=1e-12)
    assert alone != metrics.bootstrap(values[1], n=200, seed=4)


def test_a_pair_that_differs_by_little_but_always_is_told_apart() -> None:
    rng = np.random.default_rng(13)
    b = rng.random(300)
    gain = metrics.paired_bootstrap(b + 0.01 + rng.normal(size=300) * 0.01, b)
    assert 0 < gain.low < gain.value < gain.high < 0.02
    separate = metrics.bootstrap(b)
    assert separate.high - separate.low > 0.05, "unpaired intervals would overlap"


def test_large_inputs_are_resampled_in_blocks() -> None:
    values = (np.arange(3_000_000) % 4 == 0).astype(float)
    interval = metrics.bootstrap(values, n=3)
    assert interval.value == 0.25
    assert interval.low == pytest.approx(0.25, abs=0.002)


@pytest.mark.parametrize("seed", range(3))
def test_from_ranks_alone_come_the_same_figures_as_from_whole_rankings(seed: int) -> None:
    relevant, total = ranked(seed)
    shown = relevant[:, :9]  # what stands behind rank 9 is never shown
    hidden = 2**31 - 1
    places = [np.flatnonzero(row) + 1 for row in relevant]
    ranks = np.concatenate([np.where(row > 9, hidden, row)[::-1] for row in places])
    starts = np.concatenate([[0], np.cumsum(total)])
    found = metrics.at_ranks(ranks, starts, (1, 4, 9))
    expected = {"mrr": metrics.reciprocal_rank(shown)}
    expected["mrr"][~shown.any(axis=1) & (total > 0)] = 1 / hidden
    for k in (1, 4, 9):
        expected |= {
            f"hit_at_{k}": metrics.hit_at_k(shown, k),
            f"recall_at_{k}": metrics.recall_at_k(shown, k, total),
            f"precision_at_{k}": metrics.precision_at_k(shown, k),
            f"ndcg_at_{k}": metrics.ndcg_at_k(shown, k, total),
            f"map_at_{k}": metrics.average_precision_at_k(shown, k, total),
        }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_auroc_of_ranks_is_that_of_scikit_learn(seed: int) -> None:
    from sklearn.metrics import roc_auc_score

    relevant, total = ranked(seed)
    places = [np.flatnonzero(row) + 1 for row in relevant]
    starts = np.concatenate([[0], np.cumsum(total)])
    found = metrics.at_ranks(np.concatenate(places), starts, (1,), np.full(25, 12))["auroc"]
    for value, row in zip(found, relevant, strict=True):
        expected = roc_auc_score(row, -np.arange(12)) if 0 < row.sum() < 12 else 0.5
        assert value == pytest.approx(expected)


def test_a_right_answer_that_is_never_shown_stands_behind_all_wrong_ones() -> None:
    never = 2**31 - 1
    found = metrics.at_ranks(np.array([1, never, never]), np.array([0, 2, 3]), (2,), np.array([5, 3]))
    assert found["auroc"].tolist() == [0.5, 0.0]
    assert found["recall_at_2"].tolist() == [0.5, 0.0]


def labelled(seed: int, rows: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities with ties, labels that are more often true where they are high, and uneven groups."""
    rng = np.random.default_rng(seed)
    probability = np.round(rng.beta(1, 3, rows), 2)
    return probability, rng.random(rows) < probability**0.7, rng.integers(0, 60, rows) ** 2 // 40


@pytest.mark.parametrize("seed", range(4))
def test_auroc_is_that_of_scikit_learn_in_the_set_and_in_every_group(seed: int) -> None:
    from sklearn.metrics import roc_auc_score

    scores, positive, groups = labelled(seed)
    assert metrics.auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
    names, values = metrics.auroc_by(groups, scores, positive)
    expected = {}
    for group in np.unique(groups):
        own = groups == group
        if len(set(positive[own].tolist())) == 2:
            expected[int(group)] = roc_auc_score(positive[own], scores[own])
    assert 0 < len(expected) < len(np.unique(groups)), "a group of one kind is among them"
    assert dict(zip(names.tolist(), values.tolist(), strict=True)) == pytest.approx(expected)


def test_a_constant_score_has_half_and_one_class_has_no_auroc() -> None:
    assert metrics.auroc(np.ones(7), np.arange(7) < 3) == 0.5
    with pytest.raises(ValueError, match="needs both"):
        metrics.auroc(np.arange(4.0), np.ones(4, bool))
    with pytest.raises(ValueError, match="NaN"):
        metrics.auroc(np.array([0.1, np.nan]), np.array([True, False]))
    with pytest.raises(ValueError, match="bool labels"):
        metrics.log_loss(np.array([0.1, 0.2]), np.array([1, 0]))


def test_the_interval_of_auroc_is_that_of_its_bootstrap_and_covers() -> None:
    from sklearn.metrics import roc_auc_score

    scores, positive, _ = labelled(9)
    found = metrics.auroc_interval(scores, positive)
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, 400, 400) for _ in range(600)]
    low, high = np.quantile([metrics.auroc(scores[d], positive[d]) for d in draws], [0.025, 0.975])
    assert (found.value, found.low, found.high) == pytest.approx(
        (roc_auc_score(positive, scores), low, high), abs=0.012
    )
    covered = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        good = rng.random(200) < 0.3
        one = metrics.auroc_interval(rng.normal(size=200) + good, good)
        covered += one.low <= 0.7602 <= one.high  # Φ(1/√2)
    assert 0.91 <= covered / 300 <= 0.98


def test_two_models_that_err_alike_are_told_apart_by_pairs() -> None:
    rng = np.random.default_rng(1)
    positive = rng.random(900) < 0.4
    shared = rng.normal(size=900) + 0.8 * positive
    better, worse = shared + 0.25 * positive, shared + 0.1 * rng.normal(size=900)
    gain = metrics.paired_auroc(better, worse, positive)
    assert gain.value == pytest.approx(metrics.auroc(better, positive) - metrics.auroc(worse, positive))
    assert gain.low > 0
    apart = metrics.auroc_interval(better, positive), metrics.auroc_interval(worse, positive)
    assert apart[0].low < apart[1].high, "unpaired intervals overlap"


@pytest.mark.parametrize("seed", range(3))
def test_log_loss_and_calibration_are_those_of_scikit_learn_and_torchmetrics(seed: int) -> None:
    import torch
    from sklearn.metrics import log_loss
    from torchmetrics.functional.classification import binary_calibration_error

    probability, positive, _ = labelled(seed)
    probability = np.random.default_rng(seed).permutation(probability) + 1e-4  # off the bins' edges
    assert metrics.log_loss(probability, positive).mean() == pytest.approx(log_loss(positive, probability))
    expected = binary_calibration_error(torch.tensor(probability), torch.tensor(positive).long(), n_bins=10)
    found = metrics.calibration(probability, positive, bins=10)
    assert found.error == pytest.approx(float(expected), abs=1e-6)
    assert found.counts.sum() == 400
    for number in np.flatnonzero(found.counts):
        own = (probability * 10).astype(int) == number
        assert found.predicted[number] == pytest.approx(probability[own].mean())
        assert found.observed[number] == pytest.approx(positive[own].mean())


def test_certainty_that_proves_wrong_costs_much_but_not_everything() -> None:
    found = metrics.log_loss(np.array([0.0, 1.0, 1.0, 0.25]), np.array([True, False, True, True]))
    assert found[:2] == pytest.approx([36.04, 36.04], abs=0.01)
    assert found[2:] == pytest.approx([0, np.log(4)])
    with pytest.raises(ValueError, match="0 to 1"):
        metrics.calibration(np.array([1.2]), np.array([True]))


def test_coverage_and_novelty_by_hand() -> None:
    slates = np.array([[1, 4, 0], [4, 1, 2], [0, 0, 0]])
    assert metrics.coverage(slates, 10) == pytest.approx(0.3)
    counts = np.array([99, 7, 0, 5, 3])  # of 7 users; everybody has item 1, nobody item 2
    bits = metrics.novelty(slates, counts, 7)
    assert bits == pytest.approx([(0 + 1) / 2, (1 + 0 + 3) / 3, 0])


def test_ranks_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="ranks from 1 on"):
        metrics.at_ranks(np.array([0]), np.array([0, 1]), (1,))
    with pytest.raises(ValueError, match="queries for 2"):
        metrics.at_ranks(np.array([1]), np.array([0, 2]), (1,))
    with pytest.raises(ValueError, match="k = 0"):
        metrics.at_ranks(np.array([1]), np.array([0, 1]), (0,))


def test_a_share_has_wilsons_interval() -> None:
    """Of Newcombe, Statistics in Medicine 1998, table I: 81 of 263."""
    found = metrics.share_interval(81 / 263, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    assert metrics.share_interval(0.0, 20).low == 0 and metrics.share_interval(1.0, 20).high == 1
