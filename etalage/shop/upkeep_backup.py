"""`etalage backup`: a copy of the whole shop as it was at one moment, while it is being used.

Versions of tables are pinned first, in the turn of erasures, so that no copy has rows of somebody whom it
knows to be erased. Bundles and exports never change. SQLite files are copied by SQLite's own backup. Only
then files are copied; what is written meanwhile is of a later moment.
"""

import io
import os
import re
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from etalage import __version__
from etalage.errors import ConfigError, DataError
from etalage.lake.durable_files import Written
from etalage.lake.erasures import FILE as ERASED
from etalage.lake.schema import TABLES
from etalage.shop.upkeep_archive import BackupManifest, Writer, in_our_words, written
from etalage.shop.workspace import Workspace

LEFT_OUT = ("cache", "runs/pixels", "runs/behaviour", "runs/rows", "runs/photos")
"""What is made anew when it is needed."""
_DRAFT = re.compile(r"\.(draft|staging|removing|current|handed|writable|going)-|\..+\.[0-9a-f]{8}$|\.best$")
_LOCKS = (".lock", ".publishing", ".at-work", ".behaviour.lock", ".erased.lock", ".erased.turn", ".writable")
_SPOOL = re.compile(r"\.|etalage-")
"""Folders of runs/ in which work waits."""
_SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True)
class BackedUp:
    """What a backup holds, and what it cost."""

    target: Path
    made_at: str
    files: int
    bytes: int
    copied: int
    """Bytes that were written; the others were there already."""
    linked: int
    """Files that are those of an earlier backup."""
    tables: dict[str, int]
    bundle: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """One file that is to be copied.

    content: what it held at the moment; None: it is read when its turn comes. group: the folder that is no
    good without it, and is left out where it is removed meanwhile; "": it cannot be done without; None: it
    can.
    """

    name: str
    content: bytes | None = None
    facts: os.stat_result | None = None
    """Of `content`: what the file's mode and time were."""
    group: str | None = None
    sqlite: bool = False


def backup(workspace: Workspace, target: str | Path) -> BackedUp:
    """Copy the shop into a folder that holds backups, or into one file (upkeep_archive.py).

    Raises ConfigError: the target is in the shop, or no path; tables or bundles lie in an object store.
    DataError: a file cannot be read, the disk is full: then there is no backup of this moment.
    """
    target = _target(workspace, str(target))
    made_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with (
        in_our_words(target, "there is no backup of this moment, and earlier ones are as they were"),
        written(target) as writer,
    ):
        moment = _Moment(workspace)
        sources = list(moment.sources())
        with workspace.bar("back up", len(sources)) as meter:
            files = _copied(workspace, sources, writer, moment.notes, meter)
        manifest = BackupManifest(
            made_at,
            workspace.config.name,
            __version__,
            moment.tables,
            moment.bundle,
            files,
            tuple(moment.notes),
        )
        final = writer.finish(manifest)
    return BackedUp(
        final, made_at, len(files), manifest.total_bytes, writer.copied, writer.linked, moment.tables,
        moment.bundle, manifest.notes,
    )  # fmt: skip


def _target(workspace: Workspace, target: str) -> Path:
    if "://" in target:
        raise ConfigError(
            f"{target}: a backup goes into a folder or a file; copy that to an object store with the store's "
            "own tools"
        )
    storage = workspace.config.storage
    for name, place in (("tables", storage.tables), ("bundles", storage.bundles)):
        if place is not None:
            raise ConfigError(
                f"[storage] {name} = {place!r}: `etalage backup` copies shops that lie in their folder as a "
                "whole. Switch on versions of objects, or copies to another bucket, in the store, and "
                "copy the shop's folder besides"
            )
    path = Path(target)
    if path.resolve().is_relative_to(workspace.folder.resolve()):
        raise ConfigError(
            f"{target}: lies in the shop that it would hold a copy of; name a place outside of it"
        )
    return path


