from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from etalage.config import validated
from etalage.errors import ConfigError, TooLittleData
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.encoder import Features
from etalage.features.stream import VectorStream
from etalage.features.vocabulary import Vocabulary
from etalage.models.dssm import DSSM, RECIPE, DSSMConfig, DSSMTask, VectorRows, load_weights
from etalage.models.recipe import Trained
from etalage.runtime.aligning import align
from etalage.runtime.opening import open_scorer
from etalage.training.behaviour_export import export_behaviour
from etalage.training.export_source import Source
from etalage.training.loop import fit

pytestmark = pytest.mark.traces

VIEW, BUY = 1, 2
WIDTH = 8
UNKNOWN_ITEM, LAST = 5, 40
"""Item row 5 has a vector of zeros; row 40 is the last one."""


def shop(shoppers: int = 60, acts: int = 24, seed: int = 3) -> BehaviourSet:
    """Three tastes of unequal size, told by the items' vectors; every third act is a purchase."""
    rng = np.random.default_rng(seed)
    taste_of = np.repeat([0, 1, 2], [20, 13, 7])
    centres = rng.normal(size=(3, WIDTH))
    vectors = np.zeros((LAST + 1, WIDTH), np.float32)
    vectors[1:] = centres[taste_of] + 0.3 * rng.normal(size=(LAST, WIDTH))
    vectors[UNKNOWN_ITEM] = 0
    users = np.repeat(np.arange(1, shoppers + 1), acts)
    items = np.concatenate([rng.choice(np.flatnonzero(taste_of == u % 3) + 1, acts) for u in range(shoppers)])
    place = np.tile(np.arange(acts), shoppers)
    kinds = np.where(place % 3 == 2, BUY, VIEW)
    late = place >= acts - 4
    columns = {"users": users, "items": items, "kinds": kinds, "times": place * 10}
    train, validation = (
        Interactions.sorted(**{name: column[mask] for name, column in columns.items()})
        for mask in (~late, late)
    )
    return BehaviourSet(
        Vocabulary([f"u{n:03d}" for n in range(shoppers)]),
        Vocabulary([f"i{n:03d}" for n in range(LAST)]),
        ("view", "buy"),
        {"train": train, "validation": validation},
        item_features=Features().plus("item2vec", vectors),
        facts={"repeat": True},
    )


def config(**settings: Any) -> DSSMConfig:
    quick: dict[str, Any] = {
        "layers": (12,),
        "dimension": 6,
        "epochs": 12,
        "batch_size": 128,
        "learning_rate": 0.01,
    }
    if settings.get("loss", "softmax") == "softmax" and settings.get("preset") != "original":
        quick["shared_negatives"] = 10
    return DSSMConfig(**{**quick, **settings})


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def data() -> BehaviourSet:
    return shop()


@pytest.fixture(scope="module", params=["softmax", "original"])
def trained(
    request: pytest.FixtureRequest, data: BehaviourSet, tmp_path_factory: pytest.TempPathFactory
) -> Trained[DSSMConfig]:
    original = {"preset": "original", "layers": (), "dimension": 16, "epochs": 20}
    chosen = config(**(original if request.param == "original" else {}))
    return fit(RECIPE, RECIPE.bind(chosen, data), chosen, tmp_path_factory.mktemp("run"))


def saved(network: torch.nn.Module, folder: Path) -> str:
    file = folder / "weights.safetensors"
    save_file(network.state_dict(), file)
    return str(file)


# -- the network -------------------------------------------------------------------------------


def test_the_original_is_two_dense_relu_layers_a_product_and_a_dense_one() -> None:
    network = DSSM(DSSMConfig(preset="original"), 128)
    assert [type(layer).__name__ for layer in network.query_tower] == ["Linear", "ReLU"]
    assert {name: tuple(weight.shape) for name, weight in network.state_dict().items()} == {
        "query_tower.0.weight": (64, 128),
        "query_tower.0.bias": (64,),
        "item_tower.0.weight": (64, 128),
        "item_tower.0.bias": (64,),
        "head.weight": (1, 64),
        "head.bias": (1,),
    }
    means, given = torch.randn(300, 128), torch.randn(300, 128)
    weights = network.state_dict()
    left, right = (
        F.relu(F.linear(given_to, weights[f"{tower}.0.weight"], weights[f"{tower}.0.bias"]))
        for given_to, tower in ((means, "query_tower"), (given, "item_tower"))
    )
    expected = (left * right) @ network.head.weight[0] + network.head.bias
    torch.testing.assert_close(network(means, given), expected)
    assert (expected < network.head.bias).any() and (left >= 0).all()
    torch.testing.assert_close(network.user_vectors(means), left)
    torch.testing.assert_close(network.item_vectors(given), right)


