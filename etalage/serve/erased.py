"""Who was erased from tables in an object store, as it was known last: who asks never waits for the store,
and a server that starts while the store is gone knows what the one before it knew."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from etalage.errors import EtalageError, TableDamaged
from etalage.lake.erasures import Erasures, Known

log = logging.getLogger("etalage.serve")

LOOK_SECONDS = 5.0


class FollowedErasures(Erasures):
    """The erasures `stored` elsewhere; what `look` found last, which is kept in the folder `live`."""

    def __init__(self, stored: Erasures, live: Path) -> None:
        super().__init__(None)
        self._stored = stored
        self._kept = Erasures(live)
        self._known: Known = self._before()
        self._stamp: object = "before" if self._known else None
        self._failed = False

    def _before(self) -> Known:
        try:
            return self._kept.known()
        except (OSError, TableDamaged):  # the store has it whole
            return {}

    def known(self) -> Known:
        return self._known

    @property
    def stamp(self) -> object:
        return self._stamp

    def look(self) -> None:
        """Ask the store. Never raises: what was known stays."""
        try:
            stamp = self._stored.stamp
            if stamp != self._stamp:
                self._known = self._stored.known()
                self._stamp = stamp
                self._keep()
        except EtalageError as error:
            if not self._failed:
                log.error("who was erased since is not known: %s", error)
            self._failed = True
        else:
            self._failed = False

    def _keep(self) -> None:
        try:
            self._kept.hold(self._known)
        except OSError as error:
            log.error("who was erased cannot be kept on this machine: %s", error)


@contextlib.asynccontextmanager
async def followed(erasures: Erasures) -> AsyncIterator[None]:
    """Look again and again, where that is needed, for as long as the context lasts."""
    if not isinstance(erasures, FollowedErasures):
        yield
        return

    async def follow() -> None:
        while True:
            await asyncio.to_thread(erasures.look)
            await asyncio.sleep(LOOK_SECONDS)

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
