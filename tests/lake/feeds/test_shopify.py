"""Shopify's product export: variants, pictures, drafts, and what spreadsheets do to it."""

import csv
import io
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etalage.config import MappingConfig
from etalage.lake.feeds.contract import Head
from etalage.lake.feeds.recognising import read_head
from etalage.lake.feeds.shopify import FEED
from tests.lake.feeds.conftest import Load

HEAD = [
    "Handle",
    "Title",
    "Body (HTML)",
    "Vendor",
    "Product Category",
    "Type",
    "Tags",
    "Published",
    "Option1 Name",
    "Option1 Value",
    "Option2 Name",
    "Option2 Value",
    "Variant SKU",
    "Variant Inventory Tracker",
    "Variant Inventory Qty",
    "Variant Inventory Policy",
    "Variant Price",
    "Variant Compare At Price",
    "Variant Barcode",
    "Image Src",
    "Image Position",
    "Image Alt Text",
    "Variant Image",
    "Status",
]
I = "https://c.test/{}.jpg"  # noqa: E741


def export(*rows: dict[str, Any], head: list[str] = HEAD) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, head, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def product(handle: str = "tee", **more: Any) -> dict[str, Any]:
    return {
        "Handle": handle,
        "Title": "Tee",
        "Vendor": "Holm",
        "Type": "Tees",
        "Published": "true",
        "Option1 Name": "Title",
        "Option1 Value": "Default Title",
        "Variant SKU": f"{handle}-1",
        "Variant Price": "19.90",
        "Status": "active",
        **{name.replace("_", " "): v for name, v in more.items()},
    }


TEE = [
    {
        "Handle": "tee",
        "Title": "Tee",
        "Vendor": "Holm",
        "Product Category": "Clothing > Tees",
        "Body (HTML)": "<p>Soft &amp; light.</p><script>x</script><ul><li>Linen</li></ul>",
        "Published": "true",
        "Option1 Name": "Color",
        "Option1 Value": "Red",
        "Option2 Name": "Size",
        "Option2 Value": "S",
        "Variant SKU": "T-S",
        "Variant Price": "19.90",
        "Variant Compare At Price": "29.90",
        "Variant Barcode": "'0401234",
        "Image Src": I.format(1),
        "Image Position": "1",
        "Variant Image": I.format("red"),
        "Status": "active",
        "Variant Inventory Tracker": "shopify",
        "Variant Inventory Qty": "3",
        "Variant Inventory Policy": "deny",
    },
    {
        "Handle": "tee",
        "Option1 Value": "Red",
        "Option2 Value": "M",
        "Variant SKU": "'007",
        "Variant Price": "19.90",
        "Image Src": I.format("red"),
        "Image Position": "3",
        "Variant Image": I.format("red"),
        "Variant Inventory Tracker": "shopify",
        "Variant Inventory Qty": "0",
        "Variant Inventory Policy": "deny",
    },
    {
        "Handle": "tee",
        "Option1 Value": "Blue",
        "Option2 Value": "S",
        "Variant Price": "21.90",
        "Image Src": I.format(2),
        "Image Position": "2",
        "Variant Inventory Tracker": "shopify",
        "Variant Inventory Qty": "0",
        "Variant Inventory Policy": "continue",
    },
    {"Handle": "tee", "Image Src": I.format(4), "Image Position": "4", "Image Alt Text": "back"},
]


def test_each_variant_is_an_item_with_its_own_price_and_stock_and_what_its_product_says(load: Load) -> None:
    loaded = load(export(*TEE))
    told = {
        key: (
            row["title"],
            row["brand"],
            row["price"],
            row["in_stock"],
            row["item_group_id"],
            row["category_id"],
        )
        for key, row in loaded.items.items()
    }
    rest = ("tee", "Clothing > Tees")
    assert told == {
        "T-S": ("Tee", "Holm", 19.9, True, *rest),
        "007": ("Tee", "Holm", 19.9, False, *rest),
        "tee-Blue-S": ("Tee", "Holm", 21.9, True, *rest),
    }
    assert loaded.items["007"]["description"] == "Soft & light. Linen"
    assert {key: loaded.attributes(key)["color"] for key in told} == {
        "T-S": "Red",
        "007": "Red",
        "tee-Blue-S": "Blue",
    }
    assert loaded.attributes("T-S")["gtin"] == "0401234"
    assert loaded.attributes("T-S")["compare_at_price"] == "29.90"
    assert "compare_at_price" not in loaded.attributes("007")
    assert "1 × no Variant SKU: item_id is made of the handle, such as line 4: tee-Blue-S" in loaded.notes
    assert "Variant SKU: the apostrophe before it, Shopify's for spreadsheets, is taken away" in loaded.notes


def test_pictures_are_the_variants_own_first_then_those_that_are_no_other_variants(load: Load) -> None:
    loaded = load(export(*TEE))
    assert loaded.links("T-S") == [I.format(n) for n in ("red", 1, 2, 4)]
    assert loaded.links("tee-Blue-S") == [I.format(n) for n in (1, 2, 4)]


