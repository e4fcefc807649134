"""What it costs to have a model answer, as far as that is known."""

import pytest

from etalage.evaluation.decision import Cost
from etalage.shop.contender_steps import summed


def test_a_funnel_costs_what_its_models_cost_together() -> None:
    whole = summed([Cost(2.0, 1.5, photos=True), Cost(3.0, 0.0)], milliseconds=0.5)
    assert whole == Cost(5.0, 1.5, 0.5, photos=True)


@pytest.mark.parametrize("unknown", [Cost(megabytes=1.0), Cost(seconds=1.0), Cost()])
def test_what_is_not_known_of_one_model_is_not_known_of_the_funnel(unknown: Cost) -> None:
    whole = summed([Cost(2.0, 1.5), unknown], milliseconds=None)
    assert (whole.seconds is None) == (unknown.seconds is None)
    assert (whole.megabytes is None) == (unknown.megabytes is None)
