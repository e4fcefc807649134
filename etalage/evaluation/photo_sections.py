"""What an evaluation of a photo embedder found: neighbours, confusion, a map, and from where on two match.

N embeddings   D dimension   C categories
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from etalage.evaluation.measured import SliceFigures
from etalage.evaluation.names import CLASSES_HELD_OUT, CLASSES_SEEN, name_of_leaf
from etalage.evaluation.report import photo_uri
from etalage.evaluation.sections import Section, Slices
from etalage.metrics import share_interval

Strip = tuple[bytes, str, Sequence[tuple[bytes, str, bool, float]]]
"""A query photo with its category, and its neighbours: photo, category, hit, score."""
MAP_POINTS, MAP_CATEGORIES = 4_000, 20


@dataclass(frozen=True)
class Neighbours(Section):
    """Some queries with what is nearest to them. Photos are encoded image files."""

    strips: Sequence[Strip]

    page = ("photo_sections", "neighbours")

    def content(self) -> dict[str, Any]:
        return {"strips": [_strip(*strip) for strip in self.strips]}


@dataclass(frozen=True)
class ComparedNeighbours(Section):
    """Queries that a rule chose, with what two systems find for each: for the page of the whole shop."""

    rule: str
    strips: Sequence[tuple[str, Mapping[str, Strip]]]
    """Why it was chosen; system → the query and its neighbours."""


@dataclass(frozen=True)
class VotedConfusion(Section):
    """(C, C) counts of what the neighbours vote for, own category by row, and the C names."""

    counts_CC: np.ndarray
    names: Sequence[str]

    page = ("photo_sections", "confusion")

    def plots(self) -> dict[str, str | None]:
        from etalage.evaluation.drawing import draw_confusion_by_row

        return {"confusion": draw_confusion_by_row(self.counts_CC, self.names) if len(self.names) else None}

    def alts(self) -> dict[str, str]:
        right = self.counts_CC.trace() / max(int(self.counts_CC.sum()), 1)
        return {"confusion": f"{right:.0%} of these queries are voted into their own category"}


@dataclass(frozen=True)
class EmbeddingMap(Section):
    """The first two principal components of a sample of (N, D) embeddings, coloured by category."""

    embeddings_ND: np.ndarray
    categories_N: Sequence[str] | np.ndarray

    page = ("photo_sections", "map")

    def content(self) -> dict[str, Any]:
        if len(self.categories_N) < 3:
            return {}
        points, explained, labels, named = self._projected
        return {
            "points": len(points),
            "explained": f"{100 * explained:.0f}",
            "rest": int((~np.isin(labels, named)).sum()),
        }

    def plots(self) -> dict[str, str | None]:
        from etalage.evaluation.drawing import draw_map

        if len(self.categories_N) < 3:
            return {}
        points, _, labels, named = self._projected
        return {"map": draw_map(points, labels, named)}

    def alts(self) -> dict[str, str]:
        if len(self.categories_N) < 3:
            return {}
        points, explained, _, named = self._projected
        return {"map": f"{len(points)} photos of {len(named)} categories; {explained:.0%} of the variance"}

    @cached_property
    def _projected(self) -> tuple[np.ndarray, float, np.ndarray, list[str]]:
        """(n, 2) points, the share of the variance that they hold, their (n,) labels, and the labels that are
        named: the most frequent ones."""
        embeddings, labels = self.embeddings_ND, np.asarray(self.categories_N).astype(str)
        if len(embeddings) > MAP_POINTS:
            chosen = np.sort(np.random.default_rng(0).permutation(len(embeddings))[:MAP_POINTS])
            embeddings, labels = embeddings[chosen], labels[chosen]
        centred = np.asarray(embeddings, np.float64) - embeddings.mean(axis=0)
        left, singular, _ = np.linalg.svd(centred, full_matrices=False)
        points = np.zeros((len(left), 2))
        shown = min(2, len(singular))
        points[:, :shown] = left[:, :shown] * singular[:shown]
        explained = float((singular[:2] ** 2).sum() / max((singular**2).sum(), 1e-12))
        names, counts = np.unique(labels, return_counts=True)
        named = np.sort(names[np.argsort(-counts, kind="stable")[:MAP_CATEGORIES]])
        return points, explained, labels, named.tolist()


@dataclass(frozen=True)
class MatchThreshold(Section):
    """From which similarity on two photos match; None: the precision that was asked for is out of reach."""

    threshold: dict[str, float] | None
    words: str

    def facts(self) -> dict[str, str]:
        return {"match": self.words}

    def sentences(self) -> list[str]:
        return [f"match: {self.words}"]

    def kept(self) -> dict[str, Any]:
        return {"match": self.threshold}


def _strip(query: bytes, category: str, answers: Sequence[tuple[bytes, str, bool, float]]) -> dict[str, Any]:
    return {
        "query": photo_uri(query),
        "category": category,
        "leaf": name_of_leaf(category),
        "answers": [
            {
                "photo": photo_uri(photo),
                "category": category,
                "leaf": name_of_leaf(category),
                "hit": hit,
                "score": f"{score:.3f}",
            }
            for photo, category, hit, score in answers
        ],
    }


@dataclass(frozen=True)
class HeldOutClasses(Slices):
    """What a training compared before it took one way: hit@1 of categories that were learned, and of
    others."""

    page = ("photo_sections", "held_out")

    def sentences(self) -> list[str]:
        figures = (
            f"{one.name}: " + ", ".join(f"{name} {found.value:.4f}" for name, found in one.values.items())
            for one in self.rows
        )
        return [f"while it was chosen, {line}" for line in figures]


def held_out_classes(compared: Mapping[str, Any]) -> HeldOutClasses:
    """compared: as models/class_choice.py keeps it in export.json."""
    systems: Mapping[str, Mapping[str, float | None]] = compared["systems"]
    names = list(compared["categories"])
    rows = []
    for name, key, words in (
        (CLASSES_SEEN, "seen", "validation photos of categories that were learned"),
        (CLASSES_HELD_OUT, "new", f"{len(names)} categories, among them {', '.join(names[:3])}"),
    ):
        count = int(compared[f"queries_{key}"])
        shares = {one: share for one, found in systems.items() if (share := found[key]) is not None}
        values = {one: share_interval(share, count) for one, share in shares.items()}
        if values:
            rows.append(SliceFigures(name, words, count, values))
    note = (
        ": share of photos whose nearest training photo has their category. Each way learned without the "
        f"categories held out; {compared['taken']} was taken, as the mean of both is highest, and then "
        "learned from all of them."
    )
    return HeldOutClasses(rows, list(systems), "hit_at_1", note)
