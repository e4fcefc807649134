"""The shop's behaviour as files that training streams, where it would take more than the model's buffer.

They are made once of the versions of the tables, and used again as long as these and [behaviour] stay.
"""

import fcntl
import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

    from etalage.features.behaviour_stream import BehaviourStream

log = logging.getLogger(__name__)
ROWS_AT_ONCE = 1 << 16
_FORM = 1
"""Of the files: those of another are made again."""
WHOLE = "-whole"
"""Ends the name of the folder in which nothing is held back."""


def streams(workspace: Workspace, config: Any) -> bool:
    """Whether a model with this config reads the shop's interactions as a stream. Raises TableDamaged."""
    from etalage.features.behaviour_stream import ACT_BYTES
    from etalage.models.streaming import StreamedConfig

    table = workspace.lake.table("interactions")
    if not isinstance(config, StreamedConfig) or not table.exists():
        return False
    return config.streams(ACT_BYTES * table.count())


def stream(
    workspace: Workspace,
    config: Any,
    at: Mapping[str, int],
    items: "pa.Table | None",
    users: "pa.Table | None",
    more_items: Sequence[str],
    whole: bool = False,
) -> "BehaviourStream":
    """Of the tables at these versions; whole: nothing is held back. Raises what `behaviour_set` raises, and
    TableDamaged."""
    from etalage.features import behaviour_files
    from etalage.features.behaviour_on_disk import behaviour_on_disk
    from etalage.features.behaviour_stream import BehaviourStream

    table = workspace.lake.table("interactions")

    def read(columns: Sequence[str]) -> "Iterable[pa.RecordBatch]":
        return table.batches(at["interactions"], list(columns), ROWS_AT_ONCE)

    said = f"interactions, version {at['interactions']}"
    split = _key(workspace, at)
    folder = _folder(workspace) / (f"{split}{WHOLE}" if whole else split)
    with workspace.disk(), _turn(workspace):
        if not folder.exists():
            for left in _folder(workspace).iterdir():  # what the tables held earlier
                if left.name not in (split, f"{split}{WHOLE}"):
                    shutil.rmtree(left)
            draft = folder.with_name(f".draft-{folder.name}")
            draft.mkdir()
            data = behaviour_on_disk(
                read, items, users, workspace.config.behaviour, draft, funnel=workspace.config.funnel,
                more_items=more_items, whole=whole,
            )  # fmt: skip
            behaviour_files.save(data, draft)
            draft.rename(folder)
        found = BehaviourStream.open(folder, config.buffer_bytes, config.seed, said)
    log.warning("%s", found.describe())
    return found


def forget(workspace: Workspace) -> None:
    """Remove the files, which hold what shoppers did; the next training makes them anew."""
    if _folder(workspace).exists():
        with _turn(workspace):
            shutil.rmtree(_folder(workspace))


def _folder(workspace: Workspace) -> Path:
    return workspace.runs / "behaviour"


@contextmanager
def _turn(workspace: Workspace) -> Iterator[None]:
    """Nobody else makes or removes the files meanwhile."""
    _folder(workspace).mkdir(parents=True, exist_ok=True)
    with (workspace.runs / ".behaviour.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        _folder(workspace).mkdir(exist_ok=True)
        yield


def _key(workspace: Workspace, at: Mapping[str, int]) -> str:
    """Of everything that the files follow from."""
    config = workspace.config
    said = [
        _FORM,
        {name: asdict(workspace.lake.table(name).moment(version)) for name, version in at.items()},
        config.behaviour.model_dump(mode="json"),
        config.funnel.model_dump(mode="json"),
    ]
    if config.behaviour.negatives is not None:
        stamp = (workspace.folder / config.behaviour.negatives).stat()
        said.append([stamp.st_size, stamp.st_mtime_ns])
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
