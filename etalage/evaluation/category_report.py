"""The page of a model of categories: beside the simple ones, by level, how sure, what it takes for what."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from etalage.evaluation.behaviour_report import epochs
from etalage.evaluation.categories import LOWER, CategoryMeasures
from etalage.evaluation.category_confusion import (
    Mistake,
    draw_confusion,
    most_valuable,
    worst_mistakes,
)
from etalage.evaluation.gate import Verdict
from etalage.evaluation.report import (
    INK,
    MUTED,
    RULE,
    SERIES,
    drawing,
    keep_pictures,
    photo_uri,
    plain,
    render,
    so_many_categories,
    tidy,
)
from etalage.metrics import Interval

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


def write_category_report(
    path: Path,
    measured: CategoryMeasures,
    taxonomy: "Taxonomy",
    *,
    facts: Mapping[str, str],
    title: str | None = None,
    gate: Verdict | None = None,
    history: Sequence[Mapping[str, float]] = (),
    photos: Callable[[int], bytes | None] | None = None,
    titles: Sequence[str | None] | None = None,
    value_words: str = "its value",
) -> list[Path]:
    """Write the report of `measured` to `path`; its plots as PNG files, and the confusion matrix of the most
    valuable categories as CSV and JSON, into the folder of the same name. Returns them all, the page first.

    gate: the verdict, where it was reached on other items; None: `measured`'s. history: metrics by epoch.
    photos: gives the image file of a measured row (0 … N - 1) where there is one; only a few are asked for.
    titles: of the N rows. value_words: what a category's value is, in words. Every text is escaped.
    """
    model, ours = next(iter(measured.scores.items()))
    matrix = most_valuable(measured.truth_N, ours.decided_N, measured.values_L, taxonomy)
    mistakes = worst_mistakes(
        measured.truth_N, ours.decided_N, ours.confidence_N, measured.values_L, taxonomy
    )
    plots = {
        "levels": _levels(measured),
        "reliability": _reliability(measured),
        "coverage": _coverage(measured),
        "confusion": draw_confusion(matrix),
        "epochs": epochs(history, ("accuracy", "loss")) if history else None,
    }
    folder = path.with_suffix("")
    keep_pictures(folder, plots)
    (folder / "confusion.csv").write_text(matrix.to_csv(), encoding="utf-8")
    kept = json.dumps(matrix.to_json(), ensure_ascii=False) + "\n"
    (folder / "confusion.json").write_text(kept, encoding="utf-8")
    page = render(
        "category.html.j2",
        path,
        title=path.stem if title is None else title,
        facts=dict(facts),
        verdict=measured.verdict if gate is None else gate,
        metric="accuracy",
        model=model,
        systems=list(measured.scores),
        best_simple=measured.best_simple,
        items=len(measured.truth_N),
        groups=measured.groups,
        leaves=so_many_categories(measured.levels[-1].categories),
        table=table(measured),
        by_level=_by_level(measured),
        value_words=value_words,
        shown=len(matrix.ids),
        mistakes=[_mistake(one, photos, titles) for one in mistakes],
        **{f"{name}_plot": plot for name, plot in plots.items()},
    )
    return [page, *sorted(folder.glob("*.png")), folder / "confusion.csv", folder / "confusion.json"]


def table(measured: CategoryMeasures) -> list[dict[str, Any]]:
    """The leaves' metrics, a row each: a cell a system, the best marked; and the first system's gain."""
    ours = next(iter(measured.scores.values()))
    return [
        _row(measured, name, words_of(name), ours.gains.get(name))
        for name in ours.intervals
        if "_level_" not in name
    ]


def words_of(name: str) -> str:
    """A metric's name as a reader would say it."""
    bare, _, level = name.partition("_level_")
    words = WORDS.get(bare, bare.replace("_", " "))
    return f"{words}, level {level}" if level else words


def _by_level(measured: CategoryMeasures) -> list[dict[str, Any]]:
    ours = next(iter(measured.scores.values()))
    rows = []
    for level in measured.levels:
        own = [
            name
            for name in ours.intervals
            if name.partition("_level_")[2] == (str(level.depth) if level.suffix else "")
            and name.startswith(("accuracy", "top_", "macro_f1"))
        ]
        metrics = [_row(measured, name, words_of(name.partition("_level_")[0]), None) for name in own]
        rows.append(
            {"depth": level.depth, "categories": so_many_categories(level.categories), "metrics": metrics}
        )
    return rows


