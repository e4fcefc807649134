"""`train item2vec`, then `train dssm`: one model learns from the vectors that another makes of items."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from etalage import Shop
from etalage.errors import ConfigError, InputUnreadable
from etalage.runtime.export_files import newest_export, read_facts
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
    assert facts.indexed < manifest.items
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


def test_what_is_missing_is_said_and_how_otherwise(shop: Shop) -> None:
    shutil.rmtree(shop.exports("item2vec"))
    with pytest.raises(ConfigError, match=r"`etalage train item2vec`, then `etalage train dssm`"):
        shop.train("dssm")
    for vectors, says in (
        ("item2vek", r"no feature of items and no model that embeds them; did you mean 'item2vec'\?"),
        ("photo", "`etalage train image_similarity` first"),
        ("ease", "no feature of items and no model that embeds them"),
        ("dssm", "no feature of items and no model that embeds them"),
    ):
        with pytest.raises(ConfigError, match=says):
            shop.train("dssm", {"feature_sources": vectors})


def test_vectors_of_older_tables_may_know_the_answers_and_are_refused(shop: Shop) -> None:
    late = {"interaction_id": ["late"], "user_id": ["u001"], "item_id": ["cup-001"], "kind": ["buy"]}
    shop.lake.table("interactions").merge(rows_of("interactions", late))
    with pytest.raises(ConfigError, match="item2vec was trained on other data than the tables hold now"):
        shop.train("dssm")


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
