"""The funnel of a whole bundle: who speaks for whom, what is never shown, and that k come back."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.bundle.draft import DraftedModel
from etalage.bundle.parts import Parts, open_parts
from etalage.config import BehaviourConfig, FunnelConfig, OrderConfig
from etalage.features.history import BehaviourRule
from etalage.funnel.shoppers import Shopper
from etalage.online import Act
from etalage.recommend import Filters, Recommender
from tests.behaviour_exports import ranker_export
from tests.shops import BRANDS, CATEGORIES, behaviour_shop, item_row

ITEMS = 40
Make = Callable[..., Recommender]


def name(number: int) -> str:
    return f"item-{number:05d}"


def acts(*numbers: int, kind: str = "view") -> list[Act]:
    return [Act(name(n), kind) for n in numbers]


def numbers(recommended: Any) -> list[int]:
    return [int(slot.item_id.removeprefix("item-")) for slot in recommended.slate]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Opens a shop with these options; the same one again for the same options."""
    made: dict[str, Recommender] = {}

    def make_it(**options: Any) -> Recommender:
        key = repr(sorted(options.items(), key=str))
        if key not in made:
            _, bundles, manifest = behaviour_shop(tmp_path_factory.mktemp("shop"), ITEMS, **options)
            made[key] = Recommender.open(bundles.path(manifest.id))
        return made[key]

    return make_it


def test_the_ladder_is_climbed_as_more_is_known(make: Make) -> None:
    shop = make(photos=True)
    assert shop.recommend(k=4).rung == "popular"
    assert shop.recommend(history=acts(3), k=4).rung == "collaborative"
    assert shop.recommend(history=acts(3, 4), k=4).rung == "collaborative"
    assert shop.recommend(history=acts(3, 4, 8), k=4).rung == "deep"
    assert not shop.recommend(user_id="never seen", k=4).known
    assert shop.recommend(history=acts(3), k=4).known
    assert [s.rank for s in shop.recommend(k=4).slate] == [1, 2, 3, 4]


def test_an_item_that_no_model_knows_leads_to_what_looks_like_it(make: Make) -> None:
    shop = make(photos=True, models=("popularity",))
    found = shop.recommend(history=acts(6), k=4, filters=Filters(exclude=(name(6),)))
    (alike,) = shop.similar(item_id=name(6), k=4, filters=Filters(in_stock=True))
    assert found.rung == "photo"
    assert [slot.item_id for slot in found.slate] == [slot.item_id for slot in alike.slate]


def test_without_photos_an_unknown_item_leads_to_what_is_popular(make: Make) -> None:
    assert make(models=("popularity",)).recommend(history=acts(6), k=4).rung == "popular"


def test_few_acts_are_answered_by_a_deep_model_where_nobody_else_knows_more(make: Make) -> None:
    assert make(models=("two_tower", "popularity")).recommend(history=acts(6), k=4).rung == "deep"


def test_neighbours_are_recommended_by_their_weight(make: Make) -> None:
    shop = make(models=("item_knn", "popularity"))
    assert numbers(shop.recommend(history=acts(11, kind="buy"), k=3)) == [12, 13, 18]
    # 2 → 3, 4, 9 and 3 → 4, 5 (out of stock), 10 (out of stock): 4 is spoken for twice, 3 was bought.
    assert numbers(shop.recommend(history=acts(2, 3, kind="buy"), k=2)) == [4, 9]


def test_a_stranger_gets_what_is_popular_but_not_all_of_one_kind(make: Make) -> None:
    shop = make()
    slate = numbers(shop.recommend(k=6))
    assert slate[0] == 39  # the most popular one in stock
    assert len({n % len(CATEGORIES) for n in slate[:3]}) == 3
    assert min(slate) >= 25


def test_what_was_bought_is_not_shown_again_and_what_was_looked_at_may_be(make: Make) -> None:
    shop = make(models=("item_knn", "popularity"))
    bought = [*acts(11), *acts(12, kind="buy")]
    assert 12 not in numbers(shop.recommend(history=bought, k=30))
    assert numbers(shop.recommend(history=acts(12, 11), k=2)) == [13, 12]


