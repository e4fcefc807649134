"""When a loop over blocks goes to an engine's workers: where they save more time than it costs to start them.

The first blocks are done in the process that asks, and timed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from etalage.engine.contract import Engine
from etalage.engine.local import LOCAL

R = TypeVar("R")
WORTH_SECONDS = 10.0
"""Workers are started where they save at least so many seconds: starting one takes 0.6 to 1 s of processor
time (docs/decisions/threads.md has the figures)."""
MEASURED_BLOCKS = 2
"""Blocks that are done here before anything is decided: the first warms up, the second is timed."""


@dataclass(frozen=True)
class Cost:
    """Seconds of processor time of a unit of work: what a busy neighbour slows down says nothing of what
    pays."""

    thread: float
    """Of the thread that asks, which has a part in all that others do: the time on an idle machine."""
    process: float


def timed(work: Callable[[], R], units: float) -> tuple[R, Cost]:
    """What `work`, of so many units, gives, and what one of them cost."""
    thread, process = time.thread_time(), time.process_time()
    made = work()
    return made, Cost((time.thread_time() - thread) / units, (time.process_time() - process) / units)


@dataclass(frozen=True)
class BlockLoop:
    """Where loops over blocks run. As it is made here: in this process alone."""

    engine: Engine = LOCAL
    spool: Path | None = None
    """A folder that every worker sees, where what they need lies in a folder of its own. None: nothing leaves
    this process."""
    workers: int | None = None
    """None: as many as the engine has."""
    worth: float = WORTH_SECONDS
    measured: int = MEASURED_BLOCKS
    """0: workers from the first block on."""

    @property
    def at_once(self) -> int:
        """How many blocks workers do at once."""
        return self.workers or self.engine.workers

    def pays(self, cost: Cost | None, left: float) -> bool:
        """Whether workers, one thread each, would save enough of the time that `left` units take here:
        nothing where a network's own threads keep all cores busy anyway. cost: None while it is not known."""
        if self.spool is None or self.at_once == 1:
            return False
        if not self.measured:
            return True
        return cost is not None and left * (cost.thread - cost.process / self.at_once) > self.worth
