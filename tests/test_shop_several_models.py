"""A shop with a second photo embedder and a second classifier of its own: published beside the first."""

from pathlib import Path

import pytest

from etalage.runtime.export_files import write_verdict
from etalage.runtime.photos import PhotoEmbedder
from etalage.shop import Shop
from tests.category_exports import CLASSIFIER, classified_shop, classifier_export, coloured
from tests.exports import tiny_export
from tests.shops import PASSED, item_row, rows_of

OWN = """\
from etalage.models.recipe import Recipe, TrainingConfig

raise RuntimeError("publishing and serving run no file of the shop")
RECIPE = Recipe(
    name="{name}", role="{role}", data="{data}", paper="none", config=TrainingConfig, columns=(), bind=None
)
"""
EYES, COLOURS = "other_eyes", "colours"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Exports of two photo embedders and two classifiers; the second of each is of the shop's own."""
    shop = classified_shop(tmp_path / "shop", 12)
    for name, role, data in ((EYES, "embedder", "photos"), (COLOURS, "classifier", "categories")):
        file = shop.folder / "models" / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(OWN.format(name=name, role=role, data=data), encoding="utf-8")
    other = tiny_export(shop.exports(EYES) / "0001-tiny", size=12, channels=3, dimension=7, seed=4, name=EYES)
    write_verdict(other, PASSED)
    classifier_export(shop.exports(COLOURS) / "0001-tiny", sharpness=0.5, name=COLOURS)
    return shop


def test_both_are_published_and_who_answers_is_told(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    manifest = shop.publish()
    assert [one.name for one in manifest.photo_models] == ["image_similarity", EYES]
    assert [one.name for one in manifest.classifiers] == [CLASSIFIER, COLOURS]
    assert f"image_similarity, {EYES} are in the bundle, and image_similarity answers" in caplog.text
    assert f"{CLASSIFIER}, {COLOURS} are in the bundle, and {CLASSIFIER} answers" in caplog.text
    recommender = shop.recommender()
    photo = recommender.photo("item-00001")
    assert recommender.embed([photo]).shape[1] != recommender.embed([photo], model=EYES).shape[1] == 7
    assert recommender.classify(photos=[[coloured("21")]], model=COLOURS, threshold=0)[0].category_id == "21"


def test_a_publish_opens_each_photo_embedder_of_the_exports_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once what it wrote of each, which is the bundle's."""
    opened: list[Path] = []
    real = PhotoEmbedder.open.__func__  # type: ignore[attr-defined]

    def seen(cls: type[PhotoEmbedder], folder: Path, threads: int = 1) -> PhotoEmbedder:
        opened.append(folder)
        return real(cls, folder, threads)

    monkeypatch.setattr(PhotoEmbedder, "open", classmethod(seen))
    manifest = shop.publish()
    exports = [shop.exports(name) / "0001-tiny" for name in ("image_similarity", EYES)]
    assert sorted(one for one in opened if shop.bundles.folder not in one.parents) == sorted(exports)
    assert len([one for one in opened if shop.bundles.folder in one.parents]) == len(manifest.photo_models)


def test_the_funnel_names_who_answers(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    (shop.folder / "shop.toml").write_text(
        f'[funnel]\nphotos = "{EYES}"\nclassifier = "{COLOURS}"\n', encoding="utf-8"
    )
    shop = Shop(shop.folder)
    shop.publish()
    assert "are in the bundle" not in caplog.text
    recommender = shop.recommender()
    assert recommender.embedder is not None and recommender.embedder.name == EYES
    assert recommender.classifier().name == COLOURS
    shop.classify()
    told_by = set(shop.lake.table("classifications").read(columns=["model"])["model"].to_pylist())
    assert told_by == {recommender.classifier().classifier.model_hash}
    shop.lake.table("items").merge(rows_of("items", [item_row(99)]))
    synced = shop.sync().manifest
    assert synced is not None and [one.name for one in synced.photo_models] == ["image_similarity", EYES]


def test_one_that_is_named_and_that_the_gate_refuses_is_told_with_who_answers_instead(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    (shop.folder / "shop.toml").write_text(f'[funnel]\nphotos = "{EYES}"\n', encoding="utf-8")
    write_verdict(shop.exports(EYES) / "0001-tiny", {**PASSED, "passed": False})
    manifest = Shop(shop.folder).publish()
    assert [one.name for one in manifest.photo_models] == ["image_similarity"]
    assert (
        f"[funnel] photos names {EYES}, which is not in the bundle: image_similarity answers" in caplog.text
    )
    assert [one.name for one in manifest.refused] == [EYES]
