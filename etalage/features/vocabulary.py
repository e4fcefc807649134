"""ids ↔ rows. Row 0 stands for every id that is not known; known ids have rows 1 … N.

No two ids share a row.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.errors import ExportDamaged

UNKNOWN = 0
Ids: TypeAlias = Sequence[str | None] | Any
"""A sequence of text, or an Arrow array of it."""


class Vocabulary:
    """Unique ids; the id at position n has row n + 1. Raises ValueError for an id given twice or null."""

    def __init__(self, ids: Ids) -> None:
        self._ids = _flat(ids)
        if self._ids.null_count:
            raise ValueError("an id is null")
        if len(pc.unique(self._ids)) != len(self._ids):
            raise ValueError("an id is given twice")

    @classmethod
    def fit(cls, ids: Ids, min_count: int = 1) -> "Vocabulary":
        """The ids that occur at least `min_count` times, sorted; nulls are passed over."""
        counted = pc.value_counts(_flat(ids).drop_null())
        kept = counted.field("values").filter(pc.greater_equal(counted.field("counts"), min_count))
        return cls(kept.take(pc.sort_indices(kept)))

    def __len__(self) -> int:
        """Rows, the unknown one included: N + 1."""
        return len(self._ids) + 1

    @property
    def ids(self) -> pa.Array:
        """(N,) ids of the rows 1 … N, in their order."""
        return self._ids

    def rows(self, ids: Ids) -> np.ndarray:
        """(M,) int64 rows of M ids; 0 where an id is null or not known."""
        found = pc.index_in(_flat(ids), value_set=self._ids, skip_nulls=True)
        return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int64) + 1

    def row(self, id: str | None) -> int:
        """The row of one id, 0 when it is not known. For single questions: the first call builds a dict."""
        return self._row_of.get(id, UNKNOWN) if id is not None else UNKNOWN

    def id(self, row: int) -> str:
        """The id of a row from 1 to N. Raises IndexError for any other, row 0 above all."""
        if not 1 <= row <= len(self._ids):
            raise IndexError(f"row {row} has no id; rows 1 to {len(self._ids)} have")
        found: str = self._ids[row - 1].as_py()
        return found

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self._ids.to_pylist(), start=1)}

    def save(self, file: Path) -> None:
        """Write the ids as one Arrow file."""
        table = pa.table({"id": self._ids})
        with pa.ipc.new_file(str(file), table.schema) as sink:
            sink.write_table(table, max_chunksize=max(1, table.num_rows))

    @classmethod
    def open(cls, file: Path) -> "Vocabulary":
        """Raises ExportDamaged: missing, unreadable, not a vocabulary."""
        try:
            with pa.memory_map(str(file)) as source:
                table = pa.ipc.open_file(source).read_all()
            return cls(table["id"])
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise ExportDamaged(f"{file}: not a vocabulary ({error}); export the model again") from error


def _flat(ids: Ids) -> pa.Array:
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    if isinstance(ids, pa.ChunkedArray):  # no chunk at all
        ids = pa.array([], pa.string())
    if isinstance(ids, pa.Array):
        return ids if ids.type == pa.string() else ids.cast(pa.string())
    return pa.array(list(ids), pa.string())
