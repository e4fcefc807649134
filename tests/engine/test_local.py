"""`launch`: a function on several processes, of which the caller is the first. `map`: shards on others."""

import logging
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from etalage.engine import local
from etalage.engine.worker_spec import WorkerSpec
from tests.conftest import PROJECT
from tests.engine import jobs


@pytest.fixture(autouse=True)
def _tests_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers look for modules nowhere but where a Python is told to: not in the current folder (F62)."""
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))


def test_each_worker_knows_who_it_is_and_the_caller_is_the_first(tmp_path: Path) -> None:
    with local.launch(partial(jobs.tell, tmp_path), 3) as worker:
        assert (worker.rank, worker.world_size) == (0, 3)
        assert worker.lost() is None
    told = {file.name: file.read_text().split() for file in tmp_path.iterdir()}
    assert sorted(told) == ["1", "2"], "the caller leaves when the others are done"
    assert [told[name][1:3] for name in ("1", "2")] == [["3", worker.init_method]] * 2
    assert len({told["1"][0], told["2"][0], str(os.getpid())}) == 3
    assert not Path(worker.init_method.removeprefix("file://")).parent.exists()


def test_the_caller_learns_who_is_gone_and_how(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), local.launch(jobs.fail, 2) as worker:
        until = time.monotonic() + 240
        while worker.lost() is None and time.monotonic() < until:
            time.sleep(0.02)
        assert worker.lost() == "worker 1 of 2 ended with status 1"
    assert "worker 1 of 2 ended with status 1" in caplog.text


def test_who_leaves_by_an_exception_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(KeyError), local.launch(partial(jobs.wait, tmp_path), 2):
        until = time.monotonic() + 240
        while not (tmp_path / "1").exists() and time.monotonic() < until:
            time.sleep(0.02)
        raise KeyError
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "1").read_text()), 0)


def test_a_worker_on_another_machine_says_nothing_of_who_is_gone() -> None:
    assert WorkerSpec(1, 2, "tcp://trainer:29500").lost() is None


_SCRIPT = """
import sys
from pathlib import Path
from etalage.engine import local
from tests.engine import jobs
with Path(sys.argv[1]).open("a") as file:
    file.write("begun\\n")
print(list(local.LOCAL.map(jobs.squared, range(9), 2)), __file__)
"""


def test_a_script_that_is_not_guarded_runs_once(tmp_path: Path) -> None:
    """A spawned process runs the script of who started it, all of it, unless that is prevented."""
    script, begun = tmp_path / "script.py", tmp_path / "begun"
    script.write_text(_SCRIPT, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script), str(begun)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{[n * n for n in range(9)]} {script}\n"
    assert begun.read_text() == "begun\n"


def test_a_worker_has_one_thread_unless_the_user_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert set(local.LOCAL.map(jobs.variable, ["OMP_NUM_THREADS"] * 2, 2)) == {"1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert set(local.LOCAL.map(jobs.variable, ["OMP_NUM_THREADS"] * 2, 2)) == {"3"}


def test_who_leaves_does_not_wait_for_shards_that_nobody_began(tmp_path: Path) -> None:
    results = local.LOCAL.map(partial(jobs.note, tmp_path), range(100), 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert [file.name for file in tmp_path.iterdir()] == ["0"]
