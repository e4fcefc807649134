"""The online store as a server sees it: locked, full, read-only, deleted, down, hung or emptied (F68).

Slates go on without it, and say so; what must be kept is refused, to be sent again. Whether it is back, a
thread of its own finds out: no request waits for a store that has just let another one wait.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from etalage.errors import EtalageError, StoreUnavailable, TableDamaged
from etalage.lake.erasures import Erasures
from etalage.online import About, Act, Appended, Event, LiveStore, Patience, open_live

log = logging.getLogger("etalage.serve")
T = TypeVar("T")
Lasting = Callable[[str], bool]

PATIENCE = Patience(reading=0.5, writing=5.0)
LOOK_SECONDS = 1.0
LATE_IN_A_ROW = 3
"""Answers that took longer than one call may, with no quick one between them, until slates go on without."""
UNREADABLE = "the online store cannot be read: no recent acts; stock and prices as last known"
EMPTIED = "the online store was emptied or replaced: the next `etalage publish` brings back what shoppers did"
UNWRITABLE = "events cannot be kept now: the online store takes no writes; send them again"


class Online:
    """One server's store, whatever becomes of it. Safe to share between threads."""

    def __init__(
        self,
        where: str | Path,
        seeded: Callable[[], str | None] = lambda: None,
        failed: Callable[[], None] = lambda: None,
        erasures: Erasures | None = None,
    ) -> None:
        """`where`: as `open_live` takes it. `seeded` gives the id of the store that the newest publish
        filled, as far as it is known; `failed` is told of each call that failed; `erasures` are those of the
        shop's tables.

        Raises ConfigError: no such kind of store. One that cannot be opened is tried again.
        """
        self.unreadable = False
        self.unwritable = False
        self.emptied = False
        self._late = 0
        """How many answers in a row came late."""
        self._where, self._seeded, self._failed = where, seeded, failed
        self._erasures = erasures or Erasures(None)
        self._told: tuple[object, ...] | None = None
        """Which store was told of which erasures."""
        self._store: LiveStore | None = None
        self._first: str | None = None
        """The id of the store that was there when it was opened."""
        self._items: dict[str, dict[str, Any]] = {}
        self._ending = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="online", daemon=True)
        self.look()

    @property
    def degraded(self) -> str | None:
        """What slates go without; None: nothing."""
        if self.unreadable:
            return UNREADABLE
        return EMPTIED if self.emptied else None

    def view(self) -> "View":
        """For one request."""
        return View(self)

    def reading(self, ask: Callable[[LiveStore], T]) -> T:
        """What `ask` gives. Raises StoreUnavailable, at once where that was found out before."""
        store = self._store
        if store is None or self.unreadable:
            raise StoreUnavailable(UNREADABLE)
        began = monotonic()
        try:
            found = ask(store)
        except Exception as error:  # whatever a damaged store makes of its library: slates go on
            self._found_unreadable(error)
            raise StoreUnavailable(UNREADABLE) from error
        self._took(monotonic() - began)
        return found

    def _took(self, seconds: float) -> None:
        """Whoever asks holds the only scorer: a store that answers, but always late, would hold everybody."""
        if seconds > PATIENCE.reading:
            self._late += 1
        elif seconds < PATIENCE.reading / 4:  # in between says nothing: a slate asks several times
            self._late = 0
        if self._late >= LATE_IN_A_ROW:
            self._found_unreadable(StoreUnavailable(f"it takes {seconds:.2f} s to answer"))

    def writing(self, work: Callable[[LiveStore], T]) -> T:
        """What `work` gives. Raises StoreUnavailable, and what else `work` does."""
        store = self._store
        if store is None or self.unwritable:
            raise StoreUnavailable(UNWRITABLE)
        try:
            return work(store)
        except StoreUnavailable as error:
            self._found_unwritable(error)
            raise StoreUnavailable(UNWRITABLE) from error

    def items(self) -> dict[str, dict[str, Any]]:
        """Changes of stock and price. Raises StoreUnavailable: then there are `last_items`."""
        found = self.reading(lambda store: store.items())
        self._items = found
        self._notice(self._store.seen if self._store is not None else None)
        return found

    @property
    def last_items(self) -> dict[str, dict[str, Any]]:
        """Changes of stock and price as they were known last."""
        return self._items

    def look(self) -> None:
        """Find out whether the store can be read and written now. Never raises but ConfigError, at first."""
        if self._store is None:
            try:
                self._store = open_live(self._where, PATIENCE)
            except StoreUnavailable as error:
                self._found_unreadable(error)
                self._found_unwritable(error)
                return
        store, began = self._store, monotonic()
        try:
            found, about = store.items(), store.seen
            self._took(took := monotonic() - began)
            if self._late >= LATE_IN_A_ROW:
                raise StoreUnavailable(f"one look takes {took:.2f} s")  # and a slate takes several
        except Exception as error:
            self._found_unreadable(error)
        else:
            self._items = found
            self._notice(about)
            if self.unreadable:
                log.info("the online store can be read again")
            self.unreadable = False
        try:
            store.check(really=self.unwritable)
            self._tell_of_the_erased(store)
        except EtalageError as error:
            self._found_unwritable(error)
        else:
            if self.unwritable:
                log.info("the online store takes writes again")
            self.unwritable = False

    def start(self) -> "Online":
        """Look again and again from now on, until `close`."""
        self._watcher.start()
        return self

    def close(self) -> None:
        """Nothing can be read or written after that."""
        self._ending.set()
        if self._watcher.is_alive():
            self._watcher.join()
        if self._store is not None:
            self._store.close()

    def _watch(self) -> None:
        while not self._ending.wait(LOOK_SECONDS):
            self.look()

    def _notice(self, about: About | None) -> None:
        """Whether it is another store than there was, and nothing was put into it yet."""
        if about is None:
            return
        self._first = self._first or self._seeded() or about.store_id
        emptied = about.store_id != self._first and not about.seeded
        if emptied and not self.emptied:
            log.error("%s", EMPTIED)
        if about.seeded:
            self._first = about.store_id
        self.emptied = emptied

    def _tell_of_the_erased(self, store: LiveStore) -> None:
        """A store that was made anew, put back or away meanwhile is told who was erased (F66)."""
        told = (store.seen, self._file(), self._erasures.stamp)
        if told == self._told:
            return
        try:
            erased = self._erasures.times()
        except TableDamaged as error:  # every writer of tables says so too; what is sent is kept all the same
            log.error("the online store cannot be told who was erased: %s", error)
        else:
            store.forget(erased)
        self._told = told

    def _file(self) -> tuple[int, int] | None:
        """Which file the store is; None: it is none, or there is none."""
        if not isinstance(self._where, Path):
            return None
        try:
            found = self._where.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _found_unreadable(self, error: Exception) -> None:
        self._failed()
        self._told = None  # it may come back as another one, or as it was on an earlier day
        if not self.unreadable:
            log.error("slates go on without the online store: %s", error)
        self.unreadable = True

    def _found_unwritable(self, error: Exception) -> None:
        self._failed()
        if not self.unwritable:
            log.error("events are refused for now: %s", error)
        self.unwritable = True


