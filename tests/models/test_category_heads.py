"""Heads over a ragged tree, and the loss of all levels against one written out."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from etalage.lake.taxonomy import Taxonomy
from etalage.models.category_heads import (
    FlatHead,
    Joint,
    LevelHeads,
    Levels,
    Title,
    depth_weights,
    level_loss,
)
from tests.category_sets import ragged

WEIGHTS = (0.1, 0.3, 0.6)


def states(count: int = 5, width: int = 6) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(2))


def test_levels_part_the_leaves_of_a_ragged_tree() -> None:
    """Leaves in file order: Apples, Clothing, Milk, Pears."""
    levels = Levels.of(ragged())
    assert levels.sizes == (2, 3, 4) and levels.leaves == 4
    assert [places.tolist() for places in levels.places] == [[0, 1, 0, 0], [1, 0, 2, 1], [0, 1, 2, 3]]


def test_parents_of_the_flat_head_are_sums_of_their_leaves() -> None:
    torch.manual_seed(3)
    head = FlatHead(6, Levels.of(ragged()))
    food, fruit, leaves = (logits.exp().detach() for logits in head(states()))
    apples, clothing, milk, pears = leaves.unbind(1)
    assert torch.allclose(leaves.sum(1), torch.ones(5), atol=1e-6)
    assert torch.allclose(food, torch.stack([apples + milk + pears, clothing], 1), atol=1e-6)
    assert torch.allclose(fruit, torch.stack([clothing, apples + pears, milk], 1), atol=1e-6)
    assert torch.allclose(head.leaf_scores(states()), leaves.log(), atol=1e-5)


def test_a_flat_head_that_is_quite_sure_stays_finite() -> None:
    head = FlatHead(1, Levels.of(ragged()))
    with torch.no_grad():
        head.leaves.weight.copy_(torch.tensor([[500.0], [-500.0], [-500.0], [-500.0]]))
    logits = head(torch.ones(1, 1))
    loss = level_loss(logits, torch.tensor([[1, 0, 1]]), WEIGHTS)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(head.leaves.weight.grad).all()


def test_a_leaf_scores_the_weighed_sum_of_its_path() -> None:
    torch.manual_seed(3)
    heads = LevelHeads(6, Levels.of(ragged()), WEIGHTS)
    top, middle, leaves = (logits.log_softmax(1) for logits in heads(states()))
    pears = leaves[:, 3] + 0.3 / 0.6 * middle[:, 1] + 0.1 / 0.6 * top[:, 0]
    clothing = leaves[:, 1] + 0.3 / 0.6 * middle[:, 0] + 0.1 / 0.6 * top[:, 1]
    assert torch.allclose(heads.leaf_scores(states())[:, 3], pears, atol=1e-5)
    assert torch.allclose(heads.leaf_scores(states())[:, 1], clothing, atol=1e-5)
    with torch.no_grad():
        heads.heads[0].bias.copy_(torch.tensor([-9.0, 9.0]))
    assert set(heads.leaf_scores(states()).argmax(1).tolist()) == {1}, "the upper levels are not heard"


def test_a_tree_of_one_level_has_one_head() -> None:
    flat = Levels.of(Taxonomy(["a", "b"], ["A", "B"], np.array([-1, -1])))
    assert flat.sizes == (2,) and len(LevelHeads(4, flat, (1.0,))(states(3, 4))) == 1
    assert [one.shape for one in FlatHead(4, flat)(states(3, 4))] == [(3, 2)]


@pytest.mark.parametrize("depth", [1, 3, 7])
def test_each_level_weighs_twice_the_one_above(depth: int) -> None:
    weights = depth_weights(depth)
    assert len(weights) == depth and sum(weights) == pytest.approx(1)
    assert all(b == pytest.approx(2 * a) for a, b in itertools.pairwise(weights))


# -- the loss ------------------------------------------------------------------------------------

SIZES = (2, 3, 4)
TARGETS = torch.tensor([[0, 1, 3], [1, 0, 1], [0, 1, -1], [0, -1, -1], [0, 2, 2]])
"""Pears, Clothing, Fruit at most, Food at most, Milk."""


def logits(seed: int = 6) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(5, size, generator=generator) for size in SIZES]


def naive(
    given: list[Tensor],
    targets: Tensor,
    weights: tuple[float, ...],
    *,
    only_deepest: bool = False,
    smoothing: float = 0.0,
    priors: list[Tensor] | None = None,
    row_weights: list[float] | None = None,
) -> float:
    """Row by row and level by level, in Python."""
    rows = row_weights or [1.0] * len(targets)
    total = 0.0
    for row, found in enumerate(targets.tolist()):
        known = [level for level, target in enumerate(found) if target >= 0]
        for level in known[-1:] if only_deepest else known:
            scores = given[level][row].tolist()
            if priors is not None:
                scores = [a + b for a, b in zip(scores, priors[level].tolist(), strict=True)]
            norm = math.log(sum(math.exp(score) for score in scores))
            costs = [norm - score for score in scores]
            cost = (1 - smoothing) * costs[found[level]] + smoothing * sum(costs) / len(costs)
            total += rows[row] * (1.0 if only_deepest else weights[level]) * cost
    return total / sum(rows)


@pytest.mark.parametrize("only_deepest", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("extra", ["", "priors", "rows"])
def test_the_loss_is_what_it_says(only_deepest: bool, smoothing: float, extra: str) -> None:
    priors = [torch.linspace(-2, 0, size) for size in SIZES] if extra == "priors" else None
    rows = [1.0, 0.3, 1.0, 0.3, 0.7] if extra == "rows" else None
    found = level_loss(
        logits(),
        TARGETS,
        WEIGHTS,
        only_deepest=only_deepest,
        smoothing=smoothing,
        priors=priors,
        row_weights_B=None if rows is None else torch.tensor(rows),
    )
    expected = naive(
        logits(),
        TARGETS,
        WEIGHTS,
        only_deepest=only_deepest,
        smoothing=smoothing,
        priors=priors,
        row_weights=rows,
    )
    assert float(found) == pytest.approx(expected, rel=1e-5)


def gradients(**changes: object) -> list[Tensor]:
    given = [one.requires_grad_() for one in logits()]
    level_loss(given, TARGETS, WEIGHTS, **changes).backward()  # type: ignore[arg-type]
    return [torch.zeros_like(one) if one.grad is None else one.grad for one in given]


def test_a_label_above_the_leaves_teaches_the_levels_that_it_reaches() -> None:
    top, middle, leaves = (one.abs().sum(1) > 0 for one in gradients())
    assert top.tolist() == [True] * 5
    assert middle.tolist() == [True, True, True, False, True]
    assert leaves.tolist() == [True, True, False, False, True]


def test_only_the_deepest_level_known_counts_when_asked() -> None:
    top, middle, leaves = (one.abs().sum(1) > 0 for one in gradients(only_deepest=True))
    assert top.tolist() == [False, False, False, True, False]
    assert middle.tolist() == [False, False, True, False, False]
    assert leaves.tolist() == [True, True, False, False, True]


def test_rows_without_weight_teach_nothing_and_no_row_at_all_is_no_error() -> None:
    assert float(level_loss(logits(), TARGETS, WEIGHTS, row_weights_B=torch.zeros(5))) == 0
    assert float(level_loss(logits(), torch.full((5, 3), -1), WEIGHTS)) == 0
    for one in gradients(row_weights_B=torch.tensor([0.0, 1, 1, 1, 1])):
        assert not one[0].any()


# -- titles beside photos ------------------------------------------------------------------------


def test_a_title_is_the_mean_of_its_words_and_nothing_without() -> None:
    torch.manual_seed(0)
    title = Title(buckets=9, width=4)
    words = torch.tensor([[3, 7, 0], [7, 3, 0], [3, 0, 0], [0, 0, 0], [9, 9, 9]])
    found = title(words)
    assert torch.equal(found[0], found[1]) and not torch.allclose(found[0], found[2])
    assert not found[3].any() and found[4].any()
    mean = title.norm((title.words.weight[3] + title.words.weight[7]) / 2).relu()
    assert torch.allclose(found[0], mean, atol=1e-5)


def test_the_joint_head_knows_what_is_missing() -> None:
    torch.manual_seed(0)
    joint = Joint(3, 2, 8, 0.0).eval()
    nothing, yes, no = torch.zeros(1, 3), torch.tensor([True]), torch.tensor([False])
    seen = [joint(nothing, torch.zeros(1, 2), photo, title) for photo in (yes, no) for title in (yes, no)]
    assert len({tuple(one[0].tolist()) for one in seen}) == 4
