"""What every engine can do: where loops over shards, trials, and the workers of a training run."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from etalage.engine.outcome import Outcome
from etalage.engine.scheduling import Progress
from etalage.engine.worker_spec import WorkerSpec

S = TypeVar("S")
R = TypeVar("R")
RETRIES = 2
"""How often a shard that failed is run again."""


class Engine(Protocol):
    """Runs functions on shards. A shard is the unit of work: a file, a block of rows, some hosts.

    A function that runs on workers is one of an importable module, a `partial` of one, or one of a model of
    the shop's own; it and its shards must pickle. A shard's function may run more than once: what it writes
    is the same each time.
    """

    @property
    def workers(self) -> int:
        """How many shards run at once, unless a caller says otherwise."""
        ...

    def map(
        self,
        function: Callable[[S], R],
        shards: Iterable[S],
        workers: int | None = None,
        retries: int = RETRIES,
        progress: Progress | None = None,
    ) -> Iterator[R]:
        """`function` of every shard, in the shards' order, each once.

        A shard that fails, or whose worker is gone, is run again, on a new worker where the old one is gone;
        the others go on. Shards may be an iterator: results that nobody has taken are at most a few a worker.
        One that yields `LATER` (scheduling.py) is asked again when the next result is taken.
        Who leaves early, or is interrupted, ends the workers.

        Raises what a shard raised, where that is an EtalageError: it is not run again. ShardFailed: it failed
        `retries` + 1 times; names the shard and the last error.
        """
        ...

    def trials(
        self, objective: Callable[[S], R], settings: Iterable[S], parallel: int
    ) -> Iterator[tuple[int, Outcome[R]]]:
        """(number, what came of it) of every trial, as they end, `parallel` at once.

        `settings` is asked for the next one when a worker is free for it, so that it may depend on those that
        have ended. A trial that raises, or whose worker is gone, is told as Failed, and is not run again; the
        others go on.
        """
        ...

    def launch(
        self, function: Callable[[WorkerSpec], object], workers: int
    ) -> AbstractContextManager[WorkerSpec]:
        """Run `function` in workers − 1 other processes; the caller is rank 0 within the `with`."""
        ...
