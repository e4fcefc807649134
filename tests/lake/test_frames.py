"""Data frames are read as files are, and refused rows name the frame."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from etalage.config import MappingConfig
from etalage.errors import ConfigError, InputUnreadable
from etalage.lake.delta import Lake
from etalage.lake.ingest import Ingested, Whole, ingest
from tests.shops import drawn_photo

ACTS = pd.DataFrame(
    {
        "user_id": ["u1", "u2", "u2"],
        "item_id": [1, 2, 3],
        "kind": ["buy", "view", "buy"],
        "value": [1.0, 2.5, 3.0],
        "time": pd.to_datetime(["2024-01-01", "2024-01-02 03:04:05.678", "2024-01-03"], format="ISO8601"),
    }
)


class OnlyArrow:
    """What speaks Arrow's protocol, and is of no library that anybody knows."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


def reader(table: pa.Table) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=2))


ARROW = pa.Table.from_pandas(ACTS, preserve_index=False)
KINDS = {
    "pandas": ACTS,
    "polars": pl.from_pandas(ACTS),
    "lazy": pl.from_pandas(ACTS).lazy(),
    "arrow": ARROW,
    "reader": None,
    "any": OnlyArrow(ARROW),
}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "tables")


def stored(lake: Lake, table: str, *columns: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = lake.table(table).read(columns=columns).to_pylist()
    return sorted(rows, key=str)


def noted(done: Ingested, word: str) -> str:
    """The one note that says it."""
    (found,) = [str(note) for note in done.notes if word in str(note)]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_frame_is_the_same_rows_as_its_file(lake: Lake, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "acts.csv"
    ACTS.to_csv(file, index=False)
    ingest(lake, file, "interactions")
    frame = reader(ARROW) if kind == "reader" else KINDS[kind]
    done = ingest(lake, frame, "interactions")  # type: ignore[arg-type]
    assert (done.read, done.inserted, done.unchanged) == (3, 0, 3)


def test_a_frame_that_is_loaded_twice_doubles_nothing(lake: Lake) -> None:
    again = pd.concat([ACTS, ACTS.iloc[:1]])
    assert ingest(lake, again, "interactions").inserted == 4
    assert ingest(lake, again, "interactions").unchanged == 4
    assert lake.table("interactions").count() == 4


def test_refused_rows_name_the_frame_and_the_position(lake: Lake) -> None:
    items = pd.DataFrame({"item_id": ["a", None, "c"], "price": ["1.50", "2", "cheap"]}, index=[7, 8, 9])
    done = ingest(lake, items, "items", name="prices")
    assert (done.inserted, done.refused, done.values_lost) == (2, 1, 1)
    assert done.first_refused == {"item_id: is missing": "row 1: item_id: is missing"}
    assert "such as row 2: 'cheap'" in noted(done, "cannot be read")
    rows = stored(lake, "refused", "file", "line")
    assert rows == [{"file": "frame 'prices'", "line": 1}, {"file": "frame 'prices'", "line": 2}]


def test_a_mended_frame_takes_its_refusals_away(lake: Lake) -> None:
    broken = ACTS.assign(time=["2024-01-01", "whenever", "2024-01-03"])
    assert ingest(lake, broken, "interactions", name="acts").refused == 1
    ingest(lake, ACTS, "interactions", name="others")
    assert lake.table("refused").count() == 1
    ingest(lake, ACTS, "interactions", name="acts")
    assert lake.table("refused").count() == 0


def test_whole_numbers_with_gaps_are_no_floats(lake: Lake) -> None:
    items = pd.DataFrame(
        {
            "item_id": [17, 18, 19],
            "item_group_id": [4.0, np.nan, 4.0],
            "brand": [np.nan, np.nan, np.nan],
            "price": [1.5, np.nan, 2.0],
        }
    )
    done = ingest(lake, items, "items")
    assert stored(lake, "items", "item_id", "item_group_id", "brand", "price") == [
        {"item_id": "17", "item_group_id": "4", "brand": None, "price": 1.5},
        {"item_id": "18", "item_group_id": None, "brand": None, "price": None},
        {"item_id": "19", "item_group_id": "4", "brand": None, "price": 2.0},
    ]
    assert noted(done, "3.0").startswith("item_group_id:")


@pytest.mark.parametrize(
    "ids",
    [
        pd.Series([1, None, 3], dtype="Int64"),
        pd.Series([1.0, np.nan, 3.0]),
        pd.Series([1, None, 3], dtype=object),
        pd.Series([1, None, 3], dtype="int64[pyarrow]"),
        pd.Series([1, pd.NaT, "3"], dtype=object),
        pd.Series([np.int64(1), pd.NA, np.float64(3)], dtype=object),
    ],
    ids=["Int64", "float", "object", "arrow", "mixed", "numpy"],
)
def test_an_id_is_its_digits_in_every_type_of_pandas(lake: Lake, ids: Any) -> None:
    done = ingest(lake, pd.DataFrame({"user_id": ids, "item_id": "a"}), "interactions")
    assert {row["user_id"] for row in stored(lake, "interactions", "user_id")} == {"1", "3"}
    assert done.first_refused == {"user_id: is missing": "row 1: user_id: is missing"}


def test_a_column_of_many_types_costs_its_bad_rows_alone(lake: Lake) -> None:
    done = ingest(lake, pd.DataFrame({"item_id": [1, "b", 2.5, ["c"], b"d"]}), "items")
    assert [row["item_id"] for row in stored(lake, "items", "item_id")] == ["1", "b"]
    assert (done.inserted, done.refused) == (2, 3)


@pytest.mark.parametrize("polars", [False, True])
def test_times_keep_their_zone_and_those_without_are_utc(lake: Lake, polars: bool) -> None:
    frame = pd.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"]})
    frame["time"] = pd.to_datetime(["2024-07-01 12:00", None])
    zoned = frame.assign(time=frame["time"].dt.tz_localize("Europe/Berlin"), user_id=["c", "d"])
    for one in (frame, zoned):
        ingest(lake, pl.from_pandas(one) if polars else one, "interactions")
    found = {row["user_id"]: row["time"] for row in stored(lake, "interactions", "user_id", "time")}
    noon, ten = datetime(2024, 7, 1, 12, tzinfo=UTC), datetime(2024, 7, 1, 10, tzinfo=UTC)
    assert found == {"a": noon, "b": None, "c": ten, "d": None}


def test_the_shops_time_zone_holds_for_frames_too(lake: Lake) -> None:
    ingest(lake, ACTS.iloc[:1], "interactions", MappingConfig(timezone="Europe/Berlin"))
    (row,) = stored(lake, "interactions", "time")
    assert row["time"] == datetime(2023, 12, 31, 23, tzinfo=UTC)


def test_categories_are_their_words(lake: Lake) -> None:
    kinds = ["view", "buy", None]
    frame = pd.DataFrame({"user_id": ["a", "b", "c"], "item_id": ["x", "y", "z"], "kind": kinds})
    lazy = pl.from_pandas(frame.assign(user_id=["d", "e", "f"]))
    done = ingest(lake, frame.astype({"kind": "category", "item_id": "category"}), "interactions")
    ingest(lake, lazy.with_columns(pl.col("kind").cast(pl.Enum(["buy", "view"]))), "interactions")
    ingest(lake, lazy.with_columns(pl.col("kind").cast(pl.Categorical), user_id="item_id"), "interactions")
    found = [row["kind"] for row in stored(lake, "interactions", "user_id", "kind")]
    assert found == ["view", "buy", "view"] * 3
    assert "row 2" in noted(done, "there is none; taken for a view")


@pytest.mark.parametrize("polars", [False, True])
def test_lists_are_walked_and_lists_of_links_are_all_photos(lake: Lake, polars: bool) -> None:
    orders = pd.DataFrame(
        {"user_id": ["a", "b"], "lines": [[{"sku": 1, "n": 2}, {"sku": 2, "n": 1}], [{"sku": 3, "n": 1}]]}
    )
    items = pd.DataFrame({"item_id": ["x"], "photo_url": [["http://s.test/1.jpg", "http://s.test/2.jpg"]]})
    mapping = MappingConfig(columns={"item_id": "lines[].sku", "value": "lines[].n"})
    as_asked = pl.from_pandas if polars else pd.DataFrame
    assert ingest(lake, as_asked(orders), "interactions", mapping).inserted == 3
    assert {row["item_id"] for row in stored(lake, "interactions", "item_id")} == {"1", "2", "3"}
    ingest(lake, as_asked(items), "items")
    assert len(stored(lake, "photos", "url")) == 1
    assert stored(lake, "items", "photo_url") == [{"photo_url": "http://s.test/1.jpg"}]


def test_photos_come_as_bytes_and_bad_ones_name_their_row(lake: Lake) -> None:
    done = ingest(lake, pd.DataFrame({"item_id": ["a", "b"], "photo": [drawn_photo(1), b"no"]}), "items")
    assert (done.inserted, done.photos_refused) == (2, 1)
    assert lake.table("photos").count() == 1


def test_a_named_index_is_a_column_and_another_is_said_to_be_ignored(lake: Lake) -> None:
    named = pd.DataFrame({"title": ["A", "B"]}, index=pd.Index([1, 2], name="item_id"))
    assert "'item_id' is read as a column" in noted(ingest(lake, named, "items"), "index")
    levels = pd.MultiIndex.from_tuples([(3, "x"), (4, "y")], names=["item_id", None])
    both = [str(note) for note in ingest(lake, named.set_axis(levels), "items").notes if "index" in note.what]
    assert [note.partition(";")[0] for note in both] == [
        "the index 'item_id' is read as a column",
        "an index without a name is ignored, such as 'x'",
    ]
    unnamed = pd.DataFrame({"item_id": [5]}, index=["five"])
    assert "is ignored, such as 'five'" in noted(ingest(lake, unnamed, "items"), "an index")
    assert [row["item_id"] for row in stored(lake, "items", "item_id")] == ["1", "2", "3", "4", "5"]
    assert not ingest(lake, pd.DataFrame({"item_id": [6]}), "items").notes


TWICE = pd.DataFrame([["a", "b"]], columns=["item_id", "item_id"])
CLASH = pd.DataFrame({"item_id": ["a"]}, index=pd.Index(["b"], name="item_id"))
LEVELS = pd.DataFrame([["a"]], columns=pd.MultiIndex.from_tuples([("item", "id")]))
PERIODS = pd.DataFrame({"item_id": ["a"], "updated_at": pd.PeriodIndex(["2024-01"], freq="M")})


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (TWICE, "several columns are called 'item_id'"),
        (pa.table([["a"], ["b"]], names=["item_id", "item_id"]), "several columns are called 'item_id'"),
        (CLASH, "both called 'item_id'"),
        (LEVELS, "several levels"),
        (PERIODS, "column 'updated_at' is of the type pandas.period"),
        (pl.Series(["a"]), "Arrow cannot read it"),
        (pd.DataFrame({"sku": ["a"]}), r"Say which they are, columns=\{'item_id': 'sku'\}"),
    ],
)
def test_a_frame_that_can_mean_several_things_is_refused(lake: Lake, frame: Any, says: str) -> None:
    with pytest.raises(InputUnreadable, match=says) as refused:
        ingest(lake, frame, "items", name="stock")
    assert str(refused.value).startswith("frame 'stock': ")
    assert not lake.table("items").exists()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ([ACTS, ACTS], "one frame at a time"),
        ([{"item_id": "a"}], "Table.from_pylist"),
        ({"item_id": ["a"]}, "dict: neither a path"),
        (pd.Series(["a"]), "one column"),
        (7, "int: neither a path"),
    ],
)
def test_what_is_neither_path_nor_frame_says_what_would_be(lake: Lake, source: Any, says: str) -> None:
    with pytest.raises(InputUnreadable, match=says):
        ingest(lake, source, "items")


@pytest.mark.parametrize("options", [{"format": "csv"}, {"delimiter": ";"}, {"encoding": "cp1252"}])
def test_what_is_about_files_cannot_be_said_of_a_frame(lake: Lake, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is about files"):
        ingest(lake, ACTS, "interactions", **options)
    with pytest.raises(ConfigError, match="a file is called by its path"):
        ingest(lake, "acts.csv", "interactions", name="acts")


def test_a_whole_catalogue_may_be_a_frame(lake: Lake) -> None:
    ingest(lake, pd.DataFrame({"item_id": ["a", "b", "c"]}), "items")
    less = pd.DataFrame({"item_id": ["a", "b"]})
    assert "whole=True" in noted(ingest(lake, less, "items"), "not in this frame")
    assert ingest(lake, less, "items", whole=Whole()).removed == 1


def test_a_frame_without_rows_says_so(lake: Lake) -> None:
    done = ingest(lake, ACTS.iloc[:0], "interactions")
    assert done.read == 0
    assert noted(done, "no rows") == "the frame has no rows"
