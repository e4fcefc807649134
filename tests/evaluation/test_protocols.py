"""Retrieval by category, against plain loops and on photos whose answer is known."""

import numpy as np
import pytest

from etalage.errors import TooLittleData
from etalage.evaluation.protocols import confusion, evaluate_embeddings, evaluate_photos, raw_pixels

LABELS = np.array(["bag", "boot", "coat", "dress > long", "hat"])


def shop(seed: int, count: int, noise: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """(N, 8) unit embeddings around one centre a category, and categories of unequal size."""
    centres = np.random.default_rng(99).normal(size=(5, 8))
    rng = np.random.default_rng(seed)
    codes = rng.choice(5, count, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    raw = centres[codes] + noise * rng.normal(size=(count, 8))
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32), LABELS[codes]


def test_every_metric_equals_its_definition_query_by_query() -> None:
    query, own = shop(1, 23)
    index, labels = shop(2, 140)
    scores = evaluate_embeddings(query, own, index, labels, (3, 1, 7), bootstrap=100)
    assert scores.neighbours.shape == scores.similarities.shape == (23, 7)
    for number in range(23):
        order = sorted(range(140), key=lambda i: (-float(query[number] @ index[i]), i))[:7]
        assert scores.neighbours[number].tolist() == order
        right = [labels[i] == own[number] for i in order]
        total = sum(labels == own[number])
        first = next((rank for rank, hit in enumerate(right, 1) if hit), None)
        expected = {"mrr": 1 / first if first else 0}
        for k in (1, 3, 7):
            found = sum(right[:k])
            gains = [sum(right[: i + 1]) / (i + 1) for i in range(k) if right[i]]
            near = [str(labels[i]) for i in order[:k]]
            vote = max(near, key=lambda name, near=near: (near.count(name), -near.index(name)))
            expected |= {
                f"precision_at_{k}": found / k,
                f"hit_at_{k}": float(found > 0),
                f"recall_at_{k}": found / total,
                f"map_at_{k}": sum(gains) / min(total, k),
                f"ndcg_at_{k}": sum(right[i] / np.log2(i + 2) for i in range(k))
                / sum(1 / np.log2(i + 2) for i in range(min(total, k))),
                f"knn_accuracy_at_{k}": float(vote == own[number]),
            }
        assert expected == pytest.approx({name: one[number] for name, one in scores.per_query.items()})
    for name, interval in scores.intervals.items():
        assert interval.value == pytest.approx(scores.per_query[name].mean())
        assert interval.low <= interval.value <= interval.high


def test_a_query_that_stands_in_the_index_is_not_its_own_answer() -> None:
    index, labels = shop(3, 90)
    chosen = np.array([5, 88, 0, 41])
    within = evaluate_embeddings(index[chosen], labels[chosen], index, labels, (4,), 100, exclude=chosen)
    for number, position in enumerate(chosen):
        rest = np.delete(np.arange(90), position)
        alone = evaluate_embeddings(
            index[[position]], labels[[position]], index[rest], labels[rest], (4,), 100
        )
        assert rest[alone.neighbours[0]].tolist() == within.neighbours[number].tolist()
        for name, values in alone.per_query.items():
            assert values[0] == pytest.approx(within.per_query[name][number]), name
    unmarked = evaluate_embeddings(index[chosen], labels[chosen], index, labels, (4,), 100)
    assert unmarked.neighbours[:, 0].tolist() == chosen.tolist(), "without `exclude` it would be"


def test_a_query_whose_copy_is_not_in_the_index_may_be_marked_minus_one() -> None:
    query, own = shop(4, 6)
    index, labels = shop(5, 50)
    plain = evaluate_embeddings(query, own, index, labels, (5,), 100)
    marked = evaluate_embeddings(query, own, index, labels, (5,), 100, exclude=np.full(6, -1))
    assert plain.neighbours.tolist() == marked.neighbours.tolist()
    assert plain.intervals == marked.intervals


def test_an_index_smaller_than_k_and_a_category_without_items_score_what_they_can() -> None:
    query, _ = shop(6, 2)
    index, _ = shop(7, 3)
    scores = evaluate_embeddings(query, ["bag", "scarf"], index, ["bag", "bag", "boot"], (5,), 100)
    assert (scores.neighbours[:, 3:] == -1).all() and np.isneginf(scores.similarities[:, 3:]).all()
    assert scores.per_query["precision_at_5"].tolist() == [2 / 5, 0]
    assert scores.per_query["recall_at_5"].tolist() == [1, 0]
    assert scores.per_query["knn_accuracy_at_5"].tolist() == [1, 0]


def test_f49_nothing_to_evaluate_is_refused() -> None:
    index, labels = shop(8, 4)
    with pytest.raises(TooLittleData, match="0 queries in an index of 4"):
        evaluate_embeddings(index[:0], labels[:0], index, labels, (1,))
    with pytest.raises(TooLittleData, match="index of 0"):
        evaluate_embeddings(index, labels, index[:0], labels[:0], (1,))


def test_systems_are_measured_side_by_side() -> None:
    good, own = shop(9, 40, noise=0.1)
    index, labels = shop(10, 200, noise=0.1)
    noise = np.random.default_rng(0).normal(size=(240, 5)).astype(np.float32)
    systems = {"model": (good, index), "noise": (noise[:40], noise[40:])}
    scores = evaluate_photos(systems, own, labels, (5,), 200)
    assert list(scores) == ["model", "noise"]
    assert scores["model"].intervals["precision_at_5"].low > scores["noise"].intervals["precision_at_5"].high
    assert scores["model"].to_json()["mrr"].keys() == {"value", "low", "high"}


def test_raw_pixels_compare_photos_by_their_correlation() -> None:
    rng = np.random.default_rng(1)
    photo = rng.integers(40, 200, (4, 6, 1)).astype(np.uint8)
    brighter, other, blank = photo + np.uint8(40), rng.integers(0, 256, (4, 6, 1)), np.full((4, 6, 1), 7)
    embedded = raw_pixels(np.stack([photo, brighter, other, blank]).astype(np.uint8))
    assert embedded.shape == (4, 24) and embedded.dtype == np.float32
    assert embedded[0] @ embedded[1] == pytest.approx(1, abs=1e-5)
    expected = np.corrcoef(photo.ravel(), other.ravel())[0, 1]
    assert embedded[0] @ embedded[2] == pytest.approx(expected, abs=1e-5)
    assert not embedded[3].any()


def test_confusion_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import confusion_matrix

    from etalage.metrics import knn_vote

    query, own = shop(11, 120, noise=1.2)
    index, labels = shop(12, 300, noise=1.2)
    scores = evaluate_embeddings(query, own, index, labels, (5,), 100)
    matrix, names = confusion(scores, own, labels, 5)
    assert names == LABELS.tolist()
    voted = knn_vote(labels[scores.neighbours], 5)
    np.testing.assert_array_equal(matrix, confusion_matrix(own, voted, labels=names))
    assert (matrix != matrix.T).any(), "symmetric: swapped rows and columns would not show"


def test_confusion_keeps_the_largest_categories_by_name() -> None:
    query, own = shop(13, 200)
    index, labels = shop(14, 300)
    scores = evaluate_embeddings(query, own, index, labels, (3,), 100)
    whole, names = confusion(scores, own, labels, 3)
    part, kept = confusion(scores, own, labels, 3, most=2)
    assert kept == ["bag", "boot"]
    at = [names.index(name) for name in kept]
    np.testing.assert_array_equal(part, whole[np.ix_(at, at)])


def test_confusion_leaves_out_answers_outside_the_queries_categories_and_missing_ones() -> None:
    query, index = np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32)[:2]
    scores = evaluate_embeddings(query, ["hat", "hat", "bag"], index, ["hat", "scarf"], (4,), 100)
    matrix, names = confusion(scores, ["hat", "hat", "bag"], ["hat", "scarf"], 1)
    assert names == ["bag", "hat"]
    assert matrix.tolist() == [[0, 1], [0, 1]]
