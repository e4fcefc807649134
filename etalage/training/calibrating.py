"""What the scores of a classifier's heads are added with, so that the probabilities mean what they say.

For each of what can be seen of an item, its photo, its title, both: one factor a head, chosen so that the
validation items' true leaves are as probable as they can be (C. Guo et al., ICML 2017). Late fusion is the
same thing with two heads.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from etalage.models.classifier_task import ClassifierTask
from etalage.runtime.leaf_decision import SEEN, LeafDecision, seen_rows, softmax

FEWEST = 30
"""Of fewer items no factor can be told: 1 stays."""
MOST = 5000
_SMALLEST, _LARGEST = 1e-3, 1e2


def judged(task: ClassifierTask) -> np.ndarray:
    """(n,) validation items, MOST at most, that an export is calibrated on."""
    return _some(task.validation, task.config.seed)


def calibrated(
    task: ClassifierTask, network: nn.Module, features_NF: np.ndarray | None = None
) -> tuple[LeafDecision, dict[str, Any]]:
    """→ what the export decides by, and for each of what is seen: items, log loss before and after.

    features_NF: what the network makes of the photos of the `judged` items; None: asked here.
    """
    rows = judged(task)
    if features_NF is None and len(rows):
        features_NF = task.features(network, rows)
    truth_N = task.items.leaf_N[rows]
    weights: dict[str, list[float]] = {}
    told: dict[str, Any] = {}
    heads = len(network.sees)  # type: ignore[arg-type]
    for seen in SEEN if len(task.reads) > 1 else task.reads:
        weights[seen] = [1.0] * heads
        if not len(rows):
            continue
        hide = {"photo": "title", "title": "photo"}.get(seen)
        with torch.inference_mode():
            found = task.scores(network, rows, hide, features_NF)
        there = [there_N for _, there_N in found]
        scores = [one for one, _ in found]
        visible = seen_rows(*_visible(task, rows, hide))[seen]
        speaks = [bool(len(visible)) and bool(one[visible].all()) for one in there]
        weights[seen] = [1.0 if one else 0.0 for one in speaks] if any(speaks) else weights[seen]
        if len(visible) < FEWEST:
            continue
        chosen = [one[visible] for one, can in zip(scores, speaks, strict=True) if can]
        before = log_loss(chosen, [1.0] * len(chosen), truth_N[visible])
        factors = fitted(chosen, truth_N[visible])
        after = log_loss(chosen, factors, truth_N[visible])
        left = iter(factors)
        weights[seen] = [next(left) if can else 0.0 for can in speaks]
        told[seen] = {"items": len(visible), "log_loss": round(before, 4), "calibrated": round(after, 4)}
    return LeafDecision(weights, task.config.decision), told


def _some(rows: np.ndarray, seed: int) -> np.ndarray:
    if len(rows) <= MOST:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, MOST, replace=False))


def _visible(task: ClassifierTask, rows: np.ndarray, hide: str | None) -> tuple[np.ndarray, np.ndarray]:
    photo_N = task.has_photo_N[rows] & (hide != "photo")
    title_N = (task.words_NT[torch.from_numpy(rows)] > 0).any(dim=1).numpy() & (hide != "title")
    return photo_N, title_N


def log_loss(scores: list[np.ndarray], factors: list[float], truth_N: np.ndarray) -> float:
    """Mean −log p of the true leaves. scores: a head each, (N, L)."""
    total = sum(np.float32(factor) * one for factor, one in zip(factors, scores, strict=True))
    chosen = softmax(np.asarray(total))[np.arange(len(truth_N)), truth_N]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def fitted(scores: list[np.ndarray], truth_N: np.ndarray) -> list[float]:
    """One positive factor a head, of least log loss; scores: a head each, (N, L) float32."""
    from scipy.optimize import minimize

    def loss(logs: np.ndarray) -> float:
        return log_loss(scores, [float(np.exp(one)) for one in logs], truth_N)

    bounds = [(float(np.log(_SMALLEST)), float(np.log(_LARGEST)))] * len(scores)
    # float32 scores: a finer step than this would be lost in their rounding.
    found = minimize(loss, np.zeros(len(scores)), method="L-BFGS-B", bounds=bounds, options={"eps": 1e-3})
    return [float(np.exp(one)) for one in found.x]
