"""DLRM: its shapes as published, its objectives, and what it learns of clicks whose best order is known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etalage.datasets.clicks import Clicks, draw_clicks
from etalage.errors import ConfigError, TooLittleData
from etalage.features.examples import Examples
from etalage.metrics import auroc
from etalage.models.dlrm import RECIPE, Dlrm, DlrmConfig, DlrmTask
from etalage.models.recipe import Objective, Trained
from etalage.runtime.opening import open_scorer
from etalage.training.behaviour_export import export_behaviour
from etalage.training.export_source import Source
from etalage.training.loop import fit

pytestmark = pytest.mark.traces

FEW = (3, 5, 8, 12, 20, 30, 10, 8, 10, 15, 10, 8, 50, 20, 12)
QUICK: dict[str, Any] = {
    "bottom": (32,), "top": (32,), "dimension": 8, "batch_size": 500, "epochs": 5, "table_rate": 0.1,
    "table_start": 1e-6, "average": 0.98, "weight_decay": 1e-4, "table_decay": 3e-4, "learning_rate": 6e-3,
    "precision": "float32",
}  # fmt: skip


def examples(sparse: int, dense: int, rows: int = 20, labels: int = 1) -> Examples:
    rng = np.random.default_rng(1)
    return Examples(
        rng.integers(0, 4, (rows, sparse)),
        tuple(f"s{n}" for n in range(sparse)),
        (4,) * sparse,
        rng.normal(3, 2, (rows, dense)).astype(np.float32),
        tuple(f"d{n}" for n in range(dense)),
        rng.integers(0, 2, (rows, labels)).astype(np.float32),
        tuple(f"l{n}" for n in range(labels)),
        (np.arange(rows) % 3).astype(np.uint8),
    )


def widths(network: torch.nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, torch.nn.Linear)]


def test_the_preset_has_the_published_shape_of_criteo_kaggle() -> None:
    config = DlrmConfig(preset="criteo_kaggle")
    network = DlrmTask(config, examples(26, 13)).network()
    assert widths(network.bottom) == [(13, 512), (512, 256), (256, 64), (64, 16)]
    assert widths(network.top) == [(16 + 26 + 26 * 25 // 2, 512), (512, 256), (256, 1)]
    assert (config.optimiser, config.table_rate, config.learning_rate) == ("sgd", 0.1, 0.1)
    assert network.linear_tables is None and network.linear_dense is None
    assert DlrmConfig(preset="criteo_kaggle", batch_size=64).batch_size == 64


@pytest.mark.parametrize(("sparse", "dense", "width"), [(3, 2, 4 + 6), (3, 0, 3), (0, 2, 4), (1, 2, 4 + 1)])
def test_the_top_reads_the_bottom_and_every_pair(sparse: int, dense: int, width: int) -> None:
    data = examples(sparse, dense)
    network = DlrmTask(DlrmConfig(dimension=4, bottom=(5,), top=(7,)), data).network()
    assert widths(network.top)[0] == (width, 7)
    out = network(torch.from_numpy(data.sparse), torch.from_numpy(data.dense))
    assert out.shape == (20, 1) and out.dtype == torch.float32


def test_what_cannot_interact_is_refused() -> None:
    with pytest.raises(TooLittleData, match="nothing interacts"):
        DlrmTask(DlrmConfig(), examples(1, 0)).network()


def test_the_interactions_are_the_dot_products_of_each_pair() -> None:
    data = examples(3, 2)
    network = DlrmTask(DlrmConfig(dimension=4, bottom=(5,), top=()), data).network().eval()
    sparse, dense = torch.from_numpy(data.sparse), torch.from_numpy(data.dense)
    bottom = network.bottom(((dense - network.dense_mean_F) / network.dense_spread_F).clamp(-10, 10))
    vectors = [bottom, *network.tables(sparse).unbind(dim=1)]
    products = [(vectors[i] * vectors[j]).sum(dim=1) for i in range(4) for j in range(i)]
    wanted = network.top(torch.cat([bottom, torch.stack(products, dim=1)], dim=1)) + network.mean_W
    assert torch.allclose(network(sparse, dense), wanted, atol=1e-6)


@pytest.mark.parametrize(("sparse", "dense"), [(3, 2), (3, 0), (0, 2)])
@pytest.mark.parametrize("labels", [1, 2])
def test_deepfm_is_the_machine_the_perceptron_and_the_linear_part(
    sparse: int, dense: int, labels: int
) -> None:
    data = examples(sparse, dense, labels=labels)
    config = DlrmConfig(interaction="fm", dimension=4, top=(7,))
    network = DlrmTask(config, data).network().eval()
    assert widths(network.top)[0] == ((sparse + dense) * 4, 7)
    codes, numbers = torch.from_numpy(data.sparse), torch.from_numpy(data.dense)
    normal = ((numbers - network.dense_mean_F) / network.dense_spread_F).clamp(-10, 10)
    fields = [normal[:, [n]] * network.machine.vectors_FD[n] for n in range(dense)]
    fields += network.tables(codes).unbind(dim=1) if sparse else []
    pairs = sum(fields[i] * fields[j] for i in range(len(fields)) for j in range(i))
    wanted = network.top(torch.cat(fields, dim=1)) + pairs.sum(dim=1, keepdim=True) + network.mean_W
    assert torch.allclose(network(codes, numbers), wanted, atol=1e-5)


def test_the_preset_of_deepfm_is_that_of_its_paper() -> None:
    network = DlrmTask(DlrmConfig(preset="deepfm"), examples(26, 13)).network()
    assert widths(network.top) == [(390, 400), (400, 400), (400, 400), (400, 1)]
    assert network.bottom is None and network.linear_tables is not None
    with pytest.raises(ValueError, match=r'bottom = .* it needs interaction = "dot"'):
        DlrmConfig(preset="deepfm", bottom=(8,))


def test_dense_features_are_normalised_by_the_training_rows_and_the_network_keeps_how() -> None:
    data = examples(2, 3)
    train = data.dense[data.rows("train")]
    state = DlrmTask(DlrmConfig(), data).network().state_dict()
    assert state["dense_mean_F"].numpy() == pytest.approx(train.mean(axis=0), rel=1e-5)
    assert state["dense_spread_F"].numpy() == pytest.approx(train.std(axis=0), rel=1e-4)


def test_a_constant_dense_feature_says_nothing_and_breaks_nothing() -> None:
    data = examples(2, 2)
    data = replace(data, dense=np.full_like(data.dense, 7))
    network = DlrmTask(DlrmConfig(), data).network()
    assert torch.isfinite(network(torch.from_numpy(data.sparse), torch.from_numpy(data.dense))).all()


def test_before_training_the_score_is_about_the_share_of_positives() -> None:
    data = replace(examples(3, 2, rows=300), labels=(np.arange(300) % 10 == 0).astype(np.float32)[:, None])
    network = DlrmTask(DlrmConfig(top=()), data).network()
    assert float(network.mean_W) == pytest.approx(np.log(0.1 / 0.9), abs=0.02)


def test_rare_values_are_unknown() -> None:
    data = examples(2, 1, rows=40)
    data = replace(
        data, sparse=np.where(np.arange(40)[:, None] == 0, 3, data.sparse % 3), parts=np.zeros(40, np.uint8)
    )
    network = DlrmTask(DlrmConfig(min_count=2, dimension=4), data).network().eval()
    dense = torch.zeros(1, 1)
    assert torch.equal(network(torch.tensor([[3, 1]]), dense), network(torch.tensor([[0, 1]]), dense))
    assert not torch.equal(network(torch.tensor([[2, 1]]), dense), network(torch.tensor([[0, 1]]), dense))
    assert len(network.tables.weight) == 6


def test_an_epoch_names_every_training_row_once_and_a_batch_is_pure() -> None:
    data = examples(3, 2, rows=31)
    task, other = (DlrmTask(DlrmConfig(batch_size=4, unknown=0.3), data) for _ in range(2))
    rows = np.concatenate([task.batch(1, step)["rows"].numpy() for step in range(task.steps)])
    assert sorted(rows.tolist()) == data.rows("train").tolist()
    other.batch(5, 2)
    for name, tensor in task.batch(1, 2).items():
        assert torch.equal(tensor, other.batch(1, 2)[name])
    assert not np.array_equal(rows[:4], task.batch(2, 0)["rows"].numpy())


def test_a_share_of_the_values_is_taken_for_unknown() -> None:
    data = replace(examples(3, 1, rows=3000), sparse=np.ones((3000, 3), np.int64))
    whole = DlrmTask(DlrmConfig(batch_size=1000), data).batch(0, 0)["sparse"]
    drawn = DlrmTask(DlrmConfig(batch_size=1000, unknown=0.3), data).batch(0, 0)["sparse"]
    assert (whole == 1).all()
    assert float((drawn == 0).float().mean()) == pytest.approx(0.3, abs=0.04)


def test_the_loss_of_each_objective_by_hand() -> None:
    data = examples(2, 1, rows=6, labels=3)
    labels = np.array([[1, 10, 2], [0, 14, 0], [np.nan, np.nan, 1]] * 2, np.float32)
    data = replace(data, labels=labels, parts=np.zeros(6, np.uint8))
    objectives = (
        Objective("l0"),
        Objective("l1", "regression"),
        Objective("l2", "classes", (0.0, 1.0, 2.0)),
    )
    task = DlrmTask(DlrmConfig(objectives=objectives, weights={"l1": 0.5}), data)
    out = torch.tensor([[0.5, 11.0, 0.0, 0.0, 1.0]] * 6)
    losses = task.losses(out, torch.from_numpy(labels))
    click = (np.log1p(np.exp(-0.5)) + np.log1p(np.exp(0.5))) / 2
    assert float(losses["l0"]) == pytest.approx(click, rel=1e-5)
    assert float(losses["l1"]) == pytest.approx(((1 / 2) ** 2 + (3 / 2) ** 2) / 2, rel=1e-5)
    total = np.log(2 + np.e)
    assert float(losses["l2"]) == pytest.approx((3 * total - 1) / 3, rel=1e-5)
    assert float(task.network().mean_W[1]) == pytest.approx(12)


def test_a_label_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no label 'buy'.*l0"):
        DlrmTask(DlrmConfig(objectives=(Objective("buy"),)), examples(2, 1))


def test_too_little_data_is_said() -> None:
    data = examples(2, 1)
    with pytest.raises(TooLittleData, match="train"):
        DlrmTask(DlrmConfig(), replace(data, parts=np.ones(20, np.uint8)))
    with pytest.raises(TooLittleData, match="l0"):
        DlrmTask(DlrmConfig(), replace(data, labels=np.full((20, 1), np.nan, np.float32)))


def trained(clicks: Clicks, run: Path, **settings: Any) -> tuple[DlrmTask, Trained[DlrmConfig]]:
    config = DlrmConfig(**{**QUICK, **settings})
    task = RECIPE.bind(config, clicks.examples)
    return task, fit(RECIPE, task, config, run)


@pytest.fixture(scope="module")
def clicks() -> Clicks:
    return draw_clicks(40_000, cardinalities=FEW, main=0.6, interactions=1.5)


@pytest.fixture(scope="module")
def ranker(clicks: Clicks, tmp_path_factory: pytest.TempPathFactory) -> tuple[DlrmTask, Trained[DlrmConfig]]:
    return trained(clicks, tmp_path_factory.mktemp("run"))


def test_it_finds_the_interactions_that_a_linear_model_cannot(
    clicks: Clicks, ranker: tuple[DlrmTask, Trained[DlrmConfig]]
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import OneHotEncoder

    data = clicks.examples
    train, test = data.rows("train"), data.rows("test")
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(data.sparse[train])
    inputs = [np.hstack([encoder.transform(data.sparse[rows]), data.dense[rows]]) for rows in (train, test)]
    linear = LogisticRegression(max_iter=200).fit(inputs[0], data.labels[train, 0])
    floor = auroc(linear.decision_function(inputs[1]), data.labels[test, 0] > 0)
    task, found = ranker
    value = task.measure(found.network, "test")["auroc"]
    assert floor + 0.1 < value < clicks.best_auroc()


def test_deepfm_learns_from_clicks_and_is_served_as_it_was_trained(clicks: Clicks, tmp_path: Path) -> None:
    some = np.arange(0, 40_000, 2)
    half = Clicks(clicks.examples.take(some), clicks.truth[some])
    task, found = trained(half, tmp_path, interaction="fm", bottom=(512, 256, 64))
    assert found.metrics["auroc"] > found.metrics["before.auroc"] + 0.08
    data = half.examples
    source = Source(sizes=dict(zip(data.sparse_names, data.sizes, strict=True)))
    scorer: Any = open_scorer(export_behaviour(RECIPE, found, source, tmp_path / "exports"))
    served = scorer.score_rows(data.sparse[:50], data.dense[:50])
    logits = torch.from_numpy(task.predict(found.network, np.arange(50)))
    assert served == pytest.approx(logits.numpy(), abs=1e-4)


def test_auroc_is_told_before_training_after_each_epoch_and_on_test(
    ranker: tuple[DlrmTask, Trained[DlrmConfig]],
) -> None:
    task, found = ranker
    assert len(found.history) == QUICK["epochs"]
    assert {round(epoch["before.auroc"], 9) for epoch in found.history} == {
        round(found.metrics["before.auroc"], 9)
    }
    assert found.metrics["before.auroc"] == pytest.approx(0.5, abs=0.06)
    assert found.metrics["auroc"] > 0.7
    torch.manual_seed(task.config.seed)
    fresh = task.network().eval()
    assert task.measure(fresh, "validation")["auroc"] == pytest.approx(found.metrics["before.auroc"])


def test_a_number_is_learned_in_its_own_units(tmp_path: Path) -> None:
    clicks = draw_clicks(20_000, target="regression", cardinalities=FEW)
    shifted = replace(clicks.examples, labels=clicks.examples.labels * 30 + 500)
    task, found = trained(
        Clicks(shifted, clicks.truth), tmp_path, objectives=(Objective("value", "regression"),), epochs=4
    )
    assert 0.2 < found.metrics["r2"] < 0.52
    predicted = task.predict(found.network, shifted.rows("test"))[:, 0]
    assert predicted.mean() == pytest.approx(shifted.labels.mean(), abs=5)


def test_classes_are_learned_and_their_expected_value_orders(tmp_path: Path) -> None:
    clicks = draw_clicks(20_000, target="classes", cardinalities=FEW)
    objective = Objective("level", "classes", (0.0, 1.0, 2.0, 3.0))
    task, found = trained(clicks, tmp_path, objectives=(objective,), epochs=4)
    assert task.predict(found.network, np.arange(5)).shape == (5, 4)
    chances = np.bincount(clicks.examples.labels[:, 0].astype(int)) / len(clicks.examples)
    assert found.metrics["log_likelihood"] > float((chances * np.log(chances)).sum()) + 0.01
    assert found.metrics["auroc"] > 0.65


def test_several_objectives_are_learned_at_once_and_their_agreement_measured(tmp_path: Path) -> None:
    clicks = draw_clicks(20_000, target="several", cardinalities=FEW)
    _, found = trained(clicks, tmp_path, epochs=4)
    assert found.metrics["auroc"] > 0.65 and found.metrics["buy.auroc"] > 0.65
    assert -1 < found.metrics["agreement.click.buy"] < 1


def test_queries_have_an_auroc_of_their_own(tmp_path: Path) -> None:
    clicks = draw_clicks(6_000, cardinalities=FEW)
    grouped = replace(clicks.examples, groups=np.arange(6000) // 10)
    task, found = trained(Clicks(grouped, clicks.truth), tmp_path, epochs=2, metric="auroc_by_query")
    assert task.metric == "auroc_by_query" and 0.4 < found.metrics["auroc_by_query"] < 1


def test_mapped_arrays_train_like_those_in_memory(clicks: Clicks, tmp_path: Path) -> None:
    small = clicks.examples.take(np.arange(0, 40_000, 20))
    small.save(tmp_path / "examples")
    runs = []
    for name, data in (("memory", small), ("mapped", Examples.open(tmp_path / "examples"))):
        task = DlrmTask(DlrmConfig(**{**QUICK, "epochs": 1}), data)
        runs.append(task.predict(fit(RECIPE, task, task.config, tmp_path / name).network, np.arange(50)))
    assert np.array_equal(runs[0], runs[1])


def test_the_linear_part_starts_at_nothing_and_adds_a_weight_for_each_value() -> None:
    data = examples(3, 2)
    inputs = torch.from_numpy(data.sparse), torch.from_numpy(data.dense)
    torch.manual_seed(1)
    plain = DlrmTask(DlrmConfig(top=(5,), linear=False), data).network().eval()
    torch.manual_seed(1)
    network = DlrmTask(DlrmConfig(top=(5,)), data).network().eval()
    assert torch.allclose(network(*inputs), plain(*inputs))
    with torch.no_grad():
        network.linear_tables.weight[4 + 2] = 0.25  # value 2 of the second feature
        network.linear_dense.weight[0, 1] = 2.0
    added = (network(*inputs) - plain(*inputs))[:, 0].detach().numpy()
    train = data.dense[data.rows("train"), 1]
    number = (data.dense[:, 1] - train.mean()) / train.std()
    assert added == pytest.approx(0.25 * (data.sparse[:, 1] == 2) + 2 * number, abs=1e-4)


def test_the_linear_part_is_trained_too(tmp_path: Path) -> None:
    clicks = draw_clicks(4_000, cardinalities=FEW)
    _, found = trained(clicks, tmp_path, epochs=1)
    assert (found.network.linear_tables.weight != 0).any() and (found.network.linear_dense.weight != 0).all()


def test_the_network_says_what_it_is_fed() -> None:
    network = DlrmTask(DlrmConfig(), examples(2, 3)).network()
    assert isinstance(network, Dlrm)
    assert network.sparse_inputs == ("s0", "s1") and network.dense_inputs == ("d0", "d1", "d2")
    assert network.objectives == (Objective("l0"),)


def test_a_shop_whose_items_have_no_facts_has_a_ranker_of_numbers_alone(tmp_path: Path) -> None:
    """No sparse input at all: such a training once ended with a traceback, at its export."""
    data = examples(0, 3, rows=60)
    config = DlrmConfig(**{**QUICK, "epochs": 1, "batch_size": 20})
    found = fit(RECIPE, RECIPE.bind(config, data), config, tmp_path / "run")
    scorer: Any = open_scorer(export_behaviour(RECIPE, found, Source(), tmp_path / "exports"))
    assert found.network is not None
    with torch.inference_mode():
        expected = found.network(torch.from_numpy(data.sparse), torch.from_numpy(data.dense))[:, 0].numpy()
    assert np.ptp(expected) > 0
    assert scorer.score_rows(data.sparse, data.dense)[:, 0] == pytest.approx(expected, abs=1e-4)
