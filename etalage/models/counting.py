"""What closed-form models share: how much an act counts, and the users × items matrix that they start from.

M interactions   U users   N items   nnz pairs of a user and an item that they acted on
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from scipy import sparse

from etalage.config import suggestion
from etalage.errors import ConfigError, TooLittleData
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.history import given
from etalage.kinds import plain_kind

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
    acts = data.part("train").positive
    if weights or not data.weights:
        weights_M = act_weights(data.kinds, acts.kinds, weights)
    else:
        weights_M = np.asarray(data.weights, np.float64)[acts.kinds]
    kept = (weights_M > 0) & (acts.items > 0) & (acts.users > 0)
    if not kept.any():
        raise TooLittleData(
            f"{model}: no positive interaction to count ({len(acts)} in the training part); load "
            "interactions with `etalage ingest`, or look at behaviour.positive_from and kind_weights"
        )
    return acts.take(kept), weights_M[kept]


def user_items(
    data: BehaviourSet, weights: Mapping[str, float], model: str, strength: Strength = "once"
) -> sparse.csr_matrix:
    """(U + 1, N + 1) float64 CSR, one entry a pair, row and column 0 empty. Raises TooLittleData."""
    acts, weights_M = counted_acts(data, weights, model)
    items = len(data.items)
    pairs, at = np.unique(acts.users * items + acts.items, return_inverse=True)
    totals = np.zeros(len(pairs))
    np.maximum.at(totals, at, weights_M)
    if strength == "log_count":
        totals *= 1 + np.log(np.bincount(at, minlength=len(pairs)))
    elif strength == "log_value":
        values_M = np.nan_to_num(acts.values.astype(np.float64), nan=0.0).clip(min=0)
        totals *= 1 + np.log1p(np.bincount(at, values_M, minlength=len(pairs)))
    return sparse.csr_matrix((totals, (pairs // items, pairs % items)), shape=(len(data.users), items))


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
        "indices": weights.indices.astype(np.int32),
        "weights": weights.data.astype(np.float32),
    }
