"""`item_category` with solved heads, over features of a backbone that stays as it is and words of titles.

The default where the backbone has weights: seconds once the features are there, and no seed. Photo and title
have a head each, whose scores are added (models/solved_heads.py, training/calibrating.py).

    n items or photos that are learned from   B batch   F features   T words of a title   L leaves
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from etalage.errors import TooLittleData
from etalage.models.backbones import Backbone, backbone
from etalage.models.item_category import ItemCategoryTask
from etalage.models.layers import EmbeddingTable, bag_mean
from etalage.models.recipe import Seen, Solved
from etalage.models.solved_heads import (
    LinearScores,
    discriminant,
    ridge_of_words,
    scores_of_words,
    sharpness,
)


@dataclass(frozen=True)
class WordScores:
    """(N, T) words → (N, L) float32: `ridge_of_words`, made as sharp as it may be."""

    table_RL: np.ndarray

    def __call__(self, words_NT: np.ndarray) -> np.ndarray:
        return scores_of_words(words_NT, self.table_RL)

    def times(self, factor: float) -> "WordScores":
        return WordScores(self.table_RL * np.float32(factor))


Head = TypeVar("Head", LinearScores, WordScores)


class SolvedCategories(nn.Module):
    """Features and words → a tuple of (B, L) scores, one a head. `trunk` is None where features are ready."""

    def __init__(self, trunk: Backbone | None, photo: LinearScores, title: WordScores | None) -> None:
        super().__init__()
        self.trunk = trunk
        width, leaves = photo.weights_FL.shape
        self.photo = nn.Linear(width, leaves)
        self.title = None if title is None else EmbeddingTable(len(title.table_RL), leaves)
        with torch.no_grad():
            self.photo.weight.copy_(torch.from_numpy(photo.weights_FL.T.copy()))
            self.photo.bias.copy_(torch.from_numpy(photo.bias_L))
            if self.title is not None and title is not None:
                self.title.weight.copy_(torch.from_numpy(title.table_RL))
        self.requires_grad_(False)
        self.sees: Mapping[str, tuple[Seen, ...]] = {"photo": ("photo",)}
        if title is not None:
            self.sees = {**self.sees, "title": ("title",)}

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("features",) if self.title is None else ("features", "words")

    def forward(self, features_BF: Tensor, words_BT: Tensor | None = None) -> tuple[Tensor, ...]:
        scores_BL: Tensor = self.photo(features_BF)
        if self.title is None or words_BT is None:
            return (scores_BL,)
        counts_B1 = (words_BT > 0).sum(dim=1, keepdim=True).float()
        return scores_BL, bag_mean(self.title, words_BT) * counts_B1.sqrt()


class SolvedCategoriesTask(ItemCategoryTask):
    """The recipe bound to a set of items, whose heads are solved."""

    def solve(self) -> Solved:
        """Raises TooLittleData: no training item is of a leaf."""
        config, items = self.config, self.items
        ready_PF = items.features_PF
        trunk = (
            backbone(config.backbone, config.weights, features=config.features) if ready_PF is None else None
        )
        asked = _Asked(trunk)
        looks = self.looks_M2[self.looks_M2[:, 1] >= 0]
        photos_nF = self._kept(asked, looks[:, 1]).numpy()
        self.say("solve the heads")
        photo = self._solved(
            photos_nF,
            looks[:, 0],
            lambda x, leaf, w: discriminant(x, leaf, w, self.levels.leaves, config.shrink),
        )
        title = self._of_titles() if "title" in self.reads else None
        network = SolvedCategories(trunk, photo, title).eval()
        with torch.inference_mode():
            return Solved(network, self.validate(network))

    def _of_titles(self) -> WordScores:
        rows = self.items.rows("train")
        rows = rows[(self.words_NT[torch.from_numpy(rows)] > 0).any(dim=1).numpy()]
        words_nT, buckets = self.words_NT[torch.from_numpy(rows)].numpy(), self.config.buckets
        if not len(rows):
            return WordScores(np.zeros((buckets + 1, self.levels.leaves), np.float32))
        return self._solved(
            words_nT,
            rows,
            lambda x, leaf, w: WordScores(
                ridge_of_words(x, leaf, w, self.levels.leaves, buckets + 1, self.config.ridge)
            ),
        )

    def _solved(
        self,
        seen_n: np.ndarray,
        rows_n: np.ndarray,
        head: Callable[[np.ndarray, np.ndarray, np.ndarray], Head],
    ) -> Head:
        """The head of what is seen of these items. An item whose label lies above the leaves counts as the
        leaf beneath it that a first solution finds most probable."""
        leaf_n = self.items.leaf_N[rows_n].copy()
        weak_N = self.items.weak_N
        weights_n = np.ones(len(rows_n))
        if weak_N is not None:
            weights_n[weak_N[rows_n]] = self.config.weak_weight
        sure = np.flatnonzero((leaf_n >= 0) & (weights_n > 0))
        if not len(sure):
            raise TooLittleData(
                "no training item with a photo or title has a leaf of the taxonomy for its category: see "
                '`etalage taxonomy check`, or set heads = "levels"'
            )
        found = head(seen_n[sure], leaf_n[sure], weights_n[sure])
        above = np.flatnonzero((leaf_n < 0) & (weights_n > 0))
        if len(above):
            leaf_n[above] = self._beneath(found(seen_n[above]), rows_n[above])
            sure = np.flatnonzero(weights_n > 0)
            found = head(seen_n[sure], leaf_n[sure], weights_n[sure])
        half = sure[np.random.default_rng(0).permutation(len(sure)) % 2 == 0]
        other = np.setdiff1d(sure, half)
        if not len(half) or not len(other):
            return found
        # Of photos that are learned from, any head is too sure: the other half says how sure it may be.
        asked = head(seen_n[half], leaf_n[half], weights_n[half])
        return found.times(sharpness(asked(seen_n[other]), leaf_n[other]))

    def _beneath(self, scores_nL: np.ndarray, rows_n: np.ndarray) -> np.ndarray:
        """(n,) the most probable leaf beneath each item's own category."""
        targets_nD = self.items.targets_ND[rows_n]
        for level, places_L in enumerate(self.levels.places):
            known = targets_nD[:, level] >= 0
            outside = known[:, None] & (places_L[None, :] != targets_nD[:, level, None])
            scores_nL = np.where(outside, -np.inf, scores_nL)
        found: np.ndarray = scores_nL.argmax(axis=1)
        return found


class _Asked(nn.Module):
    """What stands for a network before there are heads: its trunk makes the features that are missing."""

    def __init__(self, trunk: Backbone | None) -> None:
        super().__init__()
        self.trunk = trunk
