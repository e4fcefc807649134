"""What the server writes is what the client reads, to the byte."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from etalage import api
from etalage.errors import ServeError
from etalage.serve.answers import written
from tests.serve.recorded import RECORDED

ANSWERS = {
    "GET /healthz": api.Alive,
    "GET /readyz": api.Readiness,
    "POST /v1/similar": api.Answers,
    "GET /v1/items": api.Items,
    "GET /v1/items/": api.WholeItem,
    "GET /v1/categories": api.CategoryTree,
    "POST /v1/classify": api.Categories,
    "GET /v1/confusion": api.Confusion,
    "POST /v1/recommend": api.Recommended,
    "POST /v1/rank": api.RankedPairs,
    "POST /v1/users": api.NearUsers,
    "POST /v1/events": api.EventsDone,
    "GET /v1/users": api.KnownUsers,
    "GET /v1/users/…/liked": api.LikedItems,
    "GET /v1/users/…/history": api.History,
    "DELETE /v1/users/": api.Erased,
}


def kind_of(asked: str) -> type[Any]:
    path = asked.split("?")[0]
    for user_id in ("user-1", "user-2", "nobody", "newcomer"):
        path = path.replace(f"/{user_id}", "/…" if path.startswith("GET") else "/")
    return ANSWERS["GET /v1/items/" if path.startswith("GET /v1/items/") else path]


def test_every_recorded_answer_read_and_written_again_has_the_same_bytes() -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    good = [one for one in recorded if one["status"] == 200]
    assert {kind_of(one["asked"]) for one in good} == set(ANSWERS.values())
    for one in good:
        found = api.read(kind_of(one["asked"]), json.loads(one["body"]))
        assert written(found).decode() == one["body"], one["asked"]
    for one in recorded:
        if one["status"] != 200:
            refusal = api.read(api.Refusal, json.loads(one["body"]))
            assert json.dumps(refusal.tree(), separators=(",", ":")) == one["body"]


def test_an_answer_of_something_else_is_refused_with_the_field() -> None:
    slot = {"rank": 1, "score": 0.5}
    tree = {"bundle": "b", "answers": [{"row": 0, "fallback": None, "reason": None, "slate": [slot]}]}
    with pytest.raises(ServeError, match=r"^answer\.answers\.0\.slate\.0: 'item_id' is missing; is this a"):
        api.read(api.Answers, tree)
    with pytest.raises(ServeError, match=r"^answer: an object is needed, not \[\]"):
        api.read(api.Alive, [])
    with pytest.raises(ServeError, match=r"^answer\.1: 'why' is missing"):
        row = {"row": 0, "rank": 1, "item_id": "a", "score": 1.0}
        api.read_all(api.RecommendedRow, [{**row, "why": ""}, row])


def test_every_answer_is_frozen_and_a_slot_is_its_item() -> None:
    slot = api.Slot(1, 0.5, "a", "A hat", None, 9.5, "EUR", None, True, api.photo_path("a/b"))
    assert isinstance(slot, api.Item) and (slot.rank, slot.item_id) == (1, "a")
    assert slot.photo == "/v1/photos/a%2Fb"
    with pytest.raises(dataclasses.FrozenInstanceError):
        slot.rank = 2  # type: ignore[misc]


def test_requests_leave_out_what_is_not_given() -> None:
    assert api.act_body(api.Act("a")) == {"item_id": "a", "kind": "view"}
    event = api.Event("e", "u", api.Act("a", "rating", 0.0, 5))
    body = {"event_id": "e", "user_id": "u", "item_id": "a", "kind": "rating", "value": 0.0, "time": 5}
    assert api.event_body(event) == body
    past = api.PastAct("a", "buy", item=None)
    assert api.act_body(past) == {"item_id": "a", "kind": "buy"}, "a history can be asked about as it came"


def test_a_datetime_without_a_zone_is_utc() -> None:
    assert api.microseconds(datetime(1970, 1, 1, 0, 0, 1)) == 1_000_000
    assert api.microseconds(datetime(2026, 11, 29, 1, tzinfo=UTC)) == 1_795_914_000_000_000
    east = timezone(timedelta(hours=2))
    assert api.microseconds(datetime(1970, 1, 1, 2, 0, 0, 7, tzinfo=east)) == 7
