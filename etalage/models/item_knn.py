"""Finds items that the same shoppers chose: neighbours by cosine, TF-IDF or BM25, or by what follows what.

Papers: M. Deshpande, G. Karypis, Item-based top-N recommendation algorithms, ACM TOIS 2004 (the model: a
history's items vote with their k most similar items); M. Ferrari Dacrema et al., Are we really making much
progress?, RecSys 2019 (shrinkage, TF-IDF and BM25 make it hard to beat); M. Ludewig, D. Jannach, Evaluation
of session-based recommendation algorithms, UMUAI 2018 (`sequence`: rules weighted by distance; newer acts
of a history weigh more).

    U users   N items   nnz pairs of a user and an item   R items in a block
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import Field
from scipy import sparse

from etalage.errors import TooLittleData
from etalage.features.behaviour import BehaviourSet
from etalage.models.counting import Strength, counted_acts, item_item_arrays, strongest, user_items
from etalage.models.recipe import ClosedFormArrays, ModelConfig, Recipe
from etalage.models.search_space import Choice, FloatRange, IntRange, SearchSpace

BLOCK_ENTRIES = 2**23
"""Entries of one block of the item × item product, were it full: 100 MB."""


class ItemKnnConfig(ModelConfig):
    similarity: Literal["cosine", "tf_idf", "bm25", "sequence"] = "tf_idf"
    neighbours: int = Field(200, ge=1)
    """How many neighbours are kept for each item."""
    shrink: float = Field(10.0, ge=0)
    """Added to the denominator, because few shoppers in common are little evidence."""
    k1: float = Field(1.2, gt=0)
    """For BM25: how soon one shopper's strength saturates."""
    b: float = Field(0.75, ge=0, le=1)
    """For BM25: how much popular items are held back."""
    strength: Strength = "once"
    kind_weights: dict[str, float] = Field(default_factory=dict)
    """Kind of act → its weight; kinds not named do not count. Empty: every kind counts 1."""
    reach: int = Field(10, ge=1)
    """For `sequence`: an act counts for the acts up to this many places after it, each with 1 / distance."""
    backward: float = Field(0.0, ge=0, le=1)
    """For `sequence`: weight of a pair in the other direction; 1: only the distance matters, not the
    order."""
    decay: float = Field(1.0, gt=0, le=1)
    """When scoring: factor on an act's vote for each step back in the history."""
    last: int | None = Field(None, ge=1)
    """When scoring: only this many newest acts vote; None: all."""

    def idle(self) -> dict[str, str]:
        found = super().idle()
        if self.similarity != "bm25":
            found |= dict.fromkeys(("k1", "b"), 'similarity = "bm25"')
        if self.similarity != "sequence":
            found |= dict.fromkeys(("reach", "backward"), 'similarity = "sequence"')
        else:
            found["strength"] = 'similarity = "cosine", "tf_idf" or "bm25"'
        return found


