"""What acts mean, in whole shops: published, served, collected, synced and judged."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from etalage import Shop
from etalage.bundle.files import ITEMS, read_arrow
from etalage.evaluation.behaviour import check_leakage
from etalage.features.behaviour_set import describe_facts
from etalage.models import recipe as recipes
from etalage.models.recipe import Trained
from etalage.online import Act, Event
from etalage.shop.behaviour_steps import behaviour
from etalage.training.behaviour_export import export_behaviour
from etalage.training.export_source import Source
from tests.shops import rows_of

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
Row = tuple[str, str, str, int]
"""(user, item, kind, day)"""
LOOKED: list[Row] = [(f"v{n}", f"p{1 + (n + day) % 4}", "view", day) for n in range(12) for day in (0, 1, 2)]


def opened(folder: Path, rows: list[Row], toml: str = "") -> Shop:
    """A shop of the items p1 … p6 and these acts."""
    (folder / "shop.toml").write_text(f'name = "T"\n{toml}', encoding="utf-8")
    shop = Shop(folder)
    shop.lake.table("items").merge(rows_of("items", [{"item_id": f"p{n}"} for n in range(1, 7)]))
    act(shop, rows)
    return shop


def act(shop: Shop, rows: list[Row]) -> None:
    acts = [
        {
            "interaction_id": f"{user} {item} {kind} {day}",
            "user_id": user,
            "item_id": item,
            "kind": kind,
            "time": BEGIN + timedelta(days=day),
        }
        for user, item, kind, day in rows
    ]
    shop.lake.table("interactions").merge(rows_of("interactions", acts))


def published(shop: Shop, *models: str) -> Shop:
    """With these closed-form models, trained without the tracking."""
    data = behaviour(shop).data
    for name in models:
        recipe = recipes.find(name)
        config = recipe.config()
        counted = recipe.bind(config, data).count()
        trained = Trained(name, config, None, {}, [], 0.0, 0.0, shop.runs / "none", {}, counted)
        export_behaviour(recipe, trained, Source.of(data), shop.exports(name))
    shop.publish(force=True)
    return shop


def did(shop: Shop, *acts: tuple[str, str, str]) -> None:
    with shop.live_store() as live:
        count = len(live.users(1000)) + len(live.events(0, 1000))
        for n, (user, item, kind) in enumerate(acts):
            live.append([Event(f"e{count}-{n}", user, Act(item, kind))])


def slate(shop: Shop, user: str | None = None, **asked: Any) -> dict[str, float]:
    with shop.live_store() as live:
        answer = shop.recommender().recommend(user_id=user, k=20, live=live, **asked)
    return {slot.item_id: slot.score for slot in answer.slate}


def browsed(shop: Shop) -> dict[str, float]:
    items = read_arrow(shop.bundles.path(shop.bundles.current_id()) / ITEMS)
    return dict(zip(items["item_id"].to_pylist(), items["popularity"].to_pylist(), strict=True))


def synced(shop: Shop) -> None:
    shop.lake.table("items").merge(rows_of("items", [{"item_id": "new"}]))
    assert shop.sync().manifest is not None


def test_what_was_returned_is_popular_nowhere_and_not_shown_again(tmp_path: Path) -> None:
    rows = [(f"b{n}", "p6", kind, day) for n in range(5) for kind, day in (("Kauf", 3), ("Storno", 4))]
    shop = published(opened(tmp_path, [*LOOKED, *rows]), "popularity")
    assert browsed(shop)["p6"] == slate(shop)["p6"] == 0
    assert "p6" not in slate(shop, "b0")
    act(shop, [("c", "p6", "Kauf", 5), ("d", "p6", "Kauf", 5), ("d", "p6", "Storno", 6)])
    synced(shop)
    assert browsed(shop)["p6"] == 1
    assert "p6" not in slate(shop, "b0")


def test_a_slate_knows_a_refund_and_a_change_of_mind_at_once_and_after_collect(tmp_path: Path) -> None:
    shop = published(opened(tmp_path, [*LOOKED, ("b", "p1", "buy", 3)]), "popularity", "item_knn")
    before = slate(shop, "stranger")
    did(shop, ("ann", "p1", "Order Completed"), ("ann", "p2", "dislike"))
    assert not {"p1", "p2"} & set(slate(shop, "ann"))
    did(shop, ("ann", "p1", "Order Refunded"))
    assert slate(shop, "ann") == {item: score for item, score in before.items() if item not in ("p1", "p2")}
    did(shop, ("ann", "p2", "like"))
    liked = slate(shop, "ann")
    assert "p2" in liked and "p1" not in liked
    shop.collect()
    shop.publish(force=True)
    assert set(slate(shop, "ann")) == set(liked)
    synced(shop)
    assert set(slate(shop, "ann")) == {*liked, "new"}


def test_a_history_without_times_is_in_the_order_given(tmp_path: Path) -> None:
    shop = published(opened(tmp_path, LOOKED), "popularity", "item_knn")
    bought = slate(shop, history=[Act("p1", "refund"), Act("p1", "buy")])
    returned = slate(shop, history=[Act("p1", "buy"), Act("p1", "refund")])
    assert bought == slate(shop, history=[Act("p1", "buy")]) != returned
    assert "p1" in slate(shop, history=[Act("p1", "dislike"), Act("p1", "like")])
    assert "p1" not in slate(shop, history=[Act("p1", "like"), Act("p1", "dislike")])


def test_a_dislike_is_kept_off_where_weights_names_other_kinds_and_a_weight_of_0_is_none(
    tmp_path: Path,
) -> None:
    rows = [*LOOKED, ("v0", "p4", "Not Interested", 3), ("v1", "p4", "buy", 3)]
    shop = published(opened(tmp_path, rows, "[behaviour]\nweights = {buy = 5, view = 0}\n"), "popularity")
    assert "p4" not in slate(shop, "v0")
    assert set(slate(shop, "v2")) == {f"p{n}" for n in range(1, 7)}
    assert slate(shop)["p4"] == 5


def test_of_ratings_the_last_one_counts(tmp_path: Path) -> None:
    shop = opened(tmp_path, LOOKED, "[behaviour]\npositive_from = 4\n")
    stars = [("ann", "p5", 5.0, 1), ("ann", "p5", 1.0, 2), ("bob", "p6", 1.0, 1), ("bob", "p6", 5.0, 2)]
    rated = [
        {"interaction_id": f"r{n}", "user_id": user, "item_id": item, "kind": "rating", "value": value,
         "time": BEGIN + timedelta(days=day)}
        for n, (user, item, value, day) in enumerate(stars)
    ]  # fmt: skip
    shop.lake.table("interactions").merge(rows_of("interactions", rated))
    found = slate(published(shop, "popularity"))
    assert (found["p5"], found["p6"]) == (0, 1)
    assert (browsed(shop)["p5"], browsed(shop)["p6"]) == (0, 1)


@pytest.mark.parametrize("split", ["time", "leave_one_out", "random"])
def test_who_returned_something_and_looks_at_it_again_is_not_asked_about_it(
    tmp_path: Path, split: str
) -> None:
    again = [("ann", "p1", "buy", 0), ("ann", "p1", "refund", 1), ("ann", "p1", "view", 9),
             ("ann", "p2", "view", 9), ("bob", "p3", "dislike", 0), ("bob", "p3", "view", 9)]  # fmt: skip
    shop = opened(tmp_path, [*LOOKED, *again], f'[behaviour]\nsplit = "{split}"\n')
    data = behaviour(shop).data
    assert not check_leakage(data).found
    asked = {
        (data.users.id(int(user)), data.items.id(int(item)))
        for part in ("validation", "test")
        for user, item in zip(data.truth(part).users, data.truth(part).items, strict=True)
    }
    assert not asked & {("ann", "p1"), ("bob", "p3")}


def test_a_sync_says_which_settings_of_the_shop_it_does_not_bring(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    published(opened(tmp_path, LOOKED), "popularity")
    (tmp_path / "shop.toml").write_text(
        '[behaviour]\nhas = ["view"]\nvalidation = 0.2\n[funnel]\nenough = 2\n', encoding="utf-8"
    )
    synced(Shop(tmp_path))
    assert "[behaviour] has, [funnel] enough changed in shop.toml" in caplog.text
    assert "`etalage publish` takes the new ones" in caplog.text
    caplog.clear()
    Shop(tmp_path).publish(force=True)
    Shop(tmp_path).sync()
    assert "changed in shop.toml" not in caplog.text


def test_plain_kinds_and_liked_ratings_are_told_nothing(tmp_path: Path) -> None:
    rows = [*LOOKED, ("v1", "p1", "cart", 3), ("v1", "p1", "buy", 4)]
    assert describe_facts(behaviour(opened(tmp_path, rows)).data.facts) == []


def test_what_is_not_counted_is_told_by_reason_with_its_counts(tmp_path: Path) -> None:
    rows = [
        *LOOKED, ("v1", "p1", "view_item_list", 3), ("v2", "p1", "search", 3), ("v2", "p2", "search", 3),
        ("v1", "p1", "vote", 3), ("v0", "p9", "view", 3),
    ]  # fmt: skip
    toml = "[behaviour]\nmin_item = 2\npositive_from = 4\n"
    lines = describe_facts(behaviour(opened(tmp_path, rows, toml)).data.facts)
    assert any("kinds: view (37), search (2), view_item_list (1), vote (1)" in line for line in lines)
    assert any("not counted: search (2), view_item_list (1): being shown, or a" in line for line in lines)
    assert any("vote (1)" in line and "not known by name" in line for line in lines)


def test_a_threshold_that_measures_nothing_is_told(tmp_path: Path) -> None:
    shop = opened(tmp_path, LOOKED, "[behaviour]\npositive_from = 4\nmin_user = 2\n")
    act(shop, [("solo", "p1", "view", 1)])
    lines = describe_facts(behaviour(shop).data.facts)
    assert any("no interaction is of a kind that is one (kinds: view)" in line for line in lines)
    assert any("1 interactions of users or items with fewer than" in line for line in lines)
