"""Every system on the same questions: ranks, slices, and what its slates are made of.

B queries   N items   T right answers
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from etalage import metrics
from etalage.bundle import admission
from etalage.config import EvaluateConfig
from etalage.errors import ConfigError, ExportDamaged
from etalage.evaluation.blocks import Job, Workers, rank_jobs
from etalage.evaluation.names import ALL
from etalage.evaluation.rankers import RETRIEVED, Ordered, order
from etalage.evaluation.ranking import Published, Ranked, rank_published
from etalage.evaluation.slices import Questions, Slice, ask, slices
from etalage.features.behaviour import BehaviourSet, Queries
from etalage.features.vocabulary import Vocabulary
from etalage.metrics import Interval
from etalage.runtime.prior import SameForAll
from etalage.runtime.scorer import Scorer

CHANCE = admission.CHANCE
RANKER = "ranker"
SLATE = 10
"""Coverage and novelty are of slates of so many items, or of the metric's k."""
Values = dict[str, dict[str, np.ndarray]]
"""System → metric → (Q,) values."""


class Chance:
    """Items in any order: what a scorer must beat that knows nothing."""

    name, role, model_hash = CHANCE, "closed_form", ""
    kinds: tuple[str, ...] = ()

    def __init__(self, items: Vocabulary, users: Vocabulary) -> None:
        self.items, self.users = items, users

    def knows(self, queries: Queries) -> np.ndarray:
        return np.zeros(len(queries), bool)

    def scores(self, queries: Queries) -> np.ndarray:
        found = self._drawn(queries, len(self.items))
        found[:, 0] = -np.inf
        return found

    def scores_of(self, queries: Queries, items_BK: np.ndarray) -> np.ndarray:
        return np.where(items_BK > 0, self._drawn(queries, items_BK.shape[1]), -np.inf).astype(np.float32)

    def _drawn(self, queries: Queries, width: int) -> np.ndarray:
        seed = zlib.crc32(queries.users.tobytes())
        return np.random.default_rng(seed).random((len(queries), width), np.float32)


class Prior(SameForAll):
    """The same order for everybody: popularity as it is counted, before anybody trained or exported it."""

    role, model_hash = "closed_form", ""
    kinds: tuple[str, ...] = ()

    def __init__(self, name: str, scores: np.ndarray, items: Vocabulary, users: Vocabulary) -> None:
        """scores: (N + 1,) float32; that of row 0 is not looked at."""
        self.name, self.items, self.users = name, items, users
        self.prior = np.array(scores, np.float32)
        self.prior[0] = -np.inf


@dataclass(frozen=True)
class Measured:
    """All systems on the questions of one part."""

    asked: Questions
    ranked: dict[str, Ranked]
    slices: dict[str, Slice]
    within: dict[str, dict[str, Ranked]]
    """Slice → system, for the slices with candidates of their own."""
    ordered: Ordered | None = None
    """Of a ranker: the candidates."""

    def values(self, name: str) -> Values:
        """System → metric → values of the queries of one slice."""
        if name in self.within:
            return {system: one.per_query for system, one in self.within[name].items()}
        right = self.slices[name].right
        return {
            system: (one if right.all() else one.only(right)[0]).per_query
            for system, one in self.ranked.items()
        }


@dataclass(frozen=True)
class SliceFigures:
    """The headline metric in one slice. gain: the model's over `best`, the best simple system there; None:
    no one model is looked at."""

    name: str
    words: str
    queries: int
    values: dict[str, Interval]
    """By system, without those that are not measured in this slice."""
    best: str | None = None
    gain: Interval | None = None


