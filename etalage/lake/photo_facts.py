"""What the photos table says about an encoded image: size, hashes; and whether it is one at all."""

import hashlib
import io
import struct
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
"""No format whose decoder starts another program (EPS), and none that nobody photographs in."""
MAX_PIXELS = 40_000_000
"""Refused before decoding, here and in `features`: a file of a few bytes can claim any size."""
_HASH_SIZE = (9, 8)
_SMALL = 144


@dataclass(frozen=True)
class PhotoFacts:
    """`width`, `height` in pixels as stored; `sha256` hex of the file; `phash` signed 64-bit dHash."""

    width: int
    height: int
    sha256: str
    phash: int


def photo_facts(photo: bytes) -> PhotoFacts:
    """The facts of an encoded image. Raises ValueError: not an image, too many pixels, broken."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(photo), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(f"has too many pixels, at most {MAX_PIXELS} are decoded") from error
    except UnidentifiedImageError:
        raise ValueError(f"is not an image of a known format ({', '.join(FORMATS)})") from None
    except Exception as error:  # Pillow's decoders raise what they like on broken files
        raise ValueError(f"is a broken image: {error}") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"has {width} x {height} pixels, at most {MAX_PIXELS} are decoded")
    try:
        if image.format == "JPEG":
            image.draft("L", (64, 64))  # decodes a reduced image: several times faster
        grey = image.convert("L")
    except Exception as error:
        raise ValueError(f"is a broken image: {error}") from error
    return PhotoFacts(width, height, hashlib.sha256(photo).hexdigest(), difference_hash(grey))


def difference_hash(grey: Image.Image) -> int:
    """dHash: is each pixel of the 9 x 8 reduction darker than its right neighbour; signed 64 bits."""
    if max(grey.size) > _SMALL:
        # Only for speed: the averages of averages are as good a reduction.
        grey = grey.resize((min(grey.width, _SMALL), min(grey.height, _SMALL)), Image.Resampling.BOX)
    return int(_hashes(np.asarray(grey)[None])[0])


def difference_hashes(pixels: np.ndarray) -> list[int]:
    """The dHash of each of `pixels` (N, H, W) or (N, H, W, 3) uint8: as `difference_hash`, at once."""
    if not len(pixels):
        return []
    if pixels.ndim == 4 or max(pixels.shape[1:3]) > _SMALL:
        return [difference_hash(Image.fromarray(p).convert("L")) for p in pixels]
    return [int(value) for value in _hashes(pixels)]


def _hashes(grey: np.ndarray) -> np.ndarray:
    """(N, H, W) uint8 → (N,) int64. Whole numbers below 2**53: exact, one by one as all at once."""
    columns, rows = _HASH_SIZE
    down, across = _overlaps(grey.shape[1], rows), _overlaps(grey.shape[2], columns)
    small = down @ grey.astype(np.float64) @ across.T
    bits = small[:, :, :-1] < small[:, :, 1:]
    packed: np.ndarray = np.packbits(bits.reshape(len(grey), -1), axis=1)
    hashes: np.ndarray = np.frombuffer(packed.tobytes(), dtype=">i8")
    return hashes


def _overlaps(size: int, cells: int) -> np.ndarray:
    """(cells, size): how much of each of `size` pixels lies in each of `cells` equal cells, x cells."""
    pixel, cell = np.arange(size) * cells, np.arange(cells)[:, None] * size
    overlap = np.minimum(pixel + cells, cell + size) - np.maximum(pixel, cell)
    weights: np.ndarray = np.maximum(overlap, 0).astype(np.float64)
    return weights


def pixels_as_png(pixels: np.ndarray) -> bytes:
    """`pixels` (H, W) or (H, W, 3) uint8 as a PNG file, weakly compressed.

    Written by hand: for thumbnails of 28 x 28, Pillow's encoder spends most of its time on setting
    itself up.
    """
    height, width = pixels.shape[:2]
    colour = 0 if pixels.ndim == 2 else 2
    lines = np.zeros((height, 1 + pixels[0].size), dtype=np.uint8)  # each line begins with filter 0
    lines[:, 1:] = pixels.reshape(height, -1)
    header = _png_part(b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    data = _png_part(b"IDAT" + zlib.compress(lines.tobytes(), 1))
    return b"\x89PNG\r\n\x1a\n" + header + data + _png_part(b"IEND")


def _png_part(kind_and_data: bytes) -> bytes:
    return (
        struct.pack(">I", len(kind_and_data) - 4)
        + kind_and_data
        + struct.pack(">I", zlib.crc32(kind_and_data))
    )
