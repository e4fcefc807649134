"""Vectors of items and users for others to look up: in a vector database, a key-value store, a table.

N items or users   D embedding dimension
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.errors import ConfigError, Unprocessable
from etalage.lake.erasures import digest
from etalage.lake.schema import TABLES
from etalage.online.vector_store import Facts, VectorStore, Written
from etalage.shop import asking
from etalage.shop.workspace import Workspace

if TYPE_CHECKING:
    from etalage.index.milvus import MilvusSettings, Spread
    from etalage.index.milvus_collection import Block
    from etalage.recommend import Recommender

BLOCKS_HERE = 20
"""Up to so many blocks are written by this process: to start others takes longer."""
AT_ONCE = 20_000
Owner = Literal["item", "user"]


def spread(workspace: Workspace) -> "Spread":
    """Who writes blocks of rows into a vector database: this process, or the engine where there are many."""

    def run(function: "Callable[[Block], int]", blocks: "Iterable[Block]") -> Iterable[int]:
        every = iter(blocks)
        first = list(islice(every, BLOCKS_HERE + 1))
        if len(first) <= BLOCKS_HERE:
            return map(function, first)
        return workspace.engine.map(function, chain(first, every))

    return run


@dataclass(frozen=True)
class Vectors:
    """(N,) ids and the rows of `every` in which their vectors are; on the disk until they are read."""

    owner: Owner
    facts: Facts
    ids: pa.Array
    every: np.ndarray
    rows: np.ndarray

    def blocks(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """Ids and their (n, D) float32 vectors, AT_ONCE at a time."""
        for start in range(0, len(self.rows), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            yield self.ids[part].to_pylist(), np.asarray(self.every[self.rows[part]], np.float32)


@dataclass(frozen=True)
class Handed:
    """What was written where."""

    facts: Facts
    owner: Owner
    to: str
    counts: Written
    erased: int = 0
    """Shoppers who were erased since the bundle was made: their vectors are written nowhere."""


def hand_over(workspace: Workspace, to: str, model: str | None, users: bool) -> Handed:
    """Write the vectors of the current bundle's items, or users, to `to`: `table`, `milvus`, a Milvus'
    address or file, or redis://. What is there of older bundles is removed.

    Raises ConfigError (no such target), Unprocessable (no vectors of that model), StoreUnavailable,
    IndexUnavailable, BundleError.
    """
    target = _target(workspace, to)
    recommender = asking.open_recommender(workspace)
    vectors = _of_users(recommender, model) if users else _of_items(recommender, model)
    vectors, erased = _without_erased(workspace, vectors)
    what = f"vectors of {vectors.owner}s of {vectors.facts.model}"
    with workspace.bar(f"{what} to {to}", len(vectors.rows)) as meter:
        return Handed(vectors.facts, vectors.owner, to, target(vectors, meter), erased)


def _target(workspace: Workspace, to: str) -> Callable[[Vectors, Callable[[int], object]], Written]:
    """Raises ConfigError before any work."""
    scheme = to.partition("://")[0]
    if scheme in ("redis", "rediss", "unix"):
        store = VectorStore.open(to)
        return lambda vectors, meter: store.write(vectors.facts, vectors.owner, vectors.blocks(), meter)
    if to == "table":
        return lambda vectors, meter: _into_table(workspace, vectors, meter)
    if to == "milvus" or scheme in ("http", "https", "tcp") or to.endswith(".db"):
        settings = _milvus(workspace, to)
        return lambda vectors, meter: _into_milvus(workspace, settings, vectors, meter)
    raise ConfigError(
        f"--to {to}: give `table`, redis://host:6379/0, `milvus` (as [index.milvus] says), a Milvus' "
        "http://host:19530, or a file NAME.db"
    )


# -- what --------------------------------------------------------------------------------------


def _of_items(recommender: "Recommender", model: str | None) -> Vectors:
    """Of the items that the model's index holds. Raises Unprocessable."""
    parts = recommender.parts
    found = {
        one.name: (one.scorer.item_embeddings, one.index)
        for one in parts.models
        if one.index is not None and hasattr(one.scorer, "item_embeddings")
    }
    found |= {name: (one.embeddings, one.index) for name, one in parts.photo_models.items()}
    first = [one.name for one in recommender.funnel.embedders]
    every, index = found[_named(recommender, model, [*first, *found])]
    name = model or [*first, *found][0]
    ids = pa.array(recommender.catalogue.ids[1:], pa.string()).take(pa.array(index.rows - 1))
    return Vectors("item", _facts(recommender, name, every, len(ids)), ids, every, index.rows)


def _of_users(recommender: "Recommender", model: str | None) -> Vectors:
    """Of the shoppers whom the bundle and its model know. Raises Unprocessable."""
    users = recommender.users
    if users.embeddings is None or users.model is None:
        raise Unprocessable(
            "this bundle has no embeddings of shoppers: publish one with a two-tower or ALS model"
        )
    name = _named(recommender, model, [users.model])
    rows = np.flatnonzero(users.embeddings.any(axis=1))
    ids = users.ids.ids.take(pa.array(rows))
    return Vectors("user", _facts(recommender, name, users.embeddings, len(ids)), ids, users.embeddings, rows)


