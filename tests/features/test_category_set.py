"""The catalogue as a classifier learns it: labels of every level, photos by item."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.features.category_set import CategorySet, mean_by_owner, shares
from etalage.lake.taxonomy import Taxonomy
from tests.category_sets import ragged

OWNERS = np.array([1, 1, 3, 4, 4, 4])


def items(**changes: Any) -> CategorySet:
    """Pears, Clothing, Fruit, Apples, none, Food, Milk; items 1, 3 and 4 have photos."""
    rows = [5, 2, 3, 0, -1, 1, 4]
    some = CategorySet(
        item_ids=[f"i{n}" for n in range(7)],
        taxonomy=ragged(),
        labels_N=np.array(rows),
        parts_N=np.array(["train", "test", "train", "validation", "train", "validation", "train"]),
        titles=["t", None, "", "u", None, None, "v"],
        owners_P=OWNERS,
        pixels_PHWC=np.arange(6 * 12, dtype=np.uint8).reshape(6, 2, 2, 3),
    )
    return replace(some, **changes)


def test_labels_are_places_among_the_leaves() -> None:
    assert items().leaf_N.tolist() == [3, 1, -1, 0, -1, -1, 2]


def test_labels_reach_every_level_as_far_as_they_are_known() -> None:
    """Levels: [Food, Clothing], [Clothing, Fruit, Milk], [Apples, Clothing, Milk, Pears]."""
    assert items().targets_ND.tolist() == [
        [0, 1, 3],
        [1, 0, 1],
        [0, 1, -1],
        [0, 1, 0],
        [-1, -1, -1],
        [0, -1, -1],
        [0, 2, 2],
    ]


@given(st.data())
def test_labels_by_level_are_what_the_taxonomy_says(data: st.DataObject) -> None:
    """On any tree, against a walk along each path."""
    count = data.draw(st.integers(1, 12))
    parents = [data.draw(st.integers(-1, n - 1)) for n in range(count)]
    order = data.draw(st.permutations(range(count)))
    place = {old: new for new, old in enumerate(order)}
    mixed = np.array([-1 if parents[old] < 0 else place[parents[old]] for old in order])
    tree = Taxonomy([f"c{n}" for n in range(count)], [f"n{n}" for n in range(count)], mixed)
    labels = np.arange(-1, count)
    some = items(
        taxonomy=tree,
        labels_N=labels,
        parts_N=np.full(count + 1, "train"),
        titles=[None] * (count + 1),
        owners_P=OWNERS[:0],
    )
    for item, label in enumerate(labels):
        steps = tree.steps(int(label))
        is_leaf = label in tree.leaves_L
        assert some.leaf_N[item] == (tree.leaves_L.tolist().index(label) if is_leaf else -1)
        for level in range(1, tree.depth + 1):
            rows = tree.at_level(level)[0].tolist()
            known = steps[min(level, len(steps)) - 1] if steps and (level <= len(steps) or is_leaf) else None
            assert some.targets_ND[item, level - 1] == (-1 if known is None else rows.index(known))


def test_rows_are_of_the_parts_and_have_a_label() -> None:
    assert items().rows("train").tolist() == [0, 2, 6]
    assert items().rows("train", "validation").tolist() == [0, 2, 3, 5, 6]
    assert items().rows("validation", leaf=True).tolist() == [3]
    assert items().rows("nothing").tolist() == []


def test_photos_are_found_by_item() -> None:
    assert items().has_photo_N.tolist() == [False, True, False, True, True, False, False]
    assert items().photos_of(np.array([4, 1])).tolist() == [0, 1, 3, 4, 5]
    assert items().photos_of(np.array([], dtype=np.int64)).tolist() == []
    assert len(items()) == 7


def test_ready_features_take_the_place_of_pixels() -> None:
    ready = items().with_features(np.ones((6, 4), np.float16))
    assert ready.pixels_PHWC is None and ready.features_PF.shape == (6, 4)
    assert ready.leaf_N.tolist() == items().leaf_N.tolist()


def test_whatever_is_learned_from_changes_the_fingerprint() -> None:
    pixels, titles = items().pixels_PHWC.copy(), list(items().titles)
    pixels[5, 1, 1, 2] ^= 1
    titles[6] = "w"
    other = Taxonomy(
        ragged().ids, ["Apples", "Food", "Clothes", "Fruit", "Milk", "Pears"], ragged().parents_N
    )
    found = [
        items().fingerprint(),
        items(pixels_PHWC=pixels).fingerprint(),
        items(titles=titles).fingerprint(),
        items(taxonomy=other).fingerprint(),
        items(labels_N=np.array([5, 2, 3, 0, -1, 1, 0])).fingerprint(),
        items(parts_N=np.full(7, "train")).fingerprint(),
        items(owners_P=np.array([1, 1, 3, 3, 4, 4])).fingerprint(),
        items(weak_N=np.arange(7) == 3).fingerprint(),
        items().with_features(np.ones((6, 4), np.float16)).fingerprint(),
    ]
    assert len(set(found)) == len(found)
    assert items().fingerprint() == found[0]


@given(st.lists(st.integers(0, 3), max_size=6), st.sampled_from([np.float16, np.float32]))
def test_the_mean_by_owner_is_the_mean_of_each_items_photos(counts: list[int], kind: type) -> None:
    owners = np.repeat(np.arange(len(counts)), counts)
    values = np.random.default_rng(len(owners)).normal(size=(len(owners), 3)).astype(kind)
    found = mean_by_owner(values, owners, len(counts))
    assert found.shape == (len(counts), 3) and found.dtype == np.float32
    for item, count in enumerate(counts):
        expected = values[owners == item].astype(np.float32).mean(0) if count else np.zeros(3)
        assert np.allclose(found[item], expected, atol=1e-6)


def test_means_of_half_floats_do_not_overflow() -> None:
    found = mean_by_owner(np.full((4, 1), 60000, np.float16), np.array([0, 0, 0, 0]), 1)
    assert found[0, 0] == pytest.approx(60000, rel=1e-3)


def test_shares_count_one_of_each_for_a_start() -> None:
    assert shares(np.array([2, 2, -1, 0]), 4).tolist() == pytest.approx([2 / 7, 1 / 7, 3 / 7, 1 / 7])
    assert shares(np.array([-1]), 2).tolist() == [0.5, 0.5]
