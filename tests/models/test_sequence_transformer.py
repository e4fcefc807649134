"""Order, blocks and losses of the sequence model; what it shares with two_tower is tested there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from etalage.features.behaviour import NEVER, BehaviourSet
from etalage.models import recipe as recipes
from etalage.models import sequence_transformer
from etalage.models.history_encoder import BLOCKS
from etalage.models.markov_chain import solved
from etalage.models.sequence_transformer import SequenceTransformer, SequenceTransformerStreamTask
from etalage.training.loop import fit
from tests.behaviours import behaviour
from tests.features.behaviour_tables import stored
from tests.sequences import in_turn

RECIPE = recipes.find("sequence_transformer")
QUICK: dict[str, Any] = {
    "epochs": 12, "width": 16, "layers": 1, "history": 8, "batch_size": 32, "dropout": 0.0,
    "learning_rate": 0.01, "precision": "float32",
}  # fmt: skip


@pytest.fixture(scope="module")
def turns() -> BehaviourSet:
    return in_turn()


@torch.inference_mode()
def after(task: Any, network: SequenceTransformer, histories: list[list[int]]) -> list[int]:
    """The item row that scores highest after each history, among those that do not stand in it."""
    data = task.data
    rows = np.zeros((len(histories), max(map(len, histories))), np.int64)
    for row, history in zip(rows, histories, strict=True):
        row[len(row) - len(history) :] = history
    rows_N = torch.arange(len(data.items))
    held, items = (f(rows_N, *task.item_columns) for f in (network.history_item, network.embed_item))
    history = torch.from_numpy(rows)
    given = [held[history], history != 0]
    scores = network.embed_query(*given) @ items.T
    scores.scatter_(1, history, -torch.inf)
    scores[:, 0] = -torch.inf
    found: list[int] = scores.argmax(1).tolist()
    return found


@pytest.mark.parametrize("block", BLOCKS)
def test_it_learns_which_item_follows_which_and_not_only_which_go_together(
    block: str, turns: BehaviourSet, tmp_path: Path
) -> None:
    config = RECIPE.config(**QUICK, block=block)
    task = RECIPE.bind(config, turns)
    network = fit(RECIPE, task, config, tmp_path).network
    assert isinstance(network, SequenceTransformer)
    assert after(task, network.eval(), [[6, 7, 1, 2], [2, 3, 4, 5], [4, 5, 6, 7]]) == [3, 6, 1]


@pytest.mark.parametrize(
    "settings",
    [{"full_up_to": 0, "shared_negatives": 4}, {"loss": "gbce", "shared_negatives": 4}, {"cosine": False}],
    ids=["drawn items", "gbce", "plain inner products"],
)
def test_the_other_losses_learn_it_too(settings: dict[str, Any], turns: BehaviourSet, tmp_path: Path) -> None:
    config = RECIPE.config(**{**QUICK, "epochs": 20, **settings})
    task = RECIPE.bind(config, turns)
    network = fit(RECIPE, task, config, tmp_path).network
    assert isinstance(network, SequenceTransformer)
    assert after(task, network.eval(), [[6, 7, 1, 2], [2, 3, 4, 5]]) == [3, 6]


@pytest.mark.parametrize("compared", [37, 10_000], ids=["some", "all"])
def test_how_much_the_chain_says_is_chosen_on_validation_and_kept_for_the_next_training(
    compared: int, turns: BehaviourSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before attention has learned anything, the chain alone knows what follows."""
    monkeypatch.setattr(sequence_transformer, "COMPARED", compared)
    config = RECIPE.config(**{**QUICK, "epochs": 1, "learning_rate": 1e-7, "markov": 5})
    task = RECIPE.bind(config, turns)
    trained = fit(RECIPE, task, config, tmp_path)
    assert isinstance(trained.network, SequenceTransformer) and trained.network.chain is not None
    assert trained.config.markov_scale == float(trained.network.chain.scale) > 0
    assert trained.metrics["ndcg_at_10"] > 0.9
    silent = config.model_copy(update={"markov_scale": 0.0})
    other = fit(RECIPE, RECIPE.bind(silent, turns), silent, tmp_path / "silent")
    assert other.config.markov_scale == 0 and other.metrics["ndcg_at_10"] < 0.9


