"""Finds items that the same shoppers chose: neighbours by cosine, TF-IDF or BM25, or by what follows what.

Papers: M. Deshpande, G. Karypis, Item-based top-N recommendation algorithms, ACM TOIS 2004 (the model: a
history's items vote with their k most similar items); M. Ferrari Dacrema et al., Are we really making much
progress?, RecSys 2019 (shrinkage, TF-IDF and BM25 make it hard to beat); M. Ludewig, D. Jannach, Evaluation
of session-based recommendation algorithms, UMUAI 2018 (`sequence`: rules weighted by distance; newer acts
of a history weigh more).

    U users   N items   nnz pairs of a user and an item   M acts   R items in a block   A acts on them
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field
from scipy import sparse

from etalage.errors import TooLittleData
from etalage.features.array_blocks import ArrayLoop, Arrays
from etalage.features.behaviour import BehaviourSet
from etalage.models.counting import (
    Strength,
    counted_acts,
    csr_arrays,
    csr_of,
    row_blocks,
    stacked,
    strongest,
    user_items,
)
from etalage.models.recipe import ClosedFormArrays, ClosedFormConfig, Recipe
from etalage.models.search_space import Choice, FloatRange, IntRange, SearchSpace

BLOCK_ENTRIES = 2**23
"""Entries of one block of the item × item product, at most: 100 MB."""
BLOCK_PRODUCTS = 2**26
"""Products of two numbers that a block takes, at most: some tenths of a second."""
ACTS_AT_ONCE = 2**18
"""For `sequence`: acts of an item whose successors are in memory at a time."""


class ItemKnnConfig(ClosedFormConfig):
    similarity: Literal["cosine", "tf_idf", "bm25", "sequence"] = "tf_idf"
    """How alike two items are: by the shoppers whom they share (`cosine`; `tf_idf` and `bm25` weigh down who
    touches everything), or by following each other (`sequence`)."""
    neighbours: int = Field(200, ge=1)
    """How many neighbours are kept for each item."""
    shrink: float = Field(10.0, ge=0)
    """Added to the denominator, because few shoppers in common are little evidence."""
    k1: float = Field(1.2, gt=0)
    """For BM25: how soon one shopper's strength saturates."""
    b: float = Field(0.75, ge=0, le=1)
    """For BM25: how much popular items are held back."""
    strength: Strength = "once"
    """What a shopper's acts on one item add up to: `once`, the largest weight of their kinds; `log_count` and
    `log_value` grow with how often, and with the sum of the values."""
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
        """`count_by_blocks` in this process."""
        return self.count_by_blocks(ArrayLoop())

    def count_by_blocks(self, loop: ArrayLoop) -> ClosedFormArrays:
        """Raises TooLittleData: no act, or no two items with a shopper in common."""
        counted = self._sequences(loop) if self.config.similarity == "sequence" else self._similarities(loop)
        arrays = stacked(counted)
        if not len(arrays["weights"]):
            raise TooLittleData(
                "item_knn: no shopper acted on two different items, so no item has a neighbour; "
                "load more interactions, or use the model popularity"
            )
        settings = {"decay": self.config.decay, "last": self.config.last}
        return ClosedFormArrays("item_item", arrays, settings)

    def _similarities(self, loop: ArrayLoop) -> Iterator[sparse.csr_matrix]:
        config = self.config
        user_items_UN = user_items(self.data, config.kind_weights, RECIPE.name, config.strength)
        item_users = weighted(user_items_UN.T.tocsr(), config.similarity, config.k1, config.b)
        del user_items_UN
        norms = np.sqrt(item_users.power(2).sum(axis=1)).A1
        users_items = item_users.T.tocsr()
        lengths_U = np.diff(users_items.indptr).astype(np.float64)
        each = np.append(lengths_U[item_users.indices], 0)
        products_N = np.add.reduceat(each, item_users.indptr[:-1])
        products_N[np.diff(item_users.indptr) == 0] = 0  # else it is that of the entry after it
        arrays = {**csr_arrays("items", item_users), **csr_arrays("users", users_items), "norms": norms}
        work = Similarities(config.shrink, config.neighbours)
        yield from _counted(loop, work, arrays, products_N)

    def _sequences(self, loop: ArrayLoop) -> Iterator[sparse.csr_matrix]:
        config, count = self.config, len(self.data.items)
        acts, weights_M = counted_acts(self.data, config.kind_weights, RECIPE.name)
        acts_N = np.bincount(acts.items, minlength=count)
        arrays = {
            "users": acts.users,
            "items": acts.items,
            "weights": weights_M,
            "by_item": np.argsort(acts.items, kind="stable"),
            "starts": np.concatenate([[0], np.cumsum(acts_N)]),
            "norms": np.sqrt(np.bincount(acts.items, weights_M, minlength=count)),
        }
        work = Sequences(config.shrink, config.neighbours, config.reach, config.backward)
        steps = len(list(work.steps()))
        yield from _counted(loop, work, arrays, acts_N * float(steps), acts_N / ACTS_AT_ONCE)


def _counted(
    loop: ArrayLoop,
    work: "Similarities | Sequences",
    arrays: Arrays,
    products_N: np.ndarray,
    more_N: np.ndarray | None = None,
) -> Iterator[sparse.csr_matrix]:
    """What the work makes of blocks of items. products: (N,) float64 what each item takes; more: what part
    of a block each fills for another reason."""
    entries_N = np.minimum(products_N, len(products_N)) / BLOCK_ENTRIES
    shares_N = np.maximum(entries_N, products_N / BLOCK_PRODUCTS)
    shares_N = shares_N if more_N is None else np.maximum(shares_N, more_N)
    blocks = row_blocks(shares_N)
    costs = np.add.reduceat(products_N, [first for first, _ in blocks])
    with loop.over(arrays) as over:
        yield from over.run(work, blocks, costs + 1)


