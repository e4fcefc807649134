from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from etalage.errors import TooLittleData
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.vocabulary import Vocabulary
from etalage.models.item2vec import HOUR, RECIPE, Item2Vec, Item2VecConfig, Item2VecTask, sequences
from etalage.models.recipe import Trained
from etalage.training.loop import fit

GROUPS = {0: range(1, 13), 1: range(13, 21), 2: range(21, 26)}
"""Item rows by taste: of 12, 8 and 5 items. Row 26 is bought once, row 27 never."""
RARE, NEVER_BOUGHT = 26, 27


def shop(shoppers: int = 90, acts: int = 20) -> BehaviourSet:
    """Shoppers of one taste each, who buy in baskets of four; their last three acts are for validation."""
    rng = np.random.default_rng(7)
    users = np.repeat(np.arange(1, shoppers + 1), acts)
    items = np.concatenate([rng.choice(GROUPS[user % 3], acts) for user in range(shoppers)])
    place = np.tile(np.arange(acts), shoppers)
    times = place // 4 * 48 * HOUR + place % 4
    late = place >= acts - 3
    items[5] = RARE
    parts = {
        "train": Interactions.sorted(users[~late], items[~late], times=times[~late]),
        "validation": Interactions.sorted(users[late], items[late], times=times[late]),
    }
    names = Vocabulary([f"i{row:02d}" for row in range(1, NEVER_BOUGHT + 1)])
    people = Vocabulary([f"u{row:03d}" for row in range(1, shoppers + 1)])
    return BehaviourSet(people, names, (), parts, facts={"repeat": True})


def config(**settings: Any) -> Item2VecConfig:
    quick = {
        "dimension": 12,
        "epochs": 25,
        "batch_size": 128,
        "subsample": 0.1,
        "learning_rate": 0.03,
        "negatives": 2,
    }
    return Item2VecConfig(**{**quick, **settings})


@pytest.fixture(scope="module")
def data() -> BehaviourSet:
    return shop()


@pytest.fixture(scope="module")
def trained(data: BehaviourSet, tmp_path_factory: pytest.TempPathFactory) -> Trained[Item2VecConfig]:
    chosen = config(prior=0.5)
    return fit(RECIPE, RECIPE.bind(chosen, data), chosen, tmp_path_factory.mktemp("run"))


def test_items_of_one_taste_lie_together(trained: Trained[Item2VecConfig]) -> None:
    assert isinstance(trained.network, Item2Vec)
    vectors = F.normalize(torch.from_numpy(trained.network.vectors()), dim=1)
    cosines = (vectors @ vectors.T).numpy()
    for mine in GROUPS.values():
        others = [row for group in GROUPS.values() if group != mine for row in group]
        assert cosines[np.ix_(mine, mine)].mean() > cosines[np.ix_(mine, others)].mean() + 0.3


def test_it_finds_the_next_item_more_often_than_popularity_does(
    trained: Trained[Item2VecConfig], data: BehaviourSet
) -> None:
    counts = np.bincount(data.part("train").items, minlength=len(data.items))
    popular = np.argsort(-counts)[:20]
    wanted = data.queries("validation")[1]
    floor = np.mean([np.isin(items, popular).mean() for items in wanted])
    assert trained.metrics["recall_at_20"] > floor + 0.1
    assert trained.history[-1]["loss"] < trained.history[0]["loss"] - 0.3


def test_the_order_of_retrieval_is_that_of_the_trained_logits(data: BehaviourSet, tmp_path: Path) -> None:
    chosen = config(epochs=2)
    network = fit(RECIPE, RECIPE.bind(chosen, data), chosen, tmp_path).network
    assert isinstance(network, Item2Vec)
    history = torch.tensor([[0, 3, 14, 3]])
    query = network.embed_query(network.history_item(history), history > 0)
    items = torch.arange(1, 26)
    found = (query @ network.embed_item(items).T)[0]
    acts, outputs = network.input_KD[network.place_N[[3, 14, 3]]], network.output_KD[network.place_N[items]]
    logits = torch.stack([outputs @ act for act in acts])
    torch.testing.assert_close(found, logits.mean(0))
    assert not torch.allclose(network.input_KD, network.output_KD)


