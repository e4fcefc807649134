"""The shop's behaviour that does not fit into memory, as a model learns from it.

M interactions   N items   U shoppers
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from etalage.features import behaviour_files
from etalage.features.behaviour import BehaviourSet
from etalage.features.encoder import Features
from etalage.features.shard_order import MEGABYTE
from etalage.features.window_stream import Wanted, WindowStream

ACT_BYTES = 40
"""Of an interaction in memory."""
ACTS_AT_ONCE = 1 << 16
"""Of the shoppers of a block."""


@dataclass(frozen=True)
class BehaviourStream:
    """As a BehaviourSet, for models that read its training part as a stream. Another process opens the files
    anew."""

    data: BehaviourSet
    """Its acts lie in files of `folder`."""
    folder: Path
    buffer: int
    """Bytes of interactions and their windows that are held at once."""
    seed: int
    said: str = field(default="interactions", compare=False)
    """What is streamed, for a person."""

    @classmethod
    def open(cls, folder: Path, buffer: int, seed: int, said: str = "interactions") -> "BehaviourStream":
        """What was saved to `folder`. Raises TableDamaged."""
        return cls(behaviour_files.open_mapped(folder, acts="r"), folder, buffer, seed, said)

    def __reduce__(self) -> tuple[Any, ...]:
        data = self.data
        given = (self.folder, self.buffer, self.seed, self.said, data.item_features, data.feature_sources)
        return _reopened, given

    def with_data(self, data: BehaviourSet) -> "BehaviourStream":
        """With other features of items; the acts are the same."""
        return replace(self, data=data)

    def fingerprint(self) -> str:
        """A short hash of what a run learned from: of the set, as it would be in memory."""
        return self.data.fingerprint()

    @property
    def whole_bytes(self) -> int:
        """What the acts take in memory."""
        parts = (*self.data.parts.values(), self.data.held)
        return ACT_BYTES * sum(map(len, parts))

    def describe(self) -> str:
        """One line for a person."""
        count = sum(map(len, self.data.parts.values()))
        return (
            f"{self.said}: {count:,} that count, {self.whole_bytes / MEGABYTE:,.0f} MB as arrays: read as a "
            f"stream, through a buffer of {self.buffer / MEGABYTE:,.0f} MB, from files in {self.folder}"
        )

    def windows(self, wanted: Wanted, mark: str, length: int, size: int) -> WindowStream:
        """The training part in windows; see WindowStream."""
        sides = (len(self.data.items), len(self.data.users))
        train = self.data.part("train")
        return WindowStream(train, wanted, mark, length, size, sides, self.folder, self.buffer, self.seed)

    def blocks(self, part: str) -> Iterator[BehaviourSet]:
        """The shoppers of a part, some at a time, with all that they did."""
        users = self.data.part(part).users
        every = (*self.data.parts.values(), self.data.held)
        start = 0
        while start < len(users):
            some = np.unique(users[start : start + ACTS_AT_ONCE])
            counts = [
                acts.users.searchsorted(some, side="right") - acts.users.searchsorted(some) for acts in every
            ]
            reached = np.cumsum(np.sum(counts, axis=0))
            some = some[: max(1, int(np.searchsorted(reached, ACTS_AT_ONCE)))]
            yield self.data.of_shoppers(some)
            start = int(np.searchsorted(users, some[-1], side="right"))


def _reopened(
    folder: Path, buffer: int, seed: int, said: str, features: Features, sources: dict[str, str]
) -> BehaviourStream:
    found = BehaviourStream.open(folder, buffer, seed, said)
    return found.with_data(replace(found.data, item_features=features, feature_sources=sources))
