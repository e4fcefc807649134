"""Losses over a batch of embeddings: of photos and their classes, of queries and the items they ask for."""

from typing import Any

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


def full_softmax(
    queries_MD: Tensor,
    items_ND: Tensor,
    targets_M: Tensor,
    weights_M: Tensor | None = None,
    *,
    smoothing: float = 0.0,
    chunk: int = 128,
) -> Tensor:
    """Cross-entropy of the softmax over the inner products with all N items; a scalar, the weighted mean.

    queries_MD: (M, D), items_ND: (N, D), of any floating type; targets_M: (M,) rows of items_ND. smoothing:
    so much of the target is spread evenly over the N items. The (M, N) logits are never held: a chunk of
    queries is scored, its gradient taken, the scores forgotten; memory is chunk × N. Under autocast the
    products run in its type, the softmax always in float32. 0 where there is no query.
    """
    if weights_M is None:
        weights_M = torch.ones_like(targets_M, dtype=torch.float32)
    shares_M = weights_M / weights_M.sum().clamp(min=1e-12)
    kind = queries_MD.device.type
    fast = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    loss: Tensor = _FullSoftmax.apply(  # type: ignore[no-untyped-call]
        queries_MD, items_ND, targets_M, shares_M, smoothing, chunk, fast
    )
    return loss


class _FullSoftmax(torch.autograd.Function):
    """Σ of shares × cross-entropy. The gradient is made where the logits are: `backward` only scales it."""

    @staticmethod
    def forward(
        context: Any,
        queries_MD: Tensor,
        items_ND: Tensor,
        targets_M: Tensor,
        shares_M: Tensor,
        smoothing: float,
        chunk: int,
        fast: torch.dtype | None,
    ) -> Tensor:
        wanted = queries_MD.requires_grad or items_ND.requires_grad
        kind = fast or torch.float32
        left_MD, right_ND = queries_MD.to(kind), items_ND.to(kind)
        loss = left_MD.new_zeros((), dtype=torch.float32)
        slope_MD = left_MD.new_empty(left_MD.shape if wanted else (0, 0), dtype=torch.float32)
        slope_ND = right_ND.new_zeros(right_ND.shape if wanted else (0, 0), dtype=torch.float32)
        for start in range(0, len(targets_M), chunk):
            stop = min(start + chunk, len(targets_M))
            logits = (left_MD[start:stop] @ right_ND.T).float()
            right, share = targets_M[start:stop, None], shares_M[start:stop]
            aim = (1 - smoothing) * logits.gather(1, right)[:, 0]
            if smoothing:
                aim = aim + smoothing * logits.mean(1)
            peak = logits.amax(1)
            # One pass of exp serves the sum and the gradient: it is what this costs beside the products.
            chances = logits.sub_(peak[:, None]).exp_()
            total = chances.sum(1)
            loss += share @ (peak + total.log() - aim)
            if wanted:
                chances.mul_((share / total)[:, None])
                if smoothing:
                    chances -= share[:, None] * (smoothing / len(items_ND))
                chances.scatter_add_(1, right, (smoothing - 1) * share[:, None])
                slope = chances.to(kind)
                slope_MD[start:stop] = slope @ right_ND
                slope_ND += slope.T @ left_MD[start:stop]
        context.save_for_backward(slope_MD, slope_ND)
        context.kinds = queries_MD.dtype, items_ND.dtype
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        slope_MD, slope_ND = context.saved_tensors
        of_queries, of_items = context.kinds
        return (slope * slope_MD).to(of_queries), (slope * slope_ND).to(of_items), *[None] * 5


def sampled_softmax(
    queries_MD: Tensor,
    candidates_CD: Tensor,
    targets_M: Tensor,
    log_probability_C: Tensor,
    weights_M: Tensor | None = None,
) -> Tensor:
    """Cross-entropy over C drawn candidates in place of all N items; a scalar, the weighted mean.

    X. Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations, RecSys 2019,
    equation 3: from every logit the log of the probability that its item was drawn is taken, or frequent
    items, which stand in most batches, would be pushed down for being popular.

    queries_MD: (M, D); candidates_CD: (C, D), each item once; targets_M: (M,) rows of candidates_CD;
    log_probability_C: (C,), of being among the candidates.
    """
    logits_MC = (queries_MD @ candidates_CD.T).float() - log_probability_C
    losses_M = F.cross_entropy(logits_MC, targets_M, reduction="none")
    return weighted_mean(losses_M, weights_M)


def generalised_bce(
    queries_MD: Tensor, candidates_CD: Tensor, targets_M: Tensor, items: int, calibration: float
) -> Tensor:
    """gBCE, the mean over the queries; a scalar.

    A. Petrov and C. Macdonald, gSASRec, RecSys 2023, equations 9 and 10: drawn negatives make a model too
    sure of its positives; the probability of the positive is raised to the power β = α (t (1 - 1/α) + 1/α),
    α being the share of the negatives that was drawn and t the calibration.

    queries_MD: (M, D); candidates_CD: (C, D), drawn out of `items` and each once; targets_M: (M,) rows of
    candidates_CD. All other candidates are a query's negatives.
    """
    logits_MC = (queries_MD @ candidates_CD.T).float()
    share = min(1.0, (len(candidates_CD) - 1) / max(1, items - 1))
    power = share * (calibration * (1 - 1 / share) + 1 / share) if share else 1.0
    right_M1 = targets_M[:, None]
    wrong_M = F.softplus(logits_MC).sum(1) - F.softplus(logits_MC.gather(1, right_M1))[:, 0]
    right_M = F.softplus(-logits_MC.gather(1, right_M1))[:, 0]
    return weighted_mean(power * right_M + wrong_M, None)


def ordinal(scores_M: Tensor, bounds_K: Tensor, classes_M: Tensor) -> Tensor:
    """Negative log-likelihood of ordered classes, (M,): one score, and K rising bounds between K + 1 classes.

    P. McCullagh, Regression Models for Ordinal Data, JRSS B 1980 (the proportional odds model):
    P(class > k) = sigmoid(score - bound k). The expected class rises with the score, so that items in order
    of their inner product are in order of what is expected of them.

    classes_M: (M,) in 0 … K.
    """
    logits_MK = scores_M[:, None] - bounds_K
    # log(σ(u) - σ(l)) = log σ(u) + log σ(-l) + log(1 - exp(l - u)): nothing cancels, whatever the score.
    zero = logits_MK.new_full((len(scores_M), 1), 40.0)
    edges_M = torch.cat([zero, logits_MK, -zero], dim=1)
    upper = edges_M.gather(1, classes_M[:, None])[:, 0]
    lower = edges_M.gather(1, classes_M[:, None] + 1)[:, 0]
    return -(F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(lower - upper)))


def weighted_mean(losses_M: Tensor, weights_M: Tensor | None) -> Tensor:
    """Scalar; 0 where no row weighs anything."""
    if weights_M is None:
        return losses_M.sum() / max(1, len(losses_M))
    return (losses_M * weights_M).sum() / weights_M.sum().clamp(min=1e-12)
