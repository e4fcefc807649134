"""Ingest: files become rows, bad rows become refusals, and the counts add up."""

import base64
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from etalage.config import MappingConfig
from etalage.errors import ConfigError, InputUnreadable
from etalage.lake.delta import Lake
from etalage.lake.ingest import Ingested, ingest, refused_rows


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "tables")


def written(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def photo(number: int, size: tuple[int, int] = (11, 7)) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def by_id(lake: Lake, table: str, key: str = "item_id") -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in lake.table(table).read().to_pylist()}


def adds_up(done: Ingested) -> bool:
    stored = done.inserted + done.updated + done.unchanged + done.repeated
    return done.read == stored + done.refused - done.photos_refused


CATALOGUE = """sku,name,cost,shelf,stock,colour
1,Red boot,19.50,Shoes > Boots,yes,red
2,"Coat, long",120,Clothing > Coats,out_of_stock,
3,Scarf,,Clothing,,green
"""
MAPPING = MappingConfig(
    columns={
        "item_id": "sku",
        "title": "name",
        "price": "cost",
        "category_id": "shelf",
        "in_stock": "stock",
        "attributes.colour": "colour",
    },
    constants={"currency": "EUR"},
)


def test_a_mapped_csv_becomes_items(lake: Lake, tmp_path: Path) -> None:
    file = written(tmp_path, "shop.csv", CATALOGUE)
    heard: list[int] = []
    done = ingest(lake, file, "items", MAPPING, attributes={"split": "train"}, progress=heard.append)
    assert done == Ingested(read=3, inserted=3)
    assert sum(heard) == 3
    rows = by_id(lake, "items")
    assert rows["1"] | {"updated_at": None} == {
        "item_id": "1",
        "title": "Red boot",
        "description": None,
        "brand": None,
        "price": 19.5,
        "currency": "EUR",
        "category_id": "Shoes > Boots",
        "item_group_id": None,
        "photo_url": None,
        "in_stock": True,
        "attributes": '{"colour": "red", "split": "train"}',
        "updated_at": None,
        "source_updated_at": None,
    }
    assert (rows["2"]["title"], rows["2"]["in_stock"], rows["3"]["price"]) == ("Coat, long", False, None)
    assert json.loads(rows["2"]["attributes"]) == {"split": "train"}


def test_the_same_file_again_changes_nothing(lake: Lake, tmp_path: Path) -> None:
    file = written(tmp_path, "shop.csv", CATALOGUE + ",Hat,4,,,\n")
    first = ingest(lake, str(file), "items", MAPPING)
    versions = lake.versions()
    again = ingest(lake, file, "items", MAPPING)
    assert (first.inserted, first.refused) == (3, 1)
    assert again == Ingested(read=4, unchanged=3, refused=1, refused_by_reason=first.refused_by_reason)
    assert lake.versions() == versions


def test_a_changed_file_updates_only_what_changed(lake: Lake, tmp_path: Path) -> None:
    file = written(tmp_path, "shop.csv", CATALOGUE)
    ingest(lake, file, "items", MAPPING)
    since = lake.table("items").version()
    written(tmp_path, "shop.csv", CATALOGUE.replace("19.50", "17.25") + "9,Belt,5,,,\n")
    done = ingest(lake, file, "items", MAPPING)
    assert (done.inserted, done.updated, done.unchanged) == (1, 1, 2)
    assert set(lake.table("items").changes(since).upserted["item_id"].to_pylist()) == {"1", "9"}


