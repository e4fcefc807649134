"""Published files of behaviour become rows of our tables; what is malformed is refused with its line."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.config import MappingConfig
from etalage.errors import InputUnreadable
from etalage.lake.behaviour_files import negatives
from etalage.lake.delta import Lake
from etalage.lake.ingest import Ingested, ingest, refused_rows
from etalage.lake.schema import TABLES
from etalage.lake.transactions import households, journey, products, receipts


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "tables")


def load(lake: Lake, file: Path, content: str, format: str, **options: Any) -> Ingested:
    file.write_bytes(content.encode())
    return ingest(lake, file, "interactions", format=format, **options)


def rows(lake: Lake) -> list[dict[str, Any]]:
    return sorted(lake.table("interactions").read().to_pylist(), key=lambda row: row["interaction_id"])


def told(lake: Lake) -> list[tuple[Any, ...]]:
    columns = ("user_id", "item_id", "kind", "value", "time")
    return sorted(tuple(row[name] for name in columns) for row in rows(lake))


RATINGS = MappingConfig(
    columns={"user_id": "userId", "item_id": "movieId", "value": "rating", "time": "timestamp"},
    constants={"kind": "rating"},
)


def test_seconds_since_1970_and_windows_line_ends_are_read_by_a_mapping(lake: Lake, tmp_path: Path) -> None:
    content = "userId,movieId,rating,timestamp\r\n1,47,5.0,964983815\r\n9,1,0.5,1537799250\r\n"
    assert load(lake, tmp_path / "r.csv", content, "csv", mapping=RATINGS).inserted == 2
    assert told(lake) == [
        ("1", "47", "rating", 5.0, datetime(2000, 7, 30, 19, 3, 35, tzinfo=UTC)),
        ("9", "1", "rating", 0.5, datetime(2018, 9, 24, 14, 27, 30, tzinfo=UTC)),
    ]


def test_leave_one_out_lines_are_ratings(lake: Lake, tmp_path: Path) -> None:
    done = load(lake, tmp_path / "x.train.rating", "0\t12\t5\n0\t7\t3312\r\n\n1\t7\t0\t964983815\n", "ncf")
    assert (done.read, done.inserted) == (3, 3)
    when = datetime(2000, 7, 30, 19, 3, 35, tzinfo=UTC)
    assert told(lake) == [
        ("0", "12", "rating", 5.0, None),
        ("0", "7", "rating", 3312.0, None),
        ("1", "7", "rating", 0.0, when),
    ]


def test_a_sequence_keeps_its_order_without_times(lake: Lake, tmp_path: Path) -> None:
    load(lake, tmp_path / "s.txt", "u2 z a z\nu1 b\n", "sequences", chunk_rows=2)
    assert [(row["user_id"], row["item_id"]) for row in rows(lake)] == [
        ("u1", "b"), ("u2", "z"), ("u2", "a"), ("u2", "z")]  # fmt: skip
    assert {(row["kind"], row["value"], row["time"]) for row in rows(lake)} == {("view", None, None)}
    again = ingest(lake, tmp_path / "s.txt", "interactions", format="sequences")
    assert (again.inserted, again.unchanged) == (0, 4)


def test_each_member_of_a_rated_set_has_the_stars_of_the_set(lake: Lake, tmp_path: Path) -> None:
    content = (
        "userId,movieId_1,movieId_2,movieId_3,rating,timestamp\n"
        "7fd,1265,2628,6299,4.0,2016-03-12 22:10:24\n"
        "7fd,1405,,68,2.5,2016-03-12 22:10:42\n"
    )
    done = load(lake, tmp_path / "set.csv", content, "set_ratings")
    assert done.inserted == 5
    first, later = (datetime(2016, 3, 12, 22, 10, second, tzinfo=UTC) for second in (24, 42))
    assert told(lake) == [
        ("7fd", "1265", "set_rating", 4.0, first), ("7fd", "1405", "set_rating", 2.5, later),
        ("7fd", "2628", "set_rating", 4.0, first), ("7fd", "6299", "set_rating", 4.0, first),
        ("7fd", "68", "set_rating", 2.5, later)]  # fmt: skip


def test_all_set_ratings_are_read(lake: Lake, shared_data: Path) -> None:
    file = shared_data / "learning-from-sets-2019" / "set_ratings.csv"
    done = ingest(lake, file, "interactions", format="set_ratings", chunk_rows=40_000)
    assert (done.inserted, done.refused) == (5 * 29_516, 0)
    table = lake.table("interactions").read()
    assert len(set(table["user_id"].to_pylist())) == 854
    assert len(set(table["item_id"].to_pylist())) == 12_549


@pytest.mark.parametrize(
    ("format", "content", "line", "reason"),
    [
        ("ncf", "0\t1\t5\n0\t1\n", 2, "has 2 fields"),
        ("ncf", "0\t1\t5\n\n0\t\t3\n", 3, "fields"),
        ("ncf", "0\t1\tfive\n1\t1\t5\n", 1, "'five' is not a number"),
        ("sequences", "u a b\nlone\n", 2, "has a user but no item"),
        (
            "set_ratings",
            "userId,movieId_1,rating,timestamp\nu,5,4,2016-03-12\nu,,4,2016-03-12\n",
            3,
            "item_id",
        ),
        ("set_ratings", "userId,movieId_1,rating,timestamp\nu,5,x,2016-03-12\n", 2, "'x' is not a number"),
    ],
)
def test_a_malformed_line_is_refused_with_its_number(
    lake: Lake, tmp_path: Path, format: str, content: str, line: int, reason: str
) -> None:
    done = load(lake, tmp_path / "x", content, format)
    assert done.refused == 1 and done.inserted == done.read - 1
    refused = refused_rows(lake, "interactions").to_pylist()
    assert refused[0]["line"] == line and reason in refused[0]["reason"]


def test_a_line_that_is_not_utf8_is_refused(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_bytes(b"u a\nv \xff b\nw c\n")
    done = ingest(lake, tmp_path / "s.txt", "interactions", format="sequences")
    assert (done.inserted, done.refused) == (2, 1)
    assert "not UTF-8" in refused_rows(lake)["reason"][0].as_py()


def test_these_formats_name_their_columns_but_a_constant_kind_counts(lake: Lake, tmp_path: Path) -> None:
    mapping = MappingConfig(columns={"user_id": "userId"}, constants={"kind": "listen"})
    load(lake, tmp_path / "s.txt", "u a\n", "sequences", mapping=mapping)
    assert rows(lake)[0]["kind"] == "listen"


def test_these_formats_fill_interactions_alone(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("u a\n")
    with pytest.raises(InputUnreadable, match="sequences fills interactions, not items"):
        ingest(lake, tmp_path / "s.txt", "items", format="sequences")
    with pytest.raises(InputUnreadable, match="ncf, pairs, sequences, set_ratings"):
        ingest(lake, tmp_path / "s.txt", "interactions")
    with pytest.raises(InputUnreadable, match="no column rating, timestamp"):
        load(lake, tmp_path / "x", "userId,movieId_1\n1,2\n", "set_ratings")


IDS = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=4)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(IDS, st.lists(IDS, min_size=1, max_size=5)), max_size=8), st.integers(1, 7))
def test_any_sequences_are_read_back_whatever_the_chunks(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, list[str]]], chunk: int
) -> None:
    from etalage.lake.behaviour_files import sequence_chunks

    file = tmp_path_factory.mktemp("s") / "s.txt"
    file.write_text("".join(f"{user} {' '.join(items)}\n" for user, items in lines), encoding="utf-8")
    chunks = list(sequence_chunks(file, chunk))
    assert not any(part.refused for part in chunks)
    users, items_read = (
        [value for part in chunks for value in part.columns[name]] for name in ("user_id", "item_id")
    )
    found = list(zip(users, items_read, strict=True))
    first = lines[0][0].removeprefix("\ufeff") if lines else ""
    assert found == [
        (first if n == 0 else user, item) for n, (user, items) in enumerate(lines) for item in items
    ]
    assert [n for part in chunks for n in part.lines] == [
        n for n, (_, items) in enumerate(lines, start=1) for _ in items]  # fmt: skip


def test_published_negatives_stand_beside_their_pair(tmp_path: Path) -> None:
    file = tmp_path / "x.test.negative"
    file.write_text("(0,40)\t11\t526\r\n\n(u 7,i 9)\t1\n")
    assert list(negatives(file)) == [(1, "0", "40", ["11", "526"]), (3, "u 7", "i 9", ["1"])]
    file.write_text("(0,40)\t11\n0,40\t5\n")
    with pytest.raises(InputUnreadable, match="line 2"):
        list(negatives(file))


def till(folder: Path) -> Path:
    pq.write_table(
        pa.table({
            "household_id": [900, 900, 7], "store_id": [1, 1, 2], "basket_id": [31, 31, 32],
            "product_id": [5, 6, 5], "quantity": [1, 3, 0], "sales_value": [0.5, 2.0, 0.0],
            "coupon_disc": [0.0, 0.4, 0.0], "coupon_match_disc": [0.0, 0.0, 0.1],
            "transaction_timestamp": pa.array([1, 2, 1_500_000_000_123_456_789], pa.timestamp("ns")),
        }),
        folder / "transactions.parquet",
    )  # fmt: skip
    pq.write_table(
        pa.table({
            "product_id": [5, 6], "manufacturer_id": [2, 69], "department": ["GROCERY", "MISC"],
            "brand": ["National", "Private"], "product_category": ["ICE > COLD", None],
            "product_type": ["CUBED", None], "package_size": ["22 LB", None],
        }),
        folder / "products.parquet",
    )  # fmt: skip
    pq.write_table(
        pa.table({"household_id": [900], "age": ["65+"], "kids": [None]}), folder / "demographics.parquet"
    )
    return folder


def test_till_receipts_become_items_users_and_interactions(lake: Lake, tmp_path: Path) -> None:
    for _ in range(2):  # loading again changes nothing
        for name, part in journey(till(tmp_path), rows=2):
            lake.table(name).merge(part)
    found = rows(lake)
    assert [(r["interaction_id"], r["user_id"], r["item_id"], r["kind"], r["value"]) for r in found] == [
        ("31:5", "900", "5", "buy", 1.0), ("31:6", "900", "6", "buy_with_coupon", 3.0),
        ("32:5", "7", "5", "buy_with_coupon", 0.0)]  # fmt: skip
    assert found[2]["time"] == datetime.fromtimestamp(1_500_000_000, UTC).replace(microsecond=123_456)
    items = sorted(lake.table("items").read().to_pylist(), key=lambda row: row["item_id"])
    assert [(i["category_id"], i["brand"], i["title"]) for i in items] == [
        ("GROCERY > ICE/COLD > CUBED", "National", "CUBED"), ("MISC", "Private", None)]  # fmt: skip
    assert [json.loads(i["attributes"]) for i in items] == [
        {"manufacturer": "2", "package": "22 LB"}, {"manufacturer": "69"}]  # fmt: skip
    assert lake.table("users").read().to_pylist() == [{"user_id": "900", "attributes": '{"age": "65+"}'}]


def test_the_complete_journey_is_read_in_chunks_that_fit_the_schema(shared_data: Path) -> None:
    folder = shared_data / "complete-journey"
    count: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for name, part in journey(folder, rows=200_000):
        count[name] += part.num_rows
        assert part.num_rows <= 200_000
        assert all(TABLES[name].schema.field(field.name).type == field.type for field in part.schema)
        if name == "interactions":
            kinds.update({n["values"]: n["counts"] for n in part["kind"].value_counts().to_pylist()})
    assert count == {"items": 92_331, "users": 801, "interactions": 1_469_307}
    assert kinds == {"buy": 1_469_307 - 21_889, "buy_with_coupon": 21_889}


def test_files_that_are_no_receipts_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputUnreadable, match=r"gone\.parquet: no such file"):
        list(receipts(tmp_path / "gone.parquet"))
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(InputUnreadable, match=r"x\.parquet: not a Parquet file"):
        list(products(tmp_path / "x.parquet"))
    pq.write_table(pa.table({"household": [1]}), tmp_path / "y.parquet")
    with pytest.raises(InputUnreadable, match="no column household_id; it has household"):
        list(households(tmp_path / "y.parquet"))
    pq.write_table(pa.table({"household_id": [1, None], "age": ["7", "8"]}), tmp_path / "z.parquet")
    with pytest.raises(InputUnreadable, match="household_id: 1 row"):
        list(households(tmp_path / "z.parquet"))
