"""Tables in files: CSV, JSONL, Parquet and published behaviour, in chunks of raw rows with line numbers.

A reader never stops at a bad row: it puts it among the chunk's `refused`. It raises
InputUnreadable only when the file as a whole makes no sense: no header, not Parquet, broken gzip.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from etalage.errors import InputUnreadable
from etalage.lake.behaviour_files import ncf_chunks, sequence_chunks, set_rating_chunks
from etalage.lake.csv_reader import csv_chunks
from etalage.lake.raw import LONGEST_VALUE, RawChunk, RawTable, Refusal, open_bytes


def open_table(file: Path, format: str, rows: int) -> RawTable:
    """`file` as `format` (csv, jsonl, parquet; ncf, sequences, set_ratings), read `rows` rows at a time."""
    readers = {
        "csv": csv_chunks,
        "jsonl": _jsonl_chunks,
        "parquet": _parquet_chunks,
        "ncf": ncf_chunks,
        "sequences": sequence_chunks,
        "set_ratings": set_rating_chunks,
    }
    return RawTable(file, lambda: _guarded(file, readers[format](file, rows)))


def _guarded(file: Path, chunks: Iterator[RawChunk]) -> Iterator[RawChunk]:
    try:
        yield from chunks
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputUnreadable(f"{file}: the gzip data is broken: {error}; fetch the file again") from error
    except OSError as error:
        raise InputUnreadable(f"{file}: cannot be read: {error.strerror or error}") from error


def _jsonl_chunks(file: Path, rows: int) -> Iterator[RawChunk]:
    where = str(file)
    lines: list[int] = []
    taken: list[dict[str, Any]] = []
    refused: list[Refusal] = []
    with open_bytes(file) as binary:
        for line, raw in _long_lines(binary):
            try:
                taken.append(_json_object(raw, first=line == 1))
                lines.append(line)
            except ValueError as error:
                refused.append(
                    Refusal(where, line, str(error), raw[:500].decode("utf-8", "backslashreplace"))
                )
            if len(lines) + len(refused) == rows:
                yield RawChunk(lines, _by_column(taken), refused)
                lines, taken, refused = [], [], []
    if lines or refused:
        yield RawChunk(lines, _by_column(taken), refused)


def _long_lines(binary: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(number, line) of each line that is not blank; of a line too long only the beginning."""
    number = 0
    while line := binary.readline(LONGEST_VALUE + 1):
        number += 1
        rest = line
        while rest and not rest.endswith(b"\n") and len(rest) > LONGEST_VALUE:
            rest = binary.readline(LONGEST_VALUE + 1)
        if line.strip():
            yield number, line


def _json_object(raw: bytes, first: bool) -> dict[str, Any]:
    """Raises ValueError with the reason to refuse the line."""
    if len(raw) > LONGEST_VALUE:
        raise ValueError(f"longer than {LONGEST_VALUE} bytes")
    try:
        value = json.loads(raw.decode("utf-8-sig" if first else "utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("not JSON that we read: nested too deeply") from None
    except ValueError as error:  # e.g. a number of more than 4,300 digits
        raise ValueError(f"not JSON that we read: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"not a JSON object but {type(value).__name__}")
    return value


def _by_column(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


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
                columns = {name: _values(batch.column(n)) for n, name in enumerate(batch.schema.names)}
                yield RawChunk(list(range(line, line + batch.num_rows)), columns)
                line += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise InputUnreadable(f"{file}: broken after row {line - 1}: {_first_line(error)}") from error


def _values(column: Any) -> list[Any]:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.dictionary_decode()
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


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0][:300]
