"""Tables in shards on several workers, by TorchRec: they learn what whole tables learn in one process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etalage.engine import local
from etalage.engine.children import child
from etalage.errors import CheckpointDamaged, WorkerLost
from etalage.models.embedding_tables import RowwiseTables
from etalage.models.recipe import Trained
from etalage.runtime.opening import open_scorer
from etalage.training import checkpoint
from etalage.training.behaviour_export import export_behaviour
from etalage.training.export_source import Source
from etalage.training.loop import fit
from etalage.training.workers import together
from tests.conftest import PROJECT
from tests.contracts.folder import FOLDER
from tests.contracts.shared_training import Case, case, train_all

pytest.importorskip("torchrec", reason="the extra torchrec is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SURE: dict[str, dict[str, Any]] = {
    "dlrm": {"table_start": 1e-4, "unknown": 0.1},
    "two_tower": {
        "table_start": 1e-4, "full_up_to": 0, "shared_negatives": 20, "forget_user": 0.0, "forget_item": 0.0,
    },
}  # fmt: skip
SHORT: dict[str, Any] = {"epochs": 1, "steps_per_epoch": 3, "precision": "float32", "optimiser": "sgd"}
SGD: dict[str, Any] = {"table_optimiser": "sgd"}
CLIPPED: dict[str, Any] = {"clip_norm": 0.05}
SHARDED: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "table-wise": ("dlrm", "table_wise", 2, {}),
    "table-wise by three, rare values unknown": ("dlrm", "table_wise", 3, {"min_count": 300}),
    "column-wise": ("dlrm", "column_wise", 2, SGD),
    "data-parallel": ("dlrm", "data_parallel", 2, {}),
    "clipped": ("dlrm", "table_wise", 2, CLIPPED),
    "clipped, in three parts": ("dlrm", "table_wise", 2, {**CLIPPED, "accumulate": 3}),
    "of a width that no kernel has": ("dlrm", "table_wise", 2, {"dimension": 6}),
    "two towers": ("two_tower", "table_wise", 2, {}),
    "two towers by three, as planned": ("two_tower", "auto", 3, {}),
    "two towers, column-wise": ("two_tower", "column_wise", 3, SGD),
}
"""Title: model, sharding, workers and settings; each is compared with row-wise tables of one process."""
TOLERANCE = 1e-6
"""Of weights that are at most 1."""


def settings(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    found = {**SURE[name], **SHORT, **changes}
    if found.get("table_optimiser") == "sgd":
        found["table_start"] = FOLDER.find(name).config.model_fields["table_start"].default
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The weights of each case, sharded and alone; the same three processes all the time."""
    cases = {}
    for title, (name, sharding, workers, changes) in SHARDED.items():
        torchrec = {"embeddings": "torchrec", "table_sharding": sharding}
        sure = settings(name, changes)
        cases[title] = Case(name, {**sure, **torchrec}, workers, certain=True)
        alone = {key: value for key, value in sure.items() if key != "accumulate"}
        cases[f"{title}, alone"] = Case(name, {**alone, "embeddings": "row_wise"}, 1, certain=True)
    made = tmp_path_factory.mktemp("shards")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(PROJECT))
        with local.launch(partial(train_all, cases, made), 3) as spec:
            train_all(cases, made, spec)
    torch.set_num_threads(threads)
    yield made


def saved(folder: Path, what: str = "rank-0") -> Any:
    return torch.load(folder / f"{what}.pt", weights_only=True)


