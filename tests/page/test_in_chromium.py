"""The page in a real Chromium: what follows what is typed, the keyboard, a phone, and what a screen reader is
told. One browser, one server and one page for all of it."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import uvicorn

from etalage.client import Client
from etalage.page.app import PageSettings, create_app
from tests.chromium import launched
from tests.page.conftest import ATTACK, HOSTILE, KEY, ids_of
from tests.page.looking import LOOKS
from tests.ports import held_port
from tests.serve.servers import ProcessServer, ThreadServer, until
from tests.shops import drawn_photo

WIDE, PHONE = {"width": 1400, "height": 1000}, {"width": 390, "height": 844}
Visit = Callable[..., Any]


class PageThread:
    """The page of a server, in a thread."""

    def __init__(self, url: str) -> None:
        app = create_app(PageSettings(url, KEY, "Chez Ada"))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(app, lifespan="off", ws="none", log_config=None))
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._server.serve([self._socket])), daemon=True
        )

    def __enter__(self) -> "PageThread":
        self._thread.start()
        until(lambda: self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(240)
        self._socket.close()


@pytest.fixture(scope="module")
def storefront(server: ThreadServer) -> Iterator[PageThread]:
    with PageThread(server.url) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture
def visit(browser: Any, storefront: PageThread) -> Iterator[Visit]:
    """`visit("/?item=…")` opens the page as a new shopper. No script may fail on it, and nothing that its
    policy forbids may be tried."""
    broken: list[str] = []
    contexts = []

    def visit(address: str = "/", at: PageThread = storefront, size: Any = WIDE, **settings: Any) -> Any:
        context = browser.new_context(viewport=size, **settings)
        context.set_default_timeout(240_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: broken.append(str(error)))
        page.on("console", lambda said: broken.append(said.text) if "ecurity Policy" in said.text else None)
        page.goto(f"{at.url}{address}")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not broken, broken


def expect_ids(page: Any, grid: str, ids: list[str]) -> None:
    """Wait until these are the items of the grid, in this order."""
    shown = f"[...document.querySelectorAll('#{grid} .card')].map((card) => card.dataset.item)"
    try:
        page.wait_for_function(f"(ids) => JSON.stringify({shown}) === JSON.stringify(ids)", arg=ids)
    except Exception:
        assert page.evaluate(shown) == ids
        raise


def expect_text(page: Any, where: str, text: str) -> None:
    from playwright.sync_api import expect

    expect(page.locator(where)).to_have_text(text, timeout=240_000)


def stay(page: Any) -> None:
    """Mark the document, to see later whether it is still the same."""
    page.evaluate("window.stayed = true")


def stayed(page: Any) -> bool:
    return bool(page.evaluate("window.stayed === true"))


# -- typing and choosing -----------------------------------------------------------------------


def test_the_grid_follows_what_is_typed_and_says_so(visit: Visit, client: Client) -> None:
    page = visit()
    stay(page)
    search = page.get_by_role("searchbox", name="Search")
    search.press_sequentially("bellamy boots")
    found = client.items("bellamy boots", limit=30)
    expect_ids(page, "grid", ids_of(found.items))
    expect_text(page, "#said", f"{found.total} items")
    assert page.url.endswith("/?q=bellamy+boots") and stayed(page)
    assert page.title() == "“bellamy boots” · Chez Ada"
    assert search.evaluate("(one) => one === document.activeElement && one.value") == "bellamy boots"
    search.fill("bellamy botos")
    instead = "No results for “bellamy botos”. Showing results for “bellamy boots”."
    expect_text(page, "#said", f"{found.total} items {instead}")
    search.fill("zzzzzzzz")
    expect_text(page, "#said", "0 items Nothing like that here")


def test_filters_sort_and_the_back_button_keep_the_page(visit: Visit, client: Client) -> None:
    page = visit()
    stay(page)
    page.get_by_role("navigation", name="Categories").get_by_role("link", name="Clothing").first.click()
    expect_ids(page, "grid", ids_of(client.items(category="Clothing", limit=30).items))
    expect_text(page, "h1", "Clothing")
    focused = "document.activeElement.dataset.value"
    assert page.evaluate(focused) == "Clothing", "the keyboard goes on where it was"
    page.get_by_label("Only what is in stock").check()
    stocked = client.items(category="Clothing", in_stock=True, limit=30)
    expect_ids(page, "grid", ids_of(stocked.items))
    page.get_by_label("Sort by").select_option("Price: high to low")
    dear = client.items(category="Clothing", in_stock=True, sort="-price", limit=30)
    expect_ids(page, "grid", ids_of(dear.items))
    page.get_by_role("navigation", name="Brands").get_by_role("link", name="Corvo").click()
    corvo = client.items(category="Clothing", in_stock=True, sort="-price", brand="Corvo", limit=30)
    expect_ids(page, "grid", ids_of(corvo.items))
    page.get_by_label("to", exact=True).fill("30.5")
    page.keyboard.press("Tab")
    wish = {"category": "Clothing", "in_stock": True, "brand": "Corvo", "max_price": 30.5}
    expect_ids(page, "grid", ids_of(client.items(**wish, sort="-price", limit=30).items))
    address = page.url
    for back in (corvo, dear, stocked):
        page.go_back()
        expect_ids(page, "grid", ids_of(back.items))
    assert page.get_by_label("Only what is in stock").is_checked()
    assert stayed(page)
    page.goto(address)
    assert page.get_by_label("to", exact=True).input_value() == "30.5"
    page.locator("#grid a").first.click()
    page.locator("article.item").wait_for()
    page.get_by_role("link", name="Back to the shop").click()
    expect_ids(page, "grid", ids_of(client.items(**wish, sort="-price", limit=30).items))


def test_a_photo_that_is_chosen_is_sent_at_once(visit: Visit, client: Client) -> None:
    page = visit("/?category=Shoes")
    page.get_by_role("button", name="Find by photo").click()
    page.get_by_label("A photo of what you like").set_input_files(
        {"name": "mine.png", "mimeType": "image/png", "buffer": drawn_photo(17)}
    )
    shoes = client.similar(photo=drawn_photo(17), k=30, category="Shoes").answers[0].slate
    expect_ids(page, "like-photo", ids_of(shoes))
    own = page.get_by_alt_text("Your photo")
    assert own.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 28
    stay(page)
    page.get_by_role("link", name="Remove Shoes").click()
    expect_ids(page, "like-photo", ids_of(client.similar(photo=drawn_photo(17), k=30).answers[0].slate))
    assert stayed(page) and "photo=" in page.url
    page.reload()
    expect_text(page, "h1", "Like your photo")


def test_a_button_pressed_twice_is_one_act(visit: Visit, client: Client) -> None:
    page = visit("/?view=shopper&shopper=twice")
    second = page.locator("#slate .slot").nth(1)
    item = second.get_attribute("data-item")
    second.get_by_role("button", name="Cart").dblclick()
    expect_ids(page, "past", [item])
    assert [act.kind for act in client.history("twice").acts] == ["cart"]


def test_without_javascript_everything_works_by_links_and_forms(visit: Visit, client: Client) -> None:
    page = visit(java_script_enabled=False)
    page.get_by_role("searchbox", name="Search").fill("bellamy")
    page.get_by_role("button", name="Search", exact=True).click()
    page.get_by_label("Only what is in stock").check()
    page.get_by_role("button", name="Show 13 items").click()
    page.get_by_label("Sort by").select_option("Price: high to low")
    page.get_by_role("button", name="Sort").click()
    dear = client.items("bellamy", in_stock=True, sort="-price", limit=30)
    cards = page.locator("#grid .card")
    assert [card.get_attribute("data-item") for card in cards.all()] == ids_of(dear.items)
    page.get_by_role("button", name="Find by photo").click()
    photo = {"name": "mine.png", "mimeType": "image/png", "buffer": drawn_photo(17)}
    page.get_by_label("A photo of what you like").set_input_files(photo)
    page.get_by_role("button", name="See what is like it").click()
    assert page.locator("h1").inner_text() == "Like your photo"


# -- safety ------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["/", f"/?item={HOSTILE}", f"/?q={quote(ATTACK)}", "/?view=shopper"])
def test_f38_script_in_the_catalogue_never_runs(visit: Visit, address: str) -> None:
    page = visit(address)
    page.wait_for_load_state("networkidle")  # an image that fails to load tells so later
    search = page.get_by_role("searchbox", name="Search")
    search.fill(ATTACK)
    if page.locator("[data-part=results]").count():  # the grid follows, and says so when it has
        page.locator("#said:not(:empty)").wait_for(state="attached")
    else:
        search.press("Enter")
        page.locator("[data-part=results]").wait_for()
    assert page.evaluate("window.pwned") is None
    assert page.locator("img[src=x], a[href^=javascript]").count() == 0


def test_a_server_that_comes_back_is_shown_when_it_is_tried_again(
    visit: Visit, bundles: Path, tmp_path: Path
) -> None:
    with held_port(shared=True) as port, PageThread(f"http://127.0.0.1:{port}") as alone:
        page = visit(at=alone)
        expect_text(page, ".notice h1", "The shop does not answer")
        with ProcessServer(bundles, tmp_path / "server.log", KEY, port=port):
            page.get_by_role("link", name="Try again").click()
            page.locator("#grid .card").nth(29).wait_for()
        page.get_by_role("searchbox", name="Search").fill("boots")
        expect_text(page, ".notice h1", "The shop does not answer")


# -- keyboard, phone, screen reader ------------------------------------------------------------


FOCUSED = """(() => {
  const one = document.activeElement;
  const item = one.closest('.card')?.dataset.item ?? '';
  return [item, getComputedStyle(one).outlineStyle, one.checkVisibility()];
})()"""


def test_the_keyboard_reaches_a_product_and_opens_it(visit: Visit) -> None:
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        look = page.evaluate(FOCUSED)
        assert look[1] != "none" or look[0] == "", "who is focused can be seen"
        assert look[2]
        seen.append(look[0])
        if look[0]:
            break
    assert seen[-1] == HOSTILE, "the first product"
    page.keyboard.press("Tab")
    following = page.evaluate("document.activeElement.closest('.card').dataset.item")
    page.keyboard.press("Enter")
    page.locator(f"article[data-item={following}]").wait_for()


def test_a_phone_shows_products_on_its_first_screen_and_filters_in_a_drawer(
    visit: Visit, client: Client
) -> None:
    page = visit(size=PHONE, has_touch=True, is_mobile=True)
    boxes = [card.bounding_box() for card in page.locator("#grid .card").all()[:4]]
    whole = [box for box in boxes if box["y"] + box["height"] <= PHONE["height"]]
    assert len(whole) >= 2 and len({box["x"] for box in boxes}) == 2, "two columns"
    drawer = page.locator("#filters")
    assert not drawer.is_visible()
    page.get_by_role("button", name="Filters").click()
    assert drawer.is_visible()
    drawer.get_by_label("Only what is in stock").check()
    stocked = client.items(in_stock=True, limit=30)
    drawer.get_by_role("button", name=f"Show {stocked.total} items").click()
    expect_ids(page, "grid", ids_of(stocked.items))
    assert not drawer.is_visible()
    page.get_by_role("button", name="Filters 1").click()
    page.keyboard.press("Escape")
    assert not drawer.is_visible()
    assert page.evaluate("document.activeElement.textContent.trim()").startswith("Filters")


ADDRESSES = ["/", "/?q=bellamy&in_stock=1", "/?item=item-00012", "/?view=shopper&shopper=seen", "/nowhere"]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_whoever_does_not_see_it_is_told_the_same(visit: Visit, address: str, size: Any) -> None:
    page = visit(address, size=size)
    page.wait_for_load_state("networkidle")
    for look, script in LOOKS.items():
        assert page.evaluate(script) == [], look
