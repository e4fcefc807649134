"""Questions of a part, and their slices: cold, rare, of a category, taken again."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from etalage.errors import TooLittleData
from etalage.evaluation.slices import ask, slices
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.encoder import Encoder
from tests.evaluation.fakes import named, shop


def small(**changes: object) -> BehaviourSet:
    """Items 1-2 are frequent in train, 3 is rare, 4 and 5 are new. User 3 has one act of history."""
    users = [1] * 5 + [2] * 4 + [4, 4, 4, 5, 5, 5, 3]
    items = [1, 2, 1, 2, 3, 1, 2, 1, 2, 1, 1, 2, 1, 2, 2, 2]
    parts = {
        "train": Interactions.sorted(np.array(users), np.array(items), times=np.arange(16)),
        "validation": Interactions.sorted(np.array([1, 2]), np.array([4, 3]), times=np.array([20, 21])),
        "test": Interactions.sorted(
            np.array([1, 1, 2, 3, 3, 2]),
            np.array([5, 4, 1, 4, 1, 4]),
            times=np.array([30, 31, 32, 33, 34, 35]),
        ),
    }
    data = BehaviourSet(named("u", 5), named("i", 5), (), parts, own_split=False)
    return dataclasses.replace(data, **changes)  # type: ignore[arg-type]


def test_what_a_shopper_had_is_not_asked_for() -> None:
    asked = ask(small(), "test", 100)
    assert [right.tolist() for right in asked.truth] == [[5], [4], [1, 4]]
    assert asked.queries.users.tolist() == [1, 2, 3]
    assert asked.dropped == 2  # 1 took 4 in validation, 2 took 1 in train
    assert np.diff(asked.queries.starts).tolist() == [6, 5, 1]
    assert asked.queries.items[-1] == 2


def test_where_shoppers_take_the_same_again_it_is_asked_for_and_told_apart() -> None:
    data = small(facts={"repeat": True})
    asked = ask(data, "test", 100)
    assert [right.tolist() for right in asked.truth] == [[4, 5], [1, 4], [1, 4]]
    found = slices(data, asked)
    assert asked.items[found["taken again"].right].tolist() == [4, 1]
    assert asked.items[found["taken anew"].right].tolist() == [5, 4, 1, 4]


def test_slices_by_what_train_knows() -> None:
    data = small()
    asked = ask(data, "test", 100)
    found = slices(data, asked)
    assert list(found) == ["all", "cold items", "cold items among all", "cold users"]
    assert asked.items[found["cold items"].right].tolist() == [5, 4, 4]
    assert found["cold items"].candidates is not None
    assert np.flatnonzero(found["cold items"].candidates).tolist() == [4, 5]
    assert found["cold items among all"].candidates is None
    assert found["cold users"].right.tolist() == [False, False, True, True]  # user 3, two right answers
    validation = ask(data, "validation", 100)
    assert validation.items[slices(data, validation)["rare items"].right].tolist() == [3]


def test_slices_by_the_first_step_of_the_category() -> None:
    paths = ["Shoes > Boot", "Hat", "Shoes", "Hat > Cap", None]
    table = pa.table({"category_id": pa.array(paths, pa.string())})
    encoder = Encoder.fit(table, min_count=1)
    data = small(item_encoder=encoder, item_features=encoder.encode(table).with_unknown())
    asked = ask(data, "test", 100)
    found = slices(data, asked)
    assert asked.items[found["category: Shoes"].right].tolist() == [1]
    assert asked.items[found["category: Hat"].right].tolist() == [4, 4]


def test_some_shoppers_are_drawn_with_their_own_histories_and_features() -> None:
    data, _ = shop()
    features = Encoder.fit(pa.table({"price": np.arange(260.0)})).encode(
        pa.table({"price": np.arange(260.0)})
    )
    data = dataclasses.replace(data, user_features=features.with_unknown())
    whole, some = ask(data, "test", 10_000), ask(data, "test", 40)
    assert len(some.truth) == 40 < len(whole.truth)
    assert [a.tolist() for a in some.truth] == [a.tolist() for a in ask(data, "test", 40).truth]
    assert ask(data, "test", 40, seed=1).queries.users.tolist() != some.queries.users.tolist()
    for number, user in enumerate(some.queries.users):
        there = int(np.flatnonzero(whole.queries.users == user)[0])
        assert some.truth[number].tolist() == whole.truth[there].tolist()
        mine, theirs = some.queries.block(number, number + 1), whole.queries.block(there, there + 1)
        assert mine.items.tolist() == theirs.items.tolist()
        assert mine.features.dense["price"].tolist() == theirs.features.dense["price"].tolist()


def test_nothing_to_ask_is_said_so() -> None:
    data = small()
    empty = data.with_parts(validation=Interactions.none())
    with pytest.raises(TooLittleData, match="anything new in validation"):
        ask(empty, "validation", 100)
    again = data.with_parts(validation=Interactions.sorted(np.array([1, 2]), np.array([1, 1])))
    with pytest.raises(TooLittleData, match="anything new"):
        ask(again, "validation", 100)


def test_a_hit_that_no_vocabulary_knows_stays_to_be_found() -> None:
    data = small().with_parts(test=Interactions.sorted(np.array([3, 3]), np.array([0, 4])))
    asked = ask(data, "test", 100)
    assert [right.tolist() for right in asked.truth] == [[0, 4]]
    assert not slices(data, asked)["cold items"].right[0]
