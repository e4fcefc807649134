"""What a category is worth: from a list that somebody keeps, or from what was bought of it.

N categories of the whole taxonomy   L leaves of the one that a model knows
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.errors import InputUnreadable
from etalage.lake.casting import price
from etalage.lake.category_text import PathBook, found_row
from etalage.lake.csv_reader import csv_rows
from etalage.lake.taxonomy import Taxonomy


def read_values(taxonomy: Taxonomy, file: Path) -> np.ndarray:
    """(N,) float64 out of a CSV with category_id (an id or a path) and value; 0 where it has no line.

    Raises InputUnreadable, with the line: as `csv_rows`, an unknown category, one that has a line already, a
    value that is missing, negative or no number.
    """
    book = PathBook(taxonomy)
    values = np.zeros(len(taxonomy))
    lines: dict[int, int] = {}
    for line, (id, text) in csv_rows(file, ("category_id", "value")):
        row = -1 if id is None else found_row(taxonomy, book, id)
        if row < 0:
            raise InputUnreadable(
                f"{file}: line {line}: {id!r} is no category of the taxonomy; see `etalage taxonomy show`"
            )
        if lines.setdefault(row, line) != line:
            raise InputUnreadable(f"{file}: line {line}: {id!r} has a value in line {lines[row]} already")
        try:
            value = price(text)
        except ValueError as error:
            raise InputUnreadable(f"{file}: line {line}: value {error}") from error
        if value is None:
            raise InputUnreadable(f"{file}: line {line}: {id!r} has no value; write 0 for none")
        values[row] = value
    return values


def bought_values(
    taxonomy: Taxonomy,
    rows_I: np.ndarray,
    item_ids: Sequence[str],
    bought: pa.Table,
) -> np.ndarray:
    """(N,) float64: what was bought of each category's items.

    rows_I: (I,) each item's category, -1 for none. bought: `item_id` and `value` of each purchase, which
    counts its value where it has one above 0 (an amount or a number of pieces, as the shop's purchases mean
    it), else 1.
    """
    places = pc.index_in(bought["item_id"], value_set=pa.array(item_ids, pa.string()))
    place_P = pc.fill_null(places, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    value_P = pc.fill_null(bought["value"], 0.0).to_numpy(zero_copy_only=False).astype(np.float64)
    value_P = np.where(np.isfinite(value_P) & (value_P > 0), value_P, 1.0)
    row_P = np.append(rows_I, -1)[place_P]
    known = row_P >= 0
    return np.bincount(row_P[known], value_P[known], len(taxonomy)).astype(np.float64)


def leaf_values(taxonomy: Taxonomy, whole: Taxonomy, values_N: np.ndarray) -> np.ndarray:
    """(L,) float64 of `taxonomy`'s leaves, out of (N,) values of the categories of `whole`.

    `taxonomy` is `whole`, or what is left of it after a cut. The value of a category above the leaves is
    shared out evenly over the leaves beneath it. One that `taxonomy` lacks counts for the leaf above it;
    where only categories with other leaves are above it, it counts for none.
    """
    place_of = np.full(len(taxonomy), -1, dtype=np.int64)
    place_of[taxonomy.leaves_L] = np.arange(len(taxonomy.leaves_L))
    beneath: dict[int, list[int]] = {}
    for place, leaf in enumerate(taxonomy.leaves_L):
        for step in taxonomy.steps(int(leaf)):
            beneath.setdefault(step, []).append(place)
    values = np.zeros(len(taxonomy.leaves_L))
    for row in np.flatnonzero(values_N):
        own = taxonomy.row(whole.ids[row])
        if own >= 0:
            values[beneath[own]] += values_N[row] / len(beneath[own])
            continue
        kept = [kept for step in whole.steps(int(row)) if (kept := taxonomy.row(whole.ids[step])) >= 0]
        if kept and place_of[kept[-1]] >= 0:
            values[place_of[kept[-1]]] += values_N[row]
    return values