def test_the_prior_adds_its_share_of_the_log_of_how_often_an_item_is_drawn(data: BehaviourSet) -> None:
    task = RECIPE.bind(config(prior=0.5), data)
    network = task.network()
    nobody = network.embed_query(torch.zeros(1, 4, 12), torch.zeros(1, 4, dtype=torch.bool))
    scores = (nobody @ network.embed_item(torch.arange(28)).T)[0].detach().numpy()
    np.testing.assert_allclose(scores[1:26], 0.5 * np.log(task.noise_N[1:26]), rtol=1e-5)
    assert scores[NEVER_BOUGHT] == scores[RARE] == scores[1:26].min()


def test_unknown_and_rare_items_have_no_vector_and_contribute_nothing(
    trained: Trained[Item2VecConfig],
) -> None:
    network = trained.network
    assert isinstance(network, Item2Vec)
    assert not network.vectors()[[0, RARE, NEVER_BOUGHT]].any()
    assert network.vectors()[[1, 25]].any(axis=1).all()
    with_them = torch.tensor([[0, RARE, 2, NEVER_BOUGHT, 15]])
    without = torch.tensor([[2, 15]])
    torch.testing.assert_close(
        network.embed_query(network.history_item(with_them), torch.ones(1, 5, dtype=torch.bool)),
        network.embed_query(network.history_item(without), torch.ones(1, 2, dtype=torch.bool)),
    )


def test_a_shopper_without_acts_has_a_finite_query(data: BehaviourSet) -> None:
    network = RECIPE.bind(config(), data).network()
    empty = torch.zeros(2, 4, dtype=torch.int64)
    query = network.embed_query(network.history_item(empty), empty > 0)
    assert query.shape == (2, 12) and not query.any()


def test_an_epoch_has_every_act_as_a_centre_once(data: BehaviourSet) -> None:
    task = RECIPE.bind(config(subsample=1.0), data)
    centres = torch.cat([task.batch(3, step)["centres"] for step in range(task.steps)]).numpy()
    counts = np.bincount(data.part("train").items, minlength=28)
    counts[RARE] = 0
    assert (np.bincount(centres, minlength=28) == counts).all()


