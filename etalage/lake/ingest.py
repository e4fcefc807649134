"""Files, or a data frame → checked rows in Delta tables. A bad row never stops a load: it goes to `refused`.

The work is done in parts, each committed by an idempotent merge: an ingest that was killed is run
again, and every row is there exactly once.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from etalage.config import MappingConfig
from etalage.errors import ConfigError, InputUnreadable
from etalage.lake.delta import Lake
from etalage.lake.frames import DataFrame, Frame, frame_of, is_frame
from etalage.lake.image_sources import is_idx, path_ids
from etalage.lake.many_files import FileLoop, files_of, folder_columns
from etalage.lake.merging import Ingested, Merging, Whole
from etalage.lake.reading import IMAGE_SETS, Reading
from etalage.lake.refusals import refused_rows
from etalage.lake.sources import BEHAVIOUR_FORMATS, FORMATS

__all__ = [
    "BEHAVIOUR_FORMATS",
    "FORMATS",
    "Ingested",
    "TableName",
    "Whole",
    "ingest",
    "refused_rows",
]

TableName = Literal["items", "photos", "users", "interactions"]


def ingest(
    lake: Lake,
    source: Path | str | Sequence[Path | str] | DataFrame | Frame,
    table: TableName,
    mapping: MappingConfig | None = None,
    *,
    name: str | None = None,
    format: str | None = None,
    attributes: dict[str, str] | None = None,
    class_names: Sequence[str] | None = None,
    ids: Literal["stem", "path"] = "stem",
    photo_root: Path | None = None,
    whole: Whole | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    progress: Callable[[int], None] | None = None,
    chunk_rows: int = 10_000,
    loop: FileLoop | None = None,
) -> Ingested:
    """Load files into `table` (an image set into items and photos), by merges of `chunk_rows` rows or more.

    `source`: a file, a folder of images or of tables, a pattern such as `days/*.csv`, or several of these; as
    if one file after the other were loaded, though what cannot be read does not keep the others from it. Or a
    data frame (lake/frames.py), which messages call `name`: by default as the table. Options about files are
    refused there.
    `loop`: where several files are read and checked; None: here.

    `format`: one of FORMATS, else told from the name and from what is in the file; a feed that is known
    has a mapping of its own, behind `mapping`. `attributes` go into every item's. For image
    sets: `class_names` of IDX labels, and `ids` of a folder's items (file stem, or path beneath it).
    `photo_root`: where photo paths in a table start; its own folder when None. `delimiter`, `encoding`: of
    this file, before what the mapping says. `progress` is called with the number of rows read since the last
    call. An empty cell keeps what is stored; of a `whole` source it erases it, and items that it does not
    have leave the catalogue.

    Raises InputUnreadable: a file as a whole makes no sense (missing, not of its format, lacks a needed
    column). ConfigError: the mapping names a column that we do not have. DataError: the lake cannot be
    written; `whole`, but some rows have no id that can be read. CatalogueShrank: `whole`, and too much would
    go. What was merged before stays; a rerun completes it.
    """
    lake.require_writable()
    reading = Reading(
        table, mapping or MappingConfig(), format, attributes, class_names, ids, photo_root,
        delimiter, encoding, chunk_rows,
    )  # fmt: skip
    if is_frame(source):
        return _of_frame(lake, frame_of(source, name or table), reading, whole, progress)
    if name is not None:
        raise ConfigError(f"name = {name!r}: a file is called by its path; leave it out")
    sources = paths_of(source)
    named = ", ".join(map(str, sources))
    files = files_of(sources, format)
    _require_items(named, table, whole)
    only = files[0] if len(files) == 1 else None
    images = only is not None and reading.format_of(only) in IMAGE_SETS and table in ("items", "photos")
    work = Merging(
        lake, "items" if images else table, named,
        several=only is None, whole=whole, step=chunk_rows, progress=progress,
        path_ids=path_ids(only) if images and only is not None and only.is_dir() and ids == "path" else None,
    )  # fmt: skip
    if only is not None:
        for part in reading.read(only, work.notes):
            work.add(only, part)
        return work.finish()
    return _each_of_several(work, reading, files, loop or FileLoop())


def paths_of(source: object) -> list[Path]:
    """The paths that `source` names. Raises InputUnreadable: it is neither paths nor a data frame."""
    sources = [source] if isinstance(source, str | Path) else source
    if isinstance(sources, list | tuple) and all(isinstance(one, str | Path) for one in sources):
        return [Path(one) for one in sources]
    hint = "make one of it: `pyarrow.Table.from_pylist(rows)`, `pandas.DataFrame(rows)`"
    if isinstance(sources, list | tuple) and any(is_frame(one) for one in sources):
        hint = "load one frame at a time, or join them first"
    if type(source).__name__ == "Series":
        hint = "one column; `.reset_index()` or `.to_frame()` makes a frame of it"
    raise InputUnreadable(
        f"{type(source).__name__}: neither a path, nor several, nor a data frame (pandas, polars, Arrow, or "
        f"anything with __arrow_c_stream__); {hint}"
    )


def _require_items(named: str, table: str, whole: Whole | None) -> None:
    if whole is not None and table != "items":
        raise InputUnreadable(
            f"{named}: a whole catalogue is one of items; {table} are added to, never replaced"
        )


def _of_frame(
    lake: Lake,
    frame: Frame,
    reading: Reading,
    whole: Whole | None,
    progress: Callable[[int], None] | None,
) -> Ingested:
    named = str(frame.whence)
    _require_items(named, reading.table, whole)
    work = Merging(
        lake, reading.table, named, noun="frame", whole=whole, step=reading.chunk_rows, progress=progress
    )
    for part in reading.read_frame(frame, work.notes):
        work.add(frame.whence, part)
    return work.finish()


def _each_of_several(work: Merging, reading: Reading, files: Sequence[Path], loop: FileLoop) -> Ingested:
    """The files one after the other; what of one cannot be read is told, and keeps no other from it.

    Raises InputUnreadable: one of them is an image set; none of them can be read.
    """
    for file in files:
        if file.is_dir() or is_idx(file):
            raise InputUnreadable(f"{file}: is a set of images; such a set is loaded by itself")
    if columns := folder_columns(files):
        what = f"{', '.join(columns)}: said by names of folders alone, which are not read"
        work.notes.add(what, len(files), str(files[0]))
    unreadable: list[str] = []
    for checked in loop.checked(reading, files):
        try:
            for part in checked.parts:
                work.add(checked.source, part)
        except InputUnreadable as error:
            unreadable.append(str(error))
        for note in checked.notes.all():
            example = (
                checked.source.name if note.example is None else f"{checked.source.name}, {note.example}"
            )
            work.notes.add(note.what, note.count, example)
        work.end_file()
    if len(unreadable) == len(files):
        raise InputUnreadable(f"none of {len(files)} files can be read; {unreadable[0]}")
    return work.finish(unreadable)
