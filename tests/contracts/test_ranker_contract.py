"""What every model of the role `ranker` keeps to; run over every such model in the folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etalage.datasets.clicks import draw_clicks
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.vocabulary import Vocabulary
from etalage.metrics import auroc
from etalage.models.recipe import Recipe, Trained
from etalage.runtime.opening import open_scorer
from etalage.training.behaviour_export import export_behaviour
from etalage.training.export_source import Source
from etalage.training.loop import fit
from tests.contracts.folder import FOLDER, names

pytestmark = pytest.mark.traces

RANKERS = names("ranker")
QUICK: dict[str, dict[str, Any]] = {
    "dlrm": {
        "bottom": (16,), "top": (32,), "dimension": 8, "batch_size": 400, "epochs": 3, "table_rate": 0.1,
        "table_start": 1e-6, "learning_rate": 3e-3,
    },
    "neumf": {"epochs": 8, "learning_rate": 5e-3, "spare_held_out": True},
}  # fmt: skip
"""Small settings for each model; a new ranker needs a line here."""
FEW = (3, 5, 8, 12, 20, 30, 10, 8, 10, 15, 10, 8, 50, 20, 12)


@dataclass(frozen=True)
class Case:
    """What a ranker learns from, what it is asked, and what is true of it."""

    data: Any
    source: Source
    sparse: np.ndarray
    """(R, S) int64, in the order of the network's inputs."""
    dense: np.ndarray
    positive: np.ndarray
    """(R,) bool."""
    plain: np.ndarray
    """(R,) scores of the floor: the item's popularity, or the best single feature."""


def clicks() -> Case:
    data = draw_clicks(16_000, cardinalities=FEW, seed=2).examples
    rows = data.rows("test")
    sizes = dict(zip(data.sparse_names, data.sizes, strict=True))
    label = data.labels[rows, 0] > 0
    best = max(data.dense[rows].T, key=lambda column: auroc(column, label))
    return Case(data, Source(sizes=sizes), data.sparse[rows], data.dense[rows], label, best)


def tastes(users: int = 120, items: int = 60) -> Case:
    """Users of three tastes, items of three kinds, some of each kind taken more often. The first user and
    item have rows like any other, and so have the last ones."""
    rng = np.random.default_rng(5)
    who, what = np.arange(1, users + 1), np.arange(1, items + 1)
    liked = who[:, None] % 3 == what[None, :] % 3
    chance = np.where(liked, 0.55, 0.03) * np.where(what % 5 == 0, 1.6, 0.9)
    acted = rng.random((users, items)) < chance
    acted[0, [0, items - 3]] = acted[-1, [items - 1, 2]] = True
    first, second = np.nonzero(acted)
    held = rng.random(len(first))
    parts = {
        name: Interactions.sorted(first[rows] + 1, second[rows] + 1)
        for name, rows in (
            ("train", held < 0.7),
            ("validation", (held >= 0.7) & (held < 0.85)),
            ("test", held >= 0.85),
        )
    }
    data = BehaviourSet(
        Vocabulary([f"u{n}" for n in who]), Vocabulary([f"i{n}" for n in what]), ("view",), parts
    )
    known = np.zeros((users + 1, items + 1), bool)
    for part in ("train", "validation"):
        known[data.part(part).users, data.part(part).items] = True
    pairs = np.argwhere(~known[1:, 1:]) + 1
    positive = acted[pairs[:, 0] - 1, pairs[:, 1] - 1]
    popular = np.bincount(data.part("train").items, minlength=items + 1)[pairs[:, 1]].astype(float)
    return Case(data, Source.of(data), pairs, np.zeros((len(pairs), 0), np.float32), positive, popular)


@pytest.fixture(scope="module", params=RANKERS)
def recipe(request: pytest.FixtureRequest) -> Recipe[Any]:
    return FOLDER.find(request.param)


@pytest.fixture(scope="module")
def case(recipe: Recipe[Any]) -> Case:
    return clicks() if recipe.data == "examples" else tastes()


@pytest.fixture(scope="module")
def config(recipe: Recipe[Any]) -> Any:
    return recipe.config(**QUICK.get(recipe.name, {}))


