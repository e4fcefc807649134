"""Answers that are rows: as a frame of pandas, polars or Arrow, and as a table in a notebook.

An answer says its rows once, as Arrow (`to_arrow`); everything else follows from them. It speaks Arrow's
PyCapsule protocol, so `polars.DataFrame(answer)`, DuckDB and `Shop.ingest` take it as it is. pandas and
polars are imported when somebody asks for their frames. This module is apart from api.py, which a light
client imports: pyarrow is needed here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from etalage.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

SHOWN = 10
"""Rows of a table that a notebook shows."""
LONGEST_CELL = 60
"""Characters of a text in a cell."""
_LOOK = (
    "<style>.etalage td,.etalage th{text-align:left!important;vertical-align:top;padding:2px 10px 2px 0}"
    ".etalage .low{opacity:.65}.etalage .slot{display:inline-block;width:112px;margin:0 8px 8px 0;"
    "vertical-align:top;font-size:85%;line-height:1.3}.etalage img{width:96px;height:96px;object-fit:contain;"
    "display:block;margin-bottom:3px}</style>"
)


class Tabular:
    """An answer that is rows. Subclasses say them in `to_arrow`, and may show themselves in another way."""

    def to_arrow(self) -> pa.Table:
        """The rows as an Arrow table."""
        raise NotImplementedError

    def to_pandas(self) -> "pd.DataFrame":
        """The rows as a pandas DataFrame. Raises ConfigError: pandas is not installed."""
        try:
            import pandas  # noqa: F401
        except ModuleNotFoundError as error:
            raise _missing("pandas", error) from error
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def to_polars(self) -> "pl.DataFrame":
        """The rows as a polars DataFrame. Raises ConfigError: polars is not installed."""
        try:
            import polars
        except ModuleNotFoundError as error:
            raise _missing("polars", error) from error
        return polars.DataFrame(self.to_arrow())

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def _repr_html_(self) -> str:
        return framed(repr(self), table_html(self.to_arrow()))


R = TypeVar("R")


class Rows(list[R], Tabular):
    """A list of dataclasses of one kind: its frame has a column for each of their fields."""

    def __init__(self, rows: Iterable[R], kind: type[R]) -> None:
        super().__init__(rows)
        self.kind = kind

    def to_arrow(self) -> pa.Table:
        return table_of_rows(self, self.kind)

    def __repr__(self) -> str:
        return f"{len(self):,} × {self.kind.__name__}"


def table_of_rows(rows: Sequence[Any], kind: type[Any], without: Sequence[str] = ()) -> pa.Table:
    """Dataclasses of `kind` as a table: each field but `without` is a column, also of no rows."""
    assert is_dataclass(kind)
    names = [one.name for one in fields(kind) if one.name not in without]
    types = {one.name: _arrow_type(str(one.type)) for one in fields(kind)}
    columns = {name: [getattr(row, name) for row in rows] for name in names}
    return pa.table({name: pa.array(columns[name], types[name]) for name in names})


def _arrow_type(said: str) -> pa.DataType | None:
    """By a field's annotation; None: by its values."""
    known = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    plain = said.replace("<class '", "").replace("'>", "")
    if plain.startswith("tuple[str"):
        return pa.list_(pa.string())
    return known.get(plain.removesuffix(" | None"), pa.string() if plain.startswith("Literal") else None)


def _missing(library: str, error: ModuleNotFoundError) -> Exception:
    if error.name != library:
        return error
    return ConfigError(f"{library} is not installed: `pip install {library}`; `.to_arrow()` does without")


# -- what a notebook shows ---------------------------------------------------------------------


def framed(head: str, body: str) -> str:
    """HTML of an answer: its line, and what it shows beneath."""
    return f'{_LOOK}<div class="etalage"><p>{escape(head)}</p>{body}</div>'


def table_html(table: pa.Table, most: int = SHOWN) -> str:
    """The first `most` rows as an HTML table; binary values by their size."""
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell_text(value))}</td>" for value in row.values()) + "</tr>"
        for row in table.slice(0, most).to_pylist()
    )
    head = "".join(f"<th>{escape(name)}</th>" for name in table.column_names)
    more = table.num_rows - most
    rest = f'<p class="low">… and {more:,} more rows</p>' if more > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def rows_html(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table of cells that are HTML already."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>"


def cell_text(value: Any) -> str:
    """A value as a cell shows it, in one short line."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"<{len(value):,} bytes>"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}…"
