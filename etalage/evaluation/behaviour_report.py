"""The page of a model of behaviour: figures beside the simple ones, slices, calibration, ten shoppers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from etalage.evaluation.measured import Measured
from etalage.evaluation.report import INK, MUTED, RULE, SERIES, bars, drawing, keep_pictures, plain, render
from etalage.evaluation.report import table as metric_table
from etalage.features.behaviour import BehaviourSet

if TYPE_CHECKING:
    from etalage.evaluation.behaviour_result import BehaviourEvaluation
    from etalage.evaluation.ranking import Published

SHOPPERS, SHOWN, REMEMBERED = 10, 10, 8
CURVES = ("auroc", "ndcg", "recall", "hit", "mrr", "loss")
"""Metrics by epoch are drawn in this order; the first two kinds that there are."""


def write_behaviour_report(
    path: Path,
    done: "BehaviourEvaluation",
    shown: Measured,
    data: BehaviourSet,
    *,
    facts: Mapping[str, str],
    history: Sequence[Mapping[str, float]] = (),
    titles: Mapping[str, str] | None = None,
) -> Path:
    """Write the report of `done`, its plots as PNG files into a folder beside it; returns `path`."""
    first = {name: dict(sorted(one.items(), key=lambda pair: _order(pair[0], done.metric))) for name, one in
             done.scores.items()}  # fmt: skip
    plots = {
        "bars": bars(first, done.verdict, recall=True),
        "epochs": epochs(history) if history else None,
        "calibration": _calibration(shown) if done.labelled else None,
    }
    keep_pictures(path.with_suffix(""), plots)
    return render(
        "behaviour.html.j2",
        path,
        title=path.stem,
        facts=dict(facts),
        verdict=done.verdict,
        role=done.role,
        part=done.part,
        systems=list(first),
        table=metric_table(first),
        spread=_spread(done),
        metric=done.metric,
        queries=len(shown.asked.truth),
        slices=_slices(done),
        published=published_rows(done.published),
        labelled=[{"system": name, **one} for name, one in done.labelled.items()],
        shoppers=_shoppers(done.model, shown, data, titles or {}),
        **plots,
    )


def _order(name: str, metric: str) -> tuple[int, int, str]:
    """The deciding metric first, then those with its k, then by k."""
    k = name.rpartition("_at_")[2]
    if name == metric:
        return (0, 0, "")
    return (1 if k == metric.rpartition("_at_")[2] else 2, int(k) if k.isdigit() else 1000, name)


def _spread(done: "BehaviourEvaluation") -> list[dict[str, Any]]:
    names = list(next(iter(done.spread.values()), {}))
    return [
        {
            "name": name,
            "cells": [f"{done.spread[s][name]:.3f}" if s in done.spread else "" for s in done.scores],
        }
        for name in names
    ]


def _slices(done: "BehaviourEvaluation") -> list[dict[str, Any]]:
    rows = []
    for one in done.slices:
        top = f"{max(interval.value for interval in one.values.values()):.4f}"
        shown = [f"{one.values[name].value:.4f}" for name in done.scores]
        cells = [{"value": value, "best": value == top and float(top) > 0} for value in shown]
        sure = "better" if one.gain.low > 0 else "worse" if one.gain.high < 0 else ""
        gain = {
            "value": f"{one.gain.value:+.4f}",
            "low": f"{one.gain.low:+.4f}",
            "high": f"{one.gain.high:+.4f}",
        }
        rows.append(
            {"name": one.name, "words": one.words, "queries": f"{one.queries:,}", "cells": cells,
             "gain": gain, "over": one.best, "sure": sure, "judged": one.name == done.slice}
        )  # fmt: skip
    return rows


def published_rows(published: "Mapping[str, Published]") -> list[dict[str, str]]:
    """A row a system: hits and nDCG, as published and without faulty negatives."""
    return [
        {"system": name, "k": str(one.k), "faulty": f"{one.faulty:.2%}"}
        | {figure: f"{value:.4f}" for figure, value in one.figures().items()}
        for name, one in published.items()
    ]


def _shoppers(
    model: str, shown: Measured, data: BehaviourSet, titles: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Some shoppers, drawn: what they did last, what the model would show, what they took."""
    asked, ranked = shown.asked, shown.ranked[model]
    count = len(asked.truth)
    drawn = np.sort(np.random.default_rng(0).choice(count, min(SHOPPERS, count), replace=False))

    def named(row: int) -> str:
        if row == 0:
            return "an unknown item"
        return titles.get(data.items.id(row), data.items.id(row))

    found = []
    for query in drawn:
        begin, end = asked.queries.starts[query : query + 2]
        right = {int(row) for row in asked.truth[query]}
        slate = [int(row) for row in ranked.slates[query, :SHOWN] if row > 0]
        user = int(asked.queries.users[query])
        found.append(
            {
                "user": data.users.id(user) if user > 0 else "an unknown shopper",
                "acts": int(end - begin),
                "history": [
                    named(int(row)) for row in asked.queries.items[max(begin, end - REMEMBERED) : end]
                ],
                "slate": [{"name": named(row), "hit": row in right} for row in slate],
                "missed": [named(row) for row in sorted(right - set(slate))],
            }
        )
    return found


def epochs(history: Sequence[Mapping[str, float]], curves: Sequence[str] = CURVES) -> str | None:
    """Metrics by epoch: of the first two kinds, of `curves`, that there are, a panel each."""
    names = sorted({name for one in history for name in one})
    kinds = [(kind, [n for n in names if kind in n]) for kind in curves]
    kinds = [(kind, some) for kind, some in kinds if some][:2]
    if not kinds:
        return None
    figure = Figure(figsize=(9.2, 3.0))
    panels = np.atleast_1d(figure.subplots(1, len(kinds)))
    for axes, (_, some) in zip(panels, kinds, strict=True):
        for number, name in enumerate(some):
            at = [n for n, one in enumerate(history, 1) if name in one]
            values = [history[n - 1][name] for n in at]
            axes.plot(at, values, marker="o", ms=3.5, color=SERIES[number % len(SERIES)], label=plain(name))
        axes.set_xlabel("epoch")
        axes.grid(axis="y", color=RULE, linewidth=0.8)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, fontsize=9)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, colors=INK)
        for side, spine in axes.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(MUTED)
    figure.tight_layout()
    return drawing(figure)


def _calibration(shown: Measured) -> str | None:
    """Predicted against observed, each system a line; below it how often each prediction is made."""
    if shown.ordered is None:
        return None
    figure = Figure(figsize=(9.2, 4.2))
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    for number, name in enumerate(shown.ordered.probabilities):
        found = shown.ordered.calibration(name)
        there = found.counts > 0
        colour = SERIES[number % len(SERIES)]
        label = f"{plain(name)} (error {found.error:.4f})"
        axes.plot(found.predicted[there], found.observed[there], marker="o", ms=4, color=colour, label=label)
        middles = (np.arange(len(found.counts)) + 0.5) / len(found.counts)
        below.plot(middles, np.maximum(found.counts, 0.5), drawstyle="steps-mid", color=colour)
    below.set_yscale("log")
    axes.set_ylabel("share that was right")
    below.set_ylabel("candidates")
    below.set_xlabel("predicted probability")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    for panel in (axes, below):
        panel.grid(axis="y", color=RULE, linewidth=0.8)
        panel.tick_params(length=0, colors=INK)
        for side, spine in panel.spines.items():
            spine.set_visible(side == "bottom")
            spine.set_color(MUTED)
    return drawing(figure)
