"""Factors that make probabilities mean what they say."""

from pathlib import Path

import numpy as np
import pytest

from etalage.models import recipe as recipes
from etalage.models.item_category import ItemCategory
from etalage.runtime.leaf_decision import softmax
from etalage.training.calibrating import FEWEST, calibrated, fitted, log_loss
from etalage.training.loop import fit
from tests.category_sets import category_set, quick


def told(sureness: float, rows: int = 4000, leaves: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """(rows, leaves) scores `sureness` times as sure as they should be, and (rows,) the truth."""
    rng = np.random.default_rng(1)
    honest = rng.normal(0, 2, (rows, leaves)).astype(np.float32)
    chances = softmax(honest).cumsum(axis=1)
    truth = (rng.random((rows, 1)) > chances).sum(axis=1).clip(max=leaves - 1)
    return honest * np.float32(sureness), truth


@pytest.mark.parametrize("sureness", [0.25, 1.0, 6.0])
def test_one_that_is_too_sure_or_not_sure_enough_is_put_right(sureness: float) -> None:
    scores, truth = told(sureness)
    (factor,) = fitted([scores], truth)
    assert factor == pytest.approx(1 / sureness, rel=0.1)
    assert log_loss([scores], [factor], truth) <= log_loss([scores], [1.0], truth) + 1e-6


def test_a_head_that_knows_nothing_is_given_nothing_to_say() -> None:
    scores, truth = told(1.0)
    noise = np.random.default_rng(2).normal(0, 2, scores.shape).astype(np.float32)
    ours, theirs = fitted([scores, noise], truth)
    assert ours == pytest.approx(1, rel=0.15) and theirs < 0.1


def network_of(text: str, folder: Path, count: int) -> tuple[object, ItemCategory]:
    recipe, items = recipes.find("item_category"), category_set(count)
    config = recipe.config(**quick(epochs=1, text=text))
    task = recipe.bind(config, items)
    network = fit(recipe, task, config, folder).network
    assert isinstance(network, ItemCategory)
    return task, network


def test_late_fusion_weighs_its_two_heads_by_what_is_seen(tmp_path: Path) -> None:
    task, network = network_of("late", tmp_path, 480)
    deciding, facts = calibrated(task, network)  # type: ignore[arg-type]
    assert set(deciding.weights) == {"photo", "title", "both"}
    assert deciding.weights["photo"][1] == 0 and deciding.weights["title"][0] == 0
    assert min(deciding.weights["both"]) > 0
    for one in facts.values():
        assert one["items"] >= FEWEST and one["calibrated"] <= one["log_loss"]


def test_of_too_few_items_nothing_is_told(tmp_path: Path) -> None:
    task, network = network_of("none", tmp_path, 80)
    assert len(task.validation) < FEWEST  # type: ignore[attr-defined]
    deciding, facts = calibrated(task, network)  # type: ignore[arg-type]
    assert dict(deciding.weights) == {"photo": [1.0]} and facts == {}
