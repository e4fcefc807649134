"""A model of behaviour beside the simple ones: verdict on validation, figures on test.

A retriever is judged by what it finds in the whole catalogue, or in the slice that it is there for; a ranker
by the order it gives to what the retrievers found. Both beside every other system and beside chance.

    B queries   N items   T right answers   C candidates a query
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from etalage import metrics
from etalage.config import EvaluateConfig, suggestion
from etalage.errors import ConfigError, TooLittleData
from etalage.evaluation.blocks import Workers
from etalage.evaluation.evaluation import Evaluator, Progress
from etalage.evaluation.gate import Verdict, judge
from etalage.evaluation.measured import (
    CHANCE,
    RANKER,
    Chance,
    Measured,
    measure,
    published,
    require_same_items,
    simple_ones,
    slice_figures,
    spread,
)  # fmt: skip
from etalage.evaluation.names import ALL, WITHOUT_K, cut_of
from etalage.evaluation.rankers import QUOTA
from etalage.evaluation.sections import Metrics, PublishedProtocol, Scores, Section, Slices, metrics_at
from etalage.evaluation.slices import FEW_ACTS
from etalage.features.behaviour import BehaviourSet
from etalage.features.behaviour_set import describe_facts
from etalage.features.leakage import check_leakage
from etalage.metrics import Interval
from etalage.runtime.export_files import read_facts
from etalage.runtime.scorer import Scorer

DEFAULT_METRIC = {RANKER: "ndcg_at_10"}
"""By role; of a retriever recall_at_20."""
SPREAD_NOTE = (
    "Coverage: the share of the catalogue that stands in somebody's slate. Novelty: how rare what is shown "
    "was in train, in bits. Neither is better the higher it is."
)


class BehaviourEvaluator(Evaluator[Measured]):
    """A retriever or a ranker beside the simple ones, every other system and chance; its role says how."""

    resampled = "shoppers"

    def __init__(
        self,
        data: BehaviourSet,
        systems: Mapping[str, Scorer],
        config: EvaluateConfig,
        *,
        metric: str | None = None,
        slice: str = ALL,
        simple: Sequence[str] | None = None,
        quota: int | Mapping[str, int] = QUOTA,
        titles: Mapping[str, str] | None = None,
        export: Path | None = None,
        versions: Mapping[str, int] | None = None,
        workers: Workers | None = None,
    ) -> None:
        """systems: the model first. metric: such as recall_at_20, ndcg_at_10, mrr, auroc; None: what is usual
        for the role. slice: of slices.slices. simple: those that the model must beat, by name; None: all
        others; chance in any case. quota: candidates that each other system brings to a ranker; by name,
        those not named bring none. titles: item_id → what the report calls it. workers:
        where blocks of shoppers are ranked; None: in this process.

        Raises LeakageFound, ConfigError (metric), ExportDamaged (made from other data).
        """
        self.leakage = check_leakage(data)
        self.model, scorer = next(iter(systems.items()))
        self.role = scorer.role
        self.metric = metric or DEFAULT_METRIC.get(self.role, "recall_at_20")
        self.config = config.model_copy(update={"ks": ks_with(config.ks, self.metric)})
        self.data, self.slice, self.simple, self.quota = data, slice, simple, quota
        self.titles, self.workers = titles or {}, workers
        self.export, self.model_hash, self.versions = export, scorer.model_hash, versions or {}
        self.systems: dict[str, Scorer] = {**systems, CHANCE: Chance(data.items, data.users)}
        require_same_items(data, self.systems)

    def has_test(self) -> bool:
        return len(self.data.truth("test")) > 0

    def measure(self, part: str, progress: Progress | None = None) -> Measured:
        return measure(
            self.data, self.systems, part, self.role, self.config, self.quota, progress, self.workers
        )

    def judge(self, gate: Measured) -> Verdict:
        return verdict_on(gate, self.model, self.role, self.metric, self.slice, self.simple, self.config)

    def scores(self, shown: Measured) -> dict[str, dict[str, Interval]]:
        values = shown.values(ALL)
        found = {name: metrics.bootstrap_all(one, self.config.bootstrap) for name, one in values.items()}
        return in_order(found, self.metric)

    def headline(self) -> tuple[str, ...]:
        return (self.metric,)

    def describe(self, measured: Measured) -> str:
        return f"{len(measured.asked.truth):,} shoppers, {len(measured.asked.items):,} items to find"

    def facts(self) -> dict[str, str]:
        return {} if self.export is None else _made_from(self.export)

    def sections(self, gate: Measured, shown: Measured, scores: Scores, part: str) -> list[Section]:
        from etalage.evaluation import behaviour_sections as of_behaviour

        ordered, ranks = shown.ordered, self.role == RANKER
        who = "; every item of the catalogue is ranked"
        if ranks:
            who = " whose candidates hold something to find; every system orders the same candidates"
        sections: list[Section] = [
            Metrics(
                scores,
                f"Means over {len(shown.asked.truth)} shoppers of {part}{who}. In small print the 95% "
                "bootstrap interval; the best of each row in bold. The marked row decides.",
                self.metric,
                spread={} if ranks else spread(self.data, shown, self.metric),
                spread_note="" if ranks else SPREAD_NOTE,
                bars=metrics_at(scores[self.model], self.metric, recall=True),
            ),
            Slices(
                slice_figures(shown, self.model, self.metric, self.simple, self.config),
                list(scores),
                self.metric,
                ". The gain is the model's over the best simple system of the slice, shopper by shopper; "
                "coloured where its interval leaves out zero.",
                self.slice,
            ),
            PublishedProtocol(published(self.data, self.systems, part, self.leakage.cleaned, self.config)),
        ]
        if ordered is not None:
            sections += [of_behaviour.Candidates(ordered), of_behaviour.Probabilities(ordered)]
        return [
            *sections,
            of_behaviour.Shoppers(self.model, shown, self.data, self.titles),
            of_behaviour.LeakageFacts(self.leakage.to_json()),
            of_behaviour.LeftOut(shown.asked.dropped, describe_facts(self.data.facts)),
        ]


def in_order(scores: Mapping[str, dict[str, Interval]], metric: str) -> dict[str, dict[str, Interval]]:
    """The metrics of each system: the deciding one first, then those with its k, then by k."""

    def place(name: str) -> tuple[int, int, str]:
        k = name.rpartition("_at_")[2]
        if name == metric:
            return (0, 0, "")
        return (1 if k == metric.rpartition("_at_")[2] else 2, int(k) if k.isdigit() else 1000, name)

    return {system: {name: one[name] for name in sorted(one, key=place)} for system, one in scores.items()}


def _made_from(export: Path) -> dict[str, str]:
    """What the model of an export took over of others: features of the items, and weights to start from."""
    facts, made_from = read_facts(export), {}
    if sources := facts.get("feature_sources"):
        read = (f"{name} {model_hash[:8]}" for name, model_hash in sources.items())
        made_from["feature sources"] = ", ".join(read)
    if start := facts.get("start"):
        known = (f"{count:,} items known to its {name}" for name, count in start["items_known"].items())
        users = f"{start['shared_users']:,} shoppers known to it"
        where = "" if start["shop"] is None else f" of {start['shop']}"
        begun = f"{start['export']} ({start['model_hash'][:12]}){where}"
        made_from["started from"] = ", ".join((begun, *known, users))
    return made_from


def verdict_on(
    gate: Measured,
    model: str,
    role: str,
    metric: str,
    slice: str,
    simple: Sequence[str] | None,
    config: EvaluateConfig,
) -> Verdict:
    """What `gate` says of `model` in one slice, beside `simple` (None: all others) and chance. Raises
    TooLittleData: nobody asks for anything of the slice; ConfigError: no such metric."""
    if slice not in gate.slices:
        raise TooLittleData(
            f"{model} is judged on the slice {slice!r}, and validation has no question of it; "
            f"{suggestion(slice, gate.slices)}; another `split` of [behaviour] may have some, or judge it by "
            f'another slice: [evaluate] slices = {{{model} = "{ALL}"}}'
        )
    values = gate.values(slice)
    if metric not in values[model]:
        raise ConfigError(f"metric {metric!r}: {suggestion(metric, values[model])}")
    theirs = {name: values[name][metric] for name in simple_ones(values, model, simple)}
    verdict = judge(model, role, metric, values[model][metric], theirs, config.bootstrap, slice=slice)
    cold = int(np.count_nonzero(np.diff(gate.asked.queries.starts) < FEW_ACTS))
    if slice == ALL and not verdict.passed and 2 * cold > len(gate.asked.truth):
        verdict.rows[0] |= {"cold": cold, "few_acts": FEW_ACTS}
    return verdict


def ks_with(ks: Sequence[int], metric: str) -> tuple[int, ...]:
    """`ks`, and that of the metric. Raises ConfigError: no such metric."""
    _, k = cut_of(metric)
    if k == 0 or (k is None and metric not in WITHOUT_K):
        raise ConfigError(f"metric {metric!r}: expected one such as recall_at_20, ndcg_at_10, mrr or auroc")
    return tuple(sorted({*ks, k} if k else set(ks)))
