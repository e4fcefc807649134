"""`etalage photos fetch`: plan → shards on an engine → commits. Killed at any time, it is run again.

What a worker has written is committed while the others go on. What was committed is kept.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import PhotosConfig
from etalage.engine.contract import Engine
from etalage.engine.local import LOCAL
from etalage.lake.delta import Lake
from etalage.lake.photos.plan import plan_of, require_contact
from etalage.lake.photos.shard import STOP, Shard, run_shard, shard_of
from etalage.lake.photos.sharing import share
from etalage.lake.photos.spool import Committed, alone, commit, new_run, take_up

Progress = Callable[[int], None]
_COMMIT_SECONDS = 2.0
_COMMIT_PART = 10.0
"""Commits come as many times their own length apart: a large table, whose commits take longer, has fewer of
them."""


@dataclass(frozen=True)
class Fetched:
    """What a fetch did. `states`: how many links ended in each; `shared`: rows of `photos` that took over
    what was known of their link; `waiting`: links without a photo that are not due yet; `taken_up`: links
    that a run that was killed had asked for and not committed."""

    states: dict[str, int]
    photos: int = 0
    unchanged: int = 0
    shared: int = 0
    waiting: int = 0
    taken_up: int = 0
    downloaded: int = 0
    stored: int = 0
    links: int = 0


def fetch(
    lake: Lake,
    config: PhotosConfig,
    spool: Path,
    *,
    refresh: float | None = None,
    again: bool = False,
    started: Callable[[int], None] | None = None,
    progress: Progress | None = None,
    engine: Engine = LOCAL,
) -> Fetched:
    """Ask for every link that is due, and store what came of it.

    refresh: also links whose photo is held, last asked for that many days ago or more, by conditional
    requests. again: links that failed too, before they are due. spool: a folder for this alone. started: is
    told how many links there are. progress: how many more are done.

    Raises ConfigError: [photos] contact is missing, or another setting makes no sense. DataError: another
    fetch of this shop is running, the tables cannot be written.
    """
    lake.require_writable()
    with alone(spool):
        left, done = Committed(), Committed()
        take_up(spool, lake, left)
        plan = plan_of(lake)
        now = datetime.now(UTC)
        due = plan.due(config, now, refresh, again)
        require_contact(config, _hosts(due))
        shared = share(lake, plan)
        if started is not None:
            started(due.num_rows)
        if due.num_rows:
            run = new_run(spool)
            with _committing(run, lake, done, progress):
                run_shards(due, config, run, engine)
            shutil.rmtree(run, ignore_errors=True)
        waiting = plan_of(lake).waiting(datetime.now(UTC))
    return Fetched(
        dict(done.states.most_common()),
        done.photos,
        done.unchanged,
        shared,
        waiting,
        sum(left.states.values()),
        done.downloaded,
        done.stored,
        due.num_rows,
    )


def run_shards(due: pa.Table, config: PhotosConfig, run: Path, engine: Engine, photos: bool = True) -> None:
    """Ask for every link of `due` (ASKED rows); the results lie in `run` as they come."""
    count = min(config.workers or engine.workers, due.num_rows)
    shards = list(_shards(due, config, run, count, photos))
    for _ in engine.map(run_shard, shards, workers=min(count, len(shards))):
        pass


def _shards(due: pa.Table, config: PhotosConfig, run: Path, count: int, photos: bool) -> Iterator[Shard]:
    owner = pa.array([shard_of(host, count) for host in due["host"].to_pylist()])
    for number in range(count):
        links = due.filter(pc.equal(owner, number))
        if not links.num_rows:
            continue
        file = run / f"links-{number:05d}.arrow"
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, links.schema) as written:
            written.write_table(links)
        yield Shard(number, count, file, run, config, photos)


@contextmanager
def _committing(run: Path, lake: Lake, done: Committed, progress: Progress | None) -> Iterator[None]:
    """Commits what lies in `run` from beside, and all of it at the end. Where that fails, or this is left
    by an error, the workers are asked to end."""
    failure: list[BaseException] = []
    over = threading.Event()

    def work() -> None:
        try:
            last, pause = False, _COMMIT_SECONDS
            while not last:
                last = over.wait(pause)
                began = time.monotonic()
                count = commit(run, lake, done)
                pause = max(_COMMIT_SECONDS, _COMMIT_PART * (time.monotonic() - began))
                if progress is not None and count:
                    progress(count)
        except BaseException as error:
            failure.append(error)
            (run / STOP).touch()

    thread = threading.Thread(target=work, name="commit photos")
    thread.start()
    try:
        yield
    except BaseException:
        (run / STOP).touch()
        raise
    finally:
        over.set()
        thread.join()
    if failure:
        raise failure[0]


def _hosts(due: pa.Table) -> list[str]:
    return sorted(set(due["host"].to_pylist()) - {None})
