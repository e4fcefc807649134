"""NeuMF: the networks as published, pairs that are never told of themselves, and fresh negatives."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etalage.features.behaviour import PARTS, BehaviourSet, Interactions, pair_keys
from etalage.features.vocabulary import Vocabulary
from etalage.metrics import auroc
from etalage.models.interaction_vectors import Neighbours
from etalage.models.neumf import RECIPE, Neumf, NeumfConfig, NeumfTask
from etalage.runtime.opening import open_scorer
from etalage.training.behaviour_export import export_behaviour
from etalage.training.export_source import Source
from etalage.training.loop import fit

pytestmark = pytest.mark.traces

SMALL: dict[str, Any] = {"factors": 5, "mlp_factors": 3, "layers": (4, 2), "spread": 0.7}
ACTS: dict[str, Any] = {**SMALL, "user_by": "acts", "item_by": "both", "item_bias": True}


def of_part(part: str, settings: dict[str, Any] = SMALL) -> dict[str, Any]:
    """These settings for one part alone, without those of the other."""
    idle = NeumfConfig.model_construct(part=part).idle()
    return {**{name: value for name, value in settings.items() if name not in idle}, "part": part}


KNOWN = np.array([[1, 2], [1, 4], [1, 5], [2, 2], [3, 1], [3, 2], [3, 3], [3, 4], [3, 5]])


def acts(pairs: np.ndarray, labels: np.ndarray | None = None) -> Interactions:
    return Interactions.sorted(pairs[:, 0], pairs[:, 1], labels=labels)


def network(config: dict[str, Any], known: np.ndarray = KNOWN) -> Neumf:
    torch.manual_seed(3)
    made = Neumf(NeumfConfig(**config), 5, 7, acts(known))
    with torch.no_grad():
        if made.item_bias is not None:
            made.item_bias.copy_(torch.linspace(-1, 2, 7))
    return made.eval()


def every_pair() -> torch.Tensor:
    return torch.cartesian_prod(torch.arange(5), torch.arange(7))


def logits(of: Neumf, pairs: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return of(pairs, torch.empty(len(pairs), 0))[:, 0].numpy()


def widths(of: Neumf) -> list[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in [*of.layers, of.head]]


def shop(seed: int = 1, users: int = 80, items: int = 40) -> BehaviourSet:
    """Two tastes of unlike size; likes, one dislike in five, one positive each for validation and test."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(1, users + 1):
        of_taste = np.arange(1, 16) if user % 3 else np.arange(16, items + 1)
        liked = rng.choice(of_taste, 9, replace=False)
        disliked = rng.choice(np.setdiff1d(np.arange(1, items + 1), of_taste), 2, replace=False)
        rows += [(user, item, 1, n) for n, item in enumerate(liked)]
        rows += [(user, item, 0, 2) for item in disliked]
    user, item, label, place = np.array(rows).T
    part = np.select([place == 7, place == 8], [2, 3], 0)
    whole = {
        name: Interactions.sorted(user[part == n], item[part == n], labels=label[part == n])
        for n, name in enumerate(PARTS)
    }
    return BehaviourSet(
        Vocabulary([f"u{n}" for n in range(users)]), Vocabulary([f"i{n}" for n in range(items)]), (), whole
    )


def task(data: BehaviourSet | None = None, **changes: Any) -> NeumfTask:
    bound = RECIPE.bind(NeumfConfig(**{"batch_size": 64, **changes}), data or shop())
    assert isinstance(bound, NeumfTask)
    return bound


# -- the networks ------------------------------------------------------------------------------


def test_the_papers_network_is_as_published() -> None:
    found = Neumf(NeumfConfig(), 11, 13)
    assert widths(found) == [(64, 32), (32, 16), (16, 8), (8 + 8, 1)]
    shapes = {n: tuple(p.shape) for n, p in found.named_parameters() if n.endswith("id.weight")}
    assert shapes == {
        "user.gmf.id.weight": (11, 8), "user.mlp.id.weight": (11, 32),
        "item.gmf.id.weight": (13, 8), "item.mlp.id.weight": (13, 32),
    }  # fmt: skip
    config = NeumfConfig()
    assert (config.negatives, config.batch_size, config.learning_rate, config.loss) == (4, 256, 1e-3, "bce")


