"""The page of all models of behaviour: which one, each against each, slices, the order of the candidates."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from etalage.evaluation.palette import palette
from etalage.evaluation.report import write_report
from etalage.evaluation.sections import (
    Metrics,
    PublishedProtocol,
    Section,
    Slices,
    gain_of,
    metrics_at,
    spelled,
    written,
)  # fmt: skip

if TYPE_CHECKING:
    from etalage.evaluation.comparison import ModelComparison, Row

T = TypeVar("T")
TITLE = "models of behaviour"


def write_comparison_report(path: Path, done: "ModelComparison", facts: Mapping[str, str]) -> list[Path]:
    """Write the report of `done`, its plots as PNG files into a folder beside it; returns them, the page
    first."""
    return write_report(path, TITLE, comparison_sections(done), facts=facts)


def comparison_sections(done: "ModelComparison") -> list[Section]:
    """All that was found, in the order of the page."""
    names = list(next(iter(done.scores.values()), {}))
    return [
        WhichOne(done),
        AllSystems(done),
        EachAgainstEach(done),
        Metrics(
            done.scores,
            "Every item of the catalogue is ranked; the funnel ranks its candidates. The best of each row in "
            "bold.",
            bars=metrics_at(names, None, recall=True),
            marks=palette([*done.scores, *done.ordered]),
        ),
        Slices(
            done.slices, list(done.scores), done.metric, "; a system without a figure is not measured there."
        ),
        PublishedProtocol(_in_one_order(done, done.published)),
        Ordering(
            _in_one_order(done, done.ordered),
            "Every system orders what the retrievers found, for the shoppers whose candidates hold something "
            "that they took.",
        ),
    ]


def _in_one_order(done: "ModelComparison", of: Mapping[str, T]) -> dict[str, T]:
    """By system, in the order of the first table: every chart and table of the page has the same."""
    order = [*(name for name in done.scores if name in of), *(name for name in of if name not in done.scores)]
    return {name: of[name] for name in order}


@dataclass(frozen=True)
class WhichOne(Section):
    """Which model finds most, and what the funnel would be."""

    done: "ModelComparison"

    page = ("comparison_sections", "which")

    def content(self) -> dict[str, Any]:
        done = self.done
        return {
            "answer": done.answer,
            "members": done.members,
            "left_out": done.left_out,
            "notes": done.notes,
        }


@dataclass(frozen=True)
class AllSystems(Section):
    """A row a system: its figure, its gain, its verdict."""

    done: "ModelComparison"

    page = ("comparison_sections", "all_systems")

    def content(self) -> dict[str, Any]:
        done = self.done
        return {"queries": f"{done.queries:,}", "part": done.part, "rows": [_row(one) for one in done.rows]}


@dataclass(frozen=True)
class EachAgainstEach(Section):
    """The gain of every system over every other."""

    done: "ModelComparison"

    page = ("comparison_sections", "each_against_each")

    def content(self) -> dict[str, Any]:
        gains, systems = self.done.gains, list(self.done.scores)
        matrix = [
            {"system": name, "cells": [gain_of(gains[name].get(other)) for other in systems]}
            for name in systems
        ]
        return {"metric": spelled(self.done.metric), "systems": systems, "matrix": matrix}


class Ordering(Metrics):
    """The metrics of what orders candidates."""

    page = ("comparison_sections", "ordering")


def _row(one: "Row") -> dict[str, Any]:
    return {
        "system": one.system,
        "role": one.role,
        "funnel": one.role == "funnel",
        "name": one.metric,
        "metric": spelled(one.metric),
        "value": written(one.value, 4),
        "over": one.over,
        "gain": gain_of(one.gain),
        "verdict": one.verdict,
    }
