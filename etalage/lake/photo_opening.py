"""An image file → upright pixels in memory, or the reason why not: downloads, training, serving."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from etalage.errors import PhotoRefused
from etalage.lake.photo_facts import FORMATS, MAX_PIXELS

BROKEN = (OSError, ValueError, SyntaxError, EOFError, MemoryError)
"""What Pillow's decoders raise on files that are not whole."""


def open_photo(photo: bytes) -> Image.Image:
    """An image file as an upright RGB or grey Pillow image; the first frame if it is animated.

    Transparency is laid over white; CMYK, palette and 16-bit images are converted.
    Raises PhotoRefused: not an image, over MAX_PIXELS, truncated.
    """
    try:
        image = sniffed(photo)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise PhotoRefused(
                f"the photo is {width} x {height} pixels, more than {MAX_PIXELS:,}; send a smaller one"
            )
        return upright(image)
    except PhotoRefused:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, met while reading the header
        raise PhotoRefused(
            f"the photo has more than {MAX_PIXELS:,} pixels ({error}); send a smaller one"
        ) from error
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS)
        raise PhotoRefused(f"not an image ({len(photo)} bytes); send one of {kinds}") from error
    except BROKEN as error:
        raise PhotoRefused(f"the image file is broken: {error}; send it again whole") from error


def claimed_pixels(photo: bytes) -> int:
    """How many pixels the file says that it has, without decoding it; 0 where it says nothing."""
    try:
        width, height = sniffed(photo).size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0
    return int(width * height)


def sniffed(photo: bytes) -> Image.Image:
    """The image with its header read and no pixel decoded. Raises what Pillow does: UnidentifiedImageError,
    DecompressionBombError, BROKEN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(photo), formats=FORMATS)


def upright(image: Image.Image) -> Image.Image:
    """Decoded, turned as its EXIF says, RGB or grey. Raises BROKEN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.load()
        return _plain(ImageOps.exif_transpose(image))


def _plain(image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB"):
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        # Pillow clips when it narrows 16 bits to 8; a shop's photo should keep its shades instead.
        values = np.asarray(image, dtype=np.float32)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        return Image.fromarray((np.clip(values / top, 0, 1) * 255).astype(np.uint8), mode="L")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("L" if image.mode == "1" else "RGB")
