"""What came of a shard: its result, or why there is none."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from etalage.errors import EtalageError, ShardFailed

S = TypeVar("S")
R = TypeVar("R")
_SHOWN = 200


@dataclass(frozen=True)
class Done(Generic[R]):
    """The shard's function returned `result`."""

    result: R


@dataclass(frozen=True)
class Failed:
    """The shard's function raised, or the worker that ran it is gone."""

    error: str
    """What it raised as one line, `ValueError: …`; or how the worker ended."""
    kind: str = ""
    """The full name of the exception's class; empty: the worker is gone."""
    traceback: str = ""
    ours: EtalageError | None = None
    """The exception, where Etalage raised it on purpose: to run the shard again would not help."""

    @property
    def final(self) -> bool:
        return self.ours is not None

    @classmethod
    def of(cls, error: BaseException) -> "Failed":
        kind = type(error)
        name = (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
        line = "".join(traceback.format_exception_only(error)).strip()
        ours = error if isinstance(error, EtalageError) else None
        return cls(line, name, "".join(traceback.format_exception(error)).rstrip(), ours)

    def to_raise(self, number: int, shard: object, tries: int) -> EtalageError:
        """The error to raise for shard `number`, which failed so at the last of its `tries`."""
        if self.ours is not None:
            return self.ours
        times = "once" if tries == 1 else f"{tries} times"
        told = f"shard {number} ({shown(shard)}) failed {times}, at last with: {self.error}"
        return ShardFailed(f"{told}\n{self.traceback}".rstrip(), number, self.error, self.traceback)


Outcome = Done[R] | Failed


def shown(shard: object) -> str:
    """A shard as messages name it."""
    text = repr(shard)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def attempt(function: Callable[[S], R], shard: S) -> Outcome[R]:
    """Run the function once, here."""
    try:
        return Done(function(shard))
    except (Exception, SystemExit) as error:
        return Failed.of(error)
