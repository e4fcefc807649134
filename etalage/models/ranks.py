"""What the workers of one training share while each computes its part of a batch's loss.

The loss of a batch is one number, however many ranks (and parts that are accumulated, one after the other)
it is computed by. A loss that is a mean over the rows needs nothing of this module: the loop weighs each
rank's mean by its rows. Two kinds of losses need more:

- A mean over something else (targets, pairs, rows with a label). `Task.batch` puts how many of them a part
  has into the batch, under `count.<name>`. The loop adds these up over all parts of all ranks before the
  loss sees them, so a loss that divides by them is this part's share of the whole batch's loss.
- A loss that compares the rows of a batch with each other (contrastive losses, in-batch negatives).
  `self.ranks.gather` brings together what all ranks embedded, with its gradient, as in T. Chen et al.,
  A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020, appendix B.9.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

COUNT = "count."
"""How the batch's entries begin that the loop adds up over all parts of a batch."""
Gathers = Literal["nothing", "candidates", "rows"]
"""What a loss gathers over the ranks: the rows of the batch, which it compares with each other (then a batch
cannot be cut into accumulated parts); candidates, of which every part is given all; or nothing."""


class Ranks(Protocol):
    """Those that train together, as a loss sees them (training/context.py)."""

    @property
    def rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    @property
    def device(self) -> "torch.device":
        """That this rank computes on."""
        ...

    def gather(self, rows_TD: "Tensor") -> "Tensor":
        """(T, …) of this rank, T another one in each → those of all ranks, in the order of ranks. A gradient
        goes back to the rank that each row came from. All ranks have to call it, as often as each other."""
        ...


class Alone:
    """One worker, which has every row itself."""

    rank = 0
    world_size = 1

    @property
    def device(self) -> "torch.device":
        """The processor; nothing is laid out by it."""
        import torch

        return torch.device("cpu")

    def gather(self, rows_TD: "Tensor") -> "Tensor":
        """As given."""
        return rows_TD


ALONE: Ranks = Alone()


def counts_of(batch: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """The entries of a batch that the loop adds up."""
    return {name: value for name, value in batch.items() if name.startswith(COUNT)}


def share_of(candidates_C: np.ndarray, ranks: Ranks) -> np.ndarray:
    """Of what all ranks are given, this rank's share. Gathered, the shares are in the order of what was given
    to all."""
    shares = np.array_split(candidates_C, ranks.world_size)
    return shares[ranks.rank]
