"""`etalage classify` on a shop's tables: what is asked again, what stands, what is left alone."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from etalage.errors import ConfigError, NothingToPublish, TableMissing
from etalage.runtime.classifier import ItemClassifier
from etalage.shop import Shop, classify_steps
from tests.category_exports import CLASSIFIER, LINES, classified_shop, classifier_export, coloured
from tests.shops import item_row, photo_row, rows_of


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """24 items, see classified_shop; nothing is classified yet."""
    return classified_shop(tmp_path / "shop", photos=False)


def rows(shop: Shop) -> dict[int, dict[str, Any]]:
    """The table by the number of the item."""
    return {int(row["item_id"][-5:]): row for row in shop.lake.table("classifications").read().to_pylist()}


def put(shop: Shop, number: int, **changed: Any) -> None:
    shop.lake.table("items").merge(rows_of("items", [item_row(number, **changed)]))


def with_taxonomy(shop: Shop, more: str = "") -> Shop:
    (shop.folder / "taxonomy.txt").write_text(LINES, encoding="utf-8")
    (shop.folder / "shop.toml").write_text(f'[taxonomy]\nfile = "taxonomy.txt"\n{more}', encoding="utf-8")
    return Shop(shop.folder)


def test_every_item_gets_a_row_and_items_stay_as_they_are(shop: Shop) -> None:
    before = shop.lake.table("items").version()
    done = shop.classify()
    assert (done.asked, done.changed, done.gone) == (24, 24, 0)
    assert done.counts == {"classified": 20, "below_threshold": 4, "no_input": 0, "outside": 0}
    assert done.commonest[0] == ("Clothing > Dresses", 6) and sum(n for _, n in done.commonest) == 20
    found = rows(shop)
    assert sorted(found) == list(range(24)) and shop.lake.table("items").version() == before
    one = found[2]
    assert (one["category_id"], one["path"], one["status"]) == ("21", "Food > Apples", "classified")
    assert one["model"] == done.model and one["photo_sha256"] is not None and one["classified_at"] is not None
    doubtful = found[6]
    assert (doubtful["status"], doubtful["category_id"], doubtful["path"]) == ("below_threshold", None, None)
    assert doubtful["confidence"] == pytest.approx(0.25) and doubtful["best_id"] is not None


def test_several_photos_count_together_up_to_the_cap(shop: Shop) -> None:
    shop.classify()
    both = rows(shop)[5]
    assert both["best_path"] == "Food > Drinks > Juice" and both["confidence"] == pytest.approx(
        0.603, abs=0.01
    )
    (shop.folder / "shop.toml").write_text("[classify]\nphotos = 1\n")
    done = Shop(shop.folder).classify()
    assert done.asked == 1, "of one item another set of photos is looked at"
    assert rows(shop)[5]["path"] == "Food > Drinks > Milk" and rows(shop)[5]["confidence"] > 0.99


def test_a_second_run_has_nothing_to_do(shop: Shop) -> None:
    shop.classify()
    version = shop.lake.table("classifications").version()
    done = shop.classify()
    assert (done.asked, done.changed, done.gone) == (0, 0, 0)
    assert shop.lake.table("classifications").version() == version


def test_only_what_changed_is_asked_about_again(shop: Shop) -> None:
    shop.classify()
    put(shop, 0, title="Whole milk")  # a title, of an item without a photo
    put(shop, 1, price=99.0)  # nothing that is looked at
    shop.lake.table("photos").merge(rows_of("photos", [photo_row(3, coloured("300", 3))]))
    put(shop, 30)
    done = shop.classify()
    assert (done.asked, done.changed) == (3, 3)
    found = rows(shop)
    assert found[0]["path"] == "Food > Drinks > Milk" and found[3]["path"] == "Food > Drinks > Juice"
    assert found[30]["status"] == "below_threshold"


def test_a_title_that_nobody_reads_changes_nothing(tmp_path: Path) -> None:
    shop = classified_shop(tmp_path / "shop", photos=False, text=False)
    assert shop.classify().counts["no_input"] == 4, "without a photo there is nothing to look at"
    put(shop, 0, title="Whole milk")
    put(shop, 1, title="Another")
    assert shop.classify().asked == 0
    assert rows(shop)[0]["confidence"] is None and rows(shop)[0]["best_id"] is None


def test_another_threshold_decides_anew_without_asking(shop: Shop) -> None:
    shop.classify()
    strict = shop.classify(threshold=0.9)
    assert (strict.asked, strict.changed) == (0, 1)
    assert rows(shop)[5]["status"] == "below_threshold" and rows(shop)[5]["best_id"] == "300"
    loose = shop.classify(threshold=0.1)
    assert (loose.asked, loose.changed) == (0, 5) and loose.counts["classified"] == 24
    assert rows(shop)[5]["category_id"] == "300"
    with pytest.raises(ConfigError, match=r"threshold = 1\.5"):
        shop.classify(threshold=1.5)
    with pytest.raises(ConfigError, match="threshold = nan"):
        shop.classify(threshold=float("nan"))


def test_a_newer_model_or_the_wish_asks_about_all(shop: Shop) -> None:
    first = shop.classify()
    assert shop.classify(every=True).asked == 24
    classifier_export(shop.exports(CLASSIFIER) / "0002-tiny", sharpness=2.0)
    second = shop.classify()
    assert second.asked == 24 and second.model != first.model
    assert {row["model"] for row in rows(shop).values()} == {second.model}


def test_rows_of_items_that_are_gone_go_too(shop: Shop) -> None:
    shop.classify()
    keys = rows_of("items", [item_row(7), item_row(12)]).select(["item_id"])
    shop.lake.table("items").delete(keys)
    done = shop.classify()
    assert (done.asked, done.gone) == (0, 2) and set(rows(shop)) == set(range(24)) - {7, 12}


def test_a_photo_that_cannot_be_decoded_is_told_and_its_item_does_without(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    broken = photo_row(4, b"\x89PNG is no more than this")
    shop.lake.table("photos").merge(rows_of("photos", [broken, photo_row(5, b"nor this")]))
    with caplog.at_level(logging.WARNING):
        done = shop.classify()
    assert set(done.refused) == {broken["sha256"], photo_row(5, b"nor this")["sha256"]}
    assert "is left out" in caplog.text
    assert rows(shop)[4]["status"] == "below_threshold", "its title says nothing"
    assert rows(shop)[5]["path"] == "Food > Drinks > Juice", "by its other photo"
    assert shop.classify().asked == 0, "not tried again until it changes"


# -- beside what the item carried ----------------------------------------------------------------


def test_what_the_item_carried_stands_beside_what_was_told(shop: Shop) -> None:
    shop = with_taxonomy(shop)
    put(shop, 1, category_id="Food > Apples")
    put(shop, 2, attributes='{"google_product_category": "300"}')
    shop.classify()
    found = rows(shop)
    old_and_new = [found[1][n] for n in ("given_id", "given_path", "given_how", "category_id")]
    assert old_and_new == ["21", "Food > Apples", "exact", "301"]
    old_and_new = [found[2][n] for n in ("given_id", "given_path", "given_how", "category_id")]
    assert old_and_new == ["300", "Food > Drinks > Juice", "given", "21"]
    assert [found[3][n] for n in ("given_id", "given_path", "given_how")] == [None] * 3
    put(shop, 3, category_id="clothing > dresses")
    done = shop.classify()
    assert (done.asked, done.changed) == (0, 1), "what an item carries is no question to the model"
    assert rows(shop)[3]["given_id"] == "50"


def test_items_outside_the_taxonomy_are_left_alone(shop: Shop) -> None:
    shop = with_taxonomy(shop)
    put(shop, 1, category_id="Travel > Flights")
    done = shop.classify()
    assert done.asked == 23 and done.counts["outside"] == 1
    assert [rows(shop)[1][n] for n in ("status", "category_id", "confidence")] == ["outside", None, None]
    assert shop.classify().changed == 0
    put(shop, 1, category_id="Ours > Shelf 1")
    assert shop.classify().asked == 1 and rows(shop)[1]["path"] == "Food > Drinks > Milk"
    put(shop, 1, category_id="Insurance")
    done = shop.classify()
    assert (done.asked, done.changed) == (0, 1) and rows(shop)[1]["status"] == "outside"


# -- what can go wrong -----------------------------------------------------------------------------


def test_without_items_or_a_classifier_it_is_said_so(tmp_path: Path) -> None:
    shop = Shop.create(tmp_path / "shop", "Empty")
    with pytest.raises(NothingToPublish, match="etalage train item_category"):
        shop.classify()
    classifier_export(shop.exports(CLASSIFIER) / "0001-tiny")
    with pytest.raises(TableMissing, match="etalage ingest"):
        shop.classify()


_KILLED = """
import os, sys
from etalage.shop import Shop, classify_steps
classify_steps.KEPT_AT_ONCE = classify_steps.COMMITS = 4
from etalage.bundle import pooling
pooling.ITEMS_AT_ONCE = pooling.BLOCK_PHOTOS = 2
kept = classify_steps._Run.keep
def keep(self, rows):
    kept(self, rows)
    if self.changed >= 8:
        os.kill(os.getpid(), 9)
