"""A whole shop whose tables and bundles lie in an object store: loaded, trained, published, served."""

import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from etalage.errors import ConfigError, ObjectStoreError
from etalage.serve.app import ServedShop
from etalage.serve.erased import FollowedErasures
from etalage.shop import Shop
from tests.object_store import ObjectServer
from tests.serve.servers import ThreadServer, until


def files(folder: Path) -> tuple[Path, Path]:
    """60 items, and 80 shoppers with 8 purchases each."""
    draws = random.Random(1)
    items, acts = folder / "items.csv", folder / "acts.csv"
    lines = [f"i{n},Item {n},{n}.5,{'A' if n % 2 else 'B'}" for n in range(1, 61)]
    items.write_text("\n".join(["item_id,title,price,category_id", *lines]))
    steps = ((user, step) for user in range(80) for step in range(8))
    lines = [
        f"u{user},i{(user * 3 + step * draws.choice((1, 2))) % 60 + 1},buy,{1_700_000_000 + 60 * at}"
        for at, (user, step) in enumerate(steps)
    ]
    acts.write_text("\n".join(["user_id,item_id,kind,time", *lines]))
    return items, acts


@pytest.fixture
def shop(tmp_path: Path, object_server: ObjectServer) -> Shop:
    folder = tmp_path / "shop"
    folder.mkdir()
    settings = object_server.settings(tmp_path.name, "tables", "bundles")
    (folder / "shop.toml").write_text(f'currency = "EUR"\n\n{settings}')
    return Shop(folder)


def served(shop: Shop) -> ServedShop:
    """As `Shop.serve` has it."""
    live = shop.folder / "live"
    return ServedShop(shop.bundles, live, FollowedErasures(shop.lake.erasures, live))


@pytest.fixture
def failing(object_server: ObjectServer) -> Iterator[ObjectServer]:
    yield object_server
    object_server.fail(False)


def test_a_shop_in_a_store_is_loaded_trained_published_served_and_erased(
    shop: Shop, tmp_path: Path, failing: ObjectServer
) -> None:
    items, acts = files(tmp_path)
    assert shop.ingest(items, "items").inserted == 60
    assert shop.ingest(acts, "interactions").inserted == 640
    assert shop.ingest(acts, "interactions").unchanged == 640
    for model in ("popularity", "item_knn"):
        shop.train(model)
    first = shop.publish().id
    assert not (shop.folder / "tables").exists() and not (shop.folder / "bundles").exists()
    asked = {"user_id": "u1", "k": 3}
    serving = served(Shop(shop.folder))
    with ThreadServer(serving) as server:
        until(lambda: httpx.get(f"{server.url}/readyz").status_code == 200)
        answer = httpx.post(f"{server.url}/v1/recommend", json=asked).json()
        assert answer["bundle"] == first and len(answer["slate"]) == 3

        failing.fail(True)
        until(lambda: httpx.get(f"{server.url}/readyz").json()["problem"])
        ready = httpx.get(f"{server.url}/readyz")
        assert ready.status_code == 200 and ready.json()["problem"].startswith("ObjectStoreError")
        assert httpx.post(f"{server.url}/v1/recommend", json=asked).json() == answer
        failing.fail(False)
        until(lambda: httpx.get(f"{server.url}/readyz").json()["problem"] is None)

        left = shop.erase("u1")
        assert left.rows["interactions"] == 8 and any(f"bundle {first} knows" in one for one in left.left)
        assert any("`etalage vacuum --yes --shop " in one for one in left.left)
        synced = shop.sync().manifest
        assert synced is not None and synced.users == 79
        until(lambda: httpx.get(f"{server.url}/readyz").json()["bundle"] == synced.id)
        known = shop.lake.erasures.known()
        until(lambda: serving.erasures.known() == known)

    failing.fail(True)  # and a server that starts now goes on with what the one before it had
    again = served(Shop(shop.folder))
    assert again.erasures.known() == known and len(known) == 1
    with ThreadServer(again) as server:
        ready = httpx.get(f"{server.url}/readyz")
        assert ready.status_code == 200 and ready.json()["problem"].startswith("ObjectStoreError")
        answer = httpx.post(f"{server.url}/v1/recommend", json=asked).json()
        assert answer["bundle"] == synced.id and len(answer["slate"]) == 3
        failing.fail(False)
        until(lambda: httpx.get(f"{server.url}/readyz").json()["problem"] is None)
    assert shop.ingest(acts, "interactions").inserted == 0  # nobody comes back
    assert shop.rollback().id == first == Shop(shop.folder).recommender().bundle


def test_a_name_in_shop_toml_that_means_nothing_is_told_from_the_bundle_in_the_store(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is published is asked for while shop.toml is being read."""
    file = shop.folder / "shop.toml"
    file.write_text(file.read_text() + '\n[funnel]\nclassifier = "none_of_ours"\n')
    with pytest.raises(ConfigError, match="none_of_ours"):
        _ = Shop(shop.folder).config


def test_a_store_that_is_gone_ends_every_command_with_what_to_do(
    shop: Shop, tmp_path: Path, failing: ObjectServer
) -> None:
    items, _ = files(tmp_path)
    failing.fail(True)
    for command in (lambda: shop.ingest(items, "items"), lambda: shop.lake.versions(), shop.recommender):
        with pytest.raises(ObjectStoreError, match=r"refused \(503|cannot be reached"):
            command()
