"""One rule for what an act means."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.config import BehaviourConfig, FunnelConfig
from etalage.features.history import BehaviourRule
from etalage.features.interaction_tables import purchases
from etalage.features.taken_back import overruled
from etalage.kinds import KNOWN_KINDS, known_meaning, plain_kind


def rule(behaviour: dict[str, object] | None = None, **funnel: object) -> BehaviourRule:
    return BehaviourRule(BehaviourConfig(**(behaviour or {})), FunnelConfig(**funnel))


@pytest.mark.parametrize(
    ("kind", "meaning"),
    [
        ("buy", "has"),
        ("Buy", "has"),
        ("purchase", "has"),
        ("Purchase Completed", "has"),
        ("transaction", "has"),
        ("ORDER", "has"),
        ("AddToCart", "cart"),
        ("add-to-cart", "cart"),
        ("view_item", "view"),
        ("ViewContent", "view"),
        ("Rating", "rating"),
        ("thumbs_down", "negative"),
        ("removeFromCart", "undone"),
        ("wish", "like"),
        ("Product Added to Wishlist", "like"),
        ("Thumbs Up", "like"),
        ("Completed Order", "has"),
        ("orders/paid", "has"),
        ("in_app_purchase", "has"),
        ("Kauf", "has"),
        ("Bestellung", "has"),
        ("checkout_success", "has"),
        ("Product Added", "cart"),
        ("Order Cancelled", "undone"),
        ("Refunded Order", "undone"),
        ("Product Removed from Cart", "undone"),
        ("Product Removed", "undone"),
        ("unfavorite", "undone"),
        ("Product Impression", "shown"),
        ("view_item_list", "shown"),
        ("Products Searched", "shown"),
        ("hide_product", "negative"),
        ("negative_feedback", "negative"),
        ("Product Rated", "rating"),
        ("Viewed Product", "view"),
        ("view_cart", "view"),
        ("order_viewed", "other"),
        ("purchase_intent", "other"),
        ("checkout_step_completed", "other"),
        ("cart_abandoned", "other"),
        ("return_visit", "other"),
        ("play", "other"),
        ("4", "other"),
        ("", "other"),
    ],
)
def test_common_names_are_known_however_they_are_written(kind: str, meaning: str) -> None:
    assert known_meaning(kind) == meaning


def test_every_known_name_is_written_as_names_are_compared() -> None:
    assert [kind for kind in KNOWN_KINDS if plain_kind(kind) != kind] == []


def test_a_weight_says_how_much_and_a_kind_without_one_does_not_count() -> None:
    some = rule({"weights": {"view": 1, "buy": 10, "dislike": -1, "wish": 0}})
    assert [some.weight(kind) for kind in ("view", "buy", "dislike", "wish", "cart")] == [1, 10, -1, 0, 0]
    assert not some.counts("cart")
    assert some.negative("dislike", None) and not some.negative("cart", None)


def test_a_weight_of_0_counts_not_at_all_and_is_no_dislike() -> None:
    some = rule({"weights": {"buy": 1, "wish": 0, "dislike": 0}})
    assert not some.counts("wish") and some.weighs_nothing("wish") and not some.weighs_nothing("view")
    assert not some.keeps_off("wish", 3.0) and not some.keeps_off("dislike", None)


def test_a_dislike_is_one_also_where_weights_does_not_name_it() -> None:
    some = rule({"weights": {"view": 1, "buy": 5}})
    assert some.keeps_off("dislike", None) and some.keeps_off("Not Interested", None)
    assert some.weight("dislike") == -1 and some.weight("cart") == 0


def test_without_weights_every_kind_counts_one_but_those_that_are_negative_by_name() -> None:
    plain = rule()
    assert [plain.weight(kind) for kind in ("view", "wish", None, "dislike", "remove_from_cart")] == [
        1, 1, 1, -1, 0,
    ]  # fmt: skip
    assert plain.negative("dislike", None)
    assert not plain.counts("remove_from_cart")


def test_a_threshold_of_stars_is_no_threshold_of_quantities() -> None:
    stars = rule({"positive_from": 4})
    assert stars.positive("buy", 1.0) and stars.positive("cart", 2.0) and stars.positive("view", 0.5)
    assert not stars.positive("rating", 3.0) and stars.positive("rating", 4.0)
    assert stars.positive("rating", None)
    by_kind = rule({"positive_from": {"buy": 2}})
    assert not by_kind.positive("buy", 1.0) and by_kind.positive("rating", 1.0)


def test_what_is_had_or_not_wanted_is_kept_off() -> None:
    plain = rule()
    assert plain.keeps_off("order", None) and not plain.keeps_off("view", None)
    assert plain.keeps_off("dislike", None)
    assert rule({"has": ["wish"]}).keeps_off("wish", None)
    assert rule({"targets": ["cart"]}).keeps_off("cart", None)
    assert rule(seen="drop_all").keeps_off("view", None)
    assert not rule({"repeat": True}).keeps_off("buy", None)
    assert rule({"repeat": True}).keeps_off("dislike", None)
    assert not rule(seen="keep").keeps_off("buy", None)


def test_drop_all_drops_no_kind_that_a_slate_passes_over() -> None:
    some = rule({"weights": {"buy": 2}}, seen="drop_all")
    assert some.keeps_off("buy", None) and some.keeps_off("view", None) and some.keeps_off(None, None)
    assert not some.keeps_off("zork", None) and rule(seen="drop_all").keeps_off("zork", None)


@pytest.mark.parametrize("with_ids", [True, False])
def test_which_of_two_purchases_of_one_time_was_returned_is_told_by_no_order_of_rows(with_ids: bool) -> None:
    """By their ids; without them by what they say."""
    acts = pa.table(
        {
            "interaction_id": ["1", "2", "3"],
            "user_id": ["ann"] * 3,
            "item_id": ["pear"] * 3,
            "kind": ["buy", "buy", "refund"],
            "value": [9.0, 4.0, 9.0],
            "time": pa.array([1, 1, 2], pa.timestamp("us", tz="UTC")),
        }
    )
    acts = acts if with_ids else acts.drop_columns("interaction_id")
    left = {
        tuple(purchases(acts.take(list(order)), rule())["value"].to_pylist())
        for order in itertools.permutations(range(3))
    }
    assert left == {(9.0,)} if with_ids else left == {(4.0,)}


def test_purchases_are_what_was_bought_and_not_returned() -> None:
    rows = [("pear", "buy", 2.0), ("pear", "refund", 2.0), ("fig", "Order", 3.0), ("fig", "order", -3.0),
            ("pear", "Took", 4.0), ("fig", "view", None), ("fig", "rating", 5.0), ("nut", None, 1.0),
            ("nut", "purchase", None)]  # fmt: skip
    items, kinds, values = zip(*rows, strict=True)
    acts = pa.table(
        {
            "user_id": ["ann"] * len(rows),
            "item_id": list(items),
            "kind": list(kinds),
            "value": pa.array(values, pa.float64()),
            "time": pa.array(range(len(rows)), pa.timestamp("us", tz="UTC")),
        }
    )
    found = purchases(acts, rule({"has": ["took"]}))
    assert list(zip(*(found[name].to_pylist() for name in ("item_id", "value")), strict=True)) == [
        ("pear", 4.0),
        ("nut", None),
    ]


KINDS = st.sampled_from([None, "", "view", "Buy", "cart", "rating", "dislike", "refund", "wish", "play"])
VALUES = st.one_of(st.none(), st.floats(-5, 10))
RULES = st.builds(
    rule,
    st.fixed_dictionaries(
        {},
        optional={
            "weights": st.dictionaries(
                st.sampled_from(["view", "Buy", "rating", "dislike"]), st.floats(-2, 9)
            ),
            "positive_from": st.one_of(st.floats(0, 5), st.just({"rating": 4.0, "play": 2.0})),
            "has": st.just(("wish",)),
            "repeat": st.booleans(),
        },
    ),
    seen=st.sampled_from(["drop_bought", "drop_all", "keep"]),
)


@given(RULES, st.lists(st.tuples(KINDS, VALUES), max_size=20))
def test_many_acts_at_once_mean_what_each_of_them_means(
    some: BehaviourRule, acts: list[tuple[str | None, float | None]]
) -> None:
    kinds = pa.array([kind for kind, _ in acts], pa.string())
    values = pa.array([value for _, value in acts], pa.float64())
    expected = [some.weight(k) if some.positive(k, v) else 0.0 for k, v in acts]
    assert some.weighed(kinds, values).tolist() == expected
    lasts = some.lasts(kinds, values).tolist()
    assert all(some.lasting(k) for (k, _), last in zip(acts, lasts, strict=True) if last)
    assert all(last for (k, v), last in zip(acts, lasts, strict=True) if some.keeps_off(k, v))
    np.testing.assert_array_equal(
        some.weighed(pa.chunked_array([kinds]), pa.chunked_array([values])), expected
    )


@given(RULES, KINDS, VALUES)
def test_what_keeps_an_item_off_is_of_a_kind_that_lasts(
    some: BehaviourRule, kind: str | None, value: float | None
) -> None:
    assert some.lasting(kind) or not some.keeps_off(kind, value)
    assert not (some.positive(kind, value) and some.negative(kind, value))


def test_what_behaviour_names_may_be_written_otherwise_in_the_acts() -> None:
    some = rule(
        {"weights": {"add_to_cart": 3, "Buy": 10, "buy": 5}, "has": ["picked up"], "targets": ["buy"]}
    )
    assert [some.weight(kind) for kind in ("AddToCart", "Add To Cart", "BUY", "buy", "Buy")] == [
        3,
        3,
        10,
        5,
        10,
    ]
    assert some.has("PickedUp") and some.has("picked_up")
    assert rule({"positive_from": {"Rating": 4}}).threshold("rating") == 4


def test_a_value_below_nothing_is_a_dislike_in_votes_and_a_return_in_books_of_sales() -> None:
    plain = rule()
    assert plain.negative("vote", -1.0) and plain.positive("vote", 1.0) and plain.negative("rating", -3.0)
    assert (
        plain.negative("like", -1.0) and not plain.positive("like", 0.0) and not plain.negative("like", 0.0)
    )
    assert (
        not plain.positive("buy", -1.0) and not plain.negative("buy", -1.0) and plain.keeps_off("buy", -1.0)
    )
    by_stars = rule({"positive_from": {"vote": -2}})
    assert by_stars.positive("vote", -1.0) and by_stars.negative("vote", -3.0)


def test_a_kind_that_means_having_by_behaviour_has_quantities_as_values() -> None:
    some = rule({"has": ["picked"], "positive_from": 4})
    assert some.positive("picked", 1.0) and not some.positive("other", 1.0)


def stands(*acts: tuple[str, float | None], some: BehaviourRule | None = None) -> list[bool]:
    """Whether each act, of one shopper on one item, in the order of time, stands."""
    kinds = [kind for kind, _ in acts]
    values = np.array([np.nan if value is None else value for _, value in acts])
    codes = np.arange(len(acts))
    return (some or rule()).stands(kinds, codes, values, codes, np.zeros(len(acts), np.int64)).tolist()


def test_a_refund_takes_back_the_newest_purchase_before_it() -> None:
    buy, refund = ("buy", None), ("refund", None)
    assert stands(buy, refund) == [False, True]
    assert stands(refund, buy) == [True, True]
    assert stands(buy, buy, refund) == [True, False, True]
    assert stands(buy, refund, refund, buy) == [False, True, True, True]
    assert stands(buy, buy, refund, refund) == [False, False, True, True]
    assert stands(("view", None), ("cart", None), refund) == [True, True, True]


def test_a_refund_of_less_than_was_bought_takes_nothing_back() -> None:
    assert stands(("buy", 2.0), ("refund", 1.0)) == [True, True]
    assert stands(("buy", 2.0), ("refund", 2.0)) == [False, True]
    assert stands(("buy", 2.0), ("buy", -2.0)) == [False, True]
    assert stands(("buy", None), ("refund", 1.0)) == [False, True]


def test_what_is_removed_or_unliked_takes_back_a_cart_or_a_like_alone() -> None:
    acts = [("buy", None), ("cart", None), ("like", None)]
    assert stands(*acts, ("remove_from_cart", None))[:3] == [True, False, True]
    assert stands(*acts, ("unlike", None))[:3] == [True, True, False]
    assert stands(*acts, ("Product Removed", None))[:3] == [True, False, False]
    assert stands(*acts, ("return", None))[:3] == [False, True, True]


def test_of_likes_and_ratings_the_last_one_holds() -> None:
    stars = rule({"positive_from": 4})
    good, bad = ("rating", 5.0), ("rating", 1.0)
    assert stands(good, bad, some=stars) == [False, True]
    assert stands(bad, good, some=stars) == [True, True]
    assert stands(good, ("rating", 4.0), some=stars) == [True, True]
    assert stands(("like", None), ("dislike", None)) == [False, True]
    assert stands(("like", None), ("like", None), ("unlike", None)) == [False, False, True]
    assert stands(("like", None), ("like", None), ("like", 0.0)) == [False, False, True]
    assert stands(("buy", None), ("view", None), ("dislike", None)) == [True, True, True]


def test_a_like_without_a_time_hides_no_later_one() -> None:
    never = np.iinfo(np.int64).min
    negative, opinion = np.array([True, False, False]), np.array([False, True, True])
    times = np.array([5, never, 9])
    assert overruled(np.zeros(3, np.int64), times, negative, opinion).tolist() == [True, False, False]


def test_a_kind_that_weights_name_takes_nothing_back() -> None:
    some = rule({"weights": {"buy": 2, "refund": -1}})
    assert stands(("buy", None), ("refund", None), some=some) == [True, True]


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(0, 5)), max_size=30))
def test_what_was_taken_back_is_found_as_one_by_one(acts: list[tuple[int, bool, int]]) -> None:
    kinds, codes = ["buy", "refund"], np.array([int(taking) for _, taking, _ in acts], np.int64)
    pairs = np.array([pair for pair, _, _ in acts], np.int64)
    times = np.array([time for _, _, time in acts], np.int64)
    expected = np.ones(len(acts), bool)
    bought: dict[int, list[int]] = {}
    for n in sorted(range(len(acts)), key=lambda n: (times[n], codes[n])):
        mine = bought.setdefault(int(pairs[n]), [])
        if codes[n] == 0:
            mine.append(n)
        elif mine:
            expected[mine.pop()] = False
    values = np.full(len(acts), np.nan)
    np.testing.assert_array_equal(rule().stands(kinds, codes, values, times, pairs), expected)


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("-+ "), st.integers(0, 5)), max_size=30))
def test_a_dislike_is_overruled_by_a_later_like_of_the_same(acts: list[tuple[int, str, int]]) -> None:
    pairs, said, times = (list(column) for column in zip(*acts, strict=True)) if acts else ([], [], [])
    negative = np.array([one == "-" for one in said], bool)
    opinion = np.array([one == "+" for one in said], bool)
    expected = [
        one == "-" and any(p == pair and s == "+" and t > time for p, s, t in acts)
        for pair, one, time in acts
    ]
    found = overruled(np.array(pairs, np.int64), np.array(times, np.int64), negative, opinion)
    assert found.tolist() == expected
