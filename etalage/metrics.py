"""How good answers are: pure functions of numpy arrays, one value a query; and their intervals.

`relevant` is (Q, K) bool: is the answer at rank 1…K right? A query with fewer than K answers is
filled up with False. `total` is (Q,) whole numbers: how many right answers there are to be found at
all. A query with none scores 0, as in torchmetrics (`empty_target_action="neg"`). Every function
raises ValueError for arrays whose shapes do not fit, or k outside 1…K.

Where whole catalogues are ranked, `at_ranks` gives the same figures from the ranks of the right answers
alone. `scores` and `positive`, (R,) numbers and bool, are rows with a label, such as shown and clicked.
"""

from collections.abc import Mapping, Sequence
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


def at_ranks(
    ranks: np.ndarray, starts: np.ndarray, ks: Sequence[int], candidates: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """(Q,) float64 by name: hit, recall, precision, ndcg, map _at_k, and mrr over all ranks.

    ranks: (T,) of the right answers, 1 = first, no two of a query the same; a right answer that is never
    shown has a rank beyond every k. Those of query q are ranks[starts[q] : starts[q + 1]].
    candidates: (Q,) how many answers were ranked; with it there is `auroc` too: the share of pairs of a
    right and a wrong answer that stand in the right order, 0.5 where there is no such pair.
    """
    starts, count = np.asarray(starts, np.int64), len(starts) - 1
    if len(ranks) != starts[-1] or (len(ranks) and np.min(ranks) < 1):
        raise ValueError(f"{len(ranks)} ranks from 1 on, but queries for {starts[-1]}")
    total = np.diff(starts)
    owners = np.repeat(np.arange(count), total)
    ranks = np.asarray(ranks, np.int64)[np.lexsort((ranks, owners))]
    nth = np.arange(len(ranks)) - np.repeat(starts[:-1], total) + 1

    def sums(weights: np.ndarray) -> np.ndarray:
        return np.bincount(owners, weights, minlength=count).astype(np.float64)

    first = np.zeros(count)
    first[total > 0] = 1 / ranks[starts[:-1][total > 0]]
    values: dict[str, np.ndarray] = {}
    for k in sorted(set(ks)):
        if k < 1:
            raise ValueError(f"k = {k}: from 1 on")
        inside = ranks <= k
        found, most = sums(inside), np.minimum(total, k)
        perfect = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
        values[f"hit_at_{k}"] = (found > 0).astype(np.float64)
        values[f"recall_at_{k}"] = _over(found, total)
        values[f"precision_at_{k}"] = found / k
        values[f"ndcg_at_{k}"] = _over(sums(inside / np.log2(1.0 + ranks)), perfect[most])
        values[f"map_at_{k}"] = _over(sums(inside * nth / ranks), most)
    values["mrr"] = first
    if candidates is not None:
        ranked = sums(ranks <= np.asarray(candidates)[owners])
        wrong = np.asarray(candidates) - ranked
        above = sums(np.minimum(ranks - nth, wrong[owners]))
        pairs = total * wrong
        values["auroc"] = 1 - np.divide(above, pairs, out=np.full(count, 0.5), where=pairs > 0)
    return values


def coverage(slates: np.ndarray, items: int) -> float:
    """The share of `items` items that stand in at least one of the (Q, K) slates; row 0 is no item."""
    shown = np.unique(slates)
    return float(np.count_nonzero(shown > 0) / items) if items else 0.0


def novelty(slates: np.ndarray, counts: np.ndarray, users: int) -> np.ndarray:
    """(Q,) float64: mean self-information of the items of each slate, in bits; row 0 is no item.

    -log2 of the share of users that acted on the item (Zhou et al., PNAS 2010), where `counts` is (N + 1,)
    users by item row. One imagined user has acted on every item, so that a new one is not infinitely new.
    """
    bits = -np.log2((np.asarray(counts, np.float64) + 1) / (users + 1))
    there = np.asarray(slates) > 0
    return _over((bits[slates] * there).sum(axis=1), there.sum(axis=1))


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The chance that a positive row scores above a negative one; equal scores count half.

    Mann and Whitney (1947). Raises ValueError where all rows are positive, or none.
    """
    return float(_placements(scores, positive)[0].mean())


def auroc_by(groups: np.ndarray, scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(G,) groups, ascending, and (G,) float64 AUROC within each; groups of one kind of row are left out.

    With users as groups: does the model know what each of them likes, not only who likes much?
    """
    groups, scores, positive = _labelled(groups, scores, positive)
    order = np.lexsort((scores, groups))
    groups, scores, positive = groups[order], scores[order], positive[order]
    names, begin, code = np.unique(groups, return_index=True, return_inverse=True)
    fresh = np.ones(len(order), bool)
    fresh[1:] = (np.diff(code) > 0) | (scores[1:] != scores[:-1])
    block = np.cumsum(fresh) - 1
    edges = np.append(np.flatnonzero(fresh), len(order))
    place = (edges[block] + edges[block + 1] - 1) / 2 - begin[code]  # the middle of those that are equal
    good = np.bincount(code, positive, minlength=len(names))
    bad = np.bincount(code, ~positive, minlength=len(names))
    wins = np.bincount(code, place * positive, minlength=len(names)) - good * (good - 1) / 2
    both = (good > 0) & (bad > 0)
    return names[both], wins[both] / (good * bad)[both]


def auroc_interval(scores: np.ndarray, positive: np.ndarray) -> "Interval":
    """AUROC with its 95% interval by DeLong et al. (Biometrics 1988), which takes rows for independent."""
    return _delong(*_placements(scores, positive))


def paired_auroc(a: np.ndarray, b: np.ndarray, positive: np.ndarray) -> "Interval":
    """AUROC of `a` less that of `b` on the same rows, with its 95% interval by DeLong et al. (1988)."""
    ours, theirs = _placements(a, positive), _placements(b, positive)
    return _delong(ours[0] - theirs[0], ours[1] - theirs[1])


def log_loss(probability: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """(R,) float64: minus the logarithm of what was given to what came true; lower is better."""
    probability, positive = _labelled(probability, positive)
    tiny = np.finfo(np.float64).eps
    given = np.clip(np.where(positive, probability, 1 - probability.astype(np.float64)), tiny, 1)
    return np.asarray(-np.log(given))


class Calibration(NamedTuple):
    """Rows by predicted probability, in bins of equal width; a bin without rows holds zeros."""

    predicted: np.ndarray
    """(bins,) mean probability."""
    observed: np.ndarray
    """(bins,) share of positives."""
    counts: np.ndarray
    """(bins,) rows."""
    error: float
    """Expected calibration error: mean of |predicted - observed| over rows (Naeini et al., AAAI 2015)."""


def calibration(probability: np.ndarray, positive: np.ndarray, bins: int = 15) -> Calibration:
    """Does what is said to happen in one of ten cases happen in one of ten? Raises ValueError: not 0 … 1."""
    probability, positive = _labelled(probability, positive)
    if len(probability) == 0 or not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("probabilities from 0 to 1, at least one, are needed")
    at = np.minimum((probability * bins).astype(np.int64), bins - 1)
    counts = np.bincount(at, minlength=bins)
    predicted = _over(np.bincount(at, probability, minlength=bins), counts)
    observed = _over(np.bincount(at, positive, minlength=bins), counts)
    error = float((np.abs(predicted - observed) * counts).sum() / len(at))
    return Calibration(predicted, observed, counts, error)


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


def share_interval(share: float, count: int) -> Interval:
    """A share of `count` questions with its 95% interval (Wilson, 1927), where their answers are not kept."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


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


def _labelled(*columns: np.ndarray) -> list[np.ndarray]:
    """All as arrays of the same length; the last one is the labels, before it stand the scores."""
    arrays = [np.asarray(column) for column in columns]
    *_, scores, positive = arrays
    if positive.dtype != np.bool_ or any(one.shape != positive.shape or one.ndim != 1 for one in arrays):
        raise ValueError(f"(R,) values and bool labels of the same rows, not {[one.shape for one in arrays]}")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    return arrays


def _placements(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive row the share of negatives below it, for each negative that of positives above it."""
    scores, positive = _labelled(scores, positive)
    good, bad = scores[positive], scores[~positive]
    if len(good) == 0 or len(bad) == 0:
        raise ValueError(f"{len(good)} positive rows and {len(bad)} negative ones: AUROC needs both")
    return _below(bad, good), 1 - _below(good, bad)


def _below(these: np.ndarray, those: np.ndarray) -> np.ndarray:
    """The share of `these` below each of `those`; equal ones count half."""
    ordered = np.sort(these)
    left, right = (np.searchsorted(ordered, those, side) for side in ("left", "right"))
    return np.asarray((left + right) / (2 * len(these)))


def _delong(good: np.ndarray, bad: np.ndarray) -> "Interval":
    """From placement values: the variances of the mean of the good ones and of the bad ones add up."""
    parts = [float(one.var(ddof=1)) / len(one) if len(one) > 1 else 0.25 for one in (good, bad)]
    value, reach = float(good.mean()), 1.959964 * sum(parts) ** 0.5
    return Interval(value, value - reach, value + reach)
