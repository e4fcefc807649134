"""What follows what, counted and solved: a Markov chain over a shopper's acts as an inner product.

S. Rendle et al., Factorizing Personalized Markov Chains, WWW 2010, has the idea; here the matrix is counted
and its best approximation of a rank taken (C. Eckart and G. Young, 1936), which takes seconds and needs no
steps. It remembers which two items were taken one after the other, and that is what attention with dropout
forgets.

    N items, row 0 unknown   M rank   L acts   B windows   S states: the start, then one after each act
"""

from collections.abc import Iterable

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor, nn

from etalage.features.behaviour import Interactions

REACH = 5
"""Acts from one to the next that still count as one after the other."""
FADING = 0.6
"""An act counts so much less for each step that it lies further back, in the counts and in a history."""
BACKWARD = 0.3
"""What the item before says of being after the other one: orders within a day or a basket are half chance."""
SHRINK = 20.0
"""Acts that are added to those of each item, so that what was seen once says little."""


def solved(parts: Iterable[Interactions], items: int, rank: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(N + 1, M) float32 twice: by what an item leads on, and by what it follows; None: nothing follows
    anything. parts: positive acts by shopper and time, each shopper's in one part; items: N + 1. M is at most
    `rank`, less where there are fewer items."""
    counts = sparse.csr_matrix((items, items), dtype=np.float32)
    acts_of = np.zeros(items)
    for acts in parts:
        counts = counts + _counted(acts, items)
        acts_of += np.bincount(acts.items, minlength=items)
    counts.setdiag(0)
    counts.eliminate_zeros()
    most = min(rank, int((acts_of > 0).sum()) - 1)
    if counts.nnz == 0 or most < 1:
        return None
    scale = sparse.diags(1 / np.sqrt(acts_of + SHRINK))
    matrix = (scale @ counts @ scale).tocsc().astype(np.float32)
    begin = np.random.default_rng(0).standard_normal(items).astype(np.float32)
    left, values, right = svds(matrix, k=most, v0=begin)
    root = np.sqrt(values)
    return np.ascontiguousarray(left * root, np.float32), np.ascontiguousarray(right.T * root, np.float32)


def _counted(acts: Interactions, items: int) -> sparse.csr_matrix:
    rows, columns, weights = [], [], []
    for step in range(1, REACH + 1):
        same = acts.users[step:] == acts.users[:-step]
        before, after = acts.items[:-step][same], acts.items[step:][same]
        weight = np.full(len(before), FADING ** (step - 1), np.float32)
        rows += [before, after]
        columns += [after, before]
        weights += [weight, BACKWARD * weight]
    places = np.concatenate(rows), np.concatenate(columns)
    return sparse.csr_matrix((np.concatenate(weights), places), shape=(items, items))


class MarkovChain(nn.Module):
    """The solved chain. Its tables are no weights: whoever makes the network solves them again."""

    leads: Tensor
    follows: Tensor
    scale: Tensor

    def __init__(self, leads: np.ndarray, follows: np.ndarray, scale: float) -> None:
        """leads, follows: (N + 1, M) float32. scale: of the chain's score beside others."""
        super().__init__()
        self.register_buffer("leads", torch.from_numpy(leads), persistent=False)
        self.register_buffer("follows", torch.from_numpy(follows), persistent=False)
        self.register_buffer("scale", torch.tensor(float(scale)))

    def forward(self, leads_BLM: Tensor, mask_BL: Tensor) -> Tensor:
        """(B, M): the query after the last act; zeros without one."""
        ago_L = torch.arange(mask_BL.shape[1] - 1, -1, -1, device=mask_BL.device)
        weight_BL = torch.where(mask_BL, FADING**ago_L, 0.0)
        return self.scale * (leads_BLM.float() * weight_BL[:, :, None]).sum(1)
