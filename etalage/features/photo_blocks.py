"""Loops over photos, block by block: in this process, or on the workers of an engine where that pays.

A block is some photos, as files or as pixels; the work on it (decode, embed) is a function of importable
code and paths, so that any worker can do it. Results come in the blocks' order, whoever made them.

    n photos of a block   g of them that could be opened
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from etalage.engine.worth import BlockLoop, Cost, timed
from etalage.features.photo import PhotoEncoder
from etalage.lake.spool_folder import full_disk, own_folder

BLOCK_PHOTOS = 256
"""Photos of a block: the batch that networks look at, and enough to be worth its way to a worker."""
BLOCK_BYTES = 2**24
"""Of pixels that come back from a worker at once, where pixels are the result."""
K = TypeVar("K")
Given = Sequence[bytes] | np.ndarray
"""The photos of a block: n files, or (n, H, W, C) uint8."""


@dataclass(frozen=True)
class Looked:
    """What came of the photos of a block."""

    values: np.ndarray
    """(g, …) a row for each that could be opened."""
    good: np.ndarray
    """(g,) int64 which of the block's photos they are, rising."""
    refused: dict[int, str]
    """Which of the block's photos could not be opened → why."""


Work = Callable[[Given], Looked]


@dataclass(frozen=True)
class Decode:
    """Photo files → (g, H, W, C) uint8."""

    encoder: PhotoEncoder

    def __call__(self, photos: Given) -> Looked:
        assert not isinstance(photos, np.ndarray)
        return Looked(*self.encoder.decode_some(photos))

    @property
    def block(self) -> int:
        """Photos of a block whose pixels are at most BLOCK_BYTES."""
        pixels = self.encoder.size**2 * self.encoder.channels
        return min(BLOCK_PHOTOS, max(1, BLOCK_BYTES // pixels))


class PhotoLoop(BlockLoop):
    """Where loops over photos run: blocks on their way to a worker lie in the spool."""

    def run(
        self, work: Work, blocks: Iterable[tuple[K, Given]], count: int, here: Work | None = None
    ) -> Iterator[tuple[K, Looked]]:
        """`work` on every block → what each block is called, and what came of it, in the blocks' order.

        work: must pickle. here: the same for this process, where it has opened already what `work` would
        open. count: photos of all blocks together, or somewhat more. Blocks are read as they are needed, but
        some ahead where workers are busy. Raises what `work` raises; ShardFailed: a worker was lost again and
        again; DataError: no space.
        """
        coming, left, done = iter(blocks), count, 0
        cost: Cost | None = None
        while not self.pays(cost, left):
            block = next(coming, None)
            if block is None:
                return
            key, given = block
            looked, spent = timed(partial(here or work, given), max(len(given), 1))
            left, done = left - len(given), done + 1
            cost = spent if done >= self.measured else None
            yield key, looked
        yield from self._by_workers(work, coming)

    def _by_workers(self, work: Work, blocks: Iterator[tuple[K, Given]]) -> Iterator[tuple[K, Looked]]:
        assert self.spool is not None
        out: deque[tuple[K, Path]] = deque()
        with own_folder(self.spool) as folder:

            def shards() -> Iterator[Path]:
                for number, (key, given) in enumerate(blocks):
                    with full_disk(folder):
                        file = _written(folder / f"{number:08d}", given)
                    out.append((key, file))
                    yield file

            for looked in self.engine.map(partial(_look, work), shards(), self.workers):
                key, file = out.popleft()
                file.unlink()
                yield key, looked


def pixel_blocks(pixels_NHWC: np.ndarray, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """These (n,) rows, and their pixels, block by block."""
    for start in range(0, len(rows), BLOCK_PHOTOS):
        some = rows[start : start + BLOCK_PHOTOS]
        yield some, pixels_NHWC[some]


def wanted_blocks(
    batches: Iterable[pa.RecordBatch], wanted: set[str], count: int
) -> Iterator[tuple[list[str], list[bytes]]]:
    """The `wanted` files among (sha256, bytes), `count` at a time, each once, as they stream by.

    Those that were found are taken out of `wanted`; the stream is left as soon as it is empty.
    """
    some: dict[str, bytes] = {}
    for batch in batches if wanted else ():
        for place, sha256 in enumerate(batch["sha256"].to_pylist()):
            if sha256 in wanted and batch["bytes"][place].is_valid:
                wanted.remove(sha256)
                some[sha256] = batch["bytes"][place].as_py()
            if len(some) == count:
                yield list(some), list(some.values())
                some = {}
        if not wanted:
            break
    if some:
        yield list(some), list(some.values())


# -- a block on its way to a worker ------------------------------------------------------------


def _written(path: Path, given: Given) -> Path:
    if isinstance(given, np.ndarray):
        file = path.with_suffix(".npy")
        np.save(file, given)
        return file
    file = path.with_suffix(".arrow")
    table = pa.table({"photo": pa.array(given, pa.large_binary())})
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as opened:
        opened.write_table(table)
    return file


def _look(work: Work, file: Path) -> Looked:
    """In a worker."""
    if file.suffix == ".npy":
        return work(np.load(file, mmap_mode="r"))
    with pa.memory_map(str(file)) as source:
        photos: list[bytes] = pa.ipc.open_file(source).read_all()["photo"].to_pylist()
    return work(photos)
