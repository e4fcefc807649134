"""The one place where a photo becomes pixels, in training and in serving alike.

Decoding and resizing are here; normalising (x / 255, mean, deviation) is the first layer of every
network and so part of its export: it cannot be forgotten, and it cannot happen twice.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageOps

from etalage.errors import ExportDamaged, PhotoRefused
from etalage.lake.photo_opening import claimed_pixels, open_photo

__all__ = ["Fit", "PhotoEncoder", "Resample", "claimed_pixels", "open_photo"]
Fit = Literal["pad", "crop", "stretch"]
Resample = Literal["bilinear", "bicubic"]


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
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ExportDamaged(f"{where}: not a photo encoder: {error!r}; export the model again") from error
        known = encoder.fit in get_args(Fit) and encoder.resample in get_args(Resample)
        if encoder.channels not in (1, 3) or not 1 <= encoder.size <= 4096 or not known:
            raise ExportDamaged(f"{where}: impossible {encoder}; export the model again")
        return encoder
