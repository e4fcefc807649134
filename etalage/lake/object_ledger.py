"""The ledger of a Delta table in an object store: what its log does not notice about itself.

A store checks the bytes it keeps, but not whether the log is whole: a commit that somebody, a clean-up rule
or a copy of an earlier day took away leaves a table that opens with fewer rows. So each commit is recorded
under `<table>/_etalage/rows/<version>.json`:

    {"version", "rows", "commit_sha256", "commits": {"<version>": "<ETag>", …}}

with the ETags of all commits since the last checkpoint, so that one record speaks for all of them: opening a
table costs two listings and two reads, however long its log is. A data file is checked for being there, and
for its size; its bytes are the store's to check.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from etalage.errors import TableDamaged
from etalage.lake.ledger import FOLDER, commit_actions, feed_files, why_unsound
from etalage.lake.object_store import ObjectStore, Stored

_LOG, _ROWS = "_delta_log/", f"{FOLDER}/rows/"
_CHECKPOINT = "_delta_log/_last_checkpoint"


class ObjectLedger:
    """The records of one Delta table. `store`: the table's place. As `Ledger`, of which it is the
    counterpart. Every method raises ObjectStoreError."""

    def __init__(self, name: str, store: ObjectStore) -> None:
        self.name = name
        self.store = store
        self._records: dict[int, dict[str, Any] | None] = {}
        self._sound: dict[int, str] = {}  # version → the ETag that was verified

    def checkpoint(self) -> int:
        """The last checkpointed version; -1 when there is none."""
        found = self.store.read(_CHECKPOINT)
        try:
            return -1 if found is None else int(json.loads(found.content)["version"])
        except (ValueError, KeyError, TypeError) as error:
            raise TableDamaged(
                f"table {self.name}: {self._where(_CHECKPOINT)} cannot be read: {error}; remove it"
            ) from error

    def newest(self, since: int) -> int:
        """The newest version that is recorded, of those from the checkpoint `since` on; -1 when none is."""
        after = f"{_ROWS}{max(since, 0):020d}"  # stands before its own record
        return max((_version(one.name) for one in self.store.list(_ROWS, after)), default=-1)

    def commits(self, since: int = -1) -> dict[int, Stored]:
        """The commits of the log behind version `since`."""
        after = f"{_LOG}{since:020d}.json" if since >= 0 else ""
        return {_version(one.name): one for one in self.store.list(_LOG, after) if _is_commit(one.name)}

    def rows(self, version: int) -> int | None:
        """The recorded row count of `version`; None when it was never recorded."""
        record = self._record(version)
        return None if record is None else int(record["rows"])

    def commit_sha256(self, version: int) -> str | None:
        """The recorded hash of the commit `version`; None when it was never recorded."""
        record = self._record(version)
        return None if record is None else str(record["commit_sha256"])

    def check_log(self, since: int, until: int) -> None:
        """Raises TableDamaged when a commit behind the checkpoint `since`, up to `until`, is missing, cut or
        changed."""
        there = self.commits(since)
        known = self._etags(until)
        for number in range(since + 1, until + 1):
            if number not in there:
                self._refuse(number, "is missing")
            why = self._why_broken(number, there[number], known)
            if why:
                self._refuse(number, why)

    def check_newest(self, opened: int, recorded: int) -> None:
        """Raises TableDamaged when the log ends at `opened`, before a version recorded earlier."""
        if opened < recorded:
            self._refuse(opened + 1, "is missing, though it was committed")

    def check_rows(self, version: int, rows: int, what: str) -> None:
        """Raises TableDamaged when `rows` is not the recorded count of `version`."""
        expected = self.rows(version)
        if expected is not None and expected != rows:
            self._refuse(version, f"leads to {rows} rows {what}, recorded were {expected}")

    def check_files(self, files: Iterable[tuple[str, int]], prefix: str = "") -> None:
        """Raises TableDamaged, naming the file: of these (path, bytes), as the log writes them, one is
        missing or has another size. `prefix`: what all their names begin with."""
        there = {one.name: one.bytes for one in self.store.list(prefix)}
        for path, size in files:
            found = there.get(unquote(path))
            if found is None:
                self._damaged(path, "is missing (deleted, or vacuumed away under an old version)")
            if found != size:
                self._damaged(path, f"has {found} bytes, the log says {size}")

    def has_file(self, path: str) -> bool:
        """Whether the data file `path` (as the log writes it) is there at all."""
        return self.store.head(unquote(path)) is not None

    def change_files(self, version: int) -> list[tuple[str, int]]:
        """(path, bytes) of each file that the change feed of `version` is read from."""
        commit = self.store.read(_commit(version))
        return [] if commit is None else feed_files(commit_actions(commit.content))

    def heal(self, version: int, rows: int, since: int) -> None:
        """Record a commit that has no record. since: the checkpoint before it."""
        if self._record(version) is None:
            self.record(version, rows, since)

    def record(self, version: int, rows: int, since: int) -> None:
        """Record the commit `version`, its row count, and the ETags of all since the checkpoint `since`."""
        commit = self.store.read(_commit(version))
        if commit is None:  # cleaned up behind a checkpoint
            return
        record = {
            "version": version,
            "rows": rows,
            "commit_sha256": hashlib.sha256(commit.content).hexdigest(),
            "commits": {str(n): one.etag for n, one in self.commits(since).items() if n <= version},
        }
        self.store.put(_row(version), json.dumps(record).encode())
        self._records[version] = record

    def _record(self, version: int) -> dict[str, Any] | None:
        if self._records.get(version) is None:
            found = self.store.read(_row(version))
            try:
                self._records[version] = None if found is None else dict(json.loads(found.content))
            except (ValueError, TypeError):
                self._records[version] = None
        return self._records[version]

    def _etags(self, until: int) -> dict[int, str]:
        """The recorded ETags of the commits up to `until`, from its own record or the one before it."""
        for version in (until, until - 1):
            record = self._record(version) if version >= 0 else None
            if record is not None:
                # None in a record that was copied from a folder.
                return {int(n): str(etag) for n, etag in record.get("commits", {}).items()}
        return {}

    def _why_broken(self, number: int, commit: Stored, known: dict[int, str]) -> str | None:
        if commit.bytes == 0:
            return "was cut to 0 bytes"
        if commit.etag in (known.get(number), self._sound.get(number)):
            return None
        # Another ETag need not mean another content: a copied bucket that encrypts anew has others.
        found = self.store.read(_commit(number))
        content = b"" if found is None else found.content
        why = why_unsound(content, self._record(number))
        if why is not None:
            return why
        self._sound[number] = commit.etag
        return None

    def _refuse(self, number: int, why: str) -> None:
        good = number - 1
        advice = (
            f"the last good version is {good}: read it with Table.read(version={good}), or bring back that "
            "object (an earlier version of it, where the bucket keeps them)"
            if good >= 0
            else "no version before it is good: bring back that object"
        )
        raise TableDamaged(f"table {self.name}: commit {self._where(_commit(number))} {why}; {advice}")

    def _damaged(self, path: str, why: str) -> None:
        raise TableDamaged(
            f"table {self.name}: data file {self._where(unquote(path))} {why}; bring it back (an earlier "
            "version of it, where the bucket keeps them), or delete the table and ingest its sources again"
        )

    def _where(self, name: str) -> str:
        return f"{self.store.place.uri}/{name}"


def _commit(version: int) -> str:
    return f"{_LOG}{version:020d}.json"


def _row(version: int) -> str:
    return f"{_ROWS}{version:020d}.json"


def _is_commit(name: str) -> bool:
    return re.fullmatch(r"_delta_log/\d{20}\.json", name) is not None


def _version(name: str) -> int:
    return int(name.rpartition("/")[2][:20])
