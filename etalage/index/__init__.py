"""Item embeddings → the nearest item rows: `build`, `open_index`, and `recall`, which checks them.

`exact` is the reference; `faiss` is approximate (IVF-Flat); `milvus` is a vector database. All keep to
`Index`.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etalage.config import IndexConfig, validated
from etalage.errors import IndexMismatch
from etalage.index.contract import Found, Header, Index, Norm
from etalage.index.recall_at_k import RecallRow, probing_queries, recall

if TYPE_CHECKING:
    from etalage.features.array_blocks import ArrayLoop
    from etalage.index.milvus import MilvusSettings, Spread

__all__ = [
    "EXACT_UP_TO",
    "Found",
    "Index",
    "RecallRow",
    "build",
    "milvus_settings",
    "open_index",
    "probing_queries",
    "recall",
]

EXACT_UP_TO = 20_000
"""Items up to which `auto` means exact: a whole scan takes about as long as the approximation."""
RETRAIN_AT = 4
"""Centroids are kept until the index has grown (or shrunk) by this factor since their training."""


def build(
    rows: np.ndarray,
    embeddings: np.ndarray,
    config: IndexConfig,
    like: Index | None = None,
    *,
    seed: int = 0,
    norm: Norm = "l2",
    model_hash: str = "",
    blocks: "ArrayLoop | None" = None,
    collection: str | None = None,
    fields: pa.Table | None = None,
    spread: "Spread" = map,
) -> Index:
    """An index of (N,) unique item_rows and their (N, D) float32 embeddings.

    blocks: where the work on blocks of rows is done, with the same result; None: in this process.

    `like`: reuse this index's centroids where they still fit. `model_hash`: of the model that made
    the embeddings; kept, and checked by open_index. In a vector database: the name of the `collection`
    (None: a new one), the items' `fields` (conditions.FIELDS), N rows, and who writes (`spread`); they mean
    nothing to other kinds. Raises IndexMismatch as Index.add does, IndexUnavailable.
    """
    kind = config.kind
    if kind == "milvus":
        from etalage.index.milvus import MilvusIndex

        settings = milvus_settings(config)
        return MilvusIndex.build(
            rows, embeddings, settings, collection,
            fields=fields, norm=norm, model_hash=model_hash, spread=spread,
        )  # fmt: skip
    if kind == "auto":
        kind = "exact" if len(rows) <= EXACT_UP_TO else "ivf_flat"
    if kind == "exact":
        from etalage.index.exact import ExactIndex

        exact = ExactIndex(np.shape(embeddings)[1], norm=norm, model_hash=model_hash)
        exact.add(rows, embeddings)
        return exact
    from etalage.index.faiss import IvfFlatIndex

    keep = None
    if isinstance(like, IvfFlatIndex) and like.norm == norm:
        grown = max(len(rows), 1) / max(like.trained_on, 1)
        if 1 / RETRAIN_AT < grown < RETRAIN_AT and config.lists in (None, like.lists):
            keep = like
    return IvfFlatIndex.build(
        rows,
        embeddings,
        config.lists,
        config.probes,
        seed,
        norm=norm,
        model_hash=model_hash,
        like=keep,
        blocks=blocks,
    )


def milvus_settings(config: IndexConfig, where: str = "shop.toml") -> "MilvusSettings":
    """[index.milvus], checked. Raises ConfigError that names `where`, the key, the value and a remedy."""
    from etalage.index.milvus import MilvusSettings

    return validated(MilvusSettings, config.milvus, where=f"{where}: index.milvus")


def open_index(
    folder: Path,
    threads: int = 1,
    *,
    model_hash: str | None = None,
    dimension: int | None = None,
    embeddings: np.ndarray | None = None,
) -> Index:
    """Open what `save` wrote. `threads`: for faiss, process-wide. `embeddings`: the same ones, (A, D) by
    item_row, for an index on a server that may not answer.

    Raises IndexUnavailable, and IndexMismatch: the files are not what `index.json` says, or the index was
    made for another model (`model_hash`) or for embeddings of another size (`dimension`) than the caller's.
    """
    folder = Path(folder)
    header = Header.read(folder)
    if model_hash is not None and header.model_hash != model_hash:
        raise IndexMismatch(
            f"{folder}: made from the embeddings of model {header.model_hash[:12] or '(not recorded)'}, "
            f"not of {model_hash[:12]}; publish again"
        )
    if dimension is not None and header.dimension != dimension:
        raise IndexMismatch(
            f"{folder}: holds embeddings of {header.dimension} numbers, the model makes {dimension}; "
            "publish again"
        )
    if header.kind == "exact":
        from etalage.index.exact import ExactIndex

        return ExactIndex.open(folder, threads)
    if header.kind == "ivf_flat":
        from etalage.index.faiss import IvfFlatIndex

        return IvfFlatIndex.open(folder, threads)
    if header.kind == "milvus":
        from etalage.index.milvus import MilvusIndex

        return MilvusIndex.open(folder, embeddings)
    raise IndexMismatch(f"{folder}: index of kind {header.kind!r}, which this version cannot open")
