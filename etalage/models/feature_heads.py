"""Features of a network that stays as it is → embeddings: linear heads that are solved, not trained by steps.

Papers: A. O. Hatch et al., Within-Class Covariance Normalization for SVM-based Speaker Recognition,
Interspeech 2006 (`within_class`); R. A. Fisher 1936 and C. R. Rao 1948, linear discriminants
(`discriminant`); H. Jégou and O. Chum, Negative Evidences and Co-occurrences in Image Retrieval: the Benefit
of PCA and Whitening, ECCV 2012.

    n photos that are learned from   N photos   F features   D embedding dimension   K categories
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Head = Literal["plain", "whitened", "within_class", "discriminant"]
HEADS: tuple[Head, ...] = get_args(Head)
"""The simplest first."""
AT_ONCE = 4096


@dataclass(frozen=True)
class LinearHead:
    """(N, F) features → (N, D) float32 of length 1: centred, projected, divided by its length."""

    mean_F: np.ndarray
    """(F,) float32."""
    weights_FD: np.ndarray | None
    """(F, D) float32; None: nothing is projected, D = F."""

    @property
    def dimension(self) -> int:
        """D."""
        return len(self.mean_F) if self.weights_FD is None else int(self.weights_FD.shape[1])

    def __call__(self, features_NF: np.ndarray) -> np.ndarray:
        """(N, D) float32."""
        found = np.empty((len(features_NF), self.dimension), np.float32)
        for start in range(0, len(features_NF), AT_ONCE):
            part = features_NF[start : start + AT_ONCE] - self.mean_F
            part = part if self.weights_FD is None else part @ self.weights_FD
            found[start : start + AT_ONCE] = part / np.maximum(
                np.linalg.norm(part, axis=1, keepdims=True), SMALLEST
            )
        return found


SMALLEST = 1e-12
"""What a length is divided by, at least."""


def solve_head(
    head: Head, features_nF: np.ndarray, labels_n: np.ndarray, dimension: int, shrink: float
) -> LinearHead:
    """The head of these photos, whose categories are labels_n (n,) int64.

    `plain`: the features, divided by their length. `whitened`: directions in which all photos differ count
    the less the more they do. `within_class`: those in which photos of one category differ; what is left is
    cut to the `dimension` directions in which most lies. `discriminant`: the same, cut to the directions in
    which the categories' means differ, at most K − 1: it says most of the categories that are there. shrink:
    share of the mean variance that is added to each direction's. It is the same to the last bit for the same
    photos in the same order.
    """
    if head == "plain":
        return plain_head(features_nF.shape[1])
    return _SOLVED[head](_Moments.of(features_nF, labels_n), dimension, shrink)


def plain_head(width: int) -> LinearHead:
    """Of so many features: nothing is centred or projected."""
    return LinearHead(np.zeros(width, np.float32), None)


@dataclass(frozen=True)
class _Moments:
    """What heads are solved from, in float64."""

    mean_F: np.ndarray
    whole_FF: np.ndarray
    """Covariance of all photos."""
    within_FF: np.ndarray
    """Mean covariance of the photos of one category."""

    @classmethod
    def of(cls, features_nF: np.ndarray, labels_n: np.ndarray) -> "_Moments":
        names, codes_n, counts_K = np.unique(labels_n, return_inverse=True, return_counts=True)
        width = features_nF.shape[1]
        sums_KF, square_FF = np.zeros((len(names), width)), np.zeros((width, width))
        for start in range(0, len(features_nF), AT_ONCE):
            part = features_nF[start : start + AT_ONCE].astype(np.float64)
            np.add.at(sums_KF, codes_n[start : start + AT_ONCE], part)
            square_FF += part.T @ part
        count = len(features_nF)
        mean_F = sums_KF.sum(axis=0) / count
        means_KF = sums_KF / counts_K[:, None]
        square_FF /= count
        between_FF = (means_KF * (counts_K / count)[:, None]).T @ means_KF
        return cls(mean_F, square_FF - np.outer(mean_F, mean_F), square_FF - between_FF)

    @property
    def between_FF(self) -> np.ndarray:
        """Covariance of the categories' means, each counted as often as it has photos."""
        return self.whole_FF - self.within_FF


def _whitened(moments: _Moments, dimension: int, shrink: float) -> LinearHead:
    variances_F, axes_FF = np.linalg.eigh(moments.whole_FF)
    kept = slice(None, -dimension - 1, -1)
    scales_D = (np.maximum(variances_F, 0) + _floor(moments.whole_FF, shrink))[kept] ** -0.5
    return _head(moments, axes_FF[:, kept] * scales_D)


def _within_class(moments: _Moments, dimension: int, shrink: float) -> LinearHead:
    return _projected(moments, moments.whole_FF, dimension, shrink)


def _discriminant(moments: _Moments, dimension: int, shrink: float) -> LinearHead:
    return _projected(moments, moments.between_FF, dimension, shrink)


def _projected(moments: _Moments, spread_FF: np.ndarray, dimension: int, shrink: float) -> LinearHead:
    """White within the categories, then the axes along which most of `spread_FF` lies; those of none fall."""
    variances_F, axes_FF = np.linalg.eigh(moments.within_FF)
    white_FF = axes_FF * (np.maximum(variances_F, 0) + _floor(moments.within_FF, shrink)) ** -0.5
    found_F, turned_FF = np.linalg.eigh(white_FF.T @ spread_FF @ white_FF)
    some = max(1, int((found_F > found_F[-1] * 1e-9).sum()))
    return _head(moments, white_FF @ turned_FF[:, : -min(dimension, some) - 1 : -1])


def _floor(of_FF: np.ndarray, shrink: float) -> float:
    return max(shrink * float(np.trace(of_FF)) / len(of_FF), SMALLEST)


def _head(moments: _Moments, weights_FD: np.ndarray) -> LinearHead:
    return LinearHead(moments.mean_F.astype(np.float32), np.ascontiguousarray(weights_FD, np.float32))


_SOLVED: Mapping[Head, Callable[[_Moments, int, float], LinearHead]] = {
    "whitened": _whitened,
    "within_class": _within_class,
    "discriminant": _discriminant,
}