def test_f51_bad_rows_are_refused_and_bad_values_left_out_with_file_line_and_reason(
    lake: Lake, tmp_path: Path
) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body = f"""item_id,price,in_stock,updated_at
good,1,yes,2024-01-01
nan,nan,yes,
negative,-3,yes,
word,cheap,yes,
,5,yes,
maybe,5,perhaps,
late,5,no,{tomorrow}
when,5,no,yesterday
short,5
"a
b",7,no,
last,2,no,2024-01-01T00:00:00Z
"""
    file = written(tmp_path, "shop.csv", body)
    done = ingest(lake, file, "items")
    assert (done.read, done.inserted, done.refused, done.values_lost) == (11, 9, 2, 5)
    rows = by_id(lake, "items")
    assert set(rows) == {"good", "nan", "negative", "word", "maybe", "late", "when", "a\nb", "last"}
    assert [rows[name]["price"] for name in ("nan", "negative", "word", "maybe")] == [None, None, None, 5.0]
    assert (rows["maybe"]["in_stock"], rows["late"]["in_stock"]) == (None, False)
    assert rows["late"]["source_updated_at"] is None
    told = {row["line"]: row["reason"] for row in refused_rows(lake, "items").to_pylist()}
    assert told == {
        4: "price: '-3' is negative",
        5: "price: 'cheap' is not a number",
        6: "item_id: is missing",
        7: "in_stock: 'perhaps' is neither yes nor no, nor a word for stock; use true or false, or say what "
        "it means: [ingest.items.values.in_stock]",
        8: f"updated_at: '{tomorrow}' lies in the future",
        9: "updated_at: 'yesterday' is not a time; use ISO 8601 or seconds since 1970",
        10: "has 2 fields, the header has 4",
    }
    row = refused_rows(lake).to_pylist()[0]
    assert (row["what"], row["file"], row["key"], row["field"]) == ("items", str(file), "negative", "price")
    assert json.loads(row["row"]) == {
        "item_id": "negative", "price": "-3", "in_stock": "yes", "updated_at": None
    }  # fmt: skip
    assert done.refused_by_reason == {"item_id: is missing": 1, "has N fields, the header has N": 1}
    assert [str(note) for note in done.notes] == [
        "1 × item_id: 'nan' is taken for an id; is it a gap in the file?, such as line 3",
        "1 × price: 'nan' is taken for `not known`, such as line 3",
        "2 × price cannot be read: the row is taken without it, such as line 4: '-3' is negative",
        "1 × in_stock cannot be read: the row is taken without it, such as line 7: 'perhaps' is neither "
        "yes nor no, nor a word for stock; use true or false, or say what it means: "
        "[ingest.items.values.in_stock]",
        f"2 × updated_at cannot be read: the row is taken without it, such as line 8: '{tomorrow}' lies in "
        "the future",
    ]


def test_f51_a_missing_column_names_those_found_and_the_mapping_to_write(lake: Lake, tmp_path: Path) -> None:
    file = written(tmp_path, "shop.csv", CATALOGUE)
    with pytest.raises(InputUnreadable) as raised:
        ingest(lake, file, "items")
    said = str(raised.value)
    assert "shop.csv: no column for item_id" in said
    assert "'sku', 'name', 'cost'" in said
    assert "[ingest.items.columns]\nitem_id = " in said
    with pytest.raises(InputUnreadable, match=r"says item_id = 'skuu', but .* did you mean 'sku'"):
        ingest(lake, file, "items", MappingConfig(columns={"item_id": "skuu", "title": "name"}))
    with pytest.raises(ConfigError, match=r"no column 'titel'; did you mean 'title'"):
        ingest(lake, file, "items", MappingConfig(columns={"item_id": "sku", "titel": "name"}))
    with pytest.raises(InputUnreadable, match="no column for user_id, item_id"):
        ingest(lake, written(tmp_path, "empty.csv", "a,b\n"), "interactions")
    assert lake.versions() == {}


