"""What `etalage doctor` finds: a line for each thing that was looked at, and what to do about it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from etalage.errors import EtalageError

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. warning: it works, with less than it could; problem: it does not."""

    subject: str
    state: State
    said: str
    next: str | None = None
    """What to do; None: nothing."""


@dataclass(frozen=True)
class Checkup:
    """All that was looked at."""

    findings: tuple[Finding, ...]

    @property
    def problems(self) -> int:
        return sum(one.state == "problem" for one in self.findings)

    @property
    def warnings(self) -> int:
        return sum(one.state == "warning" for one in self.findings)


def looked_at(subject: str, look: Callable[[], Finding]) -> Finding:
    """What `look` finds; an error that Etalage raises on purpose is a problem, and says itself what to do."""
    (found,) = each_looked_at(subject, lambda: (look(),))
    return found


def each_looked_at(subject: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """All that `look` finds, up to the error that ends it."""
    try:
        yield from look()
    except EtalageError as error:
        yield Finding(subject, "problem", f"{type(error).__name__}: {error}")
    except OSError as error:
        yield Finding(subject, "problem", f"{error.filename or subject}: {error.strerror or error}")
