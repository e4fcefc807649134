"""Checked rows → the tables: merged in idempotent steps, counted, their refusals kept, what is missing told.

An ingest that was killed is run again, and every row is there exactly once.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from itertools import groupby
from typing import Literal

import pyarrow as pa

from etalage.errors import DataError
from etalage.lake.checked import Loaded, pending, table_of
from etalage.lake.coalescing import coalesced
from etalage.lake.delta import Lake
from etalage.lake.moved_photos import MovedPhotos
from etalage.lake.notes import Note, Notes
from etalage.lake.refusals import Refusals
from etalage.lake.removal import LOOKS_WHOLE, Present, check_shrink, item_ids, remove_items
from etalage.lake.schema import TABLES
from etalage.lake.unknown_ids import IdCounts, unknown_among
from etalage.lake.whence import Whence, place

MERGE_SHARE = 0.25
"""A merge looks through the whole table, so that one is made when a quarter as many rows wait as are stored:
their number grows with the logarithm of the rows, and their cost with the rows."""
MERGE_ROWS, MERGE_BYTES = 500_000, 2**26
"""But no more than so many wait in memory."""
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


@dataclass(repr=False)
class Ingested:
    """What an ingest did, in rows of the source (a row for each element, where a list is walked).

    `read` = `inserted` + `updated` + `unchanged` + `repeated` + `older` + `erased` + `passed` + `refused` -
    `photos_refused`. `repeated`: rows whose key a later row of the same files has (an empty cell of it erases
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
    unreadable: list[str] = field(default_factory=list)
    """Of several files those that could not be read, or not to their end, and why."""
    refused_by_reason: dict[str, int] = field(default_factory=dict)
    first_refused: dict[str, str] = field(default_factory=dict, compare=False)
    """Of each reason the first row, with its line and its values."""
    notes: list[Note] = field(default_factory=list)
    """What was done unasked, what a mapping names and the file lacks, what is missing."""

    def __repr__(self) -> str:
        counts = {
            name: getattr(self, name)
            for name in (
                "inserted", "updated", "unchanged", "repeated", "older", "erased", "passed", "refused",
                "values_lost", "removed",
            )
        }  # fmt: skip
        told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
        count = len(self.notes)
        said = f"; {count} {'note' if count == 1 else 'notes'} (`.notes`)" if count else ""
        return f"{self.read:,} rows read: {told or 'nothing changed'}{said}"

    def _repr_html_(self) -> str:
        first = [
            f"{count:,} × {self.first_refused.get(why, why)}" for why, count in self.refused_by_reason.items()
        ]
        lines = [f"refused, such as {line}" for line in first] + [str(note) for note in self.notes]
        listed = "".join(f"<li>{escape(line)}</li>" for line in [*self.unreadable, *lines])
        return f"<p>{escape(repr(self))}</p>" + (f"<ul>{listed}</ul>" if listed else "")


class Merging:
    """One ingest under way: merges what it is given, counts it, and sees to refusals and to what is missing.

    `sources`: the files, as messages name them; `noun`: what each is called. `several`: an example says
    which file it is in. `step` rows wait at least before they are merged. `progress` is told the rows read,
    as they are merged. `path_ids`: of all items of a folder, where they are paths.
    """

    def __init__(
        self,
        lake: Lake,
        table: str,
        sources: str,
        *,
        several: bool = False,
        noun: str = "file",
        whole: Whole | None = None,
        step: int = 10_000,
        progress: Callable[[int], None] | None = None,
        path_ids: Collection[str] | None = None,
    ) -> None:
        self.notes = Notes()
        self._moved = MovedPhotos(lake, self.notes, path_ids)
        self._lake = lake
        self._table = table
        self._sources = sources
        self._several = several
        self._noun = noun
        self._whole = whole
        self._step = step
        self._progress = progress
        self._refusals = Refusals(lake, table, several)
        self._present = Present()
        self._nameless = 0
        stored = lake.table(table)
        self._stored = stored.count() if stored.exists() else 0
        self._before = self._stored if table == "items" else 0
        self._done = Ingested()
        self._counts = {column: IdCounts() for column in ("item_id", "user_id")}
        self._waiting: list[tuple[Whence, Loaded]] = []
        self._waiting_rows = self._waiting_bytes = 0

    def add(self, source: Whence, part: Loaded) -> None:
        """Some checked rows of `source`; they are merged now, or with those that come next."""
        part = self._moved.adopted(part)
        self._waiting.append((source, part))
        self._waiting_rows += part.read
        self._waiting_bytes += sum(rows.nbytes for rows in part.tables.values())
        enough = min(max(self._step, MERGE_SHARE * self._stored), MERGE_ROWS)
        if self._waiting_rows >= enough or self._waiting_bytes >= MERGE_BYTES:
            self.merge()

    def merge(self) -> None:
        """Merge what waits. Refusals first: what a killed run reports is not less than what it skipped."""
        waiting, self._waiting = self._waiting, []
        self._waiting_rows = self._waiting_bytes = 0
        parts = [part for _, part in waiting]
        self._refusals.add([refusal for part in parts for refusal in part.refused])
        for source, part in waiting:
            self._count(source, part)
        # Photos before the items that they are of.
        for name in sorted(
            {name for part in parts for name in part.tables}, key=lambda name: name != "photos"
        ):
            given = [part.tables[name] for part in parts if name in part.tables]
            # A column that one part lacks is not null there: it is left as it is stored.
            for _, alike in groupby(given, key=lambda rows: rows.column_names):
                self._merge(name, pa.concat_tables(alike))
        links = [part.links for part in parts if part.links is not None]
        if links:
            self._lake.table("photos").merge(pa.concat_tables(links), only_new=True)
        for source, part in waiting:
            self._refusals.taken(source, part)
            if self._progress and part.read:
                self._progress(part.read)

    def _count(self, source: Whence, part: Loaded) -> None:
        done, table = self._done, self._table
        where = f"{source.name}, " if self._several else ""
        done.read += part.read
        done.passed += part.passed
        for refusal in part.refused:
            if refusal.field is not None:
                done.values_lost += 1
                what = f"{refusal.field} cannot be read: the row is taken without it"
                why = refusal.reason.removeprefix(f"{refusal.field}: ")
                self.notes.add(what, 1, f"{where}{place(source, refusal.line)}: {why}")
                continue
            done.refused += 1
            done.photos_refused += refusal.what is not None and refusal.what != table
            if table == "items" and refusal.what is None:
                self._present.add([refusal.key] if refusal.key else [])
                self._nameless += refusal.key is None

    def _merge(self, name: str, rows: pa.Table) -> None:
        done, count = self._done, rows.num_rows
        if name == "photos":
            links = "sha256" not in rows.column_names
            renamed = 0 if links else self._moved.look(rows)
            # A link that was fetched is not pending again.
            merged = self._lake.table(name).merge(rows, only_new=links)
            merged = replace(merged, inserted=merged.inserted - renamed, updated=merged.updated + renamed)
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
            self._stored += merged.inserted
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
            self.notes.add(
                "photo_url: several rows of one item, each with a link; the first is the main photo, the "
                "others are photos too", len(others), f"item {others[0][0]}",
            )  # fmt: skip

    def end_file(self) -> None:
        """Of several files: what several of them say of one thing is laid one over the other in their order,
        where it can change; an interaction cannot."""
        if self._table != "interactions":
            self.merge()

    def finish(self, unreadable: Sequence[str] = ()) -> Ingested:
        """Behind the last part. `unreadable`: the files that could not be read, of several: then nobody knows
        what is missing, and nothing leaves. Raises DataError, CatalogueShrank: see `ingest`."""
        self.merge()
        self._moved.finish()
        self._refusals.finish()
        if not self._done.read:
            cut = ": was its export cut short?" if self._noun == "file" else ""
            self.notes.add(f"the {self._noun} has no rows{cut}")
        if self._done.older:
            self.notes.add("older than what is stored, by updated_at: left as it is", self._done.older)
        if self._done.erased:
            self.notes.add(_ERASED, self._done.erased)
        if self._table == "interactions":
            counts = {column: counted.table() for column, counted in self._counts.items()}
            for line in unknown_among(self._lake, counts):
                self.notes.add(line)
        self._done.refused_by_reason = dict(self._refusals.by_reason.most_common())
        self._done.first_refused = self._refusals.first
        self._done.unreadable = list(unreadable)
        if unreadable:
            if self._whole is not None:
                self.notes.add("files that cannot be read: no item left the catalogue", len(unreadable))
        elif self._whole is not None:
            self._remove(self._whole)
        elif self._before and self._present.count >= LOOKS_WHOLE * self._before:
            missing = self._present.missing(item_ids(self._lake))
            if missing:
                verb, named = ("is", "item") if len(missing) == 1 else ("are", "items")
                self.notes.add(
                    f"{len(missing):,} {named} of the catalogue {verb} not in this {self._noun} "
                    f"({_some(missing)}); if the {self._noun} is all there is: "
                    f"{'--whole' if self._noun == 'file' else 'whole=True'}"
                )
        self._done.notes = self.notes.all()
        return self._done

    def _remove(self, whole: Whole) -> None:
        there = item_ids(self._lake)
        missing = self._present.missing(there)
        if not missing:
            return
        check_shrink(len(missing), self._before, whole.max_shrink, whole.force)
        if self._nameless and not whole.force:
            raise DataError(
                f"{self._sources}: {self._nameless:,} refused rows have no id that can be read, so that "
                f"nobody knows which of {len(missing):,} items are missing ({_some(missing)}); none left the "
                "catalogue. Mend the rows (`etalage refused`), or --force"
            )
        removed = remove_items(self._lake, missing, whole.max_shrink, force=True)
        self._done.removed = len(removed.items)
        self.notes.add(
            f"items that are not in this {self._noun} left the catalogue: {len(removed.items):,} "
            f"({_some(removed.items)}); the next `etalage sync` takes them out of the bundle"
        )


def _some(ids: Sequence[str], most: int = 3) -> str:
    shown = ", ".join(ids[:most])
    return f"{shown}, …" if len(ids) > most else shown
