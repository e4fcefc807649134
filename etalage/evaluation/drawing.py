"""Plots of reports: matplotlib figures as data URIs, alike in their colours and axes."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from etalage.evaluation.category_confusion import ELSEWHERE, MOST, Confusion, short_names
from etalage.evaluation.names import name_of_leaf
from etalage.evaluation.palette import COLOURS, Marks, palette
from etalage.metrics import Calibration, Interval

INK, MUTED, RULE = "#1f2430", "#565e6c", "#e2e4e8"
CURVES = ("accuracy", "auroc", "ndcg", "recall", "hit", "mrr", "loss")
"""Metrics by epoch are drawn in this order; the first two kinds that there are."""


def data_uri(figure: Figure) -> str:
    """The figure as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144, bbox_inches="tight", facecolor="white")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def plain(text: str) -> str:
    """matplotlib reads $…$ as mathematics, and leaves names that start with _ out of a legend."""
    return ("\u200b" if text.startswith("_") else "") + text.replace("$", r"\$")


def tidy(figure: Figure, grid: bool = True) -> Figure:
    """Without ticks and frames; the axis below stays, where there is a grid."""
    for axes in figure.axes:
        axes.set_axisbelow(True)
        axes.tick_params(length=0, colors=INK)
        for side, spine in axes.spines.items():
            spine.set_visible(grid and side == "bottom")
            spine.set_color(MUTED)
    return figure


def draw_bars(
    scores: Mapping[str, Mapping[str, Interval]],
    names: Sequence[str],
    top: float | None = None,
    labels: Sequence[str] | None = None,
    ylabel: str = "",
    marks: Marks | None = None,
) -> str:
    """The metrics `names` of each system with their intervals, a group of bars each.

    top: where the axis ends; None: where the figures do. labels: what stands below the groups.
    """
    figure = Figure(figsize=(9.2, 3.2))
    axes = figure.subplots()
    width = 0.8 / len(scores)
    colours = marks or palette(scores)
    for number, (system, one) in enumerate(scores.items()):
        values = np.array([one[name] for name in names])
        at = np.arange(len(names)) + (number - (len(scores) - 1) / 2) * width
        axes.bar(at, values[:, 0], width * 0.92, label=plain(system), color=colours[system][0])
        reach = np.maximum(0, np.stack([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]))
        axes.errorbar(at, values[:, 0], reach, fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
    below = labels or [name.replace("_at_", " @ ").replace("knn_", "kNN\n") for name in names]
    axes.set_xticks(range(len(names)), below)
    axes.set_ylim(0, top)
    axes.set_ylabel(ylabel)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    count = len(scores)
    columns = count if count <= 5 else (count + 1) // 2  # one row, or two of about the same length
    axes.legend(frameon=False, ncols=columns, loc="lower left", bbox_to_anchor=(0, 1), fontsize=9)
    return data_uri(tidy(figure))


def draw_epochs(history: Sequence[Mapping[str, float]]) -> str | None:
    """Metrics by epoch: of the first two kinds, of CURVES, that there are, a panel each."""
    names = sorted({name for one in history for name in one})
    kinds = [(kind, [n for n in names if kind in n]) for kind in CURVES]
    kinds = [(kind, some) for kind, some in kinds if some][:2]
    if not kinds:
        return None
    figure = Figure(figsize=(9.2, 3.0))
    panels = np.atleast_1d(figure.subplots(1, len(kinds)))
    for axes, (_, some) in zip(panels, kinds, strict=True):
        for number, name in enumerate(some):
            at = [n for n, one in enumerate(history, 1) if name in one]
            values = [history[n - 1][name] for n in at]
            axes.plot(at, values, marker="o", ms=3.5, color=COLOURS[number % len(COLOURS)], label=plain(name))
        axes.set_xlabel("epoch")
        axes.grid(axis="y", color=RULE, linewidth=0.8)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, fontsize=9)
    tidy(figure).tight_layout()
    return data_uri(figure)


def draw_confusion_by_row(matrix: np.ndarray, names: Sequence[str]) -> str:
    """Each row as shares of its sum; counts of categories that nobody asked about stay blank."""
    count = len(names)
    sums = np.asarray(matrix).sum(axis=1, keepdims=True)
    shares = np.divide(matrix, sums, out=np.zeros((count, count)), where=sums > 0)
    side = min(13.0, max(4.2, 2.2 + 0.52 * count if count <= 16 else 3.2 + 0.22 * count))
    figure = Figure(figsize=(side, side * 0.95))
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9 if count <= 16 else 7
    leaves = [name_of_leaf(name) for name in names]
    short = leaves if len(set(leaves)) == count else list(names)
    short = [plain(name if len(name) <= 28 else "…" + name[-27:]) for name in short]
    axes.set_xticks(range(count), short, rotation=60, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(range(count), short, fontsize=size)
    axes.set_xlabel("category by vote of the neighbours")
    axes.set_ylabel("own category")
    if count <= 25:
        write_shares(axes, shares, size - 1)
    return data_uri(tidy(figure, grid=False))


def write_shares(axes: Any, shares: np.ndarray, size: float) -> None:
    """Into each cell of a confusion matrix its percentage, where it is one."""
    for row, column in zip(*np.nonzero(shares >= 0.005), strict=True):
        share = shares[row, column]
        cell = axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=size)
        cell.set_color("white" if share > 0.55 else INK)


