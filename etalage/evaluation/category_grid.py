"""The comparison grid of models of categories: how good, how long to train, how fast to answer, how large.

One row a model (S1.18). A backbone whose weights were drawn at random, because none lie on this machine, says
how fast its shape is and nothing about how good it would be: it is marked, timed, and not ranked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from etalage.evaluation.categories import CategoryMeasures
from etalage.evaluation.category_sections import counted_categories
from etalage.evaluation.drawing import INK, MUTED, RULE, plain
from etalage.metrics import Interval

GOOD = "#2f5d8c"
RANDOM = "random weights"


@dataclass(frozen=True)
class Measured:
    """One model. `minutes` of training; milliseconds a photo at batch 1 and 64; megabytes of the export."""

    name: str
    minutes: float | None
    ms_1: float | None
    ms_64: float | None
    megabytes: float | None
    intervals: dict[str, Interval] | None = None
    """Metric → value and interval, by CategoryScores' names; None where there is nothing to rank."""
    random: bool = False
    """The backbone's weights were drawn at random: whatever `intervals` holds is not shown."""

    @property
    def ranked(self) -> bool:
        return self.intervals is not None and not self.random


@dataclass(frozen=True)
class Column:
    """`metric`: a name of CategoryScores, or an attribute of Measured. `group`: what several stand under."""

    metric: str
    title: str
    group: str
    lower: bool = False
    digits: int = 3


@dataclass(frozen=True)
class Cell:
    text: str
    interval: str
    best: bool
    shade: float
    """0 … 1, from the worst of the column to its best; 0 where there is nothing to compare."""


@dataclass(frozen=True)
class Grid:
    """Rows from the most accurate model to the least, then those that are not ranked, by speed."""

    columns: tuple[Column, ...]
    models: tuple[Measured, ...]

    def cells(self) -> list[list[Cell]]:
        """By row, then by column."""
        by_column = [self._column(column) for column in self.columns]
        return [list(row) for row in zip(*by_column, strict=True)]

    def _column(self, column: Column) -> list[Cell]:
        values = [_value(model, column) for model in self.models]
        there = [one.value for one in values if one is not None]
        best = (min if column.lower else max)(there, default=0.0)
        worst = (max if column.lower else min)(there, default=0.0)
        cells = []
        for one in values:
            if one is None:
                cells.append(Cell("–", "", False, 0.0))
                continue
            share = 0.0 if best == worst else (one.value - worst) / (best - worst)
            around = (
                "" if one.low == one.high else f"{one.low:.{column.digits}f} – {one.high:.{column.digits}f}"
            )
            text = f"{one.value:,.{column.digits}f}"
            cells.append(Cell(text, around, len(there) > 1 and one.value == best, share))
        return cells

    def to_markdown(self) -> str:
        """A table for a page of the docs: the best of each column in bold, intervals below it left out."""
        heads = [
            f"{column.group} {column.title}".strip() + (" ↓" if column.lower else "")
            for column in self.columns
        ]
        lines = ["| model | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
        for model, row in zip(self.models, self.cells(), strict=True):
            texts = [f"**{cell.text}**" if cell.best else cell.text for cell in row]
            lines.append(f"| {_label(model).replace('|', chr(92) + '|')} | " + " | ".join(texts) + " |")
        return "\n".join([*lines, ""])

    def to_html(self) -> str:
        """A `<table>` with intervals in small print, every text escaped; its classes are the report's."""
        page = Environment(autoescape=True).from_string(_HTML)
        return page.render(groups=self._groups(), columns=self.columns, rows=self._rows())

    def to_json(self) -> list[dict[str, Any]]:
        """One object a model: what is shown, by metric."""
        return [
            {"model": model.name, "random": model.random}
            | {c.metric: None if (one := _value(model, c)) is None else one._asdict() for c in self.columns}
            for model in self.models
        ]

    def draw(self, file: Path) -> Path:
        """The grid as a picture (PNG): the darker a cell, the better in its column."""
        rows, width = self._rows(), 0.92
        label = 0.35 + 0.085 * max([5, *(len(_label(model)) for model in self.models)])
        across, down = label + width * len(self.columns), 1.0 + 0.46 * len(rows)
        figure = Figure(figsize=(across, down))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, across)
        axes.set_ylim(down, 0)
        axes.axis("off")
        at = label
        for title, count in self._groups():
            middle = at + width * count / 2
            axes.text(
                middle, 0.24, plain(title), ha="center", va="center", fontsize=9.5, color=INK, weight="bold"
            )
            axes.plot([at + 0.06, at + width * count - 0.06], [0.42, 0.42], color=INK, linewidth=0.8)
            at += width * count
        for number, column in enumerate(self.columns):
            arrow = " ↓" if column.lower else ""
            text = plain(column.title).replace(", ", ",\n") + arrow
            axes.text(
                label + width * (number + 0.5), 0.68, text, ha="center", va="center", fontsize=8, color=INK
            )
        for place, (model, cells) in enumerate(rows):
            top = 0.96 + 0.46 * place
            colour = INK if model.ranked else MUTED
            axes.text(0.12, top + 0.23, plain(_label(model)), va="center", fontsize=9.5, color=colour)
            for number, cell in enumerate(cells):
                left = label + width * number
                axes.add_patch(_box(left, top, width, cell.shade))
                ink = "white" if cell.shade > 0.5 else colour
                middle, bold = left + width / 2, "bold" if cell.best else "normal"
                high = 0.16 if cell.interval else 0.23
                axes.text(
                    middle,
                    top + high,
                    cell.text,
                    ha="center",
                    va="center",
                    fontsize=9,
                    color=ink,
                    weight=bold,
                )
                axes.text(
                    middle, top + 0.34, cell.interval, ha="center", va="center", fontsize=5.5, color=ink
                )
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=144, facecolor="white")
        return file

    def _rows(self) -> list[tuple[Measured, list[Cell]]]:
        return list(zip(self.models, self.cells(), strict=True))

    def _groups(self) -> list[tuple[str, int]]:
        groups: list[tuple[str, int]] = []
        for column in self.columns:
            if groups and groups[-1][0] == column.group:
                groups[-1] = (column.group, groups[-1][1] + 1)
            else:
                groups.append((column.group, 1))
        return groups


