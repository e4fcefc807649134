"""How much the server takes on: bounded queues, a deadline, turns; and what becomes of work that nobody waits
for any more (F69)."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from etalage.errors import Overloaded
from etalage.runtime.steps import Steps

T = TypeVar("T")
Why = Literal["gone", "deadline"]

DEADLINE_SECONDS = 10.0
CLIENT_GONE = 499
"""Counted for a request whose client went away before it was answered; nobody reads it."""
RETRY_AFTER_SECONDS = 1
TURN_SECONDS = 0.05
"""So long somebody's work goes on while others wait; then it stands behind them again."""


class Abandoned(Exception):
    """The client went away: nobody is there to be answered."""

    def __init__(self, begun: bool) -> None:
        super().__init__("while it was worked on" if begun else "before it was begun")


@dataclass
class _Job(Generic[T]):
    steps: Steps[T]
    deadline: float
    seconds: float
    begun: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class _Done(Generic[T]):
    result: T


class Worker:
    """One thread, and a queue before it that holds at most `most` requests.

    A server has two. The scorer computes: a second one would only take turns with it. The keeper writes
    to the online store: no slate waits for a disk, and a store takes one write at a time anyway.
    """

    def __init__(
        self, most: int, name: str = "scorer", dropped: Callable[[Why, bool], None] = lambda why, begun: None
    ) -> None:
        """`dropped` is told why work was not finished, and whether it was begun."""
        self.waiting = 0
        self.clock = time.monotonic
        self._most = most
        self._dropped = dropped
        self._counting = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def do(
        self,
        work: Callable[[], T],
        seconds: float = DEADLINE_SECONDS,
        gone: Callable[[], Awaitable[None]] | None = None,
    ) -> T:
        """`work()` off the event loop.

        `gone()` returns when the client has gone away. Raises Overloaded: the queue is full, or `seconds`
        passed before its turn came (then `work` is not begun). Abandoned: the client has gone away; work
        that is not begun is dropped.
        """
        return await self.do_in_turns(one_step(work), seconds, gone)

    async def do_in_turns(
        self,
        steps: Steps[T],
        seconds: float = DEADLINE_SECONDS,
        gone: Callable[[], Awaitable[None]] | None = None,
    ) -> T:
        """The same for work of several steps: others have their turn between them, and where the deadline has
        passed, or the client has gone, it goes no further."""
        if self.waiting >= self._most:
            raise Overloaded(f"{self.waiting} requests are waiting; try again in {RETRY_AFTER_SECONDS} s")
        job = _Job(steps, self.clock() + seconds, seconds)
        leaving = None if gone is None else asyncio.ensure_future(gone())
        try:
            while (done := await self._turn(job, leaving)) is None:
                pass
            return done.result
        finally:
            job.stopped.set()
            if leaving is not None:
                leaving.cancel()

    async def _turn(self, job: _Job[T], leaving: "asyncio.Future[None] | None") -> _Done[T] | None:
        """One turn of `job`, when it comes; None: there are more steps."""
        with self._counting:
            self.waiting += 1
        queued: Future[_Done[T] | None] = self._thread.submit(self._go_on, job)
        turn = asyncio.wrap_future(queued)
        turn.add_done_callback(_looked_at)
        waited: set[asyncio.Future[Any]] = {turn} if leaving is None else {turn, leaving}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if turn.done():
                return await turn
        finally:
            # Whoever goes away must not leave the count of the waiting wrong.
            if not turn.done() and queued.cancel():
                with self._counting:
                    self.waiting -= 1
        self._dropped("gone", job.begun)
        raise Abandoned(job.begun)

    def _go_on(self, job: _Job[T]) -> _Done[T] | None:
        """In the worker's thread."""
        with self._counting:
            self.waiting -= 1
        end = self.clock() + TURN_SECONDS
        stepped = False  # in each turn something is done, however late it comes
        while not job.stopped.is_set():
            now = self.clock()
            if now > job.deadline:
                self._dropped("deadline", job.begun)
                what = "took" if job.begun else "waited"
                how = "was not finished" if job.begun else "was not begun"
                raise Overloaded(f"{what} longer than {job.seconds:g} s and {how}; try again")
            if stepped and now > end and self.waiting:
                return None
            stepped = job.begun = True
            try:
                next(job.steps)
            except StopIteration as finished:
                return _Done(finished.value)
        return None

    def close(self) -> None:
        """Finish what is begun; what waits is dropped."""
        self._thread.shutdown(wait=True, cancel_futures=True)


def one_step(work: Callable[[], T]) -> Steps[T]:
    """Work that cannot be cut."""
    return work()
    yield


def _looked_at(turn: "asyncio.Future[Any]") -> None:
    """Nothing of work that nobody waits for any more is told in the log."""
    if not turn.cancelled():
        turn.exception()
