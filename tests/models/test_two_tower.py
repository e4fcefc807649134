"""Cold users and items, batches, objectives, several actions, the original."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from etalage.errors import ConfigError, TooLittleData
from etalage.features.behaviour import BehaviourSet, Interactions, Queries
from etalage.models.two_tower import ORIGINAL, RECIPE, Ids, TwoTower, TwoTowerConfig, TwoTowerTask
from etalage.training import optim
from etalage.training.loop import fit
from tests.behaviours import COLD, ITEMS, SIZES, behaviour

QUICK: dict[str, Any] = {
    "epochs": 10, "width": 16, "layers": 1, "history": 8, "batch_size": 256, "dropout": 0.1,
    "learning_rate": 0.01,
}  # fmt: skip


@pytest.fixture(scope="module")
def data() -> BehaviourSet:
    return behaviour()


def trained(
    data: BehaviourSet, run: Path, **settings: Any
) -> tuple[TwoTowerTask, TwoTower, dict[str, float]]:
    config = TwoTowerConfig(**{**QUICK, **settings})
    task = TwoTowerTask(config, data)
    done = fit(RECIPE, task, config, run)
    assert isinstance(done.network, TwoTower)
    return task, done.network, done.metrics


@torch.inference_mode()
def scored(task: TwoTowerTask, network: TwoTower, queries: Queries) -> np.ndarray:
    """(B, N + 1)."""
    held = network.history_item(torch.arange(len(task.data.items)), *task.item_columns)
    found: np.ndarray = (task.embed(network, queries, held) @ network.finished(held).T).numpy()
    return found


def group_of(item: int) -> int:
    return int(min(np.searchsorted(np.cumsum(SIZES), item - 1, side="right"), len(SIZES) - 1))


# -- cold ----------------------------------------------------------------------------------------


def test_an_item_that_nobody_touched_is_found_by_its_content_alone(
    data: BehaviourSet, tmp_path: Path
) -> None:
    task, network, _ = trained(data, tmp_path, forget_item=0.3)
    queries, wanted = data.queries("test")
    cold = np.arange(ITEMS - COLD + 1, ITEMS + 1)
    assert not np.isin(cold, data.part("train").items).any()
    scores = scored(task, network, queries)[:, cold].mean(axis=1)
    last = np.array([group_of(truth[0]) == len(SIZES) - 1 for truth in wanted])
    assert scores[last].mean() > scores[~last].mean() + 1, "shoppers of its group score it higher"


def test_without_features_items_that_nobody_touched_are_one_and_the_same(tmp_path: Path) -> None:
    data = behaviour(features=False)
    task, network, _ = trained(data, tmp_path, epochs=1)
    scores = scored(task, network, data.queries("test")[0].block(0, 5))
    assert np.allclose(scores[:, -COLD:], scores[:, -1:]) and np.allclose(scores[:, 0], scores[:, -1])
    assert np.ptp(scores[:, 1:-COLD]) > 0.1


def test_a_shopper_without_an_id_is_recommended_to_by_history(data: BehaviourSet, tmp_path: Path) -> None:
    task, network, _ = trained(data, tmp_path, user_id=True, forget_user=0.5)
    queries, wanted = data.queries("test")
    strangers = replace(queries, users=np.zeros_like(queries.users))
    assert not np.allclose(scored(task, network, strangers), scored(task, network, queries))
    scores = scored(task, network, strangers)
    scores[queries.owners, queries.items] = -np.inf
    hits = [truth[0] in np.argsort(-row)[:10] for row, truth in zip(scores, wanted, strict=True)]
    assert np.mean(hits) > 0.6


def test_a_shopper_of_whom_nothing_is_known_gets_what_is_asked_for_first(
    data: BehaviourSet, tmp_path: Path
) -> None:
    task, network, _ = trained(data, tmp_path, epochs=15)
    nobody = data.queries("test", history=Interactions.none())[0].block(0, 3)
    row = scored(task, network, nobody)[0, 1:]
    train = data.part("train").positive
    firsts = train.items[np.unique(train.users, return_index=True)[1]]
    often = np.bincount(firsts, minlength=ITEMS + 1)[1:]
    assert np.corrcoef(row, often)[0, 1] > 0.5


# -- batches -------------------------------------------------------------------------------------


def test_a_batch_over_the_whole_catalogue_leaves_out_what_was_never_a_target(data: BehaviourSet) -> None:
    task = TwoTowerTask(TwoTowerConfig(**QUICK), data)
    batch = task.batch(0, 0)
    candidates = batch["item"][batch["candidates"]].numpy()
    assert np.array_equal(candidates, np.unique(data.part("train").positive.items))
    assert candidates.max() <= ITEMS - COLD and candidates.min() == 1


def test_above_the_limit_candidates_are_the_batchs_items_and_drawn_ones(data: BehaviourSet) -> None:
    task = TwoTowerTask(
        TwoTowerConfig(**{**QUICK, "full_up_to": 50, "shared_negatives": 7, "batch_size": 20}), data
    )
    batch = task.batch(0, 0)
    candidates, targets = (batch["item"][batch[name]].numpy() for name in ("candidates", "target"))
    assert set(targets) < set(candidates)
    assert len(set(targets)) < len(candidates) <= len(set(targets)) + 7
    assert len(batch["item"]) < len(data.items)


def test_the_sampled_softmax_learns_what_the_full_one_does(data: BehaviourSet, tmp_path: Path) -> None:
    _, _, full = trained(data, tmp_path / "full")
    _, _, sampled = trained(data, tmp_path / "sampled", full_up_to=0, shared_negatives=10, batch_size=128)
    assert sampled["ndcg_at_10"] > 0.9 * full["ndcg_at_10"]


def test_negatives_are_drawn_for_positives_and_are_none_of_their_users(data: BehaviourSet) -> None:
    task = TwoTowerTask(TwoTowerConfig(**{**QUICK, "objective": "binary", "negatives": 3}), data)
    batch = task.batch(0, 0)
    labels = batch["label"].numpy()
    train = data.part("train")
    width = batch["history"].shape[1] + 1
    users = batch["user"][batch["at"] // width].numpy()
    items = batch["item"][batch["target"]].numpy()
    taken = set(zip(train.positive.users.tolist(), train.positive.items.tolist(), strict=True))
    pairs = list(zip(users.tolist(), items.tolist(), strict=True))
    assert all((pair in taken) == (label > 0) for pair, label in zip(pairs, labels, strict=True))
    explicit = (train.labels == 0).sum() / len(train)
    assert (labels == 0).mean() == pytest.approx(
        (explicit + 3 * (1 - explicit)) / (1 + 3 * (1 - explicit)), abs=0.05
    )


def test_with_targets_only_their_kinds_are_predicted_and_the_others_are_history(data: BehaviourSet) -> None:
    bought = replace(data, targets=(2,))
    task = TwoTowerTask(TwoTowerConfig(**QUICK), bought)
    train = data.part("train")
    rows = np.concatenate([task.plan.windows.batch(part).targets for part in task.plan.windows.plan(0)])
    assert (train.kinds[rows] == 2).all() and len(rows) == (train.kinds == 2).sum()
    assert 1 in task.batch(0, 0)["kinds"]


# -- objectives ----------------------------------------------------------------------------------


def test_binary_keeps_explicit_negatives_apart(data: BehaviourSet, tmp_path: Path) -> None:
    """Stars fall with (item + user) % 3, which ids can learn and no history can."""
    labelled = data.with_parts(validation=Interactions.joined(data.part("validation"), disliked(data)))
    task, network, metrics = trained(
        labelled, tmp_path, objective="binary", negatives=0, user_id=True, forget_user=0.0, epochs=4
    )
    assert 0 < metrics["auroc"] <= 1
    train = data.part("train")
    assert (train.labels[task.plan.windows.rows] == 0).sum() == (train.labels == 0).sum() > 100
    scores = scored(task, network, data.queries("test")[0])
    probability = 1 / (1 + np.exp(-scores[:, 1:]))
    assert probability.mean() == pytest.approx(train.labels.mean(), abs=0.1)


def disliked(data: BehaviourSet) -> Interactions:
    """The last explicit negative of some shoppers."""
    train = data.part("train")
    return train.take(np.flatnonzero(train.labels == 0)[::5])


@pytest.mark.parametrize("objective", ["regression", "classes"])
def test_values_are_predicted_and_higher_ones_score_higher(tmp_path: Path, objective: str) -> None:
    data = behaviour()
    train = data.part("train")
    stars = np.clip(1 + (train.items % 5), 1, 5).astype(np.float32)  # of the item alone
    data = data.with_parts(train=replace(train, values=stars))
    task, network, _ = trained(data, tmp_path, objective=objective, epochs=12)
    scores = scored(task, network, data.queries("test")[0])[:, 1 : ITEMS - COLD + 1].mean(axis=0)
    expected = 1 + np.arange(1, ITEMS - COLD + 1) % 5
    assert np.corrcoef(scores, expected)[0, 1] > 0.9
    if objective == "classes":
        bounds = network.rising_bounds().detach().numpy()
        assert len(bounds) == 4 and (np.diff(bounds) > 0).all()


def test_regression_reports_its_error_in_the_values_own_unit(data: BehaviourSet, tmp_path: Path) -> None:
    _, _, metrics = trained(data, tmp_path, objective="regression", epochs=4)
    stars = data.part("validation").values
    assert 0 < metrics["rmse"] < 1.3 * np.std(stars)


def test_values_that_are_not_there_or_too_many_are_refused(data: BehaviourSet) -> None:
    train = data.part("train")
    without = data.with_parts(train=replace(train, values=np.full(len(train), np.nan, np.float32)))
    with pytest.raises(TooLittleData, match="map a column to `value`"):
        TwoTowerTask(TwoTowerConfig(objective="regression"), without)
    prices = data.with_parts(train=replace(train, values=np.arange(len(train), dtype=np.float32)))
    with pytest.raises(ConfigError, match="more than 20"):
        TwoTowerTask(TwoTowerConfig(objective="classes"), prices)


# -- several actions -------------------------------------------------------------------------------


def test_several_actions_have_a_query_each_and_are_served_as_their_weighted_sum(
    data: BehaviourSet, tmp_path: Path
) -> None:
    task, network, metrics = trained(data, tmp_path, actions={"view": 1.0, "buy": 3.0}, epochs=2)
    assert "agreement.view.buy" in metrics and -1 <= metrics["agreement.view.buy"] <= 1
    queries = data.queries("test")[0].block(0, 6)
    with torch.inference_mode():
        held = network.history_item(torch.arange(len(data.items)), *task.item_columns)
        rows, kinds, _ = queries.last(8)
        history = torch.from_numpy(rows)
        given = {
            "user.stride": torch.from_numpy(queries.features.sparse["stride"]),
            "history_embeddings": held[history],
            "history_mask": history != 0,
            "history_kinds": torch.from_numpy(kinds),
        }
        view, buy = (
            query @ network.finished(held).T
            for query in network.queries_by_action(network.states(given)[:, -1])
        )
    assert not torch.allclose(view, buy)
    assert np.allclose(scored(task, network, queries), (0.25 * view + 0.75 * buy).numpy(), atol=1e-4)


def test_what_a_second_objective_costs_the_first_is_measured(data: BehaviourSet, tmp_path: Path) -> None:
    """Buyers follow the same steps as viewers here: adding the one costs the other little."""
    _, _, alone = trained(data, tmp_path / "alone", actions={"view": 1.0})
    _, _, both = trained(data, tmp_path / "both", actions={"view": 1.0, "buy": 1.0})
    assert both["ndcg_at_10"] > 0.85 * alone["ndcg_at_10"]


def test_actions_that_compete_are_warned_of(data: BehaviourSet, caplog: pytest.LogCaptureFixture) -> None:
    """Every act twice: a view that is liked, a purchase that is not. What helps the one harms the other."""
    train = data.part("train").positive
    opposed = Interactions.joined(
        replace(train, kinds=np.full(len(train), 1)),
        replace(train, kinds=np.full(len(train), 2), labels=np.zeros(len(train), np.float32)),
    )
    config = TwoTowerConfig(**QUICK, objective="binary", negatives=0, actions={"view": 1.0, "buy": 1.0})
    task = TwoTowerTask(config, data.with_parts(train=opposed))
    torch.manual_seed(0)
    network = task.network().eval()
    for head in network.action_heads:
        torch.nn.init.eye_(head.weight)
    with caplog.at_level(logging.WARNING):
        assert task.agreement(network)["agreement.view.buy"] < -0.5
    assert "view and buy compete" in caplog.text


def test_an_action_that_nobody_did_is_refused(data: BehaviourSet) -> None:
    with pytest.raises(ConfigError, match="'cart'; there are: view, buy"):
        TwoTowerTask(TwoTowerConfig(actions={"cart": 1.0}), data)


# -- the original and the settings -----------------------------------------------------------------


def test_the_original_is_a_preset_that_can_be_varied() -> None:
    config = TwoTowerConfig(preset="original", batch_size=64)
    assert (config.width, config.query_layers, config.item_layers) == (128, (128, 64), (128, 64))
    assert (config.objective, config.negatives, config.learning_rate) == ("binary", 0, 0.01)
    assert config.batch_size == 64 and ORIGINAL["batch_size"] == 1024
    assert TwoTowerConfig().objective == "softmax"


def test_the_original_does_not_end_in_relu_so_that_a_probability_may_be_below_one_half(
    data: BehaviourSet, tmp_path: Path
) -> None:
    task, network, _ = trained(data, tmp_path, **{**ORIGINAL, "batch_size": 256, "epochs": 3, "layers": 2})
    assert network.query_inputs == ("user", "user.stride") and network.history_length == 0
    tables = [module for module in network.modules() if isinstance(module, Ids)]
    assert [table.weight.shape for table in tables] == [(ITEMS + 1, 128), (301, 128)]
    scores = scored(task, network, data.queries("test")[0])
    assert scores.min() < -0.1 and scores.max() > 0.1


def test_a_row_wise_step_moves_only_the_rows_of_its_batch(data: BehaviourSet) -> None:
    settings = {**ORIGINAL, "batch_size": 8, "learning_rate": 0.1}
    task = TwoTowerTask(TwoTowerConfig(**settings), data)
    network = task.network().train()
    optimiser = optim.build(task, network, task.config)
    assert isinstance(network, TwoTower)
    before = network.item_id.weight.detach().clone()
    batch = task.batch(0, 0)
    task.loss(network, batch).backward()
    optimiser.step()
    moved = (network.item_id.weight.detach() != before).any(dim=1).nonzero()[:, 0]
    # Row 0 is looked up as padding and has no gradient.
    assert moved.tolist() == [row for row in batch["item"].tolist() if row != 0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 30, "heads": 4}, "no multiple of heads"),
        ({"query_layers": (32,), "item_layers": (16,)}, "end in the same width"),
        ({"history": 8, "depth": 3}, "depth"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TwoTowerConfig(**settings)


def test_a_query_tower_without_any_input_is_refused() -> None:
    task = TwoTowerTask(TwoTowerConfig(history=0), behaviour(features=False))
    with pytest.raises(ConfigError, match="user_id = true"):
        task.network()


def test_an_empty_training_part_is_too_little_data(data: BehaviourSet) -> None:
    with pytest.raises(TooLittleData):
        TwoTowerTask(TwoTowerConfig(), data.with_parts(train=Interactions.none()))
