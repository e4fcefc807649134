"""A data frame as a source of rows: of pandas, polars or Arrow, or of whatever else speaks Arrow's C stream.

A frame's columns are what a file's columns are: the same mapping, the same checks, refused rows kept with the
frame's name and the row's position (from 0, as `iloc` counts). No library of frames is imported here: a frame
hands over its columns by Arrow's PyCapsule protocol. A column of pandas that Arrow has no one type for (texts
among numbers) is read value by value, so that a bad value costs its row and not the frame.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc

from etalage.errors import InputUnreadable
from etalage.lake.notes import Note, Notes
from etalage.lake.raw import RawChunk, RawTable
from etalage.lake.readers import column_values
from etalage.lake.whence import FrameName

_EXACT = 2.0**53
_PLAIN_EXTENSIONS = ("arrow.json", "arrow.bool8", "arrow.uuid")
_TOLD = 5


@runtime_checkable
class Streamable(Protocol):
    """Anything that hands over its rows by Arrow's PyCapsule protocol: frames of pandas, polars, DuckDB, …"""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


class Lazy(Protocol):
    """A polars LazyFrame, or anything else that is computed by `collect()`."""

    def collect(self) -> Streamable: ...


DataFrame = Streamable | Lazy


@dataclass(frozen=True)
class Frame:
    """A frame's columns, equally long, in memory; `notes`: what was done unasked to make them."""

    whence: FrameName
    columns: Mapping[str, pa.ChunkedArray | list[Any]]
    rows: int
    notes: Sequence[Note] = field(default=())

    def raw(self, rows: int) -> RawTable:
        """The frame as files are read, `rows` rows at a time."""
        return RawTable(self.whence, lambda: self._chunks(rows))

    def _chunks(self, rows: int) -> Iterator[RawChunk]:
        if not self.rows:
            yield RawChunk([], {name: [] for name in self.columns})
        for start in range(0, self.rows, rows):
            stop = min(start + rows, self.rows)
            columns = {name: _cut(column, start, stop) for name, column in self.columns.items()}
            yield RawChunk(list(range(start, stop)), columns)


def is_frame(given: object) -> TypeGuard[DataFrame | Frame]:
    """Whether `given` is a data frame, and not the path of a file."""
    return isinstance(given, Frame | Streamable) or _is_lazy(given)


def frame_of(given: DataFrame | Frame, name: str) -> Frame:
    """`given` as columns; `name`: what messages call it. A Frame is itself.

    Raises InputUnreadable: two columns have one name, a name is no text, Arrow cannot hold a column.
    """
    if isinstance(given, Frame):
        return given
    whence, notes = FrameName(name), Notes()
    if _is_lazy(given):
        given = given.collect()
    assert isinstance(given, Streamable)
    of_pandas = _is_of("pandas", given)
    columns = _of_pandas(given, whence, notes) if of_pandas else _of_stream(given, whence)
    count = next((len(column) for column in columns.values()), 0)
    return Frame(whence, columns, count, notes.all())


def _is_lazy(given: object) -> TypeGuard[Lazy]:
    return type(given).__name__ == "LazyFrame" and hasattr(given, "collect")


def _is_of(library: str, given: object) -> bool:
    return type(given).__module__.partition(".")[0] == library


def _cut(column: pa.ChunkedArray | list[Any], start: int, stop: int) -> list[Any]:
    if isinstance(column, list):
        return column[start:stop]
    return column_values(column.slice(start, stop - start))


def _of_stream(given: Streamable, whence: FrameName) -> dict[str, pa.ChunkedArray | list[Any]]:
    try:
        table = pa.table(given)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputUnreadable(f"{whence}: Arrow cannot read it: {_first_line(error)}") from error
    _require_unlike(table.column_names, whence)
    for name in table.column_names:
        _require_plain(name, table.schema.field(name).type, whence)
    return {name: table[name] for name in table.column_names}


def _require_unlike(names: Sequence[str], whence: FrameName) -> None:
    twice = list(dict.fromkeys(name for name in names if names.count(name) > 1))
    if twice:
        listed = ", ".join(map(repr, twice[:_TOLD]))
        raise InputUnreadable(
            f"{whence}: several columns are called {listed}, and nobody knows which is meant; rename or drop "
            "all but one"
        )


