"""In which order an epoch takes the rows of its shards: known before anything is read.

    S shards   M rows of all   P pools of an epoch   n rows of a slice

Shards are put in an order of their own for each epoch, and cut into pools that half of the buffer holds; the
rows of a pool are shuffled as one. The other half is for the pool that is read ahead. The order is a pure
function of (shards, seed, epoch), of no reader's state: any step of it can be resumed, by any number of
workers. Why pools: docs/decisions/stream.md.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from etalage.errors import ConfigError, TooLittleData

_KEPT = 3
"""Pools whose order is kept: the one that a batch begins in, the one that it ends in, the next."""
MEGABYTE = 2**20


@dataclass(frozen=True)
class Slice:
    """Rows of an epoch, in its order."""

    shards: np.ndarray
    """(n,) int64 the shard of each."""
    rows: np.ndarray
    """(n,) int64 its place in the shard."""
    owners: np.ndarray
    """(n,) int64 the rank that reads it."""
    pools: tuple[int, ...]
    """Those that the rows lie in, ascending."""


class ShardOrder:
    """rows_S: how many rows of each shard take part. bytes_S: what each takes in memory. buffer: bytes that
    all that is held at once may take; None: whatever it takes, all rows shuffled as one. what, otherwise: of
    the largest shard, and what to do beside a larger buffer, for the error.

    Raises TooLittleData: no rows. ConfigError: a shard is too large for the buffer.
    """

    def __init__(
        self,
        rows_S: np.ndarray,
        bytes_S: np.ndarray,
        buffer: int | None,
        seed: int,
        what: str = "the largest row group",
        otherwise: str = "write the table again with smaller row groups",
    ) -> None:
        self.rows_S = np.asarray(rows_S, np.int64)
        self.count = int(self.rows_S.sum())
        """M."""
        if not self.count:
            raise TooLittleData("no row to learn from in any shard")
        self._bytes_S = np.where(self.rows_S > 0, bytes_S, 0)
        self._seed = seed
        self._target = int(self._bytes_S.sum()) + 1
        if buffer is not None and buffer < 2 * self._target:
            largest = int(self._bytes_S.max())
            if 4 * largest > buffer:
                needed = -(-4 * largest // MEGABYTE)
                raise ConfigError(
                    f"buffer = {buffer // MEGABYTE} MB: {what} takes {largest / MEGABYTE:,.1f} MB in memory, "
                    f"and a buffer has to hold four; set buffer = {needed}, or {otherwise}"
                )
            self._target = buffer // 2 - largest
        self._lock = threading.Lock()
        self._cut: dict[int, list[np.ndarray]] = {}
        self._shuffled: OrderedDict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def pools(self, epoch: int) -> list[np.ndarray]:
        """P arrays of shards; each shard is in one of them."""
        with self._lock:
            if epoch not in self._cut:
                order = np.random.default_rng([self._seed, epoch]).permutation(np.flatnonzero(self.rows_S))
                ends = np.cumsum(self._bytes_S[order])
                count = -(-int(ends[-1]) // self._target) or 1
                # Equal shares: a last pool of what is left over would be a poor shuffle.
                pool = (ends - 1) * count // max(int(ends[-1]), 1)
                self._cut = {e: cut for e, cut in self._cut.items() if e == epoch - 1}
                self._cut[epoch] = [order[pool == n] for n in np.unique(pool)]
            return self._cut[epoch]

    def slice(self, epoch: int, start: int, stop: int, world_size: int = 1) -> Slice:
        """Rows start … stop of the epoch, and which of `world_size` ranks reads each.

        A rank reads shards of its own, so that none is read twice; where a pool has few of them, all ranks
        read it and take turns by row.
        """
        pools = self.pools(epoch)
        bounds = np.cumsum([0, *(int(self.rows_S[pool].sum()) for pool in pools)])
        stop = min(stop, self.count)
        first, last = np.searchsorted(bounds, (start, stop - 1), side="right") - 1
        parts = []
        for number in range(int(first), int(last) + 1):
            at = max(start - int(bounds[number]), 0)
            end = min(stop, int(bounds[number + 1])) - int(bounds[number])
            places, order = self._pool(epoch, number, pools[number])
            rows = order[at:end]
            place = np.searchsorted(places, rows, side="right") - 1
            shards = pools[number][place]
            turns = place if shares_shards(len(pools[number]), world_size) else np.arange(at, end)
            parts.append((shards, rows - places[place], turns % world_size))
        columns = [np.concatenate(column).astype(np.int64) for column in zip(*parts, strict=True)]
        return Slice(columns[0], columns[1], columns[2], tuple(range(int(first), int(last) + 1)))

    def shards_of(self, epoch: int, pool: int, rank: int = 0, world_size: int = 1) -> np.ndarray:
        """The shards of a pool that a rank reads."""
        shards = self.pools(epoch)[pool]
        return shards[rank::world_size] if shares_shards(len(shards), world_size) else shards

    def _pool(self, epoch: int, number: int, shards: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(shards + 1,) where the rows of each begin, and (rows,) the order of all of them."""
        with self._lock:
            key = (epoch, number)
            if key in self._shuffled:
                self._shuffled.move_to_end(key)
                return self._shuffled[key]
            places = np.cumsum([0, *self.rows_S[shards]])
            kind = np.int32 if places[-1] < 2**31 else np.int64
            order = np.arange(places[-1], dtype=kind)
            np.random.default_rng([self._seed, epoch, 1 + number]).shuffle(order)
            self._shuffled[key] = (places, order)
            while len(self._shuffled) > _KEPT:
                self._shuffled.popitem(last=False)
            return self._shuffled[key]


def shares_shards(shards: int, world_size: int) -> bool:
    """Whether ranks share the shards of a pool out among them: from two for each on."""
    return shards >= 2 * world_size
