"""A publish that is killed, or whose disk fails, at every system call by which it changes the disk."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

WORKERS = 2

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")


def swept(folder: Path, project: Path, kind: str, way: str) -> list[dict[str, Any]]:
    """All points of one sweep, two workers side by side; fails on a worker that did not finish."""
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # we fork: no pools before that
    began = time.monotonic()
    workers = []
    for share in range(WORKERS):
        own = folder / str(share)
        own.mkdir()
        module = "tests.bundle.broken_publish"
        command = [sys.executable, "-m", module, str(own), kind, way, str(share), str(WORKERS)]
        workers.append(
            subprocess.Popen(
                command,
                cwd=project,
                env=os.environ | threads,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    ends = [worker.communicate(timeout=300) for worker in workers]
    for worker, (_, errors) in zip(workers, ends, strict=True):
        assert worker.returncode == 0, errors[-2000:]
    results = [json.loads(line) for output, _ in ends for line in output.splitlines()]
    print(f"{kind}, {way}: {len(results)} points in {time.monotonic() - began:.1f} s")
    return results


@pytest.mark.parametrize(
    "kind", ["exact", *(pytest.param(k, marks=pytest.mark.slow) for k in ("ivf", "first"))]
)
def test_f1_a_kill_at_any_system_call_of_publish_leaves_the_old_or_the_new_bundle_whole(
    tmp_path: Path, project: Path, kind: str
) -> None:
    results = swept(tmp_path, project, kind, "kill")
    assert [one for one in results if one["wrong"]] == []
    calls = Counter(one["call"] for one in results)
    # Every file is created, written and fsynced; staging and pointer are renamed.
    assert calls["openat"] >= 12
    assert calls["write"] >= 12
    assert calls["fsync"] >= 16
    assert calls["mkdir"] >= 3
    assert calls["rename"] >= (2 if kind == "first" else 3)
    if kind != "first":  # the sweep covers the clean-up and the removal of an old bundle too
        assert calls["unlinkat"] >= 10
        assert calls["rmdir"] >= 2


def test_f11_a_failed_fsync_fails_the_publish_and_moves_nothing(tmp_path: Path, project: Path) -> None:
    results = swept(tmp_path, project, "exact", "fsync")
    assert [one for one in results if one["wrong"]] == []
    assert len(results) >= 16


@pytest.mark.parametrize("kind", ["exact", pytest.param("ivf", marks=pytest.mark.slow)])
def test_f10_no_space_left_at_any_write_fails_the_publish_and_moves_nothing(
    tmp_path: Path, project: Path, kind: str
) -> None:
    results = swept(tmp_path, project, kind, "write")
    assert [one for one in results if one["wrong"]] == []
    assert len(results) >= 12
