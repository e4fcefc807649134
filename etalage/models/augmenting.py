"""Photos as they could also have been taken: another crop, mirrored, in another light.

C. Szegedy et al., Going Deeper with Convolutions, CVPR 2015 (crops by area and aspect). One affine map a
photo and one sampling of the batch, drawn from a generator of its own: the same seed, the same planes.

    B batch   C channels   H W height and width in pixels
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

ASPECT = 4 / 3


@dataclass(frozen=True)
class Drawn:
    """Random numbers for the rows of a batch, of which some are here: however a batch is divided, each row
    gets its own."""

    generator: torch.Generator
    count: int
    """For how many rows the generator draws."""
    places_B: Tensor
    """(B,) int64: which of them are here."""

    @classmethod
    def all(cls, generator: torch.Generator, count: int) -> "Drawn":
        """For rows that are all here."""
        return cls(generator, count, torch.arange(count))

    def __call__(self, *shape: int) -> Tensor:
        """(B, *shape), even in [0, 1)."""
        return torch.rand(self.count, *shape, generator=self.generator)[self.places_B]


def augmented(planes_BCHW: Tensor, draws: Drawn, *, crop: float, flip: bool, light: float) -> Tensor:
    """(B, C, H, W) float32 → the same shape.

    crop: the smallest share of the area that is kept, 1 for none; light: the largest relative change of
    contrast and saturation, twice that of each colour, and of brightness in units of the planes' deviation.
    """

    def drawn(*shape: int) -> Tensor:
        return (draws(*shape) * 2 - 1).to(planes_BCHW.device)

    if crop < 1 or flip:
        planes_BCHW = F.grid_sample(
            planes_BCHW,
            F.affine_grid(_maps(drawn, crop, flip), list(planes_BCHW.shape), align_corners=False),
            padding_mode="reflection",
            align_corners=False,
        )
    if light:
        planes_BCHW = _relit(planes_BCHW, drawn, light)
    return planes_BCHW.contiguous(memory_format=torch.channels_last)


def _relit(planes_BCHW: Tensor, drawn: Callable[..., Tensor], light: float) -> Tensor:
    """Another saturation, contrast and brightness, and lamps of another colour."""
    grey_B1HW = planes_BCHW.mean(dim=1, keepdim=True)
    planes_BCHW = grey_B1HW + (planes_BCHW - grey_B1HW) * (1 + light * drawn(1, 1, 1))
    middle_B111 = planes_BCHW.mean(dim=(1, 2, 3), keepdim=True)
    planes_BCHW = middle_B111 + (planes_BCHW - middle_B111) * (1 + light * drawn(1, 1, 1))
    return planes_BCHW * (1 + light / 2 * drawn(3, 1, 1)) + light * drawn(1, 1, 1)


def _maps(drawn: Callable[..., Tensor], crop: float, flip: bool) -> Tensor:
    """(B, 2, 3): where in the photo each corner of the crop lies, in the [-1, 1] of affine_grid."""
    area_B = crop + (1 - crop) * (drawn() + 1) / 2
    stretch_B = torch.exp(drawn() * math.log(ASPECT) / 2) if crop < 1 else torch.ones_like(area_B)
    # A side that ends at the photo's own must not take more off the area than was to go: beyond 3/4 it would.
    width_B = (area_B.sqrt() * stretch_B).clamp(crop, 1)
    height_B = torch.maximum((area_B.sqrt() / stretch_B).clamp(max=1), crop / width_B)
    maps_B23 = area_B.new_zeros(len(area_B), 2, 3)
    maps_B23[:, 0, 0] = width_B * (torch.where(drawn() < 0, -1.0, 1.0) if flip else 1.0)
    maps_B23[:, 1, 1] = height_B
    maps_B23[:, 0, 2] = drawn() * (1 - width_B)
    maps_B23[:, 1, 2] = drawn() * (1 - height_B)
    return maps_B23
