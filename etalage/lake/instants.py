"""What somebody wrote as a time → one UTC moment, for files and for the API alike.

A number may be seconds, ms, µs or ns since 1970, a calendar number (20240310, 202403100900) or a day of a
spreadsheet (45361.375). It is read as the one of these that falls between EARLIEST and now: their ranges do
not touch, but for calendar numbers of ten digits, which as seconds lie after 2030. Text is read by
written_times.py.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from etalage.lake.spreadsheets import bare
from etalage.lake.written_times import AS_WRITTEN, NO_TIME, NUMBER, TimeStyle, from_words

__all__ = ["AS_WRITTEN", "EARLIEST", "TimeStyle", "instant_reader", "read_instant"]

EARLIEST = datetime(1995, 1, 1, tzinfo=UTC)
"""No shop on the web has acts before this; a number that falls there was read in the wrong unit."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPREADSHEET = datetime(1899, 12, 30)
"""Day 0 of a spreadsheet's dates."""
_UNITS = (1, 1_000, 1_000_000, 1_000_000_000)
"""Of one second: s, ms, µs, ns."""
_CALENDAR = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_FIRST = int(EARLIEST.timestamp())


def instant_reader(latest: datetime, style: TimeStyle = AS_WRITTEN) -> Callable[[Any], datetime]:
    """A function that reads values as `read_instant` does, for whole columns."""
    last = latest.timestamp()

    def read(value: Any) -> datetime:
        if type(value) is str and value.isdecimal() and len(value) < 20:
            value = int(value)
        if type(value) is int:
            # What most columns are: whole seconds, ms, µs or ns, in ranges that do not touch.
            for unit in _UNITS:
                if _FIRST * unit <= value <= last * unit:
                    return _EPOCH + timedelta(
                        seconds=value // unit, microseconds=value % unit * 10**6 // unit
                    )
        return read_instant(value, latest, style)

    return read


def read_instant(value: Any, latest: datetime, style: TimeStyle = AS_WRITTEN) -> datetime:
    """`value` as a UTC datetime from EARLIEST to `latest`.

    Takes what written_times.py reads, dates, datetimes, and numbers or their text as the module says; what
    has no offset is of the style's zone. Raises ValueError with the reason: no time, before 1995, in the
    future.
    """
    if isinstance(value, bool):
        raise ValueError(NO_TIME)
    if isinstance(value, dict):
        value = _of_store(value)
    if isinstance(value, str):
        value = _without_mark(value)
        if NUMBER.fullmatch(value):
            value = Decimal(value)
    if isinstance(value, int | float | Decimal):
        return _from_number(value, latest, style)
    try:
        when = _from_calendar(value, style)
    except OverflowError:
        raise ValueError(NO_TIME) from None
    if when > latest:
        raise ValueError("lies in the future")
    if when < EARLIEST:
        raise ValueError(f"lies before {EARLIEST.year}")
    return when


def _of_store(value: dict[Any, Any]) -> Any:
    """The time in an object by which a document store writes it: {"$date": …}, {"seconds": …, "nanos": …}."""
    names = {str(name).strip("$_").lower() for name in value}
    if len(value) == 1 and names <= {"date", "numberlong", "numberint", "numberdouble"}:
        inner = next(iter(value.values()))
        return _of_store(inner) if isinstance(inner, dict) else inner
    if "seconds" in names and names <= {"seconds", "nanos", "nanoseconds"}:
        return next(part for name, part in value.items() if str(name).strip("_").lower() == "seconds")
    raise ValueError(NO_TIME)


def _without_mark(text: str) -> str:
    """Without a spreadsheet's apostrophe, or the `/Date(…)/` of some programs around ms."""
    text = bare(text)
    return text[6:-2] if text.startswith("/Date(") and text.endswith(")/") else text


def _from_calendar(value: Any, style: TimeStyle) -> datetime:
    if isinstance(value, datetime):
        return style.in_utc(value)
    if isinstance(value, date):
        return style.in_utc(datetime(value.year, value.month, value.day))
    if isinstance(value, str):
        return from_words(value, style)
    raise ValueError(NO_TIME)


def _from_number(value: int | float | Decimal, latest: datetime, style: TimeStyle) -> datetime:
    if not math.isfinite(value) or math.fabs(value) >= 1e20:
        raise ValueError(NO_TIME)
    readings = [when for when in _readings(Decimal(value), style) if when is not None]
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


def _readings(number: Decimal, style: TimeStyle) -> list[datetime | None]:
    """What `number` may mean, the likeliest first."""
    readings = [_after(_EPOCH, number / unit) for unit in _UNITS]
    if number == number.to_integral_value():
        digits = str(int(number))
        pattern = _CALENDAR.get(len(digits))
        if pattern is not None:
            with suppress(ValueError, OverflowError):
                readings.append(style.in_utc(datetime.strptime(digits, pattern)))
    day = _after(_SPREADSHEET, number * 86_400)
    with suppress(OverflowError):
        readings.append(None if day is None else style.in_utc(day))
    return readings


def _after(start: datetime, seconds: Decimal) -> datetime | None:
    try:
        return start + timedelta(microseconds=int((seconds * 1_000_000).to_integral_value()))
    except OverflowError:
        return None
