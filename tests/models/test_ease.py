"""EASE against the closed form, written down anew with dense matrices."""

import logging
from pathlib import Path

import numpy as np
import pytest

from etalage.errors import TooLittleData, TrainingError
from etalage.features.behaviour import NEVER, BehaviourSet, Interactions, Queries
from etalage.features.vocabulary import Vocabulary
from etalage.models import ease
from etalage.models.ease import RECIPE, EaseConfig
from etalage.models.recipe import Trained
from etalage.runtime.opening import open_scorer
from etalage.training.closed_form import export_closed_form
from etalage.training.export_source import Source


def shop(users: int, items: int, acts: int, seed: int = 0) -> BehaviourSet:
    rng = np.random.default_rng(seed)
    popular = 1 / np.arange(1, items)  # the last item is never acted on
    drawn = Interactions.sorted(
        rng.integers(1, users + 1, acts), rng.choice(np.arange(1, items), acts, p=popular / popular.sum())
    )
    ids = [[f"{letter}{n:03d}" for n in range(count)] for letter, count in (("u", users), ("i", items))]
    return BehaviourSet(Vocabulary(ids[0]), Vocabulary(ids[1]), (), {"train": drawn})


def matrix(data: BehaviourSet) -> np.ndarray:
    """(U + 1, N + 1) zeros and ones."""
    acts = data.part("train")
    found = np.zeros((len(data.users), len(data.items)))
    found[acts.users, acts.items] = 1
    return found


def closed_form(x_UN: np.ndarray, ridge: float, dropout: float = 0.0) -> np.ndarray:
    gram = x_UN.T @ x_UN
    precision = np.linalg.inv(gram + np.diag(ridge + dropout / (1 - dropout) * np.diag(gram)))
    weights = -precision / np.diag(precision)
    np.fill_diagonal(weights, 0)
    return weights


def dense(data: BehaviourSet, **settings: object) -> np.ndarray:
    found = RECIPE.bind(EaseConfig(**settings), data).count()
    count = len(data.items)
    weights = np.zeros((count, count))
    rows = np.repeat(np.arange(count), np.diff(found.arrays["indptr"]))
    weights[rows, found.arrays["indices"]] = found.arrays["weights"]
    return weights


MANY_USERS, MANY_ITEMS = (120, 20, 700), (15, 60, 200)


@pytest.mark.parametrize("size", [MANY_USERS, MANY_ITEMS])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_it_is_the_closed_form_whichever_side_is_smaller(size: tuple[int, int, int], dropout: float) -> None:
    data = shop(*size)
    found = dense(data, regularisation=7.0, neighbours=None, dropout=dropout)
    wanted = closed_form(matrix(data), 7.0, dropout)
    wanted[0] = wanted[:, 0] = wanted[-1] = wanted[:, -1] = 0
    assert np.abs(found - wanted).max() < 1e-6
    assert np.abs(wanted).max() > 0.05
    assert not np.allclose(wanted, wanted.T, atol=1e-3)  # else a transposed matrix would pass


def test_each_item_is_reconstructed_best_from_the_others() -> None:
    """Not only the formula: of all weights with a zero diagonal, these have the least ridge loss."""
    data = shop(*MANY_USERS)
    x_UN, found = matrix(data), dense(data, regularisation=7.0, neighbours=None)

    def loss(weights: np.ndarray) -> float:
        return float(((x_UN - x_UN @ weights) ** 2).sum() + 7.0 * (weights**2).sum())

    rng = np.random.default_rng(1)
    for _ in range(20):
        step = rng.normal(0, 1e-3, found.shape)
        np.fill_diagonal(step, 0)
        assert loss(found + step) > loss(found)


