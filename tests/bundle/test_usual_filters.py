"""The filters that an index is tried with at publish, beside random shares."""

import numpy as np
import pyarrow as pa
import pytest

from etalage.bundle.staging import measured
from etalage.bundle.usual_filters import usual_filters
from etalage.config import IndexConfig, PublishConfig
from etalage.errors import RecallTooLow
from etalage.index import build

CATEGORIES = ["Shoes > Boots"] * 50 + ["Shoes"] * 30 + ["Bags > Totes"] * 15 + ["Hats"] * 4 + [None]
BRANDS = ["Ardent"] * 100
PRICES = [float(number % 40) if number % 10 else None for number in range(100)]


def items() -> pa.Table:
    prices = pa.array(PRICES, pa.float64())
    return pa.table({"category_id": CATEGORIES, "brand": BRANDS, "price": prices})


def test_the_largest_and_the_smallest_that_has_enough_are_tried() -> None:
    found = usual_filters(items(), np.arange(1, 101), least=5)
    assert list(found) == ["category Shoes", "category Bags", "price up to 3.9"]
    assert found["category Shoes"].sum() == 80 and not found["category Shoes"][0]
    assert np.flatnonzero(found["category Bags"]).tolist() == list(range(81, 96))
    allowed = np.array([False] + [price is not None and price <= 3.9 for price in PRICES])
    np.testing.assert_array_equal(found["price up to 3.9"], allowed)


def test_only_what_the_index_holds_counts() -> None:
    bags = np.arange(81, 96)
    found = usual_filters(items(), bags, least=1)
    assert "category Bags" not in found and "category Shoes" not in found, "all of them, and none"
    assert usual_filters(pa.table({"title": ["A"]}), np.array([1]), least=1) == {}


@pytest.mark.parametrize("force", [False, True])
def test_an_index_is_measured_with_them_and_held_to_the_same_recall(force: bool) -> None:
    rng = np.random.default_rng(4)
    centres = np.concatenate([rng.normal(size=(40, 8)), np.full((40, 8), 3.0) + rng.normal(size=(40, 8))])
    vectors = np.repeat(centres, 250, axis=0) + 0.2 * rng.normal(size=(20_000, 8))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    rows = np.arange(1, 20_001)
    index = build(rows, vectors, IndexConfig(kind="ivf_flat", lists=200, probes=1), norm="l2")
    filters = {"category Corner": np.concatenate([[False], rows > 10_000])}
    config = PublishConfig(min_recall=0.9999)
    forced: list[str] = []
    if not force:
        with pytest.raises(RecallTooLow, match="min_recall asks for"):
            measured(index, vectors, config, False, forced, "photos", filters)
        return
    found = measured(index, vectors, config, True, forced, "photos", filters)
    last = found[-1]
    assert forced == ["recall"] and (last.filter, last.share) == ("category Corner", 0.5)
