"""How a value from somebody's file is shown to a person: short, in one line, always valid UTF-8."""

import json
from datetime import date
from typing import Any


def shown(value: Any) -> str:
    """A value in a reason: quoted, at most 80 characters."""
    return legible(repr(_printable(value))[:80])


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


def kind_of(value: Any) -> str:
    """What a value is, for a reason: `a list`, `true/false`."""
    names = {bool: "true/false", dict: "an object", list: "a list", float: "a number", bytes: "binary"}
    return names.get(type(value), type(value).__name__)


def _printable(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, str):
        return value if len(value) <= 200 else value[:200] + "…"
    if isinstance(value, date):  # and datetime
        return str(value)
    if isinstance(value, int) and abs(value) >= 10**100:
        return f"<a whole number of {value.bit_length()} bits>"
    return value
