"""`etalage tune` in a whole shop: what is tried, tracked, trained, told and written."""

import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from etalage import Shop
from etalage.cli import app
from etalage.config import read_config
from etalage.errors import ConfigError
from etalage.lake.schema import TABLES
from etalage.models.image_similarity import ImageSimilarityConfig
from etalage.runtime.export_files import newest_export, read_facts
from tests.own_models import put, shown, trust

CONFIG = """# The shop of the tests.
name = "Cups"  # and saucers

[evaluate]
retrieval_metric = "ndcg_at_10"

[models.item_knn]
similarity = "bm25"
k1 = 3.0  # somebody's guess
"""
CUPS, SHOPPERS = 60, 200


def acts() -> pa.Table:
    """Shoppers who mostly take the next cup of a series: the last act tells most."""
    draw = random.Random(1)
    rows = []
    for user in range(SHOPPERS):
        cup, time = draw.randrange(CUPS), datetime(2026, 1, 1, tzinfo=UTC)
        time += timedelta(hours=draw.randrange(1500))
        for _ in range(draw.randrange(5, 12)):
            item = f"cup-{cup:02d}"
            act = {"interaction_id": f"{len(rows)}", "user_id": f"u{user:03d}", "item_id": item}
            rows.append({**act, "kind": "buy", "time": time})
            cup = (cup + 1) % CUPS if draw.random() < 0.8 else draw.randrange(CUPS)
            time += timedelta(hours=7)
    schema = TABLES["interactions"].schema
    whole = [{name: row.get(name) for name in schema.names} for row in rows]
    return pa.Table.from_pylist(whole, schema=schema)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cups") / "shop"
    folder.mkdir()
    (folder / "shop.toml").write_text(CONFIG, encoding="utf-8")
    Shop(folder).lake.table("interactions").merge(acts())
    return folder


@pytest.fixture
def shop(built: Path, tmp_path: Path) -> Shop:
    shutil.copytree(built, tmp_path / "shop")
    return Shop(tmp_path / "shop")


def test_a_counted_model_is_tuned_trained_and_its_settings_written(shop: Shop) -> None:
    words = ["tune", "item_knn", "--shop", str(shop.folder), "--trials", "12", "--write"]
    typed = CliRunner().invoke(app, words, catch_exceptions=False)
    assert typed.exit_code == 0, typed.output
    text = (shop.folder / "shop.toml").read_text(encoding="utf-8")
    assert '# The shop of the tests.\nname = "Cups"  # and saucers\n' in text
    config = read_config(shop.folder / "shop.toml")
    found = config.models["item_knn"]
    assert found["similarity"] != "bm25" or found["k1"] != 3.0
    assert ("k1" in found) == (found["similarity"] == "bm25")
    exported = newest_export(shop.exports("item_knn"))
    assert {k: read_facts(exported)["config"][k] for k in found} == found
    assert "the settings as they stand" in typed.output and exported.name in typed.output
    report = (shop.folder / "reports" / "item_knn-tune.html").read_text(encoding="utf-8")
    assert report.count("<img") == 4 and "All trials" in report


def test_what_is_found_is_at_least_what_stands_and_is_tracked_under_one_run(shop: Shop) -> None:
    from mlflow.tracking import MlflowClient

    from etalage.training.tracking import store

    done = shop.tune("item_knn", trials=5)
    assert done.current is not None and done.current.settings["k1"] == 3.0
    assert done.best.value is not None and done.current.value is not None
    assert done.best.value >= done.current.value
    client = MlflowClient(tracking_uri=store(shop.runs))
    (experiment,) = [e for e in client.search_experiments() if e.name == "item_knn"]
    runs = client.search_runs([experiment.experiment_id])
    (study,) = [run for run in runs if "study" in run.data.tags]
    nested = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == study.info.run_id]
    assert sorted(int(run.data.tags["trial"]) for run in nested) == list(range(5))
    best = next(run for run in nested if run.data.tags["trial"] == str(done.best.number))
    assert best.data.metrics["best_ndcg_at_10"] == pytest.approx(done.best.value)
    assert (shop.folder / "shop.toml").read_text(encoding="utf-8") == CONFIG


