"""Item weights in closed form: each item is reconstructed from all others by ridge regression.

Exactly, through a dense matrix of the smaller side, users or items, where that fits; for larger catalogues
each item from its neighbours alone (ease_columns.py).

Papers: H. Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019 (EASE, equation 8);
H. Steck, Autoencoders that don't overfit towards the Identity, NeurIPS 2020 (`dropout`).

    U users   N items that somebody acted on   R items in a block
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import numpy as np
from pydantic import Field
from scipy import linalg, sparse

from etalage.engine.memory import available_memory
from etalage.errors import TooLittleData, TrainingError
from etalage.features.array_blocks import ArrayLoop
from etalage.features.behaviour import BehaviourSet
from etalage.models.counting import Strength, stacked, strongest, user_items
from etalage.models.ease_columns import columns
from etalage.models.recipe import ClosedFormArrays, ModelConfig, Recipe
from etalage.models.search_space import Choice, FloatRange, SearchSpace

BLOCK_ENTRIES = 2**23
"""Entries of one dense block of the item × item weights: 64 MB."""
_BLOCKS_AT_ONCE = 6
"""Blocks that are in memory at a time, while the largest of a row are found."""
_LARGE = 2**30
"""What takes more memory than that is said as a warning."""
log = logging.getLogger(__name__)


class EaseConfig(ModelConfig):
    regularisation: float = Field(250.0, gt=0)
    """The paper's lambda: the smaller the shop's data, the larger."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of a history that is hidden in training, in expectation: adds p / (1 - p) · count of an item."""
    neighbours: int | None = Field(500, ge=1)
    """Largest weights, positive or negative, kept of each item of a history; None: all, N² numbers."""
    activity: float = Field(0.0, ge=0, le=1)
    """A user of n items weighs n^-activity: 1 gives every user the same say."""
    strength: Strength = "once"
    """What a shopper's acts on one item add up to: `once`, the largest weight of their kinds; `log_count` and
    `log_value` grow with how often, and with the sum of the values."""
    kind_weights: dict[str, float] = Field(default_factory=dict)
    """Weight of each kind of act; empty: every kind, each 1. Kinds not named do not count then."""
    method: Literal["auto", "exact", "sparse"] = "auto"
    """`exact` inverts a dense matrix of the smaller number, of users or items, squared; `sparse` solves each
    item's equation among its `solved_among` neighbours. `auto`: exact where that fits, else sparse."""
    max_items: int = Field(20_000, ge=2)
    """For `exact`: more of both items and users are refused, and `auto` takes `sparse` for them."""
    solved_among: int = Field(100, ge=1)
    """For `sparse`: how many items each item is reconstructed from: those most like it, by their shoppers."""

    def idle(self) -> dict[str, str]:
        found = super().idle()
        if self.method == "exact":
            found["solved_among"] = 'method = "auto" or "sparse"'
        if self.method == "sparse":
            found["max_items"] = 'method = "auto" or "exact"'
        return found


class EaseSolver:
    """B = -P / diag(P), diag(B) = 0, where P = (XᵀX + Λ)⁻¹ and X is users × items."""

    def __init__(self, config: EaseConfig, data: BehaviourSet) -> None:
        self.config, self.data = config, data

    def count(self) -> ClosedFormArrays:
        """`count_by_blocks` in this process."""
        return self.count_by_blocks(ArrayLoop())

    def count_by_blocks(self, loop: ArrayLoop) -> ClosedFormArrays:
        """`sparse` is split; `exact` is one inversion, in this process.

        Raises TooLittleData: no act, or no two items of one shopper; TrainingError: too many of both for the
        method `exact`.
        """
        config = self.config
        whole = user_items(self.data, config.kind_weights, RECIPE.name, config.strength)
        rows, acted = np.flatnonzero(np.diff(whole.indptr)), np.unique(whole.indices)
        exact = config.method != "sparse" and _fits(len(rows), len(acted), config)
        x_UN = whole[rows][:, acted].tocsr()
        del whole
        x_UN = (sparse.diags(np.diff(x_UN.indptr) ** (-config.activity / 2)) @ x_UN).tocsr()
        weights = self._weights(x_UN) if exact else self._sparse_weights(x_UN, loop)
        arrays = stacked(_placed(weights, acted, len(self.data.items)))
        if not len(arrays["weights"]):
            raise TooLittleData(
                "ease: no shopper acted on two different items, so no item can speak for another; "
                "load more interactions, or use the model popularity"
            )
        return ClosedFormArrays("item_item", arrays, {"decay": 1.0, "last": None})

    def _sparse_weights(self, x_UN: sparse.csr_matrix, loop: ArrayLoop) -> Iterator[sparse.csr_matrix]:
        """B in one block of rows, float32."""
        by_target = list(columns(x_UN, self._ridge(x_UN), self.config.solved_among, loop))
        yield _strongest_signed(sparse.vstack(by_target).T.tocsr(), self.config.neighbours)

    def _weights(self, x_UN: sparse.csr_matrix) -> Iterator[sparse.csr_matrix]:
        """B in blocks of rows, each made sparse."""
        inverse_rows, diagonal_N = inverse(x_UN, self._ridge(x_UN))
        count = x_UN.shape[1]
        for first, last in _blocks(count):
            block = -inverse_rows(first, last) / diagonal_N
            block[np.arange(last - first), np.arange(first, last)] = 0
            yield _largest(block, self.config.neighbours or count)

    def _ridge(self, x_UN: sparse.csr_matrix) -> np.ndarray:
        """(N,) the diagonal of Λ."""
        share = self.config.dropout
        counts_N = np.asarray(x_UN.power(2).sum(axis=0)).ravel()
        return np.asarray(self.config.regularisation + share / (1 - share) * counts_N)


