"""One rule for what an act means."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.config import BehaviourConfig, FunnelConfig
from etalage.features.history import BehaviourRule
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
        ("wish", "other"),
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
    assert some.negative("dislike", None) and some.negative("wish", 3.0) and not some.negative("cart", None)


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
    assert some.lasts(kinds).tolist() == [some.lasting(k) for k, _ in acts]
    np.testing.assert_array_equal(
        some.weighed(pa.chunked_array([kinds]), pa.chunked_array([values])), expected
    )


@given(RULES, KINDS, VALUES)
def test_what_keeps_an_item_off_is_of_a_kind_that_lasts(
    some: BehaviourRule, kind: str | None, value: float | None
) -> None:
    assert some.lasting(kind) or not some.keeps_off(kind, value)
    assert not (some.positive(kind, value) and some.negative(kind, value))