@pytest.mark.parametrize(
    ("seen", "repeat", "out"),
    [("drop_all", False, {11, 12}), ("keep", False, set()), ("drop_bought", True, set())],
)
def test_the_shop_says_what_is_not_shown_again(make: Make, seen: str, repeat: bool, out: set[int]) -> None:
    shop = make(
        models=("item_knn", "popularity"),
        funnel=FunnelConfig(seen=seen),  # type: ignore[arg-type]
        behaviour=BehaviourConfig(repeat=repeat),
    )
    found = numbers(shop.recommend(history=[*acts(11), *acts(12, kind="buy")], k=40))
    assert {11, 12} - set(found) == out


def test_negatives_and_kinds_that_do_not_count_say_nothing_for_an_item() -> None:
    rules = BehaviourRule(BehaviourConfig(weights={"rating": 1.0, "view": 0.0}, positive_from=3.5))
    assert [
        rules.positive(k, v) for k, v in (("rating", 3.5), ("rating", 1), ("rating", None), ("view", 5))
    ] == [
        True,
        False,
        True,
        False,
    ]
    assert rules.has("rating") and not rules.has("view")


FILTERS: dict[str, tuple[Filters, Callable[[int], bool]]] = {
    "category": (Filters(category="Clothing"), lambda n: n % 4 in (0, 1)),
    "brand": (Filters(brand=BRANDS[1]), lambda n: n % 3 == 1),
    "attributes": (Filters(attributes={"split": "train"}), lambda n: True),
    "other attributes": (Filters(attributes={"split": "test"}), lambda n: False),
    "price": (Filters(min_price=20.0, max_price=40.0), lambda n: 20 <= 5 + n * 1.25 <= 40),
    "exclude": (Filters(exclude=(name(39), name(7), "unknown")), lambda n: n not in (39, 7)),
    "all": (
        Filters("Bags", 10.0, 50.0, None, BRANDS[0]),
        lambda n: n % 4 == 3 and n % 3 == 0 and 4 <= n <= 36,
    ),
}


@settings(max_examples=120, deadline=None)
@given(
    history=st.lists(st.tuples(st.integers(0, ITEMS + 3), st.sampled_from(["view", "buy"])), max_size=6),
    k=st.integers(1, ITEMS + 5),
    which=st.sampled_from(sorted(FILTERS)),
    in_stock=st.sampled_from([None, True, False]),
    options=st.sampled_from(
        [
            {},
            {"photos": True},
            {"models": ("popularity",)},
            {"models": ("item_knn",), "funnel": FunnelConfig(retrievers={"item_knn": 3}, seen="drop_all")},
            {"funnel": FunnelConfig(in_stock=False, order=OrderConfig(diversity=0.5, value=0.5))},
        ]
    ),
)
def test_k_come_back_wherever_k_may_be_shown_and_nothing_else_is_ever_shown(
    make: Make,
    history: list[tuple[int, str]],
    k: int,
    which: str,
    in_stock: bool | None,
    options: dict[str, Any],
) -> None:
    shop = make(**options)
    filters, passes = FILTERS[which]
    filters = Filters(**{**filters.__dict__, "in_stock": in_stock})
    asked = [Act(name(n), kind) for n, kind in history]
    rules = shop.funnel.rules.funnel
    stocked = True if in_stock is None and rules.in_stock else in_stock
    had = {n for n, kind in history if kind == "buy" or rules.seen == "drop_all"}
    may = {
        n for n in range(ITEMS) if passes(n) and n not in had and (stocked is None or stocked == (n % 5 != 0))
    }
    found = shop.recommend(history=asked, k=k, filters=filters)
    slate = numbers(found)
    assert set(slate) <= may
    assert len(slate) == len(set(slate)) == min(k, len(may))
    assert (found.reason is None) == (len(slate) == k)
    again = shop.recommend(history=asked, k=k, filters=filters)
    assert [(s.item_id, s.score) for s in again.slate] == [(s.item_id, s.score) for s in found.slate]


def test_f37_filters_that_exclude_everything_give_an_empty_slate_with_the_reason(make: Make) -> None:
    found = make().recommend(history=acts(3, 4, 8), k=5, filters=Filters(category="Bags", max_price=6.0))
    assert found.slate == []
    assert found.reason == (
        "no item passes the filters: of 40 items in all, category 'Bags' leaves 10, max_price 6 leaves 1, "
        "not sold out leaves 32"
    )


