"""What a trial may choose of a model's settings: the search space stands beside the config, in the model's
file.

A space names settings of the config, each with the values that are worth trying. A setting that does nothing
unless another one has a certain value says so (`when`), since a config refuses settings that cannot act.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

When = Mapping[str, tuple[Any, ...]]
"""Setting → the values with which the dimension acts; all of them must hold."""


@dataclass(frozen=True)
class Choice:
    """One of `options`: numbers, texts, None, or tuples of them."""

    options: tuple[Any, ...]
    when: When | None = None


@dataclass(frozen=True)
class IntRange:
    """A whole number from `low` to `high`, both included; log: orders of magnitude are equally likely."""

    low: int
    high: int
    log: bool = False
    when: When | None = None


@dataclass(frozen=True)
class FloatRange:
    """A number from `low` to `high`, both included; log: orders of magnitude are equally likely."""

    low: float
    high: float
    log: bool = False
    when: When | None = None


Dimension = Choice | IntRange | FloatRange
SearchSpace = Mapping[str, Dimension]
"""Setting → what it may be. A setting that others depend on stands before them."""


def sample(
    space: SearchSpace, given: Mapping[str, Any], draw: Callable[[str, Dimension], Any]
) -> dict[str, Any]:
    """Settings out of `space`: `draw` is asked for each dimension that acts with what was drawn before it.

    given: the value that each setting of the config has where nothing is drawn.
    """
    drawn: dict[str, Any] = {}
    for name, dimension in space.items():
        values = {**given, **drawn}
        if all(values.get(other) in options for other, options in (dimension.when or {}).items()):
            drawn[name] = draw(name, dimension)
    return drawn


def holds(dimension: Dimension, value: Any) -> bool:
    """Whether `value` is one that the dimension could be."""
    if isinstance(dimension, Choice):
        return value in dimension.options
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and dimension.low <= value <= dimension.high
