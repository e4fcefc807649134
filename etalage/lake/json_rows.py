"""JSON as files have it: an object a line, objects over several lines, or one list of them.

Each object is a row; one that is broken costs itself. A list is walked object by object and is never held in
memory as a whole. What ends where is told by brackets and quotation marks alone, so that a broken object does
not take those behind it with it.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from etalage.lake.notes import Notes
from etalage.lake.paths import python_literal
from etalage.lake.raw import LARGEST_CHUNK, LONGEST_VALUE, RawChunk, Refusal, open_bytes
from etalage.lake.text_files import AS_FOUND, UTF8, CutLine, FileStyle, bounded_line, encoding_of, open_text

_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+("?)|[{}\[\]]', re.DOTALL)
_BETWEEN = " \t\r\n,\ufeff"
_READ = 1 << 20
"""Characters read at once; twice as many each time an object does not end."""
_Piece = tuple[int, bytes, str | None]
"""(line where it begins, its text in UTF-8, why it is none: then only the beginning of its text)."""
_TOO_LONG = f"longer than {LONGEST_VALUE:,} bytes"
_NOT_CLOSED = "the list is not closed: was the file cut off?"


def json_chunks(file: Path, rows: int, style: FileStyle = AS_FOUND) -> Iterator[RawChunk]:
    """The objects of a file, `rows` at a time."""
    where = str(file)
    lines: list[int] = []
    taken: list[dict[str, Any]] = []
    refused: list[Refusal] = []
    notes = Notes()
    size = 0
    pieces, kind = _pieces(file, style)
    if kind is not None:
        notes.add(kind)
    for line, raw, why in pieces:
        try:
            if why is not None:
                raise ValueError(why)
            taken.append(_object(raw, line, notes))
            lines.append(line)
            size += len(raw)
        except ValueError as error:
            refused.append(Refusal(where, line, str(error), raw[:500].decode("utf-8", "backslashreplace")))
        if len(lines) + len(refused) == rows or size >= LARGEST_CHUNK:
            yield RawChunk(lines, _by_column(taken), refused, notes.all())
            lines, taken, refused, notes, size = [], [], [], Notes(), 0
    if lines or refused:
        yield RawChunk(lines, _by_column(taken), refused, notes.all())


def _pieces(file: Path, style: FileStyle) -> tuple[Iterator[_Piece], str | None]:
    """The texts of the file's objects, and what it is taken for where that is not an object a line."""
    first, second = _first_lines(file, style)
    if first.startswith("[") and not (second and _is(list, first)):
        return _in_list(file, style, 1), "the file is one list in JSON: a row for each of its objects"
    if _goes_on(first) and not _is(dict, second):
        return _in_list(file, style, 0), "objects of JSON over several lines: a row for each"
    return _lines(file, style), None


def _first_lines(file: Path, style: FileStyle) -> tuple[str, str]:
    """The first two lines that are not blank, as far as one looks at them."""
    found: list[str] = []
    with open_text(file, encoding_of(file, style.encoding)) as text:
        while len(found) < 2 and (line := bounded_line(text, _READ)):
            found += [line.strip(_BETWEEN)] if line.strip(_BETWEEN) else []
    return (*found, "", "")[0], (*found, "", "")[1]


def _goes_on(line: str) -> bool:
    """Whether a line is the beginning of an object."""
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        return line.startswith("{") and error.pos >= len(line)
    except (ValueError, RecursionError):
        pass
    return False


def _is(kind: type, line: str) -> bool:
    try:
        return isinstance(json.loads(line), kind)
    except (ValueError, RecursionError):
        return False


def _lines(file: Path, style: FileStyle) -> Iterator[_Piece]:
    """Each line that is not blank."""
    encoding = encoding_of(file, style.encoding)
    number = 0
    if encoding == UTF8:
        with open_bytes(file) as binary:
            while line := binary.readline(LONGEST_VALUE + 1):
                number += 1
                whole = len(line) <= LONGEST_VALUE
                rest = line
                while rest and not whole and not rest.endswith(b"\n"):
                    rest = binary.readline(LONGEST_VALUE + 1)
                if line.strip():
                    yield number, line, None if whole else _TOO_LONG
        return
    with open_text(file, encoding) as text:
        while said := bounded_line(text):
            number += 1
            if said.strip():
                # A byte that is not of the encoding is not UTF-8 here, and refused as such.
                cut = isinstance(said, CutLine)
                yield number, said.encode("utf-8", "surrogatepass"), _TOO_LONG if cut else None


def _in_list(file: Path, style: FileStyle, inside: int) -> Iterator[_Piece]:
    with open_text(file, encoding_of(file, style.encoding)) as text:
        for line, piece, why in Walk(text, inside).pieces():
            yield line, piece.encode("utf-8", "surrogatepass"), why


