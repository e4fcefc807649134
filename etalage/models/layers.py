"""Layers that several models share. A network's first layer takes photos as they are decoded.

B batch   H W height and width in pixels   C channels   D embedding dimension
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etalage.features.encoder import Features


class Normalise(nn.Module):
    """(B, H, W, C) uint8 → (B, C, H, W) float32: x / 255, then mean and deviation.

    Here and nowhere else: the network's export takes raw pixels, so nobody can divide twice.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(1, -1, 1, 1), persistent=False)

    def forward(self, pixels_BHWC: Tensor) -> Tensor:
        planes_BCHW = pixels_BHWC.permute(0, 3, 1, 2).float() / 255
        return (planes_BCHW - self.mean) / self.deviation


class L2Normalise(nn.Module):
    """(B, D) → (B, D) float32 of length 1, so that the inner product is the cosine."""

    def forward(self, rows_BD: Tensor) -> Tensor:
        return F.normalize(rows_BD.float(), dim=1)


class ConvNormRelu(nn.Sequential):
    """Convolution without bias, batch normalisation, and ReLU unless `relu` is False."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, relu: bool = True) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU() if relu else nn.Identity(),
        )


class Residual(nn.Module):
    """Two 3×3 convolutions beside the identity (He et al., CVPR 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNormRelu(channels, channels)
        self.second = ConvNormRelu(channels, channels, relu=False)

    def forward(self, planes_BCHW: Tensor) -> Tensor:
        return F.relu(planes_BCHW + self.second(self.first(planes_BCHW)))


class FeatureSum(nn.Module):
    """One row's features → (B, D): the sum of one part a feature, in the order of `names`.

    sparse (B,) int64: a row of a table. bag (B, T) int64: the mean of its entries' rows; 0 is padding,
    and an empty bag adds nothing. dense (B, W) float32: a matrix without offset, so that a missing vector,
    which is all zeros, adds nothing.
    """

    def __init__(
        self, sparse: Mapping[str, int], bags: Mapping[str, int], dense: Mapping[str, int], width: int
    ) -> None:
        """sparse, bags: feature → rows of its table; dense: feature → its width W; width: D."""
        super().__init__()
        self.names = (*sparse, *bags, *dense)
        self.bags = frozenset(bags)
        # ModuleDict keys may not hold a dot, and names of features may.
        tables = [table(rows, width) for rows in (*sparse.values(), *bags.values())]
        self.parts = nn.ModuleList([*tables, *(nn.Linear(w, width, bias=False) for w in dense.values())])

    def forward(self, columns: Sequence[Tensor]) -> Tensor:
        total: Tensor | None = None
        for name, part, column in zip(self.names, self.parts, columns, strict=True):
            found = bag_mean(part, column) if name in self.bags else part(column)
            total = found if total is None else total + found
        if total is None:
            raise ValueError("no feature at all")
        return total


def content_sum(features: Features, width: int) -> FeatureSum | None:
    """The sum of one part for each of these features; None where there is none."""
    if len(features) == 0:
        return None
    return FeatureSum(
        {name: features.sizes[name] for name in sorted(features.sparse)},
        {name: features.sizes[name] for name in sorted(features.bags)},
        {name: features.dense[name].shape[1] for name in sorted(features.dense)},
        width,
    )


def bag_mean(part: nn.Module, bag_BT: Tensor) -> Tensor:
    """(B, D): the mean of the rows of a bag, zeros for an empty one."""
    if not torch.compiler.is_exporting():
        return F.embedding_bag(bag_BT, part.get_parameter("weight"), mode="mean", padding_idx=0)
    # The same, since a bag becomes a loop over the batch in ONNX.
    there_BT1 = (bag_BT != 0).unsqueeze(2).to(torch.float32)
    summed: Tensor = (part(bag_BT) * there_BT1).sum(1)
    return summed / there_BT1.sum(1).clamp(min=1)


def device_of(network: nn.Module) -> torch.device:
    """Where the network's weights are."""
    return next(network.parameters()).device


def on_device_of(network: nn.Module, array: np.ndarray) -> Tensor:
    """The array as a tensor where the network's weights are."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device_of(network))


def table(rows: int, width: int, spread: float = 0.02) -> nn.Embedding:
    """An embedding of `rows` rows, drawn from N(0, spread²)."""
    made = EmbeddingTable(rows, width)
    nn.init.normal_(made.weight, std=spread)
    return made


class EmbeddingTable(nn.Embedding):
    """The exporter calls a lookup "embedding", which is what outputs are called: as an index it has a name of
    its own."""

    def forward(self, rows: Tensor) -> Tensor:
        return self.weight[rows] if torch.compiler.is_exporting() else super().forward(rows)


def mlp(widths: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear layers from widths[0] over … to widths[-1], ReLU between them and none after the last: an inner
    product of two towers that end in ReLU could not be negative. One width alone: the identity."""
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(itertools.pairwise(widths)):
        layers += [nn.ReLU(), nn.Dropout(dropout)] if place else []
        layers.append(nn.Linear(before, after))
    return nn.Sequential(*layers)
