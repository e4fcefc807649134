"""What a Delta log does not notice about itself, kept beside it and checked at each open.

deltalake 1.6.6 opens a table whose newest commit was cut to 0 bytes and silently returns fewer
rows; and a flipped byte in a Parquet data page may decode to a wrong value. So each commit's own
hash and row count, and the hash of each data file, are recorded under `<table>/_etalage/`:

    rows/<version>.json   {"version", "rows", "commit_sha256"}
    sums/<data file>      {"bytes", "sha256"}

Delta ignores folders that begin with `_`. A crash between a commit and its record leaves a commit
without a record: it is checked for being whole, and recorded when next opened.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from etalage.errors import TableDamaged

FOLDER = "_etalage"


@dataclass(frozen=True)
class Moment:
    """One version of one table."""

    table_id: str
    """Of the table: one that was made anew has another."""
    version: int
    commit: str | None
    """SHA-256 of the commit: a table that was put back from a copy of an earlier day has its id, and other
    commits from that day on. None: it was never recorded."""


class Ledger:
    """The records of one local Delta table. `folder` is the table's folder."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._log = folder / "_delta_log"
        self._sound: dict[Path, tuple[int, int]] = {}  # file → (bytes, mtime_ns) when last verified

    def newest(self) -> int:
        """The newest recorded version; -1 when none is."""
        return max((int(n[:20]) for n in _names(self.folder / FOLDER / "rows") if _is_commit(n)), default=-1)

    def rows(self, version: int) -> int | None:
        """The recorded row count of `version`; None when it was never recorded."""
        record = _read_record(self._rows_file(version))
        return None if record is None else int(record["rows"])

    def commit_sha256(self, version: int) -> str | None:
        """The recorded hash of the commit `version`; None when it was never recorded."""
        record = _read_record(self._rows_file(version))
        return None if record is None else str(record["commit_sha256"])

    def check_log(self, version: int | None = None) -> None:
        """Raises TableDamaged when a commit up to `version` (None: all) is missing, cut or changed."""
        broken = self._first_broken(version)
        if broken is None:
            return
        number, file, why = broken
        self._refuse(number, file, why)

    def check_newest(self, opened: int, recorded: int) -> None:
        """Raises TableDamaged when the log ends at `opened`, before a version recorded earlier."""
        if opened < recorded:
            self._refuse(opened + 1, self._commit_file(opened + 1), "is missing, though it was committed")

    def check_rows(self, version: int, rows: int, what: str) -> None:
        """Raises TableDamaged when `rows` is not the recorded count of `version`."""
        expected = self.rows(version)
        if expected is not None and expected != rows:
            self._refuse(
                version, self._commit_file(version), f"leads to {rows} rows {what}, recorded were {expected}"
            )

    def check_file(self, path: str, size: int) -> Path:
        """The data file `path` (as the log writes it, `size` bytes), verified.

        Raises TableDamaged, naming the file: missing, of another size, or its hash has changed.
        """
        file = self.folder / unquote(path)
        try:
            state = file.stat()
        except FileNotFoundError:
            raise self._damaged_file(
                file, "is missing (deleted, or vacuumed away under an old version)"
            ) from None
        if state.st_size != size:
            raise self._damaged_file(file, f"has {state.st_size} bytes, the log says {size}")
        if self._sound.get(file) == (state.st_size, state.st_mtime_ns):
            return file
        record = _read_record(self._sums_file(path))
        if record is not None and _sha256(file) != record["sha256"]:
            raise self._damaged_file(file, "has changed since it was written: its SHA-256 differs")
        self._sound[file] = (state.st_size, state.st_mtime_ns)
        return file

    def record(self, version: int, rows: int) -> None:
        """Record the commit `version` (which must be there), its row count and its files' hashes."""
        commit = self._commit_file(version).read_bytes()
        for action in commit_actions(commit):
            path = (action.get("add") or action.get("cdc") or {}).get("path")
            if path and (self.folder / unquote(path)).exists() and not self._sums_file(path).exists():
                file = self.folder / unquote(path)
                _write_record(self._sums_file(path), {"bytes": file.stat().st_size, "sha256": _sha256(file)})
        _write_record(
            self._rows_file(version),
            {"version": version, "rows": rows, "commit_sha256": hashlib.sha256(commit).hexdigest()},
        )

    def heal(self, version: int, rows: int) -> None:
        """Record a sound commit that has no record; on a read-only folder, leave it."""
        if _read_record(self._rows_file(version)) is None and self._commit_file(version).exists():
            try:
                self.record(version, rows)
            except OSError:
                return

    def commits(self) -> dict[int, Path]:
        """The commit files that are in the log, by version."""
        return {int(n[:20]): self._log / n for n in sorted(_names(self._log)) if _is_commit(n)}

    def has_file(self, path: str) -> bool:
        """Whether the data file `path` (as the log writes it) is there at all."""
        return (self.folder / unquote(path)).exists()

    def change_files(self, version: int) -> list[tuple[str, int]]:
        """(path, bytes) of each file that the change feed of `version` is read from."""
        return feed_files(commit_actions(self._commit_file(version).read_bytes()))

    def _first_broken(self, until: int | None) -> tuple[int, Path, str] | None:
        commits = self.commits()
        start = self.checkpoint(until)
        numbers = [n for n in commits if n > start and (until is None or n <= until)]
        end = until if until is not None else max(numbers, default=start)
        for number in range(start + 1, end + 1):
            if number not in commits:
                return number, self._commit_file(number), "is missing"
            why = self._why_broken(number, commits[number])
            if why:
                return number, commits[number], why
        return None

    def _why_broken(self, number: int, file: Path) -> str | None:
        try:
            state = file.stat()
        except FileNotFoundError:
            return "is missing"
        if state.st_size == 0:
            return "was cut to 0 bytes"
        if self._sound.get(file) == (state.st_size, state.st_mtime_ns):
            return None
        content = file.read_bytes()
        why = why_unsound(content, _read_record(self._rows_file(number)))
        if why is not None:
            return why
        self._sound[file] = (state.st_size, state.st_mtime_ns)
        return None

    def checkpoint(self, until: int | None = None) -> int:
        """The newest checkpointed version up to `until`; -1 when there is none."""
        found = [int(n[:20]) for n in _names(self._log) if re.fullmatch(r"\d{20}\.checkpoint.*\.parquet", n)]
        return max((v for v in found if until is None or v <= until), default=-1)

    def _refuse(self, number: int, file: Path, why: str) -> None:
        good = number - 1
        advice = (
            f"the last good version is {good}: read it with Table.read(version={good}), "
            f"or restore {file.name} from a backup"
            if good >= 0
            else "no version before it is good: restore the table from a backup"
        )
        raise TableDamaged(f"table {self.name}: commit file {file} {why}; {advice}")

    def _damaged_file(self, file: Path, why: str) -> TableDamaged:
        return TableDamaged(
            f"table {self.name}: data file {file} {why}; restore it from a backup, or delete the table "
            "and ingest its sources again"
        )

    def _commit_file(self, version: int) -> Path:
        return self._log / f"{version:020d}.json"

    def _rows_file(self, version: int) -> Path:
        return self.folder / FOLDER / "rows" / f"{version:020d}.json"

    def _sums_file(self, path: str) -> Path:
        return self.folder / FOLDER / "sums" / (Path(unquote(path)).name + ".json")


