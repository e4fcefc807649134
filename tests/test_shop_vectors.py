"""Vectors for others, and the best items of every shopper: `etalage vectors`, `etalage users`, typed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from etalage import Shop, errors
from etalage.bundle.contents import gather_user_histories
from etalage.cli import app
from etalage.config import FunnelConfig
from etalage.errors import ConfigError, NotFound, StoreUnavailable, Unprocessable
from etalage.online.vector_store import VectorStore
from etalage.recommend import Filters, Recommender
from etalage.shop import live_steps
from tests.milvus_server import running_milvus
from tests.redis_server import Redis, running_redis
from tests.shops import act_rows, behaviour_shop, fill, rows_of

ITEMS = 40


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    behaviour_shop(tmp_path, ITEMS, photos=True, funnel=FunnelConfig(retrievers={"two_tower": 30}))
    return Shop(tmp_path)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with running_redis(tmp_path) as one:
        yield one


def typed(shop: Shop, *words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--shop", str(shop.folder)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    if done.exit_code:
        name, _, said = done.stderr.splitlines()[-1].partition(": ")
        raise getattr(errors, name)(said)
    return " ".join(done.output.split())


def counts(said: str) -> tuple[int, ...]:
    found = re.search(r"written ([\d,]+), unchanged ([\d,]+), removed ([\d,]+)", said)
    assert found is not None, said
    return tuple(int(one.replace(",", "")) for one in found.groups())


def republished(shop: Shop, items: int) -> None:
    """The same models, in a bundle of other items."""
    fill(shop.lake, range(ITEMS, items))
    shop.sync()


# -- vectors -----------------------------------------------------------------------------------


def test_item_vectors_are_looked_up_in_redis_under_the_version_that_is_whole(
    shop: Shop, redis: Redis
) -> None:
    first = shop.bundles.current_id()
    said = typed(shop, "vectors", "--to", f"{redis.uri}?prefix=cups")
    assert counts(said) == (ITEMS, 0, 0) and "two_tower" in said and first in said
    assert counts(typed(shop, "vectors", "--to", f"{redis.uri}?prefix=cups")) == (0, ITEMS, 0)
    parts = Recommender.open(shop.bundles.path(first)).parts
    (model,) = [one for one in parts.models if one.name == "two_tower"]
    facts = json.loads(redis.client().get("cups:vectors:two_tower:items"))
    assert facts["export"] == model.scorer.model_hash and facts["bundle"] == first
    raw = VectorStore.open(f"{redis.uri}?prefix=cups")
    rows = parts.catalogue.rows(["item-00003", "item-00021"])
    for found, row in zip(raw.read("two_tower", "item", ["item-00003", "item-00021"]), rows, strict=True):
        np.testing.assert_array_equal(found, model.scorer.item_embeddings[row])
    assert raw.read("two_tower", "item", ["nothing"]) == [None]
    other = "cups:vectors:two_tower_2:items:v:a"
    redis.client().set(other, "of another model")
    republished(shop, ITEMS + 2)
    assert counts(typed(shop, "vectors", "--to", f"{redis.uri}?prefix=cups"))[2] == ITEMS
    version = shop.bundles.current_id()
    kept = {key for key in redis.client().keys("cups:*") if not key.endswith(":items")}
    assert other in kept and all(version in key for key in kept - {other})
    redis.stop()
    with pytest.raises(StoreUnavailable, match="is the server up"):
        typed(shop, "vectors", "--to", redis.uri)


def test_user_vectors_go_where_item_vectors_go_and_are_those_of_the_bundle(shop: Shop, redis: Redis) -> None:
    said = typed(shop, "vectors", "--users", "--to", redis.uri)
    users = Recommender.open(shop.bundles.path(shop.bundles.current_id())).users
    known = users.embeddings.any(axis=1)
    assert counts(said) == (int(known.sum()), 0, 0) and known.sum() >= 5
    (found,) = VectorStore.open(redis.uri).read("two_tower", "user", ["user-2"])
    np.testing.assert_array_equal(found, users.embeddings[users.ids.row("user-2") - 1])


def test_vectors_in_the_table_are_versioned_and_those_of_older_bundles_go(shop: Shop) -> None:
    assert counts(typed(shop, "vectors", "--to", "table")) == (ITEMS, 0, 0)
    table = shop.lake.table("embeddings")
    version, rows = table.version(), table.read().to_pylist()
    ours = [row for row in rows if row["owner"] == "item"]
    assert len(ours) == ITEMS and {row["name"] for row in ours} == {"two_tower"}
    assert counts(typed(shop, "vectors", "--to", "table")) == (0, ITEMS, 0)
    assert table.version() == version
    photos = typed(shop, "vectors", "--to", "table", "--model", "image_similarity")
    assert counts(photos) == (ITEMS, 0, 0)
    shop.delete_items(["item-00003"])
    shop.sync()
    assert counts(typed(shop, "vectors", "--to", "table"))[2] == 1
    left = {(row["owner"], row["name"], row["id"]) for row in table.read().to_pylist()}
    assert ("item", "two_tower", "item-00003") not in left
    assert ("item", "image_similarity", "item-00003") in left  # of another model: its own turn
    assert typed(shop, "vectors", "--users", "--to", "table")
    owners = {row["owner"] for row in table.read(columns=["owner"]).to_pylist()}
    assert owners == {"item", "user"}


def test_vectors_in_a_milvus_are_found_by_id_under_an_alias(shop: Shop, tmp_path: Path) -> None:
    with running_milvus(tmp_path) as milvus:
        assert counts(typed(shop, "vectors", "--to", milvus.uri)) == (ITEMS, 0, 0)
        assert counts(typed(shop, "vectors", "--to", milvus.uri)) == (0, ITEMS, 0)
        assert counts(typed(shop, "vectors", "--to", milvus.uri, "--users"))[0] >= 5
        republished(shop, ITEMS + 2)
        assert counts(typed(shop, "vectors", "--to", milvus.uri))[2] == ITEMS
        assert set(milvus.aliases()) == {"etalage_two_tower_items", "etalage_two_tower_users"}
        assert len(milvus.collections()) == 2
        parts = Recommender.open(shop.bundles.path(shop.bundles.current_id())).parts
        (model,) = [one for one in parts.models if one.name == "two_tower"]
        found = milvus.client().search(
            "etalage_two_tower_items", data=[model.scorer.item_embeddings[8]], limit=1, output_fields=["id"]
        )
        assert found[0][0]["entity"]["id"] == parts.catalogue.ids[8]


def test_who_was_erased_since_the_bundle_was_made_is_handed_to_nobody(shop: Shop) -> None:
    assert typed(shop, "vectors", "--users", "--to", "table")
    shop.erase("user-2")
    said = typed(shop, "vectors", "--users", "--to", "table")
    assert "1 shoppers were erased since the bundle was made: left out" in said
    ids = {row["id"] for row in shop.lake.table("embeddings").read().to_pylist() if row["owner"] == "user"}
    assert "user-2" not in ids and "user-3" in ids


def test_a_target_or_a_model_that_is_not_there_is_refused(shop: Shop) -> None:
    for to, says in (
        ("elsewhere", "give `table`"),
        ("milvus", "does not say where"),
        ("x.sqlite", "give `table`"),
    ):
        with pytest.raises(ConfigError, match=says):
            shop.vectors(to)
    with pytest.raises(Unprocessable, match=r"--model item_knn: .*those with vectors: two_tower"):
        shop.vectors("table", "item_knn")


# -- users -------------------------------------------------------------------------------------


def test_the_best_items_of_every_shopper_are_those_that_recommend_retrieves(shop: Shop) -> None:
    said = typed(shop, "users", "best", "-k", "7")
    rows = {row["user_id"]: row for row in shop.lake.table("recommendations").read().to_pylist()}
    recommender = shop.recommender()
    histories = gather_user_histories(shop.lake, shop.lake.versions(), recommender.funnel.rules)
    live_steps.seed(shop, histories)  # as publish does
    assert set(rows) == {f"user-{n}" for n in range(6)} and counts(said) == (6, 0, 0)
    assert {row["bundle"] for row in rows.values()} == {recommender.bundle}
    assert {len(row["items"]) for row in rows.values()} == {7}
    asked = 0
    for user_id, row in rows.items():
        shopper = recommender._shopper(user_id, None, None, None)
        answered = recommender.funnel.answer(shopper, 7, Filters(), recommender.catalogue.stock)
        found = answered.ranking.found
        asked += 1
        by_two_tower = found.scores["two_tower"][0]
        order = np.argsort(-by_two_tower, kind="stable")[:7]
        assert row["items"] == [recommender.catalogue.ids[int(found.rows[0][n])] for n in order]
        np.testing.assert_allclose(row["scores"], by_two_tower[order], atol=1e-6)
        assert recommender.catalogue.stock.sold_out[recommender.catalogue.rows(row["items"])].sum() == 0
    assert asked == 6
    assert counts(typed(shop, "users", "best", "-k", "7")) == (0, 6, 0)


class Here:
    """An engine that runs shards one after the other."""

    map = staticmethod(map)


@pytest.mark.parametrize("on", ["here", pytest.param("the engine", marks=pytest.mark.slow)])
def test_many_blocks_write_what_one_does(shop: Shop, monkeypatch: pytest.MonkeyPatch, on: str) -> None:
    from etalage.shop import best_steps

    shop.best_items(5)
    whole = _by_user(shop)
    shop.lake.table("recommendations").delete_matching(["user_id"], lambda rows: rows["user_id"].is_valid())
    monkeypatch.setattr(best_steps, "ROWS_A_BLOCK", 9)
    if on == "here":
        shop.__dict__["engine"] = Here()
    done = shop.best_items(5)
    assert (done.users, done.written, done.short) == (6, 6, 0)
    assert _by_user(shop) == whole
    assert not (shop.runs / ".best").exists()


def test_rows_of_an_older_bundle_and_of_erased_shoppers_go(shop: Shop) -> None:
    shop.best_items(5)
    shop.best_items(5, "item_knn")
    newcomers = act_rows([("newcomer", 3, "buy"), ("newcomer", 4, "buy"), ("newcomer", 5, "buy")])
    more = [{**row, "interaction_id": f"new-{at}"} for at, row in enumerate(newcomers)]
    shop.lake.table("interactions").merge(rows_of("interactions", more))
    shop.erase("user-1")
    republished(shop, ITEMS + 1)
    done = shop.best_items(5)
    assert done.removed == 0 and done.written == 6
    rows = shop.lake.table("recommendations").read().to_pylist()
    by_tower = {row["user_id"] for row in rows if row["model"] == "two_tower"}
    assert by_tower == {"user-0", "user-2", "user-3", "user-4", "user-5", "newcomer"}
    assert "user-1" not in {row["user_id"] for row in rows}
    old = {row["bundle"] for row in rows if row["model"] == "item_knn"}
    assert old and old != {shop.bundles.current_id()}


def test_a_retriever_that_is_not_in_the_bundle_is_named(shop: Shop) -> None:
    with pytest.raises(Unprocessable, match="no such retriever; there are: two_tower, item_knn"):
        shop.best_items(5, "ease")


def test_users_for_an_item_and_users_like_a_user_answer_as_the_server_does(shop: Shop) -> None:
    recommender = shop.recommender()
    said = typed(shop, "users", "for", "item-00007", "-k", "3")
    for one in recommender.users_for_item("item-00007", 3):
        assert f"{one.user_id}" in said and f"{one.score:.4f}" in said
    said = typed(shop, "users", "like", "user-4", "-k", "2")
    found = recommender.users_like("user-4", 2)
    assert len(found) == 2 and all(f"{one.user_id}" in said for one in found)
    with pytest.raises(NotFound, match="did you mean 'user-4'"):
        typed(shop, "users", "like", "usr-4")
    with pytest.raises(NotFound, match="no such item"):
        typed(shop, "users", "for", "item-99999")


def _by_user(shop: Shop) -> dict:
    rows = shop.lake.table("recommendations").read(columns=["user_id", "items", "scores"]).to_pylist()
    return {row["user_id"]: (row["items"], row["scores"]) for row in rows}
