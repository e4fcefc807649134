"""The funnel of one bundle: shopper → candidates → ranking → order → slate, without HTTP and without a store.

funnel/fallback.py decides which models supply the candidates.

    K candidates   k places   N items
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from etalage.features.behaviour import Queries
from etalage.features.history import BehaviourRule
from etalage.funnel.candidates import Candidates, Excluded, candidates, fused
from etalage.funnel.catalogue import Catalogue, Filters, Stock
from etalage.funnel.fallback import FallbackPolicy, TierPlan
from etalage.funnel.ordering import Order, Traits, arranged
from etalage.funnel.shoppers import Shopper
from etalage.runtime.embeddings import EmbeddingScorer
from etalage.runtime.opening import OpenedModel
from etalage.runtime.pairs import PairScorer
from etalage.runtime.photos import LookAlikeRetriever
from etalage.runtime.prior import PriorRetriever
from etalage.runtime.scorer import ExportScorer

PRIOR_WEIGHT = 1e-6
"""Weight of the prior's score if there is no ranker: it breaks ties, and fills the places after personal
items."""
POPULAR_DIVERSITY = 0.3
"""Least diversity of a stranger's slate, so that ten variants of one bestseller do not fill it."""


@dataclass(frozen=True)
class Ranking:
    """A shopper's candidates, all of which may be shown, with their scores."""

    plan: TierPlan
    found: Candidates
    rows: np.ndarray
    """(K,) int64 item rows."""
    scores: np.ndarray
    """(K,) float32 scores that order them."""


