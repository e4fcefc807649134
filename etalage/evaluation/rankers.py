"""What retrievers found, put in order by each system: how a ranker is measured.

B queries   C candidates a query   R = all candidates of all queries
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from etalage import metrics
from etalage.errors import TooLittleData
from etalage.evaluation.ranking import ASK_AT_ONCE, Ranked, rank_all, rank_lists
from etalage.evaluation.slices import Questions
from etalage.funnel.candidates import Candidates, Excluded, Hits, fused, merged
from etalage.metrics import Calibration
from etalage.runtime.scorer import ExportScorer, Scorer

QUOTA = 200
RETRIEVED = "retrieved order"
"""The order that candidates have without a ranker (bundle.candidates.fused)."""


@dataclass(frozen=True)
class Ordered:
    """Candidates in the order of each system, for the queries whose candidates hold a right answer."""

    asked: Questions
    """With the right answers that are among the candidates."""
    found: Candidates
    ranked: dict[str, Ranked]
    recall: float
    """The share of all right answers that are among the candidates: no ranker finds more."""
    probabilities: dict[str, np.ndarray]
    """System → (R,) what it says is the chance that the candidate is right."""
    right: np.ndarray
    """(R,) bool."""

    @property
    def figures(self) -> dict[str, dict[str, float]]:
        """System → AUROC over all candidates, log loss, expected calibration error."""
        return {
            name: {
                "auroc_of_all": metrics.auroc(given, self.right),
                "log_loss": float(metrics.log_loss(given, self.right).mean()),
                "calibration_error": metrics.calibration(given, self.right).error,
            }
            for name, given in self.probabilities.items()
        }

    def calibration(self, system: str) -> Calibration:
        return metrics.calibration(self.probabilities[system], self.right)


def order(
    asked: Questions, systems: Mapping[str, Scorer], quota: int | Mapping[str, int], ks: Sequence[int]
) -> Ordered:
    """Let all systems but the rankers bring `quota` candidates each, and every system order them all.

    By name, those that `quota` does not name bring none.

    Raises TooLittleData: no right answer is among the candidates.
    """
    quotas = {
        name: quota if isinstance(quota, int) else quota.get(name, 0)
        for name, one in systems.items()
        if one.role != "ranker" and one.model_hash  # chance orders candidates, but brings none
    }
    brought = {name: _hits_of(systems[name], asked, count) for name, count in quotas.items() if count > 0}
    if not brought:
        raise TooLittleData("no retriever brings candidates: train one first, `etalage train popularity`")
    found = merged(brought, len(asked.queries))
    width = int(found.rows.max(initial=0)) + 1
    owners, items = asked.owners, asked.items
    listed = np.unique(np.arange(len(found.rows))[:, None] * width + found.rows)
    there = np.isin(owners * width + items, listed) & (items > 0) & (items < width)
    if not there.any():
        raise TooLittleData(f"no right answer of {asked.part} is among the candidates: nothing to order")
    some, stay = asked.only(there)
    found = Candidates(found.rows[stay], {name: scores[stay] for name, scores in found.scores.items()})
    scores = {name: _scored(one, some, found) for name, one in systems.items()}
    probabilities = _probabilities(systems, scores, found.rows > 0)
    scores[RETRIEVED] = fused(found, {})
    ranked = {name: rank_lists(one, found.rows, some.truth, ks=ks, name=name) for name, one in scores.items()}
    width = max(width, int(some.items.max()) + 1)
    keys = np.arange(len(found.rows))[:, None] * width + found.rows
    right = np.isin(keys, some.owners * width + some.items)[found.rows > 0]
    return Ordered(some, found, ranked, float(there.mean()), probabilities, right)


def _hits_of(scorer: Scorer, asked: Questions, quota: int) -> Hits:
    """As in serving, where it is a model out of an export."""
    if isinstance(scorer, ExportScorer):
        begin, end = (np.searchsorted(asked.seen.users, asked.queries.users + n) for n in (0, 1))
        had = [asked.seen.items[a:b] for a, b in zip(begin, end, strict=True)]
        return scorer.retriever().find(asked.queries, quota, None, Excluded(had, len(scorer.items)))
    ranked = rank_all(scorer, asked.queries, asked.truth, ks=(quota,), exclude=asked.seen)
    return Hits(ranked.slates.astype(np.int64), ranked.slate_scores)


def _scored(scorer: Scorer, asked: Questions, found: Candidates) -> np.ndarray:
    """(B, C) scores of the candidates; a ranker that asks for the retrievers' scores is given them."""
    asks: Any = scorer
    parts = [np.empty((0, found.rows.shape[1]), np.float32)]
    for start in range(0, len(asked.queries), ASK_AT_ONCE):
        end = min(start + ASK_AT_ONCE, len(asked.queries))
        queries, rows = asked.queries.block(start, end), found.rows[start:end]
        if hasattr(scorer, "asks_retrievers"):
            given = {name: scores[start:end] for name, scores in found.scores.items()}
            parts.append(asks.scores_of(queries, rows, given))
        else:
            parts.append(scorer.scores_of(queries, rows))
    return np.concatenate(parts)


def _probabilities(
    systems: Mapping[str, Scorer], scores: Mapping[str, np.ndarray], there: np.ndarray
) -> dict[str, np.ndarray]:
    found = {}
    for name, one in systems.items():
        of: Any = getattr(one, "probability", None)
        given = of(scores[name][there]) if of is not None else None
        if given is not None:
            found[name] = np.asarray(given, np.float64)
    return found
