"""What every closed-form model that can be split into blocks keeps to: who does a block changes not a bit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etalage.engine.local import LOCAL
from etalage.features import array_blocks
from etalage.features.array_blocks import ArrayLoop
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.behaviour_files import open_mapped, save
from etalage.features.vocabulary import Vocabulary
from etalage.models import ease_columns, ials, item_knn
from etalage.models.recipe import ClosedFormArrays, ClosedFormByBlocks, Recipe, count
from tests.contracts.folder import FOLDER, names
from tests.engines import Here

SETTINGS: dict[str, list[dict[str, Any]]] = {
    "item_knn": [
        {"similarity": "tf_idf", "neighbours": 7},
        {"similarity": "bm25", "strength": "log_count", "shrink": 0.37},
        {"similarity": "sequence", "backward": 0.3, "neighbours": 9},
    ],
    "ease": [
        {"method": "sparse", "solved_among": 7, "regularisation": 9.0},
        {"method": "sparse", "activity": 0.6, "dropout": 0.3, "strength": "log_count", "neighbours": 9},
    ],
    "ials": [{"dimension": 8, "iterations": 3, "frequency": 0.5}, {"dimension": 1, "iterations": 2}],
}


def behaviour(users: int = 150, items: int = 90, acts: int = 2500) -> BehaviourSet:
    """Long tails on both sides; the last item and the last user are never there, and some acts repeat."""
    rng = np.random.default_rng(3)
    drawn = [
        rng.choice(np.arange(1, n), acts, p=(1 / np.arange(1, n)) / (1 / np.arange(1, n)).sum())
        for n in (users, items)
    ]
    ids = [[f"{letter}{n:03d}" for n in range(n)] for letter, n in (("u", users), ("i", items))]
    train = Interactions.sorted(*drawn, kinds=rng.integers(0, 3, acts), times=rng.integers(0, 10**6, acts))
    return BehaviourSet(
        Vocabulary(ids[0]), Vocabulary(ids[1]), ("view", "buy"), {"train": train}, weights=(0.0, 0.3, 1.0)
    )


@pytest.fixture(scope="module")
def data() -> BehaviourSet:
    return behaviour()


@pytest.fixture(params=names("closed_form"))
def recipe(request: pytest.FixtureRequest) -> Recipe[Any]:
    return FOLDER.find(request.param)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Workers keep what they mapped; a test's folder is gone with it."""
    yield
    array_blocks._mapped.cache_clear()
    array_blocks._changed.cache_clear()


def bound(recipe: Recipe[Any], data: BehaviourSet) -> list[Any]:
    return [recipe.bind(recipe.config(**one), data) for one in SETTINGS.get(recipe.name, [{}])]


def assert_alike(one: ClosedFormArrays, other: ClosedFormArrays) -> None:
    assert (one.scoring, one.settings) == (other.scoring, other.settings)
    assert set(one.arrays) == set(other.arrays)
    for name, array in one.arrays.items():
        assert array.dtype == other.arrays[name].dtype, name
        assert np.array_equal(array, other.arrays[name]), name
    assert any(array.any() for array in one.arrays.values())


def small_blocks(monkeypatch: pytest.MonkeyPatch, products: int) -> None:
    for name in ("BLOCK_ENTRIES", "BLOCK_PRODUCTS"):
        for model in (item_knn, ease_columns):
            monkeypatch.setattr(model, name, products)
    monkeypatch.setattr(ials, "BLOCK_ENTRIES", products)
    monkeypatch.setattr(ials, "SHARD_PRODUCTS", products)


@pytest.mark.parametrize("products", [1, 3000, 10**9])
def test_a_model_is_the_same_whatever_the_blocks_and_out_of_files(
    recipe: Recipe[Any],
    data: BehaviourSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    products: int,
) -> None:
    save(data, tmp_path / "behaviour")
    whole = [count(task, ArrayLoop()) for task in bound(recipe, data)]
    small_blocks(monkeypatch, products)
    for one, task in zip(whole, bound(recipe, open_mapped(tmp_path / "behaviour")), strict=True):
        engine = Here()
        by_blocks = count(task, ArrayLoop(engine, tmp_path / "spool", measured=0))
        assert_alike(by_blocks, one)
        assert_alike(task.count(), one)
        assert (engine.shards > 0) == isinstance(task, ClosedFormByBlocks)
        assert not list((tmp_path / "spool").glob("*")), "what workers mapped is gone"


@pytest.mark.timeout(300)
def test_two_processes_count_what_one_counts(
    recipe: Recipe[Any], data: BehaviourSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = bound(recipe, data)
    if not isinstance(tasks[0], ClosedFormByBlocks):
        pytest.skip("it is counted in one process")
    whole = [task.count() for task in tasks]
    small_blocks(monkeypatch, 20_000)
    for one, task in zip(whole, tasks, strict=True):
        assert_alike(count(task, ArrayLoop(LOCAL, tmp_path, workers=2, measured=0)), one)
