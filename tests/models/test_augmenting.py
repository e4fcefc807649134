"""Crops, mirrors and lamps: drawn by a seed, inside the photo, never turned."""

import pytest
import torch
from torch import Tensor

from etalage.models.augmenting import ASPECT, Drawn, augmented


def seeded(seed: int = 4) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramp(count: int = 64, side: int = 24) -> Tensor:
    """Red grows to the right by 1 over the photo, green downwards by 1, blue is 5: in units of the side."""
    along = (torch.arange(side) + 0.5) / side
    one = torch.stack(
        [along.expand(side, side), along[:, None].expand(side, side), torch.full((side, side), 5.0)]
    )
    return one.expand(count, 3, side, side).contiguous()


def plain(planes: Tensor, **changes: object) -> Tensor:
    draws = Drawn.all(seeded(), len(planes))
    return augmented(planes, draws, **{"crop": 1.0, "flip": False, "light": 0.0, **changes})  # type: ignore[arg-type]


def test_nothing_asked_for_changes_nothing() -> None:
    assert torch.equal(plain(ramp()), ramp())


@pytest.mark.parametrize("changes", [{"crop": 0.5}, {"flip": True}, {"light": 0.4}])
def test_the_same_seed_gives_the_same_planes(changes: dict[str, object]) -> None:
    settings = {"crop": 1.0, "flip": False, "light": 0.0, **changes}
    draws = (Drawn.all(seeded(seed), len(ramp())) for seed in (4, 4, 5))
    one, again, other = (augmented(ramp(), some, **settings) for some in draws)  # type: ignore[arg-type]
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.shape == ramp().shape and one.dtype == torch.float32


def test_half_are_mirrored_and_none_is_turned() -> None:
    seen = plain(ramp(400), flip=True)
    as_they_are = torch.isclose(seen, ramp(400), atol=1e-4).flatten(1).all(1)
    mirrored = torch.isclose(seen, ramp(400).flip(3), atol=1e-4).flatten(1).all(1)
    assert bool((as_they_are ^ mirrored).all())
    assert 0.4 < float(mirrored.float().mean()) < 0.6


def kept(seen: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) width and height of the crops, as shares of the side, by how fast the ramps grow."""
    side = seen.shape[2]
    across = (seen[:, 0, :, -1] - seen[:, 0, :, 0]).mean(1) * side / (side - 1)
    down = (seen[:, 1, -1, :] - seen[:, 1, 0, :]).mean(1) * side / (side - 1)
    return across, down


@pytest.mark.parametrize("crop", [0.3, 0.7, 0.9])
def test_a_crop_keeps_at_least_its_share_and_lies_inside(crop: float) -> None:
    seen = plain(ramp(600, 60), crop=crop)
    width, height = kept(seen)
    # Half a pixel at the edge has no neighbour to be drawn from.
    area, slack = width * height, 0.03
    assert float(area.min()) > crop - slack and float(area.max()) < 1 + slack
    assert float(area.min()) < crop + 0.1 and float(area.max()) > 0.95, "crops of one size alone"
    assert float((width / height).max()) < ASPECT + slack
    assert float((width / height).min()) > 1 / ASPECT - slack
    for channel in (0, 1):
        assert float(seen[:, channel].min()) > -0.01 and float(seen[:, channel].max()) < 1.01
    assert torch.allclose(seen[:, 2], torch.tensor(5.0), atol=1e-4), "something from beyond the photo"


def test_crops_lie_anywhere_and_red_still_grows_to_the_right() -> None:
    seen = plain(ramp(400), crop=0.3)
    middle = seen[:, :2, 11:13, 11:13].mean((2, 3))
    assert bool((middle.std(0) > 0.05).all())
    assert torch.allclose(middle.mean(0), torch.full((2,), 0.5), atol=0.04)
    width, height = kept(seen)
    assert float(width.min()) > 0 and float(height.min()) > 0


def test_another_light_moves_no_pixel() -> None:
    """An affine change of each colour: what was equal stays equal, what grew still grows."""
    seen = plain(ramp(50), light=0.4)
    assert not torch.allclose(seen, ramp(50), atol=0.05)
    grown = seen[:, 0, :, 1:] - seen[:, 0, :, :-1]
    assert torch.allclose(grown, grown.mean((1, 2), keepdim=True).expand_as(grown), atol=1e-4)
    assert float(grown.min()) > 0


def test_light_varies_by_at_most_its_share() -> None:
    """A grey photo of mean 0 is made brighter or darker by `light` at most, in every colour alike."""
    seen = plain(torch.zeros(300, 3, 8, 8), light=0.3)
    by_photo = seen.flatten(1)
    assert float(seen.abs().max()) <= 0.3 + 1e-6
    assert float(seen.max()) > 0.25 and float(seen.min()) < -0.25
    assert torch.allclose(by_photo, by_photo[:, :1].expand_as(by_photo), atol=1e-6)


def test_every_photo_is_drawn_for_itself() -> None:
    seen = plain(ramp(40), crop=0.5, light=0.2)
    assert len({round(float(one), 5) for one in seen[:, 0, 3, 3]}) == 40
