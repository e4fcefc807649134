"""Files of a table that no version needs any more which is to stay: which they are, and how they go.

Delta keeps the files of old versions until somebody removes them. Four things decide what stays: the versions
of the last days; versions that somebody pins (an export that learned from one, a bundle that was made of
one); the change feed that the next sync reads; and the erasures. A version that has rows of an erased shopper
goes at once, whoever pins it, and with it the commits before the first clean version, whose statistics name
the smallest and largest ids.
"""

import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from etalage.errors import DataError
from etalage.lake.delta import Table
from etalage.lake.erasures import Erasure, Known, without_erased
from etalage.lake.ledger import FOLDER, commit_actions
from etalage.lake.object_store import ObjectStore
from etalage.lake.storage import LocalStorage

LOG = "_delta_log"
CHANGES = "_change_data"
UNSEEN_SECONDS = 24 * 3600.0
"""A file that no commit names may be one that somebody is about to commit, until it is so old."""
SETTLED_US = 3600 * 1_000_000
"""So long after an erasure its deletion has been committed, unless it failed, and was run again."""


@dataclass(frozen=True)
class TableWaste:
    """What of one table can go."""

    table: str
    files: tuple[str, ...]
    """Data files and files of the change feed, beneath the table's place."""
    bytes: int
    commits: tuple[int, ...]
    """Versions whose commits go, oldest first: their statistics may name an erased shopper."""
    first: int
    """From this version on all can be read; before it only the `pinned` ones."""
    newest: int
    pinned: tuple[int, ...]
    """Older versions that stay because something was made of them."""
    lost: tuple[int, ...]
    """Versions that something was made of, and that cannot be read afterwards."""
    erased: bool
    """Whether versions go that have rows of erased shoppers."""


@dataclass(frozen=True)
class _File:
    name: str
    bytes: int


class _Shelf(Protocol):
    """Where the files of one table lie."""

    def files(self) -> Iterator[_File]: ...

    def age(self, name: str) -> float: ...

    def read(self, name: str) -> bytes: ...

    def remove(self, names: Collection[str]) -> None: ...


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def files(self) -> Iterator[_File]:
        for where, folders, names in os.walk(self._folder):
            folders.sort()
            for name in sorted(names):
                file = Path(where) / name
                yield _File(file.relative_to(self._folder).as_posix(), file.lstat().st_size)

    def age(self, name: str) -> float:
        return time.time() - (self._folder / name).stat().st_mtime

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def remove(self, names: Collection[str]) -> None:
        sums = self._folder / FOLDER / "sums"
        for name in names:
            (self._folder / name).unlink(missing_ok=True)
            (sums / f"{Path(name).name}.json").unlink(missing_ok=True)


class _Store:
    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def files(self) -> Iterator[_File]:
        for one in self._store.list():
            yield _File(one.name, one.bytes)

    def age(self, name: str) -> float:
        found = self._store.head(name)
        return 0.0 if found is None else found.age

    def read(self, name: str) -> bytes:
        found = self._store.read(name)
        return b"" if found is None else found.content

    def remove(self, names: Collection[str]) -> None:
        self._store.delete(names)


def waste(
    table: Table, *, since: datetime, pinned: Collection[int], feed_since: int | None, erased: Known
) -> TableWaste:
    """What of `table` can go.

    since: what was a version from then on stays one. pinned: versions that stay too, as long as they have
    nothing of `erased` shoppers. feed_since: the change feed behind this version stays, however old. Raises
    TableMissing, TableDamaged, ObjectStoreError.
    """
    log = _Log(table)
    newest = table.version()
    first = log.at(since, newest)
    clean = _first_clean(table, log, newest, erased)
    dirty = clean > log.oldest
    known = sorted(one for one in set(pinned) if one <= newest)
    if dirty:
        first = max(first, clean)
    keep = [one for one in known if one < first and _is_there(table, one) and not (dirty and one < clean)]
    live = log.live(first, newest).union(*(_files_of(table, one) for one in keep))
    read_since = first if feed_since is None else min(first, feed_since)
    feed = log.feed(max(read_since, clean) if dirty else read_since)
    named = log.named_until(newest)
    gone = [one for one in log.files if _can_go(log, one.name, live | feed, named)]
    lost = tuple(one for one in known if one < first and one not in keep)
    commits = tuple(one for one in log.commits if one < clean) if dirty else ()
    return TableWaste(
        table.name, tuple(one.name for one in gone), sum(one.bytes for one in gone), commits,
        first, newest, tuple(keep), lost, dirty,
    )  # fmt: skip


def remove(table: Table, found: TableWaste) -> None:
    """Remove what `waste` found. A kill leaves a whole table, and the same command finishes the rest: the
    commits go last, since they say which files nobody needs. What somebody committed since then stays whole.
    Raises DataError: the disk."""
    shelf = _shelf(table)
    with table.storage.alone("cannot be vacuumed"):
        # The oldest version that stays can no longer be put together from commits: it needs a checkpoint.
        clean = found.commits[-1] + 1 if found.commits else 0
        if found.commits:
            table.storage.open(clean).create_checkpoint()
        since = _Log(table).live(found.newest, table.version())
        shelf.remove([one for one in found.files if one not in since])
        shelf.remove([_commit(version) for version in found.commits])
        before = (f"{LOG}/{one}" for one in _checkpoints(shelf) if found.commits and _number(one) < clean)
        shelf.remove(list(before))


