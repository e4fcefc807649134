"""A photo becomes the same upright pixels wherever it comes from, or is refused with its reason."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from etalage.errors import ExportDamaged, PhotoRefused
from etalage.features.photo import PhotoEncoder, open_photo
from etalage.lake.photo_facts import MAX_PIXELS


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def wedge(width: int = 12, height: int = 8) -> np.ndarray:
    """Red grows to the right, green downwards: any flip or transposition shows."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 220, width, dtype=np.uint8)[None, :]
    pixels[..., 1] = np.linspace(0, 120, height, dtype=np.uint8)[:, None]
    return pixels


def claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b""
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        chunks += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_a_photo_of_the_right_size_keeps_every_pixel() -> None:
    pixels = wedge(16, 16)
    assert np.array_equal(PhotoEncoder(16, 3).decode(file_of(Image.fromarray(pixels))), pixels)


def test_a_grey_photo_keeps_every_pixel() -> None:
    pixels = np.arange(28 * 28, dtype=np.uint32).reshape(28, 28).astype(np.uint8)
    found = PhotoEncoder(28, 1).decode(file_of(Image.fromarray(pixels)))
    assert found.shape == (28, 28, 1)
    assert np.array_equal(found[..., 0], pixels)


def test_a_wide_photo_is_padded_with_white_above_and_below() -> None:
    found = PhotoEncoder(24, 3).decode(file_of(Image.fromarray(wedge(24, 12))))
    assert (found[:5] == 255).all() and (found[-5:] == 255).all()
    assert found[12, 20, 0] > found[12, 4, 0]
    assert found[15, 4, 1] > found[8, 4, 1]


def test_an_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    upright = np.asarray(open_photo(file_of(Image.fromarray(wedge(12, 8)), "JPEG", exif=exif, quality=95)))
    assert upright.shape[:2] == (12, 8)
    assert upright[11, 4, 0] > upright[0, 4, 0]


def test_transparency_lies_over_white() -> None:
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    assert (PhotoEncoder(8, 3).decode(file_of(clear)) == 255).all()


