"""The whole path in one folder: ingest, train, evaluate, publish, sync, roll back, ask."""

import shutil
from pathlib import Path

import pytest

from etalage.errors import ConfigError, DataError, GateRefused, NoBundle, NothingToPublish
from etalage.runtime.export_files import newest_export, read_facts
from etalage.runtime.photos import PhotoEmbedder
from etalage.shop import MODEL, Shop, photo_steps
from etalage.training import tracking
from tests import stripes

ITEMS = 350


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop of ITEMS stripes, trained, evaluated and published."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.toml").write_text(stripes.toml())
    shop = Shop(folder)
    shop.ingest(stripes.folder(tmp_path_factory.mktemp("photos"), ITEMS), "items")
    shop.train()
    shop.evaluate(MODEL)
    shop.publish()
    return folder


@pytest.fixture
def shop(whole: Path, tmp_path: Path) -> Shop:
    """A copy of it, to be changed."""
    return Shop(shutil.copytree(whole, tmp_path / "shop"))


def test_the_published_model_beat_raw_pixels_at_the_gate(shop: Shop) -> None:
    (manifest,) = shop.bundles.list()
    (photos,) = manifest.photo_models
    assert photos.verdict is not None and photos.index is not None
    assert photos.verdict["passed"] is True
    systems = {row["system"] for row in photos.verdict["rows"]}
    assert systems == {MODEL, "raw pixels", "untrained network"}
    assert manifest.forced == ()
    assert manifest.items == photos.index.indexed == ITEMS


def test_an_item_is_like_others_of_its_category(shop: Shop) -> None:
    recommender = shop.recommender()
    hits = 0
    for item_id in recommender.catalogue.ids[1:41]:
        own = recommender.item(item_id)["category_id"]
        slate = recommender.similar(item_id=item_id, k=5)[0].slate
        assert item_id not in [slot.item_id for slot in slate]
        hits += sum(slot.category_id == own for slot in slate)
    assert hits / 200 > 0.6


def test_a_run_is_tracked_with_config_data_metrics_pictures_and_model(shop: Shop) -> None:
    facts = read_facts(newest_export(shop.exports("image_similarity")))
    client = tracking._client(shop.runs)
    run = client.get_run(facts["mlflow_run"])
    assert run.info.status == "FINISHED"
    assert run.data.params["stem"] == "8"
    assert '"items"' in run.data.params["data_tables"]
    assert {"hit_at_1", "loss", "test_precision_at_5"} <= set(run.data.metrics)
    assert [f.path for f in client.list_artifacts(run.info.run_id, "model")]
    kept = [Path(f.path) for f in client.list_artifacts(run.info.run_id, "evaluation")]
    assert {file.suffix for file in kept} == {".html", ".png"}
    assert {"bars.png", "confusion.png"} <= {file.name for file in kept}
    (events,) = shop.runs.glob(f"{MODEL}/*/tensorboard")
    assert list(events.glob("events*")) and list(events.glob("model/events*")), "figures, and the graph"


def test_training_again_on_the_same_data_finds_the_same_weights_and_keeps_export_and_verdict(
    shop: Shop,
) -> None:
    before = newest_export(shop.exports("image_similarity"))
    model_hash = PhotoEmbedder.open(before).model_hash
    trained, exported = shop.train()
    assert exported == before
    assert PhotoEmbedder.open(exported).model_hash == model_hash
    assert trained.metrics == read_facts(exported)["metrics"]
    assert shop.publish().forced == ()


def test_a_model_that_loses_is_not_published(shop: Shop, tmp_path: Path) -> None:
    shop.train(settings={"epochs": "1", "steps_per_epoch": "1", "learning_rate": "1e-9"})
    shop.evaluate(MODEL)
    before = shop.bundles.current_id()
    with pytest.raises(GateRefused, match="does not beat"):
        shop.publish()
    assert shop.bundles.current_id() == before
    forced = shop.publish(force=True)
    assert forced.forced == ("gate",)


def test_a_model_that_was_not_evaluated_is_not_published(shop: Shop) -> None:
    shop.train(settings={"epochs": "1", "steps_per_epoch": "1", "seed": "5"})
    with pytest.raises(GateRefused, match="not evaluated"):
        shop.publish()


def test_a_sync_embeds_the_new_photos_alone_and_is_rolled_back(shop: Shop, tmp_path: Path) -> None:
    before = shop.bundles.current_id()
    new = stripes.folder(tmp_path / "new", 9, seed=8)
    for number, file in enumerate(sorted(new.rglob("*.png"))):
        file.rename(file.with_name(f"new{number}.png"))
    shop.ingest(new, "items")
    done = shop.sync()
    assert (done.embedded, done.upserted, done.deleted) == (9, 9, 0)
    assert done.manifest is not None
    assert done.manifest.items == ITEMS + 9
    assert shop.recommender().similar(item_id="new3", k=3)[0].fallback is None
    assert shop.rollback().id == before
    assert shop.bundles.current_id() == before
    assert shop.recommender().similar(item_id="new3", k=3)[0].fallback == "unknown_item"


def test_what_the_evaluation_embedded_is_not_embedded_again(shop: Shop) -> None:
    shutil.rmtree(shop.folder / "tables" / "embeddings")
    shop = Shop(shop.folder)
    before = shop.evaluate(MODEL).summary()
    embedder = PhotoEmbedder.open(newest_export(shop.exports("image_similarity")))
    whole = photo_steps.payload(shop)
    done = photo_steps.embedded(shop, whole, embedder)
    assert done.embedded == 0 and len(done.embeddings) == ITEMS + 1
    assert embedder.embed_pixels(
        photo_steps.photos(shop, whole, embedder.encoder).pixels_NHWC
    ) == pytest.approx(done.embeddings[1:], abs=1e-5)
    assert shop.evaluate(MODEL).summary() == before


def test_the_first_bundle_cannot_be_rolled_back(shop: Shop) -> None:
    with pytest.raises(NoBundle, match="first bundle"):
        shop.rollback()


def test_a_rollback_from_a_damaged_bundle_takes_the_one_before(shop: Shop) -> None:
    first = shop.bundles.current_id()
    second = shop.publish().id
    manifest = shop.bundles.path(second) / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_text("{")
    assert shop.rollback().id == first


def test_a_rollback_without_a_bundle_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoBundle):
        Shop.create(tmp_path, "New").rollback()


def test_f12_a_folder_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where a folder should be")
    with pytest.raises(DataError, match="allow writing"):
        Shop.create(tmp_path, "New").train()


@pytest.mark.parametrize("name", ['Tiles "R" Us', "Étalage \U0001f6cd", "back\\slash\x7f"])
def test_a_new_shop_has_the_name_that_it_was_given(tmp_path: Path, name: str) -> None:
    assert Shop.create(tmp_path / "new", name).config.name == name


def test_a_misspelt_model_in_the_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("[models.image_simlarity]\nepochs = 3\n")
    with pytest.raises(ConfigError, match="did you mean 'image_similarity'"):
        Shop(tmp_path).train()


def test_an_unknown_model_and_an_unknown_setting_are_named(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="image_similarity"):
        shop.train("image_similarty")
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        shop.train(settings={"epoch": "3"})


def test_publishing_before_training_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NothingToPublish, match="etalage train"):
        Shop.create(tmp_path, "New").publish()
