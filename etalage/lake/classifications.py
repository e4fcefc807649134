"""What is to be classified: which items changed, what a threshold makes of an answer, and who asks for it.

Tables in, tables out; no model in it.

    N items
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.lake.item_photos import ItemPhotos, flat
from etalage.lake.schema import TABLES

CLASSIFIED, BELOW, NO_INPUT, OUTSIDE = "classified", "below_threshold", "no_input", "outside"
STATUSES = (CLASSIFIED, BELOW, NO_INPUT, OUTSIDE)
JOINED = ("item_id", "category_id", "path", "confidence", "model")
"""What a bundle and the models of behaviour want of the table."""


def hash_inputs(photos: ItemPhotos, titles: Sequence[str | None]) -> list[str]:
    """(N,) hex: equal where all that is looked at is equal. `titles`: all None where the model reads none."""
    shas = photos.sha256.to_pylist()
    hashes = []
    for row, title in enumerate(titles):
        digest = hashlib.sha256()
        for sha in shas[photos.starts[row] : photos.starts[row + 1]]:
            digest.update(sha.encode())
        digest.update(b"\0" if title is None else b"\1" + title.encode("utf-8", "surrogatepass"))
        hashes.append(digest.hexdigest()[:32])
    return hashes


@dataclass(frozen=True)
class ClassificationPlan:
    """What a run has to do."""

    ask: np.ndarray
    """Rows of items that the model is asked about, ascending."""
    keep: np.ndarray
    """Rows of items whose stored answer stands."""
    stored: np.ndarray
    """Where the answers of `keep` are in the table."""
    outside: np.ndarray
    """Rows of items that are no business of the taxonomy."""
    gone: pa.Table
    """Keys of stored rows whose item is no more."""


def plan(
    item_ids: pa.ChunkedArray | pa.Array,
    hashes: Sequence[str],
    outside_N: np.ndarray,
    stored: pa.Table,
    model_hash: str,
    every: bool = False,
) -> ClassificationPlan:
    """Which items to ask about: new ones, those whose photos or title changed, all under another model.

    `stored`: the table `classifications`, or none of its rows. `every`: ask about all again.
    """
    item_ids, outside_N = flat(item_ids), np.asarray(outside_N, bool)
    at = pc.index_in(item_ids, value_set=flat(stored["item_id"]))
    place = pc.fill_null(at, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    same = pc.and_(
        pc.and_(pc.equal(stored["input"].take(at), pa.array(hashes, pa.string())), not every),
        pc.and_(
            pc.equal(stored["model"].take(at), model_hash), pc.not_equal(stored["status"].take(at), OUTSIDE)
        ),
    )
    stands = _bools(pc.fill_null(same, False)) & ~outside_N
    here = pc.is_in(stored["item_id"], value_set=item_ids)
    return ClassificationPlan(
        np.flatnonzero(~stands & ~outside_N),
        np.flatnonzero(stands),
        place[stands],
        np.flatnonzero(outside_N),
        stored.filter(pc.invert(here)).select(["item_id"]),
    )


def decided(rows: pa.Table, threshold: float) -> pa.Table:
    """Rows with best_id, best_path and confidence → with status, category_id and path by `threshold`."""
    confident = pc.fill_null(pc.greater_equal(rows["confidence"], threshold), False)
    status = pc.if_else(confident, CLASSIFIED, BELOW)
    status = pc.if_else(pc.is_valid(rows["confidence"]), status, NO_INPUT)
    nothing = pa.scalar(None, pa.string())
    made = {
        "status": status,
        "category_id": pc.if_else(confident, rows["best_id"], nothing),
        "path": pc.if_else(confident, rows["best_path"], nothing),
    }
    rows = rows.select([name for name in rows.column_names if name not in made])
    for name, column in made.items():
        rows = rows.append_column(name, column)
    return rows.select([name for name in TABLES["classifications"].names if name in rows.column_names])


@dataclass(frozen=True)
class Joined:
    """The categories of N items, in their order."""

    category_id: pa.Array
    path: pa.Array
    confidence: pa.Array
    """All three null where an item is not classified."""
    by: dict[str, int]
    """Hash of a model → how many of these items it classified."""


def joined(item_ids: pa.ChunkedArray | pa.Array, stored: pa.Table) -> Joined:
    """`stored` (the columns JOINED) beside items; what is not classified is null."""
    stored = stored.filter(pc.is_valid(stored["category_id"]))
    at = flat(pc.index_in(flat(item_ids), value_set=flat(stored["item_id"])))
    columns = [flat(stored[name]).take(at) for name in JOINED[1:]]
    counted = pc.value_counts(columns[3].drop_null()).to_pylist()
    leaf, path, confidence, _ = columns
    return Joined(leaf, path, confidence, {one["values"]: one["counts"] for one in counted})


def _bools(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.asarray(flat(column).to_numpy(zero_copy_only=False), dtype=bool)
