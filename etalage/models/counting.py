"""What closed-form models share: how much an act counts, and the users × items matrix that they start from.

M interactions   U users   N items   nnz pairs of a user and an item that they acted on   R rows of a block
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import numpy as np
from scipy import sparse

from etalage.config import suggestion
from etalage.errors import ConfigError, TooLittleData
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.history import given
from etalage.kinds import plain_kind

ACTS_AT_ONCE = 2**20
"""Acts of the users that are looked at together: some 50 MB."""

Strength = Literal["once", "log_count", "log_value"]
"""What a user's acts on one item add up to. `once`: the largest weight among their kinds. `log_count`: that,
times 1 + log(how often). `log_value`: that, times 1 + log(1 + the sum of the values: listens, stars); acts
without a value have 0."""


def act_weights(kinds: tuple[str, ...], codes_M: np.ndarray, weights: Mapping[str, float]) -> np.ndarray:
    """(M,) float64 weights of acts by their kind; no `weights`: every kind, each 1.

    A kind that `weights` does not name, and an act without a kind, then weigh 0; `add_to_cart` there is
    `AddToCart` here. Raises ConfigError: a
    weight for a kind that never occurs, a negative weight.
    """
    if not weights:
        return np.ones(len(codes_M))
    there = {*kinds, *map(plain_kind, kinds)}
    for name, weight in weights.items():
        if name not in there and plain_kind(name) not in there:
            raise ConfigError(f"kind_weights: no kind {name!r}; {suggestion(name, kinds)}")
        if not (np.isfinite(weight) and weight >= 0):
            raise ConfigError(f"kind_weights.{name} = {weight}: expected a number from 0 on")
    by_code = np.array([0.0, *(given(weights, name, 0.0) for name in kinds)])
    return np.asarray(by_code[codes_M])


def counted_acts(
    data: BehaviourSet, weights: Mapping[str, float], model: str
) -> tuple[Interactions, np.ndarray]:
    """The positives of `train` on known items that weigh more than 0, and their (M,) weights: those of the
    model's `kind_weights`, else those of [behaviour].

    Raises TooLittleData where there are none.
    """
    acts = data.part("train")
    by_code = _code_weights(data, weights)
    weights_M = np.ones(len(acts)) if by_code is None else by_code[acts.kinds]
    kept = _countable(acts, weights_M)
    if not kept.any():
        raise _nothing_to_count(acts, model)
    return acts.take(kept), weights_M[kept]


def _code_weights(data: BehaviourSet, weights: Mapping[str, float]) -> np.ndarray | None:
    """What an act counts by the code of its kind: by the model's `kind_weights`, else by [behaviour]; None:
    each 1."""
    if weights:
        return act_weights(data.kinds, np.arange(len(data.kinds) + 1), weights)
    return np.asarray(data.weights, np.float64) if data.weights else None


def _countable(acts: Interactions, weights_M: np.ndarray) -> np.ndarray:
    return (acts.labels > 0) & (weights_M > 0) & (acts.items > 0) & (acts.users > 0)


def _nothing_to_count(acts: Interactions, model: str) -> TooLittleData:
    return TooLittleData(
        f"{model}: no positive interaction to count ({int((acts.labels > 0).sum())} in the training part); "
        "load interactions with `etalage ingest`, or look at behaviour.positive_from and kind_weights"
    )


def user_items(
    data: BehaviourSet, weights: Mapping[str, float], model: str, strength: Strength = "once"
) -> sparse.csr_matrix:
    """(U + 1, N + 1) float64 CSR, one entry a pair, row and column 0 empty. Raises TooLittleData.

    Some users at a time: beside the matrix it holds ACTS_AT_ONCE acts, or those of one user.
    """
    acts, by_code = data.part("train"), _code_weights(data, weights)
    items = len(data.items)
    lengths_U = np.zeros(len(data.users), np.int64)
    columns, totals = [np.empty(0, np.int32)], [np.empty(0)]
    for some in _by_users(acts):
        weights_M = np.ones(len(some)) if by_code is None else by_code[some.kinds]
        kept = _countable(some, weights_M)
        pairs, values = _pairs(some, kept, weights_M[kept], items, strength)
        lengths_U += np.bincount(pairs // items, minlength=len(lengths_U))
        columns.append((pairs % items).astype(np.int32))
        totals.append(values)
    indptr = np.concatenate([[0], np.cumsum(lengths_U)])
    if not indptr[-1]:
        raise _nothing_to_count(acts, model)
    shape = (len(data.users), items)
    return sparse.csr_matrix((np.concatenate(totals), np.concatenate(columns), indptr), shape=shape)


def _by_users(acts: Interactions) -> Iterator[Interactions]:
    """All of them, those of some users at a time."""
    start = 0
    while start < len(acts):
        last = acts.users[min(start + ACTS_AT_ONCE, len(acts)) - 1]
        stop = int(np.searchsorted(acts.users, last, side="right"))
        yield acts.slice(start, stop)
        start = stop


def _pairs(
    acts: Interactions, kept: np.ndarray, weights_M: np.ndarray, items: int, strength: Strength
) -> tuple[np.ndarray, np.ndarray]:
    """(nnz,) user · items + item, ascending, and what each pair adds up to."""
    pairs, at = np.unique(acts.users[kept] * items + acts.items[kept], return_inverse=True)
    totals = np.zeros(len(pairs))
    np.maximum.at(totals, at, weights_M)
    if strength == "log_count":
        totals *= 1 + np.log(np.bincount(at, minlength=len(pairs)))
    elif strength == "log_value":
        values_M = np.nan_to_num(acts.values[kept].astype(np.float64), nan=0.0).clip(min=0)
        totals *= 1 + np.log1p(np.bincount(at, values_M, minlength=len(pairs)))
    return pairs, totals


def csr_arrays(name: str, matrix: sparse.csr_matrix) -> dict[str, np.ndarray]:
    """A matrix as arrays that workers map; `csr_of` makes it again."""
    return {f"{name}.{part}": getattr(matrix, part) for part in ("indptr", "indices", "data")}


def csr_of(arrays: Mapping[str, np.ndarray], name: str, columns: int) -> sparse.csr_matrix:
    """The matrix of `csr_arrays`, which shares their memory."""
    indptr, indices, data = (arrays[f"{name}.{part}"] for part in ("indptr", "indices", "data"))
    return sparse.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, columns), copy=False)


def row_blocks(shares: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) of blocks of rows that follow each other; shares: (R,) what part of a block each row
    fills. A row that fills more than one has a block of its own."""
    filled = np.cumsum(shares)
    blocks, first = [], 0
    while first < len(filled):
        before = filled[first - 1] if first else 0.0
        last = max(first + 1, int(np.searchsorted(filled, before + 1, side="right")))
        blocks.append((first, last))
        first = last
    return blocks


