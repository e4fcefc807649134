"""The fallback policy: which tier of models answers a shopper, by how much is known of them.

`deep` models from `funnel.enough` acts on; before, the `collaborative` ones (closed-form models that know the
shopper or an item of theirs); where only items that nobody acted on are known, `photo`s like theirs; for a
stranger, what is `popular`. A model that loses to popularity brings candidates where a ranker orders
them, and nowhere else.
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
"""Candidates of each retriever that the shop gives no quota."""


@dataclass(frozen=True)
class Plan:
    """Who is asked, about what, and what the tier is called."""

    tier: str
    asked: tuple[Retriever, ...]
    """The prior is the last one."""
    quotas: dict[str, int]
    queries: dict[str, Queries]
    ranker: PairScorer | None


class FallbackPolicy:
    """The models of a bundle by what they are good for."""

    def __init__(
        self,
        popularity: np.ndarray,
        models: Sequence[OpenedModel],
        rules: BehaviourRule,
        look_alike: LookAlikeRetriever | None,
    ) -> None:
        """popularity: (N + 1,) how often items were acted on, which every bundle knows; what a stranger is
        shown where no model counts."""
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
        self.behind = frozenset(one.name for one in models if one.behind)
        wanted = rules.funnel.ranker
        rankers = [one.scorer for one in models if isinstance(one.scorer, PairScorer)]
        self.ranker = next((one for one in rankers if wanted in (None, one.name)), None)

    def plan(self, shopper: Shopper, k: int) -> Plan:
        """The tier that answers the shopper, and how many candidates each of it may bring, k at least."""
        every: list[Retriever] = [*self.deep, *self.collaborative, self.prior]
        every += [self.look_alike] if self.look_alike is not None else []
        plain = shopper.plain_queries()
        queries = {
            one.name: shopper.queries(self.models[one.name]) if one.name in self.models else plain
            for one in every
        }
        know = {one.name for one in every if one.knows(queries[one.name])[0]}
        enough = shopper.known_acts >= self.rules.funnel.enough
        ranker = self.ranker_for(shopper) if enough else None
        tier, asked, quotas = self.asked(know, enough, ranker is not None, k)
        return Plan(tier, asked, quotas, queries, ranker)

    def asked(
        self, know: set[str], enough: bool, ranked: bool, k: int
    ) -> tuple[str, tuple[Retriever, ...], dict[str, int]]:
        """The tier, who is asked there, the prior last, and how many candidates each may bring.

        know: the models that know the shopper. enough: they acted often enough for the deep models. ranked: a
        ranker will order what is brought.
        """
        tier, asked = self._tier(know, enough, ranked)
        quotas = {name: max(quota, k) for name, quota in self._quotas(asked).items()}
        given = self.rules.funnel.retrievers
        prior = QUOTA if not given else given.get(self.prior.name, 0)
        quotas[self.prior.name] = prior if asked else max(prior, k)
        return tier, (*asked, self.prior), quotas

    def _tier(self, know: set[str], enough: bool, ranked: bool) -> tuple[str, list[Retriever]]:
        deep = [one for one in self.deep if one.name in know]
        collaborative = [
            one for one in self.collaborative if one.name in know and (ranked or one.name not in self.behind)
        ]
        photo: list[Retriever] = []
        if self.look_alike is not None and self.look_alike.name in know:
            photo = [self.look_alike]
        # Photos speak beside behaviour only where the shop asks for it.
        beside = [one for one in photo if one.name in self.rules.funnel.retrievers]
        if enough and (deep or ranked):
            return "deep", [*deep, *collaborative, *beside]
        if collaborative:
            return "collaborative", [*collaborative, *beside]
        if deep:  # few acts, but nobody else knows more of them
            return "deep", [*deep, *beside]
        return ("photo", photo) if photo else ("popular", [])

    def _quotas(self, asked: Sequence[Retriever]) -> dict[str, int]:
        """As the shop gives them. Where it names none of these (what it named was kept out by the gate, or
        does not know the shopper), those that are there step in."""
        given = self.rules.funnel.retrievers
        named = {one.name: int(given[one.name]) for one in asked if one.name in given}
        return named or {one.name: QUOTA for one in asked}

    @property
    def speaking(self) -> list[Retriever]:
        """The models that may answer alone, the first one that knows the shopper before the others."""
        return [one for one in (*self.deep, *self.collaborative) if one.name not in self.behind]

    def ranker_for(self, shopper: Shopper) -> PairScorer | None:
        """The ranker, if it knows the shopper."""
        if self.ranker is None or not self.ranker.knows(shopper.queries(self.ranker))[0]:
            return None
        return self.ranker
