"""A bundle opened: every part once, checked against the manifest and against each other.

N items   U shoppers   D embedding dimension
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from etalage.bundle.catalogue import Catalogue
from etalage.bundle.classifying import OpenedClassifier, open_classifier
from etalage.bundle.durable import Written, write_file
from etalage.bundle.files import (
    EMBEDDINGS,
    FUNNEL,
    INDEX,
    ITEMS,
    MODELS,
    PHOTOS,
    USER_EMBEDDINGS,
    USERS,
    read_arrow,
    read_embeddings,
    write_arrow,
    write_npy,
)
from etalage.bundle.funnel import Funnel
from etalage.bundle.indexed import check_norms, indexed_rows, photo_rows
from etalage.bundle.manifest import Manifest, ModelFacts
from etalage.bundle.models import OpenedModel, open_models
from etalage.bundle.shoppers import Crowd
from etalage.config import BehaviourConfig, FunnelConfig, validated
from etalage.errors import BundleDamaged, ConfigError, IndexMismatch
from etalage.features.history import BehaviourRule
from etalage.features.vocabulary import Vocabulary
from etalage.index import Index, open_index
from etalage.runtime.photos import LookAlikeRetriever, PhotoEmbedder


@dataclass(frozen=True)
class Photos:
    """The model of photos, the (N, D) embeddings that it made, and the index of them."""

    embedder: PhotoEmbedder
    embeddings: np.ndarray
    index: Index


@dataclass(frozen=True)
class KnownUsers:
    """The shoppers that were known at publish; `embeddings` (U, D) by the model called `model`, if any."""

    ids: Vocabulary
    attributes: pa.Array
    embeddings: np.ndarray | None
    model: str | None

    def attributes_of(self, user_id: str | None) -> str | None:
        row = self.ids.row(user_id)
        found: str | None = self.attributes[row - 1].as_py() if row else None
        return found


@dataclass(frozen=True)
class Parts:
    """Everything that one bundle holds."""

    manifest: Manifest
    catalogue: Catalogue
    photos: Photos | None
    models: tuple[OpenedModel, ...]
    funnel: Funnel
    users: KnownUsers
    classifier: OpenedClassifier | None = None


def open_parts(folder: Path, manifest: Manifest, threads: int = 1, verify: bool = True) -> Parts:
    """Open the bundle in `folder`; its files were hashed before. Raises IndexMismatch, ExportDamaged,
    BundleDamaged: parts that do not belong together, with the file's name."""
    items = read_arrow(folder / ITEMS)
    if items.num_rows != manifest.items:
        raise IndexMismatch(
            f"{folder / ITEMS}: {items.num_rows} items; the manifest says {manifest.items}; publish again"
        )
    photos = None if manifest.model is None else _photos(folder, manifest, manifest.model, items, threads)
    catalogue = Catalogue(items, read_arrow(folder / PHOTOS), manifest.currency)
    ids = items["item_id"].combine_chunks()
    models = tuple(open_models(folder, manifest.models, ids, threads, verify))
    look_alike = None
    if photos is not None and len(photos.index):
        look_alike = LookAlikeRetriever(photos.embedder.name, photos.embeddings, photos.index)
    funnel = Funnel(catalogue, models, read_rules(folder), look_alike)
    users = _users(folder, manifest, funnel)
    classifier = open_classifier(folder, manifest.classifier, threads)
    return Parts(manifest, catalogue, photos, models, funnel, users, classifier)


