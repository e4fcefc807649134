"""What an evaluation found, section by section: each says at once how it is told, kept and drawn.

A new section is a class here, or in the file of its kind (`*_sections.py`), and a macro of the same template.
Nothing else is touched: `Evaluation` (evaluation.py) collects what its sections say, report.py draws them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from etalage.evaluation.palette import Marks
from etalage.metrics import Interval

if TYPE_CHECKING:
    from etalage.evaluation.measured import SliceFigures
    from etalage.evaluation.ranking import Published

Scores = Mapping[str, Mapping[str, Interval]]
"""System → metric → value and 95% interval; the model first."""


class Section:
    """A part of what an evaluation found. Each kind of it overrides what it has to say."""

    page: ClassVar[tuple[str, str] | None] = None
    """The template, without its suffix, and the macro in it that makes the section of the page from `content`
    and `plots`; None: it is not shown."""

    def content(self) -> dict[str, Any]:
        """What the macro is given."""
        return {}

    def plots(self) -> dict[str, str | None]:
        """Name → data URI of a PNG, drawn when a report is written; also kept as `<name>.png`."""
        return {}

    def alts(self) -> dict[str, str]:
        """Name of a plot → what it shows, in words, for whoever does not see it."""
        return {}

    def files(self) -> dict[str, str]:
        """Name → text of files that are kept beside the report's plots."""
        return {}

    def facts(self) -> dict[str, str]:
        """How it was measured, for the head of the page."""
        return {}

    def figures(self, system: str) -> dict[str, float]:
        """Metric → value of one system, for MLflow, besides those with intervals."""
        return {}

    def beside(self, system: str) -> list[str]:
        """What the terminal says on the line of one system."""
        return []

    def sentences(self) -> list[str]:
        """What the terminal says after the systems."""
        return []

    def kept(self) -> dict[str, Any]:
        """What stands beside the verdict in evaluation.json."""
        return {}

    def beside_export(self) -> dict[str, str]:
        """Name → text of files that are kept in the export's folder, for the bundle."""
        return {}


@dataclass(frozen=True)
class MetricRow:
    """One metric of all systems. sure: `better` or `worse`, where the gain's interval leaves out zero."""

    name: str
    words: str
    cells: list[dict[str, Any]]
    lower: bool = False
    gain: dict[str, str] | None = None
    sure: str = ""


@dataclass(frozen=True)
class Metrics(Section):
    """Every metric of every system, with its interval, the best of each row marked."""

    scores: Scores
    note: str
    metric: str | None = None
    """The row that decides."""
    rows: list[MetricRow] = field(default_factory=list)
    """Else those of `metric_rows`."""
    spread: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """System → figures of which neither is better the higher it is."""
    spread_note: str = ""
    bars: Sequence[str] = ()
    """The metrics that are drawn as bars; () = none."""
    top: float | None = None
    """Where the axis of the bars ends; None: where they do."""
    marks: Marks | None = None
    """System → its colour on the whole page; None: by the order of `scores`."""

    page = ("sections", "metrics")

    def content(self) -> dict[str, Any]:
        names = list(next(iter(self.spread.values()), {}))
        return {
            "note": self.note,
            "metric": self.metric,
            "systems": list(self.scores),
            "rows": self.rows or metric_rows(self.scores),
            "spread": [
                {
                    "metric": name,
                    "name": spelled(name),
                    "cells": [_plain_figure(self.spread, s, name) for s in self.scores],
                }
                for name in names
            ],
            "spread_note": self.spread_note,
        }

    def plots(self) -> dict[str, str | None]:
        from etalage.evaluation.drawing import draw_bars

        return {"bars": draw_bars(self.scores, self.bars, self.top, marks=self.marks) if self.bars else None}

    def alts(self) -> dict[str, str]:
        return {"bars": "; ".join(best_first(self.scores, name) for name in self.bars)}

    def figures(self, system: str) -> dict[str, float]:
        return dict(self.spread.get(system, {}))

    def beside(self, system: str) -> list[str]:
        return [f"{name} {value:.3f}" for name, value in self.spread.get(system, {}).items()]


@dataclass(frozen=True)
class Training(Section):
    """Metrics by epoch, of a model that learned by steps."""

    history: Sequence[Mapping[str, float]]

    page = ("sections", "training")

    def plots(self) -> dict[str, str | None]:
        from etalage.evaluation.drawing import draw_epochs

        return {"epochs": draw_epochs(self.history) if self.history else None}

    def alts(self) -> dict[str, str]:
        if not self.history:
            return {}
        first, last = self.history[0], self.history[-1]
        told = (f"{spelled(name)} {first[name]:.3f} to {last[name]:.3f}" for name in first if name in last)
        return {"epochs": f"from the first to the last of {len(self.history)} epochs, {', '.join(told)}"}


