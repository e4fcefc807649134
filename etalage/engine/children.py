"""Processes that end with the one that started them, however that ends."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_SET_PARENT_DEATH_SIGNAL = 1
"""prctl(2)'s PR_SET_PDEATHSIG."""


SAFE_PATH = "PYTHONSAFEPATH"
"""What makes a Python start without the current folder on its module path; `-P` says the same."""


def python(*arguments: str) -> list[str]:
    """The command of another Python, to be given to `child`.

    Without `-P`, `python -m` would look into the current folder first, and a `resource.py` that came along
    in a shop's folder would be run in place of Python's own (F62).
    """
    return [sys.executable, "-P", *arguments]


_STARTING = threading.RLock()
"""Held by the thread that changes, for the process that it starts, what all threads here share. Two at once
would each put back what the other had set."""


@contextmanager
def safe_path() -> Iterator[None]:
    """Whatever Python is started within this, by a library that makes its own command line, does not look
    into the current folder for modules (F62). One thread at a time."""
    with _STARTING:
        before = os.environ.get(SAFE_PATH)
        os.environ[SAFE_PATH] = "1"
        try:
            yield
        finally:
            if before is None:
                os.environ.pop(SAFE_PATH, None)
            else:
                os.environ[SAFE_PATH] = before


@contextmanager
def without_script() -> Iterator[None]:
    """A process that multiprocessing starts within this does not run the script that runs here: it would run
    all of it, from its first line, unless that is guarded by `if __name__ == "__main__"`. One thread at a
    time."""
    script = sys.modules["__main__"]
    names: tuple[str, ...] = ("__file__", "__spec__")
    with _STARTING:
        kept = {name: vars(script)[name] for name in names if name in vars(script)}
        script.__spec__ = None
        vars(script).pop("__file__", None)
        try:
            yield
        finally:
            vars(script).update(kept)


def child(
    command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> "subprocess.Popen[bytes]":
    """Start `command`, in the folder `cwd` (None: this process's).

    On Linux it gets SIGTERM when this process is gone, even by SIGKILL (F22); elsewhere only an orderly end
    of this process ends it.
    """
    if sys.platform != "linux":
        return subprocess.Popen(list(command), env=env, cwd=cwd)
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def bind() -> None:
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != parent:  # it was gone before the signal was asked for
            os._exit(1)

    return subprocess.Popen(list(command), env=env, cwd=cwd, preexec_fn=bind)


def leave_interrupts_to_parent() -> None:
    """Ctrl-C reaches every process of a terminal; the one that was asked ends the others.

    Not by SIG_IGN, which programs that a worker starts would inherit.
    """
    signal.signal(signal.SIGINT, lambda *_: None)