def test_the_originals_network_is_as_published() -> None:
    config = NeumfConfig(preset="original")
    assert widths(Neumf(config, 11, 13)) == [(64, 64), (64, 32), (32, 16), (16, 8), (32 + 8, 1)]
    assert (config.dropout, config.negatives, config.batch_size) == (0.25, 5, 256)
    assert NeumfConfig(preset="original", negatives=2).negatives == 2


def test_the_logit_is_that_of_the_papers_equations() -> None:
    of = network(SMALL)
    weights = {name: value.numpy() for name, value in of.state_dict().items()}
    p, q = weights["user.gmf.id.weight"][3], weights["item.gmf.id.weight"][5]
    hidden = np.concatenate([weights["user.mlp.id.weight"][3], weights["item.mlp.id.weight"][5]])
    for n in range(2):
        hidden = np.maximum(weights[f"layers.{n}.weight"] @ hidden + weights[f"layers.{n}.bias"], 0)
    wanted = weights["head.weight"][0] @ np.concatenate([p * q, hidden]) + weights["head.bias"][0]
    assert logits(of, torch.tensor([[3, 5]]))[0] == pytest.approx(wanted, abs=1e-6)


def test_gmf_alone_is_an_inner_product_of_vectors() -> None:
    of = network({**of_part("gmf"), "item_bias": True})
    weights = {name: value.numpy() for name, value in of.state_dict().items()}
    users = weights["user.gmf.id.weight"] * weights["head.weight"]
    found = users @ weights["item.gmf.id.weight"].T + weights["item_bias"] + weights["head.bias"]
    assert np.allclose(logits(of, every_pair()).reshape(5, 7), found, atol=1e-5)
    assert "layers.0.weight" not in weights


@pytest.mark.parametrize("config", [SMALL, of_part("mlp"), of_part("gmf")])
def test_one_by_one_crossed_and_of_everything_are_the_same_logits(config: dict[str, Any]) -> None:
    of = network({**config, "item_bias": True})
    pairs = logits(of, every_pair()).reshape(5, 7)
    with torch.no_grad():
        users, items = of.users(torch.arange(5), None), of.items(torch.arange(7), None)
        crossed = of.logits(users, items, torch.arange(7), crossed=True).sum(0)
        everything = of.of_everything(torch.arange(5))
    assert np.allclose(crossed, pairs, atol=1e-5) and np.allclose(everything, pairs, atol=1e-5)


def test_impossible_settings_are_refused_and_say_what_to_do() -> None:
    with pytest.raises(ValidationError, match="raise epochs"):
        NeumfConfig(pretrain=4, epochs=4)
    with pytest.raises(ValidationError, match="set pretrain = 0"):
        NeumfConfig(pretrain=1, part="gmf")
    with pytest.raises(ValidationError, match="preset"):
        NeumfConfig(preset="papers")


# -- known by their interactions -----------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.sets(st.tuples(st.integers(1, 6), st.integers(1, 9)), max_size=30), st.floats(0, 1))
def test_every_act_is_found_and_nothing_else(pairs: set[tuple[int, int]], power: float) -> None:
    columns = np.array(sorted(pairs, key=lambda p: (p[1], -p[0])), np.int64).reshape(-1, 2)
    found = Neighbours(columns[:, 0], columns[:, 1], 8, power)
    rows, others = (
        torch.from_numpy(c.ravel()) for c in np.meshgrid(np.arange(8), np.arange(12), indexing="ij")
    )
    is_act, scale = found(rows, others)
    assert [bool(x) for x in is_act] == [(int(r), int(o)) in pairs for r, o in zip(rows, others, strict=True)]
    counts = [sum(1 for a, b in pairs if a == r and b != o) for r, o in zip(rows, others, strict=True)]
    assert np.allclose(scale, np.maximum(counts, 1) ** -power)


