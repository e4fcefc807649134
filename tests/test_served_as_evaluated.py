"""What is evaluated is what is served: over random shops and settings, after publish and after sync.

The evaluation ranks every item for a shopper by their history as the tables hold it; the server answers by
the history in its online store. Both are to look at the same acts, leave out the same items, and give the
same scores.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etalage import Shop
from etalage.errors import ConfigError, TooLittleData
from etalage.evaluation.ranking import Ranked, rank_all
from etalage.features.behaviour import BehaviourSet
from etalage.features.behaviour_set import behaviour_set
from etalage.lake.schema import TABLES
from etalage.models import recipe as recipes
from etalage.models.recipe import Trained
from etalage.runtime.export_files import newest_export
from etalage.runtime.opening import open_scorer
from etalage.runtime.scorer import Scorer
from etalage.shop.behaviour_steps import behaviour
from etalage.training.behaviour_export import export_behaviour
from etalage.training.export_source import Source

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
NOW = int((BEGIN + timedelta(days=200)).timestamp() * 1e6)
KINDS = ("view", "Purchase", "cart", "rating", "dislike", "wish", "play", "refund", "search", None)
K = 8


def rows_of(table: str, columns: dict[str, list[Any]]) -> pa.Table:
    schema = TABLES[table].schema
    count = len(next(iter(columns.values())))
    return pa.table({f.name: columns.get(f.name, [None] * count) for f in schema}, schema=schema)


def toml(rule: dict[str, Any], funnel: dict[str, Any], model: str) -> str:
    """A shop in which one retriever speaks alone."""

    def written(value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json.dumps(k)} = {written(v)}" for k, v in value.items()) + "}"
        return json.dumps(value)

    funnel = {"retrievers": {model: 60}, "enough": 1, "in_stock": False, **funnel}
    tables = {"behaviour": {"split": "random", **rule}, "funnel": funnel}
    lines = ['name = "T"']
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {written(value)}" for key, value in table.items())]
    lines += ["[models.two_tower]", "width = 8", "epochs = 1", "steps_per_epoch = 2", "batch_size = 64"]
    lines += ["[models.item2vec]", "dimension = 4", "min_count = 4", "epochs = 1"]
    lines += ["[models.matrix_factorisation]", "dimension = 4", "epochs = 1"]
    lines += ["[models.dssm]", "layers = []", "dimension = 4", "epochs = 2", "patience = 1"]
    return "\n".join(lines) + "\n"


def fill(shop: Shop, rng: np.random.Generator, items: int, users: int, acts: int) -> None:
    """Some shoppers act much, most a little; some acts are on items that the catalogue lacks."""
    shop.lake.table("items").merge(rows_of("items", {"item_id": [f"i{n:02d}" for n in range(items)]}))
    who = np.minimum(rng.geometric(0.25, acts), users)
    what = np.minimum((rng.random(acts) ** 2 * (items + 2)).astype(int), items + 1)
    kinds = [
        KINDS[n]
        for n in rng.choice(len(KINDS), acts, p=[0.3, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.06, 0.04, 0.05])
    ]
    values = [float(v) if rng.random() < 0.7 else None for v in rng.integers(-1, 6, acts)]
    minutes = rng.choice(200_000, acts, replace=False)
    if rng.random() < 0.5:  # dates alone, so that several acts are of one time
        minutes = minutes // 1440 // 20 * 1440 * 20
    columns: dict[str, list[Any]] = {
        "interaction_id": [f"a{n:04d}" for n in rng.permutation(acts)],
        "user_id": [f"u{n:02d}" for n in who],
        "item_id": [f"i{n:02d}" for n in what],
        "kind": kinds,
        "value": values,
        "time": [BEGIN + timedelta(minutes=int(m)) for m in minutes],
    }
    shop.lake.table("interactions").merge(rows_of("interactions", columns))


def export(shop: Shop, model: str) -> None:
    """What `train` does for a closed-form model, less the tracking, which takes ten times as long."""
    data = behaviour(shop).data
    recipe = recipes.find(model)
    counted = recipe.bind(recipe.config(), data).count()
    trained = Trained(model, recipe.config(), None, {}, [], 0.0, 0.0, shop.runs / "none", {}, counted)
    export_behaviour(recipe, trained, Source.of(data), shop.exports(model))


def evaluated(shop: Shop, scorer: Scorer, data: BehaviourSet) -> tuple[Ranked, np.ndarray]:
    """Every item ranked for every user of the shop as `etalage evaluate` ranks it, all acts being past."""
    users = np.arange(1, len(data.users))
    train = data.part("train")
    queries = data.queries_of(users, train.positive, np.full(len(users), NOW))
    nothing = [np.empty(0, np.int64)] * len(users)
    past = data.with_parts(test=train.take(np.zeros(len(train), bool)))
    ranked = rank_all(scorer, queries, nothing, ks=(60,), exclude=past.seen("test"))
    return ranked, scorer.knows(queries)


def assert_served_alike(shop: Shop, model: str, scorer: Scorer) -> int:
    """Compare every shopper's slate with the evaluation's ranking; how many slates the model spoke for."""
    tables = {name: shop.lake.table(name).read() for name in ("items", "interactions")}
    data = behaviour_set(
        tables["interactions"], tables["items"], None, shop.config.behaviour,
        funnel=shop.config.funnel, whole=True,
    )  # fmt: skip
    ranked, knows = evaluated(shop, scorer, data)
    recommender = shop.recommender()
    spoken = 0
    with shop.live_store() as live:
        for number in range(len(data.users) - 1):
            user = data.users.id(number + 1)
            answer = recommender.recommend(user_id=user, k=K, live=live, now=NOW, explain=True)
            found = zip(ranked.slates[number], ranked.slate_scores[number], strict=True)
            expected = {data.items.id(int(row)): float(score) for row, score in found if row > 0}
            served = {
                slot.item_id: slot.trace["retrievers"][model]
                for slot in answer.slate
                if slot.trace and model in slot.trace.get("retrievers", {})
            }
            assert set(served) <= set(expected), f"{user}: served, but left out by the evaluation"
            if not knows[number]:
                assert not served
                continue
            spoken += 1
            for item, score in served.items():
                assert score == pytest.approx(expected[item], rel=1e-4, abs=1e-5), (user, item)
            # The best of the evaluation's ranking are those of the slate, equal scores aside.
            worth = sorted(score for score in expected.values() if score > 0)[::-1][: len(served)]
            assert sorted(served.values())[::-1][: len(worth)] == pytest.approx(worth, rel=1e-4, abs=1e-5)
    return spoken


RULE = st.fixed_dictionaries(
    {},
    optional={
        "weights": st.sampled_from(
            [
                {"view": 1, "Purchase": 5, "rating": 2},
                {"Purchase": 1.0, "cart": 0.5, "dislike": -1, "view": 0},
            ]
        ),
        "positive_from": st.sampled_from([3, {"rating": 4, "wish": 2}]),
        "has": st.just(["play"]),
        "targets": st.just(["Purchase"]),
        "repeat": st.booleans(),
        "max_user": st.sampled_from([4, 12]),
        "min_user": st.just(2),
        "min_item": st.just(2),
    },
)
FUNNEL = st.fixed_dictionaries(
    {"history": st.sampled_from([3, 5, 100])},
    optional={"seen": st.sampled_from(["drop_bought", "drop_all", "keep"])},
)
SOME = settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def synced(shop: Shop) -> None:
    """A new item, and a new price: the bundle is brought up to date, the models stay."""
    price = {"item_id": ["i00", "new"], "price": [3.0, 4.0]}
    shop.lake.table("items").merge(rows_of("items", price))
    assert shop.sync().manifest is not None


@SOME
@given(st.integers(0, 10**6), RULE, FUNNEL, st.sampled_from(["item_knn", "ease", "ials", "buy_again"]))
def test_a_closed_form_model_serves_what_was_evaluated(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    rule: dict[str, Any],
    funnel: dict[str, Any],
    model: str,
) -> None:
    folder = tmp_path_factory.mktemp("served")
    (folder / "shop.toml").write_text(toml(rule, funnel, model), encoding="utf-8")
    shop = Shop(folder)
    rng = np.random.default_rng(seed)
    fill(shop, rng, items=int(rng.integers(5, 25)), users=12, acts=int(rng.integers(60, 200)))
    try:
        export(shop, model)
    except (TooLittleData, ConfigError):
        return
    shop.publish(force=True)
    scorer = open_scorer(newest_export(shop.exports(model) / "everything"))
    assert_served_alike(shop, model, scorer)
    synced(shop)
    assert_served_alike(shop, model, scorer)


@pytest.mark.parametrize(("seed", "history"), [(1, 2), (2, 100)])
def test_an_embedder_serves_what_was_evaluated_and_keeps_its_shoppers_over_a_sync(
    tmp_path: Path, seed: int, history: int
) -> None:
    (tmp_path / "shop.toml").write_text(
        toml({"positive_from": 3}, {"history": history}, "two_tower"), encoding="utf-8"
    )
    shop = Shop(tmp_path)
    fill(shop, np.random.default_rng(seed), items=20, users=12, acts=250)
    shop.train("two_tower")
    shop.publish(force=True)
    scorer = open_scorer(newest_export(shop.exports("two_tower") / "everything"))
    assert assert_served_alike(shop, "two_tower", scorer) > 5
    before = shop.recommender().users
    synced(shop)
    assert assert_served_alike(shop, "two_tower", scorer) > 5
    after = shop.recommender().users
    assert before.embeddings is not None and after.embeddings is not None
    assert before.embeddings.any(axis=1).sum() > 5
    np.testing.assert_allclose(after.embeddings, before.embeddings, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "sources"),
    [("two_tower", ["item2vec"]), ("dssm", ["item2vec"]), ("dssm", ["item2vec", "matrix_factorisation"])],
)
def test_a_model_serves_what_was_evaluated_by_what_its_sources_knew_then(
    tmp_path: Path, model: str, sources: list[str]
) -> None:
    """Whatever becomes of the models that made its features, and of the catalogue."""
    (tmp_path / "shop.toml").write_text(toml({"positive_from": 3}, {"history": 6}, model), encoding="utf-8")
    shop = Shop(tmp_path)
    fill(shop, np.random.default_rng(4), items=20, users=12, acts=250)
    for name in sources:
        shop.train(name)
    shop.train(model, {"feature_sources": json.dumps(sources)})
    shop.train("item2vec", {"seed": "5"})
    shop.publish(force=True)
    scorer = open_scorer(newest_export(shop.exports(model) / "everything"))
    assert assert_served_alike(shop, model, scorer) > 5
    synced(shop)
    assert assert_served_alike(shop, model, scorer) > 5
