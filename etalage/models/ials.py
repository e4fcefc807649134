"""Implicit matrix factorisation by alternating least squares; a shopper is folded in from their history.

Papers: Y. Hu, Y. Koren, C. Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008 (the
loss, equation 3, and the solves, equation 4); S. Rendle et al., Revisiting the Performance of iALS on Item
Recommendation Benchmarks, RecSys 2022 (`frequency`: regularisation that grows with how often an item occurs;
and that well-tuned iALS is among the best).

    U users   N items   D dimensions   R rows in a block   L entries of a row, padded
"""

from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from pydantic import Field
from scipy import sparse
from threadpoolctl import ThreadpoolController

from etalage.features.array_blocks import ArrayBlocks, ArrayLoop, Arrays
from etalage.features.behaviour import BehaviourSet
from etalage.models.counting import Strength, csr_arrays, csr_of, row_blocks, user_items
from etalage.models.recipe import ClosedFormArrays, ModelConfig, Recipe
from etalage.models.search_space import Choice, FloatRange, IntRange, SearchSpace

BLOCK_ENTRIES = 2**22
"""Numbers of one block's gathered embeddings, and of its D × D systems, at most: 32 MB each."""
PLACES_AT_ONCE = 4096
"""Entries of a row whose embeddings are gathered at a time, of an item that everybody bought."""
SHARD_PRODUCTS = 2**33
"""Products of two numbers that a shard takes: some seconds."""
Side = Literal["users", "items"]


class IalsConfig(ModelConfig):
    dimension: int = Field(64, ge=1)
    """Width of the embeddings of users and items."""
    alpha: float = Field(10.0, gt=0)
    """Confidence of an act with weight 1 is 1 + alpha; of a pair without an act it is 1."""
    regularisation: float = Field(30.0, gt=0)
    """On every user. On items too, where `frequency` is 0."""
    frequency: float = Field(0.0, ge=0, le=1)
    """An item's is regularisation · (c_i / mean of c)^frequency, where c_i = Σ confidence over all users."""
    iterations: int = Field(15, ge=1)
    """Of both sides."""
    scale: float = Field(0.1, gt=0)
    """Standard deviation of an embedding's length at the start."""
    strength: Strength = "once"
    """What a shopper's acts on one item add up to: `once`, the largest weight of their kinds; `log_count` and
    `log_value` grow with how often, and with the sum of the values."""
    kind_weights: dict[str, float] = Field(default_factory=dict)
    """Weight of each kind of act; empty: every kind, each 1. Kinds not named do not count then."""


