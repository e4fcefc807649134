"""The bundle that serves, and how a newer one takes its place.

A new bundle is opened, verified and warmed up beside the old one, in a thread of its own; then one
reference is swapped. A request takes the reference once, so no answer can mix two bundles. A bundle
that cannot be opened changes nothing but a metric and /readyz's note.

A server that starts while the object store of its bundles is gone serves, from the cache, the bundle that was
served here last.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from etalage.bundle.pointer import Bundles
from etalage.errors import EtalageError, NoBundle, ObjectStoreError
from etalage.recommend import Recommender
from etalage.serve.gauges import Gauges

log = logging.getLogger("etalage.serve")

RETRY_MOST = 60.0
"""Seconds, at most, until a bundle that failed is tried again."""


class BundleWatcher:
    """Holds the current Recommender; `problem` says why the published bundle is not it."""

    def __init__(self, bundles: Bundles, gauges: Gauges, every: float, threads: int = 1) -> None:
        """The pointer of the `bundles` is looked at each `every` seconds."""
        self.current: Recommender | None = None
        self.problem: EtalageError | None = None
        self._bundles = bundles
        self._gauges = gauges
        self._every = every
        self._threads = threads
        self._tried = ""
        """The id (or the pointer's complaint) that failed last."""
        self._pause = every
        self._again_at = 0.0
        self._opener = ThreadPoolExecutor(1, thread_name_prefix="reload")

    async def watch(self) -> None:
        """Follow the pointer until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await loop.run_in_executor(self._opener, self.look)
                await asyncio.sleep(self._every)
        finally:
            self._opener.shutdown(wait=False, cancel_futures=True)

    def look(self) -> bool:
        """Take over the published bundle if it is another one; True when it was. Never raises."""
        wanted = ""
        try:
            wanted = self._bundles.current_id()
            if self.current is not None and wanted == self.current.bundle:
                if self.problem is not None:
                    self.problem, self._tried = None, ""
                    self._gauges.healed()
                self.current.parts.ask_again()
                return False
            if wanted == self._tried and time.monotonic() < self._again_at:
                return False
            fresh = Recommender.open(self._bundles.path(wanted), threads=self._threads)
        except NoBundle as error:
            if self.current is None:
                self.problem = error
                return False
            self._failed(wanted, error)
        except EtalageError as error:
            if self.current is None and isinstance(error, ObjectStoreError):
                self._from_cache()
            self._failed(wanted, error)
        except Exception as error:  # whatever a damaged file makes of a library: the old one serves on
            log.exception("bundle %s: unexpected error while opening", wanted)
            self._failed(wanted, EtalageError(f"bundle {wanted}: {error!r}"))
        else:
            self._take_over(fresh)
            return True
        return False

    def _take_over(self, fresh: Recommender) -> None:
        before = None if self.current is None else self.current.bundle
        self.current, self.problem, self._tried = fresh, None, ""
        self._gauges.reloaded(fresh.bundle, fresh.models, len(fresh.catalogue))
        log.info("serving bundle %s (before: %s)", fresh.bundle, before or "none")
        self._bundles.note_served(fresh.bundle)

    def _from_cache(self) -> None:
        """Take over the bundle that was served here last, if the cache has it whole."""
        try:
            folder = self._bundles.served_last()
            if folder is not None:
                self._take_over(Recommender.open(folder, threads=self._threads))
        except EtalageError as error:
            log.error("the bundle that was served here last cannot be opened: %s", error)

    def _failed(self, wanted: str, error: EtalageError) -> None:
        tried = wanted or str(error)
        if tried == self._tried and time.monotonic() < self._again_at:
            return
        # A second try may find the disk back; the pause doubles so that a broken bundle costs little.
        self._pause = min(self._pause * 2, RETRY_MOST) if tried == self._tried else self._every
        self._tried, self._again_at = tried, time.monotonic() + self._pause
        self.problem = error
        self._gauges.reload_failed()
        still = "nothing to serve" if self.current is None else f"still serving {self.current.bundle}"
        log.error("reload failed, %s: %s", still, error)


@contextlib.asynccontextmanager
async def watched(window: BundleWatcher) -> AsyncIterator[None]:
    """Open the first bundle, then follow the pointer for as long as the context lasts."""
    await asyncio.to_thread(window.look)
    task = asyncio.create_task(window.watch())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