def snapshot(table: Table) -> tuple[int, list[str]]:
    """The newest version of a table in a folder, and the files that it and the older ones are read from, as
    far as they are there: commits and checkpoints, records, data, beneath the table's folder. Who writes
    meanwhile adds files that are not among them. Raises TableMissing, TableDamaged."""
    storage = table.storage
    assert isinstance(storage, LocalStorage)
    version = table.version()
    log = _Log(table)
    there = {one.name for one in log.files}
    data = there & (log.live(log.oldest, version) | log.named_until(version))
    bases = {Path(one).name for one in data}
    found = sorted(data)
    for name in sorted(one.name for one in _Folder(storage.folder).files()):
        folder, _, base = name.rpartition("/")
        numbered = folder in (LOG, f"{FOLDER}/rows") and base[:20].isdigit() and int(base[:20]) <= version
        summed = folder == f"{FOLDER}/sums" and base.removesuffix(".json") in bases
        if numbered or summed:
            found.append(name)
    return version, found


def _checkpoints(shelf: _Shelf) -> list[str]:
    names = (one.name for one in shelf.files() if one.name.startswith(f"{LOG}/"))
    return [name.removeprefix(f"{LOG}/") for name in names if ".checkpoint" in name]


def _number(name: str) -> int:
    return int(name[:20])


def _commit(version: int) -> str:
    return f"{LOG}/{version:020d}.json"


def _shelf(table: Table) -> _Shelf:
    storage = table.storage
    if isinstance(storage, LocalStorage):
        return _Folder(storage.folder)
    assert storage.objects is not None
    return _Store(storage.objects)


class _Log:
    """The commits of a table that are there, and the files beside them."""

    def __init__(self, table: Table) -> None:
        self._table, self._shelf = table, _shelf(table)
        every = list(self._shelf.files())
        self.files = [one for one in every if not one.name.startswith((f"{LOG}/", f"{FOLDER}/"))]
        names = (Path(one.name) for one in every if one.name.startswith(f"{LOG}/"))
        self.commits = sorted(
            int(name.stem) for name in names if name.suffix == ".json" and name.stem.isdigit()
        )
        """Versions, rising."""
        self.oldest = self.commits[0] if self.commits else 0
        self.times: dict[int, int] = {}
        """Version → when it was committed, in µs since 1970."""
        self._added: dict[int, set[str]] = {}
        self._feed: dict[int, set[str]] = {}
        """Version → what its changes are read from: files of their own, else those that it added and took."""
        self._named: dict[int, set[str]] = {}
        for version in self.commits:
            self._take(version)

    def _take(self, version: int) -> None:
        added, feed, taken = set[str](), set[str](), set[str]()
        for action in commit_actions(self._shelf.read(_commit(version))):
            if info := action.get("commitInfo"):
                self.times[version] = int(info.get("timestamp", 0)) * 1000
            for kind, into in (("add", added), ("cdc", feed), ("remove", taken)):
                if path := (action.get(kind) or {}).get("path"):
                    into.add(unquote(path))
        self._added[version], self._feed[version] = added, feed or added | taken
        self._named[version] = added | feed | taken

    def at(self, moment: datetime, newest: int) -> int:
        """The version that was the newest at `moment`; the oldest that is there, where all are later."""
        then = int(moment.timestamp() * 1_000_000)
        return max(
            (one for one in self.commits if self.times.get(one, 0) <= then), default=min(self.oldest, newest)
        )

    def live(self, first: int, newest: int) -> set[str]:
        """The data files of all versions from `first` on."""
        later = (self._added[one] for one in self.commits if first < one <= newest)
        return _files_of(self._table, first).union(*later)

    def feed(self, since: int) -> set[str]:
        """The files of the change feed of all versions behind `since`."""
        return set().union(*(files for version, files in self._feed.items() if version > since))

    def named_until(self, version: int) -> set[str]:
        """Every file that a commit up to `version` speaks of."""
        return set[str]().union(*(files for one, files in self._named.items() if one <= version))

    def is_old(self, name: str) -> bool:
        """Whether a file that no commit names is older than anything that is about to be committed."""
        return self._shelf.age(name) > UNSEEN_SECONDS


def _can_go(log: _Log, name: str, stays: set[str], named: set[str]) -> bool:
    return name not in stays and (name in named or log.is_old(name))


def _files_of(table: Table, version: int) -> set[str]:
    storage = table.storage
    return {unquote(path) for path, _, _ in storage.files(storage.open(version))}


def _is_there(table: Table, version: int) -> bool:
    try:
        table.require_files(version)
    except DataError:
        return False
    return True


def _first_clean(table: Table, log: _Log, newest: int, erased: Known) -> int:
    """The first version from which on none has rows of a shopper from before their erasure; the oldest there
    is, where all are clean."""
    latest = max((one.at for one in erased.values()), default=None)
    if latest is None:
        return log.oldest
    for version in range(newest - 1, log.oldest - 1, -1):
        since = log.times.get(version, 0) - latest
        if since <= SETTLED_US and _has_erased(table, version, erased, before=since <= 0):
            return version + 1
    return log.oldest


def _has_erased(table: Table, version: int, erased: Known, before: bool) -> bool:
    """Whether a version has such rows; of a table without a column of shoppers that is not known, and counts
    as yes. `before`: whether it was made before the last erasure; then its commit may name somebody even if
    its files are gone."""
    spec = table.spec
    if spec.shopper is None:
        return True
    # Of a row without a time it does not matter whether its shopper has come back since.
    erased = {name: Erasure(one.at) for name, one in erased.items()}
    columns = [spec.shopper, *([spec.acted] if spec.acted is not None else [])]
    try:
        return without_erased(table.read(version, columns), spec, erased).left > 0
    except DataError:
        return before


def days_ago(days: float) -> datetime:
    """So many days before now."""
    return datetime.fromtimestamp(time.time() - days * 86400, UTC)
