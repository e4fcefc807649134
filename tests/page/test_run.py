"""How the page is started and stopped."""

import os
import signal
import subprocess
import sys

import httpx
import pytest

from etalage.page.run import command, environment
from tests.ports import free_port
from tests.serve.servers import until


def test_the_key_is_in_the_environment_and_never_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETALAGE_KEY", "from-outside")
    url = "http://127.0.0.1:9999"
    assert environment(url)["ETALAGE_KEY"] == "from-outside"
    given = environment(url, "secret-key", "Chez Ada")
    assert (given["ETALAGE_URL"], given["ETALAGE_KEY"], given["ETALAGE_NAME"]) == (
        url,
        "secret-key",
        "Chez Ada",
    )
    assert os.environ["ETALAGE_KEY"] == "from-outside"
    assert "ETALAGE_COMPARE_URL" not in given
    assert environment(url, compare="http://127.0.0.1:9998")["ETALAGE_COMPARE_URL"] == "http://127.0.0.1:9998"
    line = " ".join(command(url, 8501))
    assert "from-outside" not in line and "secret" not in line


def test_the_page_listens_on_loopback_alone_and_sends_no_statistics() -> None:
    line = command("http://127.0.0.1:9999", 8123)
    assert line[:5] == [sys.executable, "-P", "-m", "streamlit", "run"]
    assert {"--server.address=127.0.0.1", "--server.port=8123", "--server.headless=true"} < set(line)
    assert "--browser.gatherUsageStats=false" in line


def test_who_ends_the_command_ends_the_page_too() -> None:
    port = free_port()
    launch = f"from etalage.page.run import run; raise SystemExit(run('http://127.0.0.1:9', {port}))"
    process = subprocess.Popen(
        [sys.executable, "-c", launch], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    def is_up() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/_stcore/health", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    try:
        until(is_up, 240)
        process.send_signal(signal.SIGTERM)
        process.wait(120)
        until(lambda: not is_up())
    finally:
        process.kill()
