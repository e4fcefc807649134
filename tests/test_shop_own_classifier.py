"""A shop's own classifier lives as ours does, by nothing but its file: the one that docs/own_model.md shows,
which reads titles and looks at no photo, beside an item_category that looks at photos alone."""

import base64
import hashlib
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from etalage.errors import ConfigError
from etalage.models.own import SOURCE
from etalage.runtime.classifier import OF_PHOTOS, ItemClassifier
from etalage.runtime.export_files import newest_export, read_facts, read_verdict
from etalage.shop import Shop
from tests.category_exports import LEAVES, LINES, classifier_export, coloured, leaf_of
from tests.own_models import put, shown, trust
from tests.serve.servers import ThreadServer
from tests.shops import item_row, photo_row, rows_of
from tests.test_shop_own_models import code_of_etalage

OURS, OWN = "item_category", "title_words"
CONFIG = """
[taxonomy]
file = "taxonomy.txt"
[split]
published = "split"
near_duplicates = false
[evaluate]
bootstrap = 200
[models.title_words]
epochs = 15
"""
ITEMS = 150


def title_of(number: int, leaf: str) -> str:
    """A made-up word that ends as the leaf's does: whole words tell nothing, the pieces of words do."""
    start = "".join(random.Random(number).choices("aeioulmnrst", k=6))
    return f"{start}{LEAVES[leaf][2]}"


def part_of(number: int) -> str:
    return ("train", "train", "train", "validation", "test")[number % 5]


def own_item(number: int, **changed: Any) -> dict[str, Any]:
    leaf = leaf_of(number)
    attributes = json.dumps({"split": part_of(number), "google_product_category": leaf})
    return item_row(number, **{"title": title_of(number, leaf), "attributes": attributes, **changed})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, project: Path) -> Iterator[Path]:
    """Trained, evaluated and published beside an export of item_category."""
    state, folder = tmp_path_factory.mktemp("state"), tmp_path_factory.mktemp("own") / "shop"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state))
        before = code_of_etalage(project)
        folder.mkdir()
        (folder / "taxonomy.txt").write_text(LINES, encoding="utf-8")
        (folder / "shop.toml").write_text(CONFIG, encoding="utf-8")
        put(folder, shown(OWN))
        trust(folder)
        shop = Shop(folder)
        shop.lake.table("items").merge(rows_of("items", [own_item(n) for n in range(ITEMS)]))
        photos = [photo_row(n, coloured(leaf_of(n), n)) for n in range(ITEMS) if n % 9]
        shop.lake.table("photos").merge(rows_of("photos", photos))
        classifier_export(shop.exports(OURS) / "0001-tiny", text=False)
        shop.train(OWN)
        shop.evaluate(OWN)
        shop.publish()
        assert code_of_etalage(project) == before
        yield folder


@pytest.fixture
def shop(built: Path, tmp_path: Path) -> Shop:
    """A copy, trusted anew: trust is of the folder."""
    shutil.copytree(built, tmp_path / "shop")
    trust(tmp_path / "shop")
    return Shop(tmp_path / "shop")


def test_its_export_is_of_titles_alone_calibrated_and_says_which_file_it_is_of(shop: Shop) -> None:
    export = newest_export(shop.exports(OWN))
    facts = read_facts(export)
    assert facts["reads"] == ["title"] and facts["dimension"] == 0
    assert facts["numbers"] == {"served": "float32"}
    assert facts["calibration"]["title"]["calibrated"] <= facts["calibration"]["title"]["log_loss"]
    content = (shop.folder / "models" / f"{OWN}.py").read_bytes()
    assert facts[SOURCE] == hashlib.sha256(content).hexdigest()
    assert not [name for name in OF_PHOTOS if (export / name).exists()]


def test_it_is_judged_on_the_golden_set_of_all_classifiers_beside_what_reads_titles(shop: Shop) -> None:
    verdict = read_verdict(newest_export(shop.exports(OWN)))
    assert verdict is not None and verdict["passed"] and verdict["part"] == "test"
    simple = {row["system"] for row in verdict["rows"]}
    assert {"majority", "words of titles"} <= simple and "raw pixels" not in simple
    golden = json.loads((shop.folder / "golden.json").read_text())["hash"]
    assert read_facts(newest_export(shop.exports(OWN)))["golden"] == golden