@pytest.mark.parametrize("sets", [False, True])
def test_contexts_come_from_the_centres_own_basket(sets: bool) -> None:
    # Basket b holds the items 10 b + 1 … 10 b + 4, so an item's number tells its basket.
    baskets = np.arange(30)
    items = (10 * baskets[:, None] + np.arange(1, 5)).ravel()
    users = np.repeat(baskets // 3 + 1, 4)
    times = np.repeat(baskets, 4) * 5 * HOUR
    acts = Interactions.sorted(np.tile(users, 5), np.tile(items, 5), times=np.tile(times, 5))
    data = BehaviourSet(
        Vocabulary([f"u{n}" for n in range(10)]),
        Vocabulary([f"i{n:03d}" for n in range(300)]),
        (),
        {"train": acts},
    )
    task = RECIPE.bind(config(session_hours=4, sets=sets, subsample=1.0, window=3, batch_size=50), data)
    batch = task.batch(0, 1)
    contexts, centres = batch["contexts"].numpy(), batch["centres"].numpy()
    assert contexts.shape == (len(centres), 6) and (contexts > 0).any(axis=1).mean() > 0.9
    baskets_of = np.where(contexts > 0, contexts // 10, centres[:, None] // 10)
    assert (baskets_of == centres[:, None] // 10).all()
    widest = (contexts > 0).sum(axis=1)
    assert (widest[widest > 0] >= 3).mean() > (0.99 if sets else 0.5)


def test_a_batch_is_decided_by_seed_epoch_and_step_alone(data: BehaviourSet) -> None:
    task, again = RECIPE.bind(config(sets=True), data), RECIPE.bind(config(sets=True), data)
    again.batch(5, 0)
    first, second = task.batch(2, 3), again.batch(2, 3)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = RECIPE.bind(config(sets=True, seed=1), data).batch(2, 3)
    assert not torch.equal(first["negatives"], other["negatives"])
    assert not torch.equal(first["negatives"], task.batch(3, 3)["negatives"])


def test_frequent_items_are_passed_over_and_drawn_less_than_in_proportion(data: BehaviourSet) -> None:
    counts = np.array([0, 1000, 100, 10])
    items = np.repeat(np.arange(4), counts)
    acts = Interactions.sorted(np.arange(len(items)) % 7 + 1, items)
    people = Vocabulary([f"u{n}" for n in range(7)])
    small = BehaviourSet(people, Vocabulary(["a", "b", "c"]), (), {"train": acts})
    task: Item2VecTask = RECIPE.bind(config(subsample=0.02, shared_negatives=200), small)
    shares = counts[1:] / 1110
    expected = np.minimum(1, np.sqrt(0.02 / shares) + 0.02 / shares)
    np.testing.assert_allclose(task.keep_N[1:], expected)
    drawn = np.concatenate([task.batch(epoch, 0)["negatives"].numpy() for epoch in range(100)])
    weights = counts[1:] ** 0.75
    found = np.bincount(drawn, minlength=4)[1:] / len(drawn)
    np.testing.assert_allclose(found, weights / weights.sum(), atol=0.01)


def test_the_loss_is_equation_4_averaged_over_pairs(data: BehaviourSet) -> None:
    task = RECIPE.bind(config(negatives=3, shared_negatives=4), data)
    network = task.network()
    network.requires_grad_(False)
    network.output_KD.normal_()
    batch = {
        "centres": torch.tensor([2, 13]),
        "contexts": torch.tensor([[4, 0, 5], [0, 0, 20]]),
        "negatives": torch.tensor([1, 1, 9, 22]),
        "count.pairs": torch.tensor(3.0),
    }
    place = network.place_N
    total = 0.0
    for centre, context in ((2, 4), (2, 5), (13, 20)):
        act = network.input_KD[place[centre]]
        total -= float(F.logsigmoid(act @ network.output_KD[place[context]]))
        # Three negatives a pair, in expectation over the four that the batch shares.
        total -= 3 * float(F.logsigmoid(-(network.output_KD[place[batch["negatives"]]] @ act)).mean())
    assert float(task.loss(network, batch)) == pytest.approx(total / 3, rel=1e-5)


def test_a_pause_or_another_shopper_starts_a_sequence() -> None:
    hours = np.array([0, 1, 4, 4, 9, 9])
    acts = Interactions.sorted(np.array([1, 1, 1, 1, 1, 2]), np.arange(1, 7), times=hours * HOUR)
    assert sequences(acts, None).tolist() == [0, 0, 0, 0, 0, 1]
    assert sequences(acts, 3).tolist() == [0, 0, 0, 0, 1, 2]
    assert sequences(acts, 0).tolist() == [0, 1, 2, 2, 3, 4]
    timeless = Interactions.sorted(np.array([1, 1, 2]), np.array([1, 2, 3]))
    assert sequences(timeless, 0).tolist() == [0, 0, 1]


def test_nothing_to_learn_is_refused(data: BehaviourSet) -> None:
    lonely = Interactions.sorted(np.array([1, 2, 3]), np.array([4, 4, 4]))
    for acts in (Interactions.none(), lonely):
        with pytest.raises(TooLittleData, match="session_hours"):
            RECIPE.bind(config(min_count=1), data.with_parts(train=acts))
    with pytest.raises(TooLittleData, match="min_count"):
        RECIPE.bind(config(min_count=1000), data)
