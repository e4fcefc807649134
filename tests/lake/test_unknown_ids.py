"""Ids that the catalogue lacks: how many acts, which, and what may be meant; nothing is changed."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.lake.delta import Lake
from etalage.lake.ingest import ingest
from etalage.lake.unknown_ids import IdCounts, Repairs, unknown_ids, unknown_in_tables


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "tables")


def csv(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, "utf-8")
    return file


def counted(*ids: str) -> pa.Table:
    counts = IdCounts()
    counts.add(pa.array(ids))
    return counts.table()


@pytest.mark.parametrize(
    ("unknown", "known", "how"),
    [
        ("3.0", "3", "a fraction .0"),
        ("3", "3.00", "a fraction .0"),
        (" SKU1\t", "SKU1", "blanks around them"),
        ("\ufeffSKU1", "SKU1", "blanks around them"),
        ("sku1", "SKU1", "small and capital letters"),
        ("7", "007", "leading zeros"),
        ("'007", "007", "a spreadsheet's apostrophe"),
        ("cafe\u0301", "caf\u00e9", "their Unicode form"),
        ("\uff21\uff11", "A1", "their Unicode form"),
        ("'sku1 ", "SKU1", "several of these things"),
    ],
)
def test_the_likeliest_repair_is_named(unknown: str, known: str, how: str) -> None:
    found = unknown_ids(
        "item_id", counted(unknown, unknown, "other", known), pa.array([known, "other", "more"])
    )
    assert found is not None
    assert (found.acts, found.of, found.ids) == (2, 4, 1)
    assert found.examples == ((unknown, 2, known),)
    assert found.repairs == ((how, 2),)
    assert f"did you mean {known!r}?" in str(found) and f"{how} (2 acts)" in str(found)


def test_two_known_ids_that_are_alike_are_no_repair() -> None:
    assert Repairs(["7", "007"]).of("07") is None
    assert Repairs(["7", "x"]).of("07") == "7"
    assert Repairs(["7", "x"]).of("nothing like it") is None


def test_those_that_may_be_repaired_are_shown_first_and_the_most_frequent_before_others() -> None:
    found = unknown_ids("item_id", counted(*["gone"] * 5, *["2.0"] * 2, "3.0"), pa.array(["2", "3"]))
    assert found is not None
    assert [one for one, _, _ in found.examples] == ["2.0", "3.0", "gone"]
    assert str(found).startswith("8 of 8 acts (100%) are on 3 item_ids that the catalogue lacks")


def test_a_few_of_many_acts_are_not_called_none() -> None:
    found = unknown_ids("item_id", counted("gone", *["2"] * 999), pa.array(["2"]))
    assert str(found).startswith("1 of 1,000 acts (less than 1%) are on 1 item_ids")


def test_known_ids_are_none_of_it() -> None:
    assert unknown_ids("item_id", counted("a", "a", "b"), pa.array(["a", "b", "c"])) is None


@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3), unique=True))
def test_every_act_is_known_or_counted(acts: list[str], known: list[str]) -> None:
    counts = IdCounts()
    for one in acts:
        counts.add(pa.array([one, None]))
    found = unknown_ids("item_id", counts.table(), pa.array(known, pa.string()))
    unknown = [one for one in acts if one not in known]
    assert (0 if found is None else found.acts) == len(unknown)
    assert (0 if found is None else found.ids) == len(set(unknown))


def test_a_load_of_acts_tells_items_shoppers_and_gaps(lake: Lake, tmp_path: Path) -> None:
    ingest(lake, csv(tmp_path, "items.csv", "item_id\nA1\nA2\n"), "items")
    ingest(lake, csv(tmp_path, "users.csv", "user_id\nann\n"), "users")
    day = "view,2025-01-01"
    body = f"user_id,item_id,kind,time\nann,A1,{day}\nAnn,a1,{day}\nNone,A2,{day}\nNone,A2,{day}\n"
    done = ingest(lake, csv(tmp_path, "acts.csv", body), "interactions")
    told = [str(note) for note in done.notes]
    assert told[0] == (
        "1 of 4 acts (25%) are on 1 item_ids that the catalogue lacks, and count for nothing: 'a1' (1; did "
        "you mean 'A1'?). They differ from known ones in small and capital letters (1 acts): ids are never "
        "changed, write them alike"
    )
    assert told[1].startswith(
        "3 of 4 acts (75%) are of 2 user_ids that the table users lacks: 'Ann' (1; did you"
    )
    assert told[2].startswith("2 acts have the user_id 'None': is it a gap in the file?")
    assert "[ingest.interactions.skip] user_id = ['None']" in told[2]
    assert unknown_in_tables(lake) == told
    stored = lake.table("interactions").read().to_pylist()
    assert sorted((r["user_id"], r["item_id"]) for r in stored) == [
        ("Ann", "a1"), ("None", "A2"), ("None", "A2"), ("ann", "A1"),
    ]  # fmt: skip


def test_without_a_catalogue_or_acts_nothing_is_unknown(lake: Lake, tmp_path: Path) -> None:
    assert unknown_in_tables(lake) == []
    body = "user_id,item_id,kind,time\nann,A1,view,2025-01-01\n"
    assert ingest(lake, csv(tmp_path, "acts.csv", body), "interactions").notes == []
    assert unknown_in_tables(lake) == []