def test_caps_hold_and_the_slate_is_filled_up_from_behind(make: Make) -> None:
    shop = make(
        models=("item_knn", "popularity"), funnel=FunnelConfig(order=OrderConfig(per_brand=2, per_category=2))
    )
    slate = numbers(shop.recommend(history=acts(11), k=6))
    assert len(slate) == 6
    assert max(Counter(n % 3 for n in slate).values()) <= 2
    assert max(Counter(n % 4 for n in slate).values()) <= 2
    found = shop.recommend(history=acts(11), k=9)
    assert len(found.slate) <= 6 and "caps" in (found.reason or "")


def test_business_value_moves_dear_items_up(make: Make) -> None:
    plain = make(models=("popularity", "item_knn"))
    dear = make(models=("popularity", "item_knn"), funnel=FunnelConfig(order=OrderConfig(value=3.0)))
    prices = [
        [slot.item["price"] for slot in shop.recommend(history=acts(2), k=3).slate] for shop in (plain, dear)
    ]
    assert sum(prices[1]) > sum(prices[0])


def test_a_trace_adds_up_and_every_item_has_its_reason(make: Make) -> None:
    found = make().recommend(history=[*acts(6), *acts(7, 8, kind="buy")], k=4, explain=True)
    stages = {stage["name"]: stage for stage in found.trace["stages"]}
    assert list(stages) == ["retrieve", "rank", "order"]
    assert stages["retrieve"]["in"] == ITEMS and stages["order"]["out"] == 4
    assert stages["retrieve"]["out"] == stages["rank"]["in"] == stages["order"]["in"]
    assert stages["order"]["in"] - stages["order"]["out"] == sum(stages["order"]["dropped"].values())
    dropped = {one["item_id"]: one["why"] for one in found.trace["dropped"]}
    assert dropped[name(7)] == dropped[name(8)] == "seen"
    assert dropped[name(10)] == "out of stock"
    assert Counter(dropped.values()) == stages["retrieve"]["dropped"]
    assert found.trace["retrievers"]["item_knn"]["found"] == 3  # 9, 13, 14; without 7, 8, 10, 15
    top = found.slate[0]
    assert top.item_id == name(9)
    assert top.why == "because you bought Piece 8"
    assert top.trace is not None and set(top.trace["retrievers"]) == {"two_tower", "item_knn", "popularity"}
    assert all(slot.why for slot in found.slate)
    assert make().recommend(history=acts(6), k=2).slate[0].why is None


def test_reasons_name_the_act_that_speaks_loudest(make: Make) -> None:
    shop = make(models=("item_knn", "popularity"))
    found = shop.recommend(history=[*acts(20, kind="buy"), *acts(2)], k=4, explain=True)
    reasons = {slot.item_id: slot.why for slot in found.slate}
    assert reasons[name(21)] == reasons[name(22)] == "because you bought Piece 20"
    assert reasons[name(3)] == reasons[name(4)] == "because you looked at Piece 2"
    popular = shop.recommend(history=acts(20), k=9, explain=True).slate[-1]
    assert popular.why == "popular right now"
    looks = make(photos=True, models=("popularity",)).recommend(history=acts(6), k=2, explain=True)
    assert {slot.why for slot in looks.slate} <= {"looks like Piece 6", "popular right now"}


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """user-1 likes high numbers, user-2 low ones; the ranker knows both."""
    table = np.zeros((3, ITEMS + 1), np.float32)
    table[1, 1:] = (np.arange(ITEMS) - 20) / 4
    table[2, 1:] = (20 - np.arange(ITEMS)) / 4
    folder = tmp_path_factory.mktemp("ranked")
    ids = [name(n) for n in range(ITEMS)]
    export = ranker_export(folder / "exports" / "neumf" / "0001-tiny", ids, ["user-1", "user-2"], table)
    passed = {"passed": True, "metric": "ndcg_at_10"}
    _, bundles, manifest = behaviour_shop(folder, ITEMS, extra=[DraftedModel(export, passed)])
    return Recommender.open(bundles.path(manifest.id))


def test_a_ranker_has_the_last_word_on_shoppers_it_knows(ranked: Recommender) -> None:
    def slate(user: str | None) -> list[int]:
        return numbers(ranked.recommend(user_id=user, history=acts(18, 19, 21), k=3))

    assert slate("user-1") == [39, 38, 37]
    assert slate("user-2") == [1, 2, 3]
    assert 20 < np.mean(slate(None)) < 30  # nobody in particular: by the retrievers


