"""Settings of a closed-form model that nobody gave are compared on validation before it is counted."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import etalage
from etalage.cli import app
from etalage.errors import ConfigError
from etalage.models import ials, item_knn, popularity
from etalage.models import recipe as recipes
from etalage.runtime.export_files import newest_export, read_facts
from etalage.shop import Shop
from etalage.shop.search_steps import Counter, Search, attempts_of, of_some_shoppers
from tests.behaviours import behaviour
from tests.test_shop_behaviour import rows_of

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
CONFIG = """name = "Chapters"
[behaviour]
split = "leave_one_out"
[evaluate]
retrieval_metric = "recall_at_1"
"""
CHAPTERS, READERS = 150, 90


def fill(shop: Shop, readers: int = READERS) -> None:
    """Everybody reads on from some chapter: what comes next says all, what others read too says little."""
    columns: dict[str, list[Any]] = {n: [] for n in ("interaction_id", "user_id", "item_id", "kind", "time")}
    for reader in range(readers):
        for step in range(7):
            columns["interaction_id"].append(f"{reader}-{step}")
            columns["user_id"].append(f"r{reader:03d}")
            columns["item_id"].append(f"chapter-{(11 * reader + step) % CHAPTERS:03d}")
            columns["kind"].append("buy")
            columns["time"].append(BEGIN + timedelta(days=step, minutes=reader))
    chapters = [f"chapter-{number:03d}" for number in range(CHAPTERS)]
    shop.lake.table("items").merge(rows_of("items", {"item_id": chapters, "title": chapters}))
    shop.lake.table("interactions").merge(rows_of("interactions", columns))


def made(folder: Path, more: str = "", readers: int = READERS) -> Shop:
    folder.mkdir()
    (folder / "shop.toml").write_text(CONFIG + more, "utf-8")
    shop = Shop(folder)
    fill(shop, readers)
    return shop


@pytest.fixture(scope="module")
def read_on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    yield made(tmp_path_factory.mktemp("search") / "shop")


def search_of(shop: Shop, model: str) -> Search:
    return Search.of(read_facts(newest_export(shop.exports(model)))["search"])


def test_where_one_thing_follows_another_rules_with_direction_are_chosen(read_on: Shop) -> None:
    typed = CliRunner().invoke(app, ["train", "item_knn", "--shop", str(read_on.folder)])
    assert typed.exit_code == 0, typed.output
    found = search_of(read_on, "item_knn")
    assert found.chosen["similarity"] == "sequence" and found.metric == "recall_at_1"
    assert len(found.attempts) == len(item_knn.TRIALS) + 1 and found.attempts[0].settings == {}
    assert f"settings: {found.told}" in typed.stdout
    config = read_facts(newest_export(read_on.exports("item_knn")))["config"]
    assert found.chosen.items() <= config.items()


def test_what_was_found_is_remembered_until_the_data_changes(tmp_path: Path) -> None:
    shop = made(tmp_path / "shop")
    shop.train("popularity")
    (kept,) = (shop.runs / "popularity").glob("search-*.json")
    changed = kept.read_text("utf-8").replace('"shoppers": 90', '"shoppers": 91')
    kept.write_text(changed, "utf-8")
    shop.train("popularity", fresh=True)
    assert search_of(shop, "popularity").shoppers == 90, "the export of the same model stays"
    fill(shop, READERS + 5)
    shop.train("popularity")
    assert search_of(shop, "popularity").shoppers == 95
    assert len(list((shop.runs / "popularity").glob("search-*.json"))) == 2


def test_what_is_published_is_fitted_on_everything_by_the_chosen_settings(tmp_path: Path) -> None:
    shop = made(tmp_path / "shop")
    shop.train("item_knn")
    manifest = shop.publish()
    (published,) = [one for one in manifest.models if one.name == "item_knn"]
    export = shop.folder / "exports" / "item_knn" / "everything"
    facts = read_facts(newest_export(export))
    assert facts["fitted_on"] == "everything" and facts["model_hash"] == published.hash
    assert search_of(shop, "item_knn").chosen.items() <= facts["config"].items()


def test_nothing_is_compared_where_it_is_switched_off_or_all_is_given(tmp_path: Path) -> None:
    shop = made(tmp_path / "shop", '[models.item_knn]\nsearch = false\n[models.popularity]\ncount = "acts"\n')
    shop.train("item_knn")
    assert "search" not in read_facts(newest_export(shop.exports("item_knn")))
    shop.train("item_knn", {"search": True, "similarity": "bm25", "shrink": 3.0, "decay": 1.0})
    assert "search" not in read_facts(newest_export(shop.exports("item_knn")))
    shop.train("popularity")
    assert all("count" not in one.settings for one in search_of(shop, "popularity").attempts)


def test_a_factorisation_is_compared_small_and_trained_at_full_size(
    read_on: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    count = Counter.count

    def noted(self: Counter, config: Any) -> Any:
        sizes.append((config.dimension, config.iterations))
        return count(self, config)

    monkeypatch.setattr(Counter, "count", noted)
    read_on.train("ials", {"dimension": 48, "iterations": 2})
    assert sizes == [(32, 2)] * (len(ials.TRIALS) + 1)
    facts = read_facts(newest_export(read_on.exports("ials")))
    assert (facts["config"]["dimension"], facts["config"]["iterations"]) == (48, 2)
    found = search_of(read_on, "ials")
    assert found.chosen.items() <= facts["config"].items()
    assert facts["settings"]["alpha"] == facts["config"]["alpha"]


def test_too_few_shoppers_tell_no_settings_apart(tmp_path: Path) -> None:
    shop = made(tmp_path / "shop", readers=15)
    shop.train("item_knn")
    facts = read_facts(newest_export(shop.exports("item_knn")))
    assert "search" not in facts and facts["config"]["similarity"] == "tf_idf"


def test_a_trial_that_contradicts_what_is_given_or_does_nothing_beside_it_is_left_out() -> None:
    recipe = recipes.find("item_knn")
    tried = attempts_of(recipe, {"similarity": "sequence", "decay": 0.6})
    assert tried == [
        {},
        {"shrink": 100.0},
        {"backward": 1.0, "shrink": 100.0},
        {"backward": 0.3, "shrink": 100.0},
    ]
    assert attempts_of(recipe, {"k1": 2.0, "similarity": "bm25"}) == [{}, {"decay": 0.8}, {"shrink": 100.0}]
    assert attempts_of(recipes.find("popularity"), {"window_days": 7.0})[0] == {}


def test_every_trial_of_every_model_is_of_its_settings() -> None:
    for name, one in recipes.listed().items():
        recipe = recipes.find(name) if one.role == "closed_form" else None
        if recipe is None or not recipe.trials:
            continue
        assert len(attempts_of(recipe, {})) == len(recipe.trials) + 1, name
        for trial in recipe.trials:
            assert recipe.config(**trial) != recipe.config(), (name, trial)
    assert {"half_life_days": 14.0} in popularity.RECIPE.trials


def test_of_very_many_acts_those_of_some_shoppers_are_counted() -> None:
    data = behaviour()
    some = of_some_shoppers(data, most=len(data.part("train")) // 4)
    assert 0 < len(some.part("train")) < len(data.part("train")) / 2
    assert of_some_shoppers(data) is data


def test_a_frame_is_learned_from_by_the_settings_that_its_shop_would_choose(read_on: Shop) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(read_on.lake.table("interactions").read().to_pandas())
    given = {"behaviour": {"split": "leave_one_out"}, "evaluate": {"retrieval_metric": "recall_at_1"}}
    model = etalage.model("item_knn", **given)
    model.fit(frame[["user_id", "item_id", "kind", "time"]])
    slate = model.recommend(history=["chapter-014", "chapter-015"], n=1)
    assert slate[0].item_id == "chapter-016"


def test_a_setting_that_is_none_of_its_model_is_an_error(read_on: Shop) -> None:
    with pytest.raises(ConfigError, match="searh"):
        read_on.train("item_knn", {"searh": False})
