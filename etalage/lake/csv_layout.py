"""Where in a CSV file its table is: behind lines of a title, before lines of totals."""

import csv
from collections.abc import Sequence

from etalage.lake.column_names import likely, plain
from etalage.lake.csv_dialect import DELIMITERS, SAMPLE_LINES, agreement, delimiter_of

_FARTHEST = 30
"""So many lines that are not empty may stand above the column names."""
_LONGEST_NAME = 80
_LONGEST_TITLE = 2000
"""Characters of a name, of a line above the names."""
_MOST = 0.9
_TABLES = ("items", "interactions", "users", "photos")
_SUMS = """
total totals grand_total subtotal sub_total sum overall_total summe gesamt gesamtsumme zwischensumme
insgesamt somme total_general totale totaal suma
"""
_TOTALS = frozenset(_SUMS.split())


def delimiter_and_title(lines: Sequence[str], said: str | None) -> tuple[str, int]:
    """(the delimiter, unless it is said; how many of `lines`, the first of a file, stand above the column
    names).

    The column names are the first line with as many fields as most of those behind it, whose cells could be
    names: none is a number, and some are known names, or stand above numbers. Where no line further down is
    more like names than the first is, it is the first.
    """
    if said is not None:
        return said, _title_lines(lines, said)
    plainly = delimiter_of(lines)
    if agreement(lines, plainly)[0] > 0.5:
        return plainly, _title_lines(lines, plainly)
    # The first line is no measure where it is a title: by which delimiter do the lines behind one agree?
    titles = {one: _title_lines(lines, one) for one in DELIMITERS}
    scores = {one: agreement(lines[above:], one) for one, above in titles.items() if above}
    best = max(scores, key=lambda one: scores[one], default=plainly)
    return best, titles.get(best, 0)


def _title_lines(lines: Sequence[str], delimiter: str) -> int:
    records = _records(lines, delimiter)
    if len(records) < 2:
        return 0
    first = records[0][1]
    if 2 * _alike(records, 0) > len(records) - 1 and not _padded(first) and not _says(first):
        return 0
    for n in range(1, min(len(records), _FARTHEST)):
        if any(len(line) > _LONGEST_TITLE for line in lines[: records[n][0]]):
            break
        above = [fields for _, fields in records[:n]]
        if 2 * _alike(records, n) >= len(records) - n - 1 and _heads(
            records[n][1], above, [fields for _, fields in records[n + 1 :]]
        ):
            return records[n][0]
    return 0


def _records(lines: Sequence[str], delimiter: str) -> list[tuple[int, list[str]]]:
    """(index of the first line, cells) of the records that are not empty; by lines where quoting makes no
    sense of most of them."""
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
        found, start = [], 0
        try:
            for fields in reader:
                if any(cell.strip() for cell in fields):
                    found.append((start, fields))
                start = reader.line_num
        except csv.Error:
            if 2 * start < len(lines):
                continue
        return found
    return []


def _alike(records: Sequence[tuple[int, list[str]]], n: int) -> int:
    """How many of the lines behind the n-th have as many fields as it has."""
    return sum(len(fields) == len(records[n][1]) for _, fields in records[n + 1 :])


def _padded(fields: Sequence[str]) -> bool:
    """Whether it may be a title that a spreadsheet filled up with empty cells."""
    return len(fields) > 2 and 2 * len(_filled(fields)) <= len(fields)


def _says(fields: Sequence[str]) -> bool:
    """Whether it may be a statement (`Date range,2024-01-01 to …`) of as many cells as the rows have."""
    marked = any(cell.strip().endswith(":") or any(map(str.isdigit, cell)) for cell in fields)
    return marked and not _known(fields)


def _heads(fields: Sequence[str], above: Sequence[list[str]], behind: Sequence[list[str]]) -> bool:
    """Whether `fields` are column names, and the lines above them are none."""
    names, count = _filled(fields), len(fields)
    if count < 2 or 2 * len(names) <= count or not all(map(_could_be_name, names)):
        return False
    if any(len(line) > count for line in above):
        return False
    known, known_above = _known(fields), max(map(_known, above))
    if any(len(line) == count and not _padded(line) for line in above):
        # As many cells as the names have: only if there is no doubt which of them are names.
        return known == len(names) and not known_above
    return known > known_above or (not known_above and bool(behind) and _above_numbers(fields, behind))


def _above_numbers(fields: Sequence[str], behind: Sequence[list[str]]) -> bool:
    rows = [row for row in behind if len(row) == len(fields)]
    columns = [_filled(column) for column in zip(*rows, strict=True)]
    return any(column and not any(map(_could_be_name, column)) for column in columns)


def _could_be_name(cell: str) -> bool:
    return len(cell) <= _LONGEST_NAME and any(map(str.isalpha, cell)) and not cell.strip()[0].isdigit()


def _known(fields: Sequence[str]) -> int:
    """How many of the cells are names that shops give their columns."""
    return sum(any(likely(table, cell) for table in _TABLES) for cell in _filled(fields))


def _filled(cells: Sequence[str]) -> list[str]:
    return [cell for cell in cells if cell.strip()]


class Totals:
    """Tells lines of totals (`Total,,123`) by `lines`, the first of the file from its column names on."""

    def __init__(self, lines: Sequence[str], delimiter: str) -> None:
        records = [fields for _, fields in _records(lines[:SAMPLE_LINES], delimiter)]
        self._count = len(records[0]) if records else 0
        rows = [row for row in records[1:] if len(row) == self._count and not _is_sum(row)]
        columns = list(zip(*rows, strict=True))
        self._filled = [n for n, column in enumerate(columns) if len(_filled(column)) >= _MOST * len(rows)]

    def has(self, fields: Sequence[str]) -> bool:
        """Whether a line that begins with a word for a total also lacks what rows have."""
        if not _is_sum(fields):
            return False
        return len(fields) != self._count or any(not fields[n].strip() for n in self._filled)


def _is_sum(fields: Sequence[str]) -> bool:
    first = next((cell for cell in fields if cell.strip()), "")
    return plain(first) in _TOTALS
