"""`etalage photos fetch`: plan → shards on an engine → commits. Killed at any time, it is run again.

What a worker has written is committed while the others go on. What was committed is kept. Nothing is
downloaded twice: `share` gives what is known of a link to the items that came to it since.
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
from etalage.lake.photos.plan import FetchPlan, plan_of, require_contact
from etalage.lake.photos.shard import STOP, Shard, run_shard, shard_of
from etalage.lake.photos.spool import Committed, alone, by_owner, commit, new_run, take_up
from etalage.lake.photos.states import State

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


_ROWS = 256


def share(lake: Lake, plan: FetchPlan) -> int:
    """Give photos that some item has to the other items with that link, and failures to items that do not say
    so yet; → how many rows of `photos`."""
    return _share_photos(lake, plan) + _share_failures(lake, plan)


def _share_photos(lake: Lake, plan: FetchPlan) -> int:
    links = plan.links.filter(pc.and_(plan.links["held"], plan.links["lacking"]))
    if not links.num_rows:
        return 0
    pairs = plan.pairs.filter(pc.invert(plan.pairs["held"]))
    lacking = pairs.filter(pc.is_in(pairs["url"], value_set=links["url"].combine_chunks()))
    owners = lacking.group_by("url", use_threads=False).aggregate([("item_id", "list")])
    urls, whose = owners["url"].combine_chunks(), owners["item_id_list"].combine_chunks()
    given: set[str] = set()
    written = 0
    for batch in lake.table("photos").batches(rows=_ROWS):
        photos = pa.Table.from_batches([batch])
        held = pc.and_(pc.is_in(photos["url"], value_set=urls), pc.is_valid(photos["sha256"]))
        photos = photos.filter(held).drop_columns(["item_id"])
        rows = {url: row for row, url in enumerate(photos["url"].to_pylist()) if url not in given}
        if not rows:
            continue
        given.update(rows)
        photos = photos.take(pa.array(rows.values(), pa.int64()))
        to = whose.take(pc.index_in(photos["url"].combine_chunks(), value_set=urls))
        spread = by_owner(photos.append_column("owners", to), tuple(photos.column_names))
        done = lake.table("photos").merge(spread)
        written += done.inserted + done.updated
    return written


def _share_failures(lake: Lake, plan: FetchPlan) -> int:
    links = plan.links
    failed = pc.and_(pc.not_equal(links["status"], State.ok.value), pc.invert(links["held"]))
    failed = links.filter(pc.fill_null(failed, False))
    if not failed.num_rows:
        return 0
    at = pc.index_in(plan.pairs["url"], value_set=failed["url"].combine_chunks())
    pairs, at = plan.pairs.filter(pc.is_valid(at)), at.drop_null()
    status = failed["status"].take(at.combine_chunks() if isinstance(at, pa.ChunkedArray) else at)
    stale = pc.fill_null(pc.not_equal(pairs["status"], status), True)
    rows = pa.table({"item_id": pairs["item_id"], "url": pairs["url"], "status": status}).filter(stale)
    if not rows.num_rows:
        return 0
    done = lake.table("photos").merge(rows)
    return done.inserted + done.updated
