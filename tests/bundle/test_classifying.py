"""The classifier in a bundle: whether it may travel, what it answers there, what is refused at load."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from etalage.bundle.files import ITEMS, MODELS, SELF_CHECK, read_arrow
from etalage.bundle.manifest import verify
from etalage.bundle.selfcheck import check_consistency
from etalage.config import ClassifyConfig
from etalage.errors import BundleDamaged, ExportDamaged, GateRefused, IndexMismatch, NotFound, Unprocessable
from etalage.funnel.browsing import Wish, browse
from etalage.recommend import Filters, Recommender
from etalage.runtime.classifier import CONFUSION, ItemClassifier
from etalage.shop import Shop
from tests.bundle.forged import rehash, writable
from tests.category_exports import CLASSIFIER, MATRIX, PASSED, classified_shop, classifier_export, coloured
from tests.shops import item_row, photo_row, rows_of

GOLDEN = Path(__file__).parents[1] / "golden" / "format_1"
EXPORT = f"{CLASSIFIER}/0001-tiny"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classified shop of 24 items, published; its folder."""
    shop = classified_shop(tmp_path_factory.mktemp("shop"))
    shop.classify()
    shop.publish()
    return shop.folder


@pytest.fixture
def shop(whole: Path, tmp_path: Path) -> Shop:
    """A copy of it, to be changed."""
    return Shop(shutil.copytree(whole, tmp_path / "shop"))


@pytest.fixture
def bundle(shop: Shop) -> Path:
    folder = shop.bundles.path(shop.bundles.current_id())
    writable(folder)
    return folder


@pytest.fixture(scope="module")
def recommender(whole: Path) -> Recommender:
    return Shop(whole).recommender()


# -- publish -----------------------------------------------------------------------------------


def test_the_classifier_travels_with_its_verdict_its_settings_and_its_confusion(whole: Path) -> None:
    (manifest,) = Shop(whole).bundles.list()
    export = ItemClassifier.open(whole / "exports" / EXPORT)
    (facts,) = manifest.classifiers
    assert facts.classifier is not None and facts.hash == export.model_hash
    assert (facts.name, facts.classifier.leaves, facts.classifier.text) == ("item_category", 4, True)
    assert facts.classifier.taxonomy == export.taxonomy.version
    assert facts.classifier.settings == ClassifyConfig()
    assert facts.verdict is not None and facts.verdict["passed"] and not facts.forced
    assert "measures" not in facts.verdict, "the report's curves stay beside the export"
    assert manifest.classified is not None and manifest.classified.note is None
    assert manifest.classified.by == {export.model_hash: manifest.classified.items} and manifest.format == 4
    travelled = {name for name in manifest.files if name.startswith(f"{MODELS}/{CLASSIFIER}/")}
    assert {Path(name).name for name in travelled} == {
        "trunk.onnx", "heads.onnx", "encoder.json", "words.json", "taxonomy.json", "deciding.json",
        "export.json", CONFUSION,
    }  # fmt: skip
    assert set(manifest.tables) == {"items", "photos", "classifications"}


def test_what_was_classified_stands_beside_the_merchants_own(recommender: Recommender, whole: Path) -> None:
    folder = Shop(whole).bundles.path(recommender.bundle)
    items = read_arrow(folder / ITEMS)
    rows = {row["item_id"]: row for row in items.to_pylist()}
    assert rows["item-00002"]["category_id"] == "Ours > Shelf 2"
    assert rows["item-00002"]["classified_id"] == "21"
    assert rows["item-00002"]["classified_path"] == "Food > Apples"
    assert rows["item-00002"]["classified_confidence"] > 0.9
    below = rows["item-00006"]
    assert [below[f"classified_{n}"] for n in ("id", "path", "confidence")] == [None] * 3, "0.25 is below 0.5"


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (None, "item_category was not evaluated"),
        ({**PASSED, "passed": False}, "item_category does not beat the simple ones at accuracy"),
        ({**PASSED, "model_hash": "0" * 64}, "the verdict of item_category is about another model"),
    ],
)
def test_one_that_the_gate_refuses_is_left_out_and_named(
    tmp_path: Path, verdict: dict[str, Any] | None, reason: str
) -> None:
    shop = classified_shop(tmp_path / "shop", 8)
    shutil.rmtree(shop.exports(CLASSIFIER))
    classifier_export(shop.exports(CLASSIFIER) / "0001-tiny", verdict=verdict)
    shop.classify()
    manifest = shop.publish()
    assert manifest.classifiers == () and [one.name for one in manifest.refused] == [CLASSIFIER]
    assert reason in manifest.refused[0].reason
    assert manifest.classified is not None and "has no classifier" in str(manifest.classified.note)
    opened = shop.recommender()
    with pytest.raises(Unprocessable, match=reason):
        opened.classify(photos=[[coloured("21")]])
    with pytest.raises(NotFound, match="no confusion matrix"):
        _ = opened.confusion()
    assert opened.item("item-00002")["classified_path"] == "Food > Apples", "what was told stays"

    forced = shop.publish(force=True)
    assert forced.classifiers[0].forced and forced.forced == ("gate",)
    assert shop.recommender().classify(photos=[[coloured("21")]])[0].category_id == "21"


