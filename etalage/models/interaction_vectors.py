"""Who somebody is, by id, by what they took, or by both; and likewise for an item, by who took it.

Of interactions: Deng et al., DeepCF, AAAI 2019, whose branches read a user's row and an item's column of
the interaction matrix. A pair is never told of itself (Kabbur et al., FISM, KDD 2013): when user u and item
i are scored, i is left out of what u took, and u out of who took i. In training that keeps the answer out of
the question; later a thing that u has is judged like one that u has not.

    R rows (users, or items), row 0 unknown   O rows of the other side   M acts   B batch   W width
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Bag:
    """What B rows took, in training: the acts of the V rows that are among them, T in all."""

    others: Tensor
    """(T,) other sides."""
    offsets: Tensor
    """(V,) where each row's begin."""
    kept: Tensor
    """(T,) float32: 0 for what is hidden; what is left makes up for it."""
    which: Tensor
    """(B,) each row among the V."""
    without: Tensor | None
    """(B,) other sides whose own act does not count."""
    own: Tensor
    """(B,) float32: how much of the own act is in the sum, 0 where it is none."""
    scale: Tensor
    """(B,) float32 weight of the sum without it."""


class Neighbours(nn.Module):
    """The other sides of each row's acts, as sorted columns. Not part of the weights: it is data."""

    starts: Tensor
    others: Tensor

    def __init__(self, owners: np.ndarray, others: np.ndarray, rows: int, power: float) -> None:
        """owners, others: (M,) int64 of distinct pairs, in any order. power: a sum of n weighs n^-power."""
        super().__init__()
        order = np.lexsort((others, owners))
        starts = np.searchsorted(owners[order], np.arange(rows + 1))
        # One more at the end, so that a place may lie behind the last act.
        self.register_buffer("others", torch.from_numpy(np.append(others[order], 0)), persistent=False)
        self.register_buffer("starts", torch.from_numpy(starts), persistent=False)
        self.rounds = int(np.diff(starts).max(initial=0)).bit_length()
        self.power = power

    def forward(self, rows_B: Tensor, others_B: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) bool: is the pair an act? (B,) float32: the weight of the sum of the row's acts but it."""
        is_act_B, _ = self.find(rows_B, others_B)
        count_B = self.starts[rows_B + 1] - self.starts[rows_B]
        return is_act_B, self.scale(count_B - is_act_B.long())

    def find(self, rows_B: Tensor, others_B: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) bool: is the pair an act? and (B,) its place among all."""
        low, end = self.starts[rows_B], self.starts[rows_B + 1]
        high = end
        for _ in range(self.rounds):  # a binary search in each row's acts, which exports as it stands
            middle = (low + high) // 2
            goes_right = (self.others[middle] < others_B) & (low < high)
            high = torch.where(goes_right, high, middle)
            low = torch.where(goes_right, middle + 1, low)
        return (self.others[low] == others_B) & (low < end), low

    def scale(self, count: Tensor) -> Tensor:
        return count.clamp(min=1).float() ** -self.power

    def bag(self, rows_B: Tensor, without_B: Tensor | None, dropout: float) -> Bag:
        """What the rows took, in training: without `without`, and a share `dropout` of the rest hidden, the
        same for all questions of a row."""
        rows_V, which_B = torch.unique(rows_B, return_inverse=True)
        begin_V = self.starts[rows_V]
        lengths_V = self.starts[rows_V + 1] - begin_V
        offsets_V = lengths_V.cumsum(0) - lengths_V
        owners_T = torch.repeat_interleave(torch.arange(len(rows_V), device=lengths_V.device), lengths_V)
        others_T = self.others[
            torch.arange(len(owners_T), device=owners_T.device) - (offsets_V - begin_V)[owners_T]
        ]
        kept_T = torch.ones(len(others_T), device=others_T.device)
        if dropout:
            kept_T = (torch.rand(len(others_T), device=others_T.device) >= dropout) / (1 - dropout)
        count_B, own_B = lengths_V[which_B], torch.zeros(len(rows_B), device=rows_B.device)
        if without_B is not None and len(others_T):
            is_act_B, place_B = self.find(rows_B, without_B)
            in_bag_B = (offsets_V - begin_V)[which_B] + place_B
            own_B = torch.where(is_act_B, kept_T[in_bag_B.clamp(0, len(kept_T) - 1)], own_B)
            count_B = count_B - is_act_B.long()
        return Bag(others_T, offsets_V, kept_T, which_B, without_B, own_B, self.scale(count_B))

    def blocks(self, acts: int = 1 << 18) -> list[tuple[int, int]]:
        """All rows, as ranges of about so many acts."""
        cuts = torch.searchsorted(
            self.starts, torch.arange(0, len(self.others) + acts, acts, device=self.starts.device)
        ).clamp(max=len(self.starts) - 1)
        edges = torch.unique(torch.cat([cuts, cuts.new_tensor([0, len(self.starts) - 1])])).tolist()
        return list(itertools.pairwise(edges))


class Vectors(nn.Module):
    """Rows → (B, W): of the id, of the interactions, or their sum."""

    sums: Tensor

    def __init__(self, rows: int, others: int, width: int, by_id: bool, by_acts: bool, spread: float) -> None:
        super().__init__()
        self.id = _table(rows, width, spread) if by_id else None
        self.of_others = _table(others, width, spread) if by_acts else None
        # The unknown other side says nothing, and stands in no act.
        self.register_buffer("sums", torch.zeros(rows if by_acts else 0, width), persistent=False)

    def learn(self, rows_B: Tensor, bag: Bag | None) -> Tensor:
        """In training."""
        found = self.sums.new_zeros(()) if self.id is None else self.id(rows_B)
        if self.of_others is not None and bag is not None:
            sums_VW = F.embedding_bag(
                bag.others, self.of_others.weight, bag.offsets, mode="sum", per_sample_weights=bag.kept
            )
            sums_BW = sums_VW[bag.which]
            if bag.without is not None:
                sums_BW = sums_BW - bag.own[:, None] * self.of_others(bag.without)
            found = found + sums_BW * bag.scale[:, None]
        return found

    def forward(self, rows_B: Tensor, others_B: Tensor, is_act_B: Tensor, scale_B: Tensor) -> Tensor:
        """Afterwards: the sums are there, and the pair's own act is taken out again."""
        found = self.sums.new_zeros(()) if self.id is None else self.id(rows_B)
        if self.of_others is not None:
            own_BW = self.of_others(others_B) * is_act_B.float()[:, None]
            found = found + (self.sums[rows_B] - own_BW) * scale_B[:, None]
        return found

    def every(self, neighbours: Neighbours | None) -> Tensor:
        """(R, W) of all rows, for pairs that are no acts."""
        found = self.sums.new_zeros(()) if self.id is None else self.id.weight
        if neighbours is not None:
            found = found + self.sums * neighbours.scale(neighbours.starts.diff())[:, None]
        return found

    @torch.no_grad()
    def sum_up(self, neighbours: Neighbours | None) -> None:
        """Of all rows at once, so that a score costs a look-up however much somebody took."""
        if self.of_others is None or neighbours is None:
            return
        for start, stop in neighbours.blocks():
            first, last = int(neighbours.starts[start]), int(neighbours.starts[stop])
            offsets = neighbours.starts[start:stop] - first
            flat = neighbours.others[first:last]
            self.sums[start:stop] = F.embedding_bag(flat, self.of_others.weight, offsets, mode="sum").float()


def _table(rows: int, width: int, spread: float) -> nn.Embedding:
    made = nn.Embedding(rows, width)
    nn.init.normal_(made.weight, std=spread)
    return made
