"""Politeness: when a host may be asked for the next thing, and when it is left alone.

One `Pace` a host. Requests to it start `spacing` seconds apart at least; a failure of the host makes all of
its links wait, longer each time (exponential back-off, with jitter so that hosts behind one balancer are not
asked in step); after so many in a row, or when it asks for too long a pause, its circuit opens: nothing more
is asked.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from etalage.config import PhotosConfig
from etalage.lake.photos.states import Ended, Outcome, State

_LONGEST_BACKOFF = 60.0
_LONGEST_PAUSE = 365 * 86_400.0


@dataclass(frozen=True)
class Manners:
    """What [photos] says of politeness; `spacing` is at least what it says."""

    per_host: int
    spacing: float
    backoff: float
    give_up: int
    patience: float
    share: int = 1
    """So many workers ask it; of the pauses that robots.txt asks for, each takes as many times the length."""

    @classmethod
    def of(cls, config: PhotosConfig, share: int = 1) -> "Manners":
        """share: so many workers ask a host without knowing of each other; each takes that part of its
        rate."""
        per_host = config.per_host if share == 1 else 1
        spacing = share * config.spacing
        return cls(per_host, spacing, config.backoff, config.give_up, config.patience, share)


class Pace:
    """The turns of one host.

    clock: seconds, by default the event loop's. draw: uniform in 0 … 1.
    """

    def __init__(
        self,
        manners: Manners,
        clock: Callable[[], float] | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.manners = manners
        self.spacing = manners.spacing
        self.connections = asyncio.Semaphore(manners.per_host)
        self.closed: Ended | None = None
        """Why nothing is asked of this host any more; None: it may be asked."""
        self._clock = clock or asyncio.get_running_loop().time
        self._draw = draw
        self._next = 0.0
        self._failures = 0

    async def wait(self) -> None:
        """Until the next request may start. Raises Ended where the circuit is open."""
        while self.closed is None and (left := self._next - self._clock()) > 0:
            await asyncio.sleep(left)
        if self.closed is not None:
            raise self.closed.again()

    def take(self) -> bool:
        """The turn, unless somebody else took it just now; the next one comes `spacing` later."""
        now = self._clock()
        if self.closed is not None or now < self._next:
            return False
        self._next = now + self.spacing
        return True

    def slow_to(self, seconds: float) -> None:
        """robots.txt asks for so many seconds between requests. Raises Ended where that is too long."""
        if seconds > self.manners.patience:
            self._close(State.throttled, f"robots.txt asks for {seconds:g} s between requests", None)
            assert self.closed is not None
            raise self.closed.again()
        self.spacing = max(self.spacing, seconds * self.manners.share)
        self._next = max(self._next, self._clock() + self.spacing)

    def worked(self) -> None:
        """The host answered; whatever it said of this link, it is there."""
        self._failures = 0

    def failed(self, outcome: Outcome, for_good: bool = False) -> None:
        """The host failed, or asked for a pause (`outcome.again_after`). for_good: it cannot be asked."""
        self._failures += 1
        asked = outcome.again_after
        if asked is not None and asked > self.manners.patience:
            self._close(State.throttled, f"asked to wait for {asked:.0f} s", asked)
        elif for_good:
            self._close(outcome.state, str(outcome.reason), None, outcome.lasting)
        elif self._failures >= self.manners.give_up:
            why = f"given up after {self._failures} failures in a row, the last: {outcome.reason}"
            state = State.throttled if outcome.state is State.throttled else State.host_down
            self._close(state, why, asked)
        else:
            doubled = min(self.manners.backoff * 2 ** (self._failures - 1), _LONGEST_BACKOFF)
            pause = asked if asked is not None else doubled * (0.5 + self._draw())
            self._next = max(self._next, self._clock() + pause)

    def _close(self, state: State, reason: str, again_after: float | None, lasting: bool = False) -> None:
        if self.closed is None:
            self.closed = Ended(state, reason, lasting, again_after)


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks to wait: a number of them, or a date. None: it says nothing."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), _LONGEST_PAUSE)
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max((when - (now or datetime.now(UTC))).total_seconds(), 0.0), _LONGEST_PAUSE)
