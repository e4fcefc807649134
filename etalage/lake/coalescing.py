"""Rows of one key as one row: an empty cell erases nothing, an older row never overwrites a newer one.

A null is an empty cell, unless CLEARED names its column: then the file says that it is not known.
"""

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.lake.difference import key_of
from etalage.lake.schema import CLEARED, TableSpec

_ATTRIBUTES = "attributes"
_FIRST = ("photo_url",)
"""Of these the first row that says something counts, where no times tell: a product's first picture is its
main one, and the rows of its other pictures come after."""


def coalesced(rows: pa.Table, spec: TableSpec) -> tuple[pa.Table, int]:
    """(`rows` with one row a key, in the order of the last ones; how many were older than one before them).

    In each column the last row counts that says something. `rows` may have CLEARED; the result then has it
    too.
    """
    codes = key_of(rows, spec.key).dictionary_encode()
    code_R = codes.indices.to_numpy().astype(np.int64)
    count = len(codes.dictionary)
    if count == rows.num_rows:
        return rows, 0
    older_R = _older_within(rows, code_R, spec)
    kept = np.flatnonzero(~older_R)
    last = np.full(count, -1, dtype=np.int64)
    last[code_R[kept]] = kept  # of repeated places the last one stays
    order = np.argsort(last)
    timed = spec.time is not None and spec.time in rows.column_names
    timed = timed and rows[spec.time].null_count < rows.num_rows
    cleared = _cleared(rows)
    columns, taken = {}, {}
    for name in rows.column_names:
        if name == CLEARED:
            continue
        says = np.asarray(pc.is_valid(rows[name]).to_numpy(), dtype=bool)
        says[[n for n, names in cleared.items() if name in names]] = True
        telling = kept[says[kept]]
        if name in _FIRST and not timed:
            telling = telling[::-1]
        place = np.full(count, -1, dtype=np.int64)
        place[code_R[telling]] = telling
        taken[name] = place[order]
        columns[name] = rows[name].take(pa.array(place[order], mask=place[order] < 0))
    if _ATTRIBUTES in columns:
        columns[_ATTRIBUTES] = _laid(rows[_ATTRIBUTES], kept, code_R, order, cleared)
    if cleared:
        by_code: dict[int, set[str]] = {}
        for n, names in cleared.items():
            if not older_R[n]:
                by_code.setdefault(int(code_R[n]), set()).update(names)
        meant = [
            [
                name
                for name in sorted(by_code.get(int(code), ()))
                if name not in taken or not _valid(columns[name], k)
            ]
            or None
            for k, code in enumerate(order)
        ]
        columns[CLEARED] = pa.array(meant, pa.list_(pa.string()))
    fields = [rows.schema.field(name) for name in columns]
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields)), int(older_R.sum())


def older_than_stored(rows: pa.Table, stored: pa.Table, spec: TableSpec) -> np.ndarray:
    """(N,) bool: row n has a time before that of row n of `stored`; never where one has none."""
    if spec.time is None or spec.time not in rows.column_names or spec.time not in stored.column_names:
        return np.zeros(rows.num_rows, dtype=bool)
    older = pc.fill_null(pc.less(rows[spec.time], stored[spec.time]), False)
    return np.asarray(older.to_numpy(), dtype=bool)


def laid_over(rows: pa.Table, stored: pa.Table, spec: TableSpec) -> pa.Table:
    """Row n of `rows` over row n of `stored`: its empty cells are filled; attributes are joined by name.

    The stamp is left as it is: a row that is written without one gets a new one.
    """
    cleared = _cleared(rows)
    columns = {}
    for name in rows.column_names:
        if name == CLEARED:
            continue
        mine = rows[name]
        if name in spec.key or name == spec.stamp or name not in stored.column_names:
            columns[name] = mine
        elif name == _ATTRIBUTES:
            pairs = zip(mine.to_pylist(), stored[name].to_pylist(), strict=True)
            joined = [_joined(old, new, cleared.get(n, ())) for n, (new, old) in enumerate(pairs)]
            columns[name] = pa.chunked_array([pa.array(joined, pa.string())])
        else:
            meant = np.zeros(rows.num_rows, dtype=bool)
            meant[[n for n, names in cleared.items() if name in names]] = True
            empty = pc.and_(pc.is_null(mine), pa.array(~meant))
            columns[name] = pc.if_else(empty, stored[name], mine)
    fields = [rows.schema.field(name) for name in columns]
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))


def _older_within(rows: pa.Table, code_R: np.ndarray, spec: TableSpec) -> np.ndarray:
    """(R,) bool: a row of the same key before it has a later time."""
    older = np.zeros(rows.num_rows, dtype=bool)
    if spec.time is None or spec.time not in rows.column_names or rows[spec.time].null_count == rows.num_rows:
        return older
    times = rows[spec.time].combine_chunks().cast(pa.int64())
    given = np.asarray(times.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    micros = times.fill_null(0).to_numpy(zero_copy_only=False)
    distinct, rank = np.unique(micros, return_inverse=True)
    rank = np.where(given, rank + 1, 0)  # 0: no time, which is older than nothing and nothing is older than
    order = np.argsort(code_R, kind="stable")
    base = code_R[order] * (len(distinct) + 1)
    newest = np.maximum.accumulate(base + rank[order]) - base
    older[order] = (rank[order] > 0) & (rank[order] < newest)
    return older


def _laid(
    column: pa.ChunkedArray,
    kept: np.ndarray,
    code_R: np.ndarray,
    order: np.ndarray,
    cleared: dict[int, list[str]],
) -> pa.ChunkedArray:
    """The attributes of each key: those of its rows, the later over the earlier."""
    values = column.to_pylist()
    joined: dict[int, str | None] = {}
    for n in kept.tolist():
        code = int(code_R[n])
        joined[code] = _joined(joined.get(code), values[n], cleared.get(n, ()))
    return pa.chunked_array([pa.array([joined.get(code) for code in order.tolist()], pa.string())])


def _joined(old: str | None, new: str | None, cleared: Sequence[str]) -> str | None:
    """The JSON of `old` with that of `new` over it, less the attributes that are cleared."""
    gone = [name.removeprefix(_ATTRIBUTES + ".") for name in cleared if name.startswith(_ATTRIBUTES + ".")]
    if old is None or old == new or (new is None and not gone):
        return old if new is None else new
    before = {name: value for name, value in json.loads(old).items() if name not in gone}
    return json.dumps(before | json.loads(new or "{}"), ensure_ascii=False, sort_keys=True)


def _cleared(rows: pa.Table) -> dict[int, list[str]]:
    """Row → the columns whose null is meant."""
    if CLEARED not in rows.column_names:
        return {}
    return {n: names for n, names in enumerate(rows[CLEARED].to_pylist()) if names}


def _valid(column: pa.ChunkedArray, n: int) -> bool:
    return bool(column[n].is_valid)
