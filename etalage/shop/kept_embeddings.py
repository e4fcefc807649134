"""What a model or an encoder made of photos and texts, kept in the table `embeddings` by the hash of what it
looked at: nothing is embedded twice, whatever model asks for it."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.bundle.contents import Keep

KEPT_AT_ONCE = 4096
"""Embeddings that are written together: what a killed run has to make again, at most."""
Owner = Literal["photo", "text"]
"""What was embedded."""


def kept_rows(workspace: Workspace, owner: Owner, model_hash: str) -> dict[str, np.ndarray]:
    """{sha256: (D,) float32} of what the model of this hash looked at, read as a stream: the table has what
    all models made."""
    table = workspace.lake.table("embeddings")
    if not table.exists():
        return {}
    found: dict[str, np.ndarray] = {}
    for batch in table.batches(columns=["owner", "id", "model", "embedding"]):
        ours = pc.and_(pc.equal(batch["owner"], owner), pc.equal(batch["model"], model_hash))
        rows = batch.filter(ours)
        if rows.num_rows:
            flat = pc.list_flatten(rows["embedding"]).to_numpy().astype(np.float32)
            found |= zip(rows["id"].to_pylist(), flat.reshape(rows.num_rows, -1), strict=True)
    return found


@contextmanager
def keeping(workspace: Workspace, owner: Owner, model_hash: str) -> "Iterator[Keep]":
    """What takes new embeddings {sha256: (D,)} and writes them into the table, many at a time: a run that is
    killed has only the last of them to make again."""
    waiting: dict[str, np.ndarray] = {}

    def keep(some: Mapping[str, np.ndarray]) -> None:
        waiting.update(some)
        if len(waiting) >= KEPT_AT_ONCE:
            _write(workspace, owner, model_hash, waiting)
            waiting.clear()

    yield keep
    if waiting:
        _write(workspace, owner, model_hash, waiting)


def _write(workspace: Workspace, owner: Owner, model_hash: str, fresh: Mapping[str, np.ndarray]) -> None:
    from etalage.lake.parts import write_part
    from etalage.lake.schema import TABLES

    columns = {
        "owner": [owner] * len(fresh),
        "id": list(fresh),
        "model": [model_hash] * len(fresh),
        "embedding": list(fresh.values()),
        "name": [None] * len(fresh),
    }
    # As files that are committed: a merge would read every embedding that is stored, to compare.
    lake, rows = workspace.lake, pa.table(columns, schema=TABLES["embeddings"].schema)
    with workspace.disk():
        part = write_part(lake.place, "embeddings", rows)
        lake.table("embeddings").add_parts([part], transaction=f"embed-{secrets.token_hex(8)}")
