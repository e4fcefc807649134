"""One HTML file that shows how good a model is: self-contained, readable without a network."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from etalage.console import counted
from etalage.errors import PhotoRefused
from etalage.evaluation.gate import Verdict
from etalage.evaluation.protocols import Scores
from etalage.features.photo import open_photo
from etalage.metrics import Interval

PHOTO_SIDE = 128
"""Photos are shrunk to this many pixels a side: a report of 100 photos stays below a few MB."""
MAP_POINTS = 4_000
INK, MUTED, RULE = "#1f2430", "#6b7280", "#e5e7eb"
SERIES = ("#2f5d8c", "#c8c2b6", "#a39b8b", "#7d7568", "#e0b15a", "#d8d3ca", "#5c5549", "#efe0b9")
"""The model in blue, the simple systems in greys."""

Strip = tuple[bytes, str, Sequence[tuple[bytes, str, bool, float]]]
"""A query photo with its category, and its neighbours: photo, category, hit, score."""


def write_report(
    path: Path,
    *,
    title: str,
    scores: Mapping[str, Scores],
    verdict: Verdict | None,
    strips: Sequence[Strip] = (),
    confusion: tuple[np.ndarray, Sequence[str]] | None = None,
    facts: Mapping[str, str] | None = None,
    embeddings: tuple[np.ndarray, Sequence[str] | np.ndarray] | None = None,
    pictures: Path | None = None,
) -> Path:
    """Write the report to `path` and return it.

    `scores`: system → its Scores, the model first. `strips`: (query photo, category, [(photo, category,
    hit, score)]), photos as encoded image files. `confusion`: (C, C) counts, own category by row, and
    the C names. `embeddings`: (N, D) and their N categories, for a map. Every text is escaped.
    `pictures`: a folder that gets the plots as PNG files too.
    """
    intervals = {name: one.intervals for name, one in scores.items()}
    plots = {
        "bars": bars(intervals, verdict) if scores else None,
        "confusion": _confusion(*confusion) if confusion and len(confusion[1]) else None,
    }
    keep_pictures(pictures, plots)
    return render(
        "report.html.j2",
        path,
        title=title,
        facts=dict(facts or {}),
        verdict=verdict,
        systems=list(scores),
        table=table(intervals),
        metric=verdict.metric if verdict else None,
        queries=len(next(iter(scores.values())).neighbours) if scores else 0,
        bars=plots["bars"],
        strips=[_strip(*strip) for strip in strips],
        confusion=plots["confusion"],
        map=_map(*embeddings) if embeddings and len(embeddings[1]) > 2 else None,
    )


def render(template: str, path: Path, **content: Any) -> Path:
    """Write the page of this template to `path`, every text escaped."""
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(pages.get_template(template).render(**content), encoding="utf-8")
    return path


def keep_pictures(folder: Path | None, plots: Mapping[str, str | None]) -> None:
    """The plots, data URIs, as PNG files too."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, plot in plots.items():
        if plot is not None:
            (folder / f"{name}.png").write_bytes(base64.b64decode(plot.partition(",")[2]))


def table(intervals: Mapping[str, Mapping[str, Interval]]) -> list[dict[str, Any]]:
    """Of system → metric → interval one row a metric: a cell a system, the best marked."""
    rows = []
    for name in next(iter(intervals.values()), {}):
        cells = [one[name] for one in intervals.values()]
        top = max(cell.value for cell in cells)
        # Small values, such as recall@5 in a category of thousands, need more digits to differ.
        digits = 3 if top >= 0.05 or top == 0 else 5
        rows.append(
            {
                "name": name,
                "cells": [
                    {
                        "value": f"{cell.value:.{digits}f}",
                        "low": f"{cell.low:.{digits}f}",
                        "high": f"{cell.high:.{digits}f}",
                        "best": len(cells) > 1
                        and top > 0
                        and f"{cell.value:.{digits}f}" == f"{top:.{digits}f}",
                    }
                    for cell in cells
                ],
            }
        )
    return rows


def _strip(query: bytes, category: str, answers: Sequence[tuple[bytes, str, bool, float]]) -> dict[str, Any]:
    return {
        "query": photo_uri(query),
        "category": category,
        "leaf": _leaf(category),
        "answers": [
            {
                "photo": photo_uri(photo),
                "category": category,
                "leaf": _leaf(category),
                "hit": hit,
                "score": f"{score:.3f}",
            }
            for photo, category, hit, score in answers
        ],
    }


def _leaf(category: str) -> str:
    return category.rpartition(" > ")[2]


