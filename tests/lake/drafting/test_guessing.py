"""What a file of unknown make is taken for, and that what is unsure says so."""

import csv
import io
import json
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etalage.config import ShopConfig, validated
from etalage.errors import InputUnreadable
from etalage.lake.column_names import ACT_NAMES, ITEM_NAMES, plain, spellings
from etalage.lake.drafting.drafts import Draft
from etalage.lake.drafting.guessing import columns_of
from etalage.lake.drafting.looking import draft_files, tried
from etalage.lake.drafting.writing import mappings_toml

Rows = Iterable[Iterable[Any]]


def table(head: str, rows: Rows, delimiter: str = ",") -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter)
    writer.writerow(head.split(delimiter))
    writer.writerows(rows)
    return out.getvalue()


def lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


class Drafted:
    """Files, what they were taken for, and what becomes of them by the shop.toml that is written."""

    def __init__(self, files: list[Path]) -> None:
        self.drafts = draft_files(files)
        self.text = f'name = "T"\n\n{mappings_toml(self.drafts)}'
        self.config = validated(ShopConfig, tomllib.loads(self.text), "test")

    @property
    def draft(self) -> Draft:
        (one,) = self.drafts
        return one

    @property
    def said(self) -> str:
        """The text with each comment in one line."""
        return self.text.replace("\n#   ", " ")

    @property
    def columns(self) -> dict[str, Any]:
        return dict(columns_of(self.draft.lines))

    @property
    def unsure(self) -> set[str]:
        return {line.ours for line in self.draft.lines if not line.sure}

    def mapping(self, name: str = "") -> Any:
        return getattr(self.config.ingest, name or self.draft.table)

    def loads(self) -> list[tuple[int, int]]:
        """(rows read, rows taken) of each file."""
        return [(t.read, t.taken) for d in self.drafts for t in [tried(d, self.mapping(d.table))]]


Look = Callable[..., Drafted]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """look({name: content}), or look(content, name)"""

    def looked(content: str | bytes | dict[str, str], name: str = "a.csv") -> Drafted:
        contents = content if isinstance(content, dict) else {name: content}
        files = []
        for called, text in contents.items():
            files.append(tmp_path / called)
            files[-1].write_bytes(text.encode() if isinstance(text, str) else text)
        return Drafted(files)

    return looked


GERMAN = "Artikelnr;Bezeichnung;Langtext;Marke;VK brutto;Warengruppe;Bestand;Bild-URL;EAN;Farbe;Geändert am"


def german(count: int = 40) -> str:
    return table(
        GERMAN,
        [
            [f"{n:06d}", f"Lampe {n}", "Eine schöne Lampe für den Flur", ["Holm", "Käfer"][n % 2], f"{n},90",
             ["Wohnen", "Garten"][n % 2], n % 5, f"https://i.test/{n}.jpg", f"40{n:011d}", "rot",
             f"{n % 28 + 1:02d}.03.2025"]
            for n in range(count)
        ],
        ";",
    )  # fmt: skip


def test_a_german_price_list_in_the_encoding_of_windows(look: Look) -> None:
    drafted = look(german().encode("cp1252"))
    assert drafted.draft.table == "items" and drafted.draft.sure
    assert drafted.columns == {
        "item_id": "Artikelnr", "title": "Bezeichnung", "description": "Langtext", "price": "VK brutto",
        "brand": "Marke", "category_id": "Warengruppe", "in_stock": "Bestand", "updated_at": "Geändert am",
        "photo_url": "Bild-URL",
    }  # fmt: skip
    assert drafted.unsure == set()
    mapping = drafted.mapping()
    assert (mapping.encoding, mapping.decimal, mapping.keep_others) == ("cp1252", ",", True)
    assert drafted.loads() == [(40, 40)]
    assert "# the file is no UTF-8, and reads well as this" in drafted.text
    assert "become attributes: EAN, Farbe" in drafted.text


