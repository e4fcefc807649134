"""Matrix factorisation, plain and deep: what it learns, that inner products are its scores, strangers."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etalage.errors import ConfigError, TooLittleData
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.vocabulary import Vocabulary
from etalage.models.matrix_factorisation import RECIPE, Deep, MatrixFactorisationConfig, Plain, contrast
from etalage.models.recipe import Trained
from etalage.runtime.embeddings import EmbeddingScorer
from etalage.runtime.opening import open_scorer
from etalage.training.behaviour_export import export_behaviour
from etalage.training.export_source import Source
from etalage.training.loop import fit

pytestmark = pytest.mark.traces

USERS, ITEMS, TASTES = 160, 50, 4
QUICK: dict[str, Any] = {
    "dimension": 16,
    "epochs": 12,
    "batch_size": 128,
    "learning_rate": 0.02,
    "l2": 0.005,
}
DEEP = {
    **QUICK, "network": "deep", "layers": (32,), "epochs": 6, "learning_rate": 0.01, "l2": 0.0,
    "weight_decay": 0.005,
}  # fmt: skip
CASES = {
    "plain-softmax": QUICK,
    "plain-bce": {**QUICK, "loss": "bce"},
    "plain-bpr": {**QUICK, "loss": "bpr"},
    "deep-softmax": DEEP,
    "deep-bce": {**DEEP, "loss": "bce"},
}


def behaviour(seed: int = 0) -> BehaviourSet:
    """Shoppers of four tastes; items 1 … 48 are acted on, 49 and 50 never. One act of each is held out."""
    rng = np.random.default_rng(seed)
    users, items, times, held = [], [], [], []
    for user in range(1, USERS + 1):
        taste = np.arange(user % TASTES + 1, ITEMS - 1, TASTES)
        chosen = rng.permutation(taste)[: rng.integers(4, 10)]
        users += [user] * len(chosen)
        items += chosen.tolist()
        times += list(range(len(chosen)))
        held += [False] * (len(chosen) - 1) + [True]
    whole, out = Interactions.sorted(np.array(users), np.array(items), times=np.array(times)), np.array(held)
    ids = [[f"{letter}{n:04d}" for n in range(count)] for letter, count in (("u", USERS), ("i", ITEMS))]
    parts = {"train": whole.take(~out), "validation": whole.take(out)}
    return BehaviourSet(Vocabulary(ids[0]), Vocabulary(ids[1]), (), parts)


@pytest.fixture(scope="module")
def data() -> BehaviourSet:
    return behaviour()


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> MatrixFactorisationConfig:
    return MatrixFactorisationConfig(**CASES[request.param])


@pytest.fixture(scope="module")
def trained(
    case: MatrixFactorisationConfig, data: BehaviourSet, tmp_path_factory: pytest.TempPathFactory
) -> Trained[MatrixFactorisationConfig]:
    return fit(RECIPE, RECIPE.bind(case, data), case, tmp_path_factory.mktemp("run"))


def logits(network: torch.nn.Module, task: Any, users: np.ndarray) -> np.ndarray:
    """(B, N + 1) inner products of embeddings, the row 0 included."""
    assert isinstance(network, Plain | Deep)
    given = users if isinstance(network, Plain) else task.history(users, task.config.history)
    with torch.inference_mode():
        items = network.embed_item(torch.arange(ITEMS + 1))
        return (network.embed_query(torch.from_numpy(given)) @ items.T).numpy()


def test_the_loss_falls_and_taste_is_found(
    trained: Trained[MatrixFactorisationConfig], case: MatrixFactorisationConfig, data: BehaviourSet
) -> None:
    assert trained.history[-1]["loss"] < 0.9 * trained.history[0]["loss"]
    torch.manual_seed(0)
    task = RECIPE.bind(case, data)
    with torch.inference_mode():
        untrained = task.validate(task.network())
    assert trained.metrics["hit_at_10"] > 0.9 > untrained["hit_at_10"] + 0.3
    assert trained.metrics["ndcg_at_10"] > untrained["ndcg_at_10"] + 0.2


def test_an_item_that_nobody_acted_on_is_behind_those_of_the_taste(
    trained: Trained[MatrixFactorisationConfig], case: MatrixFactorisationConfig, data: BehaviourSet
) -> None:
    assert trained.network is not None
    found = logits(trained.network, RECIPE.bind(case, data), np.arange(1, USERS + 1))
    for user in range(1, USERS + 1):
        taste = np.arange(user % TASTES + 1, ITEMS - 1, TASTES)
        assert np.median(found[user - 1, taste]) > found[user - 1, [ITEMS - 1, ITEMS]].max()


def test_the_trained_score_is_the_inner_product() -> None:
    config = MatrixFactorisationConfig(dimension=3)
    torch.manual_seed(0)
    network = Plain(config, 5, 7)
    torch.nn.init.normal_(network.biases.weight)
    users, items = torch.tensor([1, 4]), torch.tensor([6, 2])
    score = (network.users(users) * network.items(items)).sum(1) + network.biases(items)[:, 0]
    assert torch.allclose((network.embed_query(users) * network.embed_item(items)).sum(1), score)


def test_deep_scores_are_cosines_of_the_two_towers() -> None:
    columns = np.array([[0, 0], [1, 2], [2, 0], [3, 1]])
    torch.manual_seed(0)
    network = Deep(MatrixFactorisationConfig(network="deep", dimension=6, layers=(8,), scale=5.0), columns, 4)
    queries = network.embed_query(torch.tensor([[0, 1, 3], [0, 0, 2]]))
    items = network.embed_item(torch.arange(4))
    assert torch.allclose(queries.norm(dim=1), torch.full((2,), 5.0))
    assert torch.allclose(items.norm(dim=1), torch.ones(4))
    row = network.row.weight[[1, 3]].sum(0) / np.sqrt(2)
    tower = network.user_tower(row[None])
    assert torch.allclose(queries[0], 5 * tower[0] / tower.norm(), atol=1e-6)
    assert torch.isfinite(network.embed_query(torch.zeros(1, 3, dtype=torch.int64))).all()


def test_what_is_served_is_what_was_trained(
    trained: Trained[MatrixFactorisationConfig],
    case: MatrixFactorisationConfig,
    data: BehaviourSet,
    tmp_path: Path,
) -> None:
    if case.loss != "softmax":
        pytest.skip("the loss is no part of what is served")
    scorer = open_scorer(export_behaviour(RECIPE, trained, Source.of(data), tmp_path))
    assert isinstance(scorer, EmbeddingScorer) and trained.network is not None
    queries, _ = data.queries("validation")
    offline = logits(trained.network, RECIPE.bind(case, data), queries.users)
    assert np.abs(scorer.scores(queries)[:, 1:] - offline[:, 1:]).max() < 1e-4 * np.abs(offline).max()


def test_a_stranger_is_an_average_shopper(data: BehaviourSet, tmp_path: Path) -> None:
    """Row 0 is trained on hidden users: it prefers what many took to what nobody did."""
    config = MatrixFactorisationConfig(**{**QUICK, "strangers": 0.3})
    trained = fit(RECIPE, RECIPE.bind(config, data), config, tmp_path)
    assert trained.network is not None
    found = logits(trained.network, None, np.array([0]))[0]
    assert found[1 : ITEMS - 1].min() > found[[ITEMS - 1, ITEMS]].max()


def test_a_batch_is_a_pure_function_of_seed_epoch_and_step(
    case: MatrixFactorisationConfig, data: BehaviourSet
) -> None:
    one, other = RECIPE.bind(case, data), RECIPE.bind(case, data)
    other.batch(3, 1)
    for name, tensor in one.batch(1, 2).items():
        assert torch.equal(tensor, other.batch(1, 2)[name])
    assert not torch.equal(one.batch(1, 2)["rows"], one.batch(2, 2)["rows"])


def test_an_epoch_sees_every_pair_once_and_nothing_held_out(
    case: MatrixFactorisationConfig, data: BehaviourSet
) -> None:
    task = RECIPE.bind(case, data)
    batches = [task.batch(0, step) for step in range(task.steps)]
    rows = torch.cat([batch["rows"] for batch in batches]).numpy()
    assert np.array_equal(np.sort(rows), np.arange(len(task.users)))
    train = data.part("train")
    assert set(zip(task.users, task.items, strict=True)) == set(zip(train.users, train.items, strict=True))
    more = data.with_parts(test=train, validation=train, rank=train)
    for name, tensor in RECIPE.bind(case, more).batch(0, 0).items():
        assert torch.equal(tensor, batches[0][name])


def test_a_users_own_items_are_no_negatives(data: BehaviourSet) -> None:
    task = RECIPE.bind(MatrixFactorisationConfig(shared_negatives=30, batch_size=64, strangers=0), data)
    batch = task.batch(0, 0)
    train = data.part("train")
    own = {user: set(train.items[train.users == user].tolist()) for user in range(1, USERS + 1)}
    assert batch["own"].any() and not batch["own"].all()
    assert batch["drawn"].min() >= 1 and batch["drawn"].max() <= ITEMS
    for user, marks in zip(batch["user"].tolist(), batch["own"], strict=True):
        assert [item in own[user] for item in batch["drawn"].tolist()] == marks.tolist()


def test_the_target_is_not_in_the_history_that_should_find_it(data: BehaviourSet) -> None:
    task = RECIPE.bind(MatrixFactorisationConfig(**DEEP, strangers=0), data)
    batch = task.batch(0, 0)
    assert not (batch["history"] == batch["item"][:, None]).any()
    users = task.users[batch["rows"].numpy()]
    assert not (batch["column"].numpy() == users[:, None]).any()
    lengths = np.bincount(data.part("train").users)[users]
    assert np.array_equal((batch["history"] > 0).sum(1).numpy(), lengths - 1)


def test_an_item_of_a_single_user_does_not_raise_those_of_nobody(tmp_path: Path) -> None:
    """Its column is empty once that user is hidden: as positives they would lift every new item."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(1, 41), 6)
    items = np.concatenate(
        [[*(1 + rng.permutation(20)[:3]), *(21 + 3 * u + np.arange(3))] for u in range(40)]
    )
    ids = [[f"{n:04d}" for n in range(count)] for count in (40, 160)]
    acts = Interactions.sorted(users, items)
    few = BehaviourSet(Vocabulary(ids[0]), Vocabulary(ids[1]), (), {"train": acts})
    config = MatrixFactorisationConfig(**DEEP)
    network = fit(RECIPE, RECIPE.bind(config, few), config, tmp_path).network
    assert isinstance(network, Deep)
    with torch.inference_mode():
        queries = network.embed_query(torch.from_numpy(np.arange(1, 21)[None]))
        scores = (queries @ network.embed_item(torch.arange(161)).T)[0]
    assert scores[1:21].min() > scores[141:].max() + 1


