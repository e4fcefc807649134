"""IVF-Flat: items in lists around trained centroids; a search reads the lists near the query.

Source of the structure: Jégou, Douze, Schmid, "Product quantization for nearest neighbor search"
(2011), in faiss' IndexIVFFlat; here with inner products and with filters inside the search.
"""

from math import ceil, sqrt
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from etalage.errors import IndexMismatch
from etalage.features.array_blocks import ArrayLoop, Arrays
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
from etalage.index.exact import ExactIndex
from etalage.index.recall_at_k import probing_queries, share_found


class _Selector:
    """An allow-mask in faiss' form; keeps the bits alive as long as faiss looks at them."""

    def __init__(self, allow: np.ndarray) -> None:
        self._bits = np.packbits(allow, bitorder="little")
        self.inner = faiss.IDSelectorBitmap(len(self._bits), faiss.swig_ptr(self._bits))


def _train_centroids(embeddings: np.ndarray, lists: int, seed: int) -> np.ndarray:
    """(lists, D) float32 centroids of unit length, by k-means on inner products."""
    count, dimension = embeddings.shape
    if count == 0:
        return np.zeros((lists, dimension), np.float32)
    if lists == 1:
        return embeddings[:1].copy()
    settings = faiss.ClusteringParameters()
    settings.spherical = True
    settings.seed = seed
    settings.niter = 10
    settings.min_points_per_centroid = 1  # the caller decides; faiss would print a warning
    settings.max_points_per_centroid = 64
    training = faiss.Clustering(dimension, lists, settings)
    training.train(embeddings, faiss.IndexFlatIP(dimension))
    return np.asarray(faiss.vector_to_array(training.centroids)).reshape(lists, dimension)


def _read_inner(file: Path, header: Header) -> Any:
    """faiss' own index in `file`. Raises IndexMismatch: unreadable, or not what the header says."""
    try:
        inner: Any = faiss.read_index(str(file))  # comes back as its own class
    except (RuntimeError, MemoryError) as error:  # faiss raises these two for whatever it cannot read
        reason = str(error).splitlines()[-1] if str(error) else "out of memory"
        raise IndexMismatch(f"{file}: cannot be read ({reason}); publish again") from error
    is_ours = isinstance(inner, faiss.IndexIVFFlat) and inner.metric_type == faiss.METRIC_INNER_PRODUCT
    if not is_ours or not isinstance(faiss.downcast_index(inner.quantizer), faiss.IndexFlat):
        raise IndexMismatch(f"{file}: not an IVF-Flat index of inner products; publish again")
    real = {"dimension": inner.d, "rows": inner.ntotal, "lists": inner.nlist}
    for name, value in real.items():
        if getattr(header, name) != value:
            raise IndexMismatch(
                f"{file}: {name} is {value}, but index.json says {getattr(header, name)}; publish again"
            )
    if inner.quantizer.ntotal != inner.nlist or inner.quantizer.d != inner.d:
        raise IndexMismatch(f"{file}: its centroids do not fit its lists; publish again")
    return inner


def _list_content(inner: Any, number: int) -> tuple[np.ndarray, np.ndarray]:
    """(M,) rows and (M, D) embeddings of one list, copied."""
    size = inner.invlists.list_size(number)
    if size == 0:
        return np.empty(0, np.int64), np.empty((0, inner.d), np.float32)
    ids = faiss.rev_swig_ptr(inner.invlists.get_ids(number), size).copy()
    codes = faiss.rev_swig_ptr(inner.invlists.get_codes(number), size * inner.code_size)
    return ids, codes.view(np.float32).reshape(size, inner.d).copy()


INDEX_FILE = "index.faiss"
BLOCK_ROWS = 2**16
"""Rows whose lists are found together."""
FEW = 4000
"""This few allowed items, where a filter allows no more, are scored one and all."""
CELLS_AT_ONCE = 4 * 2**20
"""Bounds the memory of a batch, in queries × lists or queries × answers."""
POINTS_PER_LIST = 39
"""Fewer training points per centroid make poor lists (faiss' own limit)."""
TARGET_RECALL = 0.99
"""Recall@10 that probes are chosen for; above the gate of publish, which also looks at filters."""