def test_sources_that_make_no_sense_are_unreadable(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(InputUnreadable, match="no such file"):
        ingest(lake, tmp_path / "nowhere.csv", "items")
    with pytest.raises(InputUnreadable, match=r"say which of csv, parquet, jsonl, xml, google_merchant"):
        ingest(lake, written(tmp_path, "a.pdf", "x"), "items")
    with pytest.raises(InputUnreadable, match="a spreadsheet; save it as CSV"):
        ingest(lake, written(tmp_path, "a.xlsx", "PK\x03\x04"), "items")
    with pytest.raises(InputUnreadable, match="is packed by zip; unpack it"):
        ingest(lake, written(tmp_path, "a.zip", "PK\x03\x04"), "items")
    with pytest.raises(InputUnreadable, match="fills items and photos, not users"):
        ingest(lake, tmp_path, "users")


def test_of_rows_with_one_key_the_last_one_counts_across_chunks_and_reruns(
    lake: Lake, tmp_path: Path
) -> None:
    lines = [f"i{n},{n}\n" for n in range(20)] + ["i3,33\n", "i5,oops\n", "i3,34\n"]
    file = written(tmp_path, "a.csv", "item_id,price\n" + "".join(lines))
    done = ingest(lake, file, "items", chunk_rows=4)
    assert (done.read, done.inserted, done.repeated, done.refused, done.values_lost) == (23, 20, 3, 0, 1)
    assert {k: r["price"] for k, r in by_id(lake, "items").items() if k in ("i3", "i4", "i5")} == {
        "i3": 34.0,
        "i4": 4.0,
        "i5": None,
    }
    versions = lake.versions()
    ingest(lake, file, "items", chunk_rows=4)
    assert lake.versions() == versions


def test_jsonl_and_parquet_give_the_same_items_as_csv(tmp_path: Path) -> None:
    rows = [
        {
            "item_id": "a",
            "price": 1.5,
            "title": "Boot",
            "in_stock": True,
            "attributes": {"size": 42, "x": None},
        },
        {"item_id": "7", "price": None, "title": None, "in_stock": False, "attributes": None},
    ]
    jsonl = written(tmp_path, "a.jsonl", "\n".join(json.dumps(r | {"item_id": r["item_id"]}) for r in rows))
    parquet = tmp_path / "a.parquet"
    pq.write_table(
        pa.Table.from_pylist([r | {"attributes": json.dumps(r["attributes"] or {})} for r in rows]), parquet
    )
    csv = written(
        tmp_path,
        "a.csv.gz",
        gzip.compress(b'item_id,price,title,in_stock,attributes\na,1.5,Boot,1,"{""size"": 42}"\n7,,,no,\n'),
    )
    tables = []
    for n, file in enumerate((jsonl, parquet, csv)):
        own = Lake(tmp_path / f"tables{n}")
        assert ingest(own, file, "items").inserted == 2
        tables.append({k: r | {"updated_at": None} for k, r in by_id(own, "items").items()})
    assert tables[0] == tables[1] == tables[2]
    assert tables[0]["a"]["attributes"] == '{"size": "42"}'


def test_whole_numbers_as_ids_and_wrong_types_in_parquet(lake: Lake, tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    ids, prices = pa.array([12, None, 14]), pa.array(["5", "6", "free"])
    pq.write_table(pa.table({"item_id": ids, "price": prices}), file)
    done = ingest(lake, file, "items")
    assert (done.inserted, done.refused, done.values_lost) == (2, 1, 1)
    assert {name: row["price"] for name, row in by_id(lake, "items").items()} == {"12": 5.0, "14": None}
    assert refused_rows(lake)["line"].to_pylist() == [2, 3]


def test_interactions_without_ids_keep_their_repetitions(lake: Lake, tmp_path: Path) -> None:
    body = "user_id,item_id,kind,value,time\n" + "u1,a,view,,\n" * 3 + "u1,a,buy,2,1700000000\nu2,a,view,,\n"
    file = written(tmp_path, "log.csv", body)
    assert ingest(lake, file, "interactions", chunk_rows=2).inserted == 5
    again = ingest(lake, file, "interactions", chunk_rows=3)
    assert replace(again, notes=[]) == Ingested(read=5, unchanged=5)
    assert [str(note) for note in again.notes] == ["4 × time: there is none, such as line 2"]
    rows = lake.table("interactions").read().to_pylist()
    assert sorted((r["user_id"], r["kind"]) for r in rows) == [
        ("u1", "buy"),
        ("u1", "view"),
        ("u1", "view"),
        ("u1", "view"),
        ("u2", "view"),
    ]
    assert {r["time"] for r in rows} == {None, datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)}
    longer = written(tmp_path, "more.csv", body + "u1,a,view,,\n")
    assert ingest(lake, longer, "interactions").inserted == 1


def test_true_and_false_are_values_of_1_and_0_and_that_is_told(lake: Lake, tmp_path: Path) -> None:
    rows = (
        "user_id,item_id,kind,value\nann,hat,like,true\nann,cap,like,FALSE\nbob,hat,like,\nbob,cap,like,2\n"
    )
    done = ingest(lake, written(tmp_path, "likes.csv", rows), "interactions")
    objects = '{"user_id": "eve", "item_id": "hat", "value": true}\n'
    ingest(lake, written(tmp_path, "likes.jsonl", objects), "interactions")
    found = lake.table("interactions").read().sort_by([("user_id", "ascending"), ("value", "ascending")])
    assert found["value"].to_pylist() == [0, 1, 2, None, 1]
    assert done.refused == 0
    assert [(note.what, note.count) for note in done.notes if "true" in note.what] == [
        ("value: true and false are read as 1 and 0", 2)
    ]


def test_f50_repeated_events_are_there_once_late_ones_are_taken_future_ones_refused(
    lake: Lake, tmp_path: Path
) -> None:
    future = int((datetime.now(UTC) + timedelta(hours=1)).timestamp())
    body = f"""interaction_id,user_id,item_id,time
e1,u,a,1700000000
e2,u,b,1600000000
e1,u,a,1700000000
e3,u,c,{future}
"""
    done = ingest(lake, written(tmp_path, "log.csv", body), "interactions")
    assert (done.inserted, done.repeated, done.refused) == (2, 1, 1)
    assert set(by_id(lake, "interactions", "interaction_id")) == {"e1", "e2"}
    assert "lies in the future" in refused_rows(lake)["reason"].to_pylist()[0]


# --- photos


def test_items_may_carry_their_photo_as_bytes_base64_or_a_path(tmp_path: Path) -> None:
    png = photo(1)
    written(tmp_path, "shots/a.png", png)
    parquet = tmp_path / "a.parquet"
    pq.write_table(pa.table({"item_id": ["a"], "photo": pa.array([png])}), parquet)
    text = base64.b64encode(png).decode()
    cases = [
        parquet,
        written(tmp_path, "a.csv", f"item_id,photo\na,{text}\n"),
        written(tmp_path, "b.jsonl", json.dumps({"item_id": "a", "photo": f"data:image/png;base64,{text}"})),
        written(tmp_path, "c.csv", "item_id,photo_path\na,shots/a.png\n"),
    ]
    for n, file in enumerate(cases):
        lake = Lake(tmp_path / f"tables{n}")
        assert ingest(lake, file, "items").inserted == 1
        row = by_id(lake, "photos")["a"]
        assert (row["bytes"], row["width"], row["height"], row["status"]) == (png, 11, 7, "ok")
        assert by_id(lake, "items")["a"]["photo_url"] == row["url"]


def test_an_item_with_a_bad_photo_stays_and_its_photo_is_refused(lake: Lake, tmp_path: Path) -> None:
    written(tmp_path, "good.png", photo(2))
    written(tmp_path, "bad.png", b"<html>")
    written(tmp_path.parent, "secret.png", photo(3))
    body = "item_id,photo_path\n1,good.png\n2,bad.png\n3,gone.png\n4,../secret.png\n5,\n6,/dev/zero\n"
    done = ingest(lake, written(tmp_path, "a.csv", body), "items")
    assert (done.inserted, done.refused, done.photos_refused) == (6, 4, 4)
    assert adds_up(done)
    assert set(by_id(lake, "photos")) == {"1"}
    told = {row["line"]: row["reason"] for row in refused_rows(lake, "photos").to_pylist()}
    assert set(told) == {3, 4, 5, 7}
    assert "not an image" in told[3]
    assert "is not a file" in told[4]
    assert "leaves the folder" in told[5]


def test_a_photos_table_of_its_own_refuses_what_is_no_photo(lake: Lake, tmp_path: Path) -> None:
    written(tmp_path, "1.png", photo(1))
    written(tmp_path, "2.png", photo(2, (5, 9)))
    body = "item_id,url,path\nx,https://shop/1.png,1.png\nx,,2.png\ny,,none.png\nz,,\n"
    done = ingest(lake, written(tmp_path, "p.csv", body), "photos")
    assert (done.read, done.inserted, done.refused, done.photos_refused) == (4, 2, 2, 0)
    rows = lake.table("photos").read().to_pylist()
    assert {(r["item_id"], r["url"], r["width"]) for r in rows} == {
        ("x", "https://shop/1.png", 11),
        ("x", "2.png", 5),
    }


def test_a_table_of_paths_takes_its_ids_from_the_file_names(lake: Lake, tmp_path: Path) -> None:
    written(tmp_path, "train/boots/b1.png", photo(1))
    written(tmp_path, "train/coats/c1.png", photo(2))
    body = "path,category_id\ntrain/boots/b1.png,Boots\ntrain/coats/c1.png,Coats\n,None\n"
    done = ingest(lake, written(tmp_path, "train.csv", body), "items", format="folder")
    assert (done.inserted, done.refused) == (2, 1)
    assert {k: r["category_id"] for k, r in by_id(lake, "items").items()} == {"b1": "Boots", "c1": "Coats"}
    assert set(by_id(lake, "photos")) == {"b1", "c1"}


def test_class_folders_become_items_with_photos(lake: Lake, tmp_path: Path) -> None:
    root = tmp_path / "shots"
    written(root, "Shoes/Boots/red.png", photo(1))
    written(root, "Shoes/low.jpg", _jpeg(4))
    written(root, "loose.png", photo(3))
    written(root, "Shoes/notes.txt", "not a photo")
    written(root, "Shoes/Boots/cut.png", photo(5)[:90])
    written(root, ".hidden/x.png", photo(6))
    written(root, "Shoes/.DS_Store", "x")
    done = ingest(lake, root, "items", attributes={"split": "test"})
    assert (done.read, done.inserted, done.refused) == (5, 3, 2)
    assert {k: (r["category_id"], r["photo_url"]) for k, r in by_id(lake, "items").items()} == {
        "red": ("Shoes > Boots", "Shoes/Boots/red.png"),
        "low": ("Shoes", "Shoes/low.jpg"),
        "loose": (None, "loose.png"),
    }
    assert by_id(lake, "photos")["red"]["bytes"] == photo(1)
    assert {Path(r["file"]).name for r in refused_rows(lake).to_pylist()} == {"notes.txt", "cut.png"}
    assert ingest(lake, root, "items", attributes={"split": "test"}) == Ingested(
        read=5, unchanged=3, refused=2, refused_by_reason=done.refused_by_reason
    )


def _jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(photo(number))).save(buffer, "JPEG")
    return buffer.getvalue()


