"""What would this shopper want? Over real HTTP, with an online store that learns while it is asked."""

import math
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from etalage.online import Act, open_live
from etalage.recommend import Filters, Recommender
from tests.serve.conftest import STRANGE
from tests.serve.servers import ThreadServer


def name(number: int) -> str:
    return f"item-{number:05d}"


def recommend(http: httpx.Client, **body: Any) -> dict[str, Any]:
    response = http.post("/v1/recommend", json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def event(number: int, user_id: str, item: int | str, **changed: Any) -> dict[str, Any]:
    item_id = item if isinstance(item, str) else name(item)
    return {"event_id": f"{user_id}-{number}", "user_id": user_id, "item_id": item_id, **changed}


def send(http: httpx.Client, *events: dict[str, Any]) -> dict[str, Any]:
    response = http.post("/v1/events", json={"events": list(events)})
    assert response.status_code == 200, response.text
    done: dict[str, Any] = response.json()
    return done


def history(http: httpx.Client, user_id: str) -> list[tuple[str, str]]:
    acts = http.get(f"/v1/users/{quote(user_id, safe='')}/history").json()["acts"]
    return [(act["item_id"], act["kind"]) for act in acts]


def now() -> int:
    return time.time_ns() // 1000


def test_every_answer_names_the_bundle_in_body_and_header(shoppers: httpx.Client) -> None:
    bundle = shoppers.get("/readyz").json()["bundle"]
    for response in (
        shoppers.post("/v1/recommend", json={"user_id": "user-1"}),
        shoppers.post("/v1/recommend", json={"user_id": "user-1", "k": 0}),
        shoppers.post("/v1/rank", json={"pairs": [{"user_id": "user-1", "item_id": name(3)}]}),
        shoppers.post("/v1/users", json={"item_id": name(3)}),
        shoppers.post("/v1/users", json={"user_id": "nobody"}),
        shoppers.get("/v1/users"),
        shoppers.get("/v1/users/user-1/liked"),
        shoppers.get("/v1/users/user-1/history"),
        shoppers.post("/v1/events", json={"events": [event(0, "bundle-asker", 3)]}),
        shoppers.delete("/v1/users/bundle-asker"),
    ):
        assert response.json()["bundle"] == bundle
        assert response.headers["x-etalage-bundle"] == bundle


@pytest.mark.parametrize("user_id", ["user-0", "user-1", "user-5", "nobody"])
def test_a_slate_over_http_is_the_recommenders_own(
    shoppers_shop: Path, shoppers: httpx.Client, user_id: str
) -> None:
    bundle = (shoppers_shop / "current").read_text().strip()
    live = open_live(shoppers_shop.parent / "live" / "events.sqlite")
    try:
        expected = Recommender.open(shoppers_shop / bundle).recommend(
            user_id=user_id,
            k=7,
            filters=Filters(max_price=50.0, exclude=(name(12),)),
            explain=True,
            live=live,
        )
    finally:
        live.close()
    filters = {"max_price": 50.0, "exclude": [name(12)]}
    found = recommend(shoppers, user_id=user_id, k=7, filters=filters, explain=True)
    slate = [(s["rank"], s["item_id"], s["score"], s["why"], s["trace"]) for s in found["slate"]]
    assert slate == [(s.rank, s.item_id, pytest.approx(s.score), s.why, s.trace) for s in expected.slate]
    assert (found["user_id"], found["tier"], found["known"], found["reason"]) == (
        (user_id, expected.tier, expected.known, expected.reason)
    )
    assert [s["title"] for s in found["slate"]] == [s.title for s in expected.slate]
    assert [stage["name"] for stage in found["trace"]["stages"]] == ["retrieve", "rank", "order"]


def test_without_explain_there_is_neither_reason_nor_trace(shoppers: httpx.Client) -> None:
    found = recommend(shoppers, user_id="user-2", k=3)
    assert found["trace"] is None and len(found["slate"]) == 3
    assert {(slot["why"], slot["trace"]) for slot in found["slate"]} == {(None, None)}


def test_a_history_in_the_request_speaks_for_nobody(shoppers: httpx.Client) -> None:
    acts = [{"item_id": name(20), "kind": "buy"}, {"item_id": name(30), "kind": "view"}]
    found = recommend(shoppers, history=acts, k=4, explain=True)
    assert (found["user_id"], found["tier"], found["known"]) == (None, "collaborative", True)
    reasons = {slot["item_id"]: slot["why"] for slot in found["slate"]}
    assert reasons[name(21)] == "because you bought Piece 20"
    assert reasons[name(31)] == "because you looked at Piece 30"
    assert name(20) not in reasons
    empty = recommend(shoppers, history=[], k=4)
    assert (empty["tier"], empty["known"]) == ("popular", False)


def test_f31_an_unknown_shopper_gets_what_is_popular_labelled_as_such(shoppers: httpx.Client) -> None:
    found = recommend(shoppers, user_id="never seen", k=5)
    assert (found["tier"], found["known"], len(found["slate"])) == ("popular", False, 5)
    unknown = recommend(shoppers, history=[{"item_id": "no such item"}], k=5)
    assert (unknown["tier"], unknown["known"]) == ("popular", False)
    assert [s["item_id"] for s in unknown["slate"]] == [s["item_id"] for s in found["slate"]]


@pytest.mark.parametrize("user_id", ["user-0", "user-1", "user-5", "nobody"])
def test_f37_filters_that_exclude_everything_are_200_empty_with_the_reason(
    shoppers: httpx.Client, user_id: str
) -> None:
    found = recommend(shoppers, user_id=user_id, filters={"category": "Bags", "max_price": 6})
    assert found["slate"] == []
    assert "no item passes the filters" in found["reason"] and "max_price 6 leaves" in found["reason"]


def test_filters_of_brand_attributes_and_exclude_reach_the_funnel(shoppers: httpx.Client) -> None:
    only = {"brand": "Corvo", "attributes": {"split": "train"}, "exclude": [name(8), name(11)]}
    found = recommend(shoppers, user_id="user-0", k=40, filters=only)
    numbers = sorted(int(slot["item_id"][-5:]) for slot in found["slate"])
    # user-0 bought 0, 1 and 2; every fifth is out of stock.
    assert numbers == [n for n in range(40) if n % 3 == 2 and n % 5 and n not in (2, 8, 11)]
    assert recommend(shoppers, user_id="user-0", filters={"attributes": {"split": "no"}})["slate"] == []


# -- events ------------------------------------------------------------------------------------


def test_what_a_shopper_did_is_in_their_very_next_slate(shoppers: httpx.Client) -> None:
    assert recommend(shoppers, user_id="fresh")["tier"] == "popular"
    done = send(shoppers, event(1, "fresh", 10, kind="buy"), event(2, "fresh", 16, kind="cart"))
    assert (done["accepted"], done["repeated"], done["quarantined"]) == (2, 0, 0)
    found = recommend(shoppers, user_id="fresh", k=4, explain=True)
    assert (found["tier"], found["known"]) == ("collaborative", True)
    reasons = {slot["item_id"]: slot["why"] for slot in found["slate"]}
    assert reasons[name(11)] == "because you bought Piece 10"
    assert reasons[name(17)] == "because you put into your cart Piece 16"
    assert name(10) not in reasons
    assert history(shoppers, "fresh") == [(name(10), "buy"), (name(16), "cart")]


def test_f50_a_repeated_event_counts_once_and_one_of_the_future_is_quarantined(
    shoppers: httpx.Client,
) -> None:
    soon, later = now() + 60_000_000, now() + 3_600_000_000
    events = [event(1, "twice", 4), event(2, "twice", 6, time=soon), event(3, "twice", 8, time=later)]
    assert send(shoppers, *events, events[0])["repeated"] == 1
    again = send(shoppers, *events)
    assert (again["accepted"], again["repeated"], again["quarantined"]) == (0, 2, 1)
    assert "twice-3" in again["reasons"][0] and "minutes ahead" in again["reasons"][0]
    assert history(shoppers, "twice") == [(name(4), "view"), (name(6), "view")]


def test_f50_an_event_whose_clock_stands_is_quarantined_and_keeps_no_other_out(
    shoppers: httpx.Client,
) -> None:
    events = [
        event(1, "standing", 4, time=0),
        event(2, "standing", 6, time="1970-01-02"),
        event(3, "standing", 8),
    ]
    done = send(shoppers, *events)
    assert (done["accepted"], done["quarantined"]) == (1, 2)
    assert "before 1995" in done["reasons"][0]
    assert history(shoppers, "standing") == [(name(8), "view")]


def test_seconds_milliseconds_microseconds_and_iso_are_one_moment(shoppers: httpx.Client) -> None:
    micros = 1_785_915_422_519_000
    times = [micros // 1_000_000, micros // 1000, micros, "2026-08-05T07:37:02.519Z"]
    done = send(shoppers, *(event(n, "units", n, time=time) for n, time in enumerate(times)))
    assert (done["accepted"], done["quarantined"]) == (4, 0)
    acts = shoppers.get("/v1/users/units/history").json()["acts"]
    assert {act["time"] // 1_000_000 for act in acts} == {micros // 1_000_000}
    one = {"item_id": name(10), "kind": "buy"}
    asked = [recommend(shoppers, history=[{**one, "time": time}], k=4)["slate"] for time in times]
    assert asked[0] == asked[1] == asked[2] == asked[3]


def test_the_document_says_the_unit_of_times(shoppers: httpx.Client) -> None:
    schemas = shoppers.get("/openapi.json").json()["components"]["schemas"]
    for body in ("ActBody", "EventBody"):
        said = str(schemas[body]["properties"]["time"])
        assert "ISO 8601" in said and "seconds, ms, µs" in said, body
    assert "Microseconds" in schemas["PastAct"]["properties"]["time"]["description"]


def test_f50_a_late_event_takes_its_place_in_time(shoppers: httpx.Client) -> None:
    send(shoppers, event(1, "late", 4, time=now() - 1_000_000), event(2, "late", 6, time=now()))
    send(shoppers, event(3, "late", 9, time=now() - 86_400_000_000, kind="rating", value=4.5))
    assert history(shoppers, "late") == [(name(9), "rating"), (name(4), "view"), (name(6), "view")]
    acts = shoppers.get("/v1/users/late/history", params={"limit": 2}).json()["acts"]
    assert [act["item_id"] for act in acts] == [name(4), name(6)], "the newest two, oldest first"


def test_a_history_shows_the_items_that_the_bundle_has(shoppers: httpx.Client) -> None:
    send(shoppers, event(1, "looker", 4, value=2.0), event(2, "looker", "sold long ago"))
    one, other = shoppers.get("/v1/users/looker/history").json()["acts"]
    assert (one["value"], one["item"]["title"], one["item"]["photo"]) == (
        2.0,
        "Piece 4",
        f"/v1/photos/{name(4)}",
    )
    assert other["item_id"] == "sold long ago" and other["item"] is None
    assert shoppers.get("/v1/users/nobody at all/history").json()["acts"] == []


@pytest.mark.parametrize("case", STRANGE)
def test_f30_the_ids_of_shoppers_and_events_are_taken_exactly_as_they_are(
    shoppers: httpx.Client, case: str
) -> None:
    strange = STRANGE[case]
    acts = [{"event_id": strange, "user_id": strange, "item_id": strange}]
    assert shoppers.post("/v1/events", json={"events": acts}).json()["accepted"] == 1
    assert history(shoppers, strange) == [(strange, "view")]
    assert strange in shoppers.get("/v1/users", params={"limit": 1000}).json()["users"]
    assert recommend(shoppers, user_id=strange)["user_id"] == strange
    gone = shoppers.delete(f"/v1/users/{quote(strange, safe='')}").json()
    assert (gone["user_id"], gone["acts"]) == (strange, 1)
    assert history(shoppers, strange) == []


def test_f57_an_erased_shopper_is_a_stranger_and_it_is_said_what_is_left(shoppers: httpx.Client) -> None:
    send(shoppers, *(event(n, "leaving", n, kind="buy") for n in (20, 21, 22, 23)))
    send(shoppers, event(99, "leaving", 24, time=now() + 10**10))
    assert recommend(shoppers, user_id="leaving")["tier"] == "deep"
    gone = shoppers.delete("/v1/users/leaving").json()
    assert gone["acts"] == 5, "four kept ones and the quarantined one"
    assert any("etalage erase" in place for place in gone["left"])
    assert not any("which serves" in place for place in gone["left"])
    assert history(shoppers, "leaving") == []
    slate = recommend(shoppers, user_id="leaving", k=6)
    stranger = recommend(shoppers, user_id="never seen", k=6)
    assert (slate["tier"], slate["known"], slate["slate"]) == ("popular", False, stranger["slate"])
    assert "leaving" not in shoppers.get("/v1/users", params={"limit": 1000}).json()["users"]
    assert shoppers.delete("/v1/users/leaving").json()["acts"] == 0


def test_f57_nobody_is_erased_by_a_path_that_means_a_history(shoppers: httpx.Client) -> None:
    for view in ("history", "liked"):
        send(shoppers, event(1, f"careful/{view}", 3), event(1, "careful", 3))
        response = shoppers.delete(f"/v1/users/careful/{view}")
        assert (response.status_code, response.headers["allow"]) == (405, "GET")
        assert history(shoppers, "careful") and history(shoppers, f"careful/{view}")
        assert shoppers.delete(f"/v1/users/careful%2F{view}").json()["user_id"] == f"careful/{view}"
        assert history(shoppers, f"careful/{view}") == [] and history(shoppers, "careful")
        assert shoppers.get(f"/v1/users/careful%2F{view}").status_code == 404, "no route of its own"


def test_a_method_that_a_path_does_not_have_is_405_and_says_which_it_has(shoppers: httpx.Client) -> None:
    for path, allowed in (("", "GET, POST"), ("/a", "DELETE"), ("/a/liked", "GET")):
        response = shoppers.put(f"/v1/users{path}")
        assert (response.status_code, response.headers["allow"]) == (405, allowed)


def test_f57_a_bundle_that_learnt_from_the_erased_one_is_named(shop_copy: Path) -> None:
    with ThreadServer(shop_copy) as server, httpx.Client(base_url=server.url) as http:
        gone = http.delete("/v1/users/user-3").json()
        assert gone["acts"] == 6
        assert [place for place in gone["left"] if gone["bundle"] in place and "publish again" in place]


def test_f57_no_trace_of_the_erased_one_is_in_the_stores_files(shop_copy: Path) -> None:
    with ThreadServer(shop_copy) as server, httpx.Client(base_url=server.url) as http:
        send(http, event(1, "forget-me-4711", 3, kind="buy"))
        http.delete("/v1/users/forget-me-4711")
        files = list((shop_copy.parent / "live").iterdir())
        assert files and not [file for file in files if b"forget-me-4711" in file.read_bytes()]


# -- pairs, lists, shoppers --------------------------------------------------------------------


def test_pairs_are_scored_in_their_order_with_probability_and_threshold(shoppers: httpx.Client) -> None:
    pairs = [("user-1", name(38)), ("nobody", name(2)), ("user-1", name(24)), ("user-1", "no item")]
    body = {"pairs": [{"user_id": user, "item_id": item} for user, item in pairs], "threshold": 0.8}
    answer = shoppers.post("/v1/rank", json=body).json()
    rows = answer["ranked"]
    assert answer["threshold"] == 0.8
    assert [(row["row"], row["user_id"], row["item_id"]) for row in rows] == [
        (n, *pair) for n, pair in enumerate(pairs)
    ]
    # The ranker's logit of user-1 and item n is (n - 24.5) / 8.
    chances = [None if row["probability"] is None else round(row["probability"], 5) for row in rows]
    sigmoid = [round(1 / (1 + math.exp(-(n - 24.5) / 8)), 5) for n in (38, 24)]
    assert chances == [sigmoid[0], None, sigmoid[1], None]
    assert [row["liked"] for row in rows] == [True, None, False, None]
    assert [(row["known_user"], row["known_item"]) for row in rows] == [
        (True, True), (False, True), (True, True), (True, False),
    ]  # fmt: skip


def test_the_liked_list_is_sorted_and_holds_nothing_that_the_shopper_has(shoppers: httpx.Client) -> None:
    params: dict[str, Any] = {"k": 5, "threshold": 0.6}
    answer = shoppers.get("/v1/users/user-1/liked", params=params).json()
    assert [row["item_id"] for row in answer["liked"]] == [name(n) for n in (39, 38, 37, 36, 35)]
    assert answer["liked"][0]["item"]["title"] == "Piece 39"
    every = shoppers.get("/v1/users/user-1/liked", params={"k": 1000, "threshold": 0}).json()["liked"]
    assert len(every) == 36, "all but the four that user-1 bought"
    assert all(row["probability"] >= 0.6 for row in answer["liked"])
    response = shoppers.get("/v1/users/never seen/liked")
    assert response.status_code == 404 and "never seen" in response.json()["error"]["message"]


def test_an_item_finds_its_shoppers_and_a_shopper_those_alike(shoppers: httpx.Client) -> None:
    told = shoppers.post("/v1/users", json={"item_id": name(1), "k": 2}).json()["users"]
    assert told[0]["user_id"] == "user-0", "who bought 0, 1 and 2"
    assert len(told) == 2 and told[0]["score"] > told[1]["score"]
    alike = shoppers.post("/v1/users", json={"user_id": "user-3", "k": 10}).json()["users"]
    assert "user-3" not in [near["user_id"] for near in alike]
    assert {near["user_id"] for near in alike[:2]} == {"user-2", "user-4"}, "their items lie beside"
    for unknown in ({"item_id": "no item"}, {"user_id": "no user"}):
        assert shoppers.post("/v1/users", json=unknown).status_code == 404


def test_the_known_shoppers_are_those_who_acted_last(shop_copy: Path) -> None:
    with ThreadServer(shop_copy) as server, httpx.Client(base_url=server.url) as http:
        send(http, event(1, "user-2", 5))
        assert http.get("/v1/users", params={"limit": 3}).json()["users"] == ["user-2", "user-5", "user-4"]


# -- what is known now -------------------------------------------------------------------------


def test_stock_and_price_of_this_moment_are_in_every_answer(shop_copy: Path) -> None:
    with ThreadServer(shop_copy) as server, httpx.Client(base_url=server.url) as http:
        before = recommend(http, user_id="user-0", k=4)
        first, second = (slot["item_id"] for slot in before["slate"][:2])
        store = open_live(shop_copy.parent / "live" / "events.sqlite")
        store.set_items({first: {"in_stock": False}, second: {"price": 1.5}})
        store.close()
        after = recommend(http, user_id="user-0", k=4)["slate"]
        assert first not in [slot["item_id"] for slot in after]
        assert {slot["item_id"]: slot["price"] for slot in after}[second] == 1.5
        assert http.get(f"/v1/items/{second}").json()["item"]["price"] == 1.5
        cheapest = http.get("/v1/items", params={"max_price": 2}).json()["items"]
        assert [(item["item_id"], item["price"]) for item in cheapest] == [(second, 1.5)]
        stocked = {"item_id": name(1), "k": 39, "filters": {"in_stock": True}}
        (answer,) = http.post("/v1/similar", json=stocked).json()["answers"]
        assert first not in [slot["item_id"] for slot in answer["slate"]]


def test_events_are_kept_though_no_bundle_is_published_yet(tmp_path: Path) -> None:
    with ThreadServer(tmp_path / "bundles") as server, httpx.Client(base_url=server.url) as http:
        done = send(http, event(1, "early", 3))
        assert (done["bundle"], done["accepted"]) == (None, 1)
        assert http.post("/v1/recommend", json={"user_id": "early"}).status_code == 503
        assert http.delete("/v1/users/early").json()["acts"] == 1
    store = open_live(tmp_path / "live" / "events.sqlite")
    assert store.history("early", 9) == []
    store.close()


def test_a_shop_without_photos_is_served_all_the_same(tmp_path: Path) -> None:
    from tests.shops import behaviour_shop

    _, bundles, manifest = behaviour_shop(tmp_path / "shop", 40)
    with ThreadServer(bundles.folder) as server, httpx.Client(base_url=server.url) as http:
        assert http.get("/readyz").json()["bundle"] == manifest.id
        assert len(recommend(http, history=[{"item_id": name(9)}], k=3)["slate"]) == 3
        (answer,) = http.post("/v1/similar", json={"item_id": name(9), "k": 3}).json()["answers"]
        assert answer["fallback"] == "by_behaviour" and len(answer["slate"]) == 3
        response = http.post("/v1/similar", json={"photo": "eA==", "k": 3})
        assert response.status_code == 422 and "no model of photos" in response.text
        metrics = http.get("/metrics").text
        for model in ("two_tower", "item_knn", "popularity"):
            assert f'etalage_model_info{{bundle="{manifest.id}"' in metrics and f'model="{model}"' in metrics


def test_a_live_store_named_in_the_config_is_used(shoppers_shop: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.sqlite"
    store = open_live(elsewhere)
    store.seed([("only-here", Act(name(3), "buy"))])
    store.close()
    with (
        ThreadServer(shoppers_shop, live=str(elsewhere)) as server,
        httpx.Client(base_url=server.url) as http,
    ):
        assert http.get("/v1/users").json()["users"] == ["only-here"]
        assert history(http, "user-0") == []


def unknown_events(http: httpx.Client) -> list[float]:
    """By item, by kind, as the metrics count them."""
    lines = http.get("/metrics").text.splitlines()
    return [
        float(line.split()[-1])
        for what in ("item", "kind")
        for line in lines
        if line.startswith(f'etalage_events_unknown_total{{what="{what}"}}')
    ]


def test_events_that_nobody_knows_are_kept_and_told(shoppers: httpx.Client) -> None:
    before = unknown_events(shoppers)
    done = send(
        shoppers,
        event(1, "stranger", 3),
        event(2, "stranger", "never-sold"),
        event(3, "stranger", 4, kind="vieww"),
        event(4, "stranger", "never-sold", kind="vieww"),
    )
    assert done["accepted"] == 4
    assert done["unknown"] == 3
    notes = "\n".join(done["notes"])
    assert "2 events on items that this bundle lacks ('never-sold')" in notes
    assert "2 events of a kind that nobody knows ('vieww'; did you mean view?)" in notes
    assert [now - then for now, then in zip(unknown_events(shoppers), before, strict=True)] == [2, 2]


def test_a_slate_passes_over_acts_of_a_kind_that_nobody_knows(shoppers: httpx.Client) -> None:
    send(shoppers, *(event(n, "odd", n, kind="vieww") for n in range(3)))
    assert recommend(shoppers, user_id="odd", k=5)["tier"] == "popular"
    send(shoppers, event(9, "odd", 3))
    asked, plain = (
        recommend(shoppers, user_id="odd", k=5),
        recommend(shoppers, history=[{"item_id": name(3)}], k=5),
    )
    assert asked["tier"] != "popular"
    assert [slot["item_id"] for slot in asked["slate"]] == [slot["item_id"] for slot in plain["slate"]]


def test_events_that_the_bundle_knows_are_told_as_such(shoppers: httpx.Client) -> None:
    done = send(shoppers, event(1, "regular", 3), event(2, "regular", 4, kind="AddToCart"))
    assert (done["unknown"], done["notes"]) == (0, [])
