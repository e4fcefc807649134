"""The storefront as a shopper sees it: real server, real Streamlit, real browser."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from etalage.client import Client
from tests.page.conftest import ATTACK, HOSTILE, KEY, TRICKS, WITHOUT_PHOTO, PageProcess, Visit
from tests.ports import free_port
from tests.serve.servers import ProcessServer, until
from tests.shops import drawn_photo

GRID = ".st-key-grid .card"
LIKE_ITEM = ".st-key-like-item .card"
LIKE_PHOTO = ".st-key-like-photo .card"


def expect_ids(page: Any, cards: str, ids: list[str]) -> None:
    """Wait until these are the items of the grid, in this order."""
    shown = "([cards, ids]) => JSON.stringify(window.shown(cards)) === JSON.stringify(ids)"
    # The grid lives in an open shadow root, which querySelectorAll does not enter.
    page.evaluate(
        """() => { window.shown = (cards) => {
            const [key, ...rest] = cards.split(" ");
            const host = [...document.querySelectorAll(`${key} *`)].find((node) => node.shadowRoot);
            const found = host ? [...host.shadowRoot.querySelectorAll(rest.join(" "))] : [];
            return found.map((node) => node.dataset.item);
        } }"""
    )
    try:
        page.wait_for_function(shown, arg=[cards, ids], timeout=240_000)
    except Exception:
        assert page.evaluate("(cards) => window.shown(cards)", cards) == ids
        raise


def expect_text(page: Any, where: str, text: str) -> None:
    from playwright.sync_api import expect

    expect(page.locator(where)).to_have_text(text, timeout=240_000)


def expect_texts(page: Any, where: str, texts: list[str]) -> None:
    """Of all elements there, in order."""
    from playwright.sync_api import expect

    expect(page.locator(where)).to_have_text(texts, timeout=240_000, use_inner_text=True)


def expect_part(page: Any, where: str, part: str) -> None:
    from playwright.sync_api import expect

    expect(page.locator(where)).to_contain_text(part, timeout=240_000, use_inner_text=True)


def expect_that(look: Callable[[], Any]) -> None:
    """Wait until a look at the page finds what is wanted: its parts, and its address, come one after the
    other."""
    until(look)


def ids_of(items: Any) -> list[str]:
    return [item.item_id for item in items]


def test_the_grid_shows_the_items_page_by_page_and_who_answered(visit: Visit, client: Client) -> None:
    page = visit()
    first, second = client.items(limit=30), client.items(offset=30, limit=30)
    expect_ids(page, GRID, ids_of(first.items))
    expect_text(page, ".st-key-grid .card[data-item=item-00003] .price", "€8.75")
    expect_text(page, ".st-key-grid .card[data-item=item-00005] .out", "Sold out")
    assert page.locator(".st-key-grid .card[data-item=item-00003] .out").count() == 0
    photo = page.locator(".st-key-grid .card[data-item=item-00003] img")
    assert photo.evaluate("image => image.decode().then(() => image.naturalWidth)") == 28
    assert page.locator(f".st-key-grid .card[data-item={WITHOUT_PHOTO}] img").count() == 0
    expect_text(page, ".foot .bundle", first.bundle)
    expect_that(lambda: page.locator(".foot .took").inner_text().endswith("s"))
    page.get_by_role("button", name="Next page").click()
    expect_ids(page, GRID, ids_of(second.items))
    expect_that(lambda: "page=2" in page.url)


def test_an_item_says_whether_it_is_in_stock_sold_out_or_nobody_knows(visit: Visit) -> None:
    for item_id, said in (
        (HOSTILE, "Stock not known"),
        ("item-00003", "In stock"),
        ("item-00005", "Sold out"),
    ):
        page = visit(f"?item={item_id}")
        expect_text(page, "article.item .stock", said)
    page = visit()
    page.locator(f".st-key-grid .card[data-item={HOSTILE}]").wait_for()
    assert page.locator(f".st-key-grid .card[data-item={HOSTILE}] .out").count() == 0


def test_search_narrows_the_grid(visit: Visit, client: Client) -> None:
    page = visit()
    search = page.locator("[class*=st-key-search-] input")
    search.fill("bellamy boots")
    search.press("Enter")
    found = client.items("bellamy boots", limit=30)
    assert 0 < found.total < 10
    expect_ids(page, GRID, ids_of(found.items))
    search.fill("no such thing")
    search.press("Enter")
    expect_text(page, ".notice h2", "Nothing like that here")
    page.get_by_role("button", name="Show everything").click()
    expect_ids(page, GRID, ids_of(client.items(limit=30).items))


def test_category_stock_and_price_narrow_the_grid(visit: Visit, client: Client) -> None:
    page = visit()
    tree = page.locator(".st-key-tree")
    assert tree.locator("[data-category='Clothing > Shirts']").count() == 0
    tree.locator("[data-category=Clothing]").click()
    expect_ids(page, GRID, ids_of(client.items(category="Clothing", limit=30).items))
    shirts = tree.locator("[data-category='Clothing > Shirts']")
    expect_that(lambda: shirts.locator(".count").inner_text() == "10")
    shirts.click()
    expect_ids(page, GRID, ids_of(client.items(category="Clothing > Shirts", limit=30).items))
    page.locator("[class*=st-key-in_stock-] label").click()
    stocked = client.items(category="Clothing > Shirts", in_stock=True, limit=30)
    assert 0 < stocked.total < 10
    expect_ids(page, GRID, ids_of(stocked.items))
    highest = page.locator("[class*=st-key-max_price-] input")
    highest.fill("30.5")
    highest.press("Enter")
    cheap = client.items(category="Clothing > Shirts", in_stock=True, max_price=30.5, limit=30)
    assert 0 < cheap.total < stocked.total
    expect_ids(page, GRID, ids_of(cheap.items))
    page.reload()
    expect_ids(page, GRID, ids_of(cheap.items))
    tree.locator("[data-category='']").click()
    expect_ids(page, GRID, ids_of(client.items(in_stock=True, max_price=30.5, limit=30).items))


def test_a_clicked_item_shows_similar_ones_and_leads_on(visit: Visit, client: Client) -> None:
    page = visit()
    page.locator(".st-key-grid .card[data-item=item-00012]").click()
    similar = client.similar(item_id="item-00012", k=12).answers[0]
    expect_ids(page, LIKE_ITEM, ids_of(similar.slate))
    expect_text(page, "article.item h1", "Piece 12")
    expect_text(page, "article.item .offer .price", "€20.00")
    expect_that(lambda: page.url.endswith("?item=item-00012"))
    expect_texts(page, ".st-key-like-item .card .score", [f"{slot.score:.2f}" for slot in similar.slate])
    following = similar.slate[4].item_id
    page.locator(LIKE_ITEM).nth(4).click()
    further = client.similar(item_id=following, k=12).answers[0]
    expect_ids(page, LIKE_ITEM, ids_of(further.slate))
    page.go_back()
    expect_text(page, "article.item h1", "Piece 12")
    page.locator("article.item .crumbs a").first.click()
    expect_ids(page, GRID, ids_of(client.items(category="Clothing", limit=30).items))


def test_an_item_can_be_linked_to(visit: Visit, client: Client) -> None:
    page = visit("?item=item-00022&category=Shoes")
    similar = client.similar(item_id="item-00022", k=12).answers[0]
    expect_ids(page, LIKE_ITEM, ids_of(similar.slate))
    page.get_by_role("button", name="Back to the shop").click()
    expect_ids(page, GRID, ids_of(client.items(category="Shoes", limit=30).items))


def test_an_item_without_a_photo_shows_popular_ones_and_says_so(visit: Visit, client: Client) -> None:
    page = visit(f"?item={WITHOUT_PHOTO}")
    popular = client.similar(item_id=WITHOUT_PHOTO, k=12).answers[0]
    assert popular.fallback == "item_without_photo"
    expect_ids(page, LIKE_ITEM, ids_of(popular.slate))
    expect_text(page, ".st-key-similar .heading h2", "Popular in the shop")
    assert page.locator(".st-key-like-item .score").count() == 0


def test_an_item_that_is_gone_is_said_so(visit: Visit, client: Client) -> None:
    page = visit("?item=item-55555")
    expect_text(page, ".notice h2", "This item is not here")
    page.get_by_role("button", name="Back to the shop").click()
    expect_ids(page, GRID, ids_of(client.items(limit=30).items))


def test_an_uploaded_photo_shows_similar_items_within_the_filters(visit: Visit, client: Client) -> None:
    page = visit()
    photo = drawn_photo(17)
    upload = page.locator("input[type=file]")
    upload.set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": photo})
    found = client.similar(photo=photo, k=30).answers[0].slate
    assert found[0].item_id == "item-00017"
    expect_ids(page, LIKE_PHOTO, ids_of(found))
    assert (
        page.locator(".uploaded img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 28
    )
    page.locator(".st-key-tree [data-category=Shoes]").click()
    shoes = client.similar(photo=photo, k=30, category="Shoes").answers[0].slate
    expect_ids(page, LIKE_PHOTO, ids_of(shoes))
    page.locator(LIKE_PHOTO).nth(2).click()
    expect_text(page, "article.item h1", f"Piece {int(shoes[2].item_id[-5:])}")
    page.get_by_role("button", name="Back to the photo's results").click()
    expect_ids(page, LIKE_PHOTO, ids_of(shoes))
    page.get_by_role("button", name="Back to the shop").click()
    expect_ids(page, GRID, ids_of(client.items(category="Shoes", limit=30).items))


def test_what_is_no_photo_gets_the_servers_message(visit: Visit, client: Client) -> None:
    page = visit()
    upload = page.locator("input[type=file]")
    upload.set_input_files({"name": "list.txt", "mimeType": "text/plain", "buffer": b"milk, bread"})
    expect_text(page, ".notice h2", "We could not use this photo")
    expect_part(page, ".notice .detail", "not an image")
    page.get_by_role("button", name="Back to the shop").click()
    expect_ids(page, GRID, ids_of(client.items(limit=30).items))


def test_f38_script_in_the_catalogue_is_text_on_the_page(visit: Visit) -> None:
    page = visit()
    card = f".st-key-grid .card[data-item={HOSTILE}]"
    expect_text(page, f"{card} .title", ATTACK + TRICKS)
    expect_text(page, f"{card} .brand", ATTACK)
    page.locator(card).click()
    expect_text(page, "article.item h1", ATTACK + TRICKS)
    expect_text(page, "article.item .description", ATTACK + TRICKS)
    expect_text(page, "article.item dt >> nth=0", ATTACK)
    page.locator("article.item .crumbs a").last.click()
    expect_text(page, ".st-key-grid-title h2", ATTACK)
    expect_text(page, ".st-key-tree .chosen .label", ATTACK)
    assert unharmed(page)


@pytest.mark.parametrize("name", ["q", "item", "category"])
def test_f38_script_in_an_address_is_text_on_the_page(visit: Visit, name: str) -> None:
    page = visit(f"?{name}={quote(ATTACK + 'unknown')}")
    page.locator(".notice").wait_for()
    expect_part(page, ".stApp", ATTACK[:30])
    assert unharmed(page)


def unharmed(page: Any) -> bool:
    """No script of the catalogue ran, and none of its elements exists anywhere, shadow roots included."""
    page.wait_for_timeout(300)  # an image that fails to load tells so later
    assert page.evaluate("window.pwned") is None
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("a[href^='javascript']").count() == 0
    return True


def test_a_server_that_is_down_is_said_so_and_can_be_tried_again(
    visit: Visit, client: Client, bundles: Path, tmp_path: Path
) -> None:
    port = free_port()
    with PageProcess(f"http://127.0.0.1:{port}", tmp_path / "page.log", KEY) as storefront:
        page = visit(at=storefront)
        expect_text(page, ".notice h2", "The shop does not answer")
        assert "Traceback" not in page.locator(".stApp").inner_text()
        with ProcessServer(bundles, tmp_path / "server.log", KEY, port=port):
            page.get_by_role("button", name="Try again").click()
            expect_ids(page, GRID, ids_of(client.items(limit=30).items))
        page.locator(GRID).nth(1).click()
        expect_text(page, ".notice h2", "The shop does not answer")
        with ProcessServer(bundles, tmp_path / "server.log", "another-key", port=port):
            page.get_by_role("button", name="Try again").click()
            expect_text(page, ".notice h2", "The server asks for a key")
            assert KEY not in page.content()
    assert KEY not in (tmp_path / "page.log").read_text()