def test_a_product_whose_id_is_the_handle_is_one_item(load: Load) -> None:
    loaded = load(export(*TEE), mapping=MappingConfig(columns={"item_id": "Handle"}))
    assert list(loaded.items) == ["tee"]
    item = loaded.items["tee"]
    assert (item["title"], item["price"], item["in_stock"]) == ("Tee", 19.9, True)
    assert loaded.links("tee") == [I.format(n) for n in (1, 2, 4, "red")]
    assert "1 × a product of several variants is one item, as item_id says" in loaded.notes


def test_a_product_without_variants_or_sku_is_called_as_its_handle(load: Load) -> None:
    loaded = load(export(product("mug", Variant_SKU=""), product("cup")))
    assert set(loaded.items) == {"mug", "cup-1"}
    assert "color" not in loaded.attributes("mug") and "title" not in loaded.attributes("mug")


def test_a_sku_that_several_variants_have_is_no_ones_but_the_firsts(load: Load) -> None:
    loaded = load(export(product("mug", Variant_SKU="X"), product("cup", Variant_SKU="X", Title="Cup")))
    assert {key: row["title"] for key, row in loaded.items.items()} == {"X": "Tee", "cup": "Cup"}
    assert (
        "1 × Variant SKU is another item's too: item_id is made of the handle, such as line 3: cup"
        in loaded.notes
    )


@pytest.mark.parametrize(
    ("said", "can_be_bought"),
    [
        ({"Status": "draft"}, False),
        ({"Status": "archived"}, False),
        ({"Published": "FALSE"}, False),
        ({"Published": "TRUE", "Status": "Active"}, True),
        ({}, True),
        ({"Variant Inventory Tracker": "shopify", "Variant Inventory Qty": "-2"}, False),
        ({"Variant Inventory Tracker": "shopify", "Variant Inventory Qty": "2"}, True),
        ({"Variant Inventory Tracker": "shopify"}, None),
    ],
)
def test_what_can_be_bought(load: Load, said: dict[str, str], can_be_bought: bool | None) -> None:
    assert load(export(product() | said)).items["tee-1"]["in_stock"] is can_be_bought


def test_an_export_without_columns_of_stock_says_nothing_of_it(load: Load) -> None:
    head = ["Handle", "Title", "Vendor", "Variant SKU", "Variant Price"]
    loaded = load("\n".join([",".join(head), "mug,Mug,Holm,M,2"]))
    assert loaded.items["M"]["in_stock"] is None


def test_rows_of_one_product_that_a_spreadsheet_sorted_apart_are_one_product(load: Load) -> None:
    rows = [TEE[3], product("mug"), TEE[1], product("cup"), TEE[0], TEE[2]]
    loaded = load(export(*rows))
    assert {key: row["title"] for key, row in loaded.items.items()} == {
        "T-S": "Tee",
        "007": "Tee",
        "tee-Blue-S": "Tee",
        "mug-1": "Tee",
        "cup-1": "Tee",
    }
    assert loaded.links("T-S") == [I.format(n) for n in ("red", 1, 2, 4)]
    assert "1 × a product's rows stand apart; they are read as one product, such as tee" in loaded.notes


def test_the_names_of_newer_exports_are_the_same_columns(load: Load) -> None:
    head = [
        "Title",
        "URL handle",
        "Description",
        "Vendor",
        "Product category",
        "Type",
        "Tags",
        "Published on online store",
        "Status",
        "SKU",
        "Barcode",
        "Option1 name",
        "Option1 value",
        "Price",
        "Compare-at price",
        "Inventory tracker",
        "Inventory quantity",
        "Continue selling when out of stock",
        "Product image URL",
        "Image position",
        "Variant image URL",
    ]
    rows: list[dict[str, Any]] = [
        {
            "Title": "Tee",
            "URL handle": "tee",
            "Description": "<b>Soft</b>",
            "Vendor": "Holm",
            "Product category": "Clothing > Tees",
            "Published on online store": "TRUE",
            "Status": "active",
            "SKU": "T-S",
            "Option1 name": "Size",
            "Option1 value": "S",
            "Price": "19.90",
            "Inventory tracker": "shopify",
            "Inventory quantity": "0",
            "Continue selling when out of stock": "DENY",
            "Product image URL": I.format(1),
            "Image position": "1",
        },
        {
            "URL handle": "tee",
            "SKU": "T-M",
            "Option1 value": "M",
            "Price": "20",
            "Inventory tracker": "shopify",
            "Inventory quantity": "0",
            "Continue selling when out of stock": "CONTINUE",
        },
    ]
    loaded = load(export(*rows, head=head))
    told = {key: (row["price"], row["in_stock"], row["category_id"]) for key, row in loaded.items.items()}
    assert told == {"T-S": (19.9, False, "Clothing > Tees"), "T-M": (20.0, True, "Clothing > Tees")}
    assert loaded.items["T-M"]["description"] == "Soft" and loaded.links("T-M") == [I.format(1)]
    assert loaded.attributes("T-M")["size"] == "M"


