"""What a ranker can be trained for: the loss and the metrics of one objective, and whether several compete.

Paper: T. Yu et al., Gradient Surgery for Multi-Task Learning, NeurIPS 2020: objectives conflict where
their gradients point apart.

    R rows   C classes
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from etalage.metrics import auroc, auroc_by
from etalage.models.recipe import Objective

log = logging.getLogger(__name__)
COMPETING = -0.1
"""Cosine of two gradients below which a warning is due."""


def loss_of(objective: Objective, out: Tensor, wanted: Tensor) -> Tensor:
    """(R,) of outputs (R, 1) or (R, C) and labels (R,). binary: cross-entropy; regression: squared error;
    classes: cross-entropy, a label being of the class whose value is nearest."""
    if objective.kind == "binary":
        return functional.binary_cross_entropy_with_logits(out[:, 0], wanted, reduction="none")
    if objective.kind == "regression":
        return (out[:, 0] - wanted).square()
    nearest = (wanted[:, None] - wanted.new_tensor(objective.classes)).abs().argmin(dim=1)
    return functional.cross_entropy(out, nearest, reduction="none")


def metrics_of(
    objective: Objective, out: np.ndarray, wanted: np.ndarray, groups: np.ndarray | None = None
) -> dict[str, float]:
    """Of outputs (R, 1) or (R, C) and known labels (R,). Higher is better, but for `rmse`.

    binary: `auroc`, `log_likelihood` (mean), and with groups (R,) the mean `auroc_by_query`.
    regression: `r2`, `rmse`.
    classes: `accuracy`, `log_likelihood`, and `auroc` of the expected value for labels above the median.
    """
    if objective.kind == "regression":
        error = float(np.mean((out[:, 0] - wanted) ** 2))
        return {"r2": 1 - error / max(float(np.var(wanted)), 1e-12), "rmse": error**0.5}
    if objective.kind == "classes":
        values = np.asarray(objective.classes)
        nearest = np.abs(wanted[:, None] - values).argmin(axis=1)
        raised = np.exp(out - out.max(axis=1, keepdims=True))
        chances = raised / raised.sum(axis=1, keepdims=True)
        right = chances[np.arange(len(out)), nearest]
        return {
            "accuracy": float((out.argmax(axis=1) == nearest).mean()),
            "log_likelihood": float(np.log(np.maximum(right, 1e-12)).mean()),
            "auroc": _auroc(chances @ values, wanted > np.median(wanted)),
        }
    score = out[:, 0]
    likelihood = float(np.mean(wanted * score - np.logaddexp(0, score)))
    found = {"auroc": _auroc(score, wanted > 0), "log_likelihood": likelihood}
    if groups is not None:
        found["auroc_by_query"] = _mean(auroc_by(groups, score, wanted > 0)[1])
    return found


def _auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """0.5 where all rows are positive, or none: then nothing can be told of their order."""
    return auroc(scores, positive) if 0 < positive.sum() < len(positive) else 0.5


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.5


def conflicts(losses: Mapping[str, Tensor], shared: Sequence[Tensor]) -> dict[str, float]:
    """`agreement.<a>.<b>`: cosine between the gradients of each two objectives on the shared weights. Below
    zero a step for one is a step against the other; warns of those below COMPETING."""
    gradients = {
        name: torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)])
        for name, loss in losses.items()
    }
    found, names = {}, list(gradients)
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            cosine = float(functional.cosine_similarity(gradients[one], gradients[other], dim=0))
            found[f"agreement.{one}.{other}"] = cosine
            if cosine < COMPETING:
                log.warning(
                    "objectives %s and %s compete (cosine of their gradients %.2f): train each alone and "
                    "compare, or change their weights",
                    one,
                    other,
                    cosine,
                )
    return found
