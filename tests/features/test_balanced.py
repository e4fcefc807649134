"""Balanced batches: classes and examples as asked, every row in every epoch, the same by the seed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.errors import TooLittleData
from etalage.features.balanced import BalancedBatches


def labels_of(sizes: list[int]) -> np.ndarray:
    labels = np.repeat(np.arange(len(sizes)) * 3, sizes)
    return np.random.default_rng(4).permutation(labels)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=9),
    classes=st.integers(2, 9),
    examples=st.integers(2, 7),
    epoch=st.integers(0, 5),
)
def test_every_epoch_covers_every_row_with_balanced_classes(
    sizes: list[int], classes: int, examples: int, epoch: int
) -> None:
    labels = labels_of(sizes)
    batches = BalancedBatches(labels, classes, examples, seed=11)
    plan = batches.epoch(epoch)
    assert plan.shape == (batches.steps, min(classes, len(sizes)) * examples)
    assert set(plan.ravel().tolist()) == set(range(len(labels)))
    for batch in plan:
        _, counts = np.unique(labels[batch], return_counts=True)
        assert (counts == examples).all()
        assert len(counts) == min(classes, len(sizes))


def test_a_plan_depends_on_seed_and_epoch_alone() -> None:
    labels = labels_of([30, 12, 25])
    first = BalancedBatches(labels, 2, 4, seed=5)
    again = BalancedBatches(labels, 2, 4, seed=5)
    again.epoch(9)
    assert np.array_equal(first.epoch(3), again.epoch(3))
    assert not np.array_equal(first.epoch(3), first.epoch(4))
    assert not np.array_equal(first.epoch(3), BalancedBatches(labels, 2, 4, seed=6).epoch(3))


def test_equal_classes_waste_nothing() -> None:
    batches = BalancedBatches(labels_of([40] * 5), 5, 8)
    assert batches.steps == 5
    assert sorted(batches.epoch(0).ravel().tolist()) == list(range(200))


def test_one_class_is_too_little() -> None:
    with pytest.raises(TooLittleData, match="1 class"):
        BalancedBatches(np.zeros(9, dtype=np.int64), 2, 3)
