"""How often a row has occurred before, of rows that come in chunks: 8 bytes a row are kept."""

from collections.abc import Sequence

import numpy as np


class Occurrences:
    """Numbers equal rows in the order in which they come: 0 for the first of them, then 1, 2, …

    Most rows are unlike all others, so that of each only half of its hash is kept, in sorted runs of which
    each is longer than the next. Two rows that share that half by chance are numbered as if they were equal:
    among 10⁸ rows that happens once in three thousand files, and costs nothing.
    """

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []
        self._counts: dict[int, int] = {}
        """Of those that came more than once."""

    def number(self, digests: Sequence[bytes]) -> list[int]:
        """(N,) for each the number of those before it that are equal to it."""
        keys_N = np.frombuffer(b"".join(one[:8] for one in digests), dtype="<u8")
        distinct, counts = np.unique(keys_N, return_counts=True)
        before = np.zeros(len(distinct), dtype=bool)
        for run in self._runs:
            at = np.searchsorted(run, distinct)
            before |= run[np.minimum(at, len(run) - 1)] == distinct
        numbers = np.zeros(len(keys_N), dtype=np.int64)
        for key in distinct[before].tolist():
            self._counts.setdefault(key, 1)
        again = before | (counts > 1)
        for n in np.flatnonzero(np.isin(keys_N, distinct[again])).tolist():
            key = int(keys_N[n])
            numbers[n] = self._counts.get(key, 0)
            self._counts[key] = int(numbers[n]) + 1
        self._keep(distinct[~before])
        return [int(one) for one in numbers]

    def _keep(self, fresh: np.ndarray) -> None:
        if not len(fresh):
            return
        self._runs.append(fresh)
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            last, other = self._runs.pop(), self._runs.pop()
            self._runs.append(np.sort(np.concatenate([other, last]), kind="stable"))