def draw_map(points: np.ndarray, labels: np.ndarray, named: Sequence[str]) -> str:
    """(N, 2) points, those of the categories `named` each in a colour, the others in grey."""
    figure = Figure(figsize=(9.2, 5.6))
    axes = figure.subplots()
    rest = ~np.isin(labels, named)
    axes.scatter(points[rest, 0], points[rest, 1], s=7, color=RULE, linewidths=0)
    for number, name in enumerate(named):
        x, y = points[labels == name].T
        colour = _colours(len(named))[number]
        axes.scatter(x, y, s=9, color=colour, alpha=0.7, linewidths=0, label=plain(name_of_leaf(name)))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9, markerscale=2.5)
    return data_uri(tidy(figure, grid=False))


def _colours(count: int) -> Any:
    from matplotlib import colormaps

    palette = "tab10" if count <= 10 else "tab20"
    return colormaps[palette].colors  # type: ignore[attr-defined]


def draw_calibration(systems: Mapping[str, Calibration], marks: Marks | None = None) -> str:
    """Predicted against observed, each system a line; below it how often each prediction is made."""
    figure = Figure(figsize=(9.2, 4.2))
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    colours = marks or palette(systems)
    for name, found in systems.items():
        there = found.counts > 0
        colour = colours[name][0]
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
    return data_uri(tidy(figure))


def draw_reliability(confidence: np.ndarray, accuracy: np.ndarray, confidence_N: np.ndarray) -> str:
    """Confidence against accuracy, a point a bin, with how many of the N answers are how sure."""
    figure = Figure(figsize=(4.5, 4.3))
    above, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    above.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
    above.plot(confidence, accuracy, "o-", color=COLOURS[0], markersize=5)
    above.set_ylabel("share that is right")
    above.set_ylim(0, 1.02)
    below.hist(confidence_N, bins=20, range=(0, 1), color=COLOURS[0], rwidth=0.92)
    below.set_xlabel("confidence")
    below.set_ylabel("items")
    below.set_xlim(0, 1.02)
    for axes in (above, below):
        axes.grid(color=RULE, linewidth=0.8)
    return data_uri(tidy(figure))


def draw_coverage(systems: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Accuracy of those that are answered, as fewer are: system → coverage, accuracy."""
    figure = Figure(figsize=(4.5, 4.3))
    axes = figure.subplots()
    colours = palette(systems)
    for number, (system, (coverage, accuracy)) in enumerate(systems.items()):
        axes.plot(
            coverage,
            accuracy,
            color=colours[system][0],
            label=plain(system),
            linewidth=2.2 if number == 0 else 1.5,
            zorder=3 if number == 0 else 2,  # two ways of deciding may draw one line: ours is seen
            marker="o" if len(coverage) < 3 else None,
        )
    axes.axhline(0.9, color=MUTED, linewidth=1, linestyle="--")
    axes.set_xlabel("share of items that get a category")
    axes.set_ylabel("share of those that is right")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.grid(color=RULE, linewidth=0.8)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(-0.1, 1))
    return data_uri(tidy(figure))


def draw_confusion(confusion: Confusion) -> str:
    """The matrix as a data URI: the share of each true category (a column) by where it is put (a row)."""
    count = len(confusion.ids)
    elsewhere = confusion.elsewhere_C / np.maximum(confusion.counts_CC.sum(axis=0) + confusion.elsewhere_C, 1)
    shares = np.concatenate([confusion.shares_CC, elsewhere[None]])
    side = min(15.0, max(4.6, 2.6 + 0.52 * count if count <= 16 else 3.6 + 0.22 * count))
    figure = Figure(figsize=(side, side))
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.axhline(count - 0.5, color="white", linewidth=3)
    size = 9 if count <= 16 else 7
    names = [plain(name) for name in short_names(confusion.paths)]
    axes.set_xticks(range(count), names, rotation=60, ha="left", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(range(count + 1), [*names, ELSEWHERE], fontsize=size)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("true category, most valuable first")
    axes.set_ylabel("predicted category")
    if count <= MOST:
        for row, column in zip(*np.nonzero(shares >= 0.005), strict=True):
            share = shares[row, column]
            cell = axes.text(
                column,
                row,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                fontsize=size - (1 if count <= 25 else 2),
            )
            cell.set_color("white" if share > 0.55 else INK)
    return data_uri(tidy(figure, grid=False))
