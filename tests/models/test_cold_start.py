"""Items that nobody touched are placed by what they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import sparse

from etalage.config import BehaviourConfig, EvaluateConfig, FunnelConfig
from etalage.errors import ConfigError, TooLittleData
from etalage.evaluation.measured import measure
from etalage.features.behaviour import BehaviourSet
from etalage.features.behaviour_set import behaviour_set
from etalage.features.history import BehaviourRule
from etalage.funnel.fallback import FallbackPolicy
from etalage.models import cold_start
from etalage.models.cold_start import (
    RECIPE,
    ColdStartConfig,
    ColdStartTask,
    Content,
    Rows,
    item_factors,
    ridge,
)
from etalage.models.layers import FeatureSum
from etalage.runtime.embeddings import EmbeddingScorer
from etalage.runtime.export_files import read_export
from etalage.runtime.opening import OpenedModel, open_scorer
from etalage.runtime.retrieving import Excluded
from etalage.training.behaviour_export import export_behaviour
from etalage.training.export_source import Source
from etalage.training.loop import fit
from tests.shops import NOON

SHELVES = ("Tea > Green", "Tea > Black", "Coffee > Beans", "Coffee > Ground", "Cups", "Pots")
SHOPPERS, TAKEN, ITEMS = 90, 90, 96


def tables() -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """Interactions and items, by columns: shoppers who keep to a shelf. Of every shelf the last three items
    are new: taken in validation and test alone. Six more items nobody takes."""
    rng = np.random.default_rng(5)
    shelf = np.arange(ITEMS) % len(SHELVES)
    new = np.arange(ITEMS) >= TAKEN - 3 * len(SHELVES)
    never = np.arange(ITEMS) >= TAKEN
    columns = ("interaction_id", "user_id", "item_id", "kind", "time", "part")
    acts: dict[str, list[Any]] = {name: [] for name in columns}
    for shopper in range(SHOPPERS):
        mine = np.flatnonzero((shelf == shopper % len(SHELVES)) & ~new)
        taken = [("train", item) for item in rng.choice(mine, 6, replace=False)]
        fresh = np.flatnonzero((shelf == shopper % len(SHELVES)) & new & ~never)
        taken += [("validation" if shopper // 6 % 2 else "test", rng.choice(fresh))]
        for number, (part, item) in enumerate(taken):
            row = (f"{shopper}-{number}", f"u{shopper}", f"i{item:02d}", "buy", NOON, part)
            for name, value in zip(columns, row, strict=True):
                acts[name].append(value)
    items = {
        "item_id": [f"i{number:02d}" for number in range(ITEMS)],
        "title": [f"{SHELVES[one].split(' > ')[-1]} number{number}" for number, one in enumerate(shelf)],
        "category_id": [SHELVES[one] for one in shelf],
        "brand": [None] * ITEMS,
        "price": pa.array([None] * ITEMS, pa.float64()),
        "attributes": pa.nulls(ITEMS, pa.string()),
    }
    return acts, items


def shop(**changed: Any) -> BehaviourSet:
    acts, items = tables()
    table = pa.table({**acts, "value": pa.nulls(len(acts["kind"]), pa.float64())})
    return behaviour_set(table, pa.table(items | changed), None, BehaviourConfig(split="published"))


@pytest.fixture(scope="module")
def data() -> BehaviourSet:
    return shop()


@pytest.fixture(scope="module")
def export(data: BehaviourSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cold")
    config = ColdStartConfig(dimension=16)
    trained = fit(RECIPE, RECIPE.bind(config, data), config, folder / "run")
    assert trained.history == [] and trained.metrics == {}, "too few items to hide some"
    return export_behaviour(RECIPE, trained, Source.of(data), folder / "exports")


def test_new_items_are_found_by_those_who_take_such_items(data: BehaviourSet, export: Path) -> None:
    scorer = open_scorer(export)
    config = EvaluateConfig(ks=(4,))
    found = measure(data, {"cold_start": scorer}, "test", "embedder", config, 0, None)
    cold = found.values("cold items")["cold_start"]
    assert cold["recall_at_4"].mean() > 0.9 > 3 * 4 / 24


def test_hidden_items_tell_how_well_it_finds_and_how_popularity_weighs(
    data: BehaviourSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold_start, "FIRST", 3)
    found = ColdStartTask(ColdStartConfig(dimension=16), data).solve()
    assert found.figures["recall_at_20_of_hidden"] > 0.5 and found.chosen["popular"] in cold_start.POWERS
    given = ColdStartTask(ColdStartConfig(dimension=16, popular=0.3), data).solve()
    assert given.chosen["popular"] == 0.3


def test_it_finds_no_item_that_others_know_better(data: BehaviourSet, export: Path) -> None:
    scorer = open_scorer(export)
    known = np.bincount(data.part("train").positive.items, minlength=len(data.items)) >= 5
    assert known.sum() > 20
    assert not np.asarray(scorer.item_embeddings)[known].any()  # type: ignore[attr-defined]
    queries, _ = data.queries("test")
    hits = scorer.retriever().find(queries, 40, None, Excluded.none(len(queries)))
    found = np.unique(hits.rows[hits.rows > 0])
    assert len(found) and not known[found].any()


def test_an_item_that_came_after_the_training_is_placed_by_what_it_is(
    data: BehaviourSet, export: Path, tmp_path: Path
) -> None:
    opened = read_export(export)
    table = {
        "item_id": ["i00", "tea", "pot"],
        "title": ["Green number0", "A Green one", None],
        "category_id": ["Tea > Green", "Tea > Green", "Pots"],
        "brand": [None] * 3,
        "price": pa.array([None] * 3, pa.float64()),
        "attributes": pa.nulls(3, pa.string()),
    }
    rows = np.array([0, data.items.row("i00"), 0, 0])
    made = EmbeddingScorer._embeddings(opened, rows, pa.table(table), {})
    first, tea, pot = made["history_embeddings"][1:]
    assert tea @ first > pot @ first + 0.3
    assert made["item_embeddings"][2:].any(axis=1).all() and not made["item_embeddings"][1].any()


def test_it_answers_beside_others_only_where_a_ranker_or_the_shop_says_where(
    data: BehaviourSet, export: Path
) -> None:
    model = OpenedModel("cold_start", "embedder", open_scorer(export))
    popularity = np.ones(len(data.items), np.float32)

    def policy(**funnel: Any) -> FallbackPolicy:
        rule = BehaviourRule(BehaviourConfig(), FunnelConfig(**funnel))
        return FallbackPolicy(popularity, [model], rule, None)

    def tier(made: FallbackPolicy, ranked: bool) -> tuple[str, list[str]]:
        found, retrievers, _ = made.choose({"cold_start"}, True, ranked, 10)
        return found, [one.name for one in retrievers]

    assert tier(policy(), ranked=False) == ("popular", ["popularity"])
    assert "cold_start" in tier(policy(), ranked=True)[1]
    assert "cold_start" in tier(policy(retrievers={"cold_start": 20}), ranked=False)[1]


def test_items_of_which_nothing_is_known_are_an_error() -> None:
    nothing = {"title": pa.nulls(ITEMS, pa.string()), "category_id": pa.nulls(ITEMS, pa.string())}
    with pytest.raises(ConfigError, match="nothing is known of the items"):
        ColdStartTask(ColdStartConfig(), shop(**nothing))


def test_too_few_acts_make_no_space(data: BehaviourSet) -> None:
    few = data.of_shoppers(np.array([1, 2]))
    with pytest.raises(TooLittleData, match="fewer than four shoppers"):
        ColdStartTask(ColdStartConfig(), few).solve()


@pytest.mark.parametrize("shape", [(60, 90), (90, 60)])
def test_the_space_is_that_of_the_singular_values(shape: tuple[int, int], monkeypatch: Any) -> None:
    spread = sparse.diags(1 / np.arange(1, shape[1] + 1))
    matrix = (sparse.random(*shape, 0.2, random_state=1) @ spread).tocsr()
    _, values, right = np.linalg.svd(matrix.toarray())
    expected = (right[:8].T * values[:8]) @ (right[:8].T * values[:8]).T
    for exact in (100, 10):
        monkeypatch.setattr(cold_start, "EXACT", exact)
        found = item_factors(matrix, 8, seed=0)
        np.testing.assert_allclose(found @ found.T, expected, atol=1e-6)


def test_both_ways_to_solve_the_equations_agree(monkeypatch: Any) -> None:
    rng = np.random.default_rng(1)
    few = sparse.random(200, 40, 0.1, random_state=2).tocsr()
    every = (rng.normal(size=(200, 5)) + 3).astype(np.float32)
    right, weights = rng.normal(size=(45, 3)), rng.uniform(0.2, 2, 200)
    rows, whole = Rows(few, every), np.hstack([few.toarray(), every])
    expected = np.linalg.solve(whole.T @ (weights[:, None] * whole) + 0.5 * np.eye(45), right)
    np.testing.assert_allclose(ridge(rows, weights, right, 0.5), expected, atol=1e-4)
    monkeypatch.setattr(cold_start, "DENSE", 10)
    np.testing.assert_allclose(ridge(rows, weights, right, 0.5), expected, atol=1e-4)


def test_the_network_makes_of_an_item_what_the_equations_were_solved_for(data: BehaviourSet) -> None:
    features = data.item_features
    content = Content.of(features)
    mapped = np.random.default_rng(3).normal(size=(content.plain.columns, 4))
    sums = FeatureSum(
        {name: features.sizes[name] for name in sorted(features.sparse)},
        {name: features.sizes[name] for name in sorted(features.bags)},
        {name: features.dense[name].shape[1] for name in sorted(features.dense)},
        4,
    )
    content.write(mapped, sums)
    found = sums([torch.from_numpy(column) for column in features.columns.values()])
    np.testing.assert_allclose(found.detach().numpy(), content.plain.times(mapped), atol=1e-5)
