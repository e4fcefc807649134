"""The loop on a tiny task: it learns, keeps the best weights, resumes exactly, stops at NaN."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from etalage.errors import CheckpointDamaged, LossNotFinite
from etalage.models.recipe import BaseTask, Recipe, Trained, TrainingConfig
from etalage.training import checkpoint
from etalage.training.loop import fit
from tests.serve.servers import until


@dataclass
class LineTask(BaseTask):
    """Fit y = 3 a - 2 b + 1 with dropout, so that torch's random state matters."""

    config: TrainingConfig
    poison: int = -1
    """The step in all whose batch holds a NaN."""
    scores: list[float] = field(default_factory=list)
    """What validation says, epoch by epoch; empty: the honest figure."""
    stuck: int = -1
    """The step in all at which it waits to be killed."""
    metric = "fit"
    steps = 6
    asked: list[tuple[int, int]] = field(default_factory=list)

    def network(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(2, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1)
        )

    def learning_rate_of(self, parameter: str) -> float:
        return 0.02

    def batch(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> dict[str, Tensor]:
        self.asked.append((epoch, step))
        if epoch * self.steps + step == self.stuck:
            time.sleep(3600)
        generator = torch.Generator().manual_seed(1000 * epoch + step)
        x = torch.randn(32, 2, generator=generator)
        y = 3 * x[:, :1] - 2 * x[:, 1:] + 1
        if epoch * self.steps + step == self.poison:
            y[5] = float("nan")
        return {"x": x, "y": y, "rows": torch.arange(100, 132)}

    def loss(self, network: nn.Module, batch: Any) -> Tensor:
        return nn.functional.mse_loss(network(batch["x"]), batch["y"])

    def validate(self, network: nn.Module) -> dict[str, float]:
        if self.scores:
            return {"fit": self.scores[self.asked[-1][0]]}
        x = torch.randn(200, 2, generator=torch.Generator().manual_seed(77))
        error = network(x) - (3 * x[:, :1] - 2 * x[:, 1:] + 1)
        return {"fit": -float(error.square().mean())}


RECIPE = Recipe("line", "ranker", "none", TrainingConfig, (), lambda config, data: LineTask(config))


def train(run: Path, task: LineTask, **options: Any) -> Trained[TrainingConfig]:
    return fit(RECIPE, task, task.config, run, **options)


def weights(trained: Trained[TrainingConfig]) -> str:
    return str({name: tensor.tolist() for name, tensor in trained.network.state_dict().items()})


def test_the_loss_falls_and_every_batch_is_asked_once(tmp_path: Path) -> None:
    task = LineTask(TrainingConfig(epochs=8))
    trained = train(tmp_path, task)
    assert trained.history[-1]["loss"] < 0.3 * trained.history[0]["loss"]
    assert task.asked == [(epoch, step) for epoch in range(8) for step in range(6)]


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    runs = [train(tmp_path / str(n), LineTask(TrainingConfig(epochs=2, seed=n // 2))) for n in range(3)]
    assert weights(runs[0]) == weights(runs[1])
    assert weights(runs[0]) != weights(runs[2])


@pytest.mark.parametrize("average", [None, 0.9])
def test_the_best_weights_are_restored_and_patience_ends_it(tmp_path: Path, average: float | None) -> None:
    scores = [0.1, 0.9, 0.5, 0.4, 0.8]
    long = LineTask(TrainingConfig(epochs=5, patience=2, average=average), scores=scores)
    trained = train(tmp_path / "long", long)
    assert [h["fit"] for h in trained.history] == [0.1, 0.9, 0.5, 0.4]
    assert trained.metrics["fit"] == 0.9
    # steps_per_epoch is fixed, so the first two epochs of both are the same but for the schedule's length
    flat = LineTask(TrainingConfig(epochs=5, average=average), scores=[0.1, 0.9, 0.0, 0.0, 0.0])
    assert weights(train(tmp_path / "flat", flat)) == weights(trained)


@pytest.mark.parametrize("average", [None, 0.95])
@pytest.mark.parametrize("stop", [4, 6, 9])
def test_f4_a_run_that_stops_anywhere_ends_like_an_uninterrupted_one(
    tmp_path: Path, stop: int, average: float | None
) -> None:
    config = TrainingConfig(epochs=3, checkpoint_steps=2, average=average)
    whole = train(tmp_path / "whole", LineTask(config))
    with pytest.raises(LossNotFinite):
        train(tmp_path / "torn", LineTask(config, poison=stop))
    torch.manual_seed(999)
    resumed = LineTask(config)
    again = train(tmp_path / "torn", resumed)
    assert len(resumed.asked) < 18
    assert weights(again) == weights(whole)
    assert [h["loss"] for h in again.history] == [h["loss"] for h in whole.history]


def test_f53_a_loss_that_is_nan_stops_and_names_the_batch(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=3, checkpoint_steps=2)
    with pytest.raises(LossNotFinite, match=r"epoch 2, step 3, rows \[100, 101") as caught:
        train(tmp_path, LineTask(config, poison=9))
    assert caught.value.exit_code == 6
    kept = sorted(p.name for p in (tmp_path / "checkpoints").glob("step-*"))
    assert kept[-1] == "step-00000008"


def test_f53_weights_that_the_optimiser_made_infinite_are_never_kept(tmp_path: Path) -> None:
    class Leaping(LineTask):
        def learning_rate_of(self, parameter: str) -> float:
            return 1e38

    with pytest.raises(LossNotFinite):
        train(tmp_path, Leaping(TrainingConfig(epochs=2, checkpoint_steps=1, optimiser="sgd")))
    found = checkpoint.newest(tmp_path / "checkpoints")
    assert found is None or all(bool(torch.isfinite(t.float()).all()) for t in found.tensors.values())


def test_a_checkpoint_of_another_network_is_refused_with_the_remedy(tmp_path: Path) -> None:
    class Wider(LineTask):
        def network(self) -> nn.Module:
            return nn.Sequential(nn.Linear(2, 17), nn.ReLU(), nn.Linear(17, 1))

    train(tmp_path, LineTask(TrainingConfig(epochs=1)))
    with pytest.raises(CheckpointDamaged, match="--fresh"):
        train(tmp_path, Wider(TrainingConfig(epochs=1)))


def test_gradients_are_clipped_to_the_norm_that_is_asked_for(tmp_path: Path) -> None:
    def note(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        parts = [p.grad.norm() for group in optimiser.param_groups for p in group["params"]]
        norms.append(float(torch.stack(parts).norm()))

    norms: list[float] = []
    hook = register_optimizer_step_pre_hook(note)
    try:
        train(tmp_path / "free", LineTask(TrainingConfig(epochs=1)))
        free, norms = max(norms), []
        train(tmp_path / "clipped", LineTask(TrainingConfig(epochs=1, clip_norm=0.01)))
    finally:
        hook.remove()
    assert free > 0.1
    assert max(norms) <= 0.0101


def test_bfloat16_trains_too_and_keeps_float32_weights(tmp_path: Path) -> None:
    trained = train(tmp_path, LineTask(TrainingConfig(epochs=8, precision="bfloat16")))
    assert trained.history[-1]["loss"] < 0.4 * trained.history[0]["loss"]
    assert {p.dtype for p in trained.network.parameters()} == {torch.float32}


def test_a_finished_run_is_found_again_without_a_step(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=2)
    first = train(tmp_path, LineTask(config))
    again = LineTask(config)
    assert weights(train(tmp_path, again)) == weights(first)
    assert again.asked == []


def test_progress_counts_to_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    config = TrainingConfig(epochs=2)
    train(tmp_path, LineTask(config), progress=lambda done, total, line: seen.append((done, total)))
    assert seen == [(n, 12) for n in range(1, 13)]


def test_one_that_is_to_stop_early_is_where_the_long_one_was_then(tmp_path: Path) -> None:
    """Its learning rate falls as if all epochs came."""
    long = TrainingConfig(epochs=4, schedule="cosine")
    kept = train(tmp_path / "long", LineTask(long, scores=[0.1, 0.9, 0.2, 0.3]))
    seen: list[tuple[int, int]] = []
    short = LineTask(long.model_copy(update={"stop_after": 2}), scores=[0.1, 0.2])
    stopped = train(tmp_path / "short", short, progress=lambda *told: seen.append(told[:2]))
    assert weights(stopped) == weights(kept)
    assert seen[-1] == (12, 12) and len(stopped.history) == 2
    with pytest.raises(ValueError, match="stop_after = 4 does nothing: there are 4 epochs"):
        TrainingConfig(epochs=4, stop_after=4)


def test_f4_a_killed_process_resumes_to_the_same_end(tmp_path: Path) -> None:
    config = TrainingConfig(epochs=6, checkpoint_steps=3)
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.training.test_loop import LineTask, TrainingConfig, train, weights\n"
        "config = TrainingConfig(epochs=6, checkpoint_steps=3)\n"
        "train(Path(sys.argv[1]), LineTask(config, stuck=8))\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}

    def trained(run: str) -> str:
        return f"{weights(train(tmp_path / run, LineTask(config)))}"

    whole = trained("whole")
    command = [sys.executable, "-c", script, str(tmp_path / "torn")]
    torn = subprocess.Popen(command, env=environment)
    checkpoints = tmp_path / "torn" / "checkpoints"
    until(lambda: len(list(checkpoints.glob("step-*"))) >= 2)
    torn.send_signal(signal.SIGKILL)
    torn.communicate()
    assert torn.returncode == -signal.SIGKILL
    assert trained("torn") == whole
