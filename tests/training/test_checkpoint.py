"""Checkpoints: whole or passed over, and never code."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.errors import CheckpointDamaged
from etalage.training import checkpoint
from etalage.training.checkpoint import Checkpoint


def one(value: float) -> Checkpoint:
    return Checkpoint({"network/w": torch.full((2, 3), value)}, {"progress": {"step": int(value)}})


def test_the_newest_is_read_back(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.write(tmp_path, step, one(step))
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.state == {"progress": {"step": 3}}
    assert torch.equal(found.tensors["network/w"], torch.full((2, 3), 3.0))
    assert len(list(tmp_path.glob("step-*"))) == checkpoint.KEEP


def test_an_optimisers_state_survives_packing() -> None:
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2)
    first = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.3)
    network(torch.ones(4, 3)).sum().backward()
    first.step()
    tensors, rest = checkpoint.pack_optimiser(first)
    second = torch.optim.AdamW(network.parameters(), lr=0.9)
    checkpoint.unpack_optimiser(second, tensors, json.loads(json.dumps(rest)))
    before, after = first.state_dict(), second.state_dict()
    assert str(after["state"]) == str(before["state"])
    assert json.dumps(after["param_groups"]) == json.dumps(before["param_groups"])


@pytest.mark.parametrize("name", ["network.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_f5_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, name: str, damage: str
) -> None:
    checkpoint.write(tmp_path, 1, one(1))
    file = checkpoint.write(tmp_path, 2, one(2)) / name
    data = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(data[:-3] if damage == "cut" else data[:-4] + bytes([data[-4] ^ 64]) + data[-3:])
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.state["progress"]["step"] == 1


def test_what_did_not_change_is_written_once_and_is_in_every_checkpoint(tmp_path: Path) -> None:
    first = Checkpoint({"network/w": torch.zeros(2), "best/w": torch.full((2,), 7.0)}, {})
    before = checkpoint.write(tmp_path, 1, first)
    then = checkpoint.write(tmp_path, 2, Checkpoint({"network/w": torch.ones(2)}, {}), unchanged=("best",))
    assert (before / "best.safetensors").samefile(then / "best.safetensors")
    checkpoint.write(tmp_path, 3, Checkpoint({"network/w": torch.ones(2)}, {}), unchanged=("best",))
    assert not before.exists()
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.tensors["best/w"].tolist() == [7, 7] and found.tensors["network/w"].tolist() == [1, 1]


def test_f16_a_kind_of_tensors_is_no_way_out_of_the_folder(tmp_path: Path) -> None:
    folder = checkpoint.write(tmp_path / "run", 1, one(1))
    (tmp_path / "elsewhere.safetensors").write_bytes((folder / "network.safetensors").read_bytes())
    said = json.loads((folder / "state.json").read_text())
    said["sha256"] = {"../../elsewhere": said["sha256"]["network"]}
    (folder / "state.json").write_text(json.dumps(said))
    with pytest.raises(CheckpointDamaged):
        checkpoint.read(folder)


WRITER = """
import sys, torch
from pathlib import Path
from etalage.training import checkpoint
from etalage.training.checkpoint import Checkpoint
print("ready", flush=True)
tensors = {"network/w": torch.full((2, 3), 2.0)}
checkpoint.write(Path(sys.argv[1]), 2, Checkpoint(tensors, {"progress": {"step": 2}}))
"""


@pytest.mark.parametrize("call", ["write", "fsync", "rename", "mkdir"])
def test_f5_a_kill_while_writing_a_checkpoint_leaves_a_whole_one(tmp_path: Path, call: str) -> None:
    checkpoint.write(tmp_path, 1, one(1))
    inject = f"inject={call}:signal=SIGKILL:when=1+"
    # Only calls on the checkpoint's own paths count: Python itself writes when it starts.
    command = ["strace", "-f", "-qq", "-P", str(tmp_path / ".draft-00000002")]
    for name in ("network.safetensors", "state.json"):
        command += ["-P", str(tmp_path / ".draft-00000002" / name)]
    command += ["-e", f"trace={call}", "-e", inject, sys.executable, "-c", WRITER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert "ready" in done.stdout
    assert done.returncode != 0, "the kill did not happen"
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.state["progress"]["step"] == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(2**20, 2**63), st.binary(max_size=64))
def test_f16_a_huge_header_is_refused(
    tmp_path_factory: pytest.TempPathFactory, size: int, rest: bytes
) -> None:
    import hashlib

    folder = tmp_path_factory.mktemp("huge")
    data = size.to_bytes(8, "little") + rest
    (folder / "network.safetensors").write_bytes(data)
    (folder / "state.json").write_text(json.dumps({"sha256": {"network": hashlib.sha256(data).hexdigest()}}))
    with pytest.raises(CheckpointDamaged):
        checkpoint.read(folder)


def test_f15_a_pickle_planted_in_a_checkpoint_is_never_opened(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Planted:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(marker),))

    checkpoint.write(tmp_path, 1, one(1))
    folder = checkpoint.write(tmp_path, 2, one(2))
    for name in ("network.safetensors", "weights.pt", "optimiser.pkl"):
        (folder / name).write_bytes(pickle.dumps(Planted()))
    found = checkpoint.newest(tmp_path)
    assert found is not None
    assert found.state["progress"]["step"] == 1
    assert not marker.exists()
