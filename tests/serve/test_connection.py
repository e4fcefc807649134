"""F26, F64: clients that never finish a request, send what is none, or read nothing, are closed, and nobody
else waits for them."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from etalage.serve import connection
from etalage.serve.connection import SILENT_SECONDS, PatientProtocol, most_connections, network_of
from tests.serve.servers import ProcessServer, ThreadServer, until

PATIENCE = 1.0


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadServer]:
    """A server without a bundle that waits for a second, where the real one waits for SILENT_SECONDS."""
    monkeypatch.setattr(PatientProtocol, "silent_seconds", PATIENCE)
    monkeypatch.setattr(PatientProtocol, "request_seconds", 3 * PATIENCE)
    with ThreadServer(tmp_path / "bundles") as running:
        yield running


def wait_until_closed(client: socket.socket, drip: bytes = b"") -> None:
    """By the server, while the client sends `drip` again and again."""
    client.settimeout(0.2)
    ends = time.monotonic() + 240
    while time.monotonic() < ends:
        try:
            if drip:
                client.sendall(drip)
            if client.recv(4096) == b"":
                return
        except TimeoutError:
            continue
        except OSError:
            return
    raise AssertionError("still open after 240 s")


class Clock:
    """The server's; the test puts it forward, when the server has seen what is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self._looks = 0.0, 0
        look = PatientProtocol._look

        def counted(protocol: PatientProtocol) -> None:
            look(protocol)
            self._looks += 1

        monkeypatch.setattr(PatientProtocol, "_look", counted)
        monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=lambda: self.now))

    def forward(self, seconds: float) -> None:
        seen = self._looks + 2
        until(lambda: self._looks >= seen)
        self.now += seconds


@pytest.fixture
def clock(server: ThreadServer, monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def connected(server: ThreadServer, sent: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port))
    client.sendall(sent)
    return client


HEAD = (
    b"POST /v1/similar HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 1000\r\n"
)


def test_f26_an_idle_client_is_closed(server: ThreadServer) -> None:
    wait_until_closed(connected(server))


def test_f26_half_a_head_is_closed_even_drop_by_drop(server: ThreadServer) -> None:
    started = time.monotonic()
    wait_until_closed(connected(server, HEAD), drip=b"X-More: 1\r\n")
    assert time.monotonic() - started > PATIENCE * 0.9


def test_f26_half_a_body_is_closed(server: ThreadServer) -> None:
    wait_until_closed(connected(server, HEAD + b"\r\n{"))


def test_f26_a_body_drop_by_drop_has_an_end_too(server: ThreadServer) -> None:
    started = time.monotonic()
    wait_until_closed(connected(server, HEAD + b"\r\n{"), drip=b" ")
    assert time.monotonic() - started > 2.5 * PATIENCE


def test_f26_others_are_answered_meanwhile(server: ThreadServer) -> None:
    idle = [connected(server, sent) for sent in (b"", HEAD, HEAD + b"\r\n{") for _ in range(20)]
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    for client in idle:
        client.close()


def test_a_client_that_asks_again_is_kept(server: ThreadServer, clock: Clock) -> None:
    """On the same connection, for longer than the server is patient with one that is silent."""
    client = connected(server)
    client.settimeout(240)
    reader = Reader(client)
    for _ in range(4):
        client.sendall(ASK)
        assert reader.answer()
        clock.now += PATIENCE * 0.6
    clock.now += PATIENCE
    wait_until_closed(client)


def test_the_real_patience_is_within_ten_seconds() -> None:
    assert SILENT_SECONDS < 10


# -- F64 ---------------------------------------------------------------------------------------

ASK = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Reader:
    """Takes whole answers from a connection."""

    def __init__(self, client: socket.socket) -> None:
        self.client, self.rest = client, b""

    def answer(self) -> bytes:
        while b"\r\n\r\n" not in self.rest:
            self.rest += self._more()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(self.rest) < length:
            self.rest += self._more()
        body, self.rest = self.rest[:length], self.rest[length:]
        return body

    def _more(self) -> bytes:
        more = self.client.recv(65_536)
        assert more, "closed in the middle"
        return more


