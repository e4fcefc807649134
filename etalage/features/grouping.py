"""Which photos show the same thing: groups that a split must not tear apart.

An accuracy measured on photos whose near-duplicates were learned from says how well a model remembers. Photos
are joined by the same product key (a GTIN: the same product at another merchant), by perceptual hashes that
differ in a few bits, by embeddings that point the same way, or because they are one burst of one camera; a
group is what is connected by any of these. Where a class is one product, its photos all share that product:
there the burst is the group, and no product key is given.

    N photos   D embedding dimension   E joined pairs   d hash distance in bits
"""

import re
from collections.abc import Hashable, Iterator, Sequence
from itertools import pairwise

import numpy as np

FEWEST_BITS = 6
"""A hash with fewer bits set, or cleared, is of a blank photo, or of none: it joins nothing."""
HASH_BITS = 64
_CELLS = 2**22
"""Pairs compared at once: some tens of megabytes, whatever N is."""
_NUMBER = re.compile(r"^(.*?)(\d+)\D*$", re.DOTALL)


class Groups:
    """What is connected so far, by the smallest row of each group; pairs are taken in bulk."""

    def __init__(self, count: int) -> None:
        self._first_N = np.arange(count)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._pairs = 0

    def join(self, a_E: np.ndarray, b_E: np.ndarray) -> None:
        """Rows a_E[i] and b_E[i] belong together."""
        apart = self._first_N[a_E] != self._first_N[b_E]  # most pairs of a dense group are old news
        if apart.any():
            self._waiting.append((a_E[apart], b_E[apart]))
            self._pairs += int(apart.sum())
        if self._pairs > _CELLS:
            self._merge_waiting()

    def numbers(self) -> np.ndarray:
        """(N,) int64 from 0, in the order of each group's first row."""
        self._merge_waiting()
        numbers: np.ndarray = np.unique(self._first_N, return_inverse=True)[1].astype(np.int64)
        return numbers

    def _merge_waiting(self) -> None:
        if not self._waiting:
            return
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        count = len(self._first_N)
        a = np.concatenate([np.arange(count), *(pair[0] for pair in self._waiting)])
        b = np.concatenate([self._first_N, *(pair[1] for pair in self._waiting)])
        joined = coo_matrix((np.ones(len(a), np.int8), (a, b)), shape=(count, count))
        component_N = connected_components(joined, directed=False)[1]
        first = np.full(component_N.max() + 1, count)
        np.minimum.at(first, component_N, np.arange(count))
        self._first_N = first[component_N]
        self._waiting, self._pairs = [], 0


def group(
    keys: Sequence[str | None],
    phashes_N: np.ndarray,
    embeddings_ND: np.ndarray | None = None,
    bursts: Sequence[str | None] | None = None,
    *,
    phash_distance: int,
    similarity: float,
) -> np.ndarray:
    """(N,) int64 group numbers, from 0 in the order of each group's first row.

    keys: of the product; None joins nothing. phashes_N: int64, 64 bits (lake/photo_facts.py); 0 where there
    is no photo. embeddings_ND: of any length; zeros join nothing. bursts: see `bursts`.
    phash_distance: bits by which two hashes may differ, 0 … 31. similarity: least cosine, over 0 to 1.

    Which rows are together does not depend on their order. Raises ValueError: shapes, or limits out of range.
    """
    count = len(keys)
    if np.shape(phashes_N) != (count,) or (bursts is not None and len(bursts) != count):
        raise ValueError(
            f"{count} keys, hashes {np.shape(phashes_N)}, {len(bursts or ())} bursts: not one each"
        )
    groups = Groups(count)
    for names in (keys, bursts or ()):
        groups.join(*equal(names))
    for a_E, b_E in near_hashes(phashes_N, phash_distance):
        groups.join(a_E, b_E)
    if embeddings_ND is not None:
        if len(embeddings_ND) != count:
            raise ValueError(f"{count} keys, but embeddings of {len(embeddings_ND)} photos")
        for a_E, b_E in near_embeddings(embeddings_ND, similarity):
            groups.join(a_E, b_E)
    return groups.numbers()


def bursts(
    names: Sequence[str],
    classes: Sequence[Hashable],
    embeddings_ND: np.ndarray,
    similarity: float,
    reach: int | None = 1,
) -> list[str | None]:
    """(N,) key of the burst that each photo belongs to, None for a photo that is alone.

    Photos of one class and one series (a name up to its last number: `IMG_0041.jpg` is number 41 of `IMG_`)
    whose numbers are at most `reach` apart, with a cosine from `similarity` on, are one burst, and so are all
    that such pairs connect. reach = None: any two of a class may be, for files whose numbers say nothing any
    more (shuffled, or hashes). A photo of class None is alone. A key is the name of the burst's first photo,
    with its class.
    Raises ValueError: not one class and one embedding a name, or limits out of range.
    """
    if not len(names) == len(classes) == len(embeddings_ND) or (reach is not None and reach < 1):
        raise ValueError(
            f"{len(names)} names, {len(classes)} classes, {len(embeddings_ND)} embeddings, reach {reach}"
        )
    series: dict[Hashable, list[tuple[int, int]]] = {}
    for row, (name, kind) in enumerate(zip(names, classes, strict=True)):
        numbered = _NUMBER.match(name)
        if kind is None:
            continue
        if reach is None:
            series.setdefault((kind,), []).append((row, row))
        elif numbered:
            series.setdefault((kind, numbered[1]), []).append((int(numbered[2]), row))
    groups = Groups(len(names))
    for members in series.values():
        numbers, rows = np.array(sorted(members)).T
        for a_E, b_E in near_embeddings(np.asarray(embeddings_ND)[rows], similarity):
            near = slice(None) if reach is None else np.abs(numbers[a_E] - numbers[b_E]) <= reach
            groups.join(rows[a_E][near], rows[b_E][near])
    number_N = groups.numbers()
    size = np.bincount(number_N)
    first: dict[int, str] = {}
    for number, name, kind in zip(number_N.tolist(), names, classes, strict=True):
        first[number] = min(first.get(number, f"{kind}\0{name}"), f"{kind}\0{name}")
    return [first[number] if size[number] > 1 else None for number in number_N.tolist()]


