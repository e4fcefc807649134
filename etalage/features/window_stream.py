"""Windows of interactions that lie in files: read by shard, shuffled within a buffer, batches as of memory.

    M interactions   S shards   W windows   R targets   B windows of a batch   N items   U users

A shard is the interactions of some shoppers, one behind the other in the files; so its windows are known from
it alone. Which windows a batch has is a pure function of (seed, epoch, step), as `ShardOrder` says.
"""

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from etalage.errors import TooLittleData
from etalage.features.behaviour import Interactions, ranges
from etalage.features.growing_array import GrowingArray, mapped
from etalage.features.shard_buffer import HeldShards
from etalage.features.shard_order import ShardOrder, Slice
from etalage.features.windows import POOL, DrawnWindows, WindowBatch, Windows, evenly_cut

Wanted = Callable[[Interactions], np.ndarray]
"""Interactions → (m,) bool, which of them are targets."""
SHARDS = 64
"""So many shards fill a buffer, about."""
_ACT_BYTES = 128
_LEAST_ROWS = 32
_WHOLE = "index.json"


@dataclass(frozen=True)
class WindowIndex:
    """What is known of all windows before any is read; the arrays of W and R lie in files."""

    bounds: np.ndarray
    """(S, 2) int64: the first interaction of a shard, and the one behind its last."""
    windows_S: np.ndarray
    """(S,) int64."""
    bytes_S: np.ndarray
    """(S,) int64 in memory."""
    lengths: np.ndarray
    """(W,) int32 acts of each window."""
    starts: np.ndarray
    """(W + 1,) int64: the targets of window w are starts[w] … starts[w + 1]."""
    rows: np.ndarray
    """(R,) int64 the interaction of each target."""
    seen: np.ndarray
    known_items: np.ndarray
    known_users: np.ndarray
    """As of WindowPlan."""

    @classmethod
    def made(
        cls, train: Interactions, wanted: Wanted, length: int, size: int, shard: int, sides: tuple[int, int],
        folder: Path,
    ) -> "WindowIndex":  # fmt: skip
        """Look through the interactions once, and keep in `folder` what was found; another worker of the same
        training finds it there. shard: interactions of one, about. sides: N + 1 and U + 1."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_suffix(".lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            if not (folder / _WHOLE).exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                _look_through(train, wanted, length, size, shard, sides, folder)
        facts = np.load(folder / "shards.npy")
        held = (np.load(folder / f"{name}.npy") for name in ("seen", "known_items", "known_users"))
        files = (mapped(folder / f"{name}.npy") for name in ("lengths", "starts", "rows"))
        return cls(facts[:, :2], facts[:, 2], facts[:, 3], *files, *held)


def _look_through(
    train: Interactions, wanted: Wanted, length: int, size: int, shard: int, sides: tuple[int, int],
    folder: Path,
) -> None:  # fmt: skip
    seen = np.zeros(sides[0], np.int64)
    known = [np.zeros(side, bool) for side in sides]
    shards, target = [], 0
    with ExitStack() as opened:
        kinds = {"lengths": np.int32, "starts": np.int64, "rows": np.int64}
        files = {
            name: opened.enter_context(GrowingArray(folder / f"{name}.npy", kind))
            for name, kind in kinds.items()
        }
        files["starts"].append(np.zeros(1, np.int64))
        for first, stop in _cut(train.users, shard):
            acts = _copied(train, first, stop)
            known[0][acts.items] = known[1][acts.users] = True
            mine = wanted(acts)
            if not mine.any():
                continue
            windows = Windows(acts, mine, length, size)
            seen += np.bincount(acts.items[windows.rows], minlength=len(seen))
            shards.append((first, stop, len(windows), windows.nbytes))
            files["lengths"].append(windows.lengths)
            files["starts"].append(target + np.cumsum(windows.counts))
            files["rows"].append(first + windows.rows)
            target += len(windows.rows)
    if not shards:
        raise TooLittleData("no interaction to learn from")
    for name, array in (("shards", np.array(shards, np.int64)), ("seen", seen)):
        np.save(folder / f"{name}.npy", array)
    for name, array in zip(("known_items", "known_users"), known, strict=True):
        np.save(folder / f"{name}.npy", array)
    (folder / _WHOLE).write_text(json.dumps({"targets": target}), encoding="utf-8")


def _cut(users: np.ndarray, rows: int) -> Iterator[tuple[int, int]]:
    """Runs of about so many interactions; those of one shopper are never parted."""
    start = 0
    while start < len(users):
        last = users[min(start + rows, len(users)) - 1]
        stop = int(np.searchsorted(users, last, side="right"))
        yield start, stop
        start = stop


def _copied(acts: Interactions, start: int, stop: int) -> Interactions:
    """In memory, read one behind the other."""
    return Interactions(*map(np.array, acts.slice(start, stop).columns))


@dataclass(frozen=True)
class _Chunk:
    """Batches that lie in one pool, and so are sorted by length together."""

    first: int
    """Step of the first."""
    found: Slice
    numbers: np.ndarray
    """(n,) int64 windows."""
    batches: list[np.ndarray]
    """Places among the n."""


class WindowStream:
    """The batches of windows over interactions in files: see WindowPlan, which has them in memory.

    mark: says what `wanted` wants, for the name of the index. sides: N + 1 and U + 1. buffer: bytes of shards
    that are held at once. Raises TooLittleData: no target. ConfigError: a shopper has too many interactions
    for the buffer.
    """

    def __init__(
        self,
        train: Interactions,
        wanted: Wanted,
        mark: str,
        length: int,
        size: int,
        sides: tuple[int, int],
        folder: Path,
        buffer: int,
        seed: int,
    ) -> None:
        self.train, self.length, self.size, self.seed = train, length, size, seed
        self._wanted = wanted
        shard = max(_LEAST_ROWS, buffer // (SHARDS * _ACT_BYTES))
        name = hashlib.sha256(json.dumps([mark, length, shard]).encode()).hexdigest()[:12]
        self.index = WindowIndex.made(train, wanted, length, size, shard, sides, folder / f"windows-{name}")
        index = self.index
        self.seen, self.known_items, self.known_users = index.seen, index.known_items, index.known_users
        self.order = ShardOrder(
            index.windows_S, index.bytes_S, buffer, seed,
            what="the shopper with the most interactions",
            otherwise="leave out who has so many: [behaviour] max_user",
        )  # fmt: skip
        self._first = np.cumsum([0, *index.windows_S])
        self._held = HeldShards(self.order, self._load)
        self._chunk: tuple[tuple[int, int, int], _Chunk] | None = None

    def __len__(self) -> int:
        """W."""
        return self.order.count

    @property
    def steps(self) -> int:
        """Batches an epoch, the same in every epoch."""
        return min(len(self), max(1, round(len(self.index.rows) / self.size)))

    def drawn(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> DrawnWindows:
        """What a rank has of a batch: the windows of the shards that it reads. Raises TableDamaged."""
        step %= self.steps
        chunk = self._chunk_of(epoch, step, world_size)
        chosen = chunk.batches[step - chunk.first]
        ours = chunk.found.owners[chosen] == rank
        batch, acts = self._read(epoch, chunk.found, chosen[ours], rank, world_size)
        numbers = chunk.numbers[chosen]
        if ours.all():
            every = np.ones(len(acts), bool)
            return DrawnWindows(numbers, batch, acts, batch.targets, acts.items, every)
        counts = self.index.starts[numbers + 1] - self.index.starts[numbers]
        rows = self.index.rows[ranges(self.index.starts[numbers], counts)]
        return DrawnWindows(numbers[ours], batch, acts, rows, self.train.items[rows], np.repeat(ours, counts))

    def close(self) -> None:
        """Let go of what the buffer holds, and of its threads; it can be asked again."""
        self._held.close()

    @cached_property
    def _edges(self) -> np.ndarray:
        """(steps + 1,) int64: where the batches begin in an epoch's order."""
        return np.arange(self.steps + 1) * len(self) // self.steps

    def _chunk_of(self, epoch: int, step: int, world_size: int) -> _Chunk:
        first, stop = self._together(epoch, step)
        key = (epoch, first, world_size)
        if self._chunk is None or self._chunk[0] != key:
            self._chunk = (key, self._sorted(epoch, first, stop, world_size))
        return self._chunk[1]

    def _together(self, epoch: int, step: int) -> tuple[int, int]:
        """The batches that are sorted with this one: POOL of them that lie in one pool; it alone where it
        lies in two."""
        bounds = np.cumsum([0, *(int(self.order.rows_S[pool].sum()) for pool in self.order.pools(epoch))])
        edges = self._edges
        pool = int(np.searchsorted(bounds, edges[step], side="right")) - 1
        first = int(np.searchsorted(edges, bounds[pool]))
        stop = int(np.searchsorted(edges, bounds[pool + 1], side="right")) - 1
        if step >= stop:
            return step, step + 1
        begin = first + (step - first) // POOL * POOL
        return begin, min(begin + POOL, stop)

    def _sorted(self, epoch: int, first: int, stop: int, world_size: int) -> _Chunk:
        """As `Windows.plan` has its pools: sorted by length, cut into batches of about as many targets, and
        these put in an order of their own."""
        found = self.order.slice(epoch, int(self._edges[first]), int(self._edges[stop]), world_size)
        numbers = self._first[found.shards] + found.rows
        order = np.arange(len(numbers))
        if self.length:
            order = np.argsort(self.index.lengths[numbers], kind="stable")
        counts = self.index.starts[numbers + 1] - self.index.starts[numbers]
        parts = evenly_cut(order, counts, stop - first)
        turns = np.random.default_rng([self.seed, epoch, 1, first]).permutation(len(parts))
        return _Chunk(first, found, numbers, [parts[turn] for turn in turns])

    def _load(self, shard: int) -> tuple[int, Windows]:
        """Its first interaction, and its windows."""
        first, stop = self.index.bounds[shard].tolist()
        acts = _copied(self.train, first, stop)
        return first, Windows(acts, self._wanted(acts), self.length, self.size)

    def _read(
        self, epoch: int, found: Slice, chosen: np.ndarray, rank: int, world_size: int
    ) -> tuple[WindowBatch, Interactions]:
        """The windows at these places, in their order, and their targets."""
        shards, rows = found.shards[chosen], found.rows[chosen]
        held = self._held.of(epoch, found.pools, shards, rank, world_size)
        parts = []
        for shard, (first, windows) in held.items():
            places = np.flatnonzero(shards == shard)
            batch = windows.batch(rows[places])
            parts.append((places, batch, windows.acts.take(batch.targets), first))
        return _joined(parts)


