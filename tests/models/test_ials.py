"""Implicit ALS against dense references: every solve, the loss, folding a shopper in."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import sparse

from etalage.features.array_blocks import ArrayLoop
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.vocabulary import Vocabulary
from etalage.models import ials
from etalage.models.counting import csr_arrays, user_items
from etalage.models.ials import RECIPE, IalsConfig, IalsSolver, solved


def shop(users: int = 40, items: int = 25, acts: int = 300, seed: int = 0) -> BehaviourSet:
    rng = np.random.default_rng(seed)
    popular = 1 / np.arange(1, items)
    drawn = Interactions.sorted(
        rng.integers(1, users + 1, acts),
        rng.choice(np.arange(1, items), acts, p=popular / popular.sum()),
        values=rng.integers(0, 50, acts),
    )
    ids = [[f"{letter}{n:03d}" for n in range(count)] for letter, count in (("u", users), ("i", items))]
    return BehaviourSet(Vocabulary(ids[0]), Vocabulary(ids[1]), (), {"train": drawn})


def reference(weights_UN: np.ndarray, items_ND: np.ndarray, alpha: float, reg: np.ndarray) -> np.ndarray:
    """Hu et al., equation 4, with the diagonal matrices of confidences written out."""
    found = np.zeros((len(weights_UN), items_ND.shape[1]))
    for user, weights in enumerate(weights_UN):
        confidence = np.diag(1 + alpha * weights)
        left = items_ND.T @ confidence @ items_ND + reg[user] * np.eye(items_ND.shape[1])
        found[user] = np.linalg.solve(left, items_ND.T @ confidence @ (weights > 0))
    return found


def loss(weights_UN: np.ndarray, users: np.ndarray, items: np.ndarray, alpha: float, reg: float) -> float:
    error = ((weights_UN > 0) - users @ items.T) ** 2
    return float(((1 + alpha * weights_UN) * error).sum() + reg * ((users**2).sum() + (items**2).sum()))


def solve(known: sparse.csr_matrix, other_ND: np.ndarray, alpha: float, reg: np.ndarray) -> np.ndarray:
    """All rows of `known`, in one process."""
    arrays = {**csr_arrays("users", known), "users.reg": reg}
    with ArrayLoop().over(arrays) as over:
        return solved(over, "users", other_ND, alpha)


@pytest.mark.parametrize(("entries", "places"), [(ials.BLOCK_ENTRIES, 4096), (200, 4), (1, 1)])
def test_a_solve_is_the_dense_one_whatever_the_blocks(
    entries: int, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ials, "BLOCK_ENTRIES", entries)
    monkeypatch.setattr(ials, "PLACES_AT_ONCE", places)
    rng = np.random.default_rng(1)
    known = sparse.random(30, 20, 0.2, format="lil", random_state=1)
    known[3] = 0
    known = known.tocsr()
    items_ND, reg = rng.normal(size=(20, 6)), rng.uniform(0.5, 2, 30)
    found = solve(known, items_ND, 7.0, reg)
    assert np.allclose(found, reference(known.toarray(), items_ND, 7.0, reg))
    assert not found[3].any() and np.abs(found).max() > 0.1


def test_the_loss_falls_with_every_iteration_to_a_minimum() -> None:
    data = shop()
    config = IalsConfig(dimension=5, alpha=3.0, regularisation=2.0, iterations=40)
    weights_UN = user_items(data, {}, "ials").toarray()
    losses = [loss(weights_UN, users, items, 3.0, 2.0) for users, items in IalsSolver(config, data).rounds()]
    assert all(after < before + 1e-9 for before, after in pairwise(losses))
    assert losses[-1] < 0.8 * losses[0]
    assert losses[-2] - losses[-1] < 1e-3 * losses[-1]


def test_a_shopper_folded_in_is_the_user_that_the_solve_finds() -> None:
    data = shop()
    config = IalsConfig(dimension=5, alpha=3.0, regularisation=2.0, iterations=4)
    found = RECIPE.bind(config, data).count()
    assert found.settings == {"alpha": 3.0, "reg": 2.0}
    items_ND, gram_DD = found.arrays["item_embeddings"], found.arrays["gram"]
    assert items_ND.dtype == gram_DD.dtype == np.float32
    assert np.allclose(gram_DD, items_ND.T @ items_ND, atol=1e-5)  # without the regularisation
    weights_UN = user_items(data, {}, "ials")
    users_UD = solve(weights_UN, items_ND.astype(np.float64), 3.0, np.full(weights_UN.shape[0], 2.0))
    for user in range(1, len(data.users)):
        acted = items_ND[weights_UN[user].indices]
        left = gram_DD + 3.0 * acted.T @ acted + 2.0 * np.eye(5)
        assert np.allclose(np.linalg.solve(left, 4.0 * acted.sum(axis=0)), users_UD[user], atol=1e-4)


def test_rows_without_acts_are_zero_row_0_among_them() -> None:
    data = shop()
    items_ND = RECIPE.bind(IalsConfig(dimension=5), data).count().arrays["item_embeddings"]
    never = np.setdiff1d(np.arange(len(data.items)), data.part("train").items)
    assert {0, len(data.items) - 1} <= set(never.tolist())
    assert not items_ND[never].any()
    assert np.abs(items_ND[data.part("train").items]).max(axis=1).min() > 0


def test_frequent_items_can_be_regularised_more() -> None:
    data = shop()
    by_item = user_items(data, {}, "ials").T.tocsr()
    counts = np.diff(by_item.indptr)

    def ridge(frequency: float) -> np.ndarray:
        return IalsSolver(IalsConfig(frequency=frequency, regularisation=3.0), data).items_regularisation(
            by_item
        )

    assert np.allclose(ridge(0.0), 3.0)
    order = np.argsort(counts)
    assert np.all(np.diff(ridge(1.0)[order]) >= 0) and ridge(1.0).max() > 2 * ridge(1.0).min()
    assert np.isclose(ridge(1.0)[counts > 0].mean(), 3.0)


def test_the_more_often_the_surer() -> None:
    """With the listens as strength, the item listened to most is reconstructed best."""
    acts = Interactions.sorted(
        np.repeat(np.arange(1, 9), 2), np.array([1, 2] * 4 + [2, 3] * 4), values=np.array([100.0, 0.0] * 8)
    )
    data = BehaviourSet(Vocabulary(list("abcdefgh")), Vocabulary(list("xyz")), (), {"train": acts})
    settings = {"dimension": 1, "alpha": 1.0, "regularisation": 1.0, "iterations": 30}
    errors = {}
    for strength in ("once", "log_value"):
        *_, (users, items) = IalsSolver(IalsConfig(**settings, strength=strength), data).rounds()
        errors[strength] = 1 - users[1] @ items[1]
    assert errors["log_value"] < errors["once"] - 0.05
