"""One Delta table where it lies: opened and streamed with every check there is.

`LocalStorage` is a folder, checked against its ledger; its writers queue by a lock file. Tables in an object
store are in object_storage.py. Everywhere Delta's own conflict check decides which of two writers was first,
and the other one tries again (`committed`).
"""

import contextlib
import fcntl
import random
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from etalage.errors import DataError, TableDamaged, TableMissing
from etalage.lake.ledger import FOLDER, Ledger
from etalage.lake.object_store import ObjectStore
from etalage.lake.places import Place

_ATTEMPTS = 12
T = TypeVar("T")


def shortly(error: Exception) -> str:
    """The first line of an error: delta-rs appends a native backtrace."""
    return re.sub(r"\s+", " ", str(error).split("\n")[0])[:300]


class Storage(ABC):
    """What a `Table` asks of the place that it lies in."""

    properties: Mapping[str, str] = MappingProxyType({})
    """Of tables that are made there, besides what every table has."""

    objects: ObjectStore | None = None
    """The store that it lies in; None: in a folder."""

    def __init__(self, name: str, place: Place) -> None:
        self.name = name
        self.place = place
        self.uri = place.uri

    @abstractmethod
    def exists(self) -> bool:
        """Whether anything was ever committed here."""

    @abstractmethod
    def open(self, version: int | None) -> DeltaTable:
        """The table at `version` (None: newest), checked. Raises TableMissing, TableDamaged."""

    @abstractmethod
    def stream(self, opened: DeltaTable, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """The stored rows of the columns `names` that the files have, in their types on disk.

        Raises TableDamaged: names a data file that is missing, torn or changed.
        """

    @abstractmethod
    def record(self, written: DeltaTable) -> int:
        """Record what was just committed, and is open as it is then → its version."""

    @abstractmethod
    def commit_sha256(self, version: int) -> str | None:
        """The recorded hash of the commit `version`; None when it was never recorded."""

    @abstractmethod
    def has_file(self, path: str) -> bool:
        """Whether the data file `path` (as the log writes it) is there at all."""

    @abstractmethod
    def check_rows(self, version: int, rows: int) -> None:
        """Raises TableDamaged when `rows` were read of `version`, and another count was recorded."""

    @abstractmethod
    def feed_gone(self, opened: DeltaTable, since: int, until: int) -> str | None:
        """Why the change feed of the versions (since, until] cannot be read any more; None: it can.
        Raises TableDamaged: a file of it was changed."""

    @abstractmethod
    def require(self) -> None:
        """Raises ObjectStoreError: the place itself cannot be reached."""

    @abstractmethod
    def options(self) -> dict[str, str] | None:
        """How delta-rs gets to it; None: by the file system."""

    @contextlib.contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """No other writer of this machine is at work meanwhile. Raises DataError, which says `what`: the
        disk."""
        try:
            with self._turn():
                yield
        except (DeltaError, OSError) as error:
            self._failed(error, what, DataError)

    @abstractmethod
    def _rows_in(self, path: str, size: int) -> int:
        """The row count of a data file that another writer committed without statistics."""

    @abstractmethod
    def _turn(self) -> AbstractContextManager[None]:
        """Within it no other writer of this machine writes, where that can be had."""

    @abstractmethod
    def _failed(self, error: Exception, what: str, kind: type[DataError]) -> NoReturn:
        """Raises `kind`, or what is wrong with the place itself."""

    def files(self, opened: DeltaTable) -> list[tuple[str, int, int]]:
        """(path, bytes, rows) of each live data file."""
        # Not by `pa.table`, which loads pandas to see whether it was given a data frame.
        actions = pa.RecordBatchReader.from_stream(opened.get_add_actions(flatten=True)).read_all()
        paths, sizes = actions["path"].to_pylist(), actions["size_bytes"].to_pylist()
        if "num_records" in actions.column_names:
            counts = actions["num_records"].to_pylist()
        else:
            counts = [None] * len(paths)
        return [
            (p, s, self._rows_in(p, s) if n is None else n)
            for p, s, n in zip(paths, sizes, counts, strict=True)
        ]

    def committed(self, attempt: Callable[[], T]) -> T:
        """What `attempt` (read, compare, commit) gives, tried again when another writer committed first.

        Raises DataError: no space, read-only, or another writer kept winning.
        """
        for n in range(_ATTEMPTS):
            try:
                with self._turn():
                    return attempt()
            except CommitFailedError as error:
                if n == _ATTEMPTS - 1:
                    raise DataError(
                        f"table {self.name}: another writer kept winning: {shortly(error)}"
                    ) from error
                time.sleep(random.uniform(0.01, 0.05) * 2 ** min(n, 6))
            except (DeltaError, OSError, pa.ArrowException) as error:
                self._failed(error, "could not be written", DataError)
        raise AssertionError("unreachable")


class LocalStorage(Storage):
    """A table in a folder of this machine."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(name, Place(str(folder)))
        self.folder = folder
        self.ledger = Ledger(name, folder)

    def options(self) -> None:
        return None

    def require(self) -> None:
        return None  # what is wrong with a folder is said by whoever reads or writes there

    def exists(self) -> bool:
        return bool(self.ledger.commits()) or self.ledger.checkpoint() >= 0

    def open(self, version: int | None) -> DeltaTable:
        if not self.exists():
            raise missing(self.name, self.uri)
        # Read before opening: a version committed meanwhile must not look like a lost one.
        recorded = self.ledger.newest()
        try:
            opened = DeltaTable(self.uri, version=version)
        except (DeltaError, OSError, ValueError) as error:
            newest = max(self.ledger.commits(), default=-1)
            require_version(self.name, version, max(newest, recorded), newest, error)
            self.ledger.check_log(version)
            raise TableDamaged(f"table {self.name}: {self.uri}/_delta_log: {shortly(error)}") from error
        if version is None:
            self.ledger.check_newest(opened.version(), recorded)
        self.ledger.check_log(opened.version())
        rows = sum(n for _, _, n in self.files(opened))
        self.ledger.check_rows(opened.version(), rows, "in its log")
        self.ledger.heal(opened.version(), rows)
        return opened

    def stream(self, opened: DeltaTable, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        protocol = opened.protocol()
        if protocol.min_reader_version != 1 or opened.metadata().partition_columns:
            yield from dataset_batches(opened, names, rows)
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

    def record(self, written: DeltaTable) -> int:
        return self.open(None).version()  # opening records a sound commit that has no record yet

    def commit_sha256(self, version: int) -> str | None:
        return self.ledger.commit_sha256(version)

    def has_file(self, path: str) -> bool:
        return self.ledger.has_file(path)

    def check_rows(self, version: int, rows: int) -> None:
        self.ledger.check_rows(version, rows, "in its data files")

    def feed_gone(self, opened: DeltaTable, since: int, until: int) -> str | None:
        commits = self.ledger.commits()
        live = {path for path, _, _ in self.files(opened)}
        for version in range(since + 1, until + 1):
            if version not in commits:
                return f"the log of version {version} was cleaned up"
            for path, size in self.ledger.change_files(version):
                if path not in live and not self.ledger.has_file(path):
                    return f"{path} of version {version} was vacuumed"
                self.ledger.check_file(path, size)
        return None

    def _rows_in(self, path: str, size: int) -> int:
        return int(pq.read_metadata(self.ledger.check_file(path, size)).num_rows)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """The table's lock; it goes with its process, also when that is killed."""
        (self.folder / FOLDER).mkdir(parents=True, exist_ok=True)
        with (self.folder / FOLDER / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _failed(self, error: Exception, what: str, kind: type[DataError]) -> NoReturn:
        raise kind(
            f"table {self.name}: {what}: {shortly(error)}. What was committed before is safe; "
            "run it again once that is put right"
        ) from error


def dataset_batches(opened: DeltaTable, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
    """The rows as Arrow's own reader of Delta tables gives them, unchecked.

    One thread: the threaded read of this dataset can abort the process at exit.
    """
    dataset = opened.to_pyarrow_dataset()
    there = [n for n in names if n in dataset.schema.names]
    yield from dataset.scanner(columns=there, batch_size=rows, use_threads=False).to_batches()


def missing(name: str, uri: str) -> TableMissing:
    """The error of a table that is not there yet."""
    return TableMissing(f"table {name}: nothing at {uri}; run `etalage ingest` first")


def require_version(name: str, version: int | None, highest: int, newest: int, error: Exception) -> None:
    """Raises TableMissing: `version` is beyond the `highest` that there ever was."""
    if version is not None and version > highest:
        raise TableMissing(f"table {name}: no version {version}; the newest is {newest}") from error
