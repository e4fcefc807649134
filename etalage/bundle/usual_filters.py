"""Filters as shoppers set them, for the recall of an index: a category, a brand, a price.

A random share of the items lies everywhere in an index. What a filter allows lies together, and often far
from the query: an index that finds all of the one may miss some of the other.

    N items   M items of the index
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.lake.schema import CATEGORY_SEPARATOR

CHEAP = 0.1
"""The price filter allows this share of the items with a price, the cheapest."""


def usual_filters(items: pa.Table, rows: np.ndarray, least: int) -> dict[str, np.ndarray]:
    """Of each kind the filter that allows most items and that which allows fewest, `least` at least, of the
    item rows (M,) in an index: words → (N + 1,) bool, what it allows. One that allows all is none."""
    inside = np.zeros(items.num_rows + 1, bool)
    inside[rows] = True
    found: dict[str, np.ndarray] = {}
    for name, column in (("category", "category_id"), ("brand", "brand")):
        if column in items.column_names:
            found |= _extremes(name, _values(name, items[column]), inside, least)
    if "price" in items.column_names:
        found |= _cheapest(items["price"], inside, least)
    return found


def _values(name: str, column: pa.ChunkedArray) -> pa.DictionaryArray:
    """(N,) what a filter by it names; of categories the step at the top, with all beneath."""
    texts = column.combine_chunks().cast(pa.string())
    if name == "category":
        texts = pc.list_element(pc.split_pattern(pc.fill_null(texts, ""), CATEGORY_SEPARATOR), 0)
        texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    return texts.dictionary_encode()


def _extremes(name: str, values: pa.DictionaryArray, inside: np.ndarray, least: int) -> dict[str, np.ndarray]:
    """The value with the most items in the index, and that with the fewest, of those that have enough."""
    codes = np.concatenate([[-1], np.asarray(pc.fill_null(values.indices, -1))])
    counts = np.bincount(codes[inside & (codes >= 0)], minlength=len(values.dictionary))
    able = np.flatnonzero((counts >= least) & (counts < inside.sum()))
    if not len(able):
        return {}
    order = able[np.argsort(-counts[able], kind="stable")]
    ends = dict.fromkeys((int(order[0]), int(order[-1])))
    return {f"{name} {values.dictionary[code].as_py()}": codes == code for code in ends}


def _cheapest(column: pa.ChunkedArray, inside: np.ndarray, least: int) -> dict[str, np.ndarray]:
    prices = np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    prices = np.concatenate([[np.nan], prices])
    known = inside & np.isfinite(prices)
    if not known.any():
        return {}
    bound = float(np.quantile(prices[known], CHEAP))
    mask = np.isfinite(prices) & (prices <= bound)
    count = int((mask & inside).sum())
    return {f"price up to {bound:g}": mask} if least <= count < int(inside.sum()) else {}