@pytest.mark.parametrize("settings", [{"preset": "original"}, {}, {"layers": ()}, {"loss": "bce"}])
def test_a_search_by_inner_product_returns_the_order_of_the_trained_score(settings: dict[str, Any]) -> None:
    network = DSSM(DSSMConfig(**settings), WIDTH).eval()
    with torch.no_grad():
        network.head.weight.normal_()
        network.head.bias.fill_(3.0)
    history, given = torch.randn(4, 3, WIDTH), torch.randn(50, WIDTH)
    query = network.embed_query(history, torch.ones(4, 3, dtype=torch.bool))
    found = query @ network.embed_item(given).T
    means = history.mean(dim=1)
    trained = torch.stack([network(mean.expand(50, -1), given) for mean in means])
    assert torch.equal(found.argsort(dim=1), trained.argsort(dim=1))
    torch.testing.assert_close(found + 3.0, trained)
    plain = query @ network.item_vectors(given).T
    assert not torch.equal(plain.argsort(dim=1), trained.argsort(dim=1))


def test_a_shopper_is_the_mean_of_the_known_vectors_alone() -> None:
    network = DSSM(config(), WIDTH)
    two = torch.randn(1, 2, WIDTH)
    padded = torch.cat([torch.randn(1, 1, WIDTH), torch.zeros(1, 1, WIDTH), two], dim=1)
    mask = torch.tensor([[False, True, True, True]])  # the second is an act on an item without a vector
    both = torch.ones(1, 2, dtype=torch.bool)
    torch.testing.assert_close(network.embed_query(padded, mask), network.embed_query(two, both))
    nobody = network.embed_query(torch.zeros(1, 4, WIDTH), torch.zeros(1, 4, dtype=torch.bool))
    assert nobody.shape == (1, 6) and bool(nobody.isfinite().all())


# -- what it learns ----------------------------------------------------------------------------


def test_it_learns_and_beats_popularity(trained: Trained[DSSMConfig], data: BehaviourSet) -> None:
    assert trained.history[-1]["loss"] < trained.history[0]["loss"]
    counts = np.bincount(data.part("train").items, minlength=LAST + 1)
    popular = np.argsort(-counts)[:20]
    wanted = data.queries("validation")[1]
    floor = np.mean([np.isin(items, popular).mean() for items in wanted])
    assert trained.metrics["recall_at_20"] > floor + 0.1
    assert trained.metrics["loss_gain"] == -trained.metrics["validation_loss"]
    if trained.config.loss == "bce":
        assert trained.metrics["auroc"] > 0.7 and trained.metrics["accuracy"] > 0.8


def test_what_is_served_scores_in_the_order_of_the_trained_score(
    trained: Trained[DSSMConfig], data: BehaviourSet, tmp_path: Path
) -> None:
    scorer = open_scorer(export_behaviour(RECIPE, trained, Source.of(data), tmp_path))
    queries, _ = data.queries("validation")
    network = trained.network
    assert isinstance(network, DSSM)
    given = torch.from_numpy(data.item_features.dense["item2vec"])
    for query in (0, 7):
        block = queries.block(query, query + 1)
        rows = block.items[-100:]
        mean = given[torch.from_numpy(rows[rows != UNKNOWN_ITEM])].mean(dim=0)
        with torch.inference_mode():
            expected = network(mean.expand(LAST + 1, -1), given) - network.head.bias
        expected = torch.where((given != 0).any(dim=1), expected, 0.0)  # nothing is known, so nothing is said
        np.testing.assert_allclose(scorer.scores(block)[0, 1:], expected[1:].numpy(), atol=2e-4)
    stranger = replace(queries.block(0, 1), items=np.zeros(0, np.int64), starts=np.zeros(2, np.int64))
    assert np.isfinite(scorer.scores(stranger)[0, [1, LAST]]).all()


def test_training_stops_when_the_validation_loss_no_longer_falls_and_keeps_the_best(tmp_path: Path) -> None:
    small = shop(shoppers=6)
    chosen = config(epochs=200, patience=3, learning_rate=0.1)
    trained = fit(RECIPE, RECIPE.bind(chosen, small), chosen, tmp_path)
    losses = [epoch["validation_loss"] for epoch in trained.history]
    assert len(losses) < 200 and int(np.argmin(losses)) == len(losses) - 1 - 3
    assert trained.metrics["validation_loss"] == min(losses)
    task = RECIPE.bind(chosen, small)
    with torch.inference_mode():
        again = task.validate(trained.network)
    assert again["validation_loss"] == pytest.approx(min(losses), rel=1e-6)


