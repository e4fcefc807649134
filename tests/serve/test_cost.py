"""F61: no small request holds everybody else up: its cost is bounded before work begins, and long work is cut
into turns. F69: of work that nobody waits for any more nothing is begun, and one line is in the log."""

import gc
import json
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from etalage.api import MAX_ACTS, MAX_K, MAX_PAIRS, MAX_RANKED
from etalage.client import Client, _of_few_shoppers
from etalage.serve import limits, requests
from tests.serve.servers import Clock, ThreadServer, metric, until
from tests.serve.test_limits import Blocked

MANY = requests.MAX_ATTRIBUTES + 1
LONG = "x" * (requests.MAX_TEXT + 1)


@pytest.fixture(scope="module")
def running(shoppers_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    import shutil

    copy = tmp_path_factory.mktemp("cost") / "shop"
    shutil.copytree(shoppers_shop.parent, copy)
    with ThreadServer(copy / "bundles") as server:
        yield server


def post(server: ThreadServer, route: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/{route}", json=body, headers=headers, timeout=120)


TOO_MUCH: dict[str, tuple[str, dict[str, Any], str]] = {
    "attributes": (
        "similar",
        {"item_id": "item-00001", "filters": {"attributes": {f"a{n}": "x" for n in range(1000)}}},
        "filters.attributes",
    ),
    "one more attribute": (
        "recommend",
        {"user_id": "u", "filters": {"attributes": dict.fromkeys(map(str, range(MANY)), "x")}},
        "filters.attributes",
    ),
    "an attribute's value": (
        "similar",
        {"item_id": "item-00001", "filters": {"attributes": {"colour": LONG}}},
        "filters.attributes.colour",
    ),
    "an attribute's name": (
        "similar",
        {"item_id": "item-00001", "filters": {"attributes": {LONG: "red"}}},
        "filters.attributes",
    ),
    "a category": ("similar", {"item_id": "item-00001", "filters": {"category": LONG}}, "filters.category"),
    "classified": ("recommend", {"user_id": "u", "filters": {"classified": LONG}}, "filters.classified"),
    "a brand": ("recommend", {"user_id": "u", "filters": {"brand": LONG}}, "filters.brand"),
    "items to exclude": (
        "similar",
        {"item_id": "item-00001", "filters": {"exclude": ["x"] * (requests.MAX_EXCLUDED + 1)}},
        "filters.exclude",
    ),
    "shoppers": (
        "rank",
        {"pairs": [{"user_id": f"u{n}", "item_id": "item-00001"} for n in range(MAX_RANKED + 1)]},
        "pairs",
    ),
    "pairs": ("rank", {"pairs": [{"user_id": "u", "item_id": "i"}] * (MAX_PAIRS + 1)}, "pairs"),
    "acts": ("recommend", {"history": [{"item_id": "i"}] * (MAX_ACTS + 1)}, "history"),
    "a kind": ("recommend", {"history": [{"item_id": "i", "kind": "k" * 65}]}, "history.0.kind"),
    "places": ("recommend", {"user_id": "u", "k": MAX_K + 1}, "k"),
}  # fmt: skip


@pytest.mark.parametrize("what", TOO_MUCH)
def test_f61_what_would_cost_too_much_is_422_before_work_begins(running: ThreadServer, what: str) -> None:
    route, body, field = TOO_MUCH[what]
    with Blocked(running):  # whoever needed the scorer would wait
        response = post(running, route, body)
    assert response.status_code == 422, response.text[:300]
    assert field in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"search": " ".join("abcdefghijk")}, "11 words; at most 10"),
        ({"search": "w" * 201}, "query.search"),
        ({"category": LONG}, "query.category"),
        ({"classified": LONG}, "query.classified"),
    ],
)
def test_f61_so_is_a_search_of_too_much(running: ThreadServer, query: dict[str, str], said: str) -> None:
    with Blocked(running):
        response = httpx.get(f"{running.url}/v1/items", params=query, timeout=120)
    assert response.status_code == 422 and said in response.json()["error"]["message"]


def test_f61_what_may_be_asked_at_most_is_answered(running: ThreadServer) -> None:
    attributes = {f"a{n}": "x" * requests.MAX_TEXT for n in range(requests.MAX_ATTRIBUTES)}
    pairs = [{"user_id": f"u{n % MAX_RANKED}", "item_id": "item-00001"} for n in range(MAX_PAIRS)]
    for route, body in (
        ("similar", {"item_id": "item-00001", "k": MAX_K, "filters": {"attributes": attributes}}),
        ("rank", {"pairs": pairs}),
    ):
        assert post(running, route, body).status_code == 200
    words = " ".join("abcdefghij")
    assert httpx.get(f"{running.url}/v1/items", params={"search": f"{words} {words}"}).status_code == 200


