"""The page of a shop without photos, prices, stock and acts: it offers nothing that the shop lacks."""

from collections.abc import Iterator

import pytest

from etalage.bundle.contents import gather
from etalage.bundle.draft import Draft, DraftedModel
from etalage.bundle.pointer import Bundles
from etalage.bundle.publish import publish
from etalage.client import Client
from etalage.config import IndexConfig, PublishConfig
from etalage.lake.delta import Lake
from tests.page.conftest import KEY, Visitor, opened, shown
from tests.serve.servers import ThreadServer
from tests.shops import behaviour_exports, drawn_photo, item_row, rows_of


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    """Forty items; every other one has no title."""
    folder = tmp_path_factory.mktemp("plain")
    lake = Lake(folder / "tables")
    rows = [
        item_row(
            n, price=None, currency=None, in_stock=None, photo_url=None, title=f"Piece {n}" if n % 2 else None
        )
        for n in range(40)
    ]
    lake.table("items").merge(rows_of("items", rows))
    payload, bundles = gather(lake), Bundles(folder / "bundles")
    model = DraftedModel(behaviour_exports(folder / "exports", 40)["popularity"], None)
    draft = Draft(payload.items, payload.photos, payload.versions, (model,), {}, moments=payload.moments)
    publish(bundles, draft, config=PublishConfig(), index_config=IndexConfig())
    with ThreadServer(bundles.folder, key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def page(plain: ThreadServer) -> Visitor:
    return opened(plain.url)


def test_the_server_says_what_the_bundle_holds(plain: ThreadServer, client: Client) -> None:
    with Client(plain.url, KEY) as asked:
        facts = asked.facts()
    assert (facts.items, facts.with_photo, facts.with_price, facts.with_stock) == (40, 0, 0, 0)
    assert (facts.acted_on, facts.finds_by_photo) == (0, False)
    rich = client.facts()
    assert (rich.items, rich.with_photo, rich.with_price, rich.with_stock) == (41, 40, 41, 40)
    assert rich.acted_on == 3 and rich.finds_by_photo


def test_a_shop_without_a_model_of_photos_does_not_offer_to_find_by_photo(page: Visitor) -> None:
    assert page.get().all("[popovertarget=by-photo]") == [] == page.get().all("#by-photo")
    said, _ = page.upload(drawn_photo(3), status=404)
    assert said.one(".notice h1").text == "This shop has no search by photo"
    assert said.one(".notice a").text == "Back to the shop"
    assert page.get("/?photo=none", 404).one(".notice h1").text == "This shop has no search by photo"


def test_filters_and_orders_for_what_no_item_has_are_not_offered(page: Visitor, visitor: Visitor) -> None:
    assert page.get().all("#narrow fieldset") == [] == page.get().all("#in_stock")
    assert page.get().texts("#sort option") == ["In the shop's order", "Name"]
    assert page.get("/?item=item-00003").all(".stock") == []
    rich = visitor.get()
    assert rich.all("#narrow fieldset") and rich.all("#in_stock") and len(rich.all("#sort option")) == 4


def test_where_nobody_did_anything_nothing_is_called_popular(page: Visitor) -> None:
    view = page.get("/?view=shopper&shopper=new")
    assert "Nobody did anything here yet" in view.one("#slate .tier").text
    assert set(view.texts("#slate .why")) == {"from the shop"}
    item = page.get("/?item=item-00003")
    assert "opular" not in item.one("main").text
    assert len(shown(item, "like-similar")) == 12


def test_cards_of_a_shop_without_photos_have_no_empty_frame(page: Visitor, visitor: Visitor) -> None:
    assert page.get().one("body")["class"] == "bare"
    assert visitor.get().one("body").get("class") is None


def test_an_item_without_a_title_is_called_by_brand_and_category(page: Visitor) -> None:
    card = page.get("/?q=Bellamy").one("#grid [data-item=item-00004]")
    assert card.one(".title").text == "Bellamy · Dresses" and card.one(".brand").text == "item-00004"
    assert page.get("/?item=item-00004").one("article h1").text == "Bellamy · Dresses"
    view = page.get("/?view=shopper&shopper=new")
    items = [row.texts("td")[1] for row in view.all(".places tbody tr")]
    assert items and all(" (item-" in one and not one.startswith("item-") for one in items)
