"""Item weights in closed form: each item is reconstructed from all others by ridge regression.

Papers: H. Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019 (EASE, equation 8);
H. Steck, Autoencoders that don't overfit towards the Identity, NeurIPS 2020 (`dropout`).

    U users   N items that somebody acted on   R items in a block
"""

from collections.abc import Callable, Iterator

import numpy as np
from pydantic import Field
from scipy import linalg, sparse

from etalage.errors import TooLittleData, TrainingError
from etalage.features.behaviour import BehaviourSet
from etalage.models.counting import Strength, item_item_arrays, strongest, user_items
from etalage.models.recipe import ClosedFormArrays, ModelConfig, Recipe
from etalage.models.search_space import Choice, FloatRange, SearchSpace

BLOCK_ENTRIES = 2**23
"""Entries of one dense block of the item × item weights: 64 MB."""


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
    kind_weights: dict[str, float] = Field(default_factory=dict)
    """Weight of each kind of act; empty: every kind, each 1. Kinds not named do not count then."""
    max_items: int = Field(20_000, ge=2)
    """It refuses more of both items and users: it inverts a matrix of the smaller number squared."""


class EaseSolver:
    """B = -P / diag(P), diag(B) = 0, where P = (XᵀX + Λ)⁻¹ and X is users × items."""

    def __init__(self, config: EaseConfig, data: BehaviourSet) -> None:
        self.config, self.data = config, data

    def count(self) -> ClosedFormArrays:
        """Raises TooLittleData: no act, or no two items of one shopper; TrainingError: too many of both."""
        config = self.config
        whole = user_items(self.data, config.kind_weights, RECIPE.name, config.strength)
        rows, columns = (np.unique(index) for index in whole.nonzero())
        if min(len(rows), len(columns)) > config.max_items:
            raise TrainingError(
                f"ease: {len(columns)} items and {len(rows)} users, and it inverts a dense matrix of the "
                f"smaller number squared (max_items = {config.max_items}); use the model ials, which scales "
                "with the interactions, or raise max_items if there is memory for 8 bytes a number"
            )
        x_UN = whole[rows][:, columns].tocsr()
        x_UN = sparse.diags(np.diff(x_UN.indptr) ** (-config.activity / 2)) @ x_UN
        weights = self._weights(x_UN.tocsr(), columns, len(self.data.items))
        if weights.nnz == 0:
            raise TooLittleData(
                "ease: no shopper acted on two different items, so no item can speak for another; "
                "load more interactions, or use the model popularity"
            )
        return ClosedFormArrays("item_item", item_item_arrays(weights), {"decay": 1.0, "last": None})

    def _weights(self, x_UN: sparse.csr_matrix, columns: np.ndarray, items: int) -> sparse.csr_matrix:
        """(items, items): B in blocks of rows, each made sparse, and put at the rows of the catalogue."""
        count = len(columns)
        inverse_rows, diagonal_N = inverse(x_UN, self._ridge(x_UN))
        most = self.config.neighbours or count
        blocks = []
        for first, last in _blocks(count):
            block = -inverse_rows(first, last) / diagonal_N
            block[np.arange(last - first), np.arange(first, last)] = 0
            blocks.append(_largest(block, most))
        small = sparse.vstack(blocks, format="coo")
        small.eliminate_zeros()
        where = columns[small.row], columns[small.col]
        return sparse.csr_matrix((small.data, where), shape=(items, items))

    def _ridge(self, x_UN: sparse.csr_matrix) -> np.ndarray:
        """(N,) the diagonal of Λ."""
        share = self.config.dropout
        counts_N = np.asarray(x_UN.power(2).sum(axis=0)).ravel()
        return np.asarray(self.config.regularisation + share / (1 - share) * counts_N)


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
    gram_UU = (scaled_UN @ x_UN.T).toarray()
    gram_UU[np.diag_indices(users)] += 1
    half_UU = linalg.solve_triangular(
        linalg.cholesky(gram_UU, lower=True, overwrite_a=True, check_finite=False),
        np.eye(users),
        lower=True,
        overwrite_b=True,
        check_finite=False,
    )
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
    signed = strongest(abs(found), most)  # equal ones at the edge
    return signed.multiply(found.sign()).tocsr()


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
