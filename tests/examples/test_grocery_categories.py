"""The 81 classes of the Grocery Store data each have their one place beneath Google's categories."""

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from etalage.lake.taxonomy import Taxonomy
from etalage.lake.taxonomy_files import read_extension, read_google

Row = dict[str, str]


def rows(file: Path) -> list[Row]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.fixture(scope="module")
def example(project: Path) -> Path:
    return project / "examples" / "universal_catalogue"


@pytest.fixture(scope="module")
def published(shared_data: Path) -> list[Row]:
    return rows(shared_data / "grocery-store" / "dataset" / "classes.csv")


@pytest.fixture(scope="module")
def google(shared_data: Path) -> Taxonomy:
    return read_google(shared_data / "google-product-taxonomy" / "taxonomy-with-ids.en-US.txt")


def test_every_class_is_mapped_to_exactly_one_category_of_googles(
    example: Path, published: list[Row], google: Taxonomy
) -> None:
    mapped = rows(example / "google.csv")
    assert [(row["class_id"], row["class_name"]) for row in mapped] == [
        (row["Class ID (int)"], row["Class Name (str)"]) for row in published
    ]
    assert len(mapped) == 81
    for row in mapped:
        assert google.row(row["google_id"]) >= 0, row


def test_the_classes_stand_beneath_the_categories_that_they_are_mapped_to(example: Path) -> None:
    fine = {row["id"]: row for row in rows(example / "fine.csv")}
    mapped = rows(example / "google.csv")
    assert [f"grocery-{row['class_id']}" for row in mapped] == list(fine)
    for row in mapped:
        own = fine[f"grocery-{row['class_id']}"]
        assert own["parent"] == row["google_id"]
        assert own["name"] == row["class_name"].replace("-", " ")


def test_they_are_leaves_of_ragged_depth_and_no_other_category_becomes_one(
    example: Path, google: Taxonomy
) -> None:
    tree = read_extension(google, example / "fine.csv")
    assert len(tree) == len(google) + 81
    own = [row for row in tree.leaves_L if tree.ids[row].startswith("grocery-")]
    assert len(own) == 81
    assert set(tree.depths_N[own].tolist()) == {4, 5, 6, 7}


def test_classes_of_one_coarse_class_share_their_parent_but_for_sweet_potatoes(
    example: Path, published: list[Row]
) -> None:
    parent = {row["id"]: row["parent"] for row in rows(example / "fine.csv")}
    parents: dict[str, set[str]] = defaultdict(set)
    for row in published:
        if row["Class Name (str)"] != "Sweet-Potato":  # another plant; Google lists them apart from potatoes
            parents[row["Coarse Class Name (str)"]].add(parent[f"grocery-{row['Class ID (int)']}"])
    assert {name: len(found) for name, found in parents.items()} == dict.fromkeys(parents, 1)
    assert parent["grocery-75"] != parent["grocery-73"] == parent["grocery-74"]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("Granny-Smith", "Fresh & Frozen Fruits > Apples"),
        ("Watermelon", "Fresh & Frozen Fruits > Melons"),
        ("Mango", "Stone Fruits > Mangoes"),
        ("Nectarine", "Stone Fruits > Peaches & Nectarines"),
        ("Satsumas", "Fresh & Frozen Fruits > Citrus Fruits"),
        ("Aubergine", "Fresh & Frozen Vegetables > Eggplants"),
        ("Zucchini", "Fresh & Frozen Vegetables > Squashes & Gourds"),
        ("Sweet-Potato", "Fresh & Frozen Vegetables > Sweet Potatoes"),
        ("Tropicana-Mandarin-Morning", "Beverages > Juice"),
        ("Arla-Lactose-Medium-Fat-Milk", "Beverages > Milk"),
        ("Oatly-Oat-Milk", "Beverages > Non-Dairy Milk"),
        ("Alpro-Vanilla-Soyghurt", "Food Items > Tofu, Soy & Vegetarian Products"),
        ("Arla-Sour-Milk", "Food Items > Dairy Products"),
        ("Arla-Sour-Cream", "Dairy Products > Sour Cream"),
        ("Valio-Vanilla-Yoghurt", "Dairy Products > Yogurt"),
    ],
)
def test_each_stands_where_a_grocer_would_look(example: Path, google: Taxonomy, name: str, path: str) -> None:
    (row,) = [row for row in rows(example / "google.csv") if row["class_name"] == name]
    assert google.path(google.row(row["google_id"])).endswith(path)