@pytest.mark.parametrize("size", [MANY_USERS, MANY_ITEMS])
def test_only_the_largest_weights_of_a_row_stay_negative_ones_too(size: tuple[int, int, int]) -> None:
    data = shop(*size)
    whole = dense(data, regularisation=7.0, neighbours=None)
    few = dense(data, regularisation=7.0, neighbours=4)
    assert (few < 0).any()
    for row in range(1, len(data.items) - 1):
        kept = few[row] != 0
        assert kept.sum() == min(4, (whole[row] != 0).sum())
        assert np.allclose(few[row][kept], whole[row][kept], atol=1e-6)
        assert np.abs(whole[row][~kept]).max() <= np.abs(whole[row][kept]).min(initial=np.inf) + 1e-6


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (MANY_USERS, MANY_ITEMS):
        whole = dense(shop(*size), neighbours=5)
        monkeypatch.setattr(ease, "BLOCK_ENTRIES", 130)
        assert np.abs(dense(shop(*size), neighbours=5) - whole).max() < 1e-7
        monkeypatch.undo()


def test_with_activity_every_user_has_the_same_say() -> None:
    data = shop(*MANY_USERS)
    x_UN = matrix(data)
    same_say = x_UN / np.sqrt(np.maximum(x_UN.sum(axis=1, keepdims=True), 1))
    found = dense(data, regularisation=0.5, activity=1.0, neighbours=None)
    wanted = closed_form(same_say, 0.5)
    wanted[0] = wanted[:, 0] = wanted[-1] = wanted[:, -1] = 0
    assert np.abs(found - wanted).max() < 1e-6


def test_f49_a_single_item_is_refused() -> None:
    acts = Interactions.sorted(np.array([1, 2, 2]), np.array([1, 1, 1]))
    data = BehaviourSet(Vocabulary(["a", "b"]), Vocabulary(["x", "y"]), (), {"train": acts})
    with pytest.raises(TooLittleData, match="no shopper acted on two different items"):
        dense(data)


def test_too_many_items_for_the_exact_method_are_refused_and_auto_is_named() -> None:
    data = shop(*MANY_USERS)
    with pytest.raises(TrainingError, match=r"19 items and 120 users.*leave `method` out"):
        dense(data, method="exact", max_items=10)
    dense(shop(*MANY_ITEMS), method="exact", max_items=20)  # 15 users: a small matrix, however many items


def test_what_does_not_fit_into_memory_is_refused_before_it_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    data = shop(*MANY_USERS)  # 19 items: with blocks and weights some 100 KiB
    monkeypatch.setattr(ease, "inverse", None)
    monkeypatch.setattr(ease, "available_memory", lambda: 2**16)
    with pytest.raises(
        TrainingError, match=r"120 users take \d+ MiB of memory, and 0 MiB is free; leave `method` out"
    ):
        dense(data, method="exact")


@pytest.mark.parametrize("too_large", ["by number", "by memory"])
def test_where_the_whole_does_not_fit_each_item_is_solved_among_its_neighbours_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, too_large: str
) -> None:
    data = shop(*MANY_USERS)
    monkeypatch.setattr(ease, "inverse", None)
    if too_large == "by memory":
        monkeypatch.setattr(ease, "available_memory", lambda: 2**16)
    found = dense(data, **({"max_items": 10} if too_large == "by number" else {}))
    assert np.array_equal(found, dense(data, method="sparse"))
    assert [one.levelname for one in caplog.records] == ["WARNING"]
    assert 'so each item is solved among its 100 neighbours (method = "sparse")' in caplog.messages[0]
    assert ("max_items = 10" in caplog.text) == (too_large == "by number")


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("activity", [0.0, 1.0])
def test_with_all_items_as_neighbours_the_sparse_method_is_exact(dropout: float, activity: float) -> None:
    data = shop(150, 12, 900)
    together = matrix(data).T @ matrix(data)
    assert (together[1:-1, 1:-1] > 0).all(), "every two items have a shopper in common"
    settings = {"regularisation": 7.0, "neighbours": None, "dropout": dropout, "activity": activity}
    exact = dense(data, method="exact", **settings)
    assert np.abs(dense(data, method="sparse", **settings) - exact).max() < 1e-6
    assert np.abs(exact).max() > 0.02


