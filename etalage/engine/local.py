"""This machine: the engine that needs nothing else.

An engine knows nothing of shops. Its verbs are in contract.py.
"""

import logging
import os
import pickle
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

from etalage.engine import worker
from etalage.engine.children import child, python
from etalage.engine.contract import RETRIES
from etalage.engine.memory import require_enforceable
from etalage.engine.outcome import Outcome
from etalage.engine.parcel import pack
from etalage.engine.process_slot import ProcessSlot
from etalage.engine.scheduling import Progress, map_here, map_ordered, map_unordered
from etalage.engine.worker_spec import WorkerSpec

log = logging.getLogger(__name__)
_GRACE_SECONDS = 2.0

S = TypeVar("S")
R = TypeVar("R")


@contextmanager
def launch(
    function: Callable[[WorkerSpec], object], workers: int, memory: int | None = None
) -> Iterator[WorkerSpec]:
    """`function` on workers − 1 fresh processes; the caller, within the `with`, is rank 0.

    The function must pickle: one of an importable module, or a `partial` of one. A process that is still at
    it when the caller leaves is waited for, unless the caller leaves by an exception: then it is ended. How
    one ended that did not end well is logged. memory: bytes that each of the others may have.
    """
    with tempfile.TemporaryDirectory(prefix="etalage-") as name:
        folder = Path(name)
        init_method = f"file://{folder / 'rendezvous'}"
        (folder / worker.FUNCTION).write_bytes(pickle.dumps((function, workers, init_method, memory)))
        command = python("-m", worker.__name__, str(folder))
        others: list[subprocess.Popen[bytes]] = []
        try:
            others += (child([*command, str(rank)]) for rank in range(1, workers))
            yield WorkerSpec(0, workers, init_method, lost=lambda: _ended(others))
            for other in others:
                other.wait()
        except BaseException:
            # One whose end is why we leave may not have ended quite yet.
            until = time.monotonic() + _GRACE_SECONDS
            while _ended(others) is None and time.monotonic() < until:
                time.sleep(0.05)
            raise
        finally:
            _end(others)


def _ended(others: "list[subprocess.Popen[bytes]]") -> str | None:
    """Those that ended otherwise than well."""
    found = []
    for number, other in enumerate(others, start=1):
        if status := other.poll():
            how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
            found.append(f"worker {number} of {len(others) + 1} ended with {how}")
    return "; ".join(found) or None


def _end(others: "list[subprocess.Popen[bytes]]") -> None:
    if ended := _ended(others):
        log.error(ended)
    for other in others:
        other.terminate()  # nothing happens to one that has ended
    for other in others:
        try:
            other.wait(10)
        except subprocess.TimeoutExpired:
            other.kill()
            other.wait()


class LocalEngine:
    """Processes of this machine; see Engine. `memory`: bytes that each of them may have."""

    def __init__(self, workers: int | None = None, memory: int | None = None) -> None:
        if memory is not None:
            require_enforceable()
        self.workers = workers or os.cpu_count() or 1
        self.memory = memory

    def map(
        self,
        function: Callable[[S], R],
        shards: Iterable[S],
        workers: int | None = None,
        retries: int = RETRIES,
        progress: Progress | None = None,
    ) -> Iterator[R]:
        """One worker and no limit of memory: in this process."""
        count = workers or self.workers
        if count == 1 and self.memory is None:
            return map_here(function, shards, retries, progress)
        return map_ordered(shards, self._slots(function, count), retries, progress)

    def trials(
        self, objective: Callable[[S], R], settings: Iterable[S], parallel: int
    ) -> Iterator[tuple[int, Outcome[R]]]:
        return map_unordered(settings, self._slots(objective, parallel), retries=0)

    def launch(
        self, function: Callable[[WorkerSpec], object], workers: int
    ) -> AbstractContextManager[WorkerSpec]:
        return launch(function, workers, self.memory)

    def _slots(self, function: Callable[[S], R], count: int) -> list[ProcessSlot[S, R]]:
        parcel = pack(function)
        return [ProcessSlot(parcel, self.memory) for _ in range(count)]


LOCAL = LocalEngine()
