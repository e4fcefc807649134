"""A small published shop, its server, the real page, and a real browser that looks at it.

All of one module: while Playwright is started, no other test of this thread could run an event loop.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from etalage.client import Client
from etalage.page.run import command, environment
from tests.ports import free_port
from tests.serve.servers import ThreadServer, until

KEY = "the-key-of-the-page"
ATTACK = "<script>window.pwned=1</script><img src=x onerror=window.pwned=1>"
TRICKS = "[x](javascript:window.pwned=1) $x^2$ **bold** `code` :material/home: :red[red] :smile: &lt;b&gt;"
HOSTILE = "item-00099"
WITHOUT_PHOTO = "item-00007"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

Visit = Callable[..., Any]


class PageProcess:
    """The page as `etalage page` starts it, in a process of its own."""

    def __init__(self, server: str, log: Path, key: str | None = None, compare: str | None = None) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self._process = subprocess.Popen(
            command(server, port),
            env=environment(server, key, compare=compare),
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> "PageProcess":
        until(self._is_up, 240)
        return self

    def _is_up(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/_stcore/health", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(120)


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def server(bundles: Path) -> Iterator[ThreadServer]:
    with ThreadServer(bundles, key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ThreadServer) -> Iterator[Client]:
    with Client(server.url, KEY) as client:
        yield client


@pytest.fixture(scope="module")
def storefront(server: ThreadServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageProcess]:
    with PageProcess(server.url, tmp_path_factory.mktemp("page") / "log", KEY) as running:
        yield running


def chromium() -> str:
    """Where it is."""
    if os.environ.get("ETALAGE_NO_BROWSER") == "1":
        pytest.skip("ETALAGE_NO_BROWSER=1")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.fail("no chromium on the PATH: install it, or set ETALAGE_NO_BROWSER=1 to test without one")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; ETALAGE_NO_BROWSER=1 leaves these tests out."""
    from playwright.sync_api import sync_playwright

    found = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(browser: Any) -> Iterator[Any]:
    """One for all, so that Streamlit's scripts are loaded once; each page is a new shopper all the same."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(240_000)
    yield context
    context.close()


@pytest.fixture
def visit(context: Any, storefront: PageProcess) -> Iterator[Visit]:
    """`visit("?item=…")` opens the page as a new shopper; no script error may happen on it."""
    broken: list[str] = []

    def visit(query: str = "", at: PageProcess = storefront) -> Any:
        page = context.new_page()
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.goto(f"{at.url}/{query}", wait_until="commit")
        return page

    yield visit
    for page in context.pages:
        page.close()
    assert not broken, broken
