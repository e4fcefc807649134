"""From features of a photo and words of a title to the categories of every level.

Papers: L. Bertinetto et al., Making Better Mistakes, CVPR 2020 (losses by level, and what they trade);
A. K. Menon et al., Long-tail Learning via Logit Adjustment, ICLR 2021 (`prior`); R. Müller et al., When Does
Label Smoothing Help?, NeurIPS 2019.

    B batch   F features   T words of a title   W width of the title's vector   L leaves   D depth
    K_d categories that partition the leaves at level d (Taxonomy.at_level); K_D = L
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etalage.lake.taxonomy import Taxonomy
from etalage.models.layers import bag_mean, table

Logits = list[Tensor]
"""One (B, K_d) float32 a level, the top first."""


@dataclass(frozen=True)
class Levels:
    """The taxonomy as a network needs it. places: for each level (L,) int64, the place of each leaf."""

    sizes: tuple[int, ...]
    places: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, taxonomy: Taxonomy) -> "Levels":
        pairs = [taxonomy.at_level(level) for level in range(1, taxonomy.depth + 1)]
        return cls(tuple(len(rows) for rows, _ in pairs), tuple(places for _, places in pairs))

    @property
    def leaves(self) -> int:
        return self.sizes[-1]


class LevelHeads(nn.Module):
    """One linear head a level. A leaf's score is the sum of its own log-probability and, weighed as in the
    loss, those of the categories above it: a leaf that the upper levels doubt must be sure of itself."""

    def __init__(self, width: int, levels: Levels, weights: Sequence[float]) -> None:
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(width, size) for size in levels.sizes])
        self.shares = [weight / weights[-1] for weight in weights]
        for level, places in enumerate(levels.places):
            self.register_buffer(f"places_{level}", torch.from_numpy(places), persistent=False)

    def forward(self, states_BW: Tensor) -> Logits:
        return [head(states_BW) for head in self.heads]

    def leaf_scores(self, states_BW: Tensor) -> Tensor:
        """(B, L) float32."""
        scores_BL = torch.zeros((), dtype=torch.float32)
        for level, (logits_BK, share) in enumerate(zip(self(states_BW), self.shares, strict=True)):
            places_L = self.get_buffer(f"places_{level}")
            scores_BL = scores_BL + share * F.log_softmax(logits_BK.float(), dim=1)[:, places_L]
        return scores_BL


class FlatHead(nn.Module):
    """One softmax over the leaves; what lies above is the sum of its leaves."""

    def __init__(self, width: int, levels: Levels) -> None:
        super().__init__()
        self.leaves = nn.Linear(width, levels.leaves)
        self.sizes = levels.sizes
        for level, places in enumerate(levels.places):
            self.register_buffer(f"places_{level}", torch.from_numpy(places), persistent=False)

    def forward(self, states_BW: Tensor) -> Logits:
        log_BL = F.log_softmax(self.leaves(states_BW).float(), dim=1)
        above = range(len(self.sizes) - 1)
        return [summed(log_BL, self.get_buffer(f"places_{n}"), self.sizes[n]) for n in above] + [log_BL]

    def leaf_scores(self, states_BW: Tensor) -> Tensor:
        """(B, L) float32."""
        return F.log_softmax(self.leaves(states_BW).float(), dim=1)


def summed(log_BL: Tensor, places_L: Tensor, size: int) -> Tensor:
    """(B, L) logarithms of the leaves' probabilities → (B, size) of the categories that they lie in."""
    sums_BK = log_BL.new_zeros(len(log_BL), size).index_add(1, places_L, log_BL.exp())
    return sums_BK.clamp_min(torch.finfo(torch.float32).tiny).log()


def by_level(scores_BL: Tensor, levels: Levels) -> Logits:
    """(B, L) scores of the leaves → what they say of every level."""
    log_BL = F.log_softmax(scores_BL.float(), dim=1)
    above = zip(levels.places[:-1], levels.sizes[:-1], strict=True)
    return [summed(log_BL, torch.from_numpy(p).to(log_BL.device), n) for p, n in above] + [log_BL]


class Title(nn.Module):
    """(B, T) int64 of features/words.py → (B, W) float32: the mean of the words' rows; zeros without one."""

    def __init__(self, buckets: int, width: int) -> None:
        super().__init__()
        self.words = table(buckets + 1, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, words_BT: Tensor) -> Tensor:
        there_B1 = (words_BT > 0).any(dim=1, keepdim=True)
        states_BW: Tensor = F.relu(self.norm(bag_mean(self.words, words_BT))) * there_B1
        return states_BW


class Joint(nn.Module):
    """Photo and title together: (B, F), (B, W) → (B, H). What is missing comes as zeros, and says so."""

    def __init__(self, features: int, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(features + width + 2, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, photo_BF: Tensor, title_BW: Tensor, has_photo_B: Tensor, has_title_B: Tensor) -> Tensor:
        said_B2 = torch.stack([has_photo_B, has_title_B], dim=1).float()
        hidden_BH: Tensor = self.dropout(F.relu(self.inner(torch.cat([photo_BF, title_BW, said_B2], dim=1))))
        return hidden_BH


def level_loss(
    logits: Logits,
    targets_BD: Tensor,
    weights: Sequence[float],
    *,
    only_deepest: bool = False,
    smoothing: float = 0.0,
    priors: Sequence[Tensor] | None = None,
    row_weights_B: Tensor | None = None,
    total_weight: Tensor | None = None,
) -> Tensor:
    """Scalar: the cross-entropies of the levels, weighed; a row counts at the levels where it is known (≥ 0).

    only_deepest: each row counts at the deepest level that is known of it alone (a flat softmax needs no
    more). priors: log shares (K_d,) that are added to the logits while training, so that rare categories are
    not drowned. row_weights_B: (B,) float32, less than 1 for labels that may be wrong. total_weight: their
    sum over the whole batch, which these rows are a part of; None: these are all.
    """
    known_BD = targets_BD >= 0
    if only_deepest:
        deepest_B = known_BD.long().cumsum(1).argmax(1)
        known_BD = known_BD & (torch.arange(known_BD.shape[1], device=known_BD.device) == deepest_B[:, None])
    total = logits[0].new_zeros((), dtype=torch.float32)
    rows_B = (
        known_BD.new_ones(len(targets_BD), dtype=torch.float32) if row_weights_B is None else row_weights_B
    )
    whole = (rows_B.sum() if total_weight is None else total_weight).clamp_min(1e-6)
    for level, logits_BK in enumerate(logits):
        known_B = known_BD[:, level]
        if not bool(known_B.any()):
            continue
        shifted = logits_BK.float() if priors is None else logits_BK.float() + priors[level]
        losses = F.cross_entropy(
            shifted[known_B], targets_BD[known_B, level], label_smoothing=smoothing, reduction="none"
        )
        weight = 1.0 if only_deepest else weights[level]
        total = total + weight * (losses * rows_B[known_B]).sum() / whole
    return total


def depth_weights(depth: int) -> tuple[float, ...]:
    """(D,) each level twice the one above it, in all 1."""
    raw = [2.0**level for level in range(depth)]
    return tuple(weight / sum(raw) for weight in raw)
