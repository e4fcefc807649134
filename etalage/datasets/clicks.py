"""Synthetic click logs whose best possible AUROC is known, for rankers (S2.9).

Each row's probability p is known, its label is drawn from it, and no model can order the rows better than
p does: the AUROC of p on the same rows is the best possible one, up to the luck of the draw.

    logit p = bias + main + interactions, where, each scaled to its share of the logit's variance,
    main          Σ_f w_f · dense_f + Σ_s a_s[x_s]                          logistic regression finds these
    interactions  Σ_(s,t) <u_s[x_s], v_t[x_t]> + Σ_(s,f) c_s[x_s] · dense_f it cannot find those

Values of a sparse feature occur about as 1/rank (Zipf), in a shuffled order. Rare values say little:
what a value does is damped by n / (n + DAMPING), n its expected count in MILLION rows. Without this the
best possible would lie out of anyone's reach, for nobody can learn of a value that was seen once.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from etalage.features.examples import Examples
from etalage.metrics import auroc

MILLION = 1_000_000
DAMPING = 8000.0
CARDINALITIES = (
    3, 5, 8, 12, 20, 30, 50, 80, 100, 150, 200, 300, 500, 800, 1000, 1500, 2000, 3000, 5000, 8000, 10_000,
    15_000, 20_000, 30_000, 50_000, 100_000,
)  # fmt: skip
PAIRS = ((4, 13), (6, 10), (7, 12), (3, 9))
"""Positions of the sparse features that interact."""
WITH_DENSE = ((10, 0), (8, 5))
"""Sparse feature and dense feature that interact."""
DENSE = 13
FACTORS = 2
CLASSES = (0.0, 1.0, 2.0, 3.0)
THRESHOLDS = (0.3, 1.5, 3.0)
"""Of the logit with logistic noise: where class 1, 2, 3 begins."""
Target = Literal["binary", "regression", "classes", "several"]


@dataclass(frozen=True)
class Clicks:
    examples: Examples
    truth: np.ndarray
    """(M, O) float32: the probability of a binary label, the expected value of any other."""

    def best_auroc(self, part: str = "test", label: int = 0) -> float:
        """AUROC of the true probabilities on a part: what no model beats but by luck. Binary labels only."""
        rows = self.examples.rows(part)
        return auroc(self.truth[rows, label], self.examples.labels[rows, label] > 0)


def draw_clicks(
    rows: int = MILLION,
    seed: int = 0,
    target: Target = "binary",
    *,
    cardinalities: tuple[int, ...] = CARDINALITIES,
    main: float = 1.2,
    interactions: float = 0.8,
    rate: float = 0.25,
    validation: float = 0.1,
    test: float = 0.1,
) -> Clicks:
    """`rows` examples, the last shares of them validation and test.

    main, interactions: standard deviations of the two parts of the logit. rate: about the share of clicks.
    target: `binary` click · `regression` value = logit + noise of the same spread (its best R² is 0.5) ·
    `classes` 0 … 3, in order · `several`: click, and buy, which half agrees with it.
    Raises ValueError unless there are enough sparse features for PAIRS.
    """
    if len(cardinalities) <= max(max(pair) for pair in PAIRS):
        raise ValueError(f"{len(cardinalities)} sparse features; {1 + max(map(max, PAIRS))} at least")
    rng = np.random.default_rng((seed, 0))
    sparse = np.stack([_zipf(rng, rows, count) for count in cardinalities], axis=1)
    dense = rng.standard_normal((rows, DENSE), np.float32)
    logit = _logit(sparse, dense, cardinalities, (seed, 1), main, interactions)
    logit += _bias(logit, rate)
    if target == "several":
        other = _logit(sparse, dense, cardinalities, (seed, 2), main, interactions)
        logit = np.stack([logit, 0.5 * logit + 0.75**0.5 * other - 1.5], axis=1)
    else:
        logit = logit[:, None]
    labels, truth = _labels(rng, logit, target)
    names = {"several": ("click", "buy"), "regression": ("value",), "classes": ("level",)}.get(
        target, ("click",)
    )
    parts = np.zeros(rows, np.uint8)
    parts[rows - int(rows * (validation + test)) :] = 1
    parts[rows - int(rows * test) :] = 2
    examples = Examples(
        sparse,
        tuple(f"C{n + 1}" for n in range(len(cardinalities))),
        tuple(count + 1 for count in cardinalities),
        dense,
        tuple(f"I{n + 1}" for n in range(DENSE)),
        labels.astype(np.float32),
        names,
        parts,
    )
    return Clicks(examples, truth.astype(np.float32))


def _zipf(rng: np.random.Generator, rows: int, count: int) -> np.ndarray:
    """(rows,) int64 of 1 … count: value v with probability log((v + 1) / v) / log(count + 1), about 1/v."""
    drawn = np.exp(rng.random(rows) * np.log(count + 1)).astype(np.int64)
    return np.minimum(drawn, count)


def _share(count: int) -> np.ndarray:
    """(count + 1,) how often each row of `_zipf` is drawn; row 0 never is."""
    values = np.arange(1, count + 1)
    return np.append(0.0, np.log((values + 1) / values) / np.log(count + 1))


def _effects(rng: np.random.Generator, count: int, width: int) -> np.ndarray:
    """(count + 1, width) float32 of mean 0 over the rows drawn; rare values are damped."""
    share = _share(count)
    often = MILLION * share
    found = rng.standard_normal((count + 1, width)) * (often / (often + DAMPING))[:, None]
    return (found - share @ found).astype(np.float32)


def _logit(
    sparse: np.ndarray,
    dense: np.ndarray,
    cardinalities: tuple[int, ...],
    seed: tuple[int, int],
    main: float,
    interactions: float,
) -> np.ndarray:
    """(rows,) float32 of mean 0, about; the same seed gives the same world for any number of rows."""
    rng = np.random.default_rng(seed)
    first = dense @ rng.standard_normal(DENSE).astype(np.float32) * 0.3
    for position, count in enumerate(cardinalities):
        first += _effects(rng, count, 1)[sparse[:, position], 0] * 0.3
    second = np.zeros(len(sparse), np.float32)
    for one, other in PAIRS:
        left, right = (_effects(rng, cardinalities[place], FACTORS) for place in (one, other))
        second += np.einsum("mf,mf->m", left[sparse[:, one]], right[sparse[:, other]])
    for place, number in WITH_DENSE:
        second += _effects(rng, cardinalities[place], 1)[sparse[:, place], 0] * dense[:, number]
    return np.asarray(main * _scaled(first) + interactions * _scaled(second))


def _scaled(values: np.ndarray) -> np.ndarray:
    return values / max(float(values.std()), 1e-6)


def _bias(logit: np.ndarray, rate: float) -> float:
    """What to add so that the mean probability is `rate`: found by halving, on some rows."""
    low, high, some = -20.0, 20.0, logit[:100_000].astype(np.float64)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _probability(some + middle).mean() < rate else (low, middle)
    return low


def _probability(logit: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-logit)))


def _labels(rng: np.random.Generator, logit: np.ndarray, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """(rows, O) labels and what they are expected to be."""
    if target == "regression":
        return logit + rng.standard_normal(logit.shape) * logit.std(), logit
    if target == "classes":
        above = np.stack([_probability(logit - step) for step in THRESHOLDS], axis=-1)
        drawn = rng.random(logit.shape)
        return (drawn[..., None] < above).sum(axis=-1), above.sum(axis=-1)
    truth = _probability(logit)
    return rng.random(logit.shape) < truth, truth
