"""What every embedder of behaviour keeps to; run over every such model in the folder, through its export."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etalage.features.behaviour import NEVER, BehaviourSet, Queries
from etalage.models.recipe import Recipe, Trained
from etalage.runtime.embeddings import EmbeddingScorer
from etalage.runtime.opening import open_scorer
from etalage.training.behaviour_export import export_behaviour
from etalage.training.export_source import Source
from etalage.training.loop import fit
from tests.behaviours import ITEMS, USERS, behaviour
from tests.contracts.folder import FOLDER, names, stepped

pytestmark = pytest.mark.traces

EMBEDDERS = [name for name in names("embedder", "behaviour") if name in stepped()]
"""Those that are trained by steps: of a network that is solved (`cold_start`) no loss falls."""
QUICK: dict[str, dict[str, Any]] = {
    "two_tower": {
        "epochs": 12, "width": 16, "layers": 1, "history": 8, "batch_size": 256, "dropout": 0.1,
        "learning_rate": 0.01, "user_id": True,
    },
    "sequence_transformer": {
        "epochs": 12, "width": 16, "layers": 1, "history": 8, "batch_size": 256, "dropout": 0.1,
        "learning_rate": 0.01,
    },
    "item2vec": {
        "epochs": 25, "dimension": 16, "min_count": 1, "window": 2, "batch_size": 256, "subsample": 1.0,
        "learning_rate": 0.02,
    },
    "matrix_factorisation": {"epochs": 20, "dimension": 16, "shared_negatives": None, "batch_size": 256},
    "dssm": {
        "epochs": 12, "feature_sources": ("photo",), "batch_size": 256, "learning_rate": 0.01,
        "patience": None,
    },
}  # fmt: skip
"""Small settings for each model; a new embedder of ours needs a line here, and one in TRAINED_SCORE."""


def two_tower_score(network: Any, data: BehaviourSet, queries: Queries) -> torch.Tensor:
    """As in training: the whole window at once, the state after the last act, the logits of the softmax."""
    rows, kinds, _ = queries.last(network.history_length)
    history, columns = torch.from_numpy(rows), data.item_features.columns.values()
    held = network.history_item(torch.arange(len(data.items)), *(torch.from_numpy(c) for c in columns))
    states = network.states(
        {
            "user": torch.from_numpy(queries.users),
            "user.stride": torch.from_numpy(queries.features.sparse["stride"]),
            "history_embeddings": held[history],
            "history_mask": history != 0,
            "history_kinds": torch.from_numpy(kinds),
        }
    )
    return network.queries_by_action(states[:, -1])[0] @ network.finished(held).T


def sequence_transformer_score(network: Any, data: BehaviourSet, queries: Queries) -> torch.Tensor:
    """The logits of the softmax after the last act, as in training, and the chain's score of each item."""
    rows, kinds, _ = queries.last(network.history_length)
    history, columns = torch.from_numpy(rows), data.item_features.columns.values()
    held = network.held(torch.arange(len(data.items)), *(torch.from_numpy(c) for c in columns))
    states = network.states(held[history], history != 0, torch.from_numpy(kinds))
    logits, chain = states[:, -1] @ network.finished(held).T, network.chain
    for ago in range(rows.shape[1]):
        item = history[:, -1 - ago]
        there = 0.6**ago * (item != 0)[:, None]
        logits = logits + chain.scale * there * (chain.leads[item] @ chain.follows.T)
    return logits