@pytest.mark.parametrize(("loss", "of_each"), [("softmax", 1), ("bce", 4)])
def test_the_validation_loss_is_of_a_bounded_number_of_pairs(
    data: BehaviourSet, loss: str, of_each: int
) -> None:
    drawn = {"negatives": 3} if loss == "bce" else {}
    task = RECIPE.bind(config(loss=loss, validate_pairs=17, **drawn), data)
    network, asked = task.network(), []
    network.query_tower.register_forward_pre_hook(lambda _, given: asked.append(len(given[0])))
    with torch.inference_mode():
        task.validate(network)
    assert asked == [len(data.queries("validation")[0]), 17 * of_each]


# -- batches -----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_an_epoch_has_every_hit_once_and_its_last_small_batch(data: BehaviourSet, loss: str) -> None:
    task = RECIPE.bind(config(loss=loss, batch_size=7), data)
    batches = [task.batch(2, step)["rows"].numpy() for step in range(task.steps)]
    train = data.part("train")
    wanted = np.flatnonzero(train.items != UNKNOWN_ITEM)
    assert sorted(np.concatenate(batches)) == wanted.tolist()
    assert len(wanted) % 7 and len(batches[-1]) == len(wanted) % 7


def test_a_batch_is_decided_by_seed_epoch_and_step_alone(data: BehaviourSet) -> None:
    for loss in ("softmax", "bce"):
        task, again = (RECIPE.bind(config(loss=loss), data) for _ in range(2))
        again.batch(4, 1)
        first, second = task.batch(1, 2), again.batch(1, 2)
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert not torch.equal(first["rows"], task.batch(2, 2)["rows"])


def test_a_hit_is_asked_for_by_what_came_before_its_moment(data: BehaviourSet) -> None:
    users, items = np.array([1, 1, 1, 1, 2]), np.array([10, 11, 12, 13, 14])
    times = np.array([5, 6, 6, 7, 5])
    train = Interactions.sorted(users, items, times=times)
    batch = RECIPE.bind(config(), data.with_parts(train=train)).batch(0, 0)
    given = torch.from_numpy(data.item_features.dense["item2vec"])
    histories = {0: [], 1: [10], 2: [10], 3: [10, 11, 12], 4: []}
    for row, mean in zip(batch["rows"].tolist(), batch["means"], strict=True):
        known = histories[row]
        torch.testing.assert_close(mean, given[known].mean(dim=0) if known else torch.zeros(WIDTH))
    short = RECIPE.bind(config(history=2), data.with_parts(train=train)).batch(0, 0)
    at = short["rows"].tolist().index(3)
    torch.testing.assert_close(short["means"][at], given[[11, 12]].mean(dim=0))
    timeless = RECIPE.bind(config(), data.with_parts(train=Interactions.sorted(users, items))).batch(0, 0)
    at = timeless["rows"].tolist().index(2)
    torch.testing.assert_close(timeless["means"][at], given[[10, 11]].mean(dim=0))


def test_hits_are_of_the_target_kinds_and_histories_of_all(data: BehaviourSet) -> None:
    task: DSSMTask = RECIPE.bind(config(), replace(data, targets=(BUY,)))
    train = data.part("train")
    assert (train.kinds[task.rows_R] == BUY).all() and len(task.acts_M) == len(train)
    assert set(task.ranked) == set(train.items[train.kinds == BUY]) - {UNKNOWN_ITEM}
    given: DSSMTask = RECIPE.bind(config(targets=("buy",)), data)
    assert (given.rows_R == task.rows_R).all() and given.data.targets == (BUY,)
    with pytest.raises(ConfigError, match="there are: view, buy"):
        RECIPE.bind(config(targets=("lend",)), data)
    batch = task.batch(0, 0)
    lengths = task.end_R - task.begin_R
    assert (
        lengths.max() == 17 and lengths.min() == 2
    )  # views and purchases before the last, the first purchase
    assert batch["candidates"].shape[1] == WIDTH


