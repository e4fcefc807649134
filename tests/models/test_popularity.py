"""Popularity: what is counted, and what age does to it."""

from dataclasses import replace

import numpy as np
import pytest

from etalage.errors import ConfigError, TooLittleData
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.vocabulary import Vocabulary
from etalage.models.popularity import DAY, RECIPE, PopularityConfig


def shop(
    users: list[int],
    items: list[int],
    *,
    kinds: list[int] | None = None,
    times: list[int] | None = None,
    labels: list[int] | None = None,
) -> BehaviourSet:
    acts = Interactions.sorted(
        np.array(users),
        np.array(items),
        None if kinds is None else np.array(kinds),
        None,
        None if times is None else np.array(times),
        None if labels is None else np.array(labels),
    )
    names = Vocabulary(["a", "b", "c", "d"])
    return BehaviourSet(Vocabulary(["u", "v", "w"]), names, ("view", "buy"), {"train": acts})


def scores(data: BehaviourSet, **settings: object) -> list[float]:
    found = RECIPE.bind(PopularityConfig(**settings), data).count()
    assert found.scoring == "prior"
    assert found.arrays["scores"].dtype == np.float32
    return found.arrays["scores"].tolist()


def test_each_shopper_counts_once_an_item_or_each_act_where_acts_are_counted() -> None:
    data = shop([1, 2, 3, 1, 1], [2, 2, 2, 4, 4])
    assert scores(data) == [0, 0, 3, 0, 1]
    assert scores(data, count="acts") == [0, 0, 3, 0, 2]


def test_a_shopper_counts_by_the_act_that_weighs_most() -> None:
    data = shop([1, 1, 2], [2, 2, 2], kinds=[1, 2, 1])
    assert scores(replace(data, weights=(1.0, 1.0, 10.0))) == [0, 0, 11, 0, 0]
    assert scores(replace(data, weights=(1.0, 1.0, 10.0)), count="acts") == [0, 0, 12, 0, 0]


def test_an_explicit_negative_does_not_count() -> None:
    assert scores(shop([1, 2, 3], [1, 1, 2], labels=[1, 0, 0])) == [0, 1, 0, 0, 0]


def test_kinds_have_weights_and_those_not_named_do_not_count() -> None:
    data = shop([1, 2, 3, 1], [1, 1, 2, 3], kinds=[1, 2, 2, 0])
    assert scores(data, kind_weights={"view": 0.5, "buy": 3}) == [0, 3.5, 3, 0, 0]
    assert scores(data, kind_weights={"buy": 3}) == [0, 3, 3, 0, 0]


def test_kind_weights_may_write_a_kind_otherwise() -> None:
    data = shop([1, 2], [1, 2], kinds=[1, 2])
    assert scores(data, kind_weights={"View": 2, "BUY": 3}) == [0, 2, 3, 0, 0]


def test_a_kind_that_does_not_exist_is_named_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="no kind 'bui'; did you mean 'buy'"):
        scores(shop([1], [1]), kind_weights={"bui": 1})
    with pytest.raises(ConfigError, match="from 0 on"):
        scores(shop([1], [1]), kind_weights={"buy": -1})


def test_a_window_counts_back_from_the_newest_act() -> None:
    data = shop([1, 2, 3], [1, 2, 3], times=[0, 8 * DAY, 10 * DAY])
    assert scores(data, window_days=2) == [0, 0, 1, 1, 0]


def test_after_a_half_life_an_act_counts_half() -> None:
    data = shop([1, 2, 3], [1, 2, 3], times=[0, 6 * DAY, 9 * DAY])
    assert np.allclose(scores(data, half_life_days=3), [0, 1 / 8, 1 / 2, 1, 0])


def test_an_act_without_a_time_is_older_than_all_others() -> None:
    never = np.iinfo(np.int64).min
    assert scores(shop([1, 2], [1, 2], times=[never, DAY]), half_life_days=3) == [0, 0, 1, 0, 0]
    with pytest.raises(TooLittleData, match="no interaction has a time"):
        scores(shop([1], [1]), window_days=3)
