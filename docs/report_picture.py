"""Take the guide's picture of the page that decides: the first card of a shop's reports/shop.html.

    etalage demo && etalage evaluate --shop demo
    python docs/report_picture.py demo/reports/shop.html docs/pictures/report.png

Needs Playwright's Python package and a Chromium on the PATH.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def main() -> None:
    page, picture = (Path(given).resolve() for given in sys.argv[1:3])
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no chromium on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1000, "height": 900})
        tab.goto(page.as_uri())
        tab.locator(".card").first.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main()
