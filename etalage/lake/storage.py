"""One Delta table on disk, or in an object store: opened and streamed with every check there is.

Writers of one table take turns (`committed`), and try again when another one was faster.
"""

import contextlib
import fcntl
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from etalage.errors import DataError, TableDamaged, TableMissing
from etalage.lake.ledger import FOLDER, Ledger

_ATTEMPTS = 12
T = TypeVar("T")


def committed(name: str, folder: Path | None, attempt: Callable[[], T]) -> T:
    """What `attempt` (read, compare, commit) gives, tried again when another writer committed first.

    `folder`: the table's, where a lock file makes writers on this machine queue; None for an object
    store, where Delta's own conflict check is all there is.
    Raises DataError: no space, read-only, or another writer kept winning.
    """
    for n in range(_ATTEMPTS):
        try:
            with _turn(folder):
                return attempt()
        except CommitFailedError as error:
            if n == _ATTEMPTS - 1:
                raise DataError(f"table {name}: another writer kept winning: {shortly(error)}") from error
            time.sleep(random.uniform(0.01, 0.05) * 2 ** min(n, 6))
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise DataError(
                f"table {name}: could not be written: {shortly(error)}. What was committed before is safe; "
                "run it again once that is put right"
            ) from error
    raise AssertionError("unreachable")


def shortly(error: Exception) -> str:
    """The first line of an error: delta-rs appends a native backtrace."""
    return re.sub(r"\s+", " ", str(error).split("\n")[0])[:300]


@contextlib.contextmanager
def _turn(folder: Path | None) -> Iterator[None]:
    """The table's lock; it goes with its process, also when that is killed."""
    if folder is None:
        yield
        return
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    with (folder / FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Storage:
    """`folder` and `ledger` are None for a table in an object store, which has its own checksums."""

    def __init__(self, name: str, uri: str) -> None:
        self.name = name
        self.uri = uri
        self.folder = None if "://" in uri else Path(uri)
        self.ledger = Ledger(name, self.folder) if self.folder else None

    def exists(self) -> bool:
        """Whether anything was ever committed here."""
        if self.ledger:
            return bool(self.ledger.commits()) or self.ledger.checkpoint() >= 0
        return DeltaTable.is_deltatable(self.uri)

    def open(self, version: int | None) -> DeltaTable:
        """The table at `version` (None: newest), checked. Raises TableMissing, TableDamaged."""
        if not self.exists():
            raise TableMissing(f"table {self.name}: nothing at {self.uri}; run `etalage ingest` first")
        # Read before opening: a version committed meanwhile must not look like a lost one.
        recorded = self.ledger.newest() if self.ledger else -1
        try:
            opened = DeltaTable(self.uri, version=version)
        except (DeltaError, OSError, ValueError) as error:
            if self.ledger:
                newest = max(self.ledger.commits(), default=-1)
                if version is not None and version > max(newest, recorded):
                    raise TableMissing(
                        f"table {self.name}: no version {version}; the newest is {newest}"
                    ) from error
                self.ledger.check_log(version)
            raise TableDamaged(f"table {self.name}: {self.uri}/_delta_log: {shortly(error)}") from error
        if self.ledger:
            if version is None:
                self.ledger.check_newest(opened.version(), recorded)
            self.ledger.check_log(opened.version())
            rows = sum(n for _, _, n in self.files(opened))
            self.ledger.check_rows(opened.version(), rows, "in its log")
            self.ledger.heal(opened.version(), rows)
        return opened

    def files(self, opened: DeltaTable) -> list[tuple[str, int, int]]:
        """(path, bytes, rows) of each live data file."""
        actions = pa.table(opened.get_add_actions(flatten=True))
        paths, sizes = actions["path"].to_pylist(), actions["size_bytes"].to_pylist()
        if "num_records" in actions.column_names:
            counts = actions["num_records"].to_pylist()
        else:
            counts = [None] * len(paths)
        return [
            (p, s, self._rows_in(p, s) if n is None else n)
            for p, s, n in zip(paths, sizes, counts, strict=True)
        ]

    def _rows_in(self, path: str, size: int) -> int:
        """The row count of a data file that another writer committed without statistics."""
        if self.ledger is None:
            raise DataError(
                f"table {self.name}: {path} was written without a row count; rewrite it with statistics"
            )
        return int(pq.read_metadata(self.ledger.check_file(path, size)).num_rows)

    def stream(self, opened: DeltaTable, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """The stored rows of the columns `names` that the files have, in their types on disk.

        Raises TableDamaged: names a data file that is missing, torn or changed.
        """
        protocol = opened.protocol()
        plain = protocol.min_reader_version == 1 and not opened.metadata().partition_columns
        if self.ledger is None or not plain:
            # One thread: the threaded read of this dataset can abort the process at exit.
            dataset = opened.to_pyarrow_dataset()
            there = [n for n in names if n in dataset.schema.names]
            yield from dataset.scanner(columns=there, batch_size=rows, use_threads=False).to_batches()
            return
        for path, size, _ in self.files(opened):
            file = self.ledger.check_file(path, size)
            try:
                with pq.ParquetFile(file) as parquet:
                    there = [n for n in names if n in parquet.schema_arrow.names]
                    yield from parquet.iter_batches(batch_size=rows, columns=there, use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise TableDamaged(
                    f"table {self.name}: data file {file} cannot be read: {shortly(error)}"
                ) from error
