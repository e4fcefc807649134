"""A Delta table in an object store.

Writers do not queue: each commits by a conditional PUT of the next version (delta-rs does), and Delta's
conflict check tells all but one of them to read again and try anew. A lock with an expiry would not spare
that check: its holder may sleep through the expiry and then write.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import NoReturn

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from etalage.errors import DataError, TableDamaged
from etalage.lake.object_ledger import ObjectLedger
from etalage.lake.object_store import ObjectStore
from etalage.lake.storage import Storage, dataset_batches, missing, require_version

_PART = "part-"
"""What the names of data files begin with, as delta-rs and `lake/parts.py` write them."""


class ObjectStorage(Storage):
    """`store`: the table's place. Every method raises ObjectStoreError, too."""

    # Who opens a table reads every commit since the last checkpoint, each by a request of its own.
    properties = MappingProxyType({"delta.checkpointInterval": "10"})

    def __init__(self, name: str, store: ObjectStore) -> None:
        super().__init__(name, store.place)
        self.store = self.objects = store
        self.ledger = ObjectLedger(name, store)

    def require(self) -> None:
        self.store.require()

    def options(self) -> dict[str, str]:
        return self.store.options()

    def exists(self) -> bool:
        return next(self.store.list("_delta_log/"), None) is not None

    def open(self, version: int | None) -> DeltaTable:
        # Read before opening: a version committed meanwhile must not look like a lost one.
        checkpoint = self.ledger.checkpoint()
        recorded = self.ledger.newest(checkpoint)
        try:
            opened = DeltaTable(self.uri, version=version, storage_options=self.options())
        except (DeltaError, OSError, ValueError) as error:
            commits = self.ledger.commits(checkpoint)
            if not commits and checkpoint < 0:
                raise missing(self.name, self.uri) from None
            newest = max(commits, default=checkpoint)
            require_version(self.name, version, max(newest, recorded), newest, error)
            self.ledger.check_log(checkpoint, newest if version is None else min(version, newest))
            raise TableDamaged(f"table {self.name}: {self.uri}/_delta_log: {plainly(error)}") from error
        since = min(checkpoint, opened.version())
        if version is None:
            self.ledger.check_newest(opened.version(), recorded)
        self.ledger.check_log(since, opened.version())
        rows = sum(n for _, _, n in self.files(opened))
        self.ledger.check_rows(opened.version(), rows, "in its log")
        self.ledger.heal(opened.version(), rows, since)
        return opened

    def stream(self, opened: DeltaTable, names: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        files = [(path, size) for path, size, _ in self.files(opened)]
        prefix = _PART if all(path.startswith(_PART) for path, _ in files) else ""
        self.ledger.check_files(files, prefix)
        try:
            yield from dataset_batches(opened, names, rows)
        except (pa.ArrowException, DeltaError, OSError) as error:
            self._failed(error, "a data file cannot be read", TableDamaged)

    def record(self, written: DeltaTable) -> int:
        rows = sum(n for _, _, n in self.files(written))
        self.ledger.record(written.version(), rows, self.ledger.checkpoint())
        return int(written.version())

    def commit_sha256(self, version: int) -> str | None:
        return self.ledger.commit_sha256(version)

    def has_file(self, path: str) -> bool:
        return self.ledger.has_file(path)

    def check_rows(self, version: int, rows: int) -> None:
        self.ledger.check_rows(version, rows, "in its data files")

    def feed_gone(self, opened: DeltaTable, since: int, until: int) -> str | None:
        commits = self.ledger.commits(since)
        live = {path for path, _, _ in self.files(opened)}
        for version in range(since + 1, until + 1):
            if version not in commits:
                return f"the log of version {version} was cleaned up"
            for path, _ in self.ledger.change_files(version):
                if path not in live and not self.ledger.has_file(path):
                    return f"{path} of version {version} was vacuumed"
        return None

    def _rows_in(self, path: str, size: int) -> int:
        raise DataError(
            f"table {self.name}: {path} was written without a row count; rewrite it with statistics"
        )

    def _turn(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _failed(self, error: Exception, what: str, kind: type[DataError]) -> NoReturn:
        self.require()  # what is wrong with the store itself is said better there
        raise kind(
            f"table {self.name}: {self.uri}: {what}: {plainly(error)}. What was committed before is safe; "
            "run it again once that is put right"
        ) from error


def plainly(error: Exception) -> str:
    """An error of delta-rs in one line: what it says of stores takes several, in colours."""
    said = re.sub(r"\x1b\[[0-9;]*m|↳", "", str(error))
    return re.sub(r"\s+", " ", said).strip()[:400]
