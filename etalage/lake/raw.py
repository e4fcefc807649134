"""Raw rows of a file, with their line numbers, and the rows that cannot be taken."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from etalage.errors import InputUnreadable
from etalage.lake.notes import Note
from etalage.lake.whence import Whence

LONGEST_VALUE = 32 * 2**20
"""Characters of one CSV record, bytes of one JSONL line or XML element; room for a base64 photo."""
LARGEST_CHUNK = 32 * 2**20
"""Characters from which on a chunk is not filled further: ten thousand rows of photos are gigabytes."""


@dataclass(frozen=True)
class Refusal:
    """One row, or one value of a row, that cannot be taken: where it is, why, and what it was."""

    file: str
    line: int | None
    reason: str
    row: Any = None
    what: str | None = None
    """The table it was meant for, where that is not the one being ingested."""
    key: str | None = None
    """The id of the row, where it can be read."""
    field: str | None = None
    """The column of the value that was left out of a row that was taken; None: the whole row was not
    taken."""


@dataclass
class RawChunk:
    """Some rows as the file has them: `columns` by the file's own names, equally long as `lines`."""

    lines: list[int]
    columns: dict[str, list[Any]]
    refused: list[Refusal] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    """What the reader took for something unasked."""

    @property
    def read(self) -> int:
        return len(self.lines) + len(self.refused)

    def row(self, n: int) -> dict[str, Any]:
        """The n-th row of this chunk (0-based) as a dict."""
        return {name: values[n] for name, values in self.columns.items()}


@dataclass(frozen=True)
class RawTable:
    """A readable file, or a frame. `chunks()` starts from the top each time it is called. `one_header`: each
    chunk has all columns of the file; of JSON each has those of its own rows."""

    file: Whence
    chunks: Callable[[], Iterator[RawChunk]]
    one_header: bool = True


def open_bytes(file: Path) -> BinaryIO:
    """`file` for reading, unpacked when its name ends in .gz, or it is gzip whatever its name. Raises
    InputUnreadable."""
    try:
        binary = file.open("rb")
        packed = file.name.endswith(".gz") or binary.peek(2)[:2] == b"\x1f\x8b"
        if not packed:
            return binary
        binary.close()
        return cast(BinaryIO, gzip.open(file))
    except OSError as error:
        raise InputUnreadable(f"{file}: cannot be opened: {error.strerror or error}") from error


def guarded(file: Path, chunks: Iterator[RawChunk]) -> Iterator[RawChunk]:
    """`chunks`, with what a broken file raises as InputUnreadable."""
    try:
        yield from chunks
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputUnreadable(f"{file}: the gzip data is broken: {error}; fetch the file again") from error
    except OSError as error:
        raise InputUnreadable(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeError as error:
        raise InputUnreadable(f"{file}: is not of the encoding that was said: {error}") from error
