"""Names in shop.toml that mean nothing are refused by every command that reads it, with what was meant."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from etalage import Shop
from etalage.config import BehaviourConfig, EvaluateConfig, SplitConfig, suggestion
from etalage.errors import ConfigError, EtalageError, NothingToPublish
from etalage.evaluation.names import CATEGORY, OF_LABELS, OF_RANKS, cut_of, slice_names
from etalage.evaluation.slices import ask, slices
from etalage.features.split_items import assign, product_keys
from etalage.lake.delta import Lake
from etalage.metrics import at_ranks
from etalage.models import recipe as recipes
from etalage.models.setting_names import setting_names
from etalage.training.run import resolve
from tests.behaviour_exports import prior_export
from tests.behaviours import behaviour
from tests.shops import behaviour_exports, fill, interact, item_row, rows_of
from tests.warm import COMMANDS

CASES = {
    '[funnel]\nranker = "dlrn"': "[funnel] ranker: no ranker 'dlrn'; did you mean 'dlrm'?",
    '[funnel]\nranker = "DLRM"': "[funnel] ranker: no ranker 'DLRM'; did you mean 'dlrm'?",
    '[funnel]\nranker = "zzz"': "[funnel] ranker: no ranker 'zzz'; there are: dlrm, neumf",
    '[funnel]\nranker = "two_tower"': "two_tower is a retriever, not a ranker; [funnel] retrievers",
    "[funnel]\nretrievers = {dsmm = 100}": "[funnel] retrievers: no retriever 'dsmm'; did you mean 'dssm'?",
    "[funnel]\nretrievers = {dlrm = 100}": "dlrm is a ranker, not a retriever; [funnel] ranker is its place",
    "[funnel]\nretrievers = {item_category = 9}": "item_category is a classifier, not a retriever",
    "[models.popularty]": "[models.popularty]: no model 'popularty'; did you mean 'popularity'?",
    '[models.two_tower]\nfeature_sources = ["item2vek"]': "embeds them; did you mean 'item2vec'?",
    '[models.dssm]\nfeature_sources = "ease"': "[models.dssm] feature_sources names 'ease'",
    '[models.dssm]\nfeature_sources = "dssm"': "[models.dssm] feature_sources names 'dssm'",
    '[evaluate]\nretrieval_metric = "recal_at_20"': "did you mean 'recall_at_20'?",
    '[evaluate]\nretrieval_metric = "recall_at_0"': "retrieval_metric = 'recall_at_0': no such metric",
    '[evaluate]\nranking_metric = "auc"': "ranking_metric = 'auc': no such metric; did you mean 'auroc'?",
    '[evaluate]\nranking_metric = "ndcg"': "no such metric; did you mean 'ndcg_at_10'?",
    '[evaluate]\nmetric = "precison_at_5"': "did you mean 'precision_at_5'",
    '[evaluate]\nmetric = "auroc"': "metric = 'auroc': no such metric",
    '[evaluate]\nslices = {two_towr = "cold items"}': "'two_towr'; did you mean 'two_tower'?",
    '[evaluate]\nslices = {image_similarity = "all"}': "no model of behaviour 'image_similarity'",
    '[evaluate]\nslices = {two_tower = "cold item"}': "no such slice; did you mean 'cold items'?",
    '[evaluate]\nslices = {two_tower = "category: "}': "no such slice",
    '[evaluate]\nslices = {dlrm = "cold items"}': "a ranker is not judged there",
    '[evaluate]\nslices = {ease = "taken again"}': "only with [behaviour] repeat = true",
    '[funnel.order]\nvalue = 0.1\nvalue_of = "margin"': "an attribute is written 'attributes.margin'",
    '[funnel.order]\nvalue = 0.1\nvalue_of = "Prices"': "did you mean 'price'?",
    '[funnel.order]\nvalue_of = "price"': "weighs nothing with value = 0",
    '[behaviour]\nnegatives = "x.test.negative"': "[behaviour] negatives does nothing here: it needs split",
    '[behaviour]\nsplit = "published"\ntest = 0.2': "[behaviour] test does nothing here",
    '[behaviour]\nsplit = "published"\nvalidation = 0.2': "[behaviour] validation does nothing here",
    "[behaviour]\nlast_n = 3": '[behaviour] last_n does nothing here: it needs split = "last_n"',
    "[behaviour]\nseed = 3": "[behaviour] seed does nothing here",
    '[behaviour]\nsplit = "leave_one_out"\ntest = 0.2': "[behaviour] test does nothing here",
    "[models.item_knn]\nneighbors = 5": "[models.item_knn]: unknown key 'neighbors'; did you mean",
    "[models.two_tower]\nlearning_rat = 1": "unknown key 'learning_rat'; did you mean 'learning_rate'?",
    "[models.two_tower]\nsampled = 5": "[models.two_tower]: sampled: this key is called shared_negatives now",
    "[index]\nlists = 5\nprobes = 6": "[index] probes = 6: a search reads no more lists than there are",
    '[index]\nkind = "exact"\nlists = 5': "[index] lists does nothing here",
    '[taxonomy]\nmerchant = "merchant"': "[taxonomy] merchant does nothing here: it needs file",
    '[index]\nkind = "exact"\n[publish]\nmin_recall = 0.5': "[publish] min_recall does nothing here",
    '[photos]\nformat = "keep"\nside = 900': '[photos] side does nothing here: it needs format = "jpeg"',
    '[photos]\nformat = "keep"\nquality = 50': "[photos] quality does nothing here",
    "[funnel]\nhistory = 2": "[funnel] enough = 3: of a shopper's acts no more than history = 2",
    "[behaviour]\nrank = 0.4\nvalidation = 0.4\ntest = 0.4": "nothing is left to learn from",
    "[split]\nvalidation = 0.5\ntest = 0.5": "[split] validation = 0.5, test = 0.5: nothing is left",
    "[behaviour]\nweights = {buy = inf}": "behaviour.weights.buy = inf: Input should be a finite number",
    "[models.popularty]\nhalf_life_days = 3": "did you mean 'popularity'?",
    "[split]\nburst_reach = 0": "[split] burst_reach does nothing here: it needs burst",
}


@pytest.mark.parametrize("text", CASES)
def test_a_name_that_means_nothing_is_refused_with_what_was_meant(tmp_path: Path, text: str) -> None:
    (tmp_path / "shop.toml").write_text(text + "\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        _ = Shop(tmp_path).config
    assert CASES[text] in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "shop.toml"))


def test_all_wrong_names_are_told_at_once(tmp_path: Path) -> None:
    text = '[funnel]\nranker = "dlrn"\nretrievers = {dsmm = 1, popularty = 2}\n'
    (tmp_path / "shop.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        _ = Shop(tmp_path).config
    assert [name in str(caught.value) for name in ("dlrn", "dsmm", "popularty")] == [True] * 3


def test_what_means_something_is_not_refused(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text(
        """
        [behaviour]
        repeat = true
        split = "last_n"
        last_n = 3
        validation = 0.2
        [funnel]
        ranker = "neumf"
        retrievers = {image_similarity = 20, two_tower = 100, ease = 100, popularity = 10}
        [funnel.order]
        value = 0.2
        value_of = "attributes.margin"
        [evaluate]
        metric = "knn_accuracy_at_7"
        retrieval_metric = "mrr"
        ranking_metric = "auroc"
        slices = {two_tower = "cold items", neumf = "taken again", ease = "category: Shoes"}
        [models.dssm]
        epochs = 2
        """,
        encoding="utf-8",
    )
    assert Shop(tmp_path).config.funnel.ranker == "neumf"


@pytest.mark.parametrize(
    "command",
    [
        ["ingest", "feed.csv", "items"],
        ["train", "popularity"],
        ["evaluate", "item_knn"],
        ["publish"],
        ["sync"],
        ["collect"],
        ["photos", "fetch"],
        ["serve", "--port", "0"],
    ],
)
def test_every_command_that_reads_the_settings_refuses_them(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "shop.toml").write_text('[funnel]\nranker = "dlrn"\n', encoding="utf-8")
    (tmp_path / "feed.csv").write_text("item_id,title\na,A\n", encoding="utf-8")
    lake = Lake(tmp_path / "tables")
    fill(lake, range(4), [])
    interact(lake, [(1, "view")])
    behaviour_exports(tmp_path / "exports", 4)
    done = COMMANDS.run(command, tmp_path)
    assert (done.status, "did you mean 'dlrm'" in done.err) == (2, True), done.err


def test_what_several_settings_make_wrong_together_is_said_of_their_table() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(recipes.find("dssm"), {"epochs": 1, "patience": 1}, {})
    assert str(caught.value).startswith("[models.dssm]: can never end a training of 1 epochs")


def test_the_names_are_known_without_loading_the_models(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text('[funnel]\nranker = "dlrm"\n', encoding="utf-8")
    code = f"import sys; from etalage import Shop; Shop({str(tmp_path)!r}).config; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "scipy", "etalage.models.dlrm"} & set(done.stdout.split())


def test_what_a_file_says_of_its_model_is_what_the_model_is() -> None:
    for name, one in recipes.listed().items():
        recipe = recipes.find(name)
        assert (one.name, one.role, one.data) == (recipe.name, recipe.role, recipe.data)
        assert one.transfers == recipe.transfers
        assert one.embeds_items == (recipe.embeds_items or recipe.role == "embedder")


# -- names of metrics and slices are those that are measured -----------------------------------


def test_each_metric_that_may_be_named_is_measured() -> None:
    ranks = at_ranks(np.array([1, 3]), np.array([0, 2]), (5,), np.array([9]))
    assert {cut_of(name)[0] for name in ranks} == {*OF_RANKS, "mrr", "auroc"}


def test_each_slice_that_may_be_named_is_made_and_no_other() -> None:
    data = behaviour()
    assert set(slices(data, ask(data, "test", 500))) <= set(slice_names("embedder", repeat=False))
    again = slice_names("embedder", repeat=True)
    assert set(again) - set(slice_names("embedder", repeat=False)) == {"taken again", "taken anew"}
    assert not any(name.startswith(CATEGORY) for name in again)


def test_each_metric_of_photos_may_be_named_with_any_k(tmp_path: Path) -> None:
    assert "knn_accuracy" in OF_LABELS
    (tmp_path / "shop.toml").write_text('[evaluate]\nmetric = "map_at_3"\n', encoding="utf-8")
    assert Shop(tmp_path).config.evaluate.metric == "map_at_3"
    assert EvaluateConfig().metric and BehaviourConfig().split


# -- what an item must have --------------------------------------------------------------------


VALUED = "[funnel]\nretrievers = {{popularity = 5}}\n[funnel.order]\nvalue = 0.5\nvalue_of = {}\n"


def with_items(folder: Path, text: str, **changed: Any) -> Shop:
    folder.mkdir()
    (folder / "shop.toml").write_text(text, encoding="utf-8")
    lake = Lake(folder / "tables")
    lake.table("items").merge(rows_of("items", [item_row(n, **changed) for n in range(6)]))
    interact(lake, [(1, "view"), (2, "buy")])
    export = prior_export(folder / "exports" / "popularity" / "0001-tiny", [item_row(1)["item_id"]], [1.0])
    facts = json.loads((export / "export.json").read_text("utf-8"))
    (export / "export.json").write_text(json.dumps({**facts, "config": {}}), "utf-8")
    return Shop(folder)


@pytest.mark.parametrize(
    ("of", "attributes", "said"),
    [
        ("attributes.margn", '{"margin": 2}', "has the attribute 'margn'; did you mean 'margin'?"),
        ("attributes.margin", None, "none of the 6 items has the attribute 'margin'"),
        ("attributes.margin", '{"margin": "high"}', "no item has a number there; one says 'high'"),
        ("price", None, "none of the 6 items has a price"),
    ],
)
def test_a_value_that_no_item_has_is_not_published(
    tmp_path: Path, of: str, attributes: str | None, said: str
) -> None:
    text = VALUED.format(json.dumps(of))
    shop = with_items(tmp_path / "shop", text, attributes=attributes, price=None)
    with pytest.raises(ConfigError, match=r"\[funnel.order\] value_of") as caught:
        shop.publish()
    assert said in str(caught.value)


def test_a_value_that_some_item_has_is_published(tmp_path: Path) -> None:
    text = VALUED.format('"attributes.margin"')
    shop = with_items(tmp_path / "shop", text, attributes='{"margin": "2.5"}')
    assert shop.publish().items == 6


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ('ranker = "dlrm"', "dlrm"),
        ("retrievers = {ials = 5, popularity = 5}", "ials"),
        ("retrievers = {popularity = 5, image_similarity = 5}", "image_similarity"),
    ],
)
def test_what_is_asked_for_by_name_and_not_trained_is_said(tmp_path: Path, setting: str, name: str) -> None:
    shop = with_items(tmp_path / "shop", f"[funnel]\n{setting}\n")
    with pytest.raises(NothingToPublish, match=rf"\[funnel\] r\w+ names {name}.*etalage train {name}"):
        shop.publish()


def test_a_split_by_an_attribute_or_column_that_is_not_there_is_refused() -> None:
    items = pa.table({"item_id": ["a", "b"], "attributes": ['{"gtin": "1", "split": "test"}', None]})
    with pytest.raises(ConfigError, match=r"\[split\] product = 'gtn'.*did you mean 'gtin'"):
        product_keys(items, "gtn")
    with pytest.raises(ConfigError, match=r"\[split\] published = 'splitt'.*did you mean 'split'"):
        assign(items, SplitConfig(published="splitt"))
    with pytest.raises(ConfigError, match=r"\[split\] group = 'itemid'.*did you mean 'item_id'"):
        assign(items, SplitConfig(group="itemid"))
    assert assign(items, SplitConfig(published="split"))[0] == "test"
    assert assign(items.slice(0, 0), SplitConfig(published="splitt")).tolist() == []


def test_a_suggestion_is_the_nearest_name_or_all_of_them() -> None:
    assert suggestion("Recall", ["recall", "ndcg"]) == "did you mean 'recall'?"
    assert suggestion("zzz", ["recall", "ndcg"]) == "there are: recall, ndcg"
    assert suggestion("zzz", []) == "there are: none"
    assert issubclass(ConfigError, EtalageError)


@pytest.mark.parametrize("name", recipes.names())
def test_the_settings_that_a_models_file_names_are_those_of_its_config(name: str) -> None:
    config = recipes.find(name).config
    names = setting_names(name)
    assert sorted(names.known) == sorted(config.model_fields)
    assert names.renamed == dict(config.RENAMED)


def test_the_settings_of_all_models_are_known_without_torch() -> None:
    code = (
        "import sys; from etalage.models.recipe import names; from etalage.models.setting_names import *\n"
        "assert all(setting_names(name).known for name in names()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            'photos = "image_similarty"',
            "no photo embedder 'image_similarty'; did you mean 'image_similarity'",
        ),
        ('photos = "two_tower"', "two_tower is a retriever, not a photo embedder"),
        ('classifier = "dlrm"', "dlrm is a ranker, not a classifier"),
    ],
)
def test_who_speaks_is_a_model_of_that_kind(tmp_path: Path, line: str, told: str) -> None:
    (tmp_path / "shop.toml").write_text(f"[funnel]\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(told)):
        _ = Shop(tmp_path).config
