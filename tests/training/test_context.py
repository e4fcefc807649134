"""Who a worker is, where its tensors lie, and in which precision."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from etalage.engine.worker_spec import WorkerSpec
from etalage.errors import ConfigError
from etalage.models.recipe import TrainingConfig
from etalage.training import context as contexts
from etalage.training.context import Context, compute_init, device_of, precision_of
from tests.conftest import PROJECT

OF_TORCHRUN = {
    "RANK": "1", "WORLD_SIZE": "3", "LOCAL_RANK": "0", "MASTER_ADDR": "trainer", "MASTER_PORT": "29500",
}  # fmt: skip


def test_a_worker_of_torchrun_knows_who_it_is_from_its_environment() -> None:
    spec = WorkerSpec.from_environment({**OF_TORCHRUN, "LOCAL_RANK": "1"})
    assert spec is not None
    assert (spec.rank, spec.world_size, spec.local_rank, spec.init_method) == (1, 3, 1, "env://")
    assert WorkerSpec.from_environment({}) is None
    assert WorkerSpec.from_environment({"LOCAL_RANK": "1"}) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"MASTER_ADDR": ""}, "MASTER_ADDR is not"),
        ({"RANK": "first"}, "RANK = 'first'"),
        ({"RANK": "3"}, "RANK = 3 of WORLD_SIZE = 3"),
    ],
)
def test_half_an_environment_is_refused(changes: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        WorkerSpec.from_environment({**OF_TORCHRUN, **changes})
    assert told in str(refused.value)


@pytest.mark.slow
def test_processes_that_torchrun_starts_train_together(tmp_path: Path) -> None:
    script = PROJECT / "tests" / "training" / "torchrun_script.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*command, str(script), str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = (torch.load(tmp_path / f"{rank}-of-2.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_a_device_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert device_of("auto") == device_of("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"device = 'cuda:1': torch sees no such device here"):
        device_of("cuda:1")
    with pytest.raises(ConfigError, match="no such device"), compute_init(TrainingConfig(device="cuda")):
        pass


def test_ranks_of_a_machine_have_an_accelerator_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda")
    )
    assert [str(device_of("auto", rank)) for rank in (0, 1)] == ["cuda:0", "cuda:1"]
    assert [str(device_of("cuda", rank)) for rank in (0, 1)] == ["cuda:0", "cuda:1"]
    assert str(device_of("cuda:3", 1)) == "cuda:3"
    assert device_of("cpu", 1) == torch.device("cpu")
    with pytest.raises(ConfigError, match="accelerator: cuda"):
        device_of("mps")


def test_auto_is_bfloat16_where_the_device_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert precision_of("float32", cpu) == "float32" and precision_of("bfloat16", cpu) == "bfloat16"
    for said in (True, False):
        module: Any = SimpleNamespace(
            is_bf16_supported=lambda said=said: said,
            _is_avx512_bf16_supported=lambda said=said: said,
            _is_amx_tile_supported=lambda: False,
        )
        monkeypatch.setattr(contexts.torch, "get_device_module", lambda _, module=module: module)
        for device in (cpu, torch.device("cuda:0")):
            assert precision_of("auto", device) == ("bfloat16" if said else "float32")


def test_one_worker_alone_has_nothing_to_add_up() -> None:
    context = Context.of(TrainingConfig(precision="float32", device="cpu"))
    network = torch.nn.Linear(2, 1)
    network(torch.ones(3, 2)).sum().backward()
    before = network.weight.grad.clone()
    assert context.sum_gradients(network, 0.5) == 0.5
    assert torch.equal(network.weight.grad, before)
    assert context.first and context.sum(2.5) == 2.5 and context.broadcast_flag(True)
