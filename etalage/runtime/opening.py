"""Any export of a model of behaviour, opened by its kind.

Evaluation, publish, sync and the server all score through what `open_scorer` opens, so what is measured is
what is served.
"""

from pathlib import Path

from etalage.errors import ExportDamaged
from etalage.runtime.embeddings import EmbeddingScorer
from etalage.runtime.export_files import ExportFiles, read_export
from etalage.runtime.item_item import ItemItemScorer
from etalage.runtime.pairs import PairScorer
from etalage.runtime.prior import PriorScorer
from etalage.runtime.scorer import ExportScorer


def open_scorer(folder: Path, threads: int = 1, verify: bool = True) -> ExportScorer:
    """Any export of a model of behaviour, aligned or not. Raises ExportDamaged."""
    opened = read_export(Path(folder), verify)
    kind = kind_of(opened)
    if kind is EmbeddingScorer or kind is PairScorer:
        return kind(opened, threads)
    return kind(opened)


def kind_of(export: ExportFiles) -> type[ExportScorer]:
    """Raises ExportDamaged: of a kind that came later."""
    scoring = export.facts["scoring"]
    for kind in (PriorScorer, ItemItemScorer, EmbeddingScorer, PairScorer):
        if kind.scoring == scoring:
            return kind
    raise ExportDamaged(
        f"{export.folder}: scoring {scoring!r}, which this version cannot open; install a newer one"
    )