def test_two_files_of_one_stem_are_not_mixed_up(tmp_path: Path) -> None:
    root = tmp_path / "shots"
    for n, name in enumerate(("a/1.png", "b/1.png", "b/1.jpg")):
        written(root, name, photo(n))
    by_stem, by_path = Lake(tmp_path / "t1"), Lake(tmp_path / "t2")
    done = ingest(by_stem, root, "items")
    assert (done.inserted, done.refused) == (1, 2)
    assert by_id(by_stem, "items")["1"]["category_id"] == "a"
    done = ingest(by_path, root, "items", ids="path")
    assert (done.inserted, done.refused) == (2, 1)
    assert set(by_id(by_path, "items")) == {"a/1", "b/1"}


# --- whatever comes

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from(["1.5", "-2", "yes", "2024-01-01", "a", "b", "\ud800", "x\0"]),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.fixed_dictionaries({n: anything for n in ("item_id", "price", "in_stock", "attributes")}),
        max_size=9,
    ),
    chunk=st.integers(1, 4),
)
def test_every_row_is_stored_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], chunk: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    file = written(folder, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    lake = Lake(folder / "tables")
    done = ingest(lake, file, "items", chunk_rows=chunk)
    assert done.read == len(rows)
    assert adds_up(done)
    stored = lake.table("items").count() if lake.table("items").exists() else 0
    assert stored == done.inserted
    assert refused_rows(lake).num_rows == done.refused + done.values_lost
    again = ingest(lake, file, "items", chunk_rows=chunk)
    assert (again.inserted, again.updated, again.refused) == (0, 0, done.refused)


# --- real photos


def test_fashion_mnist_comes_in_whole(lake: Lake, shared_data: Path, tmp_path: Path) -> None:
    file = shared_data / "fashion-mnist" / "t10k-images-idx3-ubyte.gz"
    names = [
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ]
    done = ingest(lake, file, "items", class_names=names, attributes={"split": "test"})
    assert done == Ingested(read=10_000, inserted=10_000)
    items = lake.table("items").read(columns=["item_id", "category_id", "photo_url", "attributes"])
    categories = dict(zip(items["item_id"].to_pylist(), items["category_id"].to_pylist(), strict=True))
    assert [categories[f"t10k-{n:06d}"] for n in range(4)] == ["Ankle boot", "Pullover", "Trouser", "Trouser"]
    assert set(items["attributes"].to_pylist()) == {'{"split": "test"}'}
    assert items["photo_url"].value_counts().to_pylist()[0]["counts"] == 1
    pixels = np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8)[16:].reshape(-1, 28, 28)
    photos = {r["item_id"]: r for r in lake.table("photos").read().to_pylist()}
    for n in (0, 1, 5000, 9999):
        row = photos[f"t10k-{n:06d}"]
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(row["bytes"]))), pixels[n])
        assert (row["width"], row["height"], row["status"]) == (28, 28, "ok")
    versions = lake.versions()
    assert ingest(lake, file, "items", class_names=names, attributes={"split": "test"}).unchanged == 10_000
    assert lake.versions() == versions


