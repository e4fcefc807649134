"""What every engine keeps to: shards on workers, trials, the workers of a training run."""

import itertools
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from etalage.engine.contract import Engine
from etalage.engine.local import LocalEngine
from etalage.engine.outcome import Done, Failed
from etalage.engine.scheduling import LATER
from etalage.errors import DataError, EngineError, ShardFailed
from etalage.models.own import Source
from tests.conftest import PROJECT
from tests.engine import jobs as launched
from tests.engine import shard_jobs as jobs
from tests.engine.test_children import alive
from tests.serve.servers import until
from tests.spark_cluster import QUICK, require_spark, running_cluster

pytestmark = pytest.mark.timeout(900)  # several JVMs start
SETTINGS = {
    "spark.executorEnv.PYTHONPATH": str(PROJECT),
    "spark.executor.memory": "512m",
    "spark.executor.extraJavaOptions": QUICK,
}
KINDS = ["local", *(pytest.param(one, marks=pytest.mark.slow) for one in ("spark", "cluster"))]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def master(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | None]:
    """The URL of a Spark; None: none is needed."""
    if kind == "local":
        yield None
    elif kind == "spark":
        require_spark()
        yield "local[2]"
    else:
        with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
            yield cluster.master


@pytest.fixture(scope="module")
def engine(master: str | None) -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", str(PROJECT))
        if master is None:
            yield LocalEngine(2)
            return
        from etalage.engine.spark import SparkEngine

        started = SparkEngine(master, 2, settings=SETTINGS)
        yield started
        started.stop()


@pytest.fixture(scope="module")
def bounded(engine: Engine, master: str | None) -> Engine:
    """The same engine with 256 MiB a worker."""
    if master is None:
        return LocalEngine(2, 256 << 20)
    from etalage.engine.spark import SparkEngine

    return SparkEngine(master, 2, 256 << 20, SETTINGS)


def test_results_come_in_the_order_of_the_shards(engine: Engine) -> None:
    assert list(engine.map(jobs.later_ones_sooner, range(4), workers=2)) == [0, 1, 2, 3]


def test_nothing_comes_of_no_shards(engine: Engine) -> None:
    assert list(engine.map(jobs.double, [])) == []


def test_the_shards_run_elsewhere(engine: Engine) -> None:
    assert os.getpid() not in set(engine.map(jobs.whose, range(4), workers=2))


def test_shards_may_depend_on_results_that_were_taken(engine: Engine) -> None:
    taken: list[int] = []

    def shards() -> Iterator[int]:
        yield from (1, 2, 3)
        while len(taken) < 3:
            yield LATER
        yield sum(taken)

    for result in engine.map(jobs.double, shards(), workers=2):
        taken.append(result)
    assert taken == [2, 4, 6, 24]


def test_shards_that_wait_for_nothing_are_refused(engine: Engine) -> None:
    with pytest.raises(EngineError, match="no result is left to wait for"):
        list(engine.map(jobs.double, iter([1, LATER, LATER]), workers=2))


def test_shards_are_asked_for_as_results_are_taken(engine: Engine) -> None:
    asked = []

    def shards() -> Iterator[int]:
        for number in itertools.count():
            asked.append(number)
            yield number

    results = engine.map(jobs.double, shards(), workers=2)
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    assert len(asked) <= 3 + 3 * 2, "a few a worker, of a stream that never ends"
    results.close()  # type: ignore[attr-defined]


def test_an_error_of_whoever_names_the_shards_is_raised(engine: Engine) -> None:
    def shards() -> Iterator[int]:
        yield 1
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        list(engine.map(jobs.double, shards(), workers=2))


def test_a_slow_shard_does_not_stop_the_others(engine: Engine, tmp_path: Path) -> None:
    assert list(engine.map(partial(jobs.slow_first, tmp_path), range(5), workers=2)) == [0, 1, 2, 3, 4]


