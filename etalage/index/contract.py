"""The contract of every index: its methods, its answer, its checks, and the header of its folder."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

from etalage.errors import IndexMismatch

HEADER_FILE = "index.json"
NORM_TOLERANCE = 1e-3
"""How far the length of a float32 embedding may be from 1 under norm `l2`."""

Norm = Literal["l2", "none"]


class Found(NamedTuple):
    """The answer to B queries: best first; of equal scores, the lower row first.

    `scores` (B, k) float32 inner products; `rows` (B, k) int64 item_rows. If fewer than k items are allowed,
    the remaining places are -inf and -1.
    """

    scores: np.ndarray
    rows: np.ndarray

    @classmethod
    def nothing(cls, queries: int, k: int) -> "Found":
        return cls(np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64))


class Index(Protocol):
    """Finds the nearest item rows for embeddings. The score is the inner product; higher is better."""

    dimension: int
    norm: Norm
    model_hash: str

    @property
    def is_exact(self) -> bool: ...

    @property
    def rows(self) -> np.ndarray:
        """(N,) int64, ascending: the item_rows in the index."""

    filters_itself: bool
    """Whether it is best asked with the mask, however much that allows: it knows the mask's conditions."""

    def __len__(self) -> int: ...

    def add(self, rows: np.ndarray, embeddings: np.ndarray) -> None:
        """Add (N,) unique non-negative int64 item_rows with their (N, D) float32 embeddings.

        Raises IndexMismatch, which names the row, and adds nothing: a row is in the index already or given
        twice, a dimension is wrong, a value is not finite, or a length violates the norm.
        """

    def remove(self, rows: np.ndarray) -> int:
        """Remove these item_rows and ignore unknown ones. Return how many were removed."""

    def reset(self) -> None:
        """Remove every row; keep what was trained (centroids)."""

    def search(self, queries: np.ndarray, k: int, allow: np.ndarray | None = None) -> Found:
        """The k best allowed items for each of (B, D) float32 queries.

        `allow` is a bool mask indexed by item_row; rows beyond its end are not allowed. A `conditions.Mask`
        also says what it was made from. Raises IndexMismatch: a query has the wrong dimension, or a value
        that is not finite; IndexUnavailable: the index is on a server, and that does not answer.
        """

    def save(self, folder: Path) -> None:
        """Write the index into `folder` (made if missing): `index.json` and its array files."""