def test_the_chain_is_the_best_approximation_of_weighted_counts_and_none_where_nothing_follows(
    turns: BehaviourSet,
) -> None:
    acts = turns.part("train").positive
    found = solved([acts], 8, rank=6)
    assert found is not None
    leads, follows = found
    assert leads.shape == follows.shape == (8, 6) and leads.dtype == np.float32
    scores = leads @ follows.T
    counts, times = np.zeros((8, 8)), np.bincount(acts.items, minlength=8)
    for user in np.unique(acts.users):
        items = acts.items[acts.users == user]
        for first in range(len(items)):
            for second in range(first + 1, len(items)):
                weight = 0.6 ** (second - first - 1)
                counts[items[first], items[second]] += weight
                counts[items[second], items[first]] += 0.3 * weight
    left, values, right = np.linalg.svd(counts / np.sqrt(np.outer(times + 20, times + 20)))
    np.testing.assert_allclose(scores, (left[:, :6] * values[:6]) @ right[:6], atol=1e-5)
    halves = [acts.take(acts.users <= 77), acts.take(acts.users > 77)]
    again = solved(halves, 8, rank=6)
    assert again is not None
    np.testing.assert_allclose(again[0] @ again[1].T, scores, atol=1e-5)
    assert solved([acts.take(np.zeros(len(acts), bool))], 8, rank=6) is None
    one_each = np.unique(acts.users, return_index=True)[1]
    assert solved([acts.take(one_each)], 8, rank=6) is None


def test_settings_that_another_one_leaves_idle_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"calibration = 0\.5 does nothing here"):
        RECIPE.config(calibration=0.5)
    with pytest.raises(ValidationError, match="full_up_to"):
        RECIPE.config(loss="gbce", full_up_to=5)
    with pytest.raises(ValidationError, match="markov_scale"):
        RECIPE.config(markov=0, markov_scale=3.0)
    with pytest.raises(ValidationError, match="no multiple of heads"):
        RECIPE.config(width=33)


def test_batches_of_a_stream_are_those_of_memory(tmp_path: Path) -> None:
    held = behaviour()
    stream = stored(held, tmp_path / "behaviour")
    config = RECIPE.config(**{**QUICK, "full_up_to": 0, "shared_negatives": 20, "validate_queries": 100})
    streamed, memory = RECIPE.bind(config, stream), RECIPE.bind(config, held)
    assert isinstance(streamed, SequenceTransformerStreamTask)
    memory.plan.windows.plan = lambda epoch: [
        streamed.plan.drawn(epoch, step).numbers for step in range(streamed.steps)
    ]
    for step in (0, streamed.steps - 1):
        ours, theirs = streamed.batch(1, step), memory.batch(1, step)
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert torch.equal(ours[name], tensor), name
    torch.manual_seed(0)
    network = memory.network().eval()
    with torch.inference_mode():
        assert streamed.validate(network) == pytest.approx(memory.validate(network), rel=1e-5)


def test_a_shopper_without_a_history_gets_what_is_done_first(turns: BehaviourSet, tmp_path: Path) -> None:
    config = RECIPE.config(**QUICK)
    task = RECIPE.bind(config, turns)
    network = fit(RECIPE, task, config, tmp_path).network
    assert isinstance(network, SequenceTransformer)
    nobody = turns.queries_of(np.array([0]), turns.before("validation").positive, np.array([NEVER]))
    with torch.inference_mode():
        held = network.eval().history_item(torch.arange(len(turns.items)))
        items = network.embed_item(torch.arange(len(turns.items)))
        scores = task.embed(network, nobody, held) @ items.T
    assert torch.isfinite(scores).all() and int(scores[0, 1:].argmax()) + 1 == 6
