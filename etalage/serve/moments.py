"""Times on the wire: ISO 8601 or numbers, read as `etalage ingest` reads them, into microseconds since
1970."""

import math
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from etalage.lake.casting import CLOCK_SKEW
from etalage.lake.instants import AS_WRITTEN, read_instant
from etalage.lake.written_times import from_words

FARTHEST = 2**53
"""Microseconds; whole numbers beyond are not exact in JSON everywhere."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CENTURY = timedelta(days=36_525)
SAID = (
    "ISO 8601 (`2026-11-29T01:23:42Z`; without an offset: UTC), or a number since 1970: seconds, ms, µs or "
    "ns, whichever falls between 1995 and now."
)


def read_moment(value: Any) -> int:
    """Microseconds of a time that was. Raises ValueError: no time, before 1995, in the future."""
    return _micros(read_instant(value, datetime.now(UTC) + CLOCK_SKEW))


def read_event_moment(value: Any) -> int:
    """Microseconds of an event's time. One before 1995 or in the future is left to the online store, which
    quarantines it with the reason; Raises ValueError: no time at all."""
    try:
        return read_moment(value)
    except ValueError:
        with suppress(ValueError):
            return _micros(read_instant(value, datetime.now(UTC) + _CENTURY))
        if isinstance(value, str):
            with suppress(ValueError, OverflowError):
                return max(-FARTHEST, min(_micros(from_words(value, AS_WRITTEN)), FARTHEST))
            with suppress(ValueError):
                value = float(value)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and math.isfinite(value) and abs(value) <= FARTHEST:
            return int(value)
        raise


def _micros(when: datetime) -> int:
    return (when - _EPOCH) // timedelta(microseconds=1)


_SCHEMA = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}], "description": SAID}
Moment = Annotated[int, BeforeValidator(read_moment), WithJsonSchema(_SCHEMA)]
"""A time that was; any other is 422."""
EventMoment = Annotated[int, BeforeValidator(read_event_moment), WithJsonSchema(_SCHEMA)]
"""The time of an event; one that cannot be is quarantined, so that it keeps no other event out."""
