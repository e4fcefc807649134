"""This machine: the engine that needs nothing else.

An engine knows nothing of shops. Its verbs are `map` (a function over shards), `launch` (a training
function on N workers) and `trials`; this one has what is needed so far.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

S = TypeVar("S")
R = TypeVar("R")


def settle(threads: int | None = None) -> None:
    """The one OpenMP policy, to be called before numpy, torch, faiss or onnxruntime are imported.

    threads: what BLAS and OpenMP may use; servers take one, so that requests do not wait for each
    other's threads. None: what there is.

    Waiting threads sleep instead of spinning: with another busy process on the machine, spinning made
    small training steps many times slower (docs/decisions/threads.md). What the user set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
        os.environ.setdefault("OPENBLAS_NUM_THREADS", str(threads))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


def map(function: Callable[[S], R], shards: Iterable[S], workers: int | None = None) -> Iterator[R]:
    """`function` of every shard, in order, on `workers` fresh processes (default: one a core).

    Function and shards must pickle, and a script that calls this must guard its start with
    `if __name__ == "__main__"`. Results that nobody has taken yet are at most a few a worker.
    An exception in a shard is raised here.
    """
    count = workers or os.cpu_count() or 1
    if count == 1:
        for shard in shards:
            yield function(shard)
        return
    # Fresh processes: a fork of a process with threads (pyarrow, torch) may hang.
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: deque[Future[R]] = deque()
        for shard in shards:
            waiting.append(pool.submit(function, shard))
            if len(waiting) > 3 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