def _named(recommender: "Recommender", model: str | None, there: list[str]) -> str:
    if not there or (model is not None and model not in there):
        what = "no model of it has vectors" if not there else f"those with vectors: {', '.join(there)}"
        wanted = "" if model is None else f"--model {model}: "
        raise Unprocessable(f"{wanted}bundle {recommender.bundle}: {what}")
    return model or there[0]


def _facts(recommender: "Recommender", model: str, every: np.ndarray, count: int) -> Facts:
    (entry,) = [one for one in recommender.manifest.models if one.name == model]
    bundle = recommender.bundle
    return Facts(bundle, model, entry.hash, bundle, int(every.shape[1]), count)


def _without_erased(workspace: Workspace, vectors: Vectors) -> tuple[Vectors, int]:
    """Who was erased since the bundle was made, and has not come back, is handed to nobody."""
    gone = {name for name, one in workspace.lake.erasures.known().items() if not one.back}
    if vectors.owner == "item" or not gone:
        return vectors, 0
    stays = np.array([digest(name) not in gone for name in vectors.ids.to_pylist()], bool)
    kept = Vectors(
        vectors.owner, vectors.facts, vectors.ids.filter(pa.array(stays)), vectors.every, vectors.rows[stays]
    )
    return kept, int((~stays).sum())


# -- where -------------------------------------------------------------------------------------


def _into_table(workspace: Workspace, vectors: Vectors, meter: Callable[[int], object]) -> Written:
    """Into the table `embeddings`, of which every write is a version."""
    table, facts = workspace.lake.table("embeddings"), vectors.facts
    written = unchanged = 0
    for ids, some in vectors.blocks():
        columns = {
            "owner": [vectors.owner] * len(ids),
            "id": ids,
            "model": [facts.export] * len(ids),
            "embedding": list(some),
            "name": [facts.model] * len(ids),
        }
        with workspace.disk():
            merged = table.merge(pa.table(columns, schema=TABLES["embeddings"].schema))
        written, unchanged = written + merged.inserted + merged.updated, unchanged + merged.unchanged
        meter(len(ids))

    def is_older(rows: pa.Table) -> pa.Array:
        ours = pc.and_(pc.equal(rows["owner"], vectors.owner), pc.equal(rows["name"], facts.model))
        current = pc.and_(pc.equal(rows["model"], facts.export), pc.is_in(rows["id"], value_set=vectors.ids))
        return pc.and_(pc.fill_null(ours, False), pc.invert(current))

    with workspace.disk():
        removed = table.delete_matching(["owner", "id", "model", "name"], is_older) if table.exists() else 0
    return Written(written, unchanged, removed)


def _milvus(workspace: Workspace, to: str) -> "MilvusSettings":
    """Raises ConfigError."""
    from etalage.config import IndexConfig
    from etalage.index import milvus_settings

    config = workspace.config.index
    if to != "milvus":
        uri = to if "://" in to else str((workspace.folder / to).resolve())
        config = IndexConfig(kind="milvus", milvus={**config.milvus, "uri": uri})
    elif config.kind != "milvus":
        raise ConfigError(
            "--to milvus: [index.milvus] does not say where; give its address instead of `milvus`"
        )
    return milvus_settings(config, "--to" if to != "milvus" else "shop.toml")


def _into_milvus(
    workspace: Workspace, settings: "MilvusSettings", vectors: Vectors, meter: Callable[[int], object]
) -> Written:
    """Into a collection of their own, which the alias <prefix>_<model>_items (or _users) names at the end.

    The collection's name says of which bundle it is: once more finds it, and writes nothing.
    """
    from etalage.funnel.filters import nothing_known
    from etalage.index.milvus import MilvusIndex
    from etalage.index.milvus_collection import Collection, aliased, point_alias

    facts, server = vectors.facts, settings.server
    alias = f"{settings.prefix}_{facts.model}_{vectors.owner}s"
    name = f"{alias}_{facts.version.replace('-', '_')}"
    before = aliased(server, alias)
    rows = np.arange(len(vectors.rows), dtype=np.int64)
    older = [one for one in Collection.like(server, f"{alias}_b") if one != name]
    removed = sum(Collection(server, one).rows() for one in older)
    if before == name and Collection(server, name).rows() == len(rows):
        written, unchanged = 0, len(rows)
        meter(len(rows))
    else:
        Collection(server, name).drop()
        built = settings.built(len(rows), facts.dimension)
        collection = Collection(server, name)
        collection.create(facts.dimension, settings.index, built, f"Etalage: {facts.model} {facts.export}")
        index = MilvusIndex(settings, name, facts.dimension, norm="none", model_hash=facts.export)
        start = 0
        for ids, some in vectors.blocks():
            fields = nothing_known(pa.array(ids, pa.string()))
            index.add(rows[start : start + len(ids)], some, fields, spread(workspace))
            start += len(ids)
            meter(len(ids))
        written, unchanged = len(rows), 0
        point_alias(server, alias, name)
    for one in older:
        Collection(server, one).drop()
    return Written(written, unchanged, removed)
