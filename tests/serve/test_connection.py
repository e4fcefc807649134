"""F26: clients that never finish a request are closed, and nobody else waits for them."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from etalage.serve.connection import SILENT_SECONDS, PatientProtocol
from tests.serve.servers import ThreadServer

PATIENCE = 1.0


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadServer]:
    """A server without a bundle that waits for a second, where the real one waits for SILENT_SECONDS."""
    monkeypatch.setattr(PatientProtocol, "silent_seconds", PATIENCE)
    monkeypatch.setattr(PatientProtocol, "request_seconds", 3 * PATIENCE)
    with ThreadServer(tmp_path / "bundles") as running:
        yield running


def seconds_until_closed(client: socket.socket, drip: bytes = b"", every: float = 0.2) -> float:
    """How long the server keeps the connection, while the client sends `drip` again and again."""
    started = time.monotonic()
    client.settimeout(every)
    while time.monotonic() - started < 20:
        try:
            if drip:
                client.sendall(drip)
            if client.recv(4096) == b"":
                return time.monotonic() - started
        except TimeoutError:
            continue
        except OSError:
            return time.monotonic() - started
    raise AssertionError("still open after 20 s")


def connected(server: ThreadServer, sent: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port))
    client.sendall(sent)
    return client


HEAD = (
    b"POST /v1/similar HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 1000\r\n"
)


def test_f26_an_idle_client_is_closed(server: ThreadServer) -> None:
    assert seconds_until_closed(connected(server)) < 10 * PATIENCE


def test_f26_half_a_head_is_closed_even_drop_by_drop(server: ThreadServer) -> None:
    taken = seconds_until_closed(connected(server, HEAD), drip=b"X-More: 1\r\n")
    assert PATIENCE * 0.9 < taken < 10 * PATIENCE


def test_f26_half_a_body_is_closed(server: ThreadServer) -> None:
    assert seconds_until_closed(connected(server, HEAD + b"\r\n{")) < 10 * PATIENCE


def test_f26_a_body_drop_by_drop_has_an_end_too(server: ThreadServer) -> None:
    taken = seconds_until_closed(connected(server, HEAD + b"\r\n{"), drip=b" ")
    assert 2.5 * PATIENCE < taken < 10 * PATIENCE


def test_f26_others_are_answered_meanwhile(server: ThreadServer) -> None:
    idle = [connected(server, sent) for sent in (b"", HEAD, HEAD + b"\r\n{") for _ in range(20)]
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    for client in idle:
        client.close()


def test_a_client_that_asks_again_is_kept(server: ThreadServer) -> None:
    with httpx.Client() as client:
        for _ in range(4):
            assert client.get(f"{server.url}/healthz").status_code == 200
            time.sleep(PATIENCE * 0.6)


def test_the_real_patience_is_within_ten_seconds() -> None:
    assert SILENT_SECONDS < 10
