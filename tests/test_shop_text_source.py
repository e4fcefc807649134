"""A shop with [text] encoder: models of behaviour learn from what is written about items, and a new item is
embedded by its own words at the next sync."""

import logging
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from etalage import Shop
from etalage.bundle.manifest import ModelEntry
from etalage.errors import BundleDamaged, ConfigError
from etalage.features.behaviour import BehaviourSet
from etalage.features.text_encoders import open_encoder
from etalage.recommend import Recommender
from etalage.runtime.embeddings import EmbeddingScorer
from etalage.runtime.export_files import newest_export, read_facts
from etalage.runtime.opening import open_scorer
from etalage.runtime.sessions import Session
from etalage.shop import asking, kept_embeddings, refit_training, text_steps
from tests.shops import NOON, item_row, rows_of
from tests.test_shop_sources import aligned, manifest_of

CONFIG = """
[text]
encoder = "wordllama"
[behaviour]
split = "random"
[funnel]
retrievers = {two_tower = 40}
[models.two_tower]
width = 8
epochs = 1
steps_per_epoch = 3
"""
ITEMS, WITHOUT_TEXT = 30, 7
NOTHING = {"title": None, "description": None, "brand": None, "price": None, "category_id": None}
COLOURS, THINGS = (
    ("red", "blue", "green", "black", "white"),
    ("shoe", "bag", "lamp", "plate", "scarf", "coat"),
)


def titled(number: int) -> str:
    return f"{COLOURS[number % 5]} {THINGS[number // 5 % 6]}"


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """two_tower is trained, of items with nothing but a title: one has none."""
    shop = Shop.create(tmp_path_factory.mktemp("texts") / "shop", "Pieces")
    (shop.folder / "shop.toml").write_text(CONFIG, encoding="utf-8")
    rng = np.random.default_rng(2)
    given = [{**NOTHING, "title": None if n == WITHOUT_TEXT else titled(n)} for n in range(ITEMS)]
    items = [item_row(n, **one, in_stock=True, attributes=None) for n, one in enumerate(given)]
    acts = [
        {"interaction_id": f"{user}-{act}", "user_id": f"u{user:02d}", "item_id": f"item-{item:05d}",
         "kind": "buy", "time": NOON + timedelta(minutes=user + 60 * act)}
        for user in range(40) for act, item in enumerate(rng.choice(ITEMS, 6, replace=False))
    ]  # fmt: skip
    shop.lake.table("items").merge(rows_of("items", items))
    shop.lake.table("interactions").merge(rows_of("interactions", acts))
    shop.train("two_tower")
    return shop.folder


@pytest.fixture
def shop(taught: Path, tmp_path: Path) -> Shop:
    shutil.copytree(taught, tmp_path / "copy")
    return Shop(tmp_path / "copy")


def placed(shop: Shop, name: str = "two_tower") -> ModelEntry:
    (found,) = [one for one in manifest_of(shop).models if one.name == name]
    return found


def sold_today(shop: Shop, title: str, number: int = 77) -> str:
    """A new item with nothing but a title."""
    row = item_row(number, **{**NOTHING, "title": title}, in_stock=True, attributes=None)
    shop.lake.table("items").merge(rows_of("items", [row]))
    return f"item-{number:05d}"


def test_a_new_item_is_embedded_by_its_words_at_the_next_sync_as_training_would(shop: Shop) -> None:
    encoder = open_encoder("wordllama", shop.folder)
    facts = read_facts(newest_export(shop.exports("two_tower")))
    assert facts["feature_sources"] == facts["inputs"] == {"text": encoder.model_hash}
    shop.publish(force=True)
    assert placed(shop).sources["text"].unknown == 1
    new = sold_today(shop, "a yellow tent for two")
    shop.sync()
    assert placed(shop).sources["text"].unknown == 1
    bundle = shop.bundles.path(shop.bundles.current_id())
    scorer = open_scorer(bundle / "models" / "two_tower")
    assert isinstance(scorer, EmbeddingScorer)
    session = Session.open(bundle / "models" / "two_tower" / "item.onnx")
    given = {"item": np.zeros(1, np.int64), "item.text": encoder.encode(["a yellow tent for two"])}
    given |= {name: np.zeros((1, 64), np.int64) for name in session.inputs if name == "item.title"}
    assert "item.text" in session.inputs
    found = aligned(shop, "two_tower")[new]
    assert found.any()
    text = text_steps.by_item(shop)
    assert text is not None
    row = list(text.item_ids.to_pylist()).index(new)
    np.testing.assert_allclose(text.embeddings[row], given["item.text"][0], atol=1e-6)


