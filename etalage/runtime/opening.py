"""Opens any export of a model of behaviour by its kind.

Evaluation, publish, sync and the server all score with what `open_scorer` opens, so what is measured is what
is served.
"""

from dataclasses import dataclass
from pathlib import Path

from etalage.errors import ExportDamaged
from etalage.index import Index
from etalage.runtime.embeddings import EmbeddingScorer
from etalage.runtime.export_files import ExportFiles, export_kind, read_export
from etalage.runtime.item_item import ItemItemScorer
from etalage.runtime.pairs import PairScorer
from etalage.runtime.prior import PriorScorer
from etalage.runtime.scorer import ExportScorer


@dataclass(frozen=True)
class OpenedModel:
    """A model of behaviour in a bundle, ready to answer."""

    name: str
    role: str
    scorer: ExportScorer
    index: Index | None = None
    """Index of its item embeddings; None: it needs none, or searches exactly."""
    behind: bool = False
    """Whether it loses to popularity: it then only supplies candidates to the ranker, and never answers
    alone."""


def open_scorer(folder: Path, threads: int = 1, verify: bool = True) -> ExportScorer:
    """Open an export of a model of behaviour, aligned or not. Raises ExportDamaged."""
    opened = read_export(Path(folder), verify)
    kind = kind_of(opened)
    if kind is EmbeddingScorer or kind is PairScorer:
        return kind(opened, threads)
    return kind(opened)


def kind_of(export: ExportFiles) -> type[ExportScorer]:
    """The class for this export's kind. Raises ExportDamaged: the kind is unknown to this version."""
    said = export_kind(export.facts)
    for kind in (PriorScorer, ItemItemScorer, EmbeddingScorer, PairScorer):
        if kind.kind == said:
            return kind
    raise ExportDamaged(
        f"{export.folder}: kind {said!r}, which this version cannot open; install a newer one"
    )
