"""A training that is killed and goes on, for the tests of models that learn from a stream."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etalage.models.recipe import Recipe, Trained
from etalage.training.loop import fit
from etalage.training.workers import together


def killed_and_resumed(
    recipe: Recipe[Any], config_of: Callable[..., Any], stream: Any, folder: Path, *, at: int, every: int,
    workers: int,
) -> tuple[Trained[Any], list[int], int]:  # fmt: skip
    """Killed at step `at`, with checkpoints `every` so many, and continued by so many workers.

    config_of: settings → the config. → what came of it, the steps that were done again, and how many an epoch
    has.
    """

    def stop(done: int, total: int, line: str) -> None:
        if done == at:
            raise KeyboardInterrupt

    config = config_of(checkpoint_steps=every)
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, recipe.bind(config, stream), config, folder, progress=stop)
    config = config_of(workers=workers)
    task, steps = recipe.bind(config, stream), list[int]()
    with together(recipe, config, stream, task, folder) as context:
        ended = fit(
            recipe, task, config, folder, progress=lambda *done: steps.append(done[0]), context=context
        )
    return ended, steps, task.steps
