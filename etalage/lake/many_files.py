"""Several files of one table: which they are, and how workers read them.

A file is a shard. A worker reads and checks one, which is most of the work, and leaves the checked parts in a
file of the spool; they are merged where the tables are written, in the order of the files, as if one file
after the other had been ingested.
"""

import glob
import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from etalage.engine.contract import Engine
from etalage.engine.local import LOCAL
from etalage.errors import InputUnreadable
from etalage.lake.checked import Loaded
from etalage.lake.notes import Note, Notes
from etalage.lake.reading import Reading
from etalage.lake.spool_folder import full_disk, own_folder

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".pq", ".jsonl", ".ndjson", ".json", ".xml", ".rss", ".atom")
"""Of files that a folder of tables may hold, each also with `.gz` behind it."""
SECONDS_PER_BYTE = 0.6e-6
"""That reading and checking a text takes, of processor time (docs/decisions/threads.md)."""


@dataclass(frozen=True)
class CheckedFile:
    """`parts` end by InputUnreadable where the file does not make sense any further; `notes` are whole when
    the last part is out."""

    source: Path
    parts: Iterator[Loaded]
    notes: Notes


@dataclass(frozen=True)
class LeftParts:
    """What a worker left of a file. `parts`: where they lie; `unreadable`: why there are no more."""

    source: Path
    parts: Path
    notes: list[Note]
    unreadable: str | None


def files_of(sources: Sequence[Path], format: str | None) -> list[Path]:
    """The files that `sources` name: each itself; what a pattern such as `days/*.csv` finds; the tables in a
    folder that holds nothing else. A folder of images stays a folder.

    Raises InputUnreadable: there is no such file, a pattern finds none, or a folder is a Delta table.
    """
    found: list[Path] = []
    for source in sources:
        if source.is_dir() and format != "folder" and (tables := _tables_in(source)):
            found += tables
        elif not source.exists() and glob.has_magic(str(source)):
            names = sorted(glob.iglob(str(source), recursive=True))  # noqa: PTH207
            if not names:
                raise InputUnreadable(f"{source}: no such file, nor any that fits it as a pattern")
            found += map(Path, names)
        elif not source.exists():
            raise InputUnreadable(f"{source}: no such file or folder")
        else:
            found.append(source)
    return list(dict.fromkeys(found))


def _tables_in(folder: Path) -> list[Path]:
    """The tables beneath `folder`, in order of path; none where it holds anything else. What begins with `_`
    or `.` is how Spark and others mark what is no data."""
    if (folder / "_delta_log").is_dir():
        raise InputUnreadable(
            f"{folder}: is a Delta table: its folder holds files of old versions too. Write the version "
            "that you mean to Parquet, and load that"
        )
    tables: list[Path] = []
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        for name in sorted(name for name in files if not name.startswith((".", "_"))):
            if not name.lower().removesuffix(".gz").endswith(TABLE_SUFFIXES):
                return []
            tables.append(Path(where) / name)
    return tables


def folder_columns(files: Sequence[Path]) -> list[str]:
    """The columns that the folders of `files` are named by, as in `day=2024-01-01/part-0.parquet`."""
    names = {part.partition("=")[0] for file in files for part in file.parts[:-1] if "=" in part}
    return sorted(names)


@dataclass(frozen=True)
class FileLoop:
    """Where several files are read and checked. As it is made here: in this process alone."""

    engine: Engine = LOCAL
    spool: Path | None = None
    """A folder that every worker sees, where checked parts lie on their way to the tables. None: nothing
    leaves this process."""
    saving: float = 10.0
    """Workers are started where they would save so many seconds."""

    def checked(self, reading: Reading, files: Sequence[Path]) -> Iterator[CheckedFile]:
        """Each file in order, checked. Raises ConfigError; DataError: no space; ShardFailed: a worker was
        lost again and again over one file."""
        if self.spool is None or not self._pays(files):
            for source in files:
                notes = Notes()
                yield CheckedFile(source, reading.read(source, notes), notes)
            return
        with own_folder(self.spool) as folder:
            for left in self.engine.map(partial(check_file, reading, folder), list(enumerate(files))):
                notes = Notes()
                for note in left.notes:
                    notes.add(note.what, note.count, note.example)
                yield CheckedFile(left.source, _parts_of(left), notes)
                left.parts.unlink(missing_ok=True)

    def _pays(self, files: Sequence[Path]) -> bool:
        here = SECONDS_PER_BYTE * sum(one.stat().st_size for one in files)
        at_once = min(len(files), self.engine.workers)
        return at_once > 1 and here * (1 - 1 / at_once) >= self.saving


def check_file(reading: Reading, folder: Path, shard: tuple[int, Path]) -> LeftParts:
    """Read and check one file, in a worker; the same parts each time."""
    number, source = shard
    notes, unreadable = Notes(), None
    parts = folder / f"{number:08d}.parts"
    with full_disk(folder), parts.open("wb") as file:
        try:
            for part in reading.read(source, notes):
                pickle.dump(part, file, protocol=5)
        except InputUnreadable as error:
            unreadable = str(error)
    return LeftParts(source, parts, notes.all(), unreadable)


def _parts_of(left: LeftParts) -> Iterator[Loaded]:
    """What our own worker left a moment ago, a part at a time. Raises InputUnreadable, as it found it."""
    with left.parts.open("rb") as opened:
        while opened.peek(1):
            yield pickle.load(opened)  # noqa: S301
    if left.unreadable is not None:
        raise InputUnreadable(left.unreadable)