def test_the_same_command_goes_on_and_other_data_begins_anew(shop: Shop) -> None:
    first = shop.tune("popularity", trials=3)
    more = shop.tune("popularity", trials=4)
    assert more.study.folder == first.study.folder and more.trials[:3] == first.trials
    row = acts().slice(0, 1).to_pylist()[0] | {"interaction_id": "more", "item_id": "cup-01"}
    shop.lake.table("interactions").merge(pa.Table.from_pylist([row], schema=TABLES["interactions"].schema))
    other = Shop(shop.folder).tune("popularity", trials=2)
    assert other.study.folder != first.study.folder and len(other.trials) == 2
    assert len(shop.tune("popularity", trials=2, fresh=True).trials) == 2


def test_what_is_set_is_not_tried(shop: Shop) -> None:
    done = shop.tune("item_knn", trials=3, settings={"k1": "2", "neighbours": "7"})
    assert all("k1" not in one.settings and "neighbours" not in one.settings for one in done.trials)
    assert read_facts(newest_export(shop.exports("item_knn")))["config"]["neighbours"] == 7


def test_what_is_set_is_left_out_of_trials_in_which_it_would_do_nothing(shop: Shop) -> None:
    """`reach` is of similarity = "sequence" alone."""
    (shop.folder / "shop.toml").write_text('[models.item_knn]\nsimilarity = "sequence"\n')
    done = Shop(shop.folder).tune("item_knn", trials=8, settings={"reach": "4"}, write=True)
    assert {one.state for one in done.trials} == {"done"}
    tried = {one.settings["similarity"] for one in done.trials}
    assert "sequence" in tried and len(tried) > 1
    sequence = done.best.settings["similarity"] == "sequence"
    assert ("reach" in done.settings) == sequence
    assert ("reach" in read_config(shop.folder / "shop.toml").models["item_knn"]) == sequence


def test_a_setting_that_does_nothing_beside_others_is_named() -> None:
    given = {"augment_until": 0.6, "epochs": 3, "crop": 4}
    assert ImageSimilarityConfig.acting(given, {"flip": False, "crop": 0}) == {"epochs": 3, "crop": 4}
    assert ImageSimilarityConfig.acting(given, {"flip": True}) == given
    with pytest.raises(ValidationError, match=r"augment_until = 0\.6 does nothing here"):
        ImageSimilarityConfig(augment_until=0.6, flip=False, crop=0)


def test_a_network_is_tuned_by_its_epochs_two_at_a_time(shop: Shop) -> None:
    done = shop.tune("item2vec", trials=3, parallel=2, settings={"epochs": "2", "min_count": "1"})
    assert {one.state for one in done.trials} <= {"done", "pruned"}
    assert all(len(one.history) <= 2 for one in done.trials) and len(done.best.history) == 2
    assert done.best.value == max(done.best.history)
    assert not list(done.study.folder.glob(".handed-*"))


def test_a_model_of_the_shops_own_is_tuned_by_nothing_but_its_file(shop: Shop) -> None:
    text = shown("also_bought")["also_bought.py"]
    text = text.replace("RECIPE = Recipe(", "RECIPE = Recipe(space=SPACE, ")
    space = "SPACE = {'shrink': FloatRange(0.5, 50.0, log=True)}\n"
    space = f"from etalage.models.search_space import FloatRange\n\n{space}"
    put(shop.folder, {"also_bought.py": text.replace("\nclass ", f"\n{space}\n\nclass ", 1)})
    trust(shop.folder)
    done = Shop(shop.folder).tune("also_bought", trials=4, parallel=2)
    assert {one.state for one in done.trials} == {"done"}
    assert len({one.settings["shrink"] for one in done.trials}) == 4


def test_a_model_without_a_space_says_where_it_would_stand(shop: Shop) -> None:
    put(shop.folder, {"also_bought.py": shown("also_bought")["also_bought.py"]})
    trust(shop.folder)
    with pytest.raises(ConfigError, match="names no search space"):
        Shop(shop.folder).tune("also_bought", trials=2)


def test_a_metric_for_a_model_that_has_its_own_is_refused(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="validated by ndcg_at_10 while it trains"):
        shop.tune("item2vec", trials=2, metric="recall_at_5", settings={"min_count": "1"})
