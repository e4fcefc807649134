"""What the contract of `map` and `trials` has shards do. Each takes a folder first, by `partial`."""

import logging
import os
import signal
import threading
import time
import warnings
from pathlib import Path
from typing import Any

from etalage.errors import DataError


def double(number: int) -> int:
    return 2 * number


def later_ones_sooner(number: int) -> int:
    time.sleep(max(0.0, 0.3 - 0.1 * number))
    return number


def noted(folder: Path, number: int) -> int:
    """Leaves a line for each time that it runs."""
    with (folder / f"ran-{number}").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return number


def times(folder: Path, number: int) -> int:
    file = folder / f"ran-{number}"
    return len(file.read_text().splitlines()) if file.exists() else 0


def slow_first(folder: Path, number: int) -> int:
    """Shard 0 waits until all the others have run."""
    until = time.monotonic() + 400
    while number == 0 and not all(times(folder, other) for other in (1, 2, 3, 4)):
        assert time.monotonic() < until
        time.sleep(0.02)
    return noted(folder, number)


def fails_at_first(folder: Path, number: int) -> int:
    noted(folder, number)
    if number == 2 and times(folder, number) == 1:
        raise ValueError("not in the mood")
    return number


def poisoned(folder: Path, number: int) -> int:
    noted(folder, number)
    if number == 2:
        raise ValueError(f"no {number}")
    return number


def bad_input(folder: Path, number: int) -> int:
    noted(folder, number)
    if number == 2:
        raise DataError("row 2 is bad")
    return number


def killed_at_first(folder: Path, number: int) -> int:
    noted(folder, number)
    if number == 2 and times(folder, number) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def always_killed(folder: Path, number: int) -> int:
    noted(folder, number)
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def talks(number: int) -> int:
    logging.getLogger("shards").warning("shard %d speaks", number)
    warnings.warn(f"shard {number} warns", UserWarning, stacklevel=1)
    return number


def takes(megabytes: int) -> int:
    return len(bytearray(megabytes << 20))


def keeps_on(folder: Path, number: int) -> None:
    """Says who it is, and goes on for ever."""
    (folder / f"pid-{number}").write_text(str(os.getpid()))
    time.sleep(600)


def cannot_travel(number: int) -> Any:
    return threading.Lock()


def whose(number: int) -> int:
    return os.getpid()
