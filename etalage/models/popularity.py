"""Counts how often each item was acted on: the baseline of every other model, and what a stranger is shown.

With a window or a half-life it finds what is popular lately, which is strong where fashions change: Ji et
al., A Re-visit of the Popularity Baseline in Recommender Systems, SIGIR 2020.

    M interactions   N items
"""

from typing import Literal

import numpy as np
from pydantic import Field

from etalage.errors import TooLittleData
from etalage.features.behaviour import NEVER, BehaviourSet, Interactions, pair_keys
from etalage.models.counting import counted_acts
from etalage.models.recipe import ClosedFormArrays, ClosedFormConfig, Recipe
from etalage.models.search_space import Choice, SearchSpace

DAY = 86_400_000_000
"""Microseconds."""


class PopularityConfig(ClosedFormConfig):
    count: Literal["shoppers", "acts"] = "shoppers"
    """`shoppers`: each shopper counts once per item, by the act that counts most, so that no crawler can make
    an item popular; `acts`: each act counts."""
    kind_weights: dict[str, float] = Field(default_factory=dict)
    """Kind of act → its weight; kinds not named do not count. Empty: [behaviour] weights."""
    window_days: float | None = Field(None, gt=0)
    """Only acts within this many days before the newest one count; None: all."""
    half_life_days: float | None = Field(None, gt=0)
    """An act this many days before the newest one counts half; None: age does not matter."""


class PopularityCounts:
    """scores[i] = Σ over shoppers of the largest (or Σ over acts of each) weight · 2^(-age / half-life)."""

    def __init__(self, config: PopularityConfig, data: BehaviourSet) -> None:
        self.config, self.data = config, data

    def count(self) -> ClosedFormArrays:
        """Raises TooLittleData: nothing to count, or age matters and no act has a time."""
        acts, weights_M = counted_acts(self.data, self.config.kind_weights, RECIPE.name)
        weights_M = weights_M * self._freshness(acts)
        items = acts.items
        if self.config.count == "shoppers":
            pairs, which = np.unique(pair_keys(acts.users, acts.items), return_inverse=True)
            largest = np.zeros(len(pairs))
            np.maximum.at(largest, which, weights_M)
            items, weights_M = pairs & 0xFFFFFFFF, largest
        scores = np.bincount(items, weights_M, minlength=len(self.data.items))
        return ClosedFormArrays("prior", {"scores": scores.astype(np.float32)})

    def _freshness(self, acts: Interactions) -> np.ndarray:
        """(M,) factors from 0 to 1. An act of unknown time counts as older than all others: 0."""
        window, half_life = self.config.window_days, self.config.half_life_days
        if window is None and half_life is None:
            return np.ones(len(acts))
        timed = acts.times != NEVER
        if not timed.any():
            raise TooLittleData(
                "popularity: no interaction has a time, so their age is not known; leave out window_days and "
                "half_life_days, or load interactions with a time"
            )
        ages_M = (acts.times.max() - np.where(timed, acts.times, 0)) / DAY
        fresh = timed.astype(np.float64)
        if window is not None:
            fresh *= ages_M <= window
        if half_life is not None:
            fresh *= np.exp2(-ages_M / half_life)
        return fresh


SPACE: SearchSpace = {
    "count": Choice(("shoppers", "acts")),
    "half_life_days": Choice((None, 1.0, 3.0, 7.0, 14.0, 30.0, 90.0, 180.0, 365.0)),
}
"""What `etalage tune` tries."""

RECIPE = Recipe(
    name="popularity",
    role="closed_form",
    paper="Ji et al., A Re-visit of the Popularity Baseline in Recommender Systems, SIGIR 2020",
    config=PopularityConfig,
    columns=(),
    bind=PopularityCounts,
    data="behaviour",
    space=SPACE,
    trials=({"count": "acts"}, *({"half_life_days": days} for days in (3.0, 14.0, 60.0, 180.0))),
)