class Walk:
    """Through a text of objects that stand `inside` so many brackets (0 or 1); what stands between them, and
    is none, is a piece too. `read`: characters that are read at once."""

    def __init__(self, text: TextIO, inside: int, read: int = _READ) -> None:
        self._text = text
        self._inside = inside
        self._read = read
        self._buffer = ""
        self._line = 1
        """Where the buffer begins."""
        self._at = 0
        """So far it was looked through."""
        self._begin: int | None = None
        """Where the present object begins."""
        self._depth = 0
        self._cut: tuple[int, str] | None = None
        """(line, beginning) of a present object that is too long."""

    def pieces(self) -> Iterator[tuple[int, str, str | None]]:
        """(line, text, why it is none)."""
        size = self._read
        while more := self._text.read(size):
            self._buffer += more
            yield from self._values_in_buffer()
            self._forget_long()
            size = min(2 * size, LONGEST_VALUE // 4) if self._begin is not None else self._read
        rest = self._buffer.strip(_BETWEEN)
        if self._cut is not None:
            yield (*self._cut, _TOO_LONG)
        elif rest and (self._begin is not None or rest != "]"):
            yield self._line + self._blank_lines(), rest, None
        elif self._depth >= self._inside > 0:
            yield self._line, rest, _NOT_CLOSED

    def _values_in_buffer(self) -> Iterator[tuple[int, str, str | None]]:
        done = 0
        for token in _TOKEN.finditer(self._buffer, self._at):
            mark = token[0]
            self._at = token.end()
            if mark[0] == '"':
                if not token[1]:  # the buffer ends within it
                    self._at = token.start()
                    break
            elif mark in "{[":
                if self._depth < self._inside:
                    done = token.end()
                elif self._depth == self._inside and self._begin is None and self._cut is None:
                    yield from self._between(done, token.start())
                    self._begin = token.start()
                self._depth += 1
            else:
                self._depth = max(0, self._depth - 1)
                if self._depth == self._inside and (self._begin is not None or self._cut is not None):
                    yield self._ended(token.end())
                    done = token.end()
        self._drop(done if self._begin is None else self._begin)

    def _ended(self, end: int) -> tuple[int, str, str | None]:
        begin, cut = self._begin, self._cut
        self._begin = self._cut = None
        if cut is not None or begin is None:
            return (*(cut or (self._line, "")), _TOO_LONG)
        return self._line + self._buffer.count("\n", 0, begin), self._buffer[begin:end], None

    def _between(self, start: int, end: int) -> Iterator[tuple[int, str, str | None]]:
        stray = self._buffer[start:end].strip(_BETWEEN)
        if stray:
            yield self._line + self._buffer.count("\n", 0, start), stray[:500], None

    def _drop(self, count: int) -> None:
        """What is behind us is forgotten."""
        self._line += self._buffer.count("\n", 0, count)
        self._buffer = self._buffer[count:]
        self._at = max(0, self._at - count)
        self._begin = None if self._begin is None else self._begin - count

    def _forget_long(self) -> None:
        if len(self._buffer) <= LONGEST_VALUE:
            return
        if self._cut is None:
            self._cut = (self._line + self._blank_lines(), self._buffer[:500])
        self._begin = None
        # Within a string its quotation mark is kept, and half an escape, so that its end is found.
        within = self._buffer[self._at : self._at + 1] == '"'
        odd = within and (len(self._buffer) - len(self._buffer.rstrip("\\"))) % 2 == 1
        self._line += self._buffer.count("\n")
        self._buffer = ('"' if within else "") + ("\\" if odd else "")
        self._at = 0

    def _blank_lines(self) -> int:
        return self._buffer.count("\n", 0, len(self._buffer) - len(self._buffer.lstrip(_BETWEEN)))


def _object(raw: bytes, line: int, notes: Notes) -> dict[str, Any]:
    """Raises ValueError with the reason to refuse the piece."""
    try:
        text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        value = _nearly(text, line, notes)
        if value is None:
            raise ValueError(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("not JSON that we read: nested too deeply") from None
    except ValueError as error:  # e.g. a number of more than 4,300 digits
        raise ValueError(f"not JSON that we read: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"not a JSON object but {type(value).__name__}")
    return value


def _nearly(text: str, line: int, notes: Notes) -> dict[str, Any] | None:
    """An object with a comma behind it, or one as Python writes it; None: neither."""
    text = text.strip()
    if text.endswith("},"):
        try:
            value = json.loads(text[:-1])
        except (ValueError, RecursionError):
            return None
        notes.add("a comma behind the object: left out", 1, f"line {line}")
        return value if isinstance(value, dict) else None
    value = python_literal(text)
    if not isinstance(value, dict):
        return None
    notes.add("an object as Python writes it, in single quotation marks: read so", 1, f"line {line}")
    return value


def _by_column(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
