"""A model of behaviour beside the simple ones: verdict on validation, figures on test.

A retriever is judged by what it finds in the whole catalogue, or in the slice that it is there for; a ranker
by the order it gives to what the retrievers found. Both beside every other system and beside chance.

    B queries   N items   T right answers   C candidates a query
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from etalage import metrics
from etalage.config import EvaluateConfig, suggestion
from etalage.errors import ConfigError
from etalage.evaluation.behaviour_result import BehaviourEvaluation
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
from etalage.features.behaviour import BehaviourSet
from etalage.features.behaviour_set import told
from etalage.features.leakage import check_leakage
from etalage.runtime.export_files import read_facts, write_verdict
from etalage.runtime.scorer import Scorer

DEFAULT_METRIC = {RANKER: "ndcg_at_10"}
"""By role; of a retriever recall_at_20."""


def evaluate_behaviour(
    data: BehaviourSet,
    systems: Mapping[str, Scorer],
    *,
    config: EvaluateConfig,
    export: Path | None = None,
    model_hash: str = "",
    metric: str | None = None,
    slice: str = ALL,
    simple: Sequence[str] | None = None,
    quota: int | Mapping[str, int] = QUOTA,
    versions: Mapping[str, int] | None = None,
    reports: Path | None = None,
    history: Sequence[Mapping[str, float]] = (),
    titles: Mapping[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> BehaviourEvaluation:
    """Measure `systems`, the model first; its role says how.

    metric: such as recall_at_20, ndcg_at_10, mrr, auroc; None: what is usual for the role. slice: of
    slices.slices. simple: those that the model must beat, by name; None: all others; chance in any case.
    quota: candidates that each other system brings to a ranker; by name, those not named bring none.
    history: metrics by epoch (Trained.history). titles: item_id → what the report calls it.
    With `export`, the verdict is written beside it; with `reports`, the report into that folder.
    progress: told of queries as they are done.
    Raises LeakageFound, TooLittleData, ConfigError (metric, slice), ExportDamaged (made from other data).
    """
    leakage = check_leakage(data)
    model, scorer = next(iter(systems.items()))
    role = scorer.role
    metric = metric or DEFAULT_METRIC.get(role, "recall_at_20")
    config = config.model_copy(update={"ks": ks_with(config.ks, metric)})
    every: dict[str, Scorer] = {**systems, CHANCE: Chance(data.items, data.users)}
    require_same_items(data, every)

    def measured(part: str) -> Measured:
        return measure(data, every, part, role, config, quota, progress)

    gate = measured("validation")
    verdict = verdict_on(gate, model, role, metric, slice, simple, config)
    shown = measured("test") if len(data.truth("test")) else gate
    part = shown.asked.part
    whole = shown.values(ALL)
    done = BehaviourEvaluation(
        model,
        role,
        metric,
        slice,
        part,
        verdict,
        {name: metrics.bootstrap_all(values, config.bootstrap) for name, values in whole.items()},
        spread(data, shown, metric) if role != RANKER else {},
        slice_figures(shown, model, metric, simple, config),
        leakage.to_json(),
        published(data, every, part, leakage.cleaned, config),
        shown.ordered.figures if shown.ordered else {},
    )
    if export is not None:
        write_verdict(export, {"model_hash": model_hash, **verdict.to_json()})
    if reports is None:
        return done
    from etalage.evaluation.behaviour_report import write_behaviour_report  # draws: matplotlib

    report = write_behaviour_report(
        reports / f"{model}-{export.name if export else 'evaluation'}.html",
        done,
        shown,
        data,
        facts=_facts(done, gate, shown, config, export, model_hash, versions or {}) | _not_counted(data),
        history=history,
        titles=titles or {},
    )
    return replace(done, report=report, files=[report, *sorted(report.with_suffix("").glob("*.png"))])


def _not_counted(data: BehaviourSet) -> dict[str, str]:
    """The acts that the figures know nothing of, in words."""
    lines = told(data.facts)
    return {"not counted": "; ".join(lines)} if lines else {}


def _facts(
    done: BehaviourEvaluation,
    gate: Measured,
    shown: Measured,
    config: EvaluateConfig,
    export: Path | None,
    model_hash: str,
    versions: Mapping[str, int],
) -> dict[str, str]:
    """What stands above the report's verdict."""

    def asked(one: Measured) -> str:
        count, right = len(one.asked.truth), len(one.asked.items)
        return f"{one.asked.part}: {count:,} shoppers, {right:,} items to find"

    facts = {"figures on": asked(shown), "verdict on": asked(gate)}
    if export is not None:
        facts = {"model": f"{export.name} ({model_hash[:12]})", **_made_from(export), **facts}
    if versions:
        facts["tables"] = ", ".join(f"{name} version {version}" for name, version in versions.items())
    if shown.ordered is not None:
        most = int(shown.ordered.found.counts.max())
        recall = f"{shown.ordered.recall:.1%}"
        facts["candidates"] = f"up to {most} a shopper; {recall} of what is to be found is among them"
    if shown.asked.dropped:
        facts["not asked for"] = f"{shown.asked.dropped:,} that their shoppers had already"
    faults = {
        name: sum(by_part.values()) for name, by_part in done.leakage.items() if isinstance(by_part, dict)
    }
    found = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in faults.items() if count)
    facts["leakage"] = found or "none found"
    facts["interval"] = f"95%, {config.bootstrap} bootstrap resamples of the shoppers"
    return facts


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
    ConfigError: no such slice, no such metric."""
    if slice not in gate.slices:
        raise ConfigError(f"slice {slice!r}: validation has none of it; {suggestion(slice, gate.slices)}")
    values = gate.values(slice)
    if metric not in values[model]:
        raise ConfigError(f"metric {metric!r}: {suggestion(metric, values[model])}")
    theirs = {name: values[name][metric] for name in simple_ones(values, model, simple)}
    return judge(model, role, metric, values[model][metric], theirs, config.bootstrap, slice=slice)


def ks_with(ks: Sequence[int], metric: str) -> tuple[int, ...]:
    """`ks`, and that of the metric. Raises ConfigError: no such metric."""
    _, k = cut_of(metric)
    if k == 0 or (k is None and metric not in WITHOUT_K):
        raise ConfigError(f"metric {metric!r}: expected one such as recall_at_20, ndcg_at_10, mrr or auroc")
    return tuple(sorted({*ks, k} if k else set(ks)))
