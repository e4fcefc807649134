"""The shop's tables: versioned, checked when opened, merged by key.

`Lake` is a place with Delta tables, `Table` one of them. Tables in a folder are checked against the
ledger (etalage/lake/ledger.py) at each open and read, and writers on one machine take turns by a
file lock (storage.py). Tables in an object store are checked against a ledger too, as far as the store does
not do that itself, and their writers rely on Delta's optimistic concurrency (object_storage.py).
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Schema, Transaction, write_deltalake
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, RemoveAction

from etalage.errors import ChangesGone, DataError, TableMissing
from etalage.lake.coalescing import laid_over, older_than_stored
from etalage.lake.difference import (
    compared,
    fitted,
    fitted_table,
    key_of,
    last_of_each,
    net_effect,
    same_rows,
    with_keys,
)
from etalage.lake.erasures import Erasures, StoredErasures, without_erased
from etalage.lake.ledger import Moment
from etalage.lake.object_storage import ObjectStorage
from etalage.lake.parts import Added, Part, read_part
from etalage.lake.places import Place
from etalage.lake.schema import CLEARED, TABLES, TableSpec
from etalage.lake.storage import LocalStorage, Storage, shortly

_WRITER = "etalage"
SCANNED_ROWS = 65_536
"""Of a batch, where a whole table is looked through."""
_FEED = (pa.field("_change_type", pa.string()), pa.field("_commit_version", pa.int64()))


@dataclass(frozen=True)
class Merged:
    """What a merge did; `version` is the table's version after it (unchanged rows commit nothing).

    `older`: rows that were left since a newer one is stored, or stands before them. `erased`: rows that were
    left since their shopper was erased after them.
    """

    inserted: int
    updated: int
    unchanged: int
    version: int
    older: int = 0
    erased: int = 0


@dataclass(frozen=True)
class Changes:
    """The net effect of the versions (since, until]: final rows, and keys that are gone."""

    upserted: pa.Table
    deleted: pa.Table
    since: int
    until: int


@dataclass(frozen=True)
class PastVersion:
    """One version of a table. `did`: the operation that made it, as Delta calls it; `whole`: all its files
    are still there, so that it can be read and restored."""

    version: int
    at: datetime
    did: str
    rows: int
    whole: bool


class Lake:
    """The tables of a shop. `root`: a folder, or a place in an object store."""

    def __init__(self, root: str | Path | Place) -> None:
        self.place = Place.of(root)
        self.root = self.place.uri
        folder = self.place.folder
        self._store = None if folder is not None else self.place.store()
        self.erasures = Erasures(folder) if self._store is None else StoredErasures(self._store)
        self._tables: dict[str, Table] = {}

    def table(self, name: str) -> "Table":
        """The table `name` of lake/schema.py, which may not exist yet. KeyError: no such table."""
        if name not in self._tables:
            spec, folder = TABLES[name], self.place.at(name).folder
            if self._store is None:
                assert folder is not None
                storage: Storage = LocalStorage(name, folder)
            else:
                storage = ObjectStorage(name, self._store.at(name))
            self._tables[name] = Table(storage, spec, self.erasures)
        return self._tables[name]

    def versions(self) -> dict[str, int]:
        """The newest version of each table that exists."""
        return {name: self.table(name).version() for name in TABLES if self.table(name).exists()}

    def require_writable(self) -> None:
        """Raises DataError, ObjectStoreError when nothing can be written at `root`; tried out, as modes do
        not bind root."""
        if self._store is not None:
            self._store.require_conditions()
            return
        probe = Path(self.root) / f".writable-{random.getrandbits(32):08x}"
        try:
            probe.parent.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"e")
            probe.unlink()
        except OSError as error:
            raise DataError(
                f"{self.root}: cannot be written ({error.strerror}); nothing was read or changed. "
                "Mount it writable, free some space, or choose another shop folder"
            ) from error


class Table:
    """One Delta table. Cheap to make; it is opened anew, and checked, by each call."""

    def __init__(self, storage: Storage, spec: TableSpec, erasures: Erasures | None = None) -> None:
        self.uri = storage.uri
        self.spec = spec
        self.name = spec.name
        self._storage = storage
        self._erasures = erasures or Erasures(None)

    @property
    def storage(self) -> Storage:
        """The place that it lies in."""
        return self._storage

    def exists(self) -> bool:
        """Whether anything was ever committed here."""
        return self._storage.exists()

    def version(self) -> int:
        """The newest version. Raises TableMissing, TableDamaged."""
        return self._storage.open(None).version()

    def moment(self, version: int | None = None) -> Moment:
        """What `version` (None: the newest) can be known again by. Raises as `version`."""
        opened = self._storage.open(version)
        commit = self._storage.commit_sha256(opened.version())
        return Moment(str(opened.metadata().id), opened.version(), commit)

    def has_been(self, moment: Moment) -> bool:
        """Whether this table was once what it was then, and has only been written on since.

        It was not where it was deleted and made anew, or put back from a copy of an earlier day: its numbers
        of versions then mean something else, also when it has grown past the old ones. Raises as `version`.
        """
        if not self.exists() or self.version() < moment.version:
            return False
        commit = self._storage.commit_sha256(moment.version)
        return commit == moment.commit and str(self._storage.open(None).metadata().id) == moment.table_id

    def count(self, version: int | None = None) -> int:
        """How many rows, from the log. Raises TableMissing, TableDamaged."""
        return sum(rows for _, _, rows in self._storage.files(self._storage.open(version)))

    def read(self, version: int | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """The table at `version` (None: newest) with `columns` (None: all), in memory.

        Raises TableMissing: nothing ingested yet, or no such version. TableDamaged: names the commit
        file (with the last good version) or the data file. KeyError: no such column.
        """
        schema = self._schema(columns)
        return pa.Table.from_batches(self.batches(version, columns), schema=schema)

    def batches(
        self, version: int | None = None, columns: Sequence[str] | None = None, rows: int = 8192
    ) -> Iterator[pa.RecordBatch]:
        """As `read`, as a stream of at most `rows` rows a batch; errors are raised at the first one."""
        opened = self._storage.open(version)
        schema = self._schema(columns)
        total = 0
        for batch in self._storage.stream(opened, schema.names, rows):
            total += batch.num_rows
            yield fitted(batch, schema)
        self._storage.check_rows(opened.version(), total)

    def merge(
        self, rows: pa.Table, only_new: bool = False, empty: Literal["erases", "keeps"] = "erases"
    ) -> Merged:
        """Insert new rows and update changed ones, by key; of a repeated key the last row counts.

        Idempotent: rows equal to the stored ones write nothing, and do not appear in the change feed. Columns
        that `rows` lacks keep their stored values (null in new rows). The table's stamp column, where null,
        is filled with the present time when the row is written. `only_new`: a row whose key is stored stays
        as it is. `empty`: whether a null erases what is stored, or `keeps` it unless CLEARED names its
        column. A row that is older than the stored one, by the table's time, is left, and so is what a
        shopper did before they were erased. Raises DataError: an unknown column, a null key, a value that
        does not fit, no space left.
        """
        cleared = rows[CLEARED] if CLEARED in rows.column_names else None
        rows = self._checked(rows.drop_columns([CLEARED]) if cleared is not None else rows)
        if cleared is not None:
            rows = rows.append_column(CLEARED, cleared)
        given = last_of_each(rows, self.spec.key)

        def attempt() -> Merged:
            # In our turn: who was erased before it is not brought back, who is erased after it goes then.
            lasting = without_erased(given, self.spec, self._erasures.known())
            rows = lasting.rows
            opened = self._open_or_create()
            stored, at = self._stored(opened, rows)
            new = np.asarray(pc.is_null(at).to_numpy(zero_copy_only=False), dtype=bool)
            known = rows.filter(pa.array(~new))
            theirs = stored.take(at.drop_null())
            older = older_than_stored(known, theirs, self.spec)
            if empty == "keeps":
                known = laid_over(known, theirs, self.spec)
            known = _without_cleared(known)
            changed = ~same_rows(known, theirs, compared(self.spec, known.column_names), self.spec.stamp)
            changed &= ~older & (not only_new)
            fresh = _without_cleared(rows).filter(pa.array(new))
            wanted = pa.concat_tables([fresh, known.filter(pa.array(changed))])
            version = opened.version()
            if wanted.num_rows:
                written = self._write(opened, self._stamped(wanted), bool(changed.any()))
                version = self._storage.record(written)
            if lasting.back:
                self._erasures.came_back(lasting.back)
            inserted, updated, left = int(new.sum()), int(changed.sum()), int(older.sum())
            unchanged = rows.num_rows - inserted - updated - left
            return Merged(inserted, updated, unchanged, version, left, lasting.left)

        return self._storage.committed(attempt)

    def add_parts(self, parts: Sequence[Part], transaction: str) -> Added:
        """Add the rows of files that workers wrote (parts.py), all in one commit, once for a `transaction`.

        Rows whose keys are stored already, or come twice, and those of shoppers who were erased, are merged
        instead, file by file, before the others are committed. Raises as `merge`.
        """
        app = f"{_WRITER}/{transaction}"
        merged: dict[Part, int] = {}

        def attempt() -> Added | list[Part]:
            opened = self._evolved(self._open_or_create())
            if opened.transaction_version(app) is not None:
                return Added(0, 0, opened.version())
            fresh = [part for part in dict.fromkeys(parts) if part not in merged]
            mixed = self._mixed(opened, fresh)
            if mixed:
                return mixed
            once = CommitProperties(
                app_transactions=[Transaction(_WRITER, opened.version() + 1), Transaction(app, 1)],
                max_commit_retries=0,
            )
            actions: list[AddAction | RemoveAction] = [part.action() for part in fresh]
            schema = Schema.from_arrow(self.spec.schema)
            opened.create_write_transaction(actions, "append", schema, commit_properties=once)
            opened.update_incremental()
            version = self._storage.record(opened)
            return Added(sum(part.rows for part in fresh), sum(merged.values()), version)

        while True:
            done = self._storage.committed(attempt)
            if isinstance(done, Added):
                return done
            for part in done:
                self.merge(self._part(part, self.spec.names))
                merged[part] = part.rows

    def _part(self, part: Part, columns: Sequence[str]) -> pa.Table:
        if part.table != self.name:
            raise DataError(f"table {self.name}: {part.name} is a part of the table {part.table}")
        return read_part(self._storage.place, self._storage.objects, part, columns)

    def _mixed(self, opened: DeltaTable, parts: Sequence[Part]) -> list[Part]:
        """Those of `parts` that have a key which is stored, or which comes again, or a shopper who was
        erased."""
        erased = self._erasures.known() if self.spec.shopper is not None else {}
        columns = list(dict.fromkeys([*self.spec.key, *([self.spec.shopper] if self.spec.shopper else [])]))
        if self.spec.acted is not None:
            columns.append(self.spec.acted)
        rows = [self._part(part, columns) for part in parts]
        owner = np.repeat(np.arange(len(parts)), [one.num_rows for one in rows])
        together = pa.concat_tables([self._schema(columns).empty_table(), *rows])
        keys = key_of(together, self.spec.key)
        place = pc.index_in(keys, value_set=keys.unique()).to_numpy()
        # All that share a key are merged, in their order: of a repeated key the last row counts.
        repeated = np.bincount(place)[place] > 1
        _, at = self._stored(opened, together.select(list(self.spec.key)))
        doubtful = repeated | np.asarray(pc.is_valid(at))
        found = {int(n) for n in owner[doubtful]}
        found |= {n for n, one in enumerate(rows) if without_erased(one, self.spec, erased).rows is not one}
        return [parts[n] for n in sorted(found)]

    def delete(self, keys: pa.Table) -> int:
        """Delete the rows with these `keys` (the table's key columns); the number deleted."""
        keys = last_of_each(self._checked(keys.select(list(self.spec.key))), self.spec.key)

        def attempt() -> int:
            opened = self._storage.open(None)
            _, at = self._stored(opened, keys)
            doomed = keys.filter(pc.is_valid(at))
            self._remove(opened, doomed)
            return int(doomed.num_rows)

        return self._storage.committed(attempt)

    def delete_matching(self, columns: Sequence[str], matches: Callable[[pa.Table], pa.Array]) -> int:
        """Delete the rows for which `matches`, given these columns, is true; how many. A row that another
        writer brings meanwhile is asked about too, or comes after."""

        def attempt() -> int:
            opened = self._storage.open(None)
            schema = self._schema([*self.spec.key, *(n for n in columns if n not in self.spec.key)])
            found = []
            for batch in self._storage.stream(opened, schema.names, SCANNED_ROWS):
                rows = pa.Table.from_batches([fitted(batch, schema)])
                found.append(rows.filter(matches(rows)).select(list(self.spec.key)))
            doomed = pa.concat_tables([self._schema(self.spec.key).empty_table(), *found])
            self._remove(opened, doomed)
            return int(doomed.num_rows)

        return self._storage.committed(attempt)

    def clear(self) -> int:
        """Delete all rows, in one commit; how many there were. Older versions stay. Raises TableMissing."""

        def attempt() -> int:
            opened = self._storage.open(None)
            rows = sum(n for _, _, n in self._storage.files(opened))
            if rows:
                opened.delete(commit_properties=self._commit(opened))
                self._storage.record(opened)
            return rows

        return self._storage.committed(attempt)

    def restore(self, version: int) -> int:
        """Make the rows those of an older version again, in one commit, except for those of shoppers who were
        erased since; how many rows of theirs were left out.

        Raises TableMissing: no such version. DataError: its files were vacuumed away.
        """
        self.require_files(version)

        def attempt() -> int:
            opened = self._storage.open(None)
            commit = self._commit(opened)
            left = 0
            if self.spec.shopper is not None and (known := self._erasures.known()):
                lasting = without_erased(self.read(version), self.spec, known)
                left = lasting.left
            if left:
                write_deltalake(opened, lasting.rows, mode="overwrite", commit_properties=commit)
            else:
                opened.restore(version, commit_properties=commit)
            self._storage.record(opened)
            return left

        return self._storage.committed(attempt)

    def require_files(self, version: int) -> None:
        """Raises TableMissing: no such version; DataError: a file of it was vacuumed away."""
        opened = self._storage.open(version)
        gone = sum(not self._storage.has_file(path) for path, _, _ in self._storage.files(opened))
        if gone:
            raise DataError(
                f"table {self.name}: version {version} can no longer be had: a vacuum removed {gone} of its "
                f"files. `etalage undo {self.name}` lists the versions that can"
            )

    def history(self, last: int) -> list[PastVersion]:
        """The newest `last` versions, newest first, as far as the log reaches back. Raises TableMissing."""
        opened = self._storage.open(None)
        found = []
        for commit in opened.history(last):
            version = int(commit["version"])
            at = datetime.fromtimestamp(commit.get("timestamp", 0) / 1000, UTC)
            try:
                past = self._storage.open(version)
            except DataError:
                continue  # the log before it was cleaned up
            files = self._storage.files(past)
            whole = all(self._storage.has_file(path) for path, _, _ in files)
            rows = sum(n for _, _, n in files)
            found.append(PastVersion(version, at, str(commit.get("operation", "")).lower(), rows, whole))
        return found

    def changes(self, since: int, until: int | None = None) -> Changes:
        """The net effect of the versions (since, until] (until None: newest).

        Raises ChangesGone: the feed was vacuumed away, or `since` is newer than the table (it was
        made anew); then everything must be read again. TableMissing, TableDamaged as `read`.
        """
        opened = self._storage.open(until)
        until = opened.version()
        if since > until:
            raise self._gone(since, until, f"the table is at version {until}: it was made anew")
        if since == until:
            empty = self.spec.schema.empty_table()
            return Changes(empty, empty.select(list(self.spec.key)), since, until)
        why = self._storage.feed_gone(opened, since, until)
        if why is not None:
            raise self._gone(since, until, why)
        try:
            reader = opened.load_cdf(starting_version=since + 1, ending_version=until)
            feed = pa.RecordBatchReader.from_stream(reader).read_all()
        except (DeltaError, pa.ArrowException, OSError) as error:
            self._storage.require()
            raise self._gone(since, until, shortly(error)) from error
        feed = fitted_table(feed, pa.schema([*self.spec.schema, *_FEED]))
        return Changes(*net_effect(feed, self.spec), since, until)

    # --- reading

    def _schema(self, columns: Sequence[str] | None) -> pa.Schema:
        if columns is None:
            return self.spec.schema
        for name in columns:
            self.spec.column(name)
        return pa.schema([self.spec.schema.field(name) for name in columns])

    def _gone(self, since: int, until: int, why: str) -> ChangesGone:
        return ChangesGone(
            f"table {self.name}: no change feed from version {since} to {until}: {why}. "
            "Read the whole table again: `etalage publish` instead of `etalage sync`"
        )

    # --- writing

    def _open_or_create(self) -> DeltaTable:
        try:
            return self._storage.open(None)
        except TableMissing:
            feed = {"delta.enableChangeDataFeed": "true", **self._storage.properties}
            DeltaTable.create(
                self.uri,
                self.spec.schema,
                mode="ignore",
                name=self.name,
                configuration=feed,
                storage_options=self._storage.options(),
            )
        return self._storage.open(None)

    def _checked(self, rows: pa.Table) -> pa.Table:
        unknown = [n for n in rows.column_names if n not in self.spec.names]
        missing = [n for n in self.spec.key if n not in rows.column_names]
        if unknown or missing:
            raise DataError(
                f"table {self.name}: unknown columns {unknown}, missing key columns {missing}; "
                f"it has {', '.join(self.spec.names)}"
            )
        try:
            rows = fitted_table(rows, self._schema(rows.column_names))
        except (pa.ArrowException, ValueError) as error:
            raise DataError(
                f"table {self.name}: a value does not fit its column: {shortly(error)}"
            ) from error
        for name in self.spec.required:
            if name in rows.column_names and rows[name].null_count:
                raise DataError(f"table {self.name}: {rows[name].null_count} rows have no {name}")
        return rows

    def _stored(self, opened: DeltaTable, rows: pa.Table) -> tuple[pa.Table, pa.Array]:
        """The stored rows with the keys of `rows` (the columns to compare), and for each row its place
        there."""
        ours = key_of(rows, self.spec.key)
        given = [name for name in rows.column_names if name != CLEARED]
        schema = self._schema([*self.spec.key, *compared(self.spec, given)])
        # Rows that are all new, as most are, cost no more than a look at the stored keys.
        any_known = any(batch.num_rows for batch in self._matching(opened, self._schema(self.spec.key), ours))
        found = self._matching(opened, schema, ours) if any_known else ()
        stored = pa.Table.from_batches(found, schema=schema)
        return stored, pc.index_in(ours, value_set=key_of(stored, self.spec.key))

    def _matching(self, opened: DeltaTable, schema: pa.Schema, keys: pa.Array) -> Iterator[pa.RecordBatch]:
        """The stored rows whose key is among `keys`, a batch at a time."""
        # Each batch makes a hash table of `keys` again: batches as large as it is share that cost out.
        size = min(max(SCANNED_ROWS, len(keys)), 8 * SCANNED_ROWS)
        for batch in self._storage.stream(opened, schema.names, size):
            yield with_keys(fitted(batch, schema), self.spec.key, keys)

    def _stamped(self, rows: pa.Table) -> pa.Table:
        stamp = self.spec.stamp
        if stamp is None:
            return rows
        now = pa.scalar(datetime.now(UTC), self.spec.column(stamp).type)
        if stamp not in rows.column_names:
            return rows.append_column(self.spec.schema.field(stamp), pa.repeat(now, rows.num_rows))
        at = rows.column_names.index(stamp)
        return rows.set_column(at, self.spec.schema.field(stamp), pc.fill_null(rows[stamp], now))

    def _write(self, opened: DeltaTable, rows: pa.Table, any_changed: bool) -> DeltaTable:
        """The table as it is then."""
        opened = self._evolved(opened)
        commit = self._commit(opened)
        if not any_changed:
            # An append writes the rows once; a merge would write them again into the change feed.
            full = fitted_table(rows, self.spec.schema)
            write_deltalake(opened, full, mode="append", commit_properties=commit)
            return opened
        values = {f'"{n}"': f's."{n}"' for n in rows.column_names}
        merger = opened.merge(rows, self._on(), source_alias="s", target_alias="t", commit_properties=commit)
        merger.when_matched_update(values).when_not_matched_insert(values).execute()
        return opened

    def _remove(self, opened: DeltaTable, keys: pa.Table) -> None:
        if keys.num_rows:
            commit = self._commit(opened)
            merger = opened.merge(
                keys, self._on(), source_alias="s", target_alias="t", commit_properties=commit
            )
            merger.when_matched_delete().execute()
            self._storage.record(opened)

    def _evolved(self, opened: DeltaTable) -> DeltaTable:
        """The table with the columns that the schema has got since it was made, in a commit of their own."""
        there = {field.name for field in opened.schema().fields}
        fresh = [field for field in self.spec.schema if field.name not in there]
        if not fresh:
            return opened
        fields = Schema.from_arrow(pa.schema(fresh)).fields
        opened.alter.add_columns(fields, commit_properties=self._commit(opened))
        return self._storage.open(None)

    def _on(self) -> str:
        return " AND ".join(f't."{k}" = s."{k}"' for k in self.spec.key)

    def _commit(self, opened: DeltaTable) -> CommitProperties:
        # The same application id on every commit makes two writers conflict, appends included.
        turn = Transaction(_WRITER, opened.version() + 1)
        return CommitProperties(app_transactions=[turn], max_commit_retries=0)


def _without_cleared(rows: pa.Table) -> pa.Table:
    return rows.drop_columns([CLEARED]) if CLEARED in rows.column_names else rows
