"""Rows of one key become one: what is empty erases nothing, what is older overwrites nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.lake.coalescing import coalesced
from etalage.lake.delta import Lake
from etalage.lake.schema import CLEARED, TABLES

SPEC = TABLES["items"]


def table(rows: list[dict[str, Any]]) -> pa.Table:
    names = [name for name in (*SPEC.names, CLEARED) if any(name in row for row in rows)]
    types = {name: SPEC.schema.field(name).type for name in SPEC.names} | {CLEARED: pa.list_(pa.string())}
    return pa.table({name: pa.array([row.get(name) for row in rows], types[name]) for name in names})


def day(n: int) -> datetime:
    return datetime(2025, 1, n, tzinfo=UTC)


def test_the_last_row_that_says_something_counts_in_each_column() -> None:
    rows, older = coalesced(
        table([
            {"item_id": "a", "title": "Mug", "price": 5.0, "attributes": '{"x": "1"}', "photo_url": "1"},
            {"item_id": "b", "title": "Rug", "price": None, "attributes": None, "photo_url": None},
            {"item_id": "a", "title": None, "price": 6.0, "attributes": '{"y": "2"}', "photo_url": "2"},
        ]), SPEC,
    )  # fmt: skip
    assert older == 0
    assert rows.to_pylist() == [
        {"item_id": "b", "title": "Rug", "price": None, "attributes": None, "photo_url": None},
        {
            "item_id": "a",
            "title": "Mug",
            "price": 6.0,
            "attributes": '{"x": "1", "y": "2"}',
            "photo_url": "1",
        },
    ]


def test_a_null_that_is_meant_erases_until_a_later_row_says_otherwise() -> None:
    first = {"item_id": "a", "title": "Mug", "price": 5.0}
    unknown = {"item_id": "a", CLEARED: ["price"]}
    rows, _ = coalesced(table([first, unknown]), SPEC)
    assert rows.to_pylist() == [{"item_id": "a", "title": "Mug", "price": None, CLEARED: ["price"]}]
    rows, _ = coalesced(table([first, unknown, {"item_id": "a", "price": 7.0}]), SPEC)
    assert rows.to_pylist() == [{"item_id": "a", "title": "Mug", "price": 7.0, CLEARED: None}]


def test_a_row_with_an_earlier_time_than_one_before_it_is_left_out() -> None:
    rows, older = coalesced(
        table([
            {"item_id": "a", "price": 1.0, "source_updated_at": day(2)},
            {"item_id": "a", "price": 2.0, "source_updated_at": day(1)},
            {"item_id": "b", "price": 1.0, "source_updated_at": day(1)},
            {"item_id": "b", "price": 2.0, "source_updated_at": None},
            {"item_id": "b", "price": 3.0, "source_updated_at": day(1)},
        ]), SPEC,
    )  # fmt: skip
    assert older == 1
    assert {row["item_id"]: row["price"] for row in rows.to_pylist()} == {"a": 1.0, "b": 3.0}


cell = st.none() | st.sampled_from(["x", "y"])
row = st.fixed_dictionaries(
    {
        "item_id": st.sampled_from("ab"),
        "title": cell,
        "brand": cell,
        "attributes": st.none()
        | st.dictionaries(st.sampled_from("pq"), st.sampled_from("12")).map(json.dumps),
        "source_updated_at": st.none() | st.integers(1, 3).map(day),
        CLEARED: st.none() | st.lists(st.sampled_from(["title", "attributes.p"]), max_size=2, unique=True),
    }
)


def one_by_one(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same in plain steps: what each row does to what is there."""
    stored: dict[str, dict[str, Any]] = {}
    for new in rows:
        cleared = [name for name in new[CLEARED] or [] if name != "title" or new["title"] is None]
        there = stored.get(new["item_id"])
        if there is None:
            there = stored[new["item_id"]] = dict.fromkeys((*new, "newest"))
        given_time = new["source_updated_at"]
        if given_time and there["newest"] and given_time < there["newest"]:
            continue
        there["newest"] = max(filter(None, (given_time, there["newest"])), default=None)
        for name, value in new.items():
            if name == "attributes":
                old = json.loads(there[name] or "{}")
                if "attributes.p" in cleared:
                    old.pop("p", None)
                if value is not None or there[name] is not None:
                    there[name] = json.dumps(old | json.loads(value or "{}"), sort_keys=True)
            elif name != CLEARED and (value is not None or name in cleared):
                there[name] = value
    return {
        key: {n: v for n, v in row.items() if n not in (CLEARED, "newest")} for key, row in stored.items()
    }


@settings(deadline=None)
@given(st.lists(row, min_size=1, max_size=7))
def test_rows_at_once_are_rows_one_by_one(rows: list[dict[str, Any]]) -> None:
    for one in rows:
        if one["title"] is not None and one[CLEARED]:
            one[CLEARED] = [name for name in one[CLEARED] if name != "title"]
        if one["attributes"] is not None:
            one["attributes"] = json.dumps(json.loads(one["attributes"]), sort_keys=True)
    found, _ = coalesced(table(rows), SPEC)
    wanted = one_by_one(rows)
    names = [name for name in found.column_names if name != CLEARED]
    assert {r["item_id"]: {n: r[n] for n in names} for r in found.to_pylist()} == {
        key: {n: r[n] for n in names} for key, r in wanted.items()
    }


def test_over_what_is_stored_an_empty_cell_keeps_it_and_an_older_row_is_left(tmp_path: Path) -> None:
    items = Lake(tmp_path / "tables").table("items")
    mug = {
        "item_id": "a",
        "title": "Mug",
        "price": 5.0,
        "attributes": '{"x": "1"}',
        "source_updated_at": day(2),
    }
    items.merge(table([mug]))
    done = items.merge(table([{"item_id": "a", "price": None, "attributes": '{"y": "2"}'}]), empty="keeps")
    assert (done.updated, done.older) == (1, 0)
    done = items.merge(table([{"item_id": "a", "price": 9.0, "source_updated_at": day(1)}]), empty="keeps")
    assert (done.updated, done.older, done.unchanged) == (0, 1, 0)
    (stored,) = items.read().to_pylist()
    assert (stored["title"], stored["price"], stored["attributes"]) == ("Mug", 5.0, '{"x": "1", "y": "2"}')
    assert stored["source_updated_at"] == day(2)
    version = items.version()
    items.merge(table([{"item_id": "a", "title": None, "price": 5.0}]), empty="keeps")
    assert items.version() == version, "an empty cell is no change"
    items.merge(table([{"item_id": "a", "title": None, "price": None, CLEARED: ["price"]}]), empty="keeps")
    (stored,) = items.read().to_pylist()
    assert (stored["title"], stored["price"]) == ("Mug", None)
    items.merge(table([{"item_id": "a", "title": None, "price": 4.0}]))
    (stored,) = items.read().to_pylist()
    assert (stored["title"], stored["price"]) == (None, 4.0)
