"""From features of a photo and words of a title to scores of the leaves: heads that are solved, not trained.

Papers: R. A. Fisher 1936 and C. R. Rao 1948, linear discriminants, with O. Ledoit and M. Wolf's shrinkage
(2004) for the photo; A. E. Hoerl and R. W. Kennard, Ridge Regression, 1970, for the words. All leaves count
alike, however common they are.

    n items or photos that are learned from   F features   T words of a title   R rows of words   L leaves
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from etalage.errors import ConfigError
from etalage.models.conjugate_gradients import solve

AT_ONCE = 4096
ABSENT = 30.0
"""By so much a leaf that nothing was learned of scores less than the least of the others."""
MOST_NUMBERS = 2**27
"""Of the table of words: half a gigabyte."""
ROUNDS, ENOUGH = 60, 1e-4
"""Of conjugate gradients: at most, and the share of the residual at which they stop."""


@dataclass(frozen=True)
class LinearScores:
    """(N, F) → (N, L) float32: features @ weights + bias."""

    weights_FL: np.ndarray
    bias_L: np.ndarray

    def __call__(self, features_NF: np.ndarray) -> np.ndarray:
        scores: np.ndarray = (features_NF @ self.weights_FL + self.bias_L).astype(np.float32)
        return scores

    def times(self, factor: float) -> "LinearScores":
        return LinearScores(self.weights_FL * np.float32(factor), self.bias_L * np.float32(factor))


def discriminant(
    features_nF: np.ndarray, leaf_n: np.ndarray, weights_n: np.ndarray, leaves: int, shrink: float
) -> LinearScores:
    """Logarithms of how likely each leaf makes these features, where photos of one leaf scatter alike.

    leaf_n: (n,) int64 place of each one's leaf; weights_n: (n,) how much it counts. shrink: share of the
    scatter that is taken for alike in all directions. A leaf that no photo has is never the likeliest.
    """
    weights_n = weights_n.astype(np.float64)
    total = weights_n.sum()
    mean_F = np.zeros(features_nF.shape[1])
    square_F = np.zeros_like(mean_F)
    for part, some in _parts(features_nF):
        mean_F += weights_n[some] @ part / total
        square_F += weights_n[some] @ part**2 / total
    spread_F = np.sqrt(np.maximum(square_F - mean_F**2, 0)) + 1e-5
    width, counts_L = len(mean_F), np.bincount(leaf_n, weights_n, minlength=leaves)
    sums_LF, square_FF = np.zeros((leaves, width)), np.zeros((width, width))
    for part, some in _parts(features_nF):
        scaled = (part - mean_F) / spread_F
        np.add.at(sums_LF, leaf_n[some], scaled * weights_n[some, None])
        square_FF += (scaled * weights_n[some, None]).T @ scaled
    means_LF = sums_LF / np.maximum(counts_L, 1e-12)[:, None]
    within_FF = (square_FF - (means_LF * counts_L[:, None]).T @ means_LF) / total
    level = max(float(np.trace(within_FF)) / width, 1e-6)
    within_FF = (1 - shrink) * within_FF + shrink * level * np.eye(width)
    solved_FL = np.linalg.solve(within_FF, means_LF.T)
    bias_L = -0.5 * np.einsum("lf,fl->l", means_LF, solved_FL)
    weights_FL = solved_FL / spread_F[:, None]
    bias_L = bias_L - mean_F @ weights_FL
    _leave_out(weights_FL, bias_L, counts_L)
    return LinearScores(weights_FL.astype(np.float32), bias_L.astype(np.float32))


def _leave_out(weights_FL: np.ndarray, bias_L: np.ndarray, counts_L: np.ndarray) -> None:
    """Leaves that nothing was learned of: scored by their bias alone, far below the others."""
    there_L = counts_L > 0
    if there_L.any():
        weights_FL[:, ~there_L] = weights_FL[:, there_L].mean(axis=1, keepdims=True)
        bias_L[~there_L] = bias_L[there_L].min() - ABSENT


def _parts(features_nF: np.ndarray) -> list[tuple[np.ndarray, slice]]:
    places = [slice(at, at + AT_ONCE) for at in range(0, len(features_nF), AT_ONCE)]
    return [(features_nF[some].astype(np.float64), some) for some in places]


def ridge_of_words(
    words_nT: np.ndarray, leaf_n: np.ndarray, weights_n: np.ndarray, leaves: int, rows: int, ridge: float
) -> np.ndarray:
    """(R, L) float32: what each row of words says of each leaf; row 0, padding, says nothing.

    words_nT: (n, T) int64 of features/words.py; a title's score is the sum of its words' rows, over the root
    of how many it has. Raises ConfigError: so many words and leaves make a table that is too large.
    """
    if rows * leaves > MOST_NUMBERS:
        raise ConfigError(
            f"buckets = {rows - 1:,} of words and {leaves:,} leaves make a table of {rows * leaves:,} "
            f"numbers, more than {MOST_NUMBERS:,}: take fewer buckets, a tree cut at a level, or "
            'heads = "levels"'
        )
    bags = _bags(words_nT, rows)
    table_RL = np.zeros((rows, leaves), np.float32)
    scaled = sparse.diags(np.sqrt(weights_n.astype(np.float64))) @ bags
    for first in range(0, leaves, 256):
        places = np.arange(first, min(first + 256, leaves))
        wanted_nL = (leaf_n[:, None] == places) - 1.0 / leaves
        wanted_nL *= np.sqrt(weights_n)[:, None]
        table_RL[:, places] = _ridge(scaled.tocsr(), wanted_nL, ridge)
    return table_RL


def _bags(words_nT: np.ndarray, rows: int) -> sparse.csr_matrix:
    """(n, R) a title's words, each 1 over the root of how many there are."""
    at, column = np.nonzero(words_nT)
    counts_n = np.maximum((words_nT > 0).sum(axis=1), 1)
    return sparse.csr_matrix((counts_n[at] ** -0.5, (at, words_nT[at, column])), (len(words_nT), rows))


def _ridge(bags: sparse.csr_matrix, wanted_nL: np.ndarray, ridge: float) -> np.ndarray:
    """(R, L) of least squares with `ridge` times its own square, by conjugate gradients, a leaf each."""
    turned = bags.T.tocsr()

    def times(some_RL: np.ndarray) -> np.ndarray:
        return np.asarray(turned @ (bags @ some_RL) + ridge * some_RL)

    return solve(times, turned @ wanted_nL, steps=ROUNDS, enough=ENOUGH)


def scores_of_words(words_NT: np.ndarray, table_RL: np.ndarray) -> np.ndarray:
    """(N, L) float32."""
    scores: np.ndarray = (_bags(words_NT, len(table_RL)) @ table_RL).astype(np.float32)
    return scores


def sharpness(scores_nL: np.ndarray, leaf_n: np.ndarray) -> float:
    """The factor with which these scores make the true leaves most probable: C. Guo et al., ICML 2017."""
    from scipy.optimize import minimize_scalar

    def loss(log: float) -> float:
        scaled = scores_nL.astype(np.float64) * np.exp(log)
        scaled -= scaled.max(axis=1, keepdims=True)
        return float((np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(leaf_n)), leaf_n]).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-9.0, 5.0), method="bounded").x))