def test_google_shopping_columns_are_attributes_of_googles_names(load: Load) -> None:
    head = [*HEAD, "Google Shopping / Google Product Category", "Google Shopping / Age Group"]
    row = product() | {
        "Google Shopping / Google Product Category": "212",
        "Google Shopping / Age Group": "adult",
    }
    loaded = load(export(row, head=head))
    assert loaded.attributes("tee-1")["google_product_category"] == "212"
    assert loaded.attributes("tee-1")["age_group"] == "adult"


def test_a_row_without_a_handle_is_refused(load: Load) -> None:
    loaded = load(export(product(), product("")))
    assert (loaded.done.inserted, loaded.done.refused) == (1, 1)
    assert [(row["line"], row["reason"]) for row in loaded.rows("refused")] == [(3, "Handle: is missing")]


def test_a_large_export_comes_in_chunks_and_is_unchanged_the_second_time(load: Load) -> None:
    rows = [
        row | {"Handle": f"h{n}", "Variant SKU": row.get("Variant SKU") and f"{row['Variant SKU']}{n}"}
        for n in range(300)
        for row in TEE
    ]
    content = export(*rows)
    assert load(content, chunk_rows=50).done.inserted == 900
    again = load(content, chunk_rows=70)
    assert (again.done.unchanged, again.done.updated, again.done.inserted) == (900, 0, 0)


def _head(content: str, tmp_path: Any) -> Head:
    file = tmp_path / "f.csv"
    file.write_text(content, encoding="utf-8")
    return read_head(file, "csv")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=8), st.randoms())
def test_in_whatever_order_the_rows_stand_every_variant_is_there_once(
    tmp_path: Any, sizes: list[tuple[int, int]], chance: random.Random
) -> None:
    rows = []
    for h, (variants, pictures) in enumerate(sizes):
        for v in range(variants):
            first = {"Title": f"T{h}", "Vendor": "V"} if v == 0 else {}
            rows.append({"Handle": f"h{h}", **first, "Variant SKU": f"{h}/{v}", "Variant Price": "1"})
        rows += [{"Handle": f"h{h}", "Image Src": I.format(f"{h}-{p}")} for p in range(pictures)]
    chance.shuffle(rows)
    head = _head(export(*rows), tmp_path)
    chunks = list(FEED.read(head, 3, MappingConfig()))
    items = [chunk.row(n) for chunk in chunks for n in range(len(chunk.lines))]
    assert sorted(item["(item_id)"] for item in items) == sorted(
        f"{h}/{v}" for h, (variants, _) in enumerate(sizes) for v in range(variants)
    )
    for item in items:
        h = int(item["(item_id)"].partition("/")[0])
        assert item["Title"] == f"T{h}"
        links = sorted(I.format(f"{h}-{p}") for p in range(sizes[h][1]))
        assert sorted(item["(photos)"] or []) == links


INVENTORY = (
    "Handle,Title,Option1 Name,Option1 Value,SKU,HS Code,Location,Bin name,Incoming (not editable),"
    "Available (not editable),On hand (current),On hand (new)\n"
)


def test_an_inventory_with_a_row_for_each_location_fills_the_stock_alone(load: Load) -> None:
    load(
        "Handle,Title,Vendor,Option1 Name,Option1 Value,Variant SKU,Variant Price,Image Src\n"
        "tee,Tee,Acme,Size,S,T-S,9,https://i.test/1.jpg\ntee,,,,M,,9,\ntee,,,,L,T-L,9,\n"
    )
    before = load("Handle,Title,Vendor,Variant SKU,Variant Price,Image Src\n").items
    loaded = load(
        INVENTORY + "tee,Tee,Size,S,T-S,,Berlin,,0,0,0,\ntee,Tee,Size,S,T-S,,Paris,,0,5,5,\n"
        "tee,Tee,Size,M,,,Berlin,,0,-1,3,\ntee,Tee,Size,L,T-L,,Berlin,,0,not stocked,not stocked,\n"
    )
    assert {id: row["in_stock"] for id, row in loaded.items.items()} == {
        "T-S": True, "tee-M": False, "T-L": False
    }  # fmt: skip
    kept = ("title", "brand", "price", "photo_url", "item_group_id", "attributes")
    assert {id: [row[name] for name in kept] for id, row in loaded.items.items()} == {
        id: [row[name] for name in kept] for id, row in before.items()
    }
    assert "an item at several locations: in stock if it is at one" in loaded.notes


def test_an_inventory_of_products_is_in_stock_where_any_variant_is(load: Load) -> None:
    mapping = MappingConfig(columns={"item_id": "Handle"})
    body = "tee,Tee,Size,S,T-S,,Berlin,,0,0,0,\ntee,Tee,Size,M,T-M,,Berlin,,0,2,2,\n"
    loaded = load(INVENTORY + body, mapping=mapping)
    assert {id: row["in_stock"] for id, row in loaded.items.items()} == {"tee": True}
