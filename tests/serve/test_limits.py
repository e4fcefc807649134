"""More than it can take: F32, F33, and heads without end."""

import asyncio
import itertools
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from etalage.errors import Overloaded
from etalage.serve.connection import MAX_HEAD_BYTES
from etalage.serve.limits import TURN_SECONDS, Worker, _Job, one_step
from tests.serve.servers import Clock, ThreadServer, metric, until

WAITING = 3


@pytest.fixture(scope="module")
def narrow(served_shop: Path) -> Iterator[ThreadServer]:
    """A server whose queue holds three requests."""
    with ThreadServer(served_shop, max_waiting=WAITING) as running:
        yield running


class Blocked:
    """Keeps the server's scoring thread busy inside the `with`."""

    def __init__(self, server: ThreadServer) -> None:
        self.server, self.go = server, threading.Event()
        self.begun = threading.Event()

    def __enter__(self) -> "Blocked":
        def busy() -> None:
            self.begun.set()
            self.go.wait(120)

        self.done = self.server.within(lambda: self.server.app.state.scorer.do(busy))
        assert self.begun.wait(120)
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self.done.result(120)


def post(server: ThreadServer, **headers: str) -> httpx.Response:
    body = {"item_id": "item-00003"}
    return httpx.post(f"{server.url}/v1/similar", json=body, headers=headers, timeout=120)


def test_f32_a_full_queue_answers_503_at_once_and_serves_those_that_it_took(narrow: ThreadServer) -> None:
    with ThreadPoolExecutor(WAITING) as clients:
        with Blocked(narrow):
            taken = [clients.submit(post, narrow) for _ in range(WAITING)]
            until(lambda: metric(narrow.url, "etalage_waiting") == WAITING)
            for _ in range(10):
                refused = post(narrow)
                assert refused.status_code == 503 and refused.json()["error"]["class"] == "Overloaded"
                assert int(refused.headers["retry-after"]) >= 1
            assert httpx.get(f"{narrow.url}/healthz").is_success, "health does not queue"
        assert [future.result().status_code for future in taken] == [200] * WAITING
    until(lambda: metric(narrow.url, "etalage_waiting") == 0)
    assert post(narrow).status_code == 200


def test_f33_a_request_whose_deadline_passed_in_the_queue_is_not_scored(
    narrow: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = narrow.app.state.window
    scored: list[str] = []
    real = window.current.similar

    def noted(**asked: Any) -> Any:
        scored.append(asked["item_id"])
        return real(**asked)

    monkeypatch.setattr(window.current, "similar", noted)
    clock = Clock(narrow, monkeypatch)
    with ThreadPoolExecutor(2) as clients:
        with Blocked(narrow):
            late = clients.submit(post, narrow, **{"x-deadline-ms": "30"})
            until(lambda: metric(narrow.url, "etalage_waiting") == 1)
            patient = clients.submit(post, narrow)
            until(lambda: metric(narrow.url, "etalage_waiting") == 2)
            clock.forward(1)
        assert late.result().status_code == 503 and "was not begun" in late.result().text
        assert patient.result().status_code == 200
    assert len(scored) == 1


@pytest.mark.parametrize("deadline", ["0", "-5", "soon", "1e3", "99999999"])
def test_a_deadline_that_is_none_is_422(narrow: ThreadServer, deadline: str) -> None:
    response = post(narrow, **{"x-deadline-ms": deadline})
    assert response.status_code == 422 and "x-deadline-ms" in response.json()["error"]["message"]


def test_in_each_turn_something_is_done_however_late_it_comes() -> None:
    worker = Worker(9)
    ticks = itertools.count(step=TURN_SECONDS + 1)  # a turn is over between any two looks at the clock
    worker.clock = lambda: float(next(ticks))
    worker.waiting = 2  # this one, and another that waits for its turn
    done = worker._go_on(_Job(one_step(lambda: "done"), deadline=1e6, seconds=1e6))
    assert done is not None and done.result == "done"
    worker.close()


def test_the_count_of_the_waiting_survives_a_caller_that_goes_away() -> None:
    async def scenario() -> None:
        scorer, begun, go = Worker(2), threading.Event(), threading.Event()
        first = asyncio.create_task(scorer.do(lambda: begun.set() or go.wait(120)))
        await asyncio.to_thread(begun.wait, 20)
        gone = [asyncio.create_task(scorer.do(lambda: None)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await scorer.do(lambda: None)
        for task in gone:
            task.cancel()
        go.set()
        assert await first
        async with asyncio.timeout(240):
            while scorer.waiting:
                await asyncio.sleep(0.001)
        assert await scorer.do(lambda: "served") == "served"
        scorer.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("piece", [b"X-Header: " + b"a" * 500 + b"\r\n", b"a" * 4096])
def test_a_head_without_end_is_cut_off(narrow: ThreadServer, piece: bytes) -> None:
    with socket.create_connection(("127.0.0.1", narrow.port), timeout=120) as raw:
        sent = raw.send(b"GET /v1/items HTTP/1.1\r\nHost: localhost\r\nX-First: ")
        try:
            while sent < 100 * MAX_HEAD_BYTES:
                sent += raw.send(piece)
        except OSError:
            pass  # closed under us: as it should be
    assert sent < 100 * MAX_HEAD_BYTES
    assert httpx.get(f"{narrow.url}/healthz").is_success


def test_pipelined_and_kept_connections_do_not_add_up_to_a_long_head(narrow: ThreadServer) -> None:
    padding = "a" * (MAX_HEAD_BYTES // 3)
    with httpx.Client(base_url=narrow.url) as http:
        for _ in range(8):
            assert http.get("/v1/items/item-00001", headers={"x-padding": padding}).is_success