def test_pairs_get_the_probability_of_the_ranker_and_the_threshold(ranked: Recommender) -> None:
    pairs = [
        ("user-2", name(4)),
        ("user-1", name(4)),
        ("user-1", "unknown"),
        ("stranger", name(4)),
        ("user-1", name(24)),
    ]
    found = ranked.rank(pairs, threshold=0.7)
    assert [(one.row, one.user_id, one.item_id) for one in found] == [
        (n, *pair) for n, pair in enumerate(pairs)
    ]
    chance = 1 / (1 + np.exp(-4.0))
    assert found[0].probability == pytest.approx(chance, abs=1e-5)
    assert found[1].probability == pytest.approx(1 - chance, abs=1e-5)
    assert found[4].probability == pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-5)
    assert [one.liked for one in found] == [True, False, None, None, True]
    assert [one.known_user for one in found] == [True, True, True, False, True]
    assert [one.known_item for one in found] == [True, True, False, True, True]
    assert found[2].score == 0 and found[3].score == 5.0  # a stranger's: by popularity


def test_s3_14_the_list_of_liked_items_is_everything_above_the_threshold(ranked: Recommender) -> None:
    found = ranked.liked("user-1", k=50, threshold=0.95)
    assert [one.item_id for one in found] == [name(n) for n in range(39, 31, -1)]
    assert [one.row for one in found] == list(range(8))
    assert [one.item_id for one in ranked.liked("user-2", k=2)] == [name(0), name(1)]


def test_shoppers_are_found_for_an_item_and_beside_each_other(make: Make) -> None:
    shop = make()
    users = shop.users
    assert users.embeddings is not None and len(users.ids) == 7
    item = np.asarray(shop.funnel.models["two_tower"].item_embeddings[12 + 1])  # type: ignore[attr-defined]
    expected = sorted(
        ((float(users.embeddings[u] @ item), users.ids.id(u + 1)) for u in range(6)), reverse=True
    )[:3]
    found = shop.users_for_item(name(12), 3)
    assert [(near.user_id) for near in found] == [user for _, user in expected]
    np.testing.assert_allclose([near.score for near in found], [score for score, _ in expected], rtol=1e-5)
    like = shop.users_like("user-4", 3)
    assert "user-4" not in [near.user_id for near in like] and len(like) == 3
    unit = users.embeddings / np.linalg.norm(users.embeddings, axis=1, keepdims=True)
    row = users.ids.row("user-4") - 1
    assert like[0].score == pytest.approx(float(np.sort(unit @ unit[row])[-2]), abs=1e-5)


def test_the_crowds_embeddings_are_those_of_single_questions(make: Make) -> None:
    shop = make()
    model = shop.funnel.models["two_tower"]
    history = [Act(name(n), "buy") for n in range(15, 21)]  # as behaviour_shop has it for user-3
    shopper = Shopper.of(history, shop.catalogue, shop.funnel.rules, "user-3")
    assert shop.users.embeddings is not None
    alone = model.embed_queries(shopper.queries(model))[0]  # type: ignore[attr-defined]
    np.testing.assert_allclose(shop.users.embeddings[shop.users.ids.row("user-3") - 1], alone, atol=1e-5)


def test_by_behaviour_items_are_alike_that_point_the_same_way(make: Make) -> None:
    (answer,) = make().similar(item_id=name(12), k=2)
    assert answer.fallback == "by_behaviour" and answer.trace["retriever"] == "two_tower"
    assert {slot.item_id for slot in answer.slate} == {name(11), name(13)}
    assert answer.slate[0].score == pytest.approx(answer.slate[1].score, abs=1e-4)
    (none,) = make().similar(item_id=name(12), k=2, threshold=0.5)
    assert none.slate == [] and "no photo to compare" in (none.reason or "")


def test_parts_are_opened_one_by_one(tmp_path: Path) -> None:
    _, bundles, manifest = behaviour_shop(tmp_path, 12)
    parts = open_parts(bundles.path(manifest.id), manifest)
    assert isinstance(parts, Parts) and parts.photos is None
    assert [one.name for one in parts.models] == ["two_tower", "item_knn", "popularity"]
    assert item_row(3)["item_id"] in parts.catalogue.ids
