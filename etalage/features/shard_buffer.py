"""What is in memory of the shards: the pool that batches come from, and the next one, which is read ahead.

A cache and no more: what a batch is, `ShardOrder` says.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from etalage.features.shard_order import ShardOrder

Arrays = Mapping[str, np.ndarray]
"""By name, each (rows of a shard, …)."""


@dataclass(frozen=True)
class Taken:
    """Rows that were asked for, in their order."""

    shards: np.ndarray
    """(n,) int64."""
    rows: np.ndarray
    """(n,) int64 places in their shards."""
    places: np.ndarray
    """(n,) int64 places among all rows that were asked for, of all ranks."""
    arrays: dict[str, np.ndarray]
    """By name, each (n, …)."""


T = TypeVar("T")


class HeldShards(Generic[T]):
    """load: shard → what is held of it. readers: threads that read.

    It is asked by one thread at a time; the next pool is read while the present one is used.
    """

    def __init__(self, order: ShardOrder, load: Callable[[int], T], readers: int = 1) -> None:
        self.order, self._load = order, load
        self._readers = readers
        self._threads: ThreadPoolExecutor | None = None
        self._held: dict[int, Future[T]] = {}
        self._wanted: dict[int, set[int]] = {}
        """Shards by rank: one process reads for several where its step is accumulated from parts."""
        self._world_size = 1
        self._lock = threading.Lock()

    def of(
        self, epoch: int, pools: tuple[int, ...], shards: np.ndarray, rank: int = 0, world_size: int = 1
    ) -> dict[int, T]:
        """These shards, of these pools of the epoch and read by `rank`. Raises what `load` raises."""
        with self._lock:
            self._hold(epoch, pools, rank, world_size)
            held = {int(shard): self._held[int(shard)] for shard in np.unique(shards)}
        return {shard: future.result() for shard, future in held.items()}

    def close(self) -> None:
        """Let go of everything; it can be asked again."""
        with self._lock:
            if self._threads is not None:
                self._threads.shutdown(wait=True, cancel_futures=True)
            self._threads = None
            self._held, self._wanted = {}, {}

    def _hold(self, epoch: int, pools: tuple[int, ...], rank: int, world_size: int) -> None:
        """Begin to read these pools and the next one; let go of all others."""
        wanted = [int(s) for pool in pools for s in self.order.shards_of(epoch, pool, rank, world_size)]
        after = pools[-1] + 1
        if after < len(self.order.pools(epoch)) and len(pools) == 1:
            wanted += [int(s) for s in self.order.shards_of(epoch, after, rank, world_size)]
        if world_size != self._world_size:
            self._wanted, self._world_size = {}, world_size
        self._wanted[rank] = set(wanted)
        for shard in set(self._held).difference(*self._wanted.values()):
            self._held.pop(shard).cancel()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._readers, "shards")
        for shard in wanted:
            if shard not in self._held:
                self._held[shard] = self._threads.submit(self._load, shard)


class ShardBuffer(HeldShards[Arrays]):
    """load: shard → its rows that take part, as many as the order says."""

    def take(self, epoch: int, start: int, stop: int, rank: int = 0, world_size: int = 1) -> Taken:
        """Those of rows start … stop of the epoch that `rank` reads. Raises what `load` raises."""
        found = self.order.slice(epoch, start, stop, world_size)
        mine = np.flatnonzero(found.owners == rank)
        shards, rows = found.shards[mine], found.rows[mine]
        parts, places = [], []
        for shard, arrays in self.of(epoch, found.pools, shards, rank, world_size).items():
            at = np.flatnonzero(shards == shard)
            parts.append({name: array[rows[at]] for name, array in arrays.items()})
            places.append(at)
        return Taken(shards, rows, mine, self._joined(parts, places))

    def _joined(self, parts: list[dict[str, np.ndarray]], places: list[np.ndarray]) -> dict[str, np.ndarray]:
        if not parts:  # a rank may have no row of a small batch: it still knows the arrays' shapes
            shard = int(np.flatnonzero(self.order.rows_S)[0])
            return {name: array[:0] for name, array in self._load(shard).items()}
        back = np.argsort(np.concatenate(places), kind="stable")
        return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}
