"""What is stored of a file; and a decoder that may die of one without taking the others along (F45, F46)."""

import asyncio
import contextlib
import hashlib
import io
import os
import signal
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from etalage.lake.photo_facts import photo_facts
from etalage.lake.photos.decoder import Decoder
from etalage.lake.photos.decoding import Keeping, kept
from etalage.lake.photos.states import Ended, State
from tests.lake.photos.hostile import SVG, jpeg

SMALL = Keeping(side=64, format="jpeg", quality=90, min_side=16, max_pixels=40_000_000)
AS_SENT = Keeping(side=64, format="keep", quality=90, min_side=16, max_pixels=40_000_000)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def wedge(width: int, height: int) -> Image.Image:
    """Red grows to the right, green downwards: any flip or transposition shows."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 250, width, dtype=np.uint8)[None, :]
    pixels[..., 1] = np.linspace(0, 250, height, dtype=np.uint8)[:, None]
    return Image.fromarray(pixels)


def claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b""
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
        chunks += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunks


def stored(source: bytes, keeping: Keeping = SMALL) -> Image.Image:
    photo, facts = kept(source, keeping)
    image = Image.open(io.BytesIO(photo))
    assert facts == photo_facts(photo)
    assert (facts.width, facts.height) == image.size
    assert facts.sha256 == hashlib.sha256(photo).hexdigest()
    return image


def ended(source: bytes, keeping: Keeping = SMALL) -> State:
    with pytest.raises(Ended) as caught:
        kept(source, keeping)
    assert caught.value.outcome.reason
    return caught.value.outcome.state


SIZES = [((400, 300), (64, 48)), ((96, 1200), (16, 200)), ((60, 40), (60, 40))]


@pytest.mark.parametrize(("size", "becomes"), SIZES)
def test_the_longest_side_is_brought_down_and_nothing_is_enlarged(
    size: tuple[int, int], becomes: tuple[int, int]
) -> None:
    keeping = SMALL if size[1] < 1000 else Keeping(200, "jpeg", 90, 16, 40_000_000)
    for kind in ("JPEG", "PNG"):
        image = stored(saved(wedge(*size), kind), keeping)
        assert (image.size, image.format, image.mode) == (becomes, "JPEG", "RGB")


def test_a_photo_that_is_kept_as_sent_keeps_every_byte() -> None:
    source = saved(wedge(400, 300), "PNG")
    photo, facts = kept(source, AS_SENT)
    assert photo == source
    assert (facts.width, facts.height) == (400, 300)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_reduced_decoding_shows_the_same_photo(kind: str) -> None:
    found = np.asarray(stored(saved(wedge(1024, 512), kind)).convert("RGB"), dtype=int)
    truth = np.asarray(wedge(1024, 512).resize((64, 32), Image.Resampling.BOX), dtype=int)
    assert np.abs(found - truth).mean() < 4


def test_f45_an_exif_rotation_is_applied_and_not_applied_again() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    exif[0x010E] = "taken at home"
    image = stored(saved(wedge(400, 200), "JPEG", exif=exif))
    assert image.size == (32, 64)
    assert not image.getexif()
    pixels = np.asarray(image, dtype=int)
    assert pixels[-1, 16, 0] > pixels[0, 16, 0] + 100


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "RGBA", "LA", "1", "I;16"])
def test_f45_every_colour_mode_is_normalised(mode: str) -> None:
    if mode == "I;16":
        source = saved(Image.fromarray(np.linspace(0, 65535, 6400, dtype=np.uint16).reshape(80, 80)), "PNG")
    else:
        source = saved(wedge(90, 60).convert(mode), "JPEG" if mode == "CMYK" else "PNG")
    image = stored(source)
    assert image.mode in ("RGB", "L")
    assert len(np.unique(np.asarray(image.convert("L")))) > (1 if mode == "1" else 20)


def test_f45_of_an_animation_the_first_frame_is_stored() -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    image = stored(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    red, _, blue = image.getpixel((20, 15))  # type: ignore[misc]
    assert red > 200 > blue


@pytest.mark.parametrize("side", [6400, 65_000])
def test_f45_a_photo_that_claims_too_many_pixels_is_refused_before_decoding(side: int) -> None:
    assert ended(claims(side, side)) is State.too_large


def test_fewer_pixels_can_be_asked_for() -> None:
    assert ended(saved(wedge(50, 40), "PNG"), Keeping(64, "jpeg", 90, 16, 1999)) is State.too_large


@pytest.mark.parametrize("size", [(1, 1), (15, 400), (400, 15)])
def test_a_pixel_to_count_visits_is_too_small(size: tuple[int, int]) -> None:
    assert ended(saved(wedge(*size), "GIF")) is State.too_small


AVIF = b"\x00\x00\x00\x20ftypavif" + bytes(99)


@pytest.mark.parametrize("source", [b"", b"<html>", SVG, b"%PDF-1.4", AVIF])
def test_f43_what_is_no_image_is_told(source: bytes) -> None:
    assert ended(source) is State.not_an_image


@pytest.mark.parametrize("keeping", [SMALL, AS_SENT])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_f45_a_truncated_photo_is_broken(kind: str, keeping: Keeping) -> None:
    source = saved(wedge(400, 300), kind)
    assert ended(source[: len(source) * 2 // 3], keeping) is State.broken


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 80), st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "TIFF"]))
def test_any_bytes_are_stored_or_ended(noise: bytes, keep: int, kind: str) -> None:
    with contextlib.suppress(Ended):
        kept(saved(wedge(40, 30), kind)[:keep] + noise, SMALL)


# -- in its own process ----------------------------------------------------------------------------


Act = Callable[[Decoder], Awaitable[None]]


def decoding(act: Act, keeping: Keeping = SMALL, seconds: float = 120.0, megabytes: int = 512) -> None:
    async def run() -> None:
        async with Decoder(keeping, seconds, megabytes) as decoder:
            await act(decoder)
            pid = decoder.pid
        if pid is not None:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    asyncio.run(run())


async def state_of(decoder: Decoder, source: bytes) -> tuple[State, str]:
    try:
        await decoder.kept(source)
    except Ended as ended:
        return ended.outcome.state, ended.outcome.reason or ""
    return State.ok, ""


def test_the_process_stores_what_we_would() -> None:
    async def act(decoder: Decoder) -> None:
        found = await asyncio.gather(*(decoder.kept(jpeg(n, 300, 200)) for n in range(20)))
        assert found == [kept(jpeg(n, 300, 200), SMALL) for n in range(20)]
        state, reason = await state_of(decoder, SVG)
        assert state is State.not_an_image and reason.startswith("an SVG drawing")
        assert (await state_of(decoder, claims(65_000, 65_000)))[0] is State.too_large
        assert decoder.started == 1

    decoding(act)


def test_f46_a_photo_that_kills_the_decoder_costs_itself_alone() -> None:
    async def act(decoder: Decoder) -> None:
        await decoder.kept(jpeg(1))
        assert decoder.pid is not None
        os.kill(decoder.pid, signal.SIGSTOP)
        asked = asyncio.create_task(state_of(decoder, jpeg(2)))
        after = asyncio.create_task(state_of(decoder, jpeg(3)))
        await asyncio.sleep(0.1)
        os.kill(decoder.pid, signal.SIGSEGV)
        os.kill(decoder.pid, signal.SIGCONT)
        assert await asked == (State.decoder_failed, "the decoder ended with signal SIGSEGV")
        assert await after == (State.ok, "")
        assert decoder.started == 2

    decoding(act)


def test_f46_a_photo_that_hangs_is_given_up_in_time() -> None:
    async def act(decoder: Decoder) -> None:
        await decoder.kept(jpeg(1))
        assert decoder.pid is not None
        os.kill(decoder.pid, signal.SIGSTOP)
        assert await state_of(decoder, jpeg(2)) == (State.decoder_failed, "not decoded within 1 s")
        assert await state_of(decoder, jpeg(3)) == (State.ok, "")

    decoding(act, seconds=0.5)


def test_f46_a_photo_that_takes_too_much_processor_time_is_stopped() -> None:
    slow = saved(Image.effect_noise((6200, 6200), 90).convert("RGB"), "JPEG", progressive=True, quality=95)

    async def act(decoder: Decoder) -> None:
        state, reason = await state_of(decoder, slow)
        assert (state, reason) == (State.decoder_failed, "the decoder ended with signal SIGXCPU")
        assert await state_of(decoder, jpeg(3)) == (State.ok, "")

    decoding(act, AS_SENT, seconds=0.01)


def test_f46_a_photo_that_takes_too_much_memory_is_broken() -> None:
    large = saved(wedge(6000, 6000), "PNG")

    async def act(decoder: Decoder) -> None:
        state, _ = await state_of(decoder, large)
        assert state in (State.broken, State.decoder_failed)
        assert await state_of(decoder, jpeg(3)) == (State.ok, "")

    decoding(act, megabytes=48)


def test_a_question_that_is_given_up_does_not_shift_the_answers() -> None:
    async def act(decoder: Decoder) -> None:
        await decoder.kept(jpeg(1))
        given_up = asyncio.create_task(decoder.kept(jpeg(2, 3000, 2000)))
        await asyncio.sleep(0.005)
        given_up.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await given_up
        assert await decoder.kept(jpeg(3)) == kept(jpeg(3), SMALL)

    decoding(act)
