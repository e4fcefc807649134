"""No worker outlives the command that wanted it, however that ends."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from etalage.engine.children import python
from tests.conftest import PROJECT
from tests.engine.test_children import alive
from tests.spark_cluster import require_spark, running_cluster

pytestmark = pytest.mark.timeout(900)
SPARKS = [pytest.param(one, marks=pytest.mark.slow) for one in ("spark", "cluster")]


@pytest.fixture(scope="module", params=["local", *SPARKS])
def master(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "cluster":
        with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
            yield cluster.master
    else:
        if request.param == "spark":
            require_spark()
        yield "none" if request.param == "local" else "local[2]"


@pytest.mark.parametrize(
    ("verb", "how"),
    [("map", signal.SIGINT), ("map", signal.SIGKILL), ("launch", signal.SIGINT), ("launch", signal.SIGKILL)],
)
def test_workers_end_with_the_command(master: str, verb: str, how: signal.Signals, tmp_path: Path) -> None:
    command = python("-m", "tests.engine.keeps_on", master, str(tmp_path), verb)
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    started = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        names = ("1",) if verb == "launch" else ("pid-0", "pid-1")
        workers = [int((tmp_path / name).read_text()) for name in names]
        assert all(map(alive, workers)) and started.pid not in workers
        # As a terminal does at Ctrl-C: to every process of the group.
        os.killpg(started.pid, how) if how == signal.SIGINT else os.kill(started.pid, how)
        _, said = started.communicate(timeout=300)
        until = time.monotonic() + 240
        while any(map(alive, workers)) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(map(alive, workers))
        if how == signal.SIGINT:
            assert said.count("KeyboardInterrupt") == 1, said
    finally:
        started.kill()
        started.wait()


def test_results_that_are_never_taken_keep_no_worker(master: str, tmp_path: Path) -> None:
    command = python("-m", "tests.engine.keeps_on", master, str(tmp_path), "leave")
    done = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 7, done.stderr
    workers = [int((tmp_path / name).read_text()) for name in ("pid-0", "pid-1")]
    until = time.monotonic() + 240
    while any(map(alive, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, workers))
