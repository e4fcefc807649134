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
from etalage.models.ials import RECIPE, IalsConfig, IalsSolver, Ridge, solved


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


def solve(
    known: sparse.csr_matrix, other_ND: np.ndarray, alpha: float, reg: np.ndarray, steps: int = 20
) -> np.ndarray:
    """All rows of `known`, in one process, from zeros; after many steps nothing is left to go."""
    arrays = {**csr_arrays("users", known), "users.reg": reg.astype(np.float32)}
    start = np.zeros((known.shape[0], other_ND.shape[1]), np.float32)
    with ArrayLoop().over(arrays) as over:
        return solved(over, "users", other_ND.astype(np.float32), start, alpha, steps)


def drawn(items: int = 20) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """What 30 rows have, embeddings of the other side, whose row 0 is nobody's, and the regularisation."""
    rng = np.random.default_rng(1)
    known = sparse.random(30, items, 0.2, format="lil", random_state=1)
    known[3] = known[:, 0] = 0
    other_ND = rng.normal(size=(items, 6))
    other_ND[0] = 0
    return known.tocsr(), other_ND, rng.uniform(0.5, 2, 30)


@pytest.mark.parametrize(("entries", "places"), [(ials.BLOCK_ENTRIES, 4096), (200, 4), (1, 1)])
def test_many_steps_end_at_the_dense_solution_whatever_the_blocks(
    entries: int, places: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ials, "BLOCK_ENTRIES", entries)
    monkeypatch.setattr(ials, "PLACES_AT_ONCE", places)
    known, items_ND, reg = drawn()
    found = solve(known, items_ND, 7.0, reg)
    assert found.dtype == np.float32
    assert np.allclose(found, reference(known.toarray(), items_ND, 7.0, reg), atol=1e-4)
    assert not found[3].any() and np.abs(found).max() > 0.1


def test_a_step_goes_most_of_the_way_and_none_goes_past_the_end() -> None:
    known, items_ND, reg = drawn()
    end = reference(known.toarray(), items_ND, 7.0, reg)
    gaps = [np.abs(solve(known, items_ND, 7.0, reg, steps) - end).mean() for steps in (1, 2, 3, 20)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[1] < 0.3 * np.abs(end).mean() and gaps[3] < 1e-5
    again = solve(known, items_ND, 7.0, reg, 60)  # there is nothing left to go, and nothing to divide by
    assert np.isfinite(again).all() and np.abs(again - end).max() < 1e-4


def test_long_rows_in_pieces_are_the_same_row() -> None:
    """A row of more entries than are gathered at a time, among short ones."""
    known, items_ND, reg = drawn(items=300)
    known = known.tolil()
    known[7, 1:] = 0.5
    known = known.tocsr()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ials, "PLACES_AT_ONCE", 32)
        pieces = solve(known, items_ND, 2.0, reg)
    assert np.allclose(pieces, solve(known, items_ND, 2.0, reg), atol=1e-5)


def test_the_gram_is_summed_in_double() -> None:
    rows = np.random.default_rng(0).normal(1, 1, (20_000, 3)).astype(np.float32)
    exact = rows.astype(np.float64).T @ rows.astype(np.float64)
    assert ials.gram(rows).dtype == np.float64
    assert np.allclose(ials.gram(rows), exact, rtol=1e-6)


def test_the_loss_falls_with_every_iteration_to_a_minimum() -> None:
    data = shop()
    config = IalsConfig(dimension=5, alpha=3.0, regularisation=2.0, iterations=40)
    weights_UN = user_items(data, {}, "ials").toarray()
    losses = [loss(weights_UN, users, items, 3.0, 2.0) for users, items in IalsSolver(config, data).rounds()]
    assert all(after < before + 1e-4 for before, after in pairwise(losses))
    assert losses[-1] < 0.8 * losses[0]
    assert losses[-2] - losses[-1] < 1e-3 * losses[-1]


@pytest.mark.parametrize("frequency", [0.0, 0.8])
def test_a_shopper_folded_in_is_the_user_that_the_solve_finds(frequency: float) -> None:
    data = shop()
    config = IalsConfig(dimension=5, alpha=3.0, regularisation=2.0, iterations=4, frequency=frequency)
    found = RECIPE.bind(config, data).count()
    items_ND, gram_DD = found.arrays["item_embeddings"], found.arrays["gram"]
    assert items_ND.dtype == gram_DD.dtype == np.float32
    assert np.allclose(gram_DD, items_ND.T @ items_ND, atol=1e-5)  # without the regularisation
    weights_UN = user_items(data, {}, "ials")
    ridge = Ridge(**found.settings)
    users_UD = solve(weights_UN, items_ND, 3.0, ridge.of_rows(weights_UN))
    for user in range(1, len(data.users)):
        acted = items_ND[weights_UN[user].indices]
        own = ridge.reg * (ridge.others + 3.0 * len(acted)) ** frequency
        assert frequency or own == 2.0
        left = gram_DD + 3.0 * acted.T @ acted + own * np.eye(5)
        assert np.allclose(np.linalg.solve(left, 4.0 * acted.sum(axis=0)), users_UD[user], atol=1e-4)


def test_rows_without_acts_are_zero_row_0_among_them() -> None:
    data = shop()
    items_ND = RECIPE.bind(IalsConfig(dimension=5), data).count().arrays["item_embeddings"]
    never = np.setdiff1d(np.arange(len(data.items)), data.part("train").items)
    assert {0, len(data.items) - 1} <= set(never.tolist())
    assert not items_ND[never].any()
    assert np.abs(items_ND[data.part("train").items]).max(axis=1).min() > 0


def test_who_is_frequent_can_be_regularised_more_on_both_sides() -> None:
    by_user = user_items(shop(), {}, "ials")
    for known in (by_user, by_user.T.tocsr()):
        counts = np.diff(known.indptr)
        others = len(np.unique(known.indices))

        def ridge(frequency: float, known: sparse.csr_matrix = known) -> np.ndarray:
            return Ridge.of(known, IalsConfig(frequency=frequency, regularisation=3.0)).of_rows(known)

        assert np.allclose(ridge(0.0), 3.0)
        confidence = others + IalsConfig().alpha * counts
        assert np.allclose(ridge(1.0) / ridge(1.0)[1], confidence / confidence[1])
        assert np.allclose(ridge(0.5) ** 2 / ridge(0.5)[1] ** 2, confidence / confidence[1])
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
