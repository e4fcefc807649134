"""Files → checked rows in Delta tables. A bad row never stops a load: it goes to `refused`.

The work is done in chunks, each committed by an idempotent merge: an ingest that was killed is run
again, and every row is there exactly once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from etalage.config import MappingConfig
from etalage.errors import DataError, InputUnreadable
from etalage.lake.checked import Checker, Loaded, pending, table_of
from etalage.lake.coalescing import coalesced
from etalage.lake.delta import Lake
from etalage.lake.image_sources import folder_rows, idx_rows
from etalage.lake.notes import Note, Notes
from etalage.lake.raw import RawTable
from etalage.lake.refusals import Refusals, refused_rows
from etalage.lake.removal import LOOKS_WHOLE, Present, check_shrink, item_ids, remove_items
from etalage.lake.schema import TABLES
from etalage.lake.sources import BEHAVIOUR_FORMATS, FORMATS, file_style, open_file
from etalage.lake.unknown_ids import IdCounts, unknown_among

__all__ = [
    "BEHAVIOUR_FORMATS",
    "FORMATS",
    "Ingested",
    "TableName",
    "Whole",
    "ingest",
    "refused_rows",
]

TableName = Literal["items", "photos", "users", "interactions"]
_ERASED = (
    "of shoppers who were erased: left out, as everything that they did before; what they do from then on is "
    "taken, and so is then their row in users"
)


@dataclass(frozen=True)
class Whole:
    """The source is all there is: what is not in it leaves the catalogue, less than `max_shrink` of it unless
    `force`."""

    max_shrink: float = 0.5
    force: bool = False


@dataclass
class Ingested:
    """What an ingest did, in rows of the source (a row for each element, where a list is walked).

    `read` = `inserted` + `updated` + `unchanged` + `repeated` + `older` + `erased` + `passed` + `refused` -
    `photos_refused`. `repeated`: rows whose key a later row of the same file has (an empty cell of it erases
    nothing). `older`: rows that are older than the stored one, or than one before them. `erased`: rows of
    shoppers who were erased after them. `passed`: rows that are none of ours. `photos_refused`: bad photos of
    items that were taken all the same; counted in `refused`. `values_lost`: unreadable values of rows that
    were taken without them. `removed`: items that left the catalogue.
    """

    read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    repeated: int = 0
    refused: int = 0
    photos_refused: int = 0
    older: int = 0
    erased: int = 0
    passed: int = 0
    values_lost: int = 0
    removed: int = 0
    refused_by_reason: dict[str, int] = field(default_factory=dict)
    first_refused: dict[str, str] = field(default_factory=dict, compare=False)
    """Of each reason the first row, with its line and its values."""
    notes: list[Note] = field(default_factory=list)
    """What was done unasked, what a mapping names and the file lacks, what is missing."""


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
    whole: Whole | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    progress: Callable[[int], None] | None = None,
    chunk_rows: int = 10_000,
) -> Ingested:
    """Load `source` into `table` (an image set into items and photos), by merges of `chunk_rows` rows.

    `format`: one of FORMATS, else told from the name and from what is in the file; a feed that is known
    has a mapping of its own, behind `mapping`. `attributes` go into every item's. For image
    sets: `class_names` of IDX labels, and `ids` of a folder's items (file stem, or path beneath it).
    `photo_root`: where photo paths in a table start; its own folder when None. `delimiter`, `encoding`: of
    this file, before what the mapping says. `progress` is called with the number of rows read since the last
    call. An empty cell keeps what is stored; of a `whole` source it erases it, and items that it does not
    have leave the catalogue.

    Raises InputUnreadable: the source as a whole makes no sense (missing, not of its format, lacks a needed
    column). ConfigError: the mapping names a column that we do not have. DataError: the lake cannot be
    written; `whole`, but some rows have no id that can be read. CatalogueShrank: `whole`, and too much would
    go. What was merged before stays; a rerun completes it.
    """
    lake.require_writable()
    source = Path(source)
    if not source.exists():
        raise InputUnreadable(f"{source}: no such file or folder")
    if whole is not None and table != "items":
        raise InputUnreadable(
            f"{source}: a whole catalogue is one of items; {table} are added to, never replaced"
        )
    mapping = mapping or MappingConfig()
    said, format = format, file_style(source, format, mapping, delimiter, encoding)[0]
    notes = Notes()
    checker: Checker | None = None
    loaded: Iterable[Loaded]
    if format in ("idx", "folder"):
        if table not in ("items", "photos"):
            raise InputUnreadable(f"{source}: a set of images fills items and photos, not {table}")
        table = "items"
        image_set = idx_rows(source, class_names, attributes, chunk_rows) if format == "idx" else folder_rows(
            source, ids, attributes, chunk_rows)  # fmt: skip
        loaded = image_set
    else:
        if format in BEHAVIOUR_FORMATS and table != "interactions":
            raise InputUnreadable(f"{source}: {format} fills interactions, not {table}")
        opened = open_file(
            source, table, mapping, chunk_rows, format=said, delimiter=delimiter, encoding=encoding
        )
        root = photo_root or source.parent
        checker = Checker(source, table, opened.mapping, attributes, root, opened.own)
        notes = checker.notes
        if opened.note is not None:
            notes.add(opened.note)
        loaded = _once_each(opened.raw, checker)
    work = _Work(lake, source, table, whole, notes)
    for part in loaded:
        work.commit(part)
        if progress and part.read:
            progress(part.read)
    if checker is not None:
        checker.mapping.tell_missing(notes)
    return work.finish()


def _once_each(raw: RawTable, checker: Checker) -> Iterator[Loaded]:
    """The file's checked chunks. Rows whose key occurs again are held back and come last, together.

    Otherwise each rerun of the file would write the earlier row over the later one, and back.
    """
    checker.require(raw)
    repeated = _repeated_keys(raw, checker)
    held: dict[str, list[pa.Table]] = {}
    for chunk in raw.chunks():
        mapped = checker.mapped(chunk)
        keys = None if not len(repeated) else checker.keys(mapped)
        again = np.zeros(len(mapped.lines), dtype=bool) if keys is None else np.isin(_hashes(keys), repeated)
        if not again.any():
            yield checker.check(mapped)
            continue
        yield checker.check(mapped.part(~again, rest=True))
        rest = checker.check(mapped.part(again, rest=False))
        for name, rows in rest.tables.items():
            held.setdefault(name, []).append(rows)
        yield replace(rest, tables={}, lines=[])
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
        keys = checker.look(chunk)
        if keys is None and chunk.lines and checker.spec.name == "interactions":
            break  # ids that we give are never repeated
        if keys is not None:
            hashes.append(_hashes(keys))
    values, counts = np.unique(np.concatenate([*hashes, np.zeros(0, np.int64)]), return_counts=True)
    return np.asarray(values[counts > 1])


class _Work:
    """One ingest under way: merges what comes, counts it, and sees to refusals and to what is missing."""

    def __init__(self, lake: Lake, source: Path, table: TableName, whole: Whole | None, notes: Notes) -> None:
        self._lake = lake
        self._source = source
        self._table = table
        self._whole = whole
        self._notes = notes
        self._refusals = Refusals(lake, table)
        self._present = Present()
        self._nameless = 0
        self._before = lake.table("items").count() if table == "items" and lake.table("items").exists() else 0
        self._done = Ingested()
        self._counts = {column: IdCounts() for column in ("item_id", "user_id")}

    def commit(self, part: Loaded) -> None:
        """Merge a chunk. Its refusals first: what a killed run reports is not less than what it skipped."""
        done, table = self._done, self._table
        self._refusals.add(part.refused)
        done.read += part.read
        done.passed += part.passed
        for refusal in part.refused:
            if refusal.field is not None:
                done.values_lost += 1
                what = f"{refusal.field} cannot be read: the row is taken without it"
                why = refusal.reason.removeprefix(f"{refusal.field}: ")
                self._notes.add(what, 1, f"line {refusal.line}: {why}")
                continue
            done.refused += 1
            done.photos_refused += refusal.what is not None and refusal.what != table
            if table == "items" and refusal.what is None:
                self._present.add([refusal.key] if refusal.key else [])
                self._nameless += refusal.key is None
        for name, rows in part.tables.items():
            self._merge(name, rows)
        if part.links is not None:
            self._lake.table("photos").merge(part.links, only_new=True)
        self._refusals.taken(self._source, part)

    def _merge(self, name: str, rows: pa.Table) -> None:
        done, count = self._done, rows.num_rows
        if name == "photos":
            links = "sha256" not in rows.column_names
            # A link that was fetched is not pending again.
            merged = self._lake.table(name).merge(rows, only_new=links)
            older = 0
        else:
            told = rows
            rows, older = coalesced(rows, TABLES[name])
            if rows.num_rows < told.num_rows and "photo_url" in rows.column_names:
                self._more_photos(told, rows)
            empty: Literal["erases", "keeps"] = "keeps" if self._whole is None else "erases"
            merged = self._lake.table(name).merge(rows, empty=empty)
            older += merged.older
        if name == "items":
            self._present.add(rows["item_id"].to_pylist())
        if name == "interactions":
            for column, counted in self._counts.items():
                counted.add(rows[column])
        if name == self._table:
            done.inserted += merged.inserted
            done.updated += merged.updated
            done.unchanged += merged.unchanged
            done.older += older
            done.erased += merged.erased
            taken = merged.inserted + merged.updated + merged.unchanged
            done.repeated += count - taken - older - merged.erased

    def _more_photos(self, told: pa.Table, rows: pa.Table) -> None:
        """What several rows of one item say of its photo: the others of them are photos too."""
        main = dict(zip(rows["item_id"].to_pylist(), rows["photo_url"].to_pylist(), strict=True))
        pairs = zip(told["item_id"].to_pylist(), told["photo_url"].to_pylist(), strict=True)
        others = list(dict.fromkeys((item, url) for item, url in pairs if url and url != main[item]))
        if others:
            links = table_of(TABLES["photos"], pending(others))
            self._lake.table("photos").merge(links, only_new=True)
            self._notes.add(
                "photo_url: several rows of one item, each with a link; the first is the main photo, the "
                "others are photos too", len(others), f"item {others[0][0]}",
            )  # fmt: skip

    def finish(self) -> Ingested:
        """Behind the last chunk. Raises DataError, CatalogueShrank: see `ingest`."""
        self._refusals.finish()
        if not self._done.read:
            self._notes.add("the file has no rows: was its export cut short?")
        if self._done.older:
            self._notes.add("older than what is stored, by updated_at: left as it is", self._done.older)
        if self._done.erased:
            self._notes.add(_ERASED, self._done.erased)
        if self._table == "interactions":
            counts = {column: counted.table() for column, counted in self._counts.items()}
            for line in unknown_among(self._lake, counts):
                self._notes.add(line)
        self._done.refused_by_reason = dict(self._refusals.by_reason.most_common())
        self._done.first_refused = self._refusals.first
        if self._whole is not None:
            self._remove(self._whole)
        elif self._before and self._present.count >= LOOKS_WHOLE * self._before:
            missing = self._present.missing(item_ids(self._lake))
            if missing:
                verb, named = ("is", "item") if len(missing) == 1 else ("are", "items")
                self._notes.add(
                    f"{len(missing):,} {named} of the catalogue {verb} not in this file ({_some(missing)}); "
                    "if the file is all there is: --whole"
                )
        self._done.notes = self._notes.all()
        return self._done

    def _remove(self, whole: Whole) -> None:
        there = item_ids(self._lake)
        missing = self._present.missing(there)
        if not missing:
            return
        check_shrink(len(missing), self._before, whole.max_shrink, whole.force)
        if self._nameless and not whole.force:
            raise DataError(
                f"{self._source}: {self._nameless:,} refused rows have no id that can be read, so that "
                f"nobody knows which of {len(missing):,} items are missing ({_some(missing)}); none left the "
                "catalogue. Mend the rows (`etalage refused`), or --force"
            )
        removed = remove_items(self._lake, missing, whole.max_shrink, force=True)
        self._done.removed = len(removed.items)
        self._notes.add(
            f"items that are not in this file left the catalogue: {len(removed.items):,} "
            f"({_some(removed.items)}); the next `etalage sync` takes them out of the bundle"
        )


def _some(ids: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(ids[:most])
    return f"{shown}, …" if len(ids) > most else shown


def _hashes(columns: Sequence[Sequence[Any]]) -> np.ndarray:
    return np.fromiter(
        (hash(tuple(map(str, key))) for key in zip(*columns, strict=True)),
        dtype=np.int64,
        count=len(columns[0]),
    )