def test_a_column_is_the_ridge_regression_on_the_most_alike() -> None:
    data, few = shop(*MANY_USERS), 4
    found = dense(data, method="sparse", regularisation=7.0, neighbours=None, solved_among=few)
    x_UN = matrix(data)
    gram = x_UN.T @ x_UN
    for item in range(1, len(data.items) - 1):
        alike = gram[item] / np.sqrt(np.diag(gram) + 7.0)
        alike[item] = 0
        near = np.flatnonzero(found[:, item])
        assert len(near) == few and alike[near].min() >= np.sort(alike)[-few] - 1e-9
        own = np.linalg.solve(gram[np.ix_(near, near)] + 7.0 * np.eye(few), gram[near, item])
        assert np.abs(found[near, item] - own).max() < 1e-6


def test_of_sparse_weights_the_largest_of_a_row_stay_too() -> None:
    data = shop(*MANY_USERS)
    whole = dense(data, method="sparse", regularisation=7.0, neighbours=None)
    few = dense(data, method="sparse", regularisation=7.0, neighbours=3)
    for row in range(1, len(data.items) - 1):
        kept = few[row] != 0
        assert kept.sum() == 3 and np.array_equal(few[row][kept], whole[row][kept])
        assert np.abs(whole[row][~kept]).max() <= np.abs(few[row][kept]).min()


@pytest.mark.parametrize(
    ("method", "setting"), [("exact", {"solved_among": 50}), ("sparse", {"max_items": 50})]
)
def test_a_setting_of_the_other_method_is_an_error(method: str, setting: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="does nothing here"):
        EaseConfig(method=method, **setting)


def test_a_catalogue_that_no_matrix_holds_is_trained_and_served(tmp_path: Path) -> None:
    """42,000 items of 42,000 shoppers: exactly it would take two inversions of 13 GiB."""
    count, each = 42_000, 4
    users = np.repeat(np.arange(1, count + 1), each)
    first = np.random.default_rng(0).integers(0, count // 20, count) * 20  # baskets of neighbouring items
    items = 1 + (first[:, None] + np.random.default_rng(1).integers(0, 20, (count, each))).ravel()
    acts = Interactions.sorted(users, items)
    ids = [[f"{letter}{n:05d}" for n in range(count)] for letter in "ui"]
    data = BehaviourSet(Vocabulary(ids[0]), Vocabulary(ids[1]), (), {"train": acts})
    config = EaseConfig(regularisation=5.0, solved_among=20)
    found = RECIPE.bind(config, data).count()
    assert len(np.unique(acts.items)) > 35_000
    trained = Trained("ease", config, None, {}, [], 0.0, 0.0, tmp_path, counted=found)
    scorer = open_scorer(export_closed_form(RECIPE, trained, Source.of(data), tmp_path))
    never = np.full(4, NEVER)
    history = np.array([1, 3, 20 * 1000 + 7, 20 * 1000 + 9])
    asked = Queries(never[:2] * 0, np.array([0, 2, 4]), history, history * 0, never, never[:2])
    best = np.argsort(-scorer.scores(asked)[:, 1:], axis=1)[:, :5] + 1
    assert (best[0] <= 20).all() and ((best[1] - 1) // 20 == 1000).all()


def test_a_system_that_says_nothing_of_its_memory_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "available_memory", lambda: None)
    dense(shop(*MANY_USERS))


@pytest.mark.parametrize("large", [True, False])
def test_the_memory_is_said_first(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, large: bool
) -> None:
    if large:
        monkeypatch.setattr(ease, "_LARGE", 1)
    with caplog.at_level(logging.INFO):
        dense(shop(*MANY_USERS))
    assert [one.levelname for one in caplog.records] == ["WARNING" if large else "INFO"]
    assert caplog.messages[0].startswith("ease: 19 items and 120 users take ")


def test_it_takes_a_matrix_of_the_smaller_side_and_its_weights_twice() -> None:
    assert ease.memory_needed(10**6, 20_000, 500) >= 8 * 20_000**2 + 16 * 20_000 * 500
    assert ease.memory_needed(1000, 50_000, 500) < 8 * 50_000**2 / 10
    assert ease.memory_needed(10**6, 20_000, None) - ease.memory_needed(10**6, 20_000, 500) == (
        16 * 20_000 * 19_500
    )
