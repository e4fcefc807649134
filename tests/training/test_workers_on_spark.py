"""A training whose workers are tasks of Spark: what they learn is what processes of this machine learn."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etalage.engine.contract import Engine
from etalage.engine.local import LOCAL
from etalage.errors import WorkerLost
from etalage.features.array_blocks import ArrayLoop
from etalage.models import recipe as recipes
from etalage.models.item_category import RECIPE, ItemCategoryConfig
from etalage.models.recipe import Trained
from etalage.training.loop import fit
from etalage.training.workers import together
from tests.category_sets import category_set, quick
from tests.conftest import PROJECT
from tests.contracts.test_counts_by_blocks_contract import assert_alike, behaviour, bound, small_blocks
from tests.lake.photos.test_fetch_on_spark import python_workers
from tests.spark_cluster import QUICK as QUICK_JVM
from tests.spark_cluster import running_cluster
from tests.training.test_workers import CERTAIN, difference, weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    with running_cluster(folder) as cluster:
        from etalage.engine.spark import SparkEngine

        settings = {
            "spark.executorEnv.PYTHONPATH": str(PROJECT),
            "spark.executorEnv.OMP_NUM_THREADS": "1",
            "spark.executor.memory": "512m",
            "spark.executor.extraJavaOptions": QUICK_JVM,
        }
        started = SparkEngine(cluster.master, 2, settings=settings)
        yield started
        started.stop()


def train(run: Path, engine: Engine, progress: Any = None, **changes: Any) -> Trained[Any]:
    config = ItemCategoryConfig(**quick(**{**CERTAIN, "workers": 3, **changes}))
    items = category_set()
    run.mkdir(parents=True, exist_ok=True)
    task = RECIPE.bind(config, items)
    with together(RECIPE, config, items, task, run, engine) as context:
        return fit(RECIPE, task, config, run, progress=progress, context=context)


def test_a_training_on_a_cluster_ends_with_the_weights_of_one_on_this_machine(
    engine: Engine, tmp_path: Path
) -> None:
    there, here = train(tmp_path / "there", engine), train(tmp_path / "here", LOCAL)
    assert difference(weights(there), weights(here)) < 1e-6
    assert there.history == here.history


@pytest.mark.parametrize("name", ["item_knn", "ials"])
def test_tasks_count_by_blocks_what_one_process_counts(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    recipe, data = recipes.find(name), behaviour()
    whole = [task.count() for task in bound(recipe, data)]
    small_blocks(monkeypatch, 150_000)
    for one, task in zip(whole, bound(recipe, data), strict=True):
        assert_alike(recipes.count(task, ArrayLoop(engine, tmp_path, measured=0)), one)


def test_a_task_that_is_killed_ends_the_training_which_goes_on_later(
    engine: Engine, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killed: list[int] = []

    def kill_one(done: int, _: int, __: str) -> None:
        if done >= 4 and not killed:
            killed.extend(python_workers(folder)[:1])
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(WorkerLost, match="another worker of this training is gone"):
        train(tmp_path / "killed", engine, kill_one, checkpoint_steps=1)
    assert killed
    assert re.search(r"worker \d of 3 ended: Python worker exited unexpectedly", caplog.text)
    resumed = train(tmp_path / "killed", engine, checkpoint_steps=1)
    whole = train(tmp_path / "whole", LOCAL, checkpoint_steps=1)
    assert difference(weights(resumed), weights(whole)) < 1e-6
