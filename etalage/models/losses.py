"""Losses over a batch of embeddings and their classes."""

import torch
import torch.nn.functional as F
from torch import Tensor


def multi_similarity(
    embeddings_BD: Tensor,
    labels_B: Tensor,
    *,
    alpha: float = 2.0,
    beta: float = 40.0,
    epsilon: float = 0.1,
    base: float = 0.5,
) -> Tensor:
    """Multi-Similarity loss with its hard-pair mining, the mean over the batch's anchors.

    X. Wang et al., Multi-Similarity Loss with General Pair Weighting for Deep Metric Learning,
    CVPR 2019: section 3.3, mining by equations 11 and 12, the loss by equation 15 (`base` is its lambda).

    Mining: an anchor keeps the negatives that are nearer than its farthest positive, and the positives
    that are farther than its nearest negative, both within `epsilon`. An anchor without a positive
    or without a negative in the batch adds nothing; when nothing survives, loss and gradient are 0.

    embeddings_BD: (B, D) of any floating type, normalised here (once more does no harm): the measure is
    the cosine. labels_B: (B,) integers. Computed in float32 even under autocast: beta = 40 would
    turn bfloat16's steps of 0.004 in the similarity into factors of 1.17.
    """
    with torch.autocast(embeddings_BD.device.type, enabled=False):
        unit_BD = F.normalize(embeddings_BD.float(), dim=1)
        similarity_BB = unit_BD @ unit_BD.T
        positive_BB, negative_BB = _pairs(labels_B)
        hard_positive_BB, hard_negative_BB = _mine(similarity_BB.detach(), positive_BB, negative_BB, epsilon)
        pull_B = _log_one_plus_sum_exp(-alpha * (similarity_BB - base), hard_positive_BB) / alpha
        push_B = _log_one_plus_sum_exp(beta * (similarity_BB - base), hard_negative_BB) / beta
        return (pull_B + push_B).mean()


def cosine_softmax(
    embeddings_BD: Tensor, proxies_KD: Tensor, labels_B: Tensor, scale: float = 16.0
) -> Tensor:
    """Cross-entropy of a softmax over scaled cosines to one learned proxy a class.

    F. Wang et al., NormFace: L2 Hypersphere Embedding for Face Verification, ACM MM 2017, equation 6.
    embeddings_BD: (B, D), proxies_KD: (K, D), both normalised here; labels_B: (B,) in [0, K). float32 even
    under autocast.
    """
    with torch.autocast(embeddings_BD.device.type, enabled=False):
        cosines_BK = F.normalize(embeddings_BD.float(), dim=1) @ F.normalize(proxies_KD.float(), dim=1).T
        return F.cross_entropy(scale * cosines_BK, labels_B)


def _pairs(labels_B: Tensor) -> tuple[Tensor, Tensor]:
    same_BB = labels_B[:, None] == labels_B[None, :]
    negative_BB = ~same_BB
    return same_BB.fill_diagonal_(False), negative_BB


def _mine(
    similarity_BB: Tensor, positive_BB: Tensor, negative_BB: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    infinity = float("inf")
    farthest_positive_B1 = similarity_BB.masked_fill(~positive_BB, infinity).amin(1, keepdim=True)
    nearest_negative_B1 = similarity_BB.masked_fill(~negative_BB, -infinity).amax(1, keepdim=True)
    return (
        positive_BB & (similarity_BB - epsilon < nearest_negative_B1),
        negative_BB & (similarity_BB + epsilon > farthest_positive_B1),
    )


def _log_one_plus_sum_exp(exponent_BB: Tensor, keep_BB: Tensor) -> Tensor:
    """log(1 + the sum of exp over the kept), (B,): 0 where none is kept."""
    kept_BB = exponent_BB.masked_fill(~keep_BB, float("-inf"))
    return torch.cat([torch.zeros_like(kept_BB[:, :1]), kept_BB], dim=1).logsumexp(1)