@pytest.mark.parametrize("loss", ["bce", "bpr", "softmax"])
def test_a_loss_is_what_it_says_and_own_items_do_not_count(loss: str) -> None:
    right, drawn = torch.tensor([0.4, -1.0]), torch.tensor([[1.0, 9.0, -2.0], [0.5, 0.1, 7.0]])
    own = torch.tensor([[False, True, False], [False, False, True]])
    found = contrast(right, drawn, own, loss, 3.0).tolist()
    kept: Mapping[int, list[float]] = {0: [1.0, -2.0], 1: [0.5, 0.1]}
    for row, score in enumerate(right.tolist()):
        against = np.array(kept[row])
        if loss == "softmax":
            wanted = -np.log(np.exp(score) / (np.exp(score) + np.exp(against).sum()))
        elif loss == "bpr":
            wanted = -np.log(1 / (1 + np.exp(against - score))).mean()
        else:
            wanted = np.log1p(np.exp(-score)) + 3.0 * np.log1p(np.exp(against)).mean()
        assert np.isclose(found[row], wanted, atol=1e-5)


def test_weights_of_kinds_weigh_the_loss(data: BehaviourSet) -> None:
    train = data.part("train")
    both = replace(data, kinds=("view", "buy")).with_parts(
        train=replace(train, kinds=1 + (np.arange(len(train)) % 2))
    )
    task = RECIPE.bind(MatrixFactorisationConfig(**QUICK, kind_weights={"view": 1, "buy": 3}), both)
    assert sorted(set(task.weights.tolist())) == pytest.approx([1 / 2, 3 / 2], rel=0.02)
    alone = RECIPE.bind(MatrixFactorisationConfig(**QUICK, kind_weights={"buy": 3}), both)
    assert len(alone.users) == len(train) // 2
    with pytest.raises(ConfigError, match="did you mean 'buy'"):
        RECIPE.bind(MatrixFactorisationConfig(kind_weights={"by": 1}), both)