@pytest.mark.parametrize("title", SHARDED)
def test_shards_learn_what_whole_tables_learn(title: str, folder: Path) -> None:
    ours, theirs = saved(folder / title), saved(folder / f"{title}, alone")
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert torch.allclose(ours[name], theirs[name], rtol=0, atol=TOLERANCE), name
    losses = [[one["loss"] for one in saved(folder / run, "steps-0")] for run in (title, f"{title}, alone")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    name, _, _, changes = SHARDED[title]
    recipe, config, data = case(name, **settings(name, changes))
    torch.manual_seed(config.seed)
    fresh = recipe.bind(config, data).network()
    for path, module in fresh.named_modules():
        if isinstance(module, RowwiseTables):
            assert (ours[f"{path}.weight"] - module.weight.detach()).abs().max() > 100 * TOLERANCE, path


def train(run: Path, progress: Any = None, **changes: Any) -> Trained[Any]:
    torchrec = {"embeddings": "torchrec", "table_sharding": "table_wise", "workers": 2}
    recipe, config, data = case("dlrm", **{**SURE["dlrm"], **torchrec, "steps_per_epoch": 4, **changes})
    run.mkdir(parents=True, exist_ok=True)
    task = recipe.bind(config, data)
    with together(recipe, config, data, task, run) as context:
        return fit(recipe, task, config, run, progress=progress, context=context)


def weights(trained: Trained[Any]) -> dict[str, torch.Tensor]:
    assert trained.network is not None
    return trained.network.state_dict()


def apart(one: Trained[Any], other: Trained[Any]) -> float:
    ours, theirs = weights(one), weights(other)
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trained[Any]:
    return train(tmp_path_factory.mktemp("whole"))


def test_f4_a_worker_that_is_killed_and_the_run_goes_on_to_the_same_end(
    whole: Trained[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def noted(command: Any, env: Any = None) -> Any:
        process = child(command, env)
        started.append(process.pid)
        return process

    def kill(done: int, _: int, __: str) -> None:
        if done == 6:
            os.kill(started[0], signal.SIGKILL)

    monkeypatch.setattr("etalage.engine.local.child", noted)
    with pytest.raises(WorkerLost, match="goes on from the last checkpoint"):
        train(tmp_path, progress=kill, checkpoint_steps=2)
    newest = sorted((tmp_path / "checkpoints").glob("step-*"))[-1]
    assert newest.name in ("step-00000004", "step-00000006")
    owners = {file.name.split("~")[0] for file in (newest / checkpoint.TABLES).iterdir()}
    assert owners == {"tables", "linear_tables"}
    resumed = train(tmp_path, checkpoint_steps=2)
    assert apart(resumed, whole) == 0
    assert [one["auroc"] for one in resumed.history] == [one["auroc"] for one in whole.history]
    assert not list(tmp_path.glob(".table-*"))


def test_a_run_goes_on_with_another_number_of_workers(tmp_path: Path) -> None:
    """Two make the first epoch, three the second. Adam would make steps of last digits."""

    class Stopped(Exception):
        pass

    def stop(done: int, _: int, __: str) -> None:
        if done == 5:
            raise Stopped

    with pytest.raises(Stopped):
        train(tmp_path / "torn", progress=stop, optimiser="sgd")
    resumed = train(tmp_path / "torn", workers=3, optimiser="sgd")
    assert apart(resumed, train(tmp_path / "whole", optimiser="sgd")) < 1e-5
    file = next(
        (sorted((tmp_path / "torn" / "checkpoints").glob("step-*"))[-1] / checkpoint.TABLES).iterdir()
    )
    data = bytearray(file.read_bytes())
    data[-1] ^= 64
    file.write_bytes(data)
    with pytest.raises(CheckpointDamaged, match="is not what was written"):
        checkpoint.read(file.parents[1])


def limited(folder: Path, embeddings: str, limit: int, rows: int) -> subprocess.CompletedProcess[str]:
    script = PROJECT / "tests" / "training" / "limited_script.py"
    folder.mkdir()
    command = [sys.executable, str(script), str(folder), embeddings, str(limit), str(rows)]
    # Arrow's own allocator takes a gigabyte of addresses when it is imported, which the limit would count.
    arrow = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
    environment = {**os.environ, **arrow, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_a_table_that_no_worker_has_room_for_is_trained(tmp_path: Path) -> None:
    """1.25 GiB of weights on three workers that may hold 1.2 GiB each."""
    limit, rows = int(1.2 * 2**30), 5 * 2**20
    assert rows * 64 * 4 > limit
    refused = limited(tmp_path / "whole", "row_wise", limit, rows)
    assert refused.returncode != 0  # rank 0 lacks the memory itself, or hears that another one is gone
    assert (
        "can't allocate memory" in refused.stderr
        or "another worker of this training is gone" in refused.stderr
    )
    done = limited(tmp_path / "shards", "torchrec", limit, rows)
    assert done.returncode == 0, done.stderr[-2000:]
    loss, trained = done.stdout.split()[-2:]
    assert 0 < float(loss) < 2 and int(trained) == rows + 9


def test_it_is_exported_and_served_as_any_other(whole: Trained[Any], tmp_path: Path) -> None:
    recipe, _, data = case("dlrm")
    rows = data.rows("test")
    source = Source(sizes=dict(zip(data.sparse_names, data.sizes, strict=True)))
    scorer: Any = open_scorer(export_behaviour(recipe, whole, source, tmp_path))
    served = scorer.score_rows(data.sparse[rows], data.dense[rows])
    network: Any = whole.network
    with torch.inference_mode():
        wanted = network(torch.from_numpy(data.sparse[rows]), torch.from_numpy(data.dense[rows]))
    assert np.abs(served - wanted.numpy()).max() < 1e-4