def test_a_user_is_the_sum_of_what_they_took() -> None:
    of = network({**of_part("gmf"), "user_by": "acts"})
    weights = {name: value.numpy() for name, value in of.state_dict().items()}
    user = weights["user.gmf.of_others.weight"][[2, 4, 5]].sum(0) / np.sqrt(3)
    item = weights["item.gmf.id.weight"][6]
    wanted = weights["head.weight"][0] @ (user * item) + weights["head.bias"][0]
    assert logits(of, torch.tensor([[1, 6]]))[0] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("by", [("acts", "both"), ("both", "acts"), ("id", "acts"), ("acts", "id")])
def test_a_pair_is_scored_as_if_it_had_not_happened(by: tuple[str, str]) -> None:
    config = {**ACTS, "user_by": by[0], "item_by": by[1]}
    whole, without = network(config), network(config, KNOWN[np.arange(len(KNOWN)) != 5])  # not (3, 2)
    pair = torch.tensor([[3, 2]])
    assert np.allclose(logits(whole, pair), logits(without, pair), atol=1e-6)
    others = torch.tensor([[3, 6], [4, 2]])
    assert not np.allclose(logits(whole, others), logits(without, others), atol=1e-4)


def test_training_scores_as_serving_does_when_nothing_is_hidden() -> None:
    of = network(ACTS)
    pairs = torch.from_numpy(np.concatenate([KNOWN, [[4, 6], [2, 5], [0, 3], [3, 0]]]))
    with torch.no_grad():
        users, items = of.users(pairs[:, 0], pairs[:, 1]), of.items(pairs[:, 1], pairs[:, 0])
        found = of.logits(users, items, pairs[:, 1], crossed=False).sum(0)
    assert np.allclose(found, logits(of, pairs), atol=1e-5)


def test_hidden_interactions_keep_the_mean() -> None:
    of = network({**of_part("gmf"), "user_by": "acts", "hidden": 0.4}).train()
    with torch.no_grad():
        draws = [of.users(torch.tensor([3, 3]), torch.tensor([1, 1]))["gmf"] for _ in range(4000)]
    assert all(torch.equal(one, other) for one, other in draws)
    many = torch.stack([one for one, _ in draws])
    plain = of.state_dict()["user.gmf.of_others.weight"][[2, 3, 4, 5]].sum(0) / 2
    assert many.std(0).min() > 0.1
    assert torch.allclose(many.mean(0), plain, atol=0.08)


def test_sums_are_made_anew_whenever_the_weights_change() -> None:
    of, other = network(ACTS), network({**ACTS, "spread": 0.1})
    assert not np.allclose(logits(of, every_pair()), logits(other, every_pair()), atol=1e-3)
    other.load_state_dict(of.state_dict())
    assert np.array_equal(logits(of, every_pair()), logits(other, every_pair()))
    other.train()
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(0.5)
    halved = network(ACTS)
    halved.load_state_dict(other.state_dict())
    assert np.array_equal(logits(other.eval(), every_pair()), logits(halved, every_pair()))


@pytest.mark.parametrize("config", [SMALL, ACTS, of_part("mlp", ACTS)])
def test_the_export_gives_the_same_logits_for_pairs_that_happened_and_others(
    config: dict[str, Any], tmp_path: Path
) -> None:
    bound = task(**config, epochs=1)
    trained = fit(RECIPE, bound, bound.config, tmp_path / "run")
    scorer: Any = open_scorer(export_behaviour(RECIPE, trained, Source.of(bound.data), tmp_path / "exports"))
    had = np.stack([bound.train.users[:50], bound.train.items[:50]], axis=1)
    pairs = np.concatenate([had, had - np.array([[1, 0]]), [[0, 3], [80, 40], [7, 0]]])
    assert trained.network is not None
    with torch.no_grad():
        ours = trained.network(torch.from_numpy(pairs), torch.empty(len(pairs), 0))
    served = scorer.score_rows(pairs, np.empty((len(pairs), 0), np.float32))
    assert np.abs(served - ours.numpy()).max() < 1e-4
    assert np.ptp(served) > 0.01


