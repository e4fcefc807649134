"""Who is at work in a shop: a lock that steps share while they read versions of its tables, exports, or files
that they made of them, and that `etalage vacuum` takes alone.

It goes with its process, also when that is killed. It is one of this machine: where tables lie in an object
store, workers elsewhere are kept safe by the days that a vacuum spares.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

Step = TypeVar("Step", bound=Callable[..., Any])
LOCK = ".at-work"


def at_work(step: Step) -> Step:
    """Marks a method of a Workspace: nothing that it reads is vacuumed meanwhile."""

    @wraps(step)
    def marked(workspace: Any, *given: Any, **named: Any) -> Any:
        with working(workspace.runs):
            return step(workspace, *given, **named)

    return cast(Step, marked)


@contextmanager
def working(runs: Path) -> Iterator[None]:
    """Be one of those at work; waits while somebody vacuums."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        lock = os.open(runs / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:  # where nothing can be written, nobody vacuums
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


@contextmanager
def alone(runs: Path, only_ask: bool = False) -> Iterator[bool]:
    """Whether nobody is at work; who begins meanwhile waits, unless this was `only_ask`ed: then we are at
    work ourselves from here on. Raises OSError: nothing can be written."""
    runs.mkdir(parents=True, exist_ok=True)
    lock = os.open(runs / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        if only_ask:
            fcntl.flock(lock, fcntl.LOCK_SH)
        yield True
    finally:
        os.close(lock)


def is_held(lock: Path) -> bool:
    """Whether somebody of this machine holds the lock alone. It is not taken for that, so that nobody who
    comes in this moment finds it held; where the kernel does not list its locks: False."""
    try:
        number = lock.stat().st_ino
        held = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    # `1: FLOCK  ADVISORY  WRITE 4711 08:01:131 0 EOF`; who waits has an arrow. The device is not compared:
    # some file systems tell another one here than `stat` does.
    lists = (line.split() for line in held if " -> " not in line)
    return any(one[1] == "FLOCK" and one[3] == "WRITE" and one[5].endswith(f":{number}") for one in lists)