def test_negatives_are_nothing_that_the_shopper_took_and_explicit_ones_stay_negative(
    data: BehaviourSet,
) -> None:
    train = data.part("train")
    labels = np.where(np.arange(len(train)) % 5 == 0, 0, 1).astype(np.float32)
    judged = data.with_parts(train=replace(train, labels=labels))
    task = RECIPE.bind(config(loss="bce", negatives=3, batch_size=100), judged)
    batch = task.batch(0, 1)
    given = data.item_features.dense["item2vec"]
    taken = judged.part("train").positive
    for row, vectors, marks in zip(batch["rows"].tolist(), batch["given"], batch["labels"], strict=True):
        assert marks.tolist() == [labels[row], 0, 0, 0]
        own = set(taken.items[taken.users == train.users[row]])
        for vector in vectors[1:].numpy():
            assert int(np.flatnonzero((given == vector).all(axis=1))[0]) not in own
    assert 0 in batch["labels"][:, 0].tolist()


def test_the_softmax_is_corrected_by_how_often_an_item_is_a_candidate(data: BehaviourSet) -> None:
    task = RECIPE.bind(config(batch_size=16, shared_negatives=6), data)
    given = data.item_features.dense["item2vec"]
    seen = np.zeros(LAST + 1)
    told = np.full(LAST + 1, np.nan)
    rounds = 0
    for epoch in range(25):
        for step in range(task.steps - 1):  # the last is smaller, and says so
            batch = task.batch(epoch, step)
            rows = [int(np.flatnonzero((given == v).all(axis=1))[0]) for v in batch["candidates"].numpy()]
            seen[rows] += 1
            told[rows] = np.exp(batch["log_probability"].numpy())
            rounds += 1
    known = [row for row in range(1, LAST + 1) if row != UNKNOWN_ITEM]
    np.testing.assert_allclose(seen[known] / rounds, told[known], atol=0.05)
    assert told[known].max() > 2 * told[known].min()


# -- transfer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze", ["none", "item", "both"])
def test_tuning_starts_from_given_weights_and_leaves_what_is_frozen(
    data: BehaviourSet, tmp_path: Path, freeze: str
) -> None:
    before = DSSM(config(), WIDTH)
    chosen = config(pretrained=saved(before, tmp_path), freeze=freeze, epochs=2)
    task = RECIPE.bind(chosen, data)
    given = torch.randn(3, WIDTH)
    torch.testing.assert_close(task.network().embed_item(given), before.embed_item(given))
    after = fit(RECIPE, task, chosen, tmp_path / "run").network
    assert after is not None
    moved = {n for n, weight in after.state_dict().items() if not torch.equal(weight, before.state_dict()[n])}
    towers = {name.split(".")[0] for name in moved}
    expected = {
        "none": {"query_tower", "item_tower", "head"},
        "item": {"query_tower", "head"},
        "both": {"head"},
    }
    assert towers == expected[freeze]


def test_what_was_learned_elsewhere_is_ahead_from_the_start(data: BehaviourSet, tmp_path: Path) -> None:
    rich = config(epochs=8)
    learned = fit(RECIPE, RECIPE.bind(rich, data), rich, tmp_path / "rich").network
    assert learned is not None
    few = shop(shoppers=5)
    few = replace(few, item_features=data.item_features, targets=(BUY,))
    task = RECIPE.bind(config(), few)
    tuned = RECIPE.bind(config(pretrained=saved(learned, tmp_path)), few)
    with torch.inference_mode():
        ahead, behind = tuned.validate(tuned.network()), task.validate(task.network().eval())
    assert ahead["validation_loss"] < behind["validation_loss"] - 0.5


def test_a_checkpoint_of_a_run_is_a_place_to_start_from(data: BehaviourSet, tmp_path: Path) -> None:
    chosen = config(epochs=3)
    trained = fit(RECIPE, RECIPE.bind(chosen, data), chosen, tmp_path)
    newest = max((tmp_path / "checkpoints").glob("step-*"))
    fresh = DSSM(chosen, WIDTH)
    load_weights(fresh, newest)
    assert trained.network is not None
    for name, weight in trained.network.state_dict().items():
        torch.testing.assert_close(fresh.state_dict()[name], weight)


def test_an_export_is_a_place_to_start_from_and_its_bundle_needs_no_such_weights(
    trained: Trained[DSSMConfig], data: BehaviourSet, tmp_path: Path
) -> None:
    folder = export_behaviour(RECIPE, trained, Source.of(data), tmp_path)
    start = RECIPE.bind(trained.config.model_copy(update={"pretrained": str(folder)}), data).network()
    assert trained.network is not None
    for name, weight in trained.network.state_dict().items():
        torch.testing.assert_close(start.state_dict()[name], weight)
    items = pa.table({"item_id": data.items.ids})
    align(folder, items, tmp_path / "placed")
    assert not (tmp_path / "placed" / "weights.safetensors").exists()
    assert (folder / "weights.safetensors").stat().st_size > 0


