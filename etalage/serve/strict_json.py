"""Request bodies: read with a cap, parsed without mercy.

JSON as RFC 8259 has it, and no more: UTF-8; no NaN or infinity, written or overflowed (`1e999`);
no key twice; no lone surrogate; no nesting beyond MAX_DEPTH. Each refusal names the field.
"""

import json
import math
import re
from typing import Any

from starlette.requests import Request

from etalage.errors import BodyTooLarge, RequestError, UnsupportedMedia

MAX_DEPTH = 32
MAX_DIGITS = 308
"""A longer whole number overflows a float; Python would spend quadratic time on it."""

MAX_VALUES = 10_000
"""Counted before parsing, so that no body can hold the event loop: base64 has none of these marks."""

_TOKEN = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"|[\[\]{},]')
"""Strings and the marks that shape the tree; all else is passed over."""


class _Wrong:
    """Stands in the parsed tree where a value cannot be taken; `why` says so."""

    def __init__(self, why: str) -> None:
        self.why = why


async def read_body(request: Request, limit: int) -> bytes:
    """The body, at most `limit` bytes.

    Raises BodyTooLarge as soon as more is announced or has arrived, holding nothing of the rest;
    UnsupportedMedia for a compressed body (never inflated) or one that is not said to be JSON.
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedMedia(f"Content-Encoding {coding[:40]!r} is not taken: send the JSON as it is")
    # A page of another site may send anything but this without asking first (F59), nothing at all included.
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media != "application/json":
        raise UnsupportedMedia(
            f"Content-Type {media[:80]!r} is not taken: send the header `Content-Type: application/json`"
        )
    announced = request.headers.get("content-length", "")
    too_large = f"the body has more than {limit} bytes; send a smaller photo, or fewer at once"
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise BodyTooLarge(too_large)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise BodyTooLarge(too_large)
        parts.append(part)
    return b"".join(parts)


def parse(body: bytes) -> Any:
    """The tree that the JSON text describes. Raises RequestError that names the field."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"body: not UTF-8 at byte {error.start}") from error
    if sum(map(text.count, ",[{")) > MAX_VALUES:
        deep = deep_path(text)
        raise RequestError(_too_deep(deep) if deep else f"body: more than {MAX_VALUES} values")
    try:
        tree = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=lambda name: _Wrong(f"{name} is not a JSON number"),
            parse_float=_number,
            parse_int=_whole_number,
        )
    except RecursionError as error:
        raise RequestError(_too_deep(deep_path(text))) from error
    except json.JSONDecodeError as error:
        raise RequestError(
            f"body: not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    _check(tree, ())
    return tree


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                result[key] = _Wrong("given twice")
            seen.add(key)
    return result


def _number(text: str) -> Any:
    value = float(text)
    return value if math.isfinite(value) else _Wrong(f"{text[:40]} is too large for a number")


def _whole_number(text: str) -> Any:
    return int(text) if len(text) <= MAX_DIGITS else _Wrong(f"a number of {len(text)} digits")


def _check(value: Any, path: tuple[str, ...]) -> None:
    if isinstance(value, _Wrong):
        raise RequestError(f"{_named(path)}: {value.why}")
    if isinstance(value, (dict, list)) and len(path) >= MAX_DEPTH:
        raise RequestError(_too_deep(path))
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check_text(key, (*path, repr(key)[1:-1]))
            _check(inner, (*path, key))
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            _check(inner, (*path, str(position)))


def _check_text(value: str, path: tuple[str, ...]) -> None:
    if value.isascii():
        return
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(f"{_named(path)}: half of a surrogate pair is not text") from error


def deep_path(text: str) -> tuple[str, ...]:
    """The path of the first value nested deeper than MAX_DEPTH; () when there is none.

    A flat scan, for texts that nest too deep to be parsed.
    """
    steps: list[str | int] = []
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if mark[0] == '"':
            is_key = text[token.end() : token.end() + 20].lstrip().startswith(":")
            if is_key and steps and isinstance(steps[-1], str):
                steps[-1] = token.group(1)
        elif mark in "[{":
            if len(steps) >= MAX_DEPTH:
                return tuple(str(step) for step in steps)
            steps.append(0 if mark == "[" else "")
        elif mark == "," and steps and isinstance(steps[-1], int):
            steps[-1] += 1
        elif mark in "]}" and steps:
            steps.pop()
    return ()


def _named(path: tuple[str, ...]) -> str:
    if not path:
        return "body"
    shown = [step if len(step) <= 40 else step[:39] + "…" for step in path]
    return ".".join(shown if len(shown) <= 6 else [*shown[:6], "…"])


def _too_deep(path: tuple[str, ...]) -> str:
    return f"{_named(path)}: nested deeper than {MAX_DEPTH} levels"