def test_a_shard_that_fails_is_run_again(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = list(engine.map(partial(jobs.fails_at_first, tmp_path), range(4), workers=2))
    assert done == [0, 1, 2, 3]
    assert [jobs.times(tmp_path, number) for number in range(4)] == [1, 1, 2, 1]
    assert "shard 2 (2) failed and is run again (1 of 2): ValueError: not in the mood" in caplog.text


def test_a_poisoned_shard_is_named_after_its_retries(engine: Engine, tmp_path: Path) -> None:
    results = engine.map(partial(jobs.poisoned, tmp_path), range(4), workers=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(
        ShardFailed, match=r"shard 2 \(2\) failed 3 times, at last with: ValueError: no 2"
    ) as met:
        next(results)
    assert jobs.times(tmp_path, 2) == 3
    assert (met.value.number, met.value.error) == (2, "ValueError: no 2")
    assert "shard_jobs.py" in met.value.traceback and met.value.traceback in str(met.value)


def test_no_retries_are_no_retries(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ShardFailed, match=r"shard 2 \(2\) failed once"):
        list(engine.map(partial(jobs.poisoned, tmp_path), range(4), workers=2, retries=0))
    assert jobs.times(tmp_path, 2) == 1


def test_an_error_of_ours_stays_what_it_is_and_is_not_tried_again(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^row 2 is bad$"):
        list(engine.map(partial(jobs.bad_input, tmp_path), range(4), workers=2))
    assert jobs.times(tmp_path, 2) == 1


def test_a_shard_whose_worker_is_killed_is_run_again_and_no_other_is_lost(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = list(engine.map(partial(jobs.killed_at_first, tmp_path), range(6), workers=2))
    assert done == [0, 1, 2, 3, 4, 5]
    assert [jobs.times(tmp_path, number) for number in range(6)] == [1, 1, 2, 1, 1, 1]
    assert "shard 2 (2) failed and is run again (1 of 2): the worker" in caplog.text


def test_a_shard_that_kills_every_worker_is_named(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ShardFailed, match=r"shard 2 \(2\) failed 3 times, at last with: the worker"):
        list(engine.map(partial(jobs.always_killed, tmp_path), range(4), workers=2))
    assert jobs.times(tmp_path, 2) == 3


def test_progress_is_told_of_all_shards_where_their_number_is_known(engine: Engine) -> None:
    told: list[tuple[int, int | None]] = []
    list(engine.map(jobs.double, [1, 2, 3], workers=2, progress=lambda done, all: told.append((done, all))))
    assert told == [(1, 3), (2, 3), (3, 3)]
    told.clear()
    list(
        engine.map(jobs.double, iter([1, 2]), workers=2, progress=lambda done, all: told.append((done, all)))
    )
    assert told == [(1, None), (2, None)]


def test_what_workers_log_is_said_here(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    list(engine.map(jobs.talks, [7], workers=2))
    assert ("shards", logging.WARNING, "shard 7 speaks") in caplog.record_tuples
    assert any(name == "py.warnings" and "shard 7 warns" in text for name, _, text in caplog.record_tuples)


OWN = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Basket:
    items: tuple

def doubled(basket):
    assert type(basket) is Basket
    return Basket(basket.items * 2)
"""


def test_functions_of_the_shops_own_models_folder_run_on_workers(engine: Engine) -> None:
    """Nothing of the folder is on a module path, here or there."""
    source = Source("baskets", "/a/shop/models/baskets.py", OWN.encode())
    own = source._run()
    try:
        done = list(engine.map(own.doubled, [own.Basket(("tea",)), own.Basket(())], workers=2))
        assert done == [own.Basket(("tea", "tea")), own.Basket(())]
    finally:
        del sys.modules[source.module]


@pytest.mark.skipif(sys.platform != "linux", reason="that is where a limit holds")
def test_a_worker_may_not_hold_more_than_its_memory(engine: Engine, bounded: Engine) -> None:
    assert list(engine.map(jobs.takes, [400, 20], workers=2)) == [400 << 20, 20 << 20]
    assert list(bounded.map(jobs.takes, [20, 30], workers=2)) == [20 << 20, 30 << 20]
    results = bounded.map(jobs.takes, [20, 400], workers=2, retries=1)
    assert next(results) == 20 << 20
    with pytest.raises(ShardFailed, match=r"shard 1 \(400\) failed 2 times.*MemoryError.*may have 256 MiB"):
        next(results)
    assert list(bounded.map(jobs.takes, [20, 30], workers=2)) == [20 << 20, 30 << 20]


def test_what_cannot_be_sent_is_said(engine: Engine) -> None:
    with pytest.raises(EngineError, match=r"lock.* cannot be sent from one process to another"):
        list(engine.map(jobs.double, [threading.Lock()], workers=2))  # type: ignore[list-item]
    with pytest.raises(EngineError, match=r"lock.* cannot be sent from one process to another"):
        list(engine.map(jobs.cannot_travel, [1, 2], workers=2))


def test_trials_are_told_as_they_end_and_none_stops_the_others(engine: Engine, tmp_path: Path) -> None:
    told: dict[int, Any] = dict(engine.trials(partial(jobs.poisoned, tmp_path), iter([0, 1, 2, 3]), 2))
    assert {number: one for number, one in told.items() if number != 2} == {n: Done(n) for n in (0, 1, 3)}
    assert isinstance(told[2], Failed)
    assert (told[2].error, told[2].kind) == ("ValueError: no 2", "ValueError")
    assert jobs.times(tmp_path, 2) == 1, "a trial is not run again"


def test_a_trial_whose_worker_is_killed_has_failed(engine: Engine, tmp_path: Path) -> None:
    told = dict(engine.trials(partial(jobs.always_killed, tmp_path), range(4), 2))
    assert sorted(told) == [0, 1, 2, 3]
    assert isinstance(told[2], Failed) and "worker" in told[2].error and told[2].kind == ""


def test_the_next_trial_may_depend_on_those_that_ended(engine: Engine) -> None:
    ended: list[int] = []
    known: list[int] = []

    def settings() -> Iterator[int]:
        for number in range(6):
            known.append(len(ended))
            yield number

    for number, _ in engine.trials(jobs.double, settings(), 2):
        ended.append(number)
    assert known == [0, 0, 1, 2, 3, 4], "two at once; each further one when one has ended"


def test_a_launch_gives_each_worker_its_rank(engine: Engine, tmp_path: Path) -> None:
    with engine.launch(partial(launched.tell, tmp_path), 3) as spec:
        assert (spec.rank, spec.world_size) == (0, 3)
    told = {file.name: file.read_text().split() for file in tmp_path.iterdir()}
    assert {name: words[1:] for name, words in told.items()} == {
        rank: ["3", spec.init_method] for rank in ("1", "2")
    }
    assert len({words[0] for words in told.values()} | {str(os.getpid())}) == 3


def test_a_launched_worker_that_ends_is_told_to_the_caller(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyError), engine.launch(launched.fail, 2) as spec:
        until(lambda: spec.lost() is not None)
        assert re.match("worker 1 of 2 ended with", spec.lost() or "")
        raise KeyError
    assert "worker 1 of 2 ended with" in caplog.text


def test_a_launched_worker_that_is_killed_is_told_to_the_caller(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(KeyError), engine.launch(partial(launched.wait, tmp_path), 2) as spec:
        until((tmp_path / "1").exists)
        assert spec.lost() is None
        os.kill(int((tmp_path / "1").read_text()), signal.SIGKILL)
        until(lambda: spec.lost() is not None)
        assert re.match("worker 1 of 2 ended", spec.lost() or "")
        raise KeyError


def test_who_leaves_a_launch_by_an_exception_ends_the_others(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(KeyError), engine.launch(partial(launched.wait, tmp_path), 2):
        until((tmp_path / "1").exists)
        raise KeyError
    until(lambda: not alive(int((tmp_path / "1").read_text())))
