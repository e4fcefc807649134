"""A shard: the links of some hosts, asked for by one worker; what comes of them goes into files of its own.

It is told by files and answers by files, so that the worker may be any process on any machine that sees them.
Where that is killed, another one goes on with the links of which nothing was written.
"""

import asyncio
import multiprocessing
import time
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from etalage.config import PhotosConfig
from etalage.lake.photos.links import RESULT, Link, result_of
from etalage.lake.photos.visiting import Visitor

STOP = "stop"
"""A file of this name beside the results asks the workers to end."""
_HOSTS = 4
"""Hosts a connection: one that waits for its turn takes none."""
_FILE_ROWS, _FILE_BYTES, _FILE_SECONDS = 500, 32 * 2**20, 2.0
_TICK = 0.25
_FINISHED = "finished"
"""Ending of the file beside the results that says of which rows they are."""


@dataclass(frozen=True)
class Shard:
    """Number `number` of `count`. `links`: an Arrow file of ASKED rows, sorted by host; `results`: the folder
    for files of RESULT rows; `photos`: whether they hold the photos, or only how large those are."""

    number: int
    count: int
    links: Path
    results: Path
    config: PhotosConfig
    photos: bool = True

    def owns(self, host: str) -> bool:
        return shard_of(host, self.count) == self.number


def shard_of(host: str | None, count: int) -> int:
    """Which of `count` shards a host belongs to: politeness is kept there."""
    return zlib.crc32((host or "").encode()) % count


def run_shard(shard: Shard) -> int:
    """Ask for every link of the shard; → for how many. Runs anywhere; raises ConfigError."""
    return asyncio.run(_run(shard))


async def _run(shard: Shard) -> int:
    with pa.memory_map(str(shard.links)) as file:
        asked = pa.ipc.open_file(file).read_all()
        rows = np.setdiff1d(np.arange(asked.num_rows), finished_rows(shard))
        links = asked.take(pa.array(rows)).append_column("row", pa.array(rows))
        results = Results(shard)
        async with Visitor(shard.config, workers=shard.count, owns=shard.owns) as visitor:
            await _visit_all(links, visitor, results)
    results.write()
    return results.written


async def _visit_all(links: pa.Table, visitor: Visitor, results: "Results") -> None:
    async def work() -> None:
        hosts = iter(by_host(links["host"]))
        async with asyncio.TaskGroup() as group:
            for _ in range(_HOSTS * visitor.config.connections):
                group.create_task(_visit_hosts(hosts, links, visitor, results))

    working = asyncio.create_task(work())
    ticking = asyncio.create_task(results.tick(working))
    try:
        await working
    except asyncio.CancelledError:
        if not results.stopped:
            raise
    finally:
        ticking.cancel()
        working.cancel()


async def _visit_hosts(
    hosts: Iterator[tuple[int, int]], links: pa.Table, visitor: Visitor, results: "Results"
) -> None:
    for start, stop in hosts:
        rows = iter(range(start, stop))
        async with asyncio.TaskGroup() as group:
            for _ in range(min(visitor.config.per_host, stop - start)):
                group.create_task(_visit_rows(rows, links, visitor, results))
        if (host := links["host"][start].as_py()) is not None:
            visitor.forget(host)


async def _visit_rows(rows: Iterator[int], links: pa.Table, visitor: Visitor, results: "Results") -> None:
    for row in rows:
        asked = links.slice(row, 1).to_pylist()[0]
        number = asked.pop("row")
        link = Link.of(asked)
        results.add(number, result_of(link, await visitor.visit(link), visitor.config, datetime.now(UTC)))


def by_host(hosts: pa.ChunkedArray) -> list[tuple[int, int]]:
    """(first row, row after the last) of each host in a sorted column; the ones with the most links first."""
    coded = hosts.combine_chunks().dictionary_encode(null_encoding="encode")
    codes = coded.indices.to_numpy()
    edges = np.flatnonzero(np.diff(codes, prepend=-1, append=-1))
    spans = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)) if len(codes) else []
    return sorted(spans, key=lambda span: span[0] - span[1])


def finished_rows(shard: Shard) -> npt.NDArray[np.int64]:
    """The rows of the shard's links that a worker before this one has written results of."""
    found = [np.fromfile(file, np.int64) for file in shard.results.glob(f"{shard.number:05d}-*.{_FINISHED}")]
    return np.concatenate([np.empty(0, np.int64), *found])


class Results:
    """Rows as they come, in files that are whole from the moment they have their name.

    The names are this worker's own: a file of one before may be being committed, and is not replaced.
    """

    def __init__(self, shard: Shard) -> None:
        self.written = 0
        self.stopped = False
        self._shard = shard
        self._name = f"{shard.number:05d}-{uuid.uuid4().hex[:12]}"
        self._rows: list[dict[str, Any]] = []
        self._numbers: list[int] = []
        self._bytes = 0
        self._files = 0
        self._since = time.monotonic()

    def add(self, number: int, row: dict[str, Any]) -> None:
        """What came of the link that is row `number` of the shard's."""
        if not self._shard.photos:
            row = row | {"bytes": None}
        self._rows.append(row)
        self._numbers.append(number)
        self._bytes += len(row["bytes"] or b"")
        if len(self._rows) >= _FILE_ROWS or self._bytes >= _FILE_BYTES:
            self.write()

    def write(self) -> None:
        self._since = time.monotonic()
        if not self._rows:
            return
        columns = {field.name: [row[field.name] for row in self._rows] for field in RESULT}
        name = f"{self._name}-{self._files:08d}.arrow"
        begun = self._shard.results / f".{name}"
        with pa.OSFile(str(begun), "wb") as sink, pa.ipc.new_file(sink, RESULT) as file:
            file.write_table(pa.table(columns, schema=RESULT))
        begun.replace(self._shard.results / name)
        with (self._shard.results / f"{self._name}.{_FINISHED}").open("ab") as finished:
            np.array(self._numbers, np.int64).tofile(finished)
        self.written += len(self._rows)
        self._files += 1
        self._rows, self._numbers, self._bytes = [], [], 0

    async def tick(self, working: "asyncio.Task[None]") -> None:
        """Write what is waiting, and end the work where that is asked for, or whoever wanted it is gone."""
        parent = multiprocessing.parent_process()
        while True:
            await asyncio.sleep(_TICK)
            gone = parent is not None and not parent.is_alive()
            if gone or (self._shard.results / STOP).exists():
                self.stopped = True
                working.cancel()
                return
            if time.monotonic() - self._since > _FILE_SECONDS:
                self.write()
