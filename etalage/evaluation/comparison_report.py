"""The page of all models of behaviour: which one, each against each, slices, the order of the candidates."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etalage.evaluation.behaviour_report import published_rows
from etalage.evaluation.report import bars, keep_pictures, render
from etalage.evaluation.report import table as metric_table
from etalage.metrics import Interval

if TYPE_CHECKING:
    from etalage.evaluation.comparison import ModelComparison

TITLE = "models of behaviour"


def write_comparison_report(path: Path, done: "ModelComparison", facts: Mapping[str, str]) -> Path:
    """Write the report of `done`, its plot as a PNG file into a folder beside it; returns `path`."""
    first = {name: dict(sorted(one.items(), key=lambda pair: _order(pair[0], done.metric))) for name, one in
             done.scores.items()}  # fmt: skip
    plots = {"bars": bars(first, None, recall=True)}
    keep_pictures(path.with_suffix(""), plots)
    return render(
        "together.html.j2",
        path,
        title=TITLE,
        facts=dict(facts),
        verdict=None,
        answer=done.answer,
        members=done.members,
        left_out=done.left_out,
        notes=done.notes,
        queries=f"{done.queries:,}",
        part=done.part,
        metric=done.metric.replace("_at_", " @ ").replace("_", " "),
        rows=[_row(one) for one in done.rows],
        systems=list(first),
        matrix=[
            {"system": name, "cells": [_gain(done.gains[name].get(other)) for other in first]}
            for name in first
        ],
        table=metric_table(first),
        slices=_slices(done),
        published=published_rows(done.published),
        ordering=list(done.ordered),
        ordered=metric_table(done.ordered) if done.ordered else [],
        **plots,
    )


def _order(name: str, metric: str) -> tuple[bool, str, int]:
    """The deciding metric first, then by name and k."""
    kind, _, k = name.rpartition("_at_")
    return name != metric, kind or name, int(k) if k.isdigit() else 0


def _row(one: Any) -> dict[str, Any]:
    return {
        "system": one.system,
        "role": one.role,
        "funnel": one.role == "funnel",
        "metric": one.metric.replace("_at_", " @ ").replace("_", " "),
        "value": _figure(one.value),
        "over": one.over,
        "gain": _gain(one.gain),
        "verdict": one.verdict,
    }


def _figure(one: Interval) -> dict[str, str]:
    return {"value": f"{one.value:.4f}", "low": f"{one.low:.4f}", "high": f"{one.high:.4f}"}


def _gain(one: Interval | None) -> dict[str, str] | None:
    if one is None:
        return None
    sure = "better" if one.low > 0 else "worse" if one.high < 0 else ""
    return {"value": f"{one.value:+.4f}", "low": f"{one.low:+.4f}", "high": f"{one.high:+.4f}", "sure": sure}


def _slices(done: "ModelComparison") -> list[dict[str, Any]]:
    rows = []
    for one in done.slices:
        top = f"{max(interval.value for interval in one.values.values()):.4f}"
        figures = [_figure(one.values[name]) if name in one.values else None for name in done.scores]
        cells = [
            None if cell is None else {**cell, "best": cell["value"] == top and float(top) > 0}
            for cell in figures
        ]
        rows.append({"name": one.name, "words": one.words, "queries": f"{one.queries:,}", "cells": cells})
    return rows
