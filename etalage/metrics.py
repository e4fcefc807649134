"""How good answers are: pure functions of numpy arrays, one value a query; and their intervals.

`relevant` is (Q, K) bool: is the answer at rank 1…K right? A query with fewer than K answers is
filled up with False. `total` is (Q,) whole numbers: how many right answers there are to be found at
all. A query with none scores 0, as in torchmetrics (`empty_target_action="neg"`). Every function
raises ValueError for arrays whose shapes do not fit, or k outside 1…K.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


def precision_at_k(relevant: np.ndarray, k: int) -> np.ndarray:
    """(Q,) float64: right answers among the first k, over k."""
    return np.asarray(_first(relevant, k).mean(axis=1))


def recall_at_k(relevant: np.ndarray, k: int, total: np.ndarray) -> np.ndarray:
    """(Q,) float64: right answers among the first k, over `total`."""
    top = _first(relevant, k)
    return _over(top.sum(axis=1), _totals(total, top))


def hit_at_k(relevant: np.ndarray, k: int) -> np.ndarray:
    """(Q,) float64: 1 if one of the first k is right. The R@k of the metric-learning literature."""
    return np.asarray(_first(relevant, k).any(axis=1), np.float64)


def average_precision_at_k(relevant: np.ndarray, k: int, total: np.ndarray) -> np.ndarray:
    """(Q,) float64: Σ_{i≤k} relevant_i · precision@i, over min(total, k). Its mean is MAP@k.

    Divided by what could be found, so 1 means that nothing better was possible. torchmetrics divides
    by what *was* found in the first k (one hit at rank 1 and nine misses score 1); the two agree when
    all right answers are among the first k.
    """
    top = _first(relevant, k)
    precisions = np.cumsum(top, axis=1) / np.arange(1, k + 1)
    return _over((precisions * top).sum(axis=1), np.minimum(_totals(total, top), k))


def ndcg_at_k(relevant: np.ndarray, k: int, total: np.ndarray) -> np.ndarray:
    """(Q,) float64: Σ_{i≤k} relevant_i / log2(i+1), over the same sum of a perfect answer."""
    top = _first(relevant, k)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    perfect = np.concatenate([[0.0], np.cumsum(discounts)])
    return _over(top @ discounts, perfect[np.minimum(_totals(total, top), k)])


def reciprocal_rank(relevant: np.ndarray) -> np.ndarray:
    """(Q,) float64: 1 over the rank of the first right answer, 0 without one. Its mean is MRR."""
    top = _first(relevant, np.shape(relevant)[1])
    return np.asarray(np.where(top.any(axis=1), 1 / (1 + top.argmax(axis=1)), 0.0))


def knn_vote(neighbour_labels: np.ndarray, k: int) -> np.ndarray:
    """(Q,) the label that most of the first k of (Q, K) neighbours bear, nearest first.

    Of equally frequent labels the one whose first bearer is nearest. The whole number -1 means "no
    neighbour": it does not vote, and is the answer where nobody does.
    """
    top = np.asarray(neighbour_labels)
    _check(top, k)
    labels, codes = np.unique(top[:, :k], return_inverse=True)
    codes = codes.reshape(len(top), k)
    votes_for = np.empty(codes.shape, np.int64)
    step = max(1, 2**22 // max(1, len(labels)))
    for start in range(0, len(top), step):
        block = codes[start : start + step]
        flat = block + np.arange(len(block))[:, None] * len(labels)
        votes = np.bincount(flat.ravel(), minlength=len(block) * len(labels))
        votes_for[start : start + step] = votes[flat]
    if np.issubdtype(top.dtype, np.integer):
        votes_for[top[:, :k] == -1] = 0
    return np.take_along_axis(top, votes_for.argmax(axis=1)[:, None], axis=1)[:, 0]


def knn_accuracy(neighbour_labels: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """(Q,) float64: 1 if the vote of the k nearest (see knn_vote) is the query's own label."""
    if np.shape(labels) != np.shape(neighbour_labels)[:1]:
        raise ValueError(f"{np.shape(labels)} labels for {np.shape(neighbour_labels)} neighbours")
    return np.asarray(knn_vote(neighbour_labels, k) == np.asarray(labels), np.float64)


class Interval(NamedTuple):
    """A mean and its 95% interval."""

    value: float
    low: float
    high: float


def bootstrap(per_query: np.ndarray, n: int = 1000, seed: int = 0) -> Interval:
    """The mean of (Q,) values with its 95% percentile interval over n resamples of the queries.

    Efron, "Bootstrap methods: another look at the jackknife" (1979). The same seed and number of
    queries draw the same resamples.
    """
    return bootstrap_all({"": per_query}, n, seed)[""]


def bootstrap_all(per_query: Mapping[str, np.ndarray], n: int = 1000, seed: int = 0) -> dict[str, Interval]:
    """`bootstrap` of several metrics of the same queries, drawing the resamples once."""
    if not per_query:
        return {}
    values = np.stack([np.asarray(one, np.float64) for one in per_query.values()], axis=-1)
    if values.ndim != 2 or len(values) == 0 or not np.isfinite(values).all():
        raise ValueError(f"bootstrap needs (Q,) finite values of at least one query, not {values.shape[:-1]}")
    count = len(values)
    rng = np.random.default_rng(seed)
    means = np.empty((n, values.shape[1]))
    step = max(1, 2**22 // count)
    for start in range(0, n, step):
        size = min(step, n - start)
        drawn = rng.integers(0, count, (size, count)) + np.arange(size)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        means[start : start + size] = times @ values / count
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    return {
        name: Interval(float(values[:, i].mean()), float(low[i]), float(high[i]))
        for i, name in enumerate(per_query)
    }


def paired_bootstrap(a: np.ndarray, b: np.ndarray, n: int = 1000, seed: int = 0) -> Interval:
    """`bootstrap` of mean(a - b), where (Q,) a and b are two systems' values of the same queries."""
    if np.shape(a) != np.shape(b):
        raise ValueError(f"not the same queries: {np.shape(a)} and {np.shape(b)} values")
    return bootstrap(np.asarray(a, np.float64) - np.asarray(b, np.float64), n, seed)


def _check(answers: np.ndarray, k: int) -> None:
    if answers.ndim != 2:
        raise ValueError(f"answers must be (Q, K), not {answers.shape}")
    if not 1 <= k <= answers.shape[1]:
        raise ValueError(f"k = {k} of {answers.shape[1]} answers")


def _first(relevant: np.ndarray, k: int) -> np.ndarray:
    relevant = np.asarray(relevant)
    _check(relevant, k)
    if relevant.dtype != np.bool_:
        raise ValueError(f"relevant must be bool, not {relevant.dtype}")
    return relevant[:, :k]


def _totals(total: np.ndarray, top: np.ndarray) -> np.ndarray:
    total = np.asarray(total)
    if total.shape != (len(top),) or not np.issubdtype(total.dtype, np.integer):
        raise ValueError(f"total must be ({len(top)},) whole numbers, not {total.dtype} {total.shape}")
    if np.any(total < top.sum(axis=1)):
        raise ValueError("more right answers than there are in total")
    return total


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.zeros(len(part), np.float64), where=whole > 0))
