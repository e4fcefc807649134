"""A table of interactions divided by shopper into blocks, each of which fits into memory.

    U shoppers   P blocks

What an act means may hang on other acts of its shopper, and on no act of anybody else. A block has all acts
of its shoppers; blocks are in the order of shoppers' ids, so that one behind the other they are sorted by
them.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.features.counted_acts import READ, with_ids
from etalage.features.history import codes_of, dictionary_of
from etalage.features.vocabulary import Vocabulary

Read = Callable[[Sequence[str]], Iterable[pa.RecordBatch]]
"""Columns → the table's rows, as a stream."""
MOST_BLOCKS = 400
"""So many files are open at once."""
_COMPACT_FROM = 1 << 18


@dataclass(frozen=True)
class Census:
    """Who and what a table of interactions is about, and how much there is of it."""

    read: int
    """Rows of the table."""
    users: Vocabulary
    """(U,) whoever acts on anything."""
    acts_U: np.ndarray
    """(U,) int64 acts of each."""
    items: Vocabulary
    kinds: tuple[str, ...]
    """In order; an act may have none."""


def census(read: Read) -> Census:
    """One pass over the table. What it holds in memory is each id once."""
    rows, counts = 0, {name: _Counts() for name in ("user_id", "item_id", "kind")}
    for batch in read(tuple(counts)):
        rows += batch.num_rows
        acts = with_ids(pa.Table.from_batches([batch]))
        for name, one in counts.items():
            one.add(acts[name])
    users, acts_U = counts["user_id"].found()
    kinds, _ = counts["kind"].found()
    return Census(
        rows, Vocabulary(users), acts_U, Vocabulary(counts["item_id"].found()[0]), tuple(kinds.to_pylist())
    )


class _Counts:
    """How often each id comes."""

    def __init__(self) -> None:
        self._parts: list[pa.Table] = []

    def add(self, ids: pa.ChunkedArray) -> None:
        counted = pc.value_counts(ids.combine_chunks().drop_null())
        self._parts.append(
            pa.table({"id": counted.field("values"), "n": counted.field("counts").cast(pa.int64())})
        )
        if sum(part.num_rows for part in self._parts[1:]) > max(_COMPACT_FROM, self._parts[0].num_rows):
            self._parts = [self._summed()]

    def found(self) -> tuple[pa.Array, np.ndarray]:
        """The ids in their order, and how often each comes."""
        if not self._parts:
            return pa.array([], pa.string()), np.empty(0, np.int64)
        whole = self._summed()
        whole = whole.take(pc.sort_indices(whole["id"]))
        return whole["id"].combine_chunks(), whole["n"].to_numpy()

    def _summed(self) -> pa.Table:
        grouped = pa.concat_tables(self._parts).group_by("id", use_threads=False)
        return grouped.aggregate([("n", "sum")]).rename_columns(["id", "n"])


class ShopperBlocks:
    """The blocks of a table, as files in `folder`. rows: acts of a block, about; those of one shopper are
    never parted."""

    def __init__(self, read: Read, known: Census, folder: Path, rows: int) -> None:
        self._folder, self._users = folder, known.users.ids
        ends = np.cumsum(known.acts_U)
        total = int(ends[-1]) if len(ends) else 0
        count = min(MOST_BLOCKS, max(1, -(-total // rows)))
        number = (ends - 1) * count // max(1, total)
        self._first = np.flatnonzero(np.diff(number, prepend=-1))
        """(P,) where each block's shoppers begin."""
        self._write(read)

    def __len__(self) -> int:
        """P."""
        return len(self._first)

    def users(self, block: int) -> tuple[int, Vocabulary]:
        """How many shoppers stand before those of a block, and the block's own."""
        first = int(self._first[block])
        stop = int(self._first[block + 1]) if block + 1 < len(self) else len(self._users)
        return first, Vocabulary(self._users.slice(first, stop - first))

    def acts(self, block: int) -> pa.Table:
        """All acts of a block's shoppers, with the columns READ, in the order of the table."""
        with pa.OSFile(str(self._file(block))) as source:
            found: pa.Table = pa.ipc.open_stream(source).read_all()
        return found

    def remove(self) -> None:
        """Remove the files."""
        for block in range(len(self)):
            self._file(block).unlink()

    def _file(self, block: int) -> Path:
        return self._folder / f"block-{block:04d}.arrows"

    def _write(self, read: Read) -> None:
        schema = pa.schema(list(READ.items()))
        names = [self._users[int(first)].as_py() for first in self._first]
        with ExitStack() as opened:
            files = [opened.enter_context(pa.OSFile(str(self._file(b)), "wb")) for b in range(len(self))]
            sinks = [opened.enter_context(pa.ipc.new_stream(file, schema)) for file in files]
            for batch in read(tuple(READ)):
                acts = with_ids(pa.Table.from_batches([batch]))
                if not acts.num_rows:
                    continue
                ids = dictionary_of(acts["user_id"])
                of_id = np.array([bisect_right(names, one) - 1 for one in ids.dictionary.to_pylist()])
                block = of_id[codes_of(ids)]
                acts = acts.take(pa.array(np.argsort(block, kind="stable")))
                ends = np.cumsum(np.bincount(block, minlength=len(self)))
                for one in np.unique(block):
                    begin = int(ends[one - 1]) if one else 0
                    sinks[one].write_table(acts.slice(begin, int(ends[one]) - begin).combine_chunks())
