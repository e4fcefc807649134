"""The models of behaviour in a bundle: placed, indexed and measured at publish, opened and checked at load.

models/<name>/      the export, laid onto the bundle's items (runtime/aligning.py)
indexes/<name>/     of an embedder: its item embeddings in an index

N items   D embedding dimension
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from etalage.bundle.admission import PlacedModel
from etalage.bundle.durable import Written, seal_file
from etalage.bundle.files import INDEXES, MODELS
from etalage.bundle.manifest import PlacedFacts, SourceFacts
from etalage.bundle.measured import measured, saved
from etalage.config import IndexConfig, PublishConfig
from etalage.errors import IndexMismatch
from etalage.features.sources import FeatureSource
from etalage.index import Index, build, open_index
from etalage.index.contract import NORM_TOLERANCE, Header, Norm
from etalage.lake.durable_files import sync_folder
from etalage.lake.erasures import Known
from etalage.runtime.aligning import align
from etalage.runtime.embeddings import EmbeddingScorer
from etalage.runtime.export_files import ITEM
from etalage.runtime.opening import open_scorer
from etalage.runtime.scorer import ExportScorer


@dataclass(frozen=True)
class OpenedModel:
    """A model of a bundle, ready to answer."""

    facts: PlacedFacts
    scorer: ExportScorer
    index: Index | None


# -- publish -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Staging:
    """Where the models are laid, and by which rules."""

    folder: Path
    items: pa.Table
    sources: Mapping[str, FeatureSource]
    """Of items that came after the exports, too."""
    index_config: IndexConfig
    config: PublishConfig
    before: Path | None
    """The bundle that a sync carries on from: its centroids are kept."""
    erased: Known
    """Shoppers whose ids no model is to have."""


def stage(
    models: Sequence[tuple[PlacedModel, dict[str, Any]]], staging: Staging, force: bool, forced: list[str]
) -> tuple[list[PlacedFacts], dict[str, Written]]:
    """Place every model, index the embedders, seal the files; → facts and files for the manifest.

    Raises ExportDamaged, RecallTooLow (with `force`: adds to `forced`), OSError.
    """
    placed: list[PlacedFacts] = []
    written: dict[str, Written] = {}
    for model, facts in models:
        name = str(facts["name"])
        folder = staging.folder / MODELS / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        align(model.export, staging.items, folder, staging.sources, staging.erased)
        scorer = open_scorer(folder, verify=False)
        index_facts, indexed = None, 0
        if isinstance(scorer, EmbeddingScorer):
            index_facts, indexed = _indexed(name, scorer, staging, force, forced)
            _seal(staging.folder / INDEXES / name, staging.folder, written)
        _seal(folder, staging.folder, written)
        placed.append(
            PlacedFacts(
                name=name,
                role=scorer.role,
                scoring=str(facts["scoring"]),
                hash=scorer.model_hash,
                placed=str(scorer.opened.facts["model_hash"]),
                dir=f"{MODELS}/{name}",
                dimension=scorer.dimension,
                verdict=model.verdict,
                forced=model.forced,
                slice=model.slice,
                index=index_facts,
                indexed=indexed,
                fitted_on=facts.get("fitted_on"),
                behind=model.behind,
                unjudged=model.unjudged,
                sources=_sources(scorer.opened.facts),
            )
        )
    for made in (MODELS, INDEXES):
        if (staging.folder / made).is_dir():
            sync_folder(staging.folder / made)
    return placed, written


def _sources(facts: Mapping[str, Any]) -> dict[str, SourceFacts]:
    unknown = facts.get("unknown_to_sources", {})
    return {
        name: SourceFacts(hash=made, unknown=int(unknown.get(name, 0)))
        for name, made in facts.get("feature_sources", {}).items()
    }


def _indexed(
    name: str, scorer: EmbeddingScorer, staging: Staging, force: bool, forced: list[str]
) -> tuple[dict[str, Any], int]:
    rows = rows_to_index(scorer)
    embeddings = np.asarray(scorer.item_embeddings[1:], np.float32)[rows]
    config = staging.index_config.model_copy(update={"per_category": None})
    like = None
    if staging.before is not None and (staging.before / INDEXES / name).is_dir():
        like = open_index(staging.before / INDEXES / name)
        like = like if like.dimension == scorer.dimension else None
    model_hash = str(scorer.opened.facts["model_hash"])
    index = build(rows, embeddings, config, like, norm=norm_of(embeddings), model_hash=model_hash)
    recall = measured(index, embeddings, staging.config, config, force, forced, name)
    folder = staging.folder / INDEXES / name
    folder.parent.mkdir(exist_ok=True)
    saved(index, folder)
    kind = Header.read(folder).kind
    return {"kind": kind, "recall": tuple(asdict(row) for row in recall)}, len(index)


def rows_to_index(scorer: EmbeddingScorer) -> np.ndarray:
    """(M,) bundle rows of which the model can say something: it met them in training or looks at content."""
    every = np.asarray(scorer.item_embeddings[1:], np.float32)
    good = np.einsum("nd,nd->n", every, every) > 0
    opened = scorer.opened
    by_content = (opened.folder / ITEM).exists()
    if opened.to_model is not None and not by_content:
        good &= opened.to_model[1:] > 0
    return np.flatnonzero(good).astype(np.int64)


def norm_of(embeddings: np.ndarray) -> Norm:
    """`l2` when all are of length 1."""
    lengths = np.linalg.norm(embeddings, axis=1)
    return "l2" if len(lengths) and bool((np.abs(lengths - 1) <= NORM_TOLERANCE / 2).all()) else "none"


def _seal(folder: Path, root: Path, written: dict[str, Written]) -> None:
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        written[file.relative_to(root).as_posix()] = seal_file(file)
    for inner in sorted(p for p in folder.rglob("*") if p.is_dir()):
        sync_folder(inner)
    sync_folder(folder)


# -- load --------------------------------------------------------------------------------------


def open_models(
    folder: Path, models: Sequence[PlacedFacts], item_ids: pa.Array, threads: int = 1, verify: bool = True
) -> list[OpenedModel]:
    """The models of the bundle in `folder`, checked against the manifest's facts and the bundle's items.

    Raises ExportDamaged, IndexMismatch.
    """
    opened = []
    for facts in models:
        where = folder / facts.dir
        scorer = open_scorer(where, threads, verify)
        found = (scorer.name, scorer.role, scorer.model_hash, str(scorer.opened.facts["model_hash"]))
        if found != (facts.name, facts.role, facts.hash, facts.placed):
            raise IndexMismatch(
                f"{where}: model {found[0]} {found[2][:12]}, placed {found[3][:12]}; the manifest says "
                f"{facts.name} {facts.hash[:12]}, {facts.placed[:12]}; publish again"
            )
        if not scorer.items.ids.equals(item_ids):
            raise IndexMismatch(f"{where}: laid onto other items than the bundle's; publish again")
        index = None
        if isinstance(scorer, EmbeddingScorer):
            index = _opened_index(folder / INDEXES / facts.name, scorer, facts, threads)
        opened.append(OpenedModel(facts, scorer, index))
    return opened


def _opened_index(folder: Path, scorer: EmbeddingScorer, facts: PlacedFacts, threads: int) -> Index:
    index = open_index(folder, threads, model_hash=facts.placed, dimension=scorer.dimension)
    if len(index) != facts.indexed or not np.array_equal(index.rows, rows_to_index(scorer)):
        raise IndexMismatch(
            f"{folder}: {len(index)} items; the manifest says {facts.indexed}, the model "
            f"{len(rows_to_index(scorer))}; publish again"
        )
    return index
