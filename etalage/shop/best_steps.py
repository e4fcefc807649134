"""The best items of every shopper, as a batch job: by blocks of shoppers, on the engine's workers.

Each shopper is asked about as `recommend` asks: the same history (features/history.py), the same retriever
and index, what they own and what is sold out left out. One pass over the tables lays the acts of each block
into a file of its own, so that memory holds one block a worker, whatever the shop's size.

    U shoppers of a block   k items of each
"""

import shutil
import zlib
from dataclasses import dataclass
from functools import cache, partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from etalage.errors import IndexUnavailable, TableMissing, Unprocessable
from etalage.funnel.catalogue import Filters
from etalage.funnel.shoppers import UserHistories
from etalage.lake.schema import TABLES
from etalage.runtime.retrieving import Excluded
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.bundle.opening import OpenedBundle
    from etalage.lake.erasures import Known

ROWS_A_BLOCK = 1_000_000
"""Acts of one block of shoppers, about."""
QUERIES_AT_ONCE = 512
READ_AT_ONCE = 1 << 16
ACTS = ("interaction_id", "user_id", "item_id", "kind", "value", "time")


@dataclass(frozen=True)
class BestItems:
    """Of how many shoppers the table has items now; how many have fewer than k, and of how many nothing is
    known."""

    model: str
    export: str
    bundle: str
    users: int
    unknown: int
    short: int
    written: int
    unchanged: int
    removed: int


@dataclass(frozen=True)
class _Job:
    """What every block is asked with."""

    bundle: Path
    model: str
    k: int
    erased: "Known"


@dataclass(frozen=True)
class _Found:
    """Of one block: the rows of the table, and how many shoppers nothing is known of."""

    rows: pa.Table
    unknown: int


def best_items(workspace: Workspace, k: int, model: str | None) -> BestItems:
    """Write the k best items of every shopper into the table `recommendations`; rows of the model's older
    bundles, and of shoppers who are gone, are removed.

    Raises TableMissing, Unprocessable (no such retriever), BundleError, IndexUnavailable.
    """
    folder = workspace.bundles.path(workspace.bundles.current_id())
    name = _retriever(folder, model)
    at = workspace.lake.versions()
    if "interactions" not in at:
        raise TableMissing("there are no interactions: `etalage ingest FILE interactions` first")
    spilled = workspace.runs / ".best"
    shutil.rmtree(spilled, ignore_errors=True)
    try:
        with workspace.disk():
            blocks = _spilled(workspace, at, spilled)
        job = _Job(folder, name, k, workspace.lake.erasures.known())
        return _asked(workspace, job, blocks)
    finally:
        shutil.rmtree(spilled, ignore_errors=True)


def _asked(workspace: Workspace, job: _Job, blocks: list[Path]) -> BestItems:
    table = workspace.lake.table("recommendations")
    entry = next(one for one in _opened(job.bundle).manifest.models if one.name == job.model)
    run = partial(best_of_block, job)
    here = len(blocks) == 1 and workspace.config.engine.saving > 0
    found = map(run, blocks) if here else workspace.engine.map(run, blocks)
    users = unknown = short = written = unchanged = 0
    with workspace.bar(f"the best items by {job.model}", len(blocks)) as meter:
        for one in found:
            stamped = _stamped(one.rows, job.bundle.name, job.model, entry.hash)
            if stamped.num_rows:
                with workspace.disk():
                    merged = table.merge(stamped)
                written += merged.inserted + merged.updated
                unchanged += merged.unchanged
            lengths = one.rows["items"].combine_chunks().value_lengths().to_numpy()
            users, unknown = users + one.rows.num_rows, unknown + one.unknown
            short += int((lengths < job.k).sum())
            meter(1)
    removed = _removed(workspace, job) if table.exists() else 0
    return BestItems(
        job.model, entry.hash, job.bundle.name, users, unknown, short, written, unchanged, removed
    )


def _removed(workspace: Workspace, job: _Job) -> int:
    """Rows of the model that this run did not write: their bundle is another one."""

    def is_older(rows: pa.Table) -> pa.Array:
        return pc.and_(pc.equal(rows["model"], job.model), pc.not_equal(rows["bundle"], job.bundle.name))

    with workspace.disk():
        return workspace.lake.table("recommendations").delete_matching(["model", "bundle"], is_older)


def _stamped(rows: pa.Table, bundle: str, model: str, export: str) -> pa.Table:
    count = rows.num_rows
    for name, value in (("model", model), ("export", export), ("bundle", bundle)):
        rows = rows.append_column(name, pa.array([value] * count, pa.string()))
    schema = TABLES["recommendations"].schema
    return (
        rows.append_column("made_at", pa.nulls(count, schema.field("made_at").type))
        .select(schema.names)
        .cast(schema)
    )


# -- blocks ------------------------------------------------------------------------------------


