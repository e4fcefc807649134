"""Layers that several models share. A network's first layer takes photos as they are decoded.

B batch   H W height and width in pixels   C channels   D embedding dimension
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
