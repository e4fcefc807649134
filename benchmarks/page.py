"""How soon does the storefront show something, and what does it take from the network for that?

    OMP_NUM_THREADS=1 python benchmarks/page.py [--shop FOLDER] [--rounds 9]

A real Chromium opens the grid of a shop, each time with nothing kept, in turn with a bare static page: one
line of text from Python's own server, which is as soon as this browser shows anything on this machine.
Without --shop, the demo's products are drawn. And: how long a search takes that reads a slip as the word that
was meant, among 100,000 titles.
"""

import difflib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer

sys.path[:0] = [str(Path(__file__).parent)]
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.demo import tables  # noqa: E402
from etalage.demo.tables import DemoSize  # noqa: E402
from etalage.funnel.spelling import Vocabulary  # noqa: E402
from etalage.shop import Shop  # noqa: E402

SCREENS = {"1400 × 1000": (1400, 1000), "390 × 844, a phone": (390, 844)}
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
BARE = b"<!doctype html><html lang=en><title>Bare</title><h1>A line of text</h1>"
SLIPS = ("jaket", "blouze", "teepot", "sandels", "trouzers", "backpak", "neckless", "cardign")
NOTE = (
    "{products:,} products; {rounds} openings of each page, in turn, each in a new browser context on one "
    "machine, where server, page and Chromium share {cores} cores. First contentful paint, and the "
    "first photo that is there: milliseconds after the navigation starts, by the browser's own clock; "
    "median, lowest and highest. `ratio`: of the medians; its interval is from the lowest to the highest of "
    "the rounds' own ratios. Requests and bytes (as they are transferred, heads included): until the network "
    "is idle, which takes in photos just below the screen. Search: milliseconds to find the nearest word "
    "for {slips} slips, each {rounds} times, in the {words:,} words of {titles:,} titles; `difflib`: "
    "Python's own `get_close_matches` over the same words; `found`: the share of slips for which the two "
    "name one word."
)


