"""The grid as it is sent: pages, filters, search, and what a card says."""

import pytest

from etalage.client import Client
from tests.page.conftest import ATTACK, HOSTILE, TRICKS, WITHOUT_PHOTO, Visitor, ids_of, shown


def test_the_grid_shows_the_items_page_by_page_and_who_answered(visitor: Visitor, client: Client) -> None:
    page = visitor.get()
    first, second = client.items(limit=30), client.items(offset=30, limit=30)
    assert shown(page, "grid") == ids_of(first.items)
    assert page.one("h1").text == "Everything"
    assert page.one("#amount").text == "41 items"
    assert page.one(".top .name").text == "Chez Ada"
    assert page.one("title").text == "Everything · Chez Ada"
    assert page.one("#grid [data-item=item-00003] .price").text == "€8.75"
    assert page.one("#grid [data-item=item-00005] .out").text == "Sold out"
    assert page.all("#grid [data-item=item-00003] .out") == []
    assert page.all(f"#grid [data-item={HOSTILE}] .out") == [], "nobody knows that it is sold out"
    assert page.one(".foot .bundle").text == first.bundle
    assert page.one(".foot .took").text.endswith("s")
    following = page.one(".pages a[rel=next]")["href"]
    assert following == "/?page=2"
    page = visitor.get(following)
    assert shown(page, "grid") == ids_of(second.items)
    assert page.one(".pages [aria-current=page]").text == "Page 2"
    assert visitor.get(page.one(".pages a[rel=prev]")["href"]).one(".pages [aria-current]").text == "Page 1"


def test_an_address_beyond_the_last_page_shows_the_last_one(visitor: Visitor, client: Client) -> None:
    assert shown(visitor.get("/?page=9"), "grid") == ids_of(client.items(offset=30, limit=30).items)


def test_photos_come_in_their_size_and_those_out_of_sight_later(visitor: Visitor) -> None:
    page = visitor.get()
    photos = page.all("#grid img")
    assert len(photos) == 30 - len(page.all("#grid .blank"))
    assert all((photo["width"], photo["height"], photo["alt"]) == ("480", "480", "") for photo in photos)
    assert [photo.get("loading") for photo in photos[:8]] == [None] * 5 + ["lazy"] * 3
    found = visitor.http.get(photos[0]["src"])
    assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert found.headers["content-type"] == "image/png"
    card = visitor.get("/?page=2").all(f"#grid [data-item={WITHOUT_PHOTO}]") or page.all(
        f"#grid [data-item={WITHOUT_PHOTO}]"
    )
    assert card[0].all("img") == [] and len(card[0].all(".blank svg")) == 1


def test_search_narrows_the_grid_and_says_so_when_nothing_is_left(visitor: Visitor, client: Client) -> None:
    found = client.items("bellamy boots", limit=30)
    assert 0 < found.total < 10
    page = visitor.get("/?q=bellamy+boots")
    assert shown(page, "grid") == ids_of(found.items)
    assert page.one("h1").text == "“bellamy boots”"
    assert page.one("#q")["value"] == "bellamy boots"
    long = "piece " * 9 + "bellamy " + "and so on " * 40
    assert shown(visitor.get(f"/?q={long}"), "grid"), "what a server does not take is left out"
    page = visitor.get("/?q=qqqqqqqqqq+xxxxxxxxx")
    assert page.one(".notice h2").text == "Nothing like that here"
    assert page.one(".notice a")["href"] == "/"


def test_where_a_search_finds_nothing_another_is_proposed(visitor: Visitor, client: Client) -> None:
    page = visitor.get("/?q=bellamy+zzzzzzzz")
    assert page.texts(".notice .propose a") == ["Did you mean “bellamy”?"]
    assert shown(visitor.get(page.one(".propose a")["href"]), "grid") == ids_of(
        client.items("bellamy", limit=30).items
    )
    page = visitor.get("/?q=boots&category=Bags")
    total = client.items("boots").total
    assert page.texts(".notice .propose a")[-1] == f"“boots” in the whole shop: {total} items"
    assert "Showing results" not in page.one("main").text


