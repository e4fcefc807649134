"""Photos as the browser gets them: of a known raster type, and not larger than they are shown."""

import io

HEAVY = 150_000
"""Bytes above which a photo is made smaller before it is sent."""

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


def thumbnail(photo: bytes, side: int) -> bytes:
    """A photo that fits in side × side pixels if it is heavy; as it is, if it is light or cannot be read."""
    if len(photo) <= HEAVY or media_type(photo) is None:
        return photo
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(photo)) as image:
            image.draft("RGB", (side, side))
            small = ImageOps.exif_transpose(image)
            small.thumbnail((side, side))
            paper = Image.new("RGB", small.size, "white")
            seen = small.convert("RGBA")
            paper.paste(seen, mask=seen.getchannel("A"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return photo
    buffer = io.BytesIO()
    paper.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
