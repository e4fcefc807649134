"""Processes that Etalage starts do not outlive it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SUPERVISOR = """
import sys, time
from etalage.engine.children import child
started = child([sys.executable, "-c", "import time; time.sleep(600)"])
print(started.pid, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="the signal at a parent's death is Linux's")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_f22_a_killed_supervisor_takes_its_workers_along(how: signal.Signals) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    worker = int(supervisor.stdout.readline())
    assert alive(worker)
    os.kill(supervisor.pid, how)
    supervisor.wait()
    supervisor.stdout.close()
    end = time.monotonic() + 240
    while alive(worker) and time.monotonic() < end:
        time.sleep(0.02)
    assert not alive(worker)
