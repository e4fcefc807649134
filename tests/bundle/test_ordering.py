"""Scores → slate, with small numbers that can be checked by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.config import OrderConfig
from etalage.funnel.ordering import Order, Traits, arranged, unit

SCORES = np.array([9.0, 8.0, 7.0, 6.0, 1.0], np.float32)


def traits(
    brands: list[int] | None = None,
    categories: list[int] | None = None,
    values: list[float] | None = None,
    embeddings: Any = None,
    count: int = 5,
    groups: list[int] | None = None,
) -> Traits:
    none = np.full(count, -1)
    return Traits(
        none if brands is None else np.array(brands),
        none if categories is None else np.array(categories),
        np.full(count, np.nan) if values is None else np.array(values),
        None if embeddings is None else np.array(embeddings, np.float32),
        None if groups is None else np.array(groups),
    )


def places(order: Order) -> list[int]:
    return [int(place) for place in order.places]


def test_without_wishes_the_slate_is_the_order_of_the_scores_and_ties_stay_as_they_came() -> None:
    scores = np.array([1.0, 3.0, 2.0, 3.0, 3.0], np.float32)
    assert places(arranged(scores, traits(), 4, OrderConfig())) == [1, 3, 4, 2]
    assert places(arranged(scores, traits(), 99, OrderConfig())) == [1, 3, 4, 2, 0]


def test_value_lifts_what_earns_more_and_an_unknown_value_is_worth_nothing() -> None:
    values = [0.0, 10.0, np.nan, 40.0, 40.0]
    # (unit score + 1 · unit value) / 2: [.5, .5625, .375, .8125, .5]
    order = arranged(SCORES, traits(values=values), 5, OrderConfig(value=1.0))
    assert places(order) == [3, 1, 0, 4, 2]
    np.testing.assert_allclose(order.scores[:2], [(5 / 8 + 1) / 2, (7 / 8 + 0.25) / 2], rtol=1e-5)


def test_no_brand_and_no_category_comes_more_often_than_its_cap() -> None:
    order = arranged(SCORES, traits(brands=[4, 4, 4, 2, -1]), 5, OrderConfig(per_brand=1))
    assert places(order) == [0, 3, 4]
    assert order.capped == {1: "1 of its brand stand above", 2: "1 of its brand stand above"}
    order = arranged(
        SCORES, traits([4, 4, 4, 2, 2], [0, 0, 1, 1, 1]), 5, OrderConfig(per_brand=2, per_category=2)
    )
    assert places(order) == [0, 1, 3, 4]


def test_of_the_variants_of_a_product_one_is_shown_unless_the_shop_wants_more() -> None:
    variants = traits(groups=[3, 3, -1, 3, -1])
    order = arranged(SCORES, variants, 5, OrderConfig())
    assert places(order) == [0, 2, 4]
    assert order.capped == {1: "1 of its item_group_id stand above", 3: "1 of its item_group_id stand above"}
    assert places(arranged(SCORES, variants, 5, OrderConfig(per_group=2))) == [0, 1, 2, 4]
    assert places(arranged(SCORES, variants, 5, OrderConfig(per_group=0))) == [0, 1, 2, 3, 4]


def test_what_is_not_known_is_never_capped() -> None:
    order = arranged(SCORES, traits(), 5, OrderConfig(per_brand=1, per_category=1, diversity=0.5))
    assert sorted(places(order)) == [0, 1, 2, 3, 4] and order.capped == {}


def test_diversity_puts_another_kind_of_item_between_alike_ones() -> None:
    assert places(arranged(SCORES, traits(categories=[1, 1, 1, 2, 2]), 3, OrderConfig(diversity=0.5))) == [
        0,
        3,
        1,
    ]
    alike = [[1, 0], [2, 0.1], [0, 3], [1, 0], [0, 1]]
    # Units: [1, .875, .75, .625, 0]; less the cosine to item 0: [-, .875 - .999, .75, …].
    assert places(arranged(SCORES, traits(embeddings=alike), 3, OrderConfig(diversity=0.5))) == [0, 2, 1]


def test_likeness_is_the_mean_of_what_is_known() -> None:
    embeddings = [[1, 0], [1, 0], [0, 0], [0, 1], [0, 0]]
    order = arranged(
        np.array([1.0, 0.9, 0.9, 0.9, 0.0], np.float32),
        traits(categories=[1, 2, 1, -1, 5], embeddings=embeddings),
        4,
        OrderConfig(),
        diversity=0.5,
    )
    # To item 0: item 1: cosine 1, other category: ½; item 2: same category: 1; item 3: cosine 0: 0.
    assert places(order) == [0, 3, 1, 4]  # item 4 (0 - 0) before item 2 (0.45 - 0.5)


def test_scores_come_to_a_scale_of_their_own() -> None:
    np.testing.assert_allclose(unit(np.array([-5.0, 0.0, 5.0, -np.inf, np.nan])), [0, 0.5, 1, 0, 0])
    np.testing.assert_allclose(unit(np.array([3.0, 3.0])), [1, 1])
    assert unit(np.array([np.nan])).tolist() == [0]


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 12).flatmap(
        lambda n: st.tuples(
            st.lists(st.integers(-9, 9), min_size=n, max_size=n),
            st.lists(st.integers(-1, 2), min_size=n, max_size=n),
            st.lists(st.integers(-1, 3), min_size=n, max_size=n),
        )
    ),
    st.integers(1, 14),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, 1, 3]),
    st.sampled_from([0.0, 0.4, 1.0]),
)
def test_a_slate_holds_each_candidate_once_keeps_the_caps_and_is_no_shorter_than_it_must_be(
    made: tuple[list[int], list[int], list[int]],
    k: int,
    per_brand: int | None,
    per_category: int | None,
    diversity: float,
) -> None:
    scores, brands, categories = made
    about = traits(brands, categories, count=len(scores))
    config = OrderConfig(per_brand=per_brand, per_category=per_category, diversity=diversity)
    order = arranged(np.array(scores, np.float32), about, k, config)
    found = places(order)
    assert len(found) == len(set(found)) == len(order.scores) <= k
    for codes, cap in ((brands, per_brand), (categories, per_category)):
        counts = [sum(codes[place] == code for place in found) for code in set(codes) - {-1}]
        assert cap is None or max(counts, default=0) <= cap
    if len(found) < k:  # every other one would break a cap
        assert set(order.capped) == set(range(len(scores))) - set(found)
    if found and np.isfinite(scores).all() and diversity < 1:
        assert scores[found[0]] == max(scores)


@pytest.mark.parametrize("diversity", [0.0, 0.6])
def test_nothing_to_order_is_an_empty_slate(diversity: float) -> None:
    order = arranged(
        np.empty(0, np.float32), traits(count=0), 5, OrderConfig(diversity=diversity, per_brand=1)
    )
    assert places(order) == [] and len(order.scores) == 0
