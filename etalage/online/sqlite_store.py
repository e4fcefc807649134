"""The online store in one SQLite file.

Write-ahead log, so that readers never wait for a writer; one writer at a time; every commit is synced
to the disk before `append` returns. A file that is deleted or replaced while it is open is noticed (F68):
what was written into a file that nobody can find again would be lost.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etalage.api import Act, Event
from etalage.errors import StoreUnavailable
from etalage.lake.erasures import digest
from etalage.online.contract import (
    PATIENT,
    About,
    Appended,
    Patience,
    act_is_erased,
    checked_changes,
    clock,
    merged_change,
    new_store_id,
    sorted_out,
)

_VERSION = 3
_SCHEMA = """
CREATE TABLE IF NOT EXISTS acts (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT UNIQUE,        -- NULL: seeded out of the lake
    user_id TEXT NOT NULL, item_id TEXT NOT NULL, kind TEXT NOT NULL, value REAL, time INTEGER
);
CREATE TABLE IF NOT EXISTS quarantined (
    event_id TEXT PRIMARY KEY, user_id TEXT NOT NULL, event TEXT NOT NULL, reason TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS quarantined_of_user ON quarantined (user_id);
CREATE TABLE IF NOT EXISTS erased (user TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;  -- digests
CREATE TABLE IF NOT EXISTS erased_events (event TEXT PRIMARY KEY) WITHOUT ROWID;  -- digests
CREATE TABLE IF NOT EXISTS items (item_id TEXT PRIMARY KEY, change TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT OR IGNORE INTO counters VALUES ('items', 0), ('checks', 0);
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_INDEXES = {
    "acts_of_user": "acts (user_id, time, number)",
    "acts_by_kind": "acts (user_id, kind, item_id, time, value)",
    "seeded": "acts (number) WHERE event_id IS NULL",
    "acts_by_time": "acts (time)",
}
_LOOK = """
SELECT (SELECT value FROM counters WHERE name = 'items'), (SELECT value FROM about WHERE name = 'id'),
    EXISTS (SELECT 1 FROM about WHERE name = 'seeded')
"""
_ROOM = 256 * 1024
"""Bytes that must be free on the disk for a write to be tried."""
_SEEDS_AT_ONCE = 50_000


class SqliteStore:
    """See LiveStore. A connection for each thread; `close` closes them all."""

    def __init__(self, file: Path, patience: Patience = PATIENT) -> None:
        """Raises StoreUnavailable: the file cannot be opened, or is no such store."""
        self.file = Path(file)
        self._patience = patience
        self._local = threading.local()
        self._writing = threading.Lock()
        self._connections: list[sqlite3.Connection] = []
        self._items: tuple[tuple[str, int], dict[str, dict[str, Any]]] | None = None
        self._seen: About | None = None
        self._closed = False
        self._untidy = False
        """Whether the log still holds somebody who was erased through us."""
        with self._errors():
            self._connection()

    # -- acts ----------------------------------------------------------------------------------

    def append(self, events: Sequence[Event]) -> Appended:
        """See LiveStore.append."""
        good, bad = sorted_out(events, clock())
        with self._transaction() as run:
            if run("SELECT EXISTS (SELECT 1 FROM erased)").fetchone()[0]:
                good = [event for event in good if not _is_erased(run, event)]
                bad = [(event, reason) for event, reason in bad if not _is_erased(run, event)]
            accepted = 0
            for event in good:
                row = run(
                    "INSERT OR IGNORE INTO acts (event_id, user_id, item_id, kind, value, time) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (event.event_id, event.user_id, *_columns(event.act)),
                )
                accepted += row.rowcount
            for event, reason in bad:
                run(
                    "INSERT OR REPLACE INTO quarantined VALUES (?, ?, ?, ?)",
                    (event.event_id, event.user_id, json.dumps(_columns(event.act)), reason),
                )
        reasons = tuple(reason for _, reason in bad[:10])
        erased = len(events) - len(good) - len(bad)
        return Appended(accepted, len(good) - accepted, len(bad), reasons, erased)

    def history(self, user_id: str, limit: int, lasting: Callable[[str], bool] | None = None) -> list[Act]:
        """See LiveStore.history."""
        user_id = _valid_utf8(user_id)
        rows = self._read(
            "SELECT item_id, kind, value, time FROM acts WHERE user_id = ? "
            "ORDER BY time DESC, number DESC LIMIT ?",  # NULL sorts before every time: oldest
            (user_id, limit),
        )
        newest = [Act(*row) for row in reversed(rows)]
        if lasting is None or len(newest) < limit:
            return newest
        known = {(act.item_id, act.kind, act.value) for act in newest}
        return [*self._lasting(user_id, lasting, known), *newest]

    def _lasting(
        self, user_id: str, lasting: Callable[[str], bool], known: set[tuple[str, str, float | None]]
    ) -> list[Act]:
        """The newest act of each of these kinds and each value on each item but those `known`."""
        found = self._read("SELECT DISTINCT kind FROM acts WHERE user_id = ?", (user_id,))
        kinds = [kind for (kind,) in found if lasting(kind)]
        rows = self._read(
            "SELECT item_id, kind, value, max(coalesce(time, -9223372036854775808)), time FROM acts "
            f"WHERE user_id = ? AND kind IN ({','.join('?' * len(kinds))}) "
            "GROUP BY item_id, kind, value ORDER BY 4",
            (user_id, *kinds),
        )
        return [
            Act(item, kind, value, time)
            for item, kind, value, _, time in rows
            if (item, kind, value) not in known
        ]

    def events(self, after: int, limit: int) -> list[tuple[int, Event]]:
        """See LiveStore.events."""
        rows = self._read(
            "SELECT number, event_id, user_id, item_id, kind, value, time FROM acts "
            "WHERE number > ? AND event_id IS NOT NULL ORDER BY number LIMIT ?",
            (after, limit),
        )
        return [(row[0], Event(row[1], row[2], Act(*row[3:]))) for row in rows]

    def users(self, limit: int) -> list[str]:
        """See LiveStore.users."""
        rows = self._read(
            "SELECT user_id FROM (SELECT user_id, time, number FROM acts ORDER BY time DESC LIMIT ?) "
            "GROUP BY user_id ORDER BY max(time) DESC, max(number) DESC LIMIT ?",
            (limit * 200, limit),
        )
        return [row[0] for row in rows]

    def erase(self, user_id: str) -> int:
        """See LiveStore.erase."""
        asked, now = _valid_utf8(user_id), clock()
        with self._transaction() as run:
            run("INSERT OR REPLACE INTO erased VALUES (?, ?)", (digest(asked), now))
            gone = sum(_forget(run, table, asked) for table in _OF_SHOPPERS)
        self._untidy = bool(self.remains())
        return gone

    def forget(self, erased: Mapping[str, int]) -> int:
        """See LiveStore.forget."""
        known = dict(self._read("SELECT user, at FROM erased"))
        fresh = {user: at for user, at in erased.items() if at > known.get(user, -1)}
        if not fresh:
            return 0
        gone = 0
        with self._transaction() as run:
            for user, at in fresh.items():
                run("INSERT OR REPLACE INTO erased VALUES (?, ?)", (user, at))
            for table in _OF_SHOPPERS:
                for (user_id,) in run(f"SELECT DISTINCT user_id FROM {table}").fetchall():
                    if (until := fresh.get(digest(user_id))) is not None:
                        gone += _forget(run, table, user_id, until)
        self._untidy = bool(gone and self.remains())
        return gone

    def remains(self) -> tuple[str, ...]:
        """See LiveStore.remains. What was deleted still stands in the log, until nobody reads an older state
        of the store; F57 means gone."""
        with self._errors(), self._writing:
            connection = self._connection()
            self._wait_for(connection, self._patience.writing)
            try:
                ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                self._wait_for(connection, self._patience.reading)
        if not busy:
            return ()
        name = f"{self.file.name}-wal"
        return (f"the online store's log ({name}), which somebody reads just now: erase again in a moment",)

    def seed(self, acts: Iterable[tuple[str, Act]]) -> int:
        """See LiveStore.seed."""
        with self._transaction() as run:
            # Made again afterwards, an index costs a third of what it costs to keep it up row by row.
            for name in _INDEXES:
                run(f"DROP INDEX IF EXISTS {name}")
            run("DELETE FROM acts WHERE event_id IS NULL")
            for made in ("fresh", "lived"):
                run(f"CREATE TEMP TABLE IF NOT EXISTS {made} (user_id, item_id, kind, value, time)")
                run(f"DELETE FROM {made}")
            run("INSERT INTO lived SELECT user_id, item_id, kind, value, time FROM acts")
            run("CREATE INDEX IF NOT EXISTS temp.by_user ON lived (user_id, item_id, kind, time)")
            cursor = run("SELECT 1")
            erased = dict(run("SELECT user, at FROM erased").fetchall())
            some: list[tuple[Any, ...]] = []
            for user_id, act in acts:
                if erased and act_is_erased(erased.get(digest(user_id)), act):
                    continue
                some.append((user_id, *_columns(act)))
                if len(some) == _SEEDS_AT_ONCE:
                    cursor.executemany("INSERT INTO fresh VALUES (?, ?, ?, ?, ?)", some)
                    some = []
            cursor.executemany("INSERT INTO fresh VALUES (?, ?, ?, ?, ?)", some)
            seeded = run(
                "INSERT INTO acts (user_id, item_id, kind, value, time) "
                "SELECT user_id, item_id, kind, value, time FROM fresh "
                "WHERE NOT EXISTS (SELECT 1 FROM lived WHERE lived.user_id = fresh.user_id "
                "AND lived.item_id = fresh.item_id AND lived.kind = fresh.kind "
                "AND lived.time = fresh.time) ORDER BY fresh.rowid"
            ).rowcount
            for name, columns in _INDEXES.items():
                run(f"CREATE INDEX {name} ON {columns}")
            run("DELETE FROM fresh")
            run("DELETE FROM lived")
            run("INSERT OR REPLACE INTO about VALUES ('seeded', 'yes')")
        return seeded

    # -- items ---------------------------------------------------------------------------------

    def set_items(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """See LiveStore.set_items."""
        checked, now = checked_changes(changes), clock()
        with self._transaction() as run:
            for item_id, change in checked.items():
                row = run("SELECT change FROM items WHERE item_id = ?", (item_id,)).fetchone()
                kept = merged_change(None if row is None else json.loads(row[0]), change, now)
                run("DELETE FROM items WHERE item_id = ?", (item_id,))
                if kept:
                    run("INSERT INTO items VALUES (?, ?)", (item_id, json.dumps(kept)))
            run("UPDATE counters SET value = value + 1 WHERE name = 'items'")

    def items(self) -> dict[str, dict[str, Any]]:
        """See LiveStore.items."""
        known = self._items
        count, about = self._look()
        if known is not None and known[0] == (about.store_id, count):
            return known[1]
        with self._errors():
            connection = self._connection()
            connection.execute("BEGIN")  # count and changes of one moment
            try:
                ((count, store_id, _),) = connection.execute(_LOOK)
                rows = connection.execute("SELECT item_id, change FROM items").fetchall()
            finally:
                connection.execute("COMMIT")
        found = {item_id: json.loads(change) for item_id, change in rows}
        self._items = ((store_id, count), found)
        return found

    @property
    def seen(self) -> About | None:
        """See LiveStore.seen."""
        return self._seen

    def about(self) -> About:
        """See LiveStore.about."""
        return self._look()[1]

    def _look(self) -> tuple[int, About]:
        """How often items changed, and which store it is."""
        ((count, store_id, seeded),) = self._read(_LOOK)
        self._seen = About(store_id, bool(seeded))
        return count, self._seen

    def check(self, really: bool = False) -> None:
        """See LiveStore.check."""
        if self._untidy:
            self._untidy = bool(self.remains())
        with self._transaction() as run:  # the lock that a writer needs; nothing is written
            if really:
                run("UPDATE counters SET value = value + 1 WHERE name = 'checks'")
        with self._errors():
            disk = os.statvfs(self.file)
            free = disk.f_frsize * (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail)
            if disk.f_flag & os.ST_RDONLY or free < _ROOM:
                why = "is read-only" if disk.f_flag & os.ST_RDONLY else f"has {free:,} bytes left"
                raise StoreUnavailable(f"{self.file}: events cannot be kept: the disk {why}")

    # -- the file ------------------------------------------------------------------------------

    def close(self) -> None:
        """Close every thread's connection; the store cannot be used after that."""
        self._closed = True
        with self._writing:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def _connection(self) -> sqlite3.Connection:
        """This thread's, to the file that is there now."""
        if self._closed:
            raise StoreUnavailable(f"{self.file}: the online store was closed")
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is not None:
            if self._local.place == self._place():
                return found
            # Deleted, or another was put in its place: go on with that one, or with a new one.
            self._drop(found)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        found = sqlite3.connect(
            self.file, timeout=self._patience.writing, isolation_level=None, check_same_thread=False
        )
        self._connections.append(found)
        try:
            ((mode,),) = found.execute("PRAGMA journal_mode = WAL")
            found.execute("PRAGMA synchronous = FULL")
            found.execute("PRAGMA secure_delete = ON")
            if found.execute("PRAGMA user_version").fetchone()[0] < _VERSION:
                self._make(found)
            self._wait_for(found, self._patience.reading)
        except sqlite3.Error:
            self._drop(found)
            raise
        self._local.place, self._local.logs = self._place(), mode == "wal"
        self._local.connection = found
        return found

    def _make(self, connection: sqlite3.Connection) -> None:
        """Tables that are missing; none is changed."""
        indexes = ";".join(f"CREATE INDEX IF NOT EXISTS {name} ON {of}" for name, of in _INDEXES.items())
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}{indexes};")
        connection.execute("INSERT OR IGNORE INTO about VALUES ('id', ?)", (new_store_id(),))
        seeds = "SELECT 'seeded', 'yes' FROM acts WHERE event_id IS NULL LIMIT 1"
        connection.execute(f"INSERT OR IGNORE INTO about {seeds}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")

    def _wait_for(self, connection: sqlite3.Connection, seconds: float) -> None:
        """So long, from now on, for somebody else's lock."""
        connection.execute(f"PRAGMA busy_timeout = {int(1000 * seconds)}")

    def _drop(self, connection: sqlite3.Connection) -> None:
        """Close this thread's connection; the next call makes another."""
        self._local.connection = None
        connection.close()
        if connection in self._connections:
            self._connections.remove(connection)

    def _place(self) -> tuple[int, int] | None:
        """Which file it is; None: there is none."""
        try:
            found = self.file.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _read(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._errors():
            return self._connection().execute(statement, values).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        with self._errors(), self._writing:
            connection = self._connection()
            self._wait_for(connection, self._patience.writing)
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection.execute
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            finally:
                self._wait_for(connection, self._patience.reading)
            self._require_found()

    def _require_found(self) -> None:
        """Raises StoreUnavailable when what was just written can never be found again."""
        log = self.file.with_name(f"{self.file.name}-wal")
        if self._place() != self._local.place or (self._local.logs and not log.exists()):
            self._drop(self._local.connection)
            raise StoreUnavailable(f"{self.file}: was deleted while it was written; try again")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreUnavailable(
                f"{self.file}: the online store cannot be used: {error}; check disk and permissions, or move "
                f"{self.file.name} away, with -wal and -shm: a new one is made, and histories come back with "
                "the next publish"
            ) from error
        except OSError as error:
            raise StoreUnavailable(f"{error.filename or self.file}: {error.strerror}") from error


def _is_erased(run: Any, event: Event) -> bool:
    """Of a shopper who was erased after it; or it was there, and was erased with them."""
    row = run("SELECT at FROM erased WHERE user = ?", (digest(event.user_id),)).fetchone()
    if row is not None and act_is_erased(row[0], event.act):
        return True
    asked = "SELECT EXISTS (SELECT 1 FROM erased_events WHERE event = ?)"
    return bool(run(asked, (digest(event.event_id),)).fetchone()[0])


_OF_SHOPPERS = ("acts", "quarantined")


def _forget(run: Any, table: str, user_id: str, until: int | None = None) -> int:
    """Delete what a shopper did until then, or all; how many rows. Their events are not taken again."""
    columns = "item_id, kind, value, time" if table == "acts" else "event"
    rows = run(f"SELECT rowid, event_id, {columns} FROM {table} WHERE user_id = ?", (user_id,)).fetchall()
    if until is not None:
        acts = [Act(*(row[2:] if table == "acts" else json.loads(row[2]))) for row in rows]
        rows = [row for row, act in zip(rows, acts, strict=True) if act_is_erased(until, act)]
    for number, event_id, *_ in rows:
        if event_id is not None:
            run("INSERT OR IGNORE INTO erased_events VALUES (?)", (digest(event_id),))
        run(f"DELETE FROM {table} WHERE rowid = ?", (number,))
    return len(rows)


def _columns(act: Act) -> tuple[str, str, float | None, int | None]:
    return act.item_id, act.kind, act.value, act.time


def _valid_utf8(user_id: str) -> str:
    """No stored id has half a surrogate pair; asked for one, SQLite could not even look."""
    return user_id.encode("utf-8", "replace").decode("utf-8") if not user_id.isascii() else user_id