def _require_plain(name: str, kind: Any, whence: FrameName) -> None:
    """Raises InputUnreadable: the values of an extension type mean what only its library knows, such as the
    number of a period."""
    if isinstance(kind, pa.BaseExtensionType) and kind.extension_name not in _PLAIN_EXTENSIONS:
        raise InputUnreadable(
            f"{whence}: column {name!r} is of the type {kind.extension_name}; make texts, numbers or times "
            "of it first (of periods: `.dt.to_timestamp()`), or drop the column"
        )


# -- pandas ------------------------------------------------------------------------------------


def _of_pandas(given: Any, whence: FrameName, notes: Notes) -> dict[str, pa.ChunkedArray | list[Any]]:
    if not hasattr(given, "columns"):
        raise InputUnreadable(
            f"{whence}: a Series is one column; `.reset_index()` or `.to_frame()` makes a frame"
        )
    frame = _with_index(given, whence, notes)
    labels = list(frame.columns)
    if nested := [label for label in labels if isinstance(label, tuple)]:
        raise InputUnreadable(
            f"{whence}: its columns have several levels, such as {nested[0]!r}; give each one name: "
            "`frame.columns = ['_'.join(map(str, one)) for one in frame.columns]`"
        )
    names = [str(label) for label in labels]
    _require_unlike(names, whence)
    columns = {name: _of_series(frame.iloc[:, n], name, whence) for n, name in enumerate(names)}
    return _whole_numbers(columns, notes)


def _with_index(frame: Any, whence: FrameName, notes: Notes) -> Any:
    """The frame, with each level of its index that has a name as a column."""
    levels = list(frame.index.names)
    named = [level for level in levels if level is not None]
    if named:
        if clash := [level for level in named if level in list(frame.columns)]:
            raise InputUnreadable(
                f"{whence}: its index and a column are both called {clash[0]!r}; rename one, or drop the "
                "index: `frame.reset_index(drop=True)`"
            )
        listed = ", ".join(map(repr, named))
        notes.add(f"the index {listed} is read as {'a column' if len(named) == 1 else 'columns'}")
    kept = frame.reset_index(level=named) if named and len(named) < len(levels) else frame
    if len(named) == len(levels):
        return frame.reset_index()
    if type(kept.index).__name__ != "RangeIndex":
        first = kept.index[:1].tolist()
        example = f", such as {first[0]!r}" if first else ""
        notes.add(f"an index without a name is ignored{example}; `frame.index.name = ...` makes a column")
    return kept.reset_index(drop=True)


def _of_series(series: Any, name: str, whence: FrameName) -> pa.ChunkedArray | list[Any]:
    """One column; as a list of its values where Arrow has no one type for them."""
    try:
        table = pa.table(series.to_frame("0"))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return [_plain_value(value) for value in series.tolist()]
    column = table.column(0)
    _require_plain(name, column.type, whence)
    return column


def _plain_value(value: Any) -> Any:
    """A value of an object column as Python has it; NaN, NaT and NA are None."""
    if type(value).__module__ == "numpy":
        value = value.tolist()
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, float) and value != value:
        return None
    return value


def _whole_numbers(
    columns: dict[str, pa.ChunkedArray | list[Any]], notes: Notes
) -> dict[str, pa.ChunkedArray | list[Any]]:
    """pandas writes whole numbers in a column with gaps as 17.0: they are 17 again, so that no id and no
    group is called `17.0`."""
    found = dict(columns)
    for name, column in columns.items():
        if isinstance(column, list) or not pa.types.is_floating(column.type) or not column.null_count:
            continue
        if column.null_count == len(column):
            continue
        whole = pc.and_(pc.equal(pc.trunc(column), column), pc.less(pc.abs(column), _EXACT))
        if pc.all(whole).as_py():
            found[name] = column.cast(pa.int64())
            notes.add(f"{name}: whole numbers in a column with gaps, 3.0, are read as 3")
    return found


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0][:300]
