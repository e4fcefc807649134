"""`train item_category`, `evaluate` and `compare` on a shop's tables, and the golden set between them."""

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from etalage.errors import ConfigError, GoldenChanged, LeakageFound
from etalage.features.photo import PhotoEncoder
from etalage.models.backbones import backbone
from etalage.models.item_category import ItemCategoryConfig
from etalage.runtime.export_files import newest_export, read_facts, read_verdict
from etalage.shop import Shop, category_steps
from tests.category_exports import LEAVES, LINES, coloured, leaf_of
from tests.own_models import put as put_models
from tests.own_models import shown, trust
from tests.shops import item_row, photo_row, rows_of

MODEL = "item_category"
CONFIG = """
[taxonomy]
file = "taxonomy.txt"
[split]
published = "split"
near_duplicates = false
[evaluate]
bootstrap = 100
[models.item_category]
backbone = "small"
size = 16
epochs = 3
precision = "float32"
learning_rate = 0.01
trunk_rate = 0.003
text = "late"
buckets = 256
crop = 1
light = 0
"""
ITEMS = 72
OF_BACKBONE = ("trunk_rate", "crop", "light")
"""Settings that do nothing where the backbone stays as it is."""


def part_of(number: int) -> str:
    """Leaves and parts have no common rhythm: each part has items of every leaf."""
    return ("train", "train", "train", "validation", "test")[number % 5]


def item(number: int, leaf: str, part: str, **more: str) -> dict[str, Any]:
    attributes = json.dumps({"split": part, "google_product_category": leaf, **more})
    return item_row(number, title=f"Piece {number % 7}", attributes=attributes)


def put(shop: Shop, number: int, leaf: str, part: str, photo: bytes | None = None, **more: str) -> None:
    shop.lake.table("items").merge(rows_of("items", [item(number, leaf, part, **more)]))
    shop.lake.table("photos").merge(rows_of("photos", [photo_row(number, photo or coloured(leaf, number))]))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained twice, the second time with another head and size; that one was evaluated."""
    folder = tmp_path_factory.mktemp("categories") / "shop"
    folder.mkdir()
    (folder / "taxonomy.txt").write_text(LINES, encoding="utf-8")
    (folder / "shop.toml").write_text(CONFIG, encoding="utf-8")
    shop = Shop(folder)
    rows = [item(n, leaf_of(n), part_of(n)) for n in range(ITEMS)]
    shop.lake.table("items").merge(rows_of("items", rows))
    shop.lake.table("photos").merge(
        rows_of("photos", [photo_row(n, coloured(leaf_of(n), n)) for n in range(ITEMS) if n % 9])
    )
    shop.train(MODEL)
    shop.train(MODEL, {"heads": "flat", "size": "24", "served": "int8"})
    shop.evaluate(MODEL)
    return folder


@pytest.fixture
def shop(built: Path, tmp_path: Path) -> Shop:
    shutil.copytree(built, tmp_path / "shop")
    return Shop(tmp_path / "shop")


def test_the_first_training_lays_the_test_part_aside(shop: Shop) -> None:
    golden = json.loads((shop.folder / "golden.json").read_text())
    laid = {row["item_id"] for row in golden["rows"]}
    assert laid == {f"item-{n:05d}" for n in range(ITEMS) if part_of(n) == "test"}
    exports = sorted(shop.exports(MODEL).glob("0*"))
    assert [read_facts(one)["golden"] for one in exports] == [golden["hash"]] * 2


def test_figures_are_of_the_golden_set_and_the_verdict_of_validation(shop: Shop) -> None:
    export = newest_export(shop.exports(MODEL))
    verdict = read_verdict(export)
    assert verdict is not None and verdict["part"] == "test"
    assert verdict["model_hash"] == read_facts(export)["model_hash"]
    confusion = json.loads((export / "confusion.json").read_text())
    assert {one["id"] for one in confusion["categories"]} == set(LEAVES)
    counted = sum(map(sum, confusion["counts"])) + sum(confusion["elsewhere"])
    assert counted == sum(part_of(n) == "test" for n in range(ITEMS))
    (page,) = (shop.folder / "reports").glob("item_category-0002-*.html")
    assert json.loads((page.with_suffix("") / "confusion.json").read_text())["counts"] == confusion["counts"]


def test_the_report_tells_in_which_numbers_the_photo_network_is_served_and_why(shop: Shop) -> None:
    first, second = (read_facts(one)["numbers"] for one in sorted(shop.exports(MODEL).glob("0*")))
    assert first == {"served": "float32"}, "a dozen validation items tell nothing"
    (page,) = (shop.folder / "reports").glob("item_category-0002-*.html")
    text = page.read_text(encoding="utf-8")
    assert f"int8: of {second['items']} validation items float32 gets" in text
    assert f"int8 {second['accuracy']['int8']:.3f}; {second['alike']:.1%} of their answers are alike" in text


def judged(shop: Shop) -> int:
    """Items that the newest export's figures are of."""
    shop.evaluate(MODEL)
    confusion = json.loads((newest_export(shop.exports(MODEL)) / "confusion.json").read_text())
    return sum(map(sum, confusion["counts"])) + sum(confusion["elsewhere"])