class View:
    """A LiveStore for one request: what it could not learn is in `degraded`, instead of an error.

    What only the store knows (who acted last, a history that is asked for itself) raises StoreUnavailable.
    """

    def __init__(self, online: Online) -> None:
        self._online = online
        self._missed = False

    @property
    def degraded(self) -> str | None:
        """What the answer goes without; None: nothing."""
        return UNREADABLE if self._missed else self._online.degraded

    @property
    def seen(self) -> About | None:
        return None

    def items(self) -> dict[str, dict[str, Any]]:
        """See LiveStore.items; those that were known last where it cannot be read."""
        try:
            return self._online.items()
        except StoreUnavailable:
            self._missed = True
            return self._online.last_items

    def history(self, user_id: str, limit: int, lasting: Lasting | None = None) -> list[Act]:
        """See LiveStore.history; none where it cannot be read."""
        try:
            return self._online.reading(lambda store: store.history(user_id, limit, lasting))
        except StoreUnavailable:
            self._missed = True
            return []

    def past(self, user_id: str, limit: int) -> list[Act]:
        """LiveStore.history for its own sake. Raises StoreUnavailable."""
        return self._online.reading(lambda store: store.history(user_id, limit))

    def users(self, limit: int) -> list[str]:
        return self._online.reading(lambda store: store.users(limit))

    def events(self, after: int, limit: int) -> list[tuple[int, Event]]:
        return self._online.reading(lambda store: store.events(after, limit))

    def about(self) -> About:
        return self._online.reading(lambda store: store.about())

    def append(self, events: Sequence[Event]) -> Appended:
        return self._online.writing(lambda store: store.append(events))

    def set_items(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        self._online.writing(lambda store: store.set_items(changes))

    def erase(self, user_id: str) -> int:
        return self._online.writing(lambda store: store.erase(user_id))

    def forget(self, erased: Mapping[str, int]) -> int:
        return self._online.writing(lambda store: store.forget(erased))

    def remains(self) -> tuple[str, ...]:
        return self._online.writing(lambda store: store.remains())

    def seed(self, acts: Iterable[tuple[str, Act]]) -> int:
        return self._online.writing(lambda store: store.seed(acts))

    def check(self, really: bool = False) -> None:
        self._online.writing(lambda store: store.check(really))

    def close(self) -> None:
        """A request ends; the store stays open."""