class _Moment:
    """The shop at one moment: what is to be copied, and what of it is copied as it was then."""

    def __init__(self, workspace: Workspace) -> None:
        self.tables: dict[str, int] = {}
        self.bundle: str | None = None
        self.notes: list[str] = []
        self._workspace, self._root = workspace, workspace.folder

    def sources(self) -> Iterator[_Source]:
        """All files. Raises OSError, TableDamaged."""
        live = [one for name in ("stores.json",) if (one := self._now(f"live/{name}")) is not None]
        pinned = [*self._pinned_tables(), *self._pinned_bundles(), *live]
        yield from pinned
        done = {one.name for one in pinned}
        links = odd = 0
        for where, folders, files in os.walk(self._root, onerror=_refuse):
            here = Path(where).relative_to(self._root)
            for name in list(folders):
                inside = (here / name).as_posix()
                if (self._root / inside).is_symlink():
                    links += 1
                elif self._left_out(inside):
                    folders.remove(name)
            folders.sort()
            for name in sorted(files):
                inside = (here / name).as_posix()
                file = self._root / inside
                if inside in done or name in _LOCKS or _DRAFT.match(name) or _of_sqlite(file):
                    continue
                if file.is_symlink():
                    links += 1
                elif not file.is_file():
                    odd += 1
                else:
                    yield _Source(inside, group=_group(inside, self.bundle), sqlite=_is_sqlite(file))
        self._tell(links, odd)

    def _left_out(self, folder: str) -> bool:
        """What is made anew, drafts, and tables: those that are pinned, and those that came later."""
        parts = folder.split("/")
        of_table = parts[0] == "tables" and parts[1:2] and parts[1] in {*self.tables, *TABLES}
        resumed = parts[0] == "runs" and (
            parts[-1] == "checkpoints" or _SPOOL.match(parts[1] if parts[1:] else "")
        )
        return bool(folder in LEFT_OUT or of_table or resumed or _DRAFT.match(parts[-1]))

    def _pinned_tables(self) -> Iterator[_Source]:
        from etalage.lake.vacuum import snapshot

        lake = self._workspace.lake
        with lake.erasures.turn():
            if (erased := self._now(f"tables/{ERASED}")) is not None:
                yield erased
            for name in lake.versions():
                self.tables[name], files = snapshot(lake.table(name))
                yield from (_Source(f"tables/{name}/{one}", group="") for one in files)

    def _pinned_bundles(self) -> Iterator[_Source]:
        bundles = self._workspace.bundles
        if not bundles.folder.is_dir():
            return
        with bundles.moving():
            self.bundle = bundles.pointed()
            for name in ("current", "log.jsonl", "collections.json"):
                if (found := self._now(f"bundles/{name}")) is not None:
                    yield found

    def _now(self, name: str) -> _Source | None:
        """A file as it is now; None: there is none."""
        try:
            file = self._root / name
            return _Source(name, file.read_bytes(), facts=file.stat())
        except FileNotFoundError:
            return None

    def _tell(self, links: int, odd: int) -> None:
        config = self._workspace.config
        if links:
            self.notes.append(f"{links} links in the shop's folder are left out: what they name is elsewhere")
        if odd:
            self.notes.append(f"{odd} pipes or sockets in the shop's folder are left out")
        if config.serve.live is not None:
            self.notes.append(
                "[serve] live names another place: its events are not in the backup; `etalage collect` "
                "before it brings them into the tables"
            )
        if config.index.kind == "milvus":
            self.notes.append(
                "[index] kind = 'milvus': what lies in the Milvus is not in the backup; `etalage publish` "
                "after a restore writes it anew"
            )


def _refuse(error: OSError) -> None:
    raise error


def _group(inside: str, current: str | None) -> str | None:
    parts = inside.split("/")
    if parts[0] == "bundles" and len(parts) > 2:
        return "" if parts[1] == current else "/".join(parts[:2])
    if parts[0] == "exports" and len(parts) > 3:
        return "/".join(parts[: 4 if parts[2] == "everything" and len(parts) > 4 else 3])
    return None


def _is_sqlite(file: Path) -> bool:
    if file.suffix not in (".db", ".sqlite", ".sqlite3"):
        return False
    with file.open("rb") as opened:
        return opened.read(len(_SQLITE)) == _SQLITE


def _of_sqlite(file: Path) -> bool:
    """A file that SQLite keeps beside a database, and that its backup makes needless."""
    base, dash, suffix = file.name.rpartition("-")
    return dash == "-" and suffix in ("wal", "shm", "journal") and file.with_name(base).exists()


def _copied(
    workspace: Workspace,
    sources: list[_Source],
    writer: Writer,
    notes: list[str],
    meter: Callable[[int], None],
) -> dict[str, Written]:
    files: dict[str, Written] = {}
    gone: set[str] = set()
    for one in sources:
        try:
            if one.group not in gone or one.group is None:
                files[one.name] = _copy(workspace.folder / one.name, one, writer)
        except FileNotFoundError as error:
            if one.group == "":
                raise DataError(
                    f"{one.name}: was removed while the backup was made, and there is none of this moment; "
                    "run it again"
                ) from error
            gone.add(one.group or one.name)
        meter(1)
    for folder in sorted(gone):
        files = {name: facts for name, facts in files.items() if not name.startswith(f"{folder}/")}
        notes.append(f"{folder}: was removed while the backup was made, and is not in it")
    return files


def _copy(file: Path, one: _Source, writer: Writer) -> Written:
    if one.sqlite:
        return _copy_sqlite(file, one.name, writer)
    if one.content is None:
        with file.open("rb") as opened:
            facts = os.fstat(opened.fileno())
            return writer.add(one.name, opened, facts.st_size, facts)
    assert one.facts is not None
    return writer.add(one.name, io.BytesIO(one.content), len(one.content), one.facts)


def _copy_sqlite(file: Path, name: str, writer: Writer) -> Written:
    """As it is at one moment, with what its journal holds."""
    with tempfile.TemporaryDirectory(prefix="etalage-") as folder:
        copy = Path(folder) / "copy.sqlite"
        try:
            try:
                _back_up(file, copy, "ro")
            except sqlite3.OperationalError as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_READONLY:
                    raise
                _back_up(file, copy, "rw")  # a killed writer left a journal: who may write rolls it back
        except sqlite3.Error as error:
            raise DataError(
                f"{file}: cannot be copied: {error}; there is no backup of this moment"
            ) from error
        with copy.open("rb") as opened:
            return writer.add(name, opened, copy.stat().st_size, file.stat())


def _back_up(file: Path, copy: Path, mode: str) -> None:
    source = sqlite3.connect(f"{file.absolute().as_uri()}?mode={mode}", uri=True, timeout=60.0)
    with closing(source), closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
