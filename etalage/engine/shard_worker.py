"""What runs a shard inside a worker of any engine, and how what comes of it travels back."""

import logging
import pickle
from typing import Any, TypeVar

from etalage.engine.outcome import Failed, Outcome, attempt
from etalage.engine.parcel import Parcel, pack

R = TypeVar("R")
_unpacked: tuple[Parcel, Any] | None = None


def run_parcels(function: Parcel, shard: Parcel, pickler: type[pickle.Pickler] = pickle.Pickler) -> Parcel:
    """Unpack the function and the shard, and run; → the outcome, packed."""

    def work(parcel: Parcel) -> Any:
        return _function(function)(parcel.unpack())

    return _packed(attempt(work, shard), pickler)


def _function(parcel: Parcel) -> Any:
    """Unpacked once, not for every shard."""
    global _unpacked
    if _unpacked is None or _unpacked[0] != parcel:
        _unpacked = parcel, parcel.unpack()
    return _unpacked[1]


def _packed(outcome: Outcome[R], pickler: type[pickle.Pickler]) -> Parcel:
    """An outcome that cannot travel becomes the failure that says so."""
    try:
        return pack(outcome, pickler)
    except Exception as error:
        if isinstance(outcome, Failed):  # the exception is what cannot
            return pack(Failed(outcome.error, outcome.kind, outcome.traceback))
        return pack(Failed.of(error))


def outcome_of(parcel: Parcel, memory: int | None) -> Outcome[Any]:
    """The outcome that a worker sent, which may have `memory` bytes."""
    try:
        outcome: Outcome[Any] = parcel.unpack()
    except Exception as error:
        return Failed.of(error)
    if memory is not None and isinstance(outcome, Failed) and outcome.kind == OUT_OF_MEMORY:
        told = f"{outcome.error}: a worker may have {memory >> 20} MiB ([engine] memory)"
        return Failed(told, outcome.kind, outcome.traceback)
    return outcome


OUT_OF_MEMORY = "MemoryError"


def relay(record: logging.LogRecord) -> None:
    """Say here what a worker said there."""
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
