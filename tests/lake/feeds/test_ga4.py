"""Google Analytics 4 as BigQuery exports it: an act for each item of an event."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etalage.config import MappingConfig
from etalage.errors import InputUnreadable
from etalage.lake.delta import Lake
from etalage.lake.ingest import ingest
from tests.lake.feeds.conftest import Load, LoadedFile

MICROS = 1741600000123456


def event(name: str = "view_item", items: Any = ("A",), **more: Any) -> dict[str, Any]:
    listed = [{"item_id": item, "quantity": 1} if isinstance(item, str) else item for item in items or ()]
    return {
        "event_date": "20250310",
        "event_timestamp": str(MICROS),
        "event_name": name,
        "event_params": [],
        "user_pseudo_id": "p.1",
        "user_id": None,
        "items": listed if items is not None else None,
        **more,
    }


def lines(*events: dict[str, Any]) -> str:
    return "".join(json.dumps(one) + "\n" for one in events)


def acts(loaded: LoadedFile) -> list[tuple[str, str, str]]:
    return sorted((row["user_id"], row["item_id"], row["kind"]) for row in loaded.rows("interactions"))


@pytest.mark.parametrize("name", ["events.jsonl", "events.json", "events_20250310", "events.ndjson"])
def test_each_item_of_an_event_is_an_act_at_its_microsecond(load: Load, name: str) -> None:
    loaded = load(lines(event(), event("purchase", ("A", "B"), user_id="c-7")), name, "interactions")
    assert acts(loaded) == [("c-7", "A", "purchase"), ("c-7", "B", "purchase"), ("p.1", "A", "view_item")]
    assert {round(row["time"].timestamp() * 1e6) for row in loaded.rows("interactions")} == {MICROS}
    assert "taken for an export of Google Analytics 4" in loaded.notes


def test_events_without_items_are_passed_over_and_counted(load: Load) -> None:
    nothing = event("page_view", None)
    del nothing["items"]
    loaded = load(
        lines(event("page_view", ()), event("session_start", None), nothing, event()),
        "e.jsonl",
        "interactions",
    )
    assert (loaded.done.read, loaded.done.passed, loaded.done.inserted) == (4, 3, 1)


def test_a_day_without_any_item_is_a_day_all_the_same(load: Load) -> None:
    nothing = event("page_view", None)
    del nothing["items"]
    loaded = load(lines(nothing), "e.jsonl", "interactions")
    assert (loaded.done.passed, loaded.done.refused) == (1, 0)


def test_items_that_were_only_on_the_screen_are_no_acts(load: Load) -> None:
    loaded = load(lines(event("view_item_list", ("A", "B")), event()), "e.jsonl", "interactions")
    assert acts(loaded) == [("p.1", "A", "view_item")]
    assert "2 × kind is 'view_item_list': passed over" in loaded.notes


def test_items_that_are_not_set_are_passed_over(load: Load) -> None:
    items = ({"item_id": "(not set)"}, {"item_id": "A", "quantity": 2}, {"item_name": "nameless"})
    loaded = load(lines(event("purchase", items)), "e.jsonl", "interactions")
    assert acts(loaded) == [("p.1", "A", "purchase")]
    assert [row["value"] for row in loaded.rows("interactions")] == [2.0]


@pytest.mark.parametrize("item_id", ["items", "items.item_id", "items[].item_id"])
def test_a_mapping_of_the_shops_own_walks_the_items_however_it_is_written(load: Load, item_id: str) -> None:
    own = MappingConfig(
        columns={"item_id": item_id, "user_id": "user_pseudo_id"}, values={"kind": {"purchase": "buy"}}
    )
    loaded = load(lines(event("purchase", ("A", "B"), user_id="c-7")), "e.jsonl", "interactions", own)
    assert acts(loaded) == [("p.1", "A", "buy"), ("p.1", "B", "buy")]


def test_a_day_in_parquet_is_the_same(tmp_path: Path) -> None:
    file = tmp_path / "day.parquet"
    rows = [event(), event("purchase", ("A", "B"), user_id="c-7")]
    pq.write_table(pa.Table.from_pylist([row | {"event_timestamp": MICROS} for row in rows]), file)
    lake = Lake(tmp_path / "tables")
    assert ingest(lake, file, "interactions").inserted == 3


def test_an_export_flattened_to_one_item_a_row_is_read_by_its_columns(load: Load) -> None:
    head = "event_name,event_timestamp,user_pseudo_id,user_id,item_id,quantity,event_date"
    content = f"{head}\nview_item,{MICROS},p.1,,A,1,20250310\npurchase,{MICROS},p.1,c-7,B,2,20250310\n"
    loaded = load(content, "flat.csv", "interactions")
    assert acts(loaded) == [("c-7", "B", "purchase"), ("p.1", "A", "view_item")]
    assert sorted(row["value"] for row in loaded.rows("interactions")) == [1.0, 2.0]


def test_loaded_as_items_it_says_what_it_is(load: Load) -> None:
    with pytest.raises(InputUnreadable, match=r"Google Analytics 4 .* fills interactions, not items"):
        load(lines(event()), "e.jsonl")


def test_events_of_people_who_did_not_consent_are_passed_over_and_counted(load: Load) -> None:
    loaded = load(
        lines(event(user_pseudo_id=None), event(user_pseudo_id=""), event()), "e.jsonl", "interactions"
    )
    assert (loaded.done.refused, loaded.done.passed) == (0, 2)
    assert acts(loaded) == [("p.1", "A", "view_item")]
    assert "2 × user_id is '': passed over" in loaded.notes
