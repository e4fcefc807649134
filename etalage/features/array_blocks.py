"""Loops over blocks of large arrays: in this process, or on the workers of an engine where that pays.

The work on a block is a pure function of the arrays and of the block; what it returns depends on nothing
else, so it does not matter who does it, or how many blocks there are. Workers map the arrays from files:
however many they are, a machine holds them once.
"""

import logging
import shutil
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from etalage.engine.scheduling import LATER
from etalage.engine.worth import BlockLoop, Cost, timed
from etalage.lake.spool_folder import full_disk, own_folder

log = logging.getLogger(__name__)

B = TypeVar("B")
R = TypeVar("R")
Arrays = Mapping[str, np.ndarray]
Work = Callable[[Arrays, B], R]
"""A function of an importable module, or a frozen dataclass that is called: it has to pickle."""


class ArrayLoop(BlockLoop):
    """Where loops over blocks of arrays run: the arrays lie in the spool while workers read them."""

    @contextmanager
    def over(self, arrays: Arrays) -> Iterator["ArrayBlocks"]:
        """Loops over these arrays. Files are written when the first worker needs them, and are gone
        afterwards."""
        with ExitStack() as files:
            yield ArrayBlocks(self, arrays, files)


@dataclass
class ArrayBlocks:
    """Arrays, and where work on blocks of them is done."""

    loop: ArrayLoop
    arrays: Arrays
    files: ExitStack
    _folder: Path | None = None
    _changed: int = 0
    _done: Counter[object] = field(default_factory=Counter)
    """Kind of work → blocks of it that were done here, …"""
    _costs: dict[object, Cost] = field(default_factory=dict)
    """… and what they cost: a later loop of the same kind need not measure again."""
    _said: set[str] = field(default_factory=set)
    _results: Iterator[Any] | None = None
    """Of the engine; None: no worker was asked yet."""
    _waiting: deque[Any] = field(default_factory=deque)

    def run(
        self,
        work: Work[B, R],
        blocks: Sequence[B],
        costs: Sequence[float] | np.ndarray,
        changed: Arrays | None = None,
        later: float = 0.0,
    ) -> Iterator[R]:
        """`work` of the arrays and each block, in the blocks' order. Each result has to be taken.

        costs: what each block costs, in any unit: the first blocks say how many seconds that is. changed:
        more arrays, for this loop alone. later: what loops that follow will cost; workers stay for them.
        Raises what `work` raises; ShardFailed: a worker was lost again and again; DataError: no space.
        """
        here = {**self.arrays, **(changed or {})}
        left = float(np.sum(costs))
        for number, block in enumerate(blocks):
            if self._results is not None or self.loop.pays(self._costs.get(work), left + later):
                self._say(work, len(blocks) - number, len(blocks))
                yield from self._by_workers(work, blocks[number:], changed)
                return
            made, spent = timed(partial(work, here, block), max(float(costs[number]), 1e-9))
            left -= float(costs[number])
            self._done[work] += 1
            if self._done[work] >= self.loop.measured:
                self._costs[work] = spent
            yield made

    def _say(self, work: Work[Any, Any], count: int, of: int) -> None:
        """Once for each kind of work."""
        name = getattr(work, "__name__", type(work).__name__)
        if name not in self._said:
            log.info("%s: %d of %d blocks on %d workers", name, count, of, self.loop.at_once)
        self._said.add(name)

    def _by_workers(self, work: Work[B, R], blocks: Sequence[B], changed: Arrays | None) -> Iterator[R]:
        folder = self._saved()
        more = None
        if changed:
            more = folder.with_name(f"changed-{self._changed:06d}")
            self._changed += 1
            _save(changed, more)
        if self._results is None:
            # One loop of the engine for all of ours: its workers stay for the next one.
            self._results = self.loop.engine.map(partial(_work_on, folder), self._shards(), self.loop.workers)
            self.files.callback(self._end)
        self._waiting.extend((work, more, block) for block in blocks)
        for _ in blocks:
            yield next(self._results)
        if more is not None:
            shutil.rmtree(more, ignore_errors=True)

    def _shards(self) -> Iterator[Any]:
        while True:
            yield self._waiting.popleft() if self._waiting else LATER

    def _end(self) -> None:
        """The engine ends its workers."""
        if isinstance(self._results, Generator):
            self._results.close()

    def _saved(self) -> Path:
        if self._folder is None:
            assert self.loop.spool is not None
            own = self.files.enter_context(own_folder(self.loop.spool))
            self._folder = own / "arrays"
            _save(self.arrays, self._folder)
        return self._folder


# -- arrays as files -----------------------------------------------------------------------------


def _save(arrays: Arrays, folder: Path) -> None:
    with full_disk(folder):
        folder.mkdir()
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)


def _work_on(folder: Path, shard: "tuple[Work[B, R], Path | None, B]") -> R:
    """In a worker."""
    work, changed, block = shard
    arrays = _mapped(folder)
    return work(arrays if changed is None else {**arrays, **_changed(changed)}, block)


def _opened(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for file in folder.glob("*.npy"):
        array = np.load(file, mmap_mode="r" if file.stat().st_size > 256 else None, allow_pickle=False)
        found[file.name.removesuffix(".npy")] = array
    return found


@lru_cache(maxsize=1)
def _mapped(folder: Path) -> dict[str, np.ndarray]:
    """Opened once a worker."""
    return _opened(folder)


@lru_cache(maxsize=1)
def _changed(folder: Path) -> dict[str, np.ndarray]:
    return _opened(folder)
