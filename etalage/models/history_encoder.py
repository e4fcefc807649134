"""Acts → what is known after each of them: causal attention, by blocks that a config names.

B windows   L acts   S states: the start, then one after each act   Q K states that look, that are seen
H heads   D width
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from etalage.models.layers import table

BlockName = Literal["pre_norm", "ligr", "hstu"]
HIDDEN = -1e9
"""Added to the logit of a state that is not seen: its weight is 0 (not -inf: a row of these is NaN)."""


class Attention(nn.Module):
    """Softmax attention of H heads (A. Vaswani et al., NeurIPS 2017)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.all_three = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states_BSD: Tensor, bias_BHSS: Tensor) -> Tensor:
        """(B, S, D)."""
        batch, steps, width = states_BSD.shape
        split = self.all_three(states_BSD).reshape(batch, steps, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        logits_BHSS = query @ key.transpose(2, 3) / (width // self.heads) ** 0.5 + bias_BHSS
        weights_BHSS = self.dropout(logits_BHSS.float().softmax(-1))
        seen = (weights_BHSS.to(value.dtype) @ value).transpose(1, 2).reshape(batch, steps, width)
        mixed: Tensor = self.mixed(seen)
        return mixed


class PreNormBlock(nn.Module):
    """Attention and a feed-forward part of four times the width, each beside the identity, with layer
    normalisation ahead of it (R. Xiong et al., ICML 2020)."""

    def __init__(self, width: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.before_attention, self.before_inner = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, attention_dropout)
        self.inner = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, states_BSD: Tensor, bias_BHSS: Tensor) -> Tensor:
        """(B, S, D)."""
        looked = self.attention(self.before_attention(states_BSD), bias_BHSS)
        states_BSD = states_BSD + self.dropout(looked)
        return states_BSD + self.dropout(self.inner(self.before_inner(states_BSD)))


class LigrBlock(nn.Module):
    """The same with a learned gate on each part, and SwiGLU inside (F. Borisyuk et al., From Features to
    Transformers: Redefining Ranking for Scalable Impact, 2025, "LiGR"; N. Shazeer, GLU Variants Improve
    Transformer, 2020)."""

    def __init__(self, width: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.before_attention, self.before_inner = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, attention_dropout)
        self.attention_gate, self.inner_gate = nn.Linear(width, width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states_BSD: Tensor, bias_BHSS: Tensor) -> Tensor:
        """(B, S, D)."""
        looked = self.attention(self.before_attention(states_BSD), bias_BHSS)
        states_BSD = states_BSD + self.dropout(looked) * torch.sigmoid(self.attention_gate(states_BSD))
        gate, value = self.up(self.before_inner(states_BSD)).chunk(2, -1)
        inner = self.down(self.dropout(F.silu(gate) * value))
        return states_BSD + self.dropout(inner) * torch.sigmoid(self.inner_gate(states_BSD))


class HstuBlock(nn.Module):
    """Pointwise attention: SiLU in place of the softmax, so that how much there is to see is not lost, gated
    by what the state itself says (J. Zhai et al., Actions Speak Louder than Words, ICML 2024, section 3)."""

    def __init__(self, width: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.all_four, self.mixed = nn.Linear(width, 4 * width), nn.Linear(width, width)
        self.dropout, self.attention_dropout = nn.Dropout(dropout), nn.Dropout(attention_dropout)

    def forward(self, states_BSD: Tensor, bias_BHSS: Tensor) -> Tensor:
        """(B, S, D)."""
        batch, steps, width = states_BSD.shape
        gate, value, query, key = F.silu(self.all_four(self.before(states_BSD))).chunk(4, -1)
        by_head = (batch, steps, self.heads, width // self.heads)
        query, key, value = (part.reshape(by_head).transpose(1, 2) for part in (query, key, value))
        # SiLU of HIDDEN is 0.
        weights_BHSS = F.silu((query @ key.transpose(2, 3)).float() + bias_BHSS)
        seen_BHS1 = (bias_BHSS > HIDDEN / 2).sum(-1, keepdim=True).clamp(min=1)
        weights_BHSS = self.attention_dropout(weights_BHSS / seen_BHS1)
        looked = (weights_BHSS.to(value.dtype) @ value).transpose(1, 2).reshape(batch, steps, width)
        return states_BSD + self.dropout(self.mixed(self.after(looked) * gate))


BLOCKS: dict[BlockName, type[nn.Module]] = {"pre_norm": PreNormBlock, "ligr": LigrBlock, "hstu": HstuBlock}


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
        block: BlockName = "pre_norm",
    ) -> None:
        """length: L, acts at most. kinds: rows of the table of kinds, 0 = none; 1: without one. block: of
        BLOCKS."""
        super().__init__()
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.kinds = table(kinds, width) if kinds > 1 else None
        self.offsets = nn.Parameter(torch.zeros(layers, heads, length + 2))
        self.blocks = nn.ModuleList(
            [BLOCKS[block](width, heads, dropout, attention_dropout) for _ in range(layers)]
        )
        self.dropout = nn.Dropout(dropout)
        self.last = nn.LayerNorm(width)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What it reads, by the names of BehaviourNetwork."""
        return ("history_embeddings", "history_mask", *(() if self.kinds is None else ("history_kinds",)))

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
        where a key is seen, else HIDDEN."""
        columns = torch.arange(mask_BL.shape[1] + 1, device=mask_BL.device)
        distance_QK = (columns.unsqueeze(1) - columns).clamp(min=0)
        is_start_K = columns == 0
        farthest = self.offsets.shape[2] - 1
        distance_QK = torch.where(is_start_K, farthest, distance_QK.clamp(max=farthest - 1))
        act_BK = torch.cat([mask_BL.new_zeros((mask_BL.shape[0], 1)), mask_BL], dim=1)
        seen_BQK = act_BK.unsqueeze(1) & act_BK.unsqueeze(2) & (columns.unsqueeze(1) >= columns)
        return distance_QK, torch.where(seen_BQK | is_start_K, 0.0, HIDDEN)
