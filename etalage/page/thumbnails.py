"""Photos as the browser gets them: of a known raster type, and not larger than they are shown."""

import io
import warnings

from etalage.errors import PhotoRefused

HEAVY = 150_000
"""Bytes above which a photo is made smaller before it is sent."""
MAX_PIXELS = 40_000_000
"""Never decoded above this, as by the server: a file of a few bytes can claim any size."""

SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"BM": "image/bmp",
}


def media_type(photo: bytes) -> str | None:
    """By the first bytes, whatever the name says; None for what is no raster image (SVG, HTML, text)."""
    if photo[:4] == b"RIFF" and photo[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for signature, kind in SIGNATURES.items() if photo.startswith(signature)), None)


def refuse_vast(photo: bytes) -> None:
    """By the header alone. Raises PhotoRefused: more than MAX_PIXELS; in the words of the server."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(photo)) as image:
                width, height = image.size
    except Image.DecompressionBombError as error:
        raise PhotoRefused(
            f"the photo has more than {MAX_PIXELS:,} pixels ({error}); send a smaller one"
        ) from error
    except (OSError, ValueError, SyntaxError):
        return  # the server says what is wrong with it
    if width * height > MAX_PIXELS:
        raise PhotoRefused(
            f"the photo is {width} x {height} pixels, more than {MAX_PIXELS:,}; send a smaller one"
        )


def thumbnail(photo: bytes, side: int) -> bytes:
    """A photo that fits in side × side pixels if it is heavy; as it is, if it is light, vast (the browser may
    try), or cannot be read."""
    if len(photo) <= HEAVY or media_type(photo) is None:
        return photo
    from PIL import Image, ImageOps

    try:
        refuse_vast(photo)
        with Image.open(io.BytesIO(photo)) as image:
            image.draft("RGB", (side, side))
            small = ImageOps.exif_transpose(image)
            small.thumbnail((side, side))
            paper = Image.new("RGB", small.size, "white")
            seen = small.convert("RGBA")
            paper.paste(seen, mask=seen.getchannel("A"))
    except (OSError, ValueError, SyntaxError, PhotoRefused):
        return photo
    buffer = io.BytesIO()
    paper.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
