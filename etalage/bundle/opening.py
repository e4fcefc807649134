"""A bundle opened: every part once, checked against the manifest and against each other.

N items   U shoppers   D embedding dimension
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from etalage.bundle.behaviour_entries import open_models
from etalage.bundle.classifier_entries import open_classifier
from etalage.bundle.draft import speaking
from etalage.bundle.files import (
    FUNNEL,
    ITEMS,
    PHOTOS,
    USER_EMBEDDINGS,
    USERS,
    read_arrow,
    read_embeddings,
    write_arrow,
    write_npy,
)
from etalage.bundle.manifest import Manifest
from etalage.bundle.photo_entries import open_photos
from etalage.bundle.text_entries import open_texts
from etalage.config import BehaviourConfig, FunnelConfig, validated
from etalage.errors import BundleDamaged, ConfigError, IndexMismatch
from etalage.features.history import BehaviourRule
from etalage.features.vocabulary import Vocabulary
from etalage.funnel.catalogue import Catalogue
from etalage.funnel.funnel import Funnel
from etalage.funnel.shoppers import UserHistories
from etalage.index import Index
from etalage.index.milvus import MilvusIndex
from etalage.lake.durable_files import Written, write_file
from etalage.runtime.classifier import ClassifierModel
from etalage.runtime.opening import OpenedModel
from etalage.runtime.photos import LookAlikeRetriever, PhotoModel
from etalage.runtime.texts import TextModel


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
class OpenedBundle:
    """Everything that one bundle holds."""

    manifest: Manifest
    catalogue: Catalogue
    models: tuple[OpenedModel, ...]
    """Of behaviour."""
    funnel: Funnel
    users: KnownUsers
    photo_models: Mapping[str, PhotoModel] = field(default_factory=dict)
    """By name."""
    classifiers: Mapping[str, ClassifierModel] = field(default_factory=dict)
    texts: TextModel | None = None

    @property
    def indexes(self) -> list[Index]:
        """Of its models' item embeddings."""
        content = [one.index for one in self.photo_models.values()]
        content += [] if self.texts is None else [self.texts.index]
        return content + [one.index for one in self.models if one.index is not None]

    @property
    def problems(self) -> list[str]:
        """Why embeddings are searched here, although their index is on a server."""
        said = [one.problem for one in self.indexes if isinstance(one, MilvusIndex)]
        return list(dict.fromkeys(problem for problem in said if problem is not None))

    def ask_again(self) -> None:
        """Look whether the servers of indexes that did not answer do now; at most every few seconds."""
        for one in self.indexes:
            if isinstance(one, MilvusIndex):
                one.ask_again()

    @property
    def photos(self) -> PhotoModel | None:
        """The photo embedder that speaks where none is named."""
        name = speaking(list(self.photo_models), self.funnel.rules.funnel.photos)
        return None if name is None else self.photo_models[name]

    @property
    def classifier(self) -> ClassifierModel | None:
        """The classifier that speaks where none is named."""
        name = speaking(list(self.classifiers), self.funnel.rules.funnel.classifier)
        return None if name is None else self.classifiers[name]


def open_bundle(folder: Path, manifest: Manifest, threads: int = 1, verify: bool = True) -> OpenedBundle:
    """Open the bundle in `folder`; its files were hashed before. Raises IndexMismatch, ExportDamaged,
    BundleDamaged: parts that do not belong together, with the file's name."""
    items = read_arrow(folder / ITEMS)
    if items.num_rows != manifest.items:
        raise IndexMismatch(
            f"{folder / ITEMS}: {items.num_rows} items; the manifest says {manifest.items}; publish again"
        )
    photo_models = {one.name: open_photos(folder, one, items, threads) for one in manifest.photo_models}
    catalogue = Catalogue(items, read_arrow(folder / PHOTOS), manifest.currency)
    ids = items["item_id"].combine_chunks()
    models = tuple(open_models(folder, manifest.funnel, ids, threads, verify))
    rules = read_rules(folder)
    name, look_alike = speaking(list(photo_models), rules.funnel.photos), None
    if name is not None and len(photo_models[name].index):
        look_alike = LookAlikeRetriever(photo_models[name])
    funnel = Funnel(catalogue, models, rules, look_alike)
    users = _users(folder, manifest, funnel)
    classifiers = {one.name: open_classifier(folder, one, threads) for one in manifest.classifiers}
    said = manifest.texts
    texts = None if said is None else open_texts(folder, said, items.num_rows, threads)
    return OpenedBundle(manifest, catalogue, models, funnel, users, photo_models, classifiers, texts)


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


def write_users(folder: Path, user_histories: UserHistories, funnel: Funnel) -> dict[str, Written]:
    """The shoppers of `crowd`, and their embeddings by the funnel's first embedder, zeros for those that it
    does not know."""
    model = next(iter(funnel.embedders), None)
    table = user_histories.users.select(["user_id", "attributes"])
    written = {USERS: write_file(folder / USERS, write_arrow(table))}
    if model is not None and len(user_histories):
        queries = user_histories.queries(model, funnel.rules, funnel.taught)
        embeddings = np.zeros((len(user_histories), model.dimension), np.float32)
        for start in range(0, len(user_histories), _QUERIES_AT_ONCE):
            some = queries.block(start, min(start + _QUERIES_AT_ONCE, len(user_histories)))
            known = model.knows(some)
            embeddings[start : start + len(some)] = np.where(known[:, None], model.embed_queries(some), 0)
        written[USER_EMBEDDINGS] = write_file(folder / USER_EMBEDDINGS, write_npy(embeddings))
    return written


_QUERIES_AT_ONCE = 1024