def test_it_stands_in_the_bundle_beside_ours(shop: Shop) -> None:
    manifest = shop.recommender().manifest
    facts = {one.name: one.classifier for one in manifest.classifiers}
    assert {name: (one.photos, one.text) for name, one in facts.items() if one is not None} == {
        OURS: (True, False),
        OWN: (False, True),
    }
    assert not manifest.refused


def test_either_answers_by_what_it_looks_at_and_is_no_other_as_published(shop: Shop) -> None:
    recommender = shop.recommender()
    trained = ItemClassifier.open(newest_export(shop.exports(OWN)))
    contrary = title_of(9999, "50")
    (by_title,) = recommender.classify(photos=[[coloured("21")]], titles=[contrary], model=OWN, threshold=0)
    (by_photo,) = recommender.classify(photos=[[coloured("21")]], titles=[contrary], model=OURS, threshold=0)
    assert (by_title.category_id, by_photo.category_id) == ("50", "21")
    (offline,) = trained.classify([[]], [contrary])
    assert by_title.confidence == offline.confidence
    (nothing,) = recommender.classify(photos=[[coloured("21")]], model=OWN)
    assert nothing.reason == "nothing to look at: no title (this classifier looks at no photos)"


def test_a_server_answers_by_it_and_runs_no_file(shop: Shop, tmp_path: Path) -> None:
    (shop.folder / "models" / f"{OWN}.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    asked = {"title": title_of(77, "301"), "photos": [base64.b64encode(coloured("21")).decode()]}
    with ThreadServer(shop.bundles.folder) as server:
        http = httpx.Client(base_url=server.url, timeout=240, trust_env=False)
        for model, category in ((OWN, "301"), (OURS, "21")):
            found = http.post("/v1/classify", json={"items": [asked], "model": model, "threshold": 0}).json()
            assert found["answers"][0]["category_id"] == category, found
        named = http.post("/v1/classify", json={"item_id": "item-00007", "model": OWN})
        assert named.json()["answers"][0]["category_id"] == leaf_of(7)
        assert len(http.get("/v1/confusion", params={"model": OWN}).json()["categories"]) == len(LEAVES)


def test_the_catalogue_is_classified_by_it_where_the_funnel_names_it(shop: Shop) -> None:
    """Asked again only of items whose titles changed: a new photo is nothing to it."""
    (shop.folder / "shop.toml").write_text(f'{CONFIG}[funnel]\nclassifier = "{OWN}"\n', encoding="utf-8")
    shop = Shop(shop.folder)
    done = shop.classify()
    assert done.asked == ITEMS and done.counts["no_input"] == 0
    shop.lake.table("photos").merge(rows_of("photos", [photo_row(1, coloured("50", 7))]))
    assert shop.classify().asked == 0
    shop.lake.table("items").merge(rows_of("items", [own_item(2, title=None)]))
    again = shop.classify()
    assert again.asked == 1 and again.counts["no_input"] == 1
    synced = shop.sync().manifest
    assert synced is not None and [one.name for one in synced.classifiers] == [OURS, OWN]


# -- what is not written as a classifier -------------------------------------------------------


def edited(shop: Shop, *changes: tuple[str, str]) -> Shop:
    file = shop.folder / "models" / f"{OWN}.py"
    text = file.read_text(encoding="utf-8")
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    file.write_text(text, encoding="utf-8")
    trust(shop.folder)
    return Shop(shop.folder)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([("ClassifierConfig", "TrainingConfig")], "let it extend ClassifierConfig"),
        ([("def word_encoder", "def encoder_of_words")], "it looks at nothing of an item"),
        ([('inputs = ("words",)', 'inputs = ("title",)')], "expected some of features, has_photo, words"),
        ([('inputs = ("words",)', 'inputs = ("features",)')], "its config has word_encoder"),
        ([('{"title": ("title",)}', '{"photo": ("photo",)}')], "which of title it looks at"),
        ([("self.leaves,)", "self.leaves)")], "expected a tuple, of each of the heads title"),
    ],
)
def test_what_is_amiss_with_its_file_is_told_before_it_learns(
    shop: Shop, changes: list[tuple[str, str]], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        edited(shop, *changes).train(OWN)


def test_a_setting_of_photos_does_nothing_for_it(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="served = 'int8' does nothing here"):
        shop.train(OWN, {"served": "int8"})
