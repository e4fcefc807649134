"""Implicit matrix factorisation by alternating least squares; a shopper is folded in from their history.

Papers: Y. Hu, Y. Koren, C. Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008 (the
loss, equation 3, and the solves, equation 4); S. Rendle et al., Revisiting the Performance of iALS on Item
Recommendation Benchmarks, RecSys 2022 (`frequency`: regularisation that grows with how often an item occurs;
and that well-tuned iALS is among the best).

    U users   N items   D dimensions   R rows in a block   L longest list in a block
"""

from collections.abc import Iterator

import numpy as np
from pydantic import Field
from scipy import sparse

from etalage.features.behaviour import BehaviourSet
from etalage.models.counting import Strength, user_items
from etalage.models.recipe import ClosedFormArrays, ModelConfig, Recipe
from etalage.models.search_space import Choice, FloatRange, IntRange, SearchSpace

BLOCK_ENTRIES = 2**22
"""Numbers of one block's gathered embeddings, and of its D × D systems: 32 MB each."""


class IalsConfig(ModelConfig):
    dimension: int = Field(64, ge=1)
    alpha: float = Field(10.0, gt=0)
    """Confidence of an act with weight 1 is 1 + alpha; of a pair without an act it is 1."""
    regularisation: float = Field(30.0, gt=0)
    """On every user. On items too, where `frequency` is 0."""
    frequency: float = Field(0.0, ge=0, le=1)
    """An item's is regularisation · (c_i / mean of c)^frequency, where c_i = Σ confidence over all users."""
    iterations: int = Field(15, ge=1)
    """Of both sides."""
    scale: float = Field(0.1, gt=0)
    """Standard deviation of an embedding's length at the start."""
    strength: Strength = "once"
    kind_weights: dict[str, float] = Field(default_factory=dict)
    """Weight of each kind of act; empty: every kind, each 1. Kinds not named do not count then."""


