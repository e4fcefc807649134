"""Implicit matrix factorisation by alternating least squares; a shopper is folded in from their history.

Papers: Y. Hu, Y. Koren, C. Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008 (the
loss, equation 3, and the solves, equation 4); G. Takács, I. Pilászy, D. Tikk, Applications of the Conjugate
Gradient Method for Implicit Feedback Collaborative Filtering, RecSys 2011 (a few steps from where the last
iteration ended do as well as a solve); S. Rendle et al., Revisiting the Performance of iALS on Item
Recommendation Benchmarks, RecSys 2022 (`frequency`: regularisation that grows with how often a user or an
item occurs; and that well-tuned iALS is among the best).

    U users   N items   D dimensions   R rows in a block   L entries of a row, padded
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from pydantic import Field
from scipy import sparse

from etalage.features.array_blocks import ArrayBlocks, ArrayLoop, Arrays
from etalage.features.behaviour import BehaviourSet
from etalage.models.blas import one_thread
from etalage.models.counting import Strength, csr_arrays, csr_of, row_blocks, user_items
from etalage.models.recipe import ClosedFormArrays, ClosedFormConfig, Recipe
from etalage.models.search_space import Choice, FloatRange, IntRange, SearchSpace

STEPS = 2
"""Conjugate-gradient steps of a row in each iteration, from where the iteration before left it."""
BLOCK_ENTRIES = 2**18
"""Numbers of one block's gathered embeddings, at most: 1 MB, which stays in a core's cache for all steps."""
PLACES_AT_ONCE = 4096
"""Entries of a row whose embeddings are gathered at a time, of an item that everybody bought."""
SHARD_PRODUCTS = 2**33
"""Products of two numbers that a shard takes: some seconds."""
Side = Literal["users", "items"]


class IalsConfig(ClosedFormConfig):
    dimension: int = Field(128, ge=1)
    """Width of the embeddings of users and items."""
    alpha: float = Field(20.0, gt=0)
    """Confidence of an act with weight 1 is 1 + alpha; of a pair without an act it is 1."""
    regularisation: float = Field(60.0, gt=0)
    """Of the mean user, and of the mean item. The best one grows with alpha."""
    frequency: float = Field(1.0, ge=0, le=1)
    """A row's is regularisation · (c / mean of c)^frequency, where c = Σ confidence over all of the other
    side; users' as items'."""
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

        The last solve is the users', implicitly: whoever asks is folded in from the h items of their history,
            x = (gram + alpha Σ_h y_h y_hᵀ + ridge I)⁻¹ Σ_h (1 + alpha) y_h      (Hu et al., equation 4)
            ridge = reg · (others + alpha · h)^frequency                          (Rendle et al., equation 4)
        with gram = Σ_i y_i y_iᵀ over all items, without the ridge; settings `alpha`, `reg`, `others` and
        `frequency`. An item that stands twice in a history counts once.
        """
        by_user = user_items(self.data, self.config.kind_weights, RECIPE.name, self.config.strength)
        _, items_ND = deque(self.rounds(loop, by_user), maxlen=1).pop()
        with one_thread():
            gram_DD = gram(items_ND).astype(np.float32)
        ridge = Ridge.of(by_user, self.config)
        return ClosedFormArrays("embeddings", {"item_embeddings": items_ND, "gram": gram_DD}, asdict(ridge))

    def rounds(
        self, loop: ArrayLoop | None = None, by_user: sparse.csr_matrix | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(U + 1, D) and (N + 1, D) float32 after each iteration; rows without acts, 0 among them, are 0."""
        config = self.config
        if by_user is None:
            by_user = user_items(self.data, config.kind_weights, RECIPE.name, config.strength)
        by_item = by_user.T.tocsr()
        rng = np.random.default_rng(config.seed)
        items_ND = rng.normal(0, config.scale / config.dimension**0.5, (by_item.shape[0], config.dimension))
        items_ND[np.diff(by_item.indptr) == 0] = 0
        items_ND = items_ND.astype(np.float32)
        users_UD = np.zeros((by_user.shape[0], config.dimension), np.float32)
        arrays = {**csr_arrays("users", by_user), **csr_arrays("items", by_item)}
        regs = {
            f"{side}.reg": Ridge.of(matrix, config).of_rows(matrix).astype(np.float32)
            for side, matrix in (("users", by_user), ("items", by_item))
        }
        with (loop or ArrayLoop()).over({**arrays, **regs}) as over:
            for left in reversed(range(config.iterations)):
                users_UD = solved(over, "users", items_ND, users_UD, config.alpha, later=2 * left + 1)
                items_ND = solved(over, "items", users_UD, items_ND, config.alpha, later=2 * left)
                yield users_UD, items_ND


@dataclass(frozen=True)
class Ridge:
    """A row's regularisation: reg · (others + alpha · Σ weights)^frequency. The bracket is the sum of the
    confidences of its pairs with all others."""

    reg: float
    others: int
    alpha: float
    frequency: float

    @classmethod
    def of(cls, known: sparse.csr_matrix, config: IalsConfig) -> "Ridge":
        """That of one side: of the mean row that has an act it is `regularisation`."""
        others = len(np.unique(known.indices))
        unit = cls(1.0, others, config.alpha, config.frequency)
        active = np.diff(known.indptr) > 0
        mean = others + config.alpha * float(known.sum()) / int(active.sum())
        return replace(unit, reg=config.regularisation / mean**config.frequency)

    def of_rows(self, known: sparse.csr_matrix) -> np.ndarray:
        """(R,) float64."""
        confidence_R = self.others + self.alpha * np.asarray(known.sum(axis=1)).ravel()
        return np.asarray(self.reg * confidence_R**self.frequency)


def solved(
    over: ArrayBlocks,
    side: Side,
    other_ND: np.ndarray,
    start_RD: np.ndarray,
    alpha: float,
    steps: int = STEPS,
    later: int = 0,
) -> np.ndarray:
    """The rows of one side, nearer to what minimises the loss while the other side stays: (R, D) float32, 0
    for rows without acts. Shards of rows, those with the longest lists first.

    start: where the rows begin; steps: of conjugate gradients; later: how many solves follow. All of it goes
    on in the basis in which the other side's gram is diagonal: it costs nothing there, and preconditions.
    """
    dimension = other_ND.shape[1]
    lengths = np.diff(over.arrays[f"{side}.indptr"])
    rows = np.argsort(-lengths, kind="stable")
    rows = rows[: int((lengths > 0).sum())]
    products_R = (2.0 * _padded(lengths[rows]) + 8) * dimension * (steps + 1)
    bounds = row_blocks(products_R / SHARD_PRODUCTS)
    shards = [rows[first:last] for first, last in bounds]
    costs = np.add.reduceat(products_R, [first for first, _ in bounds])
    with one_thread():  # BLAS divides a long sum otherwise, and rounds it so, with each number of threads
        spread_D, basis_DD = np.linalg.eigh(gram(other_ND))
        basis_DD = basis_DD.astype(np.float32)
        changed = {
            "other": other_ND @ basis_DD,
            "start": start_RD @ basis_DD,
            "spread": spread_D.clip(0).astype(np.float32),
        }
        found = np.zeros((len(lengths), dimension), np.float32)
        solving = over.run(Solve(side, alpha, steps), shards, costs, changed, later * float(costs.sum()))
        for some, values in zip(shards, solving, strict=True):
            found[some] = values
        return found @ basis_DD.T


def gram(rows_RD: np.ndarray) -> np.ndarray:
    """(D, D) float64 sum of y yᵀ over the rows; blocks of them are summed in float32."""
    found = np.zeros((rows_RD.shape[1],) * 2)
    for first in range(0, len(rows_RD), PLACES_AT_ONCE):
        some = rows_RD[first : first + PLACES_AT_ONCE]
        found += some.T @ some
    return found


@dataclass(frozen=True)
class Solve:
    """Rows of one side, as `descend` finds them."""

    side: Side
    alpha: float
    steps: int

    def __call__(self, arrays: Arrays, rows: np.ndarray) -> np.ndarray:
        """(R,) rows → (R, D) float32."""
        other_ND, spread_D = arrays["other"], arrays["spread"]
        known = csr_of(arrays, self.side, len(other_ND))
        found = np.empty((len(rows), other_ND.shape[1]), np.float32)
        with one_thread():
            for places, padded in blocks(np.diff(known.indptr)[rows], other_ND.shape[1]):
                some = rows[places]
                ridge_RD = spread_D + arrays[f"{self.side}.reg"][some][:, None]
                entries = Entries(known, some, padded, other_ND, self.alpha)
                found[places] = descend(entries, ridge_RD, arrays["start"][some], self.steps)
        return found


def descend(entries: "Entries", ridge_RD: np.ndarray, x_RD: np.ndarray, steps: int) -> np.ndarray:
    """(R, D) float32: x after so many preconditioned conjugate-gradient steps towards the solutions of
    (diag(ridge) + alpha Σ_h w_h y_h y_hᵀ) x = Σ_h (1 + alpha w_h) y_h.

    Each row is solved with numbers of its own alone, in one order: not a bit depends on the rows beside it.
    """
    left_RD = entries.wanted_less(x_RD)
    left_RD -= ridge_RD * x_RD
    way_RD = left_RD / ridge_RD
    size_R = np.vecdot(left_RD, way_RD)
    for step in range(steps):
        turned_RD = entries.spread(way_RD)
        turned_RD += ridge_RD * way_RD
        far_R1 = _ratio(size_R, np.vecdot(way_RD, turned_RD))
        x_RD = x_RD + far_R1 * way_RD
        if step + 1 == steps:
            break
        turned_RD *= far_R1
        left_RD -= turned_RD
        scaled_RD = np.divide(left_RD, ridge_RD, out=turned_RD)
        before_R, size_R = size_R, np.vecdot(left_RD, scaled_RD)
        way_RD *= _ratio(size_R, before_R)
        way_RD += scaled_RD
    return x_RD


def _ratio(above_R: np.ndarray, under_R: np.ndarray) -> np.ndarray:
    """(R, 1); 0 where there is nothing left to go."""
    return np.divide(above_R, under_R, out=np.zeros_like(above_R), where=under_R > 0)[:, None]


@dataclass
class Entries:
    """What some rows, of one padded length, have: h stands for an entry, y_h for its embedding."""

    known: sparse.csr_matrix
    rows: np.ndarray
    padded: int
    other_ND: np.ndarray
    alpha: float
    _whole: tuple[np.ndarray, np.ndarray] | None = None

    def wanted_less(self, x_RD: np.ndarray) -> np.ndarray:
        """Σ_h (1 + alpha w_h - alpha w_h (y_h · x)) y_h, (R, D) float32."""
        return self._summed(x_RD, lambda extra_RL, said_RL: 1 + extra_RL - extra_RL * said_RL)

    def spread(self, x_RD: np.ndarray) -> np.ndarray:
        """Σ_h alpha w_h (y_h · x) y_h, (R, D) float32."""
        return self._summed(x_RD, np.multiply)

    def _summed(self, x_RD: np.ndarray, weigh: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """Σ_h weigh(alpha w_h, y_h · x) y_h."""
        found = None
        for extra_RL, picked_RLD in self._pieces():
            said_RL = np.matmul(picked_RLD, x_RD[:, :, None])[:, :, 0]
            part_RD = np.matmul(weigh(extra_RL, said_RL)[:, None, :], picked_RLD)[:, 0]
            found = part_RD if found is None else found + part_RD
        assert found is not None
        return found

    def _pieces(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """alpha w_h (R, L) and y_h (R, L, D), 0 where there is no entry. Long rows in pieces, which are
        gathered anew each time."""
        if self._whole is not None:
            yield self._whole
            return
        starts, ends = self.known.indptr[self.rows][:, None], self.known.indptr[self.rows + 1][:, None]
        for first in range(0, self.padded, PLACES_AT_ONCE):
            at_RL = starts + np.arange(first, min(first + PLACES_AT_ONCE, self.padded))
            inside_RL = at_RL < ends
            at_RL = np.where(inside_RL, at_RL, 0)
            extra_RL = np.where(inside_RL, self.known.data[at_RL] * self.alpha, 0).astype(np.float32)
            columns_RL = np.where(inside_RL, self.known.indices[at_RL], 0)  # row 0, unknown, is 0
            piece = extra_RL, self.other_ND.take(columns_RL, axis=0)
            if self.padded <= PLACES_AT_ONCE:
                self._whole = piece
            yield piece


def blocks(lengths: np.ndarray, dimension: int) -> Iterator[tuple[np.ndarray, int]]:
    """(places of rows, their padded length), of one padded length each, with bounded memory."""
    padded = _padded(lengths)
    order = np.argsort(padded, kind="stable")
    for places in np.split(order, np.flatnonzero(np.diff(padded[order])) + 1):
        length = int(padded[places[0]])
        size = max(1, BLOCK_ENTRIES // (min(length, PLACES_AT_ONCE) * dimension))
        for start in range(0, len(places), size):
            yield places[start : start + size], length


def _padded(lengths: np.ndarray) -> np.ndarray:
    """Each length, or up to a quarter more: few different ones. A row's depends on its own length alone."""
    steps = 2 ** np.maximum(np.floor(np.log2(np.maximum(lengths, 1))).astype(np.int64) - 2, 0)
    return np.asarray(-(-lengths // steps) * steps)


SPACE: SearchSpace = {
    "dimension": Choice((32, 64, 128, 256)),
    "alpha": FloatRange(0.5, 100.0, log=True),
    "regularisation": FloatRange(1.0, 300.0, log=True),
    "frequency": FloatRange(0.0, 1.0),
    "iterations": IntRange(5, 20),
    "strength": Choice(("once", "log_count")),
}
"""What `etalage tune` tries."""

TRIALS = tuple(
    {"alpha": alpha, "regularisation": regularisation}
    for alpha, regularisation in ((40.0, 60.0), (10.0, 30.0), (5.0, 30.0), (5.0, 100.0))
)
"""Beside the defaults, which are best or near it where shoppers look for what is new to them (docs/log.md);
the last is where they take the same again."""

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
    trials=TRIALS,
    small={"dimension": 32, "iterations": 6},
)