def degenerate(phashes_N: np.ndarray) -> np.ndarray:
    """(N,) bool: hashes of so few bits that blank photos of any two products would share them."""
    set_bits = np.bitwise_count(unsigned(phashes_N))
    return np.asarray((set_bits < FEWEST_BITS) | (set_bits > HASH_BITS - FEWEST_BITS))


def near_hashes(phashes_N: np.ndarray, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of rows that connect all whose hashes differ in at most `distance` bits, in bulk.

    Of rows with one hash only the first is paired with the others. Degenerate hashes are in no pair.
    Raises ValueError: distance not from 0 to 31.
    """
    rows = np.flatnonzero(~degenerate(phashes_N))
    hashes_U, first, place = np.unique(unsigned(phashes_N)[rows], return_index=True, return_inverse=True)
    yield rows[first][place], rows
    for a_E, b_E in near_unique(hashes_U, distance):
        yield rows[first[a_E]], rows[first[b_E]]


def near_unique(hashes_U: np.ndarray, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of places of (U,) uint64 hashes, no two the same, that differ in at most `distance` bits.

    A pair may come more than once. By the pigeonhole principle (M. Norouzi, A. Punjani, D. Fleet, Fast Search
    in Hamming Space with Multi-Index Hashing, CVPR 2012): of d + 1 bands of bits, one at least is equal in
    both. Each band is sorted, and neighbours in a run of equal bands are compared: about
    (d + 1) · U² / 2^(1 + 64 / (d + 1)) comparisons where bits are spread evenly, (d + 1) · U² / 2 at worst;
    O(U) memory. Raises ValueError: distance not from 0 to 31.
    """
    if not 0 <= distance < HASH_BITS // 2:
        raise ValueError(f"phash_distance = {distance}: from 0 to {HASH_BITS // 2 - 1}")
    edges = np.linspace(0, HASH_BITS, distance + 2).astype(int).tolist()
    for low, high in pairwise(edges) if distance else ():
        band = (hashes_U >> np.uint64(low)) & np.uint64(2 ** (high - low) - 1)
        order = np.argsort(band, kind="stable")
        ordered, band = hashes_U[order], band[order]
        ends = np.searchsorted(band, band, side="right")
        at, shift = np.arange(len(hashes_U)), 1
        while len(at := at[at + shift < ends[at]]):
            near = at[np.bitwise_count(ordered[at] ^ ordered[at + shift]) <= distance]
            if len(near):
                yield order[near], order[near + shift]
            shift += 1


def near_embeddings(embeddings_ND: np.ndarray, similarity: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of rows whose cosine is at least `similarity`, in bulk: a blocked product of all with all.

    N² · D multiply-adds over 2, in float32, and O(N · D) memory: 100,000 × 128 takes half a minute on a core,
    100,000 × 1,280 minutes. Raises ValueError: similarity not over 0 and up to 1, or values not finite.
    """
    if not 0 < similarity <= 1:
        raise ValueError(f"similarity = {similarity}: over 0, up to 1")
    units = np.array(embeddings_ND, np.float32, ndmin=2)
    if not np.isfinite(units).all():
        raise ValueError("an embedding is not finite")
    lengths = np.linalg.norm(units, axis=1, keepdims=True)
    units /= np.where(lengths > 0, lengths, 1)
    count = len(units)
    step = max(1, min(4096, _CELLS // max(1, count)))
    # float32 products of equal rows fall short of 1 by a few roundings.
    least = min(similarity, 1 - 1e-5)
    for start in range(0, count, step):
        near = units[start : start + step] @ units[start:].T >= least
        a_E, b_E = np.nonzero(near)
        later = b_E > a_E
        yield a_E[later] + start, b_E[later] + start


def equal(names: Sequence[Hashable | None]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a row and the first row of the same name; None is the same as nothing."""
    first: dict[Hashable, int] = {}
    pairs = [(first.setdefault(name, row), row) for row, name in enumerate(names) if name is not None]
    a_E, b_E = np.array(pairs, np.int64).reshape(-1, 2).T
    return a_E, b_E


def unsigned(phashes_N: np.ndarray) -> np.ndarray:
    """The signed hashes of the tables as (N,) uint64 bits."""
    return np.ascontiguousarray(phashes_N, dtype=np.int64).view(np.uint64)
