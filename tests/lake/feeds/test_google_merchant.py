"""Google's product feed as shops have it: by tab, as RSS, as Atom, from plugins."""

import gzip
import json
from pathlib import Path

import pytest

from etalage.config import MappingConfig
from etalage.errors import InputUnreadable
from etalage.lake.removal import ids_of
from tests.lake.feeds.conftest import Load

HEAD = "id\ttitle\tdescription\tlink\timage_link\tavailability\tprice"
ROW = "A-1\tTee, red\tSoft.\thttps://s.test/1\thttps://i.test/1.jpg\tin stock\t12.99 USD"
XML = '<?xml version="1.0"?><rss xmlns:g="http://base.google.com/ns/1.0"><channel>{}</channel></rss>'
ITEM = "<item><g:id>A-1</g:id><g:title>Tee</g:title><g:price>12.99 USD</g:price>{}</item>"


@pytest.mark.parametrize("name", ["feed.tsv", "feed.txt", "feed.csv", "feed", "feed.txt.gz", "export.php"])
def test_a_feed_by_tab_is_recognised_whatever_its_name(load: Load, name: str) -> None:
    content = f"{HEAD}\n{ROW}\n".encode()
    loaded = load(gzip.compress(content) if name.endswith(".gz") else content, name)
    item = loaded.items["A-1"]
    assert (item["price"], item["currency"], item["in_stock"]) == (12.99, "USD", True)
    assert item["photo_url"] == "https://i.test/1.jpg"
    assert "taken for a product feed of Google Merchant Center: its columns are id, title" in loaded.notes
    assert loaded.attributes("A-1") == {"link": "https://s.test/1"}


@pytest.mark.parametrize("name", ["feed.xml", "feed.rss", "feed.txt", "feed", "feed.xml.gz", "feed.php"])
def test_a_feed_in_xml_is_recognised_whatever_its_name(load: Load, name: str) -> None:
    content = XML.format(ITEM.format("")).encode()
    loaded = load(gzip.compress(content) if name.endswith(".gz") else content, name)
    assert (loaded.items["A-1"]["title"], loaded.items["A-1"]["price"]) == ("Tee", 12.99)


def test_names_with_blanks_capitals_and_prefixes_are_the_same_names(load: Load) -> None:
    head = "ID,Title,Image Link,Additional Image Link,Availability,Price,Item Group ID,g:gtin,Sale Price"
    more = '"https://i.test/2.jpg, https://i.test/3.jpg"'
    row = f'A-1,Tee,https://i.test/1.jpg,{more},preorder,"1.249,00 EUR",G,0123,9'
    loaded = load(f"\ufeff{head}\n{row}\n")
    item = loaded.items["A-1"]
    assert (item["price"], item["item_group_id"], item["in_stock"]) == (1249.0, "G", True)
    assert loaded.links("A-1") == [f"https://i.test/{n}.jpg" for n in (1, 2, 3)]
    assert loaded.attributes("A-1") == {"gtin": "0123", "sale_price": "9"}


def test_a_sale_price_keeps_its_dates_beside_the_regular_price(load: Load) -> None:
    dates = "2025-01-01T00:00+0100/2025-02-01T00:00+0100"
    when = f"<g:sale_price_effective_date>{dates}</g:sale_price_effective_date>"
    sale = f"<g:sale_price>9.99 USD</g:sale_price>{when}"
    loaded = load(XML.format(ITEM.format(sale)), "f.xml")
    assert loaded.items["A-1"]["price"] == 12.99
    assert loaded.attributes("A-1") == {"sale_price": "9.99 USD", "sale_price_effective_date": dates}
    assert "kept as attributes: sale_price, sale_price_effective_date" in loaded.notes


@pytest.mark.parametrize(
    ("word", "can_be_bought"),
    [("in_stock", True), ("In Stock", True), ("out of stock", False), ("preorder", True), ("backorder", True),
     ("https://schema.org/OutOfStock", False), ("available for order", True), ("discontinued", False)],
)  # fmt: skip
def test_words_for_availability(load: Load, word: str, can_be_bought: bool) -> None:
    loaded = load(XML.format(ITEM.format(f"<g:availability>{word}</g:availability>")), "f.xml")
    assert loaded.items["A-1"]["in_stock"] is can_be_bought


@pytest.mark.parametrize(
    ("product_type", "google", "category"),
    [
        (["Home > Women > Dresses"], "2271", "Home > Women > Dresses"),
        (["Home &gt; Mugs, Home &gt; Mugs &gt; Big"], None, "Home > Mugs > Big"),
        (["Home > Salt, pepper > Mills"], None, "Home > Salt, pepper > Mills"),
        (["Sale", "Sale > Mugs"], None, "Sale > Mugs"),
        ([], "Apparel &amp; Accessories > Clothing > Dresses", "Apparel & Accessories > Clothing > Dresses"),
        ([], "2271", None),
        ([], None, None),
    ],
)
def test_the_category_is_the_shops_own_path_else_googles(
    load: Load, product_type: list[str], google: str | None, category: str | None
) -> None:
    more = "".join(f"<g:product_type>{one.replace('>', '&gt;')}</g:product_type>" for one in product_type)
    if google is not None:
        more += f"<g:google_product_category>{google.replace('>', '&gt;')}</g:google_product_category>"
    loaded = load(XML.format(ITEM.format(more.replace("&&gt;", "&gt;").replace("&gt;&gt;", "&gt;"))), "f.xml")
    assert loaded.items["A-1"]["category_id"] == category
    if google is not None:
        said = loaded.attributes("A-1")["google_product_category"]
        assert said == google.replace("&amp;", "&")


