"""What the page tells of categories: on an item, of an uploaded photo, and which is taken for which."""

import io
import json
from collections.abc import Iterator

import pytest
from PIL import Image

from etalage.api import Confusion, ToClassify, ValuedCategory
from etalage.client import Client
from etalage.page.categories import worst
from etalage.runtime.classifier import CONFUSION
from etalage.shop import Shop
from tests.category_exports import CLASSIFIER, classified_shop, coloured
from tests.page.conftest import ATTACK, KEY, PageProcess, Visit
from tests.page.test_storefront import (
    GRID,
    expect_ids,
    expect_text,
    expect_texts,
    expect_that,
    ids_of,
    unharmed,
)
from tests.serve.servers import ThreadServer

MATRIX = {
    "categories": [
        {"id": "50", "path": "Clothing > Dresses", "value": 4100.5},
        {"id": "300", "path": "Food > Drinks > Juice", "value": 90.0},
        {"id": "66", "path": f"Food > {ATTACK}", "value": 12.0},
    ],
    "counts": [[31, 2, 0], [4, 17, 1], [0, 0, 9]],
    "elsewhere": [5, 0, 1],
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """24 classified items, and a matrix one of whose categories is hostile."""
    shop = classified_shop(tmp_path_factory.mktemp("shop"))
    (shop.exports(CLASSIFIER) / "0001-tiny" / CONFUSION).write_text(json.dumps(MATRIX))
    (shop.folder / "shop.toml").write_text("[classify]\nthreshold = 0.6\n")
    shop = Shop(shop.folder)
    shop.classify()
    shop.publish()
    return shop


@pytest.fixture(scope="module")
def client(shop: Shop) -> Iterator[Client]:
    with ThreadServer(shop.bundles.folder, key=KEY) as server, Client(server.url, KEY) as client:
        yield client


@pytest.fixture(scope="module")
def storefront(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageProcess]:
    with PageProcess(client.url, tmp_path_factory.mktemp("page") / "log", KEY) as running:
        yield running


def test_an_item_shows_its_path_and_how_sure_that_is_beside_the_merchants_own(
    visit: Visit, client: Client
) -> None:
    page = visit("?item=item-00005")
    told = "article.item .classified"
    expect_text(page, f"{told} .crumbs", "FoodDrinksJuice")
    expect_text(page, f"{told} .percent", "60%")
    width = page.locator(f"{told} .bar > span").evaluate("part => part.getBoundingClientRect().width")
    whole = page.locator(f"{told} .bar").evaluate("bar => bar.getBoundingClientRect().width")
    assert width / whole == pytest.approx(0.603, abs=0.01)
    expect_text(page, "article.item .words > .crumbs", "OursShelf 2")
    facts = page.locator("article.item .facts").inner_text()
    assert "lassified" not in facts, "told once"
    page.locator(f"{told} .crumbs a").nth(1).click()
    expect_ids(page, GRID, ids_of(client.items(classified="Food > Drinks", limit=30).items))
    expect_text(page, ".st-key-grid-title h2", "Drinks")
    expect_that(lambda: "classified=Food" in page.url and "category=" not in page.url)


def test_an_item_that_is_not_classified_shows_no_such_line(visit: Visit) -> None:
    page = visit("?item=item-00006")
    expect_text(page, "article.item h1", "Piece 6")
    assert page.locator("article.item .classified").count() == 0


def test_an_uploaded_photo_is_told_what_it_is(visit: Visit, client: Client) -> None:
    page = visit()
    photo = coloured("300", 31, size=40)
    upload = page.locator("input[type=file]")
    upload.set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": photo})
    (found,) = client.classify([ToClassify([photo])]).answers
    assert [step.name for step in found.steps] == ["Food", "Drinks", "Juice"]
    expect_text(page, ".told .lead", "This is")
    expect_texts(page, ".told li .label", ["Food", "Drinks", "Juice"])
    page.locator(".st-key-like-photo .card").first.wait_for()


def test_a_photo_of_which_the_classifier_is_not_sure_is_said_to_be_a_guess(
    visit: Visit, client: Client
) -> None:
    photo = between_juice_and_apples()
    (found,) = client.classify([ToClassify([photo])]).answers
    assert found.category_id is None and found.confidence is not None and 0.4 < found.confidence < 0.6
    page = visit()
    upload = page.locator("input[type=file]")
    upload.set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": photo})
    expect_text(page, ".told .lead", "Not sure. Perhaps")
    expect_that(lambda: page.locator(".told .others").inner_text().startswith("Or: "))


def between_juice_and_apples() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (227, 80, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_grid_can_be_narrowed_by_the_classified_tree(visit: Visit, client: Client) -> None:
    page = visit()
    tree = page.locator(".st-key-told-tree")
    tree.locator("[data-category=Food]").click()
    expect_ids(page, GRID, ids_of(client.items(classified="Food", limit=30).items))
    tree.locator("[data-category='Food > Apples']").click()
    expect_ids(page, GRID, ids_of(client.items(classified="Food > Apples", limit=30).items))
    page.locator(".st-key-tree [data-category=Ours]").click()
    expect_ids(page, GRID, ids_of(client.items(classified="Food > Apples", category="Ours", limit=30).items))
    expect_text(page, ".st-key-grid-title h2", "Ours, Apples")
    tree.locator("[data-category='']").click()
    expect_ids(page, GRID, ids_of(client.items(category="Ours", limit=30).items))


def test_the_matrix_has_what_was_predicted_down_and_what_is_true_across(visit: Visit, client: Client) -> None:
    page = visit()
    page.get_by_role("button", name="What is taken for what").click()
    expect_text(page, ".heading h2 >> nth=0", "What is taken for what")
    cell = page.locator(".confusion td[data-cell='1,0']")
    cell.wait_for()
    expect_text(page, ".confusion td[data-cell='1,0']", "4")
    assert cell.get_attribute("title") == "4 of 40 of “Dresses” taken for “Juice”"
    for names in (".confusion th.predicted", ".confusion th.true"):
        expect_texts(page, names, ["Dresses", "Juice", ATTACK])
    expect_texts(page, ".confusion tr >> nth=1 >> td", ["31", "2", "", "4,100"])
    places = [page.locator(f".confusion td[data-cell='{at}']").bounding_box() for at in ("0,0", "1,0", "0,1")]
    assert places[1]["y"] > places[0]["y"] and places[1]["x"] == places[0]["x"], "predicted goes down"
    assert places[2]["x"] > places[0]["x"] and places[2]["y"] == places[0]["y"], "true goes across"
    mistake = ["Clothing › Dresses", "Food › Drinks › Juice", "4", "10%"]
    expect_texts(page, ".table.mistakes tbody tr >> nth=0 >> td", mistake)
    expect_that(lambda: "view=categories" in page.url)
    assert unharmed(page)
    page.locator(".confusion th.predicted a").nth(1).click()
    expect_ids(page, GRID, ids_of(client.items(classified="Food > Drinks > Juice", limit=30).items))


def test_the_page_of_categories_has_an_address_and_a_way_back(visit: Visit, client: Client) -> None:
    page = visit("?view=categories")
    page.locator(".confusion td").first.wait_for()
    page.get_by_role("button", name="The shop").click()
    expect_ids(page, GRID, ids_of(client.items(limit=30).items))


def test_the_worst_mistakes_are_told_first() -> None:
    named = [ValuedCategory(str(n), f"A > {n}", 1.0) for n in range(3)]
    matrix = Confusion("b", named, [[5, 3, 0], [9, 0, 1], [0, 3, 200]], [6, 0, 0])
    assert worst(matrix, 3) == [
        ("A › 0", "A › 1", "9", "45%"),
        ("A › 1", "A › 0", "3", "50%"),
        ("A › 1", "A › 2", "3", "50%"),
    ]
    assert worst(Confusion("b", named, [[5, 0, 0], [0, 1, 0], [0, 0, 2]], []), 3) == []
