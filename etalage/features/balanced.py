"""Class-balanced batches that cover the data (S0.6).

The plan of an epoch is a pure function of (seed, epoch), and so a batch is one of
(seed, epoch, step): a resumed run needs no loader state, and the ranks of a data-parallel run each take some
of its rows.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from etalage.errors import TooLittleData


@dataclass(frozen=True)
class BalancedBatches:
    """`classes` different classes a batch, `examples` rows of each.

    labels_N: (N,) int64 class of every row; classes may be of any size, from one row up. Every row is
    in at least one batch of every epoch; a class whose size is no multiple of `examples` has its last
    group filled up with rows of its own, and small classes come round again to fill the last batches.

    Raises TooLittleData: fewer than two classes.
    """

    labels_N: np.ndarray
    classes: int
    examples: int
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self._rows_of) < 2:
            raise TooLittleData(
                f"{len(self._rows_of)} class with a photo; at least 2 are needed to learn a difference"
            )

    @cached_property
    def _rows_of(self) -> list[np.ndarray]:
        order = np.argsort(self.labels_N, kind="stable")
        ends = np.flatnonzero(np.diff(self.labels_N[order])) + 1
        return [rows for rows in np.split(order, ends) if len(rows)]

    @property
    def classes_per_batch(self) -> int:
        return min(self.classes, len(self._rows_of))

    @cached_property
    def steps(self) -> int:
        """Batches an epoch: the same in every epoch."""
        groups = [-(-len(rows) // self.examples) for rows in self._rows_of]
        return max(-(-sum(groups) // self.classes_per_batch), max(groups))

    def epoch(self, epoch: int) -> np.ndarray:
        """(steps, classes × examples) int64 rows of every batch of one epoch."""
        rng = np.random.default_rng([self.seed, epoch])
        groups_of = [self._groups(rows, rng) for rows in self._rows_of]
        remaining = np.array([len(groups) for groups in groups_of])
        batches = np.empty((self.steps, self.classes_per_batch, self.examples), dtype=np.int64)
        for step in range(self.steps):
            # Largest remainder first is what makes `steps` batches enough; the draw breaks ties.
            order = np.lexsort((rng.random(len(remaining)), -remaining))[: self.classes_per_batch]
            for place, chosen in enumerate(order):
                if remaining[chosen]:
                    remaining[chosen] -= 1
                    batches[step, place] = groups_of[chosen][remaining[chosen]]
                else:
                    again = rng.integers(len(groups_of[chosen]))
                    batches[step, place] = groups_of[chosen][again]
        return rng.permuted(batches.reshape(self.steps, -1), axis=1)

    def _groups(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        shuffled = rng.permutation(rows)
        short = -len(shuffled) % self.examples
        filled = np.concatenate([shuffled, np.resize(shuffled, short)]) if short else shuffled
        return filled.reshape(-1, self.examples)
