"""Several photo embedders and several classifiers in one bundle: each is an entry, one of them speaks."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etalage.bundle.contents import embed, gather
from etalage.bundle.draft import Draft, DraftedModel
from etalage.bundle.files import SELF_CHECK
from etalage.bundle.manifest import Manifest, verify
from etalage.bundle.pointer import Bundles
from etalage.bundle.publish import publish
from etalage.bundle.selfcheck import check_consistency
from etalage.bundle.sync import sync
from etalage.config import BehaviourConfig, FunnelConfig, IndexConfig, PublishConfig
from etalage.errors import BundleDamaged, ExportDamaged, IndexMismatch, NotFound
from etalage.features.history import BehaviourRule
from etalage.lake.delta import Lake
from etalage.recommend import Recommender
from etalage.runtime.photos import PhotoEmbedder
from tests.bundle.forged import rehash
from tests.category_exports import classifier_export, coloured
from tests.exports import tiny_export
from tests.shops import PASSED, fill

FIRST, SECOND = "image_similarity", "photo_other"
Made = tuple[Lake, Bundles, Draft]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A shop of 30 items, and a draft with two photo embedders of different sizes and two classifiers."""
    lake = Lake(tmp_path / "tables")
    fill(lake, range(30), range(29))
    payload = gather(lake)
    exports = [
        tiny_export(tmp_path / "exports" / FIRST / "0001-tiny", seed=1),
        tiny_export(tmp_path / "exports" / SECOND / "0001-tiny", seed=2, dimension=12, name=SECOND),
    ]
    embeddings = {}
    for export in exports:
        embedder = PhotoEmbedder.open(export)
        embeddings[embedder.name] = embed(payload, embedder).embeddings
    classifiers = [
        classifier_export(tmp_path / "exports" / "item_category" / "0001-tiny"),
        classifier_export(tmp_path / "exports" / "colours" / "0001-tiny", sharpness=0.5, name="colours"),
    ]
    models = [DraftedModel(export, PASSED) for export in [*exports, *classifiers]]
    draft = Draft(
        payload.items, payload.photos, payload.versions, tuple(models), embeddings, moments=payload.moments
    )
    return lake, Bundles(tmp_path / "bundles"), draft


def sent(bundles: Bundles, draft: Draft) -> Manifest:
    return publish(bundles, draft, config=PublishConfig(), index_config=IndexConfig())


def opened(bundles: Bundles) -> Recommender:
    return Recommender.open(bundles.path(bundles.current_id()))


def preferring(draft: Draft, **funnel: str) -> Draft:
    return replace(draft, rules=BehaviourRule(BehaviourConfig(), FunnelConfig.model_validate(funnel)))


def nearest_by(draft: Draft, name: str, row: int) -> list[str]:
    """The five items whose photos are nearest to that of an item, by one embedder, computed here."""
    embeddings = draft.embeddings[name][1:]
    scores = embeddings @ embeddings[row]
    scores[row] = -np.inf
    ids = draft.items["item_id"].to_pylist()
    return [ids[n] for n in np.argsort(-scores, kind="stable")[:5]]


def slate(shop: Recommender, **about: object) -> list[str]:
    (answer,) = shop.similar(k=5, **about)  # type: ignore[arg-type]
    return [slot.item_id for slot in answer.slate]


def test_each_photo_embedder_compares_with_its_own_embeddings(made: Made) -> None:
    _, bundles, draft = made
    manifest = sent(bundles, draft)
    assert [one.name for one in manifest.photo_models] == [FIRST, SECOND]
    shop = opened(bundles)
    assert nearest_by(draft, FIRST, 3) != nearest_by(draft, SECOND, 3)
    assert slate(shop, item_id="item-00003") == nearest_by(draft, FIRST, 3), "the first by name speaks"
    for name in (FIRST, SECOND):
        assert slate(shop, item_id="item-00003", model=name) == nearest_by(draft, name, 3)
        photo = shop.photo("item-00003")
        found = slate(shop, photos=[photo], model=name)
        assert found[1:] == nearest_by(draft, name, 3)[:4] and found[0] == "item-00003"
        assert shop.embed([photo], model=name).shape == (1, draft.embeddings[name].shape[1])
    with pytest.raises(NotFound, match=f"no such photo embedder; there are: {FIRST}, {SECOND}"):
        shop.similar(item_id="item-00003", model="two_tower")


