"""A shop's taxonomy: what its items carry, what is told of them, what its categories are worth."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from etalage.errors import ConfigError, InputUnreadable, TableMissing
from etalage.lake.schema import TABLES
from etalage.shop import Shop, taxonomy_steps
from etalage.shop.taxonomy_steps import Finding, Proposal
from tests.shops import item_row, rows_of

FILES = {
    "now.txt": """# Google_Product_Taxonomy_Version: 2021-09-21
1 - Food
20 - Food > Fruit
300 - Food > Fruit > Apples
301 - Food > Fruit > Citrus
21 - Food > Bread
5 - Clothing
50 - Clothing > Dresses
""",
    "more.csv": "id,parent,name\nx-1,300,Pink Lady\nx-2,300,Golden\nx-3,301,Satsumas\nx-4,x-3,Miho\n",
    "2015.txt": "20 - Food > Fruits\n77 - Food > Video Tapes\n",
    "de.txt": "20 - Essen > Obst\n300 - Essen > Obst > Äpfel\n",
    "map.csv": "merchant,category,id\nAnn,4100,x-1\n,Pullover,5\n",
    "values.csv": "category_id,value\n300,6\nx-4,5\n5,1.5\n",
}
TAXONOMY = """
[taxonomy]
file = "now.txt"
extend = "more.csv"
names = {"de-DE" = "de.txt"}
retired = ["2015.txt"]
merchant = "seller"
map = "map.csv"
"""
SAID: tuple[tuple[str | None, str | None, str | None], ...] = (
    ("x-2", "Ann", "4100"),
    (None, "Ann", "4100"),
    (None, "Bob", "4100"),
    (None, "Bob", "Food > Bread"),
    ("77", "Bob", "Fresh fruits / Citrus"),
    ("x-9", "Ann", "4100"),
    (None, "Ann", "Services > Delivery"),
    ("Essen > Obst > Äpfel", None, None),
    (None, None, None),
    (None, "Bob", "Fresh fruits / Citrus"),
    ("x-4", "Bob", "4100"),
)
"""Of each item: the id or path that it carries, its merchant, the merchant's category."""


def shop_of(folder: Path, config: str = TAXONOMY, **files: str) -> Shop:
    folder.mkdir(exist_ok=True)
    for name, text in {**FILES, **{name.replace("_", "."): text for name, text in files.items()}}.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "shop.toml").write_text(config, encoding="utf-8")
    return Shop(folder)


def items_of(*said: tuple[str | None, str | None, str | None]) -> pa.Table:
    rows = []
    for number, (given, seller, category) in enumerate(said):
        carried = {"google_product_category": given, "seller": seller}
        attributes = {key: value for key, value in carried.items() if value is not None}
        rows.append(item_row(number, category_id=category, attributes=json.dumps(attributes)))
    return rows_of("items", rows)


def filled(shop: Shop) -> Shop:
    shop.lake.table("items").merge(items_of(*SAID))
    return shop


def by_leaf(shop: Shop) -> Mapping[str, float]:
    tree = taxonomy_steps.taxonomy(shop)
    values = taxonomy_steps.values(shop, tree).tolist()
    return {tree.ids[leaf]: value for leaf, value in zip(tree.leaves_L, values, strict=True) if value}


# -- the tree ----------------------------------------------------------------------------------


def test_the_taxonomy_is_the_file_with_what_extends_it_cut_where_the_shop_says(tmp_path: Path) -> None:
    whole = taxonomy_steps.taxonomy(shop_of(tmp_path))
    assert (len(whole), whole.depth) == (11, 5)
    assert whole.path(whole.row("x-4")) == "Food > Fruit > Citrus > Satsumas > Miho"
    cut = taxonomy_steps.taxonomy(shop_of(tmp_path, f"{TAXONOMY}level = 3\n"))
    assert (len(cut), cut.depth) == (7, 3)


