"""`etalage new SHOP --from FILE`: a shop out of the files that somebody has."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np

from etalage.lake.delta import Lake
from etalage.lake.photo_facts import pixels_as_png
from etalage.shop import Shop
from tests.test_cli import quick, refuses

ITEMS = "SKU;Produktname;Preis;Bild\n" + "".join(
    f"A-{n};Blaue Lampe {n};{n},50;https://i.test/{n}.jpg\n" for n in range(30)
)
ACTS = "".join(
    json.dumps({"visitor": {"id": f"v{n // 3}"}, "what": "x", "event": ["view", "purchase"][n % 2],
                "product": {"sku": f"A-{n % 30}"}, "ts": 1741600000000 + n}) + "\n"
    for n in range(60)
)  # fmt: skip


def test_two_files_of_unknown_make_become_a_shop_that_loads_them(tmp_path: Path) -> None:
    items, acts, shop = tmp_path / "artikel.csv", tmp_path / "acts.jsonl", tmp_path / "shop"
    items.write_text(ITEMS, encoding="utf-8")
    acts.write_text(ACTS, encoding="utf-8")
    done = quick("new", shop, "--name", "Lampen", "--from", items, "--from", acts)
    assert done.status == 0, done.err
    assert f"{items}: a table of items: no column says who did something" in done.out
    assert "  item_id = SKU: 100% of the ids in acts.jsonl are in it; called so" in done.out
    assert f"{acts}: a table of interactions: visitor.id says who, and product.sku with what" in done.out
    assert done.out.count("this mapping loads") == 2
    assert "this mapping loads 60 of the first 60 rows" in done.out
    assert Shop(shop).config.name == "Lampen"
    for line in (line.split() for line in done.lines if line.startswith("  etalage ingest ")):
        loaded = quick(*line[1:])
        assert loaded.status == 0, loaded
    lake = Lake(shop / "tables")
    assert (lake.table("items").count(), lake.table("interactions").count()) == (30, 60)
    assert {row["price"] for row in lake.table("items").read().to_pylist()} == {n + 0.5 for n in range(30)}


def test_what_is_unsure_is_said_on_the_screen_and_in_the_file(tmp_path: Path) -> None:
    acts = tmp_path / "a.csv"
    acts.write_text(
        "user_id,sku,date\n" + "".join(f"{n},S{n},03/04/2024\n" for n in range(9)), encoding="utf-8"
    )
    done = quick("new", tmp_path / "shop", "--from", acts)
    assert done.status == 0
    assert "UNSURE, not set: dates = dmy: '03/04/2024' may be two days" in done.out
    assert "this mapping loads 0 of the first 9 rows" in done.out
    assert "may be two dates" in done.out
    assert (
        '# UNSURE: \'03/04/2024\' may be two days: "dmy" or "mdy"?'
        in (tmp_path / "shop/shop.toml").read_text()
    )


def test_a_table_of_something_else_is_not_loaded_as_items_or_ratings(tmp_path: Path) -> None:
    ratings, tags, shop = tmp_path / "ratings.csv", tmp_path / "tags.csv", tmp_path / "films"
    ratings.write_text(
        "userId,movieId,rating,timestamp\n"
        + "".join(f"{n // 9},{n % 30},{n % 5 + 1},{1_260_759_144 + n}\n" for n in range(90))
    )
    tags.write_text(
        "userId,movieId,tag,timestamp\n"
        + "".join(f"{n // 9},{n % 30},fun,{1_260_759_144 + n}\n" for n in range(90))
    )
    assert quick("new", shop, "--from", ratings).status == 0
    said = quick("ingest", tags, "--shop", shop)
    refuses(said, 2, "is a table of interactions", f"`etalage ingest {tags} interactions`")
    refuses(
        quick("ingest", tags, "interactions", "--shop", shop), 3, "says value = 'rating'", "no such column"
    )
    assert quick("ingest", ratings, "interactions", "--shop", shop).status == 0


def test_what_ratings_and_receipts_teach_is_drafted_before_anything_is_trained(tmp_path: Path) -> None:
    films, orders = tmp_path / "ratings.csv", tmp_path / "orders.csv"
    films.write_text(
        "userId,movieId,rating,timestamp\n"
        + "".join(f"{n // 9},{n * 7 % 40},{n % 5 + 1},{964982703 + n}\n" for n in range(360)),
        encoding="utf-8",
    )
    done = quick("new", tmp_path / "films", "--from", films)
    assert (
        "[behaviour] positive_from = 4: ratings from 1 to 5: 40% of the first 360 are at least 4" in done.out
    )
    assert (of := Shop(tmp_path / "films").config.behaviour).positive_from == 4 and not of.repeat
    films.write_text(films.read_text(encoding="utf-8").replace(",4,", ",3,").replace(",5,", ",3,"), "utf-8")
    assert "positive_from" not in quick("new", tmp_path / "three", "--from", films).out, "of another scale"
    orders.write_text(
        "order_id,customer_id,sku,date\n"
        + "".join(f"{n},{n % 20},{n // 20 % 3},2024-03-{n // 20 + 1:02d}\n" for n in range(240)),
        encoding="utf-8",
    )
    done = quick("new", tmp_path / "groceries", "--from", orders)
    assert "[behaviour] repeat = true: 75% of what shoppers took (180 of 240 times)" in done.out
    assert (of := Shop(tmp_path / "groceries").config.behaviour).repeat and of.positive_from is None


def test_a_feed_is_recognised_and_named(tmp_path: Path) -> None:
    feed = tmp_path / "feed.txt"
    feed.write_text(
        "id\ttitle\timage_link\tavailability\tprice\nA\tMug\thttps://i.test/1.jpg\tpreorder\t2 EUR\n"
    )
    done = quick("new", tmp_path / "shop", "--from", feed)
    assert done.status == 0
    assert "a product feed of Google Merchant Center: its columns are id, title" in done.out
    assert quick("ingest", feed, "--shop", tmp_path / "shop").status == 0


def test_a_shop_toml_that_is_there_stays_and_the_draft_is_shown(tmp_path: Path) -> None:
    items, shop = tmp_path / "items.csv", tmp_path / "shop"
    items.write_text("sku,title\nA,Mug\nB,Cup\n", encoding="utf-8")
    assert quick("new", shop, "--name", "Mine").status == 0
    before = (shop / "shop.toml").read_text()
    done = quick("new", shop, "--from", items)
    refuses(done, 2, "is there already, and stays as it is")
    assert '[ingest.items.columns]\nitem_id = "sku"' in done.out
    assert (shop / "shop.toml").read_text() == before


def test_a_file_that_makes_no_sense_makes_no_shop(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("1\t2\t3\n2\t3\t4\n", encoding="utf-8")
    refuses(
        quick("new", tmp_path / "shop", "--from", tmp_path / "u.data"), 3, "looks like a row, not like names"
    )
    refuses(quick("new", tmp_path / "shop", "--from", tmp_path / "none.csv"), 3, "no such file")
    assert not (tmp_path / "shop").exists()


def test_a_folder_of_pictures_is_told_before_it_is_loaded(tmp_path: Path) -> None:
    names = ("Fruit/Apple/red.png", "Fruit/Apple/green.PNG", "Fruit/Pear/red.png", ".hidden.png")
    for n, name in enumerate(names):
        file = tmp_path / "my photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pixels_as_png(np.full((8, 9, 3), 40 * n, np.uint8)))
    (tmp_path / "my photos/read me.txt").write_text("x")
    done = quick("new", tmp_path / "Fruits & Co", "--from", tmp_path / "my photos")
    assert done.status == 0, done.err
    assert "3 pictures, each an item, in 2 categories" in done.out
    assert "red is the name of 2 files in it: ids are paths" in done.out
    assert "1 other files are not called as pictures are: read me.txt" in done.out
    assert Shop(tmp_path / "Fruits & Co").config.name == "Fruits & Co"
    (line,) = [line for line in done.lines if line.startswith("  etalage ingest ")]
    loaded = quick(*shlex.split(line)[1:], "--max-refused", "1")
    assert loaded.status == 0, loaded
    rows = Lake(tmp_path / "Fruits & Co/tables").table("items").read().to_pylist()
    assert {row["item_id"]: row["category_id"] for row in rows} == {
        "Fruit/Apple/red": "Fruit > Apple",
        "Fruit/Apple/green": "Fruit > Apple",
        "Fruit/Pear/red": "Fruit > Pear",
    }


def test_a_folder_without_pictures_says_what_to_name(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    refuses(quick("new", tmp_path / "shop", "--from", tmp_path / "none"), 3, "without a picture")
    (tmp_path / "none/part-0.csv").write_text("sku,title\nA,Mug\n")
    refuses(quick("new", tmp_path / "shop", "--from", tmp_path / "none"), 3, "name one of them", "part-0.csv")


def test_a_drafted_shop_toml_has_the_other_sections_as_comments(tmp_path: Path) -> None:
    items = tmp_path / "items.csv"
    items.write_text("sku,title\nA,Mug\nB,Cup\n", encoding="utf-8")
    assert quick("new", tmp_path / "shop", "--from", items).status == 0
    text = (tmp_path / "shop/shop.toml").read_text(encoding="utf-8")
    assert "# [behaviour]" in text and "# [serve]" in text and "[ingest.items.columns]" in text
    assert tomllib.loads(text) == {
        "name": "shop",
        "ingest": {"items": {"columns": {"item_id": "sku", "title": "title"}}},
    }


def test_a_list_without_names_of_columns_is_no_table(tmp_path: Path) -> None:
    listed = tmp_path / "train.txt"
    listed.write_text("".join(f"train/Fruit/Apple/a_{n}.jpg, 0, 0\n" for n in range(9)))
    refuses(quick("new", tmp_path / "shop", "--from", listed), 3, "looks like a row, not like names")


def test_every_line_of_a_new_shop_toml_can_be_taken_as_it_is(tmp_path: Path) -> None:
    assert quick("new", tmp_path / "shop").status == 0
    file = tmp_path / "shop" / "shop.toml"
    assert Shop(file.parent).config.name == "shop"
    text = file.read_text(encoding="utf-8")
    taken, count = re.subn(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE)
    file.write_text(taken, encoding="utf-8")
    config = Shop(file.parent).config
    assert count > 10
    assert (config.currency, config.behaviour.positive_from, config.ingest.items.columns["item_id"]) == (
        "EUR", 4, "sku",
    )  # fmt: skip


def test_a_new_shop_says_that_it_has_no_bundle_yet(tmp_path: Path) -> None:
    quick("new", tmp_path / "shop")
    assert "nothing was published yet: `etalage publish`" in quick("bundles", "--shop", tmp_path / "shop").out
