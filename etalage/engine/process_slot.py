"""A process of this machine that runs one shard after the other."""

import atexit
import logging
import logging.handlers
import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any, Generic, TypeVar

from etalage.engine.children import leave_interrupts_to_parent, safe_path, without_script
from etalage.engine.memory import limit_memory
from etalage.engine.outcome import Failed, Outcome
from etalage.engine.parcel import Parcel, pack
from etalage.engine.shard_worker import OUT_OF_MEMORY, outcome_of, relay, run_parcels
from etalage.engine.threads import configure_threads

S = TypeVar("S")
R = TypeVar("R")
_SPAWN = multiprocessing.get_context("spawn")
"""Fresh processes: a fork of a process with threads (pyarrow, torch) may hang."""
_GRACE_SECONDS = 5.0
"""For a worker that was asked to end; then it is killed."""
_ORPHAN_SECONDS = 2.0
"""For a shard's function that notices itself that the process which wanted it is gone."""


@dataclass(frozen=True)
class Start:
    """What a worker is told when it starts."""

    function: Parcel
    memory: int | None
    level: int
    """Of log records that are worth sending."""


class ProcessSlot(Generic[S, R]):
    """Starts its process for the first shard, and another one when that is gone."""

    def __init__(self, function: Parcel, memory: int | None) -> None:
        self._start = Start(function, memory, logging.getLogger().getEffectiveLevel())
        self._process: Any = None
        self._pipe: connection.Connection | None = None
        self._lock = threading.Lock()
        self._busy = self._stopped = False
        # Runs before multiprocessing's own handler, which would wait for a worker that nobody asked to end.
        atexit.register(self._abandon)

    def run(self, shard: S) -> Outcome[R]:
        parcel = pack(shard)
        with self._lock:
            if self._stopped:
                return Failed("the work was stopped")
            pipe = self._pipe or self._started()
            self._busy = True
        try:
            pipe.send(parcel)
            while pipe in connection.wait([pipe, self._process.sentinel]):
                said = pipe.recv()
                if isinstance(said, logging.LogRecord):
                    relay(said)
                    continue
                outcome: Outcome[R] = outcome_of(said, self._start.memory)
                if isinstance(outcome, Failed) and outcome.kind == OUT_OF_MEMORY:
                    self._end()  # what filled it is not sure to be gone
                return outcome
        except (EOFError, OSError):
            pass
        finally:
            self._busy = False
        return Failed(self._end())

    def _started(self) -> connection.Connection:
        ours, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_work, args=(theirs, self._start), name="etalage worker")
        with (
            safe_path(),
            without_script(),
        ):  # neither it nor multiprocessing's tracker imports from the current folder (F62)
            self._process.start()
        theirs.close()
        self._pipe = ours
        return ours

    def _end(self) -> str:
        """Have no process; → how it ended."""
        with self._lock:
            process, pipe, self._process, self._pipe = self._process, self._pipe, None, None
        if pipe is not None:
            pipe.close()  # an idle one ends by that
        if process is None:
            return "the work was stopped"
        process.join(_GRACE_SECONDS)
        if process.is_alive():
            process.terminate()
            process.join(_GRACE_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
        status = process.exitcode
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        return f"the worker's process ended with {how}"

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._busy and self._process is not None:
                self._process.terminate()

    def leave(self) -> None:
        self._end()
        atexit.unregister(self._abandon)

    def _abandon(self) -> None:
        """This process ends. No worker is started any more: what fails by that would be begun again."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.terminate()


class _Sender(logging.handlers.QueueHandler):
    """Sends log records to the process that started this one."""

    def __init__(self, pipe: connection.Connection, lock: threading.Lock) -> None:
        super().__init__(pipe)  # type: ignore[arg-type]
        self._sending = lock

    def enqueue(self, record: logging.LogRecord) -> None:
        with self._sending:
            self.queue.send(record)  # type: ignore[attr-defined]


def _work(pipe: connection.Connection, start: Start) -> None:
    """What the process does: one shard after the other, until nobody sends any more."""
    leave_interrupts_to_parent()
    configure_threads(1)  # before a function imports numpy: several workers share the cores
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start.memory is not None:
        limit_memory(start.memory)
    sending = threading.Lock()
    logging.captureWarnings(True)
    logging.getLogger().addHandler(_Sender(pipe, sending))
    logging.getLogger().setLevel(start.level)
    while True:
        try:
            shard = pipe.recv()
        except (EOFError, OSError):
            return
        parcel = run_parcels(start.function, shard)
        sys.stdout.flush()
        with sending:
            pipe.send(parcel)


def _end_with_parent() -> None:
    """Nobody is left to end a worker whose parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    time.sleep(_ORPHAN_SECONDS)
    os._exit(1)