def _photos(folder: Path, manifest: Manifest, model: ModelFacts, items: pa.Table, threads: int) -> Photos:
    export = folder / MODELS / model.name
    embedder = PhotoEmbedder.open(export, threads)
    if embedder.model_hash != model.hash or embedder.dimension != model.dimension:
        raise IndexMismatch(
            f"{export}: model {embedder.model_hash[:12]} of dimension {embedder.dimension}; the manifest "
            f"says {model.hash[:12]} of dimension {model.dimension}; publish again"
        )
    embeddings = read_embeddings(folder)
    if embeddings.shape != (manifest.items, model.dimension):
        raise IndexMismatch(
            f"{folder / EMBEDDINGS}: shape {embeddings.shape} for {items.num_rows} items and a model of "
            f"dimension {model.dimension}; the manifest says {manifest.items} items; publish again"
        )
    check_norms(folder / EMBEDDINGS, embeddings, photo_rows(items))
    index = open_index(folder / INDEX, threads, model_hash=model.hash, dimension=model.dimension)
    expected = indexed_rows(items, manifest.index.per_category)
    if not np.array_equal(index.rows, expected) or len(expected) != manifest.indexed:
        raise IndexMismatch(
            f"{folder / INDEX}: {len(index)} items; {len(expected)} are to be in it, the manifest says "
            f"{manifest.indexed}; publish again"
        )
    return Photos(embedder, embeddings, index)


def rules_bytes(rules: BehaviourRule) -> bytes:
    """The content of funnel.json."""
    content = {
        "funnel": rules.funnel.model_dump(mode="json"),
        "behaviour": rules.behaviour.model_dump(mode="json"),
    }
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def read_rules(folder: Path) -> BehaviourRule:
    """The funnel as the bundle was published with it; a bundle of format 1 has none. Raises BundleDamaged."""
    file = folder / FUNNEL
    if not file.exists():
        return BehaviourRule(BehaviourConfig())
    try:
        raw = json.loads(file.read_bytes())
        funnel = validated(FunnelConfig, raw["funnel"], str(file))
        return BehaviourRule(validated(BehaviourConfig, raw["behaviour"], str(file)), funnel)
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise BundleDamaged(f"{file} cannot be read: {error}; publish again") from error


def _users(folder: Path, manifest: Manifest, funnel: Funnel) -> KnownUsers:
    if not (folder / USERS).exists():
        return KnownUsers(Vocabulary([]), pa.array([], pa.string()), None, None)
    table = read_arrow(folder / USERS)
    if table.num_rows != manifest.users:
        raise IndexMismatch(
            f"{folder / USERS}: {table.num_rows} shoppers; the manifest says {manifest.users}"
        )
    ids, attributes = Vocabulary(table["user_id"]), table["attributes"].combine_chunks()
    model = next(iter(funnel.embedders), None)
    if model is None or not (folder / USER_EMBEDDINGS).exists():
        return KnownUsers(ids, attributes, None, None)
    embeddings = read_embeddings(folder, USER_EMBEDDINGS)
    if embeddings.shape != (len(ids) - 1, model.dimension):
        raise IndexMismatch(
            f"{folder / USER_EMBEDDINGS}: shape {embeddings.shape} for {len(ids) - 1} shoppers and model "
            f"{model.name} of dimension {model.dimension}; publish again"
        )
    return KnownUsers(ids, attributes, embeddings, model.name)


def write_users(folder: Path, crowd: Crowd, funnel: Funnel) -> dict[str, Written]:
    """The shoppers of `crowd`, and their embeddings by the funnel's first embedder, zeros for those that it
    does not know."""
    model = next(iter(funnel.embedders), None)
    table = crowd.users.select(["user_id", "attributes"])
    written = {USERS: write_file(folder / USERS, write_arrow(table))}
    if model is not None and len(crowd):
        queries = crowd.queries(model, funnel.rules, funnel.taught)
        embeddings = np.zeros((len(crowd), model.dimension), np.float32)
        for start in range(0, len(crowd), _QUERIES_AT_ONCE):
            some = queries.block(start, min(start + _QUERIES_AT_ONCE, len(crowd)))
            known = model.knows(some)
            embeddings[start : start + len(some)] = np.where(known[:, None], model.embed_queries(some), 0)
        written[USER_EMBEDDINGS] = write_file(folder / USER_EMBEDDINGS, write_npy(embeddings))
    return written


_QUERIES_AT_ONCE = 1024
