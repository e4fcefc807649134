"""An index before it is published: its recall beside the exact one, and what the disk has of it."""

from pathlib import Path

import numpy as np

from etalage.config import IndexConfig, PublishConfig
from etalage.errors import IndexMismatch, PublishError, RecallTooLow
from etalage.index import Index, RecallRow, build, open_index, probing_queries, recall

RECALL_QUERIES = 500


def measured(
    index: Index,
    embeddings: np.ndarray,
    config: PublishConfig,
    index_config: IndexConfig,
    force: bool,
    forced: list[str],
    name: str = "photos",
) -> list[RecallRow]:
    """Recall against the exact index, filters included; an exact one needs no measuring.

    embeddings (M, D) of index.rows. Raises RecallTooLow; with `force`, adds to `forced` instead.
    """
    if index.is_exact:
        return [RecallRow(None, config.recall_k, 1.0, 0)]
    exact_config = index_config.model_copy(update={"kind": "exact"})
    exact = build(index.rows, embeddings, exact_config, norm=index.norm)
    queries = probing_queries(embeddings, RECALL_QUERIES)
    rows = recall(index, exact, queries, config.recall_k)
    worst = min(rows, key=lambda row: row.recall)
    if worst.recall < config.min_recall:
        if not force:
            share = "" if worst.share is None else f" with {worst.share:.0%} of the items allowed"
            raise RecallTooLow(
                f"the index of {name} finds {worst.recall:.3f} of what the exact one finds{share}; "
                f"min_recall asks for {config.min_recall:.3f}: raise index.probes, set index.kind = 'exact', "
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
