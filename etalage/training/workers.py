"""One training by several workers of this machine: who starts them, and what the others do."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from etalage.engine import local
from etalage.engine.places import Place
from etalage.models import recipe as recipes
from etalage.models.recipe import Recipe, Task
from etalage.training.group import Group
from etalage.training.handing import hand_over, handed
from etalage.training.loop import fit

Launch = Callable[[Callable[[Place], object], int], AbstractContextManager[Place]]
"""An engine's verb."""


@contextmanager
def together(
    recipe: Recipe[Any], config: Any, data: Any, task: Task, run: Path, launch: Launch = local.launch
) -> Iterator[Group]:
    """The group that trains `task`: this process, and as many more as the task has work for.

    Raises WorkerLost when one of the others ends.
    """
    workers = getattr(task, "workers", 1)
    if workers == 1:
        yield Group()
        return
    for left in run.glob(".handed-*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=".handed-", dir=run))
    try:
        hand_over((recipe.name, config, data), folder)
        with launch(partial(_follow, folder, run), workers) as place, Group.joined(place) as group:
            yield group
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _follow(folder: Path, run: Path, place: Place) -> None:
    """The same training as the first worker's, of another part of each batch; nothing is written."""
    local.settle()
    name, config, data = handed(folder)
    recipe = recipes.find(name)
    with Group.joined(place) as group:
        fit(recipe, recipe.bind(config, data), config, run, group=group)
