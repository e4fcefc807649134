"""CSV, record by record: where each starts, and what is none; one broken record costs one line."""

import csv
import io
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from etalage.errors import InputUnreadable
from etalage.lake.raw import LONGEST_VALUE, RawChunk, Refusal, open_bytes

_LONGEST_RECORD = 1000
"""Physical lines of one CSV record: an unclosed quote must not swallow the file."""
_DELIMITERS = ",;\t|"


class _RecordTooLong(Exception):
    pass


class _Feed:
    """Physical lines for csv.reader, which can be given back when a record turns out broken."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self._again: deque[str] = deque()
        self.record: list[str] = []
        self.number = 0

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        if len(self.record) == _LONGEST_RECORD:
            raise _RecordTooLong(f"a quote is not closed within {_LONGEST_RECORD} lines")
        line = self._again.popleft() if self._again else next(self._text)
        self.number += 1
        self.record.append(line)
        return line

    def peek(self) -> str | None:
        """The next line, which stays the next; None at the end."""
        if not self._again:
            self._again.extend(line for line in [next(self._text, None)] if line is not None)
        return self._again[0] if self._again else None

    def give_back(self) -> None:
        """All lines of the present record but its first are read again."""
        self._again.extendleft(reversed(self.record[1:]))
        self.number -= len(self.record) - 1


def _csv_records(feed: _Feed, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """(line where it starts, fields), or (line, reason) for what is not a record."""
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.record.clear()
        start = feed.number + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except (csv.Error, _RecordTooLong) as error:
            yield start, f"not CSV: {error}"
            feed.give_back()
            reader = csv.reader(feed, delimiter=delimiter, strict=True)
            continue
        if fields:
            yield start, fields


def csv_chunks(file: Path, rows: int) -> Iterator[RawChunk]:
    """The rows of a CSV file with a header, `rows` at a time. Raises InputUnreadable: no usable header."""
    # The module's limit of 128 KiB a field is too small for a base64 photo.
    csv.field_size_limit(LONGEST_VALUE)
    with open_bytes(file) as binary:
        # A byte that is not UTF-8 becomes a lone surrogate, which is found (and refused) by row.
        text = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")
        feed = _Feed(text)
        records = _csv_records(feed, _delimiter(_header(file, feed)))
        names = _names(file, records)
        where = str(file)
        lines: list[int] = []
        taken: list[list[str]] = []
        refused: list[Refusal] = []
        yielded = False
        for line, fields in records:
            if isinstance(fields, str):
                refused.append(Refusal(where, line, fields, feed.record[0][:500]))
            elif len(fields) != len(names):
                reason = f"has {len(fields)} fields, the header has {len(names)}"
                refused.append(Refusal(where, line, reason, fields))
            else:
                lines.append(line)
                taken.append(fields)
            if len(lines) + len(refused) == rows:
                yield _csv_chunk(where, names, lines, taken, refused)
                lines, taken, refused, yielded = [], [], [], True
        if lines or refused:
            yield _csv_chunk(where, names, lines, taken, refused)
        elif not yielded:
            yield RawChunk([], {name: [] for name in names})


def _csv_chunk(
    where: str, names: list[str], lines: list[int], taken: list[list[str]], refused: list[Refusal]
) -> RawChunk:
    if not _is_utf8(taken):
        for line, fields in zip(lines, taken, strict=True):
            if not _is_utf8([fields]):
                refused.append(Refusal(where, line, "not UTF-8", fields))
        both = [(line, f) for line, f in zip(lines, taken, strict=True) if _is_utf8([f])]
        lines, taken = [line for line, _ in both], [f for _, f in both]
    # An empty CSV field is no value: CSV cannot tell "" from nothing.
    columns = [[value or None for value in column] for column in zip(*taken, strict=True)]
    if not taken:
        columns = [[] for _ in names]
    return RawChunk(lines, dict(zip(names, columns, strict=True)), refused)


def _is_utf8(rows: list[list[str]]) -> bool:
    try:
        for fields in rows:
            "".join(fields).encode()
    except UnicodeEncodeError:
        return False
    return True


def _header(file: Path, feed: _Feed) -> str:
    header = feed.peek()
    if header is None:
        raise InputUnreadable(f"{file}: is empty; a CSV file begins with a line of column names")
    return header


def _delimiter(header: str) -> str:
    """The candidate that occurs most in the header; a comma when none does."""
    return max(_DELIMITERS, key=header.count)


def _names(file: Path, records: Iterator[tuple[int, list[str] | str]]) -> list[str]:
    _, names = next(records, (1, "no line of column names"))
    if isinstance(names, str):
        raise InputUnreadable(f"{file}: the first line is no header: {names}")
    if not _is_utf8([names]):
        raise InputUnreadable(f"{file}: the header is not UTF-8; convert the file: iconv -f LATIN1 -t UTF-8")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputUnreadable(
            f"{file}: the header has {', '.join(map(repr, twice))} more than once; rename one"
        )
    return names
