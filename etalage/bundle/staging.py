"""Where the models of a bundle are laid while it is made, and what every kind of them leaves there."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from etalage.bundle.collections import Collections
from etalage.bundle.files import INDEXES, MODELS
from etalage.bundle.manifest import IndexFacts, RecallFacts
from etalage.bundle.usual_filters import usual_filters
from etalage.config import ClassifyConfig, IndexConfig, PublishConfig
from etalage.errors import IndexMismatch, IndexUnavailable, PublishError, RecallTooLow
from etalage.features.array_blocks import ArrayLoop
from etalage.features.sources import FeatureSource
from etalage.funnel.filters import fields_of
from etalage.index import (
    Index,
    RecallRow,
    build,
    milvus_settings,
    open_index,
    probing_queries,
    recall,
)
from etalage.index.contract import Header, Norm
from etalage.index.milvus import MilvusIndex, Spread, where
from etalage.lake.durable_files import Written, seal_file, sync_folder
from etalage.lake.erasures import Known


@dataclass
class Staging:
    """The folder of a bundle that is being made, and the rules by which models are laid there."""

    folder: Path
    items: pa.Table
    sources: Mapping[str, FeatureSource]
    """Of items that came after the exports, too."""
    index_config: IndexConfig
    config: PublishConfig
    classify: ClassifyConfig
    force: bool
    before: Path | None
    """The bundle that a sync carries on from: its centroids are kept."""
    erased: Known = field(default_factory=dict)
    """Shoppers whose ids no model is to have."""
    forced: list[str] = field(default_factory=list)
    """The refusals that were overridden."""
    blocks: ArrayLoop | None = None
    """Where blocks of an index are built; None: in this process."""
    written: dict[str, Written] = field(default_factory=dict)
    """Every file by its name in the bundle."""
    spread: Spread = map
    """Who writes into a vector database."""

    def model_folder(self, name: str) -> Path:
        """Where the model called `name` goes; its parent is there."""
        folder = self.folder / MODELS / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        return folder

    def copy_export(self, export: Path, names: Sequence[str], to: Path) -> None:
        """Make the folder `to` with the files `names` of `export` in it, byte for byte. Raises OSError."""
        to.mkdir()
        for name in names:
            (to / name).write_bytes((export / name).read_bytes())

    def index_before(self, folder: str, dimension: int) -> Index | None:
        """The index that the bundle before had in `folder`, if it is of embeddings of this dimension. Not one
        on a server: it has no centroids to keep, and the server may be gone for good."""
        if self.before is None or not (self.before / folder).is_dir():
            return None
        if where(self.before / folder) is not None:
            return None
        like = open_index(self.before / folder)
        return like if like.dimension == dimension else None

    def add_index(
        self,
        name: str,
        every: np.ndarray,
        rows: np.ndarray,
        config: IndexConfig,
        model_hash: str,
        *,
        norm: Norm = "l2",
        like: Index | None = None,
    ) -> IndexFacts:
        """Build, measure and save the index of the item_rows (M,), whose embeddings are in `every`
        (N + 1, D). Raises RecallTooLow, IndexUnavailable, PublishError, OSError."""
        embeddings = np.asarray(every[rows], np.float32)
        collection = fields = None
        if config.kind == "milvus":
            collection = Collections(self.folder.parent).name(milvus_settings(config))
            fields = fields_of(self.items).take(pa.array(rows - 1))
        index = build(
            rows, embeddings, config, like, norm=norm, model_hash=model_hash,
            collection=collection, fields=fields, spread=self.spread, blocks=self.blocks,
        )  # fmt: skip
        if isinstance(index, MilvusIndex):
            index.lay(every)
        filters = {} if index.is_exact else usual_filters(self.items, rows, self.config.recall_k)
        recall = measured(index, embeddings, self.config, self.force, self.forced, name, filters)
        require_answer(index)
        folder = self.folder / INDEXES / name
        folder.parent.mkdir(exist_ok=True)
        saved(index, folder)
        self.seal(folder)
        return IndexFacts(
            kind=Header.read(folder).kind,
            dir=f"{INDEXES}/{name}",
            indexed=len(index),
            per_category=config.per_category,
            recall=tuple(RecallFacts(**asdict(row)) for row in recall),
        )

    def seal(self, folder: Path) -> None:
        """Everything in `folder` is on the disk, read-only, and counted among the bundle's files."""
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            self.written[file.relative_to(self.folder).as_posix()] = seal_file(file)
        for inner in sorted(p for p in folder.rglob("*") if p.is_dir()):
            sync_folder(inner)
        sync_folder(folder)

    def sync_folders(self) -> None:
        """The folders above the models' and indexes' own are on the disk too."""
        for made in (MODELS, INDEXES):
            if (self.folder / made).is_dir():
                sync_folder(self.folder / made)


RECALL_QUERIES = 500


def require_answer(index: Index | None) -> None:
    """Raises IndexUnavailable: the index's server did not answer, and its embeddings were searched here: that
    measures nothing, and records what it does not find."""
    if isinstance(index, MilvusIndex) and index.problem is not None:
        raise IndexUnavailable(f"nothing was published: {index.problem}")


def measured(
    index: Index,
    embeddings: np.ndarray,
    config: PublishConfig,
    force: bool,
    forced: list[str],
    name: str = "photos",
    filters: Mapping[str, np.ndarray] | None = None,
) -> list[RecallRow]:
    """Recall against the exact index, filters included; an exact one needs no measuring.

    embeddings (M, D) of index.rows. filters: as `usual_filters` makes them.
    Raises RecallTooLow; with `force`, adds to `forced` instead.
    """
    if index.is_exact:
        return [RecallRow(None, config.recall_k, 1.0, 0)]
    from etalage.index.exact import ExactIndex

    exact = ExactIndex.over(index.rows, np.ascontiguousarray(embeddings, np.float32), norm=index.norm)
    queries = probing_queries(embeddings, RECALL_QUERIES)
    rows = recall(index, exact, queries, config.recall_k, filters=filters)
    worst = min(rows, key=lambda row: row.recall)
    if worst.recall < config.min_recall:
        if not force:
            knob = "[index.milvus] search" if isinstance(index, MilvusIndex) else "index.probes"
            share = "" if worst.share is None else f" with {worst.share:.0%} of the items allowed"
            share += "" if worst.filter is None else f" ({worst.filter})"
            raise RecallTooLow(
                f"the index of {name} finds {worst.recall:.3f} of what the exact one finds{share}; "
                f"min_recall asks for {config.min_recall:.3f}: raise {knob}, set index.kind = 'exact', "
                "or --force"
            )
        if "recall" not in forced:
            forced.append("recall")
    return rows


def saved(index: Index, folder: Path) -> Index:
    """The index as the disk has it. faiss tells of some failed writes only by a short file."""
    try:
        index.save(folder)
        return open_index(folder, model_hash=index.model_hash, dimension=index.dimension)
    except (RuntimeError, IndexMismatch) as error:
        raise PublishError(
            f"the index could not be written: {error}; is the disk full? Free some space and publish again"
        ) from error
