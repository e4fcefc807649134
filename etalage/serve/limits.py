"""How much the server takes on: a bounded queue to the scorer, a deadline."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from etalage.errors import Overloaded

T = TypeVar("T")

DEADLINE_SECONDS = 10.0
RETRY_AFTER_SECONDS = 1


class Scorer:
    """One thread that scores, and a queue before it that holds at most `most` requests.

    One thread, because the work is arithmetic: a second one would only take turns with it.
    """

    def __init__(self, most: int) -> None:
        self.waiting = 0
        self._most = most
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scorer")

    async def do(self, work: Callable[[], T], seconds: float = DEADLINE_SECONDS) -> T:
        """`work()` off the event loop.

        Raises Overloaded: the queue is full, or `seconds` passed before its turn came (then `work`
        is not begun).
        """
        if self.waiting >= self._most:
            raise Overloaded(f"{self.waiting} requests are waiting; try again in {RETRY_AFTER_SECONDS} s")
        deadline = time.monotonic() + seconds
        self.waiting += 1

        def turn() -> T:
            loop.call_soon_threadsafe(self._begun)
            if time.monotonic() > deadline:
                raise Overloaded(f"waited longer than {seconds:g} s and was not scored; try again")
            return work()

        loop = asyncio.get_running_loop()
        # Shielded: a client that goes away must not leave the count of the waiting wrong.
        return await asyncio.shield(loop.run_in_executor(self._thread, turn))

    def _begun(self) -> None:
        self.waiting -= 1

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
