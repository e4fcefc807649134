"""`train item2vec`, then `train dssm` or `two_tower`: what one embeds of the items, another learns from."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from etalage import Shop
from etalage.bundle.draft import DraftedModel
from etalage.bundle.manifest import Manifest, read_manifest
from etalage.errors import ConfigError, InputUnreadable
from etalage.features.vocabulary import Vocabulary
from etalage.models import recipe as recipes
from etalage.models.dssm import DSSMConfig
from etalage.runtime.embeddings import EmbeddingScorer
from etalage.runtime.export_files import newest_export, read_facts
from etalage.runtime.opening import open_scorer
from etalage.shop.behaviour_steps import behaviour
from etalage.shop.source_steps import stale_sources, with_sources
from etalage.training.run import resolve
from tests.test_shop_behaviour import fill, rows_of
from tests.test_shop_judging import typed

CONFIG = """
name = "Cups"
[behaviour]
repeat = true
[funnel]
seen = "keep"
[evaluate]
bootstrap = 200
[models.item2vec]
dimension = 8
epochs = 3
[models.two_tower]
width = 8
epochs = 1
steps_per_epoch = 2
[models.dssm]
dimension = 8
layers = [8]
epochs = 3
patience = 2
"""


@pytest.fixture(scope="module")
def sequenced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """item2vec is trained."""
    folder = tmp_path_factory.mktemp("vectors") / "shop"
    folder.mkdir()
    (folder / "shop.toml").write_text(CONFIG, encoding="utf-8")
    shop = Shop(folder)
    fill(shop)
    shop.train("item2vec")
    return folder


def manifest_of(shop: Shop) -> Manifest:
    return read_manifest(shop.bundles.path(shop.bundles.current_id()))


def aligned(shop: Shop, model: str) -> dict[str, np.ndarray]:
    """{item_id: embedding} of the current bundle."""
    folder = shop.bundles.path(shop.bundles.current_id()) / "models" / model
    ids = Vocabulary.open(folder / "items.arrow").ids.to_pylist()
    return dict(zip(ids, np.load(folder / "item_embeddings.npy")[1:], strict=True))


def page_of(shop: Shop, model: str) -> str:
    """The report of the newest export's evaluation."""
    shop.evaluate(model)
    export = newest_export(shop.exports(model))
    return (shop.folder / "reports" / f"{model}-{export.name}.html").read_text(encoding="utf-8")


@pytest.fixture
def shop(sequenced: Path, tmp_path: Path) -> Shop:
    shutil.copytree(sequenced, tmp_path / "copy")
    return Shop(tmp_path / "copy")


def test_item2vec_then_dssm_by_command_and_both_are_compared_and_published(shop: Shop) -> None:
    typed(shop, "train", "dssm")
    vectors, facts = (read_facts(newest_export(shop.exports(name))) for name in ("item2vec", "dssm"))
    assert facts["inputs"] == {"item2vec": vectors["model_hash"]}
    assert facts["data"] == vectors["data"]  # so it is known to be of what the tables hold
    history = np.load(newest_export(shop.exports("dssm")) / "history_embeddings.npy")
    np.testing.assert_allclose(
        history, np.load(newest_export(shop.exports("item2vec")) / "history_embeddings.npy"), atol=1e-6
    )
    printed = typed(shop, "evaluate", "dssm")
    assert "dssm (test): recall_at_20" in printed
    assert "\ndssm  " in typed(shop, "evaluate")
    manifest = shop.publish(force=True)
    assert {"item2vec", "dssm"} <= {one.name for one in manifest.models}
    with shop.live_store() as live:
        answer = shop.recommender().recommend(user_id="u007", k=5, live=live, explain=True)
    assert "dssm" in answer.trace["retrievers"]


def test_an_item_without_a_vector_is_brought_by_nobody(shop: Shop) -> None:
    """Nobody touched it, so item2vec knows nothing of it; dssm does not make something of nothing."""
    shop.lake.table("items").merge(rows_of("items", {"item_id": ["untouched"], "title": ["Cup"]}))
    shop.train("item2vec")
    shop.train("dssm")
    manifest = shop.publish(force=True)
    (facts,) = [one for one in manifest.models if one.name == "dssm"]
    assert facts.index is not None and facts.index.indexed < manifest.items
    scorer = newest_export(shop.exports("dssm"))
    embeddings = np.load(scorer / "item_embeddings.npy")
    known = np.load(scorer / "history_embeddings.npy").any(axis=1)
    assert not embeddings[~known].any() and embeddings[known].any(axis=1).all()


