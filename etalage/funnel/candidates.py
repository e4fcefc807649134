"""Merges the candidates of several retrievers, each up to its quota, and brings their scores to one scale.

The same function makes candidates offline (examples for a ranker) and online (funnel/funnel.py).

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
    """The union of what the retrievers found, each item once: in order of the retrievers, best first."""

    rows: np.ndarray
    """(B, K) int64 item rows; 0 after the last."""
    scores: dict[str, np.ndarray]
    """Retriever → (B, K) float32; -inf where this retriever did not find the item."""

    def found_by(self, name: str) -> np.ndarray:
        """(B, K) bool: whether this retriever found the candidate."""
        return np.isfinite(self.scores[name])

    @property
    def counts(self) -> np.ndarray:
        """(B,) how many candidates each query has."""
        return np.asarray((self.rows > 0).sum(axis=1))


def candidates(
    retrievers: Sequence[Retriever],
    queries: Queries | Mapping[str, Queries],
    quotas: Mapping[str, int],
    allow: np.ndarray | None = None,
    excluded: Excluded | None = None,
) -> Candidates:
    """Ask every retriever that has a quota, and merge what they find.

    queries: the same for all, or one per retriever (if their vocabularies of users and kinds differ).
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
    """Keep each item once per query, at its first place, with every retriever's score."""
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
    """(B, K) scores → the same scaled to 0 … 1 in each row; values that are not finite become 0.

    It is min-max scaling over what was found, because scores of different models cannot be added as they are
    (Fox & Shaw, Combination of Multiple Searches, TREC-2 1993: CombSUM).
    """
    there = np.isfinite(scores)
    low = np.where(there, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    high = np.where(there, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    width = np.where(high > low, high - low, 1)
    # An only answer is a full answer, and the last of several is still an answer.
    scaled = np.where(high > low, 0.01 + 0.99 * (np.where(there, scores, 0) - low) / width, 1.0)
    return np.where(there, scaled, 0).astype(np.float32)


def fused(found: Candidates, weights: Mapping[str, float]) -> np.ndarray:
    """(B, K) float32: the weighted sum of the retrievers' normalised scores; -inf where there is no item."""
    total = np.zeros(found.rows.shape, np.float32)
    for name, scores in found.scores.items():
        total += np.float32(weights.get(name, 1.0)) * normalised(scores)
    return np.where(found.rows > 0, total, -np.inf)
