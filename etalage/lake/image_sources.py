"""Image sets: IDX pairs (MNIST's format, `.gz` too) and folders of images, as items with photos."""

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from etalage.errors import InputUnreadable
from etalage.lake.casting import attributes_json, identity
from etalage.lake.checked import Loaded, table_of
from etalage.lake.photo_facts import MAX_PIXELS, difference_hashes, pixels_as_png
from etalage.lake.raw import Refusal, open_bytes
from etalage.lake.row_photos import add_photo, photo_file
from etalage.lake.schema import CATEGORY_SEPARATOR, PHOTO_OK, TABLES
from etalage.lake.shown import legible

_UNSIGNED_BYTE = 0x08


def is_idx(file: Path) -> bool:
    """Whether the name is that of an IDX file: `train-images-idx3-ubyte.gz`."""
    return "idx1" in file.name or "idx3" in file.name or "idx4" in file.name


def idx_rows(
    images: Path, class_names: Sequence[str] | None, attributes: dict[str, str] | None, rows: int
) -> Iterator[Loaded]:
    """The pair of `images` and the labels file beside it, `rows` images at a time.

    Item n of `train-images-idx3-ubyte.gz` is called `train-00000n`; its category is the class name
    of its label, or the label. Raises InputUnreadable before any row: no labels file, wrong magic
    number, sizes that do not agree.
    """
    labels = _labels(labels_file(images))
    shape = _checked_header(images)
    if shape[0] != len(labels):
        raise InputUnreadable(
            f"{images}: holds {shape[0]} images, its labels file {labels_file(images)} "
            f"holds {len(labels)} labels; they are not a pair"
        )
    prefix = images.name.split("images")[0].rstrip("-_.") or "image"
    extra = None if attributes is None else attributes_json(attributes)
    with open_bytes(images) as file:
        file.read(4 + 4 * len(shape))
        for start in range(0, shape[0], rows):
            count = min(rows, shape[0] - start)
            pixels = np.frombuffer(file.read(count * prod(shape[1:])), np.uint8).reshape(count, *shape[1:])
            yield _idx_chunk(images, prefix, start, pixels, labels[start : start + count], class_names, extra)


def labels_file(images: Path) -> Path:
    """The labels file beside an IDX images file. Raises InputUnreadable when there is none."""
    name = images.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    plain = name.removesuffix(".gz")
    for candidate in (images.with_name(name), images.with_name(plain), images.with_name(plain + ".gz")):
        if candidate != images and candidate.is_file():
            return candidate
    raise InputUnreadable(
        f"{images}: no labels file {images.with_name(name)} beside it; an IDX source is a pair "
        "such as train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz, and the images file is named"
    )


def folder_rows(
    folder: Path, ids: Literal["stem", "path"], attributes: dict[str, str] | None, rows: int
) -> Iterator[Loaded]:
    """The images in class folders beneath `folder`, in order of path, `rows` at a time.

    `Clothing/Dresses/red.jpg` is in the category `Clothing > Dresses`; its id is `red`, or with
    `ids="path"` `Clothing/Dresses/red`. An id that another file has already is refused.
    """
    extra = None if attributes is None else attributes_json(attributes)
    taken: dict[bytes, str] = {}
    chunk = _Chunk(extra)
    for path in files_beneath(folder):
        relative = path.relative_to(folder)
        chunk.read += 1
        try:
            item_id = identity(path.stem if ids == "stem" else relative.with_suffix("").as_posix())
            url = identity(relative.as_posix())
            first = taken.setdefault(hashlib.blake2b(item_id.encode(), digest_size=16).digest(), url)
            if first != url:
                raise ValueError(
                    f"item_id {item_id!r} is that of {first} already; rename it, or take ids from the path"
                )
            chunk.add(item_id, url, category_of(relative), photo_file(path))
        except ValueError as error:
            shown = legible(relative.as_posix())
            chunk.refused.append(
                Refusal(legible(str(path)), None, legible(f"photo: {error}"), {"path": shown})
            )
        if chunk.read == rows:
            yield chunk.loaded()
            chunk = _Chunk(extra)
    if chunk.read:
        yield chunk.loaded()


def category_of(relative: Path) -> str | None:
    """The category that the folders of a picture's path say; None: it lies in no folder."""
    return CATEGORY_SEPARATOR.join(relative.parts[:-1]) or None


def path_ids(folder: Path) -> set[str]:
    """The ids of a folder's items, where they are called by their paths."""
    return {path.relative_to(folder).with_suffix("").as_posix() for path in files_beneath(folder)}


