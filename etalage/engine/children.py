"""Processes that end with the one that started them, however that ends."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

_SET_PARENT_DEATH_SIGNAL = 1
"""prctl(2)'s PR_SET_PDEATHSIG."""


def child(command: Sequence[str], env: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Start `command`. On Linux it gets SIGTERM when this process is gone, even by SIGKILL (F22); elsewhere
    only an orderly end of this process ends it."""
    if sys.platform != "linux":
        return subprocess.Popen(list(command), env=env)
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def bind() -> None:
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != parent:  # it was gone before the signal was asked for
            os._exit(1)

    return subprocess.Popen(list(command), env=env, preexec_fn=bind)