def grid(measures: CategoryMeasures, models: Sequence[Measured], k: int | None = None) -> Grid:
    """Of models that were measured together. `k` of top-k; None: the largest that was asked for.

    A model takes its figures from its own `intervals`, or else from the system of its name in `measures`.
    """
    k = max(measures.ks) if k is None else k
    filled = []
    for model in models:
        scores = measures.scores.get(model.name)
        found = model.intervals if model.intervals is not None or scores is None else scores.intervals
        filled.append(replace(model, intervals=found))
    columns: list[Column] = []
    for level in measures.levels:
        group = f"level {level.depth}: {counted_categories(level.categories)}"
        columns.append(Column(f"accuracy{level.suffix}", "accuracy", group))
        if k < level.categories:
            columns.append(Column(f"top_{k}{level.suffix}", f"top {k}", group))
        columns.append(Column(f"macro_f1{level.suffix}", "macro-F1", group))
    columns += [
        Column("value_true", "true", "share of value"),
        Column("value_predicted", "predicted", "share of value"),
        Column("severity", "edges", "mistakes", lower=True, digits=2),
        Column("calibration_error", "error", "calibration", lower=True),
        Column("coverage_at_90", "at 90%", "coverage"),
        Column("minutes", "minutes", "training", lower=True, digits=1),
        Column("ms_1", "batch 1", "ms a photo", lower=True, digits=2),
        Column("ms_64", "batch 64", "ms a photo", lower=True, digits=2),
        Column("megabytes", "MB", "size", lower=True, digits=1),
    ]
    return Grid(tuple(columns), tuple(sorted(filled, key=_rank)))


def _rank(model: Measured) -> tuple[bool, float, str]:
    if model.ranked and model.intervals is not None:
        return False, -model.intervals["accuracy"].value, model.name
    return True, model.ms_64 or 0.0, model.name


def _value(model: Measured, column: Column) -> Interval | None:
    if column.metric in ("minutes", "ms_1", "ms_64", "megabytes"):
        found = getattr(model, column.metric)
        return None if found is None else Interval(found, found, found)
    return (model.intervals or {}).get(column.metric) if model.ranked else None


def _label(model: Measured) -> str:
    return f"{model.name} ({RANDOM})" if model.random else model.name


def _box(left: float, top: float, width: float, shade: float) -> Any:
    from matplotlib.patches import Rectangle

    red, green, blue = to_rgb(GOOD)
    strength = 0.9 * shade
    colour = tuple(1 - strength * (1 - part) for part in (red, green, blue))
    return Rectangle((left, top), width, 0.46, facecolor=colour, edgecolor=RULE, linewidth=0.6)


_HTML = """\
<table>
<thead>
<tr><th scope="col"></th>
{%- for title, count in groups %}<th scope="colgroup" colspan="{{ count }}">{{ title }}</th>{% endfor %}</tr>
<tr><th scope="col">model</th>
{%- for one in columns %}<th scope="col">{{ one.title }}{{ " ↓" if one.lower }}</th>{% endfor %}</tr>
</thead>
<tbody>
{% for model, cells in rows %}
<tr><th scope="row">{{ model.name }}{% if model.random %} <small>random weights</small>{% endif %}</th>
{%- for cell in cells -%}
<td{% if cell.best %} class="best"{% endif %}>{{ cell.text }}
{%- if cell.interval %}<small>{{ cell.interval }}</small>{% endif %}</td>
{%- endfor %}</tr>
{% endfor %}
</tbody>
</table>
"""