def test_several_pictures_are_photos_each_once(load: Load) -> None:
    links = "".join(
        f"<g:additional_image_link>https://i.test/{n}.jpg</g:additional_image_link>" for n in (2, 1, 3)
    )
    more = f"<g:image_link>https://i.test/1.jpg</g:image_link>{links}"
    loaded = load(XML.format(ITEM.format(more)), "f.xml")
    assert loaded.links("A-1") == [f"https://i.test/{n}.jpg" for n in (1, 2, 3)]


def test_what_is_nested_is_kept_as_json(load: Load) -> None:
    one = "<g:shipping><g:country>{}</g:country><g:price>4 EUR</g:price></g:shipping>"
    named, valued = "<g:attribute_name>Fit</g:attribute_name>", "<g:attribute_value>Slim</g:attribute_value>"
    detail = f"<g:product_detail>{named}{valued}</g:product_detail>"
    loaded = load(XML.format(ITEM.format(one.format("DE") + one.format("AT") + detail)), "f.xml")
    assert loaded.items["A-1"]["price"] == 12.99
    assert json.loads(loaded.attributes("A-1")["shipping"]) == [
        {"country": "DE", "price": "4 EUR"}, {"country": "AT", "price": "4 EUR"},
    ]  # fmt: skip
    assert json.loads(loaded.attributes("A-1")["product_detail"])["attribute_name"] == "Fit"


def test_a_field_that_stands_twice_counts_once_and_is_said(load: Load) -> None:
    loaded = load(XML.format(ITEM.format("<g:price>9 USD</g:price>")), "f.xml")
    assert loaded.items["A-1"]["price"] == 12.99
    assert "1 × price stands several times in an item; the first counts" in loaded.notes


def test_another_prefix_or_none_for_googles_namespace(load: Load) -> None:
    other = (
        '<rss xmlns:goo="http://base.google.com/ns/1.0"><channel><item><goo:id>1</goo:id><title>T</title>'
        "<goo:image_link>https://i.test/1.jpg</goo:image_link></item></channel></rss>"
    )
    assert load(other, "a.xml").items["1"]["photo_url"] == "https://i.test/1.jpg"
    plain = "<rss><channel><item><id>2</id><title>T</title><price>3 EUR</price></item></channel></rss>"
    assert load(plain, "b.xml").items["2"]["price"] == 3.0
    undeclared = (
        "<rss><channel><item><g:id>3</g:id><title>T</title><g:price>3 EUR</g:price></item></channel></rss>"
    )
    assert load(undeclared, "c.xml").items["3"]["currency"] == "EUR"


def test_the_shops_own_mapping_goes_before_the_feeds(load: Load) -> None:
    own = MappingConfig(
        columns={"item_id": "mpn", "price": "sale_price", "photo_url": "lifestyle_image_link"},
        leave_out=("additional_image_link",),
        constants={"currency": "CHF"},
        values={"in_stock": {"weird": "yes"}},
    )
    head = "id,title,mpn,price,sale_price,image_link,additional_image_link,lifestyle_image_link,availability"
    row = "A-1,Tee,M-1,10,8,https://i.test/1.jpg,https://i.test/2.jpg,https://i.test/3.jpg,weird"
    loaded = load(f"{head}\n{row}\n", mapping=own)
    item = loaded.items["M-1"]
    assert (item["price"], item["currency"], item["in_stock"]) == (8.0, "CHF", True)
    assert loaded.links("M-1") == ["https://i.test/3.jpg", "https://i.test/1.jpg"]
    assert loaded.attributes("M-1") == {"id": "A-1", "price": "10"}


def test_a_mapping_for_another_file_of_the_shop_hides_nothing_of_a_feed(load: Load) -> None:
    own = MappingConfig(columns={"item_id": "sku", "title": "name", "photo_url": "picture"})
    loaded = load(f"{HEAD}\n{ROW}\n", "f.tsv", mapping=own)
    item = loaded.items["A-1"]
    assert (item["title"], item["photo_url"]) == ("Tee, red", "https://i.test/1.jpg")
    assert "item_id: read from 'id', as the file has no column 'sku'" in loaded.notes


def test_as_a_plain_table_it_is_read_by_its_own_names_alone(load: Load) -> None:
    with pytest.raises(InputUnreadable, match="no column for item_id"):
        load(f"{HEAD}\n{ROW}\n", "f.tsv", format="csv")


