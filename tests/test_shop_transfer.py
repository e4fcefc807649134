"""`train dssm --from OTHER_SHOP`: learned where behaviour is plentiful, tuned where it is sparse."""

import logging
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etalage import Shop
from etalage.errors import ConfigError
from etalage.runtime.export_files import newest_export, read_facts
from tests.test_shop_behaviour import BEGIN, ITEMS, KINDS, fill, rows_of
from tests.test_shop_judging import typed

CONFIG = """
name = "{name}"
[behaviour]
repeat = true
[funnel]
seen = "keep"
[evaluate]
bootstrap = 100
[models.item2vec]
dimension = 8
epochs = {epochs}
batch_size = 256
subsample = 1.0
learning_rate = 0.02
[models.dssm]
dimension = 8
layers = [8]
epochs = {epochs}
batch_size = 256
learning_rate = 0.02
patience = 2
"""
AT_THE_START = {"epochs": "1", "patience": "null", "learning_rate": "1e-9"}
"""Figures of a training of one epoch that moves nothing."""


def fill_sparse(shop: Shop, items: str = "cup", shoppers: int = 40) -> None:
    """Few acts of other shoppers, of the same tastes, on the same cups and five that are sold here alone."""
    rng = np.random.default_rng(7)
    names = [f"{items}-{n:03d}" for n in range(ITEMS)] + [f"own-{n}" for n in range(5)]
    acts: dict[str, list[Any]] = {n: [] for n in ("interaction_id", "user_id", "item_id", "kind", "time")}
    for user in range(shoppers):
        own = [n for n in range(ITEMS) if n % KINDS == user % KINDS]
        for act in range(8):
            acts["interaction_id"].append(f"{user}-{act}")
            acts["user_id"].append(f"here{user:02d}")
            acts["item_id"].append(names[int(rng.choice(own))])
            acts["kind"].append("buy")
            acts["time"].append(BEGIN + timedelta(minutes=int(rng.integers(0, 500_000))))
    shop.lake.table("items").merge(rows_of("items", {"item_id": names, "title": names}))
    shop.lake.table("interactions").merge(rows_of("interactions", acts))


def made(folder: Path, name: str, epochs: int = 3) -> Shop:
    folder.mkdir(parents=True)
    (folder / "shop.toml").write_text(CONFIG.format(name=name, epochs=epochs), encoding="utf-8")
    return Shop(folder)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = made(tmp_path_factory.mktemp("rich") / "shop", "The rich one", epochs=12)
    fill(shop)
    shop.train("item2vec")
    shop.train("dssm")
    return shop


@pytest.fixture(scope="module")
def sparse_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """item2vec is trained of the little that there is."""
    shop = made(tmp_path_factory.mktemp("sparse") / "shop", "The sparse one")
    fill_sparse(shop)
    shop.train("item2vec", {"min_count": "1"})
    return shop.folder


@pytest.fixture
def sparse(sparse_folder: Path, tmp_path: Path) -> Shop:
    shutil.copytree(sparse_folder, tmp_path / "sparse")
    return Shop(tmp_path / "sparse")


