"""Batches made while the step before them is computed; and how long steps waited for theirs.

A batch is a pure function of (epoch, step, rank, world_size), so that making it early changes nothing, and
nothing of it has to be in a checkpoint.
"""

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from etalage.models.recipe import Batch, Task


class Prefetched:
    """`task.batch`, of one rank, in as many parts as its step is accumulated from. A task says by `ahead` how
    many batches are made ahead, in one thread; none where it says nothing, and where the whole of its data is
    in memory there is little to wait for."""

    def __init__(self, task: Task, steps: int, rank: int, world_size: int, parts: int = 1) -> None:
        """steps: of an epoch."""
        self._task, self._steps, self._rank, self._world_size = task, steps, rank, world_size
        self._parts = parts
        self._ahead: int = getattr(task, "ahead", 0)
        self._waiting: deque[tuple[tuple[int, int], Future[list[Batch]]]] = deque()
        self._thread: ThreadPoolExecutor | None = None
        self.waited = 0.0
        """Seconds that steps waited for their batches."""

    def parts(self, epoch: int, step: int) -> list[Batch]:
        """This rank's rows of a batch. Raises what the task raises."""
        started = time.perf_counter()
        try:
            if not self._ahead:
                return self._made(epoch, step)
            while self._waiting and self._waiting[0][0] != (epoch, step):
                self._waiting.popleft()[1].cancel()
            self._ask(epoch, step)
            made = self._waiting.popleft()[1].result()
            self._ask(epoch, step + 1)
            return made
        finally:
            self.waited += time.perf_counter() - started

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=True, cancel_futures=True)
        self._thread = None
        self._waiting.clear()

    def _made(self, epoch: int, step: int) -> list[Batch]:
        first, of = self._rank * self._parts, self._world_size * self._parts
        return [self._task.batch(epoch, step, first + part, of) for part in range(self._parts)]

    def _ask(self, epoch: int, step: int) -> None:
        """Have the batches from this one on made, up to the end of the epoch: validation comes between."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "batches")
        begin = self._waiting[-1][0][1] + 1 if self._waiting else step
        for one in range(begin, min(step + self._ahead, self._steps)):
            job = self._thread.submit(self._made, epoch, one)
            self._waiting.append(((epoch, one), job))
