"""More shoppers than it can serve, a slow disk, a sudden end: what the routes about shoppers do then."""

import itertools
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve.servers import Clock, ProcessServer, ThreadServer, metric, until

WAITING = 4
SLOW = 0.01
"""Seconds that a slate takes here at least."""
TIMES = 10


def event(number: int, user_id: str) -> dict[str, Any]:
    return {"event_id": f"{user_id}-{number}", "user_id": user_id, "item_id": "item-00003", "kind": "buy"}


def post(server: ThreadServer, route: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/{route}", json=body, headers=headers, timeout=240)


class Held:
    """Keeps one of the server's threads busy inside the `with`."""

    def __init__(self, server: ThreadServer, worker: str) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self.done = server.within(lambda: getattr(server.app.state, worker).do(self._busy))

    def _busy(self) -> None:
        self.begun.set()
        self.go.wait(120)

    def __enter__(self) -> None:
        assert self.begun.wait(120)

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self.done.result(120)


def test_f32_at_ten_times_the_load_it_can_take_those_who_get_in_wait_no_longer_than_the_queue(
    shop_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in slates, not in seconds: another process may have the processor."""
    with (
        ThreadServer(shop_copy, max_waiting=WAITING) as server,
        ThreadPoolExecutor(TIMES * WAITING) as clients,
        httpx.Client(base_url=server.url, timeout=240) as client,
    ):
        Clock(server, monkeypatch)  # which nobody puts forward
        ahead = slates_ahead(server, monkeypatch)

        def ask() -> httpx.Response:
            return client.post("/v1/recommend", json={"user_id": "user-1", "k": 3})

        def crowd() -> list[Future[httpx.Response]]:
            return [clients.submit(ask) for _ in range(TIMES * WAITING)]

        with Held(server, "scorer"):
            asked = crowd()
            told = [done.result() for done in islice(as_completed(asked, 240), (TIMES - 1) * WAITING)]
            assert {one.status_code for one in told} == {503}, "nothing is scored, and these are told already"
            assert {one.headers["retry-after"] for one in told} == {"1"}
            assert metric(server.url, "etalage_waiting") == WAITING
        assert sorted(done.result().status_code for done in asked)[:WAITING] == [200] * WAITING
        pressed = [done.result().status_code for _ in range(3) for done in crowd()]
        assert set(pressed) == {200, 503}
        assert [ask().status_code for _ in range(5)] == [200] * 5
    assert len(ahead) == 1 + WAITING + pressed.count(200) + 5, "what held it, and all that were answered"
    # Who gets in waits for those who wait already and the one in work: the server adds no queue of its own.
    assert max(ahead) <= WAITING


def slates_ahead(server: ThreadServer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each slate that is made from now on, none of them in less than SLOW seconds: how many others were
    made between its request's coming and its end."""
    scorer, recommender = server.app.state.scorer, server.app.state.window.current
    score, do, made, ahead = recommender.recommend, scorer.do_in_turns, itertools.count(), []
    latest = [next(made)]

    def slowly(**about: Any) -> Any:
        time.sleep(SLOW)
        latest[0] = next(made)
        return score(**about)

    async def noted(steps: Any, *about: Any) -> Any:
        came = latest[0]

        def noting() -> Any:
            done = yield from steps
            ahead.append(latest[0] - came - 1)
            return done

        return await do(noting(), *about)

    monkeypatch.setattr(recommender, "recommend", slowly)
    monkeypatch.setattr(scorer, "do_in_turns", noted)
    return ahead


def test_f33_a_shopper_whose_deadline_passed_in_the_queue_is_not_scored(
    shop_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadServer(shop_copy) as server, ThreadPoolExecutor(2) as clients:
        recommender = server.app.state.window.current
        real, scored = recommender.recommend, []

        def noted(**about: Any) -> Any:
            scored.append(about["user_id"])
            return real(**about)

        monkeypatch.setattr(recommender, "recommend", noted)
        clock = Clock(server, monkeypatch)
        with Held(server, "scorer"):
            hurried = {"x-deadline-ms": "30"}
            late = clients.submit(post, server, "recommend", {"user_id": "late"}, **hurried)
            until(lambda: metric(server.url, "etalage_waiting") == 1)
            patient = clients.submit(post, server, "recommend", {"user_id": "patient"})
            until(lambda: metric(server.url, "etalage_waiting") == 2)
            clock.forward(1)
        assert late.result().status_code == 503 and late.result().headers["retry-after"] == "1"
        assert patient.result().status_code == 200
        assert scored == ["patient"]


def test_a_slow_disk_holds_up_no_slate_and_a_full_queue_of_writes_is_503(shop_copy: Path) -> None:
    with ThreadServer(shop_copy, max_waiting=WAITING) as server, ThreadPoolExecutor(WAITING) as clients:
        with Held(server, "keeper"):
            writes = [
                clients.submit(post, server, "events", {"events": [event(number, "writer")]})
                for number in range(WAITING)
            ]
            until(lambda: metric(server.url, "etalage_waiting_writes") == WAITING)
            assert post(server, "recommend", {"user_id": "user-1"}).status_code == 200
            refused = post(server, "events", {"events": [event(99, "writer")]})
            assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
            erased = httpx.delete(f"{server.url}/v1/users/writer")
            assert erased.status_code == 503
        assert [write.result().json()["accepted"] for write in writes] == [1] * WAITING
        acts = httpx.get(f"{server.url}/v1/users/writer/history").json()["acts"]
        assert len(acts) == WAITING, "what was refused is not there; what was taken is"


def test_an_answered_event_survives_the_servers_sudden_death(shop_copy: Path, tmp_path: Path) -> None:
    for round_ in range(3):
        with ProcessServer(shop_copy, tmp_path / f"log-{round_}") as server:
            done = httpx.post(
                f"{server.url}/v1/events", json={"events": [event(round_, "survivor")]}, timeout=240
            )
            server.process.send_signal(signal.SIGKILL)
            assert done.json()["accepted"] == 1
            server.process.wait(120)
    with ProcessServer(shop_copy, tmp_path / "log") as server:
        acts = httpx.get(f"{server.url}/v1/users/survivor/history", timeout=240).json()["acts"]
        assert len(acts) == 3
        found = httpx.post(f"{server.url}/v1/recommend", json={"user_id": "survivor"}, timeout=240).json()
        assert found["known"]


def test_slates_are_answered_while_events_pour_in(shop_copy: Path) -> None:
    """Reads and writes at once, from many clients: none fails, none is lost."""
    with ThreadServer(shop_copy) as server, ThreadPoolExecutor(6) as clients:
        writes = [
            clients.submit(post, server, "events", {"events": [event(n, f"busy-{n % 5}")]}) for n in range(60)
        ]
        reads = [clients.submit(post, server, "recommend", {"user_id": f"busy-{n % 5}"}) for n in range(60)]
        assert {done.result().status_code for done in (*writes, *reads)} == {200}
        for user in range(5):
            acts = httpx.get(f"{server.url}/v1/users/busy-{user}/history", timeout=240).json()["acts"]
            assert len(acts) == 12