def strongest(block: sparse.csr_matrix, count: int) -> sparse.csr_matrix:
    """The `count` largest entries of each row, columns ascending; zeros are dropped. Of equal entries at the
    edge the lower columns stay, so that the same data give the same file."""
    block.eliminate_zeros()
    block.sort_indices()
    lengths = np.diff(block.indptr)
    kept = np.ones(block.nnz, bool)
    for row in np.flatnonzero(lengths > count):
        values = block.data[block.indptr[row] : block.indptr[row + 1]]
        high = np.flatnonzero(values >= np.partition(values, -count)[-count])
        order = np.argsort(-values[high], kind="stable")
        inside = np.zeros(len(values), bool)
        inside[high[order[:count]]] = True
        kept[block.indptr[row] : block.indptr[row + 1]] = inside
    starts = np.concatenate([[0], np.cumsum(np.minimum(lengths, count))])
    return sparse.csr_matrix((block.data[kept], block.indices[kept], starts), shape=block.shape)


def item_item_arrays(weights: sparse.csr_matrix) -> dict[str, np.ndarray]:
    """The arrays of `ClosedFormArrays` for the scoring item_item."""
    weights.sort_indices()
    return {
        "indptr": weights.indptr.astype(np.int64),
        "indices": weights.indices.astype(np.int32, copy=False),
        "weights": weights.data.astype(np.float32, copy=False),
    }


def stacked(blocks: Iterable[sparse.csr_matrix]) -> dict[str, np.ndarray]:
    """The arrays of `ClosedFormArrays` for the scoring item_item, of blocks of rows that follow each other,
    with columns ascending. None of them is kept beside its arrays."""
    lengths, indices, weights = [np.zeros(1, np.int64)], [np.empty(0, np.int32)], [np.empty(0, np.float32)]
    for block in blocks:
        lengths.append(np.diff(block.indptr).astype(np.int64))
        indices.append(block.indices.astype(np.int32, copy=False))
        weights.append(block.data.astype(np.float32, copy=False))
    columns = np.concatenate(indices)
    del indices
    return {
        "indptr": np.cumsum(np.concatenate(lengths)),
        "indices": columns,
        "weights": np.concatenate(weights),
    }
