"""Somebody's columns become ours: paths, several to one, words, what is skipped and left out."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.config import Joined, MappingConfig, ShopConfig, validated
from etalage.errors import ConfigError, InputUnreadable
from etalage.lake.delta import Lake
from etalage.lake.ingest import Ingested, ingest, refused_rows
from etalage.lake.paths import Path as Steps
from etalage.lake.paths import path_of, value_at


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "tables")


def lines(file: Path, *rows: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def csv(file: Path, text: str) -> Path:
    file.write_text(text, "utf-8")
    return file


def acts(lake: Lake) -> list[tuple[Any, ...]]:
    rows = lake.table("interactions").read().to_pylist()
    return sorted((r["user_id"], r["item_id"], r["kind"], r["value"]) for r in rows)


def item(lake: Lake, item_id: str = "a") -> dict[str, Any]:
    return next(row for row in lake.table("items").read().to_pylist() if row["item_id"] == item_id)


EVENTS = (
    {"who": "u1", "name": "purchase", "order": {"id": "T1"}, "items": [
        {"id": "a", "n": 2, "tags": [{"key": "size", "value": "M"}]}, {"id": "b", "n": 1, "tags": []}]},
    {"who": "u1", "name": "view", "items": [{"id": "a", "n": 1}]},
    {"who": "u2", "name": "view", "items": []},
    {"who": "u2", "name": "view"},
    {"who": "u3", "name": "view", "items": {"id": "c"}},
    {"who": "u4", "name": "view", "items": "nonsense"},
    {"who": "u5", "name": "scroll", "items": [{"id": "a"}]},
)  # fmt: skip
OF_EVENTS = MappingConfig(
    columns={"user_id": "who", "item_id": "items[].id", "kind": "name", "value": "items[].n"},
    values={"kind": {"purchase": "buy"}},
    skip={"kind": ("scroll",)},
)


def test_a_list_that_is_walked_gives_a_row_for_each_element(lake: Lake, tmp_path: Path) -> None:
    done = ingest(lake, lines(tmp_path / "e.jsonl", *EVENTS), "interactions", OF_EVENTS)
    assert acts(lake) == [
        ("u1", "a", "buy", 2.0),
        ("u1", "a", "view", 1.0),
        ("u1", "b", "buy", 1.0),
        ("u3", "c", "view", None),
    ]
    assert (done.read, done.inserted, done.passed, done.refused) == (8, 4, 3, 1)
    (refused,) = refused_rows(lake).to_pylist()
    assert (refused["line"], refused["reason"]) == (6, "items: 'nonsense' is not a list")
    assert [str(note) for note in done.notes] == [
        "2 × nothing in items: passed over, such as line 3",
        "1 × kind is 'scroll': passed over ([ingest.interactions.skip]), such as line 7",
        "4 × time: the file does not say it",
        "nothing is read from the column 'order' ([ingest.interactions.columns] says what is what, leave_out "
        "what is not wanted)",
    ]
    again = ingest(lake, tmp_path / "e.jsonl", "interactions", OF_EVENTS)
    assert (again.inserted, again.unchanged, again.refused) == (0, 4, 1)


def test_nested_values_of_parquet_and_json_in_a_cell_are_walked_alike(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([
        {"who": "u1", "name": "buy", "items": [{"id": "a", "n": 2}, {"id": "b", "n": 1}]},
        {"who": "u2", "name": "view", "items": None},
    ])  # fmt: skip
    pq.write_table(table, tmp_path / "e.parquet")
    cell = json.dumps([{"id": "a", "n": 2}, {"id": "b", "n": 1}]).replace('"', '""')
    csv(tmp_path / "e.csv", f'who,name,items\nu1,buy,"{cell}"\nu2,view,\n')
    for n, name in enumerate(("e.parquet", "e.csv")):
        lake = Lake(tmp_path / f"tables{n}")
        done = ingest(lake, tmp_path / name, "interactions", OF_EVENTS)
        assert acts(lake) == [("u1", "a", "buy", 2.0), ("u1", "b", "buy", 1.0)], name
        assert (done.inserted, done.passed) == (2, 1)


def test_paths_go_into_objects_lists_and_lists_of_pairs(lake: Lake, tmp_path: Path) -> None:
    mapping = MappingConfig(
        columns={
            "item_id": "sku",
            "title": "names[0].text",
            "price": "offer.price",
            "attributes.colour": "options[name=Colour].value",
            "attributes.none": "options[name=Size].value",
        }
    )
    row = {"sku": "a", "names": [{"text": "Mug"}, {"text": "Becher"}], "offer": {"price": "5 EUR"},
           "options": [{"name": "Colour", "value": "red"}]}  # fmt: skip
    ingest(lake, lines(tmp_path / "a.jsonl", row), "items", mapping)
    stored = item(lake)
    assert (stored["title"], stored["price"], stored["currency"]) == ("Mug", 5.0, "EUR")
    assert json.loads(stored["attributes"]) == {"colour": "red"}


def test_a_column_that_is_called_like_a_path_is_that_column(lake: Lake, tmp_path: Path) -> None:
    file = csv(tmp_path / "a.csv", "item_id,offer.price,items[]\na,5,Mug\n")
    ingest(lake, file, "items", MappingConfig(columns={"price": "offer.price", "title": "items[]"}))
    assert (item(lake)["price"], item(lake)["title"]) == (5.0, "Mug")


def test_of_several_columns_the_first_that_is_not_empty_counts(lake: Lake, tmp_path: Path) -> None:
    file = csv(tmp_path / "a.csv", "sku,id,sale,price\na,,4,5\n,b,,6\n")
    ingest(lake, file, "items", MappingConfig(columns={"item_id": ("sku", "id"), "price": ("sale", "price")}))
    assert (item(lake, "a")["price"], item(lake, "b")["price"]) == (4.0, 6.0)


def test_several_columns_are_joined_where_the_mapping_says_so(lake: Lake, tmp_path: Path) -> None:
    toml = {
        "ingest": {"items": {"columns": {
            "item_id": "sku",
            "title": {"join": ["brand", "name"]},
            "category_id": {"join": ["department", "shelf"], "by": " > "},
            "photo_url": ["image", "more"],
        }}}
    }  # fmt: skip
    mapping = validated(ShopConfig, toml, "shop.toml").ingest.items
    assert mapping.columns["title"] == Joined(join=("brand", "name"))
    file = csv(
        tmp_path / "a.csv",
        "sku,brand,name,department,shelf,image,more\n"
        'a,Holm,Mug,Home,Cups,http://x.test/1.jpg,"http://x.test/2.jpg,http://x.test/3.jpg"\nb,,Rug,Home,,,\n',
    )
    ingest(lake, file, "items", mapping)
    assert (item(lake)["title"], item(lake)["category_id"]) == ("Holm Mug", "Home > Cups")
    assert (item(lake, "b")["title"], item(lake, "b")["category_id"]) == ("Rug", "Home")
    assert item(lake)["photo_url"] == "http://x.test/1.jpg"
    photos = lake.table("photos").read().to_pylist()
    assert sorted((p["url"], p["status"]) for p in photos) == [
        ("http://x.test/2.jpg", "pending"),
        ("http://x.test/3.jpg", "pending"),
    ]


def test_a_constant_fills_what_is_empty_in_a_mapped_column(lake: Lake, tmp_path: Path) -> None:
    mapping = MappingConfig(columns={"currency": "cur"}, constants={"currency": "EUR", "brand": "Holm"})
    ingest(lake, csv(tmp_path / "a.csv", "item_id,cur,brand\na,USD,Other\nb,,Other\n"), "items", mapping)
    assert [item(lake, one)["currency"] for one in "ab"] == ["USD", "EUR"]
    assert item(lake)["brand"] == "Holm", "a constant alone stands in every row"


def test_a_column_that_is_left_out_is_not_read(lake: Lake, tmp_path: Path) -> None:
    file = csv(tmp_path / "a.csv", "item_id,price,cost\na,99,5\n")
    ingest(lake, file, "items", MappingConfig(leave_out=("price",)))
    assert item(lake)["price"] is None
    ingest(lake, file, "items", MappingConfig(columns={"price": "cost"}, leave_out=("price",)))
    assert item(lake)["price"] == 5.0


def test_words_are_translated_before_they_are_checked(lake: Lake, tmp_path: Path) -> None:
    file = csv(tmp_path / "a.csv", "item_id,in_stock\na,soon\nb,yes\nc,\n")
    ingest(lake, file, "items", MappingConfig(values={"in_stock": {"soon": "true"}}))
    assert [item(lake, one)["in_stock"] for one in "abc"] == [True, True, None]


def test_the_decimal_mark_is_said_or_told_by_the_other_prices(lake: Lake, tmp_path: Path) -> None:
    german = csv(tmp_path / "de.csv", 'item_id,price\na,"1.249"\nb,"29,95 €"\n')
    done = ingest(lake, german, "items")
    assert [item(lake, one)["price"] for one in "ab"] == [1249.0, 29.95]
    assert "1 × price: read with the decimal mark ',', as others are written, such as '1.249'" in [
        str(note) for note in done.notes
    ]
    alone = csv(tmp_path / "alone.csv", "item_id,price\nc,1.249\n")
    assert ingest(lake, alone, "items").values_lost == 1
    assert item(lake, "c")["price"] is None
    assert 'decimal = "." or ","' in refused_rows(lake)["reason"].to_pylist()[0]
    ingest(lake, alone, "items", MappingConfig(decimal="."))
    assert item(lake, "c")["price"] == 1.249
    assert refused_rows(lake).num_rows == 0


def test_times_without_an_offset_are_of_the_shops_zone_and_order(lake: Lake, tmp_path: Path) -> None:
    file = csv(tmp_path / "a.csv", "user_id,item_id,time\nu,a,03/04/2025 12:00\nu,b,2025-01-01 12:00\n")
    done = ingest(lake, file, "interactions")
    assert (done.inserted, done.refused) == (1, 1)
    assert 'dates = "dmy" or "mdy"' in refused_rows(lake)["reason"].to_pylist()[0]
    ingest(lake, file, "interactions", MappingConfig(dates="dmy", timezone="Europe/Berlin"))
    times = {r["item_id"]: r["time"].isoformat() for r in lake.table("interactions").read().to_pylist()
             if r["time"].hour != 12}  # fmt: skip
    assert times == {"a": "2025-04-03T10:00:00+00:00", "b": "2025-01-01T11:00:00+00:00"}
    assert refused_rows(lake).num_rows == 0


def test_a_mapped_column_that_is_not_there_is_told_with_the_nearest(lake: Lake, tmp_path: Path) -> None:
    mapping = MappingConfig(columns={"item_id": "sku", "title": "name", "brand": ("maker", "vendor")})
    done = ingest(lake, csv(tmp_path / "a.csv", "sku,nmae,vendor\na,Mug,Holm\n"), "items", mapping)
    assert (item(lake)["title"], item(lake)["brand"]) == (None, "Holm")
    assert [str(note) for note in done.notes] == [
        "title: the file has no column 'name' ([ingest.items.columns]); did you mean 'nmae'?; title stays as "
        "the table has it"
    ]


def test_json_lines_may_differ_in_their_keys(lake: Lake, tmp_path: Path) -> None:
    file = lines(
        tmp_path / "a.jsonl", {"item_id": "a", "title": "Mug"}, {"item_id": "b", "price": 5}, {"price": 6},
    )  # fmt: skip
    for rows in (1, 2, 10):
        done = ingest(lake, file, "items", chunk_rows=rows)
        assert (item(lake, "a")["title"], item(lake, "b")["price"], done.refused) == ("Mug", 5.0, 1)


@pytest.mark.parametrize(
    ("table", "mapping", "says"),
    [
        ("items", {"columns": {"titel": "name"}}, "table items has no column 'titel'; did you mean 'title'"),
        (
            "items",
            {"values": {"kind": {"a": "b"}}},
            r"\[ingest.items.values\]: table items has no column 'kind'",
        ),
        ("items", {"skip": {"tilte": ["x"]}}, "did you mean 'title'"),
        ("items", {"columns": {"price": "cost"}, "leave_out": ["cost"]}, "take one of them away"),
        ("users", {"decimal": ","}, "decimal: table users has no number"),
        ("users", {"timezone": "Europe/Berlin"}, "timezone: table users has no time"),
        ("interactions", {"timezone": "Berlin"}, "no time zone 'Berlin'"),
        ("interactions", {"columns": {"item_id": "a[].b", "value": "c[].d"}}, "walks a and c"),
        ("interactions", {"columns": {"item_id": "a[].b[].c"}}, "walks two lists"),
    ],
)
def test_a_setting_that_cannot_act_is_an_error(
    lake: Lake, tmp_path: Path, table: Any, mapping: dict[str, Any], says: str
) -> None:
    file = csv(tmp_path / "a.csv", "item_id,user_id\na,u\n")
    with pytest.raises(ConfigError, match=says):
        ingest(lake, file, table, MappingConfig.model_validate(mapping))


def test_a_needed_column_is_named_with_what_the_mapping_says(lake: Lake, tmp_path: Path) -> None:
    file = csv(tmp_path / "a.csv", "sku,name\na,Mug\n")
    with pytest.raises(InputUnreadable, match=r"says item_id = 'code' or 'skuu'.*did you mean 'sku'"):
        ingest(lake, file, "items", MappingConfig(columns={"item_id": ("code", "skuu")}))
    with pytest.raises(InputUnreadable, match=r"says item_id = 'lines.*sku'"):
        ingest(lake, file, "items", MappingConfig(columns={"item_id": "lines[].sku"}))


def test_a_path_says_its_steps() -> None:
    assert path_of("items[].item_id") == Steps("items", (), True, ("item_id",))
    assert path_of("a.b[2].c") == Steps("a", ("b", 2, "c"))
    assert path_of("a[k=v w].b") == Steps("a", (("k", "v w"), "b"))
    assert path_of("a.items[].b.c") == Steps("a", ("items",), True, ("b", "c"))
    assert [path_of(text) for text in ("plain", "a name", "a.", ".a", "a[x]", "a[", "", "[]", "a..b")] == [
        None
    ] * 9


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=8,
)


@given(json_values, st.lists(st.sampled_from(["a", "b", 0, 1, ("a", "x")]), max_size=4))
def test_whatever_stands_there_a_path_gives_a_value_or_nothing(value: Any, steps: list[Any]) -> None:
    direct, packed = value_at(value, tuple(steps)), value_at(json.dumps(value), tuple(steps))
    if isinstance(value, dict | list) and steps:
        assert direct == packed


def test_the_counts_add_up_with_rows_that_are_passed_over(lake: Lake, tmp_path: Path) -> None:
    done = ingest(lake, lines(tmp_path / "e.jsonl", *EVENTS), "interactions", OF_EVENTS, chunk_rows=2)
    assert isinstance(done, Ingested)
    stored = done.inserted + done.updated + done.unchanged + done.repeated + done.older
    assert done.read == stored + done.passed + done.refused


# --- what a mapping does not say


def told(done: Ingested) -> list[str]:
    return [str(note) for note in done.notes]


@pytest.mark.parametrize(
    "names", ["Item_ID,Title,In Stock", "ITEM-ID,TITLE,in-stock", " itemId , title ,inStock"]
)
def test_columns_that_are_called_as_ours_but_for_case_and_marks_are_read_and_told(
    lake: Lake, tmp_path: Path, names: str
) -> None:
    done = ingest(lake, csv(tmp_path / "a.csv", f"{names}\na,Lamp,no\n"), "items")
    assert (item(lake)["title"], item(lake)["in_stock"]) == ("Lamp", False)
    assert f"item_id: read from the column {names.split(',')[0]!r}" in told(done)


def test_columns_that_are_called_as_attributes_are_attributes(lake: Lake, tmp_path: Path) -> None:
    file = csv(tmp_path / "a.csv", "item_id,attributes.colour,attributes.size\na,red,S\n")
    ingest(lake, file, "items", MappingConfig(leave_out=("attributes.size",)))
    (row,) = lake.table("items").read().to_pylist()
    assert row["attributes"] == '{"colour": "red"}'


def test_of_two_columns_that_are_nearly_ours_none_is_read(lake: Lake, tmp_path: Path) -> None:
    done = ingest(lake, csv(tmp_path / "a.csv", "item_id,Title,TITLE\na,Lamp,Rug\n"), "items")
    assert item(lake)["title"] is None
    assert "nothing is read from the columns 'Title', 'TITLE'" in told(done)[0]


def test_a_column_that_something_else_is_read_from_is_not_ours_too(lake: Lake, tmp_path: Path) -> None:
    mapping = MappingConfig(columns={"attributes.name": "Title", "brand": "Maker"}, leave_out=("Price",))
    done = ingest(lake, csv(tmp_path / "a.csv", "item_id,Title,Maker,Price\na,x,y,2\n"), "items", mapping)
    assert (item(lake)["title"], item(lake)["price"], item(lake)["brand"]) == (None, None, "y")
    assert told(done) == []


def test_columns_that_nothing_is_read_from_are_told_with_what_they_may_be(lake: Lake, tmp_path: Path) -> None:
    rows = "user_id,item_id,event_type,rating,timestamp,note,empty\nu,a,buy,5,1700000000,x,\n"
    done = ingest(lake, csv(tmp_path / "a.csv", rows), "interactions")
    assert told(done) == [
        "1 × kind: the file does not say it; taken for a view",
        "1 × time: the file does not say it",
        "nothing is read from the columns 'event_type', 'rating', 'timestamp', 'note' "
        "([ingest.interactions.columns] says what is what, leave_out what is not wanted); perhaps kind = "
        '"event_type", value = "rating", time = "timestamp"',
    ]
    mapping = MappingConfig(
        columns={"kind": "event_type", "value": "rating", "time": "timestamp"}, leave_out=("note",)
    )
    assert told(ingest(lake, tmp_path / "a.csv", "interactions", mapping)) == []


def test_a_needed_column_is_guessed_also_within_a_list(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "tables")
    file = lines(tmp_path / "a.jsonl", {"products": [{"sku": "a", "name": "Lamp"}]})
    with pytest.raises(InputUnreadable, match=r'item_id = "products\[\].sku"'):
        ingest(lake, file, "items")
    with pytest.raises(InputUnreadable, match='item_id = "SKU"'):
        ingest(lake, csv(tmp_path / "a.csv", "SKU,Name\na,Lamp\n"), "items")


def test_json_rows_without_what_rows_need_may_come_first(lake: Lake, tmp_path: Path) -> None:
    logins = [{"user_id": "u", "kind": "login"}] * 5
    file = lines(tmp_path / "a.jsonl", *logins, {"user_id": "u", "item_id": "a"})
    done = ingest(lake, file, "interactions", chunk_rows=2)
    assert (done.inserted, done.refused) == (1, 5)
    file = lines(tmp_path / "b.jsonl", *logins, {"user_id": "u", "x": 1})
    with pytest.raises(InputUnreadable, match=r"no column for item_id\. Columns found: .*'x'"):
        ingest(lake, file, "interactions", chunk_rows=2)


def test_an_event_of_one_item_beside_events_of_several_is_an_act(lake: Lake, tmp_path: Path) -> None:
    several = [{"product_id": "a"}, {"product_id": "b"}]
    file = lines(
        tmp_path / "segment.jsonl",
        {"userId": "u", "event": "view", "properties": {"product_id": "a"}},
        {"userId": "u", "event": "buy", "properties": {"products": several}},
        {"userId": "u", "event": "login", "properties": {}},
    )
    item_id = ("properties.products[].product_id", "properties.product_id")
    mapping = MappingConfig(columns={"user_id": "userId", "kind": "event", "item_id": item_id})
    done = ingest(lake, file, "interactions", mapping)
    assert acts(lake) == [("u", "a", "buy", None), ("u", "a", "view", None), ("u", "b", "buy", None)]
    assert (done.inserted, done.passed) == (3, 1)


def test_lists_as_python_writes_them_are_walked(lake: Lake, tmp_path: Path) -> None:
    mapping = MappingConfig(columns={"item_id": "items[]"})
    file = csv(tmp_path / "a.csv", "user_id,items\nu,\"['a', 'it''s']\"\nu,\"['b']\"\n")
    ingest(lake, file, "interactions", mapping)
    assert [item for _, item, _, _ in acts(lake)] == ["a", "b", "its"]


def test_an_act_of_no_kind_is_a_view_however_the_file_is_cut(lake: Lake, tmp_path: Path) -> None:
    rows = "u,a,,2025-01-01\nu,b,NULL,2025-01-01\nu,c,buy,2025-01-01\n"
    file = csv(tmp_path / "a.csv", "user_id,item_id,kind,time\n" + rows)
    done = ingest(lake, file, "interactions", chunk_rows=1)
    assert acts(lake) == [("u", "a", "view", None), ("u", "b", "view", None), ("u", "c", "buy", None)]
    assert told(done) == [
        "1 × kind: there is none; taken for a view, such as line 2",
        "1 × kind: 'NULL' says nothing; taken for a view, such as line 3",
    ]
    json_rows = lines(
        tmp_path / "b.jsonl",
        {"user_id": "u", "item_id": "a", "time": 1735689600},
        {"user_id": "u", "item_id": "c", "time": 1735689600, "kind": "buy"},
    )
    for size in (1, 10):
        assert ingest(lake, json_rows, "interactions", chunk_rows=size).unchanged == 2


# --- what happened to values before they came here


def test_ids_that_a_spreadsheet_cut_short_are_told_and_stay(lake: Lake, tmp_path: Path) -> None:
    rows = "item_id,title\n4.01234E+12,Lamp\n4.01234E+12,Rug\n1E+3X,Mug\n1.2345E+2,Cup\nNULL,None\n"
    done = ingest(lake, csv(tmp_path / "a.csv", rows), "items")
    assert (done.inserted, done.repeated) == (4, 1)
    assert told(done) == [
        "1 × item_id: 'NULL' is taken for an id; is it a gap in the file?, such as line 6",
        "2 × item_id: a number that a spreadsheet cut short; several ids may have become one; export the "
        "column as text, such as '4.01234E+12'",
    ]
    assert item(lake, "4.01234E+12")["title"] == "Rug"


def test_times_that_a_spreadsheet_cut_short_are_told(lake: Lake, tmp_path: Path) -> None:
    rows = "user_id,item_id,kind,time\nu,a,view,1.71006E+12\nu,b,view,1.7100612E+9\n"
    assert told(ingest(lake, csv(tmp_path / "a.csv", rows), "interactions")) == [
        "2 × time: a number that a spreadsheet cut short, so that the time is not exact, such as "
        "'1.71006E+12'"
    ]


def test_numbers_as_ids_are_their_digits_also_in_a_column_with_gaps(lake: Lake, tmp_path: Path) -> None:
    table = pa.table({"item_id": pa.array([3.0, None, 4.0, 3.0]), "title": ["Lamp", "Gap", "Rug", "Light"]})
    pq.write_table(table, tmp_path / "a.parquet")
    done = ingest(lake, tmp_path / "a.parquet", "items", chunk_rows=2)
    assert (done.inserted, done.repeated, done.refused) == (2, 1, 1)
    assert (item(lake, "3")["title"], item(lake, "4")["title"]) == ("Light", "Rug")
    assert "3 × item_id: whole numbers in a column with gaps, 3.0, are read as 3, such as line 1" in told(
        done
    )
    again = ingest(lake, tmp_path / "a.parquet", "items", chunk_rows=3)
    assert (again.unchanged, again.updated) == (2, 0)


def test_dates_that_may_be_two_are_read_as_the_others_of_the_file_show(tmp_path: Path) -> None:
    def days(*dates: str) -> tuple[list[str], Ingested]:
        lake = Lake(tmp_path / f"tables-{len(dates)}-{dates[0].replace('/', '')}")
        rows = "".join(f"u,a{n},view,{day}\n" for n, day in enumerate(dates))
        file = csv(tmp_path / "a.csv", "user_id,item_id,kind,time\n" + rows)
        done = ingest(lake, file, "interactions", chunk_rows=100)
        found = lake.table("interactions").read().sort_by("item_id").to_pylist()
        return [row["time"].date().isoformat() for row in found], done

    found, done = days("03/04/2025", "03/25/2025")
    assert found == ["2025-03-04", "2025-03-25"]
    assert told(done) == ["time: dates such as 03/04/2025 are read as others of the file show, dates = 'mdy'"]
    assert days("03/04/2025", "25/03/2025", "10.03.2025")[0] == ["2025-04-03", "2025-03-25", "2025-03-10"]
    found, done = days("03/04/2025", "25/03/2025", "03/25/2025", "2025-03-01")
    assert done.refused == 1 and "may be two dates" in next(iter(done.refused_by_reason))


@pytest.mark.parametrize("word", ["\\\\N", "(null)", "#N/A", "0000-00-00 00:00:00", "0001-01-01T00:00:00"])
def test_words_that_databases_write_for_no_time_cost_no_act(lake: Lake, tmp_path: Path, word: str) -> None:
    rows = f"user_id,item_id,kind,time\nu,a,view,{word.replace(chr(92) * 2, chr(92))}\n"
    done = ingest(lake, csv(tmp_path / "a.csv", rows), "interactions")
    assert (done.inserted, done.refused) == (1, 0)
    assert "is taken for `not known`" in told(done)[0] and "time: there is none" in told(done)[1]


def test_of_a_list_the_first_value_is_taken_and_how_often_is_said(tmp_path: Path, lake: Lake) -> None:
    file = csv(tmp_path / "items.csv", "item_id,genres\na,Action|Comedy\nb,Drama\nc,|War\n")
    mapping = MappingConfig(
        columns={"category_id": "genres", "attributes.genres": "genres"}, first_of={"category_id": "|"}
    )
    done = ingest(lake, file, "items", mapping)
    assert [item(lake, name)["category_id"] for name in "abc"] == ["Action", "Drama", "War"]
    assert json.loads(item(lake)["attributes"]) == {"genres": "Action|Comedy"}
    (note,) = [str(one) for one in done.notes]
    assert note.startswith("1 × category_id: of several values the first is taken")
    assert "'Action|Comedy'" in note
    with pytest.raises(ConfigError, match="which mark stands between"):
        ingest(lake, file, "items", MappingConfig(first_of={"category_id": ""}))