def test_s4_15_it_is_ahead_from_the_start_and_published_by_commands_alone(
    rich: Shop, sparse: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    scratch = sparse.train("dssm", AT_THE_START)[0].metrics
    learned = rich.exports("dssm"), newest_export(rich.exports("dssm"))
    moved = sparse.train("dssm", AT_THE_START, start=rich.folder)[0].metrics
    assert moved["validation_loss"] < scratch["validation_loss"] - 0.2
    assert moved["ndcg_at_10"] > 1.5 * scratch["ndcg_at_10"]

    with caplog.at_level(logging.WARNING):
        typed(sparse, "train", "dssm", "--from", str(rich.folder), "--set", "freeze=item")
    assert any("embedded by the item2vec of dssm 0001-" in line for line in caplog.messages)
    export = newest_export(sparse.exports("dssm"))
    facts, theirs = read_facts(export), read_facts(learned[1])
    known = int(np.load(learned[1] / "feature_sources" / "item2vec.npy").any(axis=1).sum())
    assert facts["start"] == {
        "shop": "The rich one",
        "export": learned[1].name,
        "model_hash": theirs["model_hash"],
        "items_known": {"item2vec": known},
        "shared_users": 0,
    }
    assert facts["feature_sources"] == theirs["feature_sources"]
    assert facts["inputs"] == {**theirs["feature_sources"], "pretrained": theirs["model_hash"]}
    assert facts["config"]["freeze"] == "item" and facts["config"]["pretrained"] == str(learned[1])

    typed(sparse, "evaluate", "dssm")
    page = (sparse.folder / "reports" / f"dssm-{export.name}.html").read_text(encoding="utf-8")
    assert f"{learned[1].name} ({theirs['model_hash'][:12]}) of The rich one" in page
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        printed = typed(sparse, "publish", "--force")
    assert not any(
        "trained again since" in line for line in caplog.messages
    )  # its own item2vec is another one
    assert f"dssm: item2vec knows nothing about {ITEMS + 5 - known} of {ITEMS + 5} items" in printed
    again = read_facts(newest_export(sparse.exports("dssm") / "everything"))
    assert again["inputs"] == facts["inputs"] and again["start"] == facts["start"]
    assert f"dssm was trained again on everything on {again['refit']['at'][:10]}" in printed
    with sparse.live_store() as live:
        answer = sparse.recommender().recommend(user_id="here03", k=5, live=live, explain=True)
    assert "dssm" in answer.trace["retrievers"]


def test_a_shop_without_item_vectors_of_its_own_takes_those_of_the_other(rich: Shop, sparse: Shop) -> None:
    shutil.rmtree(sparse.exports("item2vec"))
    _, first = sparse.train("dssm", {"epochs": "3"}, start=newest_export(rich.exports("dssm")))
    vectors = dict(zip(ids_of(rich), history_of(rich), strict=True))
    for name, row in zip(ids_of(sparse), history_of(sparse), strict=True):
        np.testing.assert_allclose(row, vectors.get(name, np.zeros(8)), atol=1e-6)
    again = sparse.train("dssm", {"epochs": "3"}, start=newest_export(rich.exports("dssm")))[1]
    assert again == first


def ids_of(shop: Shop) -> list[str]:
    return sorted(shop.lake.table("items").read(columns=["item_id"])["item_id"].to_pylist())


def history_of(shop: Shop) -> np.ndarray:
    found: np.ndarray = np.load(newest_export(shop.exports("dssm")) / "history_embeddings.npy")[1:]
    return found


def test_a_path_in_shop_toml_is_of_the_shops_folder(rich: Shop, sparse: Shop) -> None:
    shutil.copytree(rich.folder / "exports", sparse.folder / "beside" / "exports")
    shutil.copy(rich.folder / "shop.toml", sparse.folder / "beside")
    toml = (sparse.folder / "shop.toml").read_text(encoding="utf-8")
    (sparse.folder / "shop.toml").write_text(f'{toml}pretrained = "beside"\n', encoding="utf-8")
    _, export = Shop(sparse.folder).train("dssm")
    assert read_facts(export)["start"]["shop"] == "The rich one"


def test_what_does_not_fit_is_refused_with_what_to_do(rich: Shop, sparse: Shop, tmp_path: Path) -> None:
    bare = made(tmp_path / "bare", "Bare")
    item2vec = newest_export(rich.exports("item2vec"))
    settings: dict[str, str]
    for model, start, settings, says in (
        ("two_tower", rich.folder, {}, "two_tower starts from no other training.* that do: dssm"),
        ("image_similarity", rich.folder, {}, "image_similarity starts from no other training"),
        ("dssm", bare.folder, {}, r"no dssm was trained there, .* `etalage train dssm --shop "),
        ("dssm", item2vec, {}, "an export of item2vec; dssm starts from one of dssm"),
        ("dssm", tmp_path / "nowhere", {}, "no file, and no folder with"),
        ("dssm", rich.folder, {"pretrained": "x"}, "say one of them"),
        (
            "dssm", rich.folder, {"layers": "[4]"},
            r"layers = \[4\]: dssm 0001-.* of 'The rich one' is of .*, and .* set layers = \[8\] here too",
        ),
        (
            "dssm", rich.folder, {"feature_sources": "photo"},
            r"feature_sources = \['photo'\]: .* is of feature_sources = \['item2vec'\]",
        ),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=says):
            sparse.train(model, settings, start=start)


def test_a_shop_of_other_items_is_told_what_both_can_have_in_common(rich: Shop, tmp_path: Path) -> None:
    shop = made(tmp_path / "tins", "Tins")
    fill_sparse(shop, items="tin")
    with pytest.raises(ConfigError, match=r'none of the 95 items here .* feature_sources = \["photo"\]'):
        shop.train("dssm", start=rich.folder)


def test_shoppers_of_both_are_counted_since_the_answers_may_be_known(
    rich: Shop, sparse: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    act = {"interaction_id": ["x", "y"], "user_id": ["u001", "u002"], "item_id": ["cup-001"] * 2,
           "kind": ["buy"] * 2, "time": [BEGIN] * 2}  # fmt: skip
    sparse.lake.table("interactions").merge(rows_of("interactions", act))
    with caplog.at_level(logging.WARNING):
        _, export = sparse.train("dssm", start=rich.folder)
    assert any("knows 2 of the 42 shoppers here" in line for line in caplog.messages)
    assert read_facts(export)["start"]["shared_users"] == 2
