"""F59, F60 in a real browser: what a stranger's page can do to a server on loopback.

The stranger's site is another server on this machine that the browser knows as evil.test; rebound.test is a
name of the stranger's that has come to stand for the server itself.
"""

import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chromium import launched
from tests.serve.servers import ThreadServer, until

MAPPED = "--host-resolver-rules=MAP *.test 127.0.0.1"
ASK = "async ([url, how]) => { try { const r = await fetch(url, how); return [r.status, await r.text()] } \
catch (error) { return [0, String(error)] } }"


class Site:
    """A web site of one empty page, on a port of this machine."""

    def __init__(self) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(b"<!doctype html><title>a site</title>")

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port

    def __enter__(self) -> "Site":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as running:
        yield running


@pytest.fixture(scope="module")
def server(
    shoppers_shop: Path, tmp_path_factory: pytest.TempPathFactory, site: Site
) -> Iterator[ThreadServer]:
    """Of a copy; pages of http://www.test may ask it."""
    folder = tmp_path_factory.mktemp("browsed") / "shop"
    shutil.copytree(shoppers_shop.parent, folder)
    with ThreadServer(folder / "bundles", origins=(f"http://www.test:{site.port}",)) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched(MAPPED) as browser:
        yield browser


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    page = browser.new_page()
    page.set_default_timeout(240_000)
    yield page
    page.close()


def event(name: str) -> str:
    return f'{{"events": [{{"event_id": "{name}", "user_id": "{name}", "item_id": "item-00001"}}]}}'


def acts(server: ThreadServer, user: str) -> list[Any]:
    found: list[Any] = httpx.get(f"{server.url}/v1/users/{user}/history").json()["acts"]
    return found


def requests(server: ThreadServer, route: str) -> float:
    """How many requests with that method and status the server has answered."""
    text = httpx.get(f"{server.url}/metrics").text
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith(f"etalage_requests_total{{{route}")
    )


def test_f59_a_strangers_page_writes_nothing_however_it_sends(
    page: Any, server: ThreadServer, site: Site
) -> None:
    page.goto(f"http://evil.test:{site.port}/")
    before = requests(server, 'method="POST"')
    sent = page.evaluate(
        """async ([url, body]) => {
            navigator.sendBeacon(url, new Blob([body]))
            navigator.sendBeacon(url, new Blob([body], {type: 'text/plain'}))
            for (const content of [new Blob([body]), body, new TextEncoder().encode(body)])
                await fetch(url, {method: 'POST', mode: 'no-cors', body: content}).catch(() => null)
            await fetch(url, {method: 'POST', body: new Blob([body]), keepalive: true}).catch(() => null)
            const make = (tag, settings) => Object.assign(document.createElement(tag), settings)
            const form = make('form', {method: 'POST', action: url, enctype: 'text/plain', target: 'nowhere'})
            form.append(make('input', {name: body.slice(0, -1) + ',"x":"', value: '"}'}))
            document.body.append(make('iframe', {name: 'nowhere'}), form)
            form.submit()
            return 7
        }""",
        [f"{server.url}/v1/events", event("beacon")],
    )
    until(lambda: requests(server, 'method="POST"') >= before + sent)
    assert requests(server, 'method="POST",route="/v1/events",status="200"') == 0
    assert acts(server, "beacon") == []


def test_f59_a_strangers_page_reads_and_erases_nothing(page: Any, server: ThreadServer, site: Site) -> None:
    page.goto(f"http://evil.test:{site.port}/")
    as_json = {"content-type": "application/json"}
    for path, how in (
        ("/v1/users/user-1/history", {}),
        ("/v1/users/user-1", {"method": "DELETE"}),
        ("/v1/events", {"method": "POST", "body": event("json"), "headers": as_json}),
        ("/v1/items", {"mode": "no-cors"}),
    ):
        status, text = page.evaluate(ASK, [server.url + path, how])
        assert status == 0 and "item" not in text, (path, status, text)
    assert acts(server, "user-1") and acts(server, "json") == []


def test_f59_an_allowed_page_reads_sends_and_erases(page: Any, server: ThreadServer, site: Site) -> None:
    page.goto(f"http://www.test:{site.port}/")
    as_json = {"content-type": "application/json", "x-deadline-ms": "60000"}
    sent = {"method": "POST", "body": event("allowed"), "headers": as_json}
    status, text = page.evaluate(ASK, [f"{server.url}/v1/events", sent])
    assert (status, '"accepted":1' in text) == (200, True), text
    status, text = page.evaluate(ASK, [f"{server.url}/v1/users/allowed/history", {}])
    assert status == 200 and "item-00001" in text
    status, _ = page.evaluate(ASK, [f"{server.url}/v1/users/allowed", {"method": "DELETE"}])
    assert status == 200 and acts(server, "allowed") == []


def test_f60_a_name_that_was_made_to_stand_for_this_machine_reads_and_erases_nothing(
    page: Any, server: ThreadServer
) -> None:
    """The browser takes the page and the server for one site: it forbids nothing."""
    rebound = f"http://rebound.test:{server.port}"
    page.goto(f"{rebound}/v1/items")
    assert "HostRefused" in page.content()
    as_json = {"content-type": "application/json"}
    for path, how in (
        ("/v1/users/user-1/history", {}),
        ("/v1/users", {}),
        ("/v1/users/user-1", {"method": "DELETE"}),
        ("/v1/events", {"method": "POST", "body": event("rebound"), "headers": as_json}),
    ):
        status, text = page.evaluate(ASK, [rebound + path, how])
        assert status == 421 and "HostRefused" in text, (path, status, text)
    assert acts(server, "user-1") and acts(server, "rebound") == []


def test_f60_our_own_name_is_answered_in_the_browser(page: Any, server: ThreadServer) -> None:
    for name in ("127.0.0.1", "localhost"):
        page.goto(f"http://{name}:{server.port}/v1/items")
        status, text = page.evaluate(ASK, ["/v1/users/user-1/history", {}])
        assert status == 200 and "item-000" in text
