"""Which items the index of photos holds, and whether their embeddings are fit for it."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from etalage.errors import IndexMismatch

TOLERANCE = 1e-3
"""How far a number of a unit embedding, or an inner product of two, may be from the recorded one: threads,
batch sizes and processors move the last bits, another model or index moves it by a thousand times more."""


def photo_rows(items: pa.Table) -> np.ndarray:
    """The item_rows that have a photo, ascending, int64: those that an index holds."""
    valid = items["photo_sha256"].is_valid().to_numpy()
    return np.flatnonzero(np.asarray(valid, dtype=bool)).astype(np.int64)


def indexed_rows(items: pa.Table, per_category: int | None) -> np.ndarray:
    """The item_rows that the index holds, ascending int64: those with a photo, `per_category` of each.

    Which ones is decided by a hash of the item_id: it does not change as the catalogue grows, but for
    newcomers with a lower hash. Items without a category count as a category of their own.
    """
    rows = photo_rows(items)
    if per_category is None or len(rows) == 0:
        return rows
    some = items.take(pa.array(rows))
    draws = [hashlib.blake2b(i.encode(), digest_size=8).digest() for i in some["item_id"].to_pylist()]
    order = np.argsort(np.array([int.from_bytes(draw, "big") for draw in draws], np.uint64), kind="stable")
    categories = np.array([name or "" for name in some["category_id"].to_pylist()])[order]
    by_category = np.argsort(categories, kind="stable")
    starts = np.flatnonzero(np.append(True, categories[by_category][1:] != categories[by_category][:-1]))
    place = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    return np.sort(rows[order[by_category[place < per_category]]])


def check_norms(where: Path, embeddings: np.ndarray, rows: np.ndarray) -> None:
    """Raises IndexMismatch unless rows `rows` have length 1 within TOLERANCE, and all are finite."""
    for start in range(0, len(rows), 65536):
        block = embeddings[rows[start : start + 65536]]
        with np.errstate(over="ignore", invalid="ignore"):
            wrong = ~(np.abs(np.linalg.norm(block, axis=1) - 1) <= TOLERANCE)
        if wrong.any():
            row = int(rows[start + int(np.argmax(wrong))])
            raise IndexMismatch(f"{where}: row {row} is not of length 1; embed and publish again")
