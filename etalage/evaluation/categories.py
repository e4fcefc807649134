"""Systems that say what an item is, side by side: at every level, by value, by how bad and how sure they are.

Every system answers for the same items, and all resample the same groups, so they are compared in pairs. What
is used of an answer is its leaf: the categories of the levels above are those on the leaf's path (S1.3). Only
`top_k` of a level looks at the summed probabilities of the level itself.

    N items   L leaves   K categories of a level   D depth   V value of a leaf   M metrics   R resamples
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from etalage.errors import TooLittleData
from etalage.evaluation.category_answers import Answered, Answers, Level, Tree, levels_of
from etalage.evaluation.classification import Coverage, Reliability, reliability
from etalage.evaluation.gate import Verdict, judge
from etalage.evaluation.resampling import percentiles, resamples
from etalage.metrics import Interval

if TYPE_CHECKING:
    from etalage.lake.taxonomy import Taxonomy

__all__ = ["LOWER", "Answers", "CategoryMeasures", "CategoryScores", "Level", "measure_categories"]

LOWER = ("severity", "severity_wrong", "calibration_error", "calibration_error_width", "risk_area")
"""Metrics of which less is better."""


@dataclass(frozen=True)
class CategoryScores:
    """How one system did.

    `intervals`: metric → value and 95% interval. Of the leaves: accuracy, top_k for each k, macro_f1;
    value_true and value_predicted (the share of value that was got right, by the true category's value and
    by the predicted one's); severity and severity_wrong (mean edges through the tree from the decided leaf
    to the true one, of all and of the wrong); calibration_error (bins of equal mass) and
    calibration_error_width; coverage_at_90 and coverage_at_95; risk_area. Of each level above: accuracy,
    top_k, macro_f1, with `_level_` and its depth.
    """

    intervals: dict[str, Interval]
    gains: dict[str, Interval]
    """Metric → the value less that of the best simple system, resample by resample; {} without one."""
    decided_N: np.ndarray
    """(N,) int64 place of the leaf that was given."""
    confidence_N: np.ndarray
    """(N,) float32 its probability."""
    correct_N: np.ndarray
    """(N,) bool."""
    reliability: Reliability
    """In bins of equal mass."""
    coverage: Coverage
    """At no more than 200 points."""

    def to_json(self) -> dict[str, Any]:
        return {
            "metrics": {name: interval._asdict() for name, interval in self.intervals.items()},
            "gains": {name: interval._asdict() for name, interval in self.gains.items()},
            "reliability": {name: column.tolist() for name, column in self.reliability._asdict().items()},
            "coverage": {
                name: np.asarray(column).tolist() for name, column in self.coverage._asdict().items()
            },
        }


@dataclass(frozen=True)
class CategoryMeasures:
    """What `measure_categories` found: by system, in the order in which they were given."""

    levels: tuple[Level, ...]
    scores: dict[str, CategoryScores]
    simple: tuple[str, ...]
    best_simple: str | None
    """The simple system with the highest accuracy."""
    verdicts: dict[str, Verdict]
    """Of each system that is not simple, where there is one that is."""
    truth_N: np.ndarray
    values_L: np.ndarray
    groups: int
    bootstrap: int
    ks: tuple[int, ...] = field(default=())

    @property
    def verdict(self) -> Verdict | None:
        """Of the first system."""
        return next(iter(self.verdicts.values()), None)

    def to_json(self) -> dict[str, Any]:
        """What evaluation.json keeps: figures, and no row of the catalogue."""
        return {
            "items": len(self.truth_N),
            "groups": self.groups,
            "bootstrap": self.bootstrap,
            "levels": [{"depth": level.depth, "categories": level.categories} for level in self.levels],
            "best_simple": self.best_simple,
            "verdicts": {name: verdict.to_json() for name, verdict in self.verdicts.items()},
            "systems": {name: scores.to_json() for name, scores in self.scores.items()},
        }


def measure_categories(
    truth_N: np.ndarray,
    systems: Mapping[str, Answers],
    taxonomy: "Taxonomy",
    values_L: np.ndarray,
    *,
    ks: Sequence[int] = (1, 3, 5),
    bootstrap: int = 1000,
    groups_N: np.ndarray | None = None,
    simple: Collection[str] | None = None,
    seed: int = 0,
) -> CategoryMeasures:
    """Measure all systems on the same items.

    truth_N: (N,) int64 place among taxonomy.leaves_L. values_L: (L,) float64 business value of each leaf,
    none below 0. groups_N: (N,) resamples draw whole groups; None: single items. simple: names of the systems
    to be beaten; None: all but the first. A k that is no smaller than a level has categories says nothing
    there, and is left out.

    Raises TooLittleData: no item; ValueError: shapes, places or probabilities that cannot be.
    """
    levels = levels_of(taxonomy)
    _check(truth_N, systems, levels[-1].categories, values_L, groups_N)
    groups_N = np.arange(len(truth_N)) if groups_N is None else np.asarray(groups_N)
    others = list(systems)[1:]
    simple = tuple(name for name in systems if name in (others if simple is None else simple))
    tree = Tree(taxonomy, levels)
    answered = {name: Answered(truth_N, one, tree, values_L, ks) for name, one in systems.items()}
    replicates: dict[str, list[np.ndarray]] = {name: [] for name in systems}
    for weights_RN in resamples(groups_N, bootstrap, seed):
        for name, one in answered.items():
            replicates[name].append(one.figures(weights_RN))
    whole = np.ones((1, len(truth_N)))
    values_M = {name: one.figures(whole)[0] for name, one in answered.items()}
    drawn_RM = {name: np.concatenate(blocks) for name, blocks in replicates.items()}
    best = max(simple, key=lambda name: values_M[name][0], default=None)
    correct = {name: one.correct_N.astype(np.float64) for name, one in answered.items()}
    scores = {}
    for name, one in answered.items():
        over = None if best in (None, name) else (values_M[str(best)], drawn_RM[str(best)])
        scores[name] = _scores(one, values_M[name], drawn_RM[name], over)
    verdicts = {
        name: judge(
            name, "classifier", "accuracy", correct[name], {other: correct[other] for other in simple},
            bootstrap, seed, groups=groups_N,
        )
        for name in systems
        if simple and name not in simple
    }  # fmt: skip
    distinct = len(np.unique(groups_N))
    return CategoryMeasures(
        levels, scores, simple, best, verdicts, truth_N, values_L, distinct, bootstrap, tuple(sorted(set(ks)))
    )


def _scores(
    one: Answered, values_M: np.ndarray, drawn_RM: np.ndarray, over: tuple[np.ndarray, np.ndarray] | None
) -> CategoryScores:
    """With intervals; over: values and resamples of the best simple system."""
    names = sorted(one.names(), key=_order)
    at = {name: place for place, name in enumerate(one.names())}
    gains = {}
    if over is not None:
        value, drawn = values_M - over[0], drawn_RM - over[1]
        gains = {name: percentiles(value[at[name]], drawn[:, at[name]]) for name in names}
    return CategoryScores(
        {name: percentiles(values_M[at[name]], drawn_RM[:, at[name]]) for name in names},
        gains,
        one.decided_N,
        one.confidence_N,
        one.correct_N,
        reliability(one.confidence_N, one.correct_N, one.bins["mass"]),
        one.sureness.coverage().thinned(),
    )


_ORDER = ("accuracy", "top", "macro", "value", "severity", "calibration", "coverage", "risk")


def _order(name: str) -> tuple[int, int, int]:
    """The leaves' metrics first, then those of the levels, from the top."""
    _, _, level = name.partition("_level_")
    start = next(place for place, word in enumerate(_ORDER) if name.startswith(word))
    k = name.removeprefix("top_").partition("_")[0]
    return int(level or 0), start, int(k) if k.isdigit() else 0