def _is_commit(name: str) -> bool:
    return re.fullmatch(r"\d{20}\.json", name) is not None


def _names(folder: Path) -> list[str]:
    try:
        return [file.name for file in folder.iterdir()]
    except FileNotFoundError:
        return []


def feed_files(actions: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """(path, bytes) of each file that the change feed of a commit is read from."""
    changes = [a["cdc"] for a in actions if a.get("cdc")]
    if changes:
        return [(c["path"], c["size"]) for c in changes]
    return [
        (a["add"]["path"], a["add"]["size"])
        for a in actions
        if a.get("add") and a["add"].get("dataChange", True)
    ]


def commit_actions(commit: bytes) -> list[dict[str, Any]]:
    """The actions of a commit. Raises ValueError: it is torn."""
    actions = [json.loads(line) for line in commit.splitlines() if line.strip()]
    if not all(isinstance(a, dict) for a in actions):
        raise ValueError("a line is not a JSON object")
    return actions


def why_unsound(commit: bytes, record: Mapping[str, Any] | None) -> str | None:
    """Why a commit is not what was recorded of it, or none at all; None: it is sound."""
    if record is not None and hashlib.sha256(commit).hexdigest() != record["commit_sha256"]:
        return "is torn or was changed: its SHA-256 is not the recorded one"
    try:
        if record is None and not any("commitInfo" in a or "add" in a for a in commit_actions(commit)):
            return "holds no commit"
    except ValueError as error:
        return f"is torn: {error}"
    return None


def _sha256(file: Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _read_record(file: Path) -> dict[str, Any] | None:
    """A record, or None: an unreadable one (a power cut) counts as never written."""
    try:
        record = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _write_record(file: Path, record: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    temporary.write_text(json.dumps(record), encoding="utf-8")
    temporary.replace(file)
