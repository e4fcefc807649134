"""One system's answers to one question a row: what is this item? Reduced to what every resample needs.

N items   L leaves   K categories of a level   D depth   M metrics   R resamples
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from etalage.evaluation.classification import Sureness, bins_of, macro_f1, ranks, reliability

if TYPE_CHECKING:
    from etalage.lake.taxonomy import Taxonomy

COVERED_AT = (0.9, 0.95)
"""The coverage is told at which so many of the given answers are right."""
_CELLS = 2**24


@dataclass(frozen=True)
class Answers:
    """Of one system on N items."""

    probabilities_NL: np.ndarray
    """(N, L) float32 over taxonomy.leaves_L."""
    decided_N: np.ndarray | None = None
    """(N,) int64 place of the decided leaf; None: the most probable."""


@dataclass(frozen=True)
class Level:
    """`depth`: 1 = top. `metrics` of a level end in its suffix; the leaves' end in none."""

    depth: int
    categories: int
    suffix: str


def levels_of(taxonomy: "Taxonomy") -> tuple[Level, ...]:
    depth = taxonomy.depth
    return tuple(
        Level(one, len(taxonomy.at_level(one)[0]), "" if one == depth else f"_level_{one}")
        for one in range(1, depth + 1)
    )


class Tree:
    """Per level the place of each leaf's category, and the path of each leaf, for distances."""

    def __init__(self, taxonomy: "Taxonomy", levels: Sequence[Level]) -> None:
        self.levels = tuple(levels)
        found = [taxonomy.at_level(level.depth) for level in levels]
        self.place_DL = np.stack([place_L for _, place_L in found])
        self._row_DL = np.stack([rows_K[place_L] for rows_K, place_L in found])
        self._depth_L = taxonomy.depths_N[taxonomy.leaves_L]

    def distances(self, a_N: np.ndarray, b_N: np.ndarray) -> np.ndarray:
        """(N,) int64 edges between leaf a_N[i] and leaf b_N[i], without a table of all with all."""
        same = self._row_DL[:, a_N] == self._row_DL[:, b_N]
        # A leaf above a level stands there for itself: it counts once, at its own depth.
        depth = np.arange(1, len(same) + 1)[:, None]
        within = depth <= np.minimum(self._depth_L[a_N], self._depth_L[b_N])
        common = (same & within).sum(axis=0)
        return np.asarray(self._depth_L[a_N] + self._depth_L[b_N] - 2 * common)


class Answered:
    """One system's answers, reduced to what every resample needs."""

    def __init__(
        self, truth_N: np.ndarray, answers: Answers, tree: Tree, values_L: np.ndarray, ks: Sequence[int]
    ) -> None:
        given = answers.probabilities_NL
        self.decided_N = given.argmax(axis=1) if answers.decided_N is None else answers.decided_N
        self.confidence_N = np.take_along_axis(given, self.decided_N[:, None], axis=1)[:, 0]
        self.correct_N = self.decided_N == truth_N
        self._truth_N, self._tree = truth_N, tree
        self.sureness = Sureness(self.confidence_N, self.correct_N)
        self.bins = {way: bins_of(self.confidence_N, way) for way in ("mass", "width")}
        wrong = ~self.correct_N
        distance = tree.distances(self.decided_N, truth_N).astype(np.float64)
        one = np.ones(len(truth_N))
        true, predicted = values_L[truth_N], values_L[self.decided_N]
        # Metric → numerator and denominator by item: a ratio of sums in every resample.
        self._ratios: dict[str, tuple[np.ndarray, np.ndarray]] = {
            "accuracy": (self.correct_N.astype(np.float64), one),
            "value_true": (true * self.correct_N, true),
            "value_predicted": (predicted * self.correct_N, predicted),
            "severity": (distance, one),
            "severity_wrong": (distance, wrong.astype(np.float64)),
        }
        for level, place_L in zip(tree.levels, tree.place_DL, strict=True):
            rank_N = _ranks(given, truth_N, place_L, level.categories)
            for k in sorted(set(ks)):
                if k < level.categories:
                    self._ratios[f"top_{k}{level.suffix}"] = (rank_N <= k).astype(np.float64), one
            if level.suffix:
                hit = place_L[self.decided_N] == place_L[truth_N]
                self._ratios[f"accuracy{level.suffix}"] = hit.astype(np.float64), one
        self._tops_NM = np.stack([top for top, _ in self._ratios.values()], axis=1)
        self._bottoms_NM = np.stack([bottom for _, bottom in self._ratios.values()], axis=1)

    def names(self) -> list[str]:
        """The M metrics in the order of `figures`."""
        f1 = [f"macro_f1{level.suffix}" for level in self._tree.levels]
        covered = [f"coverage_at_{100 * accuracy:.0f}" for accuracy in COVERED_AT]
        return [*self._ratios, *f1, "calibration_error", "calibration_error_width", "risk_area", *covered]

    def figures(self, weights_RN: np.ndarray) -> np.ndarray:
        """(R, M) float64: every metric in every resample."""
        bottoms_RM = weights_RN @ self._bottoms_NM
        ratios_RM = np.divide(
            weights_RN @ self._tops_NM, bottoms_RM, out=np.zeros_like(bottoms_RM), where=bottoms_RM > 0
        )
        return np.concatenate([ratios_RM, [self._others(weights_N) for weights_N in weights_RN]], axis=1)

    def _others(self, weights_N: np.ndarray) -> list[float]:
        f1 = [
            macro_f1(place_L[self._truth_N], place_L[self.decided_N], level.categories, weights_N)
            for level, place_L in zip(self._tree.levels, self._tree.place_DL, strict=True)
        ]
        errors = [
            reliability(self.confidence_N, self.correct_N, bin_N, weights_N).error
            for bin_N in self.bins.values()
        ]
        curve = self.sureness.coverage(weights_N)
        return [*f1, *errors, curve.risk_area, *(curve.at_accuracy(accuracy) for accuracy in COVERED_AT)]


def _ranks(
    probabilities_NL: np.ndarray, truth_N: np.ndarray, place_L: np.ndarray, categories: int
) -> np.ndarray:
    """(N,) the rank of the true category of a level by the sum of its leaves, in blocks of rows."""
    if categories == len(place_L):
        return ranks(probabilities_NL, truth_N)
    order = np.argsort(place_L, kind="stable")
    starts = np.searchsorted(place_L[order], np.arange(categories))
    found = np.empty(len(truth_N), np.int64)
    step = max(1, _CELLS // len(place_L))
    for start in range(0, len(truth_N), step):
        block = probabilities_NL[start : start + step][:, order]
        summed = np.add.reduceat(block, starts, axis=1, dtype=np.float64)
        found[start : start + step] = ranks(summed, place_L[truth_N[start : start + step]])
    return found