@pytest.mark.parametrize(
    ("head", "columns"),
    [
        ("sku,name,price,image_url", ["sku", "name", "price", "image_url"]),
        ("Référence,Désignation,Prix TTC,Image", ["Référence", "Désignation", "Prix TTC", "Image"]),
        ("Código,Nombre,Precio,Imagen", ["Código", "Nombre", "Precio", "Imagen"]),
        ("codice,titolo,prezzo,immagine", ["codice", "titolo", "prezzo", "immagine"]),
        ("Artikelcode,Naam,Prijs,Afbeelding", ["Artikelcode", "Naam", "Prijs", "Afbeelding"]),
        (
            "ProductId,ProductName,UnitPrice,MainImageUrl",
            ["ProductId", "ProductName", "UnitPrice", "MainImageUrl"],
        ),
        ("item.no,Item Title,RRP,Picture 1", ["item.no", "Item Title", "RRP", "Picture 1"]),
    ],
)
def test_names_in_several_languages_and_spellings(look: Look, head: str, columns: list[str]) -> None:
    rows = [[f"A{n}", f"Blue mug {n}", f"{n}.50", f"https://i.test/{n}.jpg"] for n in range(30)]
    drafted = look(table(head, rows))
    assert [drafted.columns[ours] for ours in ("item_id", "title", "price", "photo_url")] == columns
    assert drafted.loads() == [(30, 30)]