def test_a_table_with_two_such_columns_is_no_feed(load: Load) -> None:
    own = MappingConfig(columns={"item_id": "id"})
    loaded = load("id,title,price,weight\n1,Mug,2,300\n", mapping=own)
    assert "taken for" not in loaded.notes and loaded.items["1"]["attributes"] is None


def test_a_feed_is_not_loaded_into_another_table(load: Load) -> None:
    with pytest.raises(InputUnreadable, match=r"a product feed of Google .* fills items, not users"):
        load(f"{HEAD}\n{ROW}\n", "f.tsv", "users")
    with pytest.raises(InputUnreadable, match="fills items, not interactions"):
        load(f"{HEAD}\n{ROW}\n", "f.tsv", "interactions", format="google_merchant")


def test_said_to_be_one_it_is_read_as_one_and_a_missing_id_is_named(load: Load) -> None:
    assert load("id,price\n1,2 EUR\n", format="google_merchant").items["1"]["currency"] == "EUR"
    with pytest.raises(InputUnreadable, match="no column 'id', the item_id of this feed"):
        load("sku,price\n1,2 EUR\n", "b.csv", format="google_merchant")
    with pytest.raises(InputUnreadable, match="is jsonl, and shopify is csv"):
        load('{"id": 1}\n', "b.jsonl", format="shopify")


def test_a_second_load_changes_nothing(load: Load) -> None:
    content = XML.format(ITEM.format("<g:image_link>https://i.test/1.jpg</g:image_link><g:size>S</g:size>"))
    load(content, "f.xml")
    assert load(content, "f.xml").done.unchanged == 1


def test_photos_in_numbered_columns_and_in_a_header_that_says_a_name_twice(load: Load) -> None:
    head = "id,title,image_link,additional_image_link,additional_image_link,additional_image_link_3,price"
    links = ",".join(f"https://i.test/{n}.jpg" for n in (1, 2, 3, 4))
    loaded = load(f"{head}\nA-1,Tee,{links},2 EUR\n")
    assert loaded.links("A-1") == [f"https://i.test/{n}.jpg" for n in (1, 2, 3, 4)]
    assert loaded.items["A-1"]["attributes"] is None


def test_comments_before_the_names_are_passed_over_and_told(load: Load) -> None:
    head = "id,title,availability,price,image_link"
    content = (
        f"# Required | A unique id\n# see help, or not\n{head}\nA-1,Tee,in stock,2 EUR,https://i.test/1.jpg\n"
    )
    loaded = load(content)
    assert list(loaded.items) == ["A-1"]
    assert "2 × lines that begin with # before the column names are comments" in loaded.notes


def test_the_content_api_in_json_is_the_same_feed(load: Load) -> None:
    item = {
        "offerId": "A-1",
        "title": "Tee",
        "price": {"value": "12.99", "currency": "USD"},
        "salePrice": {"value": "9.99", "currency": "USD"},
        "imageLink": "https://i.test/1.jpg",
        "additionalImageLinks": ["https://i.test/2.jpg"],
        "availability": "in stock",
        "itemGroupId": "G",
        "productTypes": ["Home > Mugs"],
    }
    loaded = load(json.dumps(item) + "\n", "products.jsonl")
    row = loaded.items["A-1"]
    assert (row["price"], row["currency"], row["item_group_id"]) == (12.99, "USD", "G")
    assert row["category_id"] == "Home > Mugs"
    assert loaded.links("A-1") == ["https://i.test/1.jpg", "https://i.test/2.jpg"]
    assert loaded.attributes("A-1") == {"sale_price": "9.99 USD"}


def test_a_supplemental_feed_changes_what_it_has_and_erases_nothing(load: Load) -> None:
    load(f"{HEAD}\n{ROW}\n", "f.tsv")
    loaded = load("id\tprice\tavailability\nA-1\t9.99 USD\tout_of_stock\n", "daily.tsv")
    item = loaded.items["A-1"]
    assert (item["title"], item["price"], item["in_stock"]) == ("Tee, red", 9.99, False)
    assert loaded.attributes("A-1") == {"link": "https://s.test/1"}


def test_ids_to_delete_are_read_from_a_feed_too(tmp_path: Path) -> None:
    file = tmp_path / "gone.xml"
    file.write_text(XML.format(ITEM.format("") + ITEM.format("").replace("A-1", "A-2")), encoding="utf-8")
    assert list(ids_of([str(file)], MappingConfig())) == ["A-1", "A-2"]


def test_a_description_in_html_is_its_text(load: Load) -> None:
    loaded = load(
        "id\ttitle\tdescription\timage_link\tavailability\n"
        "1\tMug\t<p>Big &amp; <b>round</b></p><ul><li>blue</li></ul>\thttps://i.test/1.jpg\tin_stock\n"
        "2\tCup\t1 < 2\thttps://i.test/2.jpg\tin_stock\n"
    )
    assert [loaded.items[id]["description"] for id in "12"] == ["Big & round blue", "1 < 2"]