def test_photos_above_the_buffer_are_decoded_into_a_file_and_are_the_same(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    held = category_steps.labelled(shop, PhotoEncoder(16)).data
    assert "read as a stream" not in caplog.text
    config = ItemCategoryConfig(backbone="small", stream="always")
    streamed = category_steps.labelled(shop, PhotoEncoder(16), config).data
    assert isinstance(streamed.pixels_PHWC, np.memmap) and not isinstance(held.pixels_PHWC, np.memmap)
    assert "are read as a stream, once, into a file in" in caplog.text
    assert streamed.fingerprint() == held.fingerprint()


def test_what_the_catalogue_gains_later_is_not_in_the_golden_set(shop: Shop) -> None:
    before = judged(shop)
    for number in (601, 602, 603):
        put(shop, number, "21", "test")
    assert judged(shop) == before
    whole = category_steps.labelled(shop, PhotoEncoder(16))
    new = [whole.data.item_ids.index(f"item-{number:05d}") for number in (601, 602, 603)]
    assert not set(new) & set(whole.data.rows("train", "validation", "test"))


def test_a_golden_item_is_judged_by_the_category_that_it_was_laid_aside_with(shop: Shop) -> None:
    put(shop, 4, "50" if leaf_of(4) != "50" else "21", "train", coloured(leaf_of(4), 4))
    whole = category_steps.labelled(shop, PhotoEncoder(16))
    row = whole.data.item_ids.index("item-00004")
    assert whole.data.parts_N[row] == "test"
    assert whole.data.taxonomy.ids[whole.data.labels_N[row]] == leaf_of(4)


def test_a_golden_items_twin_at_another_merchant_is_not_learned_from(shop: Shop) -> None:
    (shop.folder / "shop.toml").write_text(
        CONFIG.replace("[split]", '[split]\nproduct = "gtin"'), encoding="utf-8"
    )
    shop = Shop(shop.folder)
    put(shop, 4, leaf_of(4), "test", gtin="4006381333931")
    put(shop, 500, leaf_of(4), "train", gtin="04006381333931")
    whole = category_steps.labelled(shop, PhotoEncoder(16))
    parts = dict(zip(whole.data.item_ids, whole.data.parts_N.tolist(), strict=True))
    assert (parts["item-00004"], parts["item-00500"]) == ("test", "aside")
    assert judged(shop) == sum(part_of(n) == "test" for n in range(ITEMS))


def test_a_golden_set_that_would_refuse_every_training_is_not_laid_aside(shop: Shop) -> None:
    (shop.folder / "golden.json").unlink()
    put(shop, 500, leaf_of(4), "train", coloured(leaf_of(4), 4))
    with pytest.raises(LeakageFound, match="item-00500"):
        shop.train(MODEL)
    assert not (shop.folder / "golden.json").exists()


def test_groups_do_not_depend_on_what_size_a_model_looks_at(shop: Shop) -> None:
    (shop.folder / "shop.toml").write_text(
        CONFIG.replace("near_duplicates = false", "near_duplicates = true\nsimilarity = 0.95"),
        encoding="utf-8",
    )
    shop = Shop(shop.folder)
    small, large = (
        category_steps.labelled(shop, encoder).groups_N
        for encoder in (PhotoEncoder(8, 1, "stretch"), PhotoEncoder(40, 3, "crop"))
    )
    assert small.tolist() == large.tolist() and len(np.unique(small)) < ITEMS


class Titles:
    """A bar that remembers what was shown, and the lines that were said."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    @contextmanager
    def __call__(self, title: str, total: int | None) -> Iterator["Titles._Meter"]:
        self.shown.append(title)
        yield Titles._Meter(self.shown)

    class _Meter:
        def __init__(self, shown: list[str]) -> None:
            self._shown = shown

        def __call__(self, steps: int) -> None: ...

        def say(self, line: str, total: int) -> None:
            self._shown.append(line)


def test_a_leak_is_refused_before_photos_are_decoded(shop: Shop) -> None:
    (shop.folder / "golden.json").unlink()
    put(shop, 500, leaf_of(4), "train", coloured(leaf_of(4), 4))
    titles = Titles()
    with pytest.raises(LeakageFound, match="item-00500"):
        Shop(shop.folder, titles).train(MODEL)
    assert "read the tables" in titles.shown and "decode photos" not in titles.shown


def test_by_default_what_looks_like_the_golden_set_is_set_aside_and_nothing_is_refused(shop: Shop) -> None:
    (shop.folder / "shop.toml").write_text(CONFIG.replace("near_duplicates = false", ""), encoding="utf-8")
    shop = Shop(shop.folder)
    assert shop.config.split.near_duplicates
    put(shop, 500, leaf_of(4), "train", coloured(leaf_of(4), 4))
    whole = category_steps.labelled(shop, PhotoEncoder(16))
    parts = dict(zip(whole.data.item_ids, whole.data.parts_N.tolist(), strict=True))
    assert (parts["item-00004"], parts["item-00500"]) == ("test", "aside")
    category_steps.ensure_golden_set(shop, whole)


@pytest.mark.parametrize("frozen", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_photo_is_embedded_twice_and_what_takes_a_while_is_said(shop: Shop, frozen: bool) -> None:
    titles = Titles()
    if frozen:  # what the backbone alone would learn by does nothing then
        lines = [line for line in CONFIG.splitlines() if not line.startswith(OF_BACKBONE)]
        (shop.folder / "shop.toml").write_text("\n".join(lines), encoding="utf-8")
    shop = Shop(shop.folder, titles)
    shop.train(MODEL, {"epochs": "2", "frozen_epochs": "2" if frozen else "1"})
    whole = category_steps.labelled(shop, PhotoEncoder(16))
    train, held = (len(whole.data.photos_of(whole.data.rows(part))) for part in ("train", "validation"))
    embedded = [line.rpartition(" of ")[2] for line in titles.shown if "embed photos: 0 of" in line]
    # Once before the heads learn; of a network that then learned itself, the validation items at its end and
    # for the export.
    assert embedded == [str(train + held)] + ([] if frozen else [str(held), str(held)])
    assert any("write the export" in line for line in titles.shown)


def test_compare_has_every_export_and_the_simple_ones_in_one_grid(shop: Shop) -> None:
    done = shop.compare()
    exports = {one.name for one in shop.exports(MODEL).glob("0*")}
    assert done.part == "test" and len(exports) == 2
    table = done.table.read_text(encoding="utf-8")
    for name in (*exports, "majority", "raw pixels", "words of titles"):
        assert name in table, table
    assert done.picture.stat().st_size > 10_000


def test_classifiers_of_several_names_stand_in_one_grid(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that looks at no photo has no milliseconds of one."""
    monkeypatch.setenv("XDG_STATE_HOME", str(shop.folder / "state"))
    put_models(shop.folder, shown("title_words"))
    trust(shop.folder)
    shop.train("title_words", {"epochs": "2"})
    done = shop.compare()
    table = done.table.read_text(encoding="utf-8")
    for name in (MODEL, "title_words"):
        assert f"{name}/{newest_export(shop.exports(name)).name}" in table, table
    assert "raw pixels" in table and "words of titles" in table
    alone = shop.compare("title_words")
    (row,) = [one for one in alone.grid.to_json() if one["model"].startswith("0001-")]
    assert alone.picture.name == "title_words-grid.png" and (row["ms_1"], row["random"]) == (None, False)
    with pytest.raises(ConfigError, match="popularity is no classifier"):
        shop.compare("popularity")


def test_exports_of_other_categories_are_passed_over(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    (shop.folder / "taxonomy.txt").write_text(LINES + "22 - Food > Pears\n", encoding="utf-8")
    put(shop, 3, "22", "train", coloured("21", 3))
    with caplog.at_level(logging.WARNING), pytest.raises(ConfigError, match="train it again"):
        Shop(shop.folder).compare()
    assert caplog.text.count("learned other categories than the shop has now") == 2


def test_a_golden_set_that_was_edited_is_refused(shop: Shop) -> None:
    file = shop.folder / "golden.json"
    golden = json.loads(file.read_text())
    del golden["rows"][2]
    file.write_text(json.dumps(golden))
    for ask in (lambda: shop.train(MODEL), lambda: shop.evaluate(MODEL), shop.compare):
        with pytest.raises(GoldenChanged, match=r"golden\.json"):
            ask()


def test_a_photo_of_the_golden_set_that_comes_back_under_another_id_is_a_leak(shop: Shop) -> None:
    put(shop, 500, leaf_of(4), "train", coloured(leaf_of(4), 4))
    before = sorted(shop.exports(MODEL).iterdir())
    for ask in (lambda: shop.train(MODEL), lambda: shop.evaluate(MODEL), shop.compare):
        with pytest.raises(LeakageFound, match="item-00500"):
            ask()
    assert sorted(shop.exports(MODEL).iterdir()) == before


def test_features_of_a_frozen_backbone_are_made_once_for_all_models(shop: Shop, tmp_path: Path) -> None:
    tiny, file = "test_efficientnet", str(tmp_path / "tiny.pth")
    torch.manual_seed(0)
    torch.save(backbone(tiny).network.state_dict(), file)
    frozen = {"backbone": tiny, "weights": file, "size": 32, "epochs": 2}
    lines = [line for line in CONFIG.splitlines() if not line.startswith(OF_BACKBONE)]
    (shop.folder / "shop.toml").write_text("\n".join(lines), encoding="utf-8")
    shop = Shop(shop.folder)
    first, _ = shop.train(MODEL, frozen)
    count = len(shop.lake.table("embeddings").read())
    assert first.facts["told"] == [f"0 of {count} photos had their features already"]
    second, exported = shop.train(MODEL, {**frozen, "heads": "flat"})
    assert second.facts["told"] == [f"{count} of {count} photos had their features already"]
    assert read_facts(exported)["told"] == second.facts["told"]
    kept = {"backbone": tiny, "weights": file, "backbone_size": 32, "head": "plain"}
    alike, _ = shop.train("image_similarity", kept)
    every = len(shop.lake.table("photos").read(columns=["sha256"])["sha256"].unique())
    assert alike.facts["told"][0] == f"{count} of {every} photos had their features already"
    whole = category_steps.labelled(shop, ItemCategoryConfig(**frozen).photo_encoder())
    data, _ = category_steps._with_kept_features(shop, ItemCategoryConfig(**frozen), whole)
    trunk = backbone(tiny, file).eval()
    there = ~np.isnan(data.frozen_PF[:, 0])
    assert there.sum() == count < len(there), "of what is tested on nothing is made"
    with torch.inference_mode():
        eager = trunk(torch.from_numpy(data.pixels_PHWC[there])).numpy()
    assert np.abs(eager - data.frozen_PF[there]).max() < 1e-4


def test_with_nothing_said_a_shop_gets_solved_heads_that_are_judged_as_any(
    shop: Shop, tmp_path: Path
) -> None:
    tiny, file = "test_efficientnet", str(tmp_path / "tiny.pth")
    torch.manual_seed(0)
    torch.save(backbone(tiny).network.state_dict(), file)
    plain = CONFIG.partition("[models.item_category]")[0]
    (shop.folder / "shop.toml").write_text(plain, encoding="utf-8")
    shop = Shop(shop.folder)
    first, exported = shop.train(MODEL, {"backbone": tiny, "weights": file, "size": 32})
    assert first.config.heads == "solved" and first.facts["solved"]
    assert first.facts["told"][0].startswith("0 of ")
    facts = read_facts(exported)
    assert (facts["reads"], facts["config"]["features"]) == (["photo", "title"], "stages")
    assert shop.evaluate(MODEL).part == "test"
    second, again = shop.train(MODEL, {"backbone": tiny, "weights": file, "size": 32, "shrink": 0.5})
    count = len(shop.lake.table("embeddings").read())
    assert second.facts["told"][0].endswith("photos had their features already")
    assert not second.facts["told"][0].startswith("0 of ") and count
    assert read_facts(again)["model_hash"] != facts["model_hash"]


def test_heads_that_are_trained_by_steps_are_tuned_since_solved_ones_are_computed(
    shop: Shop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny, file = "test_efficientnet", str(tmp_path / "tiny.pth")
    torch.save(backbone(tiny).network.state_dict(), file)
    plain = CONFIG.partition("[models.item_category]")[0]
    (shop.folder / "shop.toml").write_text(plain, encoding="utf-8")
    shop = Shop(shop.folder)
    small = {"backbone": tiny, "weights": file, "size": 32}
    done = shop.tune(MODEL, trials=1, settings=small)
    assert done.settings["heads"] == "levels"
    assert "trials are of heads that are trained by steps" in caplog.text
    with pytest.raises(ConfigError, match="has nothing to tune"):
        shop.tune(MODEL, trials=1, settings={**small, "heads": "solved"})