class IalsSolver:
    """L = Σ c (p - x_u · y_i)² over all pairs + Σ reg |x_u|² + Σ reg_i |y_i|²; p = 1 with an act, else 0."""

    def __init__(self, config: IalsConfig, data: BehaviourSet) -> None:
        self.config, self.data = config, data

    def count(self) -> ClosedFormArrays:
        """Raises TooLittleData.

        The last solve is the users', implicitly: whoever asks is folded in from the items of their history,
            x = (gram + alpha Σ_h y_h y_hᵀ + reg I)⁻¹ Σ_h (1 + alpha) y_h        (Hu et al., equation 4)
        with gram = Σ_i y_i y_iᵀ over all items, without reg; settings `alpha` and `reg`. An item that stands
        twice in a history counts once.
        """
        *_, (_, items_ND) = self.rounds()
        gram_DD = items_ND.T @ items_ND
        arrays = {"item_embeddings": items_ND.astype(np.float32), "gram": gram_DD.astype(np.float32)}
        return ClosedFormArrays(
            "embeddings", arrays, {"alpha": self.config.alpha, "reg": self.config.regularisation}
        )

    def rounds(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(U + 1, D) and (N + 1, D) float64 after each iteration; rows without acts, 0 among them, are 0."""
        config = self.config
        by_user = user_items(self.data, config.kind_weights, RECIPE.name, config.strength)
        by_item = by_user.T.tocsr()
        rng = np.random.default_rng(config.seed)
        items_ND = rng.normal(0, config.scale / config.dimension**0.5, (by_item.shape[0], config.dimension))
        items_ND[np.diff(by_item.indptr) == 0] = 0
        users_reg = np.full(by_user.shape[0], config.regularisation)
        items_reg = self.items_regularisation(by_item)
        for _ in range(config.iterations):
            users_UD = solve(by_user, items_ND, config.alpha, users_reg)
            items_ND = solve(by_item, users_UD, config.alpha, items_reg)
            yield users_UD, items_ND

    def items_regularisation(self, by_item: sparse.csr_matrix) -> np.ndarray:
        """(N + 1,) regularisation · (c_i / mean of c)^frequency, where c_i = U + alpha · Σ_u weights."""
        users, active = np.diff(by_item.T.tocsr().indptr) > 0, np.diff(by_item.indptr) > 0
        confidence_N = users.sum() + self.config.alpha * np.asarray(by_item.sum(axis=1)).ravel()
        relative_N = confidence_N / confidence_N[active].mean()
        return np.asarray(self.config.regularisation * relative_N**self.config.frequency)


def solve(known: sparse.csr_matrix, other_ND: np.ndarray, alpha: float, reg_R: np.ndarray) -> np.ndarray:
    """The rows that minimise the loss while the other side stays: (R, D) float64, 0 for rows without acts.

    (gram + alpha Σ_h w_h y_h y_hᵀ + reg I) x = Σ_h (1 + alpha w_h) y_h, in blocks of rows of like length.
    """
    dimension = other_ND.shape[1]
    gram_DD = other_ND.T @ other_ND
    found = np.zeros((known.shape[0], dimension))
    for rows in blocks(np.diff(known.indptr), dimension):
        systems_RDD = np.repeat(gram_DD[None], len(rows), axis=0)
        systems_RDD[:, np.arange(dimension), np.arange(dimension)] += reg_R[rows, None]
        wanted_RD = np.zeros((len(rows), dimension))
        for weights_RL, columns_RL in _places(known, rows, dimension):
            picked_RLD = other_ND[columns_RL]
            extra_RDL = (picked_RLD * (alpha * weights_RL)[:, :, None]).transpose(0, 2, 1)
            systems_RDD += extra_RDL @ picked_RLD
            wanted_RD += np.einsum("rl,rld->rd", (weights_RL > 0) + alpha * weights_RL, picked_RLD)
        found[rows] = np.linalg.solve(systems_RDD, wanted_RD[:, :, None])[:, :, 0]
    return found


def _places(
    known: sparse.csr_matrix, rows: np.ndarray, dimension: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Weights and columns of these rows' entries, (R, L) each, weight 0 where there is none: few places at a
    time, so that one item that everybody bought does not need all their embeddings at once."""
    starts, lengths = known.indptr[rows], known.indptr[rows + 1] - known.indptr[rows]
    step = max(1, BLOCK_ENTRIES // (len(rows) * dimension))
    for first in range(0, int(lengths.max()), step):
        place_L = np.arange(first, min(first + step, int(lengths.max())))
        inside_RL = place_L < lengths[:, None]
        at_RL = np.where(inside_RL, starts[:, None] + place_L, 0)
        yield np.where(inside_RL, known.data[at_RL], 0.0), known.indices[at_RL]


def blocks(lengths: np.ndarray, dimension: int) -> Iterator[np.ndarray]:
    """Rows that have acts, in blocks of like length: little padding, bounded memory."""
    rows = np.argsort(lengths, kind="stable")
    rows = rows[lengths[rows] > 0]
    most = max(1, BLOCK_ENTRIES // dimension**2)
    while len(rows):
        # Sorted ascending: a block's longest list is its last row's.
        head = rows[:most]
        padded = lengths[head] * np.arange(1, len(head) + 1) * dimension
        size = max(1, int(np.searchsorted(padded, BLOCK_ENTRIES, side="right")))
        yield head[:size]
        rows = rows[size:]


SPACE: SearchSpace = {
    "dimension": Choice((16, 32, 64, 128)),
    "alpha": FloatRange(0.5, 100.0, log=True),
    "regularisation": FloatRange(1.0, 300.0, log=True),
    "frequency": FloatRange(0.0, 1.0),
    "iterations": IntRange(5, 20),
    "strength": Choice(("once", "log_count")),
}
"""What `etalage tune` tries."""

RECIPE = Recipe(
    name="ials",
    role="closed_form",
    paper="Hu, Koren, Volinsky, Collaborative Filtering for Implicit Feedback Datasets, ICDM 2008",
    config=IalsConfig,
    columns=(),
    bind=IalsSolver,
    data="behaviour",
    embeds_items=True,
    space=SPACE,
)
