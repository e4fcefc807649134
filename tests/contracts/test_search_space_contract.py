"""What every model's search space keeps to: its settings exist, and whatever a trial may draw is a config."""

import random
from typing import Any

import pytest

from etalage.config import validated
from etalage.models import recipe as recipes
from etalage.models.search_space import Choice, Dimension, IntRange, holds, sample

MODELS = recipes.names()
SAMPLES = 100


def drawn(chance: random.Random, dimension: Dimension) -> Any:
    if isinstance(dimension, Choice):
        return chance.choice(dimension.options)
    edge = chance.random()
    if edge < 0.2:
        return dimension.low if edge < 0.1 else dimension.high
    if isinstance(dimension, IntRange):
        return chance.randint(dimension.low, dimension.high)
    return chance.uniform(dimension.low, dimension.high)


@pytest.mark.parametrize("name", MODELS)
def test_there_is_something_to_tune_and_every_setting_is_one_of_the_config(name: str) -> None:
    recipe = recipes.find(name)
    assert recipe.space, f"{name} names no search space"
    fields = recipe.config.model_fields
    for setting, dimension in recipe.space.items():
        assert setting in fields
        assert all(other in fields for other in dimension.when or {})


@pytest.mark.parametrize("name", MODELS)
def test_whatever_a_trial_draws_is_a_config_in_which_every_setting_acts(name: str) -> None:
    recipe = recipes.find(name)
    given = recipe.config().model_dump()
    chance = random.Random(name)
    for _ in range(SAMPLES):
        settings = sample(recipe.space, given, lambda _, dimension: drawn(chance, dimension))
        config = validated(recipe.config, settings, where=name)
        assert {key: getattr(config, key) for key in settings} == settings


@pytest.mark.parametrize("name", MODELS)
def test_the_defaults_lie_in_the_space_so_that_a_study_can_start_from_them(name: str) -> None:
    recipe = recipes.find(name)
    given = recipe.config().model_dump()
    first = sample(recipe.space, given, lambda setting, _: given[setting])
    assert {s: v for s, v in first.items() if not holds(recipe.space[s], v) and v != 0} == {}
