"""The last stage: scored candidates → a slate. Business value, diversity, caps per brand, category, product.

K candidates   k places   D embedding dimension
"""

from dataclasses import dataclass, field

import numpy as np

from etalage.config import OrderConfig


@dataclass(frozen=True)
class Traits:
    """What ordering reads about K candidates; code -1 = not known, which no cap counts."""

    brands: np.ndarray
    """(K,) int codes of brands."""
    categories: np.ndarray
    """(K,) int codes of category leaves."""
    values: np.ndarray
    """(K,) float64 business values; NaN = not known, which counts as no value."""
    embeddings: np.ndarray | None = None
    """(K, D) float32, any length; zeros = not known."""
    groups: np.ndarray | None = None
    """(K,) int codes of the products that these are variants of; None: no item is a variant."""


@dataclass(frozen=True)
class Order:
    """Which candidates are placed where, and why the others are not."""

    places: np.ndarray
    """(≤ k,) positions of the candidates, best first."""
    scores: np.ndarray
    """(≤ k,) float32 score that each was chosen by, less its similarity to those above."""
    capped: dict[int, str] = field(default_factory=dict)
    """Position of a candidate that a cap kept out → the cap."""


def unit(scores: np.ndarray) -> np.ndarray:
    """Scale (K,) to 0 … 1; if all are equal, to 1. Values that are not finite become 0."""
    there = np.isfinite(scores)
    if not there.any():
        return np.zeros(len(scores), np.float64)
    low, high = float(scores[there].min()), float(scores[there].max())
    if high <= low:
        return there.astype(np.float64)
    return np.where(there, (np.where(there, scores, low) - low) / (high - low), 0.0)


def arranged(
    scores: np.ndarray, traits: Traits, k: int, config: OrderConfig, diversity: float | None = None
) -> Order:
    """The k candidates to show, best first. `diversity` overrides the config's.

    Without value and diversity, this is the order of the scores; equal scores keep their order. Otherwise
    each place in turn goes to the candidate with the largest

        (1 - diversity) · (score + value · business value) - diversity · max similarity to those above

    (maximal marginal relevance: Carbonell & Goldstein, SIGIR 1998, eq. 1); scores and values are scaled to
    0 … 1 first. The similarity is the mean of the embeddings' cosine (0 … 1) and of "the same category"; only
    what is known counts.
    """
    mix = config.diversity if diversity is None else diversity
    worth = unit(scores)
    if config.value:
        worth = worth + config.value * unit(traits.values)
        worth /= 1 + config.value
    if mix == 0:
        return _greedy(np.argsort(-worth, kind="stable"), worth, traits, k, config)
    return _marginal(worth, traits, k, config, mix)


class _Caps:
    def __init__(self, traits: Traits, config: OrderConfig) -> None:
        wanted = (
            ("brand", traits.brands, config.per_brand),
            ("category", traits.categories, config.per_category),
            ("item_group_id", traits.groups, config.per_group or None),
        )
        self.rules: list[tuple[str, np.ndarray, int, dict[int, int]]] = [
            (name, codes, most, {}) for name, codes, most in wanted if most is not None and codes is not None
        ]

    def trouble(self, place: int) -> str | None:
        """Which cap forbids this candidate here, if any."""
        for name, codes, most, counts in self.rules:
            if codes[place] >= 0 and counts.get(int(codes[place]), 0) >= most:
                return f"{most} of its {name} stand above"
        return None

    def take(self, place: int) -> None:
        for _, codes, _, counts in self.rules:
            code = int(codes[place])
            counts[code] = counts.get(code, 0) + 1


def _greedy(order: np.ndarray, worth: np.ndarray, traits: Traits, k: int, config: OrderConfig) -> Order:
    caps = _Caps(traits, config)
    if not caps.rules:
        return Order(order[:k], worth[order[:k]].astype(np.float32))
    places: list[int] = []
    capped: dict[int, str] = {}
    for place in order.tolist():
        if len(places) == k:
            break
        trouble = caps.trouble(place)
        if trouble is None:
            places.append(place)
            caps.take(place)
        else:
            capped[place] = trouble
    found = np.array(places, np.int64)
    return Order(found, worth[found].astype(np.float32), capped)


def _marginal(worth: np.ndarray, traits: Traits, k: int, config: OrderConfig, mix: float) -> Order:
    caps = _Caps(traits, config)
    capped: dict[int, str] = {}
    free = np.ones(len(worth), bool)
    likeness = np.zeros(len(worth))
    unit_rows = None if traits.embeddings is None else _unit_rows(traits.embeddings)
    known = None if unit_rows is None else np.asarray(unit_rows.any(axis=1))
    places: list[int] = []
    scores: list[float] = []
    while len(places) < k and free.any():
        marginal = np.where(free, (1 - mix) * worth - mix * likeness, -np.inf)
        best = int(np.argmax(marginal))
        free[best] = False
        trouble = caps.trouble(best)
        if trouble is not None:
            capped[best] = trouble
            continue
        caps.take(best)
        places.append(best)
        scores.append(float(marginal[best]))
        np.maximum(likeness, _like(best, traits, unit_rows, known), out=likeness)
    return Order(np.array(places, np.int64), np.array(scores, np.float32), capped)


def _like(
    place: int, traits: Traits, unit_rows: np.ndarray | None, embedded: np.ndarray | None
) -> np.ndarray:
    """(K,) similarity 0 … 1 of every candidate to the one at `place`."""
    total, known = np.zeros(len(traits.categories)), np.zeros(len(traits.categories))
    if traits.categories[place] >= 0:
        total += traits.categories == traits.categories[place]
        known += traits.categories >= 0
    if unit_rows is not None and embedded is not None and embedded[place]:
        total += np.where(embedded, np.clip(unit_rows @ unit_rows[place], 0, 1), 0)
        known += embedded
    return total / np.maximum(known, 1)


def _unit_rows(embeddings: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.where(lengths > 0, lengths, 1))
