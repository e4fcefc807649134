"""Tables in files: CSV, JSONL, Parquet and published behaviour, in chunks of raw rows with line numbers.

A reader never stops at a bad row: it puts it among the chunk's `refused`. It raises
InputUnreadable only when the file as a whole makes no sense: no header, not Parquet, broken gzip.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from etalage.errors import InputUnreadable
from etalage.lake.behaviour_files import ncf_chunks, sequence_chunks, set_rating_chunks
from etalage.lake.csv_reader import csv_chunks
from etalage.lake.raw import LARGEST_CHUNK, LONGEST_VALUE, RawChunk, RawTable, Refusal, open_bytes
from etalage.lake.text_files import AS_FOUND, UTF8, CutLine, FileStyle, bounded_line, encoding_of, open_text


def open_table(file: Path, format: str, rows: int, style: FileStyle = AS_FOUND) -> RawTable:
    """`file` as `format` (csv, jsonl, parquet; ncf, sequences, set_ratings), read `rows` rows at a time.

    `style`: how its text is written, of csv and jsonl.
    """
    readers: dict[str, Callable[[Path, int], Iterator[RawChunk]]] = {
        "csv": partial(csv_chunks, style=style),
        "jsonl": partial(_jsonl_chunks, style=style),
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
    except UnicodeError as error:
        raise InputUnreadable(f"{file}: is not of the encoding that was said: {error}") from error


def _jsonl_chunks(file: Path, rows: int, style: FileStyle = AS_FOUND) -> Iterator[RawChunk]:
    where = str(file)
    lines: list[int] = []
    taken: list[dict[str, Any]] = []
    refused: list[Refusal] = []
    size = 0
    for line, raw, whole in _json_lines(file, style):
        try:
            if not whole:
                raise ValueError(f"longer than {LONGEST_VALUE:,} bytes")
            taken.append(_json_object(raw, first=line == 1))
            lines.append(line)
            size += len(raw)
        except ValueError as error:
            refused.append(Refusal(where, line, str(error), raw[:500].decode("utf-8", "backslashreplace")))
        if len(lines) + len(refused) == rows or size >= LARGEST_CHUNK:
            yield RawChunk(lines, _by_column(taken), refused)
            lines, taken, refused, size = [], [], [], 0
    if lines or refused:
        yield RawChunk(lines, _by_column(taken), refused)


def _json_lines(file: Path, style: FileStyle) -> Iterator[tuple[int, bytes, bool]]:
    """(number, line in UTF-8, whether it is whole) of each line that is not blank; of one too long only the
    beginning."""
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
                    yield number, line, whole
        return
    with open_text(file, encoding) as text:
        while said := bounded_line(text):
            number += 1
            if said.strip():
                # A byte that is not of the encoding is not UTF-8 here, and refused as such.
                yield number, said.encode("utf-8", "surrogatepass"), not isinstance(said, CutLine)


def _json_object(raw: bytes, first: bool) -> dict[str, Any]:
    """Raises ValueError with the reason to refuse the line."""
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