def test_columns_hold_the_users_of_each_item_and_no_more_than_asked(data: BehaviourSet) -> None:
    train = data.part("train")
    for width in (1000, 3):
        network = RECIPE.bind(MatrixFactorisationConfig(**{**DEEP, "column": width}), data).network()
        columns = network.get_buffer("columns_NC").numpy()
        assert columns.shape[0] == ITEMS + 1 and not columns[[0, ITEMS - 1, ITEMS]].any()
        for item in range(1, ITEMS - 1):
            users = set(train.users[train.items == item].tolist())
            found = set(columns[item].tolist()) - {0}
            assert found <= users and len(found) == min(width, len(users))


@pytest.mark.parametrize("network", ["plain", "deep"])
def test_f49_nothing_or_one_item_is_refused_one_user_trains(network: str, tmp_path: Path) -> None:
    towers = {"layers": (4,)} if network == "deep" else {}
    config = MatrixFactorisationConfig(network=network, dimension=4, epochs=1, **towers)

    def few(users: list[int], items: list[int]) -> BehaviourSet:
        acts = Interactions.sorted(np.array(users, np.int64), np.array(items, np.int64))
        return BehaviourSet(Vocabulary(["a", "b"]), Vocabulary(["x", "y", "z"]), (), {"train": acts})

    with pytest.raises(TooLittleData, match="no positive interaction"):
        RECIPE.bind(config, few([], []))
    for users, items in (([1, 2], [3, 3]), ([1] * 9, [2] * 9)):
        with pytest.raises(TooLittleData, match="all interactions are with one item"):
            RECIPE.bind(config, few(users, items))
    data = few([1, 1, 1], [1, 2, 2])
    trained = fit(RECIPE, RECIPE.bind(config, data), config, tmp_path)
    assert np.isfinite(trained.history[-1]["loss"])
    whole = few([1, 1, 1], [1, 2, 3])  # nothing is left to be a negative
    assert np.isfinite(
        fit(RECIPE, RECIPE.bind(config, whole), config, tmp_path / "whole").history[-1]["loss"]
    )
