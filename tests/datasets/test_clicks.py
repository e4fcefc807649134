"""Synthetic clicks: what is known about them must be so."""

import numpy as np
import pytest

from etalage.datasets.clicks import CARDINALITIES, CLASSES, draw_clicks
from etalage.metrics import auroc

ROWS = 60_000


def test_the_same_seed_draws_the_same_clicks_and_another_seed_others() -> None:
    one, again, other = (draw_clicks(3000, seed).examples.fingerprint() for seed in (4, 4, 5))
    assert one == again != other


def test_labels_come_true_as_often_as_their_probability_says() -> None:
    clicks = draw_clicks(ROWS)
    chance, label = clicks.truth[:, 0], clicks.examples.labels[:, 0]
    assert set(np.unique(label)) == {0.0, 1.0}
    assert label.mean() == pytest.approx(0.25, abs=0.02)
    for low in np.arange(0, 1, 0.2):
        rows = (chance >= low) & (chance < low + 0.2)
        error = 4 * (chance[rows].mean() * (1 - chance[rows].mean()) / rows.sum()) ** 0.5
        assert label[rows].mean() == pytest.approx(chance[rows].mean(), abs=error)


def test_no_other_order_of_the_rows_is_better_than_the_true_one() -> None:
    clicks = draw_clicks(ROWS)
    rows = clicks.examples.rows("test")
    best = clicks.best_auroc()
    assert 0.75 < best < 0.87
    label, chance = clicks.examples.labels[rows, 0] > 0, clicks.truth[rows, 0]
    noise = np.random.default_rng(0).normal(size=len(rows))
    assert auroc(chance + 0.1 * noise, label) < best
    assert auroc(clicks.examples.dense[rows, 0], label) < best - 0.1


def test_features_fit_their_vocabularies_and_are_unevenly_used() -> None:
    examples = draw_clicks(ROWS).examples
    assert examples.sparse.shape == (ROWS, 26) and examples.dense.shape == (ROWS, 13)
    assert examples.sparse.min(axis=0).tolist() == [1] * 26
    for column, (count, size) in enumerate(zip(CARDINALITIES, examples.sizes, strict=True)):
        assert size == count + 1
        values = examples.sparse[:, column]
        assert values.max() <= count
        expected = np.log(2) / np.log(count + 1)
        assert (values == 1).mean() == pytest.approx(expected, abs=0.01)
    assert examples.sparse[:, 0].max() == CARDINALITIES[0]


def test_parts_are_cut_in_order() -> None:
    examples = draw_clicks(1000, validation=0.2, test=0.1).examples
    assert [len(examples.rows(part)) for part in ("train", "validation", "test")] == [700, 200, 100]
    assert np.all(np.diff(examples.parts.astype(int)) >= 0)


def test_the_interactions_cannot_be_seen_feature_by_feature() -> None:
    """Their mean over either partner is nothing: that is what a linear model sees of them."""
    flat, bent = draw_clicks(ROWS, interactions=0.0), draw_clicks(ROWS, main=0.0)

    def seen(clicks: object, column: int) -> float:
        examples, truth = clicks.examples, clicks.truth[:, 0]  # type: ignore[attr-defined]
        values = examples.sparse[:, column]
        counts = np.maximum(np.bincount(values), 1)
        mean = np.bincount(values, weights=truth) / counts
        return float(np.var(mean[values]) / np.var(truth))

    small = [column for column, count in enumerate(CARDINALITIES) if count <= 20]
    assert sum(seen(flat, column) for column in small) > 5 * sum(seen(bent, column) for column in small)


def test_a_number_is_its_expectation_and_as_much_noise() -> None:
    clicks = draw_clicks(ROWS, target="regression")
    left = clicks.examples.labels[:, 0] - clicks.truth[:, 0]
    assert left.mean() == pytest.approx(0, abs=0.03)
    assert left.var() == pytest.approx(clicks.truth.var(), rel=0.03)
    assert clicks.examples.label_names == ("value",)


def test_classes_are_ordered_and_all_occur() -> None:
    clicks = draw_clicks(ROWS, target="classes")
    labels = clicks.examples.labels[:, 0]
    assert sorted(set(labels.tolist())) == list(CLASSES)
    assert labels.mean() == pytest.approx(clicks.truth.mean(), abs=0.02)
    assert np.corrcoef(labels, clicks.truth[:, 0])[0, 1] > 0.4


def test_several_labels_agree_in_part() -> None:
    clicks = draw_clicks(ROWS, target="several")
    assert clicks.examples.label_names == ("click", "buy")
    agreement = np.corrcoef(clicks.truth.T)[0, 1]
    assert 0.2 < agreement < 0.8
    assert clicks.best_auroc(label=1) > 0.75


def test_too_few_sparse_features_are_refused() -> None:
    with pytest.raises(ValueError, match="14 at least"):
        draw_clicks(100, cardinalities=(3, 4))