@dataclass(frozen=True)
class Similarities:
    """similarity(i, j) = x_i · x_j / (|x_i| |x_j| + shrink), where x_i is item i's weighted users."""

    shrink: float
    neighbours: int

    def __call__(self, arrays: Arrays, block: tuple[int, int]) -> sparse.csr_matrix:
        """(R, N) float32: the nearest of items first … last. `items` and `users`: x as rows and as columns;
        `norms`: (N,)."""
        first, last = block
        norms, users = arrays["norms"], len(arrays["users.indptr"]) - 1
        theirs = csr_of(arrays, "items", users)[first:last]
        product = theirs @ csr_of(arrays, "users", len(norms))
        return _nearest(product, first, norms, self.shrink, self.neighbours)


@dataclass(frozen=True)
class Sequences:
    """rule(i → j) = Σ over sequences of 1 / steps from i to j, / (√(n_i n_j) + shrink)."""

    shrink: float
    neighbours: int
    reach: int
    backward: float

    def steps(self) -> Iterator[tuple[int, float]]:
        """Steps in a history, negative ones backwards, and what a pair at that distance weighs."""
        for steps in range(1, self.reach + 1):
            yield steps, 1 / steps
            if self.backward:
                yield -steps, self.backward / steps

    def __call__(self, arrays: Arrays, block: tuple[int, int]) -> sparse.csr_matrix:
        """(R, N) float32: the strongest rules of items first … last. `users`, `items`, `weights`: (M,) of the
        acts; `by_item`: (M,) which they are, by their items; `starts`: (N + 1,) where each item's begin."""
        first, last = block
        norms, starts = arrays["norms"], arrays["starts"]
        begin, end = int(starts[first]), int(starts[last])
        rules = self._rules(arrays, arrays["by_item"][begin:end][:ACTS_AT_ONCE], first, last, begin)
        for more in range(begin + ACTS_AT_ONCE, end, ACTS_AT_ONCE):  # of one item: it has a block of its own
            here = arrays["by_item"][more : min(more + ACTS_AT_ONCE, end)]
            rules = rules + self._rules(arrays, here, first, last, more)
        return _nearest(rules, first, norms, self.shrink, self.neighbours)

    def _rules(
        self, arrays: Arrays, here_A: np.ndarray, first: int, last: int, begin: int
    ) -> sparse.csr_matrix:
        """(R, N) float64: what follows these acts, which are all on items first … last."""
        users, items, weights = (arrays[name] for name in ("users", "items", "weights"))
        shape = (len(here_A), len(list(self.steps())))
        columns, values = np.zeros(shape, np.int32), np.zeros(shape)
        for place, (steps, factor) in enumerate(self.steps()):
            there = here_A + steps
            inside = np.flatnonzero((there >= 0) & (there < len(users)))
            a, b = here_A[inside], there[inside]
            pair = (users[a] == users[b]) & (items[a] != items[b])
            columns[inside[pair], place] = items[b[pair]]
            values[inside[pair], place] = factor * weights[b[pair]]
        some = columns > 0
        ends = np.concatenate([[0], np.cumsum(some.sum(axis=1))])
        followers = sparse.csr_matrix(
            (values[some], columns[some], ends), shape=(len(here_A), len(arrays["norms"]))
        )
        of_item = np.clip(arrays["starts"][first : last + 1] - begin, 0, len(here_A))
        ones = np.ones(len(here_A))
        acts = sparse.csr_matrix((ones, np.arange(len(here_A)), of_item), shape=(last - first, len(here_A)))
        return acts @ followers


def _nearest(
    product: sparse.csr_matrix, first: int, norms: np.ndarray, shrink: float, neighbours: int
) -> sparse.csr_matrix:
    """(R, N) float32: product(i, j) / (|i| |j| + shrink), 0 of an item to itself; the largest of each row."""
    rows = np.repeat(np.arange(first, first + product.shape[0]), np.diff(product.indptr))
    under = norms[rows]
    under *= norms[product.indices]
    under += shrink
    values = np.where(rows == product.indices, 0.0, product.data / under)
    scaled = sparse.csr_matrix((values, product.indices, product.indptr), shape=product.shape)
    return strongest(scaled, neighbours).astype(np.float32)


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

_FORGETS = {"backward": 0.3, "shrink": 100.0, "decay": 0.6}
TRIALS = (
    {"decay": 0.8},
    {"shrink": 100.0},
    {"similarity": "cosine"},
    {"similarity": "cosine", "decay": 0.8},
    {"similarity": "sequence"},
    {"similarity": "sequence", "backward": 1.0, "shrink": 100.0},
    {"similarity": "sequence", "backward": 1.0, "shrink": 100.0, "decay": 0.8},
    {"similarity": "sequence", **_FORGETS},
)
"""Each is the best, or near it, on some public set (docs/log.md): likes, baskets, sequences of weeks and of
minutes."""

RECIPE = Recipe(
    name="item_knn",
    role="closed_form",
    paper="Deshpande, Karypis, Item-based top-N recommendation algorithms, TOIS 2004",
    config=ItemKnnConfig,
    columns=(),
    bind=ItemKnnCounts,
    data="behaviour",
    space=SPACE,
    trials=TRIALS,
    when_scoring=("decay", "last"),
)
