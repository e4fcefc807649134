"""Item neighbours: by hand, in blocks, and by what follows what."""

import numpy as np
import pytest

from etalage.errors import TooLittleData
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.vocabulary import Vocabulary
from etalage.models import item_knn
from etalage.models.item_knn import RECIPE, ItemKnnConfig


def shop(baskets: list[list[int]], items: int = 4, values: list[float] | None = None) -> BehaviourSet:
    """One user a basket, items in order of time."""
    users = np.concatenate([np.full(len(basket), row) for row, basket in enumerate(baskets, start=1)])
    order = np.concatenate([np.arange(len(basket)) for basket in baskets])
    flat = np.array([item for basket in baskets for item in basket])
    given = None if values is None else np.array(values)
    acts = Interactions.sorted(users, flat, None, given, order)
    names = [f"i{n:03d}" for n in range(items)]
    return BehaviourSet(
        Vocabulary([f"u{n}" for n in range(len(baskets))]), Vocabulary(names), (), {"train": acts}
    )


def dense(data: BehaviourSet, **settings: object) -> np.ndarray:
    """(N + 1, N + 1) weights, row = item of the history."""
    arrays = RECIPE.bind(ItemKnnConfig(**settings), data).count().arrays
    count = len(data.items)
    assert arrays["indptr"].dtype == np.int64 and len(arrays["indptr"]) == count + 1
    assert arrays["indices"].dtype == np.int32 and arrays["weights"].dtype == np.float32
    found = np.zeros((count, count))
    rows = np.repeat(np.arange(count), np.diff(arrays["indptr"]))
    found[rows, arrays["indices"]] = arrays["weights"]
    return found


BASKETS = [[1, 2], [1, 2, 3], [1, 3], [1], [4]]


def test_cosine_by_hand() -> None:
    found = dense(shop(BASKETS), similarity="cosine", shrink=0)
    wanted = np.zeros((5, 5))
    wanted[1, 2] = wanted[2, 1] = 2 / np.sqrt(4 * 2)  # items 1 and 2 share two of 4 and 2 users
    wanted[1, 3] = wanted[3, 1] = 2 / np.sqrt(4 * 2)
    wanted[2, 3] = wanted[3, 2] = 1 / np.sqrt(2 * 2)
    assert np.allclose(found, wanted)


def test_shrink_takes_from_little_evidence_most() -> None:
    found = dense(shop(BASKETS), similarity="cosine", shrink=2)
    assert np.isclose(found[2, 3], 1 / (2 + 2))
    assert np.isclose(found[1, 2], 2 / (np.sqrt(8) + 2))


def test_tf_idf_by_hand() -> None:
    found = dense(shop(BASKETS), similarity="tf_idf", shrink=0)
    two, three, one = (np.log(1 + 4 / n) for n in (2, 3, 1))  # 4 items; users of 2, 3 and 1 of them
    first = two**2 + three**2 + two**2 + one**2  # users 1, 2, 3, 4
    second = two**2 + three**2  # users 1, 2
    assert np.isclose(found[1, 2], (two**2 + three**2) / np.sqrt(first * second))
    assert np.isclose(found[2, 3], three**2 / np.sqrt(second * (three**2 + two**2)))


def test_bm25_by_hand() -> None:
    k1, b = 1.5, 0.6
    found = dense(shop(BASKETS), similarity="bm25", shrink=0, k1=k1, b=b)
    idf = {n: np.log(1 + (4 - n + 0.5) / (n + 0.5)) for n in (1, 2, 3)}
    mean = 9 / 4  # acts an item

    def strength(users: int) -> float:
        return (k1 + 1) / (1 + k1 * (1 - b + b * users / mean))

    one = strength(4) * np.array([idf[2], idf[3], idf[2], idf[1]])
    two = strength(2) * np.array([idf[2], idf[3], 0, 0])
    assert np.isclose(found[1, 2], one @ two / np.linalg.norm(one) / np.linalg.norm(two))


def test_how_strongly_a_user_acted_can_count() -> None:
    data = shop([[1, 2], [1, 3]], values=[0.0, 6.0, 0.0, 0.0])
    found = dense(data, similarity="cosine", shrink=0, strength="log_value")
    assert np.isclose(found[1, 2], 1 / np.sqrt(2))  # one user: their strength is the length of item 2
    assert np.isclose(found[2, 1], found[1, 2])
    first = dense(
        shop([[1, 2], [1, 3]], values=[6.0, 0.0, 0.0, 0.0]),
        similarity="cosine",
        shrink=0,
        strength="log_value",
    )
    strong = 1 + np.log(7)
    assert np.isclose(first[1, 2], strong / np.hypot(strong, 1))
    assert first[1, 2] > first[1, 3]


def test_a_rule_points_from_what_came_first_to_what_followed() -> None:
    found = dense(shop([[1, 2, 3], [1, 2]]), similarity="sequence", shrink=0, reach=2)
    wanted = np.zeros((5, 5))
    wanted[1, 2] = 2 / np.sqrt(2 * 2)
    wanted[2, 3] = 1 / np.sqrt(2 * 1)
    wanted[1, 3] = 0.5 / np.sqrt(2 * 1)  # two steps away
    assert np.allclose(found, wanted)


def test_a_rule_can_speak_backwards_and_reaches_only_so_far() -> None:
    found = dense(shop([[1, 2, 3], [1, 2]]), similarity="sequence", shrink=0, reach=1, backward=0.25)
    assert found[1, 3] == 0
    assert np.isclose(found[2, 1], 0.25 * found[1, 2])
    assert np.isclose(found[3, 2], 0.25 * found[2, 3])


def test_a_sequence_ends_with_its_user() -> None:
    found = dense(shop([[1, 2], [3, 4]]), similarity="sequence", shrink=0)
    assert found[2, 3] == found[1, 3] == 0 < found[3, 4]


@pytest.mark.parametrize("similarity", ["cosine", "tf_idf", "bm25", "sequence"])
def test_blocks_change_nothing(similarity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    data = shop([rng.integers(1, 31, rng.integers(1, 9)).tolist() for _ in range(60)], items=30)
    changes = {"backward": 0.5} if similarity == "sequence" else {}
    whole = dense(data, similarity=similarity, **changes)
    monkeypatch.setattr(item_knn, "BLOCK_ENTRIES", 31 * 7)
    assert np.array_equal(dense(data, similarity=similarity, **changes), whole)
    assert not np.array_equal(whole, np.zeros_like(whole))


def test_only_the_nearest_neighbours_of_each_item_stay() -> None:
    rng = np.random.default_rng(1)
    data = shop([rng.integers(1, 31, rng.integers(1, 9)).tolist() for _ in range(60)], items=30)
    whole, few = dense(data, shrink=1.37), dense(data, shrink=1.37, neighbours=3)
    assert (few > 0).sum(axis=1).max() == 3
    for row in range(31):
        kept = few[row] > 0
        assert np.array_equal(few[row][kept], whole[row][kept])
        assert whole[row][~kept].max(initial=0) <= whole[row][kept].min(initial=np.inf)


def test_f49_without_two_items_of_one_user_it_refuses() -> None:
    for similarity in ("cosine", "tf_idf", "bm25", "sequence"):
        with pytest.raises(TooLittleData, match="no shopper acted on two different items"):
            dense(shop([[1, 1, 1], [2]]), similarity=similarity)


def test_decay_and_last_are_left_to_the_scoring() -> None:
    found = RECIPE.bind(ItemKnnConfig(decay=0.7, last=2), shop(BASKETS)).count()
    assert found.settings == {"decay": 0.7, "last": 2}
