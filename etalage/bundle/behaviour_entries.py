"""The models of behaviour in a bundle: aligned, indexed and measured at publish, opened and checked at load.

models/<name>/      the export, aligned to the bundle's items (runtime/aligning.py)
indexes/<name>/     of an embedder: its item embeddings in an index

N items   D embedding dimension
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from etalage.bundle.draft import DraftedModel
from etalage.bundle.files import INDEXES, MODELS
from etalage.bundle.formats import opened_index
from etalage.bundle.manifest import IndexFacts, ModelEntry, RefitFacts, SourceFacts
from etalage.bundle.staging import Staging
from etalage.errors import IndexMismatch
from etalage.index import Index
from etalage.index.contract import NORM_TOLERANCE, Norm
from etalage.runtime.aligning import align
from etalage.runtime.embeddings import EmbeddingScorer
from etalage.runtime.export_files import ITEM
from etalage.runtime.opening import OpenedModel, open_scorer

# -- publish -----------------------------------------------------------------------------------


def stage(model: DraftedModel, facts: dict[str, Any], staging: Staging) -> ModelEntry:
    """Align the model, index its item embeddings where it has some, seal the files.

    Raises ExportDamaged, RecallTooLow (with force: adds to what was forced), IndexUnavailable, OSError.
    """
    name = str(facts["name"])
    folder = staging.model_folder(name)
    align(model.export, staging.items, folder, staging.sources, staging.erased)
    scorer = open_scorer(folder, verify=False)
    index = _indexed(scorer, staging) if isinstance(scorer, EmbeddingScorer) else None
    staging.seal(folder)
    return ModelEntry(
        name=name,
        kind=scorer.kind,
        role=scorer.role,
        hash=scorer.model_hash,
        aligned=str(scorer.opened.facts["model_hash"]),
        dir=f"{MODELS}/{name}",
        dimension=scorer.dimension,
        verdict=model.verdict,
        forced=model.forced,
        slice=model.slice,
        index=index,
        fitted_on=facts.get("fitted_on"),
        refit=RefitFacts(**facts["refit"]) if "refit" in facts else None,
        as_judged=model.as_judged,
        behind=model.behind,
        unjudged=model.unjudged,
        sources=_sources(scorer.opened.facts),
    )


def _sources(facts: Mapping[str, Any]) -> dict[str, SourceFacts]:
    unknown = facts.get("unknown_to_sources", {})
    return {
        name: SourceFacts(hash=made, unknown=int(unknown.get(name, 0)))
        for name, made in facts.get("feature_sources", {}).items()
    }


def _indexed(scorer: EmbeddingScorer, staging: Staging) -> IndexFacts:
    rows = rows_to_index(scorer)
    embeddings = np.asarray(scorer.item_embeddings, np.float32)[rows]
    config = staging.index_config.model_copy(update={"per_category": None})
    like = staging.index_before(f"{INDEXES}/{scorer.name}", scorer.dimension)
    model_hash = str(scorer.opened.facts["model_hash"])
    return staging.add_index(
        scorer.name, scorer.item_embeddings, rows, config, model_hash, norm=norm_of(embeddings), like=like
    )


def rows_to_index(scorer: EmbeddingScorer) -> np.ndarray:
    """(M,) item rows of which the model can say something: it met them in training or looks at content."""
    every = np.asarray(scorer.item_embeddings, np.float32)
    good = np.einsum("nd,nd->n", every, every) > 0
    opened = scorer.opened
    by_content = (opened.folder / ITEM).exists()
    if opened.to_model is not None and not by_content:
        good &= opened.to_model > 0
    good[0] = False
    return np.flatnonzero(good).astype(np.int64)


def norm_of(embeddings: np.ndarray) -> Norm:
    """`l2` when all are of length 1."""
    lengths = np.linalg.norm(embeddings, axis=1)
    return "l2" if len(lengths) and bool((np.abs(lengths - 1) <= NORM_TOLERANCE / 2).all()) else "none"


# -- load --------------------------------------------------------------------------------------


def open_models(
    folder: Path, entries: Sequence[ModelEntry], item_ids: pa.Array, threads: int = 1, verify: bool = True
) -> list[OpenedModel]:
    """The models of the bundle in `folder`, checked against the manifest's entries and the bundle's items.

    Raises ExportDamaged, IndexMismatch.
    """
    opened = []
    for entry in entries:
        where = folder / entry.dir
        scorer = open_scorer(where, threads, verify)
        found = (scorer.name, scorer.role, scorer.model_hash, str(scorer.opened.facts["model_hash"]))
        if found != (entry.name, entry.role, entry.hash, entry.aligned):
            raise IndexMismatch(
                f"{where}: model {found[0]} {found[2][:12]}, aligned {found[3][:12]}; the manifest says "
                f"{entry.name} {entry.hash[:12]}, {entry.aligned[:12]}; publish again"
            )
        if not scorer.items.ids.equals(item_ids):
            raise IndexMismatch(f"{where}: aligned to other items than the bundle's; publish again")
        index = _opened_index(folder, scorer, entry, threads) if entry.index is not None else None
        if index is None and isinstance(scorer, EmbeddingScorer):
            raise IndexMismatch(f"{where}: the manifest names no index of its embeddings; publish again")
        opened.append(OpenedModel(entry.name, entry.role, scorer, index, entry.behind))
    return opened


def _opened_index(folder: Path, scorer: Any, entry: ModelEntry, threads: int) -> Index:
    assert entry.index is not None
    where = folder / entry.index.dir
    index = opened_index(
        where,
        entry.index.first_row,
        threads,
        model_hash=entry.aligned,
        dimension=scorer.dimension,
        embeddings=scorer.item_embeddings,
    )
    expected = rows_to_index(scorer)
    if len(index) != entry.index.indexed or not np.array_equal(index.rows, expected):
        raise IndexMismatch(
            f"{where}: {len(index)} items; the manifest says {entry.index.indexed}, the model "
            f"{len(expected)}; publish again"
        )
    return index
