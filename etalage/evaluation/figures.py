"""What an evaluation found as rows, one a slice, system and metric: for data frames and notebooks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import pyarrow as pa

from etalage.evaluation.names import ALL
from etalage.metrics import Interval
from etalage.tabular import Tabular, framed, rows_html, table_of_rows

if TYPE_CHECKING:
    from etalage.evaluation.measured import SliceFigures

Scores = Mapping[str, Mapping[str, Interval]]


@dataclass(frozen=True)
class Figure:
    """One metric of one system in one slice, with its 95% interval."""

    slice: str
    system: str
    metric: str
    value: float
    low: float
    high: float
    best: bool
    """Whether no other system of the slice has a higher value, and it is above 0; told of the deciding metric
    alone."""


class Figures(Tabular):
    """An answer whose rows are figures. Subclasses say them in `figure_rows`, and themselves in a line."""

    def figure_rows(self) -> list[Figure]:
        """The figures, the slice `all` first."""
        raise NotImplementedError

    @property
    def best(self) -> dict[str, str]:
        """Slice → the system with the highest value of the deciding metric there."""
        found: dict[str, str] = {}
        for one in self.figure_rows():
            if one.best:
                found.setdefault(one.slice, one.system)
        return found

    def to_arrow(self) -> pa.Table:
        return table_of_rows(self.figure_rows(), Figure)

    def headings(self) -> Sequence[str]:
        """What a notebook says above the figures, a line each."""
        return [repr(self)]

    def _repr_html_(self) -> str:
        rows = self.figure_rows()
        head, *more = self.headings()
        told = "".join(f"<p>{escape(line)}</p>" for line in more)
        return framed(head, told + figures_html(rows))


def figures_of(scores: Scores, metric: str, slices: "Sequence[SliceFigures]" = ()) -> list[Figure]:
    """metric: the one that decides, by which the best of each slice is told."""
    found = _of_slice(ALL, {(name, of): one for name, by in scores.items() for of, one in by.items()}, metric)
    for part in slices:
        if part.name != ALL:
            found += _of_slice(part.name, {(name, metric): one for name, one in part.values.items()}, metric)
    return found


def _of_slice(name: str, values: Mapping[tuple[str, str], Interval], metric: str) -> list[Figure]:
    deciding = [one.value for (_, of), one in values.items() if of == metric]
    highest = max(deciding, default=0.0) or None  # nobody is best where nobody finds anything
    return [
        Figure(name, system, of, one.value, one.low, one.high, of == metric and one.value == highest)
        for (system, of), one in values.items()
    ]


def figures_html(rows: Sequence[Figure]) -> str:
    """A table of the metrics of all systems, and one of the slices of which there is one metric, each figure
    with its interval."""
    of_slice: dict[str, list[Figure]] = {}
    for one in rows:
        of_slice.setdefault(one.slice, []).append(one)
    parts = {name: some for name, some in of_slice.items() if len({one.metric for one in some}) == 1}
    parts.pop(ALL, None)
    made = ""
    for name, some in of_slice.items():
        if name not in parts:
            head = "" if name == ALL else f"<p>{escape(name)}:</p>"
            made += head + _crossed([(one.metric, one.system, one) for one in some], "metric")
    if parts:
        cells = [(name, one.system, one) for name, some in parts.items() for one in some]
        made += f"<p>{escape(cells[0][2].metric)} by slice:</p>{_crossed(cells, 'slice')}"
    return made


def _crossed(cells: Sequence[tuple[str, str, Figure]], corner: str) -> str:
    """A table with a row for each first, and a column for each second word of the cells."""
    at = {(row, column): one for row, column, one in cells}
    columns = list(dict.fromkeys(column for _, column, _ in cells))
    names = list(dict.fromkeys(row for row, _, _ in cells))
    rows = [[escape(row), *(_cell(at.get((row, column))) for column in columns)] for row in names]
    return rows_html([corner, *columns], rows)


def _cell(one: Figure | None) -> str:
    if one is None:
        return ""
    value = f"<b>{one.value:.4f}</b>" if one.best else f"{one.value:.4f}"
    return f'{value} <span class="low">[{one.low:.4f}, {one.high:.4f}]</span>'
