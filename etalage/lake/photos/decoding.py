"""A downloaded file → the photo that is stored. Runs in the decoder's process (decoder_child.py)."""

import io
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from etalage.lake.photo_facts import FORMATS, PhotoFacts, photo_facts
from etalage.lake.photo_opening import BROKEN, sniffed, upright
from etalage.lake.photos.states import Ended, State

_FILTER = Image.Resampling.HAMMING
"""As quick as bilinear, nearly as sharp as bicubic. With libjpeg's reduced decoding before it, the result
differs from Lanczos over all pixels by less than the JPEG that is stored does (docs/log.md)."""
_GAP = 2.0


@dataclass(frozen=True)
class Keeping:
    """How photos are stored, as [photos] has it."""

    side: int
    format: str
    quality: int
    min_side: int
    max_pixels: int

    @property
    def name(self) -> str:
        """What decides the stored bytes, for links.stored_as."""
        if self.format == "keep":
            return "as sent"
        return f"{self.format}, {self.side} px, quality {self.quality}"


def kept(source: bytes, keeping: Keeping) -> tuple[bytes, PhotoFacts]:
    """The file to store, and its facts. Raises Ended: not_an_image, too_small, too_large, broken."""
    try:
        image = sniffed(source)
    except Image.DecompressionBombError as error:
        raise Ended(State.too_large, f"more pixels than {keeping.max_pixels:,}: {error}") from error
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS)
        raise Ended(State.not_an_image, f"{_beginning(source)}, none of {kinds}") from error
    except BROKEN as error:
        raise Ended(State.broken, f"the header is broken: {error}") from error
    width, height = image.size
    if width * height > keeping.max_pixels:
        raise Ended(State.too_large, f"{width} x {height} pixels, more than {keeping.max_pixels:,}")
    if min(width, height) < keeping.min_side:
        raise Ended(State.too_small, f"{width} x {height} pixels, a side shorter than {keeping.min_side}")
    try:
        if keeping.format == "keep":
            upright(image)  # only whether all of it can be decoded
            return source, photo_facts(source)
        stored = _reduced(image, keeping)
        return stored, photo_facts(stored)
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise Ended(State.broken, f"not decodable: {error}") from error


def _reduced(image: Image.Image, keeping: Keeping) -> bytes:
    longest = max(image.size)
    if image.format == "JPEG" and longest > keeping.side:
        # Decoded at a half, a quarter or an eighth, where that is not less than what is wanted.
        share = keeping.side / longest
        image.draft(None, (round(image.width * share), round(image.height * share)))
    plain = upright(image)
    plain.thumbnail((keeping.side, keeping.side), _FILTER, reducing_gap=_GAP)
    sink = io.BytesIO()
    # Nothing of the file but its pixels is kept: no EXIF (places, names of people), no profile.
    plain.info.clear()
    plain.save(sink, "JPEG", quality=keeping.quality)
    return sink.getvalue()


def _beginning(source: bytes) -> str:
    head = source[:512].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if head.startswith(b"<svg") or b"<svg" in head:
        return "an SVG drawing"
    return f"begins with {bytes(source[:8]).hex() or 'nothing'}"
