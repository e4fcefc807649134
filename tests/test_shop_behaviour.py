"""A whole shop without photos: acts in, a funnel out; a model that beats nothing stays out."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from etalage import Shop
from etalage.errors import NothingToPublish, TableMissing, TooLittleData
from etalage.lake.schema import TABLES
from etalage.online import Act, Event
from etalage.runtime.export_files import newest_export, read_facts, read_verdict

ITEMS, USERS, KINDS = 90, 240, 6
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = """
name = "Cups"
[behaviour]
rank = 0.15
repeat = true
[funnel]
retrievers = {popularity = 40, item_knn = 40, ease = 40}
seen = "keep"
ranker = "dlrm"
[models.item_knn]
shrink = 1.0
[models.dlrm]
dimension = 4
bottom = [16]
top = [16]
epochs = 6
batch_size = 256
[models.two_tower]
width = 16
epochs = 1
steps_per_epoch = 1
[evaluate]
bootstrap = 200
"""


def rows_of(table: str, columns: dict[str, list[Any]]) -> pa.Table:
    schema = TABLES[table].schema
    count = len(next(iter(columns.values())))
    return pa.table({f.name: columns.get(f.name, [None] * count) for f in schema}, schema=schema)


def fill(shop: Shop) -> None:
    """Each shopper likes one of KINDS kinds of cups, and takes the same few of it again and again."""
    rng = np.random.default_rng(5)
    kinds = [f"Cups > Kind {n % KINDS}" for n in range(ITEMS)]
    items: dict[str, list[Any]] = {
        "item_id": [f"cup-{n:03d}" for n in range(ITEMS)],
        "title": [f"Cup {n}" for n in range(ITEMS)],
        "brand": [f"Maker {n % 5}" for n in range(ITEMS)],
        "price": [5.0 + n for n in range(ITEMS)],
        "category_id": kinds,
    }
    acts: dict[str, list[Any]] = {
        name: [] for name in ("interaction_id", "user_id", "item_id", "kind", "time")
    }
    for user in range(USERS):
        own = rng.choice([n for n in range(ITEMS) if n % KINDS == user % KINDS], 5, replace=False)
        for act in range(int(rng.integers(12, 30))):
            item = int(rng.choice(own)) if rng.random() < 0.8 else int(rng.integers(ITEMS))
            acts["interaction_id"].append(f"{user}-{act}")
            acts["user_id"].append(f"u{user:03d}")
            acts["item_id"].append(f"cup-{item:03d}")
            acts["kind"].append("buy")
            acts["time"].append(BEGIN + timedelta(minutes=int(rng.integers(0, 500_000))))
    shop.lake.table("items").merge(rows_of("items", items))
    shop.lake.table("interactions").merge(rows_of("interactions", acts))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained, evaluated, published."""
    folder = tmp_path_factory.mktemp("behaviour") / "shop"
    folder.mkdir()
    (folder / "shop.toml").write_text(CONFIG, encoding="utf-8")
    shop = Shop(folder)
    fill(shop)
    for model in ("popularity", "item_knn", "ease", "dlrm", "two_tower"):
        shop.train(model)
    shop.evaluate("dlrm")
    shop.evaluate("two_tower")
    (folder / "shop.toml").write_text(CONFIG.replace("ease = 40}", "ease = 40, two_tower = 40}"), "utf-8")
    Shop(folder).publish()
    return folder


@pytest.fixture
def shop(built: Path, tmp_path: Path) -> Shop:
    shutil.copytree(built, tmp_path / "shop")
    return Shop(tmp_path / "shop")


def test_a_ranker_that_beats_every_stage_is_in_the_bundle(shop: Shop) -> None:
    verdict = read_verdict(newest_export(shop.exports("dlrm")))
    assert verdict is not None and verdict["passed"], verdict
    manifest = shop.recommender().manifest
    assert "dlrm" in {one.name for one in manifest.models}


def test_the_ranker_and_those_whose_scores_it_reads_are_as_they_were_judged_and_say_so(shop: Shop) -> None:
    why = {one.name: one.as_judged for one in shop.recommender().manifest.models}
    assert why["item_knn"] == why["ease"] == why["popularity"] == "dlrm learned from its scores"
    assert str(why["dlrm"]).startswith(
        "it learned from what the retrievers found for acts that were held back"
    )


def test_a_deliberately_bad_model_is_left_out_and_the_simple_ones_take_its_place(shop: Shop) -> None:
    """One step of training: nothing was learned, and nothing is gained."""
    verdict = read_verdict(newest_export(shop.exports("two_tower")))
    assert verdict is not None and not verdict["passed"]
    manifest = shop.recommender().manifest
    assert [one.name for one in manifest.refused] == ["two_tower"]
    assert "does not beat" in manifest.refused[0].reason
    assert {"popularity", "item_knn", "ease"} <= {one.name for one in manifest.models}
    with shop.live_store() as live:
        answer = shop.recommender().recommend(user_id="u007", k=5, explain=True, live=live)
    assert len(answer.slate) == 5
    assert set(answer.trace["retrievers"]) == {"popularity", "item_knn", "ease"}


def test_force_publishes_it_and_says_so(shop: Shop) -> None:
    manifest = shop.publish(force=True)
    assert "gate" in manifest.forced
    assert next(one for one in manifest.models if one.name == "two_tower").forced


def test_a_shopper_is_shown_their_own_kind(shop: Shop) -> None:
    recommender = shop.recommender()
    with shop.live_store() as live:
        right = 0
        for user in range(0, USERS, 12):
            slate = recommender.recommend(user_id=f"u{user:03d}", k=5, live=live).slate
            right += sum(slot.category_id == f"Cups > Kind {user % KINDS}" for slot in slate)
    assert right > 0.7 * 5 * len(range(0, USERS, 12))


