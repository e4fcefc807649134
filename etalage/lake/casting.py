"""Raw values → the tables' columns. Each converter gives a value, or raises ValueError with the reason.

`cast_column` runs one over a whole column; the rows it refuses go into `bad` (row → reason), and
only a chunk that has one is walked row by row.
"""

import json
import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from etalage.lake.instants import read_instant

LONGEST_ID = 512
"""Bytes of UTF-8."""
CLOCK_SKEW = timedelta(minutes=5)
"""How far in the future a time may lie: clocks differ a little."""

_YES = frozenset({"true", "t", "yes", "y", "1", "in_stock", "in stock", "instock", "available"})
_NO = frozenset(
    {"false", "f", "no", "n", "0", "out_of_stock", "out of stock", "outofstock", "sold out", "unavailable"}
)
Converter = Callable[[Any], Any]


def cast_column(name: str, values: Sequence[Any], convert: Converter, bad: dict[int, str]) -> list[Any]:
    """`values` converted; a refused one is None, with its reason in `bad` unless the row has one."""
    try:
        return [convert(value) for value in values]
    except ValueError:
        pass
    converted: list[Any] = []
    for n, value in enumerate(values):
        try:
            converted.append(convert(value))
        except ValueError as error:
            converted.append(None)
            bad.setdefault(n, f"{name}: {error}")
    return converted


def identity(value: Any) -> str:
    """An id, exactly as given: nothing is stripped or normalised. Whole numbers become their digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= 10**LONGEST_ID:
            raise ValueError(f"has more than {LONGEST_ID} digits")
        value = str(value)
    if value is None or value == "":
        raise ValueError("is missing")
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is {_kind(value)}; an id is text or a whole number")
    if "\x00" in value:
        raise ValueError(f"{_shown(value)} holds a NUL character")
    size = len(_utf8(value))
    if size > LONGEST_ID:
        raise ValueError(f"has {size} bytes, at most {LONGEST_ID} are allowed")
    return value


def text(value: Any) -> str | None:
    """Text, or a number as text; None stays None."""
    if value is None or (type(value) is str and value.isascii()):
        return value
    if isinstance(value, str):
        _utf8(value)
        return value
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{_shown(value)} is {_kind(value)}, not text")


def number(value: Any) -> float | None:
    """A finite number; text is read as Python reads it, less `1_000`. Empty is None."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise ValueError(f"{_shown(value)} is {_kind(value)}, not a number")
    try:
        if isinstance(value, str) and "_" in value:
            raise ValueError
        converted = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{_shown(value)} is not a number") from None
    if not math.isfinite(converted):
        raise ValueError(f"{_shown(value)} is not a finite number")
    return converted


def price(value: Any) -> float | None:
    """A finite number, not negative."""
    converted = number(value)
    if converted is not None and converted < 0:
        raise ValueError(f"{_shown(value)} is negative")
    return converted


def yes_or_no(value: Any) -> bool | None:
    """true, yes, 1, in_stock ... / false, no, 0, out_of_stock ...; empty is None."""
    if value is None or isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str | int) else ""
    if word in _YES:
        return True
    if word in _NO:
        return False
    if value == "":
        return None
    raise ValueError(f"{_shown(value)} is neither yes nor no; use true or false")


def instant(now: datetime) -> Converter:
    """A converter to UTC datetimes, as lake/instants.py reads them; it refuses what lies after `now`."""
    limit = now + CLOCK_SKEW

    def convert(value: Any) -> datetime | None:
        if value is None or value == "":
            return None
        try:
            return read_instant(value, limit)
        except ValueError as error:
            raise ValueError(f"{_shown(value)} {error}") from None

    return convert


def attributes(value: Any) -> dict[str, str]:
    """A JSON object (or its text) as text by text; nulls are left out."""
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"{_shown(value)} is not a JSON object") from None
    if isinstance(value, list) and all(isinstance(v, tuple) and len(v) == 2 for v in value):
        value = dict(value)  # a Parquet map
    if not isinstance(value, dict):
        raise ValueError(f"{_shown(value)} is {_kind(value)}, not a JSON object")
    return {str(_checked(k)): attribute(v) for k, v in value.items() if v is not None}


def attribute(value: Any) -> str:
    """One attribute's value as text; true and false as JSON writes them."""
    if isinstance(value, str):
        return _checked(value)
    try:
        return _checked(json.dumps(value, ensure_ascii=False, default=str))
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def attributes_json(values: dict[str, str]) -> str:
    """The stored form: keys sorted, so that equal attributes are equal text."""
    return json.dumps(values, ensure_ascii=False, sort_keys=True)


def shortened(row: Any, limit: int = 1000) -> str:
    """A raw row as JSON for a person to read, at most `limit` characters, always valid UTF-8."""
    if isinstance(row, dict):
        row = {str(k): _printable(v) for k, v in row.items()}
    elif isinstance(row, list | tuple):
        row = [_printable(v) for v in row]
    else:
        row = _printable(row)
    try:
        written = json.dumps(row, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        written = json.dumps(f"<{type(row).__name__}>")
    return legible(written[:limit])


def legible(value: str) -> str:
    """`value` with what UTF-8 cannot hold (lone surrogates) escaped."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _checked(value: str) -> str:
    _utf8(value)
    return value


def _utf8(value: str) -> bytes:
    try:
        return value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{_shown(value)} holds half a character (a lone surrogate)") from None


def _shown(value: Any) -> str:
    return legible(repr(_printable(value))[:80])


def _printable(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, str):
        return value if len(value) <= 200 else value[:200] + "…"
    if isinstance(value, int) and abs(value) >= 10**100:
        return f"<a whole number of {value.bit_length()} bits>"
    return value


def _kind(value: Any) -> str:
    names = {bool: "true/false", dict: "an object", list: "a list", float: "a number", bytes: "binary"}
    return names.get(type(value), type(value).__name__)
