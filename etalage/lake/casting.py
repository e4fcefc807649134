"""Raw values → the tables' columns. Each converter gives a value, or raises ValueError with the reason.

`cast_column` runs one over a whole column; only a column with a value that it refuses is walked value by
value. What money, stock and times may look like is in amounts.py, availability.py and instants.py.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from html import unescape
from typing import Any
from uuid import UUID

from etalage.lake.amounts import read_amount
from etalage.lake.instants import AS_WRITTEN, TimeStyle, instant_reader
from etalage.lake.shown import kind_of, shown

LONGEST_ID = 512
"""Bytes of UTF-8."""
_EXACT = 2**53
"""Whole numbers below this are exact as a float."""
CLOCK_SKEW = timedelta(minutes=5)
"""How far in the future a time may lie: clocks differ a little."""

_NOTHING_WORDS = """
none nan null nil n/a na #n/a #na nat <na> undefined unknown - -- – — ? tba tbd \\n (null) <null> [null]
#null! #value! #ref! #num! #name? #div/0! n.a. n.v. k.a. missing
"""
NOTHING = frozenset(_NOTHING_WORDS.split())
"""Words for `not known`, in columns of numbers, times, stock and links. In a text they are a text."""
_NO_TIMES = ("0000-00-00", "0001-01-01T00:00:00", "0001-01-01 00:00:00")
"""How databases write that there is no time."""
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_LINKS = re.compile(r"[\s,;|]+(?=https?://)", re.IGNORECASE)
Converter = Callable[[Any], Any]


def cast_column(
    values: Sequence[Any], convert: Converter, counts: bool = False
) -> tuple[list[Any], dict[int, str]]:
    """(`values` converted, {n: why} of those that are refused, and None).

    Equal values are converted once. `counts`: the converter counts what it reads otherwise than it stands
    there, and has to see every text.
    """
    try:
        if (distinct := _distinct(values, counts)) is None:
            return [convert(value) for value in values], {}
        known = {value: convert(value) for value in distinct}
        return [known[value] for value in values], {}
    except ValueError:
        pass
    converted: list[Any] = []
    reasons: dict[int, str] = {}
    for n, value in enumerate(values):
        try:
            converted.append(convert(value))
        except ValueError as error:
            converted.append(None)
            reasons[n] = str(error)
    return converted, reasons


def _distinct(values: Sequence[Any], counts: bool) -> list[Any] | None:
    """The values that differ, where they are few and equal ones cannot be told apart; else None."""
    kinds = set(map(type, values)) - {type(None)}
    # A Decimal's 1.0 and 1.00 are equal, and are two texts; so are values of several types.
    if len(kinds) != 1 or not kinds <= {int, float, str, datetime, date} or (counts and str in kinds):
        return None
    distinct = dict.fromkeys(values)
    if 4 * len(distinct) > 3 * len(values):
        return None
    if (
        float in kinds
        and 0.0 in distinct
        and any(v == 0.0 and math.copysign(1.0, v) < 0 for v in values if v is not None)
    ):
        return None
    # The second 02:10 of the night in which the clocks go back is equal to the first, and an hour later.
    if datetime in kinds and any(v.fold for v in values if v is not None):
        return None
    return list(distinct)


def identity(value: Any) -> str:
    """An id, exactly as given: nothing is stripped or normalised. Whole numbers become their digits, also
    those that a column with gaps holds as 3.0 (as a number: the text `3.0` stays). Blanks alone are none."""
    if type(value) is str and value.isascii() and "\x00" not in value and 0 < len(value) <= LONGEST_ID:
        if value.isspace():
            raise ValueError("is missing: blanks stand there")
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= 10**LONGEST_ID:
            raise ValueError(f"has more than {LONGEST_ID} digits")
        value = str(value)
    if value is None or value == "" or value != value:
        raise ValueError("is missing")
    if isinstance(value, float | Decimal) and math.fabs(value) < _EXACT and value == int(value):
        return str(int(value))
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is {kind_of(value)}; an id is text or a whole number")
    if value.isspace():
        raise ValueError("is missing: blanks stand there")
    if "\x00" in value:
        raise ValueError(f"{shown(value)} holds a NUL character")
    size = len(_utf8(value))
    if size > LONGEST_ID:
        raise ValueError(f"has {size} bytes, at most {LONGEST_ID} are allowed")
    return value


def text(value: Any) -> str | None:
    """Text, or a number as text; None stays None. A list of one text is that text, an empty one nothing."""
    if isinstance(value, list) and len(value) < 2:
        value = value[0] if value else None
    if value is None or (type(value) is str and value.isascii()):
        return value
    if isinstance(value, str):
        _utf8(value)
        return value
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{shown(value)} is {kind_of(value)}, not text")


def paragraphs(value: Any) -> str | None:
    """Text, or a list of texts as one of several lines."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return text("\n".join(part for part in value if part.strip()) or None)
    return text(value)


