"""What the shop's sentence encoder made of a bundle's items, for what is like an item that has no photo.

models/text/embeddings.npy    by item row, row 0 zeros
indexes/text/                 those of items with a text, in an index

N items   D embedding dimension
"""

from pathlib import Path

import numpy as np

from etalage.bundle.files import EMBEDDINGS, MODELS, read_embeddings, write_npy
from etalage.bundle.formats import opened_index
from etalage.bundle.manifest import TextFacts
from etalage.bundle.photo_entries import check_norms
from etalage.bundle.staging import Staging
from etalage.errors import IndexMismatch
from etalage.features.sources import TEXT, FeatureSource
from etalage.features.vocabulary import Vocabulary
from etalage.lake.durable_files import write_file
from etalage.runtime.texts import TextModel


def stage(texts: FeatureSource, staging: Staging) -> TextFacts:
    """Write the embeddings and their index. Raises RecallTooLow, IndexUnavailable, OSError, PublishError."""
    folder = staging.model_folder(TEXT)
    folder.mkdir()
    embeddings = texts.by_row(Vocabulary(staging.items["item_id"]))
    write_file(folder / EMBEDDINGS, write_npy(embeddings))
    staging.seal(folder)
    dimension = embeddings.shape[1]
    index = staging.add_index(
        TEXT,
        embeddings,
        np.flatnonzero(embeddings.any(axis=1)).astype(np.int64),
        staging.index_config.model_copy(update={"per_category": None}),
        texts.model_hash,
        like=staging.index_before(f"indexes/{TEXT}", dimension),
    )
    return TextFacts(
        hash=texts.model_hash, dimension=dimension, embeddings=f"{MODELS}/{TEXT}/{EMBEDDINGS}", index=index
    )


def open_texts(folder: Path, facts: TextFacts, items: int, threads: int = 1) -> TextModel:
    """The texts of the bundle in `folder`, which has so many items. Raises IndexMismatch, BundleDamaged."""
    embeddings = read_embeddings(folder, facts.embeddings)
    if embeddings.shape != (items + 1, facts.dimension):
        raise IndexMismatch(
            f"{folder / facts.embeddings}: shape {embeddings.shape} for {items} items and texts of dimension "
            f"{facts.dimension}; publish again"
        )
    where = folder / facts.index.dir
    index = opened_index(
        where,
        facts.index.first_row,
        threads,
        model_hash=facts.hash,
        dimension=facts.dimension,
        embeddings=embeddings,
    )
    if len(index) != facts.index.indexed or not embeddings[index.rows].any(axis=1).all():
        raise IndexMismatch(
            f"{where}: {len(index)} items, of which each is to have a text, the manifest says "
            f"{facts.index.indexed}; publish again"
        )
    check_norms(folder / facts.embeddings, embeddings, index.rows)
    return TextModel(embeddings, index)
