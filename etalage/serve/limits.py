"""How much the server takes on: bounded queues, a deadline."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from etalage.errors import Overloaded

T = TypeVar("T")

DEADLINE_SECONDS = 10.0
RETRY_AFTER_SECONDS = 1


class Worker:
    """One thread, and a queue before it that holds at most `most` requests.

    A server has two. The scorer computes: a second one would only take turns with it. The keeper writes
    to the online store: no slate waits for a disk, and a store takes one write at a time anyway.
    """

    def __init__(self, most: int, name: str = "scorer") -> None:
        self.waiting = 0
        self._most = most
        self._counting = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def do(self, work: Callable[[], T], seconds: float = DEADLINE_SECONDS) -> T:
        """`work()` off the event loop.

        Raises Overloaded: the queue is full, or `seconds` passed before its turn came (then `work`
        is not begun).
        """
        if self.waiting >= self._most:
            raise Overloaded(f"{self.waiting} requests are waiting; try again in {RETRY_AFTER_SECONDS} s")
        deadline = time.monotonic() + seconds
        with self._counting:
            self.waiting += 1

        def turn() -> T:
            with self._counting:
                self.waiting -= 1
            if time.monotonic() > deadline:
                raise Overloaded(f"waited longer than {seconds:g} s and was not begun; try again")
            return work()

        loop = asyncio.get_running_loop()
        # Shielded: a client that goes away must not leave the count of the waiting wrong.
        return await asyncio.shield(loop.run_in_executor(self._thread, turn))

    def close(self) -> None:
        """Finish what is begun; what waits is dropped."""
        self._thread.shutdown(wait=True, cancel_futures=True)
