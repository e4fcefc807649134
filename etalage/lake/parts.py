"""Files of a table that workers write, and the driver commits: rows that do not go through one process.

    def shard(lake, block):                       # on a worker
        return write_part(lake, "embeddings", rows_of(block))

    parts = list(engine.map(partial(shard, lake.place), blocks))
    lake.table("embeddings").add_parts(parts, transaction="publish-b000012")

A part lies where the table's own files lie, under a name made of its content: a shard that is run again
writes the same file again. What was never committed is no row of the table, and goes by vacuum (Delta). The
commit is one for all parts, and happens once for a `transaction`, whoever repeats it: a name that is never
used for anything else.
"""

import hashlib
import io
import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from etalage.errors import DataError
from etalage.lake.difference import fitted_table, last_of_each
from etalage.lake.durable_files import sync_folder, write_durably
from etalage.lake.object_store import ObjectStore, Taken
from etalage.lake.places import Place
from etalage.lake.schema import TABLES, TableSpec


@dataclass(frozen=True)
class Part:
    """One Parquet file of the table `table` that is written, and may be committed. It pickles."""

    table: str
    name: str
    """Of the file, in the table's place."""
    bytes: int
    rows: int

    def action(self) -> AddAction:
        """What a commit says of it."""
        now = int(datetime.now(UTC).timestamp() * 1000)
        return AddAction(self.name, self.bytes, {}, now, True, json.dumps({"numRecords": self.rows}))


@dataclass(frozen=True)
class Added:
    """What a commit of parts did. `inserted` rows came with their files; the files of `merged` rows held
    keys that were stored, or came again, and went the way of every merge. `version`: of the table, then."""

    inserted: int
    merged: int
    version: int


def write_part(lake: Place | Path | str, table: str, rows: pa.Table) -> Part:
    """Write `rows` of the table `table` into the place of the `lake`; nobody sees them before they are
    committed.

    A column that `rows` lacks is null, the table's stamp is the present time. Of a repeated key the last row
    counts. Raises DataError: a required value is null, a value does not fit, the disk; ObjectStoreError.
    """
    spec, place = TABLES[table], Place.of(lake).at(table)
    content = _parquet(_whole(spec, rows))
    name = f"part-{hashlib.sha256(content).hexdigest()[:40]}.zstd.parquet"
    folder = place.folder
    if folder is None:
        with suppress(Taken):  # the same content: a shard that is run again
            place.store().create(name, content)
    else:
        _write(folder, name, content)
    return Part(table, name, len(content), last_of_each(rows, spec.key).num_rows)


def read_part(place: Place, store: ObjectStore | None, part: Part, columns: Sequence[str]) -> pa.Table:
    """These columns of a part; of an object, only the bytes that hold them are asked for. Raises DataError:
    it is not there any more, or is none."""
    try:
        if store is None:
            assert place.folder is not None
            return pq.read_table(place.folder / part.name, columns=list(columns), use_threads=False)
        source = io.BufferedReader(_Ranged(store, part.name, part.bytes), 1 << 16)
        with pq.ParquetFile(source) as file:
            return file.read(columns=list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"table {part.table}: {part.name} cannot be read ({error}): have its shard write it again"
        ) from error


def _whole(spec: TableSpec, rows: pa.Table) -> pa.Table:
    unknown = [name for name in rows.column_names if name not in spec.names]
    if unknown:
        raise DataError(f"table {spec.name}: unknown columns {unknown}; it has {', '.join(spec.names)}")
    try:
        whole = fitted_table(last_of_each(rows, spec.key), spec.schema)
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"table {spec.name}: a value does not fit its column: {error}") from error
    for name in spec.required:
        if whole[name].null_count:
            raise DataError(f"table {spec.name}: {whole[name].null_count} rows have no {name}")
    if spec.stamp is not None:
        now = pa.scalar(datetime.now(UTC), spec.column(spec.stamp).type)
        at = whole.column_names.index(spec.stamp)
        whole = whole.set_column(at, spec.schema.field(spec.stamp), pc.fill_null(whole[spec.stamp], now))
    return whole


def _parquet(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd")
    return bytes(sink.getvalue())


def _write(folder: Path, name: str, content: bytes) -> None:
    file = folder / name
    if file.exists():
        return
    draft = folder / f".{name}.{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(draft, content, new=True)
        draft.rename(file)
        sync_folder(folder)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise DataError(
            f"{file}: cannot be written ({error.strerror or error}); make room, and run it again"
        ) from error


class _Ranged(io.RawIOBase):
    """An object as a file that is read in ranges."""

    def __init__(self, store: ObjectStore, name: str, size: int) -> None:
        self._store, self._name, self._size, self._at = store, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        end = min(self._at + len(view), self._size)
        if end <= self._at:
            return 0
        found = self._store.read_range(self._name, self._at, end)
        if found is None:
            raise OSError(f"{self._name} is not there")
        view[: len(found)] = found
        self._at += len(found)
        return len(found)
