"""The simple systems, against scikit-learn where it has them."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import NearestCentroid

from etalage.errors import TooLittleData
from etalage.evaluation.protocols import raw_pixels
from etalage.evaluation.simple_categories import majority, nearest_mean, raw_pixel_knn, title_naive_bayes

RNG = np.random.default_rng(8)
LEAVES = 6
LABELS = RNG.choice(LEAVES - 1, 240, p=[0.4, 0.25, 0.2, 0.1, 0.05])  # the last leaf was never seen
WORDS = ["apple", "pear", "saw", "bread", "blue", "new", "Äpfel", "500g"]


def titles(labels: np.ndarray, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    own = np.where(
        rng.random((len(labels), 4)) < 0.5, labels[:, None], rng.integers(0, len(WORDS), (len(labels), 4))
    )
    return [" ".join(WORDS[n] for n in row) for row in own]


def test_the_majority_is_the_same_for_everything() -> None:
    found = majority(LABELS, 3, LEAVES).probabilities_NL
    assert found.shape == (3, LEAVES) and (found.argmax(axis=1) == np.bincount(LABELS).argmax()).all()
    assert found[1].tolist() == pytest.approx((np.bincount(LABELS, minlength=LEAVES) / 240).tolist())


def photos(labels: np.ndarray, noise: float, seed: int) -> np.ndarray:
    stamps = np.random.default_rng(0).integers(0, 256, (LEAVES, 8, 8, 3))
    drawn = stamps[labels] + np.random.default_rng(seed).normal(0, noise, (len(labels), 8, 8, 3))
    return np.clip(drawn, 0, 255).astype(np.uint8)


def test_the_nearest_photo_by_pixels_decides() -> None:
    train, asked = photos(LABELS, 90, 1), photos(LABELS[:50], 90, 2)
    found = raw_pixel_knn(train, LABELS, asked, LEAVES, k=1).probabilities_NL
    nearest = (raw_pixels(asked) @ raw_pixels(train).T).argmax(axis=1)
    assert found.argmax(axis=1).tolist() == LABELS[nearest].tolist()
    assert np.allclose(found.sum(axis=1), 1, atol=1e-5) and found.dtype == np.float32
    several = raw_pixel_knn(train, LABELS, asked, LEAVES, k=5).probabilities_NL
    assert (several.argmax(axis=1) == LABELS[:50]).mean() > 0.9
    assert np.allclose(
        raw_pixel_knn(train[:3], LABELS[:3], asked, LEAVES, k=9).probabilities_NL.sum(axis=1), 1, atol=1e-5
    )


def test_the_nearest_mean_is_scikit_learns_on_unit_features() -> None:
    means = RNG.normal(size=(LEAVES, 12))
    train = (means[LABELS] + 0.6 * RNG.normal(size=(240, 12))).astype(np.float32)
    asked = (means[LABELS[:90]] + 0.6 * RNG.normal(size=(90, 12))).astype(np.float32)
    found = nearest_mean(train, LABELS, asked, LEAVES).probabilities_NL

    def units(features: np.ndarray) -> np.ndarray:
        centred = features - train.mean(axis=0)
        return centred / np.linalg.norm(centred, axis=1, keepdims=True)

    reference = NearestCentroid().fit(units(train), LABELS)
    # Centroids of units have almost the same length here, so Euclid and the cosine agree almost everywhere.
    assert (found.argmax(axis=1) == reference.predict(units(asked))).mean() > 0.93
    assert (found.argmax(axis=1) == LABELS[:90]).mean() > 0.9
    assert (found[:, LEAVES - 1] == 0).all() and np.allclose(found.sum(axis=1), 1, atol=1e-5)


def test_naive_bayes_is_scikit_learns() -> None:
    train, asked = titles(LABELS, 1), titles(LABELS[:70], 2)
    counter = CountVectorizer(token_pattern=r"\w+").fit(train)
    reference = MultinomialNB(alpha=1.0).fit(counter.transform(train), LABELS)
    found = title_naive_bayes(train, LABELS, [*asked, "unseen words", None, ""], LEAVES).probabilities_NL
    # scikit-learn's denominator is total + W; here one word more, for all the words that were not seen.
    assert np.abs(found[:70, : LEAVES - 1] - reference.predict_proba(counter.transform(asked))).max() < 0.02
    shares = np.bincount(LABELS, minlength=LEAVES) / 240
    for row in (70, 71, 72):
        assert found[row] == pytest.approx(shares, abs=1e-6)
    assert (found[:, LEAVES - 1] == 0).all() and np.allclose(found.sum(axis=1), 1, atol=1e-5)


def test_more_rows_than_a_block_are_answered_alike() -> None:
    train = titles(LABELS, 1)
    asked = titles(np.tile(LABELS, 12), 3)
    whole = title_naive_bayes(train, LABELS, asked, LEAVES).probabilities_NL
    assert len(whole) > 2 * 1024
    assert np.allclose(
        whole[1500:1510], title_naive_bayes(train, LABELS, asked[1500:1510], LEAVES).probabilities_NL
    )


def test_f49_without_a_label_there_is_nothing_to_count() -> None:
    with pytest.raises(TooLittleData, match="no training item"):
        majority(LABELS[:0], 3, LEAVES)
    with pytest.raises(ValueError, match="labels from"):
        majority(LABELS, 3, 2)
    assert raw_pixel_knn(
        photos(LABELS[:1], 9, 1), LABELS[:1], photos(LABELS[:2], 9, 1), LEAVES
    ).probabilities_NL.shape == (2, LEAVES)
    assert title_naive_bayes([None], LABELS[:1], ["x"], LEAVES).probabilities_NL[0, LABELS[0]] == 1