def test_real_ratings_come_in_and_again_change_nothing(lake: Lake, shared_data: Path, tmp_path: Path) -> None:
    lines = (shared_data / "ml-latest-small" / "ratings.csv").read_text("utf-8").splitlines()[:16_001]
    file = written(tmp_path, "ratings.csv", "\n".join([*lines, ""]))
    users = {line.partition(",")[0] for line in lines[1:]}
    mapping = MappingConfig(
        columns={"user_id": "userId", "item_id": "movieId", "value": "rating", "time": "timestamp"},
        constants={"kind": "rating"},
    )
    assert ingest(lake, file, "interactions", mapping, chunk_rows=6_000) == Ingested(
        read=16_000, inserted=16_000
    )
    rows = lake.table("interactions").read(columns=["user_id", "value", "time"])
    assert set(rows["user_id"].to_pylist()) == users and len(users) > 90
    assert {r["value"] for r in rows.slice(0, 1000).to_pylist()} <= {n / 2 for n in range(1, 11)}
    assert ingest(lake, file, "interactions", mapping, chunk_rows=6_000).unchanged == 16_000


@pytest.mark.parametrize("ready", [lambda file: file, lambda file: str(file)])
def test_a_source_may_be_a_path_or_text(lake: Lake, tmp_path: Path, ready: Callable[[Path], Any]) -> None:
    assert ingest(lake, ready(written(tmp_path, "u.csv", "user_id\nu1\n")), "users").inserted == 1


