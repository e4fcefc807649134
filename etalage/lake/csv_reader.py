"""CSV, record by record: where each starts, and what is none; one broken record costs one line.

A quotation mark that is never closed must not swallow the rows behind it: a field over several lines that
hold rows is refused, and its lines are read again (csv_dialect.py tells such lines from a text's). Files by
tab often have no quoting at all: there a quotation mark without its pair is a character.
"""

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from etalage.errors import InputUnreadable
from etalage.lake.csv_dialect import (
    SAMPLE_CHARACTERS,
    SAMPLE_LINES,
    Shapes,
    cells_of,
    delimiter_of,
    swallows_rows,
)
from etalage.lake.csv_layout import Totals, delimiter_and_title
from etalage.lake.notes import Notes
from etalage.lake.raw import LARGEST_CHUNK, LONGEST_VALUE, RawChunk, Refusal, guarded
from etalage.lake.shown import shown
from etalage.lake.text_files import AS_FOUND, CutLine, FileStyle, bounded_line, is_unicode, not_of, open_text

_LONGEST_RECORD = 1000
"""Physical lines of one CSV record: an unclosed quote must not swallow the file."""
_SEP = re.compile(r"\"?sep=(?P<delimiter>[^\r\n])\"?[\s,;]*", re.IGNORECASE)
"""A first line by which spreadsheets are told the delimiter."""
_NO_TABLE = (
    ("pk\x03\x04", "is an Excel workbook, or another zip archive; save it as CSV (UTF-8), and load that"),
    ("\udcd0\udccf\x11", "is an Excel workbook; save it as CSV (UTF-8), and load that"),
    ("%pdf-", "is a PDF, no table"),
    ("<!doctype html", "is a web page, no table: was it fetched without its password?"),
    ("<html", "is a web page, no table: was it fetched without its password?"),
)
"""What is given as CSV and is none, by the beginning of its first line."""


class _RecordTooLong(Exception):
    pass


