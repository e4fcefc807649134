"""Linear heads over features: what each leaves out, their widths, and that they are the same every time."""

import numpy as np
import pytest

from etalage.models.feature_heads import HEADS, Head, solve_head

CLASSES, EACH, WIDTH = 6, 30, 16


def features(seed: int = 0, noise: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Categories lie apart in four directions; in four others all photos differ much, whatever they show."""
    rng = np.random.default_rng(seed)
    labels = np.arange(CLASSES * EACH) % CLASSES
    found = rng.normal(0, 0.3, (len(labels), WIDTH))
    found[:, :4] += np.random.default_rng(9).normal(0, 1, (CLASSES, 4))[labels]
    found[:, 4:8] += rng.normal(0, noise, (len(labels), 4))
    return found.astype(np.float32), labels


def hits(embeddings: np.ndarray, labels: np.ndarray) -> float:
    scores = embeddings @ embeddings.T
    np.fill_diagonal(scores, -np.inf)
    return float((labels[scores.argmax(axis=1)] == labels).mean())


@pytest.mark.parametrize("head", HEADS)
def test_every_head_makes_unit_embeddings_of_the_width_that_it_says(head: Head) -> None:
    found, labels = features()
    solved = solve_head(head, found, labels, 10, 0.1)
    widths = {"plain": WIDTH, "whitened": 10, "within_class": 10, "discriminant": CLASSES - 1}
    assert solved.dimension == widths[head]
    made = solved(found)
    assert made.shape == (len(found), widths[head]) and made.dtype == np.float32
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    assert np.isfinite(solved(np.zeros((2, WIDTH), np.float32))).all()


def test_what_differs_within_a_category_is_told_from_what_differs_between_them() -> None:
    found, labels = features()
    plain, within, discriminant = (
        hits(solve_head(head, found, labels, WIDTH, 0.01)(found), labels)
        for head in ("plain", "within_class", "discriminant")
    )
    assert plain < 0.5 < 0.9 < min(within, discriminant)


def test_within_class_finds_categories_that_it_never_saw() -> None:
    found, labels = features()
    learned, new = labels < 4, labels >= 4
    solved = solve_head("within_class", found[learned], labels[learned], WIDTH, 0.01)
    plain = solve_head("plain", found[learned], labels[learned], WIDTH, 0.01)
    assert hits(solved(found[new]), labels[new]) > hits(plain(found[new]), labels[new]) + 0.2


@pytest.mark.parametrize("head", HEADS)
def test_the_same_photos_give_the_same_head_to_the_last_bit(head: Head) -> None:
    found, labels = features()
    one, other = (solve_head(head, found.copy(), labels.copy(), 8, 0.1)(found) for _ in range(2))
    assert np.array_equal(one, other)


def test_fewer_photos_than_features_are_solved_too() -> None:
    found, labels = features()
    for head in HEADS:
        few = solve_head(head, found[:7], labels[:7], 64, 0.1)
        assert np.isfinite(few(found)).all()


def test_one_category_alone_has_no_means_that_differ_and_breaks_nothing() -> None:
    found, _ = features()
    solved = solve_head("discriminant", found, np.zeros(len(found), np.int64), 8, 0.1)
    assert np.isfinite(solved(found)).all()
