"""What shoppers are told when something goes wrong."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from etalage.page import views
from etalage.page.app import PageSettings, create_app
from tests.page.conftest import KEY, Visitor, opened
from tests.ports import held_port
from tests.serve.servers import ThreadServer, until


@pytest.fixture
def down() -> Iterator[int]:
    """The port of a server that is down."""
    with held_port() as port:
        yield port


def test_the_password_of_an_address_is_sent_and_never_shown(down: int, server: ThreadServer) -> None:
    page = opened(f"http://ada:pa55@127.0.0.1:{down}").get("/", status=503)
    assert f"http://127.0.0.1:{down}" in page.one(".detail p").text
    for address in (f"http://ada:pa55@127.0.0.1:{down}", server.url.replace("//", "//ada:pa55@")):
        response = opened(address, compare_url=address).http.get("/?view=shopper")
        assert response.status_code in (502, 503) and "pa55" not in response.text
    assert "pa55" not in repr(PageSettings("http://ada:pa55@shop", compare_url="http://ada:pa55@shop"))


def test_a_server_that_is_down_is_said_so_and_can_be_tried_again(down: int) -> None:
    visitor = opened(f"http://127.0.0.1:{down}")
    for address in ("/", "/?item=item-00003&category=Bags", "/?view=shopper", "/?view=categories"):
        page = visitor.get(address, status=503)
        assert page.one(".notice h1").text == "The shop does not answer"
        assert page.one(".notice a").text == "Try again"
        assert visitor.get(page.one(".notice a")["href"], status=503).one("h1").text == page.one("h1").text
        assert "Traceback" not in page.text
    assert visitor.http.get("/photos/shop/b/480/item-00003").status_code == 503
    assert visitor.http.get("/healthz").text == "alive\n", "the page itself is there"


def test_a_wrong_key_is_said_so_without_saying_the_key(server: ThreadServer) -> None:
    page = opened(server.url, key="another-key").get("/", status=502)
    assert page.one(".notice h1").text == "The server asks for a key"
    assert "another-key" not in page.text and KEY not in page.text


def test_an_empty_shop_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "bundles").mkdir()
    with ThreadServer(tmp_path / "bundles") as server:
        page = opened(server.url, key=None).get("/", status=503)
        assert page.one(".notice h1").text == "The window is still empty"


def test_an_address_where_nothing_is_gets_a_page_too(visitor: Visitor) -> None:
    for address in ("/nowhere", "/photos/mine/none", "/photos/shop/b/481/item-00003", "/static/page.css"):
        assert visitor.get(address, status=404).one(".notice h1").text == "There is nothing here"
    assert visitor.http.get("/act").status_code == 405
    assert visitor.http.get("/photos/other/b/480/item-00003").status_code == 404
    assert visitor.http.get("/photos/shop/b/480/item-55555").status_code == 404


def test_a_photo_of_another_bundle_is_not_kept_under_this_ones_name(visitor: Visitor) -> None:
    response = visitor.http.get("/photos/shop/b999999-00000000/480/item-00003")
    assert response.status_code == 200 and response.headers["cache-control"] == "no-store"


@pytest.fixture
def silent() -> Iterator[tuple[str, threading.Event, list[str]]]:
    """A server that answers nothing until it is let; and who waits for it."""
    go, asked = threading.Event(), []

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            go.wait(240)
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", go, asked
        go.set()
        server.shutdown()


def test_a_slow_server_holds_up_who_waits_for_it_and_nobody_else(
    silent: tuple[str, threading.Event, list[str]],
) -> None:
    url, go, asked = silent
    visitor = opened(url)
    with visitor.http:  # one event loop for all
        waiting = [threading.Thread(target=visitor.http.get, args=("/",)) for _ in range(4)]
        for one in waiting:
            one.start()
        until(lambda: len(asked) == 4)
        assert visitor.http.get("/healthz").status_code == 200
        assert visitor.get("/nowhere", status=404).one("h1").text == "There is nothing here"
        assert all(one.is_alive() for one in waiting)
        go.set()
        for one in waiting:
            one.join(240)


def test_a_mistake_of_ours_is_logged_and_said_without_its_insides(
    server: ThreadServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from starlette.testclient import TestClient

    def broken(*_: object) -> None:
        raise ZeroDivisionError("the insides")

    monkeypatch.setattr(views, "grid", broken)
    app = create_app(PageSettings(server.url, KEY))
    http = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    response = http.get("/")
    assert response.status_code == 500 and "That was our mistake" in response.text
    assert "insides" not in response.text and "the insides" in caplog.text
