"""Several workers train one model: what they learn is what one learns."""

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etalage.config import validated
from etalage.engine import local
from etalage.engine.children import child
from etalage.errors import ConfigError, LossNotFinite, WorkerLost
from etalage.features.category_set import CategorySet
from etalage.models.item_category import RECIPE, ItemCategoryConfig, ItemCategoryTask
from etalage.models.recipe import Trained
from etalage.training.loop import fit
from etalage.training.workers import together
from tests.category_sets import category_set, quick

CERTAIN: dict[str, Any] = {
    "norms": "keep", "crop": 1, "flip": False, "light": 0, "dropout": 0, "batch_size": 48,
    "learning_rate": 0.003, "epochs": 3,
}  # fmt: skip
"""A row's gradient hangs on nothing but the row."""


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def items() -> CategorySet:
    return category_set()


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def train(
    items: CategorySet, run: Path, progress: Callable[[int, int, str], None] | None = None, **changes: Any
) -> Trained[Any]:
    config = ItemCategoryConfig(**quick(**{**CERTAIN, **changes}))
    run.mkdir(parents=True, exist_ok=True)
    task = RECIPE.bind(config, items)
    with together(RECIPE, config, items, task, run) as context:
        return fit(RECIPE, task, config, run, progress=progress, context=context)


def weights(trained: Trained[Any]) -> dict[str, torch.Tensor]:
    network: Any = trained.network
    found: dict[str, torch.Tensor] = network.state_dict()
    return found


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_gradients_are_averaged_so_that_all_take_the_step_of_one(
    items: CategorySet, tmp_path: Path, workers: int
) -> None:
    alone, shared = train(items, tmp_path / "alone"), train(items, tmp_path / "shared", workers=workers)
    assert difference(weights(alone), weights(shared)) < 1e-4
    losses = [[one["loss"] for one in trained.history] for trained in (alone, shared)]
    assert losses[0] == pytest.approx(losses[1], 1e-3)
    drawn = RECIPE.bind(alone.config, items).network().state_dict()
    assert difference(drawn, weights(alone)) > 0.01, "nothing was learned"
    assert [file.name for file in (tmp_path / "shared").iterdir()] == ["checkpoints"]


@pytest.mark.slow
def test_heads_first_then_the_backbone_with_crops_and_dropout_is_learned(
    items: CategorySet, tmp_path: Path
) -> None:
    changes: dict[str, Any] = quick(
        frozen_epochs=1, epochs=6, frozen_batch_size=32, norms="train", dropout=0.1, text="late", workers=2
    )
    shared = train(items, tmp_path, **changes)
    assert shared.metrics["leaf_accuracy"] > 0.9
    assert len(shared.history) == 6 and shared.cpu_seconds > 0


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_one_that_was_not(items: CategorySet, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "workers": 2,
        "dropout": 0.3,
        "crop": 0.6,
        "norms": "train",
        "checkpoint_steps": 2,
    }

    def stop(done: int, _: int, __: str) -> None:
        if done == 7:
            raise Stopped

    whole = train(items, tmp_path / "whole", **changes)
    with pytest.raises(Stopped):
        train(items, tmp_path / "stopped", progress=stop, **changes)
    resumed = train(items, tmp_path / "stopped", **changes)
    assert difference(weights(whole), weights(resumed)) == 0
    assert resumed.history == whole.history


def test_a_photo_is_cropped_and_relit_alike_whichever_worker_has_it(items: CategorySet) -> None:
    config = ItemCategoryConfig(**quick(batch_size=9, dropout=0, norms="keep", text="joint"))
    task = ItemCategoryTask(config, items)
    torch.manual_seed(0)
    network = task.network().eval()

    def seen(rank: int, workers: int) -> list[np.ndarray]:
        """The planes that the backbone is shown."""
        planes: list[np.ndarray] = []
        with pytest.MonkeyPatch.context() as patched, torch.no_grad():
            look = network.trunk.planes
            patched.setattr(
                network.trunk, "planes", lambda given: planes.extend(given.numpy()) or look(given)
            )
            task.loss(network, task.batch(1, 2, rank, workers))
        return planes

    whole, parts = seen(0, 1), [seen(rank, 2) for rank in (0, 1)]
    assert [len(part) for part in parts] == [5, 4]
    for place, planes in enumerate(whole):
        assert np.array_equal(planes, parts[place % 2][place // 2])


def test_a_worker_that_is_killed_is_told_and_the_run_goes_on_later(
    items: CategorySet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started: list[int] = []

    def noted(command: Any, env: Any = None) -> Any:
        process = child(command, env)
        started.append(process.pid)
        return process

    monkeypatch.setattr("etalage.engine.local.child", noted)

    def kill(done: int, _: int, __: str) -> None:
        if done == 6:
            os.kill(started[0], signal.SIGKILL)

    with caplog.at_level(logging.ERROR), pytest.raises(WorkerLost, match="goes on from the last checkpoint"):
        train(items, tmp_path, progress=kill, workers=2, checkpoint_steps=2)
    assert "worker 1 of 2 ended with signal SIGKILL" in caplog.text
    assert len(train(items, tmp_path, workers=2, checkpoint_steps=2).history) == 3


def test_one_that_cannot_begin_is_told_at_once(items: CategorySet, tmp_path: Path) -> None:
    """The folder with what is handed over is gone before the other opens it."""
    config = ItemCategoryConfig(**quick(**CERTAIN, workers=2))
    task = RECIPE.bind(config, items)

    class Forgetful(local.LocalEngine):
        def launch(self, function: Any, workers: int) -> Any:
            for file in tmp_path.glob(".handed-*/*"):
                file.unlink()
            return super().launch(function, workers)

    told = "worker 1 of 2 ended with status 1, before it could take part"
    with pytest.raises(WorkerLost, match=told), together(RECIPE, config, items, task, tmp_path, Forgetful()):
        pass
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_no_number_ends_all_of_them(items: CategorySet, tmp_path: Path) -> None:
    with pytest.raises(LossNotFinite, match="epoch 1, step"):
        train(items, tmp_path, workers=2, learning_rate=1e30, trunk_rate=1e30)


def test_heads_alone_are_learned_by_one(items: CategorySet, tmp_path: Path) -> None:
    config = ItemCategoryConfig(**quick(workers=2, frozen_epochs=5))
    task = RECIPE.bind(config, items)
    with together(RECIPE, config, items, task, tmp_path) as context:
        assert context.world_size == 1


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    for changes, told in (
        (
            {"batch_size": 32, "workers": 3},
            "batch_size = 32 cannot be shared by 3 workers: take a multiple of 3",
        ),
        ({"batch_size": 4, "workers": 4}, "two rows each"),
        (
            {"batch_size": 32, "frozen_batch_size": 63, "frozen_epochs": 1, "workers": 2},
            "frozen_batch_size = 63",
        ),
    ):
        with pytest.raises(ConfigError, match=told):
            validated(ItemCategoryConfig, changes, where="[models.item_category]")
