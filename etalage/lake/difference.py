"""Which rows of a table are new, changed or gone: vectorised, by key."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.lake.schema import TableSpec


def key_of(rows: pa.Table | pa.RecordBatch, key: Sequence[str]) -> pa.Array:
    """One binary value a row (N,) that is equal exactly where all key columns are equal."""
    parts: list[pa.Array] = []
    for n, name in enumerate(key):
        text = _flat(rows[name]).cast(pa.large_binary())
        if n < len(key) - 1:
            # The length goes first: ("ab", "c") and ("a", "bc") must not meet.
            parts.append(pc.binary_length(text).cast(pa.string()).cast(pa.large_binary()))
            parts.append(pa.scalar(b":", pa.large_binary()))
        parts.append(text)
    if len(parts) == 1:
        return parts[0]
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary()))


def last_of_each(rows: pa.Table, key: Sequence[str]) -> pa.Table:
    """`rows` with only the last row of each key, in the order of those last rows."""
    numbered = pa.table({"key": key_of(rows, key), "n": np.arange(rows.num_rows)})
    last = numbered.group_by("key", use_threads=False).aggregate([("n", "max")])["n_max"]
    if len(last) == rows.num_rows:
        return rows
    return rows.take(pa.array(np.sort(last.to_numpy())))


def same(ours: pa.Array, theirs: pa.Array) -> np.ndarray:
    """(N,) bool: equal values; null equals null, NaN equals NaN."""
    if pa.types.is_list(ours.type):
        return _same_lists(ours, theirs)
    equal = pc.fill_null(pc.equal(ours, theirs), False)
    equal = pc.or_(equal, pc.and_(pc.is_null(ours), pc.is_null(theirs)))
    if pa.types.is_floating(ours.type):
        both_nan = pc.and_(pc.is_nan(ours), pc.is_nan(theirs))
        equal = pc.or_(equal, pc.fill_null(both_nan, False))
    return np.asarray(equal.to_numpy(zero_copy_only=False), dtype=bool)


def same_rows(
    ours: pa.Table, theirs: pa.Table, columns: Sequence[str], stamp: str | None = None
) -> np.ndarray:
    """(N,) bool: row n of both tables agree in `columns`; a null of ours in `stamp` agrees with all."""
    equal = np.ones(ours.num_rows, dtype=bool)
    for name in columns:
        a, b = _flat(ours[name]), _flat(theirs[name])
        agrees = same(a, b)
        if name == stamp:
            agrees |= np.asarray(pc.is_null(a).to_numpy(zero_copy_only=False), dtype=bool)
        equal &= agrees
    return equal


def compared(spec: TableSpec, given: Sequence[str]) -> list[str]:
    """The columns to compare among `given`: not the key, and hashes instead of what they stand for."""
    skip = {big for small, big in spec.stands_for.items() if small in given}
    return [name for name in given if name not in spec.key and name not in skip]


def net_effect(feed: pa.Table, spec: TableSpec) -> tuple[pa.Table, pa.Table]:
    """What a change feed comes down to: (upserted: final rows, deleted: keys).

    `feed` has the table's columns, `_change_type` and `_commit_version`. A key inserted and deleted
    within is in neither; a key that ends with the row it began with is in neither.
    """
    order = {"update_preimage": 0, "delete": 1, "insert": 2, "update_postimage": 3}
    kinds = np.array([order[k] for k in feed["_change_type"].to_pylist()], dtype=np.int64)
    versions = feed["_commit_version"].to_numpy().astype(np.int64)
    by_time = np.lexsort((kinds, versions))
    feed, kinds = feed.take(pa.array(by_time)), kinds[by_time]
    numbered = pa.table({"key": key_of(feed, spec.key), "n": np.arange(feed.num_rows)})
    ends = numbered.group_by("key", use_threads=False).aggregate([("n", "min"), ("n", "max")])
    first, last = ends["n_min"].to_numpy(), ends["n_max"].to_numpy()
    by_last = np.argsort(last, kind="stable")
    first, last = first[by_last], last[by_last]
    was, is_now = kinds[first] <= 1, kinds[last] >= 2
    rows = feed.select(list(spec.names))
    back = np.zeros(len(first), dtype=bool)
    both = np.flatnonzero(was & is_now)
    back[both] = same_rows(
        rows.take(pa.array(last[both])), rows.take(pa.array(first[both])), compared(spec, spec.names)
    )
    upserted = rows.take(pa.array(last[is_now & ~back]))
    deleted = rows.select(list(spec.key)).take(pa.array(last[was & ~is_now]))
    return upserted, deleted


def with_keys(batch: pa.RecordBatch, key: Sequence[str], wanted: pa.Array) -> pa.RecordBatch:
    """The rows of `batch` whose key_of is among `wanted`."""
    return batch.filter(pc.is_in(key_of(batch, key), value_set=wanted))


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """`batch` with exactly the columns and types of `schema`; a column it lacks is null."""
    columns = [
        batch.column(f.name).cast(f.type)
        if f.name in batch.schema.names
        else pa.nulls(batch.num_rows, f.type)
        for f in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def fitted_table(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """As `fitted`, of a table."""
    columns = [
        rows[f.name].cast(f.type) if f.name in rows.column_names else pa.nulls(rows.num_rows, f.type)
        for f in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return (
            column.chunk(0)
            if column.num_chunks == 1
            else pa.concat_arrays(column.chunks)
            if (column.num_chunks)
            else pa.array([], column.type)
        )
    return column


def _same_lists(ours: pa.Array, theirs: pa.Array) -> np.ndarray:
    lengths = pc.list_value_length(ours), pc.list_value_length(theirs)
    equal = same(*lengths)
    rows = np.flatnonzero(equal & np.asarray(pc.is_valid(ours).to_numpy(zero_copy_only=False), dtype=bool))
    if len(rows):
        a, b = ours.take(pa.array(rows)), theirs.take(pa.array(rows))
        agrees = same(a.flatten(), b.flatten())
        owner = np.repeat(np.arange(len(rows)), pc.list_value_length(a).to_numpy())
        equal[rows] = np.bincount(owner, weights=~agrees, minlength=len(rows)) == 0
    return equal