# -- training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["bce", "softmax", "bpr"])
def test_a_negative_is_never_something_that_the_user_took_in_train(loss: str) -> None:
    data = shop()
    bound = task(data, loss=loss, negatives=6)
    taken = data.part("train").positive.keys
    for step in range(bound.steps):
        batch = {name: value.numpy() for name, value in bound.batch(1, step).items()}
        if loss == "softmax":
            keys = pair_keys(batch["users"][:, None], batch["negatives"][None, :])
            assert (np.isin(keys, taken) == ~batch["allowed"]).all() and batch["allowed"].mean() > 0.5
        else:
            keys = pair_keys(batch["users"][:, None], batch["negatives"])
            assert not np.isin(keys, taken).any()
        assert batch["negatives"].min() >= 1


def test_what_is_held_out_is_drawn_as_anything_else_unless_it_is_spared() -> None:
    data = shop()
    held = np.concatenate([data.part("validation").positive.keys, data.part("test").positive.keys])
    for spare, expected in ((True, False), (False, True)):
        bound = task(data, negatives=6, spare_held_out=spare)
        batches = [bound.batch(0, step) for step in range(bound.steps)]
        keys = [pair_keys(b["users"].numpy()[:, None], b["negatives"].numpy()) for b in batches]
        assert any(np.isin(part, held).any() for part in keys) is expected


def test_negatives_and_the_order_are_new_in_every_epoch() -> None:
    bound = task()
    first, second = bound.batch(0, 0), bound.batch(1, 0)
    assert not torch.equal(first["rows"], second["rows"])
    by_row = {int(r): n.tolist() for r, n in zip(first["rows"], first["negatives"], strict=True)}
    shared = [(by_row[int(r)], n.tolist()) for r, n in zip(second["rows"], second["negatives"], strict=True)
              if int(r) in by_row]  # fmt: skip
    assert len(shared) > 2 and sum(one == other for one, other in shared) < len(shared) / 2
    everything = torch.cat([bound.batch(0, step)["rows"] for step in range(bound.steps)])
    assert sorted(everything.tolist()) == list(range(len(bound.train)))


def test_the_loss_is_the_binary_cross_entropy_of_positives_negatives_and_dislikes() -> None:
    bound = task(**SMALL, forget=0.0)
    torch.manual_seed(0)
    of = bound.network()
    assert isinstance(of, Neumf)
    batch = bound.batch(0, 0)
    assert 0 < batch["labels"].mean() < 1
    total, count = 0.0, 0
    for user, item, label, drawn in zip(
        *(batch[n].tolist() for n in ("users", "items", "labels", "negatives")), strict=True
    ):
        asked = [(item, label)] + [(other, 0.0) for other in drawn if label]
        for other, wanted in asked:
            chance = 1 / (1 + np.exp(-logits(of, torch.tensor([[user, other]]))[0]))
            total -= np.log(chance if wanted else 1 - chance)
            count += 1
    assert float(bound.loss(of, batch).detach()) == pytest.approx(total / count, rel=1e-5)


def test_the_softmax_leaves_out_what_its_user_took() -> None:
    bound = task(**SMALL, forget=0.0, loss="softmax", negatives=30)
    torch.manual_seed(0)
    of = bound.network()
    assert isinstance(of, Neumf)
    batch = bound.batch(0, 0)
    losses = []
    for user, item, label, allowed in zip(
        *(batch[n].tolist() for n in ("users", "items", "labels", "allowed")), strict=True
    ):
        asked = [item] + [
            other for other, may in zip(batch["negatives"].tolist(), allowed, strict=True) if may
        ]
        found = logits(of, torch.tensor([[user, other] for other in asked])).astype(float)
        losses.append(np.log(np.exp(found).sum()) - found[0] if label else np.log1p(np.exp(found[0])))
    assert float(bound.loss(of, batch).detach()) == pytest.approx(np.mean(losses), rel=1e-4)


def test_values_weigh_positives_by_their_logarithm() -> None:
    data = shop()
    train = data.part("train")
    counts = np.where(train.labels > 0, 1 + (np.arange(len(train)) % 5) ** 3, np.nan).astype(np.float32)
    weighed = Interactions.sorted(train.users, train.items, values=counts, labels=train.labels)
    found = task(data.with_parts(train=weighed), weigh_values=True).weights
    positive = train.labels > 0
    assert found[positive].mean() == pytest.approx(1, abs=1e-5) and (found[~positive] == 1).all()
    ratio = found[positive] / np.log1p(counts[positive])
    assert np.allclose(ratio, ratio[0])


