"""Rows `label, vector, vector` of a Parquet file, and what every such file can do.

R rows that can be taken   B rows asked for   D1, D2 numbers of the two vectors
"""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etalage.errors import InputUnreadable
from etalage.lake.raw import Refusal

Numbers = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(B,), (B, D1), (B, D2) float32."""
_KEPT_REFUSALS = 1000


class RowFile(Protocol):
    count: int
    sizes: tuple[int, int]
    refused: list[Refusal]
    refused_count: int

    def shuffled(self, generator: np.random.Generator) -> np.ndarray:
        """(R,) int64: every row once."""
        ...

    def read(self, rows: np.ndarray) -> Numbers:
        """The numbers of rows (B,), in their order."""
        ...


class Refusing:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.refused: list[Refusal] = []
        self.refused_count = 0

    def refuse(self, line: int, reason: str, row: str | None = None) -> None:
        self.refused_count += 1
        if len(self.refused) < _KEPT_REFUSALS:
            self.refused.append(Refusal(str(self.file), line, reason, row))


class ParquetRows(Refusing):
    """A number and two lists of numbers; read by row groups, of which the last `pool` are kept in memory."""

    def __init__(self, file: Path, sizes: tuple[int, int] | None, pool: int) -> None:
        super().__init__(file)
        try:
            self._parquet = pq.ParquetFile(file)
        except (pa.ArrowException, OSError) as error:
            first = str(error).splitlines()[0]
            raise InputUnreadable(f"{file}: not a Parquet file that can be read: {first}") from error
        schema = self._parquet.schema_arrow
        lists = [_is_list(field.type) for field in schema]
        if lists != [False, True, True]:
            raise InputUnreadable(
                f"{file}: expected three columns, a label and two lists of numbers; it has "
                f"{', '.join(f'{field.name} ({field.type})' for field in schema)}"
            )
        self._lock = threading.Lock()
        self._pool = max(1, pool)
        self._groups: OrderedDict[int, Numbers] = OrderedDict()
        self.sizes = sizes or self._sizes()
        taken = []
        row = 0
        for number in range(self._parquet.num_row_groups):
            good = self._judged(number, row)
            row += len(good)
            taken.append(np.flatnonzero(good).astype(np.int32))
        self._taken = np.concatenate([*taken, np.empty(0, np.int32)])
        """(R,): the place of each row in its group."""
        self._bounds = np.cumsum([0, *map(len, taken)])
        """The rows of group g are bounds[g] … bounds[g + 1]."""
        self.count = len(self._taken)

    def shuffled(self, generator: np.random.Generator) -> np.ndarray:
        groups = generator.permutation(len(self._bounds) - 1)
        # A pool may be split by a batch, which then needs groups of two pools: read again, never wrong.
        pools = [groups[n : n + self._pool] for n in range(0, len(groups), self._pool)]
        rows = [
            np.concatenate([np.arange(self._bounds[g], self._bounds[g + 1]) for g in one]) for one in pools
        ]
        return np.concatenate([generator.permutation(one) for one in rows])

    def read(self, rows: np.ndarray) -> Numbers:
        owners = np.searchsorted(self._bounds, rows, side="right") - 1
        numbers = tuple(np.empty((len(rows), *shape), np.float32) for shape in self._shapes)
        for group in np.unique(owners):
            mine = owners == group
            for into, column in zip(numbers, self._group(int(group)), strict=True):
                into[mine] = column[self._taken[rows[mine]]]
        return numbers[0], numbers[1], numbers[2]

    @property
    def _shapes(self) -> tuple[tuple[int, ...], ...]:
        return (), (self.sizes[0],), (self.sizes[1],)

    def _sizes(self) -> tuple[int, int]:
        for number in range(self._parquet.num_row_groups):
            table = self._parquet.read_row_group(number, use_threads=False)
            first, second = (pc.list_value_length(column).drop_null() for column in table.columns[1:])
            if len(first) and len(second):
                return first[0].as_py(), second[0].as_py()
        return 0, 0

    def _judged(self, group: int, row: int) -> np.ndarray:
        """(rows of the group,) bool: can be taken."""
        columns = self._group(group)
        good = np.ones(len(columns[0]), bool)
        for name, numbers in zip(("label", "first vector", "second vector"), columns, strict=True):
            wrong = ~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1)
            if name == "label":
                wrong |= (numbers < 0) | (numbers > 1)
            for at in np.flatnonzero(wrong & good):
                asked = "a number from 0 to 1" if name == "label" else f"{numbers.shape[1]} finite numbers"
                self.refuse(row + int(at) + 1, f"the {name} is not {asked}")
            good &= ~wrong
        return good

    def _group(self, group: int) -> Numbers:
        with self._lock:
            if group in self._groups:
                self._groups.move_to_end(group)
                return self._groups[group]
            try:
                table = self._parquet.read_row_group(group, use_threads=False)
            except (pa.ArrowException, OSError) as error:
                first = str(error).splitlines()[0]
                raise InputUnreadable(f"{self.file}: broken in row group {group}: {first}") from error
            label = table.column(0).cast(pa.float32()).to_numpy().astype(np.float32)
            found = label, *(_lists(table.column(n), self.sizes[n - 1]) for n in (1, 2))
            self._groups[group] = found
            while len(self._groups) > self._pool:
                self._groups.popitem(last=False)
            return found


def _lists(column: pa.ChunkedArray, size: int) -> np.ndarray:
    """(R, D) float32; NaN in the rows of another length, as they cannot be taken."""
    numbers = np.full((len(column), size), np.nan, np.float32)
    right = pc.fill_null(pc.equal(pc.list_value_length(column), size), False)
    flat = pc.list_flatten(column.filter(right)).cast(pa.float32()).to_numpy()
    numbers[np.asarray(right)] = flat.reshape(-1, size) if size else 0
    return numbers


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