class IalsSolver:
    """L = Σ c (p - x_u · y_i)² over all pairs + Σ reg |x_u|² + Σ reg_i |y_i|²; p = 1 with an act, else 0."""

    def __init__(self, config: IalsConfig, data: BehaviourSet) -> None:
        self.config, self.data = config, data

    def count(self) -> ClosedFormArrays:
        """`count_by_blocks` in this process."""
        return self.count_by_blocks(ArrayLoop())

    def count_by_blocks(self, loop: ArrayLoop) -> ClosedFormArrays:
        """Raises TooLittleData.

        The last solve is the users', implicitly: whoever asks is folded in from the items of their history,
            x = (gram + alpha Σ_h y_h y_hᵀ + reg I)⁻¹ Σ_h (1 + alpha) y_h        (Hu et al., equation 4)
        with gram = Σ_i y_i y_iᵀ over all items, without reg; settings `alpha` and `reg`. An item that stands
        twice in a history counts once.
        """
        _, items_ND = deque(self.rounds(loop), maxlen=1).pop()
        with one_thread():
            gram_DD = items_ND.T @ items_ND
        arrays = {"item_embeddings": items_ND.astype(np.float32), "gram": gram_DD.astype(np.float32)}
        return ClosedFormArrays(
            "embeddings", arrays, {"alpha": self.config.alpha, "reg": self.config.regularisation}
        )

    def rounds(self, loop: ArrayLoop | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(U + 1, D) and (N + 1, D) float64 after each iteration; rows without acts, 0 among them, are 0."""
        config = self.config
        by_user = user_items(self.data, config.kind_weights, RECIPE.name, config.strength)
        by_item = by_user.T.tocsr()
        rng = np.random.default_rng(config.seed)
        items_ND = rng.normal(0, config.scale / config.dimension**0.5, (by_item.shape[0], config.dimension))
        items_ND[np.diff(by_item.indptr) == 0] = 0
        users_reg = np.full(by_user.shape[0], config.regularisation)
        items_reg = self.items_regularisation(by_item)
        arrays = {**csr_arrays("users", by_user), **csr_arrays("items", by_item)}
        regs = {"users.reg": users_reg, "items.reg": items_reg}
        with (loop or ArrayLoop()).over({**arrays, **regs}) as over:
            for left in reversed(range(config.iterations)):
                users_UD = solved(over, "users", items_ND, config.alpha, 2 * left + 1)
                items_ND = solved(over, "items", users_UD, config.alpha, 2 * left)
                yield users_UD, items_ND

    def items_regularisation(self, by_item: sparse.csr_matrix) -> np.ndarray:
        """(N + 1,) regularisation · (c_i / mean of c)^frequency, where c_i = U + alpha · Σ_u weights."""
        users, active = np.zeros(by_item.shape[1], bool), np.diff(by_item.indptr) > 0
        users[by_item.indices] = True
        confidence_N = users.sum() + self.config.alpha * np.asarray(by_item.sum(axis=1)).ravel()
        relative_N = confidence_N / confidence_N[active].mean()
        return np.asarray(self.config.regularisation * relative_N**self.config.frequency)


def solved(over: ArrayBlocks, side: Side, other_ND: np.ndarray, alpha: float, later: int = 0) -> np.ndarray:
    """The rows of one side that minimise the loss while the other side stays: (R, D) float64, 0 for rows
    without acts. Shards of rows, those with the longest lists first. later: how many solves follow."""
    dimension = other_ND.shape[1]
    lengths = np.diff(over.arrays[f"{side}.indptr"])
    rows = np.argsort(-lengths, kind="stable")
    rows = rows[: int((lengths > 0).sum())]
    products_R = _padded(lengths[rows]) * float(dimension**2) + dimension**3
    bounds = row_blocks(products_R / SHARD_PRODUCTS)
    shards = [rows[first:last] for first, last in bounds]
    costs = np.add.reduceat(products_R, [first for first, _ in bounds])
    with one_thread():  # BLAS divides a long sum otherwise, and rounds it so, with each number of threads
        gram_DD = other_ND.T @ other_ND
    found = np.zeros((len(lengths), dimension))
    changed = {"other": other_ND, "gram": gram_DD}
    solving = over.run(Solve(side, alpha), shards, costs, changed, later * float(costs.sum()))
    for some, values in zip(shards, solving, strict=True):
        found[some] = values
    return found


@dataclass(frozen=True)
class Solve:
    """Rows of one side, as `solve` finds them."""

    side: Side
    alpha: float

    def __call__(self, arrays: Arrays, rows: np.ndarray) -> np.ndarray:
        """(R,) rows → (R, D) float64."""
        known = csr_of(arrays, self.side, len(arrays["other"]))
        reg_R = arrays[f"{self.side}.reg"]
        return solve(known, rows, arrays["other"], arrays["gram"], self.alpha, reg_R)


def solve(
    known: sparse.csr_matrix,
    rows: np.ndarray,
    other_ND: np.ndarray,
    gram_DD: np.ndarray,
    alpha: float,
    reg: np.ndarray,
) -> np.ndarray:
    """(R, D) float64 solutions of (gram + alpha Σ_h w_h y_h y_hᵀ + reg I) x = Σ_h (1 + alpha w_h) y_h.

    known: all rows' entries; rows: (R,) those that are wanted, each with an entry; reg: of all rows. Each row
    is solved with numbers of its own alone, in one order: not a bit depends on the rows beside it.
    """
    dimension = other_ND.shape[1]
    found = np.empty((len(rows), dimension))
    with one_thread():
        for places, padded in blocks(np.diff(known.indptr)[rows], dimension):
            some = rows[places]
            systems_RDD = np.repeat(gram_DD[None], len(some), axis=0)
            systems_RDD[:, np.arange(dimension), np.arange(dimension)] += reg[some, None]
            wanted_RD = np.zeros((len(some), dimension))
            for weights_RL, columns_RL in _entries(known, some, padded):
                picked_RLD = other_ND[columns_RL]
                shares_RL = (weights_RL > 0) + alpha * weights_RL
                wanted_RD += (shares_RL[:, None, :] @ picked_RLD)[:, 0]
                extra_RDL = (picked_RLD * (alpha * weights_RL)[:, :, None]).transpose(0, 2, 1)
                systems_RDD += extra_RDL @ picked_RLD
            found[places] = np.linalg.solve(systems_RDD, wanted_RD[:, :, None])[:, :, 0]
    return found


def _entries(
    known: sparse.csr_matrix, rows: np.ndarray, padded: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Weights and columns of these rows' entries, (R, L) each, weight 0 where there is none."""
    starts, lengths = known.indptr[rows], known.indptr[rows + 1] - known.indptr[rows]
    for first in range(0, padded, PLACES_AT_ONCE):
        place_L = np.arange(first, min(first + PLACES_AT_ONCE, padded))
        inside_RL = place_L < lengths[:, None]
        at_RL = np.where(inside_RL, starts[:, None] + place_L, 0)
        yield np.where(inside_RL, known.data[at_RL], 0.0), known.indices[at_RL]


def blocks(lengths: np.ndarray, dimension: int) -> Iterator[tuple[np.ndarray, int]]:
    """(places of rows, their padded length), of one padded length each, with bounded memory."""
    padded = _padded(lengths)
    order = np.argsort(padded, kind="stable")
    for places in np.split(order, np.flatnonzero(np.diff(padded[order])) + 1):
        length = int(padded[places[0]])
        each = max(dimension**2, min(length, PLACES_AT_ONCE) * dimension)
        size = max(1, BLOCK_ENTRIES // each)
        for start in range(0, len(places), size):
            yield places[start : start + size], length


def _padded(lengths: np.ndarray) -> np.ndarray:
    """Each length, or up to an eighth more: few different ones. A row's depends on its own length alone."""
    steps = 2 ** np.maximum(np.floor(np.log2(np.maximum(lengths, 1))).astype(np.int64) - 3, 0)
    return np.asarray(-(-lengths // steps) * steps)


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """Within it, BLAS has one thread, here as in a worker."""
    return _threads().limit(limits=1)


SPACE: SearchSpace = {
    "dimension": Choice((16, 32, 64, 128)),
    "alpha": FloatRange(0.5, 100.0, log=True),
    "regularisation": FloatRange(1.0, 300.0, log=True),
    "frequency": FloatRange(0.0, 1.0),
    "iterations": IntRange(5, 20),
    "strength": Choice(("once", "log_count")),
}
"""What `etalage tune` tries."""

RECIPE = Recipe(
    name="ials",
    role="closed_form",
    paper="Hu, Koren, Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008",
    config=IalsConfig,
    columns=(),
    bind=IalsSolver,
    data="behaviour",
    embeds_items=True,
    space=SPACE,
)