def test_the_client_asks_for_many_shoppers_in_several_requests(running: ThreadServer) -> None:
    pairs = [(f"user-{n % 500}", f"item-{n % 40:05d}") for n in range(1300)]
    parts = _of_few_shoppers(pairs)
    assert [pair for part in parts for pair in part] == pairs
    assert all(len(part) <= MAX_PAIRS and len({user for user, _ in part}) <= MAX_RANKED for part in parts)
    with Client(running.url) as client:
        ranked = client.rank(pairs)
    assert [one.row for one in ranked] == list(range(len(pairs)))
    assert [(one.user_id, one.item_id) for one in ranked] == pairs


class Slow:
    """Makes each step of the server's long work wait for a `go`, and counts them."""

    def __init__(self, server: ThreadServer, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        owner = server.app.state.window.current
        self.begun, self.go, self.steps = threading.Event(), threading.Event(), 0
        real = getattr(owner, name)

        def slow(*arguments: Any, **options: Any) -> Any:
            self.steps += 1
            self.begun.set()
            self.go.wait(120)
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, slow)


RANK = {"pairs": [{"user_id": f"user-{n}", "item_id": "item-00003"} for n in range(50)]}


def test_f61_others_have_their_turn_while_many_shoppers_are_ranked(
    running: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TURN_SECONDS", 0.0)
    slow = Slow(running, monkeypatch, "_ranked")
    done_at: list[int] = []
    with ThreadPoolExecutor(2) as clients:
        ranked = clients.submit(post, running, "rank", RANK)
        assert slow.begun.wait(120)

        def ask() -> httpx.Response:
            response = post(running, "similar", {"item_id": "item-00003"})
            done_at.append(slow.steps)
            return response

        asked = clients.submit(ask)
        until(lambda: metric(running.url, "etalage_waiting") == 1)
        step = running.app.state.window.current._ranked

        def pausing(*arguments: Any, **options: Any) -> Any:
            if slow.steps > 25:  # the other one is not behind all of it
                asked.result(120)
            return step(*arguments, **options)

        monkeypatch.setattr(running.app.state.window.current, "_ranked", pausing)
        slow.go.set()
        assert asked.result(120).status_code == 200
        assert ranked.result(120).status_code == 200
    assert slow.steps == 50 and done_at[0] <= 26


def test_f61_photos_of_one_request_are_looked_at_in_turns(
    running: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import base64

    from tests.shops import drawn_photo

    recommender = running.app.state.window.current
    photos = [drawn_photo(n) for n in range(10)]
    sizes: list[int] = []
    real = recommender.embedder.embed_pixels

    def noted(pixels: Any, *rest: Any) -> Any:
        sizes.append(len(pixels))
        return real(pixels, *rest)

    monkeypatch.setattr(recommender.embedder, "embed_pixels", noted)
    steps = recommender.similar_to_photos(photos, k=3)
    assert sum(1 for _ in steps) == 3 + 10 and sizes == [4, 4, 2]
    body = {"photos": [base64.b64encode(one).decode() for one in photos], "k": 3}
    answered = post(running, "similar", body).json()["answers"]
    alone = [recommender.similar(photos=[one], k=3)[0] for one in photos]
    assert [[slot["item_id"] for slot in one["slate"]] for one in answered] == [
        [slot.item_id for slot in one.slate] for one in alone
    ]
    classified = list(recommender.classify_photos([photos[:5], [], photos[5:]], ["a", "b", "c"]))
    assert len(classified) == 3


# -- F69 ---------------------------------------------------------------------------------------


class Leaving:
    """A client that sends one request and cuts the connection when it is told to."""

    def __init__(self, server: ThreadServer, route: str, body: Any, more: str = "") -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=120)
        content = json.dumps(body).encode()
        head = f"POST /v1/{route} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{more}"
        self._socket.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)

    def cut(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._socket.close()


def dropped(server: ThreadServer, why: str, work: str) -> float:
    return metric(server.url, f'etalage_dropped_total{{why="{why}",work="{work}"}}')


def test_f69_work_whose_client_left_while_it_waited_is_not_begun(
    running: ThreadServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = dropped(running, "gone", "not begun")
    slow = Slow(running, monkeypatch, "similar")
    slow.go.set()
    with caplog.at_level(logging.INFO), Blocked(running):
        client = Leaving(running, "similar", {"item_id": "item-00003"})
        until(lambda: metric(running.url, "etalage_waiting") == 1)
        client.cut()
        until(lambda: metric(running.url, "etalage_waiting") == 0)
    assert post(running, "similar", {"item_id": "item-00004"}).status_code == 200
    assert slow.steps == 1, "that of the one who waited"
    assert dropped(running, "gone", "not begun") == before + 1
    assert told(caplog) == ["POST /v1/similar: the client went away before it was begun"]


def test_f69_a_client_that_leaves_in_the_middle_of_its_request_is_no_fault_of_the_server(
    running: ThreadServer, caplog: pytest.LogCaptureFixture
) -> None:
    before = dropped(running, "gone", "not begun")
    with caplog.at_level(logging.INFO):
        client = Leaving(running, "events", {}, "Content-Length: 1000\r\nX-")
        until(lambda: len(running._server.server_state.tasks) > 0)
        client.cut()
        until(lambda: dropped(running, "gone", "not begun") == before + 1)
    assert told(caplog) == ["POST /v1/events: the client went away before all of its request was there"]
    counted = 'etalage_requests_total{method="POST",route="/v1/events",status="%s"}'
    assert metric(running.url, counted % 499) >= 1
    assert counted % 500 not in httpx.get(f"{running.url}/metrics").text


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Every line of every logger, errors of forgotten futures included, but those of one line a request."""
    gc.collect()
    ours = ("httpx", "httpcore", "uvicorn.access")
    return [one.getMessage() for one in caplog.records if not one.name.startswith(ours)]


@pytest.mark.parametrize("fails", [False, True])
def test_f69_work_whose_client_left_meanwhile_is_counted_and_tells_nothing_more(
    running: ThreadServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails: bool
) -> None:
    """Also where it fails, when nobody is left to be told."""
    before = dropped(running, "gone", "begun")
    slow = Slow(running, monkeypatch, "similar")
    if fails:
        step = running.app.state.window.current.similar

        def failing(**asked: Any) -> Any:
            step(**asked)
            raise RuntimeError("nobody is there")

        monkeypatch.setattr(running.app.state.window.current, "similar", failing)
    with caplog.at_level(logging.INFO):
        client = Leaving(running, "similar", {"item_id": "item-00003"})
        assert slow.begun.wait(120)
        client.cut()
        until(lambda: dropped(running, "gone", "begun") == before + 1)
        slow.go.set()
        monkeypatch.undo()
        assert post(running, "similar", {"item_id": "item-00004"}).status_code == 200
    assert told(caplog) == ["POST /v1/similar: the client went away while it was worked on"]


def test_f69_long_work_goes_no_further_when_its_client_has_left(
    running: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dropped(running, "gone", "begun")
    slow = Slow(running, monkeypatch, "_ranked")
    client = Leaving(running, "rank", RANK)
    assert slow.begun.wait(120)
    client.cut()
    until(lambda: dropped(running, "gone", "begun") == before + 1)
    slow.go.set()
    assert post(running, "similar", {"item_id": "item-00004"}).status_code == 200
    assert slow.steps == 1


def test_f69_events_whose_client_left_while_they_waited_are_not_kept(
    running: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were not acknowledged: they are sent again."""
    event = {"event_id": "left", "user_id": "leaver", "item_id": "item-00003"}
    begun, go = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go.wait(120)

    busy = running.within(lambda: running.app.state.keeper.do(wait))
    assert begun.wait(120)
    client = Leaving(running, "events", {"events": [event]})
    until(lambda: metric(running.url, "etalage_waiting_writes") == 1)
    client.cut()
    until(lambda: metric(running.url, "etalage_waiting_writes") == 0)
    go.set()
    busy.result(120)
    assert httpx.get(f"{running.url}/v1/users/leaver/history").json()["acts"] == []


def test_f69_a_deadline_that_passes_meanwhile_stops_long_work_and_is_counted(
    running: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dropped(running, "deadline", "begun")
    slow, clock = Slow(running, monkeypatch, "_ranked"), Clock(running, monkeypatch)
    with ThreadPoolExecutor(1) as clients:
        asked = clients.submit(post, running, "rank", RANK, **{"x-deadline-ms": "50"})
        assert slow.begun.wait(120)
        clock.forward()
        slow.go.set()
        response = asked.result(120)
    assert response.status_code == 503 and "was not finished" in response.text
    assert response.headers["retry-after"] and slow.steps == 1
    assert dropped(running, "deadline", "begun") == before + 1


def test_f69_an_answer_that_is_late_is_counted(
    running: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = metric(running.url, "etalage_late_total")
    slow, clock = Slow(running, monkeypatch, "similar"), Clock(running, monkeypatch)
    with ThreadPoolExecutor(1) as clients:
        asked = clients.submit(post, running, "similar", {"item_id": "item-00003"}, **{"x-deadline-ms": "50"})
        assert slow.begun.wait(120)
        clock.forward()
        slow.go.set()
        assert asked.result(120).status_code == 200
    assert metric(running.url, "etalage_late_total") == before + 1
