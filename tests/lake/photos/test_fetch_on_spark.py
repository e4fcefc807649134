"""A fetch on a Spark cluster: the same tables as processes of one machine make."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from etalage.lake.delta import Lake
from etalage.shop.fetch_steps import fetch, probe
from etalage.shop.workspace import Workspace
from tests.conftest import PROJECT
from tests.lake.photos.hostile import Hostile
from tests.lake.photos.test_fetch import items, rows
from tests.serve.servers import until
from tests.spark_cluster import QUICK, running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
LINKS = 60


def shop(folder: Path, hostile: Hostile, engine: str) -> Workspace:
    folder.mkdir()
    (folder / "shop.toml").write_text(
        f'[photos]\nhosts = {{"*.test" = "127.0.0.1:{hostile.port}"}}\nallow_networks = ["127.0.0.0/8"]\n'
        f"spacing = 0.1\nper_host = 1\n{engine}"
    )
    links = [f"http://h{n % 4}.test/{'photo' if n % 5 else 'missing'}/{n}.jpg" for n in range(LINKS)]
    items(Lake(folder / "tables"), {f"i{n}": link for n, link in enumerate(links)})
    return Workspace(folder)


MOVES = ("checked_at", "retry_at", "milliseconds")
"""Columns that say when, and how long it took."""


def told(lake: Lake) -> list[dict[Any, dict[str, Any]]]:
    return [
        {
            key: {k: v for k, v in row.items() if k not in (*MOVES, lake.table(name).spec.stamp)}
            for key, row in rows(lake, name).items()
        }
        for name in ("photos", "links")
    ]


def test_a_cluster_fetches_what_one_machine_does_and_outlives_a_killed_worker(
    tmp_path: Path, hostile: Hostile
) -> None:
    with running_cluster(tmp_path) as cluster:
        on_spark = shop(
            tmp_path / "spark",
            hostile,
            f'[engine]\nkind = "spark"\nmaster = "{cluster.master}"\nworkers = 2\n[engine.settings]\n'
            f'"spark.executorEnv.PYTHONPATH" = "{PROJECT}"\n"spark.executor.memory" = "512m"\n'
            f'"spark.executor.extraJavaOptions" = "{QUICK}"\n',
        )
        asked: list[str] = []
        killed: list[int] = []
        once = threading.Lock()

        def kill_one(path: str) -> None:
            """Half of the way, and when something is written that is not to be asked for again."""
            asked.append(path)
            if len(asked) < LINKS // 2 or not once.acquire(blocking=False):
                return
            until(lambda: list((tmp_path / "spark" / "runs").glob("photos/run-*/0*.finished")))
            until(lambda: python_workers(tmp_path))
            killed.extend(python_workers(tmp_path)[:1])
            os.kill(killed[0], signal.SIGKILL)

        hostile.gate = kill_one
        try:
            done = fetch(on_spark, None, False)
            sampled = probe(on_spark, 10, 0)
        finally:
            on_spark.engine.stop()  # type: ignore[attr-defined]
    assert killed
    hostile.gate = None
    here = shop(tmp_path / "here", hostile, "[engine]\nworkers = 2\n")
    assert fetch(here, None, False).states == done.states
    assert told(on_spark.lake) == told(here.lake)
    assert sampled.merchants == probe(here, 10, 0).merchants


def python_workers(folder: Path) -> list[int]:
    """The processes of the cluster's executors that run Python, and are not the daemon that forks them."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        try:
            words = (one / "cmdline").read_bytes().split(b"\0")
            at = (one / "cwd").resolve()
            parent = int((one / "stat").read_text().rsplit(")", 1)[1].split()[1])
            parents = Path(f"/proc/{parent}/cmdline").read_bytes()
        except OSError:
            continue
        if (
            b"pyspark.daemon" in words
            and b"pyspark.daemon" in parents
            and at.is_relative_to(folder.resolve())
        ):
            found.append(int(one.name))
    return found
