"""This machine: the engine that needs nothing else.

An engine knows nothing of shops. Its verbs are in contract.py.
"""

import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeVar

from etalage.engine import worker
from etalage.engine.children import child, python, safe_path
from etalage.engine.threads import configure_threads
from etalage.engine.worker_spec import WorkerSpec
from etalage.errors import WorkerLost

log = logging.getLogger(__name__)
_GRACE_SECONDS = 2.0

S = TypeVar("S")
R = TypeVar("R")


def map(function: Callable[[S], R], shards: Iterable[S], workers: int | None = None) -> Iterator[R]:
    """`function` of every shard, in order, on `workers` fresh processes (default: one a core).

    Function and shards must pickle, and be of modules that can be imported: what the script that runs here
    defines is unknown to workers. A worker has one thread for its numeric libraries, unless the user says how
    many. Results that nobody has taken yet are at most a few a worker. An exception in a shard is raised
    here; WorkerLost: a worker was killed.
    """
    count = workers or os.cpu_count() or 1
    if count == 1:
        for shard in shards:
            yield function(shard)
        return
    # Fresh processes: a fork of a process with threads (pyarrow, torch) may hang.
    with safe_path():  # the tracker of shared resources is started here, the workers by the first `submit`
        pool = ProcessPoolExecutor(
            count, multiprocessing.get_context("spawn"), initializer=configure_threads, initargs=(1,)
        )
    with _killed_workers_told(), pool:
        try:
            waiting: deque[Future[R]] = deque()
            for shard in shards:
                with safe_path(), _without_script():
                    waiting.append(pool.submit(function, shard))
                if len(waiting) > 3 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:  # who leaves does not wait for shards that nobody has begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _without_script() -> Iterator[None]:
    """Workers that are started within this do not run the script that runs here: each would run all of it,
    from its first line, unless it is guarded by `if __name__ == "__main__"`."""
    script = sys.modules["__main__"]
    names: tuple[str, ...] = ("__file__", "__spec__")
    kept = {name: vars(script)[name] for name in names if name in vars(script)}
    script.__spec__ = None
    vars(script).pop("__file__", None)
    try:
        yield
    finally:
        vars(script).update(kept)


@contextmanager
def _killed_workers_told() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise WorkerLost(
            "a worker process was ended from outside, perhaps for want of memory; what was kept before it "
            "stays: make room, or end what else runs here, and run it again"
        ) from error


@contextmanager
def launch(function: Callable[[WorkerSpec], object], workers: int) -> Iterator[WorkerSpec]:
    """`function` on workers − 1 fresh processes; the caller, within the `with`, is rank 0.

    The function must pickle: one of an importable module, or a `partial` of one. A process that is still at
    it when the caller leaves is waited for, unless the caller leaves by an exception: then it is ended. How
    one ended that did not end well is logged.
    """
    with tempfile.TemporaryDirectory(prefix="etalage-") as name:
        folder = Path(name)
        init_method = f"file://{folder / 'rendezvous'}"
        (folder / worker.FUNCTION).write_bytes(pickle.dumps((function, workers, init_method)))
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
    """Processes of this machine; see Engine."""

    def map(self, function: Callable[[S], R], shards: Iterable[S], workers: int | None = None) -> Iterator[R]:
        return map(function, shards, workers)

    def launch(
        self, function: Callable[[WorkerSpec], object], workers: int
    ) -> AbstractContextManager[WorkerSpec]:
        return launch(function, workers)


LOCAL = LocalEngine()