@pytest.fixture(scope="module")
def trained(
    recipe: Recipe[Any], config: Any, case: Case, tmp_path_factory: pytest.TempPathFactory
) -> Trained[Any]:
    return fit(recipe, recipe.bind(config, case.data), config, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def exported(
    recipe: Recipe[Any], trained: Trained[Any], case: Case, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return export_behaviour(recipe, trained, case.source, tmp_path_factory.mktemp("exports"))


def scores(network: Any, case: Case, rows: slice = slice(None)) -> np.ndarray:
    network.eval()
    with torch.inference_mode():
        found = network(torch.from_numpy(case.sparse[rows]), torch.from_numpy(case.dense[rows]))
    return np.asarray(found.float().numpy())


def test_the_network_has_the_columns_that_it_declares(trained: Trained[Any], case: Case) -> None:
    network: Any = trained.network
    assert case.sparse.shape[1] == len(network.sparse_inputs)
    assert case.dense.shape[1] == len(network.dense_inputs)
    width = sum(objective.width for objective in network.objectives)
    assert scores(network, case).shape == (len(case.positive), width)


def test_the_loss_falls(trained: Trained[Any]) -> None:
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]


def test_it_beats_its_floor_and_the_untrained_network(
    recipe: Recipe[Any], config: Any, trained: Trained[Any], case: Case
) -> None:
    torch.manual_seed(0)
    untrained = recipe.bind(config, case.data).network()
    found = auroc(scores(trained.network, case)[:, 0], case.positive)
    assert found > auroc(case.plain, case.positive) + 0.03
    assert found > auroc(scores(untrained, case)[:, 0], case.positive) + 0.1


def test_a_validation_metric_is_told_each_epoch(
    recipe: Recipe[Any], config: Any, trained: Trained[Any], case: Case
) -> None:
    metric = recipe.bind(config, case.data).metric
    assert len(trained.history) == config.epochs
    assert all(np.isfinite(epoch[metric]) for epoch in trained.history)
    assert trained.metrics[metric] == max(epoch[metric] for epoch in trained.history)


def test_the_same_seed_gives_the_same_weights(
    recipe: Recipe[Any], config: Any, case: Case, tmp_path: Path
) -> None:
    short = config.model_copy(update={"epochs": 1, "steps_per_epoch": 3})
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        seeded = short.model_copy(update={"seed": seed})
        runs.append(
            scores(fit(recipe, recipe.bind(seeded, case.data), seeded, tmp_path / name).network, case)
        )
    assert np.array_equal(runs[0], runs[1])
    assert not np.allclose(runs[0], runs[2])


def test_f4_a_run_that_stops_ends_like_an_uninterrupted_one(
    recipe: Recipe[Any], config: Any, case: Case, tmp_path: Path
) -> None:
    short = config.model_copy(update={"epochs": 2, "steps_per_epoch": 4, "checkpoint_steps": 3})
    whole = fit(recipe, recipe.bind(short, case.data), short, tmp_path / "whole")
    torn = recipe.bind(short, case.data)
    batch = torn.batch

    def failing(epoch: int, step: int, *ranks: int) -> Any:
        if (epoch, step) == (1, 2):
            raise KeyboardInterrupt
        return batch(epoch, step)

    torn.batch = failing
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, torn, short, tmp_path / "torn")
    again = fit(recipe, recipe.bind(short, case.data), short, tmp_path / "torn")
    assert np.array_equal(scores(again.network, case), scores(whole.network, case))


def test_a_batch_is_a_pure_function_of_seed_epoch_and_step(
    recipe: Recipe[Any], config: Any, case: Case
) -> None:
    one, other = recipe.bind(config, case.data), recipe.bind(config, case.data)
    other.batch(3, 1)
    for key, tensor in one.batch(1, 2).items():
        assert torch.equal(tensor, other.batch(1, 2)[key])
    assert not all(torch.equal(tensor, one.batch(2, 2)[key]) for key, tensor in one.batch(1, 2).items())


def test_what_is_served_is_what_was_trained(trained: Trained[Any], exported: Path, case: Case) -> None:
    scorer: Any = open_scorer(exported)
    served = scorer.score_rows(case.sparse, case.dense)
    assert np.abs(served - scores(trained.network, case)).max() < 1e-4


def test_the_size_of_a_batch_changes_nothing(exported: Path, case: Case) -> None:
    scorer: Any = open_scorer(exported)
    whole = scorer.score_rows(case.sparse[:9], case.dense[:9])
    alone = np.concatenate(
        [scorer.score_rows(case.sparse[n : n + 1], case.dense[n : n + 1]) for n in range(9)]
    )
    assert np.abs(whole - alone).max() < 1e-5


def test_unknown_ids_are_scored_and_the_first_and_the_last_are_not_unknown(
    trained: Trained[Any], exported: Path, case: Case
) -> None:
    scorer: Any = open_scorer(exported)
    network: Any = trained.network
    sizes = [case.source.sizes[name] for name in network.sparse_inputs]
    usual = np.median(case.sparse, axis=0).astype(np.int64)
    for column, size in enumerate(sizes):
        asked = np.stack([usual] * 3)
        asked[:, column] = 0, 1, size - 1
        found = scorer.score_rows(asked, np.repeat(case.dense[:1], 3, axis=0))
        assert np.isfinite(found).all()
        assert found[0, 0] != found[1, 0] and found[0, 0] != found[2, 0]


@pytest.fixture
def behaviour(recipe: Recipe[Any], case: Case) -> BehaviourSet:
    if recipe.data != "behaviour":
        pytest.skip("its rows are no shoppers and items")
    return case.data


def test_shoppers_get_items_in_the_order_of_the_offline_scores(
    trained: Trained[Any], exported: Path, behaviour: BehaviourSet, case: Case
) -> None:
    queries, _ = behaviour.queries("test")
    scorer: Any = open_scorer(exported)
    served = scorer.scores(queries)
    assert served.shape == (len(queries), len(behaviour.items)) and np.isneginf(served[:, 0]).all()
    user = int(queries.users[-1])
    mine = Case(
        None,
        case.source,
        np.stack([np.full(len(behaviour.items) - 1, user), np.arange(1, len(behaviour.items))], axis=1),
        np.zeros((len(behaviour.items) - 1, 0), np.float32),
        case.positive,
        case.plain,
    )
    assert np.abs(served[-1, 1:] - scores(trained.network, mine)[:, 0]).max() < 1e-4
