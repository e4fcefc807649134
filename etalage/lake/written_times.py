"""Times in words and digits: ISO 8601, dates as countries write them, mails' and logs' forms, AM and PM,
zones."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo

NO_TIME = "is not a time; use ISO 8601 or seconds since 1970"
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
Order = Literal["dmy", "mdy", "ymd"]


@dataclass(frozen=True)
class TimeStyle:
    """How a shop writes times: `zone` of those without an offset, `order` of 03/04/2025 (None: not known)."""

    zone: tzinfo = UTC
    order: Order | None = None

    def in_utc(self, when: datetime) -> datetime:
        """`when` in UTC; without an offset it is of the style's zone."""
        return (when.replace(tzinfo=self.zone) if when.tzinfo is None else when).astimezone(UTC)


AS_WRITTEN = TimeStyle()
"""What has no offset is UTC; of 03/04/2025 nobody knows the order."""

_TIME = (
    r"(?:[T ,:]\s*(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d{1,9}))?)?"
    r"(?:\s*(?P<half>[ap])\.?m\.?)?)?"
)
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?"
_MONTH = r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_NTH = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        r"(?P<a>\d{1,4})(?P<mark>[./-])(?P<b>\d{1,2})(?P=mark)(?P<c>\d{1,4})" + _TIME,
        _WEEKDAY + _NTH + r"[ /.-]+" + _MONTH + r"[ ,/-]+(?P<year>\d{4}|\d{2})" + _TIME,
        _WEEKDAY + _MONTH + r"\s+" + _NTH + r",?\s+(?P<year>\d{4})" + _TIME,
        _WEEKDAY + _MONTH + r"\s+" + _NTH + _TIME.removesuffix("?") + r"\s+(?P<year>\d{4})",
    )
)
_ZONE = re.compile(
    r"(?<=[\d.mM])\s*(?:(?P<word>(?i:UTC|GMT|Etc/UTC|Z))|(?:UTC|GMT)?(?P<offset>[+-]\d{2}(?::?\d{2})?)|(?P<name>[A-Z]{2,5}"
    r"|[A-Z][A-Za-z_]+/[A-Za-z_/+-]+))?(?:\s*\([^()]*\)|\[[\w/+-]+\])?$"
)
_KNOWN = {
    "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "WET": 0, "WEST": 1, "MSK": 3, "EST": -5, "EDT": -4, "MST":
    -7, "MDT": -6, "PST": -8, "PDT": -7, "JST": 9, "KST": 9, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT":
    13,
}  # fmt: skip
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_LONGEST = 80


def from_words(text: str, style: TimeStyle) -> datetime:
    """`text` as a UTC datetime. Raises ValueError with the reason, OverflowError."""
    text = text.strip()
    if len(text) > _LONGEST:
        raise ValueError(NO_TIME)
    try:
        return style.in_utc(datetime.fromisoformat(text))
    except ValueError:
        pass
    bare, zone = _without_zone(text)
    try:
        when = datetime.fromisoformat(bare)
    except ValueError:
        when = _from_form(bare, style)
    if zone is None:
        return style.in_utc(when)
    if when.tzinfo is not None:
        raise ValueError(NO_TIME)
    return when.replace(tzinfo=zone).astimezone(UTC)


def _without_zone(text: str) -> tuple[str, tzinfo | None]:
    """(the text before its zone, the zone; None: it has none). Raises ValueError: a zone that nobody
    knows."""
    found = _ZONE.search(text)
    if found is None or not found[0].strip():
        return text, None
    bare = text[: found.start()].rstrip()
    if found["word"]:
        return bare, UTC
    if found["offset"]:
        if re.fullmatch(r"\d{1,4}-\d{1,2}", bare):  # the end of 2024-03-10 is no offset
            return text, None
        sign = -1 if found["offset"][0] == "-" else 1
        digits = found["offset"][1:].replace(":", "").ljust(4, "0")
        return bare, timezone(sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:])))
    name = found["name"]
    if name is None:
        return bare, None
    if name in ("AM", "PM"):
        return text, None
    if name in _KNOWN:
        return bare, timezone(timedelta(hours=_KNOWN[name]))
    if "/" in name:
        return bare, zone_of(name)
    raise ValueError(
        f"has the zone {name!r}, and several zones are called that or none; write an offset: +01:00"
    )


def zone_of(name: str) -> tzinfo:
    """The zone of an IANA name. Raises ValueError: there is none of that name."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name!r}; use a name such as Europe/Berlin") from None


def _from_form(text: str, style: TimeStyle) -> datetime:
    for form in _FORMS:
        found = form.fullmatch(text)
        if found is None:
            continue
        parts = found.groupdict()
        if "mark" in parts:
            year, month, day = _in_order(parts["a"], parts["b"], parts["c"], parts["mark"], style.order)
        else:
            year, day = _year(parts["year"]), int(parts["day"])
            month = _MONTHS.index(parts["month"][:3].lower()) + 1
        hour = int(parts["hour"] or 0)
        if parts["half"] is not None:
            if not 1 <= hour <= 12:
                raise ValueError(NO_TIME)
            hour = hour % 12 + (12 if parts["half"].lower() == "p" else 0)
        micros = int((parts["part"] or "0").ljust(6, "0")[:6])
        try:
            return datetime(
                year, month, day, hour, int(parts["minute"] or 0), int(parts["second"] or 0), micros
            )
        except ValueError:
            raise ValueError(NO_TIME) from None
    raise ValueError(NO_TIME)


def _in_order(a: str, b: str, c: str, mark: str, order: Order | None) -> tuple[int, int, int]:
    """(year, month, day) of a date in digits. Raises ValueError: it may be two dates, or is none."""
    if len(a) > 2:
        return int(a), int(b), int(c)
    if len(c) == 3 or (len(c) > 2 and order == "ymd"):
        raise ValueError(NO_TIME)
    if order is None:
        order = _order_of(int(a), int(b), c, mark)
    if order == "ymd":
        return _year(a), int(b), int(c)
    day, month = (int(a), int(b)) if order == "dmy" else (int(b), int(a))
    if month > 12:
        raise ValueError(f"is not a time with dates = {order!r}")
    return _year(c), month, day


def _order_of(a: int, b: int, c: str, mark: str) -> Order:
    if mark == ".":
        return "dmy"  # who writes dates with points writes the day first
    if len(c) == 4 and a > 12 >= b:
        return "dmy"
    if b > 12 >= a or (len(c) == 4 and a == b):
        return "mdy"
    raise ValueError('may be two dates; say which comes first, day or month: dates = "dmy" or "mdy"')


def _year(digits: str) -> int:
    return int(digits) + (2000 if int(digits) < 70 else 1900) if len(digits) <= 2 else int(digits)