class IvfFlatIndex:
    """Made by `build` or `open`.

    A filter does not thin out what a search sees: lists are read, nearest first, until at least as
    many *allowed* items are scored as an unfiltered search scores; where there are not that many,
    all allowed items are, which is exact. So k items come back whenever k are allowed.

    faiss' thread count is one per process: `open(threads=…)` sets it for every index in it.
    Not safe for `add` or `remove` during a search.
    """

    kind = "ivf_flat"
    filters_itself = False

    def __init__(self, inner: Any, probes: int, *, norm: Norm, model_hash: str, trained_on: int) -> None:
        self._inner = inner
        self.dimension: int = inner.d
        self.lists: int = inner.nlist
        self.probes = min(probes, self.lists)
        self.norm: Norm = norm
        self.model_hash = model_hash
        self.trained_on = trained_on
        self._centroids: np.ndarray = inner.quantizer.reconstruct_n(0, self.lists)
        self._rows = np.empty(0, np.int64)  # ascending
        self._list_of = np.empty(0, np.int32)  # of each of these rows

    @classmethod
    def build(
        cls,
        rows: np.ndarray,
        embeddings: np.ndarray,
        lists: int | None = None,
        probes: int | None = None,
        seed: int = 0,
        *,
        norm: Norm = "l2",
        model_hash: str = "",
        like: "IvfFlatIndex | None" = None,
        blocks: ArrayLoop | None = None,
    ) -> "IvfFlatIndex":
        """Train, fill and tune an index of (N,) rows and (N, D) float32 embeddings.

        `lists` (default 4·√N) is cut so that each has enough training points. `probes` default to
        the fewest that reach TARGET_RECALL on sampled queries. `like`: take its centroids instead
        of training (tuned all the same). `blocks`: where each row's list is found, by blocks of rows; None:
        in this process. Raises IndexMismatch as Index.add does.
        """
        dimension = np.shape(embeddings)[1]
        rows, embeddings = checked_items(rows, embeddings, dimension, norm)
        if like is not None and like.dimension == dimension:
            centroids, trained_on = like._centroids, like.trained_on
        else:
            wanted = lists or ceil(4 * sqrt(len(rows)))
            most = len(rows) if lists else len(rows) // POINTS_PER_LIST
            centroids = _train_centroids(embeddings, max(1, min(wanted, most)), seed)
            trained_on = len(rows)
        quantizer = faiss.IndexFlatIP(dimension)
        quantizer.add(centroids)
        inner: Any = faiss.IndexIVFFlat(quantizer, dimension, len(centroids), faiss.METRIC_INNER_PRODUCT)
        inner.is_trained = True
        index = cls(inner, probes or 1, norm=norm, model_hash=model_hash, trained_on=trained_on)
        index._insert(rows, embeddings, blocks)
        if probes is None:
            index.probes = _tuned_probes(index, rows, embeddings, seed)
        return index

    @property
    def is_exact(self) -> bool:
        return bool(self.probes >= self.lists)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows(self) -> np.ndarray:
        """(N,) int64, ascending: the item_rows in the index."""
        return self._rows

    def add(self, rows: np.ndarray, embeddings: np.ndarray) -> None:
        """See Index.add. The centroids stay as they were trained."""
        rows, embeddings = checked_items(rows, embeddings, self.dimension, self.norm)
        refuse_known(rows, self._rows)
        self._insert(rows, embeddings)

    def remove(self, rows: np.ndarray) -> int:
        """See Index.remove."""
        gone = np.isin(self._rows, np.asarray(rows))
        if gone.any():
            self._inner.remove_ids(faiss.IDSelectorBatch(self._rows[gone]))
            self._rows, self._list_of = self._rows[~gone], self._list_of[~gone]
        return int(gone.sum())

    def reset(self) -> None:
        """See Index.reset."""
        self.remove(self._rows)

    def search(self, queries: np.ndarray, k: int, allow: np.ndarray | None = None) -> Found:
        """See Index.search."""
        queries = checked_queries(queries, self.dimension, k, allow)
        found = Found.nothing(len(queries), k)
        places = None if allow is None else allowed_positions(self._rows, allow)
        total = len(self) if places is None else len(places)
        if total == 0:
            return found
        selector = None if allow is None else _Selector(allow)
        step = max(1, CELLS_AT_ONCE // max(self.lists, k))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            self._search(Found(found.scores[part], found.rows[part]), queries[part], places, total, selector)
        return found

    def save(self, folder: Path) -> None:
        """Write `index.json` and `index.faiss`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        faiss.write_index(self._inner, str(folder / INDEX_FILE))
        Header(
            self.kind,
            self.dimension,
            len(self),
            self.norm,
            model_hash=self.model_hash,
            lists=self.lists,
            probes=self.probes,
            trained_on=self.trained_on,
        ).write(folder)

    @classmethod
    def open(cls, folder: Path, threads: int = 1) -> "IvfFlatIndex":
        """Read the index in `folder`; faiss then runs on `threads` threads in this whole process.

        Raises IndexMismatch: the files are not what `index.json` says.
        """
        folder = Path(folder)
        header = Header.read(folder)
        faiss.omp_set_num_threads(threads)
        inner = _read_inner(folder / INDEX_FILE, header)
        index = cls(
            inner,
            header.probes or 1,
            norm=header.norm,
            model_hash=header.model_hash,
            trained_on=header.trained_on or 0,
        )
        rows, lists = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
        for number in range(inner.nlist):
            ids, embeddings = _list_content(inner, number)
            check_values(ids, embeddings, header.norm)
            rows.append(ids)
            lists.append(np.full(len(ids), number, np.int32))
        all_rows = np.concatenate(rows)
        order = np.argsort(all_rows, kind="stable")
        index._rows, index._list_of = all_rows[order], np.concatenate(lists)[order]
        if np.any(index._rows[1:] == index._rows[:-1]) or (len(index) and index._rows[0] < 0):
            raise IndexMismatch(f"{folder / INDEX_FILE}: rows that are negative or twice; publish again")
        return index

    def _insert(self, rows: np.ndarray, embeddings: np.ndarray, blocks: ArrayLoop | None = None) -> None:
        """Checked items, ascending by row, appended to their lists block by block."""
        spans = [(n, min(n + BLOCK_ROWS, len(rows))) for n in range(0, len(rows), BLOCK_ROWS)]
        lists = [np.empty(0, np.int32)]
        arrays = {"embeddings": embeddings, "centroids": self._centroids}
        costs = [float(last - first) for first, last in spans]
        with (blocks or ArrayLoop()).over(arrays) as over:
            for (first, last), found in zip(spans, over.run(nearest_lists, spans, costs), strict=True):
                some, ids = embeddings[first:last], rows[first:last]
                self._inner.add_core(
                    last - first, faiss.swig_ptr(some), faiss.swig_ptr(ids), faiss.swig_ptr(found)
                )
                lists.append(found.astype(np.int32))
        at = np.searchsorted(self._rows, rows)
        self._rows = np.insert(self._rows, at, rows)
        self._list_of = np.insert(self._list_of, at, np.concatenate(lists))

    def _search(
        self,
        found: Found,
        queries: np.ndarray,
        places: np.ndarray | None,
        total: int,
        selector: _Selector | None,
    ) -> None:
        """Fill `found` with the best of `places` (all when None), which are `total` in number."""
        k = min(found.rows.shape[1], total)
        # As many items as an unfiltered search scores (twice that when filtered: the k best lie farther
        # out), and enough to choose k from.
        usual = ceil(len(self) * self.probes / self.lists)
        plain = places is None and usual > 4 * k and not self.is_exact
        enough = max(usual if places is None else 2 * usual, 4 * k)
        probed = None if plain else self._lists_to_read_inner(queries, places, total, enough)
        self._fill(found, np.arange(len(queries)), queries, k, probed, selector)
        short = np.flatnonzero(found.rows[:, k - 1] < 0)
        if short.size:  # the nearest lists happened to hold fewer than k
            probed = self._lists_to_read_inner(queries[short], places, total, total)
            self._fill(found, short, queries[short], k, probed, selector)

    def _lists_to_read_inner(
        self, queries: np.ndarray, places: np.ndarray | None, total: int, enough: int
    ) -> np.ndarray:
        """(B, P) int64 numbers of the lists to read, padded with -1.

        Nearest first, only those with an allowed item, until `enough` allowed items are in them;
        all of those when no more than `enough` are allowed (for a filter: or no more than FEW).
        """
        lists_of = self._list_of if places is None else self._list_of[places]
        counts = np.bincount(lists_of, minlength=self.lists)
        filled = np.flatnonzero(counts)
        few = enough if places is None else max(enough, FEW)
        if total <= few or self.is_exact:
            return np.broadcast_to(filled, (len(queries), len(filled)))
        nearness = queries @ self._centroids[filled].T
        order = np.argsort(-nearness, axis=1, kind="stable")
        seen = np.cumsum(counts[filled][order], axis=1)
        needed = (seen < enough).sum(axis=1) + 1  # of lists, for each query
        numbers = filled[order[:, : needed.max()]]
        numbers[np.arange(numbers.shape[1])[None, :] >= needed[:, None]] = -1
        return numbers

    def _fill(
        self,
        found: Found,
        into: np.ndarray,
        queries: np.ndarray,
        k: int,
        probed: np.ndarray | None,
        selector: _Selector | None,
        extra: int = 1,
    ) -> None:
        """Search and write the first k columns of the rows `into` of `found`.

        `extra` more than k are asked for: when the last of them ties with the k-th, the tie may go
        on, and more are asked for until it ends, so that the lowest rows win.
        """
        wanted = min(k + extra, len(self))
        scores, rows = self._read_lists(queries, wanted, probed, selector)
        order = np.lexsort((rows, -scores))  # unfilled places have score -inf: they stay last
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
        found.scores[into, :k], found.rows[into, :k] = scores[:, :k], rows[:, :k]
        if wanted == len(self):
            return
        tied = np.flatnonzero((scores[:, k - 1] == scores[:, -1]) & (rows[:, -1] >= 0))
        step = max(1, CELLS_AT_ONCE // (8 * (k + extra)))
        for start in range(0, len(tied), step):
            part = tied[start : start + step]
            fewer = None if probed is None else probed[part]
            self._fill(found, into[part], queries[part], k, fewer, selector, 8 * (k + extra))

    def _read_lists(
        self, queries: np.ndarray, k: int, probed: np.ndarray | None, selector: _Selector | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """faiss' answer, from the lists `probed` (when None: the nearest ones)."""
        scores = np.full((len(queries), k), -np.inf, np.float32)
        rows = np.full((len(queries), k), -1, np.int64)
        parameters: Any = faiss.SearchParametersIVF()
        if selector is not None:
            parameters.sel = selector.inner
        if probed is None:
            parameters.nprobe = self.probes
            self._inner.search(queries, k, params=parameters, D=scores, I=rows)
        else:
            parameters.nprobe = probed.shape[1]
            probed = np.ascontiguousarray(probed, np.int64)
            unused = np.zeros(probed.shape, np.float32)  # IVF-Flat does not use the coarse scores
            arrays = [faiss.swig_ptr(a) for a in (queries, probed, unused, scores, rows)]
            query, lists, coarse, out, ids = arrays
            self._inner.search_preassigned_c(
                len(queries), query, k, lists, coarse, out, ids, False, parameters
            )
        scores[rows < 0] = -np.inf
        return scores, rows


def nearest_lists(arrays: Arrays, block: tuple[int, int]) -> np.ndarray:
    """(R,) int64: the list of each of the rows first … last of `embeddings`, by `centroids`."""
    first, last = block
    quantizer = faiss.IndexFlatIP(arrays["centroids"].shape[1])
    quantizer.add(np.ascontiguousarray(arrays["centroids"]))
    found = quantizer.search(np.ascontiguousarray(arrays["embeddings"][first:last]), 1)[1]
    return np.ascontiguousarray(found[:, 0])


def _tuned_probes(index: IvfFlatIndex, rows: np.ndarray, embeddings: np.ndarray, seed: int) -> int:
    """The fewest probes (to within a quarter) with TARGET_RECALL of recall@10.

    The queries are those of recall_at_k.probing_queries.
    """
    if len(rows) == 0:
        return index.lists
    queries = probing_queries(embeddings, 256, seed)
    truth = ExactIndex.over(rows, embeddings, norm=index.norm).search(queries, 10)
    probes = 1
    while probes < index.lists:
        index.probes = probes
        if share_found(truth, index.search(queries, 10)) >= TARGET_RECALL:
            return probes
        probes = ceil(probes * 1.25) if probes > 3 else probes + 1
    return index.lists
