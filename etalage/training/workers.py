"""One training by several workers of this machine: who starts them, what the others do, and how they get the
data.

The first worker hands the data over in files that all of them map, so that a gigabyte of photos lies in
memory once more, however many they are: pickle 5 with its buffers beside it (PEP 574). The files are gone
when the run ends.
"""

import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from etalage.engine.contract import Engine
from etalage.engine.local import LOCAL
from etalage.engine.threads import configure_threads
from etalage.engine.worker_spec import WorkerSpec
from etalage.models import recipe as recipes
from etalage.models.own import Source
from etalage.models.recipe import Recipe, Task
from etalage.training.context import Context, compute_init
from etalage.training.loop import fit

_ALIGNED = 64


def hand_over(given: Any, folder: Path) -> None:
    """Write `given` to two files in `folder`, the large arrays as they lie in memory."""
    buffers: list[pickle.PickleBuffer] = []
    (folder / "handed.pickle").write_bytes(pickle.dumps(given, protocol=5, buffer_callback=buffers.append))
    sizes = []
    with (folder / "handed.bin").open("wb") as file:
        for buffer in buffers:
            with buffer.raw() as raw:
                file.write(raw)
                file.write(b"\0" * (-raw.nbytes % _ALIGNED))
                sizes.append(raw.nbytes)
    np.save(folder / "handed.npy", np.array(sizes, dtype=np.int64))


def handed(folder: Path) -> Any:
    """What was handed over, a moment ago by our own; writing to its arrays changes nobody else's."""
    sizes = np.load(folder / "handed.npy")
    file = folder / "handed.bin"
    whole = np.memmap(file, np.uint8, "c") if file.stat().st_size else np.empty(0, np.uint8)
    ends = np.cumsum(sizes + -sizes % _ALIGNED)
    buffers = [whole[end - size - -size % _ALIGNED :][:size] for end, size in zip(ends, sizes, strict=True)]
    return pickle.loads((folder / "handed.pickle").read_bytes(), buffers=buffers)  # noqa: S301


@contextmanager
def together(
    recipe: Recipe[Any], config: Any, data: Any, task: Task, run: Path, engine: Engine = LOCAL
) -> Iterator[Context]:
    """The context in which this process trains `task`, with as many more as its config says; a process that
    torchrun started is one of torchrun's.

    Raises ConfigError: no such device. WorkerLost when one of the others ends.
    """
    workers = getattr(task, "workers", config.workers)  # a task may have work for one alone
    if workers == 1 or WorkerSpec.from_environment(os.environ) is not None:
        with compute_init(config) as context:
            yield context
        return
    for left in run.glob(".handed-*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=".handed-", dir=run))
    try:
        hand_over((recipe.name, config, shared(data, folder / "data")), folder)
        with (
            engine.launch(partial(_follow, folder, run, recipe.source), workers) as spec,
            compute_init(config, spec) as context,
        ):
            yield context
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def shared(data: Any, folder: Path) -> Any:
    """How another process comes by `data`: it opens the folder that it is saved to, all mapping one copy;
    what cannot be saved so is handed over itself."""
    from etalage.features import behaviour_files
    from etalage.features.behaviour import BehaviourSet
    from etalage.features.examples import Examples

    if isinstance(data, BehaviourSet):
        behaviour_files.save(data, folder)
        return partial(behaviour_files.open_mapped, folder)
    if isinstance(data, Examples):
        data.save(folder)
        return partial(Examples.open, folder)
    return data


def follow_torchrun(recipe: Recipe[Any], config: Any, data: Any, run: Path) -> None:
    """In a process that torchrun started, other than rank 0: take part in the training, and end, since rank 0
    tracks, exports and says what came of it. Nothing happens in any other process."""
    spec = WorkerSpec.from_environment(os.environ)
    if spec is None or spec.rank == 0:
        return
    with compute_init(config) as context:
        fit(recipe, recipe.bind(config, data), config, run, context=context)
    raise SystemExit(0)


def _follow(folder: Path, run: Path, own: Source | None, spec: WorkerSpec) -> None:
    """The same training as rank 0's, of other rows of each batch; nothing is written.

    own: the file of a model of the shop's own, as rank 0 runs it. It runs before anything is unpacked, since
    what is handed over holds a config of its class.
    """
    configure_threads()
    mine = None if own is None else own.recipe()
    name, config, given = handed(folder)
    data = given() if isinstance(given, partial) else given
    recipe = mine or recipes.find(name)
    with compute_init(config, spec) as context:
        fit(recipe, recipe.bind(config, data), config, run, context=context)
