"""Answers on their way out: the dataclasses of etalage.api written as JSON, and what is no JSON."""

import contextlib
from collections.abc import Mapping
from typing import Any

import orjson

from etalage import api
from etalage.errors import EtalageError

_STARTS = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
)


def written(answer: Any) -> bytes:
    """A dataclass of etalage.api as JSON."""
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)  # a trace holds numbers of numpy


def whole_item(
    bundle: str, columns: Mapping[str, Any], degraded: str | None, colour: str | None
) -> api.WholeItem:
    """All columns of an item; `attributes`, which the table holds as text, becomes an object."""
    item = dict(columns)
    if isinstance(item.get("attributes"), str):
        with contextlib.suppress(orjson.JSONDecodeError):  # else shown as the text that it is
            item["attributes"] = orjson.loads(item["attributes"])
    return api.WholeItem(bundle, item, degraded, colour)


def refused(bundle: str | None, error: EtalageError) -> bytes:
    """A Refusal as JSON."""
    return refused_as(bundle, type(error).__name__, str(error))


def refused_as(bundle: str | None, name: str, message: str) -> bytes:
    """A Refusal as JSON, for a `name` that need not be a class of ours."""
    return orjson.dumps(api.Refusal(bundle, api.Problem(name, message)).tree())


def media_type(photo: bytes) -> str:
    """The media type of an image file, by its first bytes; never one that a browser would run."""
    for start, name in _STARTS:
        if photo.startswith(start):
            return name
    return "image/webp" if photo[:4] == b"RIFF" and photo[8:12] == b"WEBP" else "application/octet-stream"
