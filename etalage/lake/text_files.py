"""Text in files: which encoding it has, and its lines, each of bounded length.

A byte that is not of the encoding becomes a lone surrogate, so that it is found, and refused, by row.
"""

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from etalage.errors import InputUnreadable
from etalage.lake.raw import LONGEST_VALUE, open_bytes

UTF8 = "utf-8-sig"
_MARKS = (
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_AS_SURROGATES = "etalage-surrogates"


def _surrogates(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_AS_SURROGATES, _surrogates)


@dataclass(frozen=True)
class FileStyle:
    """What is said of a text file; None: it is found in the file.

    `delimiter`: one character between the fields of a CSV file. `encoding`: as Python names it; a mark (BOM)
    at the beginning of a file counts before it.
    """

    delimiter: str | None = None
    encoding: str | None = None


AS_FOUND = FileStyle()


def encoding_of(file: Path, said: str | None = None) -> str:
    """The encoding of `file`: by its mark, else `said`, else UTF-8. Raises InputUnreadable: UTF-16, and
    nothing says so."""
    head = head_of(file, 64)
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    if said is not None:
        name = codecs.lookup(said).name
        if name in ("utf-16", "utf-32") and head:
            raise InputUnreadable(f"{file}: has no mark of {said}; say {said}-le or {said}-be")
        if name == "iso8859-1":
            return (
                "cp1252"  # who says ISO 8859-1 means Windows': its 0x80 is a euro sign, and no control code
            )
        return UTF8 if name == "utf-8" else said
    for guess, zeros, letters in (("utf-16-le", head[1::2], head[::2]), ("utf-16-be", head[::2], head[1::2])):
        if len(head) >= 4 and not any(zeros) and all(letters):
            raise InputUnreadable(
                f'{file}: looks like UTF-16 without its mark; say so: encoding = "{guess}" in '
                f"[ingest.<table>] of shop.toml, or --encoding {guess}"
            )
    return UTF8


def head_of(file: Path, size: int) -> bytes:
    """The first `size` bytes of `file`, unpacked. Raises InputUnreadable, and what broken gzip raises."""
    with open_bytes(file) as binary:
        return binary.read(size)


@contextmanager
def open_text(file: Path, said: str | None = None) -> Iterator[io.TextIOWrapper]:
    """`file` as text with its own line ends. Raises InputUnreadable; see `encoding_of`."""
    encoding = encoding_of(file, said)
    with open_bytes(file) as binary:
        yield io.TextIOWrapper(binary, encoding=encoding, errors=_AS_SURROGATES, newline="")


class CutLine(str):
    """The beginning of a line that is longer than LONGEST_VALUE; its rest was passed over."""


def bounded_line(text: TextIO, limit: int = LONGEST_VALUE) -> str:
    """The next line with its end, "" at the end of the file; a CutLine where it is longer than `limit`."""
    line = text.readline(limit + 1)
    if len(line) <= limit or line.endswith("\n"):
        return line
    shown, rest = CutLine(line[:500]), line
    del line  # a gigabyte that is one line is held once, and piece by piece
    while rest and not rest.endswith("\n"):
        rest = text.readline(limit)
    return shown


def is_unicode(texts: Iterator[str] | list[str]) -> bool:
    """Whether `texts` hold no byte that their file's encoding does not have."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def not_of(encoding: str) -> str:
    """Why a text is refused that is not of its file's encoding, and what to do."""
    name = "UTF-8" if encoding == UTF8 else encoding
    return f'not {name}; say which encoding it is: encoding = "cp1252" in [ingest.<table>], or --encoding'