def test_a_bundle_of_a_classifier_alone(tmp_path: Path) -> None:
    shop = classified_shop(tmp_path / "shop", 8, photos=False)
    manifest = shop.publish()
    assert [one.name for one in manifest.models] == [CLASSIFIER] and manifest.classified is None
    opened = shop.recommender()
    assert opened.classify(item_id="item-00001")[0].path == "Food > Drinks > Milk"
    assert opened.models == {CLASSIFIER: manifest.classifiers[0].hash}
    shutil.rmtree(shop.exports(CLASSIFIER))
    classifier_export(shop.exports(CLASSIFIER) / "0001-tiny", verdict=None)
    with pytest.raises(GateRefused, match=r"item_category was not evaluated.*no model is left to publish"):
        shop.publish()


def test_a_bundle_says_where_its_categories_are_another_models(shop: Shop) -> None:
    classifier_export(shop.exports(CLASSIFIER) / "0002-tiny", sharpness=3.0)
    both = [shop.exports(CLASSIFIER) / name for name in ("0001-tiny", "0002-tiny")]
    before, after = (ItemClassifier.open(export).model_hash for export in both)
    manifest = shop.publish()
    assert manifest.classifiers[0].hash == after
    assert manifest.classified is not None and set(manifest.classified.by) == {before}
    note = str(manifest.classified.note)
    assert before[:12] in note and after[:12] in note and "etalage classify" in note
    shop.classify(threshold=0.0)
    synced = shop.sync().manifest
    assert synced is not None and synced.classified is not None
    assert synced.classified.note is None and set(synced.classified.by) == {after}


# -- sync --------------------------------------------------------------------------------------


def test_a_sync_takes_over_new_categories_and_carries_the_classifier(shop: Shop) -> None:
    before = shop.bundles.list()[-1]
    shop.lake.table("items").merge(rows_of("items", [item_row(2, title="Milk")]))
    shop.lake.table("photos").merge(rows_of("photos", [photo_row(2, coloured("301", 2))]))
    assert shop.classify().asked == 1
    done = shop.sync()
    assert done.manifest is not None and (done.upserted, done.deleted, done.embedded) == (1, 0, 1)
    assert done.manifest.classifiers == before.classifiers
    assert done.manifest.tables["classifications"] > before.tables["classifications"]
    opened = shop.recommender()
    assert opened.item("item-00002")["classified_path"] == "Food > Drinks > Milk"
    assert opened.confusion().categories[0].path == "Clothing > Dresses"


def test_another_threshold_alone_is_a_change_for_a_sync(shop: Shop) -> None:
    assert shop.classify(threshold=0.2).asked == 0
    done = shop.sync()
    assert done.manifest is not None and done.embedded == 0
    assert shop.recommender().item("item-00006")["classified_confidence"] == pytest.approx(0.25)
    assert shop.sync().manifest is None, "nothing is new"


def test_an_item_that_comes_back_finds_its_category(shop: Shop) -> None:
    key = rows_of("items", [item_row(2)]).select(["item_id"])
    shop.lake.table("items").delete(key)
    done = shop.sync()
    assert done.manifest is not None and done.deleted == 1
    shop.lake.table("items").merge(rows_of("items", [item_row(2)]))
    assert shop.sync().manifest is not None
    assert shop.recommender().item("item-00002")["classified_path"] == "Food > Apples"


