"""The contract of every engine, which runs loops over shards and the workers of a training."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from etalage.engine.worker_spec import WorkerSpec

S = TypeVar("S")
R = TypeVar("R")


class Engine(Protocol):
    """Runs functions on shards. A shard is the unit of work: a file, a block of rows, some hosts.

    The function must be picklable. It may run more than once on a shard, so it must write the same each time.
    """

    def map(self, function: Callable[[S], R], shards: Iterable[S], workers: int | None = None) -> Iterator[R]:
        """Yield `function(shard)` for every shard, in their order. Raises the exception that a shard
        raises."""
        ...

    def launch(
        self, function: Callable[[WorkerSpec], object], workers: int
    ) -> AbstractContextManager[WorkerSpec]:
        """Run `function` in workers − 1 other processes; the caller is rank 0 within the `with`."""
        ...
