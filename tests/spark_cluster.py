"""A standalone Spark for tests, as the example starts it; its tests are skipped where one is missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.scripts import loaded

cluster: Any = loaded(Path(__file__).resolve().parents[1] / "examples" / "on_spark" / "cluster.py")
QUICK: str = cluster.QUICK
SparkCluster = cluster.SparkCluster


def require_spark() -> None:
    """Skip the test where Spark or Java is missing."""
    if (what := cluster.missing()) is not None:
        pytest.skip(what)


@contextmanager
def running_cluster(folder: Path, workers: int = 2) -> Iterator[Any]:
    """A process has one Spark: that of a test before ends first, and that of this one with its cluster."""
    require_spark()
    from etalage.engine import spark

    spark._stop()
    with cluster.running_cluster(folder, workers) as running:
        try:
            yield running
        finally:
            spark._stop()
