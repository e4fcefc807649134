"""Photos that come with rows (bytes, base64 or a path) or lie in a folder, as photos rows."""

import base64
import binascii
import hashlib
from pathlib import Path
from typing import Any

from etalage.lake.photo_facts import photo_facts
from etalage.lake.schema import PHOTO_OK
from etalage.lake.shown import legible

_LARGEST_PHOTO = 64 * 2**20


def row_photo(raw: Any, folder: Path | None) -> tuple[bytes, str]:
    """(image file, a url for it where the row gives none).

    `folder`: `raw` is a path beneath it; None: `raw` is bytes, base64, or a data: URL.
    Raises ValueError with the reason to refuse it.
    """
    if raw is None or raw in ("", b""):
        raise ValueError("is missing")
    if folder is not None:
        return _beneath(folder, raw), str(raw)
    if isinstance(raw, dict) and isinstance(raw.get("bytes"), bytes):
        raw = raw["bytes"]  # the image feature of Hugging Face's Parquet files
    if isinstance(raw, str):
        encoded = raw.partition(",")[2] if raw.startswith("data:") else raw
        try:
            raw = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("is not base64; for a path, map `photo_path` instead of `photo`") from None
    if not isinstance(raw, bytes):
        raise ValueError(f"is {type(raw).__name__}, not the bytes or base64 of an image")
    return raw, f"sha256:{hashlib.sha256(raw).hexdigest()}"


def _beneath(folder: Path, raw: Any) -> bytes:
    if not isinstance(raw, str) or "\x00" in raw:
        raise ValueError(f"{raw!r} is not a path")
    try:
        path = (folder / raw).resolve()
    except (OSError, RuntimeError, UnicodeEncodeError) as error:
        raise ValueError(f"{raw!r} is not a path: {error}") from None
    if not path.is_relative_to(folder):
        raise ValueError(f"{raw} leaves the folder {folder}")
    return photo_file(path)


def photo_file(path: Path) -> bytes:
    """The bytes of an image file. Raises ValueError: not there, not a plain file, too large."""
    try:
        if not path.is_file():
            raise ValueError(f"{legible(str(path))} is not a file")
        size = path.stat().st_size
        if size > _LARGEST_PHOTO:
            raise ValueError(f"{legible(str(path))} has {size} bytes, at most {_LARGEST_PHOTO} are read")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{legible(str(path))} cannot be read: {error.strerror}") from None


def add_photo(rows: dict[str, list[Any]], item_id: str, url: str, photo: bytes) -> None:
    """Append one photos row to `rows` (column → values). Raises ValueError when it is no image."""
    facts = photo_facts(photo)
    values: dict[str, Any] = {
        "item_id": item_id,
        "url": url,
        "status": PHOTO_OK,
        "bytes": photo,
        "width": facts.width,
        "height": facts.height,
        "sha256": facts.sha256,
        "phash": facts.phash,
        "fetched_at": None,
    }
    for name, value in values.items():
        rows[name].append(value)