def _row(measured: CategoryMeasures, name: str, words: str, gain: Interval | None) -> dict[str, Any]:
    cells = [scores.intervals[name] for scores in measured.scores.values()]
    lower = name.startswith(LOWER)
    best = (min if lower else max)(cell.value for cell in cells)
    sure = ""
    if gain is not None and (gain.low > 0 or gain.high < 0):
        sure = "better" if (gain.high < 0) == lower else "worse"
    return {
        "name": name,
        "words": words,
        "lower": lower,
        "cells": [
            {**_cell(cell), "best": len(cells) > 1 and f"{cell.value:.3f}" == f"{best:.3f}"} for cell in cells
        ],
        "gain": None if gain is None else _cell(gain, "+"),
        "sure": sure,
    }


def _cell(interval: Interval, sign: str = "") -> dict[str, str]:
    return {part: f"{value:{sign}.3f}" for part, value in interval._asdict().items()}


def _mistake(
    one: Mistake, photo: Callable[[int], bytes | None] | None, titles: Sequence[str | None] | None
) -> dict[str, Any]:
    def figures(rows: Sequence[int]) -> list[dict[str, str | None]]:
        found = []
        for row in rows:
            data = photo(row) if photo is not None else None
            title = titles[row] if titles is not None else None
            found.append({"photo": photo_uri(data) if data else None, "title": title})
        return found

    return {
        "true": one.true,
        "predicted": one.predicted,
        "count": one.count,
        "of": one.of,
        "lost": f"{100 * one.lost:.2f}%",
        "edges": one.edges,
        "wrong": figures(one.rows),
        "alike": figures(one.alike),
    }


def _levels(measured: CategoryMeasures) -> str:
    """Accuracy by level, a group of bars each, with intervals."""
    figure = Figure(figsize=(9.2, 3.2))
    axes = figure.subplots()
    width = 0.8 / len(measured.scores)
    for number, (system, scores) in enumerate(measured.scores.items()):
        values = np.array([scores.intervals[f"accuracy{level.suffix}"] for level in measured.levels])
        at = np.arange(len(values)) + (number - (len(measured.scores) - 1) / 2) * width
        axes.bar(at, values[:, 0], width * 0.92, label=plain(system), color=SERIES[number % len(SERIES)])
        reach = np.maximum(0, np.stack([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]))
        axes.errorbar(at, values[:, 0], reach, fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
    names = [f"level {level.depth}\n{so_many_categories(level.categories)}" for level in measured.levels]
    axes.set_xticks(range(len(names)), names)
    axes.set_ylim(0, 1)
    axes.set_ylabel("accuracy")
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    columns = min(4, len(measured.scores))
    axes.legend(frameon=False, ncols=columns, loc="lower left", bbox_to_anchor=(0, 1), fontsize=9)
    return drawing(tidy(figure))


def _reliability(measured: CategoryMeasures) -> str:
    """Confidence against accuracy of the first system, with how many answers are how sure."""
    ours = next(iter(measured.scores.values()))
    figure = Figure(figsize=(4.5, 4.3))
    above, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    above.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
    above.plot(ours.reliability.confidence, ours.reliability.accuracy, "o-", color=SERIES[0], markersize=5)
    above.set_ylabel("share that is right")
    above.set_ylim(0, 1.02)
    below.hist(ours.confidence_N, bins=20, range=(0, 1), color=SERIES[0], rwidth=0.92)
    below.set_xlabel("confidence")
    below.set_ylabel("items")
    below.set_xlim(0, 1.02)
    for axes in (above, below):
        axes.grid(color=RULE, linewidth=0.8)
    return drawing(tidy(figure))


def _coverage(measured: CategoryMeasures) -> str:
    """Accuracy of those that are answered, as fewer are."""
    figure = Figure(figsize=(4.5, 4.3))
    axes = figure.subplots()
    for number, (system, scores) in enumerate(measured.scores.items()):
        axes.plot(
            scores.coverage.coverage,
            scores.coverage.accuracy,
            color=SERIES[number % len(SERIES)],
            label=plain(system),
            linewidth=2.2 if number == 0 else 1.5,
            zorder=3 if number == 0 else 2,  # two ways of deciding may draw one line: ours is seen
            marker="o" if len(scores.coverage.coverage) < 3 else None,
        )
    axes.axhline(0.9, color=MUTED, linewidth=1, linestyle="--")
    axes.set_xlabel("share of items that get a category")
    axes.set_ylabel("share of those that is right")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.grid(color=RULE, linewidth=0.8)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(-0.1, 1))
    return drawing(tidy(figure))
