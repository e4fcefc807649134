"""More shoppers than it can serve, a slow disk, a sudden end: what the routes about shoppers do then."""

import asyncio
import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.serve.servers import ProcessServer, ThreadServer, metric, until

WAITING = 4
SLOW = 0.04
"""Seconds that a slate takes here: so much more than HTTP does that it alone is the server's capacity."""
TIMES = 10
SECONDS = 2.0


def event(number: int, user_id: str) -> dict[str, Any]:
    return {"event_id": f"{user_id}-{number}", "user_id": user_id, "item_id": "item-00003", "kind": "buy"}


async def asked(port: int, body: bytes) -> tuple[int, bytes, float]:
    """One request on a connection of its own: status, head, seconds."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nConnection: close\r\n"
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    answer = await reader.read()
    writer.close()
    head = answer.split(b"\r\n\r\n")[0].lower()
    return int(answer.split(b" ", 2)[1]), head, time.perf_counter() - started


async def open_loop(port: int, rate: float, seconds: float) -> list[tuple[int, bytes, float]]:
    """Requests at times that do not wait for answers."""
    body = json.dumps({"user_id": "user-1", "k": 3}).encode()
    began, tasks = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(asked(port, body)))
    return list(await asyncio.gather(*tasks))


def test_f32_at_ten_times_the_load_it_can_take_those_who_get_in_wait_no_longer_than_the_queue(
    shop_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadServer(shop_copy, max_waiting=WAITING) as server:
        recommender = server.app.state.window.current
        real = recommender.recommend

        def slowly(**about: Any) -> Any:
            time.sleep(SLOW)
            return real(**about)

        monkeypatch.setattr(recommender, "recommend", slowly)
        calm = asyncio.run(open_loop(server.port, 0.3 / SLOW, 3.0))
        crowd = asyncio.run(open_loop(server.port, TIMES / SLOW, SECONDS))
        after = asyncio.run(open_loop(server.port, 0.3 / SLOW, 0.5))
    assert {status for status, _, _ in (*calm, *after)} == {200}
    assert {status for status, _, _ in crowd} == {200, 503}
    assert all(b"\r\nretry-after: 1" in head for status, head, _ in crowd if status == 503)
    admitted = [seconds for status, _, seconds in crowd if status == 200]
    assert len(admitted) > 0.4 * SECONDS / SLOW, "under pressure it still works at its pace"
    # Who gets in waits for at most WAITING others and the one in work: the server adds no queue of its own.
    alone = float(np.quantile([seconds for _, _, seconds in calm], 0.99))
    assert np.quantile(admitted, 0.99) < 2 * (WAITING + 2) * alone


def post(server: ThreadServer, route: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/{route}", json=body, headers=headers, timeout=20)


class Held:
    """Keeps one of the server's threads busy inside the `with`."""

    def __init__(self, server: ThreadServer, worker: str) -> None:
        self.go, self.begun = threading.Event(), threading.Event()
        self.done = server.within(lambda: getattr(server.app.state, worker).do(self._busy))

    def _busy(self) -> None:
        self.begun.set()
        self.go.wait(20)

    def __enter__(self) -> None:
        assert self.begun.wait(20)

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self.done.result(20)


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
        with Held(server, "scorer"):
            hurried = {"x-deadline-ms": "30"}
            late = clients.submit(post, server, "recommend", {"user_id": "late"}, **hurried)
            until(lambda: metric(server.url, "etalage_waiting") == 1)
            patient = clients.submit(post, server, "recommend", {"user_id": "patient"})
            until(lambda: metric(server.url, "etalage_waiting") == 2)
            time.sleep(0.05)
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
                f"{server.url}/v1/events", json={"events": [event(round_, "survivor")]}, timeout=20
            )
            server.process.send_signal(signal.SIGKILL)
            assert done.json()["accepted"] == 1
            server.process.wait(20)
    with ProcessServer(shop_copy, tmp_path / "log") as server:
        acts = httpx.get(f"{server.url}/v1/users/survivor/history", timeout=20).json()["acts"]
        assert len(acts) == 3
        found = httpx.post(f"{server.url}/v1/recommend", json={"user_id": "survivor"}, timeout=20).json()
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
            acts = httpx.get(f"{server.url}/v1/users/busy-{user}/history", timeout=20).json()["acts"]
            assert len(acts) == 12