class _Chunk:
    """Items with one photo each, under construction."""

    def __init__(self, attributes: str | None) -> None:
        self.read = 0
        self.refused: list[Refusal] = []
        self._attributes = attributes
        self._items: dict[str, list[Any]] = {n: [] for n in ("item_id", "category_id", "photo_url")}
        self._photos: dict[str, list[Any]] = {n: [] for n in TABLES["photos"].names}

    def add(self, item_id: str, url: str, category: str | None, photo: bytes) -> None:
        add_photo(self._photos, item_id, url, photo)
        for name, value in zip(self._items, (item_id, category, url), strict=True):
            self._items[name].append(value)

    def loaded(self) -> Loaded:
        return _loaded(self.read, self._items, self._photos, self._attributes, self.refused)


def _loaded(
    read: int,
    items: dict[str, list[Any]],
    photos: dict[str, list[Any]],
    extra: str | None,
    refused: list[Refusal],
) -> Loaded:
    if not items["item_id"]:
        return Loaded(read, {}, refused)
    if extra is not None:
        items = items | {"attributes": [extra] * len(items["item_id"])}
    return Loaded(
        read,
        {"photos": table_of(TABLES["photos"], photos), "items": table_of(TABLES["items"], items)},
        refused,
    )


def files_beneath(folder: Path) -> Iterator[Path]:
    """Plain and other files but no hidden ones, in order of path; links to folders are not followed."""
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(where) / name


def _idx_chunk(
    file: Path, prefix: str, start: int, pixels: np.ndarray, labels: np.ndarray,
    class_names: Sequence[str] | None, extra: str | None,
) -> Loaded:  # fmt: skip
    count, height, width = pixels.shape[:3]
    refused: list[Refusal] = []
    good = np.arange(count)
    if class_names is not None:
        good = np.flatnonzero(labels < len(class_names))
        for n in np.flatnonzero(labels >= len(class_names)):
            reason = f"label: {labels[n]} has no class name; there are {len(class_names)}"
            refused.append(Refusal(str(file), start + int(n) + 1, reason, {"label": int(labels[n])}))
    categories = [str(label) if class_names is None else class_names[label] for label in labels[good]]
    pngs = [pixels_as_png(pixels[n]) for n in good]
    ids = [f"{prefix}-{start + n:06d}" for n in good]
    urls = [f"{file.name}#{start + n}" for n in good]
    size = len(good)
    photos: dict[str, list[Any]] = {
        "item_id": ids,
        "url": urls,
        "status": [PHOTO_OK] * size,
        "bytes": pngs,
        "width": [width] * size,
        "height": [height] * size,
        "sha256": [hashlib.sha256(png).hexdigest() for png in pngs],
        "phash": difference_hashes(pixels[good]),
    }
    items: dict[str, list[Any]] = {"item_id": ids, "category_id": categories, "photo_url": urls}
    if class_names is not None:
        items["title"] = categories
    return _loaded(count, items, photos, extra, refused)


def _labels(file: Path) -> np.ndarray:
    (count,) = _checked_header(file, dimensions=(1,))
    with open_bytes(file) as opened:
        opened.read(8)
        return np.frombuffer(opened.read(count), np.uint8)


def _checked_header(file: Path, dimensions: tuple[int, ...] = (3, 4)) -> tuple[int, ...]:
    """The shape that the header says, with the file's length checked against it."""
    with open_bytes(file) as opened:
        try:
            shape = _header(file, opened, dimensions)
            body = _length(opened)
        except InputUnreadable:
            raise
        except Exception as error:  # gzip raises EOFError, zlib.error, BadGzipFile
            raise InputUnreadable(
                f"{file}: the gzip data is broken: {error}; fetch the file again"
            ) from error
    if body != prod(shape):
        raise InputUnreadable(
            f"{file}: the header says {' x '.join(map(str, shape))} = {prod(shape)} bytes, "
            f"the file holds {body}"
        )
    if len(shape) == 4 and shape[3] != 3:
        raise InputUnreadable(
            f"{file}: images have {shape[3]} channels; 1 (three dimensions) or 3 can be read"
        )
    if len(shape) > 1 and shape[0] and not 0 < prod(shape[1:3]) <= MAX_PIXELS:
        raise InputUnreadable(f"{file}: images of {shape[1]} x {shape[2]} pixels; 1 to {MAX_PIXELS} are read")
    return shape


def _header(file: Path, opened: BinaryIO, dimensions: tuple[int, ...]) -> tuple[int, ...]:
    magic = opened.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != _UNSIGNED_BYTE or magic[3] not in dimensions:
        wanted = " or ".join(f"0x{(_UNSIGNED_BYTE << 8) + d:08x}" for d in dimensions)
        raise InputUnreadable(
            f"{file}: begins with 0x{magic.hex()}, an IDX file of unsigned bytes with {wanted}"
        )
    sizes = opened.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise InputUnreadable(f"{file}: the header ends after {4 + len(sizes)} bytes of {4 + 4 * magic[3]}")
    return struct.unpack(f">{magic[3]}I", sizes)


def _length(opened: BinaryIO) -> int:
    total = 0
    while block := opened.read(2**20):
        total += len(block)
    return total