def number(value: Any) -> float | None:
    """A finite number; empty is None."""
    amount = read_amount(value)
    if amount is not None and amount.currency is not None:
        raise ValueError(f"{shown(value)} is not a number")
    return None if amount is None else amount.value


def price(value: Any) -> float | None:
    """A finite number, not negative."""
    converted = number(value)
    if converted is not None and converted < 0:
        raise ValueError(f"{shown(value)} is negative")
    return converted


def says_nothing(value: Any) -> bool:
    """Whether `value` is a word for `not known`, such as `None`, `N/A` or a dash."""
    if isinstance(value, float):
        return value != value
    if not isinstance(value, str):
        return False
    return (len(value) <= 12 and value.strip().lower() in NOTHING) or value.startswith(_NO_TIMES)


def decoded(value: str) -> str:
    """`value` with the entities of HTML that stand in it as text (`&gt;`, `&ndash;`, `&#39;`) as
    characters."""
    return _ENTITY.sub(lambda found: unescape(found[0]), value) if "&" in value else value


def links(value: Any) -> list[str]:
    """The links of one cell, each once: separated by commas, blanks, `;` or `|`, a list, or a JSON list.

    What is no list of `http(s)://…` is one link, exactly as it is. Raises ValueError: no text.
    """
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [value]
    if isinstance(value, list | tuple):
        found = [link for part in value if part not in (None, "") for link in links(part)]
    else:
        whole = text(value)
        found = _LINKS.split(whole.strip(" \t\r\n,;|")) if whole and _LINKS.search(whole) else [whole or ""]
    return list(dict.fromkeys(link for link in found if link))


def instant(now: datetime, style: TimeStyle = AS_WRITTEN) -> Converter:
    """A converter to UTC datetimes, as lake/instants.py reads them; it refuses what lies after `now`."""
    read = instant_reader(now + CLOCK_SKEW, style)

    def convert(value: Any) -> datetime | None:
        if value is None or value == "":
            return None
        try:
            return read(value)
        except ValueError as error:
            raise ValueError(f"{shown(value)} {error}") from None

    return convert


def attributes(value: Any) -> dict[str, str]:
    """A JSON object (or its text) as text by text; nulls are left out."""
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"{shown(value)} is not a JSON object") from None
    if isinstance(value, list) and all(isinstance(v, tuple) and len(v) == 2 for v in value):
        value = dict(value)  # a Parquet map
    if not isinstance(value, dict):
        raise ValueError(f"{shown(value)} is {kind_of(value)}, not a JSON object")
    return {str(_checked(k)): attribute(v) for k, v in value.items() if v is not None}


def attribute(value: Any) -> str:
    """One attribute's value as text; true and false as JSON writes them, dates and exact numbers without its
    quotation marks."""
    if isinstance(value, str):
        return _checked(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    try:
        return _checked(json.dumps(value, ensure_ascii=False, default=str))
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def attributes_json(values: dict[str, str]) -> str:
    """The stored form: keys sorted, so that equal attributes are equal text."""
    return json.dumps(values, ensure_ascii=False, sort_keys=True)


def _checked(value: str) -> str:
    _utf8(value)
    return value


def _utf8(value: str) -> bytes:
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{shown(value)} holds half a character (a lone surrogate)") from None