def test_category_stock_and_price_narrow_the_grid(visitor: Visitor, client: Client) -> None:
    page = visitor.get()
    assert page.all("#categories a[data-value=Clothing > Shirts]") == []
    page = visitor.get(page.one("#categories a[data-value=Clothing]")["href"])
    assert shown(page, "grid") == ids_of(client.items(category="Clothing", limit=30).items)
    shirts = page.one("#categories a[data-value=Clothing > Shirts]")
    assert shirts.one(".count").text == "10"
    page = visitor.get(shirts["href"])
    assert page.one("#categories [aria-current]").text == "Shirts 10"
    assert shown(page, "grid") == ids_of(client.items(category="Clothing > Shirts", limit=30).items)
    kept = {one["name"]: one["value"] for one in page.all("#narrow input[type=hidden]")}
    assert kept == {"category": "Clothing > Shirts"}
    assert page.one("#narrow legend").text == "Price (€)"
    page = visitor.get("/?category=Clothing+%3E+Shirts&in_stock=1&min_price=&max_price=30.5")
    cheap = client.items(category="Clothing > Shirts", in_stock=True, max_price=30.5, limit=30)
    assert 0 < cheap.total < 8
    assert shown(page, "grid") == ids_of(cheap.items)
    assert (page.one("#max_price")["value"], page.one("#min_price")["value"]) == ("30.5", "")
    assert page.one("#in_stock").get("checked") == ""
    chips = {chip.text: chip["href"] for chip in page.all(".chips a")}
    assert list(chips) == ["Remove Shirts ×", "Remove to €30.5 ×", "Remove In stock ×"]
    without = client.items(category="Clothing > Shirts", in_stock=True, limit=30)
    assert shown(visitor.get(chips["Remove to €30.5 ×"]), "grid") == ids_of(without.items)
    everything = page.one("#categories a[data-value=]")["href"]
    rest = client.items(in_stock=True, max_price=30.5, limit=30)
    assert shown(visitor.get(everything), "grid") == ids_of(rest.items)


def test_f38_script_in_the_catalogue_is_text_on_the_page(visitor: Visitor) -> None:
    page = visitor.get()
    card = page.one(f"#grid [data-item={HOSTILE}]")
    assert card.one(".title").text == " ".join((ATTACK + TRICKS).split())
    assert card.one(".brand").text == ATTACK
    item = visitor.get(card.one("a")["href"])
    assert item.one("h1").text == " ".join((ATTACK + TRICKS).split())
    assert item.one(".description").text == " ".join((ATTACK + TRICKS).split())
    assert item.texts(".facts dt")[0] == item.texts(".facts dd")[0] == ATTACK
    grid = visitor.get(item.all(".crumbs a")[-1]["href"])
    assert grid.one("h1").text == ATTACK
    assert grid.one("#categories [aria-current] .label").text == ATTACK
    for one in (page, item, grid):
        assert unharmed(one)


@pytest.mark.parametrize("name", ["q", "item", "category", "brand", "shopper", "photo", "classified", "sort"])
def test_f38_script_in_an_address_is_text_on_the_page(visitor: Visitor, name: str) -> None:
    view = {"view": "shopper"} if name == "shopper" else {}
    response = visitor.http.get("/", params={name: f'"{ATTACK}', **view})
    page = Visitor._seen(response, 404 if name in ("item", "photo") else 200)
    assert unharmed(page)
    if name not in ("photo", "sort", "item"):
        assert ATTACK in page.one("main").text


def unharmed(page: object) -> bool:
    """There is no element of the catalogue's own making."""
    from tests.page.reading import Element

    assert isinstance(page, Element)
    assert [script["src"][:13] for script in page.all("script")] == ["/static/page."]
    assert not [one for one in page.all("img") if one["src"] == "x"]
    assert not [one for one in page.all("a") if not one["href"].startswith(("/", "#"))]
    return not [one for one in page._beneath() if any(name.startswith("on") for name in one.attributes)]
