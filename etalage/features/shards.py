"""The row groups of a Delta version, or of Parquet files, as the shards that a training reads one by one.

    S shards   M rows of all

A shard is one row group of one file. Which there are, and in which order, is a pure function of the version;
each is read in batches, so that what it takes in memory is what its reader keeps of it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from etalage.errors import InputUnreadable, TableDamaged
from etalage.lake.storage import shortly

ROWS_AT_ONCE = 32_768


@dataclass(frozen=True)
class Shard:
    number: int
    """0 … S - 1."""
    path: str
    group: int
    """Which row group of the file it is, from 0."""
    rows: int
    first: int
    """Number of its first row among the M of all."""

    def __str__(self) -> str:
        return f"{self.path}, row group {self.group}"


class Shards:
    """The shards of `uri`: a Delta table (a folder, or any URI that delta-rs opens) at `version` (None: the
    newest), a Parquet file, or a folder of them. Threads may share it; another process opens it anew.

    options: of the object store, as delta-rs takes them; None: the environment's.
    Raises InputUnreadable: no table and no Parquet there. TableDamaged: a file is missing or torn.
    """

    def __init__(self, uri: str, version: int | None = None, options: dict[str, str] | None = None) -> None:
        self.uri, self._options = uri, options
        self.version: int | None = None
        dataset = self._opened(version)
        self.schema: pa.Schema = dataset.schema
        self._fragments = sorted(dataset.get_fragments(), key=lambda one: str(one.path))
        found: list[Shard] = []
        self._of: list[Any] = []
        at = 0
        for fragment in self._fragments:
            try:
                fragment.ensure_complete_metadata()
                groups = [
                    fragment.metadata.row_group(n).num_rows for n in range(fragment.metadata.num_row_groups)
                ]
            except (pa.ArrowException, OSError) as error:
                raise TableDamaged(f"{self._place(fragment)}: cannot be read: {shortly(error)}") from error
            for number, rows in enumerate(groups):
                if rows:
                    found.append(Shard(len(found), self._place(fragment), number, rows, at))
                    self._of.append(fragment)
                    at += rows
        self.shards: tuple[Shard, ...] = tuple(found)
        self.count = at
        """M."""

    def __len__(self) -> int:
        return len(self.shards)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.uri, self.version, self._options, self.fingerprint)

    @cached_property
    def rows(self) -> np.ndarray:
        """(S,) int64 rows of each shard."""
        return np.array([shard.rows for shard in self.shards], np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of which files there are, and of their sizes: what a run learned from."""
        digest = hashlib.sha256(self.schema.to_string().encode())
        for fragment in self._fragments:
            metadata = fragment.metadata
            sizes = [
                metadata.row_group(group).column(column).total_compressed_size
                for group in range(metadata.num_row_groups)
                for column in range(metadata.num_columns)
            ]
            name = self._place(fragment).removeprefix(self.uri)
            digest.update(f"{name} {metadata.num_rows} {sizes}".encode())
        return digest.hexdigest()[:16]

    def bytes_of(self, columns: Sequence[str]) -> np.ndarray:
        """(S,) int64: what these columns of each shard take, unpacked."""
        wanted = set(columns)
        found = []
        for shard, fragment in zip(self.shards, self._of, strict=True):
            group = fragment.metadata.row_group(shard.group)
            parts = (group.column(n) for n in range(group.num_columns))
            found.append(
                sum(p.total_uncompressed_size for p in parts if p.path_in_schema.split(".")[0] in wanted)
            )
        return np.array(found, np.int64)

    def batches(
        self, number: int, columns: Sequence[str], rows: int = ROWS_AT_ONCE, codes: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """Shard `number` as a stream of at most `rows` rows a batch, with `columns` in this order; one that
        its file does not have is null, or what the table is partitioned by. codes: columns of text that come
        as dictionaries, where their file has them so.

        Raises TableDamaged: names the file and the row group. KeyError: no such column.
        """
        shard, fragment = self.shards[number], self._of[number]
        schema = pa.schema([self.schema.field(name) for name in columns])
        keys = ds.get_partition_keys(fragment.partition_expression)
        there = set(fragment.physical_schema.names)
        read = 0
        try:
            kept = [name for name in codes if name in there and _is_text(self.schema.field(name).type)]
            given = {"metadata": fragment.metadata, "read_dictionary": kept}
            with fragment.open() as source, pq.ParquetFile(source, **given) as file:
                names = [name for name in columns if name in there]
                # Without a column of its own the file still says how many rows there are.
                asked = names or file.schema_arrow.names[:1]
                for batch in file.iter_batches(rows, [shard.group], asked, use_threads=False):
                    read += batch.num_rows
                    yield _fitted(batch, schema, keys)
        except (pa.ArrowException, OSError) as error:
            raise TableDamaged(f"{shard}: cannot be read: {shortly(error)}") from error
        if read != shard.rows:
            raise TableDamaged(f"{shard}: has {read:,} rows, and its file says {shard.rows:,}")

    def _place(self, fragment: Any) -> str:
        path = str(fragment.path)
        return path if self.version is None else f"{self.uri.rstrip('/')}/{path.lstrip('/')}"

    def _opened(self, version: int | None) -> Any:
        place = None if "://" in self.uri else Path(self.uri)
        if place is not None and not place.exists():
            raise InputUnreadable(f"{self.uri}: does not exist")
        try:
            # Asked by opening it: `is_deltatable` lets no other thread run while it waits for a store.
            if place is None or place.is_dir():
                with suppress(TableNotFoundError):
                    table = DeltaTable(self.uri, version=version, storage_options=self._options)
                    self.version = table.version()
                    return table.to_pyarrow_dataset()
            if version is not None:
                raise InputUnreadable(f"{self.uri}: no Delta table, so it has no version {version}")
            plain = self.uri if place is None else str(place.absolute())
            return ds.dataset(plain, format="parquet", exclude_invalid_files=False)
        except (DeltaError, pa.ArrowException, OSError, ValueError) as error:
            raise InputUnreadable(
                f"{self.uri}: neither a Delta table nor Parquet that can be read: {shortly(error)}"
            ) from error


def _reopened(uri: str, version: int | None, options: dict[str, str] | None, fingerprint: str) -> Shards:
    found = Shards(uri, version, options)
    if found.fingerprint != fingerprint:
        raise InputUnreadable(f"{uri}: was written to while it was read; begin again")
    return found


def _fitted(batch: pa.RecordBatch, schema: pa.Schema, keys: dict[str, Any]) -> pa.RecordBatch:
    columns = []
    for field in schema:
        if field.name in batch.schema.names:
            column = batch.column(field.name)
            same = column.type == field.type or isinstance(column, pa.DictionaryArray)
            columns.append(column if same else column.cast(field.type))
        elif field.name in keys:
            columns.append(pa.repeat(pa.scalar(keys[field.name], field.type), batch.num_rows))
        else:
            columns.append(pa.nulls(batch.num_rows, field.type))
    return pa.RecordBatch.from_arrays(columns, names=schema.names)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