def test_new_vectors_make_another_run_and_the_same_ones_the_same(shop: Shop) -> None:
    _, first = shop.train("dssm")
    assert shop.train("dssm")[1] == first
    shop.train("item2vec", {"seed": "3"})
    _, second = shop.train("dssm")
    assert second != first
    assert read_facts(second)["inputs"] != read_facts(first)["inputs"]


def test_item2vec_then_two_tower_by_command_published_and_served(shop: Shop) -> None:
    typed(shop, "train", "two_tower", "--set", "feature_sources=item2vec")
    export = newest_export(shop.exports("two_tower"))
    made, facts = read_facts(newest_export(shop.exports("item2vec"))), read_facts(export)
    assert facts["feature_sources"] == facts["inputs"] == {"item2vec": made["model_hash"]}
    assert facts["data"] == made["data"] and "item.item2vec" in facts["item_inputs"]
    kept = np.load(export / "feature_sources" / "item2vec.npy")
    np.testing.assert_array_equal(
        kept[1:], np.load(newest_export(shop.exports("item2vec")) / "history_embeddings.npy")[1:]
    )
    assert f"item2vec {made['model_hash'][:8]}" in page_of(shop, "two_tower")
    shop.lake.table("items").merge(rows_of("items", {"item_id": ["new"], "title": ["Cup 3"]}))
    printed = typed(shop, "publish", "--force")
    unknown = int((~kept[1:].any(axis=1)).sum()) + 1
    assert f"two_tower: item2vec knows nothing about {unknown} of 91 items" in printed
    manifest = manifest_of(shop)
    (placed,) = [one for one in manifest.models if one.name == "two_tower"]
    assert {name: (s.hash, s.unknown) for name, s in placed.sources.items()} == {
        "item2vec": (made["model_hash"], unknown)
    }
    with shop.live_store() as live:
        answer = shop.recommender().recommend(user_id="u007", k=5, live=live, explain=True)
    assert "two_tower" in answer.trace["retrievers"]


@pytest.mark.parametrize("model", ["dssm", "two_tower"])
def test_what_is_missing_is_said_and_how_otherwise(shop: Shop, model: str) -> None:
    shutil.rmtree(shop.exports("item2vec"))
    for name, says in (
        ("item2vec", rf"`etalage train item2vec`, then `etalage train {model}`"),
        ("item2vek", r"no feature of items and no model that embeds them; did you mean 'item2vec'\?"),
        ("photo", "`etalage train image_similarity` first"),
        ("ease", "no feature of items and no model that embeds them"),
        (model, "no feature of items and no model that embeds them"),
    ):
        with pytest.raises(ConfigError, match=says):
            shop.train(model, {"feature_sources": name})


def test_the_settings_former_name_is_told_the_new_one_and_no_source_counts_twice(shop: Shop) -> None:
    with pytest.raises(ConfigError, match="this key is called feature_sources now"):
        shop.train("dssm", {"vectors": "item2vec"})
    for model in ("dssm", "two_tower"):
        with pytest.raises(ConfigError, match="names one source twice"):
            shop.train(model, {"feature_sources": '["item2vec", "item2vec"]'})
    with pytest.raises(ConfigError, match="feature_sources"):
        shop.train("dssm", {"feature_sources": "[]"})


def test_two_sources_stand_side_by_side_and_each_has_a_mean_of_its_own(shop: Shop) -> None:
    shop.train("ials", {"dimension": "6"})
    _, exported = shop.train("dssm", {"feature_sources": '["item2vec", "ials"]'})
    scorer = open_scorer(exported)
    assert isinstance(scorer, EmbeddingScorer)
    history = np.load(exported / "history_embeddings.npy")
    assert history.shape[1] == 8 + 6
    sets = behaviour(shop).data
    queries, _ = sets.queries("validation")
    task = recipes.find("dssm").bind(
        resolve(
            recipes.find("dssm"), shop.config.models["dssm"], {"feature_sources": '["item2vec", "ials"]'}
        ),
        with_sources(shop, sets, "dssm", DSSMConfig(feature_sources=("item2vec", "ials"))),
    )
    asked = task.ranking.questions[0]
    mask = queries.last(100)[0] > 0
    given = history[queries.last(100)[0]] * mask[:, :, None]
    for columns in (slice(0, 8), slice(8, 14)):
        known = given[:, :, columns].any(axis=2)
        mean = given[:, :, columns].sum(axis=1) / np.maximum(known.sum(axis=1), 1)[:, None]
        np.testing.assert_allclose(task._query_means.numpy()[:, columns], mean, atol=1e-5)
    assert len(asked) == len(queries) > 50


