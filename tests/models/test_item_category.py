"""What is this product: two phases, photos and titles that may be missing, weak and rare labels."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from etalage.errors import ConfigError, TooLittleData
from etalage.features.category_set import CategorySet
from etalage.models import item_category
from etalage.models.augmenting import Drawn
from etalage.models.item_category import RECIPE, ItemCategory, ItemCategoryConfig, ItemCategoryTask
from etalage.models.recipe import Trained
from etalage.training import optim
from etalage.training.loop import fit
from tests.category_sets import category_set, quick, title_of

SMALL = 48
"""Items where nothing needs to be learned well."""


def settings(**changes: Any) -> ItemCategoryConfig:
    return ItemCategoryConfig(**quick(**changes))


def bound(items: CategorySet | None = None, **changes: Any) -> ItemCategoryTask:
    task = RECIPE.bind(settings(**changes), items if items is not None else category_set(SMALL))
    assert isinstance(task, ItemCategoryTask)
    return task


def network_of(task: ItemCategoryTask, seed: int = 1) -> ItemCategory:
    torch.manual_seed(seed)
    network = task.network()
    assert isinstance(network, ItemCategory)
    return network


def fitted(task: ItemCategoryTask, run: Path) -> Trained[Any]:
    return fit(RECIPE, task, task.config, run)


def weights_of(network: nn.Module | None, prefix: str = "trunk.") -> dict[str, Tensor]:
    """With running means of batch normalisation."""
    assert network is not None
    return {name: tensor.clone() for name, tensor in network.state_dict().items() if name.startswith(prefix)}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def thrice(items: CategorySet) -> CategorySet:
    """Item n with n % 3 photos: none, one, or two, the second all black."""
    owners = np.repeat(np.arange(len(items)), np.arange(len(items)) % 3)
    pixels = items.pixels_PHWC[owners].copy()
    pixels[np.flatnonzero(np.diff(owners, prepend=-1) == 0)] = 0
    return replace(items, owners_P=owners, pixels_PHWC=pixels)


# -- two phases ----------------------------------------------------------------------------------


def test_the_backbone_stays_as_it_came_while_it_is_frozen(tmp_path: Path) -> None:
    task = bound(epochs=2, frozen_epochs=2, average=None, weight_decay=0.5)
    torch.manual_seed(task.config.seed)
    before = weights_of(task.network())
    trained = fitted(task, tmp_path)
    assert equal(weights_of(trained.network), before)
    assert len(before) > 20


def test_after_the_frozen_epochs_the_backbone_learns(tmp_path: Path) -> None:
    seen: dict[int, list[dict[str, Tensor]]] = {0: [], 1: []}

    class Watched(ItemCategoryTask):
        def validate(self, network: nn.Module) -> dict[str, float]:
            seen[self._plan[0]].append(weights_of(network))
            return super().validate(network)

    config = settings(epochs=2, frozen_epochs=1, average=None)
    torch.manual_seed(config.seed)
    before = weights_of(bound().network())
    fit(RECIPE, Watched(config, category_set(SMALL)), config, tmp_path)
    assert equal(seen[0][0], before)
    changed = [name for name, tensor in seen[1][0].items() if not torch.equal(tensor, before[name])]
    assert "trunk.network.0.0.weight" in changed and len(changed) == len(before)


def test_each_photo_goes_once_through_a_backbone_that_is_frozen(tmp_path: Path) -> None:
    """In three epochs of frozen training, validation included."""
    items = category_set(SMALL)
    task = bound(items, epochs=3, frozen_epochs=3)
    looked: list[int] = []

    class Counting(ItemCategoryTask):
        def network(self) -> nn.Module:
            made = super().network()
            made.trunk.network.register_forward_hook(lambda _, given, __: looked.append(len(given[0])))
            return made

    fit(RECIPE, Counting(task.config, items), task.config, tmp_path)
    assert sum(looked) == SMALL


@pytest.mark.parametrize("norms", ["train", "keep"])
def test_the_stages_that_are_kept_never_change(norms: str, tmp_path: Path) -> None:
    task = bound(epochs=2, keep_stages=3, norms=norms, average=None)
    before = weights_of(network_of(task, task.config.seed))
    after = weights_of(fitted(task, tmp_path).network)
    kept = [name for name in before if int(name.split(".")[2]) < 3]
    assert kept and all(torch.equal(before[name], after[name]) for name in kept)
    means = [name for name in before if name not in kept and name.endswith("running_mean")]
    others = [name for name in before if name not in kept and name.endswith("weight")]
    assert means and others and not any(torch.equal(before[name], after[name]) for name in others)
    assert all(torch.equal(before[name], after[name]) == (norms == "keep") for name in means)


def test_the_rate_falls_in_each_phase_and_rises_between() -> None:
    task = bound(epochs=10, frozen_epochs=4, warm_up=0.2)
    rates = [optim.rate(task.config, done / 100, task.phases) for done in range(100)]
    assert all(0 <= one <= 1 for one in rates)
    assert rates[0] == 1 and rates[39] < 0.02 and rates[39] == min(rates[:40])
    assert rates[40] < 0.02 and max(rates[40:]) == rates[52] == pytest.approx(1)
    assert rates[:40] == sorted(rates[:40], reverse=True) and rates[52:] == sorted(rates[52:], reverse=True)
    assert rates[40:53] == sorted(rates[40:53])


def test_backbone_and_heads_have_rates_of_their_own_and_all_that_learns_is_there() -> None:
    task = bound(trunk_rate=0.002, learning_rate=0.03, keep_stages=2, text="late", weight_decay=0.1)
    network = network_of(task)
    groups = optim.build(task, network, task.config).param_groups
    rate = {id(one): group["lr"] for group in groups for one in group["params"]}
    learns = {name: one for name, one in network.named_parameters() if one.requires_grad}
    assert set(rate) == {id(one) for one in learns.values()}
    assert all(rate[id(one)] == (0.002 if name.startswith("trunk") else 0.03) for name, one in learns.items())
    bare = {id(one) for group in groups if group["weight_decay"] == 0 for one in group["params"]}
    assert bare == {id(one) for one in learns.values() if one.ndim < 2}


# -- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_batch_and_its_loss_are_pure_in_seed_epoch_and_step(frozen: int) -> None:
    """Crops, lamps and what is hidden included."""
    changes: dict[str, Any] = {"text": "joint", "frozen_epochs": frozen, "dropout": 0.0}
    one, other = bound(**changes), bound(**changes)
    other.batch(2, 0)
    network = network_of(one).train()
    with torch.no_grad():
        first = float(one.loss(network, one.batch(0, 1)))
        torch.rand(7)
        assert float(other.loss(network, other.batch(0, 1))) == first
        assert float(one.loss(network, one.batch(0, 0))) != first
        seeded = bound(**changes, seed=9)
        assert float(seeded.loss(network, seeded.batch(0, 1))) != first


def test_an_epoch_looks_at_every_photo_of_the_training_items_once() -> None:
    items = thrice(category_set(SMALL))
    task = bound(items, batch_size=10, text="late")
    batches = [task.batch(1, step) for step in range(task.steps)]
    photos = torch.cat([batch["photos"] for batch in batches])
    rows = torch.cat([batch["rows"] for batch in batches])
    train = items.rows("train")
    expected = set(items.photos_of(train).tolist())
    bare = {n for n in train if not items.has_photo_N[n] and items.titles[n] is not None}
    looks = len(expected) + len(bare)
    seen = photos[:looks]  # what follows fills the last batch up
    assert sorted(seen[seen >= 0].tolist()) == sorted(expected)
    assert sorted(rows[:looks][seen < 0].tolist()) == sorted(bare)
    assert all(items.owners_P[photo] == row for photo, row in zip(photos, rows, strict=True) if photo >= 0)
    assert all(len(batch["rows"]) == 10 for batch in batches)


def test_frozen_batches_have_a_size_of_their_own() -> None:
    task = bound(batch_size=8, frozen_batch_size=20, frozen_epochs=1)
    assert len(task.batch(0, 0)["rows"]) == 20 and len(task.batch(1, 0)["rows"]) == 8


def test_training_items_alone_are_learned_from() -> None:
    """Labels above the leaves too; those that are missing, and other parts, are not."""
    items = category_set(SMALL)
    labels, parts = items.labels_N.copy(), items.parts_N.copy()
    labels[1], labels[2], parts[3] = -1, items.taxonomy.row("c3"), "test"
    task = bound(replace(items, labels_N=labels, parts_N=parts))
    rows = set(task.looks_M2[:, 0].tolist())
    assert rows == {n for n in range(SMALL) if n % 4 and n not in (1, 3)}
    assert task.targets_ND[2].tolist() == [0, 1, -1]
    assert set(task.validation.tolist()) == set(range(0, SMALL, 4))


def test_a_run_that_stops_while_frozen_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    """Features that are kept are made again; then the backbone learns in both alike."""
    changes: dict[str, Any] = {"epochs": 2, "frozen_epochs": 1, "checkpoint_steps": 1, "text": "joint"}
    whole = fitted(bound(**changes), tmp_path / "whole")
    torn, calls = bound(**changes), [0]
    batch = torn.batch

    def failing(epoch: int, step: int, *ranks: int) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return batch(epoch, step)

    torn.batch = failing  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        fitted(torn, tmp_path / "torn")
    again = fitted(bound(**changes), tmp_path / "torn")
    assert equal(weights_of(again.network, ""), weights_of(whole.network, ""))


# -- photos and titles ---------------------------------------------------------------------------


def accuracy(
    task: ItemCategoryTask, trained: Trained[Any], rows: np.ndarray, hide: str | None = None
) -> float:
    assert isinstance(trained.network, ItemCategory)
    with torch.inference_mode():
        heads = task.scores(trained.network, rows, hide)
    total = sum(np.where(there[:, None], one, 0) for one, there in heads)
    found: float = (np.asarray(total).argmax(1) == task.items.leaf_N[rows]).mean()
    return found


@pytest.mark.parametrize(("text", "heads"), [("late", "levels"), ("joint", "flat")])
def test_photos_and_titles_are_each_enough(text: str, heads: str, tmp_path: Path) -> None:
    """One model answers for items with a photo, a title or both, several photos included."""
    items = replace(category_set(), titles=[title_of(int(p), n) for n, p in enumerate(category_set().leaf_N)])
    hiding = {"drop_title": 0.4, "drop_photo": 0.3} if text == "joint" else {}
    task = bound(items, text=text, heads=heads, epochs=6, **hiding)
    trained = fitted(task, tmp_path)
    rows = task.validation
    assert accuracy(task, trained, rows) > 0.9
    assert accuracy(task, trained, rows, hide="photo") > 0.9
    assert accuracy(task, trained, rows, hide="title") > 0.75


def test_titles_alone_are_learned_from_items_without_photos(tmp_path: Path) -> None:
    items = category_set()
    titles = [title_of(int(place), n) for n, place in enumerate(items.leaf_N)]
    bare = replace(items, titles=titles, owners_P=np.empty(0, np.int64), pixels_PHWC=items.pixels_PHWC[:0])
    for text in ("late", "joint"):
        task = bound(bare, text=text, epochs=4)
        trained = fitted(task, tmp_path / text)
        assert trained.metrics["leaf_accuracy"] > 0.9
        assert trained.history[-1]["loss"] < trained.history[0]["loss"]


def test_an_item_of_several_photos_is_seen_by_the_mean_of_their_features() -> None:
    task = bound(thrice(category_set(SMALL)))
    network = network_of(task).eval()
    rows = np.array([5, 3, 1])  # two photos, none, one
    with torch.inference_mode():
        ((scores, there),) = task.scores(network, rows)
        features = network.trunk(torch.from_numpy(task.items.pixels_PHWC[task.items.photos_of(rows)]))
        mean = torch.stack([features[1:].mean(0), torch.zeros(128), features[0]])
        expected = network(mean, torch.tensor([True, False, True]), torch.zeros(3, 1, dtype=torch.int64))[0]
    assert there.tolist() == [True, False, True]
    assert np.allclose(scores, expected.numpy(), atol=1e-4)


def test_what_is_hidden_is_as_if_it_were_missing() -> None:
    items = category_set(SMALL)
    rows = np.arange(10)
    bare = replace(items, titles=[None] * SMALL)
    task, without = bound(items, text="late"), bound(bare, text="late")
    network = network_of(task).eval()
    with torch.inference_mode():
        hidden, missing = task.scores(network, rows, "title"), without.scores(network, rows)
    for (one, seen), (other, there) in zip(hidden, missing, strict=True):
        assert np.allclose(one, other, atol=1e-5) and seen.tolist() == there.tolist()


def test_the_joint_head_never_loses_both() -> None:
    task = bound(text="joint", drop_photo=0.45, drop_title=0.45)
    has_photo, words = torch.ones(900, dtype=torch.bool), torch.ones(900, 3, dtype=torch.int64)
    has_photo[:200], words[700:] = False, 0
    photo, seen = task._hidden(has_photo, words, Drawn.all(torch.Generator().manual_seed(1), 900))
    title = (seen > 0).any(1)
    assert bool((photo | title).all())
    assert bool(title[:200].all()) and bool(photo[700:].all())
    middle = slice(200, 700)
    assert 0.35 < float((~photo[middle]).float().mean()) < 0.55
    assert 0.35 < float((~title[middle]).float().mean()) < 0.55


def test_titles_without_a_word_are_no_titles() -> None:
    items = replace(category_set(SMALL), titles=["?!"] * SMALL)
    bare = replace(items, owners_P=np.empty(0, np.int64), pixels_PHWC=items.pixels_PHWC[:0])
    assert len(bound(items, text="late").looks_M2) == len(items.rows("train"))
    with pytest.raises(TooLittleData):
        bound(bare, text="late")


# -- labels --------------------------------------------------------------------------------------


def test_weak_labels_weigh_less() -> None:
    """A batch of one strong and one weak item is the mean that the weights say."""
    items = category_set(SMALL)
    weak = replace(items, weak_N=np.arange(SMALL) % 2 == 1)
    rows = torch.tensor([2, 5])
    task, plain = (bound(some, weak_weight=0.25, smoothing=0.0) for some in (weak, items))
    network = network_of(task).eval()

    def loss(of: ItemCategoryTask, chosen: Tensor) -> float:
        with torch.no_grad():
            logits = network.logits(
                torch.ones(len(chosen), 128), torch.ones(len(chosen)) > 0, chosen[:, None] * 0
            )
            batch = {"targets": of.targets_ND[chosen]}
            if of.items.weak_N is not None:
                batch["weak"] = torch.from_numpy(of.items.weak_N)[chosen]
            every = torch.ones(len(chosen)) > 0
            given = of.weights(batch, every)
            batch["count.photo"] = every.sum() if given is None else given.sum()
            return float(of._head_loss(logits["photo"], batch, every, ("photo",)))

    strong, doubted = loss(plain, rows[:1]), loss(plain, rows[1:])
    assert loss(plain, rows) == pytest.approx((strong + doubted) / 2, rel=1e-5)
    assert loss(task, rows) == pytest.approx((strong + 0.25 * doubted) / 1.25, rel=1e-5)
    assert abs(strong - doubted) > 0.01


def test_wrong_weak_labels_do_less_harm_than_wrong_strong_ones(tmp_path: Path) -> None:
    """Ready features of two kinds, the labels of most of the second kind wrong."""
    rng = np.random.default_rng(0)
    items = category_set()
    place = items.leaf_N
    weak = rng.random(len(items)) < 0.6
    weak &= items.parts_N == "train"
    wrong = items.taxonomy.leaves_L[(place + 1) % 4]
    labels = np.where(weak & (rng.random(len(items)) < 0.8), wrong, items.labels_N)
    features = np.eye(4, dtype=np.float32)[place] + rng.normal(0, 0.1, (len(items), 4)).astype(np.float32)
    ready = replace(items.with_features(features), labels_N=labels)
    told = bound(replace(ready, weak_N=weak), weak_weight=0.1, epochs=12)
    untold = bound(ready, epochs=12)
    right, fooled = (fitted(task, tmp_path / str(n)) for n, task in enumerate((told, untold)))
    assert right.metrics["leaf_accuracy"] > fooled.metrics["leaf_accuracy"] + 0.2


def test_balance_helps_the_rare_leaf(tmp_path: Path) -> None:
    """Features that say little: without balance everything looks like the common leaf."""
    rng = np.random.default_rng(1)
    items = category_set(800)
    place = np.where(rng.random(800) < 0.9, 3, 1)
    features = np.stack([(place == 1) + rng.normal(0, 0.8, 800), np.ones(800), -np.ones(800)], 1)
    ready = replace(items.with_features(features.astype(np.float32)), labels_N=items.taxonomy.leaves_L[place])
    found = {}
    for balance in (0.0, 1.0):
        task = bound(ready, balance=balance, epochs=8, smoothing=0.0, heads="flat")
        trained = fitted(task, tmp_path / str(balance))
        with torch.inference_mode():
            ((scores, _),) = task.scores(trained.network, task.validation)  # type: ignore[arg-type]
        rare = ready.leaf_N[task.validation] == 1
        found[balance] = (scores.argmax(1)[rare] == 1).mean()
    assert found[1.0] > found[0.0] + 0.2


# -- ready features ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_ready_features_are_learned_from_without_a_copy(kind: type, tmp_path: Path) -> None:
    items = category_set()
    with torch.inference_mode():
        features = network_of(bound()).trunk.eval()(torch.from_numpy(items.pixels_PHWC)).numpy()
    ready = items.with_features(features.astype(kind))
    task = bound(ready, epochs=8)
    trained = fitted(task, tmp_path)
    assert isinstance(trained.network, ItemCategory) and trained.network.trunk is None
    assert task._features_PF.data_ptr() == ready.features_PF.ctypes.data
    counts = np.bincount(ready.leaf_N[task.validation])
    assert trained.metrics["leaf_accuracy"] > counts.max() / counts.sum() + 0.1


def test_ready_features_teach_what_the_frozen_backbone_does(tmp_path: Path) -> None:
    items, changes = category_set(SMALL), {"epochs": 2, "frozen_epochs": 2, "average": None}
    frozen = fitted(bound(items, **changes), tmp_path / "frozen")
    with torch.inference_mode():
        features = frozen.network.trunk(torch.from_numpy(items.pixels_PHWC)).numpy()
    task = bound(items.with_features(features), **changes)
    network = network_of(task)
    trunkless = weights_of(network_of(bound(items, **changes), task.config.seed), "")
    network.load_state_dict({name: trunkless[name] for name in network.state_dict()})
    with torch.no_grad():
        batch = task.batch(0, 0)
        other = bound(items, **changes)
        whole = network_of(other)
        whole.load_state_dict(trunkless)
        expected = float(other.loss(whole.eval(), other.batch(0, 0)))
        assert float(task.loss(network.eval(), batch)) == pytest.approx(expected, rel=1e-4)


# -- refusals ------------------------------------------------------------------------------------


def test_nothing_to_learn_from_says_what_to_do() -> None:
    items = category_set(SMALL)
    for poor in (
        replace(items, labels_N=np.full(SMALL, -1)),
        replace(items, parts_N=np.full(SMALL, "test")),
        replace(items, owners_P=np.empty(0, np.int64), pixels_PHWC=items.pixels_PHWC[:0]),
    ):
        with pytest.raises(TooLittleData, match="etalage taxonomy check"):
            bound(poor)


@pytest.mark.parametrize("weights", [(1.0,), (0.5, 0.5), (1.0, 1.0, 0.0), (1.0, -1.0, 1.0), (0.1,) * 4])
def test_weights_that_do_not_fit_the_levels_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"level_weights.*3 levels"):
        bound(level_weights=weights)


def test_weights_of_levels_are_used() -> None:
    task = bound(level_weights=(0.0, 0.0, 1.0))
    network = network_of(task)
    task.loss(network, task.batch(0, 0)).backward()
    top, middle, leaf = (head.weight.grad for head in network.heads["photo"].heads)
    assert not top.any() and not middle.any() and leaf.any()


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="no such network"):
        bound(backbone="inception_v9").network()
    with pytest.raises(ConfigError, match="keep_stages = 7"):
        bound(keep_stages=7).network()
    with pytest.raises(ConfigError, match="weights"):
        bound(weights="/nowhere.pth", frozen_epochs=0).network()


def test_by_default_the_backbone_has_seen_photos_before_and_heads_alone_learn() -> None:
    config = ItemCategoryConfig()
    assert config.backbone == "tf_efficientnet_lite0" and str(config.weights).startswith("package:")
    assert config.frozen_epochs == config.epochs == 12
    assert ItemCategoryConfig(epochs=30).frozen_epochs == 30
    assert ItemCategoryConfig(epochs=30, frozen_epochs=3).frozen_epochs == 3
    assert ItemCategoryConfig(**config.model_dump()) == config


@pytest.mark.parametrize("said", [{"backbone": "small"}, {"weights": None}, {"backbone": "inception_v3"}])
def test_a_backbone_without_weights_learns_from_the_start(said: dict[str, Any]) -> None:
    config = ItemCategoryConfig(**said)
    assert (config.weights, config.frozen_epochs) == (None, 0)


def test_weights_of_ones_own_are_frozen_too() -> None:
    config = ItemCategoryConfig(backbone="inception_v3", weights="ours.pth")
    assert (config.weights, config.frozen_epochs) == ("ours.pth", 12)


def test_without_validation_items_there_are_no_metrics(tmp_path: Path) -> None:
    items = category_set(SMALL)
    interior = np.where(items.parts_N == "train", items.labels_N, items.taxonomy.row("c3"))
    for some in (replace(items, parts_N=np.full(SMALL, "train")), replace(items, labels_N=interior)):
        task = bound(some)
        assert task.validate(network_of(task).eval()) == {}


def test_the_recipe_says_what_it_needs() -> None:
    assert (RECIPE.role, RECIPE.data, RECIPE.columns) == (
        "classifier",
        "categories",
        ("photo", "title", "category_id"),
    )
    assert RECIPE is item_category.RECIPE and RECIPE.config is ItemCategoryConfig
