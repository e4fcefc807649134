"""What a CSV file does not say of itself: its delimiter, and whether a line could be a row."""

import csv
from collections.abc import Callable, Sequence
from itertools import islice

DELIMITERS = ",;\t|"
SAMPLE_LINES = 200
SAMPLE_CHARACTERS = 2**20
"""So much of a file is looked at before it is read."""
_LEARNT_FROM = 3
_MOST = 0.9


def delimiter_of(lines: Sequence[str]) -> str:
    """The delimiter by which most of `lines`, the first of a file, have as many fields as the header has.

    Of several such the one with the most fields; where no row agrees with the header, the one that occurs
    most in the header; a comma where none does.
    """
    header = lines[0] if lines else ""
    scores = {one: agreement(lines, one) for one in DELIMITERS}
    best = max(DELIMITERS, key=lambda one: scores[one])
    return best if scores[best][0] > 0 else max(DELIMITERS, key=header.count)


def agreement(lines: Sequence[str], delimiter: str) -> tuple[float, int]:
    """(share of the rows that have as many fields as the header, how many); of one column (0, 1)."""
    best: tuple[float, int] = (0.0, 1)
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        try:
            records = [r for r in csv.reader(lines, delimiter=delimiter, quoting=quoting) if r]
        except csv.Error:
            continue
        if not records or len(records[0]) < 2:
            continue
        rows = records[1:]
        share = sum(len(row) == len(records[0]) for row in rows) / len(rows) if rows else 1.0
        best = max(best, (round(share, 2), len(records[0])))
    return best


def cells_of(line: str, delimiter: str) -> list[str]:
    """The cells of one line by the delimiter alone: what is quoted properly is unquoted, any other quotation
    mark is a character."""
    return [_unquoted(cell) for cell in line.rstrip("\r\n").split(delimiter)]


def _unquoted(cell: str) -> str:
    if len(cell) >= 2 and cell[0] == cell[-1] == '"':
        inner = cell[1:-1]
        if '"' not in inner.replace('""', ""):
            return inner.replace('""', '"')
    return cell


def is_quoted(cell: str) -> bool:
    """Whether a cell is quoted as CSV quotes."""
    return _unquoted(cell) != cell or cell == '""'


class Shapes:
    """What the cells of each column look like: for telling a row from a line of a text.

    Learnt from the column names and those `lines`, behind the header, that have no quotation mark and as many
    cells.
    """

    def __init__(self, names: Sequence[str], lines: Sequence[str], delimiter: str) -> None:
        self._delimiter = delimiter
        self.count = count = len(names)
        rows = [
            cells
            for line in islice(lines, 1, None)
            if '"' not in line and len(cells := cells_of(line, delimiter)) == count
        ]
        self._rules = [_Rule(name, [row[n] for row in rows]) for n, name in enumerate(names)]

    @property
    def known(self) -> bool:
        """Whether anything was learnt by which a line could be no row."""
        return any(rule.tells for rule in self._rules)

    def row_like(self, line: str) -> bool:
        """Whether `line` alone has the cells of a row, and none that its column never has."""
        cells = cells_of(line, self._delimiter)
        if len(cells) != self.count:
            return False
        return all(rule.allows(cell) for rule, cell in zip(self._rules, cells, strict=True))


class _Rule:
    """What nearly all cells of one column are; little where few were seen."""

    def __init__(self, name: str, cells: list[str]) -> None:
        filled = [cell for cell in cells if cell.strip()]
        enough = len(filled) >= _LEARNT_FROM
        self.number = _share(filled, _is_number) >= _MOST
        self.one_word = enough and _share(filled, lambda cell: len(cell.split()) == 1) >= _MOST
        # Behind the comma of a sentence there is a blank, behind a delimiter there is none, as a rule.
        self.trimmed = _share([name, *filled], lambda cell: cell == cell.strip()) >= _MOST
        self.filled = enough and len(filled) >= _MOST * len(cells)

    @property
    def tells(self) -> bool:
        return self.number or self.one_word or self.filled

    def allows(self, cell: str) -> bool:
        if not cell.strip():
            return not self.filled
        if self.number and not _is_number(cell):
            return False
        if self.one_word and len(cell.split()) != 1:
            return False
        return not self.trimmed or cell == cell.strip()


def _share(cells: list[str], true: Callable[[str], bool]) -> float:
    return sum(map(true, cells)) / len(cells) if cells else 0.0


def _is_number(cell: str) -> bool:
    return cell.strip().replace(".", "").replace(",", "").lstrip("+-").isdecimal()


def swallows_rows(lines: Sequence[str], delimiter: str, shapes: Shapes, fits: bool) -> bool:
    """Whether a record over several `lines` is a quotation mark that was never closed, with rows behind it.

    `fits`: the record has as many fields as a row. A text over several lines may hold the delimiter as often
    as a row does; what tells rows from it is that its lines, each alone, are rows. The first line is one too
    where the quotation mark is its only fault.
    """
    alike = sum(map(shapes.row_like, lines[1:]))
    behind = sum(1 for line in lines[1:] if line.strip())
    if not alike:
        return False
    if not fits:
        return True
    first_is_row = len(cells_of(lines[0], delimiter)) >= shapes.count
    if first_is_row:
        return 2 * alike >= behind
    return shapes.known and alike >= _LEARNT_FROM and 3 * alike >= 2 * behind
