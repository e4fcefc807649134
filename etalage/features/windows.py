"""Histories cut into windows, each with what came next: one training row teaches at every position.

    P positive acts   R targets   W windows   B windows of a batch   L positive acts of a window
    T targets of a batch

A target is one interaction to be predicted; what is known of its user then are the positives before its
moment: the rest of a basket does not tell of it. An explicit negative is a target, and never part of a
history.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from etalage.errors import TooLittleData
from etalage.features.behaviour import NEVER, Interactions, ranges

POOL = 20
"""Batches whose windows are sorted by length together, so that short ones are not padded to long ones."""


@dataclass(frozen=True)
class WindowBatch:
    users: np.ndarray
    """(B,) int64 user rows."""
    items: np.ndarray
    """(B, L) int64 positive acts, newest last, padded in front with 0; L: the longest of the batch."""
    kinds: np.ndarray
    """(B, L) int64."""
    at: np.ndarray
    """(T,) int64: target t is asked after the first `at % (L + 1)` columns of window `at // (L + 1)`."""
    targets: np.ndarray
    """(T,) int64 rows into the interactions that the windows were made of."""


def evenly_cut(order: np.ndarray, counts: np.ndarray, steps: int) -> list[np.ndarray]:
    """`order`, which names windows, in `steps` runs of about as many targets. counts: of each window."""
    reached = np.cumsum(counts[order])
    return np.split(order, np.searchsorted(reached, reached[-1] * np.arange(1, steps) / steps, side="right"))


class Windows:
    """`acts` cut into windows of up to `length` positive acts; 0: no history, one target a window.

    size: targets of a batch, about. targets: (M,) bool, which interactions are to be predicted. A window
    reaches back half its length beyond its first target, so that nobody is asked without a past that
    they have. Raises TooLittleData: no target at all.
    """

    def __init__(
        self, acts: Interactions, targets: np.ndarray, length: int, size: int, seed: int = 0
    ) -> None:
        self.acts, self.length, self.size, self.seed = acts, length, size, seed
        self.rows = np.flatnonzero(targets)
        if len(self.rows) == 0:
            raise TooLittleData("no interaction to learn from")
        positive = acts.labels > 0
        self.positives = acts.take(positive)
        count = np.concatenate([[0], np.cumsum(positive)])
        begins = np.searchsorted(acts.users, acts.users[self.rows])
        # How many positives stand in `acts` ahead of its user, and how many of its user before its moment.
        self._first = count[begins]
        self._before = count[_moments(acts)[self.rows]] - self._first
        self._cut()

    def _cut(self) -> None:
        if self.length == 0:
            self._starts = np.arange(len(self.rows) + 1)
            self._from = self._to = np.zeros(len(self.rows), np.int64)
            return
        stride = max(1, self.length // 2)
        window = np.maximum(0, -(-self._before // stride) - 1)
        users = self.acts.users[self.rows]
        fresh = (np.diff(users, prepend=-1) != 0) | (np.diff(window, prepend=-1) != 0)
        begins = np.flatnonzero(fresh)
        self._starts = np.append(begins, len(self.rows))
        ends = self._starts[1:] - 1
        self._from = self._first[begins] + np.maximum(0, (window[begins] + 1) * stride - self.length)
        self._to = self._first[begins] + self._before[ends]

    def __len__(self) -> int:
        """W."""
        return len(self._starts) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """(W,) positive acts of each window."""
        return self._to - self._from

    @cached_property
    def steps(self) -> int:
        """Batches an epoch, the same in every epoch."""
        return max(1, round(len(self.rows) / self.size))

    def plan(self, epoch: int) -> list[np.ndarray]:
        """`steps` arrays of windows; each window is in one of them. A pure function of (seed, epoch)."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self))
        if self.length:
            pools = np.array_split(order, max(1, self.steps // POOL))
            order = np.concatenate([pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools])
        parts = evenly_cut(order, self.counts, self.steps)
        return [parts[place] for place in rng.permutation(self.steps)]

    def targets(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(T,) which of these windows each target is asked in, and (T,) rows into the interactions."""
        owner, target = self._targets(windows)
        return owner, self.rows[target]

    def _targets(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts = self._starts[windows + 1] - self._starts[windows]
        owner = np.repeat(np.arange(len(windows)), counts)
        return owner, ranges(self._starts[windows], counts)

    @property
    def nbytes(self) -> int:
        """What they take in memory, their interactions included."""
        kept = [self.rows, self._first, self._before, self._starts, self._from, self._to]
        for acts in (self.acts, self.positives):
            kept += acts.columns
        return sum(array.nbytes for array in kept)

    @property
    def counts(self) -> np.ndarray:
        """(W,) int64 targets of each window."""
        return np.diff(self._starts)

    def batch(self, windows: np.ndarray) -> WindowBatch:
        """These windows, cropped to the longest of them."""
        begin, end = self._from[windows], self._to[windows]
        length = int((end - begin).max(initial=0))
        back = end[:, None] - np.arange(length, 0, -1)[None, :]
        inside = back >= begin[:, None]
        place = np.where(inside, back, 0)
        items, kinds = (
            np.where(inside, c[place], 0) if length else np.zeros((len(windows), 0), np.int64)
            for c in (self.positives.items, self.positives.kinds)
        )
        owner, target = self._targets(windows)
        column = np.zeros(len(target), np.int64)
        if self.length:
            column = length - (end[owner] - (self._first[target] + self._before[target]))
        users = self.acts.users[self.rows[self._starts[windows]]]
        return WindowBatch(users, items, kinds, owner * (length + 1) + column, self.rows[target])


@dataclass(frozen=True)
class DrawnWindows:
    """One rank's share of a batch."""

    numbers: np.ndarray
    """(B,) int64 its windows, among all."""
    batch: WindowBatch
    acts: Interactions
    """The T targets."""
    every_row: np.ndarray
    """(R,) int64 rows of the targets of all ranks, in the order of the batch."""
    every_item: np.ndarray
    """(R,) int64 their items."""
    mine: np.ndarray
    """(R,) bool: which of them are this rank's."""


class WindowPlan:
    """The batches of windows over interactions in memory. items, users: rows of the vocabularies."""

    def __init__(self, windows: Windows, items: int, users: int) -> None:
        self.windows = windows
        acts = windows.acts
        self.seen = np.bincount(acts.items[windows.rows], minlength=items)
        """(N + 1,) int64: how often each item is a target."""
        self.known_items = np.bincount(acts.items, minlength=items) > 0
        """(N + 1,) bool: stands in the interactions."""
        self.known_users = np.bincount(acts.users, minlength=users) > 0
        self._plan: tuple[int, list[np.ndarray]] = (-1, [])

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return self.windows.steps

    def drawn(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> DrawnWindows:
        """What a rank has of a batch; the ranks take turns by window."""
        if self._plan[0] != epoch:
            self._plan = (epoch, self.windows.plan(epoch))
        every = self._plan[1][step % self.steps]
        chosen = every[rank::world_size]
        batch, acts = self.windows.batch(chosen), self.windows.acts
        owners, rows = self.windows.targets(every)
        mine = owners % world_size == rank
        return DrawnWindows(chosen, batch, acts.take(batch.targets), rows, acts.items[rows], mine)


def _moments(acts: Interactions) -> np.ndarray:
    """(M,) the first interaction of the same user and time; without a time each is a moment of its own."""
    fresh = np.ones(len(acts), bool)
    same = (acts.users[1:] == acts.users[:-1]) & (acts.times[1:] == acts.times[:-1])
    fresh[1:] = ~same | (acts.times[1:] == NEVER)
    return np.maximum.accumulate(np.where(fresh, np.arange(len(acts)), 0))
