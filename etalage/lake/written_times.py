"""Times in words and digits: ISO 8601, dates as countries write them, mails' and logs' forms, AM and PM,
zones."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any, Literal
from zoneinfo import ZoneInfo

NO_TIME = "is not a time; use ISO 8601 or seconds since 1970"
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
Order = Literal["dmy", "mdy", "ymd"]


@dataclass(frozen=True)
class TimeStyle:
    """How a shop writes times: `zone` of those without an offset, `order` of 03/04/2025 (None: not known),
    `proven`: the order that other dates of the column show, for those that may be two dates."""

    zone: tzinfo = UTC
    order: Order | None = None
    proven: Order | None = None

    def in_utc(self, when: datetime) -> datetime:
        """`when` in UTC; without an offset it is of the style's zone."""
        return (when.replace(tzinfo=self.zone) if when.tzinfo is None else when).astimezone(UTC)


AS_WRITTEN = TimeStyle()
"""What has no offset is UTC; of 03/04/2025 nobody knows the order."""

_TIME = (
    r"(?:[T ,:]\s*(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d{1,9}))?)?"
    r"(?:\s*(?P<half>[ap])\.?m\.?)?)?"
)
_WEEKDAY = r"(?:[^\W\d_]{2,12}\.?,?\s+)?"
_MONTH = r"(?P<month>[^\W\d_]{3,10})\.?"
_NTH = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        r"(?P<a>\d{1,4})(?P<mark>[./-])(?P<b>\d{1,2})(?P=mark)(?P<c>\d{1,4})" + _TIME,
        _WEEKDAY
        + _NTH
        + r"(?:\s+de\s+|[ /.-]+)"
        + _MONTH
        + r"(?:\s+de\s+|[ ,/-]+)(?P<year>\d{4}|\d{2})"
        + _TIME,
        _WEEKDAY + _MONTH + r"\s+" + _NTH + r",?\s+(?P<year>\d{4})" + _TIME,
        _WEEKDAY + _MONTH + r"\s+" + _NTH + _TIME.removesuffix("?") + r"\s+(?P<year>\d{4})",
    )
)
_ZONE = re.compile(
    r"(?<=[\d.mM])\s*(?:(?P<word>(?i:UTC|GMT|Etc/UTC|Z))|(?:UTC|GMT)(?P<hours>[+-]\d)"
    r"|(?:UTC|GMT)?(?P<offset>[+-]\d{2}(?::?\d{2})?)(?:\s+(?P<also>[A-Z]{3,5}))?|(?P<name>[A-Z]{2,5}"
    r"|[A-Z][A-Za-z_]+/[A-Za-z_/+-]+))?(?:\s*\([^()]*\)|\[[\w/+-]+\])?$"
)
_SLASHED = re.compile(r"\s*(\d{1,2})[/-](\d{1,2})[/-](\d{4}|\d{2})(?!\d)")
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?"
_BEGINS_AS_ISO = re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:")
_REORDERED: tuple[tuple[re.Pattern[str], str], ...] = (
    # The zone before the year, as Unix and Twitter write it; the clock before the day; points in the clock.
    (re.compile(rf"(\w{{3}} \w{{3}} +\d{{1,2}} {_CLOCK}) ([A-Z]{{3,5}}|[+-]\d{{4}}) (\d{{4}})"), r"\1 \3 \2"),
    (re.compile(rf"({_CLOCK}),? +(\d.*)"), r"\2 \1"),
    (re.compile(r"(\d{4}-\d{2}-\d{2})[ T-](\d{2})\.(\d{2})\.(\d{2})(.*)"), r"\1 \2:\3:\4\5"),
    (re.compile(r"(\d{4})年(\d{1,2})月(\d{1,2})日(.*)"), r"\1-\2-\3 \4"),
)
_KNOWN = {
    "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "WET": 0, "WEST": 1, "MSK": 3, "EST": -5, "EDT": -4, "MST":
    -7, "MDT": -6, "PST": -8, "PDT": -7, "JST": 9, "KST": 9, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT":
    13,
}  # fmt: skip
_MONTH_WORDS = """
jan january januar janvier janv enero ene gennaio gen januari janeiro jän jänner
feb february februar février févr fév febrero febbraio februari fevereiro fev
mar march märz mär mrz mars marzo maart mrt março marts
apr april avril avr abril abr aprile
may mai mayo maggio mag mei maio maj
jun june juni juin junio giugno giu junho
jul july juli juillet juil julio luglio lug julho
aug august août aout agosto ago augustus augusti
sep september sept septembre septiembre set settembre sett setembro
oct october oktober okt octobre octubre ottobre ott outubro out
nov november novembre noviembre novembro
dec december dezember dez décembre déc diciembre dic dicembre dezembro desember des
"""
_MONTHS = {
    word: month
    for month, words in enumerate(_MONTH_WORDS.strip().splitlines(), start=1)
    for word in words.split()
}
"""In English, German, French, Spanish, Italian, Dutch, Portuguese, Swedish, Danish and Norwegian."""
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
    if not _BEGINS_AS_ISO.match(text):
        text = _reordered(text)
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


def _reordered(text: str) -> str:
    for form, order in _REORDERED:
        found = form.fullmatch(text)
        if found is not None:
            return found.expand(order).strip()
    return text


def _without_zone(text: str) -> tuple[str, tzinfo | None]:
    """(the text before its zone, the zone; None: it has none). Raises ValueError: a zone that nobody
    knows."""
    found = _ZONE.search(text)
    if found is None or not found[0].strip():
        return text, None
    bare = text[: found.start()].rstrip()
    if found["word"]:
        return bare, UTC
    if found["hours"]:
        return bare, timezone(timedelta(hours=int(found["hours"])))
    if found["offset"]:
        if re.fullmatch(r"\d{1,4}-\d{1,2}", bare):  # the end of 2024-03-10 is no offset
            return text, None
        sign = -1 if found["offset"][0] == "-" else 1
        digits = found["offset"][1:].replace(":", "").ljust(4, "0")
        offset = sign * timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
        if (
            found["also"]
            and timedelta(hours=({"UTC": 0, "GMT": 0} | _KNOWN).get(found["also"], 99)) != offset
        ):
            raise ValueError(NO_TIME)
        return bare, timezone(offset)
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
            year, month, day = _in_order(parts["a"], parts["b"], parts["c"], parts["mark"], style)
        else:
            year, day = _year(parts["year"]), int(parts["day"])
            month = _MONTHS.get(parts["month"].lower(), 0)
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


def proven_order(value: Any) -> Order | None:
    """The order that a date in digits shows, such as 25/03/2024; None: it shows none, or is no such date.
    Raises ValueError: it may be two dates."""
    found = _SLASHED.match(value) if isinstance(value, str) else None
    return None if found is None else _order_of(int(found[1]), int(found[2]), found[3], "/")


def _in_order(a: str, b: str, c: str, mark: str, style: TimeStyle) -> tuple[int, int, int]:
    """(year, month, day) of a date in digits. Raises ValueError: it may be two dates, or is none."""
    order = style.order
    if len(a) > 2:
        return int(a), int(b), int(c)
    if len(c) == 3 or (len(c) > 2 and order == "ymd"):
        raise ValueError(NO_TIME)
    if order is None:
        try:
            order = _order_of(int(a), int(b), c, mark)
        except ValueError:
            if style.proven is None:
                raise
            order = style.proven
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
