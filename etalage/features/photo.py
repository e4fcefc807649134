"""The one place where a photo becomes pixels, in training and in serving alike.

Decoding and resizing are here; normalising (x / 255, mean, deviation) is the first layer of every
network and so part of its export: it cannot be forgotten, and it cannot happen twice.
"""

import io
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from etalage.errors import ExportDamaged, PhotoRefused
from etalage.lake.photo_facts import FORMATS, MAX_PIXELS

Fit = Literal["pad", "crop", "stretch"]
Resample = Literal["bilinear", "bicubic"]


def open_photo(photo: bytes) -> Image.Image:
    """An image file as an upright RGB or grey Pillow image; the first frame if it is animated.

    Transparency is laid over white; CMYK, palette and 16-bit images are converted.
    Raises PhotoRefused: not an image, over MAX_PIXELS, truncated.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(photo), formats=FORMATS)
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise PhotoRefused(
                    f"the photo is {width} x {height} pixels, more than {MAX_PIXELS:,}; send a smaller one"
                )
            image.load()
            return _plain(ImageOps.exif_transpose(image))
    except PhotoRefused:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, met while reading the header
        raise PhotoRefused(
            f"the photo has more than {MAX_PIXELS:,} pixels ({error}); send a smaller one"
        ) from error
    except UnidentifiedImageError as error:
        kinds = ", ".join(FORMATS)
        raise PhotoRefused(f"not an image ({len(photo)} bytes); send one of {kinds}") from error
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise PhotoRefused(f"the image file is broken: {error}; send it again whole") from error


def claimed_pixels(photo: bytes) -> int:
    """How many pixels the file says that it has, without decoding it; 0 where it says nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            width, height = Image.open(io.BytesIO(photo), formats=FORMATS).size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0
    return int(width * height)


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


@dataclass(frozen=True)
class PhotoEncoder:
    """Image file → pixels of one size. Kept beside the model as encoder.json."""

    size: int
    channels: int = 3
    fit: Fit = "pad"
    """What makes a photo square: `pad`, white beside it; `crop`, its middle; `stretch`, out of shape."""
    resample: Resample = "bilinear"

    def decode(self, photo: bytes) -> np.ndarray:
        """(size, size, channels) uint8. Raises PhotoRefused, see `open_photo`."""
        image = open_photo(photo).convert("L" if self.channels == 1 else "RGB")
        side, how = (self.size, self.size), Image.Resampling[self.resample.upper()]
        if image.size == side:
            pass
        elif self.fit == "pad":
            image = ImageOps.pad(image, side, how, color=255 if self.channels == 1 else (255, 255, 255))
        elif self.fit == "crop":
            image = ImageOps.fit(image, side, how)
        else:
            image = image.resize(side, how)
        return np.asarray(image, dtype=np.uint8).reshape(self.size, self.size, self.channels)

    def decode_some(
        self, photos: Sequence[bytes], progress: Callable[[int], None] | None = None
    ) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
        """Those of N photos that can be decoded.

        → (n, size, size, channels) uint8, their (n,) int64 positions, {position: reason} of the others.
        """
        pixels = np.empty((len(photos), self.size, self.size, self.channels), dtype=np.uint8)
        good: list[int] = []
        refused: dict[int, str] = {}
        for position, photo in enumerate(photos):
            try:
                pixels[len(good)] = self.decode(photo)
                good.append(position)
            except PhotoRefused as error:
                refused[position] = str(error)
            if progress is not None:
                progress(1)
        return pixels[: len(good)], np.array(good, dtype=np.int64), refused

    def decode_all(self, photos: Sequence[bytes]) -> np.ndarray:
        """(N, size, size, channels) uint8. Raises PhotoRefused with the first bad photo's position."""
        pixels, _, refused = self.decode_some(photos)
        for position, reason in refused.items():
            raise PhotoRefused(f"photo {position}: {reason}")
        return pixels

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str = "encoder.json") -> "PhotoEncoder":
        """Raises ExportDamaged when the text is not an encoder's."""
        try:
            fields = json.loads(text)
            encoder = cls(
                size=int(fields["size"]),
                channels=int(fields["channels"]),
                fit=fields.get("fit", "pad"),  # exports of before say neither
                resample=fields.get("resample", "bilinear"),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ExportDamaged(f"{where}: not a photo encoder: {error!r}; export the model again") from error
        known = encoder.fit in get_args(Fit) and encoder.resample in get_args(Resample)
        if encoder.channels not in (1, 3) or not 1 <= encoder.size <= 4096 or not known:
            raise ExportDamaged(f"{where}: impossible {encoder}; export the model again")
        return encoder
