"""One file of rows, one data frame, or one image set → checked rows, part by part, as `ingest` was told to
read it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from etalage.config import MappingConfig
from etalage.errors import ConfigError, InputUnreadable
from etalage.lake.checked import Checker, Loaded
from etalage.lake.frames import Frame
from etalage.lake.image_sources import folder_rows, idx_rows
from etalage.lake.notes import Notes
from etalage.lake.raw import RawTable
from etalage.lake.sources import BEHAVIOUR_FORMATS, file_style, open_file

IMAGE_SETS = ("idx", "folder")


@dataclass(frozen=True)
class Reading:
    """How files are read into `table`; the fields are those of `ingest`. It pickles, so that any worker can
    read a file."""

    table: str
    mapping: MappingConfig = field(default_factory=MappingConfig)
    format: str | None = None
    attributes: dict[str, str] | None = None
    class_names: Sequence[str] | None = None
    ids: Literal["stem", "path"] = "stem"
    photo_root: Path | None = None
    delimiter: str | None = None
    encoding: str | None = None
    chunk_rows: int = 10_000

    def format_of(self, source: Path) -> str:
        """How `source` is written. Raises InputUnreadable, ConfigError: see `file_style`."""
        return file_style(source, self.format, self.mapping, self.delimiter, self.encoding)[0]

    def read(self, source: Path, notes: Notes) -> Iterator[Loaded]:
        """The checked rows of `source`, `chunk_rows` raw rows at a time. What is done unasked goes to
        `notes`, all of it when the last part is out. Raises InputUnreadable, ConfigError."""
        format = self.format_of(source)
        if format in IMAGE_SETS:
            if self.table not in ("items", "photos"):
                raise InputUnreadable(f"{source}: a set of images fills items and photos, not {self.table}")
            if format == "idx":
                return idx_rows(source, self.class_names, self.attributes, self.chunk_rows)
            return folder_rows(source, self.ids, self.attributes, self.chunk_rows)
        if format in BEHAVIOUR_FORMATS and self.table != "interactions":
            raise InputUnreadable(f"{source}: {format} fills interactions, not {self.table}")
        return self._rows(source, notes)

    def _rows(self, source: Path, notes: Notes) -> Iterator[Loaded]:
        opened = open_file(
            source, self.table, self.mapping, self.chunk_rows,
            format=self.format, delimiter=self.delimiter, encoding=self.encoding,
        )  # fmt: skip
        root = self.photo_root or source.parent
        checker = Checker(source, self.table, opened.mapping, self.attributes, root, opened.own, notes)
        if opened.note is not None:
            notes.add(opened.note)
        yield from _once_each(opened.raw, checker)
        checker.mapping.tell_missing(notes)

    def read_frame(self, frame: Frame, notes: Notes) -> Iterator[Loaded]:
        """The same of a data frame; photo paths in it start at `photo_root`, else at the current folder.

        Raises InputUnreadable: a needed column is not there; ConfigError: a setting that only files have.
        """
        for name in ("format", "class_names", "delimiter", "encoding"):
            if getattr(self, name) is not None:
                raise ConfigError(
                    f"{frame.whence}: {name} is about files, and a frame has none; leave it out"
                )
        for note in frame.notes:
            notes.add(note.what, note.count, note.example)
        root = self.photo_root or Path()
        checker = Checker(frame.whence, self.table, self.mapping, self.attributes, root, None, notes)
        yield from _once_each(frame.raw(self.chunk_rows), checker)
        checker.mapping.tell_missing(notes)


def _once_each(raw: RawTable, checker: Checker) -> Iterator[Loaded]:
    """The file's checked chunks. Rows whose key occurs again are held back and come last, together.

    Otherwise each rerun of the file would write the earlier row over the later one, and back.
    """
    checker.require(raw)
    repeated = _repeated_keys(raw, checker)
    held: dict[str, list[pa.Table]] = {}
    for chunk in raw.chunks():
        mapped = checker.mapped(chunk)
        keys = None if not len(repeated) else checker.keys(mapped)
        again = np.zeros(len(mapped.lines), dtype=bool) if keys is None else np.isin(_hashes(keys), repeated)
        if not again.any():
            yield checker.check(mapped)
            continue
        yield checker.check(mapped.part(~again, rest=True))
        rest = checker.check(mapped.part(again, rest=False))
        for name, rows in rest.tables.items():
            held.setdefault(name, []).append(rows)
        yield replace(rest, tables={}, lines=[])
    if held:
        yield Loaded(
            0, {name: pa.concat_tables(rows, promote_options="default") for name, rows in held.items()}
        )


def _repeated_keys(raw: RawTable, checker: Checker) -> np.ndarray:
    """(R,) int64: hashes of the keys that occur more than once in the file; 8 bytes a row in memory.

    A chance collision only holds back a row that need not be.
    """
    hashes: list[np.ndarray] = []
    for chunk in raw.chunks():
        keys = checker.look(chunk)
        if keys is None and chunk.lines and checker.spec.name == "interactions":
            break  # ids that we give are never repeated
        if keys is not None:
            hashes.append(_hashes(keys))
    values, counts = np.unique(np.concatenate([*hashes, np.zeros(0, np.int64)]), return_counts=True)
    return np.asarray(values[counts > 1])


def _hashes(columns: Sequence[Sequence[Any]]) -> np.ndarray:
    return np.fromiter(
        (hash(tuple(map(str, key))) for key in zip(*columns, strict=True)),
        dtype=np.int64,
        count=len(columns[0]),
    )