def test_what_is_trained_again_on_everything_reads_the_texts_of_later_items_too(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[BehaviourSet] = []

    def kept(*given: Any) -> BehaviourSet:
        learned.append(with_kept_sources(*given))
        return learned[-1]

    with_kept_sources = refit_training._with_kept_sources
    monkeypatch.setattr(refit_training, "_with_kept_sources", kept)
    new = sold_today(shop, "green lamp")
    shop.publish(force=True)
    (data,) = learned
    rows = data.items.rows(pa.array([new, f"item-{WITHOUT_TEXT:05d}"]))
    assert data.item_features.dense["text"][rows].any(axis=1).tolist() == [True, False]


def test_what_nobody_touched_is_placed_by_its_text(shop: Shop) -> None:
    settings = {"dimension": 8, "few": 100, "popular": 0}  # all are placed by what they are
    shop.train("cold_start", settings)
    config = shop.folder / "shop.toml"
    config.write_text(CONFIG.replace("two_tower = 40", "cold_start = 40"), encoding="utf-8")
    again = Shop(shop.folder)
    again.publish(force=True)
    new, other = sold_today(again, "a red shoe", 77), sold_today(again, "black scarf", 78)
    again.sync()
    assert placed(again, "cold_start").sources["text"].unknown == 1
    found = aligned(again, "cold_start")
    shoe, scarf = (found[one] / np.linalg.norm(found[one]) for one in (new, other))
    like = found["item-00000"] / np.linalg.norm(found["item-00000"])
    assert titled(0) == "red shoe" and like @ shoe > like @ scarf


def test_only_texts_that_changed_are_read_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = open_encoder("wordllama", shop.folder)
    kept = kept_embeddings.kept_rows(shop, "text", encoder.model_hash)
    assert len(kept) == ITEMS - 1
    looked: list[int] = []
    spied = type(encoder).encode
    monkeypatch.setattr(
        type(encoder), "encode", lambda self, texts: (looked.append(len(texts)), spied(self, texts))[1]
    )
    shop.train("two_tower", fresh=True)
    assert looked == []
    sold_today(shop, "an orange tent")
    text_steps.by_item(shop)
    assert looked == [1]


def test_a_vacuum_removes_what_was_made_of_texts_that_no_item_has(shop: Shop) -> None:
    assert "texts" not in {one.kind for one in shop.vacuum(dry=True).wastes}
    sold_today(shop, "an orange tent", 3)  # in place of what it was called
    (text,) = [one for one in shop.vacuum(dry=False).wastes if one.kind == "texts"]
    assert (text.count, text.bytes) == (1, 4 * 256)
    encoder = open_encoder("wordllama", shop.folder)
    assert len(kept_embeddings.kept_rows(shop, "text", encoder.model_hash)) == ITEMS - 2


def test_items_without_a_word_are_counted_and_said(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    sold_today(shop, "long " * 900)
    with caplog.at_level(logging.WARNING):
        text_steps.by_item(shop)
    assert any("1 of the 31 items have no word" in line and "item-00007" in line for line in caplog.messages)
    assert any("1 of the 31 items have more than 2,000 characters" in line for line in caplog.messages)


def test_texts_that_nobody_can_read_are_refused_with_what_to_do(shop: Shop) -> None:
    config = shop.folder / "shop.toml"
    config.write_text(CONFIG.replace('encoder = "wordllama"', ""), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"\[text\] names no encoder: set encoder to `use`"):
        Shop(shop.folder).train("two_tower", {"feature_sources": "text"})
    config.write_text(CONFIG.replace("wordllama", "nowhere.onnx"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"there is no file .*nowhere\.onnx"):
        Shop(shop.folder).train("two_tower")


def test_another_encoder_than_was_learned_from_is_told_and_not_mixed_in(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    config = shop.folder / "shop.toml"
    config.write_text(CONFIG.replace("wordllama", "use"), encoding="utf-8")
    again = Shop(shop.folder)
    sold_today(again, "a yellow tent")
    with caplog.at_level(logging.WARNING):
        again.publish(force=True)
    (line,) = [line for line in caplog.messages if "[text] encoder" in line]
    assert line.startswith("two_tower learned from texts") and "`etalage train two_tower`" in line
    assert placed(again).sources["text"].unknown == 2


def test_what_is_like_an_item_without_a_photo_is_told_by_its_text(shop: Shop) -> None:
    shop.publish(force=True)
    answer = shop.similar("item-00000", k=9)
    assert titled(0) == "red shoe" and answer.answer.fallback == "by_text"
    near = [titled(int(slot.item_id[-5:])) for slot in answer.slots]
    assert all("shoe" in one or "red" in one for one in near[:5]) and "item-00000" not in str(answer.slots)
    assert asking.in_words(shop, "item-00000", answer.answer) == (
        "no photo of it to compare: items with a similar text"
    )
    new = sold_today(shop, "a red shoe")
    shop.sync()
    assert shop.similar("item-00000", k=2).slots[0].item_id == new, "nothing is trained for it"
    assert shop.similar(f"item-{WITHOUT_TEXT:05d}", k=2).answer.fallback == "by_behaviour"


def test_a_bundle_whose_texts_are_not_its_own_is_refused(shop: Shop) -> None:
    shop.publish(force=True)
    bundle = shop.bundles.path(shop.bundles.current_id())
    file = bundle / "models" / "text" / "embeddings.npy"
    made = np.load(file)
    file.chmod(0o644)
    np.save(file, made[::-1])
    with pytest.raises(BundleDamaged, match=r"text.embeddings\.npy"):
        Recommender.open(bundle)