def item2vec_score(network: Any, data: BehaviourSet, queries: Queries) -> torch.Tensor:
    """The mean of the logits of each act with every item."""
    rows, mask = history_of(network, queries)
    logits = network.history_item(rows) @ network.output_KD[network.place_N].T
    return (logits * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def dssm_score(network: Any, data: BehaviourSet, queries: Queries) -> torch.Tensor:
    """The head over the element-wise product of the two towers."""
    rows, mask = history_of(network, queries)
    given = torch.from_numpy(data.item_features.dense["photo"])
    means = (given[rows] * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
    count = len(given)
    return network(means.repeat_interleave(count, 0), given.repeat(len(rows), 1)).view(-1, count)


def matrix_factorisation_score(network: Any, data: BehaviourSet, queries: Queries) -> torch.Tensor:
    """p · q + b."""
    users = network.users.weight[torch.from_numpy(queries.users)]
    return users @ network.items.weight.T + network.biases.weight[:, 0]


TRAINED_SCORE: dict[str, Callable[[Any, BehaviourSet, Queries], torch.Tensor]] = {
    "two_tower": two_tower_score,
    "sequence_transformer": sequence_transformer_score,
    "item2vec": item2vec_score,
    "dssm": dssm_score,
    "matrix_factorisation": matrix_factorisation_score,
}
"""The score that training moves, computed by other means than the two embeddings."""


def history_of(network: Any, queries: Queries) -> tuple[torch.Tensor, torch.Tensor]:
    rows = torch.from_numpy(queries.last(network.history_length)[0])
    return rows, rows > 0


@pytest.fixture(scope="module", params=EMBEDDERS)
def recipe(request: pytest.FixtureRequest) -> Recipe[Any]:
    return FOLDER.find(request.param)


@pytest.fixture(scope="module")
def data() -> BehaviourSet:
    return behaviour()


@pytest.fixture(scope="module")
def config(recipe: Recipe[Any]) -> Any:
    return recipe.config(**QUICK.get(recipe.name, {}))


@pytest.fixture(scope="module")
def trained(
    recipe: Recipe[Any], config: Any, data: BehaviourSet, tmp_path_factory: pytest.TempPathFactory
) -> Trained[Any]:
    return fit(recipe, recipe.bind(config, data), config, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def scorer(
    recipe: Recipe[Any], trained: Trained[Any], data: BehaviourSet, tmp_path_factory: pytest.TempPathFactory
) -> EmbeddingScorer:
    folder = export_behaviour(recipe, trained, Source.of(data), tmp_path_factory.mktemp("exports"))
    opened = open_scorer(folder)
    assert isinstance(opened, EmbeddingScorer)
    return opened


def asked(data: BehaviourSet, user: int, *items: int) -> Queries:
    """One shopper who viewed these item rows, a day apart."""
    stride = data.user_features.take(np.array([user]))
    rows = np.array(items, np.int64)
    times = 86_400_000_000 * np.arange(len(items))
    return Queries(
        np.array([user]),
        np.array([0, len(items)]),
        rows,
        np.ones_like(rows),
        times,
        np.array([NEVER]),
        stride,
    )


def hits_at_10(scores_BN: np.ndarray, data: BehaviourSet) -> float:
    """Share of shoppers whose test item is among the first ten that they have not taken."""
    queries, wanted = data.queries("test")
    scores_BN = scores_BN.copy()
    scores_BN[queries.owners, queries.items] = -np.inf
    first_BK = np.argsort(-scores_BN, axis=1)[:, :10]
    return float(np.mean([truth[0] in first for truth, first in zip(wanted, first_BK, strict=True)]))


def test_the_loss_falls(trained: Trained[Any]) -> None:
    assert trained.history[-1]["loss"] < 0.97 * trained.history[0]["loss"]


def test_it_beats_popularity(scorer: EmbeddingScorer, data: BehaviourSet) -> None:
    queries, _ = data.queries("test")
    popular = np.bincount(data.before("test").positive.items, minlength=len(data.items)).astype(float)
    popular[0] = -np.inf
    floor = hits_at_10(np.tile(popular, (len(queries), 1)), data)
    assert hits_at_10(scorer.scores(queries), data) > floor + 0.1


def test_what_is_served_is_the_trained_score_and_its_order(
    recipe: Recipe[Any], trained: Trained[Any], scorer: EmbeddingScorer, data: BehaviourSet
) -> None:
    queries = data.queries("test")[0].block(0, 40)
    served = scorer.embed_queries(queries) @ np.asarray(scorer.item_embeddings).T
    if recipe.name not in TRAINED_SCORE and recipe.source is not None:
        pytest.skip("a shop's own model; its score by other means is not written down here")
    assert trained.network is not None
    with torch.inference_mode():
        score = TRAINED_SCORE[recipe.name](trained.network, data, queries).numpy()
    served, score = served[:, 1:], score[:, 1:]
    # A head may shift all scores of a query alike: that moves no order.
    shift = (score - served).mean(axis=1, keepdims=True)
    scale = np.abs(score - score.mean()).max()
    assert np.abs(served + shift - score).max() < 1e-4 * max(1, scale)
    # Where two items are closer than rounding, either may come first.
    order = np.argsort(-score, axis=1)
    assert (np.diff(np.take_along_axis(served, order, 1), axis=1) < 1e-4 * max(1, scale)).all()


def test_the_same_seed_gives_the_same_weights(
    recipe: Recipe[Any], config: Any, data: BehaviourSet, tmp_path: Path
) -> None:
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        short = config.model_copy(update={"epochs": 1, "steps_per_epoch": 3, "seed": seed})
        network = fit(recipe, recipe.bind(short, data), short, tmp_path / name).network
        assert network is not None
        runs.append(torch.cat([weights.flatten() for weights in network.parameters()]).detach())
    assert torch.equal(runs[0], runs[1])
    assert not torch.allclose(runs[0], runs[2])


def test_f4_a_run_that_stops_ends_like_an_uninterrupted_one(
    recipe: Recipe[Any], config: Any, data: BehaviourSet, tmp_path: Path
) -> None:
    short = config.model_copy(update={"epochs": 2, "steps_per_epoch": 4, "checkpoint_steps": 3})
    whole = fit(recipe, recipe.bind(short, data), short, tmp_path / "whole").network
    torn = recipe.bind(short, data)
    batch = torn.batch

    def failing(epoch: int, step: int, *ranks: int) -> Any:
        if (epoch, step) == (1, 2):
            raise KeyboardInterrupt
        return batch(epoch, step)

    torn.batch = failing
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, torn, short, tmp_path / "torn")
    again = fit(recipe, recipe.bind(short, data), short, tmp_path / "torn").network
    assert whole is not None and again is not None
    for (name, one), other in zip(whole.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_a_batch_is_a_pure_function_of_seed_epoch_and_step(
    recipe: Recipe[Any], config: Any, data: BehaviourSet
) -> None:
    one, other = recipe.bind(config, data), recipe.bind(config, data)
    other.batch(3, 1)
    for key, tensor in one.batch(1, 0).items():
        assert torch.equal(tensor, other.batch(1, 0)[key]), key
    assert any(
        one.batch(1, 0)[key].shape != tensor.shape or not torch.equal(one.batch(1, 0)[key], tensor)
        for key, tensor in one.batch(2, 0).items()
    )


def test_the_first_and_the_last_id_are_ordinary(scorer: EmbeddingScorer, data: BehaviourSet) -> None:
    train = data.part("train").positive
    last_known = int(train.items.max())
    first, middle, last = (
        scorer.scores(asked(data, user, item))[0, 1:]
        for user, item in ((1, 1), (USERS // 2, last_known // 2), (USERS, last_known))
    )
    for scores in (first, middle, last):
        assert np.isfinite(scores).all() and np.ptp(scores) > 1e-3
    assert not np.allclose(first, middle) and not np.allclose(last, middle)
    assert scorer.items.row("i001") == 1 and len(scorer.items) == ITEMS + 1


def test_unknown_users_items_and_empty_histories_have_finite_scores(
    scorer: EmbeddingScorer, data: BehaviourSet
) -> None:
    nobody = scorer.scores(asked(data, 0))
    assert np.isfinite(nobody[0, 1:]).all() and nobody[0, 0] == -np.inf
    stranger = asked(data, 0, 4, 5, 6)
    assert np.isfinite(scorer.scores(stranger)[0, 1:]).all()
    # A model of users alone knows nothing of a stranger, whatever they did, and says so.
    assert scorer.knows(stranger)[0] == (not np.allclose(scorer.scores(stranger), nobody))
    assert not scorer.knows(asked(data, 0))[0]
    of_nothing_known = scorer.scores(asked(data, 0, 0, 0))
    assert np.allclose(of_nothing_known[0, 1:], nobody[0, 1:], atol=1e-4)


def test_an_unknown_act_in_front_changes_nothing(scorer: EmbeddingScorer, data: BehaviourSet) -> None:
    with_unknown, without = (scorer.scores(asked(data, 0, *acts))[0, 1:] for acts in ((0, 7, 9), (7, 9)))
    assert np.allclose(with_unknown, without, atol=1e-4)


def test_one_shopper_at_a_time_or_all_together_is_the_same(
    scorer: EmbeddingScorer, data: BehaviourSet
) -> None:
    queries = data.queries("test")[0].block(0, 7)
    together = scorer.embed_queries(queries)
    alone = np.concatenate([scorer.embed_queries(queries.block(n, n + 1)) for n in range(7)])
    assert np.abs(together - alone).max() < 1e-5 * max(1, np.abs(together).max())