def test_a_folder_without_weights_says_which_folders_have_some(data: BehaviourSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the folder of an export \(exports/dssm/0001"):
        RECIPE.bind(config(pretrained=str(tmp_path)), data).network()


def test_weights_that_do_not_fit_or_are_none_are_refused(data: BehaviourSet, tmp_path: Path) -> None:
    file = saved(DSSM(config(dimension=7), WIDTH), tmp_path)
    (tmp_path / "text.safetensors").write_bytes(b"no tensors")
    for path, says in (
        (file, "another network"),
        (tmp_path / "text.safetensors", "safetensors"),
        (tmp_path / "no", "no file"),
    ):
        with pytest.raises(ConfigError, match=says):
            RECIPE.bind(config(pretrained=str(path)), data).network()


# -- refusals ----------------------------------------------------------------------------------


def test_settings_that_cannot_work_are_refused() -> None:
    for settings, says in (
        ({"epochs": 10, "patience": 10}, "patience"),
        ({"freeze": "item"}, "pretrained"),
        ({"preset": "ancient"}, "preset"),
    ):
        with pytest.raises(ConfigError, match=says):
            validated(DSSMConfig, settings, where="[models.dssm]")
    assert DSSMConfig(preset="original").patience == 10 < DSSMConfig(preset="original").epochs
    assert DSSMConfig(preset="original", dimension=32).dimension == 32


def test_items_without_vectors_are_refused(data: BehaviourSet) -> None:
    with pytest.raises(ConfigError, match="`etalage train item2vec` first"):
        RECIPE.bind(config(), replace(data, item_features=Features()))
    nothing = Features().plus("item2vec", np.zeros((LAST + 1, WIDTH)))
    for broken in (data.with_parts(train=Interactions.none()), replace(data, item_features=nothing)):
        with pytest.raises(TooLittleData, match="to learn from"):
            RECIPE.bind(config(), broken)


# -- rows of label, vector, vector ---------------------------------------------------------------


def rows_file(file: Path, rows: int, seed: int, width: int = WIDTH) -> Path:
    """A row is liked where the third numbers of both vectors have one sign; three decimals a number."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, 2 * width)).round(3)
    labels = vectors[:, 2] * vectors[:, width + 2] > 0
    lines = (",".join([str(int(label)), *map(str, row)]) for label, row in zip(labels, vectors, strict=True))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_it_learns_from_a_file_of_rows_and_a_shop_starts_from_that(
    tmp_path: Path, data: BehaviourSet
) -> None:
    chosen = config(preset="original", layers=(), dimension=16, epochs=15, patience=5)
    train = VectorStream(rows_file(tmp_path / "train.csv", 1500, seed=0), 64, seed=1)
    rows = VectorRows(train, VectorStream(rows_file(tmp_path / "held.csv", 401, seed=1), 64))
    task = RECIPE.bind(chosen, rows)
    assert train.count == 1500 and task.steps == 24
    assert [len(task.batch(0, step)["labels"]) for step in (0, 23)] == [64, 1500 - 23 * 64]
    trained = fit(RECIPE, task, chosen, tmp_path / "run")
    assert trained.metrics["accuracy"] > 0.8 and trained.metrics["auroc"] > 0.9
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*"))
    start = RECIPE.bind(chosen.model_copy(update={"pretrained": str(newest)}), data).network()
    assert trained.network is not None
    for name, weight in trained.network.state_dict().items():
        torch.testing.assert_close(start.state_dict()[name], weight)


def test_a_file_of_rows_without_validation_rows_trains_too(tmp_path: Path) -> None:
    chosen = config(preset="original", epochs=2)
    rows = VectorRows(VectorStream(rows_file(tmp_path / "train.csv", 70, seed=0), 32))
    trained = fit(RECIPE, RECIPE.bind(chosen, rows), chosen, tmp_path / "run")
    assert len(trained.history) == 2 and np.isfinite(trained.history[-1]["loss"])


def test_rows_of_another_shape_or_loss_are_refused(tmp_path: Path) -> None:
    train = VectorStream(rows_file(tmp_path / "train.csv", 9, seed=0), 4)
    other = VectorStream(rows_file(tmp_path / "other.csv", 9, seed=0, width=5), 4)
    with pytest.raises(ConfigError, match="one size"):
        RECIPE.bind(config(preset="original"), VectorRows(train, other))
    with pytest.raises(ConfigError, match="bce"):
        RECIPE.bind(config(), VectorRows(train))
