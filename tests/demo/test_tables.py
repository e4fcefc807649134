"""The demo shop's catalogue, its size and its way into the lake."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from etalage.demo import tables
from etalage.demo.tables import DemoSize
from etalage.errors import DataError
from etalage.lake.delta import Lake
from etalage.lake.schema import TABLES

SIZE = DemoSize(items=900, shoppers=300, seed=7)


@pytest.fixture(scope="module")
def catalogue() -> pa.Table:
    return tables.catalogue(SIZE)


@pytest.mark.parametrize(
    ("items", "shoppers", "seed", "named"),
    [
        (99, 5, 7, "items=99"),
        (100_001, 5, 7, "items=100001"),
        (100, 0, 7, "shoppers=0"),
        (100, 1, -1, "seed=-1"),
    ],
)
def test_a_size_that_no_shop_has_is_refused_by_name(items: int, shoppers: int, seed: int, named: str) -> None:
    with pytest.raises(DataError, match=named):
        DemoSize(items, shoppers, seed)


def test_the_smallest_and_the_largest_sizes_are_taken() -> None:
    assert (DemoSize(100, 1).items, DemoSize(100_000, 1).items) == (100, 100_000)


def test_items_have_exactly_the_columns_of_the_items_table(catalogue: pa.Table) -> None:
    assert catalogue.schema.equals(TABLES["items"].schema)
    assert catalogue.num_rows == 900
    assert [name for name in catalogue.column_names if catalogue[name].null_count] == ["item_group_id"]


def test_the_same_seed_makes_the_same_items_and_another_seed_others(catalogue: pa.Table) -> None:
    assert tables.catalogue(SIZE).equals(catalogue)
    other = tables.catalogue(DemoSize(900, 300, seed=8))
    differing = pc.sum(pc.not_equal(other["title"], catalogue["title"])).as_py()
    assert differing > 800


def test_a_shop_that_grows_keeps_the_items_it_had(catalogue: pa.Table) -> None:
    grown = tables.catalogue(DemoSize(1_150, 300, seed=7))
    assert grown.slice(0, 900).equals(catalogue)
    assert grown.slice(900).num_rows == 250


def test_the_taxonomy_is_deep_and_every_leaf_is_sold_from_400_items_on() -> None:
    names = tables.catalogue(DemoSize(400, 1, seed=3))["category_id"].to_pylist()
    every = {
        leaf
        for seed in range(3)
        for leaf in tables.catalogue(DemoSize(2_000, 1, seed))["category_id"].to_pylist()
    }
    assert len(every) >= 40
    assert set(names) == every
    assert {len(name.split(" > ")) for name in every} == {3}
    assert len({name.split(" > ")[0] for name in every}) >= 4
    assert len(set(tables.catalogue(DemoSize(100, 1, seed=3))["category_id"].to_pylist())) > 0.9 * len(every)


def test_prices_look_like_prices_and_follow_category_and_brand() -> None:
    table = tables.catalogue(DemoSize(4_000, 1, seed=5)).to_pandas()
    cents = (table["price"] * 100).round().astype(int) % 100
    assert set(cents) == {50, 95, 99}
    assert table["price"].min() > 0
    median = table.groupby("category_id")["price"].median()
    assert median["Clothing > Coats and jackets > Wool coat"] > 4 * median["Home > Tableware > Mug"]
    relative = table["price"] / table["category_id"].map(median)
    by_brand = relative.groupby(table["brand"]).median()
    assert by_brand["Verrane"] > 1.3 * by_brand["Tindrel"]


def test_rows_read_like_a_shop(catalogue: pa.Table) -> None:
    rows = catalogue.to_pylist()
    for row in rows[:50]:
        attributes = json.loads(row["attributes"])
        assert {"colour", "pattern", "material", "season"} <= set(attributes)
        assert row["title"].startswith(row["brand"])
        assert row["title"].endswith(attributes["colour"])
        assert row["category_id"].rsplit(" > ", 1)[-1].lower() in row["title"]
        assert row["photo_url"] == f"demo://{row['item_id']}"
    assert len({row["item_id"] for row in rows}) == 900
    assert 0.88 < np.mean([row["in_stock"] for row in rows]) < 0.96
    assert {row["currency"] for row in rows} == {"EUR"}


def test_a_lake_is_filled_and_filling_it_again_changes_nothing(tmp_path) -> None:
    lake, size = Lake(tmp_path), DemoSize(items=110, shoppers=40, seed=2)
    seen: list[int] = []
    counts = tables.fill(lake, size, progress=seen.append)
    assert counts["items"] == counts["photos"] == 110
    assert counts["users"] == 40
    assert counts == {name: lake.table(name).count() for name in counts}
    assert sum(seen) == 110
    versions = lake.versions()
    assert tables.fill(lake, size) == counts
    assert lake.versions() == versions


def test_a_filled_lake_grows_by_the_new_items_alone(tmp_path) -> None:
    lake = Lake(tmp_path)
    lake.table("items").merge(tables.catalogue(DemoSize(150, 1, seed=4)))
    merged = lake.table("items").merge(tables.catalogue(DemoSize(180, 1, seed=4)))
    assert (merged.inserted, merged.updated, merged.unchanged) == (30, 0, 150)