def _placed(
    blocks: Iterable[sparse.csr_matrix], columns: np.ndarray, items: int
) -> Iterator[sparse.csr_matrix]:
    """Blocks of rows that follow each other, of the items in `columns`, at the rows and columns of the
    catalogue; rows of items that nobody acted on are empty."""
    first = done = 0
    for block in blocks:
        block.eliminate_zeros()
        last = first + block.shape[0]
        end = items if last == len(columns) else int(columns[last])
        lengths = np.zeros(end - done, np.int64)
        lengths[columns[first:last] - done] = np.diff(block.indptr)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        first, done = last, end
        yield sparse.csr_matrix(
            (block.data.astype(np.float32, copy=False), columns[block.indices], starts),
            shape=(len(lengths), items),
        )


def inverse(
    x_UN: sparse.csr_matrix, ridge_N: np.ndarray
) -> tuple[Callable[[int, int], np.ndarray], np.ndarray]:
    """(XᵀX + Λ)⁻¹ as a function that gives its rows first … last, (R, N) float64, and its (N,) diagonal.

    Through the smaller side: N × N directly, or U × U by Woodbury's identity,
    (XᵀX + Λ)⁻¹ = Λ⁻¹ - Λ⁻¹ Xᵀ (I + X Λ⁻¹ Xᵀ)⁻¹ X Λ⁻¹. In float64: float32 loses the small weights, which
    are differences of large numbers.
    """
    users, count = x_UN.shape
    if count <= users:
        gram_NN = np.empty((count, count))
        items_NU = x_UN.T.tocsr()
        # The sparse product of all items at once could need more memory than the dense one.
        for first, last in _blocks(count):
            gram_NN[first:last] = (items_NU[first:last] @ x_UN).toarray()
        gram_NN[np.diag_indices(count)] += ridge_N
        precision_NN = _inverted(gram_NN)
        return lambda first, last: precision_NN[first:last], np.diagonal(precision_NN).copy()
    scaled_UN = (x_UN @ sparse.diags(1 / ridge_N)).tocsr()
    gram_UU = np.empty((users, users))
    items_NU = x_UN.T.tocsr()
    for first, last in _blocks(users):
        gram_UU[first:last] = (scaled_UN[first:last] @ items_NU).toarray()
    gram_UU[np.diag_indices(users)] += 1
    half_UU = _inverted_half(gram_UU)
    columns_UN = scaled_UN.tocsc()

    def rows(first: int, last: int) -> np.ndarray:
        left_UR = half_UU @ columns_UN[:, first:last].toarray()
        block = -(scaled_UN.T @ (half_UU.T @ left_UR)).T
        block[np.arange(last - first), np.arange(first, last)] += 1 / ridge_N[first:last]
        return np.asarray(block)

    diagonal_N = np.empty(count)
    size = max(1, BLOCK_ENTRIES // users)
    for first in range(0, count, size):
        left_UR = half_UU @ columns_UN[:, first : first + size].toarray()
        diagonal_N[first : first + size] = 1 / ridge_N[first : first + size] - (left_UR**2).sum(axis=0)
    return rows, diagonal_N


def _inverted_half(gram_UU: np.ndarray) -> np.ndarray:
    """L⁻¹ of a positive definite matrix L Lᵀ, in the matrix's own memory."""
    factor, failed = linalg.lapack.dpotrf(gram_UU.T, lower=1, overwrite_a=1)
    if not failed:
        half, failed = linalg.lapack.dtrtri(factor, lower=1, overwrite_c=1)
    if failed:
        raise TrainingError("ease: the matrix of the users cannot be inverted; raise regularisation")
    for first, last in _blocks(len(half)):  # above the diagonal is what the matrix had there
        half[first:last, last:] = 0
        half[first:last, first:last] = np.tril(half[first:last, first:last])
    return np.asarray(half)


def _inverted(gram_NN: np.ndarray) -> np.ndarray:
    """The inverse of a positive definite matrix, in the matrix's own memory."""
    # LAPACK is column-major; the transpose of a symmetric matrix is itself, and needs no copy.
    factor, failed = linalg.lapack.dpotrf(gram_NN.T, lower=1, overwrite_a=1)
    if not failed:
        half, failed = linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise TrainingError("ease: the item matrix cannot be inverted; raise regularisation")
    for first, last in _blocks(len(half)):  # only its lower triangle is filled
        half[first:last, last:] = half[last:, first:last].T
        square = np.tril(half[first:last, first:last])
        half[first:last, first:last] = square + np.tril(square, -1).T
    return np.asarray(half.T)


def memory_needed(users: int, items: int, neighbours: int | None) -> int:
    """Bytes that it takes beside the interactions: a dense matrix of the smaller side, some blocks of rows,
    and twice the weights, which are put together of their blocks."""
    block = min(BLOCK_ENTRIES, items * max(users, items))
    kept = items * min(neighbours or items, items)
    return 8 * min(users, items) ** 2 + _BLOCKS_AT_ONCE * 8 * block + 2 * 8 * kept


def refusal(users: int, items: int, config: EaseConfig) -> str | None:
    """Why it cannot be solved for so many users and items who acted; None: it can."""
    needed, there = memory_needed(users, items, config.neighbours), available_memory()
    said = f"{items:,} items and {users:,} users"
    if min(users, items) > config.max_items:
        return (
            f"{said}, and it inverts a dense matrix of the smaller number squared (max_items = "
            f"{config.max_items}), {_size(needed)} in all"
        )
    if there is not None and needed > there:
        return f"{said} take {_size(needed)} of memory, and {_size(there)} is free"
    return None


def _fits(users: int, items: int, config: EaseConfig) -> bool:
    """Whether it is solved exactly; what that takes is said before it is taken, and what is done instead.
    Raises TrainingError: `exact` was asked for, and there are too many of both, or too little memory."""
    needed = memory_needed(users, items, config.neighbours)
    why = refusal(users, items, config)
    if why is not None and config.method == "exact":
        raise TrainingError(
            f"ease: {why}; leave `method` out, and each item is solved among its neighbours; where there is "
            "memory for more, raise max_items"
        )
    if why is not None:
        log.warning(
            'ease: %s; so each item is solved among its %d neighbours (method = "sparse"), which finds '
            "nearly what the whole does; solved_among sets how many", why, config.solved_among,
        )  # fmt: skip
        return False
    log.log(
        logging.WARNING if needed >= _LARGE else logging.INFO,
        "ease: %s items and %s users take %s of memory", f"{items:,}", f"{users:,}", _size(needed),
    )  # fmt: skip
    return True


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= _LARGE else f"{count / 2**20:.0f} MiB"


def _blocks(count: int) -> Iterator[tuple[int, int]]:
    size = max(1, BLOCK_ENTRIES // count)
    for first in range(0, count, size):
        yield first, min(first + size, count)


def _largest(block_RN: np.ndarray, most: int) -> sparse.csr_matrix:
    """The `most` entries of each row that are furthest from 0."""
    if most >= block_RN.shape[1]:
        return sparse.csr_matrix(block_RN)
    sizes = np.abs(block_RN)
    edge = np.partition(sizes, -most, axis=1)[:, -most]
    found = sparse.csr_matrix(np.where(sizes >= edge[:, None], block_RN, 0))
    return _strongest_signed(found, most)  # equal ones at the edge


def _strongest_signed(found: sparse.csr_matrix, most: int | None) -> sparse.csr_matrix:
    """The `most` entries of each row that are furthest from 0; None: all."""
    if most is None or most >= found.shape[1]:
        return found
    return strongest(abs(found), most).multiply(found.sign()).tocsr()


SPACE: SearchSpace = {
    "regularisation": FloatRange(1.0, 10_000.0, log=True),
    "dropout": FloatRange(0.0, 0.9),
    "activity": FloatRange(0.0, 1.0),
    "strength": Choice(("once", "log_count")),
}
"""What `etalage tune` tries."""

RECIPE = Recipe(
    name="ease",
    role="closed_form",
    paper="Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019",
    config=EaseConfig,
    columns=(),
    bind=EaseSolver,
    data="behaviour",
    space=SPACE,
)