class ItemKnnCounts:
    def __init__(self, config: ItemKnnConfig, data: BehaviourSet) -> None:
        self.config, self.data = config, data

    def count(self) -> ClosedFormArrays:
        """Raises TooLittleData: no act, or no two items with a shopper in common."""
        blocks = self._sequences() if self.config.similarity == "sequence" else self._similarities()
        weights = sparse.vstack([strongest(block, self.config.neighbours) for block in blocks], format="csr")
        if weights.nnz == 0:
            raise TooLittleData(
                "item_knn: no shopper acted on two different items, so no item has a neighbour; "
                "load more interactions, or use the model popularity"
            )
        settings = {"decay": self.config.decay, "last": self.config.last}
        return ClosedFormArrays("item_item", item_item_arrays(weights), settings)

    def _similarities(self) -> Iterator[sparse.csr_matrix]:
        """similarity(i, j) = x_i · x_j / (|x_i| |x_j| + shrink), where x_i is item i's weighted users."""
        config = self.config
        user_items_UN = user_items(self.data, config.kind_weights, RECIPE.name, config.strength)
        item_users = weighted(user_items_UN.T.tocsr(), config.similarity, config.k1, config.b)
        norms = np.sqrt(item_users.power(2).sum(axis=1)).A1
        users_items = item_users.T.tocsr()
        for first, last in _blocks(len(norms)):
            product = (item_users[first:last] @ users_items).tocoo()
            rows = product.row + first
            under = norms[rows] * norms[product.col] + config.shrink
            values = np.where(rows == product.col, 0.0, product.data / under)
            yield sparse.csr_matrix((values, (product.row, product.col)), shape=product.shape)

    def _sequences(self) -> Iterator[sparse.csr_matrix]:
        """rule(i → j) = Σ over sequences of 1 / steps from i to j, / (√(n_i n_j) + shrink)."""
        config = self.config
        acts, weights_M = counted_acts(self.data, config.kind_weights, RECIPE.name)
        count = len(self.data.items)
        by_item = np.argsort(acts.items, kind="stable")
        bounds = np.searchsorted(acts.items[by_item], np.arange(count + 1))
        norms = np.sqrt(np.bincount(acts.items, weights_M, minlength=count))
        for first, last in _blocks(count):
            here = by_item[bounds[first] : bounds[last]]
            rows, columns, values = [], [], []
            for steps, factor in self._steps():
                inside = (here + steps >= 0) & (here + steps < len(acts))
                a, b = here[inside], here[inside] + steps
                pair = (acts.users[a] == acts.users[b]) & (acts.items[a] != acts.items[b])
                rows.append(acts.items[a[pair]] - first)
                columns.append(acts.items[b[pair]])
                values.append(factor * weights_M[b[pair]])
            where = np.concatenate(rows), np.concatenate(columns)
            rules = sparse.coo_matrix((np.concatenate(values), where), shape=(last - first, count))
            rules.sum_duplicates()
            under = norms[rules.row + first] * norms[rules.col] + config.shrink
            yield sparse.csr_matrix((rules.data / under, (rules.row, rules.col)), shape=rules.shape)

    def _steps(self) -> Iterator[tuple[int, float]]:
        """Steps in a history, negative ones backwards, and what a pair at that distance weighs."""
        for steps in range(1, self.config.reach + 1):
            yield steps, 1 / steps
            if self.config.backward:
                yield -steps, self.config.backward / steps


def weighted(item_users: sparse.csr_matrix, similarity: str, k1: float, b: float) -> sparse.csr_matrix:
    """(N, U): items are the documents, users the words. A user of many items says little of each.

    N items with at least one user. TF-IDF: x = √strength · idf, idf(u) = log(1 + N / n_u), so that a user of
    every item still counts. BM25: x = strength · (k1 + 1) / (strength + k1 · (1 - b + b · length / mean
    length)) · idf, idf(u) = log(1 + (N - n_u + ½) / (n_u + ½)).
    """
    if similarity == "cosine":
        return item_users
    lengths = np.asarray(item_users.sum(axis=1)).ravel()
    documents = int((lengths > 0).sum())
    found_in = np.bincount(item_users.indices, minlength=item_users.shape[1])
    rows = np.repeat(np.arange(item_users.shape[0]), np.diff(item_users.indptr))
    strength, users = item_users.data, item_users.indices
    if similarity == "tf_idf":
        idf = np.log1p(documents / np.maximum(found_in, 1))
        data = np.sqrt(strength) * idf[users]
    else:
        idf = np.log1p((documents - found_in + 0.5) / (found_in + 0.5))
        length = 1 - b + b * lengths / (lengths.sum() / documents)
        data = strength * (k1 + 1) / (strength + k1 * length[rows]) * idf[users]
    return sparse.csr_matrix((data, users, item_users.indptr), shape=item_users.shape)


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    size = max(1, BLOCK_ENTRIES // count)
    for first in range(0, count, size):
        yield first, min(first + size, count)


COUNTED = ("cosine", "tf_idf", "bm25")
SPACE: SearchSpace = {
    "similarity": Choice((*COUNTED, "sequence")),
    "neighbours": IntRange(20, 2000, log=True),
    "shrink": FloatRange(0.1, 1000.0, log=True),
    "decay": FloatRange(0.3, 1.0),
    "last": Choice((None, 1, 2, 5, 20)),
    "k1": FloatRange(0.2, 20.0, log=True, when={"similarity": ("bm25",)}),
    "b": FloatRange(0.0, 1.0, when={"similarity": ("bm25",)}),
    "strength": Choice(("once", "log_count"), when={"similarity": COUNTED}),
    "reach": IntRange(1, 30, log=True, when={"similarity": ("sequence",)}),
    "backward": FloatRange(0.0, 1.0, when={"similarity": ("sequence",)}),
}
"""What `etalage tune` tries."""

RECIPE = Recipe(
    name="item_knn",
    role="closed_form",
    paper="Deshpande, Karypis, Item-based top-N recommendation algorithms, TOIS 2004",
    config=ItemKnnConfig,
    columns=(),
    bind=ItemKnnCounts,
    data="behaviour",
    space=SPACE,
)
