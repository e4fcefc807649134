"""From rows to tables: what shops reported, with the right value."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etalage.lake.delta import Lake
from tests.cases.conftest import Play


def rows(shop: Path, table: str = "items", key: str = "item_id") -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in Lake(shop / "tables").table(table).read().to_pylist()}


def test_one_bad_price_costs_the_price_and_not_the_item(play: Play) -> None:
    played = play("one_bad_price_loses_the_item")
    assert [one.status for one in played.commands] == [0, 0]
    stored = rows(played.shop)
    assert (stored["s1"]["in_stock"], stored["s1"]["price"]) == (False, None)
    assert (stored["B0002"]["in_stock"], stored["B0002"]["price"]) == (True, None)
    said = played.commands[1].text
    assert "1 × price cannot be read" in said and "'on request'" in said
    assert "1 × price: 'None' is taken for `not known`" in said
    (kept,) = rows(played.shop, "refused", "key").values()
    assert (kept["key"], kept["field"], kept["line"]) == ("s1", "price", 2)


def test_a_price_list_changes_prices_alone(play: Play) -> None:
    played = play("price_list_without_titles")
    assert [one.status for one in played.commands] == [0, 0]
    assert [(row["title"], row["price"]) for row in rows(played.shop).values()] == [("Lamp", 10.95)]
    assert "the file has no column 'name'" in played.commands[1].text


def test_ids_that_the_catalogue_lacks_are_told_by_every_step(play: Play) -> None:
    played = play("float_ids_dropped_unsaid")
    for step in ("ingest acts.csv", "train", "publish"):
        said = played.last(step).text
        assert "24 of 48 acts (50%) are on 6 item_ids that the catalogue lacks" in said, step
        assert "'3.0' (6; did you mean '3'?)" in said, step
        assert "a fraction .0 (24 acts)" in said, step


def test_an_item_that_is_gone_from_the_feed_is_told(play: Play) -> None:
    said = play("gone_from_the_feed_stays").last("ingest tuesday.csv").text
    assert "1 item of the catalogue is not in this file (p2); if the file is all there is: --whole" in said


def test_f56_an_item_that_a_whole_file_does_not_have_is_never_recommended_again(play: Play) -> None:
    played = play("gone_from_the_feed_stays", [
        "ingest monday.csv items", "ingest acts.csv interactions", "train popularity", "publish",
        "recommend nobody -k 3", "ingest tuesday.csv items --whole", "sync", "recommend nobody -k 3",
    ])  # fmt: skip
    assert played.commands[4].items[0] == "p2"
    assert "left the catalogue: 1 (p2)" in played.last("ingest tuesday.csv").text
    assert "removed 1" in played.last("sync").text
    assert sorted(played.last("recommend").items) == ["p1", "p3"]


def test_f56_an_item_that_somebody_deletes_is_never_recommended_again(play: Play) -> None:
    played = play("gone_from_the_feed_stays", [
        "ingest monday.csv items", "ingest acts.csv interactions", "train popularity", "publish",
        "delete items p2 --yes", "sync", "recommend nobody -k 3", "similar p2", "delete items p2",
    ])  # fmt: skip
    assert [one.status for one in played.commands][:7] == [0] * 7
    assert sorted(played.last("recommend").items) == ["p1", "p3"]
    assert played.commands[-1].status == 3 and "not there: p2" in played.commands[-1].text


def test_dates_as_numbers_are_dates(play: Play) -> None:
    played = play("dates_as_numbers_become_1970")
    day = datetime(2024, 3, 10, tzinfo=UTC)
    assert {user: row["time"] for user, row in rows(played.shop, "interactions", "user_id").items()} == {
        "number": day,
        "text": day,
        "dateHourMinute": day.replace(hour=9),
        "excel": day.replace(hour=9),
    }


def test_a_time_with_the_word_utc_is_a_time(play: Play) -> None:
    played = play("time_with_utc_word")
    october = datetime(2019, 10, 1, tzinfo=UTC)
    assert {item: row["time"] for item, row in rows(played.shop, "interactions").items()} == {
        "p1": october,
        "p2": october.replace(microsecond=123456),
        "p3": october,
    }


def test_later_rows_of_a_product_erase_nothing(play: Play) -> None:
    toml = """name = "T"
[ingest.items.columns]
item_id = "Handle"
title = "Title"
brand = "Vendor"
price = "Variant Price"
category_id = "Product Category"
photo_url = "Image Src"
"""
    played = play("shopify_handle_loses_titles", ["ingest products_export.csv items --format csv"], toml)
    row = rows(played.shop)["oak-mug"]
    assert (row["title"], row["price"], row["brand"]) == ("Oak Mug", 12.5, "Holm")
    assert row["category_id"] == "Home & Garden > Kitchen"
    assert row["photo_url"] == "https://cdn.shop.test/m1.jpg"
    assert set(rows(played.shop, "photos", "url")) == {"https://cdn.shop.test/m2.jpg"}


def test_the_items_of_an_event_are_an_act_each_by_mapping(play: Play) -> None:
    toml = """name = "T"
[ingest.interactions.columns]
user_id = ["user_id", "user_pseudo_id"]
item_id = "items[].item_id"
kind = "event_name"
value = "items[].quantity"
time = "event_timestamp"
[ingest.interactions.values.kind]
purchase = "buy"
view_item = "view"
"""
    played = play("ga4_nested_items", ["ingest events.jsonl interactions --format jsonl", "refused"], toml)
    acts = rows(played.shop, "interactions", "interaction_id").values()
    assert sorted((a["user_id"], a["item_id"], a["kind"], a["value"]) for a in acts) == [
        ("1001.1741500000", "SKU-1", "view", 1.0),
        ("c-77", "SKU-1", "buy", 2.0),
        ("c-77", "SKU-2", "buy", 1.0),
    ]
    assert {a["time"] for a in acts if a["kind"] == "buy"} == {
        datetime(2025, 3, 10, 9, 48, 40, 123456, tzinfo=UTC)
    }
    assert "skipped 1" in played.commands[0].text
    assert played.commands[1].text.strip() == "nothing was refused"