def measure(
    data: BehaviourSet,
    systems: Mapping[str, Scorer],
    part: str,
    role: str,
    config: EvaluateConfig,
    quota: int | Mapping[str, int],
    progress: Callable[[int], None] | None,
    workers: Workers | None = None,
) -> Measured:
    """All systems on the questions of `part`, by `workers` where it pays.

    quota: candidates that each system but the rankers brings to a ranker. Raises TooLittleData.
    """
    asked = ask(data, part, config.max_queries)
    if role == RANKER:
        ordered = order(asked, systems, quota, config.ks)
        kinds = {name: one for name, one in slices(data, ordered.asked).items() if one.candidates is None}
        return Measured(ordered.asked, ordered.ranked, kinds, {}, ordered)
    kinds = slices(data, asked)
    jobs = {(ALL, name): Job(scorer, asked) for name, scorer in systems.items()}
    for slice, kind in kinds.items():
        if kind.candidates is not None:
            some = asked.only(kind.right)[0]
            jobs |= {(slice, name): Job(one, some, kind.candidates) for name, one in systems.items()}
    found = dict(zip(jobs, rank_jobs(list(jobs.values()), config.ks, workers, progress), strict=True))
    within: dict[str, dict[str, Ranked]] = {}
    for (slice, name), ranked in found.items():
        within.setdefault(slice, {})[name] = ranked
    return Measured(asked, within.pop(ALL), kinds, within)


def simple_ones(values: Mapping[str, Any], model: str, simple: Sequence[str] | None) -> list[str]:
    others = [name for name in values if name != model]
    if simple is None:
        return others
    unknown = [name for name in simple if name not in values]
    if unknown:
        raise ConfigError(f"no system {unknown[0]!r}: there are {', '.join(others)}")
    return [name for name in others if name in simple or name in (CHANCE, RETRIEVED)]


def slice_figures(
    shown: Measured, model: str, metric: str, simple: Sequence[str] | None, config: EvaluateConfig
) -> list[SliceFigures]:
    found = []
    for name, kind in shown.slices.items():
        values = {system: one[metric] for system, one in shown.values(name).items()}
        means = {system: float(values[system].mean()) for system in simple_ones(values, model, simple)}
        best = max(means, key=lambda system: means[system])
        intervals = metrics.bootstrap_all(values, config.bootstrap)
        gain = metrics.paired_bootstrap(values[model], values[best], config.bootstrap)
        found.append(SliceFigures(name, kind.words, len(values[model]), intervals, best, gain))
    return found


def spread(data: BehaviourSet, shown: Measured, metric: str) -> dict[str, dict[str, float]]:
    last = metric.rpartition("_at_")[2]
    k = int(last) if last.isdigit() else SLATE
    train = data.part("train").positive
    pairs = np.unique(train.users * len(data.items) + train.items)
    counts = np.bincount(pairs % len(data.items), minlength=len(data.items))
    users = len(np.unique(train.users))
    found = {}
    for name, one in shown.ranked.items():
        slates = one.slates[:, :k]
        covered = metrics.coverage(slates, len(data.items) - 1)
        new = metrics.novelty(slates, counts, users).mean()
        found[name] = {f"coverage_at_{k}": covered, f"novelty_at_{k}": float(new)}
    return found


def published(
    data: BehaviourSet,
    systems: Mapping[str, Scorer],
    part: str,
    cleaned: Mapping[str, np.ndarray],
    config: EvaluateConfig,
) -> dict[str, Published]:
    """Every query of the part, as whoever published the negatives asked it."""
    if part not in data.negatives:
        return {}
    queries, truth = data.queries(part)
    lists = (data.negatives[part], cleaned[part])
    return {
        name: rank_published(scorer, queries, truth, *lists, ks=config.ks) for name, scorer in systems.items()
    }


def require_same_items(data: BehaviourSet, systems: Mapping[str, Scorer]) -> None:
    for name, scorer in systems.items():
        if not scorer.items.ids.equals(data.items.ids):
            raise ExportDamaged(
                f"{name}: it knows {len(scorer.items) - 1} items, the data {len(data.items) - 1} or others; "
                f"train it again on this data"
            )
