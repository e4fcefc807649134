"""Checkpoints that a killed run resumes from exactly, and that cannot run code.

A checkpoint is a folder `step-00001200/` of one safetensors file a kind of tensors (`network`, `best`,
`average`, `optimiser`, `random`) and state.json. It is written under another name, flushed, then renamed: a
folder of that name is whole (F5). state.json has the SHA-256 of every file, so a damaged one is passed over
for the one before it. What did not change since the last one is a hard link to its file, and costs nothing.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Collection, Mapping
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
STATE, SUFFIX, TABLES = "state.json", ".safetensors", "tables"


@dataclass(frozen=True)
class Checkpoint:
    tensors: dict[str, Tensor]
    """`<kind>/<name>`: the kind is the file that it lies in."""
    state: dict[str, Any]
    folder: Path | None = None
    """Where it was read from; shards of tables lie there, in TABLES."""


def begin(folder: Path, step: int) -> Path:
    """An empty draft of the checkpoint of this step, in the place of any left by a killed run: nobody else
    writes here."""
    for torn in folder.glob(".draft-*"):
        shutil.rmtree(torn, ignore_errors=True)
    draft = draft_of(folder, step)
    draft.mkdir(parents=True)
    return draft


def draft_of(folder: Path, step: int) -> Path:
    """The folder that becomes the checkpoint of this step."""
    return folder / f".draft-{step:08d}"


def write(
    folder: Path,
    step: int,
    checkpoint: Checkpoint,
    unchanged: Collection[str] = (),
    tables: Mapping[str, str] | None = None,
) -> Path:
    """Write `folder/step-…`, then drop all but the newest KEEP. Raises OSError when the disk is full.

    unchanged: kinds that are as in the newest checkpoint of the folder, which is there and whole; those of
    `checkpoint` are not looked at. tables: SHA-256 of the files that the ranks put into the draft's `tables/`
    since `begin`, by name (training/shards.py); None: nobody did.
    """
    target = folder / f"step-{step:08d}"
    draft = begin(folder, step) if tables is None else draft_of(folder, step)
    hashes = _link(folder, draft, unchanged) if unchanged else {}
    for kind in dict.fromkeys(name.partition("/")[0] for name in checkpoint.tensors):
        if kind not in hashes:
            own = {n: t.contiguous() for n, t in checkpoint.tensors.items() if n.startswith(f"{kind}/")}
            data = save({name.removeprefix(f"{kind}/"): tensor for name, tensor in own.items()})
            write_durably(draft / f"{kind}{SUFFIX}", data)
            hashes[kind] = hashlib.sha256(data).hexdigest()
    state = {**checkpoint.state, "sha256": hashes} | ({"tables": dict(tables)} if tables else {})
    write_durably(draft / STATE, json.dumps(state).encode())
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    sync_folder(folder)
    for old in sorted(folder.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _link(folder: Path, draft: Path, kinds: Collection[str]) -> dict[str, str]:
    """Files of the newest checkpoint, in the draft of the next; → their hashes, by kind."""
    last = sorted(folder.glob("step-*"))[-1]
    said = json.loads((last / STATE).read_text(encoding="utf-8"))["sha256"]
    for kind in kinds:
        name = f"{kind}{SUFFIX}"
        try:
            os.link(last / name, draft / name)
        except OSError:  # a file system without hard links
            write_durably(draft / name, (last / name).read_bytes())
    return {kind: said[kind] for kind in kinds}


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
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        tensors: dict[str, Tensor] = {}
        for kind, expected in state.pop("sha256").items():
            data = (folder / f"{Path(kind).name}{SUFFIX}").read_bytes()
            if hashlib.sha256(data).hexdigest() != expected:
                raise CheckpointDamaged(f"{folder}: {kind}{SUFFIX} is not what was written")
            tensors |= {f"{kind}/{name}": tensor for name, tensor in load(data).items()}
        for name, expected in state.pop("tables", {}).items():
            with (folder / TABLES / Path(name).name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    raise CheckpointDamaged(f"{folder}: {TABLES}/{name} is not what was written")
        return Checkpoint(tensors, state, folder)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, SafetensorError) as error:
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