def test_the_funnels_setting_names_who_speaks(made: Made) -> None:
    _, bundles, draft = made
    sent(bundles, preferring(draft, photos=SECOND, classifier="item_category"))
    shop = opened(bundles)
    assert slate(shop, item_id="item-00003") == nearest_by(draft, SECOND, 3)
    assert shop.embedder is not None and shop.embedder.name == SECOND
    assert shop.funnel.look_alike is not None and shop.funnel.look_alike.name == SECOND
    assert shop.classifier().name == "item_category"


def test_models_of_behaviour_see_the_photos_by_who_speaks_and_by_each_name(made: Made) -> None:
    _, _, draft = made
    hashes = {FIRST: "1" * 64, SECOND: "2" * 64}
    plain, other = draft.sources(hashes), preferring(draft, photos=SECOND).sources(hashes)
    assert set(plain) == set(other) == {"photo", FIRST, SECOND}
    assert plain["photo"].model_hash == "1" * 64 and plain["photo"].embeddings.shape == (29, 16)
    assert other["photo"].model_hash == "2" * 64 and other["photo"].embeddings.shape == (29, 12)


def test_each_classifier_answers_by_name(made: Made) -> None:
    _, bundles, draft = made
    sent(bundles, draft)
    shop = opened(bundles)
    asked = [[coloured("21")]]
    (sure,) = shop.classify(photos=asked, model="item_category", threshold=0)
    (unsure,) = shop.classify(photos=asked, model="colours", threshold=0)
    assert sure.category_id == unsure.category_id == "21"
    assert (sure.confidence or 0) > (unsure.confidence or 0) > 0
    assert shop.classifier().name == "item_category", "in the order of the draft"
    with pytest.raises(NotFound, match="no such classifier; there are: colours, item_category"):
        shop.classify(photos=asked, model=FIRST)


def test_one_that_the_gate_refuses_is_left_out_and_the_other_speaks(made: Made) -> None:
    _, bundles, draft = made
    failed = {**PASSED, "passed": False}
    models = (replace(draft.models[0], verdict=failed), *draft.models[1:3])
    manifest = sent(bundles, replace(draft, models=models))
    assert [one.name for one in manifest.photo_models] == [SECOND]
    assert [(one.name, one.kind) for one in manifest.refused] == [(FIRST, "photos")]
    assert slate(opened(bundles), item_id="item-00003") == nearest_by(draft, SECOND, 3)


def test_a_sync_embeds_new_photos_with_each_of_them_and_no_others(made: Made) -> None:
    lake, bundles, draft = made
    first = sent(bundles, preferring(draft, photos=SECOND))
    fill(lake, [30], [30])
    done = sync(lake, bundles, config=PublishConfig(), index_config=IndexConfig())
    assert done.manifest is not None and done.embedded == 2 and done.carried == 2 * 29
    assert [one.hash for one in done.manifest.models] == [one.hash for one in first.models]
    shop = opened(bundles)
    assert shop.embedder is not None and shop.embedder.name == SECOND
    for name in (FIRST, SECOND):
        assert len(shop.parts.photo_models[name].index) == 30
        assert slate(shop, photos=[shop.photo("item-00030")], model=name)[0] == "item-00030"


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_f54_embeddings_of_the_other_one_are_refused_even_when_hashed_again(made: Made, name: str) -> None:
    _, bundles, draft = made
    manifest = sent(bundles, draft)
    folder = bundles.path(manifest.id)
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    wrong = draft.embeddings[name].copy()
    wrong[1:30] = np.roll(wrong[1:30], 1, axis=0)
    np.save(folder / "models" / name / "embeddings.npy", wrong.astype(np.float32), allow_pickle=False)
    folder = rehash(folder)
    with pytest.raises((IndexMismatch, BundleDamaged, ExportDamaged)):
        check_consistency(folder, verify(folder))


def test_f54_the_self_check_asks_each_of_them(made: Made) -> None:
    _, bundles, draft = made
    manifest = sent(bundles, draft)
    folder = bundles.path(manifest.id)
    said = json.loads((folder / SELF_CHECK).read_text())
    assert set(said["photo_models"]) == {FIRST, SECOND}
    assert set(said["classifiers"]) == {"item_category", "colours"}
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    changes: list[Callable[[], None]] = [
        lambda: said["photo_models"][SECOND]["queries"][0]["answers"].pop(),
        lambda: said["classifiers"]["colours"][0]["answers"].pop(),
    ]
    for change in changes:
        kept = json.loads(json.dumps(said))
        change()
        (folder / SELF_CHECK).write_text(json.dumps(said))
        folder = rehash(folder)
        with pytest.raises(BundleDamaged, match="self-check"):
            check_consistency(folder, verify(folder))
        said.clear()
        said |= kept