class _Feed:
    """Physical lines for csv.reader, which can be given back when a record turns out broken."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._again: deque[str] = deque()
        self.record: list[str] = []
        self.characters = 0
        self.number = 0

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        if len(self.record) == _LONGEST_RECORD:
            raise _RecordTooLong(f"a quote is not closed within {_LONGEST_RECORD} lines")
        line = self._again.popleft() if self._again else bounded_line(self._text)
        if not line:
            raise StopIteration
        self.number += 1
        self.record.append(line)
        self.characters += len(line)
        if isinstance(line, CutLine):
            raise _RecordTooLong(f"line {self.number} is longer than {LONGEST_VALUE:,} characters")
        if self.characters > LONGEST_VALUE:
            raise _RecordTooLong(f"a quote is not closed within {LONGEST_VALUE:,} characters")
        return line

    def begin(self) -> int:
        """A record begins: the number of its first line."""
        self.record = []
        self.characters = 0
        return self.number + 1

    def peek(self) -> list[str]:
        """The first lines of the file, which stay the next ones."""
        characters = 0
        while len(self._again) < SAMPLE_LINES and characters < SAMPLE_CHARACTERS:
            line = bounded_line(self._text)
            if not line:
                break
            self._again.append(line)
            characters += len(line)
        return list(self._again)

    def give_back(self) -> None:
        """All lines of the present record but its first are read again."""
        self._again.extendleft(reversed(self.record[1:]))
        self.number -= len(self.record) - 1


@dataclass(frozen=True)
class _Record:
    """One record: `fields`, or why it is none. `last`: the line where it ends."""

    line: int
    fields: list[str]
    why: str | None = None


class _Records:
    """The records of a file, and what is to be told of them."""

    def __init__(self, feed: _Feed, delimiter: str) -> None:
        self._feed = feed
        self._delimiter = delimiter
        self._shapes: Shapes | None = None
        self._totals: Totals | None = None
        self._count = 0
        self._names: list[str] = []
        self.notes = Notes()

    def header(self, sample: list[str]) -> list[str]:
        """The first record. Raises ValueError: it is none."""
        for record in self._read():
            if record.why is not None:
                raise ValueError(record.why)
            names = _without_mark(record.fields)
            self._count, self._names = len(names), names
            self._shapes = Shapes(names, sample, self._delimiter)
            self._totals = Totals(sample, self._delimiter)
            return names
        raise ValueError("no line of column names")

    def __iter__(self) -> Iterator[_Record]:
        """The rows behind the header; lines of totals are none where no row follows them."""
        held: list[_Record] = []
        for record in self._rows():
            if self._totals is not None and self._totals.has(record.fields):
                held.append(record)
                continue
            for one in held:
                what = "looks like a line of totals, and is taken for a row as rows follow it"
                self.notes.add(what, 1, f"line {one.line}: {shown(one.fields)}")
            yield from held
            held = []
            yield record
        for one in held:
            what = "a line of totals at the end: passed over"
            self.notes.add(what, 1, f"line {one.line}: {shown(one.fields)}")

    def _rows(self) -> Iterator[_Record]:
        for record in self._read():
            fields, count = record.fields, self._count
            if record.why is not None:
                yield record
            elif len(fields) > 1 and not any(map(str.strip, fields)):
                self.notes.add("rows of empty cells: passed over", 1, f"line {record.line}")
            elif len(fields) == count:
                if _without_mark(fields) == self._names:
                    what = "a line of column names again, as where files were joined: passed over"
                    self.notes.add(what, 1, f"line {record.line}")
                else:
                    yield record
            elif len(fields) > count and not any(fields[count:]):
                what = "more delimiters at the end of a row than the header has: left out"
                self.notes.add(what, 1, f"line {record.line}")
                yield _Record(record.line, fields[:count])
            else:
                yield _Record(record.line, fields, f"has {len(fields)} fields, the header has {count}")

    def _read(self) -> Iterator[_Record]:
        feed = self._feed
        reader = csv.reader(feed, delimiter=self._delimiter, strict=True)
        while True:
            start = feed.begin()
            try:
                fields = next(reader)
            except StopIteration:
                return
            except (csv.Error, _RecordTooLong) as error:
                yield self._broken(start, f"not CSV: {error}")
            else:
                if not fields:
                    continue
                swallowed = self._swallowed(start, fields) if len(feed.record) > 1 else None
                if swallowed is None:
                    yield _Record(start, fields)
                    continue
                yield self._broken(start, swallowed)
            feed.give_back()
            reader = csv.reader(feed, delimiter=self._delimiter, strict=True)

    def _broken(self, line: int, why: str) -> _Record:
        """The first line of a broken record: a row all the same where quotation marks are escaped by a
        backslash, or may be characters."""
        first = self._feed.record[0]
        if '\\"' in first and self._count and not isinstance(first, CutLine):
            escaped = _with_backslashes(first, self._delimiter)
            if escaped is not None and len(escaped) == self._count:
                what = "quotation marks with a backslash before them, as databases write them: read so"
                self.notes.add(what, 1, f"line {line}")
                return _Record(line, escaped)
        if self._delimiter == "\t" and self._count and not isinstance(first, CutLine):
            cells = cells_of(first, self._delimiter)
            if len(cells) == self._count:
                what = "a quotation mark without its pair is taken for a character of the text"
                self.notes.add(what, 1, f"line {line}")
                return _Record(line, cells)
        return _Record(line, [first[:500]], why)

    def _swallowed(self, start: int, fields: list[str]) -> str | None:
        """Why a record over several lines is none, as its lines are rows; None: it is one."""
        if self._shapes is None:
            return None
        lines, fits, last = self._feed.record, len(fields) == self._count, self._feed.number
        if not swallows_rows(lines, self._delimiter, self._shapes, fits):
            if fits and max(field.count(self._delimiter) for field in fields) >= self._count - 1 > 0:
                what = (
                    "a field over several lines holds the delimiter as often as a row does; it is taken for "
                    "one text, as its lines are no rows"
                )
                self.notes.add(what, 1, f"lines {start}–{last}")
            return None
        return (
            f"the quotation mark that opens in line {start} would close in line {last}, over lines that are "
            "rows by themselves; they are read as rows. Close it, or write it twice"
        )


def csv_chunks(file: Path, rows: int, style: FileStyle = AS_FOUND) -> Iterator[RawChunk]:
    """The rows of a CSV file with a header, `rows` at a time. Raises InputUnreadable: no usable header."""
    # The module's limit of 128 KiB a field is too small for a base64 photo.
    csv.field_size_limit(LONGEST_VALUE)
    with open_text(file, style.encoding) as text:
        feed = _Feed(text)
        sample = feed.peek()
        if not sample:
            raise InputUnreadable(f"{file}: is empty; a CSV file begins with a line of column names")
        what = next((what for begin, what in _NO_TABLE if sample[0].lower().startswith(begin)), None)
        if what is not None:
            raise InputUnreadable(f"{file}: {what}")
        told = _SEP.fullmatch(sample[0])
        if told is not None:
            next(feed)
            sample = sample[1:]
        said = style.delimiter or (told["delimiter"] if told is not None else None)
        comments = _comments(sample, said)
        for _ in range(comments):
            next(feed)
        sample = sample[comments:]
        delimiter, above = delimiter_and_title(sample, said)
        title = [next(feed) for _ in range(above)]
        sample = sample[above:]
        records = _Records(feed, delimiter)
        if title:
            records.notes.add(*_note_of_title(title, feed.number))
        if comments:
            what = "lines that begin with # before the column names are comments: passed over"
            records.notes.add(what, comments)
        names = _names(file, records, sample, text.encoding)
        part = _Part(str(file), names, text.encoding)
        yielded = False
        for record in records:
            part.add(record, feed.characters)
            if part.count == rows or part.characters >= LARGEST_CHUNK:
                yield part.chunk(records.notes)
                part, records.notes, yielded = _Part(str(file), names, text.encoding), Notes(), True
        if part.count or not yielded:
            yield part.chunk(records.notes)


def _note_of_title(title: list[str], last: int) -> tuple[str, int, str]:
    """What is said of the lines above the column names, the last of which is in line `last`."""
    first = last - len(title) + 1
    where = f"line {last} is" if first == last else f"lines {first}–{last} are"
    example = next(line for line in title if line.strip())
    return f"{where} above the column names: passed over", 0, shown(example.strip())


def _comments(sample: list[str], said: str | None) -> int:
    """How many lines that begin with # stand before the column names, with the empty ones behind them; one
    alone with as many fields as the next line has is the names."""
    if not sample or not sample[0].startswith("#"):
        return 0
    count = next((n for n, line in enumerate(sample) if line.strip() and not line.startswith("#")), 0)
    if not count:
        return 0
    delimiter = said or delimiter_of(sample[count:])
    fields = len(cells_of(sample[count], delimiter))
    alike = count == 1 and len(cells_of(sample[0], delimiter)) == fields
    return 0 if alike or fields < 2 else count


class _Part:
    """The rows of one chunk, while they are gathered."""

    def __init__(self, where: str, names: list[str], encoding: str) -> None:
        self._where = where
        self._encoding = encoding
        self._names = names
        self._lines: list[int] = []
        self._rows: list[list[str]] = []
        self._refused: list[Refusal] = []
        self.characters = 0

    @property
    def count(self) -> int:
        return len(self._lines) + len(self._refused)

    def add(self, record: _Record, characters: int) -> None:
        self.characters += characters
        if record.why is not None:
            row = record.fields[0] if len(record.fields) == 1 else record.fields
            self._refused.append(Refusal(self._where, record.line, record.why, row))
        else:
            self._lines.append(record.line)
            self._rows.append(record.fields)

    def chunk(self, notes: Notes) -> RawChunk:
        lines, rows, refused = self._lines, self._rows, self._refused
        if not all(map(is_unicode, rows)):
            why = not_of(self._encoding)
            bad = {n for n, fields in enumerate(rows) if not is_unicode(fields)}
            refused += [Refusal(self._where, lines[n], why, rows[n]) for n in sorted(bad)]
            lines = [line for n, line in enumerate(lines) if n not in bad]
            rows = [fields for n, fields in enumerate(rows) if n not in bad]
        # An empty CSV field is no value: CSV cannot tell "" from nothing.
        columns = [[value or None for value in column] for column in zip(*rows, strict=True)]
        if not rows:
            columns = [[] for _ in self._names]
        return RawChunk(lines, dict(zip(self._names, columns, strict=True)), refused, notes.all())


def _names(file: Path, records: _Records, sample: list[str], encoding: str) -> list[str]:
    try:
        names = records.header(sample)
    except ValueError as error:
        raise InputUnreadable(f"{file}: the first line is no header: {error}") from None
    if not is_unicode(names):
        raise InputUnreadable(f"{file}: the header is {not_of(encoding)}")
    return _each_once(names, records.notes)


def _without_mark(fields: list[str]) -> list[str]:
    """A line of names without the mark of UTF-8 before it, which files that were joined have inside."""
    return [fields[0].lstrip("\ufeff"), *fields[1:]] if fields[0].startswith("\ufeff") else fields


def _each_once(names: list[str], notes: Notes) -> list[str]:
    """Names for the columns: one that comes again, or is empty, has its number in it."""
    given: dict[str, None] = {}
    for n, name in enumerate(names, start=1):
        own = name if name.strip() else f"column {n}"
        again = 1
        while own in given:
            again += 1
            own = f"{name or 'column'} ({again})"
        if again > 1:
            notes.add(f"the header has {name!r} more than once: the one in column {n} is called {own!r}")
        given[own] = None
    return list(given)


def _with_backslashes(line: str, delimiter: str) -> list[str] | None:
    """The fields of a line whose quotation marks are escaped by a backslash; None: it is no such line."""
    try:
        (fields,) = csv.reader([line], delimiter=delimiter, escapechar="\\", doublequote=False, strict=True)
    except (csv.Error, ValueError):
        return None
    return fields


_AT_ONCE = 4096


def csv_rows(
    file: Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, tuple[str | None, ...]]]:
    """(line, values of `columns`, then of `optional`); an empty field is None, other columns are passed over.

    Raises InputUnreadable: no such file, not UTF-8, no header, a column that is missing, a broken row.
    """
    for chunk in guarded(file, csv_chunks(file, _AT_ONCE)):
        if chunk.refused:
            first = min(chunk.refused, key=lambda refusal: refusal.line or 0)
            raise InputUnreadable(f"{file}: line {first.line}: {first.reason}; mend the row")
        missing = [name for name in columns if name not in chunk.columns]
        if missing:
            raise InputUnreadable(
                f"{file}: the header has no column {', '.join(map(repr, missing))}; "
                f"it needs {','.join(columns)} and has {','.join(chunk.columns)}"
            )
        twice = [name for name in (*columns, *optional) if f"{name} (2)" in chunk.columns]
        if twice:
            raise InputUnreadable(
                f"{file}: the header has {', '.join(map(repr, twice))} more than once; rename one"
            )
        nothing = [None] * len(chunk.lines)
        wanted = [chunk.columns[name] for name in columns]
        wanted += [chunk.columns.get(name, nothing) for name in optional]
        yield from zip(chunk.lines, zip(*wanted, strict=True), strict=True)
