"""What a step tells of its progress, to whoever shows it."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TextIO


class Meter(Protocol):
    """What a step tells of its progress."""

    def __call__(self, steps: int) -> None:
        """So many more are done."""

    def say(self, line: str, total: int) -> None:
        """What is being done now, and how much there is in all."""


Bar = Callable[[str, int | None], AbstractContextManager[Meter]]
"""`with bar("embed photos", 5000) as meter: meter(256)`; None: the total is not known yet."""


SHOWN_EVERY = 0.25
"""Seconds between two writings of one line: a notebook keeps them all until the cell ends."""


class _Silence:
    def __call__(self, steps: int) -> None:
        return None

    def say(self, line: str, total: int) -> None:
        return None


@contextmanager
def silent(title: str, total: int | None) -> Iterator[Meter]:
    yield _Silence()


class _Line:
    """One line of text that is written again and again, as a notebook shows it."""

    def __init__(self, out: TextIO, title: str, total: int | None) -> None:
        self._out, self._title, self._total = out, title, total
        self._done, self._width = 0, 0
        self._began = self._shown = time.monotonic()

    def __call__(self, steps: int) -> None:
        self._done += steps
        self._show()

    def say(self, line: str, total: int) -> None:
        self._title, self._total = line, total
        self._show()

    def _show(self) -> None:
        if time.monotonic() - self._shown >= SHOWN_EVERY:
            self.write("")

    def write(self, end: str) -> None:
        self._shown = time.monotonic()
        total = "" if self._total is None else f"/{self._total:,}"
        count = f"  {self._done:,}{total}" if self._done else ""
        line = f"{self._title}{count}  {self._shown - self._began:.1f} s"
        self._out.write(f"\r{line:<{self._width}}{end}")
        self._out.flush()
        self._width = len(line)


def line_bar(out: TextIO) -> Bar:
    """Bars that write one line each on `out`, a few times a second."""

    @contextmanager
    def bar(title: str, total: int | None) -> Iterator[Meter]:
        line = _Line(out, title, total)
        line.write("")
        try:
            yield line
        finally:
            line.write("\n")

    return bar


def usual_bar() -> Bar:
    """Bars where somebody looks: in a terminal and in a notebook; none in a script whose output is kept."""
    if type(sys.stderr).__module__.startswith("ipykernel"):
        return line_bar(sys.stderr)
    if sys.stderr is not None and sys.stderr.isatty():
        from etalage.console import bar

        return bar
    return silent


def meter_steps(meter: Meter, title: str) -> Callable[[int, int, str], None]:
    """A training's progress, (steps done, steps in all, a short line), as this meter takes it."""
    done = 0

    def tell(step: int, total: int, line: str) -> None:
        nonlocal done
        meter.say(f"{title}: {line}", total)
        meter(step - done)
        done = step

    return tell
