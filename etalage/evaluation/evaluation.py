"""The one way in which a model is evaluated, whatever its kind.

Measured on validation beside the simple ones → the verdict → measured on test, where there is one → sections
→ the verdict beside the export → the report. An `Evaluator` fills in what its kind does at each step
(photos.py, behaviour.py, category_evaluation.py); `evaluate` walks them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar

from etalage.config import EvaluateConfig
from etalage.errors import ConfigError, TooLittleData
from etalage.evaluation.decision_words import admission_words
from etalage.evaluation.figures import Figure, Figures, figures_of
from etalage.evaluation.gate import Verdict
from etalage.evaluation.report import write_report
from etalage.evaluation.sections import Scores, Section, Slices, Training
from etalage.evaluation.timing import median_milliseconds
from etalage.metrics import Interval
from etalage.runtime.export_files import write_beside, write_verdict

M = TypeVar("M")
"""What an evaluator measured of one part of the data."""
S = TypeVar("S", bound=Section)
Progress = Callable[[int], None]


class Evaluator(ABC, Generic[M]):
    """How models of one kind are measured and judged."""

    resampled: ClassVar[str]
    """What the bootstrap draws anew: queries, shoppers, groups."""
    model: str
    config: EvaluateConfig
    export: Path | None = None
    """Of the model; None: no verdict is kept."""
    model_hash: str = ""
    versions: Mapping[str, int] = MappingProxyType({})
    """Of the tables that it is judged on."""
    request: Callable[[int], object] | None = None
    """Answers one question, as in serving, given the number of its turn; it is timed. None: it is not."""
    looks_at_photos: bool = False

    @abstractmethod
    def has_test(self) -> bool:
        """Whether anything can be asked of the part `test`."""

    @abstractmethod
    def measure(self, part: str, progress: Progress | None = None) -> M:
        """All systems on the questions of `part`. progress: called with questions as they are done, where
        that takes long. Raises TooLittleData: there are none."""

    @abstractmethod
    def judge(self, gate: M) -> Verdict:
        """What `gate`, measured on validation, says of the model beside the simple systems: by gate.judge."""

    @abstractmethod
    def scores(self, shown: M) -> Scores:
        """System → metric → value and interval; the model first."""

    @abstractmethod
    def headline(self) -> tuple[str, ...]:
        """The metrics that the terminal shows, of those that there are."""

    @abstractmethod
    def describe(self, measured: M) -> str:
        """How many questions that is, in words."""

    @abstractmethod
    def sections(self, gate: M, shown: M, scores: Scores, part: str) -> Sequence[Section]:
        """All that was found, in the order of the page, the metrics first. shown: measured on `part`, and
        `scores` of it; gate: on validation."""

    def facts(self) -> dict[str, str]:
        """What the head of the page says of the model besides."""
        return {}


@dataclass(frozen=True, repr=False)
class Evaluation(Figures):
    """What `etalage evaluate NAME` found: for the terminal, MLflow, the report, data frames and notebooks."""

    model: str
    part: str
    """What the figures are of; the verdict is of validation."""
    verdict: Verdict
    scores: Scores
    headline: tuple[str, ...]
    sections: tuple[Section, ...] = ()
    shown: Verdict | None = None
    """The same comparison on `part`, for its figures; it decides nothing. None: test lacks the slice."""
    milliseconds: float | None = None
    """Of one request; None: not measured."""
    looks_at_photos: bool = False
    report: Path | None = None
    files: list[Path] = field(default_factory=list)
    """The report and what lies in the folder beside it."""
    about: tuple[str, ...] = ()
    """How many questions were asked, of which part."""

    def __repr__(self) -> str:
        told = [f"{n} {_with_interval(self.scores[self.model][n])}" for n in self.headline[:1]]
        beats = "passes" if self.verdict.passed else "does not pass"
        return f"<{self.model} on {self.part}: {', '.join(told)}; {beats} the gate>"

    @property
    def rows(self) -> list[Figure]:
        """Each metric of each system with its interval; of other slices than `all`, the metric that
        decides."""
        metric = self.headline[0] if self.headline else ""
        slices = [part for one in self.sections if isinstance(one, Slices) for part in one.rows]
        return figures_of(self.scores, metric, slices)

    def figure_rows(self) -> list[Figure]:
        return self.rows

    def headings(self) -> list[str]:
        after = [text for section in self.sections for text in section.sentences()]
        verdict = f"gate, on validation: {self.verdict.sentence}"
        return [f"{self.model}, evaluated on {self.part}", verdict, *self.about, *after]

    def section(self, kind: type[S]) -> S:
        """The section of this kind. Raises KeyError: there is none."""
        for one in self.sections:
            if isinstance(one, kind):
                return one
        raise KeyError(
            f"{self.model}: no {kind.__name__} among {[type(one).__name__ for one in self.sections]}"
        )

    def figures(self, system: str) -> dict[str, float]:
        """Metric → value of one system, as MLflow takes them."""
        found = {name: one.value for name, one in self.scores[system].items()}
        for section in self.sections:
            found |= section.figures(system)
        return {f"{self.part}_{name}": value for name, value in found.items()}

    @property
    def decision(self) -> str:
        """Whether the model may be published, in one line."""
        return admission_words(self.verdict)

    def summary(self) -> str:
        """The whole of it in a few lines, for the terminal."""
        lines = []
        for system, scores in self.scores.items():
            told = [f"{name} {_with_interval(scores[name])}" for name in self.headline if name in scores]
            told += [text for section in self.sections for text in section.beside(system)]
            lines.append(f"{system} ({self.part}): {', '.join(told)}")
        lines += [text for section in self.sections for text in section.sentences()]
        return "\n".join([*lines, f"gate, on validation: {self.verdict.sentence}"])


def evaluate(
    evaluator: Evaluator[M],
    *,
    reports: Path | None = None,
    history: Sequence[Mapping[str, float]] = (),
    progress: Progress | None = None,
) -> Evaluation:
    """Measure, judge, keep the verdict beside the export, write the report into `reports`; None: none.

    history: metrics by epoch (Trained.history). Raises what the evaluator raises; then there is no verdict.
    """
    gate = evaluator.measure("validation", progress)
    verdict = evaluator.judge(gate)
    part = "test" if evaluator.has_test() else "validation"
    shown = evaluator.measure(part, progress) if part == "test" else gate
    beside = verdict if part == "validation" else _beside(evaluator, shown)
    scores = evaluator.scores(shown)
    sections = list(evaluator.sections(gate, shown, scores, part))
    if history:
        sections.insert(1, Training(history))
    model, export = evaluator.model, evaluator.export
    figures_on = f"{part}: {evaluator.describe(shown)}"
    about = (f"figures on {figures_on}", f"verdict on validation: {evaluator.describe(gate)}")
    timed = None if evaluator.request is None else median_milliseconds(evaluator.request)
    done = Evaluation(
        model, part, verdict, scores, evaluator.headline(), tuple(sections), beside, timed,
        evaluator.looks_at_photos, about=about,
    )  # fmt: skip
    if export is not None:
        keep_verdict(export, evaluator.model_hash, verdict, sections)
    if reports is None:
        return done
    facts = {} if export is None else {"model": f"{export.name} ({evaluator.model_hash[:12]})"}
    facts |= {
        **evaluator.facts(),
        "figures on": figures_on,
        "verdict on": f"validation: {evaluator.describe(gate)}",
    }
    if evaluator.versions:
        facts["tables"] = describe_versions(evaluator.versions)
    for section in sections:
        facts |= section.facts()
    resamples = evaluator.config.bootstrap
    facts["interval"] = f"95%, {resamples} bootstrap resamples of the {evaluator.resampled}"
    name = "evaluation" if export is None else export.name
    file, title = reports / f"{model}-{name}.html", f"{model} {name}"
    files = write_report(file, title, sections, facts=facts, verdict=verdict)
    return replace(done, report=file, files=files)


def _beside(evaluator: Evaluator[M], shown: M) -> Verdict | None:
    try:
        return evaluator.judge(shown)
    except (ConfigError, TooLittleData):  # test has none of the slice, or nothing to compare with
        return None


def keep_verdict(
    export: Path, model_hash: str, verdict: Verdict, sections: Sequence[Section] = ()
) -> dict[str, Any]:
    """Write the verdict beside the export, where publish finds it, with what `sections` keep there; → what is
    kept. model_hash: of the model that was judged, so that no other can pass by it."""
    kept = {"model_hash": model_hash, **verdict.to_json()}
    for section in sections:
        for name, text in section.beside_export().items():
            write_beside(export, name, text)
        kept |= section.kept()
    write_verdict(export, kept)
    return kept


def describe_versions(versions: Mapping[str, int]) -> str:
    """The tables that something was measured on."""
    return ", ".join(f"{name} version {version}" for name, version in versions.items())


def _with_interval(one: Interval) -> str:
    return f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]"
