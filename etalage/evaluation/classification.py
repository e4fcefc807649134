"""How good the categories given to items are: pure functions of numpy arrays.

`truth_N` and `predicted_N` are (N,) int64 places among L categories; `correct_N` is (N,) bool, `confidence_N`
(N,) the probability that came with each answer. `weights_N`, where there is one, says how often each row
counts: a resample of the bootstrap. Every function raises ValueError for shapes that do not fit.

    N items   L categories   V what each is worth
"""

from typing import Literal, NamedTuple

import numpy as np

BINS = 15
_ROWS = 2**22


def ranks(probabilities_NL: np.ndarray, truth_N: np.ndarray) -> np.ndarray:
    """(N,) int64: the rank of the true category, 1 = most probable; of equals the first in order leads."""
    _fit(probabilities_NL[:, 0], truth_N)
    ranks_N = np.empty(len(truth_N), np.int64)
    count = probabilities_NL.shape[1]
    step = max(1, _ROWS // max(1, count))
    for start in range(0, len(truth_N), step):
        block, truth = probabilities_NL[start : start + step], truth_N[start : start + step, None]
        own = np.take_along_axis(block, truth, axis=1)
        before = (block > own) | ((block == own) & (np.arange(count) < truth))
        ranks_N[start : start + step] = before.sum(axis=1) + 1
    return ranks_N


def macro_f1(
    truth_N: np.ndarray, predicted_N: np.ndarray, categories: int, weights_N: np.ndarray | None = None
) -> float:
    """The mean over categories of 2 · hits / (true + predicted): each category counts alike, however rare.

    Over those categories that are true or predicted anywhere, as scikit-learn has it.
    """
    _fit(truth_N, predicted_N)
    hit = truth_N == predicted_N
    weights = np.ones(len(truth_N)) if weights_N is None else weights_N
    either = np.bincount(truth_N, weights, categories) + np.bincount(predicted_N, weights, categories)
    hits = np.bincount(truth_N[hit], weights[hit], categories)
    there = either > 0
    return float((2 * hits[there] / either[there]).mean()) if there.any() else 0.0


def value_weighted(correct_N: np.ndarray, value_N: np.ndarray, weights_N: np.ndarray | None = None) -> float:
    """Σ value · correct / Σ value; 0 where nothing is worth anything.

    value_N: what each row's category is worth, the true one's, or the predicted one's: both are in use.
    """
    _fit(correct_N, value_N)
    worth = value_N if weights_N is None else value_N * weights_N
    total = float(worth.sum())
    return float(worth[correct_N].sum() / total) if total > 0 else 0.0


class Reliability(NamedTuple):
    """Rows by confidence, (bins,) each; bins without a row are left out."""

    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: the mean of |confidence - accuracy| over rows."""
        return float((np.abs(self.confidence - self.accuracy) * self.counts).sum() / self.counts.sum())


def bins_of(confidence_N: np.ndarray, equal: Literal["mass", "width"], bins: int = BINS) -> np.ndarray:
    """(N,) int64 bin of each row: of about as many rows, or as wide as each other.

    Rows of the same confidence share a bin, however many they are: a system that is always as sure has one.
    """
    if equal == "width":
        return np.clip(np.ceil(confidence_N * bins).astype(np.int64) - 1, 0, bins - 1)
    edges = np.unique(np.quantile(confidence_N, np.arange(1, bins) / bins, method="inverted_cdf"))
    return np.searchsorted(edges, confidence_N, side="left").astype(np.int64)


def reliability(
    confidence_N: np.ndarray, correct_N: np.ndarray, bin_N: np.ndarray, weights_N: np.ndarray | None = None
) -> Reliability:
    """Is what is 80% sure right in 80% of cases? Bins from `bins_of` (Naeini et al., AAAI 2015; equal mass:
    Nixon et al., Measuring Calibration in Deep Learning, CVPR workshops 2019)."""
    _fit(confidence_N, correct_N, bin_N)
    weights = np.ones(len(bin_N)) if weights_N is None else weights_N
    counts = np.bincount(bin_N, weights)
    there = counts > 0
    confidence = np.bincount(bin_N, weights * confidence_N)[there] / counts[there]
    accuracy = np.bincount(bin_N, weights * correct_N)[there] / counts[there]
    return Reliability(confidence, accuracy, counts[there])


class Coverage(NamedTuple):
    """What abstaining buys: answers by confidence, surest first, (E,) at each different confidence."""

    threshold: np.ndarray
    """Answers from this confidence on are given."""
    coverage: np.ndarray
    """Their share of all."""
    accuracy: np.ndarray
    """How many of them are right."""
    risk_area: float
    """The mean over all coverages of the share of wrong answers; lower is better. AURC (Geifman, Uziel and
    El-Yaniv, Bias-Reduced Uncertainty Estimation, ICLR 2019)."""

    def at_accuracy(self, accuracy: float) -> float:
        """The largest coverage at which so many of the given answers are right; 0 where there is none."""
        reached = self.coverage[self.accuracy >= accuracy - 1e-12]
        return float(reached.max()) if len(reached) else 0.0

    def thinned(self, points: int = 200) -> "Coverage":
        """No more than so many points, evenly by place, the first and the last among them."""
        if len(self.coverage) <= points:
            return self
        kept = np.unique(np.linspace(0, len(self.coverage) - 1, points).astype(int))
        return Coverage(self.threshold[kept], self.coverage[kept], self.accuracy[kept], self.risk_area)


class Sureness:
    """Rows in the order of their confidence, sorted once for many resamples."""

    def __init__(self, confidence_N: np.ndarray, correct_N: np.ndarray) -> None:
        _fit(confidence_N, correct_N)
        self._order_N = np.argsort(-confidence_N, kind="stable")
        self._correct_N = correct_N[self._order_N].astype(np.float64)
        ordered = confidence_N[self._order_N]
        self._last_E = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
        self._threshold_E = ordered[self._last_E]

    def coverage(self, weights_N: np.ndarray | None = None) -> Coverage:
        """Of rows of one confidence, none can be given without the others: they are one point of the curve,
        and the area takes them in the mean of all their orders, to the first order."""
        weights = np.ones(len(self._order_N)) if weights_N is None else weights_N[self._order_N]
        given = np.cumsum(weights)[self._last_E]
        right = np.cumsum(weights * self._correct_N)[self._last_E]
        fresh = np.diff(given, prepend=0.0) > 0  # a resample may have no row of a confidence
        given, right = given[fresh], right[fresh]
        risks = _risk_area(np.diff(given, prepend=0.0), np.diff(right, prepend=0.0))
        return Coverage(self._threshold_E[fresh], given / given[-1], right / given, risks)


def _risk_area(size_E: np.ndarray, right_E: np.ndarray) -> float:
    """Σ over places i of the share of wrong ones among the first i, over all places.

    Within a run of `size` equal confidences the wrong ones are spread evenly: with W wrong among the G given
    before, place x of the run has (W + x · wrong / size) / (G + x), whose sum over x = 1 … size is
    wrong + (W - G · wrong / size) · (H(G + size) - H(G)), where H is the harmonic number.
    """
    given, wrong_E = np.cumsum(size_E), size_E - right_E
    before, wrong_before = given - size_E, np.cumsum(wrong_E) - wrong_E
    harmonic = _harmonic(given) - _harmonic(before)
    sums = wrong_E + (wrong_before - before * wrong_E / size_E) * harmonic
    return float(sums.sum() / given[-1])


def _harmonic(n: np.ndarray) -> np.ndarray:
    """H(n) = 1 + 1/2 + … + 1/n of whole numbers as float64."""
    sums = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(n.max(initial=0)) + 1))])
    return np.asarray(sums[np.rint(n).astype(np.int64)])


def _fit(first: np.ndarray, *others: np.ndarray) -> None:
    if first.ndim != 1 or len(first) == 0 or any(one.shape != first.shape for one in others):
        raise ValueError(
            f"(N,) arrays of the same rows, at least one: {[one.shape for one in (first, *others)]}"
        )
