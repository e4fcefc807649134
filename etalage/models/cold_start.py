"""Places items that nobody touched yet by what they are: text, category, brand, price, photo.

Papers: Z. Gantner et al., Learning Attribute-to-Feature Mappings for Cold-Start Recommendations, ICDM 2010
(a linear map from attributes to the space of collaborative filtering); P. Cremonesi et al., Performance of
Recommender Algorithms on Top-N Recommendation Tasks, RecSys 2010 (PureSVD, the space). The matrix is
normalised by the degrees of both sides first, so that what sells well does not decide the space alone.

Everything is solved, without steps. Only items that few shoppers took are found by it: the others have
retrievers that know more of them.

    U users   N items, row 0 unknown   F columns of content   D embedding dimension   B queries   L acts
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve
from torch import Tensor, nn

from etalage.errors import ConfigError, TooLittleData
from etalage.features.behaviour import BehaviourSet
from etalage.features.encoder import Features
from etalage.features.sources import require_features
from etalage.metrics import recall_at_k
from etalage.models.blas import one_thread
from etalage.models.conjugate_gradients import solve
from etalage.models.counting import user_items
from etalage.models.layers import FeatureSum
from etalage.models.recipe import Recipe, Solved, SourcesConfig
from etalage.models.search_space import FloatRange, IntRange, SearchSpace

HELD_OUT = 0.1
"""Share of the items whose acts are hidden to measure how well such items are found."""
POWERS = (0.0, 0.25, 0.5)
LEAST = 1e-3
"""Of the share of items that was ever taken: a straight line may tell less than nothing."""
ASKED_AT_ONCE = 128
ASKED, FIRST = 2000, 20
"""Shoppers who took one of those, at most, and how many items each is shown."""
EXACT = 2048
SPARE, POWERED = 32, 5
"""More dimensions than are wanted, and passes over the matrix, for the space's axes to be right."""
DENSE = 4096
"""Columns of content up to which the equations are solved at once: 128 MB."""
SOLVE_STEPS, SOLVED = 200, 1e-6
"""Of conjugate gradients, at most; the share of the right side that may be left."""


class ColdStartConfig(SourcesConfig):
    dimension: int = Field(128, ge=2)
    """D, at most one less than the shop has shoppers or items."""
    ridge: float = Field(1.0, gt=0)
    """As if each word, brand or step of a category had stood on so many more items that say nothing."""
    few: int = Field(5, ge=1)
    """An item that fewer shoppers than so many took is placed by what it is, and found; others are not."""
    history: int = Field(50, ge=1)
    """Acts that are looked at, L."""
    decay: float = Field(0.95, gt=0, le=1)
    """Factor on an act's weight for each step back in the history."""
    popular: float | None = Field(None, ge=0, le=1)
    """An item's cosine is multiplied by what share of the items like it was ever taken, to the power of this.
    None: as finds the hidden items best, of POWERS."""


