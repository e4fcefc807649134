"""What an evaluation of a classifier found: by level, how sure and how right, what it takes for what.

N items
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from etalage.console import counted
from etalage.evaluation.categories import LOWER, CategoryMeasures
from etalage.evaluation.category_confusion import Confusion, Mistake, most_valuable, worst_mistakes
from etalage.evaluation.report import photo_uri
from etalage.evaluation.sections import Metrics, Section, best_first, metric_rows
from etalage.runtime.classifier import CONFUSION

if TYPE_CHECKING:
    from etalage.lake.taxonomy import Taxonomy

WORDS = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "value_true": "value got right, by the true category",
    "value_predicted": "value got right, by the predicted one",
    "severity": "edges to the true category",
    "severity_wrong": "edges, of the wrong ones",
    "calibration_error": "calibration error, bins of equal mass",
    "calibration_error_width": "calibration error, bins of equal width",
    "coverage_at_90": "coverage at 90% accuracy",
    "coverage_at_95": "coverage at 95% accuracy",
    "risk_area": "area under risk and coverage",
}


def category_sections(
    measured: CategoryMeasures,
    taxonomy: "Taxonomy",
    *,
    part: str = "test",
    photos: Callable[[int], bytes | None] | None = None,
    titles: Sequence[str | None] | None = None,
    value_words: str = "its value",
) -> list[Section]:
    """All that there is to say of `measured`, the model first.

    photos: gives the image file of a measured row (0 … N - 1) where there is one; only a few are asked for.
    titles: of the N rows. value_words: what a category's value is, in words.
    """
    confusion = MostValuableConfusion(measured, taxonomy)
    return [
        category_metrics(measured, value_words),
        Levels(measured),
        Sureness(measured),
        confusion,
        Mistakes(measured, taxonomy, photos, titles),
        CategoryFigures(measured, part),
    ]


def category_metrics(measured: CategoryMeasures, value_words: str = "its value") -> Metrics:
    """The leaves' metrics, a row each: a cell a system, the best marked; and the first system's gain."""
    model, ours = next(iter(measured.scores.items()))
    scores = {name: one.intervals for name, one in measured.scores.items()}
    names = [name for name in ours.intervals if "_level_" not in name]
    note = (
        f"Of the leaves, on {len(measured.truth_N):,} items in {measured.groups:,} groups of near-duplicates "
        f"and {counted_categories(measured.levels[-1].categories)}. In small print the 95% bootstrap "
        "interval over whole groups; the best of each row in bold; of rows with ↓ less is better. The marked "
        "row decides."
    )
    if measured.best_simple:
        note += (
            f" The gain is {model}'s over {measured.best_simple}, the best simple system, resample by "
            "resample; coloured where its interval leaves out zero."
        )
    rows = metric_rows(
        scores, names, words={name: words_of(name) for name in names}, lower=LOWER, gains=ours.gains, digits=3
    )
    return Metrics(scores, f"{note} A category is worth {value_words}.", "accuracy", rows)


def words_of(name: str) -> str:
    """A metric's name as a reader would say it."""
    bare, _, level = name.partition("_level_")
    words = WORDS.get(bare, bare.replace("_", " "))
    return f"{words}, level {level}" if level else words


def counted_categories(count: int) -> str:
    """So many, in words."""
    return counted(count, "category", "categories")


@dataclass(frozen=True)
class Levels(Section):
    """How good every system is at each level of the taxonomy, from its top to its leaves."""

    measured: CategoryMeasures

    page = ("category_sections", "levels")

    def content(self) -> dict[str, Any]:
        return {"systems": list(self.measured.scores), "levels": [self._level(n) for n in range(self._depth)]}

    @property
    def _depth(self) -> int:
        return len(self.measured.levels)

    def _level(self, number: int) -> dict[str, Any]:
        level = self.measured.levels[number]
        scores = {name: one.intervals for name, one in self.measured.scores.items()}
        names = [
            name
            for name in next(iter(scores.values()))
            if name.partition("_level_")[2] == (str(level.depth) if level.suffix else "")
            and name.startswith(("accuracy", "top_", "macro_f1"))
        ]
        words = {name: words_of(name.partition("_level_")[0]) for name in names}
        return {
            "depth": level.depth,
            "categories": counted_categories(level.categories),
            "rows": metric_rows(scores, names, words=words, digits=3),
        }

    def plots(self) -> dict[str, str | None]:
        from etalage.evaluation.drawing import draw_bars

        levels = self.measured.levels
        return {
            "levels": draw_bars(
                {name: one.intervals for name, one in self.measured.scores.items()},
                [f"accuracy{level.suffix}" for level in levels],
                1,
                [f"level {level.depth}\n{counted_categories(level.categories)}" for level in levels],
                "accuracy",
            )
        }

    def alts(self) -> dict[str, str]:
        scores = {name: one.intervals for name, one in self.measured.scores.items()}
        levels = self.measured.levels
        told = (f"level {one.depth}, {best_first(scores, f'accuracy{one.suffix}')}" for one in levels)
        return {"levels": "; ".join(told)}