@pytest.mark.parametrize("mode", ["P", "CMYK", "LA", "1"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    source = Image.fromarray(wedge()).convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    found = PhotoEncoder(12, 3).decode(file_of(source, kind))
    assert found.shape == (12, 12, 3)
    assert found[6, 11].mean() > found[6, 0].mean()


def test_sixteen_bits_keep_their_shades() -> None:
    shades = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    found = PhotoEncoder(8, 1).decode(file_of(Image.fromarray(shades)))[..., 0]
    assert len(np.unique(found)) > 50


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    found = PhotoEncoder(8, 3).decode(file_of(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert tuple(found[4, 4]) == (255, 0, 0)


@pytest.mark.parametrize("side", [6400, 65000])
def test_f45_a_photo_that_claims_too_many_pixels_is_refused_before_decoding(side: int) -> None:
    assert side**2 > MAX_PIXELS
    with pytest.raises(PhotoRefused, match=r"pixels.*send a smaller one"):
        PhotoEncoder(8).decode(claims(side, side))


def test_a_truncated_photo_is_refused() -> None:
    whole = file_of(Image.fromarray(wedge(120, 80)), "JPEG")
    with pytest.raises(PhotoRefused, match="broken"):
        PhotoEncoder(8).decode(whole[: len(whole) // 2])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 60))
def test_any_bytes_are_decoded_or_refused(noise: bytes, keep: int) -> None:
    """Nothing but PhotoRefused may leave the decoder."""
    damaged = file_of(Image.fromarray(wedge()))[:keep] + noise
    with contextlib.suppress(PhotoRefused):
        assert PhotoEncoder(8).decode(damaged).shape == (8, 8, 3)


def test_the_position_of_a_bad_photo_is_told() -> None:
    good = file_of(Image.fromarray(wedge()))
    with pytest.raises(PhotoRefused, match="photo 1"):
        PhotoEncoder(8).decode_all([good, b"no", good])


def test_an_encoder_is_read_back() -> None:
    assert PhotoEncoder.from_json(PhotoEncoder(28, 1).to_json()) == PhotoEncoder(28, 1)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"size": 8, "channels": 2}', '{"size": 99999, "channels": 3}']
)
def test_a_damaged_encoder_is_refused(text: str) -> None:
    with pytest.raises(ExportDamaged):
        PhotoEncoder.from_json(text)


def gradients(width: int, height: int) -> Image.Image:
    """Red from 0 to 240 to the right, green from 0 to 240 downwards."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 240, width, dtype=np.uint8)[None, :]
    pixels[..., 1] = np.linspace(0, 240, height, dtype=np.uint8)[:, None]
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("width", "height"), [(48, 24), (24, 48)])
def test_what_makes_a_photo_square_is_a_choice(width: int, height: int) -> None:
    """Padded, all of it is there between white; cropped, its middle; stretched, all of it, out of shape."""
    photo = file_of(gradients(width, height))
    pad, crop, stretch = (
        PhotoEncoder(24, fit=fit).decode(photo).astype(int) for fit in ("pad", "crop", "stretch")
    )
    assert pad.shape == crop.shape == stretch.shape == (24, 24, 3)
    long, other = (1, 0) if width > height else (0, 1)
    assert ((pad == 255).all(axis=(long, 2))).sum() == 12
    assert not (crop == 255).all(axis=2).any() and not (stretch == 255).all(axis=2).any()
    along = [np.ptp(one[..., 1 - long].mean(axis=1 - long)) for one in (crop, stretch)]
    across = [np.ptp(one[..., 1 - other].mean(axis=1 - other)) for one in (crop, stretch)]
    assert along[0] == pytest.approx(120, abs=12) and along[1] > 225
    assert min(across) > 225
    for one in (crop, stretch):
        assert one[12, 23, 0] > one[12, 0, 0] and one[23, 12, 1] > one[0, 12, 1]
    assert abs(crop[12, 12] - 120).max(initial=0, where=[True, True, False]) < 12, "not the middle"


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_a_photo_of_the_right_size_is_never_touched(fit: str) -> None:
    pixels = wedge(16, 16)
    for resample in ("bilinear", "bicubic"):
        found = PhotoEncoder(16, 3, fit, resample).decode(file_of(Image.fromarray(pixels)))  # type: ignore[arg-type]
        assert np.array_equal(found, pixels)


def test_photos_are_resampled_as_asked() -> None:
    """Bicubic overshoots beside an edge, bilinear never does."""
    edge = np.full((64, 64, 3), 60, np.uint8)
    edge[:, 32:] = 190
    linear, cubic = (
        PhotoEncoder(24, fit="stretch", resample=how).decode(file_of(Image.fromarray(edge)))
        for how in ("bilinear", "bicubic")
    )
    assert (linear.min(), linear.max()) == (60, 190)
    assert cubic.min() < 60 and cubic.max() > 190


def test_how_a_photo_is_fitted_is_read_back() -> None:
    encoder = PhotoEncoder(224, 3, "crop", "bicubic")
    assert PhotoEncoder.from_json(encoder.to_json()) == encoder


def test_f58_an_encoder_of_before_pads_and_is_bilinear() -> None:
    old = '{\n "channels": 1,\n "size": 28\n}'
    assert PhotoEncoder.from_json(old) == PhotoEncoder(28, 1, "pad", "bilinear")


@pytest.mark.parametrize(
    "text",
    [
        '{"size": 8, "channels": 3, "fit": "squash"}',
        '{"size": 8, "channels": 3, "resample": "nearest"}',
        '{"size": 8, "channels": 3, "fit": ["pad"]}',
        '{"size": 8, "channels": 3, "fit": null}',
        '{"size": 1e999, "channels": 3}',
    ],
)
def test_an_impossible_encoder_is_refused_by_name(text: str) -> None:
    with pytest.raises(ExportDamaged, match=r"there/encoder\.json"):
        PhotoEncoder.from_json(text, "there/encoder.json")