def test_apart_gmf_and_mlp_do_not_hear_of_each_other() -> None:
    bound = task(**SMALL, pretrain=1, epochs=2)
    slopes = []
    for factor in (1.0, 3.0):
        for epoch in (0, 1):
            torch.manual_seed(0)
            of = bound.network()
            with torch.no_grad():
                for name, weight in of.named_parameters():
                    if "mlp" in name or name.startswith("layers"):
                        weight.mul_(factor)
            bound.loss(of, bound.batch(epoch, 0)).backward()
            slope = of.get_parameter("user.gmf.id.weight").grad
            assert slope is not None
            slopes.append(slope)
    apart, together, apart_again, together_again = slopes
    assert torch.equal(apart, apart_again)
    assert not torch.allclose(together, together_again, atol=1e-7)


@pytest.mark.parametrize(
    "config",
    [
        {"learning_rate": 0.01},
        {"preset": "original", "learning_rate": 0.01},
        {"preset": "interactions", "factors": 16, "mlp_factors": 8, "batch_size": 64, "learning_rate": 0.01},
        {"loss": "bpr", "part": "gmf", "learning_rate": 0.01, "spread": 0.1},
        {"pretrain": 3, "learning_rate": 0.01},
    ],
)
def test_it_learns_tastes_and_dislikes_and_puts_the_unknown_in_between(
    config: dict[str, Any], tmp_path: Path
) -> None:
    data = shop()
    bound = task(data, **{"epochs": 8, "forget": 0.05, **config})
    trained = fit(RECIPE, bound, bound.config, tmp_path)
    of = trained.network
    assert isinstance(of, Neumf)
    assert {"auroc", "ndcg_at_10", "hit_at_10"} <= set(trained.history[0])
    test = data.part("test")
    own = logits(of, torch.from_numpy(np.stack([test.users, test.items], 1)))
    other = logits(of, torch.from_numpy(np.stack([test.users, (test.items + 20) % 40 + 1], 1)))
    assert auroc(np.concatenate([own, other]), np.arange(160) < 80) > 0.8
    liked, disliked = data.part("train").labels > 0, data.part("train").labels <= 0
    known = logits(of, torch.from_numpy(np.stack([data.part("train").users, data.part("train").items], 1)))
    assert known[liked].mean() > known[disliked].mean() + 0.5
    nobody = logits(of, torch.tensor([[0, item] for item in range(1, 41)]))
    assert nobody[:15].mean() > nobody[15:].mean()  # two users in three like the first fifteen


@pytest.mark.parametrize("validate_on", ["sampled", "full"])
def test_validation_ranks_a_held_out_positive_among_others_by_hand(validate_on: str) -> None:
    data = shop()
    bound = task(data, **SMALL, validate_on=validate_on)
    torch.manual_seed(2)
    of = bound.network().eval()
    assert isinstance(of, Neumf)
    with torch.no_grad():
        found = bound.validate(of)
    held = data.part("validation")
    ranks = []
    for user, item in zip(held.users, held.items, strict=True):
        had = data.before("validation").positive
        if validate_on == "full":
            drop = had.items[had.users == user]
        else:  # fewer than 99 are left, so every one of them is drawn
            drop = np.concatenate([p.items[p.users == user] for p in (data.part(n).positive for n in PARTS)])
        rivals = np.setdiff1d(np.arange(1, 41), np.append(drop, item))
        scores = logits(of, torch.tensor([[user, item], *([user, other] for other in rivals)]))
        ranks.append(1 + (scores[1:] > scores[0]).sum())
    assert found["hit_at_10"] == pytest.approx(np.mean(np.array(ranks) <= 10))
    gains = [1 / np.log2(rank + 1) if rank <= 10 else 0.0 for rank in ranks]
    assert found["ndcg_at_10"] == pytest.approx(np.mean(gains))
    assert 0.2 < found["auroc"] < 0.8


def test_without_validation_there_is_no_figure() -> None:
    bound = task(shop().with_parts(validation=Interactions.none()))
    assert bound.validate(bound.network()) == {}