def photo_uri(data: bytes) -> str | None:
    """A data URI of the photo, shrunk; None where it cannot be shown."""
    try:
        image = open_photo(data)
    except PhotoRefused:
        return None
    image.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
    buffer = io.BytesIO()
    # PNG keeps a small photo sharp; a larger one is smaller as JPEG.
    kind = "PNG" if max(image.size) <= 48 else "JPEG"
    image.save(buffer, kind, quality=88)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def drawing(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=144, bbox_inches="tight", facecolor="white")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def bars(
    intervals: Mapping[str, Mapping[str, Interval]], verdict: Verdict | None, recall: bool = False
) -> str:
    """The metrics at the verdict's k (else the largest k), and mrr, with their intervals.

    With `recall` that too, and the axis ends where the figures do.
    """
    names = list(next(iter(intervals.values())))
    k = verdict.metric.rpartition("_at_")[2] if verdict else ""
    if not k.isdigit():
        k = max((n.rpartition("_at_")[2] for n in names if "_at_" in n), key=int, default="")
    chosen = [n for n in names if n.endswith(f"_at_{k}") and (recall or not n.startswith("recall"))]
    chosen += ["mrr"] if "mrr" in names else []
    figure = Figure(figsize=(9.2, 3.2))
    axes = figure.subplots()
    width = 0.8 / len(intervals)
    for number, (system, one) in enumerate(intervals.items()):
        values = np.array([one[n] for n in chosen])
        at = np.arange(len(chosen)) + (number - (len(intervals) - 1) / 2) * width
        axes.bar(at, values[:, 0], width * 0.92, label=plain(system), color=SERIES[number % len(SERIES)])
        reach = np.maximum(0, np.stack([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]))
        axes.errorbar(at, values[:, 0], reach, fmt="none", ecolor=INK, elinewidth=1, capsize=2.5)
    axes.set_xticks(range(len(chosen)), [n.replace("_at_", " @ ").replace("knn_", "kNN\n") for n in chosen])
    axes.set_ylim(0, None if recall else 1)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    axes.legend(
        frameon=False, ncols=_columns(len(intervals)), loc="lower left", bbox_to_anchor=(0, 1), fontsize=9
    )
    return drawing(tidy(figure))


def _columns(entries: int) -> int:
    """Of a legend: one row, or two of about the same length."""
    return entries if entries <= 5 else (entries + 1) // 2


def _confusion(matrix: np.ndarray, names: Sequence[str]) -> str:
    """Each row as shares of its sum; counts of categories that nobody asked about stay blank."""
    count = len(names)
    sums = np.asarray(matrix).sum(axis=1, keepdims=True)
    shares = np.divide(matrix, sums, out=np.zeros((count, count)), where=sums > 0)
    side = min(13.0, max(4.2, 2.2 + 0.52 * count if count <= 16 else 3.2 + 0.22 * count))
    figure = Figure(figsize=(side, side * 0.95))
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9 if count <= 16 else 7
    leaves = [_leaf(name) for name in names]
    short = leaves if len(set(leaves)) == count else list(names)
    short = [plain(name if len(name) <= 28 else "…" + name[-27:]) for name in short]
    axes.set_xticks(range(count), short, rotation=60, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(range(count), short, fontsize=size)
    axes.set_xlabel("category by vote of the neighbours")
    axes.set_ylabel("own category")
    if count <= 25:
        for row, column in zip(*np.nonzero(shares >= 0.005), strict=True):
            share = shares[row, column]
            cell = axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=size - 1)
            cell.set_color("white" if share > 0.55 else INK)
    return drawing(tidy(figure, grid=False))


def _map(embeddings: np.ndarray, labels: Sequence[str] | np.ndarray) -> dict[str, Any]:
    """The first two principal components of a sample, coloured by category."""
    labels = np.asarray(labels).astype(str)
    if len(embeddings) > MAP_POINTS:
        chosen = np.sort(np.random.default_rng(0).permutation(len(embeddings))[:MAP_POINTS])
        embeddings, labels = embeddings[chosen], labels[chosen]
    centred = np.asarray(embeddings, np.float64) - embeddings.mean(axis=0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(left), 2))
    shown = min(2, len(singular))
    points[:, :shown] = left[:, :shown] * singular[:shown]
    explained = float((singular[:2] ** 2).sum() / max((singular**2).sum(), 1e-12))
    names, counts = np.unique(labels, return_counts=True)
    named = np.sort(names[np.argsort(-counts, kind="stable")[:20]])
    figure = Figure(figsize=(9.2, 5.6))
    axes = figure.subplots()
    rest = ~np.isin(labels, named)
    axes.scatter(points[rest, 0], points[rest, 1], s=7, color=RULE, linewidths=0)
    for number, name in enumerate(named):
        x, y = points[labels == name].T
        colour = _colours(len(named))[number]
        axes.scatter(x, y, s=9, color=colour, alpha=0.7, linewidths=0, label=plain(_leaf(name)))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9, markerscale=2.5)
    image = drawing(tidy(figure, grid=False))
    share = f"{100 * explained:.0f}"
    return {"image": image, "points": len(points), "explained": share, "rest": int(rest.sum())}


def _colours(count: int) -> Any:
    from matplotlib import colormaps

    palette = "tab10" if count <= 10 else "tab20"
    return colormaps[palette].colors  # type: ignore[attr-defined]


def so_many_categories(count: int) -> str:
    return counted(count, "category", "categories")


def plain(text: str) -> str:
    """matplotlib reads $…$ as mathematics, and leaves names that start with _ out of a legend."""
    return ("\u200b" if text.startswith("_") else "") + text.replace("$", r"\$")


def tidy(figure: Figure, grid: bool = True) -> Figure:
    for axes in figure.axes:
        axes.set_axisbelow(True)
        axes.tick_params(length=0, colors=INK)
        for side, spine in axes.spines.items():
            spine.set_visible(grid and side == "bottom")
            spine.set_color(MUTED)
    return figure
