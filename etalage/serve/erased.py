"""Who was erased from tables in an object store, as it was known last: who asks never waits for the store."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from etalage.errors import EtalageError
from etalage.lake.erasures import Erasures, Known

log = logging.getLogger("etalage.serve")

LOOK_SECONDS = 5.0


class FollowedErasures(Erasures):
    """The erasures `stored` elsewhere; what `look` found last."""

    def __init__(self, stored: Erasures) -> None:
        super().__init__(None)
        self._stored = stored
        self._stamp: object = None
        self._known: Known = {}
        self._failed = False

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
        except EtalageError as error:
            if not self._failed:
                log.error("who was erased since is not known: %s", error)
            self._failed = True
        else:
            self._failed = False


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