def test_f58_a_bundle_of_before_there_were_classifiers_opens_and_syncs(tmp_path: Path) -> None:
    """Its items lack the columns; every question of today has an answer or a clear refusal."""
    shop = classified_shop(tmp_path / "shop", 8)
    (old,) = GOLDEN.iterdir()
    shop.bundles.folder.mkdir()
    shutil.copytree(old, shop.bundles.folder / old.name)
    shop.bundles.switch(old.name)
    opened = shop.recommender()
    assert opened.manifest.classifiers == () and opened.catalogue.categories("classified") == []
    first = opened.catalogue.ids[1]
    assert "classified_path" not in opened.item(first) and opened.catalogue.classified(1) == (
        None,
        None,
        None,
    )
    assert not opened.catalogue.mask(Filters(classified="Food")).any()
    assert not opened.catalogue.mask(Filters(min_confidence=0.0)).any()
    with pytest.raises(Unprocessable, match="this bundle has no classifier: `etalage train item_category`"):
        opened.classify(item_id=first)
    shop.classify()
    done = shop.sync(force=True)
    assert done.manifest is not None and done.manifest.format == 4 and done.manifest.classified is not None


# -- load --------------------------------------------------------------------------------------


def refused(folder: Path, **changed: Any) -> str:
    folder = rehash(folder, **changed)
    manifest = verify(folder)
    with pytest.raises((IndexMismatch, BundleDamaged, ExportDamaged)) as caught:
        check_consistency(folder, manifest)
    return str(caught.value)


def test_f54_another_classifier_is_refused_even_when_hashed_again(bundle: Path, tmp_path: Path) -> None:
    other = classifier_export(tmp_path / "0002-tiny", sharpness=3.0)
    for file in (bundle / MODELS / CLASSIFIER).iterdir():
        shutil.copyfile(other / file.name, file)
    assert "the manifest says item_category" in refused(bundle)


def test_f54_another_classifier_cannot_pass_the_self_check(bundle: Path, tmp_path: Path) -> None:
    other = classifier_export(tmp_path / "0002-tiny", sharpness=3.0)
    for file in (bundle / MODELS / CLASSIFIER).iterdir():
        shutil.copyfile(other / file.name, file)
    models = json.loads((bundle / "manifest.json").read_text())["models"]
    (facts,) = [one for one in models if one["kind"] == "classifier"]
    facts["hash"] = facts["aligned"] = json.loads((other / "export.json").read_text())["model_hash"]
    assert "self-check: what item_category takes item 'item-0000" in refused(bundle, models=models)


def test_the_self_check_asks_about_photos_and_where_it_reads_them_titles(bundle: Path) -> None:
    kept = json.loads((bundle / SELF_CHECK).read_text())["classifiers"][CLASSIFIER]
    with_photo = [one["item_id"] for one in kept if int(one["item_id"][-5:]) % 6]
    assert 0 < len(with_photo) < len(kept) == 8
    assert all(len(one["answers"]) == 4 for one in kept), "of four leaves"
    del kept[0]["answers"][0]
    whole = json.loads((bundle / SELF_CHECK).read_text())
    (bundle / SELF_CHECK).write_text(json.dumps({**whole, "classifiers": {CLASSIFIER: kept}}))
    assert "self-check" in refused(bundle)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        json.dumps({**MATRIX, "counts": [[1, 2], [3, 4]]}),
        json.dumps({**MATRIX, "counts": [[1, 2, 3], [3, 4, 5], [6, 7]]}),
        json.dumps({**MATRIX, "more": 1}),
        json.dumps({**MATRIX, "elsewhere": [1]}),
        json.dumps({**MATRIX, "categories": [{"id": "50", "path": "Clothing"}]}),
    ],
)
def test_f13_a_confusion_that_is_none_is_refused(bundle: Path, content: str) -> None:
    (bundle / MODELS / CLASSIFIER / CONFUSION).write_text(content)
    assert "evaluate" in refused(bundle)


def test_an_export_without_a_confusion_is_published_without(tmp_path: Path) -> None:
    shop = classified_shop(tmp_path / "shop", 8)
    (shop.exports(CLASSIFIER) / "0001-tiny" / CONFUSION).unlink()
    shop.publish()
    with pytest.raises(NotFound, match="`etalage evaluate item_category`"):
        _ = shop.recommender().confusion()


# -- answers -----------------------------------------------------------------------------------


def test_photos_of_one_item_are_looked_at_together(recommender: Recommender) -> None:
    alone, both = recommender.classify(photos=[[coloured("21")], [coloured("21"), coloured("300")]])
    assert (alone.row, both.row) == (0, 1)
    assert alone.category_id == "21" and (alone.confidence or 0) > (both.confidence or 0)
    assert both.steps[0].name == "Food"


def test_a_title_is_enough_where_titles_are_read_and_adds_to_a_photo(recommender: Recommender) -> None:
    read, unread = recommender.classify(photos=[[], []], titles=["Whole milk", "Xyzzy"])
    assert read.path == "Food > Drinks > Milk"
    assert unread.category_id is None and unread.reason is not None and "below 0.5" in unread.reason