def test_orders_are_acts_of_buying(look: Look) -> None:
    rows = [
        [n // 2, f"C{n // 4}", f"{n % 12 + 1}/{n % 28 + 1}/2024", f"{n % 9:04d}", "Mug", n % 3 + 1, 2]
        for n in range(60)
    ]
    drafted = look(table("Order ID,Customer ID,Order Date,SKU,Product,Qty,Price", rows))
    assert drafted.draft.table == "interactions"
    assert drafted.columns == {
        "user_id": "Customer ID",
        "item_id": "SKU",
        "time": "Order Date",
        "value": "Qty",
    }
    mapping = drafted.mapping()
    assert mapping.constants == {"kind": "buy"} and mapping.dates == "mdy"
    assert drafted.loads() == [(60, 60)]
    assert "not read, as interactions have no place for it: Order ID, Product, Price" in drafted.text


def test_dates_that_may_be_two_are_a_question(look: Look) -> None:
    rows = [[f"C{n}", f"S{n % 5}", "03/04/2024"] for n in range(30)]
    drafted = look(table("customer_id,sku,date", rows))
    assert drafted.mapping().dates is None
    assert '# dates = "dmy"' in drafted.text
    assert any(said.startswith("dates: '03/04/2024' may be two days") for said in drafted.draft.unsure)
    assert drafted.loads() == [(30, 0)]


@pytest.mark.parametrize("mark", ["|", ", "])
def test_of_a_list_of_categories_the_first_counts_and_all_are_kept(look: Look, mark: str) -> None:
    genres = ["Action", "Comedy", "Drama", "War"]
    rows = [[n, f"Film {n} of them", mark.join(genres[n % 3 : n % 3 + 1 + n % 2])] for n in range(40)]
    drafted = look(table("movieId,title,genres", rows))
    assert drafted.mapping().first_of == {"category_id": mark.strip()}
    assert drafted.columns["attributes.genres"] == drafted.columns["category_id"] == "genres"
    assert "20 of 40 rows name several, such as" in drafted.said and drafted.loads() == [(40, 40)]


def test_a_path_of_categories_is_no_list(look: Look) -> None:
    rows = [[n, f"Lamp {n} of them", f"Home|{['Light', 'Garden'][n % 2]}|Lamps"] for n in range(40)]
    drafted = look(table("sku,title,category", rows))
    assert drafted.mapping().first_of == {} and "may be a path of categories" in drafted.said


def test_ratings_and_events_say_what_was_done(look: Look) -> None:
    rows = [[n // 5, n % 9, (n % 10 + 1) / 2, 964982703 + n] for n in range(40)]
    rated = look(table("userId,movieId,rating,timestamp", rows))
    assert rated.mapping().constants == {"kind": "rating"} and rated.columns["value"] == "rating"
    rows = [
        [1433221332117 + n, n // 3, ["view", "addtocart", "frobnicated"][n % 3], n % 7] for n in range(60)
    ]
    seen = look(table("timestamp,visitorid,event,itemid", rows))
    assert seen.columns == {
        "user_id": "visitorid", "item_id": "itemid", "kind": "event", "time": "timestamp",
    }  # fmt: skip
    assert "kind" not in seen.mapping().constants
    assert '# frobnicated = "view"' in seen.text and "UNKNOWN, counts as interest" in seen.said


def test_where_nothing_says_what_was_done_it_is_a_question(look: Look) -> None:
    drafted = look(table("user_id,item_id,time", [[n // 3, n % 7, 1700000000 + n] for n in range(30)]))
    assert drafted.mapping().constants == {}
    assert any("each row is taken for a view" in said for said in drafted.draft.unsure)


def test_a_column_of_known_kinds_says_what_was_done_whatever_it_is_called(look: Look) -> None:
    rows = [[f"u{n % 7}", f"s{n % 9}", ("view", "cart", "buy")[n % 3], "web"] for n in range(30)]
    drafted = look(table("shopper,sku,what,channel", rows))
    assert drafted.columns["kind"] == "what" and "kind" in drafted.unsure


def test_nested_lines_of_orders_are_walked(look: Look) -> None:
    rows = [
        {
            "order_id": n,
            "customer": {"id": f"c{n // 3}", "email": "a@b.c"},
            "created_at": "2024-03-10T10:00:00Z",
            "lines": [{"sku": f"S{n % 5}", "qty": 1}, {"sku": f"S{n % 4}", "qty": 2}],
        }
        for n in range(30)
    ]
    drafted = look(lines(rows), "orders.jsonl")
    assert drafted.columns == {
        "user_id": "customer.id", "item_id": "lines[].sku", "value": "lines[].qty", "time": "created_at",
    }  # fmt: skip
    assert drafted.unsure == set() and drafted.mapping().constants == {"kind": "buy"}
    assert drafted.loads() == [(60, 60)]


def test_nested_items_are_read_by_paths(look: Look) -> None:
    rows = [
        {
            "id": n + 1,
            "title": f"Mug {n}",
            "price": {"amount": n + 0.5, "currency": "EUR"},
            "tags": ["a"],
            "images": [f"https://i.test/{n}.jpg", f"https://i.test/{n}b.jpg"],
            "brand": {"name": "Holm"},
            "stock": n % 3,
        }
        for n in range(30)
    ]
    drafted = look(lines(rows), "items.jsonl")
    assert drafted.columns == {
        "item_id": "id", "title": "title", "price": "price.amount", "currency": "price.currency", "brand":
        "brand.name", "in_stock": "stock", "photo_url": "images",
    }  # fmt: skip
    assert drafted.loads() == [(30, 30)]


def test_the_id_of_items_is_the_one_that_the_acts_carry(look: Look) -> None:
    items = table("product_id,sku,title,price", [[n, f"K{n:04d}", f"Mug {n}", n] for n in range(2000)])
    acts = table(
        "customer_id,product,date", [[n // 3, f"K{n * 31 % 2000:04d}", "2024-03-10"] for n in range(90)]
    )
    alone = look(items, "items.csv")
    assert alone.columns["item_id"] == "product_id"
    both = look({"items.csv": items, "acts.csv": acts})
    line = next(line for line in both.drafts[0].lines if line.ours == "item_id")
    assert (line.source, line.sure) == ("sku", True)
    assert line.reason.startswith("100% of the ids in acts.csv are in it")


def test_acts_whose_ids_the_catalogue_lacks_are_unsure(look: Look) -> None:
    items = table("sku,title,price", [[f"K{n}", f"Mug {n}", n] for n in range(50)])
    acts = table("customer_id,sku,date", [[n, f"X{n % 9}", "2024-03-10"] for n in range(50)])
    both = look({"items.csv": items, "acts.csv": acts})
    line = next(line for line in both.drafts[0].lines if line.ours == "item_id")
    assert not line.sure and "none of the ids in acts.csv is in it" in line.reason


def test_a_day_and_its_hour_in_two_columns_are_one_time(look: Look) -> None:
    rows = [[f"2024-03-{n % 28 + 1:02d}", f"10:0{n % 10}:00", f"c{n // 3}", f"a{n % 7}"] for n in range(40)]
    drafted = look(table("date,time,customer,article", rows))
    time = drafted.mapping().columns["time"]
    assert (time.join, time.by) == (("date", "time"), " ")
    assert drafted.loads() == [(40, 40)]


def test_what_was_acted_on_is_guessed_where_shoppers_come_again(look: Look) -> None:
    plays = look(
        table("user\tartist\tplays", [[f"u{n // 9}", f"band {n % 40}", n] for n in range(300)], "\t"), "a.tsv"
    )
    assert plays.columns == {"user_id": "user", "item_id": "artist", "value": "plays"}
    assert "item_id" in plays.unsure and not plays.draft.sure
    rows = [
        {"review_id": f"r{n}", "user_id": f"u{n // 3}", "business_id": f"b{n % 9}", "stars": 4.0}
        for n in range(60)
    ]
    reviews = look(lines(rows), "review.json")
    assert reviews.columns == {"user_id": "user_id", "item_id": "business_id", "value": "stars"}
    assert "item_id" in reviews.unsure


def test_baskets_without_shoppers_are_shoppers_of_their_own_and_unsure(look: Look) -> None:
    drafted = look(table("order_id,product_id,reordered", [[n // 6, n % 30, 1] for n in range(120)]))
    assert drafted.columns == {"user_id": "order_id", "item_id": "product_id"}
    assert "user_id" in drafted.unsure and drafted.mapping().constants == {"kind": "buy"}
    assert "no column says who: each order_id is taken for a shopper of its own" in drafted.said


def test_what_may_be_the_shopper_of_a_basket_is_named(look: Look) -> None:
    rows = [[n // 6, f"K{n // 6 % 7}", n // 6 % 2, n % 30, n % 4] for n in range(120)]
    drafted = look(table("order_id,keeper,shelf,product_id,quantity", rows))
    assert drafted.columns["user_id"] == "order_id"
    assert "keeper, shelf have one value in each order_id: if one of them says who" in drafted.said


@pytest.mark.parametrize("who", ["household_id", "Loyalty Card", "LYLTY_CARD_NBR", "member_no", "cust_id"])
def test_receipts_are_of_the_household_and_not_of_the_basket(look: Look, who: str) -> None:
    rows = [[n // 24, n // 6, n % 30, 1, f"2017-01-{n // 6 % 28 + 1:02d} 11:53:26"] for n in range(240)]
    drafted = look(table(f"{who},basket_id,product_id,quantity,transaction_timestamp", rows))
    assert drafted.columns == {
        "user_id": who, "item_id": "product_id", "time": "transaction_timestamp", "value": "quantity"
    }  # fmt: skip
    assert drafted.draft.sure and not drafted.unsure


def test_a_column_nearly_called_a_time_is_unsure_beside_another_one_of_times(look: Look) -> None:
    rows = [[n // 4, n % 9, f"2017-01-{n % 28 + 1:02d}", f"2017-02-{n % 28 + 1:02d}"] for n in range(80)]
    drafted = look(table("user_id,product_id,shipping_timestamp,paying_timestamp", rows))
    assert "time" in drafted.unsure


def test_items_without_a_title_are_sure_by_what_the_acts_find_and_say_what_people_see(
    look: Look, tmp_path: Path
) -> None:
    (tmp_path / "products.csv").write_text(table("product_id,brand", [[n, f"B{n % 3}"] for n in range(50)]))
    acts = [[n // 4, n % 40, f"2017-01-{n % 28 + 1:02d}"] for n in range(120)]
    (tmp_path / "orders.csv").write_text(table("user_id,product_id,time", acts))
    drafted = Drafted([tmp_path / "products.csv", tmp_path / "orders.csv"])
    assert [(one.table, one.sure) for one in drafted.drafts] == [("items", True), ("interactions", True)]
    assert "no column is a title: people see brand" in drafted.said


def test_a_name_that_ends_with_a_point_is_a_name_and_no_path(look: Look) -> None:
    drafted = look(table("Artikel-Nr.;Bestand", [[f"{n:05d}", n % 9] for n in range(30)], ";"))
    assert drafted.columns == {"item_id": "Artikel-Nr.", "in_stock": "Bestand"}
    assert not drafted.mapping().keep_others and drafted.loads() == [(30, 30)]


def test_shoppers_are_shoppers(look: Look) -> None:
    drafted = look(table("customer_id,age,city", [[f"c{n}", n, "Berlin"] for n in range(30)]))
    assert drafted.draft.table == "users" and drafted.mapping().keep_others
    assert drafted.loads() == [(30, 30)]


def test_things_that_people_sell_are_items_and_no_acts(look: Look) -> None:
    rows = [[n, n // 3, f"Blue mug {n}", n, f"https://i.test/{n}.jpg"] for n in range(30)]
    assert look(table("item_id,user_id,title,price,photo_url", rows)).draft.table == "items"


def test_columns_without_telling_names_are_guessed_by_their_values_and_unsure(look: Look) -> None:
    rows = [[f"X{n}", f"Nice blue lamp number {n}", f"{n}.50", f"https://i.test/{n}.jpg"] for n in range(60)]
    drafted = look(table("a,b,c,d", rows))
    assert drafted.columns == {"item_id": "a", "title": "b", "price": "c", "photo_url": "d"}
    assert drafted.unsure == {"item_id", "title", "price", "photo_url"} and not drafted.draft.sure
    assert drafted.text.count("UNSURE: ") >= 5
    rows = [[f"U{n % 90}", f"P{n * 7 % 60}", f"2024-03-{n % 28 + 1:02d} 10:00:00"] for n in range(400)]
    acts = look(table("col1,col2,col3", rows))
    assert acts.columns == {"user_id": "col1", "item_id": "col2", "time": "col3"}
    assert acts.unsure == {"user_id", "item_id", "time"} and not acts.draft.sure


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1\t10\t3\t881250949\n2\t11\t4\t881250950\n", "its first line looks like a row, not like names"),
        ("a,b\n", "has no row to look at"),
        ("colour,size\nred,S\nred,S\nred,S\nred,S\n", "no column is an id"),
    ],
)
def test_what_cannot_be_guessed_is_said(look: Look, content: str, said: str) -> None:
    with pytest.raises(InputUnreadable, match=said):
        look(content, "a.tsv" if "\t" in content else "a.csv")


def test_a_column_called_as_ours_that_is_none_is_left_out(look: Look) -> None:
    rows = [[f"S{n}", f"Mug {n}", "Home > Mugs"] for n in range(30)]
    drafted = look(table("sku,title,path", rows))
    assert drafted.columns["category_id"] == "path" and drafted.loads() == [(30, 30)]
    rows = [[n // 3, n % 7, "3 items, gift"] for n in range(30)]
    acts = look(table("user_id,item_id,value", rows))
    assert acts.mapping().leave_out == ("value",) and acts.loads() == [(30, 30)]


def test_rare_delimiters_and_utf_16_without_a_mark_are_found_and_written(look: Look) -> None:
    content = table("sku^title^price", [[f"S{n}", f"Mug {n}", n] for n in range(30)], "^")
    drafted = look(content)
    assert drafted.mapping().delimiter == "^" and drafted.loads() == [(30, 30)]
    content = table("sku,title,price", [[f"S{n}", f"Café {n}", n] for n in range(30)])
    wide = look(content.encode("utf-16-le"))
    assert wide.mapping().encoding == "utf-16-le" and wide.loads() == [(30, 30)]


def test_two_files_of_one_table_share_one_mapping_and_keep_their_encodings(look: Look) -> None:
    other = lines({"id": n, "title": f"Krüge {n}", "price": n} for n in range(30))
    drafted = look({"a.csv": german().encode("cp1252"), "b.jsonl": other})  # type: ignore[dict-item]
    columns = drafted.mapping("items").columns
    assert columns["item_id"] == ("Artikelnr", "id") and columns["title"] == ("Bezeichnung", "title")
    assert drafted.mapping("items").encoding is None
    assert "b.jsonl is written otherwise: load it with --encoding" in drafted.said
    assert drafted.loads() == [(40, 40), (30, 30)]


def test_a_column_that_means_something_else_in_the_other_file_is_unsure(look: Look) -> None:
    one = table("sku,title", [[f"S{n}", f"Mug {n}"] for n in range(30)])
    other = table("product_id,sku,title", [[n, f"S{n}", f"Mug {n}"] for n in range(30)])
    drafted = look({"one.csv": one, "other.csv": other})
    assert "sku is in both files: look which of them is meant" in drafted.said


def test_a_known_feed_is_said_to_be_one_and_its_lines_change_nothing(look: Look) -> None:
    feed = (
        "Handle,Title,Vendor,Type,Variant SKU,Variant Price,Image Src\n"
        "mug,Mug,Holm,Mugs,M-1,2.50,https://i.test/1.jpg\nmug,,,,,,https://i.test/2.jpg\n"
    )
    drafted = look(feed)
    assert drafted.draft.feed is not None and drafted.draft.feed.name == "shopify"
    assert drafted.columns["title"] == "Title" and "item_id" not in drafted.columns
    assert "# item_id: Variant SKU, or made of Handle" in drafted.text
    assert drafted.loads() == [(1, 1)]


def test_a_column_of_a_feed_that_is_empty_in_the_first_rows_counts_in_later_ones(look: Look) -> None:
    event = {"event_name": "view_item", "event_timestamp": 1709996400000000, "user_id": None,
             "user_pseudo_id": "1.2", "items": [{"item_id": "a", "quantity": None}]}  # fmt: skip
    drafted = look(lines([event]), "events.jsonl")
    assert drafted.columns["user_id"] == ("user_id", "user_pseudo_id")
    assert drafted.mapping().columns["user_id"] == ("user_id", "user_pseudo_id")


def test_parquet_is_looked_at_too(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"user": [1, 2, 3], "sku": ["a", "b", "a"], "rating": [3.0, 4.0, 5.0]}), file)
    drafted = Drafted([file])
    assert drafted.columns == {"user_id": "user", "item_id": "sku", "value": "rating"}
    assert drafted.loads() == [(3, 3)]


NAMES = st.sampled_from([word for words in (*ITEM_NAMES.values(), *ACT_NAMES.values()) for word in words])
CELLS = st.one_of(
    st.integers(-5, 2_000_000_000).map(str),
    st.floats(0, 99).map(lambda f: f"{f:.2f}"),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12),
    st.sampled_from(
        [
            "",
            "03/04/2024",
            "2024-01-01 10:00",
            "https://i.test/1.jpg",
            "in stock",
            "view",
            "1,249",
            "[1]",
            "{}",
        ]
    ),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_a_file_holds_the_draft_is_a_shop_toml_that_can_be_tried(
    tmp_path: Path, data: st.DataObject
) -> None:
    """What is guessed may be wrong, but it is written validly, and its files load or say why not."""
    names = data.draw(st.lists(NAMES | CELLS.filter(bool), min_size=1, max_size=6, unique=True))
    rows = data.draw(st.lists(st.lists(CELLS, min_size=len(names), max_size=len(names)), max_size=12))
    out = io.StringIO()
    csv.writer(out).writerows([names, *rows])
    file = tmp_path / "a.csv"
    file.write_text(out.getvalue(), encoding="utf-8")
    try:
        drafted = Drafted([file])
    except InputUnreadable:
        return
    for read, taken in drafted.loads():
        assert 0 <= taken <= read


@given(st.text(max_size=30))
def test_any_name_can_be_spelt(name: str) -> None:
    assert all(one.isascii() and plain(one) == one for one in spellings(plain(name)))
    assert spellings(name)


def test_a_column_that_is_called_a_price_is_one_though_some_must_be_asked_for(look: Look) -> None:
    rows = [["01", "Becher", "12,50 €"], ["02", "Teller", "1.234,00 €"], ["03", "Krug", "auf Anfrage"]]
    drafted = look(table("Artikelnummer;Bezeichnung;Preis", rows, ";"))
    assert drafted.columns["price"] == "Preis"


def test_lines_above_the_column_names_are_told_by_the_draft(look: Look) -> None:
    found = look("Product report\n\nSKU;Name;Price\n1;Red lamp;2,50\n2;Blue cup;3,50\nTotal;;6,00\n")
    assert found.columns == {"item_id": "SKU", "title": "Name", "price": "Price"}
    assert "lines 1–2 are above the column names: passed over" in found.said
    assert found.loads() == [(2, 2)]


# --- orders, events of several shapes, several ids, pictures of several sizes

SHOPIFY_ORDERS = (
    "Name,Email,Financial Status,Total,Created at,Lineitem quantity,Lineitem name,Lineitem price,"
    "Lineitem sku,Billing Name,Id\n"
    "#1001,a@x.de,paid,34.90,2026-03-01 09:59:58 +0100,2,Red tee,10.00,TEE-R,A,4501\n"
    "#1001,a@x.de,,,2026-03-01 09:59:58 +0100,1,Mug,10.00,{mug},,\n"
    "#1002,b@x.de,refunded,10,2026-03-02 09:00:00 +0100,1,Mug,10.00,{mug},B,4502\n"
)


def test_lines_of_orders_are_bought_and_their_own_columns_say_what(look: Look) -> None:
    found = look(SHOPIFY_ORDERS.format(mug="MUG-1"))
    assert found.columns == {
        "user_id": "Email", "item_id": "Lineitem sku", "time": "Created at", "value": "Lineitem quantity"
    }  # fmt: skip
    assert found.mapping().constants == {"kind": "buy"}
    assert found.draft.unsure == []
    assert found.loads() == [(3, 3)]


def test_where_a_line_of_an_order_has_no_sku_its_name_is_the_item(look: Look) -> None:
    found = look(SHOPIFY_ORDERS.format(mug=""))
    assert found.columns["item_id"] == ("Lineitem sku", "Lineitem name")
    assert found.loads() == [(3, 3)]


def test_order_exports_with_ids_of_the_order_and_of_its_lines_are_bought(look: Look) -> None:
    head = "order_id,order_date,status,type,customer_id,line_item_id,line_item_sku,line_item_quantity"
    found = look(table(head, ((100 + n // 2, f"2026-03-0{n + 1}", "completed", "standard", n // 2, 900 + n,
                               f"S{n % 3}", 1) for n in range(6))))  # fmt: skip
    assert found.columns == {
        "user_id": "customer_id", "item_id": "line_item_sku", "time": "order_date",
        "value": "line_item_quantity",
    }  # fmt: skip
    assert found.mapping().constants == {"kind": "buy"}
    nested = look(lines({"id": n, "customer_id": n % 3, "date_created": "2026-03-01T10:00:00Z",
                         "line_items": [{"id": 900 + n, "product_id": n % 2 + 50, "quantity": 2}]}
                        for n in range(6)), "o.jsonl")  # fmt: skip
    assert nested.columns["item_id"] == "line_items[].product_id"
    assert nested.columns["value"] == "line_items[].quantity"
    assert nested.mapping().constants == {"kind": "buy"}


def test_events_of_one_product_and_of_several_of_people_known_and_unknown_are_read(look: Look) -> None:
    when = "2026-03-01T10:00:00.123Z"
    products = [{"product_id": "p1", "quantity": 2}, {"product_id": "p2", "quantity": 1}]
    events = [
        {"type": "track", "event": "Order Completed", "userId": None, "anonymousId": "a1", "timestamp": when,
         "properties": {"products": products, "value": 30}},
        {"type": "track", "event": "Product Viewed", "userId": "u1", "anonymousId": "a1", "timestamp": when,
         "properties": {"product_id": "p1"}},
        {"type": "page", "userId": "u1", "anonymousId": "a1", "timestamp": when, "properties": {}},
    ]  # fmt: skip
    found = look(lines(events), "e.jsonl")
    assert found.columns == {
        "user_id": ("userId", "anonymousId"),
        "item_id": ("properties.products[].product_id", "properties.product_id"),
        "kind": "event",
        "time": "timestamp",
        "value": "properties.products[].quantity",
    }
    (trial,) = [tried(found.draft, found.mapping())]
    assert (trial.taken, trial.passed, trial.refused) == (3, 1, {})


@pytest.mark.parametrize("first", ["acts", "items"])
def test_of_several_ids_in_the_acts_the_one_by_which_more_find_their_item_is_taken(
    look: Look, first: str
) -> None:
    items = lines({"parent_asin": f"P{n}", "title": f"Thing {n}", "price": 1.5} for n in range(9))
    acts = lines({"user_id": f"u{n % 4}", "asin": f"A{n}", "parent_asin": f"P{n % 9}", "rating": 5.0,
                  "timestamp": 1588687728923} for n in range(30))  # fmt: skip
    files = {"acts.jsonl": acts, "items.jsonl": items}
    found = look(dict(sorted(files.items(), reverse=first == "items")))
    columns = {draft.table: columns_of(draft.lines) for draft in found.drafts}
    assert columns["interactions"]["item_id"] == "parent_asin"
    assert columns["items"]["item_id"] == "parent_asin"
    assert "by it 100% of the acts find their item in items.jsonl" in found.said


def test_the_id_that_the_acts_are_called_by_stays_where_as_many_find_their_item(look: Look) -> None:
    items = lines({"asin": f"A{n}", "parent_asin": f"P{n // 2}", "title": f"Thing {n}"} for n in range(9))
    acts = lines({"user_id": f"u{n % 4}", "asin": f"A{n % 9}", "parent_asin": f"P{n % 9 // 2}",
                  "timestamp": 1588687728923} for n in range(30))  # fmt: skip
    found = look({"acts.jsonl": acts, "items.jsonl": items})
    assert [columns_of(draft.lines)["item_id"] for draft in found.drafts] == ["asin", "asin"]


def test_the_main_photo_is_the_largest_picture_and_no_thumb(look: Look) -> None:
    picture = "https://m.example/{}.jpg"
    found = look(lines({"sku": f"s{n}", "title": f"Red lamp {n}", "images": [
        {size: picture.format(f"{size}{n}") for size in ("thumb", "large", "hi_res")}
    ]} for n in range(5)), "a.jsonl")  # fmt: skip
    assert found.columns["photo_url"] == ("images[].hi_res", "images[].large")
    flat = look(table("sku,title,thumbnail_url,image_url", (
        (f"s{n}", f"Red lamp {n}", picture.format(f"t{n}"), picture.format(n)) for n in range(5)
    )))  # fmt: skip
    assert flat.columns["photo_url"] == ("image_url", "thumbnail_url")
