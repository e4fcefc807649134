"""Bundles and exports that earlier versions made are opened, and answer as they did."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etalage.bundle.draft import DraftedModel
from etalage.bundle.files import SELF_CHECK
from etalage.bundle.manifest import FORMAT, is_bundle_id
from etalage.online import Act
from etalage.recommend import Recommender
from etalage.runtime.classifier import ItemClassifier
from etalage.runtime.photos import PhotoEmbedder
from tests.shops import behaviour_shop

GOLDEN = Path(__file__).parents[1] / "golden"
FORMATS = [2, 3, 4]
ITEMS = 13


def bundle(number: int) -> Path:
    (folder,) = (one for one in (GOLDEN / f"format_{number}").iterdir() if is_bundle_id(one.name))
    assert json.loads((folder / "manifest.json").read_text())["format"] == number
    return folder


def recorded(number: int) -> dict[str, Any]:
    answers: dict[str, Any] = json.loads((GOLDEN / f"format_{number}" / "answers.json").read_text())
    return answers


def slates(shop: Recommender, asked: list[dict[str, Any]]) -> list[list[tuple[str, float]]]:
    found = []
    for one in asked:
        history = [Act(item_id, "buy") for item_id in one["history"]] if "history" in one else None
        answer = shop.recommend(user_id=one.get("user_id"), history=history, k=6, now=5)
        found.append([(slot.item_id, slot.score) for slot in answer.slate])
    return found


def assert_same(found: list[tuple[str, float]], expected: list[list[Any]]) -> None:
    assert [item_id for item_id, _ in found] == [item_id for item_id, _ in expected]
    np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], atol=1e-4)


def test_a_bundle_of_every_format_is_kept() -> None:
    assert sorted(folder.name for folder in GOLDEN.iterdir()) == [f"format_{n}" for n in range(1, FORMAT + 1)]


def test_f58_a_bundle_of_format_1_opens_and_answers_as_it_did() -> None:
    folder = bundle(1)
    shop = Recommender.open(folder)
    assert shop.manifest.funnel == () and len(shop.manifest.photo_models) == 1
    for query in json.loads((folder / SELF_CHECK).read_text())["queries"][:4]:
        (answer,) = shop.similar(item_id=query["item_id"], k=5)
        expected = [(i, s) for i, s in query["answers"] if i != query["item_id"]][:5]
        assert_same([(slot.item_id, slot.score) for slot in answer.slate], expected)
    assert shop.recommend(k=3).rung == "popular"
    assert shop.recommend(history=[Act("item-00002")], k=3).rung == "photo"


@pytest.mark.parametrize("number", FORMATS)
def test_f58_a_bundle_with_models_of_behaviour_opens_and_answers_as_it_did(number: int) -> None:
    shop, answers = Recommender.open(bundle(number)), recorded(number)
    found = slates(shop, answers["recommend"])
    for one, asked in zip(found, answers["recommend"], strict=True):
        assert_same(one, asked["slate"])
    for asked in answers["similar"]:
        (answer,) = shop.similar(item_id=asked["item_id"], k=5)
        assert_same([(slot.item_id, slot.score) for slot in answer.slate], asked["slate"])


@pytest.mark.parametrize("number", FORMATS)
def test_f58_exports_that_an_earlier_version_made_are_published_and_answer_as_they_did(
    number: int, tmp_path: Path
) -> None:
    exports = GOLDEN / f"format_{number}" / "exports"
    order = ("two_tower", "item_knn", "popularity", "neumf")
    placed = [DraftedModel(exports / name / "0001-tiny", {"passed": True, "metric": "auc"}) for name in order]
    _, bundles, manifest = behaviour_shop(tmp_path, ITEMS, photos=True, models=(), extra=placed)
    assert [model.name for model in manifest.funnel] == list(order)
    asked = recorded(number)["recommend"]
    for one, expected in zip(slates(Recommender.open(bundles.path(manifest.id)), asked), asked, strict=True):
        assert_same(one, expected["slate"])


@pytest.mark.parametrize("number", FORMATS)
def test_f58_exports_of_photos_and_of_categories_are_opened(number: int) -> None:
    exports = GOLDEN / f"format_{number}" / "exports"
    assert PhotoEmbedder.open(exports / "image_similarity" / "0001-tiny").dimension > 0
    if (folder := exports / "item_category" / "0001-tiny").exists():
        assert len(ItemClassifier.open(folder).taxonomy.leaves_L) > 0
