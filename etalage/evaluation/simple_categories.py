"""The simple systems that a category model has to beat: each gives every item a distribution over L leaves.

Labels are (n,) int64 places among the leaves, of the training part alone. None of them needs more than one
pass over the data, and none has a setting that was tuned on what is judged.

    n training items   N items   L leaves   F features   W words
"""

import re
from collections.abc import Callable, Sequence

import numpy as np

from etalage.errors import TooLittleData
from etalage.evaluation.category_answers import Answers
from etalage.evaluation.protocols import raw_pixels
from etalage.runtime.leaf_decision import softmax

_WORD = re.compile(r"\w+")
_ROWS = 1024
_SCALE = 10.0
"""Of cosines to class means, before the softmax: it moves the confidence, never the answer."""


def majority(labels: np.ndarray, count: int, leaves: int) -> Answers:
    """The most frequent category for everything: each leaf as probable as it is frequent."""
    return Answers(np.tile(_shares(labels, leaves), (count, 1)))


def raw_pixel_knn(
    train_pixels: np.ndarray, labels: np.ndarray, pixels: np.ndarray, leaves: int, k: int = 5
) -> Answers:
    """The vote of the k photos whose pixels correlate most, (n, H, W, C) and (N, H, W, C) uint8.

    Votes weigh by their rank (1, 1/2, 1/3 …), so that the nearest decides between equals; a hundredth of the
    vote goes to the shares of the training part, so that nothing is impossible.
    """
    prior = _shares(labels, leaves)
    known, asked = raw_pixels(train_pixels), raw_pixels(pixels)
    k = min(k, len(known))
    votes = 1 / np.arange(1, k + 1)
    given = np.tile(0.01 * prior, (len(asked), 1))
    for start in range(0, len(asked), _ROWS):
        near = _nearest(asked[start : start + _ROWS] @ known.T, k)
        rows = np.arange(start, start + len(near))[:, None]
        np.add.at(given, (rows, labels[near]), (0.99 * votes / votes.sum()).astype(np.float32))
    return Answers(given)


def nearest_mean(
    train_features: np.ndarray, labels: np.ndarray, features: np.ndarray, leaves: int
) -> Answers:
    """The category whose mean feature points most the same way; what was never seen is never given.

    (n, F) and (N, F) float32, such as a frozen network's. Centred on the mean of the training part first.
    """
    there = _shares(labels, leaves) > 0
    centre = train_features.mean(axis=0)
    sums = np.zeros((leaves, train_features.shape[1]), np.float64)
    np.add.at(sums, labels, _units(train_features - centre))
    means = _units(sums)

    def scores(rows: slice) -> np.ndarray:
        return np.where(there, _SCALE * (_units(features[rows] - centre) @ means.T), -np.inf)

    return _in_blocks(len(features), leaves, scores)


def title_naive_bayes(
    train_titles: Sequence[str | None], labels: np.ndarray, titles: Sequence[str | None], leaves: int
) -> Answers:
    """Multinomial naive Bayes over the words of titles, each counted once more than seen (Laplace).

    McCallum and Nigam, A Comparison of Event Models for Naive Bayes Text Classification, AAAI workshop 1998.
    A title that is missing, or has no word that was seen, gets the shares of the training part.
    """
    from scipy.sparse import csr_matrix

    prior = _shares(labels, leaves)
    vocabulary: dict[str, int] = {}
    for title in train_titles:
        for word in _words(title):
            vocabulary.setdefault(word, len(vocabulary))

    def counted(of: Sequence[str | None]) -> "csr_matrix":
        found = [[vocabulary[word] for word in _words(title) if word in vocabulary] for title in of]
        starts = np.concatenate([[0], np.cumsum([len(words) for words in found])])
        flat = np.array([word for words in found for word in words], np.int64)
        return csr_matrix((np.ones(len(flat)), flat, starts), shape=(len(of), len(vocabulary)))

    member = csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))), shape=(leaves, len(labels)))
    counts_LW = member @ counted(train_titles)
    # log((count + 1) / (total + W)): only what a count adds to the log of 1 is stored, so it stays sparse.
    lengths_L = np.log(np.asarray(counts_LW.sum(axis=1)).ravel() + len(vocabulary) + 1)
    counts_LW.data = np.log1p(counts_LW.data)
    with np.errstate(divide="ignore"):
        prior_L = np.log(prior.astype(np.float64))

    def scores(rows: slice) -> np.ndarray:
        asked = counted(titles[rows])
        words = np.asarray(asked.sum(axis=1))
        return np.asarray(prior_L - words.reshape(-1, 1) * lengths_L + (asked @ counts_LW.T).toarray())

    return _in_blocks(len(titles), leaves, scores)


def _shares(labels: np.ndarray, leaves: int) -> np.ndarray:
    """(L,) float32. Raises TooLittleData: no label; ValueError: one that is no place."""
    if len(labels) == 0:
        raise TooLittleData("no training item with a category: nothing to count")
    if labels.min() < 0 or labels.max() >= leaves:
        raise ValueError(f"labels from {labels.min()} to {labels.max()}, but places are 0 … {leaves - 1}")
    return (np.bincount(labels, minlength=leaves) / len(labels)).astype(np.float32)


def _nearest(scores: np.ndarray, k: int) -> np.ndarray:
    """(B, k) columns of the highest scores, best first; of equals the first column leads."""
    some = np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)
    order = np.argsort(-np.take_along_axis(scores, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def _words(title: str | None) -> list[str]:
    return _WORD.findall((title or "").casefold())


def _units(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)


def _in_blocks(count: int, leaves: int, scores: Callable[[slice], np.ndarray]) -> Answers:
    """The softmax of (B, L) scores of each block of rows: (N, L) of anything but the answer never exists."""
    given = np.empty((count, leaves), np.float32)
    for start in range(0, count, _ROWS):
        rows = slice(start, start + _ROWS)
        given[rows] = softmax(scores(rows))
    return Answers(given)
