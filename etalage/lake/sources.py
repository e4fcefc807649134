"""A file of rows, opened: how it is written, which feed it is, and the mapping that fits it."""

from dataclasses import dataclass
from pathlib import Path

from etalage.config import MappingConfig, validated
from etalage.errors import ConfigError, InputUnreadable
from etalage.lake.feeds.recognising import FEEDS, Recognised, as_feed, container_of, read_head, recognised
from etalage.lake.image_sources import is_idx
from etalage.lake.raw import RawTable
from etalage.lake.readers import open_table
from etalage.lake.text_files import FileStyle, head_of

BEHAVIOUR_FORMATS = ("ncf", "pairs", "sequences", "set_ratings")
"""Published files of interactions; see behaviour_files.py. No name tells them: say which it is."""
FORMATS = ("csv", "parquet", "jsonl", "xml", *FEEDS, "idx", "folder", *BEHAVIOUR_FORMATS)
_DELIMITED = ("csv",)
_TEXT = ("csv", "jsonl", "xml")
_SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_PACKED = {
    b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zX": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"Rar!": "RAR",
    b"7z\xbc\xaf": "7-Zip",
}  # fmt: skip


@dataclass(frozen=True)
class OpenedFile:
    """`raw`: its rows, by the names that `mapping` knows; `own`: what of the mapping the shop says itself.

    `note`: what the file was taken for unasked.
    """

    raw: RawTable
    mapping: MappingConfig
    own: MappingConfig
    note: str | None = None


def file_style(
    source: Path, format: str | None, own: MappingConfig, delimiter: str | None, encoding: str | None
) -> tuple[str, FileStyle]:
    """(how `source` is written: a format that is no feed's; how its text is).

    `format`: one of FORMATS, None: told from the name and from what is in it. `delimiter`, `encoding`: of
    this file, before what `own` says. Raises InputUnreadable: nothing tells; ConfigError: what was said of
    the file is none, or cannot act.
    """
    said = validated(
        MappingConfig,
        {name: word for name, word in (("delimiter", delimiter), ("encoding", encoding)) if word is not None},
        "ingest",
    )
    style = FileStyle(said.delimiter or own.delimiter, said.encoding or own.encoding)
    if format is None or (format == "folder" and source.is_file()):
        # A file as a folder: a table of paths, items with a `photo_path` or `path` column.
        format = _format_of(source, style)
    elif format in FEEDS:
        format = _container(source, style)
    for name, value, formats in (("delimiter", delimiter, _DELIMITED), ("encoding", encoding, _TEXT)):
        if value is not None and format not in formats:
            raise ConfigError(f"{name} {value!r}: the file is read as {format}, which has none; leave it out")
    return format, style


def open_file(
    source: Path,
    table: str,
    own: MappingConfig,
    rows: int,
    *,
    format: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> OpenedFile:
    """A file of rows for `table`, `rows` rows at a time. See `file_style`.

    Raises also InputUnreadable: it is a feed, and one that fills another table.
    """
    container, style = file_style(source, format, own, delimiter, encoding)
    if container in BEHAVIOUR_FORMATS:
        # These formats name their columns.
        own = MappingConfig(constants=own.constants, values=own.values, skip=own.skip)
        return OpenedFile(open_table(source, container, rows, style), own, own)
    said = format if format in FEEDS else None
    found = _feed(source, container, said, table, own, style) if said or format in (None, "folder") else None
    if found is None or found.feed is None:
        return OpenedFile(open_table(source, container, rows, style), own, own)
    feed, head = found.feed, found.head
    read_by = feed.own(own)
    raw = RawTable(source, lambda: feed.read(head, rows, read_by), one_header=False)
    note = f"taken for {feed.title}: {found.why} (as a plain table: --format {container})"
    return OpenedFile(raw, feed.mapping(head, own), own, None if said else note)


def _feed(
    source: Path, container: str, said: str | None, table: str, own: MappingConfig, style: FileStyle
) -> Recognised | None:
    """Which feed the file is. None: a plain table."""
    head = read_head(source, container, style)
    found = recognised(head) if said is None else as_feed(FEEDS[said], head)
    if found.feed is None or found.feed.table == table:
        return found
    fills = f"fills {found.feed.table}, not {table}: `etalage ingest {source} {found.feed.table}`"
    if said is not None:
        raise InputUnreadable(f"{source}: {found.feed.title} {fills}")
    if own.columns:
        return None  # the shop's own mapping says what it takes of it
    raise InputUnreadable(
        f"{source}: looks like {found.feed.title} ({found.why}), which {fills}. As a plain table: --format "
        f"{container}"
    )


def _format_of(source: Path, style: FileStyle) -> str:
    if source.is_dir():
        return "folder"
    return "idx" if is_idx(source) else _container(source, style)


def _container(source: Path, style: FileStyle) -> str:
    container = container_of(source, style)
    if container is None and source.suffix.lower() in _SPREADSHEETS:
        raise InputUnreadable(f"{source}: a spreadsheet; save it as CSV (UTF-8) there, and load that")
    if container is None:
        begin = head_of(source, 4)
        packed = next((what for magic, what in _PACKED.items() if begin.startswith(magic)), None)
        if packed is not None:
            raise InputUnreadable(f"{source}: is packed by {packed}; unpack it, gzip alone is read as it is")
        raise InputUnreadable(
            f"{source}: neither the name nor what is in it tells its format; say which of "
            f"{', '.join(FORMATS)} it is: --format"
        )
    return container
