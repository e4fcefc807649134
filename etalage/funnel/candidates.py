"""Candidates: what several retrievers bring, each by its quota, merged; their scores on one scale.

Offline (examples for a ranker) and online (funnel/funnel.py) candidates come from the same function.

    B queries   N items   K candidates a query
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from etalage.features.behaviour import Queries
from etalage.runtime.retrieving import Excluded, Hits, Retriever

__all__ = [
    "Candidates",
    "Excluded",
    "Hits",
    "Retriever",
    "candidates",
    "fused",
    "merged",
    "normalised",
]


@dataclass(frozen=True)
class Candidates:
    """The union of what the retrievers brought: in order of the retrievers, best first, each item once."""

    rows: np.ndarray
    """(B, K) int64; 0 behind the last."""
    scores: dict[str, np.ndarray]
    """retriever → (B, K) float32; -inf where this one did not find the item."""

    def found_by(self, name: str) -> np.ndarray:
        """(B, K) bool."""
        return np.isfinite(self.scores[name])

    @property
    def counts(self) -> np.ndarray:
        """(B,) candidates of each query."""
        return np.asarray((self.rows > 0).sum(axis=1))


def candidates(
    retrievers: Sequence[Retriever],
    queries: Queries | Mapping[str, Queries],
    quotas: Mapping[str, int],
    allow: np.ndarray | None = None,
    excluded: Excluded | None = None,
) -> Candidates:
    """Ask every retriever that has a quota, merge what they bring.

    queries: the same for all, or by retriever (where vocabularies of users and kinds differ).
    """
    brought = {
        one.name: one.find(
            queries if isinstance(queries, Queries) else queries[one.name],
            quotas[one.name],
            allow,
            excluded or Excluded.none(_count(queries)),
        )
        for one in retrievers
        if quotas.get(one.name, 0) > 0
    }
    return merged(brought, _count(queries))


def _count(queries: Queries | Mapping[str, Queries]) -> int:
    return len(queries) if isinstance(queries, Queries) else len(next(iter(queries.values()), ()))


def merged(brought: Mapping[str, Hits], queries: int) -> Candidates:
    """Each item once a query, where it first appears; every retriever's score kept."""
    wide = np.concatenate([np.empty((queries, 0), np.int64), *(b.rows for b in brought.values())], axis=1)
    owner, column = np.nonzero(wide)
    rows = wide[owner, column]
    _, first, which = np.unique(
        owner * (rows.max(initial=0) + 1) + rows, return_index=True, return_inverse=True
    )
    order = np.argsort(first)  # np.nonzero goes query by query, best first: so does the order of first places
    place = np.empty(len(order), np.int64)
    starts = np.searchsorted(owner[first[order]], np.arange(queries))
    place[order] = np.arange(len(order)) - starts[owner[first[order]]]
    width = int(place.max(initial=-1)) + 1
    found = np.zeros((queries, width), np.int64)
    found[owner, place[which]] = rows
    scores = {}
    begin = 0
    for name, one in brought.items():
        end = begin + one.rows.shape[1]
        theirs = (column >= begin) & (column < end)
        scores[name] = np.full((queries, width), -np.inf, np.float32)
        scores[name][owner[theirs], place[which[theirs]]] = one.scores[owner[theirs], column[theirs] - begin]
        begin = end
    return Candidates(found, scores)


def normalised(scores: np.ndarray) -> np.ndarray:
    """(B, K) → the same brought to 0 … 1 in each row; what is not finite becomes 0.

    Min-max over what was found: scores of different models cannot be added as they are (Fox & Shaw,
    Combination of Multiple Searches, TREC-2 1993: CombSUM).
    """
    there = np.isfinite(scores)
    low = np.where(there, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    high = np.where(there, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    width = np.where(high > low, high - low, 1)
    # An only answer is a full answer, and the last of several is still an answer.
    scaled = np.where(high > low, 0.01 + 0.99 * (np.where(there, scores, 0) - low) / width, 1.0)
    return np.where(there, scaled, 0).astype(np.float32)


def fused(found: Candidates, weights: Mapping[str, float]) -> np.ndarray:
    """(B, K) float32: the retrievers' normalised scores, weighted and added; -inf where there is no item."""
    total = np.zeros(found.rows.shape, np.float32)
    for name, scores in found.scores.items():
        total += np.float32(weights.get(name, 1.0)) * normalised(scores)
    return np.where(found.rows > 0, total, -np.inf)
