"""Take the README's screenshots of a running page: the grid, one item, an uploaded photo, a phone.

    etalage demo &          # or: etalage serve … & etalage page …
    python docs/screenshot.py http://127.0.0.1:8765 http://127.0.0.1:8501 docs/pictures

Writes page-grid.png, page-item.png, page-photo.png and page-phone.png. Needs Playwright's Python package and
a Chromium on the PATH; the server's key, if it has one, comes from ETALAGE_KEY.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from etalage.client import Client

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--hide-scrollbars",
]
PHOTOS_SHOWN = """() => {
  const seen = (one) => one.getBoundingClientRect().top < innerHeight;
  const photos = [...document.querySelectorAll("main img")].filter(seen);
  return photos.length > 0 && photos.every((photo) => photo.complete && photo.naturalWidth > 0);
}"""
PHONE = {"width": 390, "height": 844}
COLOURS = 256
"""Of a picture: a third of the bytes; soft shades come out in steps."""


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
        take(page, given.folder / "page-grid.png")
        page.set_input_files("#photo", {"name": "photo", "mimeType": "image/*", "buffer": photo})
        page.wait_for_url("**photo=*")
        take(page, given.folder / "page-photo.png")
        page.goto(f"{given.page}/?item={quote(item_id, safe='')}")
        take(page, given.folder / "page-item.png")
        phone = browser.new_page(viewport=PHONE, is_mobile=True, has_touch=True, device_scale_factor=1.5)
        phone.goto(given.page)
        take(phone, given.folder / "page-phone.png")
        browser.close()


def take(page: Page, file: Path) -> None:
    """The page's first screen, once its photos are there."""
    page.wait_for_function(PHOTOS_SHOWN)
    page.wait_for_timeout(500)
    page.screenshot(path=file)
    with Image.open(file) as taken:
        taken.convert("RGB").quantize(COLOURS).save(file, optimize=True)


if __name__ == "__main__":
    main()
