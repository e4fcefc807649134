"""A shop with photos: a model of behaviour learns from them, and a new item is embedded by its own."""

import logging
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from etalage import Shop
from etalage.bundle.manifest import ModelEntry
from etalage.runtime.embeddings import EmbeddingScorer
from etalage.runtime.export_files import newest_export, read_facts
from etalage.runtime.opening import open_scorer
from etalage.runtime.photos import PhotoEmbedder
from etalage.runtime.sessions import Session
from tests.exports import tiny_export
from tests.shops import NOON, drawn_photo, item_row, photo_row, rows_of
from tests.test_shop_sources import aligned, manifest_of

CONFIG = """
name = "Pieces"
[behaviour]
split = "random"
[funnel]
retrievers = {two_tower = 40}
[models.two_tower]
width = 8
epochs = 1
steps_per_epoch = 3
[models.dssm]
dimension = 4
layers = []
epochs = 3
patience = 2
"""
ITEMS, WITHOUT_PHOTO = 30, 7


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """two_tower is trained, of items without any attribute: all but one have a photo."""
    shop = Shop.create(tmp_path_factory.mktemp("photos") / "shop", "Pieces")
    (shop.folder / "shop.toml").write_text(CONFIG, encoding="utf-8")
    rng = np.random.default_rng(2)
    nothing = {"title": None, "description": None, "brand": None, "price": None, "category_id": None}
    items = [item_row(n, **nothing, in_stock=True, attributes=None) for n in range(ITEMS)]
    acts = [
        {"interaction_id": f"{user}-{act}", "user_id": f"u{user:02d}", "item_id": f"item-{item:05d}",
         "kind": "buy", "time": NOON + timedelta(minutes=user + 60 * act)}
        for user in range(40) for act, item in enumerate(rng.choice(ITEMS, 6, replace=False))
    ]  # fmt: skip
    shop.lake.table("items").merge(rows_of("items", items))
    shop.lake.table("photos").merge(
        rows_of("photos", [photo_row(n) for n in range(ITEMS) if n != WITHOUT_PHOTO])
    )
    shop.lake.table("interactions").merge(rows_of("interactions", acts))
    tiny_export(shop.exports("image_similarity") / "0001-tiny", 28, 1, 16, 0)
    shop.train("two_tower")
    return shop.folder


@pytest.fixture
def shop(taught: Path, tmp_path: Path) -> Shop:
    shutil.copytree(taught, tmp_path / "copy")
    return Shop(tmp_path / "copy")


def two_tower_of(shop: Shop) -> ModelEntry:
    (placed,) = [one for one in manifest_of(shop).models if one.name == "two_tower"]
    return placed


def sold_today(shop: Shop, number: int = 77) -> str:
    """A new item with nothing but a photo."""
    nothing = {"title": None, "description": None, "brand": None, "price": None, "category_id": None}
    shop.lake.table("items").merge(
        rows_of("items", [item_row(number, **nothing, in_stock=True, attributes=None)])
    )
    shop.lake.table("photos").merge(rows_of("photos", [photo_row(number)]))
    return f"item-{number:05d}"


def test_a_new_item_with_only_a_photo_is_embedded_by_it_at_the_next_sync(shop: Shop) -> None:
    facts = read_facts(newest_export(shop.exports("two_tower")))
    embedder = PhotoEmbedder.open(newest_export(shop.exports("image_similarity")))
    assert facts["feature_sources"] == facts["inputs"] == {"photo": embedder.model_hash}
    shop.publish(force=True)
    placed = two_tower_of(shop)
    assert placed.sources["photo"].unknown == 1 and placed.index is not None and placed.index.indexed == ITEMS
    new = sold_today(shop)
    assert shop.sync().embedded == 1
    placed = two_tower_of(shop)
    assert (
        placed.sources["photo"].unknown == 1
        and placed.index is not None
        and placed.index.indexed == ITEMS + 1
    )
    bundle = shop.bundles.path(shop.bundles.current_id())
    scorer = open_scorer(bundle / "models" / "two_tower")
    assert isinstance(scorer, EmbeddingScorer)
    session = Session.open(bundle / "models" / "two_tower" / "item.onnx")
    given = {"item": np.zeros(1, np.int64), "item.photo": embedder.embed([drawn_photo(77)])}
    expected = session.run({name: given[name] for name in session.inputs})[0][0]
    np.testing.assert_allclose(aligned(shop, "two_tower")[new], expected, atol=1e-5)


def test_photos_of_another_model_than_was_learned_from_are_told_and_not_mixed_in(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    export = newest_export(shop.exports("two_tower"))
    tiny_export(shop.exports("image_similarity") / "0002-tiny", 28, 1, 16, 9)
    new = sold_today(shop)
    with caplog.at_level(logging.WARNING):
        shop.publish(force=True, as_judged=True)
    (line,) = [line for line in caplog.messages if "trained again since" in line]
    assert line.startswith("two_tower learned from what image_similarity")
    found = aligned(shop, "two_tower")
    trained = np.load(export / "item_embeddings.npy")
    for number in range(ITEMS):
        np.testing.assert_allclose(found[f"item-{number:05d}"], trained[number + 1], atol=1e-5)
    assert not found[new].any()  # nothing is known of it: it is in no index
    placed = two_tower_of(shop)
    assert placed.sources["photo"].unknown == 2 and placed.index is not None and placed.index.indexed == ITEMS


def test_another_model_of_photos_makes_stale_what_reads_photos_and_nothing_else(shop: Shop) -> None:
    shop.train("popularity")
    judged = shop.evaluate("popularity")
    tiny_export(shop.exports("image_similarity") / "0002-tiny", 28, 1, 16, 9)
    assert shop.evaluate("popularity").figures("popularity") == judged.figures("popularity")
    _, fresh = shop.train("two_tower")
    newest = PhotoEmbedder.open(newest_export(shop.exports("image_similarity")))
    assert read_facts(fresh)["feature_sources"] == {"photo": newest.model_hash}
    _, without = shop.train("two_tower", {"feature_sources": "[]"})
    assert read_facts(without)["feature_sources"] == {}


def test_a_transfer_by_photos_needs_the_same_eyes(
    shop: Shop, taught: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shop.train("dssm", {"feature_sources": "photo"})
    shutil.copytree(taught, tmp_path / "other")
    other = Shop(tmp_path / "other")
    with caplog.at_level(logging.WARNING):
        _, export = other.train("dssm", {"feature_sources": "photo"}, start=shop.folder)
    assert not any("mean other things" in line for line in caplog.messages)
    assert read_facts(export)["start"]["items_known"] == {}
    tiny_export(other.exports("image_similarity") / "0002-tiny", 28, 1, 16, 9)
    with caplog.at_level(logging.WARNING):
        other.train("dssm", {"feature_sources": "photo"}, start=shop.folder)
    assert any("mean other things" in line for line in caplog.messages)
