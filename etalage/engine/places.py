"""Who a worker is among those that run one function together."""

from collections.abc import Callable
from dataclasses import dataclass


def _nobody() -> str | None:
    return None


@dataclass(frozen=True)
class Place:
    """Worker `number`, from 0 on, of `workers`; they find each other at `meeting`, an address that torch's
    `rendezvous` takes: file://PATH on one machine, tcp://HOST:PORT on several."""

    number: int
    workers: int
    meeting: str
    gone: Callable[[], str | None] = _nobody
    """Which of the others has ended, and how, as far as this one can know."""