@dataclass(frozen=True)
class Header:
    """`index.json`: describes the array files beside it."""

    kind: str
    dimension: int
    rows: int
    norm: Norm
    dtype: str = "float32"
    model_hash: str = ""
    lists: int | None = None
    probes: int | None = None
    trained_on: int | None = None

    def write(self, folder: Path) -> None:
        text = json.dumps(asdict(self), indent=1, sort_keys=True)
        (folder / HEADER_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> "Header":
        """Read the header. Raises IndexMismatch: no header, not JSON, a field is missing, unknown or
        impossible."""
        file = Path(folder) / HEADER_FILE
        try:
            raw = json.loads(file.read_text(encoding="utf-8"))
            header = cls(**raw)
        except (OSError, ValueError, TypeError) as error:
            raise IndexMismatch(f"{file}: not an index header ({error}); publish again") from error
        header._check(file)
        return header

    def _check(self, file: Path) -> None:
        counts = {"dimension": 1, "rows": 0, "lists": 1, "probes": 1, "trained_on": 0}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in counts:
                missing = value is None and field.default is None
                whole = isinstance(value, int) and not isinstance(value, bool)
                ok = missing or (whole and value >= counts[field.name])
            else:
                ok = isinstance(value, str)
            if not ok:
                raise IndexMismatch(f"{file}: {field.name} = {value!r} cannot be; publish again")
        if self.dtype != "float32" or self.norm not in ("l2", "none"):
            raise IndexMismatch(
                f"{file}: dtype {self.dtype!r}, norm {self.norm!r}: this version of Etalage opens "
                "float32 with norm 'l2' or 'none'; publish again"
            )


def checked_items(
    rows: np.ndarray, embeddings: np.ndarray, dimension: int, norm: Norm
) -> tuple[np.ndarray, np.ndarray]:
    """Check rows and embeddings, and return them in ascending order of row.

    Raises IndexMismatch, which names the first wrong row.
    """
    rows = np.asarray(rows)
    embeddings = np.asarray(embeddings)
    if rows.ndim != 1 or (rows.size and not np.issubdtype(rows.dtype, np.integer)):
        raise IndexMismatch(f"rows must be whole numbers of shape (N,), not {rows.dtype} {rows.shape}")
    if embeddings.ndim != 2 or len(embeddings) != len(rows):
        raise IndexMismatch(f"embeddings of shape {embeddings.shape} for {len(rows)} rows")
    if embeddings.shape[1] != dimension and len(rows):
        raise IndexMismatch(
            f"row {rows[0]}: an embedding of {embeddings.shape[1]} numbers in an index of {dimension}; "
            "embed the items with the model that the index was built for"
        )
    rows = rows.astype(np.int64, copy=False)
    if np.any(rows[1:] <= rows[:-1]):
        order = np.argsort(rows, kind="stable")
        rows, embeddings = rows[order], embeddings[order]
    twice = np.flatnonzero(rows[1:] == rows[:-1])
    if twice.size:
        raise IndexMismatch(f"row {rows[twice[0]]} is given twice")
    if rows.size and rows[0] < 0:
        raise IndexMismatch(f"row {rows[0]} is negative")
    embeddings = np.ascontiguousarray(embeddings, dtype=np.float32).reshape(len(rows), dimension)
    check_values(rows, embeddings, norm)
    return rows, embeddings


def check_values(rows: np.ndarray, embeddings: np.ndarray, norm: Norm) -> None:
    """Raises IndexMismatch: a value is not finite, or a length is not 1 under `l2`."""
    for start in range(0, len(rows), 65536):  # in blocks: an opened index is read through once
        block = np.asarray(embeddings[start : start + 65536])
        with np.errstate(over="ignore", invalid="ignore"):
            squared = np.einsum("nd,nd->n", block, block)
        bad = np.flatnonzero(~np.isfinite(squared))
        if bad.size:
            raise IndexMismatch(f"row {rows[start + bad[0]]}: its embedding is not finite (NaN or infinity)")
        if norm == "l2":
            bad = np.flatnonzero(np.abs(np.sqrt(squared) - 1) > NORM_TOLERANCE)
            if bad.size:
                raise IndexMismatch(
                    f"row {rows[start + bad[0]]}: its embedding has length {squared[bad[0]] ** 0.5:.4g}, "
                    "but this index holds embeddings of length 1 (norm 'l2'); normalise them first"
                )


def checked_queries(queries: np.ndarray, dimension: int, k: int, allow: np.ndarray | None) -> np.ndarray:
    """Check queries, and return them as contiguous float32. Raises IndexMismatch (queries), ValueError (k,
    allow)."""
    queries = np.asarray(queries)
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise IndexMismatch(
            f"queries of shape {queries.shape} for an index of embeddings of {dimension} numbers; "
            "embed the query with the model that the index was built for"
        )
    if k < 1:
        raise ValueError(f"k = {k}: at least 1")
    if allow is not None and (allow.ndim != 1 or allow.dtype != np.bool_):
        raise ValueError(f"allow must be a bool mask of shape (A,), not {allow.dtype} {allow.shape}")
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(np.einsum("qd,qd->q", queries, queries))
    if not finite.all():
        raise IndexMismatch(f"query {int(np.argmin(finite))}: not finite (NaN or infinity)")
    return queries


def allowed_positions(rows: np.ndarray, allow: np.ndarray) -> np.ndarray:
    """The positions of the allowed rows in the ascending `rows`, ascending."""
    reach = int(np.searchsorted(rows, len(allow)))
    if reach and rows[reach - 1] - rows[0] == reach - 1:  # dense: position = row - the first one, no gather
        return np.flatnonzero(allow[rows[0] : rows[0] + reach])
    return np.flatnonzero(allow[rows[:reach]])


def refuse_known(rows: np.ndarray, known: np.ndarray) -> None:
    """Raises IndexMismatch if one of `rows` is in the ascending `known`."""
    if len(known) and len(rows):
        at = np.minimum(np.searchsorted(known, rows), len(known) - 1)
        there = np.flatnonzero(known[at] == rows)
        if there.size:
            raise IndexMismatch(f"row {rows[there[0]]} is in the index already; remove it first")
