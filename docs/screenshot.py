"""Take the README's screenshots of a running page: the grid, one item, an uploaded photo.

    etalage demo &          # or: etalage serve … & etalage page …
    python docs/screenshot.py http://127.0.0.1:8765 http://127.0.0.1:8501 docs/pictures

Writes page-grid.png, page-item.png and page-photo.png. Needs Playwright's Python package and a
Chromium on the PATH; the server's key, if it has one, comes from ETALAGE_KEY.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from etalage.client import Client

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PHOTOS_SHOWN = """selector => {
  const hosts = [...document.querySelectorAll(selector + " *")].filter((node) => node.shadowRoot);
  const photos = hosts.flatMap((host) => [...host.shadowRoot.querySelectorAll("img")]);
  return photos.length > 0 && photos.every((photo) => photo.complete);
}"""


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("server")
    arguments.add_argument("page")
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--item", help="the item to open; default: the sixth of the grid")
    arguments.add_argument("--size", default="1400x1000")
    given = arguments.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no chromium on the PATH")
    width, height = (int(part) for part in given.size.split("x"))
    given.folder.mkdir(parents=True, exist_ok=True)
    with Client(given.server, os.environ.get("ETALAGE_KEY")) as client:
        item_id = given.item or client.items(limit=6).items[-1].item_id
        photo = client.photo(item_id)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(given.page)
        page.wait_for_function(PHOTOS_SHOWN, arg=".st-key-grid")
        page.wait_for_timeout(500)
        page.screenshot(path=given.folder / "page-grid.png")
        page.set_input_files("input[type=file]", {"name": "photo", "mimeType": "image/*", "buffer": photo})
        page.wait_for_function(PHOTOS_SHOWN, arg=".st-key-like-photo")
        page.wait_for_timeout(500)
        page.screenshot(path=given.folder / "page-photo.png")
        page.goto(f"{given.page}/?item={item_id}")
        page.wait_for_function(PHOTOS_SHOWN, arg=".st-key-like-item")
        page.wait_for_timeout(500)
        page.screenshot(path=given.folder / "page-item.png")
        browser.close()


if __name__ == "__main__":
    main()
