"""What a stranger may send to the routes about shoppers, and what it gets, over real HTTP."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serve.servers import ThreadServer

QUICK = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
KEY = "shoppers-key"
ACT = {"item_id": "item-00003"}
PAIR = {"user_id": "user-1", "item_id": "item-00003"}
EVENT = {"event_id": "e", "user_id": "u", "item_id": "item-00003"}
POSTS = ("recommend", "rank", "users", "events")
BODIES: dict[str, dict[str, Any]] = {
    "recommend": {"user_id": "user-1"},
    "rank": {"pairs": [PAIR]},
    "users": {"user_id": "user-1"},
    "events": {"events": [EVENT]},
}
GETS = ("/v1/users", "/v1/users/user-1/liked", "/v1/users/user-1/history")


def message(response: httpx.Response) -> str:
    error = response.json()["error"]
    assert set(error) == {"class", "message"}
    return str(error["message"])


def post(http: httpx.Client, route: str, body: Any) -> httpx.Response:
    if isinstance(body, str):
        return http.post(f"/v1/{route}", content=body, headers={"content-type": "application/json"})
    return http.post(f"/v1/{route}", json=body)


# -- F27, F28 ----------------------------------------------------------------------------------


@pytest.mark.parametrize("route", POSTS)
def test_f27_a_body_over_the_cap_is_413_and_a_compressed_one_415(shoppers: httpx.Client, route: str) -> None:
    assert post(shoppers, route, " " * 200_001 + "{}").status_code == 413
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert shoppers.post(f"/v1/{route}", content=b"\x1f\x8b", headers=headers).status_code == 415


DEEP = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    ("route", "body", "says"),
    [
        ("recommend", '{"user_id": "a", "k": NaN}', "k: NaN"),
        ("recommend", '{"user_id": "a", "user_id": "b"}', "user_id: given twice"),
        ("recommend", '{"history": ' + DEEP + "}", "history.0.0"),
        ("recommend", '{"history": [{"item_id": "a", "value": 1e999}]}', "history.0.value: 1e999"),
        ("recommend", '{"user_id": "\\ud800"}', "user_id: half of a surrogate pair"),
        (
            "rank",
            '{"pairs": [{"user_id": "a", "item_id": "b", "item_id": "c"}]}',
            "pairs.0.item_id: given twice",
        ),
        ("rank", '{"pairs": [], "threshold": -Infinity}', "threshold: -Infinity"),
        ("users", '{"item_id": "a", "k": 1e999}', "k: 1e999"),
        ("events", '{"events": [{"time": 1' + "0" * 400 + "}]}", "events.0.time: a number of 401 digits"),
        ("events", '{"events": [{"value": NaN}]}', "events.0.value: NaN"),
        ("events", '{"events": ' + DEEP + "}", "events.0.0"),
        ("events", "{'events': []}", "body: not JSON"),
    ],
)
def test_f28_bad_json_is_400_and_names_the_field(
    shoppers: httpx.Client, route: str, body: str, says: str
) -> None:
    response = post(shoppers, route, body)
    assert response.status_code == 400 and message(response).startswith(says), response.text[:300]


# -- F29 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, -1, 10**9, "ten", "10", 1.5, None, True, [1], 10**40])
@pytest.mark.parametrize("route", ["recommend", "users"])
def test_f29_a_k_out_of_range_is_422_and_named(shoppers: httpx.Client, route: str, k: Any) -> None:
    response = post(shoppers, route, {"user_id": "user-1", "k": k})
    assert response.status_code == 422 and message(response).startswith("k = ")


@pytest.mark.parametrize("k", ["0", "-1", "1000000000", "ten", "1.5", ""])
def test_f29_the_same_in_an_address(shoppers: httpx.Client, k: str) -> None:
    for path, name in zip(GETS, ("limit", "k", "limit"), strict=True):
        response = shoppers.get(path, params={name: k})
        assert response.status_code == 422 and message(response).startswith(f"query.{name} = ")


@given(k=st.integers(-5, 2000) | st.floats(allow_nan=False, allow_infinity=False) | st.text())
@QUICK
def test_f29_any_k_is_answered_or_422(shoppers: httpx.Client, k: Any) -> None:
    response = post(shoppers, "recommend", {"user_id": "nobody", "k": k, "filters": {"in_stock": None}})
    whole = not isinstance(k, str) and k == int(k) and 1 <= k <= 1000
    assert response.status_code == (200 if whole else 422)
    if whole:  # 32 of 40 items are in stock
        assert len(response.json()["slate"]) == min(k, 32)


# -- F30 ---------------------------------------------------------------------------------------

NO_IDS = ["a\0b", "é" * 257, "x" * 10_240, ""]


@pytest.mark.parametrize("bad", NO_IDS, ids=["nul", "514-bytes", "10-KB", "empty"])
@pytest.mark.parametrize(
    ("route", "body", "field"),
    [
        ("recommend", lambda bad: {"user_id": bad}, "user_id"),
        ("recommend", lambda bad: {"history": [ACT, {"item_id": bad}]}, "history.1.item_id"),
        ("rank", lambda bad: {"pairs": [PAIR, {**PAIR, "user_id": bad}]}, "pairs.1.user_id"),
        ("rank", lambda bad: {"pairs": [{**PAIR, "item_id": bad}]}, "pairs.0.item_id"),
        ("users", lambda bad: {"item_id": bad}, "item_id"),
        ("events", lambda bad: {"events": [EVENT, {**EVENT, "event_id": bad}]}, "events.1.event_id"),
    ],
)
def test_f30_what_cannot_be_an_id_is_400_and_names_the_field(
    shoppers: httpx.Client, route: str, body: Any, field: str, bad: str
) -> None:
    response = post(shoppers, route, body(bad))
    assert response.status_code == 400 and message(response).startswith(f"{field}: "), response.text[:300]


@pytest.mark.parametrize(
    "raw",
    ["%00", "a%00b", "%ff", "%ed%a0%80", "x" * 513, quote("é" * 257), "x" * 10_240],
    ids=["nul", "nul-inside", "not-utf8", "surrogate", "513-bytes", "514-bytes", "10-KB"],
)
def test_f30_the_same_in_a_path(shoppers: httpx.Client, raw: str) -> None:
    for response in (
        shoppers.get(f"/v1/users/{raw}/history"),
        shoppers.get(f"/v1/users/{raw}/liked"),
        shoppers.delete(f"/v1/users/{raw}"),
    ):
        assert response.status_code == 400 and message(response).startswith("user_id: ")


@given(user_id=st.text(min_size=1, max_size=200))
@QUICK
def test_f31_any_unknown_shopper_is_200_and_labelled(shoppers: httpx.Client, user_id: str) -> None:
    response = post(shoppers, "recommend", {"user_id": user_id, "k": 2})
    if "\0" in user_id or len(user_id.encode()) > 512:
        assert response.status_code == 400
        return
    found = response.json()
    assert (found["user_id"], found["tier"], found["known"]) == (user_id, "popular", False)


# -- shapes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "body", "says"),
    [
        ("recommend", [], "body: a JSON object"),
        ("recommend", {}, "body: give exactly one of user_id, history; given: none"),
        ("recommend", {"user_id": "a", "history": []}, "body: give exactly one of"),
        ("recommend", {"user_id": 7}, "user_id = 7"),
        ("recommend", {"user_id": "a", "explain": "yes"}, "explain = 'yes'"),
        ("recommend", {"user_id": "a", "colour": 1}, "colour = 1"),
        ("recommend", {"history": [ACT] * 1001}, "history = "),
        ("recommend", {"history": [{**ACT, "kind": ""}]}, "history.0.kind = ''"),
        ("recommend", {"history": [{**ACT, "time": "noon"}]}, "history.0.time = 'noon'"),
        ("recommend", {"history": [{**ACT, "time": 2**62}]}, f"history.0.time = {2**62}: lies in the"),
        ("recommend", {"history": [{**ACT, "time": 20}]}, "history.0.time = 20: falls before 1995"),
        ("events", {"events": [{**EVENT, "time": "noon"}]}, "events.0.time = 'noon'"),
        ("recommend", {"user_id": "a", "filters": {"attributes": {"a": 1}}}, "filters.attributes.a = 1"),
        ("recommend", {"user_id": "a", "filters": {"exclude": ["x"] * 1001}}, "filters.exclude = "),
        ("rank", {"pairs": []}, "pairs = []"),
        ("rank", {"pairs": [PAIR] * 1001}, "pairs = "),
        ("rank", {"pairs": [{"user_id": "a"}]}, "pairs.0.item_id = "),
        ("rank", {"pairs": [PAIR], "threshold": 1.5}, "threshold = 1.5"),
        ("users", {"item_id": "a", "user_id": "b"}, "body: give exactly one of item_id, user_id"),
        ("events", {"events": [EVENT] * 1001}, "events = "),
        ("events", {"events": [{**EVENT, "price": 1}]}, "events.0.price = 1"),
        ("events", {"events": [{"user_id": "u", "item_id": "i"}]}, "events.0.event_id = "),
        ("events", {"events": [{**EVENT, "value": "1"}]}, "events.0.value = '1'"),
    ],
)
def test_a_body_of_the_wrong_shape_is_422_and_names_the_field(
    shoppers: httpx.Client, route: str, body: Any, says: str
) -> None:
    response = post(shoppers, route, body)
    assert (response.status_code, response.json()["error"]["class"]) == (422, "Unprocessable")
    assert message(response).startswith(says)


def test_one_bad_event_keeps_all_of_its_request_out(shoppers: httpx.Client) -> None:
    good = {**EVENT, "event_id": "half-1", "user_id": "half"}
    assert post(shoppers, "events", {"events": [good, {**good, "event_id": ""}]}).status_code == 400
    assert shoppers.get("/v1/users/half/history").json()["acts"] == []


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["pairs", "events", "history", "user_id", "item_id", "k"]), inner
            )
        ),
        max_leaves=8,
    )
)
@QUICK
def test_any_json_at_all_is_answered_or_refused_by_name(shoppers: httpx.Client, tree: Any) -> None:
    text = json.dumps(tree)
    for route in POSTS:
        response = post(shoppers, route, text)
        assert response.status_code in (200, 400, 404, 422), response.text
        if response.status_code != 200:
            assert message(response)


# -- F34 ---------------------------------------------------------------------------------------


def test_f34_without_the_right_key_nothing_about_shoppers_is_told_or_changed(shop_copy: Path) -> None:
    right = {"authorization": f"Bearer {KEY}"}
    with ThreadServer(shop_copy, key=KEY) as server, httpx.Client(base_url=server.url) as http:
        for wrong in ({}, {"authorization": f"Bearer {KEY}x"}):
            for route in POSTS:
                assert http.post(f"/v1/{route}", json=BODIES[route], headers=wrong).status_code == 401
            for path in GETS:
                assert http.get(path, headers=wrong).status_code == 401
            assert http.delete("/v1/users/user-1", headers=wrong).status_code == 401
        assert len(http.get("/v1/users/user-1/history", headers=right).json()["acts"]) == 4
        assert http.get("/v1/users/u/history", headers=right).json()["acts"] == []
        for route in POSTS:
            assert http.post(f"/v1/{route}", json=BODIES[route], headers=right).status_code == 200