@dataclass(frozen=True)
class Slices(Section):
    """The deciding metric in each slice, and where there is one model that is judged, its gain."""

    rows: "Sequence[SliceFigures]"
    systems: Sequence[str]
    metric: str
    note: str
    judged: str | None = None
    """The slice that decides."""

    page = ("sections", "slices")

    def content(self) -> dict[str, Any]:
        return {
            "note": f"{spelled(self.metric)}{self.note}",
            "systems": self.systems,
            "gains": self._gains,
            "rows": [self._row(one) for one in self.rows],
        }

    @property
    def _gains(self) -> bool:
        return any(one.gain is not None for one in self.rows)

    def _row(self, one: "SliceFigures") -> dict[str, Any]:
        top = f"{max(interval.value for interval in one.values.values()):.4f}"
        cells: list[dict[str, Any] | None] = []
        for system in self.systems:
            cell: dict[str, Any] | None = None
            if system in one.values:
                cell = dict(written(one.values[system], 4))
                if self._gains:  # beside the interval of the gain those of the systems are too wide
                    cell = {"value": cell["value"]}
                cell["best"] = cell["value"] == top and float(top) > 0
            cells.append(cell)
        return {
            "name": one.name,
            "words": one.words,
            "queries": f"{one.queries:,}",
            "gain": gain_of(one.gain),
            "over": one.best,
            "judged": one.name == self.judged,
            "cells": cells,
        }


@dataclass(frozen=True)
class PublishedProtocol(Section):
    """Every system by the protocol of published negatives, where the data has one."""

    systems: "Mapping[str, Published]"

    page = ("sections", "published")

    def content(self) -> dict[str, Any]:
        return {
            "rows": [
                {"system": name, "k": str(one.k), "faulty": f"{one.faulty:.2%}"}
                | {figure: f"{value:.4f}" for figure, value in one.figures().items()}
                for name, one in self.systems.items()
            ]
        }

    def sentences(self) -> list[str]:
        return [f"{system}, {one.sentence()}" for system, one in self.systems.items()]


def best_first(scores: Scores, metric: str) -> str:
    """What each system reaches, in words, the best first."""
    there = {name: one[metric].value for name, one in scores.items() if metric in one}
    order = sorted(there, key=lambda name: -there[name])
    return f"{spelled(metric)}: " + ", ".join(f"{name} {there[name]:.3f}" for name in order)


def metric_rows(
    scores: Scores,
    names: Iterable[str] | None = None,
    *,
    words: Mapping[str, str] | None = None,
    lower: tuple[str, ...] = (),
    gains: Mapping[str, Interval] | None = None,
    digits: int | None = None,
) -> list[MetricRow]:
    """A row each for these metrics, by default all of the first system.

    words: what a reader calls them. lower: beginnings of those of which less is better. gains: of the first
    system over the best simple one. digits: None: as many as small values need to differ.
    """
    every = next(iter(scores.values()), {})
    return [
        _metric_row(
            name,
            (words or {}).get(name, spelled(name)),
            [one[name] for one in scores.values()],
            name.startswith(lower) if lower else False,
            (gains or {}).get(name),
            digits,
        )
        for name in (every if names is None else names)
    ]


def _metric_row(
    name: str, words: str, values: list[Interval], lower: bool, gain: Interval | None, digits: int | None
) -> MetricRow:
    best = (min if lower else max)(one.value for one in values)
    if digits is None:
        # Such as recall@5 in a category of thousands.
        digits = 3 if best >= 0.05 or best == 0 else 5
    marked = len(values) > 1 and (lower or best > 0)
    cells: list[dict[str, Any]] = [
        {**written(one, digits), "best": marked and f"{one.value:.{digits}f}" == f"{best:.{digits}f}"}
        for one in values
    ]
    sure = ""
    if gain is not None and (gain.low > 0 or gain.high < 0):
        sure = "better" if (gain.high < 0) == lower else "worse"
    return MetricRow(name, words, cells, lower, None if gain is None else written(gain, digits, "+"), sure)


def spelled(metric: str) -> str:
    """A metric's name as a reader would write it."""
    return metric.replace("_at_", " @ ").replace("knn_", "kNN ").replace("_", " ")


def written(interval: Interval, digits: int, sign: str = "") -> dict[str, str]:
    """Value, low and high in so many digits."""
    return {part: f"{value:{sign}.{digits}f}" for part, value in interval._asdict().items()}


def gain_of(gain: Interval | None) -> dict[str, str] | None:
    """A gain with its sign, and whether it is sure."""
    if gain is None:
        return None
    return {**written(gain, 4, "+"), "sure": "better" if gain.low > 0 else "worse" if gain.high < 0 else ""}


def metrics_at(names: Iterable[str], metric: str | None, recall: bool = False) -> list[str]:
    """Of the metrics `names` those at the k of `metric`, else at the largest, and mrr; with `recall` that
    too."""
    names = list(names)
    k = metric.rpartition("_at_")[2] if metric else ""
    if not k.isdigit():
        k = max((n.rpartition("_at_")[2] for n in names if "_at_" in n), key=int, default="")
    chosen = [n for n in names if n.endswith(f"_at_{k}") and (recall or not n.startswith("recall"))]
    return chosen + (["mrr"] if "mrr" in names else [])


def _plain_figure(spread: Mapping[str, Mapping[str, float]], system: str, name: str) -> str:
    return f"{spread[system][name]:.3f}" if system in spread else ""
