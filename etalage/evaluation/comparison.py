"""All models of behaviour on the same questions: each held against each, and the funnel as a whole beside its
parts. Nothing is trained for it.

Verdicts are reached on validation; the figures that are shown are of test.

B queries   N items
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from etalage import metrics
from etalage.bundle.admission import FLOOR, cold_words, standing, tells_nothing
from etalage.config import EvaluateConfig
from etalage.errors import TooLittleData
from etalage.evaluation.behaviour import in_order, ks_with, verdict_on
from etalage.evaluation.behaviour_figures import part_figures, slices_found
from etalage.evaluation.blocks import Workers
from etalage.evaluation.decision import Decision, Evidence, PartFigures, SliceFound
from etalage.evaluation.examples import ShopperExample
from etalage.evaluation.figures import Figure, Figures, figures_of
from etalage.evaluation.gate import Verdict
from etalage.evaluation.measured import (
    CHANCE,
    RANKER,
    Chance,
    Measured,
    SliceFigures,
    measure,
    published,
    require_same_items,
)
from etalage.evaluation.names import ALL
from etalage.evaluation.ranking import Published, Ranked
from etalage.evaluation.slices import Questions
from etalage.evaluation.whole_funnel import FUNNEL, WholeFunnel
from etalage.features.behaviour import BehaviourSet
from etalage.features.leakage import check_leakage
from etalage.metrics import Interval
from etalage.runtime.scorer import Scorer

CANDIDATES = "order of the candidates"
"""What the figures of rankers are of, where they stand beside those of the slices."""
RETRIEVER = "embedder"
"""The role by which all that retrieves is measured: on the whole catalogue."""
_WITHIN = "auroc"
"""Of all that was ranked: of no use where one system ranks its candidates alone."""
Values = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class Row:
    """One system in the table: what it was measured by, and its gain over the one it is held against."""

    system: str
    role: str
    metric: str
    value: Interval
    over: str | None
    gain: Interval | None
    verdict: str
    """In words; empty where nothing was judged."""


@dataclass(frozen=True, repr=False)
class ModelComparison(Figures):
    """What all models of behaviour of a shop are worth, beside each other."""

    metric: str
    part: str
    queries: int
    answer: str
    """Which one finds most on validation, and which others cannot be told apart from it."""
    rows: list[Row]
    """The best first: retrievers and the funnel, then rankers by the order that they give."""
    scores: dict[str, dict[str, Interval]]
    """System → metric → mean and 95% interval on `part`, of all that retrieves; the best first."""
    gains: dict[str, dict[str, Interval]]
    """System → another → its gain over it in `metric`, shopper by shopper, on `part`."""
    ordered: dict[str, dict[str, Interval]]
    """The same of what orders candidates; empty without a ranker."""
    slices: list[SliceFigures]
    verdicts: dict[str, Verdict]
    members: tuple[str, ...]
    """The models of the funnel, as `etalage publish` would take them."""
    left_out: tuple[str, ...] = ()
    """Why it would not take others."""
    notes: tuple[str, ...] = ()
    """What is not measured or not judged, and what to do."""
    published: dict[str, Published] = field(default_factory=dict)
    """System → the protocol of published negatives on `part`, where the data has one."""
    gate: PartFigures | None = None
    """`metric` of all that retrieves, and of the funnels, on validation; each pair compared."""
    shown: PartFigures | None = None
    """The same on `part`."""
    by_slice: tuple[SliceFound, ...] = ()
    evidence: Evidence | None = None
    decision: Decision | None = None
    """What to publish, by `evidence`; None: the costs of the models are not known here."""
    examples: tuple[ShopperExample, ...] = ()
    report: Path | None = None
    files: list[Path] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"{len(self.scores)} systems compared on {self.part}: {self.answer}"

    def figure_rows(self) -> list[Figure]:
        ranking = next((row.metric for row in self.rows if row.role == RANKER), "")
        ordered = [replace(one, slice=CANDIDATES) for one in figures_of(self.ordered, ranking)]
        return figures_of(self.scores, self.metric, self.slices) + ordered

    def headings(self) -> list[str]:
        figures = f"figures of {self.part} ({self.queries:,} shoppers)"
        return [figures, self.answer, *self.left_out, *self.notes]

    def figures(self, system: str) -> dict[str, float]:
        """Metric → value of one model, as MLflow takes them."""
        found = self.ordered.get(system) or self.scores.get(system, {})
        return {f"{self.part}_{name}": one.value for name, one in found.items()}


class Comparison:
    """Systems and their questions. Measures validation when it is made."""

    def __init__(
        self,
        data: BehaviourSet,
        systems: Mapping[str, Scorer],
        rankers: Mapping[str, Scorer],
        quota: Mapping[str, int],
        *,
        config: EvaluateConfig,
        progress: Callable[[int], None] | None = None,
        workers: Workers | None = None,
    ) -> None:
        """systems: all that retrieves, popularity among them. rankers: with the candidates that `quota` lets
        each of `systems` bring. workers: where blocks of shoppers are ranked; None: in this process.

        Raises LeakageFound, TooLittleData, ConfigError (metric), ExportDamaged (made from other data).
        """
        self.leakage = check_leakage(data)
        self.data, self.quota, self.progress, self.workers = data, quota, progress, workers
        self.metric, self.ranking_metric = config.retrieval_metric, config.ranking_metric
        ks = ks_with(ks_with(config.ks, self.metric), self.ranking_metric)
        self.config = config.model_copy(update={"ks": ks})
        chance: dict[str, Scorer] = {CHANCE: Chance(data.items, data.users)}
        self.systems: dict[str, Scorer] = {**systems, **chance}
        self.rankers: dict[str, Scorer] = {**rankers, **self.systems} if rankers else {}
        self.ranks = tuple(rankers)
        self.answers: tuple[Questions, dict[str, Ranked]] | None = None
        """After `compared`: the questions of the part that is shown, and all ranks of what retrieves."""
        require_same_items(data, {**self.systems, **self.rankers})
        self.gate = self._measured("validation", RETRIEVER)

    def _measured(self, part: str, role: str) -> Measured:
        systems = self.rankers if role == RANKER else self.systems
        return measure(self.data, systems, part, role, self.config, self.quota, self.progress, self.workers)

    @cached_property
    def ordering(self) -> Measured | None:
        """Validation again, of rankers; None: there is none, or nothing for it to order."""
        try:
            return self._measured("validation", RANKER) if self.ranks else None
        except TooLittleData:
            return None

    def verdicts(self, against: Mapping[str, Sequence[str]]) -> dict[str, Verdict]:
        """On validation. against: the models to judge → the systems that each is held against, besides chance
        (a ranker besides the order of retrieval too). Each is judged on the slice that [evaluate] gives it.

        Raises ConfigError: no such slice or metric.
        """
        found = {}
        for name, simple in against.items():
            ranks = name in self.ranks
            gate, metric = (self.ordering, self.ranking_metric) if ranks else (self.gate, self.metric)
            if gate is None:
                continue
            role = (self.rankers if ranks else self.systems)[name].role
            slice = self.config.slices.get(name, ALL)
            if slice not in gate.slices:  # nobody asks for what it is there for: it stays unjudged
                continue
            found[name] = verdict_on(gate, name, role, metric, slice, simple, self.config)
        return found

    def compared(
        self,
        verdicts: Mapping[str, Verdict],
        funnels: Mapping[str, WholeFunnel],
        left_out: Sequence[str] = (),
        notes: Sequence[str] = (),
    ) -> ModelComparison:
        """Everything on test (on validation, where there is none), the funnels among it."""
        tested = len(self.data.truth("test")) > 0
        shown = self._measured("test", RETRIEVER) if tested else self.gate
        ordered, more = self._ordered(tested)
        more += sorted({said for one in verdicts.values() if (said := cold_words(one.to_json()))})
        more += sorted({said for one in verdicts.values() if (said := tells_nothing(one.to_json()))})
        whole: dict[str, Ranked] = {}
        if self.metric == _WITHIN and funnels:
            more.append(f"{', '.join(funnels)}: not measured: [evaluate] retrieval_metric is {_WITHIN}")
        else:
            whole = {n: one.rank(shown.asked, self.config.ks, self.progress) for n, one in funnels.items()}
        ranked = {**shown.ranked, **whole}
        self.answers = shown.asked, ranked
        decided = whole
        if tested and whole:
            decided = {
                n: one.rank(self.gate.asked, self.config.ks, self.progress) for n, one in funnels.items()
            }
        values = {name: self._comparable(one.per_query) for name, one in ranked.items()}
        scores = in_order(self._intervals(values), self.metric)
        order = sorted(scores, key=lambda name: -scores[name][self.metric].value)
        gains = self._gains({name: values[name][self.metric] for name in order})
        rows = [self._row(name, scores, gains, verdicts, funnels) for name in order]
        return ModelComparison(
            self.metric,
            shown.asked.part,
            len(shown.asked.truth),
            self._answer(),
            [*rows, *self._ranker_rows(ordered, verdicts)],
            {name: scores[name] for name in order},
            gains,
            self._intervals(ordered),
            self._slices(shown, ranked),
            dict(verdicts),
            tuple(funnels[FUNNEL].names) if FUNNEL in funnels else (),
            tuple(left_out),
            (*notes, *more),
            published(self.data, self.systems, shown.asked.part, self.leakage.cleaned, self.config),
            part_figures(self.gate, decided, self.metric, self.config.bootstrap),
            part_figures(shown, whole, self.metric, self.config.bootstrap),
            tuple(slices_found((self.gate, decided), (shown, whole), self.metric, self.config.bootstrap)),
        )

    # -- parts -----------------------------------------------------------------------------------

    def _ordered(self, tested: bool) -> tuple[Values, list[str]]:
        """System → metric → values of what orders candidates, and what there is to say about it."""
        if not self.ranks:
            return {}, []
        try:
            measured = self._measured("test", RANKER) if tested else self.ordering
        except TooLittleData as error:
            measured, said = None, str(error)
        else:
            said = "nothing that they took is among the candidates"
        if measured is None:
            return {}, [f"{', '.join(self.ranks)}: not measured: {said}"]
        return {name: dict(one) for name, one in measured.values(ALL).items()}, []

    def _intervals(self, values: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, Interval]]:
        return {name: metrics.bootstrap_all(one, self.config.bootstrap) for name, one in values.items()}

    def _gains(self, values: Mapping[str, np.ndarray]) -> dict[str, dict[str, Interval]]:
        """System → another → its gain over it, shopper by shopper; all by the same resamples."""
        pairs = [(one, other) for one in values for other in values if one != other]
        differences = {str(n): values[one] - values[other] for n, (one, other) in enumerate(pairs)}
        found = metrics.bootstrap_all(differences, self.config.bootstrap)
        gains: dict[str, dict[str, Interval]] = {one: {} for one in values}
        for n, (one, other) in enumerate(pairs):
            gains[one][other] = found[str(n)]
        return gains

    def _comparable(self, per_query: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: one for name, one in per_query.items() if name != _WITHIN or self.metric == _WITHIN}

    def _row(
        self,
        name: str,
        scores: Mapping[str, Mapping[str, Interval]],
        gains: Mapping[str, Mapping[str, Interval]],
        verdicts: Mapping[str, Verdict],
        funnels: Mapping[str, WholeFunnel],
    ) -> Row:
        over: str | None = FLOOR if name not in (FLOOR, CHANCE) else None
        role = self.systems[name].role if name in self.systems else "funnel"
        said = describe_verdict(verdicts[name]) if name in verdicts else ""
        if name in funnels:
            parts = set(funnels[name].names) & set(self.systems)
            over = next((one for one in gains if one in parts), FLOOR)
            said = f"{', '.join(funnels[name].names)}; held against the best of its parts"
        elif name == CHANCE:
            role = ""
        gain = gains[name].get(over) if over is not None else None
        return Row(name, role, self.metric, scores[name][self.metric], over, gain, said)

    def _ranker_rows(self, ordered: Values, verdicts: Mapping[str, Verdict]) -> list[Row]:
        metric, rows = self.ranking_metric, []
        means = {name: float(one[metric].mean()) for name, one in ordered.items()}
        gains = self._gains({name: one[metric] for name, one in ordered.items()})
        for name in sorted(set(self.ranks) & set(ordered), key=lambda one: -means[one]):
            told_of = {row["system"] for row in verdicts[name].rows} if name in verdicts else set(means)
            simple = [one for one in means if one in told_of and one not in self.ranks]
            best = max(simple, key=lambda one: means[one])
            value = metrics.bootstrap_all({metric: ordered[name][metric]}, self.config.bootstrap)[metric]
            said = describe_verdict(verdicts[name]) if name in verdicts else ""
            rows.append(Row(name, RANKER, metric, value, best, gains[name][best], said))
        return rows

    def _answer(self) -> str:
        """Which retriever finds most on validation, and how sure that is."""
        values = {n: one[self.metric] for n, one in self.gate.values(ALL).items() if n != CHANCE}
        means = {name: float(one.mean()) for name, one in values.items()}
        best = max(means, key=lambda name: means[name])
        gains = self._gains(values)[best]
        beaten = [name for name, gain in gains.items() if gain.low > 0]
        level = [name for name in gains if name not in beaten]
        asked = len(self.gate.asked.truth)
        said = f"on validation ({asked:,} shoppers) {best} finds most: {self.metric} {means[best]:.4f}"
        said += f"; it beats {', '.join(beaten)}" if beaten else ""
        return said + (f"; it cannot be told apart from {', '.join(level)}" if level else "")

    def _slices(self, shown: Measured, ranked: Mapping[str, Ranked]) -> list[SliceFigures]:
        found = []
        for name, kind in shown.slices.items():
            if name in shown.within:
                mine = {system: one.per_query for system, one in shown.within[name].items()}
            else:
                some = {n: o if kind.right.all() else o.only(kind.right)[0] for n, o in ranked.items()}
                mine = {name: one.per_query for name, one in some.items()}
            values = {n: {self.metric: one[self.metric]} for n, one in mine.items()}
            intervals = {n: one[self.metric] for n, one in self._intervals(values).items()}
            queries = len(next(iter(values.values()))[self.metric])
            found.append(SliceFigures(name, kind.words, queries, intervals))
        return found


def describe_verdict(verdict: Verdict) -> str:
    """A verdict in few words."""
    if verdict.role == "closed_form" and verdict.model != FLOOR:
        words: dict[Literal["beats", "loses", "level", "unknown"], str] = {
            "beats": f"beats {FLOOR}",
            "loses": f"loses to {FLOOR}: not published",
            "level": f"cannot be told apart from {FLOOR}",
            "unknown": f"{verdict.metric} tells nothing"
            if tells_nothing(verdict.to_json())
            else "too few shoppers to judge by",
        }
        return words[standing(verdict.to_json())]
    best = next(str(row["system"]) for row in verdict.rows if row.get("best"))
    if verdict.passed:
        return f"beats {best}"
    return f"does not beat {best}" + ("" if verdict.role == "closed_form" else ": not published")
