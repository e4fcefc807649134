"""Photos as the browser gets them."""

import io

import numpy as np
import pytest
from PIL import Image

from etalage.page import thumbnails
from etalage.page.answers import photo
from etalage.page.thumbnails import HEAVY, media_type, thumbnail


def heavy(mode: str, form: str, **options: object) -> bytes:
    """A photo of 900 × 600 noise pixels: no format makes it light."""
    pixels = np.random.default_rng(5).integers(0, 256, (600, 900, len(mode)), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode).save(buffer, form, **options)
    assert len(buffer.getvalue()) > HEAVY
    return buffer.getvalue()


def test_a_heavy_photo_is_made_as_small_as_it_is_shown() -> None:
    small = thumbnail(heavy("RGB", "JPEG", quality=95), 300)
    assert len(small) < HEAVY
    assert Image.open(io.BytesIO(small)).size == (300, 200)


def test_a_transparent_photo_lies_on_white() -> None:
    clear = np.zeros((600, 900, 4), dtype=np.uint8)
    clear[:, :450] = np.random.default_rng(5).integers(0, 256, (600, 450, 4))
    buffer = io.BytesIO()
    Image.fromarray(clear, "RGBA").save(buffer, "PNG")
    small = Image.open(io.BytesIO(thumbnail(buffer.getvalue(), 300)))
    assert small.getpixel((290, 100)) == (255, 255, 255)


def test_the_camera_held_upright_is_upright_in_the_small_photo() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    small = thumbnail(heavy("RGB", "JPEG", quality=95, exif=turned), 300)
    assert Image.open(io.BytesIO(small)).size == (200, 300)


def test_a_light_photo_stays_as_it_is() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (900, 600), "teal").save(buffer, "PNG")
    assert thumbnail(buffer.getvalue(), 300) == buffer.getvalue()


def test_a_vast_photo_is_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = heavy("RGB", "PNG")
    monkeypatch.setattr(thumbnails, "MAX_PIXELS", 900 * 600 - 1)
    assert thumbnail(photo, 300) == photo
    monkeypatch.setattr(thumbnails, "MAX_PIXELS", 900 * 600)
    assert thumbnail(photo, 300) != photo


def test_a_broken_photo_stays_as_it_is() -> None:
    torn = heavy("RGB", "PNG")[: HEAVY + 1]
    assert thumbnail(torn, 300) == torn


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP"])
def test_a_raster_image_is_sent_under_its_own_type(form: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), "teal").save(buffer, form)
    assert media_type(buffer.getvalue()) == f"image/{form.lower()}"
    assert photo(buffer.getvalue(), lasting=True).headers["content-type"] == f"image/{form.lower()}"


@pytest.mark.parametrize(
    "content", [b"<svg onload='alert(1)'/>", b"<html>", b"", b"RIFF....WAVE", b"\xff\xd8"]
)
def test_f38_what_is_no_raster_image_is_never_sent(content: bytes) -> None:
    assert media_type(content) is None
    assert photo(content, lasting=True).status_code == 404
