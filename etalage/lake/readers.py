"""Tables in files: CSV, JSONL, Parquet and published behaviour, in chunks of raw rows with line numbers.

A reader never stops at a bad row: it puts it among the chunk's `refused`. It raises
InputUnreadable only when the file as a whole makes no sense: no header, not Parquet, broken gzip.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from etalage.errors import InputUnreadable
from etalage.lake.behaviour_files import ncf_chunks, pair_chunks, sequence_chunks, set_rating_chunks
from etalage.lake.csv_reader import csv_chunks
from etalage.lake.json_rows import json_chunks
from etalage.lake.notes import Notes
from etalage.lake.raw import RawChunk, RawTable, guarded
from etalage.lake.text_files import AS_FOUND, FileStyle
from etalage.lake.xml_rows import xml_chunks

_PHOTO = "photo"
"""Our column of pictures, whose bytes are no text."""


def open_table(file: Path, format: str, rows: int, style: FileStyle = AS_FOUND) -> RawTable:
    """`file` as `format` (csv, jsonl, parquet, xml; ncf, pairs, sequences, set_ratings), `rows` at a time.

    `style`: how its text is written, of csv, jsonl and xml.
    """
    readers: dict[str, Callable[[Path, int], Iterator[RawChunk]]] = {
        "csv": partial(csv_chunks, style=style),
        "jsonl": partial(json_chunks, style=style),
        "xml": partial(xml_chunks, style=style),
        "parquet": _parquet_chunks,
        "ncf": ncf_chunks,
        "pairs": pair_chunks,
        "sequences": sequence_chunks,
        "set_ratings": set_rating_chunks,
    }
    one_header = format not in ("jsonl", "xml")
    return RawTable(file, lambda: guarded(file, readers[format](file, rows)), one_header)


def _parquet_chunks(file: Path, rows: int) -> Iterator[RawChunk]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise InputUnreadable(f"{file}: not a Parquet file that can be read: {_first_line(error)}") from error
    with parquet:
        line = 1
        try:
            if parquet.metadata.num_rows == 0:
                yield RawChunk([], {name: [] for name in parquet.schema_arrow.names})
            for batch in parquet.iter_batches(batch_size=rows, use_threads=False):
                columns = {name: column_values(batch.column(n)) for n, name in enumerate(batch.schema.names)}
                notes = Notes()
                for n, name in enumerate(batch.schema.names):
                    if name != _PHOTO and _has_binary(batch.schema.field(n).type):
                        columns[name] = _decoded(name, columns[name], notes)
                lines = list(range(line, line + batch.num_rows))
                yield RawChunk(lines, columns, notes=notes.all())
                line += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise InputUnreadable(f"{file}: broken after row {line - 1}: {_first_line(error)}") from error


def column_values(column: Any) -> list[Any]:
    """An Arrow column's values as Python's; what Python cannot hold as something refusable."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind) and kind.value_type != pa.string_view():
        column = column.cast(kind.value_type) if hasattr(column, "chunks") else column.dictionary_decode()
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        # Python's datetime has no nanoseconds; the tables keep microseconds anyway.
        column = column.cast(pa.timestamp("us", tz=kind.tz), safe=False)
    try:
        return list(column.to_pylist())
    except (UnicodeDecodeError, ValueError, OverflowError):
        return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> Any:
    """One value; what Python cannot hold (text that is not UTF-8, year 30000) as something refusable."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes()
    except (ValueError, OverflowError) as error:
        return error


def _has_binary(kind: Any) -> bool:
    """Whether values of an Arrow type are binary, or hold what is."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _has_binary(kind.value_type)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return True
    return any(_has_binary(kind.field(n).type) for n in range(kind.num_fields))


def _decoded(name: str, values: list[Any], notes: Notes) -> list[Any]:
    """Binary values as the UTF-8 that they are, as some writers of Parquet leave their texts; those of a
    column of which one is none stay as they are."""
    try:
        texts = [_text(value) for value in values]
    except UnicodeDecodeError:
        return values
    if any(value is not None for value in values):
        notes.add(f"{name}: is binary in the file, and read as the UTF-8 that it is")
    return texts


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        if b"\0" in value:
            raise UnicodeDecodeError("utf-8", value, 0, 1, "no text has it")
        return value.decode()
    if isinstance(value, dict):
        return {key: _text(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_text(one) for one in value)
    return value


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0][:300]
