"""Aligns an export to the items of a catalogue, so that their rows are the same.

It puts everything that the export stores per item into the catalogue's order, so that no request has to
translate rows. For items that the model never saw, a closed-form model has no score; an embedder that reads
content, and a ranker, treat them as the unknown item with the item's own features.

    N items of the catalogue
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from etalage.errors import ExportDamaged
from etalage.features.sources import FeatureSource, unknown_items
from etalage.features.vocabulary import Vocabulary
from etalage.lake.erasures import Known, nameless
from etalage.runtime.export_files import (
    FACTS,
    FEATURE_SOURCES,
    ITEMS,
    TO_MODEL,
    USERS,
    VERDICT,
    ExportFiles,
    hash_export,
    read_export,
    save_array,
)
from etalage.runtime.opening import kind_of
from etalage.runtime.scorer import SourceRows

_BY_ITEM = (
    "scores.npy",
    "indptr.npy",
    "indices.npy",
    "weights.npy",
    "item_embeddings.npy",
    "history_embeddings.npy",
)


def align(
    export: Path,
    items: pa.Table,
    target: Path,
    sources: Mapping[str, FeatureSource] | None = None,
    erased: Known | None = None,
) -> None:
    """Write the model of `export` into `target` (made; must not exist) for `items`, sorted by item_id.

    sources: embeddings for items that no training saw, such as those of their photos. `erased` shoppers lose
    their id but keep their row, so that the rows after it stay the same.
    Raises ExportDamaged: the export cannot be opened, or needs a feature that does not exist.
    """
    opened = read_export(export)
    if opened.to_model is not None:
        raise ExportDamaged(f"{export}: is aligned already; align the export that it was made from")
    vocabulary = Vocabulary(items["item_id"])
    to_model = np.concatenate([[0], opened.items.rows(vocabulary.ids)])
    target.mkdir(parents=True)
    others = (*_BY_ITEM, ITEMS, FACTS, VERDICT)
    for file in sorted(export.iterdir()):
        # Tensors are there for other trainings to start from: no score is made of them.
        beside = file.name[0] == "." or file.suffix == ".safetensors"
        if file.is_file() and file.name not in others and not beside:
            shutil.copyfile(file, target / file.name)
    vocabulary.save(target / ITEMS)
    if (target / USERS).exists():
        users = Vocabulary(nameless(opened.users.ids, erased or {}))
        users.save(target / USERS)
    save_array(target / TO_MODEL, to_model)
    rows = source_rows(opened, to_model, vocabulary, sources or {})
    kind_of(opened).align(opened, to_model, items, target, rows)
    facts = {**opened.facts, "export_hash": opened.facts["model_hash"], "model_hash": hash_export(target)}
    facts["unknown_to_sources"] = {
        name: unknown_items(rows[name]) for name in facts.get("feature_sources", {})
    }
    (target / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True), encoding="utf-8")


def source_rows(
    export: ExportFiles, to_model: np.ndarray, items: Vocabulary, given: Mapping[str, FeatureSource]
) -> SourceRows:
    """The rows of the export's feature sources for the catalogue's `items`.

    If a source in `given`, under any name, is the very export that the model learned from, take its present
    embeddings: they include new items, such as those with a photo. For any other source, take what the export
    itself stores: items that came later are unknown.
    """
    made_by = export.facts.get("feature_sources")
    if made_by is None:  # an export that was written before they were kept, with its photos' by name alone
        return {name: source.by_row(items) for name, source in given.items()}
    rows: dict[str, np.ndarray] = {}
    by_hash = {source.model_hash: source for source in given.values()}
    for name, model_hash in made_by.items():
        if (source := by_hash.get(model_hash)) is not None:
            rows[name] = source.by_row(items)
        else:
            kept = export.array(f"{FEATURE_SOURCES}/{name}", 2)
            rows[name] = np.asarray(kept[to_model], np.float32)
    return rows