def test_an_event_changes_the_next_slate(shop: Shop) -> None:
    recommender = shop.recommender()
    with shop.live_store() as live:
        before = recommender.recommend(user_id="newcomer", k=5, live=live)
        assert before.tier == "popular" and not before.known
        live.append([Event(f"e{n}", "newcomer", Act(f"cup-{n:03d}", "buy")) for n in (4, 10, 16)])
        after = recommender.recommend(user_id="newcomer", k=5, live=live, explain=True)
    assert after.tier != "popular" and after.known
    assert [slot.item_id for slot in after.slate] != [slot.item_id for slot in before.slate]
    assert sum(slot.category_id == "Cups > Kind 4" for slot in after.slate) >= 3
    assert all(slot.why for slot in after.slate)


def test_events_are_collected_into_the_table_once(shop: Shop) -> None:
    rows = shop.lake.table("interactions").count()
    with shop.live_store() as live:
        live.append([Event("a", "u001", Act("cup-003", "buy")), Event("b", "zoe", Act("cup-009", "view"))])
    assert shop.collect().new == 2
    assert shop.collect().new == 0
    assert shop.lake.table("interactions").count() == rows + 2


def test_f57_an_erased_shopper_is_gone_from_tables_store_and_later_bundles(shop: Shop) -> None:
    done = shop.erase("u007")
    assert done.rows["interactions"] > 0 and done.rows["online store"] > 0
    assert any("bundle" in line for line in done.left) and any("older versions" in line for line in done.left)
    ids = shop.lake.table("interactions").read(columns=["user_id"])["user_id"].to_pylist()
    assert "u007" not in ids
    with shop.live_store() as live:
        assert live.history("u007", 10) == []
    for model in ("popularity", "item_knn", "ease"):
        shop.train(model)
    (shop.folder / "shop.toml").write_text(CONFIG.replace('ranker = "dlrm"', ""), "utf-8")
    again = Shop(shop.folder)
    manifest = again.publish()
    bundle = again.bundles.path(manifest.id)
    found = [file.name for file in bundle.rglob("*") if file.is_file() and b"u007" in file.read_bytes()]
    assert found == []
    with again.live_store() as live:
        assert not again.recommender().recommend(user_id="u007", k=3, live=live).known


def test_a_new_item_is_in_the_synced_bundle(shop: Shop) -> None:
    new = rows_of("items", {"item_id": ["cup-new"], "title": ["Cup new"], "category_id": ["Cups > Kind 1"]})
    shop.lake.table("items").merge(new)
    synced = shop.sync()
    assert synced.manifest is not None and synced.upserted == 1
    assert {one.name for one in synced.manifest.models} >= {"popularity", "item_knn", "ease", "dlrm"}
    assert shop.recommender().item("cup-new")["title"] == "Cup new"


def test_what_a_ranker_learned_from_is_what_it_is_asked_when_served(shop: Shop) -> None:
    """The inputs' names of the export are those of the encoder that lies beside it."""
    facts = read_facts(newest_export(shop.exports("dlrm")))
    assert "score.item_knn" in facts["dense_inputs"] and "times_before" in facts["dense_inputs"]


def test_the_funnel_as_a_whole_stands_beside_its_parts(shop: Shop) -> None:
    shop.evaluate("dlrm")
    alone = read_verdict(newest_export(shop.exports("dlrm")))
    done = shop.evaluate_all()
    together = read_verdict(newest_export(shop.exports("dlrm")))
    assert alone is not None and together is not None and alone["passed"] and together["passed"]
    one, all_of_them = (
        {row["system"]: row for row in told["rows"] if row["system"] != "chance"}  # drawn in another order
        for told in (alone, together)
    )
    assert one == all_of_them
    assert done.members == ("ease", "item_knn", "popularity", "dlrm")
    rows = {row.system: row for row in done.rows}
    whole, without = rows["the funnel"], rows["the funnel, without dlrm"]
    assert whole.metric == "recall_at_20" and whole.over in ("ease", "item_knn")
    assert "dlrm" in whole.verdict and "dlrm" not in without.verdict
    assert whole.gain is not None and whole.gain == done.gains["the funnel"][whole.over]
    assert done.scores["the funnel"]["ndcg_at_10"].value > done.scores["popularity"]["ndcg_at_10"].value
    assert rows["dlrm"].metric == "ndcg_at_10" and rows["dlrm"].verdict.startswith("beats")
    assert any("two_tower does not beat" in reason for reason in done.left_out)


# -- what is asked too early -------------------------------------------------------------------


def test_without_interactions_training_says_what_to_do(tmp_path: Path) -> None:
    shop = Shop.create(tmp_path / "shop", "Empty")
    with pytest.raises(TableMissing, match="etalage ingest"):
        shop.train("popularity")


def test_a_ranker_without_a_part_of_its_own_says_what_to_set(shop: Shop) -> None:
    (shop.folder / "shop.toml").write_text(CONFIG.replace("rank = 0.15", ""), "utf-8")
    with pytest.raises(TooLittleData, match=r"rank = 0\.1"):
        Shop(shop.folder).train("dlrm")


def test_a_retriever_that_was_not_trained_is_named(shop: Shop) -> None:
    (shop.folder / "shop.toml").write_text(CONFIG.replace("ease = 40", "ials = 40"), "utf-8")
    with pytest.raises(NothingToPublish, match="etalage train ials"):
        Shop(shop.folder).publish()
