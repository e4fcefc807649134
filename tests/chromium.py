"""The browser of the tests: Debian's Chromium, without a window."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str:
    """Where it is; ETALAGE_NO_BROWSER=1 leaves out the tests that need it."""
    if os.environ.get("ETALAGE_NO_BROWSER") == "1":
        pytest.skip("ETALAGE_NO_BROWSER=1")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.fail("no chromium on the PATH: install it, or set ETALAGE_NO_BROWSER=1 to test without one")
    return found


@contextmanager
def launched(*flags: str) -> Iterator[Any]:
    """A headless browser, with more flags. While it is open, its thread cannot run another event loop."""
    found = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=[*FLAGS, *flags])
        yield browser
        browser.close()
