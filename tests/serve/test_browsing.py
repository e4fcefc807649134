"""Browsing over HTTP: sorted, of a brand, with brands counted, and with a slip forgiven."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from etalage.client import Client
from etalage.config import IndexConfig, PublishConfig
from etalage.errors import NotFound, Unprocessable
from tests.serve.servers import ThreadServer
from tests.shops import BRANDS, PASSED, behaviour_shop, changed, drafted, drawn_photo, fill, item_row, rows_of


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    """40 items whose evaluation calibrated a threshold; every third is red."""
    from etalage.bundle.pointer import Bundles
    from etalage.bundle.publish import publish
    from etalage.lake.delta import Lake
    from tests.exports import tiny_export

    folder = tmp_path_factory.mktemp("shop")
    lake = Lake(folder / "tables")
    fill(lake, range(40))
    red = [item_row(n, attributes='{"Color": "Red"}') for n in range(0, 40, 3)]
    lake.table("items").merge(rows_of("items", red))
    draft = drafted(lake, tiny_export(folder / "exports" / "image_similarity" / "0001-tiny"))
    judged = {**PASSED, "match": {"score": 0.999, "precision": 0.9, "recall": 0.8}}
    bundles = Bundles(folder / "bundles")
    publish(bundles, changed(draft, verdict=judged), config=PublishConfig(), index_config=IndexConfig())
    with ThreadServer(bundles.folder) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: ThreadServer) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def numbers(items: object) -> list[int]:
    return [int(item.item_id[-5:]) for item in items]  # type: ignore[attr-defined]


def test_items_are_sorted_and_of_a_brand(client: Client) -> None:
    ardent = list(range(0, 40, 3))
    assert numbers(client.items(brand="Ardent", sort="price").items) == ardent
    assert numbers(client.items(brand="Ardent", sort="-price", limit=3).items) == ardent[::-1][:3]
    titles = sorted(range(40), key=lambda n: f"piece {n}")
    assert numbers(client.items(sort="title", limit=40).items) == titles


def test_brands_are_counted_only_if_asked(client: Client) -> None:
    found = client.items(brands=True, brand="Corvo", limit=1)
    assert [(one.brand, one.count) for one in found.brands] == list(zip(BRANDS, (14, 13, 13), strict=True))
    assert found.total == 13
    assert client.items().brands == []


def test_a_slip_is_forgiven_only_if_asked_and_said(client: Client) -> None:
    found = client.items("peice ardnet", forgiving=True, limit=40)
    assert found.instead == "piece ardent"
    assert numbers(found.items) == numbers(client.items("piece ardent", limit=40).items)
    assert client.items("piece ardent", forgiving=True).instead is None
    assert (exact := client.items("peice ardnet")).total == 0 and exact.instead is None


@pytest.mark.parametrize("wrong", ["sort=score", "forgiving=yes", "brands=1", "brand=" + "x" * 1001])
def test_what_makes_no_sense_is_refused(server: ThreadServer, wrong: str) -> None:
    response = httpx.get(f"{server.url}/v1/items?{wrong}")
    assert response.status_code == 422 and wrong.split("=")[0] in response.json()["error"]["message"]


def test_an_items_colour_is_told_and_may_be_wished_for(client: Client) -> None:
    assert client.whole_item("item-00003").colour == "Red"
    assert client.whole_item("item-00004").colour is None
    found = client.similar(item_id="item-00003", k=40, same_colour=True).answers[0]
    assert sorted(numbers(found.slate)) == [n for n in range(0, 40, 3) if n != 3]
    with pytest.raises(Unprocessable, match="names a colour"):
        client.similar(item_id="item-00004", same_colour=True)
    with pytest.raises(NotFound):
        client.similar(item_id="none", same_colour=True)


def test_a_photo_is_a_match_or_not_by_the_calibrated_threshold(client: Client) -> None:
    assert client.similar(photo=drawn_photo(5)).answers[0].match is True
    assert client.similar(photo=drawn_photo(500)).answers[0].match is False
    assert client.similar(item_id="item-00005").answers[0].match is None, "an item is in the index itself"


def test_what_is_wanted_with_an_item_is_empty_where_no_model_knows(client: Client) -> None:
    found = client.similar(item_id="item-00005", by_behaviour=True).answers[0]
    assert (found.fallback, found.slate) == ("by_behaviour", []) and found.reason


@pytest.mark.parametrize("models", [("item_knn", "popularity"), ("two_tower", "item_knn", "popularity")])
def test_what_is_wanted_with_an_item_is_what_the_same_shoppers_want(
    tmp_path: Path, models: tuple[str, ...]
) -> None:
    _, bundles, _ = behaviour_shop(tmp_path, 40, photos=True, models=models)
    with ThreadServer(bundles.folder) as server, Client(server.url) as client:
        found = client.similar(item_id="item-00010", k=4, by_behaviour=True).answers[0]
        assert found.fallback == "by_behaviour" and found.slate and "item-00010" not in str(found.slate)
        scores = [slot.score for slot in found.slate]
        assert scores == sorted(scores, reverse=True)
        alike = client.similar(item_id="item-00010", k=4).answers[0]
        assert alike.fallback is None and alike.match is None
