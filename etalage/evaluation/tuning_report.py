"""The page of a study: how the trials went, which settings mattered, and what was gained on validation."""

import logging
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from etalage.evaluation.drawing import INK, data_uri, plain, tidy
from etalage.evaluation.palette import COLOURS
from etalage.evaluation.report import write_report
from etalage.evaluation.sections import Section, spelled
from etalage.models.search_space import Choice, Dimension

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)
STATES = ("done", "pruned", "failed")
FEWEST_FOR_IMPORTANCE = 4
PANELS_A_ROW = 4


class Ended(Protocol):
    """A trial, as the page shows it."""

    @property
    def number(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def settings(self) -> dict[str, Any]: ...
    @property
    def value(self) -> float | None: ...
    @property
    def seconds(self) -> float: ...
    @property
    def error(self) -> str | None: ...


class TunedModel(Protocol):
    """What the page is about (shop/tuning_steps.py)."""

    @property
    def model(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def study(self) -> Any: ...
    @property
    def trials(self) -> Sequence[Ended]: ...
    @property
    def best(self) -> Ended: ...
    @property
    def current(self) -> Ended | None: ...
    @property
    def toml(self) -> str: ...


def write_tuning_report(path: Path, tuned: TunedModel) -> list[Path]:
    """Write the report of `tuned`, its plots as PNG files into a folder beside it; returns them, the page
    first."""
    facts = {"model": tuned.model, "study": tuned.study.folder.name, "seed": str(tuned.study.seed)}
    plots = [Plot(tuned, name) for name in ("history", "importance", "parallel", "slices")]
    return write_report(
        path, f"{tuned.model}, tuned", [BestSettings(tuned), *plots, AllTrials(tuned)], facts=facts
    )


@dataclass(frozen=True)
class BestSettings(Section):
    """What was found, as it stands in shop.toml, beside the settings of now."""

    tuned: TunedModel
    page = ("tuning_sections", "best")

    def content(self) -> dict[str, Any]:
        tuned, current = self.tuned, self.tuned.current
        return {
            "metric": spelled(tuned.metric),
            "states": {state: sum(one.state == state for one in tuned.trials) for state in STATES},
            "best": _row(tuned.best, []),
            "current": None if current is None else _row(current, []),
            "gain": None if current is None else f"{_value(tuned.best) - _value(current):+.4f}",
            "toml": tuned.toml,
            "rows": tuned.trials,
            "seconds": f"{sum(one.seconds for one in tuned.trials):,.0f}",
        }


@dataclass(frozen=True)
class Plot(Section):
    """One picture of the study, where there are trials enough for it."""

    tuned: TunedModel
    name: str

    @property
    def page(self) -> tuple[str, str]:  # type: ignore[override]
        return "tuning_sections", self.name

    def plots(self) -> dict[str, str | None]:
        tuned, metric = self.tuned, spelled(self.tuned.metric)
        done = sum(one.state == "done" for one in tuned.trials)
        if done < {"history": 1, "importance": FEWEST_FOR_IMPORTANCE}.get(self.name, 2):
            return {}
        if self.name == "slices":
            return {self.name: _slices(tuned, metric)}
        draw = {"history": _history, "importance": _importance, "parallel": _parallel}[self.name]
        return {self.name: _drawn(draw, tuned.study.optuna(), metric)}

    def alts(self) -> dict[str, str]:
        done = [one for one in self.tuned.trials if one.value is not None]
        if not done:
            return {}
        best = max(done, key=_value)
        return {self.name: f"the best of {len(done)} is trial {best.number}, {best.value:.4f}"}


@dataclass(frozen=True)
class AllTrials(Section):
    """A row a trial, the best ones first."""

    tuned: TunedModel
    page = ("tuning_sections", "rows")

    def content(self) -> dict[str, Any]:
        tuned = self.tuned
        order = sorted(tuned.trials, key=lambda one: (one.state != "done", -_value(one), one.number))
        names = [name for name in tuned.study.space if any(name in one.settings for one in tuned.trials)]
        return {
            "metric": spelled(tuned.metric),
            "best": _row(tuned.best, names),
            "names": names,
            "rows": [_row(one, names) for one in order],
        }


def _value(one: Ended) -> float:
    return -math.inf if one.value is None else one.value


def _row(one: Ended, names: list[str]) -> dict[str, Any]:
    return {
        "number": one.number,
        "state": one.state,
        "value": "" if one.value is None else f"{one.value:.4f}",
        "seconds": f"{one.seconds:,.1f}",
        "settings": [_short(one.settings.get(name, "")) for name in names],
        "error": (one.error or "").strip().splitlines()[-1:],
    }


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _drawn(draw: Callable[["optuna.Study", str], Any], study: "optuna.Study", metric: str) -> str | None:
    """One of Optuna's plots as a data URI; None where it has nothing to show (a study of one value)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with warnings.catch_warnings(), matplotlib.rc_context():  # Optuna sets a style for the whole process
        warnings.simplefilter("ignore")  # its plots are marked as experimental
        try:
            return data_uri(draw(study, metric))
        except (ValueError, RuntimeError) as error:
            log.warning("a plot of the study is left out: %s", error)
            return None
        finally:
            pyplot.close("all")


def _history(study: "optuna.Study", metric: str) -> Any:
    from optuna.visualization.matplotlib import plot_optimization_history

    return tidy(_sized(plot_optimization_history(study, target_name=metric), 9.2, 3.6))


def _importance(study: "optuna.Study", metric: str) -> Any:
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.visualization.matplotlib import plot_param_importances

    axes = plot_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target_name=metric)
    return tidy(_sized(axes, 9.2, 3.6))


def _parallel(study: "optuna.Study", metric: str) -> Any:
    from optuna.visualization.matplotlib import plot_parallel_coordinate

    return _sized(plot_parallel_coordinate(study, target_name=metric), 11.0, 4.6)


def _sized(axes: Any, width: float, height: float) -> Any:
    """The figure of these axes, in inches, without the title and the grey that Optuna gives each."""
    for place in ("center", "left", "right"):
        axes.set_title("", loc=place)
    axes.set_facecolor("white")
    axes.figure.set_size_inches(width, height)
    return axes.figure


def _slices(tuned: TunedModel, metric: str) -> str:
    """The metric against each setting, a panel each: a point a trial, the best one ringed."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    space: Mapping[str, Dimension] = tuned.study.space
    done = [one for one in tuned.trials if one.value is not None]
    shown = [name for name in space if any(name in one.settings for one in done)]
    rows = -(-len(shown) // PANELS_A_ROW)
    figure = Figure(figsize=(11.0, 2.5 * rows), layout="constrained")
    panels = figure.subplots(rows, PANELS_A_ROW, squeeze=False, sharey=True).ravel()
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    for name, axes in zip(shown, panels, strict=False):
        trials = [one for one in done if name in one.settings]
        dimension = space[name]
        values: list[Any] = [one.settings[name] for one in trials]
        if isinstance(dimension, Choice):
            options = [str(list(o) if isinstance(o, tuple) else o) for o in dimension.options]
            values = [options.index(str(value)) for value in values]
            axes.set_xticks(range(len(options)), [plain(o) for o in options], fontsize=8)
            axes.set_xlim(-0.5, len(options) - 0.5)
        elif dimension.log:
            axes.set_xscale("log")
            axes.set_xlim(dimension.low / 1.2, dimension.high * 1.2)
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.scatter(values, [one.value for one in trials], s=18, color=COLOURS[0], alpha=0.65)
        if name in tuned.best.settings:
            at = next(i for i, one in enumerate(trials) if one.number == tuned.best.number)
            axes.scatter([values[at]], [tuned.best.value], s=70, facecolors="none", edgecolors=INK)
        axes.set_xlabel(plain(name))
    for axes in panels[::PANELS_A_ROW]:
        axes.set_ylabel(metric)
    return data_uri(tidy(figure))
