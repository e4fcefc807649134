"""Small CSV files that a person keeps (a tree, a map, a list of values): every row counts, or none."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from etalage.errors import InputUnreadable
from etalage.lake.csv_reader import csv_chunks
from etalage.lake.raw import guarded

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
