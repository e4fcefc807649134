"""A closed-form model that chooses settings on validation: when, by what, and what is said of it."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etalage.config import validated
from etalage.features.behaviour import BehaviourSet
from etalage.models import ials, item_knn
from etalage.runtime.export_files import read_facts
from etalage.shop.trained_model import TrainedModel
from etalage.training.choosing import choose
from etalage.training.run import train_behaviour
from tests.contracts.test_closed_form_contract import behaviour

ALPHA, REG = "alpha", "regularisation"
POOR, GOOD = {ALPHA: 1.0, REG: 1e6}, {ALPHA: 10.0, REG: 6.0}
RECIPE = replace(ials.RECIPE, choices=(POOR, GOOD), small={"dimension": 8, "iterations": 4})


@pytest.fixture(scope="module")
def data() -> BehaviourSet:
    """240 shoppers of four tastes; one act of each is validation."""
    drawn = behaviour()
    return drawn.with_parts(validation=drawn.part("test"), test=drawn.part("test").take(np.arange(0)))


def config(**settings: Any) -> Any:
    return validated(RECIPE.config, settings, where="test")


def test_what_does_best_on_validation_is_taken(data: BehaviourSet) -> None:
    found, chosen = choose(RECIPE, config(dimension=16), data)
    assert (found.alpha, found.regularisation, found.dimension) == (10.0, 6.0, 16)
    assert chosen is not None
    (_, poor), (_, good) = chosen.tried
    assert 0 <= poor < good <= 1
    assert chosen.said.startswith("alpha 10, regularisation 6 chosen of 2 by nDCG@10 on validation (")
    assert f"({good:.4f}; others {poor:.4f}" in chosen.said


@pytest.mark.parametrize("given", [{ALPHA: 20.0}, {REG: 60.0}, {ALPHA: 20.0, REG: 60.0}])
def test_what_was_given_is_kept_even_where_it_is_the_default(
    data: BehaviourSet, given: dict[str, float]
) -> None:
    asked = config(**given)
    assert choose(RECIPE, asked, data) == (asked, None)


def test_a_config_out_of_an_export_is_not_chosen_anew(data: BehaviourSet) -> None:
    """What is fitted again on everything is what was judged."""
    found, _ = choose(RECIPE, config(), data)
    again = validated(RECIPE.config, found.model_dump(mode="json"), where="export.json: config")
    assert choose(RECIPE, again, data) == (found, None)


def test_without_enough_shoppers_to_choose_by_the_defaults_are_taken_and_it_is_said(
    data: BehaviourSet, caplog: pytest.LogCaptureFixture
) -> None:
    few = data.with_parts(validation=data.part("validation").take(np.arange(20)))
    assert choose(RECIPE, config(), few) == (config(), None)
    assert "alpha and regularisation as they are by default: validation has 20 shoppers" in caplog.text
    assert "[models.ials]" in caplog.text


def test_a_model_without_choices_is_left_alone(data: BehaviourSet, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        asked = item_knn.ItemKnnConfig()
        assert choose(item_knn.RECIPE, asked, data) == (asked, None)
    assert not caplog.text


def test_the_choice_is_drawn_by_the_seed_and_is_the_same_again(data: BehaviourSet) -> None:
    assert choose(RECIPE, config(), data) == choose(RECIPE, config(), data)


def test_the_first_choices_are_the_defaults_and_all_are_in_the_space_of_a_study() -> None:
    defaults = ials.IalsConfig()
    assert ials.CHOICES[0] == {ALPHA: defaults.alpha, REG: defaults.regularisation}
    for one in ials.CHOICES:
        for name, value in one.items():
            dimension: Any = ials.SPACE[name]
            assert dimension.low <= value <= dimension.high


def test_the_export_keeps_what_was_chosen_and_among_what(data: BehaviourSet, tmp_path: Path) -> None:
    trained, export = train_behaviour(
        RECIPE, config(dimension=8), data, runs=tmp_path / "runs", exports=tmp_path / "exports", tracked=False
    )
    facts = read_facts(export)
    assert {ALPHA: facts["config"][ALPHA], REG: facts["config"][REG]} == GOOD
    assert facts["settings"]["alpha"] == GOOD[ALPHA]
    assert [{name: one[name] for name in (ALPHA, REG)} for one in facts["tried"]] == [POOR, GOOD]
    assert TrainedModel.of(trained, export).chosen == facts["chosen"]
    assert facts["chosen"].startswith("alpha 10, regularisation 6 chosen of 2")
