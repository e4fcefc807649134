"""Examples of a table that does not fit into memory: read by shard, shuffled within a buffer.

    M rows   S sparse features   F dense features   O labels   n rows of a batch

What `Examples` is for data in memory. Vocabularies, parts and moments come from one pass at the start.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from etalage.features.examples import PARTS, Examples
from etalage.features.shard_buffer import ShardBuffer
from etalage.features.shard_order import MEGABYTE, ShardOrder
from etalage.features.shards import Shards
from etalage.features.table_encoder import FittedTable


@dataclass(frozen=True)
class ExampleStream:
    shards: Shards
    fitted: FittedTable
    buffer: int
    """Bytes of encoded rows that are held at once."""
    seed: int

    @property
    def sparse_names(self) -> tuple[str, ...]:
        return tuple(self.fitted.encoder.vocabularies)

    @property
    def sizes(self) -> tuple[int, ...]:
        """As of Examples."""
        return tuple(len(one) for one in self.fitted.encoder.vocabularies.values())

    @property
    def dense_names(self) -> tuple[str, ...]:
        return self.fitted.encoder.dense_names

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.fitted.encoder.labels

    def described(self) -> Examples:
        """The names and sizes alone, with no row."""
        return Examples(
            np.empty((0, len(self.sparse_names)), np.int32), self.sparse_names, self.sizes,
            np.empty((0, len(self.dense_names)), np.float32), self.dense_names,
            np.empty((0, len(self.label_names)), np.float32), self.label_names, np.empty(0, np.uint8),
        )  # fmt: skip

    def count(self, part: str) -> int:
        """Rows of a part."""
        return int(self.fitted.counts_K3[:, PARTS.index(part)].sum())

    def batch(
        self, epoch: int, start: int, stop: int, rank: int = 0, world_size: int = 1
    ) -> tuple[Examples, np.ndarray, np.ndarray]:
        """Those of the training rows start … stop of the epoch's order that `rank` reads, their (n,) int64
        numbers in the table, and their (n,) places among start … stop. Raises TableDamaged."""
        found = self._buffer.take(epoch, start, stop, rank, world_size)
        taken = found.arrays
        columns = (taken["sparse"], self.sparse_names, self.sizes, taken["dense"], self.dense_names)
        parts = np.zeros(len(taken["rows"]), np.uint8)
        return Examples(*columns, taken["labels"], self.label_names, parts), taken["rows"], found.places

    def close(self) -> None:
        """Let go of what the buffer holds, and of its threads; it can be asked again."""
        self._buffer.close()

    def blocks(self, part: str) -> Iterator[Examples]:
        """The rows of a part, some at a time, in the order of the table. Raises TableDamaged."""
        for shard in np.flatnonzero(self.fitted.counts_K3[:, PARTS.index(part)]):
            for block, _ in self._encoded(int(shard), part):
                yield block

    def whole(self) -> Examples:
        """All rows, in memory."""
        blocks = [block for shard in range(len(self.shards)) for block, _ in self._encoded(shard, None)]
        return Examples.joined(*blocks)

    @property
    def whole_bytes(self) -> int:
        """What all rows take in memory."""
        return self.shards.count * self.fitted.encoder.row_bytes

    def fingerprint(self) -> str:
        """A short hash of what a run learned from, and in which order."""
        digest = hashlib.sha256()
        said = [self.shards.fingerprint, self.fitted.encoder.facts(), self.sizes, self.buffer, self.seed]
        digest.update(json.dumps(said).encode())
        digest.update(self.fitted.counts_K3.tobytes())
        for vocabulary in self.fitted.encoder.vocabularies.values():
            digest.update("\0".join(vocabulary.ids.to_pylist()).encode())
        return digest.hexdigest()[:16]

    def describe(self) -> str:
        """One line for a person."""
        order = self.order
        return (
            f"{self.shards.uri}: {self.shards.count:,} rows in {len(self.shards):,} row groups, "
            f"{self.whole_bytes / MEGABYTE:,.0f} MB encoded: read as a stream, through a buffer of "
            f"{self.buffer / MEGABYTE:,.0f} MB in {len(order.pools(0))} pools"
        )

    @cached_property
    def order(self) -> ShardOrder:
        """Of the training rows."""
        rows = self.fitted.counts_K3[:, 0]
        return ShardOrder(rows, rows * self.fitted.encoder.row_bytes, self.buffer, self.seed)

    @cached_property
    def _buffer(self) -> ShardBuffer:
        return ShardBuffer(self.order, self._load)

    def _load(self, shard: int) -> dict[str, np.ndarray]:
        """The training rows of a shard, filled into arrays that are as large as they have to be."""
        count = int(self.fitted.counts_K3[shard, 0])
        arrays: dict[str, np.ndarray] = {
            "sparse": np.empty((count, len(self.sparse_names)), np.int32),
            "dense": np.empty((count, len(self.dense_names)), np.float32),
            "labels": np.empty((count, len(self.label_names)), np.float32),
            "rows": np.empty(count, np.int64),
        }
        at = 0
        for block, rows in self._encoded(shard, "train"):
            end = at + len(block)
            for name in ("sparse", "dense", "labels"):
                arrays[name][at:end] = getattr(block, name)
            arrays["rows"][at:end] = rows
            at = end
        return arrays

    def _encoded(self, shard: int, part: str | None) -> Iterator[tuple[Examples, np.ndarray]]:
        """Blocks of a shard's rows of a part (None: of all), and their numbers in the table."""
        encoder = self.fitted.encoder
        first = self.shards.shards[shard].first
        for batch in self.shards.batches(shard, encoder.columns, codes=list(encoder.vocabularies)):
            parts = encoder.parts(batch, first)
            rows = np.arange(len(parts)) if part is None else np.flatnonzero(parts == PARTS.index(part))
            if len(rows) < len(parts):
                batch = batch.take(pa.array(rows))
            if len(rows):
                yield encoder.encode(batch, parts[rows]), rows + first
            first += len(parts)

    def __getstate__(self) -> dict[str, Any]:
        kept = ("shards", "fitted", "buffer", "seed")
        return {name: value for name, value in self.__dict__.items() if name in kept}
