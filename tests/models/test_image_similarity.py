"""Image similarity: the networks as described, flips and crops, and what is held out stays unknown."""

import numpy as np
import pytest
import torch
from torch import nn

from etalage.features.photo_set import PhotoSet
from etalage.models.image_similarity import (
    RECIPE,
    ImageSimilarity,
    ImageSimilarityConfig,
    ImageSimilarityTask,
)
from tests import stripes


def photos(count: int = 70) -> PhotoSet:
    pixels, labels = stripes.pixels(count)
    parts = np.array(["validation" if n % 5 == 0 else "train" for n in range(count)])
    return PhotoSet([str(n) for n in range(count)], [b""] * count, pixels, labels, stripes.NAMES, parts)


def task(some: PhotoSet | None = None, **changes: object) -> ImageSimilarityTask:
    bound = RECIPE.bind(ImageSimilarityConfig(**{**stripes.SETTINGS, **changes}), some or photos())
    assert isinstance(bound, ImageSimilarityTask)
    return bound


def test_the_originals_network_is_as_published() -> None:
    config = ImageSimilarityConfig(network="original", size=28, channels=1, dimension=128)
    network = ImageSimilarity(config, 10)
    kinds = [type(layer).__name__ for layer in network.trunk]
    assert kinds == ["Normalise", *["Conv2d", "ReLU", "MaxPool2d", "Dropout"] * 3, "Flatten"]
    convolutions = [layer for layer in network.trunk if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size) for c in convolutions] == [
        (1, 32, (3, 3)),
        (32, 64, (3, 3)),
        (64, 256, (3, 3)),
    ]
    assert {layer.p for layer in network.trunk if isinstance(layer, nn.Dropout)} == {0.3}
    assert (network.embedding.in_features, network.embedding.out_features) == (3 * 3 * 256, 128)
    white = torch.full((1, 28, 28, 1), 255, dtype=torch.uint8)
    assert torch.equal(network.trunk[0](white), torch.ones(1, 1, 28, 28))


@pytest.mark.parametrize("network", ["small", "original"])
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (64, 3), (37, 3)])
def test_any_size_of_photo_becomes_a_unit_embedding(network: str, size: int, channels: int) -> None:
    config = ImageSimilarityConfig(network=network, size=size, channels=channels, dimension=12)
    found = ImageSimilarity(config, 4).eval()(torch.zeros(3, size, size, channels, dtype=torch.uint8))
    assert found.shape == (3, 12)
    assert torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-5)


def ramp() -> torch.Tensor:
    """Columns grow to the right by 10, rows downwards by 1."""
    columns, rows = 10 * torch.arange(20), torch.arange(20)
    one = (columns[None, :] + rows[:, None]).to(torch.uint8)[None, :, :, None]
    return one.expand(200, 20, 20, 3)


def test_half_of_the_photos_are_flipped_and_none_is_turned() -> None:
    seen = task(flip=True, crop=0).augment(ramp(), torch.Generator().manual_seed(4))
    plain = (seen == ramp()).flatten(1).all(1)
    mirrored = (seen == ramp().flip(2)).flatten(1).all(1)
    assert bool((plain ^ mirrored).all())
    assert 0.35 < float(mirrored.float().mean()) < 0.65


def test_crops_move_by_at_most_so_many_pixels_both_ways() -> None:
    seen = task(flip=False, crop=2).augment(ramp(), torch.Generator().manual_seed(4))
    moved = (seen[:, 10, 10, 0].int() - ramp()[:, 10, 10, 0].int()).tolist()
    assert set(moved) == {10 * across + down for across in range(-2, 3) for down in range(-2, 3)}
    assert bool((seen[:, :, 0, :].int() >= 0).all())


def test_the_last_epochs_see_the_photos_as_they_are() -> None:
    bound = task(flip=True, crop=2, epochs=10, augment_until=0.6)
    for epoch, touched in ((5, True), (6, False)):
        batch = bound.batch(epoch, 0)
        whole = torch.from_numpy(photos().pixels_NHWC)[batch["rows"]]
        assert (not torch.equal(batch["pixels"], whole)) == touched


def test_held_out_categories_are_in_no_batch_and_have_no_proxy() -> None:
    hidden = {stripes.NAMES[0], stripes.NAMES[6]}
    bound = task(photos(140).without(hidden))
    labels = torch.cat([bound.batch(0, step)["labels"] for step in range(bound.steps)])
    assert set(labels.tolist()) == {1, 2, 3, 4, 5}
    network = bound.network()
    assert network.get_parameter("proxies_KD").shape == (5, 24)
    assert bound.proxy_of.tolist() == [-1, 0, 1, 2, 3, 4, -1]
    assert torch.isfinite(bound.loss(network, bound.batch(0, 0)))


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_each_part_of_the_loss_pulls_a_class_together(weights: tuple[float, float]) -> None:
    bound = task(multi_similarity_weight=weights[0], softmax_weight=weights[1])
    torch.manual_seed(0)
    network = bound.network()
    loss = bound.loss(network, bound.batch(0, 0))
    loss.backward()
    assert float(network.get_parameter("embedding.weight").grad.norm()) > 0
    grown = network.get_parameter("proxies_KD").grad
    assert (grown is not None and float(grown.norm()) > 0) == (weights[1] > 0)


def test_without_validation_photos_there_are_no_metrics() -> None:
    some = photos()
    some.parts_N[:] = "train"
    bound = task(some)
    assert bound.validate(bound.network().eval()) == {}