def test_words_for_not_known_make_no_brand_and_no_product_of_several(lake: Lake, tmp_path: Path) -> None:
    body = (
        "item_id,title,brand,category_id,item_group_id\n"
        "a,NULL,NULL,-,0\nb,nan,N/A,None,NULL\nc,Cup,Holm,Mugs,7\nd,Jug,0,0,7\n"
    )
    done = ingest(lake, written(tmp_path, "a.csv", body), "items")
    rows = by_id(lake, "items")
    names = ("title", "brand", "category_id", "item_group_id")
    assert [[rows[id][name] for name in names] for id in "abcd"] == [
        ["NULL", None, None, None],
        ["nan", None, None, None],
        ["Cup", "Holm", "Mugs", "7"],
        ["Jug", "0", "0", "7"],
    ]
    assert "1 × item_group_id: '0' is taken for `not known`, such as line 2" in map(str, done.notes)


def test_attributes_of_parquet_are_the_text_of_their_values(lake: Lake, tmp_path: Path) -> None:
    table = pa.table(
        {
            "item_id": ["a"],
            "weight": pa.array([Decimal("0.50")], pa.decimal128(6, 2)),
            "since": [date(2026, 3, 1)],
            "seen": pa.array([datetime(2026, 3, 1, 10, tzinfo=UTC)], pa.timestamp("us", "UTC")),
            "tags": [["x", "y"]],
            "new": [True],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    ingest(lake, tmp_path / "a.parquet", "items", MappingConfig(keep_others=True))
    assert json.loads(by_id(lake, "items")["a"]["attributes"]) == {
        "weight": "0.50",
        "since": "2026-03-01",
        "seen": "2026-03-01T10:00:00+00:00",
        "tags": '["x", "y"]',
        "new": "true",
    }


def test_lists_of_texts_are_a_description_of_several_lines_and_a_title_only_where_it_is_one(
    lake: Lake, tmp_path: Path
) -> None:
    rows = [
        {"item_id": "a", "title": ["Mug"], "description": ["Big.", " ", "Round."]},
        {"item_id": "b", "title": [], "description": []},
        {"item_id": "c", "title": ["Mug", "Cup"], "description": "One."},
    ]
    done = ingest(lake, written(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows))), "items")
    found = by_id(lake, "items")
    assert [(found[id]["title"], found[id]["description"]) for id in "abc"] == [
        ("Mug", "Big.\nRound."),
        (None, None),
        (None, "One."),
    ]
    assert done.values_lost == 1


def test_a_file_of_names_alone_is_told(lake: Lake, tmp_path: Path) -> None:
    done = ingest(lake, written(tmp_path, "a.csv", "item_id,title\n"), "items")
    assert [str(note) for note in done.notes] == ["the file has no rows: was its export cut short?"]
