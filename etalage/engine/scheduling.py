"""Shards over slots: what every engine's `map` and `trials` do, whatever a slot is.

A slot runs one shard at a time, on a process of this machine or as a task of a cluster. Each has a thread
here that gives it shards and takes what came of them.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, Protocol, TypeVar, cast

from etalage.engine.outcome import Done, Failed, Outcome, attempt, shown
from etalage.errors import EngineError

log = logging.getLogger(__name__)

S = TypeVar("S")
R = TypeVar("R")
S_contra = TypeVar("S_contra", contravariant=True)

Progress = Callable[[int, int | None], None]
"""Is told how many shards are done, and of how many; None: nobody knows yet."""
LATER: Any = object()
"""What an iterator of shards yields instead of one, while there is none before the caller of `map` has taken
more results: shards may depend on what came of earlier ones. It is asked again then."""
_STOP_SECONDS = 30.0
_NO_MORE: Any = object()
_AHEAD = 3
"""Shards a slot that are begun or done, and whose results nobody has taken."""


class Slot(Protocol[S_contra, R]):
    """Where one shard at a time runs."""

    def run(self, shard: S_contra) -> Outcome[R]:
        """Run it, and say what came of it; nothing is raised. Called in a thread of the slot's own."""
        ...

    def stop(self) -> None:
        """End what runs: `run` returns soon. Called in another thread, until it has."""
        ...

    def leave(self) -> None:
        """Called in the slot's thread when it has had its last shard."""
        ...


def map_ordered(
    shards: Iterable[S], slots: Sequence[Slot[S, R]], retries: int, progress: Progress | None = None
) -> Iterator[R]:
    """The results in the shards' order. Raises what a shard raised that is an EtalageError, and ShardFailed
    for one that failed otherwise as often as it was tried."""
    running = _Running(shards, slots, retries, progress, ahead=_AHEAD * len(slots))
    held: dict[int, tuple[S, Outcome[R]]] = {}
    due = 0
    try:
        for number, shard, outcome in running.ended():
            held[number] = shard, outcome
            while due in held:
                shard, outcome = held.pop(due)
                if isinstance(outcome, Failed):
                    raise outcome.to_raise(due, shard, running.tries(due))
                running.taken(due)
                due += 1
                yield outcome.result
    finally:
        running.stop()


def map_unordered(
    shards: Iterable[S], slots: Sequence[Slot[S, R]], retries: int, progress: Progress | None = None
) -> Iterator[tuple[int, Outcome[R]]]:
    """(number, outcome) of each shard as it ends. A shard is asked for when a slot is free for it."""
    running = _Running(shards, slots, retries, progress, ahead=len(slots))
    try:
        for number, _, outcome in running.ended():
            running.taken(number)
            yield number, outcome
    finally:
        running.stop()


def map_here(
    function: Callable[[S], R], shards: Iterable[S], retries: int, progress: Progress | None = None
) -> Iterator[R]:
    """The same in this process, one after the other, each when its result is asked for."""
    total = _count(shards)
    for number, shard in enumerate(shards):
        outcome = attempt(function, shard)
        for again in range(retries):
            if isinstance(outcome, Done) or outcome.final:
                break
            _say_again(number, shard, again + 1, retries, outcome)
            outcome = attempt(function, shard)
        if isinstance(outcome, Failed):
            raise outcome.to_raise(number, shard, retries + 1)
        if progress is not None:
            progress(number + 1, total)
        yield outcome.result


class _Running(Generic[S, R]):
    """The shards that were begun and whose results were not taken, and the threads of the slots."""

    def __init__(
        self,
        shards: Iterable[S],
        slots: Sequence[Slot[S, R]],
        retries: int,
        progress: Progress | None,
        ahead: int,
    ) -> None:
        self._total = _count(shards)
        self._shards: Iterator[S] | None = iter(shards)
        self._asked = 0
        self._slots, self._retries, self._progress, self._ahead = slots, retries, progress, ahead
        self._begun: dict[int, S] = {}
        self._failures: dict[int, int] = {}
        self._done = 0
        self._open = 0
        """Shards that a slot has, or is to have."""
        self._waiting: queue.SimpleQueue[tuple[int, S] | None] = queue.SimpleQueue()
        self._over: queue.SimpleQueue[tuple[int, Outcome[R]]] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, args=(slot,), name=f"slot {place}", daemon=True)
            for place, slot in enumerate(slots)
        ]
        for thread in self._threads:
            thread.start()

    def ended(self) -> Iterator[tuple[int, S, Outcome[R]]]:
        """Each shard when it is done, or has failed for the last time."""
        while self._fill():
            number, outcome = self._over.get()
            shard = self._begun[number]
            if isinstance(outcome, Failed):
                failures = self._failures[number] = self._failures.get(number, 0) + 1
                if failures <= self._retries and not outcome.final:
                    _say_again(number, shard, failures, self._retries, outcome)
                    self._waiting.put((number, shard))
                    continue
            self._open -= 1
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._total)
            yield number, shard, outcome

    def _fill(self) -> bool:
        """Begin shards up to the bound; whether any are open."""
        while self._shards is not None and len(self._begun) < self._ahead:
            found = next(self._shards, _NO_MORE)
            if found is _NO_MORE:
                self._shards = None
                break
            if found is LATER:
                if not self._begun:
                    raise EngineError("shards are to come later, but no result is left to wait for")
                break
            shard = cast(S, found)
            self._begun[self._asked] = shard
            self._waiting.put((self._asked, shard))
            self._asked += 1
            self._open += 1
        return self._open > 0

    def taken(self, number: int) -> None:
        del self._begun[number]
        self._failures.pop(number, None)

    def tries(self, number: int) -> int:
        return self._failures.get(number, 0)

    def _work(self, slot: Slot[S, R]) -> None:
        try:
            while (given := self._waiting.get()) is not None:
                number, shard = given
                try:
                    outcome: Outcome[R] = slot.run(shard)
                except BaseException as error:  # a fault of the slot; whoever waits must hear of it
                    outcome = Failed.of(error)
                self._over.put((number, outcome))
        finally:
            slot.leave()

    def stop(self) -> None:
        """End the slots and their threads; what still runs is ended with them."""
        while not self._waiting.empty():
            try:
                self._waiting.get_nowait()
            except queue.Empty:
                break
        for _ in self._threads:
            self._waiting.put(None)
        until = time.monotonic() + _STOP_SECONDS
        for slot in self._slots:
            slot.stop()
        for slot, thread in zip(self._slots, self._threads, strict=True):
            thread.join(1)
            while thread.is_alive() and time.monotonic() < until:
                slot.stop()  # it was just beginning
                thread.join(1)


def _count(shards: Iterable[Any]) -> int | None:
    return len(shards) if isinstance(shards, Sized) else None


def _say_again(number: int, shard: object, failures: int, retries: int, outcome: Failed) -> None:
    log.warning(
        "shard %d (%s) failed and is run again (%d of %d): %s",
        number,
        shown(shard),
        failures,
        retries,
        outcome.error,
    )
