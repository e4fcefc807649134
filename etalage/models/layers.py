"""Layers that several models share. A network's first layer takes photos as they are decoded.

B batch   H W height and width in pixels   C channels   D embedding dimension
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
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


class HistoryEncoder(nn.Module):
    """Acts → what is known after each of them: causal self-attention.

    W.-C. Kang and J. McAuley, Self-Attentive Sequential Recommendation, ICDM 2018, with layer
    normalisation ahead of each part (Xiong et al., ICML 2020) and one learned offset for each head and
    distance in place of positions (Raffel et al., JMLR 2020): the same history means the same, however far in
    front it was padded.

    A learned start stands before the first act. Every act sees it, so that attention has always something
    to look at; padding is the start once more and sees nothing else, so that a shopper without a history
    is an ordinary one.
    """

    def __init__(
        self,
        width: int,
        length: int,
        kinds: int,
        layers: int,
        heads: int,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        """length: L, acts at most. kinds: rows of the table of kinds, 0 = none; 1: without one."""
        super().__init__()
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.kinds = table(kinds, width) if kinds > 1 else None
        self.offsets = nn.Parameter(torch.zeros(layers, heads, length + 2))
        self.blocks = nn.ModuleList(
            [HistoryBlock(width, heads, dropout, attention_dropout) for _ in range(layers)]
        )
        self.dropout = nn.Dropout(dropout)
        self.last = nn.LayerNorm(width)

    def forward(self, acts_BLD: Tensor, mask_BL: Tensor, kinds_BL: Tensor | None = None) -> Tensor:
        """(B, L + 1, D) float32: column l is what is known after the first l columns of acts."""
        if self.kinds is not None and kinds_BL is not None:
            acts_BLD = acts_BLD + self.kinds(kinds_BL)
        acts_BLD = torch.where(mask_BL.unsqueeze(2), acts_BLD.float(), self.start)
        start_B1D = self.start.expand(acts_BLD.shape[0], 1, -1)
        states = self.dropout(torch.cat([start_B1D, acts_BLD], dim=1))
        distance_QK, hidden_BQK = self._sight(mask_BL)
        for block, offsets_HO in zip(self.blocks, self.offsets, strict=True):
            bias_BHQK = offsets_HO[:, distance_QK] + hidden_BQK.unsqueeze(1)
            states = block(states, bias_BHQK)
        return self.last(states.float())

    def _sight(self, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
        """How far back each key lies, (Q, K), the start at the last place of the offsets; and (B, Q, K) 0
        where a key is seen, else so far below that its weight is 0 (not -inf: a row of these is NaN)."""
        columns = torch.arange(mask_BL.shape[1] + 1, device=mask_BL.device)
        distance_QK = (columns.unsqueeze(1) - columns).clamp(min=0)
        is_start_K = columns == 0
        farthest = self.offsets.shape[2] - 1
        distance_QK = torch.where(is_start_K, farthest, distance_QK.clamp(max=farthest - 1))
        act_BK = torch.cat([mask_BL.new_zeros((mask_BL.shape[0], 1)), mask_BL], dim=1)
        seen_BQK = act_BK.unsqueeze(1) & act_BK.unsqueeze(2) & (columns.unsqueeze(1) >= columns)
        return distance_QK, torch.where(seen_BQK | is_start_K, 0.0, -1e9)


class HistoryBlock(nn.Module):
    """Self-attention and a feed-forward part of four times the width, each beside the identity."""

    def __init__(self, width: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_inner = nn.LayerNorm(width), nn.LayerNorm(width)
        self.all_three = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)
        self.inner = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.dropout, self.attention_dropout = nn.Dropout(dropout), nn.Dropout(attention_dropout)

    def forward(self, states_BSD: Tensor, bias_BHSS: Tensor) -> Tensor:
        states_BSD = states_BSD + self.dropout(self._attend(self.before_attention(states_BSD), bias_BHSS))
        return states_BSD + self.dropout(self.inner(self.before_inner(states_BSD)))

    def _attend(self, states_BSD: Tensor, bias_BHSS: Tensor) -> Tensor:
        batch, steps, width = states_BSD.shape
        split = self.all_three(states_BSD).reshape(batch, steps, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        logits_BHSS = query @ key.transpose(2, 3) / (width // self.heads) ** 0.5 + bias_BHSS
        weights_BHSS = self.attention_dropout(logits_BHSS.float().softmax(-1))
        seen = (weights_BHSS.to(value.dtype) @ value).transpose(1, 2).reshape(batch, steps, width)
        mixed: Tensor = self.mixed(seen)
        return mixed
