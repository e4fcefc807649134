"""Checkpoints that a killed run resumes from exactly, and that cannot run code.

A checkpoint is a folder `step-00001200/` of tensors.safetensors and state.json. It is written under
another name, flushed, then renamed: a folder of that name is whole (F5). state.json has the
SHA-256 of the tensors, so a damaged one is passed over for the one before it.
"""

import hashlib
import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from etalage.errors import CheckpointDamaged
from etalage.lake.durable_files import sync_folder, write_durably

log = logging.getLogger(__name__)
KEEP = 2


@dataclass(frozen=True)
class Checkpoint:
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write(folder: Path, step: int, checkpoint: Checkpoint) -> Path:
    """Write `folder/step-…`, then drop all but the newest KEEP. Raises OSError when the disk is full."""
    target = folder / f"step-{step:08d}"
    draft = folder / f".draft-{step:08d}"
    for torn in folder.glob(".draft-*"):  # of a killed run: nobody else writes here
        shutil.rmtree(torn, ignore_errors=True)
    draft.mkdir(parents=True)
    data = save({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()})
    state = {**checkpoint.state, "sha256": hashlib.sha256(data).hexdigest()}
    write_durably(draft / "tensors.safetensors", data)
    write_durably(draft / "state.json", json.dumps(state).encode())
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    sync_folder(folder)
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def newest(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint of `folder`; damaged ones are passed over with a warning."""
    for candidate in sorted(folder.glob("step-*"), reverse=True):
        try:
            return read(candidate)
        except CheckpointDamaged as error:
            log.warning("%s; the one before is used", error)
    return None


def read(folder: Path) -> Checkpoint:
    """Raises CheckpointDamaged: a file is missing, changed, or no safetensors (F16)."""
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        data = (folder / "tensors.safetensors").read_bytes()
        if hashlib.sha256(data).hexdigest() != state.pop("sha256"):
            raise CheckpointDamaged(f"{folder}: tensors.safetensors is not what was written")
        return Checkpoint(load(data), state)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointDamaged(f"{folder}: cannot be read: {error!r}") from error


def pack_optimiser(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as named tensors and a JSON-able rest."""
    full = optimiser.state_dict()
    tensors, rest = {}, {}
    for parameter, slots in full["state"].items():
        for slot, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser/{parameter}/{slot}"] = value
            else:
                rest[f"{parameter}/{slot}"] = value
    return tensors, {"slots": rest, "groups": full["param_groups"]}


def unpack_optimiser(
    optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor], rest: dict[str, Any]
) -> None:
    """The reverse of `pack_optimiser`, into an optimiser of the same network."""
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        kind, _, path = name.partition("/")
        if kind == "optimiser":
            parameter, slot = path.split("/")
            state.setdefault(int(parameter), {})[slot] = tensor
    for path, value in rest["slots"].items():
        parameter, slot = path.split("/")
        state.setdefault(int(parameter), {})[slot] = value
    optimiser.load_state_dict({"state": state, "param_groups": rest["groups"]})
