"""The server as a process: its first line, its end, its weight."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from etalage.config import ServeConfig
from etalage.errors import ServeError
from etalage.serve.run import run
from tests.serve.servers import ProcessServer, until


def test_the_first_line_is_a_url_that_answers(served_shop: Path, tmp_path: Path) -> None:
    with ProcessServer(served_shop, tmp_path / "log") as server:
        assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_sigterm_lets_the_requests_in_flight_finish(served_shop: Path, tmp_path: Path) -> None:
    with ProcessServer(served_shop, tmp_path / "log") as server, ThreadPoolExecutor(4) as clients:
        half = threading.Event()

        def slow_body() -> httpx.Response:
            def parts():  # type: ignore[no-untyped-def]
                yield b'{"item_id": '
                half.set()
                until(lambda: "Shutting down" in server.log.read_text())
                yield b'"item-00003"}'

            headers = {"content-type": "application/json"}
            return httpx.post(f"{server.url}/v1/similar", content=parts(), headers=headers, timeout=120)

        answer = clients.submit(slow_body)
        assert half.wait(120)
        until(lambda: server.process.poll() is None)
        # The head and half of the body must have arrived: the server then counts one request in flight.
        httpx.get(f"{server.url}/healthz")
        server.process.send_signal(signal.SIGTERM)
        assert answer.result().status_code == 200
        assert len(answer.result().json()["answers"][0]["slate"]) == 10
        server.process.wait(120)


def test_a_port_in_use_is_named(served_shop: Path, tmp_path: Path) -> None:
    with ProcessServer(served_shop, tmp_path / "log") as server:
        port = int(server.url.rsplit(":", 1)[1])
        with pytest.raises(ServeError, match=rf"127.0.0.1:{port}: cannot listen there.*--port"):
            run(served_shop, ServeConfig(port=port))


def test_an_address_that_cannot_be_is_named(served_shop: Path) -> None:
    config = ServeConfig().model_copy(update={"port": 70_000})
    with pytest.raises(ServeError, match=r"127\.0\.0\.1:70000: cannot listen there"):
        run(served_shop, config)


@pytest.mark.parametrize("module", ["etalage.serve.run", "etalage.recommend", "etalage.serve.pyfunc"])
def test_serving_never_loads_the_training_side(module: str) -> None:
    heavy = ("torch", "mlflow", "pyspark", "etalage.training", "etalage.models", "deltalake", "pandas")
    code = f"import {module}, sys; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_client_needs_no_more_than_it_says() -> None:
    code = (
        "import sys; before = set(sys.modules); import etalage.client; "
        "print(sorted(m for m in set(sys.modules) - before if m.startswith('etalage')))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (
        found.stdout.strip()
        == "['etalage', 'etalage.api', 'etalage.client', 'etalage.errors', 'etalage.typed_json']"
    )
