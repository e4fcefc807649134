"""The fallback policy decides which tier of models answers a shopper, by how much is known about them.

- `deep`: the deep models answer a shopper with at least `funnel.enough` acts.
- `collaborative`: with fewer acts, closed-form models answer that know the shopper or one of their items.
- `photo`: if only items are known that nobody else acted on, similar photos answer.
- `popular`: a stranger is shown what is popular.

A model that loses to popularity only supplies candidates for a ranker; it never answers alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from etalage.features.behaviour import Queries
from etalage.features.history import BehaviourRule
from etalage.funnel.shoppers import Shopper
from etalage.runtime.opening import OpenedModel
from etalage.runtime.pairs import PairScorer
from etalage.runtime.photos import LookAlikeRetriever
from etalage.runtime.prior import PriorRetriever
from etalage.runtime.retrieving import Retriever
from etalage.runtime.scorer import ExportScorer

QUOTA = 200
"""Candidates of each retriever for which the shop sets no quota."""


@dataclass(frozen=True)
class TierPlan:
    """How to answer one shopper: the tier, its retrievers with their quotas and queries, and the ranker."""

    tier: str
    retrievers: tuple[Retriever, ...]
    """The retrievers to ask; the last one is the prior."""
    quotas: dict[str, int]
    queries: dict[str, Queries]
    ranker: PairScorer | None


class FallbackPolicy:
    """The models of a bundle, sorted by tier."""

    def __init__(
        self,
        popularity: np.ndarray,
        models: Sequence[OpenedModel],
        rules: BehaviourRule,
        look_alike: LookAlikeRetriever | None,
    ) -> None:
        """popularity: (N + 1,) how often items were acted on, which every bundle stores; a stranger is shown
        this if the bundle has no popularity model."""
        self.rules = rules
        self.look_alike = look_alike
        self.models: dict[str, ExportScorer] = {one.name: one.scorer for one in models}
        made = [(one.role, one.scorer.retriever(one.index)) for one in models if not one.scorer.ranks]
        priors = [way for _, way in made if isinstance(way, PriorRetriever)]
        self.prior = priors[0] if priors else PriorRetriever("popularity", popularity)
        self.collaborative, self.deep = (
            [way for found, way in made if found == role and not isinstance(way, PriorRetriever)]
            for role in ("closed_form", "embedder")
        )
        # What finds new things alone answers beside others: half a slate of them would be a worse slate.
        new = {name for name, one in self.models.items() if one.opened.facts.get("finds_new")}
        self.newcomers = [way for way in self.deep if way.name in new]
        self.deep = [way for way in self.deep if way.name not in new]
        self.behind = frozenset(one.name for one in models if one.behind)
        wanted = rules.funnel.ranker
        rankers = [one.scorer for one in models if isinstance(one.scorer, PairScorer)]
        self.ranker = next((one for one in rankers if wanted in (None, one.name)), None)

    def plan(self, shopper: Shopper, k: int) -> TierPlan:
        """Choose the tier that answers the shopper, and each retriever's quota of candidates, at least k."""
        every: list[Retriever] = [*self.deep, *self.collaborative, *self.newcomers, self.prior]
        every += [self.look_alike] if self.look_alike is not None else []
        plain = shopper.plain_queries()
        queries = {
            one.name: shopper.queries(self.models[one.name]) if one.name in self.models else plain
            for one in every
        }
        know = {one.name for one in every if one.knows(queries[one.name])[0]}
        enough = shopper.known_acts >= self.rules.funnel.enough
        ranker = self.ranker_for(shopper) if enough else None
        tier, retrievers, quotas = self.choose(know, enough, ranker is not None, k)
        return TierPlan(tier, retrievers, quotas, queries, ranker)

    def choose(
        self, know: set[str], enough: bool, ranked: bool, k: int
    ) -> tuple[str, tuple[Retriever, ...], dict[str, int]]:
        """The tier, its retrievers (the prior last), and the quota of candidates of each.

        know: the models that know the shopper. enough: whether the shopper acted often enough for the deep
        models. ranked: whether a ranker will order the candidates.
        """
        tier, retrievers = self._tier(know, enough, ranked)
        quotas = {name: max(quota, k) for name, quota in self._quotas(retrievers).items()}
        given = self.rules.funnel.retrievers
        prior = QUOTA if not given else given.get(self.prior.name, 0)
        quotas[self.prior.name] = prior if retrievers else max(prior, k)
        return tier, (*retrievers, self.prior), quotas

    def _tier(self, know: set[str], enough: bool, ranked: bool) -> tuple[str, list[Retriever]]:
        deep = [one for one in self.deep if one.name in know]
        collaborative = [
            one for one in self.collaborative if one.name in know and (ranked or one.name not in self.behind)
        ]
        photo: list[Retriever] = []
        if self.look_alike is not None and self.look_alike.name in know:
            photo = [self.look_alike]
        # Photos speak beside behaviour only where the shop asks for it; what finds new items does also where
        # a ranker says where they stand.
        named = self.rules.funnel.retrievers
        beside = [one for one in photo if one.name in named]
        new = [one for one in self.newcomers if one.name in know and (ranked or one.name in named)]
        beside += new
        if enough and (deep or ranked):
            return "deep", [*deep, *collaborative, *beside]
        if collaborative:
            return "collaborative", [*collaborative, *beside]
        if deep:  # few acts, but nobody else knows more of them
            return "deep", [*deep, *beside]
        if photo:
            return "photo", [*photo, *new]
        return ("deep", new) if new else ("popular", [])

    def _quotas(self, retrievers: Sequence[Retriever]) -> dict[str, int]:
        """The quotas that the shop sets. If it sets none for these retrievers (the gate left out those that
        it names, or they do not know the shopper), each gets QUOTA."""
        given = self.rules.funnel.retrievers
        named = {one.name: int(given[one.name]) for one in retrievers if one.name in given}
        return named or {one.name: QUOTA for one in retrievers}

    @property
    def speaking(self) -> list[Retriever]:
        """The models that may answer alone, the preferred ones first."""
        return [one for one in (*self.deep, *self.collaborative) if one.name not in self.behind]

    def ranker_for(self, shopper: Shopper) -> PairScorer | None:
        """The ranker if it knows the shopper, else None."""
        if self.ranker is None or not self.ranker.knows(shopper.queries(self.ranker))[0]:
            return None
        return self.ranker
