"""What a shopper had before, the more often and the more lately the better: for groceries, hard to beat.

Paper: H. Hu et al., Modeling Personalized Item Frequency Information for Next-basket Recommendation, SIGIR
2020 (personal frequency); R. Bhagat et al., Buy It Again: Modeling Repeat Purchase Recommendations, KDD 2018
(how likely an item is to be taken a second time).

    M interactions   N items
"""

import numpy as np
from pydantic import Field

from etalage.features.behaviour import BehaviourSet
from etalage.models.counting import counted_acts
from etalage.models.recipe import ClosedFormArrays, ClosedFormConfig, Recipe
from etalage.models.search_space import FloatRange, SearchSpace


class BuyAgainConfig(ClosedFormConfig):
    kind_weights: dict[str, float] = Field(default_factory=dict)
    """Weight of each kind of act; empty: every kind, each 1. Kinds not named do not count then."""
    prior: float = Field(5.0, gt=0)
    """The share of an item's shoppers who took it again is drawn to that of all items, as if so many more
    shoppers had taken it."""
    decay: float = Field(0.99, gt=0, le=1)
    """In scoring: factor on an act's vote for each step back in the history."""


class BuyAgainCounts:
    """score(i) = Σ over the history's acts on i of share(i) · decay^steps back, a diagonal matrix."""

    def __init__(self, config: BuyAgainConfig, data: BehaviourSet) -> None:
        self.config, self.data = config, data

    def count(self) -> ClosedFormArrays:
        """Raises TooLittleData."""
        acts, _ = counted_acts(self.data, self.config.kind_weights, RECIPE.name)
        count = len(self.data.items)
        pairs, times = np.unique(acts.users * count + acts.items, return_counts=True)
        takers = np.bincount(pairs % count, minlength=count)
        again = np.bincount(pairs % count, times > 1, minlength=count)
        usual = again.sum() / max(takers.sum(), 1)
        share = (again + self.config.prior * usual) / (takers + self.config.prior)
        rows = np.flatnonzero((takers > 0) & (share > 0))
        rows = rows[rows > 0]
        indptr = np.searchsorted(rows, np.arange(count + 1)).astype(np.int64)
        arrays = {
            "indptr": indptr,
            "indices": rows.astype(np.int32),
            "weights": share[rows].astype(np.float32),
        }
        return ClosedFormArrays("item_item", arrays, {"decay": self.config.decay, "every_act": True})


SPACE: SearchSpace = {"prior": FloatRange(0.1, 100.0, log=True), "decay": FloatRange(0.8, 1.0)}
"""What `etalage tune` tries."""

RECIPE = Recipe(
    name="buy_again",
    role="closed_form",
    paper="Hu et al., Modeling Personalized Item Frequency Information, SIGIR 2020",
    config=BuyAgainConfig,
    columns=(),
    bind=BuyAgainCounts,
    data="behaviour",
    space=SPACE,
    trials=({"decay": 0.95}, {"decay": 1.0}, {"prior": 50.0}),
    when_scoring=("decay",),
)
