"""What somebody wrote as a time → one UTC moment, for files and for the API alike.

A number may be seconds, ms, µs or ns since 1970, a calendar number (20240310, 202403100900) or a day of a
spreadsheet (45361.375). It is read as the one of these that falls between EARLIEST and now: their ranges do
not touch, but for calendar numbers of ten digits, which as seconds lie after 2030.
"""

import math
import re
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

EARLIEST = datetime(1995, 1, 1, tzinfo=UTC)
"""No shop on the web has acts before this; a number that falls there was read in the wrong unit."""
_SPREADSHEET = datetime(1899, 12, 30, tzinfo=UTC)
"""Day 0 of a spreadsheet's dates."""
_UNITS = (1, 1_000, 1_000_000, 1_000_000_000)
"""Of one second: s, ms, µs, ns."""
_CALENDAR = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_ZONE_WORD = re.compile(r"\s*(?:UTC|GMT|Etc/UTC)$", re.IGNORECASE)
_NO_TIME = "is not a time; use ISO 8601 or seconds since 1970"
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def read_instant(value: Any, latest: datetime) -> datetime:
    """`value` as a UTC datetime from EARLIEST to `latest`.

    Takes ISO 8601 (without offset: UTC; `UTC` and `GMT` behind it are read), dates, datetimes, and numbers or
    their text as the module says. Raises ValueError with the reason: no time, before 1995, in the future.
    """
    if isinstance(value, bool):
        raise ValueError(_NO_TIME)
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = Decimal(value.strip())
    if isinstance(value, int | float | Decimal):
        return _from_number(value, latest)
    try:
        when = _from_words(value)
    except (ValueError, OverflowError):
        raise ValueError(_NO_TIME) from None
    if when > latest:
        raise ValueError("lies in the future")
    if when < EARLIEST:
        raise ValueError(f"lies before {EARLIEST.year}")
    return when


def _from_words(value: Any) -> datetime:
    if isinstance(value, datetime):
        when = value
    elif isinstance(value, date):
        when = datetime(value.year, value.month, value.day)
    elif isinstance(value, str):
        bare, words = _ZONE_WORD.subn("", value.strip())
        when = datetime.fromisoformat(bare)
        if words and when.tzinfo is not None:
            raise ValueError
    else:
        raise ValueError
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def _from_number(value: int | float | Decimal, latest: datetime) -> datetime:
    if not math.isfinite(value) or math.fabs(value) >= 1e20:
        raise ValueError(_NO_TIME)
    readings = [when for when in _readings(Decimal(value)) if when is not None]
    for when in readings:
        if EARLIEST <= when <= latest:
            return when
    soon = latest + timedelta(days=36_525)
    if any(latest < when <= soon for when in readings):
        raise ValueError("lies in the future")
    raise ValueError(
        f"falls before {EARLIEST.year} as seconds, ms, µs or ns since 1970, and is no calendar number like "
        "20240310"
    )


def _readings(number: Decimal) -> list[datetime | None]:
    """What `number` may mean, the likeliest first."""
    readings = [_after(datetime(1970, 1, 1, tzinfo=UTC), number / unit) for unit in _UNITS]
    if number == number.to_integral_value():
        digits = str(int(number))
        pattern = _CALENDAR.get(len(digits))
        if pattern is not None:
            with suppress(ValueError):
                readings.append(datetime.strptime(digits, pattern).replace(tzinfo=UTC))
    readings.append(_after(_SPREADSHEET, number * 86_400))
    return readings


def _after(start: datetime, seconds: Decimal) -> datetime | None:
    try:
        return start + timedelta(microseconds=int((seconds * 1_000_000).to_integral_value()))
    except OverflowError:
        return None
