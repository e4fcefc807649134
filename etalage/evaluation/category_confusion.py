"""What is taken for what: the confusion matrix of the most valuable categories, and the costliest mistakes.

Nothing here is as large as L × L: the matrix is of the 50 categories that are worth most, and the mistakes
are counted by the pairs that occur.

    N items   L leaves   C categories shown
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from etalage.lake.taxonomy import Taxonomy

MOST = 50
ELSEWHERE = "(elsewhere)"


@dataclass(frozen=True)
class Confusion:
    """Predicted down, true across, the most valuable category top-left (S1.19)."""

    ids: tuple[str, ...]
    paths: tuple[str, ...]
    values_C: np.ndarray
    """(C,) float64, falling."""
    counts_CC: np.ndarray
    """(C, C) int64: row = predicted, column = true."""
    elsewhere_C: np.ndarray
    """(C,) int64: items of each (true) category that were put into one that is not shown."""

    @property
    def shares_CC(self) -> np.ndarray:
        """(C, C) float64: of each column's items, those in the row; zeros where a category has none."""
        sums = self.counts_CC.sum(axis=0) + self.elsewhere_C
        shares: np.ndarray = self.counts_CC / np.maximum(sums, 1)
        return shares

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": "predicted",
            "columns": "true",
            "categories": [
                {"id": id, "path": path, "value": value}
                for id, path, value in zip(self.ids, self.paths, self.values_C.tolist(), strict=True)
            ],
            "counts": self.counts_CC.tolist(),
            "elsewhere": self.elsewhere_C.tolist(),
        }

    def to_csv(self) -> str:
        """One row a predicted category, one column a true one, both by path; the last row: elsewhere."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["predicted \\ true", *self.paths])
        for path, row in zip((*self.paths, ELSEWHERE), [*self.counts_CC, self.elsewhere_C], strict=True):
            writer.writerow([path, *row.tolist()])
        return out.getvalue()


@dataclass(frozen=True)
class Mistake:
    """One pair of a true and another predicted category. `rows`: items of it, the surest first."""

    true: str
    predicted: str
    count: int
    of: int
    """Items of the true category in all."""
    lost: float
    """Share of the value of all items that this mistake gets wrong."""
    edges: int
    """Between the two, through the tree."""
    rows: tuple[int, ...]
    alike: tuple[int, ...]
    """Items that are of the predicted category, and were seen to be."""


def most_valuable(
    truth_N: np.ndarray, decided_N: np.ndarray, values_L: np.ndarray, taxonomy: "Taxonomy", most: int = MOST
) -> Confusion:
    """Of the `most` most valuable categories that any item is of; of equals the first in the file leads."""
    shown = np.unique(truth_N)
    shown = shown[np.lexsort((shown, -values_L[shown]))][:most]
    place_L = np.full(len(values_L), -1)
    place_L[shown] = np.arange(len(shown))
    true, predicted = place_L[truth_N], place_L[decided_N]
    both = (true >= 0) & (predicted >= 0)
    cells = np.bincount(predicted[both] * len(shown) + true[both], minlength=len(shown) ** 2)
    away = np.bincount(true[(true >= 0) & (predicted < 0)], minlength=len(shown))
    rows = taxonomy.leaves_L[shown].tolist()
    return Confusion(
        tuple(taxonomy.ids[row] for row in rows),
        tuple(taxonomy.path(row) for row in rows),
        values_L[shown].astype(np.float64),
        cells.reshape(len(shown), len(shown)),
        away,
    )


def worst_mistakes(
    truth_N: np.ndarray,
    decided_N: np.ndarray,
    confidence_N: np.ndarray,
    values_L: np.ndarray,
    taxonomy: "Taxonomy",
    most: int = 12,
    photos: int = 5,
) -> list[Mistake]:
    """The pairs that lose most value (then: that are most frequent, then: in the taxonomy's order)."""
    wrong = np.flatnonzero(truth_N != decided_N)
    if not len(wrong):
        return []
    leaves = len(values_L)
    pairs, counts = np.unique(truth_N[wrong] * leaves + decided_N[wrong], return_counts=True)
    total = max(float(values_L[truth_N].sum()), np.finfo(np.float64).tiny)
    lost = counts * values_L[pairs // leaves] / total
    chosen = np.lexsort((pairs, -counts, -lost))[:most]
    surest = np.argsort(-confidence_N, kind="stable")
    found = []
    for pair, count, share in zip(pairs[chosen].tolist(), counts[chosen].tolist(), lost[chosen], strict=True):
        true, predicted = divmod(pair, leaves)
        rows = surest[(truth_N[surest] == true) & (decided_N[surest] == predicted)]
        alike = surest[(truth_N[surest] == predicted) & (decided_N[surest] == predicted)]
        a, b = (int(taxonomy.leaves_L[place]) for place in (true, predicted))
        found.append(
            Mistake(
                taxonomy.path(a),
                taxonomy.path(b),
                count,
                int((truth_N == true).sum()),
                float(share),
                taxonomy.distance(a, b),
                tuple(rows[:photos].tolist()),
                tuple(alike[:photos].tolist()),
            )
        )
    return found


def short_names(paths: Sequence[str], longest: int = 34) -> list[str]:
    """The leaves' names, or paths where two leaves have one name; of long ones the beginning and the end."""
    leaves = [path.rpartition(" > ")[2] for path in paths]
    chosen = [leaf if leaves.count(leaf) == 1 else path for leaf, path in zip(leaves, paths, strict=True)]
    half = longest // 2
    cut = [name if len(name) <= longest else f"{name[: half - 1]}…{name[-half:]}" for name in chosen]
    return cut
