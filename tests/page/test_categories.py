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
from tests.page.conftest import ATTACK, KEY, Visitor, ids_of, opened, shown
from tests.page.test_grid import unharmed
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
def visitor(client: Client) -> Visitor:
    return opened(client.url)


def test_an_item_shows_its_path_and_how_sure_that_is_beside_the_merchants_own(
    visitor: Visitor, client: Client
) -> None:
    page = visitor.get("/?item=item-00005")
    told = page.one("article .classified")
    assert told.texts(".crumbs a") == ["Food", "Drinks", "Juice"]
    assert told.one(".sure").text == "probably"
    assert float(told.one("rect.part")["width"]) == pytest.approx(60.3, abs=0.1)
    assert page.all("article .crumbs")[0].text == "OursShelf 2"
    assert "lassified" not in page.one("article .facts").text, "told once"
    page = visitor.get(told.all(".crumbs a")[1]["href"])
    assert shown(page, "grid") == ids_of(client.items(classified="Food > Drinks", limit=30).items)
    assert page.one("h1").text == "Drinks"


def test_an_item_that_is_not_classified_shows_no_such_line(visitor: Visitor) -> None:
    page = visitor.get("/?item=item-00006")
    assert page.one("article h1").text == "Piece 6"
    assert page.all("article .classified") == []


def test_an_uploaded_photo_is_told_what_it_is(visitor: Visitor, client: Client) -> None:
    photo = coloured("300", 31, size=40)
    page, _ = visitor.upload(photo)
    (found,) = client.classify([ToClassify([photo])]).answers
    assert [step.name for step in found.steps] == ["Food", "Drinks", "Juice"]
    assert page.one(".told .lead").text == "This is"
    assert page.texts(".told li .label") == ["Food", "Drinks", "Juice"]
    assert set(page.texts(".told .sure")) <= {"almost certainly", "very likely", "probably"}
    assert "%" not in page.one("main").text, "no figure for shoppers"


def test_a_photo_of_which_the_classifier_is_not_sure_is_said_to_be_a_guess(
    visitor: Visitor, client: Client
) -> None:
    photo = between_juice_and_apples()
    (found,) = client.classify([ToClassify([photo])]).answers
    assert found.category_id is None and found.confidence is not None and 0.4 < found.confidence < 0.6
    page, _ = visitor.upload(photo)
    assert page.one(".told .lead").text == "Not sure. Perhaps"
    assert page.one(".told .others").text.startswith("Or: ")


def between_juice_and_apples() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 20), (227, 80, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_grid_can_be_narrowed_by_the_classified_tree(visitor: Visitor, client: Client) -> None:
    page = visitor.get(visitor.get().one("#classified a[data-value=Food]")["href"])
    assert shown(page, "grid") == ids_of(client.items(classified="Food", limit=30).items)
    page = visitor.get(page.one("#classified a[data-value=Food > Apples]")["href"])
    assert shown(page, "grid") == ids_of(client.items(classified="Food > Apples", limit=30).items)
    page = visitor.get(page.one("#categories a[data-value=Ours]")["href"])
    both = client.items(classified="Food > Apples", category="Ours", limit=30)
    assert shown(page, "grid") == ids_of(both.items)
    assert page.one("h1").text == "Ours, Apples"
    page = visitor.get(page.one("#classified a[data-value=]")["href"])
    assert shown(page, "grid") == ids_of(client.items(category="Ours", limit=30).items)


def test_the_matrix_has_what_was_predicted_down_and_what_is_true_across(
    visitor: Visitor, client: Client
) -> None:
    page = visitor.get(visitor.get().one(".aside-link a")["href"])
    assert page.one("h1").text == "What is taken for what"
    cell = page.one(".confusion td[data-cell=1,0]")
    assert (cell.text, cell["title"]) == ("4", "4 of 40 of “Dresses” taken for “Juice”")
    assert "shade-5" in cell["class"], "a tenth, 2.4 times as strong, in steps of a twentieth"
    for names in ("th.predicted", "th.true"):
        assert page.texts(f".confusion {names}") == ["Dresses", "Juice", ATTACK]
    first = page.all(".confusion tbody tr")[0]
    assert first.texts("td") == ["31", "2", "", "4,100"]
    assert [one["data-cell"] for one in first.all("td[data-cell]")] == ["0,0", "0,1", "0,2"]
    mistake = ["Clothing › Dresses", "Food › Drinks › Juice", "4", "10%"]
    assert page.all(".mistakes tbody tr")[0].texts("td") == mistake
    assert unharmed(page)
    grid = visitor.get(page.all(".confusion th.predicted a")[1]["href"])
    assert shown(grid, "grid") == ids_of(client.items(classified="Food > Drinks > Juice", limit=30).items)
    assert page.all(".ways a")[0]["href"] == "/"


def test_the_worst_mistakes_are_told_first() -> None:
    named = [ValuedCategory(str(n), f"A > {n}", 1.0) for n in range(3)]
    matrix = Confusion("b", named, [[5, 3, 0], [9, 0, 1], [0, 3, 200]], [6, 0, 0])
    assert worst(matrix, 3) == [
        ("A › 0", "A › 1", "9", "45%"),
        ("A › 1", "A › 0", "3", "50%"),
        ("A › 1", "A › 2", "3", "50%"),
    ]
    assert worst(Confusion("b", named, [[5, 0, 0], [0, 1, 0], [0, 0, 2]], []), 3) == []