def _joined(
    parts: list[tuple[np.ndarray, WindowBatch, Interactions, int]],
) -> tuple[WindowBatch, Interactions]:
    """parts: the places of some windows in the batch, the windows, their targets, and the row that theirs are
    counted from."""
    if not parts:
        empty = np.empty(0, np.int64)
        return WindowBatch(empty, *(np.empty((0, 0), np.int64),) * 2, empty, empty), Interactions.none()
    longest = max(batch.items.shape[1] for _, batch, _, _ in parts)
    places = np.concatenate([places for places, _, _, _ in parts])
    by_window = np.argsort(places)
    owners, columns, padded = [], [], []
    for at, batch, _, _ in parts:
        short = batch.items.shape[1]
        owner, column = np.divmod(batch.at, short + 1)
        owners.append(at[owner])
        columns.append(column + longest - short)
        front = ((0, 0), (longest - short, 0))
        padded.append((np.pad(batch.items, front), np.pad(batch.kinds, front)))
    owner = np.concatenate(owners)
    by_target = np.argsort(owner, kind="stable")
    items, kinds = (np.concatenate([pair[side] for pair in padded])[by_window] for side in (0, 1))
    users = np.concatenate([batch.users for _, batch, _, _ in parts])[by_window]
    at = (owner * (longest + 1) + np.concatenate(columns))[by_target]
    targets = np.concatenate([first + batch.targets for _, batch, _, first in parts])[by_target]
    columns_of_parts = zip(*(some.columns for _, _, some, _ in parts), strict=True)
    acts = Interactions(*(np.concatenate(column)[by_target] for column in columns_of_parts))
    return WindowBatch(users, items, kinds, at, targets), acts
