"""How the page is started and stopped."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from etalage.cli.app import app
from etalage.errors import ConfigError, ServeError
from etalage.page import run as running


def started(port: int, **environment: str) -> subprocess.Popen[str]:
    words = ["-m", "etalage.cli", "page", "--url", "http://127.0.0.1:9", "--port", str(port)]
    return subprocess.Popen(
        [sys.executable, "-P", *words],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answers(port: int) -> Callable[[], bool]:
    def is_up() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    return is_up


def test_the_page_listens_on_loopback_says_where_and_ends_when_it_is_told() -> None:
    process = started(0, ETALAGE_KEY="the-secret-key", ETALAGE_NAME="Chez <Ada>")
    try:
        assert process.stdout is not None
        url = process.stdout.readline()
        port = int(url.rpartition(":")[2])
        assert url == f"http://127.0.0.1:{port}\n" and answers(port)()
        page = httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
        assert page.status_code == 503 and "Chez &lt;Ada&gt;" in page.text and "secret" not in page.text
        line = Path(f"/proc/{process.pid}/cmdline").read_text()
        assert "secret" not in line
        listening = {entry.split()[1] for entry in Path("/proc/net/tcp").read_text().splitlines()[1:]}
        assert f"0100007F:{port:04X}" in listening and f"00000000:{port:04X}" not in listening
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=240)
        assert out == "" and "secret" not in err
        assert not answers(port)()
    finally:
        process.kill()


def test_a_port_in_use_is_said_in_our_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = rf"127.0.0.1:{port}: cannot listen there: another program already does; choose another --port"
        with pytest.raises(ServeError, match=words):
            running.run("http://127.0.0.1:9", port)
        done = CliRunner().invoke(app, ["page", "--port", str(port)])
        assert done.exit_code == ServeError.exit_code


def test_a_package_that_is_missing_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "NEEDED", {"no_such_module": "no-such-package"})
    with pytest.raises(ConfigError, match=r"no-such-package.*\.\[page\]"):
        running.run("http://127.0.0.1:9", 0)
