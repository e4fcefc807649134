"""Training rows `label, vector, vector` from a file larger than memory: counted, shuffled, cut into batches.

    R rows of the file that can be taken   B rows of a batch   D1, D2 numbers of the two vectors

One pass finds where each row is (16 bytes a row, in a sidecar file if asked for), and which cannot be taken.
A batch is then read from its places alone, as a pure function of (seed, epoch, step).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from etalage.errors import ConfigError, InputUnreadable, TooLittleData
from etalage.features.stream_files import ParquetRows, RowFile
from etalage.features.stream_text import TextRows
from etalage.lake.raw import Refusal

_PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class VectorBatch:
    rows: np.ndarray
    """(B,) int64: which rows of the file these are, of those that can be taken."""
    labels: np.ndarray
    """(B,) float32, 0 to 1."""
    first: np.ndarray
    """(B, D1) float32."""
    second: np.ndarray
    """(B, D2) float32."""

    def __len__(self) -> int:
        return len(self.labels)


class VectorStream:
    """Batches of one file. Safe to share between threads.

    file: text of one row a line, numbers by comma, semicolon or blanks, perhaps with a header; or Parquet of
    three columns, a number and two lists of numbers. sizes: (D1, D2); None: two equal halves of the first
    row. sidecar: where to keep the places of the rows between runs; it is made again when the file changed.

    Text is shuffled as a whole. Parquet is read by row groups, so `pool` of them are in memory and shuffled
    together, and their order changes with each epoch; write row groups of some thousands of rows.

    Raises InputUnreadable: not such a file. TooLittleData: no row that can be taken.
    """

    def __init__(
        self,
        file: Path,
        batch: int,
        seed: int = 0,
        *,
        sizes: tuple[int, int] | None = None,
        sidecar: Path | None = None,
        shuffle: bool = True,
        pool: int = 8,
    ) -> None:
        if batch < 1:
            raise ConfigError(f"batch {batch}: a batch has 1 row or more")
        self._rows: RowFile = (
            ParquetRows(file, sizes, pool) if file.suffix in _PARQUET else TextRows(file, sizes, sidecar)
        )
        if not self._rows.count:
            why = f"; line {self.refused[0].line}: {self.refused[0].reason}" if self.refused else ""
            raise TooLittleData(f"{file}: no row that can be taken{why}")
        self._given: dict[str, Any] = {
            "file": file, "batch": batch, "seed": seed, "sizes": self._rows.sizes, "sidecar": sidecar,
            "shuffle": shuffle, "pool": pool,
        }  # fmt: skip
        self._batch, self._seed, self._shuffle = batch, seed, shuffle
        self._order: tuple[int, np.ndarray] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the file anew: an open one is nobody else's."""
        return _reopened, (self._given, self.count)

    @property
    def count(self) -> int:
        """R, known before the first batch."""
        return self._rows.count

    @property
    def sizes(self) -> tuple[int, int]:
        """(D1, D2)."""
        return self._rows.sizes

    @property
    def refused(self) -> Sequence[Refusal]:
        """The rows that were left out: line (of Parquet: row number from 1) and reason; the first 1,000."""
        return self._rows.refused

    @property
    def refused_count(self) -> int:
        return self._rows.refused_count

    @property
    def steps(self) -> int:
        """Batches an epoch, the last one perhaps smaller: every row is read once."""
        return -(-self.count // self._batch)

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> VectorBatch:
        """What `rank` of `world_size` readers reads of batch `step` of `steps`; of a small last one that may
        be nothing. Raises IndexError; InputUnreadable: the file changed meanwhile."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of {self.steps}")
        rows = self._ordered(epoch)[step * self._batch : (step + 1) * self._batch][rank::world_size]
        if not len(rows):
            first, second = self.sizes
            return VectorBatch(
                rows, *(np.empty(shape, np.float32) for shape in ((0,), (0, first), (0, second)))
            )
        return VectorBatch(rows, *self._rows.read(rows))

    def _ordered(self, epoch: int) -> np.ndarray:
        """(R,) int64: the rows in the order of an epoch. Kept for the epoch at hand."""
        kept = self._order
        if kept is None or kept[0] != epoch:
            generator = np.random.default_rng([self._seed, epoch])
            order = self._rows.shuffled(generator) if self._shuffle else np.arange(self.count)
            kept = self._order = (epoch, order)
        return kept[1]


def _reopened(given: dict[str, Any], count: int) -> VectorStream:
    stream = VectorStream(**given)
    if stream.count != count:
        raise InputUnreadable(
            f"{given['file']}: has {stream.count:,} rows, and had {count:,} a moment ago; begin again"
        )
    return stream