class ColdStart(nn.Module):
    """See BehaviourNetwork for the inputs. Scores are cosines, weighed by how items like it are taken."""

    query_inputs = ("history_embeddings", "history_mask")
    finds_new = True
    """What it finds has no acts to speak of: it answers beside others, never alone."""
    own: Tensor
    known: Tensor
    weights: Tensor

    def __init__(
        self,
        config: ColdStartConfig,
        own_ND: np.ndarray,
        takers_N: np.ndarray,
        features: Features,
        popular: float,
    ) -> None:
        """own_ND: (N + 1, D) float32 of length 1, where acts place an item; takers_N: (N + 1,) the shoppers
        who took it."""
        super().__init__()
        self.history_length, self.popular = config.history, popular
        self.register_buffer("own", torch.from_numpy(np.ascontiguousarray(own_ND, np.float32)))
        self.register_buffer("known", torch.from_numpy(takers_N >= config.few))
        self.content = FeatureSum(
            {name: features.sizes[name] for name in sorted(features.sparse)},
            {name: features.sizes[name] for name in sorted(features.bags)},
            {name: features.dense[name].shape[1] for name in sorted(features.dense)},
            own_ND.shape[1] + 1,  # the last says how items like it are taken
        )
        steps_back = torch.arange(config.history - 1, -1, -1, dtype=torch.float32)
        self.register_buffer("weights", config.decay**steps_back)
        self.item_inputs = ("item", *(f"item.{name}" for name in self.content.names))

    def history_item(self, item_B: Tensor, *features: Tensor) -> Tensor:
        """(B, D): where its acts place it, else what it is."""
        placed_BD = F.normalize(self.content(features)[:, :-1], dim=1)
        return torch.where(self.known[item_B].unsqueeze(1), self.own[item_B], placed_BD)

    def embed_item(self, item_B: Tensor, *features: Tensor) -> Tensor:
        """(B, D): zeros for an item that others know better, which no index holds then."""
        found_BD = self.content(features)
        placed_BD = F.normalize(found_BD[:, :-1], dim=1) * found_BD[:, -1:].clamp(min=LEAST) ** self.popular
        return torch.where(self.known[item_B].unsqueeze(1), 0.0, placed_BD)

    def embed_query(self, history_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        weights_BL1 = (mask_BL * self.weights[-mask_BL.shape[1] :]).unsqueeze(2)
        return F.normalize((history_BLD * weights_BL1).sum(1), dim=1)


class ColdStartTask:
    """The recipe bound to a shop's behaviour; it learns from `train` alone."""

    metric = "recall_at_20_of_hidden"

    def __init__(self, config: ColdStartConfig, data: BehaviourSet) -> None:
        """Raises ConfigError: of the items nothing is known, or a source that the config names is missing."""
        require_features(data.item_features, config.feature_sources or (), RECIPE.name)
        if not len(data.item_features):
            raise ConfigError(
                "cold_start: nothing is known of the items: load titles, categories, brands or prices "
                "(`etalage ingest FILE items`), or train a photo model"
            )
        self.config, self.data = config, data

    def solve(self) -> Solved:
        """The network, and how well items are found whose acts are hidden from it.

        Raises TooLittleData: too few shoppers or items to make a space of.
        """
        taken_UN = user_items(self.data, {}, RECIPE.name, "once")
        taken_UN.data[:] = 1
        content = Content.of(self.data.item_features)
        powers = POWERS if self.config.popular is None else (self.config.popular,)
        found = self._of_hidden(taken_UN, content, powers)
        popular = max(powers, key=lambda power: found.get(power, 0.0))
        own_ND, takers_N = self._space(taken_UN)
        network = ColdStart(self.config, own_ND, takers_N, self.data.item_features, popular)
        content.write(self._mapped(content, own_ND, takers_N), network.content)
        figures = {self.metric: found[popular]} if found else {}
        return Solved(network.eval(), figures, {"popular": popular})

    def _space(self, taken_UN: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
        """(N + 1, D) float32 of length 1, zeros without acts, and (N + 1,) how many shoppers took each."""
        takers_N = np.asarray(taken_UN.sum(axis=0)).ravel()
        lengths_U = np.asarray(taken_UN.sum(axis=1)).ravel()
        dimension = min(self.config.dimension, int((takers_N > 0).sum()) - 1, int((lengths_U > 0).sum()) - 1)
        if dimension < 2:
            raise TooLittleData(
                "cold_start: fewer than four shoppers or items with acts: no space to place new items in; "
                "load more interactions"
            )
        scaled_UN = _scaled(lengths_U) @ taken_UN @ _scaled(takers_N)
        own_ND = item_factors(scaled_UN, dimension, self.config.seed).astype(np.float32)
        own_ND[takers_N == 0] = 0
        return _unit(own_ND), takers_N

    def _mapped(self, content: "Content", own_ND: np.ndarray, takers_N: np.ndarray) -> np.ndarray:
        """(F, D + 1): argmin Σ_i √takers_i |c_i W - v_i|² + ridge |W|², the weights' mean being 1; and, of
        all items, whether anybody took them at all."""
        warm = np.flatnonzero(takers_N > 0)
        weights = np.sqrt(takers_N[warm])
        weights /= weights.mean()
        rows = content.scaled.take(warm)
        wanted_FD = rows.turned_times(weights[:, None] * own_ND[warm].astype(np.float64))
        mapped_FD = ridge(rows, weights, wanted_FD, self.config.ridge)
        plain = content.plain.take(np.arange(1, len(takers_N)))
        taken_N1 = (takers_N[1:, None] > 0).astype(np.float64)
        taken_F1 = ridge(plain, np.ones(len(plain)), plain.turned_times(taken_N1), self.config.ridge)
        return np.hstack([mapped_FD, taken_F1])

    def _of_hidden(
        self, taken_UN: sparse.csr_matrix, content: "Content", powers: Sequence[float]
    ) -> dict[float, float]:
        """Solve it without the acts on some items, and ask who took them, among all that nobody took then:
        power of `popular` → the metric; {} where too few would be left."""
        rng = np.random.default_rng(self.config.seed)
        there = np.flatnonzero(np.asarray(taken_UN.sum(axis=0)).ravel())
        hidden = np.sort(rng.choice(there, int(len(there) * HELD_OUT), replace=False))
        if len(hidden) <= FIRST:
            return {}
        shown_N = np.ones(taken_UN.shape[1])
        shown_N[hidden] = 0
        before_UN = (taken_UN @ sparse.diags(shown_N)).tocsr()
        before_UN.eliminate_zeros()
        wanted_UH = taken_UN[:, hidden].tocsr()
        asking = np.flatnonzero((np.diff(before_UN.indptr) > 0) & (np.diff(wanted_UH.indptr) > 0))
        asking = rng.permutation(asking)[:ASKED]
        if not len(asking):
            return {}
        own_ND, takers_N = self._space(before_UN)
        mapped_FD = self._mapped(content, own_ND, takers_N)
        unseen = np.concatenate([hidden, np.setdiff1d(np.arange(1, len(takers_N)), there)])
        unseen_CF = content.plain.take(unseen)
        placed_CD = _unit(unseen_CF.times(mapped_FD[:, :-1]))
        taken_C = np.maximum(unseen_CF.times(mapped_FD[:, -1:]).ravel(), LEAST)
        recalls: dict[float, list[np.ndarray]] = {power: [] for power in powers}
        for start in range(0, len(asking), ASKED_AT_ONCE):
            some = asking[start : start + ASKED_AT_ONCE]
            wanted_BH = wanted_UH[some].toarray() > 0
            cosines_BC = (before_UN[some] @ own_ND) @ placed_CD.T
            for power, found in recalls.items():
                scores_BC = cosines_BC * taken_C**power
                top_BK = np.argpartition(-scores_BC, FIRST, axis=1)[:, :FIRST]
                right_BK = np.take_along_axis(wanted_BH, np.minimum(top_BK, len(hidden) - 1), axis=1)
                right_BK &= top_BK < len(hidden)
                found.append(recall_at_k(right_BK, FIRST, wanted_BH.sum(axis=1)))
        return {power: float(np.concatenate(found).mean()) for power, found in recalls.items()}


@dataclass(frozen=True)
class Rows:
    """A matrix of items, whose last columns stand on nearly every row, such as a sentence encoder's."""

    few_NC: sparse.csr_matrix
    """The columns that stand on some rows each."""
    every_NE: np.ndarray
    """float32"""

    @property
    def columns(self) -> int:
        """F"""
        return int(self.few_NC.shape[1] + self.every_NE.shape[1])

    def __len__(self) -> int:
        return int(self.few_NC.shape[0])

    def take(self, rows: np.ndarray) -> "Rows":
        return Rows(self.few_NC[rows], self.every_NE[rows])

    def times(self, right_FD: np.ndarray) -> np.ndarray:
        """(N, D) float64: the matrix times `right`."""
        cut = self.few_NC.shape[1]
        found_ND = np.asarray(self.few_NC @ right_FD[:cut])
        if self.every_NE.shape[1]:
            found_ND += self.every_NE @ right_FD[cut:].astype(np.float32)
        return found_ND

    def turned_times(self, left_ND: np.ndarray) -> np.ndarray:
        """(F, D) float64: the transposed matrix times `left`."""
        below_ED = self.every_NE.T @ left_ND.astype(np.float32)
        return np.concatenate([np.asarray(self.few_NC.T @ left_ND), below_ED])

    def squared(self, weights_N: np.ndarray) -> np.ndarray:
        """(F, F) float64: rowsᵀ diag(weights) rows."""
        other = self.weighed(weights_N)
        mixed_CE = self.few_NC.T @ other.every_NE.astype(np.float64)
        return np.block([
            [(self.few_NC.T @ other.few_NC).toarray(), mixed_CE],
            [mixed_CE.T, self.every_NE.T @ other.every_NE],
        ])  # fmt: skip

    def weighed(self, weights_N: np.ndarray) -> "Rows":
        """Each row times its weight."""
        every_NE = self.every_NE * weights_N.astype(np.float32)[:, None]
        return Rows((sparse.diags(weights_N) @ self.few_NC).tocsr(), every_NE)


class Content:
    """What is known of each item as one row: columns that stand on some items weigh by how rare they are."""

    def __init__(self, counted: Mapping[str, sparse.csr_matrix], dense: Mapping[str, np.ndarray]) -> None:
        """counted: feature → (N + 1, its columns), of which each stands on some items; dense: (N + 1, D)."""
        self._widths = {name: part.shape[1] for name, part in [*counted.items(), *dense.items()]}
        height = next(iter([*counted.values(), *dense.values()])).shape[0]
        joined = sparse.hstack([sparse.csr_matrix((height, 0)), *counted.values()]).tocsr()
        found_in_C = np.asarray((joined != 0).sum(axis=0)).ravel()
        rare_C = np.log(height / np.maximum(found_in_C, 1))
        every_NE = np.hstack([np.empty((height, 0), np.float32), *dense.values()]).astype(np.float32)
        self._column_weights = np.concatenate([rare_C, np.ones(every_NE.shape[1])])
        few_NC = (joined @ sparse.diags(rare_C)).tocsr()
        squares_N = np.asarray(few_NC.multiply(few_NC).sum(axis=1)).ravel()
        squares_N += np.einsum("ne,ne->n", every_NE, every_NE)
        self.plain = Rows(few_NC, every_NE)
        """(N + 1, F)"""
        self.scaled = self.plain.weighed(1 / np.maximum(np.sqrt(squares_N), 1e-12))
        """(N + 1, F), rows of length 1."""

    @classmethod
    def of(cls, features: Features) -> "Content":
        """In the order of a FeatureSum."""
        counted: dict[str, sparse.csr_matrix] = {}
        for name in sorted(features.sparse):
            column = features.sparse[name]
            rows = np.flatnonzero(column)
            counted[name] = _matrix(rows, column[rows], np.ones(len(rows)), len(column), features.sizes[name])
        for name in sorted(features.bags):
            bag = features.bags[name]
            rows, places = np.nonzero(bag)
            share = 1 / np.maximum((bag > 0).sum(axis=1), 1)
            counted[name] = _matrix(rows, bag[rows, places], share[rows], len(bag), features.sizes[name])
        return cls(counted, {name: features.dense[name] for name in sorted(features.dense)})

    def write(self, mapped_FD: np.ndarray, into: FeatureSum) -> None:
        """The weights of a sum that makes of each item what `plain @ mapped` is."""
        weights_FD = (self._column_weights[:, None] * mapped_FD).astype(np.float32)
        ends = np.cumsum(list(self._widths.values()))[:-1]
        with torch.no_grad():
            for part, weights in zip(into.parts, np.split(weights_FD, ends), strict=True):
                target = part.get_parameter("weight")
                target.copy_(torch.from_numpy(weights.T if isinstance(part, nn.Linear) else weights))


def item_factors(matrix_UN: sparse.csr_matrix, dimension: int, seed: int) -> np.ndarray:
    """(N, D) float64: the leading right singular vectors, times their values, the largest first.

    Of a matrix with more than EXACT rows and columns, drawn and powered (N. Halko et al., Finding Structure
    with Randomness, SIAM Review 2011, algorithms 4.4 and 5.1).
    """
    items_are_fewer = matrix_UN.shape[1] < matrix_UN.shape[0]
    wide = (matrix_UN.T if items_are_fewer else matrix_UN).tocsr()
    tall = wide.T.tocsr()
    if wide.shape[0] <= EXACT:
        with one_thread():
            squares_D, basis = np.linalg.eigh((wide @ tall).toarray())
            basis = basis[:, ::-1][:, :dimension]
            values_D = np.sqrt(np.maximum(squares_D[::-1][:dimension], 0))
            return np.asarray(basis * values_D if items_are_fewer else tall @ basis)
    width = min(dimension + SPARE, wide.shape[0])
    drawn = np.random.default_rng(seed).normal(size=(wide.shape[0], width))
    with one_thread():  # BLAS adds up in another order with each number of threads
        for _ in range(POWERED):
            drawn = wide @ (tall @ np.linalg.qr(drawn)[0])
        basis = np.linalg.qr(drawn)[0]
        projected = tall @ basis
        squares_D, turned_DD = np.linalg.eigh(projected.T @ projected)
        turned_DD = turned_DD[:, ::-1][:, :dimension]
        values_D = np.sqrt(np.maximum(squares_D[::-1][:dimension], 0))
        return np.asarray(basis @ turned_DD * values_D if items_are_fewer else projected @ turned_DD)


def ridge(rows: Rows, weights_N: np.ndarray, right_FD: np.ndarray, penalty: float) -> np.ndarray:
    """(F, D) float64 solution of (rowsᵀ diag(weights) rows + penalty I) W = right: by Cholesky where F × F
    numbers are few, else by conjugate gradients, all columns beside each other."""
    with one_thread():  # BLAS adds up in another order with each number of threads
        if rows.columns <= DENSE:
            normal_FF = rows.squared(weights_N)
            normal_FF[np.diag_indices_from(normal_FF)] += penalty
            return np.asarray(cho_solve(cho_factor(normal_FF, overwrite_a=True), right_FD))
        equations = _Equations(rows, weights_N, penalty)
        return solve(equations.times, right_FD, steps=SOLVE_STEPS, enough=SOLVED, nearly=equations.nearly)


class _Equations:
    """Those of `ridge`, for conjugate gradients. Columns that stand on nearly every row are alike, and steps
    along one after the other would take too long: their own equations are solved exactly at each step."""

    def __init__(self, rows: Rows, weights_N: np.ndarray, penalty: float) -> None:
        few_NC, every_NE = rows.few_NC, rows.every_NE
        self.rows, self.weights_N1, self.penalty = rows, weights_N[:, None], penalty
        self.cut = few_NC.shape[1]
        self.diagonal_C1 = np.asarray(few_NC.multiply(few_NC).T @ weights_N).ravel()[:, None] + penalty
        self.factor = None
        if every_NE.shape[1]:
            own_EE = Rows(few_NC[:, :0], every_NE).squared(weights_N)
            own_EE[np.diag_indices_from(own_EE)] += penalty
            self.factor = cho_factor(own_EE)

    def times(self, some_FD: np.ndarray) -> np.ndarray:
        found_ND = self.weights_N1 * self.rows.times(some_FD)
        return self.rows.turned_times(found_ND) + self.penalty * some_FD

    def nearly(self, left_FD: np.ndarray) -> np.ndarray:
        """What solves it where columns have nothing in common, but for those that stand on every row."""
        above_CD = left_FD[: self.cut] / self.diagonal_C1
        if self.factor is None:
            return np.asarray(above_CD)
        return np.concatenate([above_CD, cho_solve(self.factor, left_FD[self.cut :])])


def _matrix(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, height: int, width: int
) -> sparse.csr_matrix:
    return sparse.csr_matrix((values, (rows, columns)), shape=(height, width))


def _scaled(degrees: np.ndarray) -> Any:
    return sparse.diags(np.where(degrees > 0, 1 / np.sqrt(np.maximum(degrees, 1)), 0.0))


def _unit(rows_ND: np.ndarray) -> np.ndarray:
    return rows_ND / np.maximum(np.linalg.norm(rows_ND, axis=1, keepdims=True), 1e-12)


SPACE: SearchSpace = {
    "dimension": IntRange(16, 256, log=True),
    "ridge": FloatRange(0.1, 30.0, log=True),
    "decay": FloatRange(0.7, 1.0),
}
"""What `etalage tune` tries."""

RECIPE = Recipe(
    name="cold_start",
    role="embedder",
    paper="Gantner et al., Learning Attribute-to-Feature Mappings for Cold-Start Recommendations, ICDM 2010",
    config=ColdStartConfig,
    columns=("title", "brand", "price", "category_id", "attributes"),
    bind=ColdStartTask,
    data="behaviour",
    slice="cold items",
    space=SPACE,
)
