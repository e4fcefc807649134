"""Which way of embedding photos finds most: of categories that were learned from, and of others.

A share of the categories is held out of training. Each contender learns from the rest; then photos of both
kinds search in the training photos of all categories. Nothing here needs torch.

    N photos   D embedding dimension   Q queries
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from etalage.features.photo_set import PhotoSet

ENOUGH = 200
"""Queries of held-out categories; where validation has fewer, their training photos search too."""
AT_ONCE = 512


@dataclass(frozen=True)
class HeldOut:
    """Some categories kept out of training, and who searches. Rows are those of the PhotoSet."""

    categories: tuple[str, ...]
    photos: PhotoSet
    """Without them: their photos are the part `held out`."""
    index: np.ndarray
    """(n,) int64 the training photos of all categories, those held out too."""
    seen: np.ndarray
    """(q,) int64 validation photos of the categories that are learned."""
    new: np.ndarray
    """(q,) int64 photos of those held out: of validation, and where these are few of train too."""


@dataclass(frozen=True)
class Found:
    """hit@1: share of the queries whose nearest training photo, not itself, has their category."""

    seen: float | None
    """None: there is no such query."""
    new: float | None

    @property
    def both(self) -> float:
        """Their mean, by which contenders are ordered."""
        there = [one for one in (self.seen, self.new) if one is not None]
        return float(np.mean(there)) if there else 0.0

    def __str__(self) -> str:
        told = ["none" if one is None else f"{one:.4f}" for one in (self.seen, self.new)]
        return f"{told[0]} / {told[1]}"


def held_out(photos: PhotoSet, share: float, seed: int) -> HeldOut:
    """Hold out `share` of the categories with two training photos or more, drawn by `seed`; at least two
    stay, and where there are fewer than four such categories none is held out."""
    train, validation = photos.rows("train"), photos.choosing()
    counts = np.bincount(photos.labels_N[train], minlength=len(photos.categories))
    able = np.flatnonzero(counts > 1)
    count = 0 if len(able) < 4 else min(len(able) - 2, max(1, round(share * len(able)))) if share else 0
    chosen = np.sort(np.random.default_rng([seed, 1]).permutation(able)[:count])
    new_V = np.isin(photos.labels_N[validation], chosen)
    new = validation[new_V]
    if len(new) < ENOUGH:
        new = np.concatenate([new, train[np.isin(photos.labels_N[train], chosen)]])
    names = tuple(photos.categories[one] for one in chosen)
    return HeldOut(names, photos.without(set(names)), train, validation[~new_V], new)


def hit_at_1(
    embeddings_ND: np.ndarray, labels_N: np.ndarray, queries: np.ndarray, index: np.ndarray
) -> float | None:
    """Of these rows, each searching in `index` without itself; None: there are no queries, or nothing
    else."""
    if not len(queries) or len(index) < 2:
        return None
    hits = 0
    for start in range(0, len(queries), AT_ONCE):
        some = queries[start : start + AT_ONCE]
        scores = embeddings_ND[some] @ embeddings_ND[index].T
        scores[some[:, None] == index[None, :]] = -np.inf
        hits += int((labels_N[index[scores.argmax(axis=1)]] == labels_N[some]).sum())
    return hits / len(queries)


def judged(held: HeldOut, embeddings_ND: np.ndarray) -> Found:
    """How one contender does that learned without the categories held out."""
    labels_N = held.photos.labels_N
    seen, new = (hit_at_1(embeddings_ND, labels_N, part, held.index) for part in (held.seen, held.new))
    return Found(seen, new)


@dataclass(frozen=True)
class Compared:
    """What a training compared before it took one; kept in export.json as `compared`."""

    systems: Mapping[str, Found]
    """In the order in which one is taken where two find as much."""
    queries_seen: int
    queries_new: int
    categories: tuple[str, ...]
    left_out: Mapping[str, str]
    """What was not compared, and why."""

    @classmethod
    def of(
        cls, held: HeldOut, systems: Mapping[str, Found], left_out: Mapping[str, str] | None = None
    ) -> "Compared":
        return cls(systems, len(held.seen), len(held.new), held.categories, dict(left_out or {}))

    def best(self, of: Sequence[str] | None = None) -> str:
        """The system that finds most, among `of` (None: all)."""
        names = [name for name in self.systems if of is None or name in of]
        return max(names, key=lambda name: self.systems[name].both)

    def facts(self, taken: str) -> dict[str, Any]:
        """For export.json."""
        return {
            "taken": taken,
            **asdict(self),
            "systems": {n: asdict(one) for n, one in self.systems.items()},
        }

    def sentences(self, taken: str) -> list[str]:
        """For the end of a training."""
        figures = "; ".join(f"{name} {one}" for name, one in self.systems.items())
        lines = [
            f"compared, hit@1 on {self.queries_seen:,} photos of categories that were learned / on "
            f"{self.queries_new:,} of {len(self.categories)} held out: {figures}; taken: {taken}"
        ]
        return [*lines, *(f"{name} was not compared: {why}" for name, why in self.left_out.items())]
