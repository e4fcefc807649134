"""Writers of one table take turns, and try again when another one was faster."""

import contextlib
import fcntl
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from deltalake.exceptions import CommitFailedError, DeltaError

from etalage.errors import DataError
from etalage.lake.ledger import FOLDER

_ATTEMPTS = 12
T = TypeVar("T")


def committed(name: str, folder: Path | None, attempt: Callable[[], T]) -> T:
    """What `attempt` (read, compare, commit) gives, tried again when another writer committed first.

    `folder`: the table's, where a lock file makes writers on this machine queue; None for an object
    store, where Delta's own conflict check is all there is.
    Raises DataError: no space, read-only, or another writer kept winning.
    """
    for n in range(_ATTEMPTS):
        try:
            with _turn(folder):
                return attempt()
        except CommitFailedError as error:
            if n == _ATTEMPTS - 1:
                raise DataError(f"table {name}: another writer kept winning: {shortly(error)}") from error
            time.sleep(random.uniform(0.01, 0.05) * 2 ** min(n, 6))
        except (DeltaError, OSError, pa.ArrowException) as error:
            raise DataError(
                f"table {name}: could not be written: {shortly(error)}. What was committed before is safe; "
                "run it again once that is put right"
            ) from error
    raise AssertionError("unreachable")


def shortly(error: Exception) -> str:
    """The first line of an error: delta-rs appends a native backtrace."""
    return re.sub(r"\s+", " ", str(error).split("\n")[0])[:300]


@contextlib.contextmanager
def _turn(folder: Path | None) -> Iterator[None]:
    """The table's lock; it goes with its process, also when that is killed."""
    if folder is None:
        yield
        return
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    with (folder / FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
