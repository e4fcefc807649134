"""Retrieval by category: a neighbour is right when it bears the query's own category."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from etalage import metrics
from etalage.errors import TooLittleData
from etalage.index.exact import ExactIndex
from etalage.metrics import Interval

NO_LABEL = -1


@dataclass(frozen=True)
class Scores:
    """How one system did on Q queries.

    `intervals`: metric name → mean and 95% interval; `per_query`: the same names → (Q,) float64;
    `neighbours`: (Q, K) int64 positions in the index, nearest first, -1 where there are no more;
    `similarities`: (Q, K) float32, -inf there. Names: precision_at_k, hit_at_k, recall_at_k,
    map_at_k, ndcg_at_k, knn_accuracy_at_k with the number for k, and mrr (over K ranks).
    """

    intervals: dict[str, Interval]
    per_query: dict[str, np.ndarray]
    neighbours: np.ndarray
    similarities: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """{metric: {value, low, high}}: what evaluation.json keeps."""
        return {name: interval._asdict() for name, interval in self.intervals.items()}


def evaluate_embeddings(
    query: np.ndarray,
    query_labels: Sequence[str] | np.ndarray,
    index: np.ndarray,
    index_labels: Sequence[str] | np.ndarray,
    ks: Sequence[int],
    bootstrap: int = 1000,
    seed: int = 0,
    *,
    exclude: np.ndarray | None = None,
) -> Scores:
    """Search (Q, D) queries in (N, D) items by inner product, exactly, and score the answers.

    `exclude`: (Q,) the position in the index of the query item itself, -1 where it is not there; it
    is neither an answer nor one of those to be found. A query whose category has no other item
    scores 0. Raises TooLittleData: no query, or nothing to find.
    """
    if len(query) == 0 or len(index) == 0:
        raise TooLittleData(f"{len(query)} queries in an index of {len(index)} items: nothing to evaluate")
    codes, index_codes = _codes(query_labels, index_labels)
    if len(codes) != len(query) or len(index_codes) != len(index):
        raise ValueError(f"{len(codes)} labels, {len(query)} queries; {len(index_codes)}, {len(index)} items")
    neighbours, similarities = _neighbours(query, index, max(ks), exclude)
    labels = np.where(neighbours >= 0, index_codes[neighbours], NO_LABEL)
    total = np.bincount(index_codes, minlength=codes.max() + 1)[codes]
    if exclude is not None:
        itself = np.asarray(exclude)
        total = total - ((itself >= 0) & (index_codes[itself] == codes))
    per_query = _per_query(labels, codes, total, ks)
    return Scores(metrics.bootstrap_all(per_query, bootstrap, seed), per_query, neighbours, similarities)


def evaluate_photos(
    systems: Mapping[str, tuple[np.ndarray, np.ndarray]],
    query_labels: Sequence[str] | np.ndarray,
    index_labels: Sequence[str] | np.ndarray,
    ks: Sequence[int],
    bootstrap: int = 1000,
    seed: int = 0,
    *,
    exclude: np.ndarray | None = None,
) -> dict[str, Scores]:
    """`evaluate_embeddings` for several systems, each (query embeddings, item embeddings), side by side.

    Usually the model, "raw pixels" (see raw_pixels) and "untrained network". All resample the same
    queries, so their intervals can be compared in pairs.
    """
    return {
        name: evaluate_embeddings(
            query, query_labels, index, index_labels, ks, bootstrap, seed, exclude=exclude
        )
        for name, (query, index) in systems.items()
    }


def raw_pixels(pixels: np.ndarray) -> np.ndarray:
    """The simplest embedding, of (N, H, W, C) uint8 photos: their pixels.

    (N, H·W·C) float32, each photo centred on its mean and of length 1, so the inner product is the
    correlation of two photos. A photo of one colour becomes zeros.
    """
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    flat /= np.where(lengths > 1e-3, lengths, 1)
    return flat


def confusion(
    scores: Scores,
    query_labels: Sequence[str] | np.ndarray,
    index_labels: Sequence[str] | np.ndarray,
    k: int,
    most: int = 50,
) -> tuple[np.ndarray, list[str]]:
    """What the vote of the k nearest says of each category: (C, C) counts, own category by row.

    The `most` categories with the most queries, by name; of more than that, the rest is left out,
    in rows and columns.
    """
    codes, index_codes = _codes(query_labels, index_labels)
    voted = metrics.knn_vote(np.where(scores.neighbours >= 0, index_codes[scores.neighbours], NO_LABEL), k)
    shown, first, counts = np.unique(codes, return_index=True, return_counts=True)
    largest = np.sort(np.argsort(-counts, kind="stable")[:most])  # codes are in the order of the names
    shown, first = shown[largest], first[largest]
    place = np.full(max(codes.max(), index_codes.max()) + 2, -1)  # its last place is NO_LABEL's
    place[shown] = np.arange(len(shown))
    both = (place[codes] >= 0) & (place[voted] >= 0)
    cells = place[codes][both] * len(shown) + place[voted][both]
    matrix = np.bincount(cells, minlength=len(shown) ** 2).reshape(len(shown), len(shown))
    return matrix, [str(query_labels[i]) for i in first]


def _neighbours(
    query: np.ndarray, index: np.ndarray, k: int, exclude: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """(Q, k) positions and similarities of the nearest, the query item itself left out."""
    exact = ExactIndex(index.shape[1], norm="none")
    exact.add(np.arange(len(index)), index)
    found = exact.search(query, k + (exclude is not None))
    if exclude is None:
        return found.rows, found.scores
    itself = found.rows == np.where(np.asarray(exclude) < 0, -2, exclude)[:, None]
    order = np.argsort(itself, axis=1, kind="stable")[:, :k]  # moves it to the end, out of the k
    return np.take_along_axis(found.rows, order, 1), np.take_along_axis(found.scores, order, 1)


def _per_query(
    labels: np.ndarray, codes: np.ndarray, total: np.ndarray, ks: Sequence[int]
) -> dict[str, np.ndarray]:
    relevant = labels == codes[:, None]
    values: dict[str, np.ndarray] = {}
    for k in sorted(set(ks)):
        values[f"precision_at_{k}"] = metrics.precision_at_k(relevant, k)
        values[f"hit_at_{k}"] = metrics.hit_at_k(relevant, k)
        values[f"recall_at_{k}"] = metrics.recall_at_k(relevant, k, total)
        values[f"map_at_{k}"] = metrics.average_precision_at_k(relevant, k, total)
        values[f"ndcg_at_{k}"] = metrics.ndcg_at_k(relevant, k, total)
        values[f"knn_accuracy_at_{k}"] = metrics.knn_accuracy(labels, codes, k)
    values["mrr"] = metrics.reciprocal_rank(relevant)
    return values


def _codes(
    query_labels: Sequence[str] | np.ndarray, index_labels: Sequence[str] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both as whole numbers from 0, equal where the labels are."""
    both = np.concatenate([np.asarray(query_labels), np.asarray(index_labels)])
    codes = np.unique(both, return_inverse=True)[1].astype(np.int64)
    return codes[: len(query_labels)], codes[len(query_labels) :]