@dataclass(frozen=True)
class Sureness(Section):
    """Whether what is so sure is so often right, and what abstaining buys."""

    measured: CategoryMeasures

    page = ("category_sections", "sureness")

    def plots(self) -> dict[str, str | None]:
        from etalage.evaluation.drawing import draw_coverage, draw_reliability

        ours = next(iter(self.measured.scores.values()))
        curves = {
            name: (one.coverage.coverage, one.coverage.accuracy) for name, one in self.measured.scores.items()
        }
        return {
            "reliability": draw_reliability(
                ours.reliability.confidence, ours.reliability.accuracy, ours.confidence_N
            ),
            "coverage": draw_coverage(curves),
        }

    def alts(self) -> dict[str, str]:
        model, ours = next(iter(self.measured.scores.items()))
        wrong = ours.intervals["calibration_error"].value
        answered = ours.intervals["coverage_at_90"].value
        return {
            "reliability": f"{model} is off by {wrong:.3f} on average",
            "coverage": f"{model} answers {answered:.0%} of the items while 90% of the answers are right",
        }


@dataclass(frozen=True)
class MostValuableConfusion(Section):
    """What is taken for what, among the categories that are worth most; kept for the bundle and its page."""

    measured: CategoryMeasures
    taxonomy: "Taxonomy"

    page = ("category_sections", "confusion")

    @cached_property
    def matrix(self) -> Confusion:
        ours = next(iter(self.measured.scores.values()))
        return most_valuable(self.measured.truth_N, ours.decided_N, self.measured.values_L, self.taxonomy)

    def content(self) -> dict[str, Any]:
        return {"model": next(iter(self.measured.scores)), "count": len(self.matrix.ids)}

    def plots(self) -> dict[str, str | None]:
        from etalage.evaluation.drawing import draw_confusion

        return {"confusion": draw_confusion(self.matrix)}

    def alts(self) -> dict[str, str]:
        counts = self.matrix.counts_CC
        whole = counts.sum() + self.matrix.elsewhere_C.sum()
        right = counts.trace() / max(int(whole), 1)
        return {"confusion": f"{right:.0%} of their items are put into the right one"}

    def files(self) -> dict[str, str]:
        text = json.dumps(self.matrix.to_json(), ensure_ascii=False) + "\n"
        return {"confusion.csv": self.matrix.to_csv(), "confusion.json": text}

    def beside_export(self) -> dict[str, str]:
        found = self.matrix.to_json()
        return {CONFUSION: json.dumps({name: found[name] for name in ("categories", "counts", "elsewhere")})}


@dataclass(frozen=True)
class Mistakes(Section):
    """The costliest mistakes, with photos of some of the items."""

    measured: CategoryMeasures
    taxonomy: "Taxonomy"
    photos: Callable[[int], bytes | None] | None = None
    titles: Sequence[str | None] | None = None

    page = ("category_sections", "mistakes")

    def content(self) -> dict[str, Any]:
        measured, ours = self.measured, next(iter(self.measured.scores.values()))
        found = worst_mistakes(
            measured.truth_N, ours.decided_N, ours.confidence_N, measured.values_L, self.taxonomy
        )
        return {"mistakes": [self._mistake(one) for one in found]}

    def _mistake(self, one: Mistake) -> dict[str, Any]:
        return {
            "true": one.true,
            "predicted": one.predicted,
            "count": one.count,
            "of": one.of,
            "lost": f"{100 * one.lost:.2f}%",
            "edges": one.edges,
            "wrong": [self._item(row) for row in one.rows],
            "alike": [self._item(row) for row in one.alike],
        }

    def _item(self, row: int) -> dict[str, str | None]:
        data = None if self.photos is None else self.photos(row)
        title = None if self.titles is None else self.titles[row]
        return {"photo": photo_uri(data) if data else None, "title": title}


@dataclass(frozen=True)
class CategoryFigures(Section):
    """All figures of all systems, for evaluation.json."""

    measured: CategoryMeasures
    part: str

    def kept(self) -> dict[str, Any]:
        return {"measures": self.measured.to_json(), "part": self.part}
