"""The page of one item."""

from etalage.client import Client
from tests.page.conftest import HOSTILE, WITHOUT_PHOTO, Visitor, ids_of, shown


def test_an_item_says_whether_it_is_in_stock_sold_out_or_nobody_knows(visitor: Visitor) -> None:
    for item_id, said in (
        (HOSTILE, "Stock not known"),
        ("item-00003", "In stock"),
        ("item-00005", "Sold out"),
    ):
        assert visitor.get(f"/?item={item_id}").one("article .stock").text == said


def test_an_item_shows_similar_ones_and_leads_on_and_back(visitor: Visitor, client: Client) -> None:
    grid = visitor.get("/?category=Clothing&page=1")
    page = visitor.get(grid.one("#grid [data-item=item-00012] a")["href"])
    similar = client.similar(item_id="item-00012", k=12).answers[0]
    assert shown(page, "like-similar") == ids_of(similar.slate)
    assert page.one("article h1").text == "Piece 12"
    assert page.one("article .offer .price").text == "€20.00"
    assert page.one("article .photo img")["alt"] == "Piece 12"
    assert page.texts(".crumbs a") == ["Clothing", "Dresses"]
    assert page.one(".back").text == "Back to the shop"
    assert page.one(".back a")["href"] == "/?category=Clothing"
    following = page.all("#like-similar a")[4]["href"]
    assert following == f"/?item={similar.slate[4].item_id}&category=Clothing"
    further = client.similar(item_id=similar.slate[4].item_id, k=12).answers[0]
    assert shown(visitor.get(following), "like-similar") == ids_of(further.slate)


def test_no_score_is_shown_to_shoppers(visitor: Visitor, client: Client) -> None:
    similar = client.similar(item_id="item-00012", k=12).answers[0]
    text = visitor.get("/?item=item-00012").text
    assert not [slot for slot in similar.slate if f"{slot.score:.2f}" in text]


def test_an_item_without_a_photo_shows_popular_ones_and_says_so(visitor: Visitor, client: Client) -> None:
    page = visitor.get(f"/?item={WITHOUT_PHOTO}")
    popular = client.similar(item_id=WITHOUT_PHOTO, k=12).answers[0]
    assert popular.fallback == "item_without_photo"
    assert shown(page, "like-similar") == ids_of(popular.slate)
    assert page.one("#similar-heading").text == "Popular in Bags and the shop"
    assert "the most popular of its category, then of the shop" in page.one("#similar .note").text
    assert page.all("article img") == []


def test_an_item_that_is_gone_is_said_so(visitor: Visitor) -> None:
    page = visitor.get("/?item=item-55555&category=Shoes", status=404)
    assert page.one(".notice h1").text == "This item is not here"
    assert page.one(".notice a").text == "Back to the shop"
    assert page.one(".notice a")["href"] == "/?category=Shoes"
