"""From the scores of the leaves to probabilities that mean what they say, and from those to one leaf.

C. Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (scores are scaled by what makes the
validation items most probable); L. Bertinetto et al., Making Better Mistakes, CVPR 2020, after S. Karthik et
al., No Cost Likelihood Manipulation, ICLR 2021 (the decision of least expected cost).

    N items   L leaves   H heads
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from etalage.errors import ExportDamaged
from etalage.lake.taxonomy import Taxonomy

Decision = Literal["probable", "risk"]
SEEN = ("photo", "title", "both")
"""What there is to look at of an item: each is calibrated by itself."""
_ROWS = 1024


@dataclass(frozen=True)
class LeafDecision:
    """`weights`: what was seen (SEEN) → a factor for each head's scores. They are inverse temperatures: a
    model that is too sure of itself has factors below 1; a head that sees nothing there has 0."""

    weights: Mapping[str, Sequence[float]]
    decision: Decision = "probable"

    def probabilities(
        self, scores: Sequence[np.ndarray], photo_N: np.ndarray, title_N: np.ndarray
    ) -> np.ndarray:
        """H × (N, L) scores → (N, L) float32, rows sum to 1; even where there is nothing to look at."""
        total_NL = np.zeros(scores[0].shape, np.float32)
        for seen, rows in seen_rows(photo_N, title_N).items():
            for weight, one_NL in zip(self.weights.get(seen, ()), scores, strict=False):
                if weight:
                    total_NL[rows] += np.float32(weight) * one_NL[rows]
        return softmax(total_NL)

    def decide(self, probabilities_NL: np.ndarray, taxonomy: Taxonomy) -> np.ndarray:
        """(N,) int64 place of the decided leaf among taxonomy.leaves_L."""
        if self.decision == "probable":
            return probabilities_NL.argmax(axis=1)
        return least_risk(probabilities_NL, taxonomy.leaf_distances_LL)

    def to_json(self) -> str:
        weights = {
            seen: [round(float(weight), 6) for weight in given] for seen, given in self.weights.items()
        }
        return json.dumps({"weights": weights, "decision": self.decision}, indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str) -> "LeafDecision":
        """Raises ExportDamaged."""
        try:
            fields = json.loads(text)
            weights = {str(seen): [float(w) for w in given] for seen, given in fields["weights"].items()}
            decision = fields["decision"]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ExportDamaged(f"{where}: cannot be read: {error!r}; export the model again") from error
        finite = all(np.isfinite(weight) for given in weights.values() for weight in given)
        if decision not in get_args(Decision) or not set(weights) <= set(SEEN) or not finite:
            raise ExportDamaged(f"{where}: impossible {fields}; export the model again")
        return cls(weights, decision)


def seen_rows(photo_N: np.ndarray, title_N: np.ndarray) -> dict[str, np.ndarray]:
    """(N,) bool each: of which items there is a photo, a title → the rows of each of SEEN."""
    return {
        "photo": np.flatnonzero(photo_N & ~title_N),
        "title": np.flatnonzero(title_N & ~photo_N),
        "both": np.flatnonzero(photo_N & title_N),
    }


def softmax(scores_NL: np.ndarray) -> np.ndarray:
    """(N, L) float32, rows sum to 1."""
    shifted = np.exp(scores_NL - scores_NL.max(axis=1, keepdims=True))
    found: np.ndarray = (shifted / shifted.sum(axis=1, keepdims=True)).astype(np.float32)
    return found


def least_risk(probabilities_NL: np.ndarray, costs_LL: np.ndarray) -> np.ndarray:
    """(N,) int64: the leaf l with the least Σ_t p(t) · cost(l, t). costs_LL: row = decided, column = true."""
    costs_LL = costs_LL.astype(np.float32, copy=False)
    parts = [
        (probabilities_NL[start : start + _ROWS] @ costs_LL.T).argmin(axis=1)
        for start in range(0, len(probabilities_NL), _ROWS)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
