"""Item embeddings → the nearest item rows: `build`, `open_index`, and `recall`, which checks them.

`exact` is the reference; `faiss` is approximate (IVF-Flat). Both keep to `Index`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from etalage.config import IndexConfig
from etalage.errors import IndexMismatch
from etalage.index.contract import Found, Header, Index, Norm

__all__ = ["EXACT_UP_TO", "Found", "Index", "RecallRow", "build", "open_index", "probing_queries", "recall"]

EXACT_UP_TO = 20_000
"""Items up to which `auto` means exact: a whole scan takes about as long as the approximation."""
RETRAIN_AT = 4
"""Centroids are kept until the index has grown (or shrunk) by this factor since their training."""
TIE = 1e-6
"""An approximate answer this near to the exact k-th score counts as found."""


def build(
    rows: np.ndarray,
    embeddings: np.ndarray,
    config: IndexConfig,
    like: Index | None = None,
    *,
    seed: int = 0,
    norm: Norm = "l2",
    model_hash: str = "",
) -> Index:
    """An index of (N,) unique item_rows and their (N, D) float32 embeddings.

    `like`: reuse this index's centroids where they still fit. `model_hash`: of the model that made
    the embeddings; kept, and checked by open_index. Raises IndexMismatch as Index.add does.
    """
    kind = config.kind
    if kind == "auto":
        kind = "exact" if len(rows) <= EXACT_UP_TO else "ivf_flat"
    if kind == "exact":
        from etalage.index.exact import ExactIndex

        exact = ExactIndex(np.shape(embeddings)[1], norm=norm, model_hash=model_hash)
        exact.add(rows, embeddings)
        return exact
    from etalage.index.faiss import IvfFlatIndex

    keep = None
    if isinstance(like, IvfFlatIndex) and like.norm == norm:
        grown = max(len(rows), 1) / max(like.trained_on, 1)
        if 1 / RETRAIN_AT < grown < RETRAIN_AT and config.lists in (None, like.lists):
            keep = like
    return IvfFlatIndex.build(
        rows, embeddings, config.lists, config.probes, seed, norm=norm, model_hash=model_hash, like=keep
    )


def open_index(
    folder: Path, threads: int = 1, *, model_hash: str | None = None, dimension: int | None = None
) -> Index:
    """Open what `save` wrote. `threads`: for faiss, process-wide.

    Raises IndexMismatch: the files are not what `index.json` says, or the index was made for another
    model (`model_hash`) or for embeddings of another size (`dimension`) than the caller's.
    """
    folder = Path(folder)
    header = Header.read(folder)
    if model_hash is not None and header.model_hash != model_hash:
        raise IndexMismatch(
            f"{folder}: made from the embeddings of model {header.model_hash[:12] or '(not recorded)'}, "
            f"not of {model_hash[:12]}; publish again"
        )
    if dimension is not None and header.dimension != dimension:
        raise IndexMismatch(
            f"{folder}: holds embeddings of {header.dimension} numbers, the model makes {dimension}; "
            "publish again"
        )
    if header.kind == "exact":
        from etalage.index.exact import ExactIndex

        return ExactIndex.open(folder, threads)
    if header.kind == "ivf_flat":
        from etalage.index.faiss import IvfFlatIndex

        return IvfFlatIndex.open(folder, threads)
    raise IndexMismatch(f"{folder}: index of kind {header.kind!r}, which this version cannot open")


@dataclass(frozen=True)
class RecallRow:
    """Recall of an index against the exact one with a random `share` of the items allowed (None: all)."""

    share: float | None
    k: int
    recall: float
    queries: int


def recall(
    index: Index,
    exact: Index,
    queries: np.ndarray,
    k: int,
    shares: Sequence[float | None] = (None, 0.5, 0.05, 0.01),
    seed: int = 0,
) -> list[RecallRow]:
    """Recall@k of `index` against `exact` on (B, D) queries, for each share of allowed items.

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
    truth = exact.search(queries, k, allow)
    answer = index.search(queries, k, allow)
    there = (truth.rows >= 0).sum(axis=1)
    if there.sum() == 0:
        return 1.0
    lowest = np.where(truth.rows >= 0, truth.scores, np.inf).min(axis=1)
    good = (answer.rows >= 0) & (answer.scores >= lowest[:, None] - TIE)
    return float((np.minimum(good.sum(axis=1), there)).sum() / there.sum())