def _spilled(workspace: Workspace, at: dict[str, int], to: Path) -> list[Path]:
    """One folder for each block of shoppers, with their `interactions` and `users`; one pass over each
    table."""
    lake = workspace.lake
    count = lake.table("interactions").count(at["interactions"])
    least = 1 if workspace.config.engine.saving else workspace.engine.workers
    blocks = max(least, ceil(count / ROWS_A_BLOCK))
    folders = [to / f"{number:05d}" for number in range(blocks)]
    for folder in folders:
        folder.mkdir(parents=True)
    for name, columns in (("interactions", ACTS), ("users", ("user_id", "attributes"))):
        if name not in at:
            continue
        schema = pa.schema([TABLES[name].schema.field(one).remove_metadata() for one in columns])
        writers = [pq.ParquetWriter(folder / f"{name}.parquet", schema) for folder in folders]
        try:
            with workspace.bar(f"read {name}", lake.table(name).count(at[name])) as meter:
                for batch in lake.table(name).batches(at[name], columns=list(columns), rows=READ_AT_ONCE):
                    _spill(pa.Table.from_batches([batch]).cast(schema), writers)
                    meter(batch.num_rows)
        finally:
            for writer in writers:
                writer.close()
    return folders


def _spill(rows: pa.Table, writers: list[pq.ParquetWriter]) -> None:
    coded = rows["user_id"].combine_chunks().dictionary_encode()
    block_of = np.array(
        [zlib.crc32((name or "").encode()) % len(writers) for name in coded.dictionary.to_pylist()], np.int64
    )
    blocks = block_of[coded.indices.fill_null(0).to_numpy()] if len(block_of) else np.empty(0, np.int64)
    for number in np.unique(blocks).tolist():
        writers[number].write_table(rows.filter(pa.array(blocks == number)))


# -- asking ------------------------------------------------------------------------------------


@cache
def _opened(folder: Path) -> "OpenedBundle":
    """Once a process. Its files were hashed when it was published, and are by every server."""
    from etalage.bundle.manifest import read_manifest
    from etalage.bundle.opening import open_bundle

    return open_bundle(folder, read_manifest(folder), verify=False)


def _retriever(folder: Path, model: str | None) -> str:
    """Raises Unprocessable."""
    parts = _opened(folder)
    there = [one.name for one in parts.funnel.embedders]
    there += [one.name for one in parts.models if not one.scorer.ranks and one.name not in there]
    if model is not None and model not in there:
        raise Unprocessable(
            f"--model {model}: bundle {folder.name} has no such retriever; there are: "
            f"{', '.join(there) or 'none'}"
        )
    if not there:
        raise Unprocessable(f"bundle {folder.name} has no model of behaviour: train one, and publish")
    return model or there[0]


def best_of_block(job: _Job, block: Path) -> _Found:
    """The best items of the shoppers whose acts are in the folder `block`."""
    parts = _opened(job.bundle)
    funnel, rules = parts.funnel, parts.funnel.rules
    (model,) = [one for one in parts.models if one.name == job.model]
    retriever = model.scorer.retriever(model.index)
    files = {name: block / f"{name}.parquet" for name in ("users", "interactions")}
    tables = {name: pq.read_table(file) for name, file in files.items() if file.exists()}
    most = tables["interactions"].num_rows + 1
    histories = UserHistories.of(tables.get("users"), tables["interactions"], rules, most)
    histories = histories.without_erased(job.erased)
    if not len(histories):
        return _Found(_rows([], [], []), 0)
    queries = histories.queries(model.scorer, rules, funnel.taught)
    owners, seen = histories.judged(model.scorer.items, rules, funnel.taught).seen()
    starts = np.searchsorted(owners, np.arange(len(histories) + 1))
    allow = funnel.catalogue.allowed(funnel.with_stock_rule(Filters()))
    users, items, scores = [], [], []
    ids = np.array(funnel.catalogue.ids, object)
    names = histories.users["user_id"].to_pylist()
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        stop = min(start + QUERIES_AT_ONCE, len(queries))
        some = queries.block(start, stop)
        had = Excluded([seen[starts[u] : starts[u + 1]] for u in range(start, stop)], len(ids))
        hits = retriever.find(some, job.k, allow, had)
        for place, known in enumerate(retriever.knows(some).tolist()):
            good = hits.rows[place] > 0
            if known and good.any():
                users.append(names[start + place])
                items.append(ids[hits.rows[place][good]].tolist())
                scores.append(hits.scores[place][good].tolist())
    if parts.problems:
        raise IndexUnavailable(f"nothing more was written: {parts.problems[0]}")
    return _Found(_rows(users, items, scores), len(histories) - len(users))


def _rows(users: list[str], items: list[list[str]], scores: list[list[float]]) -> pa.Table:
    schema = TABLES["recommendations"].schema
    return pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "items": pa.array(items, schema.field("items").type),
            "scores": pa.array(scores, schema.field("scores").type),
        }
    )