def test_nothing_to_look_at_is_said_so(recommender: Recommender, tmp_path: Path) -> None:
    (none,) = recommender.classify(photos=[[]])
    assert none.confidence is None and none.reason == "nothing to look at: no photo and no title"
    shop = classified_shop(tmp_path / "shop", 8, text=False)
    shop.publish()
    (blind,) = shop.recommender().classify(photos=[[]], titles=["Whole milk"])
    assert blind.reason == "nothing to look at: no photo (this classifier reads no titles)"


def test_the_threshold_and_the_others_are_those_of_the_request_or_of_the_shop(tmp_path: Path) -> None:
    shop = classified_shop(tmp_path / "shop", 8)
    (shop.folder / "shop.toml").write_text("[classify]\nthreshold = 0.97\ntop = 1\n")
    shop = Shop(shop.folder)
    shop.publish()
    opened = shop.recommender()
    (one,) = opened.classify(photos=[[coloured("21"), coloured("300")]])
    assert one.category_id is None and one.reason is not None and "below 0.97" in one.reason
    assert len(one.others) == 1
    (one,) = opened.classify(photos=[[coloured("21"), coloured("300")]], threshold=0, top=3)
    assert one.category_id is not None and len(one.others) == 3


def test_an_item_of_the_catalogue_is_asked_about_beside_what_is_stored(recommender: Recommender) -> None:
    (one,) = recommender.classify(item_id="item-00005")
    assert one.stored is not None and one.stored.own == "Ours > Shelf 2"
    # A bundle holds main photos alone; the second one of item 5 is of another colour.
    assert one.stored.confidence is not None and one.confidence is not None
    assert one.stored.confidence < one.confidence and one.path == "Food > Drinks > Milk"
    with pytest.raises(NotFound, match="item-99999"):
        recommender.classify(item_id="item-99999")
    with pytest.raises(Unprocessable, match="exactly one"):
        recommender.classify()


# -- filters -----------------------------------------------------------------------------------


def ids(recommender: Recommender, filters: Filters) -> set[int]:
    mask = recommender.catalogue.mask(filters)
    return {int(i[-5:]) for i, there in zip(recommender.catalogue.ids, mask, strict=True) if there}


def test_filters_tell_the_classified_category_from_the_merchants(recommender: Recommender) -> None:
    apples = {n for n in range(24) if n % 4 == 2 and n % 6}
    assert ids(recommender, Filters(classified="Food > Apples")) == apples
    drinks = {n for n in range(24) if n % 4 in (0, 1) and n % 6}
    assert ids(recommender, Filters(classified="Food")) == apples | drinks
    assert ids(recommender, Filters(classified="Food > Drinks", category="Ours > Shelf 1")) == {
        n for n in drinks if n % 3 == 1
    }
    assert ids(recommender, Filters(classified="Foo")) == set() == ids(recommender, Filters(category="Food"))
    sure = ids(recommender, Filters(min_confidence=0.9))
    assert 5 not in sure and sure == {n for n in range(24) if n % 6 and n != 5}
    asked = Filters(classified="Food", min_confidence=0.9)
    kept = dict(recommender.catalogue.kept(asked, recommender.catalogue.has_photo))
    assert kept == {"classified 'Food'": len(apples | drinks), "min_confidence 0.9": len(sure)}


def test_a_search_reads_the_classified_category_too(recommender: Recommender) -> None:
    rows = browse(recommender.catalogue, Wish("APPLES bellamy"), 0, 50).rows
    found = {int(recommender.catalogue.ids[row][-5:]) for row in rows}
    assert found == {n for n in range(24) if n % 4 == 2 and n % 6 and n % 3 == 1}


def test_both_trees_are_counted(recommender: Recommender) -> None:
    own, told = (dict(recommender.catalogue.categories(of)) for of in ("merchants", "classified"))
    assert own == {"Ours": 22, "Ours > Shelf 0": 7, "Ours > Shelf 1": 8, "Ours > Shelf 2": 7}
    assert told["Food > Apples"] == 4 and told["Food"] == told["Food > Apples"] + told["Food > Drinks"]


def test_caps_and_diversity_see_the_classified_category_of_items_without_one(
    recommender: Recommender,
) -> None:
    codes = recommender.catalogue.category_codes[1:]
    assert codes[8] >= 0 and codes[9] >= 0 and codes[8] != codes[9], "juice and milk"
    assert codes[3] == codes[15] != codes[4] and codes[8] not in codes[:8]
