"""A Milvus for tests: Milvus Lite as a process of its own, at an address, which can be killed."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etalage.config import IndexConfig
from tests.ports import free_port
from tests.serve.servers import until


class Milvus:
    """What it was told is in its folder: started again, it has it still."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._folder = folder / "milvus_data"
        self.start()

    def start(self) -> None:
        words = [sys.executable, "-m", "milvus_lite", "server", "--port", str(self.port), "--data-dir"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen([*words, str(self._folder)], stdout=quiet, stderr=quiet)
        until(self._answers)

    def _answers(self) -> bool:
        """Whether a client of this process reaches it: gRPC waits before it tries again where it failed."""
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
        try:
            self.client().list_collections()
        except Exception:  # whatever its client makes of a server that is just coming up
            return False
        return True

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(120)

    def config(self, index: str = "FLAT", **settings: Any) -> IndexConfig:
        given = {"uri": self.uri, "index": index, "seconds": 240, **settings}
        return IndexConfig(kind="milvus", milvus=given)

    def client(self) -> Any:
        from pymilvus import MilvusClient

        return MilvusClient(uri=self.uri)

    def aliases(self) -> dict[str, str]:
        """Alias → collection."""
        milvus = self.client()
        return {
            alias: name
            for name in milvus.list_collections()
            for alias in milvus.list_aliases(name)["aliases"]
        }

    def collections(self) -> set[str]:
        return set(self.client().list_collections())


@contextmanager
def running_milvus(folder: Path) -> Iterator[Milvus]:
    """The test is skipped where Milvus' client or Milvus Lite is not installed."""
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    server = Milvus(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder / "milvus_data", ignore_errors=True)
