"""A real Redis for tests (Debian: `apt-get install redis-server`; `pip install redis`)."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.ports import free_port
from tests.serve.servers import until


class Redis:
    """A Redis of our own that can be stopped and started again, on the same port, with nothing kept."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.uri = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self, *settings: str) -> None:
        words = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *settings]
        self.process = subprocess.Popen([*words, "--dir", str(self._folder)], stdout=subprocess.DEVNULL)
        until(self._answers)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait(120)

    def client(self) -> Any:
        return pytest.importorskip("redis").Redis(port=self.port, decode_responses=True)


@contextmanager
def running_redis(folder: Path) -> Iterator[Redis]:
    """A Redis that keeps nothing, in `folder`; the test is skipped where there is none on this machine."""
    pytest.importorskip("redis")
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server on this machine")
    server = Redis(folder)
    try:
        yield server
    finally:
        server.stop()
