"""Start the storefront: Streamlit on loopback, with nothing sent anywhere but to the server."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import etalage
from etalage.errors import ConfigError, installing

SCRIPT = Path(__file__).with_name("storefront.py")
FOLDER = SCRIPT.parent
"""Where the page runs: Streamlit obeys a `.streamlit` of the current folder, which may be a stranger's."""
UPLOAD_MEGABYTES = 10
"""A photo of this size still fits the body that a server takes unless told otherwise."""

THEME = {
    "base": "light",
    "primaryColor": "#1f4f3d",
    "backgroundColor": "#fdfcfa",
    "secondaryBackgroundColor": "#f3efe8",
    "textColor": "#1f1c18",
    "borderColor": "#e0d9cd",
    "baseRadius": "8px",
    "showWidgetBorder": "true",
}


def run(url: str, port: int, compare: str | None = None) -> int:
    """Serve the page at 127.0.0.1:port for the server at `url`, until it is stopped. → exit code.

    `compare`: a second server, whose slates are shown beside the first one's. The servers' keys, if they
    have such, are taken from the environment (ETALAGE_KEY, ETALAGE_COMPARE_KEY). Raises ConfigError:
    Streamlit is not installed.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise ConfigError(f"streamlit is not installed: {installing('page')}")
    process = subprocess.Popen(command(url, port), env=environment(url, compare=compare), cwd=FOLDER)
    # Who ends us means the page too: without this, it would stay behind and hold the port.
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    except KeyboardInterrupt:  # the page got it as well
        return process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
        process.terminate()


def command(url: str, port: int) -> list[str]:
    """What starts the page. `url` travels in the environment, see there."""
    options = {
        "server.headless": "true",
        "server.address": "127.0.0.1",
        "server.port": str(port),
        "server.fileWatcherType": "none",
        "server.runOnSave": "false",
        "server.maxUploadSize": str(UPLOAD_MEGABYTES),
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        **{f"theme.{name}": value for name, value in THEME.items()},
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    # -P: a file in the current folder takes no module's place (F62).
    return [sys.executable, "-P", "-m", "streamlit", "run", str(SCRIPT), *given]


def environment(
    url: str, key: str | None = None, name: str | None = None, compare: str | None = None
) -> dict[str, str]:
    """This process's environment, with where the servers are and what the shop is called.

    `key`, `name` and `compare` that are None keep what the environment says already. The key is never an
    argument: a command line can be read by everybody on the machine.
    """
    root = str(Path(etalage.__file__).resolve().parents[1])
    # An empty step, as `PYTHONPATH=$PYTHONPATH:more` leaves one, would mean the current folder.
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    changed = {"ETALAGE_URL": url, "PYTHONPATH": os.pathsep.join(paths)}
    if key is not None:
        changed["ETALAGE_KEY"] = key
    if name is not None:
        changed["ETALAGE_NAME"] = name
    if compare is not None:
        changed["ETALAGE_COMPARE_URL"] = compare
    return {**os.environ, **changed}