def test_a_tree_may_be_a_csv(tmp_path: Path) -> None:
    shop = shop_of(tmp_path, '[taxonomy]\nfile = "own.CSV"\n')
    (tmp_path / "own.CSV").write_text("id,parent,name\nb,a,Bread\na,,Food\n", encoding="utf-8")
    assert taxonomy_steps.taxonomy(shop).path(0) == "Food > Bread"


def test_a_shop_without_a_taxonomy_is_told_what_to_write(tmp_path: Path) -> None:
    shop = shop_of(tmp_path, 'name = "Bare"\n')
    for step in (
        lambda: taxonomy_steps.taxonomy(shop),
        lambda: taxonomy_steps.labels(shop, items_of()),
        lambda: taxonomy_steps.check(shop),
    ):
        with pytest.raises(
            ConfigError, match=r"shop\.toml: no taxonomy; put Google.* write \[taxonomy\] and file"
        ):
            step()


@pytest.mark.parametrize("name", ["now.txt", "more.csv", "de.txt", "2015.txt", "map.csv", "values.csv"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    shop = filled(shop_of(tmp_path, f'{TAXONOMY}values = "values.csv"\n'))
    (tmp_path / name).unlink()
    with pytest.raises(InputUnreadable, match=f"{name}: cannot be opened"):
        taxonomy_steps.values(shop, taxonomy_steps.taxonomy(shop))
        taxonomy_steps.labels(shop, items_of())


def test_names_in_a_language_of_the_shop(tmp_path: Path) -> None:
    shop = shop_of(tmp_path)
    tree = taxonomy_steps.taxonomy(shop)
    names = taxonomy_steps.names(shop, tree, "de-DE")
    assert (names[tree.row("300")], names[tree.row("21")]) == ("Äpfel", "Bread")
    with pytest.raises(ConfigError, match="'fr-FR'; it has de-DE"):
        taxonomy_steps.names(shop, tree, "fr-FR")


# -- labels ------------------------------------------------------------------------------------


def test_each_item_is_labelled_by_the_surest_that_it_says(tmp_path: Path) -> None:
    shop = shop_of(tmp_path)
    tree = taxonomy_steps.taxonomy(shop)
    labels = taxonomy_steps.labels(shop, items_of(*SAID))
    ids = [tree.ids[row] if row >= 0 else None for row in labels.rows_N]
    assert ids == ["x-2", "x-1", None, "21", None, "x-1", None, "300", None, None, "x-4"]
    assert labels.how == [
        "given", "mapped", None, "exact", None, "mapped", None, "given", None, None, "given",
    ]  # fmt: skip
    assert labels.given_ids == ids
    assert labels.given_paths[1] == "Food > Fruit > Apples > Pink Lady"
    assert labels.outside_N.tolist() == [False] * 6 + [True] + [False] * 4
    assert labels.problems == {
        "unknown id": 1, "retired id": 1, "outside the taxonomy": 1, "not mapped": 2, "no category": 1,
    }  # fmt: skip


def test_similar_wording_is_a_weak_label_and_never_for_a_retired_id(tmp_path: Path) -> None:
    shop = shop_of(tmp_path, f"{TAXONOMY}similar_from = 0.3\n")
    labels = taxonomy_steps.labels(shop, items_of(*SAID))
    assert labels.how[9] == "similar" and labels.how[9] in taxonomy_steps.WEAK
    assert labels.given_ids[9] == "301"
    assert labels.how[4] is None and labels.rows_N[4] == -1, "it carries a retired id"
    assert labels.how[2] is None, "a number is like nothing"


def test_labels_beneath_the_cut_count_as_what_is_above_them_and_shallow_ones_stay(tmp_path: Path) -> None:
    shop = shop_of(tmp_path, f"{TAXONOMY}level = 2\n")
    tree = taxonomy_steps.taxonomy(shop)
    labels = taxonomy_steps.labels(shop, items_of(*SAID, ("5", None, None), ("1", None, None)))
    ids = [tree.ids[row] if row >= 0 else None for row in labels.rows_N]
    assert ids == ["20", "20", None, "21", None, "20", None, "20", None, None, "20", "5", "1"]
    assert labels.given_ids[0] == "x-2", "what it carries is kept as it is"


def test_the_shop_says_which_attributes_carry_what_and_what_is_outside(tmp_path: Path) -> None:
    config = '[taxonomy]\nfile = "now.txt"\ngiven = "seller"\noutside = ["5", "Gutes"]\n'
    items = items_of((None, "50", None), (None, "20", None), (None, None, "GUTES > Tun"))
    labels = taxonomy_steps.labels(shop_of(tmp_path, config), items)
    assert labels.outside_N.tolist() == [True, False, True]
    assert labels.rows_N.tolist() == [-1, 1, -1]


def test_no_items_have_no_labels(tmp_path: Path) -> None:
    labels = taxonomy_steps.labels(shop_of(tmp_path), items_of())
    assert labels.rows_N.shape == labels.outside_N.shape == (0,)
    assert (labels.rows_N.dtype, labels.problems) == (np.int64, {})


# -- for a person to read ----------------------------------------------------------------------


def test_the_check_counts_ways_and_problems_with_what_the_items_say(tmp_path: Path) -> None:
    done = taxonomy_steps.check(filled(shop_of(tmp_path)))
    assert done.items == 11
    assert done.how == {"given": 3, "mapped": 2, "exact": 1, "ending": 0, "similar": 0}
    assert done.findings == [
        Finding("unknown id", 1, [("x-9", 1)]),
        Finding("retired id", 1, [("77", 1)]),
        Finding("outside the taxonomy", 1, [("Ann: Services > Delivery", 1)]),
        Finding("not mapped", 2, [("Bob: 4100", 1), ("Bob: Fresh fruits / Citrus", 1)]),
        Finding("no category", 1, [("", 1)]),
    ]


def test_a_map_is_proposed_for_what_nothing_surer_tells_most_items_first(tmp_path: Path) -> None:
    found = taxonomy_steps.proposals(filled(shop_of(tmp_path)))
    assert [(one.merchant, one.category, one.id, one.items) for one in found] == [
        ("Bob", "4100", None, 2),
        ("Bob", "Fresh fruits / Citrus", "301", 2),
    ]
    assert found[0] == Proposal("Bob", "4100", None, None, 0.0, 2)
    assert found[1].path == "Food > Fruit > Citrus" and 0.5 < found[1].similarity < 1


def test_a_shop_without_items_is_told_to_ingest(tmp_path: Path) -> None:
    shop = shop_of(tmp_path)
    for step in (taxonomy_steps.check, taxonomy_steps.proposals):
        with pytest.raises(TableMissing, match="etalage ingest"):
            step(shop)


# -- values ------------------------------------------------------------------------------------


def test_values_come_from_the_list_that_the_shop_names(tmp_path: Path) -> None:
    listed = f'{TAXONOMY}values = "values.csv"\n'
    assert by_leaf(shop_of(tmp_path, listed)) == {"x-1": 3, "x-2": 3, "x-4": 5, "50": 1.5}
    assert by_leaf(shop_of(tmp_path, f"{listed}level = 3\n")) == {"300": 6, "301": 5, "50": 1.5}


def test_values_are_counted_from_purchases_where_there_is_no_list(tmp_path: Path) -> None:
    shop = filled(shop_of(tmp_path))
    assert by_leaf(shop) == {}
    bought = [(0, 2.0), (0, 3.0), (1, None), (7, 10.0), (6, 50.0), (10, 4.0)]
    rows = [
        {
            "interaction_id": str(n),
            "user_id": "u",
            "item_id": f"item-{item:05d}",
            "kind": "buy",
            "value": value,
        }
        for n, (item, value) in enumerate(bought)
    ]
    shop.lake.table("interactions").merge(pa.Table.from_pylist(rows, schema=TABLES["interactions"].schema))
    assert by_leaf(shop) == {"x-1": 1 + 5, "x-2": 5 + 5, "x-4": 4}, "an inner category is shared out"
