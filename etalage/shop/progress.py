"""What a step tells of its progress, to whoever shows it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Meter(Protocol):
    """What a step tells of its progress."""

    def __call__(self, steps: int) -> None:
        """So many more are done."""

    def say(self, line: str, total: int) -> None:
        """What is being done now, and how much there is in all."""


Bar = Callable[[str, int | None], AbstractContextManager[Meter]]
"""`with bar("embed photos", 5000) as meter: meter(256)`; None: the total is not known yet."""


class _Silence:
    def __call__(self, steps: int) -> None:
        return None

    def say(self, line: str, total: int) -> None:
        return None


@contextmanager
def silent(title: str, total: int | None) -> Iterator[Meter]:
    yield _Silence()


def meter_steps(meter: Meter, title: str) -> Callable[[int, int, str], None]:
    """A training's progress, (steps done, steps in all, a short line), as this meter takes it."""
    done = 0

    def tell(step: int, total: int, line: str) -> None:
        nonlocal done
        meter.say(f"{title}: {line}", total)
        meter(step - done)
        done = step

    return tell
