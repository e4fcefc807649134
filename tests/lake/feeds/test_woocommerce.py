"""WooCommerce's product export: variations and their parents, several pictures, several categories."""

import csv
import io
from typing import Any

import pytest

from etalage.config import MappingConfig
from tests.lake.feeds.conftest import Load

HEAD = [
    "ID",
    "Type",
    "SKU",
    "GTIN, UPC, EAN, or ISBN",
    "Name",
    "Published",
    "Is featured?",
    "Visibility in catalog",
    "Short description",
    "Description",
    "Date sale price starts",
    "Date sale price ends",
    "Tax status",
    "In stock?",
    "Stock",
    "Backorders allowed?",
    "Sale price",
    "Regular price",
    "Categories",
    "Tags",
    "Images",
    "Parent",
    "Attribute 1 name",
    "Attribute 1 value(s)",
    "Attribute 1 visible",
    "Attribute 1 global",
    "Attribute 2 name",
    "Attribute 2 value(s)",
    "Meta: _x",
]


def export(*rows: dict[str, Any]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, HEAD, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return "\ufeff" + out.getvalue()


def simple(id: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "ID": id,
        "Type": "simple",
        "SKU": f"S{id}",
        "Name": "Mug",
        "Published": 1,
        "In stock?": 1,
        "Visibility in catalog": "visible",
        "Regular price": "12.50",
        **more,
    }


HOODIE = [
    {
        "ID": 44,
        "Type": "variable",
        "SKU": "HOOD",
        "Name": "Hoodie",
        "Published": 1,
        "In stock?": 1,
        "Categories": "Clothing, Clothing > Hoodies, Sale",
        "Images": "https://i.test/a.jpg, https://i.test/b.jpg",
        "Description": "<p>Warm.</p>",
        "Attribute 1 name": "Color",
        "Attribute 1 value(s)": "Red, Blue",
        "Tags": "winter",
    },
    {
        "ID": 45,
        "Type": "variation",
        "SKU": "HOOD-R",
        "Name": "Hoodie - Red",
        "Published": 1,
        "In stock?": 1,
        "Regular price": "45",
        "Sale price": "40",
        "Date sale price starts": "2025-01-01",
        "Parent": "HOOD",
        "Attribute 1 name": "Color",
        "Attribute 1 value(s)": "Red",
        "GTIN, UPC, EAN, or ISBN": "0401",
    },
    {
        "ID": 46,
        "Type": "variation",
        "SKU": "",
        "Name": "Hoodie - Blue",
        "Published": 1,
        "In stock?": "backorder",
        "Regular price": "42,50",
        "Parent": "id:44",
        "Images": "https://i.test/blue.jpg",
        "Attribute 1 name": "Color",
        "Attribute 1 value(s)": "Blue",
    },
]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_variations_take_from_their_parent_what_they_do_not_say(load: Load, order: list[int]) -> None:
    loaded = load(export(*(HOODIE[n] for n in order)), chunk_rows=1)
    told = {
        key: (row["title"], row["price"], row["in_stock"], row["item_group_id"], row["category_id"])
        for key, row in loaded.items.items()
    }
    rest = ("44", "Clothing > Hoodies")
    assert told == {
        "44": ("Hoodie", 42.5, True, *rest),
        "45": ("Hoodie - Red", 45.0, True, *rest),
        "46": ("Hoodie - Blue", 42.5, True, *rest),
    }
    assert loaded.links("45") == [f"https://i.test/{name}.jpg" for name in "ab"]
    assert loaded.links("46") == ["https://i.test/blue.jpg"]
    assert loaded.items["44"]["description"] == "Warm."
    assert "1 × price of a variable product: the lowest of its variations" in loaded.notes


def test_what_has_no_column_is_an_attribute(load: Load) -> None:
    loaded = load(export(*HOODIE))
    said = loaded.attributes("45")
    assert said["sku"] == "HOOD-R" and said["gtin"] == "0401" and said["color"] == "Red"
    assert said["sale_price"] == "40" and said["sale_price_effective_date"] == "2025-01-01/"
    assert said["Categories"] == "Clothing, Clothing > Hoodies, Sale" and said["tags"] == "winter"
    assert "kept as attributes: " in loaded.notes and "sale_price_effective_date" in loaded.notes


def test_several_attributes_are_each_called_by_their_names(load: Load) -> None:
    row = simple() | {
        "Attribute 1 name": "Color",
        "Attribute 1 value(s)": "Red",
        "Attribute 1 visible": 1,
        "Attribute 2 name": "Size",
        "Attribute 2 value(s)": "S, M",
        "Meta: _x": "7",
    }
    said = load(export(row)).attributes("1")
    assert (said["color"], said["size"], said["Meta: _x"]) == ("Red", "S, M", "7")
    assert not any(name.startswith("Attribute ") for name in said)


@pytest.mark.parametrize(
    ("said", "can_be_bought"),
    [
        ({}, True),
        ({"In stock?": 0}, False),
        ({"In stock?": "backorder"}, True),
        ({"Published": 0}, False),
        ({"Published": -1}, False),
        ({"Visibility in catalog": "hidden"}, False),
        ({"Visibility in catalog": "search"}, True),
    ],
)
def test_what_can_be_bought(load: Load, said: dict[str, Any], can_be_bought: bool) -> None:
    assert load(export(simple() | said)).items["1"]["in_stock"] is can_be_bought


@pytest.mark.parametrize(
    ("categories", "category"),
    [
        ("Clothing &gt; Hoodies, Sale", "Clothing > Hoodies"),
        ("Home\\, garden > Mugs", "Home, garden > Mugs"),
        ("Sale", "Sale"),
        ("", None),
    ],
)
def test_the_first_category_counts_or_what_goes_on_from_it(
    load: Load, categories: str, category: str | None
) -> None:
    for own in (None, MappingConfig(columns={"category_id": "Categories"})):
        assert load(export(simple(Categories=categories)), mapping=own).items["1"]["category_id"] == category


def test_a_variation_without_its_parent_is_taken_and_said(load: Load) -> None:
    loaded = load(export(HOODIE[1]))
    assert loaded.items["45"]["item_group_id"] == "HOOD"
    assert "1 × a variation whose parent is not in the file, such as line 2: HOOD" in loaded.notes


def test_ids_may_be_skus(load: Load) -> None:
    loaded = load(export(simple(1), simple(2)), mapping=MappingConfig(columns={"item_id": "SKU"}))
    assert set(loaded.items) == {"S1", "S2"}


def test_a_regular_price_that_is_mapped_is_the_lowest_of_the_variations_too(load: Load) -> None:
    loaded = load(export(*HOODIE), mapping=MappingConfig(columns={"price": "Regular price"}))
    assert loaded.items["44"]["price"] == 42.5


@pytest.mark.parametrize(
    ("head", "attribute"),
    [
        ("ID,Typ,Artikelnummer,Name,Veröffentlicht,Vorrätig?,Regulärer Preis,Kategorien,Bilder,Übergeordnet,"
         "Attribut 1 Name,Attribut 1 Wert(e)", "farbe"),
        ("ID,Type,UGS,Nom,Publié,En stock ?,Tarif régulier,Catégories,Images,Parent,Nom de l’attribut 1,"
         "Valeur(s) de l’attribut 1", "couleur"),
        ("ID,Tipo,SKU,Nombre,Publicado,¿Existencias?,Precio normal,Categorías,Imágenes,Superior,"
         "Nombre del atributo 1,Valor(es) del atributo 1", "color"),
    ],
)  # fmt: skip
def test_exports_of_other_languages_are_the_same(load: Load, head: str, attribute: str) -> None:
    rows = [
        f'44,variable,H,Hoodie,1,1,,Home > Mugs,https://i.test/1.jpg,,{attribute},"rot, blau"',
        f'45,variation,H-1,Hoodie rot,1,0,"45,50",,,H,{attribute},rot',
    ]
    loaded = load("\n".join([head, *rows, ""]))
    told = {
        key: (row["price"], row["in_stock"], row["item_group_id"], row["category_id"])
        for key, row in loaded.items.items()
    }
    assert told == {"44": (45.5, True, "44", "Home > Mugs"), "45": (45.5, False, "44", "Home > Mugs")}
    assert loaded.attributes("45")[attribute] == "rot"


def test_what_the_exporter_puts_into_texts_is_taken_out_again(load: Load) -> None:
    loaded = load(
        export(
            {
                "ID": 1,
                "Type": "simple",
                "SKU": "'-7",
                "Name": "'@home mug",
                "Description": r"Big.\n\nRound \\n.",
            },
            {
                "ID": 2,
                "Type": "simple",
                "SKU": "B",
                "Name": "'90s cup",
                "Description": r"<p>One</p>\n<p>two</p>",
            },
        )
    )
    one, two = loaded.items["1"], loaded.items["2"]
    assert (one["title"], one["description"]) == ("@home mug", "Big.\n\nRound \\n.")
    assert loaded.attributes("1")["sku"] == "-7"
    assert (two["title"], two["description"]) == ("'90s cup", "One two")
