"""A folder in which work waits on its way to workers, or from them: a run's own, gone when that ends."""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from etalage.errors import DataError


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Raises DataError where `folder` cannot be written."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{folder}: what is on its way to workers cannot be written ({error.strerror or error}); what "
            "was finished before is kept: make room, and run it again"
        ) from error


@contextlib.contextmanager
def own_folder(spool: Path) -> Iterator[Path]:
    """A new folder in `spool`, gone afterwards; those of processes that were killed go now."""
    with full_disk(spool):
        spool.mkdir(parents=True, exist_ok=True)
        for left in spool.glob("blocks-*"):
            _remove_unless_used(left)
        new = Path(tempfile.mkdtemp(prefix="new-", dir=spool))
    with (new / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Its name only now: one that others may take for left behind is locked from its first moment.
        folder = new.rename(spool / new.name.replace("new-", "blocks-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_unless_used(folder: Path) -> None:
    """A lock goes with its process, however that ends."""
    with contextlib.suppress(OSError), (folder / "lock").open("r") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