@dataclass
class Stages:
    """How many items each stage took in and let out, and how long it took."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    _since: float = field(default_factory=time.perf_counter)

    def done(self, name: str, taken: int, given: int) -> dict[str, Any]:
        now = time.perf_counter()
        took, self._since = round(1000 * (now - self._since), 3), now
        self.rows.append({"name": name, "in": taken, "out": given, "dropped": {}, "milliseconds": took})
        return self.rows[-1]


@dataclass(frozen=True)
class Answered:
    """A slate as item rows, with everything that explaining it needs."""

    rows: np.ndarray
    """(≤ k,) int64 item rows, best first."""
    scores: np.ndarray
    """(≤ k,) float32."""
    ranking: Ranking
    order: Order
    stages: Stages
    allow: np.ndarray | None
    excluded: Excluded

    @property
    def tier(self) -> str:
        return self.ranking.plan.tier


class Funnel:
    """The models of a bundle at work. It never changes, and threads may share it."""

    def __init__(
        self,
        catalogue: Catalogue,
        models: Sequence[OpenedModel],
        rules: BehaviourRule,
        look_alike: LookAlikeRetriever | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.rules = rules
        self.look_alike = look_alike
        self.fallback_policy = FallbackPolicy(catalogue.popularity, models, rules, look_alike)
        self.models: dict[str, ExportScorer] = self.fallback_policy.models
        self.prior: PriorRetriever = self.fallback_policy.prior

    @cached_property
    def taught(self) -> frozenset[str]:
        """The kinds of acts that the models learned from."""
        return frozenset(kind for model in self.models.values() for kind in model.kinds)

    @property
    def embedders(self) -> list[EmbeddingScorer]:
        """The models that embed shoppers and items in one space: embedders first, then factorisations."""
        every = [*self.fallback_policy.deep, *self.fallback_policy.collaborative]
        named = (
            self.models[one.name]
            for one in sorted(every, key=lambda one: one.name in self.fallback_policy.behind)
        )
        return [one for one in named if isinstance(one, EmbeddingScorer)]

    # -- the stages ----------------------------------------------------------------------------

    def retrieve(self, plan: TierPlan, k: int, allow: np.ndarray | None, excluded: Excluded) -> Candidates:
        """Candidates that may be shown: at least k, if there are k."""
        found = candidates(plan.retrievers, plan.queries, plan.quotas, allow, excluded)
        if int(found.counts[0]) < k and plan.quotas[self.prior.name] < k:
            topped = {**plan.quotas, self.prior.name: k}
            found = candidates(plan.retrievers, plan.queries, topped, allow, excluded)
        return found

    def rank(self, shopper: Shopper, plan: TierPlan, found: Candidates) -> Ranking:
        """Order by the ranker if it knows the shopper, else by the retrievers' normalised scores."""
        ranker = plan.ranker
        queries = shopper.plain_queries() if ranker is None else shopper.queries(ranker)
        scores = ranking_scores(plan.tier, ranker, queries, found, self.prior.name)[0]
        return Ranking(plan, found, found.rows[0], scores)

    def answer(self, shopper: Shopper, k: int, filters: Filters, stock: Stock) -> Answered:
        """The k items for this shopper, best first; fewer only if fewer may be shown."""
        stages = Stages()
        plan = self.fallback_policy.plan(shopper, k)
        allow = self.catalogue.allowed(self.with_stock_rule(filters), stock)
        excluded = Excluded([self._kept_out(shopper, filters)], len(self.catalogue) + 1)
        found = self.retrieve(plan, k, allow, excluded)
        stages.done("retrieve", len(self.catalogue), int(found.counts[0]))
        ranking = self.rank(shopper, plan, found)
        stages.done("rank", len(ranking.rows), len(ranking.rows))
        diversity = self.rules.funnel.order.diversity
        if plan.tier == "popular":
            diversity = max(diversity, POPULAR_DIVERSITY)
        traits = self.traits(ranking.rows, stock, embedded=diversity > 0)
        order = arranged(ranking.scores, traits, k, self.rules.funnel.order, diversity)
        rows = ranking.rows[order.places]
        scores = ranking.scores[order.places]
        if len(rows) < k:
            more = self._more(k, rows, allow, excluded)
            lowest = np.full(len(more), min(scores.min(initial=0.0), 0.0), np.float32)
            rows, scores = np.concatenate([rows, more]), np.concatenate([scores, lowest])
        stages.done("order", len(ranking.rows), len(rows))
        return Answered(rows, scores.astype(np.float32), ranking, order, stages, allow, excluded)

    def with_stock_rule(self, filters: Filters) -> Filters:
        """Add the shop's own filter to the request's: nothing sold out, unless the request filters by stock
        itself."""
        if filters.in_stock is None and self.rules.funnel.in_stock:
            return replace(filters, not_sold_out=True)
        return filters

    def _kept_out(self, shopper: Shopper, filters: Filters) -> np.ndarray:
        named = self.catalogue.rows(filters.exclude)
        return np.concatenate([shopper.seen, named[named > 0]])

    def traits(self, rows: np.ndarray, stock: Stock, embedded: bool) -> Traits:
        """The features of item rows (K,) that ordering reads."""
        order = self.rules.funnel.order
        empty = np.full(len(rows), np.nan)
        return Traits(
            self.catalogue.brand_codes[rows],
            self.catalogue.category_codes[rows],
            self.catalogue.values(order.value_of, rows, stock) if order.value else empty,
            self._likeness(rows) if embedded else None,
            None if self.catalogue.group_codes is None else self.catalogue.group_codes[rows],
        )

    def _likeness(self, rows: np.ndarray) -> np.ndarray | None:
        if self.fallback_policy.deep and self.embedders:
            return np.asarray(self.embedders[0].item_embeddings[rows], np.float32)
        return None if self.look_alike is None else np.asarray(self.look_alike.embeddings[rows], np.float32)

    def _more(self, k: int, rows: np.ndarray, allow: np.ndarray | None, excluded: Excluded) -> np.ndarray:
        """Up to k - len(rows) popular items that the caps still allow after `rows`."""
        order = self.rules.funnel.order
        capped = [
            (
                codes,
                most,
                np.bincount(codes[rows][codes[rows] >= 0], minlength=int(codes.max(initial=-1)) + 1),
            )
            for codes, most in (
                (self.catalogue.brand_codes, order.per_brand),
                (self.catalogue.category_codes, order.per_category),
                (self.catalogue.group_codes, order.per_group or None),
            )
            if most is not None and codes is not None
        ]
        gone = np.concatenate([rows, excluded.rows[0]])
        more: list[int] = []
        for some in self.prior.walk(allow):
            some = some[~np.isin(some, gone)]
            while len(some) and len(rows) + len(more) < k:
                for codes, most, counts in capped:
                    theirs = codes[some]
                    some = (
                        some[(theirs < 0) | (counts[np.maximum(theirs, 0)] < most)] if len(counts) else some
                    )
                if not len(some):
                    break
                take = 1 if capped else k - len(rows) - len(more)
                more.extend(some[:take].tolist())
                for codes, _, counts in capped:
                    if codes[some[0]] >= 0:
                        counts[codes[some[0]]] += 1
                some = some[take:]
            if len(rows) + len(more) >= k:
                break
        return np.array(more, np.int64)

    # -- single pairs --------------------------------------------------------------------------

    def score_pairs(self, shopper: Shopper, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, str]:
        """Scores (K,) of these item rows for one shopper, their probabilities if the ranker gives them, and
        the model that answered."""
        asked = rows[None, :]
        if (ranker := self.fallback_policy.ranker_for(shopper)) is not None:
            scores = ranker.scores_of(
                shopper.queries(ranker), asked, self._as_retrieved(shopper, ranker, asked)
            )
            probability = ranker.probability(scores)
            return scores[0], None if probability is None else probability[0], ranker.name
        for one in self.fallback_policy.speaking:
            model = self.models[one.name]
            queries = shopper.queries(model)
            if model.knows(queries)[0]:
                return model.scores_of(queries, asked)[0], None, one.name
        return self.prior.prior[rows], None, self.prior.name

    def _as_retrieved(
        self, shopper: Shopper, ranker: PairScorer, asked: np.ndarray
    ) -> Mapping[str, np.ndarray]:
        """The retrievers' scores of these rows as the ranker learned them: only for items that they
        retrieve."""
        if not ranker.asks_retrievers:
            return {}
        plan = self.fallback_policy.plan(shopper, 1)
        found = candidates(plan.retrievers, plan.queries, plan.quotas)
        by_row = {name: np.full(len(self.catalogue) + 1, -np.inf, np.float32) for name in found.scores}
        for name, scores in found.scores.items():
            by_row[name][found.rows[0]] = scores[0]
        return _retriever_scores(ranker, {name: scores[asked] for name, scores in by_row.items()}, asked)


def ranking_scores(
    tier: str, ranker: PairScorer | None, queries: Queries, found: Candidates, prior: str
) -> np.ndarray:
    """(B, K) float32 scores that order the candidates. ranker: one that knows these shoppers, or None."""
    if tier == "popular":
        return found.scores[prior]
    if ranker is not None:
        return ranker.scores_of(queries, found.rows, _retriever_scores(ranker, found.scores, found.rows))
    return fused(found, {prior: PRIOR_WEIGHT})


def _retriever_scores(
    ranker: PairScorer, scores: Mapping[str, np.ndarray], rows: np.ndarray
) -> dict[str, np.ndarray]:
    """The retrievers' scores that the ranker reads; -inf for a retriever that was not asked or does not
    exist."""
    missing = np.full(rows.shape, -np.inf, np.float32)
    return {name: scores.get(name, missing) for name in ranker.asks_retrievers}
