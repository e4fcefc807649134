"""Really running servers: in a thread (fast, its insides in reach) or as a process of its own."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from etalage.config import ServeConfig
from etalage.online import Patience
from etalage.serve import online, routes
from etalage.serve.app import create_app
from etalage.serve.connection import PatientProtocol
from etalage.serve.run import protocol_of
from tests.ports import free_port

T = TypeVar("T")
WAIT = 240.0


def be_patient() -> None:
    """No request is late, no online store slow, and no client silent because the machine is busy: a server in
    a thread of the tests has all the time there is, unless the test says otherwise."""
    routes.DEADLINE_SECONDS = WAIT
    online.PATIENCE = Patience(WAIT, WAIT)
    PatientProtocol.silent_seconds = PatientProtocol.request_seconds = WAIT


be_patient()
_LAUNCH = """
import os, sys
from pathlib import Path
from etalage.config import ServeConfig
from etalage.serve.run import run
from etalage.online import Patience
import etalage.serve.run as command
from etalage.serve import online, routes
routes.DEADLINE_SECONDS, online.PATIENCE = 240.0, Patience(240.0, 240.0)
command.DRAIN_SECONDS = command.KEEP_ALIVE_SECONDS = 240
run(Path(sys.argv[1]), ServeConfig.model_validate_json(sys.argv[2]), os.environ.get("ETALAGE_KEY"),
    access_log=True)
"""


class ThreadServer:
    """uvicorn as `run` sets it up, in a thread; `app` is its application."""

    def __init__(self, bundles: Path, key: str | None = None, **settings: Any) -> None:
        config = ServeConfig(**{"reload_seconds": 0.02, **settings})
        self.app: FastAPI = create_app(bundles, config, key)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        settings_ = uvicorn.Config(
            self.app, http=protocol_of(config), loop="uvloop", lifespan="on", ws="none", log_config=None,
            timeout_keep_alive=round(WAIT),
        )  # fmt: skip
        self._server = uvicorn.Server(settings_)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def _run(self) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            await self._server.serve([self._socket])

        asyncio.run(main())

    def within(self, work: Callable[[], Awaitable[T]]) -> "Any":
        """Run a coroutine on the server's own loop; its future."""
        assert self._loop is not None

        async def wrapped() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(wrapped(), self._loop)

    def __enter__(self) -> "ThreadServer":
        self._thread.start()
        until(lambda: self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(WAIT)
        self._socket.close()


class ProcessServer:
    """`etalage.serve.run.run` in a process of its own; `log` is its standard error."""

    def __init__(
        self, bundles: Path, log: Path, key: str | None = None, files: int | None = None, **settings: Any
    ) -> None:
        """`files`: as many descriptors may the process have."""
        config = ServeConfig(**{"port": 0, "reload_seconds": 0.02, **settings})
        self.log = log
        few = [] if files is None else ["prlimit", f"--nofile={files}"]
        environment = {k: v for k, v in os.environ.items() if k != "ETALAGE_KEY"}
        if key is not None:
            environment["ETALAGE_KEY"] = key
        self.process = subprocess.Popen(
            [*few, sys.executable, "-c", _LAUNCH, str(bundles), config.model_dump_json()],
            stdout=subprocess.PIPE,
            stderr=log.open("wb"),
            text=True,
            env=environment,
            cwd=Path(__file__).resolve().parents[2],
        )
        self.url = ""

    def __enter__(self) -> "ProcessServer":
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://127.0.0.1:"), self.log.read_text()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(WAIT)
        finally:
            self.process.kill()
            assert self.process.stdout is not None
            self.process.stdout.close()


class MlflowServer:
    """`mlflow models serve` of one registered model, on a free port of loopback."""

    def __init__(self, model_uri: str, tracking: str, log: Path, **environment: str) -> None:
        port = free_port()
        self.log = log
        arguments = ["models", "serve", "--env-manager", "local", "-m", model_uri]
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mlflow",
                *arguments,
                "-h",
                "127.0.0.1",
                "-p",
                str(port),
                "--workers",
                "1",
            ],
            env={
                **os.environ,
                "MLFLOW_TRACKING_URI": tracking,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                **environment,
            },
            cwd=log.parent,  # not the project: the model brings its own code
            stdout=log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.url = f"http://127.0.0.1:{port}"

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()[-3000:]
        try:
            return httpx.get(f"{self.url}/ping", timeout=WAIT).is_success
        except httpx.TransportError:
            return False

    def __enter__(self) -> "MlflowServer":
        try:
            until(self._answers, 240)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(120)


def until(true: Callable[[], Any], seconds: float = WAIT) -> None:
    """Wait for `true()`; the time is a limit, not an expectation."""
    import time

    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"still not true after {seconds} s"
        time.sleep(0.005)


class Clock:
    """A worker's clock; the test puts it forward, and no deadline passes by itself on a busy machine."""

    def __init__(self, server: ThreadServer, monkeypatch: pytest.MonkeyPatch, worker: str = "scorer") -> None:
        self.now = 0.0
        monkeypatch.setattr(getattr(server.app.state, worker), "clock", lambda: self.now)

    def forward(self, seconds: float = 60.0) -> None:
        self.now += seconds


def metric(url: str, name: str, **headers: str) -> float:
    """One figure of /metrics, its labels written as Prometheus does."""
    for line in httpx.get(f"{url}/metrics", headers=headers).text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no metric {name}")