def _check(
    truth_N: np.ndarray,
    systems: Mapping[str, Answers],
    leaves: int,
    values_L: np.ndarray,
    groups_N: np.ndarray | None,
) -> None:
    if len(truth_N) == 0:
        raise TooLittleData("no item with a category to be judged on; see [split] in shop.toml")
    if not systems:
        raise ValueError("no system to measure")
    if truth_N.min() < 0 or truth_N.max() >= leaves:
        raise ValueError(f"truth from {truth_N.min()} to {truth_N.max()}, but places are 0 … {leaves - 1}")
    if np.shape(values_L) != (leaves,) or not np.isfinite(values_L).all() or np.min(values_L) < 0:
        raise ValueError(
            f"values {np.shape(values_L)}: one of each of {leaves} leaves, finite and not below 0"
        )
    if groups_N is not None and np.shape(groups_N) != np.shape(truth_N):
        raise ValueError(f"{np.shape(groups_N)} groups for {np.shape(truth_N)} items")
    for name, one in systems.items():
        given, decided = one.probabilities_NL, one.decided_N
        if given.shape != (len(truth_N), leaves):
            raise ValueError(f"{name}: probabilities {given.shape}, not {(len(truth_N), leaves)}")
        sums = given.sum(axis=1, dtype=np.float64)
        fine = (np.abs(sums - 1) < 1e-3) & (given.min(axis=1) >= 0)  # not where it is NaN or infinite
        if not fine.all():
            row = int(np.argmin(fine))
            raise ValueError(
                f"{name}: row {row} is no distribution: it adds up to {sums[row]}, "
                f"its least is {given[row].min()}"
            )
        if decided is not None and (
            decided.shape != truth_N.shape or decided.min() < 0 or decided.max() >= leaves
        ):
            raise ValueError(
                f"{name}: decided leaves {decided.shape} from {decided.min()} to {decided.max()}"
            )