def held(server: ThreadServer) -> int:
    return len(server._server.server_state.connections)


@pytest.mark.parametrize("more", [b"\r\n", b"\r\n\r\n", b"\n"])
def test_f64_an_empty_line_after_an_answer_keeps_no_connection(server: ThreadServer, more: bytes) -> None:
    once, again = connected(server, ASK), connected(server, ASK)
    assert Reader(once).answer() == Reader(again).answer()
    once.sendall(more)
    wait_until_closed(once)
    wait_until_closed(again, drip=more)


def unread(server: ThreadServer, requests: int) -> socket.socket:
    """A client that asks so often and reads nothing."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", server.port))
    client.settimeout(0.2)
    with suppress(TimeoutError):
        client.sendall(ASK * requests)
    return client


@pytest.mark.parametrize("requests", [1, 2000])
def test_f64_a_client_that_reads_nothing_is_closed(server: ThreadServer, requests: int) -> None:
    client = unread(server, requests)
    until(lambda: held(server) == 0)
    client.close()
    assert httpx.get(f"{server.url}/healthz").status_code == 200


@pytest.mark.parametrize("at_once", [1, 8192])
def test_f64_a_client_that_reads_byte_by_byte_has_an_end_too(server: ThreadServer, at_once: int) -> None:
    """A byte is not seen by the server, some thousand are: that client reads, and for ever."""
    client = unread(server, 2000)
    started = time.monotonic()
    while held(server):
        with suppress(OSError):
            client.recv(at_once)
        time.sleep(0.05)
        assert time.monotonic() - started < 240
    client.close()


def test_f64_a_slow_client_that_reads_on_gets_all_of_its_answers(
    server: ThreadServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind for longer than the server is patient with one that reads nothing."""
    monkeypatch.setattr(PatientProtocol, "request_seconds", 60.0)
    client = unread(server, 100)
    client.settimeout(240)
    reader = Reader(client)
    answers = []
    for _ in range(100):
        answers.append(reader.answer())
        if clock.now < 2.5 * PATIENCE:
            clock.forward(PATIENCE / 8)
    client.close()
    assert len(set(answers)) == 1 and answers[0].endswith(b"}")


def test_f64_too_many_connections_of_one_address_are_refused_and_others_answered(tmp_path: Path) -> None:
    """As many as the process has descriptors for, all of one who sends nothing; and when they are closed,
    that one is answered too."""
    with ProcessServer(tmp_path / "bundles", tmp_path / "log", files=300) as server:
        port = int(server.url.rsplit(":", 1)[1])
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(400)]
        for client in idle:
            with suppress(OSError):
                client.sendall(b"\r\n")
        refused = httpx.get(f"{server.url}/healthz")
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.2")) as other:
            assert other.get(f"{server.url}/healthz").status_code == 200
        until(lambda: _status(server.url) == 200)
        for client in idle:
            client.close()
    assert "Too many open files" not in server.log.read_text()


def _status(url: str) -> int:
    try:
        return httpx.get(f"{url}/healthz").status_code
    except httpx.TransportError:
        return 0


def test_f64_a_cap_on_all_connections(tmp_path: Path) -> None:
    with ThreadServer(tmp_path / "bundles", max_connections=6) as server:
        held_by = [
            socket.create_connection(("127.0.0.1", server.port), source_address=(f"127.0.0.{n}", 0))
            for n in (2, 3)
            for _ in range(3)
        ]
        until(lambda: held(server) == 6)
        assert _status(server.url) == 503
        held_by.pop().close()
        until(lambda: _status(server.url) == 200)
        for client in held_by:
            client.close()


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_f64_addresses_that_one_client_can_choose_from_count_as_one(host: str, network: str) -> None:
    assert network_of(host) == network


def test_f64_there_are_never_more_connections_than_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    for files, most in ((1024, 896), (300, 172), (100, 2), (resource.RLIM_INFINITY, 1000), (65_536, 1000)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert most_connections(1000) == most
