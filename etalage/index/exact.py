"""The reference index: every score is computed. What is approximate is measured against it."""

from pathlib import Path

import numpy as np

from etalage.errors import IndexMismatch
from etalage.index.contract import (
    Found,
    Header,
    Norm,
    allowed_positions,
    check_values,
    checked_items,
    checked_queries,
    refuse_known,
)

SCORES_AT_ONCE = 8 * 2**20
"""Scores in memory at a time: 32 MiB, whatever the number of queries and items."""


class ExactIndex:
    """All items in one (N, D) float32 matrix, in ascending order of row.

    The candidates come from a blocked matrix product; those within its rounding error of the k-th
    are scored again in float64, so that equal embeddings score equally, and single and batch
    searches answer alike. An opened index maps its file: workers share one copy of it.
    Searches use as many threads as numpy's BLAS is given (OPENBLAS_NUM_THREADS).
    """

    kind = "exact"
    filters_itself = False

    def __init__(self, dimension: int, *, norm: Norm = "l2", model_hash: str = "") -> None:
        self.dimension = dimension
        self.norm: Norm = norm
        self.model_hash = model_hash
        self._rows = np.empty(0, np.int64)
        self._embeddings = np.empty((0, dimension), np.float32)
        self._longest = 0.0

    @classmethod
    def over(cls, rows: np.ndarray, embeddings: np.ndarray, *, norm: Norm = "l2") -> "ExactIndex":
        """Of checked (N,) ascending rows and (N, D) float32 embeddings, which it shares: to measure an index
        of the same rows against. Nothing is to be added to it, or written to them."""
        index = cls(np.shape(embeddings)[1], norm=norm)
        index._rows, index._embeddings = rows, embeddings
        index._measure()
        return index

    @property
    def is_exact(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> np.ndarray:
        """(N,) int64, ascending: the item_rows in the index."""
        return self._rows

    def add(self, rows: np.ndarray, embeddings: np.ndarray) -> None:
        """See Index.add. Copies the matrix: add in batches."""
        rows, embeddings = checked_items(rows, embeddings, self.dimension, self.norm)
        refuse_known(rows, self._rows)
        if len(self) == 0:
            self._rows, self._embeddings = rows.copy(), embeddings.copy()
        else:
            at = np.searchsorted(self._rows, rows)
            self._rows = np.insert(self._rows, at, rows)
            self._embeddings = np.insert(self._embeddings, at, embeddings, axis=0)
        self._measure()

    def remove(self, rows: np.ndarray) -> int:
        """See Index.remove. Copies the matrix: remove in batches."""
        gone = np.isin(self._rows, np.asarray(rows))
        if gone.any():
            self._rows, self._embeddings = self._rows[~gone], self._embeddings[~gone]
        return int(gone.sum())

    def reset(self) -> None:
        """See Index.reset."""
        self.remove(self._rows)

    def search(self, queries: np.ndarray, k: int, allow: np.ndarray | None = None) -> Found:
        """See Index.search."""
        queries = checked_queries(queries, self.dimension, k, allow)
        places = None if allow is None else allowed_positions(self._rows, allow)
        total = len(self) if places is None else len(places)
        found = Found.nothing(len(queries), k)
        if total == 0:
            return found
        wide = min(total, 2**15) if len(queries) > 64 else total
        step = max(1, min(len(queries), 256, SCORES_AT_ONCE // wide))
        for start in range(0, len(queries), step):
            block = queries[start : start + step]
            scores, positions = self._best(block, min(k, total), places, total)
            found.scores[start : start + step, : scores.shape[1]] = scores
            found.rows[start : start + step, : scores.shape[1]] = self._rows[positions]
        return found

    def save(self, folder: Path) -> None:
        """Write `index.json`, `rows.npy` and `embeddings.npy`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "rows.npy", self._rows, allow_pickle=False)
        np.save(folder / "embeddings.npy", self._embeddings, allow_pickle=False)
        Header(self.kind, self.dimension, len(self), self.norm, model_hash=self.model_hash).write(folder)

    @classmethod
    def open(cls, folder: Path, threads: int = 1) -> "ExactIndex":
        """Map the index in `folder`. `threads` has no effect here: see the class.

        Raises IndexMismatch: the files are not what `index.json` says.
        """
        folder = Path(folder)
        header = Header.read(folder)
        index = cls(header.dimension, norm=header.norm, model_hash=header.model_hash)
        index._rows = _array(folder / "rows.npy", np.dtype(np.int64), (header.rows,))
        index._embeddings = _array(
            folder / "embeddings.npy", np.dtype(np.float32), (header.rows, header.dimension), mapped=True
        )
        if np.any(index._rows[1:] <= index._rows[:-1]) or (len(index) and index._rows[0] < 0):
            raise IndexMismatch(f"{folder / 'rows.npy'}: rows are not ascending; publish again")
        check_values(index._rows, index._embeddings, index.norm)
        index._measure()
        return index

    def _measure(self) -> None:
        """The length of the longest embedding, which bounds the rounding error of a score."""
        self._longest = 0.0
        for start in range(0, len(self), 65536):
            block = self._embeddings[start : start + 65536]
            self._longest = max(self._longest, float(np.einsum("nd,nd->n", block, block).max()) ** 0.5)

    def _best(
        self, queries: np.ndarray, k: int, places: np.ndarray | None, total: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(B, k) scores and positions of the best of `places` (all when None), k ≤ their number."""
        lengths = np.sqrt(np.einsum("qd,qd->q", queries, queries))
        # Twice the worst error of a float32 inner product: |error| ≤ D · 2⁻²⁴ · |q| · |x|.
        margin = np.float32(2.1 * self.dimension * 2.0**-24 * self._longest) * lengths + np.float32(1e-37)
        best: tuple[np.ndarray, ...] = np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64)
        floor = np.full(len(queries), -np.inf, np.float32)  # the k-th best score so far, or less
        width = max(k, SCORES_AT_ONCE // len(queries))
        for start in range(0, total, width):
            stop = min(total, start + width)
            scores, at = self._scores(queries, places, start, stop)
            floor = np.maximum(floor, _kth_at_least(scores, k) - margin)
            query, place = np.divmod(np.flatnonzero(scores >= floor[:, None]), scores.shape[1])
            if len(query) > 4 * k * len(queries):  # drop what the coarse bound of the floor let through
                query, place = _prune(scores, query, place, k, margin)
            positions = at[place] if at is not None else place + start
            fresh = self._score_again(queries, query, positions), query, positions
            best = _keep(k, *(np.concatenate((best[i], fresh[i])) for i in range(3)))
            if stop < total and len(best[0]) == k * len(queries):
                floor = np.maximum(floor, best[0].reshape(-1, k)[:, -1] - margin)
        return best[0].reshape(-1, k), best[2].reshape(-1, k)

    def _scores(
        self, queries: np.ndarray, places: np.ndarray | None, start: int, stop: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """(B, W) raw scores of candidates start…stop, and their positions (None: start…stop itself)."""
        if places is None:
            return queries @ self._embeddings[start:stop].T, None
        at = places[start:stop]
        first, last = int(at[0]), int(at[-1]) + 1
        if last - first == len(at):
            return queries @ self._embeddings[first:last].T, at
        if len(queries) <= 4 and last - first <= 8 * len(at):  # reading all is faster than picking
            return (queries @ self._embeddings[first:last].T)[:, at - first], at
        return queries @ self._embeddings[at].T, at

    def _score_again(self, queries: np.ndarray, query: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """(C,) float32 inner products, summed in float64: the same for equal embeddings."""
        scores = np.empty(len(query), np.float32)
        step = max(1, 2**22 // self.dimension)
        for start in range(0, len(query), step):
            part = slice(start, start + step)
            products = queries[query[part]].astype(np.float64) * self._embeddings[positions[part]]
            scores[part] = products.sum(axis=1)
        return scores


def _kth_at_least(scores: np.ndarray, k: int) -> np.ndarray:
    """(B,) a value that at least k of each row of (B, W) reach; -inf when W < k.

    The k-th largest of the maxima of many groups is such a value, and far cheaper than a partition
    of the whole row.
    """
    queries, width = scores.shape
    if width < k:
        return np.full(queries, -np.inf, np.float32)
    groups = max(512, 8 * k)
    per_group = width // groups
    if per_group >= 4:
        even = scores[:, : groups * per_group].reshape(queries, per_group, groups)
        scores = even.max(axis=1)
    return np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k]


def _prune(
    scores: np.ndarray, query: np.ndarray, place: np.ndarray, k: int, margin: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of candidates sorted by query, those that reach their query's k-th best less the margin."""
    value = scores[query, place]
    order = np.lexsort((-value, query))
    starts = np.searchsorted(query, np.arange(len(margin)))
    counts = np.diff(np.append(starts, len(query)))
    kth = np.minimum(starts + np.minimum(k, counts) - 1, len(query) - 1)
    keep = value >= (value[order[kth]] - margin)[query]
    return query[keep], place[keep]


def _keep(
    k: int, scores: np.ndarray, query: np.ndarray, positions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k best of each query: by query, then score (higher first), then position (lower first)."""
    order = np.lexsort((positions, -scores, query))
    sorted_query = query[order]
    rank = np.arange(len(order)) - np.searchsorted(sorted_query, sorted_query)
    order = order[rank < k]
    return scores[order], query[order], positions[order]


def _array(file: Path, dtype: np.dtype, shape: tuple[int, ...], mapped: bool = False) -> np.ndarray:
    try:
        # An empty file cannot be mapped.
        mode = "r" if mapped and shape[0] else None
        array: np.ndarray = np.load(file, mmap_mode=mode, allow_pickle=False)  # type: ignore[arg-type]
    except (OSError, ValueError, EOFError) as error:
        raise IndexMismatch(f"{file}: cannot be read ({error}); publish again") from error
    if array.dtype != dtype or array.shape != shape:
        raise IndexMismatch(
            f"{file}: {array.dtype} {array.shape}, but index.json says {dtype} {shape}; publish again"
        )
    return np.asarray(array)
