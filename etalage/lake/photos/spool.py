"""Results of shards → tables `photos` and `links`: each file is committed, then deleted.

A run that was killed in between commits the file again next time; merges by key make that nothing new.
"""

import contextlib
import fcntl
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.errors import DataError
from etalage.lake.delta import Lake
from etalage.lake.photos.links import RESULT
from etalage.lake.photos.states import State
from etalage.lake.schema import TABLES

_AT_ONCE = 256 * 2**20
"""Bytes of files that are committed together; a commit costs about the same for few photos and for many."""
_PHOTO = ("bytes", "width", "height", "sha256", "phash")


@dataclass
class Committed:
    """What was committed so far: `states` of the links, `photos` rows inserted or changed; bytes as sent,
    and as stored."""

    states: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    photos: int = 0
    downloaded: int = 0
    stored: int = 0


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One run at a time in this folder. Raises DataError: another one is at it; nothing can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror}); nothing was asked for") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"{folder}: another fetch of this shop is running; wait for it to end") from error
        yield


def new_run(folder: Path) -> Path:
    """A folder for the results of one run."""
    return Path(tempfile.mkdtemp(prefix="run-", dir=folder))


def take_up(folder: Path, lake: Lake, done: Committed) -> None:
    """Commit what a run that was killed left behind."""
    for run in sorted(folder.glob("run-*")):
        commit(run, lake, done)
        shutil.rmtree(run, ignore_errors=True)


def commit(run: Path, lake: Lake, done: Committed) -> int:
    """Commit and delete the files that are there now; → how many links they were of. Raises DataError."""
    links = 0
    for files in _batches(sorted(run.glob("[0-9]*.arrow"))):
        rows = pa.concat_tables([read_results(file) for file in files]).combine_chunks()
        links += rows.num_rows
        _commit(rows, lake, done)
        for file in files:
            file.unlink(missing_ok=True)
    return links


def _batches(files: list[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    size = 0
    for file in files:
        if batch and size + file.stat().st_size > _AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.stat().st_size
    if batch:
        yield batch


def read_results(file: Path) -> pa.Table:
    """RESULT rows. Raises DataError."""
    try:
        with pa.OSFile(str(file)) as source:
            return pa.ipc.open_file(source).read_all().cast(RESULT)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: cannot be read: {error}; delete it: its links are due again") from error


def _commit(rows: pa.Table, lake: Lake, done: Committed) -> None:
    for photos in (fetched_photos(rows), failed_photos(rows)):
        if photos.num_rows:
            merged = lake.table("photos").merge(photos)
            if "sha256" in photos.column_names:
                done.photos += merged.inserted + merged.updated
    lake.table("links").merge(rows.select(list(TABLES["links"].names)))
    done.states.update(rows["status"].to_pylist())
    done.unchanged += int(pc.sum(rows["unchanged"].cast(pa.int64())).as_py() or 0)
    done.downloaded += int(pc.sum(rows["downloaded"]).as_py() or 0)
    done.stored += int(pc.sum(rows["stored"]).as_py() or 0)


def fetched_photos(rows: pa.Table) -> pa.Table:
    """Rows of `photos`, one for every owner of a new photo."""
    return by_owner(rows.filter(pc.is_valid(rows["sha256"])), ("url", "status", *_PHOTO))


def failed_photos(rows: pa.Table) -> pa.Table:
    """Rows of `photos` that say why there is none, for owners that have none: one that they have stays."""
    failed = pc.and_(pc.not_equal(rows["status"], State.ok.value), pc.invert(rows["held"]))
    return by_owner(rows.filter(failed), ("url", "status"))


def by_owner(rows: pa.Table, columns: tuple[str, ...]) -> pa.Table:
    """These columns of `rows` once for each of its `owners`, who becomes item_id."""
    owners = rows["owners"].combine_chunks()
    parents = np.asarray(pc.list_parent_indices(owners), dtype=np.int64)
    repeated = rows.select(list(columns)).take(pa.array(parents))
    return repeated.add_column(0, "item_id", pc.list_flatten(owners))
