"""Files as shops have them: what was reported to be read wrongly, with the right value."""

import json
from pathlib import Path
from typing import Any

from etalage.lake.delta import Lake
from tests.cases.conftest import Play, typed


def rows(shop: Path, table: str = "items", key: str = "item_id") -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in Lake(shop / "tables").table(table).read().to_pylist()}


def test_a_header_with_commas_hides_no_semicolons(play: Play) -> None:
    played = play("delimiter_by_commas_in_header")
    assert [one.status for one in played.commands] == [0]
    assert {key: row["title"] for key, row in rows(played.shop).items()} == {"0012": "Lampe"}


def test_a_quotation_that_was_cut_off_swallows_no_row(play: Play) -> None:
    played = play("tsv_quote_swallows_rows")
    assert [one.status for one in played.commands] == [0, 0, 0]
    prices = {key: row["price"] for key, row in rows(played.shop).items()}
    assert prices == {"s1": 1.0, "s2": 2.0, "s3": 3.0, "s4": 4.0}
    assert "1 × a quotation mark without its pair" in played.commands[0].text


def test_a_quotation_that_was_cut_off_in_csv_is_refused_with_both_lines(play: Play, tmp_path: Path) -> None:
    played = play("tsv_quote_swallows_rows", ["tables"])
    rows_of = ["s1,Mug,Plain,1", 's2,Cup,"Best,2', "s3,Jug,Plain,3", 's4,Frame,24",4']
    feed = "\n".join(["item_id,title,description,price", *rows_of, ""])
    (tmp_path / "feed.csv").write_text(feed, encoding="utf-8")
    done = typed("ingest feed.csv items", tmp_path, played.shop)
    assert done.status == 4
    assert set(rows(played.shop)) == {"s1", "s3", "s4"}
    (why,) = [row["reason"] for row in rows(played.shop, "refused", "line").values()]
    assert "opens in line 3 would close in line 5" in why


def test_delimiter_and_encoding_are_settings_and_options(play: Play, tmp_path: Path) -> None:
    toml = 'name = "T"\n[ingest.items]\ndelimiter = "tab"\nencoding = "cp1252"\n'
    played = play("delimiter_by_commas_in_header", ["tables"], toml)
    (tmp_path / "a.csv").write_bytes("item_id\ttitle\n1\tCafé\n".encode("cp1252"))
    (tmp_path / "b.csv").write_bytes("item_id^title\n2^Öl\n".encode("iso-8859-15"))
    assert typed("ingest a.csv items", tmp_path, played.shop).status == 0
    assert typed("ingest b.csv --delimiter ^ --encoding iso-8859-15", tmp_path, played.shop).status == 0
    assert {key: row["title"] for key, row in rows(played.shop).items()} == {"1": "Café", "2": "Öl"}
    for options, said in (
        ("--delimiter ab", "'ab' is no delimiter; use one character"),
        ("--encoding klingon", "there is no text encoding 'klingon'"),
        ("--format jsonl --delimiter ;", "the file is read as jsonl"),
    ):
        done = typed(f"ingest a.csv items {options}", tmp_path, played.shop)
        assert done.status == 2 and said in done.text, done.text


def links_of(shop: Path, item: str) -> list[str]:
    """The item's photos, the main one first, the others by url."""
    main = rows(shop)[item]["photo_url"]
    photos = Lake(shop / "tables").table("photos").read().to_pylist()
    others = {row["url"] for row in photos if row["item_id"] == item}
    return [main, *sorted(others - {main})]


def test_a_feed_of_google_by_tab_loads_as_it_is(play: Play) -> None:
    played = play("google_merchant_tsv", ["ingest feed.tsv items"])
    assert played.commands[0].status == 0
    items = rows(played.shop)
    told = {key: (row["price"], row["currency"], row["in_stock"]) for key, row in items.items()}
    assert told == {
        "00010": (29.95, "EUR", True),
        "00011": (1249.0, "EUR", False),
        "00012": (149.0, "EUR", True),
        "00013": (89.0, "EUR", True),
    }
    assert {row["item_group_id"] for row in items.values()} == {"G1"}
    attributes = json.loads(items["00010"]["attributes"])
    assert attributes["sale_price"] == "19.95 EUR" and attributes["gtin"] == "04012345678900"
    assert links_of(played.shop, "00010") == [f"https://i.test/0{part}.jpg" for part in ("", "b", "c")]
    assert "taken for a product feed of Google Merchant Center" in played.commands[0].text
    assert "kept as attributes: link, sale_price, gtin" in played.commands[0].text


def test_a_feed_of_google_with_plain_prices_takes_what_can_be_bought(play: Play) -> None:
    played = play("google_merchant_tsv", ["ingest feed_plain_prices.tsv items"])
    assert {key: row["in_stock"] for key, row in rows(played.shop).items()} == {
        "00010": True, "00011": False, "00012": True, "00013": True,
    }  # fmt: skip


def test_a_feed_of_google_in_xml_loads_as_it_is(play: Play) -> None:
    played = play("google_merchant_xml")
    assert [one.status for one in played.commands] == [0]
    (item,) = rows(played.shop).values()
    assert (item["item_id"], item["title"]) == ("00017-S-RED", "Linen tee & belt")
    assert (item["price"], item["currency"], item["item_group_id"]) == (29.95, "EUR", "00017")
    assert links_of(played.shop, "00017-S-RED") == [
        f"https://img.shop.test/1{part}.jpg" for part in ("", "b", "c")
    ]


def test_each_item_of_an_event_of_ga4_is_an_act(play: Play) -> None:
    played = play("ga4_nested_items")
    assert [one.status for one in played.commands] == [0, 0]
    acts = Lake(played.shop / "tables").table("interactions").read().to_pylist()
    told = sorted(
        (row["user_id"], row["item_id"], row["kind"], row["value"], str(row["time"])) for row in acts
    )
    assert told == [
        ("1001.1741500000", "SKU-1", "purchase", 2.0, "2025-03-10 09:48:40.123456+00:00"),
        ("1001.1741500000", "SKU-1", "view_item", 1.0, "2025-03-10 09:46:40.123456+00:00"),
        ("1001.1741500000", "SKU-2", "purchase", 1.0, "2025-03-10 09:48:40.123456+00:00"),
    ]
    assert "1 × nothing in items: passed over, such as line 3" in played.commands[0].text


def test_a_product_of_shopify_keeps_what_its_first_row_says(play: Play) -> None:
    played = play("shopify_handle_loses_titles")
    assert [one.status for one in played.commands] == [0]
    items = rows(played.shop)
    assert set(items) == {"oak-mug"}
    mug = items["oak-mug"]
    assert (mug["title"], mug["price"], mug["brand"]) == ("Oak Mug", 12.5, "Holm")
    assert mug["category_id"] == "Home & Garden > Kitchen"
    assert links_of(played.shop, "oak-mug") == [f"https://cdn.shop.test/m{n}.jpg" for n in (1, 2)]


def test_several_links_of_woocommerce_are_several_photos(play: Play) -> None:
    played = play("several_links_in_one_cell", ["ingest wc.csv items"])
    assert [one.status for one in played.commands] == [0]
    item = rows(played.shop)["44"]
    assert (item["title"], item["category_id"]) == ("Hoodie – Classic", "Clothing > Hoodies")
    assert item["item_group_id"] == "44"
    assert links_of(played.shop, "44") == [f"http://127.0.0.1:18932/{name}.jpg" for name in "ab"]
