"""From similarities to yes or no: a threshold calibrated on held-out queries, and matching with it.

Calibrate on the neighbours of queries that are not in the index: an item's nearest neighbour in an
index that holds the item is the item, and a threshold from such pairs promises too much.
"""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from etalage.errors import ConfigError, TooLittleData
from etalage.metrics import knn_vote

NO_MATCH = -1
CONFIDENCE = 0.95
ASKED = 10
"""Thresholds between which `promise` chooses."""


@dataclass(frozen=True)
class Threshold:
    """Pairs that score `score` or more match; on the calibration pairs this many rightly do.

    `precision`: of those that match, the share of the same category; `recall`: of those of the same
    category, the share that matches.
    """

    score: float
    precision: float
    recall: float
    promise: float = 0.0
    """At least this precision is what other pairs of this kind have, with CONFIDENCE; 0: not reckoned."""

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def calibrate(
    scores: np.ndarray, same: np.ndarray, target: Literal["precision", "recall"], value: float
) -> Threshold:
    """The threshold that reaches `value` of `target` and has the most of the other one.

    `scores` (P,) similarities of held-out pairs, `same` (P,) bool: of the same category. Equal scores
    stand or fall together. Raises TooLittleData: no pair of the same category; ConfigError: the
    target cannot be reached on these pairs.
    """
    scores, same = np.asarray(scores, np.float64).ravel(), np.asarray(same, bool).ravel()
    if scores.shape != same.shape or not np.isfinite(scores).all():
        raise ValueError(f"{scores.shape} finite scores are needed for {same.shape} pairs")
    if not 0 < value <= 1 or target not in ("precision", "recall"):
        raise ConfigError(f"a {target} of {value} is no target; precision or recall, above 0 and up to 1")
    if not same.any():
        raise TooLittleData(f"none of the {len(same)} pairs is of the same category: nothing to calibrate on")
    order = np.argsort(-scores, kind="stable")
    falling, right = scores[order], np.cumsum(same[order])
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))  # of each run of equal scores
    precision, recall = right[last] / (last + 1), right[last] / right[-1]
    if target == "precision":
        reached = np.flatnonzero(precision >= value)
        if reached.size == 0:
            most = f"{precision.max():.4f}"
            raise ConfigError(f"precision {value} is out of reach on these pairs; ask for {most} at most")
        at = reached[-1]
    else:
        enough = np.flatnonzero(recall >= value)
        at = enough[np.argmax(precision[enough])]
    return Threshold(float(falling[last[at]]), float(precision[at]), float(recall[at]))


def promise(scores: np.ndarray, same: np.ndarray, precision: float) -> Threshold:
    """The lowest threshold of which other pairs of this kind have `precision`, with CONFIDENCE.

    Asked are ASKED thresholds, at fixed shares of the pairs, from all down to one in ten; each one's bound is
    C. Clopper and E. Pearson's (1934), with the doubt shared among all of them. Where none reaches the
    precision, it is the lowest that has it on these pairs, and `promise` says how much is sure. No bound
    covers pairs of another kind, such as photos of another shop.
    Raises TooLittleData: no pair of the same category; ConfigError: the precision cannot be reached on these.
    """
    scores, same = np.asarray(scores, np.float64).ravel(), np.asarray(same, bool).ravel()
    reached = calibrate(scores, same, "precision", precision)
    doubt = (1 - CONFIDENCE) / ASKED
    levels = np.quantile(scores, 1 - np.linspace(1.0, 0.1, ASKED), method="lower")
    asked = [_at(scores, same, float(level), doubt) for level in levels]
    for found in (one for one in asked if one.promise >= precision):
        return found
    for found in (one for one in asked if one.precision >= precision):
        return found
    return _at(scores, same, reached.score, doubt)


def _at(scores: np.ndarray, same: np.ndarray, level: float, doubt: float) -> Threshold:
    from scipy.stats import beta

    near = scores >= level
    right, count = int(same[near].sum()), int(near.sum())
    low = float(beta.ppf(doubt, right, count - right + 1)) if right else 0.0
    return Threshold(level, right / count, right / int(same.sum()), low)


def match(similarities: np.ndarray, labels: np.ndarray, threshold: float, k: int = 1) -> np.ndarray:
    """(Q,) the category of each query by vote of its k nearest that reach the threshold.

    `similarities` (Q, K) descending, `labels` (Q, K) whole numbers from 0. NO_MATCH (-1) where no
    neighbour is near enough.
    """
    near = np.asarray(similarities) >= threshold
    return knn_vote(np.where(near, labels, NO_MATCH), k)
