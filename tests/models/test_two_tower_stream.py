"""Two towers trained on behaviour that is read as a stream."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etalage.features.behaviour import BehaviourSet
from etalage.features.behaviour_stream import BehaviourStream
from etalage.models import recipe as recipes
from etalage.models.two_tower import TwoTowerConfig, TwoTowerStreamTask, TwoTowerTask
from etalage.training.loop import fit
from tests.behaviours import behaviour
from tests.features.behaviour_tables import stored
from tests.models.resuming import killed_and_resumed

RECIPE = recipes.find("two_tower")
SETTINGS: dict[str, Any] = {
    "history": 8, "width": 8, "layers": 1, "heads": 1, "epochs": 1, "batch_size": 128, "precision": "float32",
    "validate_queries": 100,
}  # fmt: skip
OTHERWISE: dict[str, dict[str, Any]] = {
    "drawn candidates": {"full_up_to": 0, "shared_negatives": 20},
    "all items": {},
    "drawn negatives": {"objective": "binary"},
    "values": {"objective": "regression"},
    "classes": {"objective": "classes"},
    "several actions": {"actions": {"view": 1, "buy": 2}},
    "original": {"preset": "original"},
}
"""Ways to compute its loss."""


@pytest.fixture(scope="module")
def held() -> BehaviourSet:
    return behaviour()


@pytest.fixture(scope="module")
def stream(held: BehaviourSet, tmp_path_factory: pytest.TempPathFactory) -> BehaviourStream:
    return stored(held, tmp_path_factory.mktemp("files") / "behaviour")


def config_of(**changes: Any) -> TwoTowerConfig:
    if changes.get("preset") == "original":
        return TwoTowerConfig(preset="original", epochs=1, precision="float32", batch_size=128)
    return TwoTowerConfig(**{**SETTINGS, **changes})


def in_order_of(task: TwoTowerStreamTask, held: BehaviourSet) -> TwoTowerTask:
    """The task in memory, with the batches of the stream: the same examples in the same order."""
    other = TwoTowerTask(task.config, held)

    def plan(epoch: int) -> list[np.ndarray]:
        return [task.plan.drawn(epoch, step).numbers for step in range(task.steps)]

    other.plan.windows.plan = plan  # type: ignore[method-assign]
    return other


@pytest.mark.parametrize("title", OTHERWISE)
def test_batches_and_what_validation_says_are_those_of_memory(
    title: str, held: BehaviourSet, stream: BehaviourStream
) -> None:
    task = RECIPE.bind(config_of(**OTHERWISE[title]), stream)
    assert isinstance(task, TwoTowerStreamTask)
    other = in_order_of(task, held)
    assert task.steps == other.steps > 5
    for step in (0, 1, task.steps - 1):
        ours, theirs = task.batch(1, step), other.batch(1, step)
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert ours[name].dtype == tensor.dtype and torch.equal(ours[name], tensor), name
    torch.manual_seed(0)
    network = task.network().eval()
    torch.manual_seed(0)
    for name, tensor in other.network().state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name]), name
    with torch.inference_mode():
        assert task.validate(network) == pytest.approx(other.validate(network), rel=1e-5)


def test_the_parts_of_a_batch_add_up_to_it_negatives_included(stream: BehaviourStream) -> None:
    task = RECIPE.bind(config_of(objective="binary"), stream)
    for step in (0, task.steps - 1):
        whole, parts = task.batch(0, step), [task.batch(0, step, rank, 3) for rank in range(3)]

        def pairs(batch: Any) -> list[tuple[int, int, float]]:
            rows = batch["at"] // (batch["history"].shape[1] + 1)
            items = batch["item"][batch["target"]]
            return list(
                zip(batch["user"][rows].tolist(), items.tolist(), batch["label"].tolist(), strict=True)
            )

        assert sorted(pair for part in parts for pair in pairs(part)) == sorted(pairs(whole))
        assert sum(float(part["count.0"]) for part in parts) == float(whole["count.0"])


def test_with_the_same_examples_in_the_same_order_losses_and_weights_are_those_of_memory(
    tmp_path: Path, held: BehaviourSet, stream: BehaviourStream
) -> None:
    config = config_of(**OTHERWISE["drawn candidates"])
    task = RECIPE.bind(config, stream)
    ours = fit(RECIPE, task, config, tmp_path / "stream")
    theirs = fit(RECIPE, in_order_of(task, held), config, tmp_path / "memory")
    assert ours.history == theirs.history
    assert ours.network is not None and theirs.network is not None
    for name, tensor in theirs.network.state_dict().items():
        assert torch.equal(tensor, ours.network.state_dict()[name]), name


@pytest.mark.parametrize("later", [1, 2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_with_any_number_of_workers_and_ends_the_same(
    tmp_path: Path, stream: BehaviourStream, later: int
) -> None:
    # Dropout is drawn by each rank for itself.
    sure = {"dropout": 0.0, "attention_dropout": 0.0, "forget_item": 0.0}
    settings = {**OTHERWISE["drawn candidates"], **sure, "optimiser": "sgd"}
    config = config_of(**settings)
    whole = fit(RECIPE, RECIPE.bind(config, stream), config, tmp_path / "whole")
    ended, steps, epoch = killed_and_resumed(
        RECIPE, partial(config_of, **settings), stream, tmp_path / "cut", at=7, every=3, workers=later
    )
    assert steps == list(range(7, epoch + 1))
    assert whole.network is not None and ended.network is not None
    for name, tensor in whole.network.state_dict().items():
        other = ended.network.state_dict()[name]
        assert torch.equal(tensor, other) if later == 1 else torch.allclose(tensor, other, atol=1e-5), name
