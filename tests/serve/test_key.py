"""Who may ask: F34, F35."""

import contextlib
import logging
from pathlib import Path

import httpx
import pytest

from etalage.config import ServeConfig
from etalage.errors import ServeError
from etalage.serve.run import check_address, is_loopback, read_key, run
from tests.serve.servers import ProcessServer, ThreadServer

KEY = "kept-secret-4711"
CLOSED = (
    "/v1/items",
    "/v1/items/item-00001",
    "/v1/photos/item-00001",
    "/v1/categories",
    "/metrics",
    "/openapi.json",
)


def test_f34_without_the_right_key_everything_but_health_is_401(served_shop: Path) -> None:
    with ThreadServer(served_shop, key=KEY) as server, httpx.Client(base_url=server.url) as http:
        wrong = (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": f"Bearer {KEY}x"},
            {"authorization": f"Bearer {KEY[:-1]}"},
            {"authorization": f"Basic {KEY}"},
            {"authorization": KEY},
            {"authorization": "Bearer"},
            {"authorization": "Bearer kéy".encode()},
            {"x-api-key": KEY},
        )
        for headers in wrong:
            for path in (*CLOSED, "/nowhere"):
                response = http.get(path, headers=headers)  # type: ignore[arg-type]
                assert response.status_code == 401, (path, headers)
                assert response.headers["www-authenticate"].startswith("Bearer")
                assert response.json()["error"]["class"] == "KeyRefused"
            posted = http.post("/v1/similar", json={"item_id": "item-00001"}, headers=headers)  # type: ignore[arg-type]
            assert posted.status_code == 401
        twice = [("authorization", f"Bearer {KEY}"), ("authorization", "Bearer wrong")]
        assert http.get("/v1/items", headers=twice).status_code == 401
        for path in ("/", "/healthz", "/readyz"):
            assert http.get(path).status_code == 200
        right = {"authorization": f"Bearer {KEY}"}
        assert {http.get(path, headers=right).status_code for path in CLOSED} == {200}
        assert http.post("/v1/similar", json={"item_id": "item-00001"}, headers=right).is_success
        assert http.get("/v1/items", headers={"authorization": f"bearer {KEY}"}).is_success


def test_f34_the_key_is_in_no_log(served_shop: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    right = {"authorization": f"Bearer {KEY}"}
    with ProcessServer(served_shop, log, key=KEY) as server, httpx.Client(base_url=server.url) as http:
        assert http.get("/v1/items?search=seen-in-access-log", headers=right).is_success
        http.get("/v1/items", headers={"authorization": f"Bearer {KEY}-not-quite"})
        http.get("/v1/items", headers={"authorization": f"Bearer {KEY}", "x-bad": "\x01"})
        http.post("/v1/similar", content=b"\xff{", headers=right)
        http.get("/v1/items?limit=none", headers=right)
        with contextlib.suppress(httpx.TransportError):  # answered and closed before all was sent
            http.get("/v1/items", headers={**right, "x-long": "a" * 100_000})
        answers = http.get("/openapi.json", headers=right).text + http.get("/metrics", headers=right).text
        assert server.process.stdout is not None
    written = log.read_text() + server.log.read_text()
    assert "seen-in-access-log" in written, "the access log was not on: nothing was tested"
    assert KEY not in written and KEY not in answers


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.7"])
def test_f35_a_public_address_without_a_key_refuses_to_start(served_shop: Path, host: str) -> None:
    with pytest.raises(ServeError, match="give a key"):
        run(served_shop, ServeConfig(host=host, port=0))
    check_address(host, KEY)


@pytest.mark.parametrize("key", ["", "two words", "new\nline", "ключ"])
def test_f35_an_empty_key_is_no_key(served_shop: Path, key: str) -> None:
    with pytest.raises(ServeError, match="the key is empty or holds"):
        run(served_shop, ServeConfig(port=0), key)


def test_loopback_is_what_only_this_machine_reaches() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.8.9.1", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "", "10.0.0.1", "no.such.host.invalid"]))


def test_a_key_file_ends_with_a_newline(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert read_key(file) == KEY
    file.write_text("\n")
    with pytest.raises(ServeError, match="empty"):
        read_key(file)
    with pytest.raises(ServeError, match="cannot be read"):
        read_key(tmp_path / "none")


def test_by_default_the_server_listens_on_loopback() -> None:
    assert is_loopback(ServeConfig().host)


def test_the_gate_logs_no_headers_when_a_route_breaks(
    served_shop: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadServer(served_shop, key=KEY) as server:
        window = server.app.state.window
        monkeypatch.setattr(window.current, "catalogue", None)  # a defect of ours, made on purpose
        with caplog.at_level(logging.DEBUG):
            response = httpx.get(f"{server.url}/v1/items/a", headers={"authorization": f"Bearer {KEY}"})
    assert response.status_code == 500
    assert response.json()["error"] == {"class": "InternalError", "message": "see the server's log"}
    assert "GET /v1/items/{item_id:path} failed" in caplog.text and KEY not in caplog.text
