"""A small published shop, its server, and the page in front of it.

Most tests ask the page over HTTP; what needs a browser is in test_in_chromium.py alone: while Playwright is
started, no other test of its thread could run an event loop.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from etalage.client import Client
from etalage.page import source
from etalage.page.app import PageSettings, create_app
from tests.page.reading import Element, read
from tests.serve.servers import WAIT, ThreadServer

source.PATIENCE_SECONDS = WAIT  # on a busy machine the page waits as long as the tests do

KEY = "the-key-of-the-page"
ATTACK = "<script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
TRICKS = '[x](javascript:window.pwned=1) $x^2$ **bold** {{ 7 * 7 }} {% raw %} &lt;b&gt; " onload="x'
HOSTILE = "item-00099"
WITHOUT_PHOTO = "item-00007"


class Visitor:
    """Asks the page as a browser without JavaScript would."""

    def __init__(self, http: TestClient) -> None:
        self.http = http

    def get(self, address: str = "/", status: int = 200) -> Element:
        """The page at an address."""
        return self._seen(self.http.get(address), status)

    def post(self, address: str, status: int = 200, **sent: Any) -> tuple[Element, str]:
        """What a form leads to, and its address."""
        response = self.http.post(address, **sent)
        return self._seen(response, status), str(response.url).removeprefix("http://127.0.0.1")

    def upload(self, photo: bytes, place: str = "/", status: int = 200) -> tuple[Element, str]:
        """What is like a photo, and its address."""
        files = {"photo": ("mine.png", photo, "image/png")}
        return self.post("/photo", status, files=files, data={"place": place})

    @staticmethod
    def _seen(response: httpx.Response, status: int) -> Element:
        assert response.status_code == status, response.text
        return read(response.text)


Opened = Callable[..., Visitor]


def opened(url: str, **settings: Any) -> Visitor:
    """The page of a server."""
    app = create_app(PageSettings(url, **{"key": KEY, "name": "Chez Ada", **settings}))
    return Visitor(TestClient(app, base_url="http://127.0.0.1"))


def shown(page: Element, grid: str) -> list[str]:
    """The item_ids of a grid, in its order."""
    return [card["data-item"] for card in page.all(f"#{grid} .card")]


def ids_of(items: Any) -> list[str]:
    return [item.item_id for item in items]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """41 items: 40 plain ones, one of them without a photo, and the most popular one is hostile, its stock
    not known."""
    from etalage.bundle.pointer import Bundles
    from etalage.lake.delta import Lake
    from tests.exports import tiny_export
    from tests.shops import fill, interact, item_row, photo_row, published, rows_of

    folder = tmp_path_factory.mktemp("shop")
    lake = Lake(folder / "tables")
    fill(lake, range(40), [n for n in range(40) if n != 7])
    hostile = item_row(
        99,
        title=ATTACK + TRICKS,
        brand=ATTACK,
        description=ATTACK + TRICKS,
        category_id=f"Bags > {ATTACK}",
        in_stock=None,
        attributes='{"' + ATTACK + '": "' + ATTACK + '"}',
    )
    lake.table("items").merge(rows_of("items", [hostile]))
    lake.table("photos").merge(rows_of("photos", [photo_row(99)]))
    interact(lake, [(99, "buy"), (99, "buy"), (3, "cart"), (39, "view")])
    bundles = Bundles(folder / "bundles")
    published(lake, bundles, tiny_export(folder / "exports" / "image_similarity" / "0001-tiny"))
    return bundles.folder


@pytest.fixture(scope="session")
def server(bundles: Path) -> Iterator[ThreadServer]:
    with ThreadServer(bundles, key=KEY) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: ThreadServer) -> Iterator[Client]:
    with Client(server.url, KEY) as client:
        yield client


@pytest.fixture(scope="session")
def visitor(server: ThreadServer) -> Visitor:
    return opened(server.url)
