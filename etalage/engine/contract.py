"""What every engine can do: where loops over shards, and the workers of a training, run."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from etalage.engine.worker_spec import WorkerSpec

S = TypeVar("S")
R = TypeVar("R")


class Engine(Protocol):
    """A shard is the unit of work: a file, a block of rows, some hosts.

    A shard's function must pickle, and may run more than once: what it writes is the same each time.
    """

    def map(self, function: Callable[[S], R], shards: Iterable[S], workers: int | None = None) -> Iterator[R]:
        """`function` of every shard, in the shards' order. An exception in a shard is raised here."""
        ...

    def launch(
        self, function: Callable[[WorkerSpec], object], workers: int
    ) -> AbstractContextManager[WorkerSpec]:
        """`function` on workers − 1 others; the caller, within the `with`, is rank 0."""
        ...
