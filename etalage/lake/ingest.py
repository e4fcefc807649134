"""Files → checked rows in Delta tables. A bad row never stops a load: it goes to `refused`.

The work is done in chunks, each committed by an idempotent merge: an ingest that was killed is run
again, and every row is there exactly once.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import MappingConfig
from etalage.errors import InputUnreadable
from etalage.lake.casting import legible, shortened
from etalage.lake.checked import Checker, Loaded, table_of
from etalage.lake.delta import Lake
from etalage.lake.image_sources import folder_rows, idx_rows, is_idx
from etalage.lake.raw import RawChunk, RawTable, Refusal
from etalage.lake.readers import open_table
from etalage.lake.schema import TABLES

TableName = Literal["items", "photos", "users", "interactions"]
BEHAVIOUR_FORMATS = ("ncf", "sequences", "set_ratings")
"""Published files of interactions; see behaviour_files.py. No name tells them: say which it is."""
FORMATS = ("csv", "parquet", "jsonl", "idx", "folder", *BEHAVIOUR_FORMATS)
_SUFFIXES = {
    "csv": "csv",
    "tsv": "csv",
    "parquet": "parquet",
    "pq": "parquet",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
}


@dataclass
class Ingested:
    """What an ingest did, in rows of the source.

    `read` = `inserted` + `updated` + `unchanged` + `repeated` + `refused` - `photos_refused`.
    `repeated`: rows whose key a later row of the same file has (the last one counts).
    `photos_refused`: bad photos of items that were taken all the same; counted in `refused`.
    """

    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    repeated: int = 0
    refused: int = 0
    photos_refused: int = 0
    refused_by_reason: dict[str, int] = field(default_factory=dict)


def ingest(
    lake: Lake,
    source: Path | str,
    table: TableName,
    mapping: MappingConfig | None = None,
    *,
    format: str | None = None,
    attributes: dict[str, str] | None = None,
    class_names: Sequence[str] | None = None,
    ids: Literal["stem", "path"] = "stem",
    photo_root: Path | None = None,
    progress: Callable[[int], None] | None = None,
    chunk_rows: int = 10_000,
) -> Ingested:
    """Load `source` into `table` (an image set into items and photos), by merges of `chunk_rows` rows.

    `format`: one of FORMATS, else told from the name. `attributes` go into every item's. For image
    sets: `class_names` of IDX labels, and `ids` of a folder's items (file stem, or path beneath it).
    `photo_root`: where photo paths in a table start; its own folder when None. `progress` is called
    with the number of rows read since the last call.

    Raises InputUnreadable: the source as a whole makes no sense (missing, not of its format, lacks
    a needed column). ConfigError: the mapping names a column that we do not have. DataError: the
    lake cannot be written. What was merged before stays; a rerun completes it.
    """
    lake.require_writable()
    source = Path(source)
    if not source.exists():
        raise InputUnreadable(f"{source}: no such file or folder")
    format = format or format_of(source)
    if format == "folder" and source.is_file():
        format = format_of(source)  # a table of paths: items with a `photo_path` or `path` column
    done = Ingested()
    reasons: Counter[str] = Counter()
    loaded: Iterable[Loaded]
    if format in ("idx", "folder"):
        if table not in ("items", "photos"):
            raise InputUnreadable(f"{source}: a set of images fills items and photos, not {table}")
        table = "items"
        image_set = idx_rows(source, class_names, attributes, chunk_rows) if format == "idx" else folder_rows(
            source, ids, attributes, chunk_rows)  # fmt: skip
        loaded = image_set
    else:
        mapping = mapping or MappingConfig()
        if format in BEHAVIOUR_FORMATS:
            if table != "interactions":
                raise InputUnreadable(f"{source}: {format} fills interactions, not {table}")
            mapping = MappingConfig(constants=mapping.constants)  # these formats name their columns
        checker = Checker(source, table, mapping, attributes, photo_root or source.parent)
        loaded = _once_each(open_table(source, format, chunk_rows), checker)
    for part in loaded:
        _commit(lake, table, part, done, reasons)
        if progress and part.read:
            progress(part.read)
    done.refused_by_reason = dict(reasons.most_common())
    return done


def format_of(source: Path) -> str:
    """The format that a name tells. Raises InputUnreadable when it tells none."""
    if source.is_dir():
        return "folder"
    if is_idx(source):
        return "idx"
    suffix = source.name.lower().removesuffix(".gz").rpartition(".")[2]
    if suffix not in _SUFFIXES:
        raise InputUnreadable(
            f"{source}: the name does not tell its format; say which of {', '.join(FORMATS)} it is"
        )
    return _SUFFIXES[suffix]


def _once_each(raw: RawTable, checker: Checker) -> Iterator[Loaded]:
    """The file's checked chunks. Rows whose key occurs again are held back and come last, together.

    Otherwise each rerun of the file would write the earlier row over the later one, and back.
    """
    repeated = _repeated_keys(raw, checker)
    held: dict[str, list[pa.Table]] = {}
    for chunk in raw.chunks():
        keys = None if not len(repeated) else checker.key_columns(chunk)
        again = np.zeros(len(chunk.lines), dtype=bool) if keys is None else np.isin(_hashes(keys), repeated)
        if not again.any():
            yield checker.check(chunk)
            continue
        yield checker.check(_part(chunk, ~again, chunk.refused))
        rest = checker.check(_part(chunk, again, []))
        for name, rows in rest.tables.items():
            held.setdefault(name, []).append(rows)
        yield Loaded(rest.read, {}, rest.refused)
    if held:
        yield Loaded(
            0, {name: pa.concat_tables(rows, promote_options="default") for name, rows in held.items()}
        )


def _repeated_keys(raw: RawTable, checker: Checker) -> np.ndarray:
    """(R,) int64: hashes of the keys that occur more than once in the file; 8 bytes a row in memory.

    A chance collision only holds back a row that need not be.
    """
    hashes: list[np.ndarray] = []
    for chunk in raw.chunks():
        keys = checker.key_columns(chunk)
        if keys is None and chunk.lines and checker.spec.name == "interactions":
            break  # ids that we give are never repeated
        if keys is not None:
            hashes.append(_hashes(keys))
    values, counts = np.unique(np.concatenate([*hashes, np.zeros(0, np.int64)]), return_counts=True)
    return np.asarray(values[counts > 1])


def _hashes(columns: Sequence[Sequence[Any]]) -> np.ndarray:
    return np.fromiter(
        (hash(tuple(map(str, key))) for key in zip(*columns, strict=True)),
        dtype=np.int64,
        count=len(columns[0]),
    )


def _part(chunk: RawChunk, wanted: np.ndarray, refused: list[Refusal]) -> RawChunk:
    rows = np.flatnonzero(wanted).tolist()
    columns = {name: [values[n] for n in rows] for name, values in chunk.columns.items()}
    return RawChunk([chunk.lines[n] for n in rows], columns, refused)


def _commit(lake: Lake, table: TableName, part: Loaded, done: Ingested, reasons: Counter[str]) -> None:
    # The refusals first: what a killed run reports as refused is not less than what it skipped.
    _refuse(lake, table, part.refused)
    done.read += part.read
    done.refused += len(part.refused)
    done.photos_refused += sum(r.what is not None and r.what != table for r in part.refused)
    reasons.update(_kind_of(r.reason) for r in part.refused)
    for name, rows in part.tables.items():
        links = name == "photos" and "sha256" not in rows.column_names
        merged = lake.table(name).merge(rows, only_new=links)  # a link that was fetched is not pending again
        if name == table:
            done.inserted += merged.inserted
            done.updated += merged.updated
            done.unchanged += merged.unchanged
            done.repeated += rows.num_rows - merged.inserted - merged.updated - merged.unchanged


def _refuse(lake: Lake, table: str, refused: Sequence[Refusal]) -> None:
    if not refused:
        return
    columns: dict[str, list[Any]] = {n: [] for n in ("refused_id", "what", "file", "line", "reason", "row")}
    for r in refused:
        what, reason = r.what or table, legible(r.reason)
        file = legible(str(Path(r.file).absolute()))
        refused_id = hashlib.sha256(repr((what, file, r.line, reason)).encode()).hexdigest()
        for name, value in zip(
            columns, (refused_id, what, file, r.line, reason, shortened(r.row)), strict=True
        ):
            columns[name].append(value)
    lake.table("refused").merge(table_of(TABLES["refused"], columns))


def _kind_of(reason: str) -> str:
    """A reason without its values, for counting: `price: '-3' is negative` → `price: is negative`."""
    shorter = re.sub(r"'[^']*'|\"[^\"]*\"|<[^>]*>", "", reason)
    shorter = re.sub(r"-?\b\d[\d.e+_]*\b", "N", shorter)
    return re.sub(r"\s+", " ", shorter).strip()[:120]


def refused_rows(lake: Lake, table: str | None = None) -> pa.Table:
    """The refused rows (of `table`, or all), oldest line first; empty when there are none."""
    refused = lake.table("refused")
    rows = refused.read() if refused.exists() else TABLES["refused"].schema.empty_table()
    if table is not None:
        rows = rows.filter(pc.equal(rows["what"], table))
    return rows.sort_by([("file", "ascending"), ("line", "ascending")])