classify_steps._Run.keep = keep
Shop(sys.argv[1]).classify()
"""


def test_a_run_that_was_killed_goes_on_where_it_stood(shop: Shop, project: Path) -> None:
    command = [sys.executable, "-c", _KILLED, str(shop.folder)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(project)})
    assert done.returncode == -signal.SIGKILL
    kept = len(rows(shop))
    assert 8 <= kept < 24
    rest = shop.classify()
    assert (rest.asked, rest.changed) == (24 - kept, 24 - kept)
    whole = classified_shop(shop.folder.parent / "again", photos=False)
    whole.classify()
    without_time = [
        {number: {**row, "classified_at": None} for number, row in rows(one).items()} for one in (shop, whole)
    ]
    assert without_time[0].keys() == without_time[1].keys()
    for number, row in without_time[0].items():
        other = without_time[1][number]
        assert row.pop("confidence") == pytest.approx(other.pop("confidence"), abs=1e-5)
        assert row == other


def test_answers_are_written_together_but_not_all_at_the_end(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classify_steps, "KEPT_AT_ONCE", 8)
    from etalage.bundle import pooling

    monkeypatch.setattr(pooling, "ITEMS_AT_ONCE", 4)
    shop.classify()
    assert shop.lake.table("classifications").version() == 3, "made, and three times eight rows: 0 … 3"


def test_one_thing_is_answered_and_nothing_written(shop: Shop) -> None:
    versions = shop.lake.versions()
    found = shop.classify_one([coloured("21")])
    assert found.path == "Food > Apples" and len(found.others) == 3
    assert shop.classify_one([], "A bottle of juice").path == "Food > Drinks > Juice"
    assert shop.classify_one([], "A bottle of juice", threshold=0.99).category_id is None
    assert shop.lake.versions() == versions


def test_the_classifier_asked_is_the_newest(shop: Shop) -> None:
    newest = classifier_export(shop.exports(CLASSIFIER) / "0010-tiny", sharpness=2.0)
    assert shop.classify().model == ItemClassifier.open(newest).model_hash
    shutil.rmtree(newest)
    assert shop.classify().asked == 24


# -- what it is good for ---------------------------------------------------------------------------


def test_models_of_behaviour_see_the_classified_category_beside_the_merchants(shop: Shop) -> None:
    """Taught, laid onto the bundle's items, and laid anew by a sync after an item was told to be another."""
    from etalage.features.encoder import Encoder
    from etalage.runtime.export_files import newest_export
    from etalage.runtime.opening import open_scorer
    from etalage.shop import behaviour_steps
    from tests.shops import act_rows

    acts = [(f"user-{user}", (user + 4 * step) % 24, "buy") for user in range(12) for step in range(5)]
    shop.lake.table("interactions").merge(rows_of("interactions", act_rows(acts)))
    bare = behaviour_steps.behaviour(shop).data
    assert "classified_path" not in bare.item_features.bags, "nothing is classified yet"
    shop.classify()
    data = behaviour_steps.behaviour(shop)
    assert "classifications" in data.versions and data.data.fingerprint() != bare.fingerprint()
    encoder = data.data.item_encoder
    assert encoder is not None
    steps = encoder.bags["classified_path"]
    assert "Food > Drinks" in steps.ids.to_pylist() and "category_id" in encoder.bags
    row = data.data.items.row("item-00002")
    expected = [steps.row("Food"), steps.row("Food > Apples")]
    assert data.data.item_features.bags["classified_path"][row, :3].tolist() == [*expected, 0]

    settings = {"epochs": "1", "steps_per_epoch": "20", "width": "8"}
    shop.train("two_tower", settings)
    export = newest_export(shop.exports("two_tower"))
    kept = Encoder.from_json((export / "item_encoder.json").read_text(), "the export")
    assert "classified_path" in kept.bags
    shop.train("popularity")
    shop.publish(force=True)

    def embedding(number: int) -> list[float]:
        folder = shop.bundles.path(shop.bundles.current_id())
        scorer = open_scorer(folder / "models" / "two_tower")
        found: list[float] = scorer.item_embeddings[number + 1].tolist()  # type: ignore[attr-defined]
        return found

    before = {number: embedding(number) for number in (2, 3)}
    shop.lake.table("photos").merge(rows_of("photos", [photo_row(2, coloured("50", 2))]))
    shop.classify()
    assert shop.sync().manifest is not None
    assert embedding(3) == pytest.approx(before[3], abs=1e-6)
    assert embedding(2) != pytest.approx(before[2], abs=1e-4)
