"""Recall@k of an index against the exact one, with all items allowed and with few."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from etalage.index.contract import Found, Index

TIE = 1e-6
"""An approximate answer this near to the exact k-th score counts as found."""


@dataclass(frozen=True)
class RecallRow:
    """Recall of an index against the exact one with a random `share` of the items allowed (None: all), or
    those of a `filter`, in words."""

    share: float | None
    k: int
    recall: float
    queries: int
    filter: str | None = None


def recall(
    index: Index,
    exact: Index,
    queries: np.ndarray,
    k: int,
    shares: Sequence[float | None] = (None, 0.5, 0.05, 0.01),
    seed: int = 0,
    filters: Mapping[str, np.ndarray] | None = None,
) -> list[RecallRow]:
    """Recall@k of `index` against `exact` on (B, D) queries, for each share of allowed items, and with each
    of `filters`, by name (N + 1,) bool: what stands together in the index is another thing than a draw.

    Found, over what could be found: the exact answer's items, fewer than k where fewer are allowed.
    An item whose score is within TIE of the exact k-th counts. With nothing to find recall is 1. The
    items of a share are drawn from `seed`, the same for any index over the same rows.
    """
    rows = exact.rows
    result = []
    for number, share in enumerate(shares):
        allow = None
        if share is not None:
            rng = np.random.default_rng((seed, number))
            count = min(len(rows), max(1, round(share * len(rows))))
            allow = np.zeros(int(rows[-1]) + 1 if len(rows) else 0, bool)
            allow[rng.choice(rows, count, replace=False)] = True
        result.append(RecallRow(share, k, _recall(index, exact, queries, k, allow), len(queries)))
    for name, allow in (filters or {}).items():
        allowed = float(allow[rows].mean()) if len(rows) else 0.0
        result.append(RecallRow(allowed, k, _recall(index, exact, queries, k, allow), len(queries), name))
    return result


def probing_queries(embeddings: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """At most `count` queries to probe an index of (N, D) float32 embeddings with; of length 1.

    Half of them are items; an item's own list is easy to guess, so the others are items with noise of
    half their length, as a photo is that is not in the catalogue.
    """
    rng = np.random.default_rng(seed)
    sample = np.asarray(embeddings[np.sort(rng.permutation(len(embeddings))[:count])], np.float32)
    noise = rng.normal(size=sample.shape).astype(np.float32)
    noise *= 0.5 * _lengths(sample) / _lengths(noise)
    queries = sample + noise * (np.arange(len(sample)) % 2)[:, None]
    return np.ascontiguousarray(queries / _lengths(queries), dtype=np.float32)


def _lengths(rows: np.ndarray) -> np.ndarray:
    """(N, 1) lengths; 1 for a row of zeros."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(lengths > 0, lengths, 1)


def _recall(index: Index, exact: Index, queries: np.ndarray, k: int, allow: np.ndarray | None) -> float:
    return share_found(exact.search(queries, k, allow), index.search(queries, k, allow))


def share_found(truth: Found, answer: Found) -> float:
    """What an answer found of what the exact index did, within TIE; 1 where there was nothing to find."""
    there = (truth.rows >= 0).sum(axis=1)
    if there.sum() == 0:
        return 1.0
    lowest = np.where(truth.rows >= 0, truth.scores, np.inf).min(axis=1)
    good = (answer.rows >= 0) & (answer.scores >= lowest[:, None] - TIE)
    return float((np.minimum(good.sum(axis=1), there)).sum() / there.sum())