def main(
    shop: Annotated[Path | None, typer.Option(help="A shop with a bundle; else the demo's is drawn.")] = None,
    products: Annotated[int, typer.Option(help="Of the drawn demo.")] = 2000,
    titles: Annotated[int, typer.Option(help="Searched with slips.")] = 100_000,
    rounds: Annotated[int, typer.Option(min=1)] = 9,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("page", small, out)
    if small:
        products, titles, rounds = 100, 2_000, 1
    with tempfile.TemporaryDirectory() as made:
        folder = shop or drawn(Path(made) / "shop", products)
        products = len(Shop(folder).recommender().catalogue)
        rows = [*first_screens(folder, rounds)]
    searched, words = slips(titles, rounds)
    bench.write(
        [*rows, *searched],
        command="OMP_NUM_THREADS=1 python benchmarks/page.py",
        seeds=[7],
        packages=["starlette", "jinja2", "uvicorn", "pyarrow", "playwright"],
        note=NOTE.format(
            products=products,
            rounds=rounds,
            cores=os.cpu_count(),
            slips=len(SLIPS),
            words=words,
            titles=titles,
        ),
    )


def drawn(folder: Path, products: int) -> Path:
    """The demo's products and photos, with the bestsellers alone for a model."""
    folder.mkdir(parents=True)
    (folder / "shop.toml").write_text('name = "Étalage demo"\ncurrency = "EUR"\n', encoding="utf-8")
    shop = Shop(folder)
    tables.fill(shop.lake, DemoSize(items=products, shoppers=50, seed=7))
    shop.train("popularity")
    shop.publish()
    return folder


# -- the first screen --------------------------------------------------------------------------


def first_screens(folder: Path, rounds: int) -> Iterator[Row]:
    """What the browser says of each page."""
    from playwright.sync_api import sync_playwright

    with ExitStack() as stack:
        server = stack.enter_context(started("serve", "--shop", str(folder), "--port", "0"))
        page = stack.enter_context(started("page", "--url", server, "--port", "0"))
        bare = stack.enter_context(bare_page())
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        opened(browser, page, (800, 600))  # what the server does at its first question is not the page's
        for name, size in SCREENS.items():
            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(opened(browser, page, size))
                theirs.append(opened(browser, bare, size))
            yield from compared(name, ours, theirs)
        browser.close()


def compared(case: str, ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> Iterator[Row]:
    """The rows of one screen."""
    for system, found in (("etalage page", ours), ("bare static page", theirs)):
        for metric, unit in (("first contentful paint", "ms"), ("requests", ""), ("bytes", "B")):
            every = [one[metric] for one in found]
            yield Row(case, system, metric, float(np.median(every)), min(every), max(every), unit)
    photos = [one["first photo"] for one in ours]
    yield Row(case, "etalage page", "first photo", float(np.median(photos)), min(photos), max(photos), "ms")
    paint = "first contentful paint"
    ratios = [one[paint] / other[paint] for one, other in zip(ours, theirs, strict=True)]
    middle = np.median([one[paint] for one in ours]) / np.median([one[paint] for one in theirs])
    yield Row(case, "etalage page / bare static page", "ratio", float(middle), min(ratios), max(ratios))


def opened(browser: Any, url: str, size: tuple[int, int]) -> dict[str, float]:
    """What one opening took, with nothing kept from before."""
    context = browser.new_context(viewport=dict(zip(("width", "height"), size, strict=True)))
    page = context.new_page()
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    counted = {"requests": 0.0, "bytes": 0.0}

    def requested(_: Any) -> None:
        counted["requests"] += 1

    def finished(event: Any) -> None:
        counted["bytes"] += event["encodedDataLength"]

    network.on("Network.requestWillBeSent", requested)
    network.on("Network.loadingFinished", finished)
    page.goto(url)
    page.wait_for_load_state("networkidle")
    named = "performance.getEntriesByName('first-contentful-paint')"
    page.wait_for_function(f"() => {named}.length")  # on a busy machine it is told later
    paint = page.evaluate(f"() => {named}[0].startTime")
    photo = page.evaluate(
        "() => Math.min(...performance.getEntriesByType('resource')"
        ".filter((one) => one.name.includes('/photos/')).map((one) => one.responseEnd))"
    )
    context.close()
    return {**counted, "first contentful paint": float(paint), "first photo": float(photo or 0)}


@contextmanager
def started(*words: str) -> Iterator[str]:
    """A command of Etalage that serves: its address."""
    environment = {name: value for name, value in os.environ.items() if name != "ETALAGE_KEY"}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "etalage.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def bare_page() -> Iterator[str]:
    """One line of text."""

    class Bare(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.send_header("content-length", str(len(BARE)))
            self.end_headers()
            self.wfile.write(BARE)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Bare) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def chromium() -> str:
    """Where it is. Raises typer.BadParameter: nowhere."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        raise typer.BadParameter("no chromium on the PATH")
    return found


# -- slips -------------------------------------------------------------------------------------


def slips(count: int, rounds: int) -> tuple[list[Row], int]:
    """How long the nearest word takes, and how many words there are."""
    names = [
        name.lower()
        for name in tables.catalogue(DemoSize(items=min(count, 20_000), seed=7))["title"].to_pylist()
    ]
    # Shops have names of lines and models that no other product has: some for each title.
    letters = np.random.default_rng(7).integers(97, 123, (count, 7)).astype(np.uint8)
    own = letters.view("S7").ravel().astype(str)
    texts = pa.array([f"{names[n % len(names)]} {own[n // 4]}" for n in range(count)], pa.large_string())
    began = time.perf_counter()
    vocabulary = Vocabulary(texts)
    making = 1000 * (time.perf_counter() - began)
    known = sorted({word for text in texts.to_pylist() for word in text.replace(",", " ").split()})
    times: dict[str, list[float]] = {"etalage": [], "difflib": []}
    same = []
    for _ in range(rounds):
        for typed in SLIPS:
            began = time.perf_counter()
            ours = vocabulary.nearest(typed)
            between = time.perf_counter()
            theirs = difflib.get_close_matches(typed, known, 1)
            times["etalage"].append(1000 * (between - began))
            times["difflib"].append(1000 * (time.perf_counter() - between))
            same.append([ours] == theirs)
    case = f"a slip among {count:,} titles"
    rows = [
        Row(case, system, "nearest word", float(np.median(every)), min(every), max(every), "ms")
        for system, every in times.items()
    ]
    rows.append(Row(case, "etalage", "words read, once a bundle", making, making, making, "ms"))
    share = float(np.mean(same))
    return [*rows, Row(case, "etalage, difflib", "found", share, share, share)], len(vocabulary)


if __name__ == "__main__":
    run_main(main)