def test_a_source_that_was_trained_again_is_told_and_the_model_keeps_what_it_learned_from(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    _, exported = shop.train("two_tower", {"feature_sources": "item2vec"})
    shop.train("item2vec", {"seed": "3"})
    with caplog.at_level(logging.WARNING):
        shop.publish(force=True)
    (line,) = [line for line in caplog.messages if "trained again since" in line]
    assert line.startswith("two_tower learned from what item2vec") and "`etalage train two_tower`" in line
    bundle = shop.bundles.path(shop.bundles.current_id())
    again = newest_export(shop.exports("two_tower") / "everything")
    assert read_facts(again)["feature_sources"] == read_facts(exported)["feature_sources"]
    np.testing.assert_allclose(
        np.load(bundle / "models" / "two_tower" / "item_embeddings.npy"),
        np.load(again / "item_embeddings.npy"),
        atol=1e-5,
    )
    caplog.clear()
    shop.train("two_tower", {"feature_sources": "item2vec"})
    with caplog.at_level(logging.WARNING):
        shop.publish(force=True)
    assert not [line for line in caplog.messages if "trained again since" in line]


def test_an_item_that_changes_keeps_its_source_over_a_sync_and_a_new_one_is_unknown_to_it(shop: Shop) -> None:
    alone = CONFIG.replace("[funnel]\n", "[funnel]\nretrievers = {two_tower = 40}\n")
    (shop.folder / "shop.toml").write_text(alone, encoding="utf-8")
    shop = Shop(shop.folder)
    _, exported = shop.train("two_tower", {"feature_sources": "item2vec"})
    shop.publish(force=True)
    before = aligned(shop, "two_tower")
    shutil.rmtree(shop.exports("item2vec"))  # the export of two_tower is all that a sync needs
    prices = {"item_id": ["cup-000", "new"], "title": ["Cup 0", "Cup 1"], "price": [700.0, 6.0]}
    shop.lake.table("items").merge(rows_of("items", prices))
    assert shop.sync().manifest is not None
    after = aligned(shop, "two_tower")
    (placed,) = [one for one in manifest_of(shop).models if one.name == "two_tower"]
    kept = np.load(exported / "feature_sources" / "item2vec.npy")
    assert placed.sources["item2vec"].unknown == int((~kept[1:].any(axis=1)).sum()) + 1
    moved = {name for name in before if not np.allclose(before[name], after[name], atol=1e-5)}
    assert moved == {"cup-000"} and "new" in after and after["new"].any()


def test_vectors_of_older_tables_may_know_the_answers_and_are_refused(shop: Shop) -> None:
    late = {"interaction_id": ["late"], "user_id": ["u001"], "item_id": ["cup-001"], "kind": ["buy"]}
    shop.lake.table("interactions").merge(rows_of("interactions", late))
    for model in ("dssm", "two_tower"):
        with pytest.raises(ConfigError, match="item2vec was trained on other data than the tables hold now"):
            shop.train(model, {"feature_sources": "item2vec"})


def test_another_model_that_embeds_items_makes_vectors_too(shop: Shop) -> None:
    shop.train("matrix_factorisation", {"epochs": "1", "dimension": "6"})
    _, exported = shop.train("dssm", {"feature_sources": "matrix_factorisation"})
    assert np.load(exported / "history_embeddings.npy").shape[1] >= 6


def test_tuning_starts_from_an_export_by_command(shop: Shop) -> None:
    _, rich = shop.train("dssm")
    printed = typed(shop, "train", "dssm", "--set", f"pretrained={rich}", "--set", "freeze=both")
    assert "0002-" in printed
    assert read_facts(newest_export(shop.exports("dssm")))["config"]["pretrained"] == str(rich)


# -- rows of a file ----------------------------------------------------------------------------


def rows_file(file: Path, width: int, rows: int = 300, seed: int = 0) -> None:
    """A row is liked where the first numbers of both vectors have one sign."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, 2 * width)).round(3)
    labels = vectors[:, 0] * vectors[:, width] > 0
    lines = (",".join([str(int(label)), *map(str, row)]) for label, row in zip(labels, vectors, strict=True))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


BY_ROWS = ("--set", "preset=original", "--set", "epochs=3", "--set", "patience=2", "--set", "rows=rows.csv")


def test_dssm_learns_from_rows_of_a_file_and_embeds_the_shops_items(shop: Shop) -> None:
    rows_file(shop.folder / "rows.csv", 8)
    rows_file(shop.folder / "held.csv", 8, rows=80, seed=1)
    printed = typed(shop, "train", "dssm", *BY_ROWS, "--set", "validation_rows=held.csv")
    assert "auroc 0." in printed
    export = newest_export(shop.exports("dssm"))
    facts = read_facts(export)
    assert set(facts["inputs"]) == {"item2vec", "rows.csv", "held.csv"}
    assert facts["inputs"]["rows.csv"].startswith("300 rows, ")
    assert np.load(export / "item_embeddings.npy").any(axis=1).sum() > 50
    assert "dssm (test)" in typed(shop, "evaluate", "dssm")
    rows_file(shop.folder / "rows.csv", 8, rows=310)
    typed(shop, "train", "dssm", *BY_ROWS, "--set", "validation_rows=held.csv")
    assert newest_export(shop.exports("dssm")) != export  # other rows: not the run of before


def test_rows_that_do_not_fit_are_refused(shop: Shop) -> None:
    by_rows = {"preset": "original", "rows": "rows.csv", "epochs": "20"}
    with pytest.raises(InputUnreadable, match=r"rows\.csv"):
        shop.train("dssm", by_rows)
    rows_file(shop.folder / "rows.csv", 5)
    with pytest.raises(ConfigError, match=r"vectors of 5 numbers; those of the shop's items, .* have 8"):
        shop.train("dssm", by_rows)
    with pytest.raises(ConfigError, match="learned by loss = 'bce'"):
        shop.train("dssm", {"rows": "rows.csv"})
    with pytest.raises(ConfigError, match="set rows, too"):
        shop.train("dssm", {"validation_rows": "rows.csv"})


def export_of(shop: Shop, model: str, number: int, model_hash: str, **sources: str) -> DraftedModel:
    """What an export says of itself, and no more."""
    folder = shop.exports(model) / f"{number:04d}-{model_hash}"
    folder.mkdir(parents=True)
    facts = {"name": model, "model_hash": model_hash * 8, "feature_sources": sources}
    (folder / "export.json").write_text(json.dumps(facts), encoding="utf-8")
    return DraftedModel(folder)


def test_a_source_that_was_trained_again_is_told_through_a_chain(tmp_path: Path) -> None:
    """item2vec → dssm → two_tower."""
    (tmp_path / "shop.toml").write_text('name = "Cups"', encoding="utf-8")
    shop = Shop(tmp_path)
    export_of(shop, "item2vec", 1, "aaaaaaa1")
    dssm = export_of(shop, "dssm", 1, "bbbbbbb1", item2vec="aaaaaaa1" * 8)
    two_tower = export_of(shop, "two_tower", 1, "ccccccc1", dssm="bbbbbbb1" * 8)
    assert stale_sources(shop, [dssm, two_tower]) == []
    export_of(shop, "item2vec", 2, "aaaaaaa2")
    direct, through = stale_sources(shop, [dssm, two_tower])
    assert direct.startswith("dssm learned from what item2vec") and "`etalage train dssm` takes" in direct
    assert through.startswith("two_tower learned from what dssm embeds and dssm learned from what item2vec")
    assert "`etalage train dssm`, then `etalage train two_tower` take the new one" in through
    export_of(shop, "dssm", 2, "bbbbbbb2", item2vec="aaaaaaa2" * 8)
    (again,) = stale_sources(shop, [two_tower])
    assert again.startswith("two_tower learned from what dssm bbbbbbb1 embeds") and "item2vec" not in again


def test_one_that_is_behind_is_told_when_another_learns_from_it(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.train("dssm", {"feature_sources": "item2vec"})
    shop.train("item2vec", {"seed": "3"})
    with caplog.at_level(logging.WARNING):
        with_sources(shop, behaviour(shop).data, "two_tower", DSSMConfig(feature_sources=("dssm",)))
    (line,) = [line for line in caplog.messages if "trained again since" in line]
    assert line.startswith("two_tower learns from what dssm embeds") and "dssm learned from what i" in line
    assert line.endswith("`etalage train dssm`, then `etalage train two_tower`")
