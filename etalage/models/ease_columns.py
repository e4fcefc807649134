"""EASE where the matrix of all items cannot be inverted: each item's equation among its neighbours.

Column j of EASE's weights is a ridge regression of item j on all other items. Here it is that regression on
the items that are most alike by shoppers in common, and the weights of all others are 0: an approximate
inverse with the pattern of the likenesses, each column of which is the best with that pattern. (M. Spišák et
al., Scalable Approximate NonSymmetric Autoencoder for Collaborative Filtering, RecSys 2023, approximate the
same inverse by a sparse factorisation.) With all items as neighbours it is EASE. Items are solved apart from
each other, on any number of workers.

    U users   N items   R items in a block   S neighbours of an item
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from etalage.errors import TrainingError
from etalage.features.array_blocks import ArrayLoop, Arrays
from etalage.models.blas import one_thread
from etalage.models.counting import csr_arrays, csr_of, row_blocks, strongest

BLOCK_ENTRIES = 2**23
"""Entries of one block of the item × item product, at most: 100 MB."""
BLOCK_PRODUCTS = 2**28
"""Products of two numbers that a block takes, at most: some tenths of a second."""
PRODUCTS_OF_AN_ENTRY = 40
"""What an entry of an item's equations costs beside the solve: two sparse passes over shoppers in common."""
WIDE = 4
"""Columns for each entry of a sparse matrix from which on it pays to leave the empty ones out."""


def columns(
    x_UN: sparse.csr_matrix, ridge_N: np.ndarray, neighbours: int, loop: ArrayLoop
) -> Iterator[sparse.csr_matrix]:
    """(R, N) float32 CSR blocks: row j holds the weights with which other items speak for item j.

    x: what users have of items; ridge: what is added to the diagonal of XᵀX; neighbours: S at most.
    Raises TrainingError: an item's equations have no solution.
    """
    items = x_UN.T.tocsr()
    lengths_U = np.diff(x_UN.indptr).astype(np.float64)
    each = np.append(lengths_U[items.indices], 0)
    products_N = np.add.reduceat(each, items.indptr[:-1])
    products_N[np.diff(items.indptr) == 0] = 0  # else it is that of the entry after it
    entries_N = np.minimum(products_N, len(products_N))
    size_N = np.minimum(entries_N, neighbours)
    costs_N = products_N + size_N**2 * (PRODUCTS_OF_AN_ENTRY + size_N / 3)
    blocks = row_blocks(np.maximum(entries_N / BLOCK_ENTRIES, costs_N / BLOCK_PRODUCTS))
    costs = np.add.reduceat(costs_N, [first for first, _ in blocks])
    norms_N = np.sqrt(np.asarray(x_UN.power(2).sum(axis=0)).ravel() + ridge_N)
    arrays = {**csr_arrays("items", items), **csr_arrays("users", x_UN), "ridge": ridge_N, "norms": norms_N}
    with loop.over(arrays) as over:
        yield from over.run(Columns(neighbours), blocks, costs + 1)


@dataclass(frozen=True)
class Columns:
    """w of item j: (X_Sᵀ X_S + Λ_S) w = X_Sᵀ x_j, where S are its neighbours."""

    neighbours: int

    def __call__(self, arrays: Arrays, block: tuple[int, int]) -> sparse.csr_matrix:
        """(R, N) float32, of items first … last."""
        first, last = block
        count = len(arrays["ridge"])
        items = csr_of(arrays, "items", len(arrays["users.indptr"]) - 1)
        common = items[first:last] @ csr_of(arrays, "users", count)
        rows = np.repeat(np.arange(first, last), np.diff(common.indptr))
        under = arrays["norms"][common.indices]
        alike = np.where(rows == common.indices, 0.0, common.data / under)
        nearest = strongest(
            sparse.csr_matrix((alike, common.indices, common.indptr), shape=common.shape),
            self.neighbours,
        )
        wanted = nearest.data * arrays["norms"][nearest.indices]
        weights = np.empty(nearest.nnz, np.float32)
        with one_thread():
            for begin, end, gram_SS in _grams(items, nearest):
                gram_SS[np.diag_indices(end - begin)] += arrays["ridge"][nearest.indices[begin:end]]
                weights[begin:end] = _solved(gram_SS, wanted[begin:end])
        return sparse.csr_matrix((weights, nearest.indices, nearest.indptr), shape=nearest.shape)


def _grams(items: sparse.csr_matrix, nearest: sparse.csr_matrix) -> Iterator[tuple[int, int, np.ndarray]]:
    """Of each row of `nearest` that has entries, where those begin and end, and X_Sᵀ X_S, (S, S) float64.

    One product for all rows, each with shoppers of its own: a product of each alone takes longer to prepare
    than to make.
    """
    users = items.shape[1]
    picked = items[nearest.indices]
    owners = np.repeat(np.arange(nearest.shape[0]), np.diff(nearest.indptr))
    keys = picked.indices + users * np.repeat(owners, np.diff(picked.indptr))
    width = users * nearest.shape[0]
    if width > WIDE * len(keys):
        there, keys = np.unique(keys, return_inverse=True)
        width = len(there)
    apart = sparse.csr_matrix((picked.data, keys, picked.indptr), shape=(picked.shape[0], width))
    product = (apart @ apart.T).tocsr()
    for begin, end in zip(nearest.indptr[:-1], nearest.indptr[1:], strict=True):
        if end > begin:
            here = slice(product.indptr[begin], product.indptr[end])
            rows = np.repeat(np.arange(end - begin), np.diff(product.indptr[begin : end + 1]))
            gram_SS = np.zeros((end - begin, end - begin))
            gram_SS[rows, product.indices[here] - begin] = product.data[here]
            yield int(begin), int(end), gram_SS


def _solved(left_SS: np.ndarray, wanted_S: np.ndarray) -> np.ndarray:
    # Column-major without a copy: the transpose of a symmetric matrix is itself.
    _, found_S, failed = linalg.lapack.dposv(left_SS.T, wanted_S, lower=1, overwrite_a=1)
    if failed:
        raise TrainingError("ease: an item's neighbours cannot be told apart; raise regularisation")
    return np.asarray(found_S)
