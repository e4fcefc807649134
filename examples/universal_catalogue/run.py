"""One catalogue of three merchants: from links to categories written back beside the merchants' own.

python examples/universal_catalogue/run.py --data GROCERY --taxonomy GOOGLE --journey JOURNEY [--small]

Says what it does, and checks it: a claim that does not hold ends it with exit status 1.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import checks
import feeds
import values
from claims import Claims, shop_serves
from merchants import MERCHANTS, own_ids

from etalage.api import ToClassify
from etalage.config import parse_pairs
from etalage.console import add_row, bar, out, table_of
from etalage.errors import EtalageError
from etalage.lake.labelling import OUTSIDE, RETIRED, UNKNOWN
from etalage.lake.photos.probe import sample
from etalage.shop import Shop, taxonomy_steps

EXAMPLE = Path(__file__).resolve().parent
MODEL = "item_category"
SOME, PER_CLASS = 10, 12
"""Of --small: so many classes, and photos of each."""
LOOK = {
    "frozen_epochs": "20",
    "light": "0.3",
    "epochs": "20",
    "average": "null",
    "learning_rate": "0.003",
    "buckets": "4096",
}
"""Of --small: the backbone stays as it came, and the heads learn in seconds."""


@dataclass(frozen=True)
class Servers:
    """The merchants' photo servers, running: the port of all, one that refuses, what they were asked."""

    port: int
    closed: int
    log: Path


@contextmanager
def merchants_serve(world: Path) -> Iterator[Servers]:
    """All photo servers, in a process of their own, while this is open."""
    log = world / "requests.jsonl"
    log.unlink(missing_ok=True)
    command = [sys.executable, str(EXAMPLE / "server.py"), str(world / "plan.json"), str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        _, port, closed = process.stdout.readline().split()
        yield Servers(int(port), int(closed), log)
    finally:
        process.terminate()
        process.wait()


def fresh(folder: Path) -> Path:
    """`folder`, empty: what an earlier run of this example made there is removed."""
    if folder.exists():
        if not (folder / "world" / "plan.json").exists() and any(folder.iterdir()):
            raise typer.BadParameter(f"{folder} is not empty, and not of this example")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    return folder


def open_shop(folder: Path, servers: Servers, taxonomy: Path) -> Shop:
    """A shop by this example's shop.toml, with the ports and folders of this machine."""
    text = (EXAMPLE / "shop.toml").read_text(encoding="utf-8")
    places = {
        "PORT": servers.port,
        "CLOSED": servers.closed,
        "TAXONOMY": taxonomy.resolve(),
        "EXAMPLE": EXAMPLE,
    }
    for name, place in places.items():
        text = text.replace(name, str(place))
    folder.mkdir(parents=True)
    (folder / "shop.toml").write_text(text, encoding="utf-8")
    return Shop(folder, bar)


def say(text: str) -> None:
    out.print(f"\n{text}", highlight=False)


def links(shop: Shop, world: feeds.World, servers: Servers, claims: Claims) -> None:
    """Probe, fetch, and fetch again."""
    say("3. etalage photos probe: a sample of the links first")
    urls, seed = sorted(world.expected()), 1
    probed = shop.probe_photos(max(60, len(urls) // 10), seed)
    failed = probed.whole.failed
    share = sum("ok" not in states for states in world.expected().values()) / len(urls)
    print(
        f"  {probed.asked} of {probed.links} links: {failed.share:.1%} fail "
        f"({failed.low:.1%} – {failed.high:.1%}); of all links it is {share:.1%}"
    )
    asked = [urls[at] for at in sample(urls, probed.asked, seed)]
    truly = sum("ok" not in world.expected()[url] for url in asked)
    claims.that("the probe counted what fails in its sample", failed.count == truly, failed.count)

    say("4. etalage photos fetch")
    servers.log.write_text("")
    begun = time.monotonic()
    fetched = shop.fetch_photos()
    took = time.monotonic() - begun
    print(
        f"  {fetched.links} links in {took:.0f} s: {fetched.photos} photos, {fetched.downloaded / 1e6:.1f} MB"
    )
    checks.links_ended_well(world, shop.lake.table("links").read().to_pylist(), claims)
    requests = checks.read_requests(servers.log)
    checks.crawler_behaved(requests, shop.config.photos, claims)

    say("   etalage photos fetch, once more")
    shop.fetch_photos()
    checks.only_failed_asked_again(world, checks.read_requests(servers.log)[len(requests) :], claims)


def categories(shop: Shop, world: feeds.World, claims: Claims) -> None:
    """What the items carry themselves."""
    say("5. etalage taxonomy check")
    found = taxonomy_steps.check(shop)
    print(
        f"  {found.items} items carry a category: " + ", ".join(f"{n} {how}" for how, n in found.how.items())
    )
    told = {finding.reason: finding.items for finding in found.findings}
    carried = {
        kind: sum(offer.carries == kind for offer in world.offers)
        for kind in ("unknown", "retired", "service")
    }
    for reason, kind in ((UNKNOWN, "unknown"), (RETIRED, "retired"), (OUTSIDE, "service")):
        claims.that(
            f"{reason}: {carried[kind]} items", told.get(reason, 0) == carried[kind], told.get(reason, 0)
        )


def model(shop: Shop, small: bool, given: dict[str, str]) -> None:
    """Train it, and measure it beside the simple ones."""
    say("6. etalage train item_category")
    trained, exported = shop.train(MODEL, {**(LOOK if small else {}), **given})
    print(f"  {exported.name}: {trained.seconds:.0f} s, {trained.metrics}")
    say("7. etalage evaluate item_category")
    done = shop.evaluate(MODEL)
    print(done.summary())
    print(f"  report: {done.report}")


def answers(shop: Shop, world: feeds.World, gate: bool, claims: Claims) -> None:
    """Classify the catalogue, publish it, ask. gate: publish only what passed."""
    say("8. etalage classify")
    done = shop.classify()
    print("  " + ", ".join(f"{count} {status}" for status, count in done.counts.items()))
    rows = shop.lake.table("classifications").read().to_pylist()
    items = shop.lake.table("items").read(columns=["item_id", "category_id"]).to_pylist()
    own = {row["item_id"]: row["category_id"] for row in items}
    found = checks.written_back(world, rows, own, claims)
    print(f"  of {found.items} items that carried no id, {found.decided} were decided, {found.right} rightly")
    claims.that("most of what was decided is right", found.right > found.decided / 2)
    claims.that("asking again asks about nothing", shop.classify().asked == 0)

    say("9. etalage publish")
    manifest = shop.publish(force=not gate)
    print(f"  {manifest.id}: {manifest.items} items")

    say("10. etalage serve, POST /v1/classify")
    written = {row["item_id"]: row["path"] for row in rows}
    bare = [offer for offer in world.offers if offer.how == "photo" and offer.carries == "nothing"]
    asked = next((offer for offer in bare if written[offer.item_id]), bare[0])
    assert asked.file is not None
    with shop_serves(shop) as client:
        (answer,) = client.classify([ToClassify([asked.file.read_bytes()], asked.title)]).answers
        (item,) = client.classify_item(asked.item_id).answers
    print(f"  {asked.title!r}: {answer.path or answer.reason} ({answer.confidence or 0:.2f})")
    same = item.path == written[asked.item_id]
    claims.that("the served answer is the one written back", same, item.path or "none")
    own_one = item.stored.own if item.stored else None
    claims.that("and stands beside the merchant's own", own_one == asked.category, own_one or "none")

    say("What was written back, beside the merchants' own")
    table = table_of("merchant", "title", "own category", "category", "confidence")
    for row in checks.beside(world, rows, most=4):
        add_row(table, *row)
    out.print(table)


def main(
    data: Annotated[Path, typer.Option(help="Folder of the Grocery Store data set.")],
    taxonomy: Annotated[Path, typer.Option(help="Folder of Google's product taxonomy.")],
    journey: Annotated[Path, typer.Option(help="Folder of The Complete Journey.")],
    folder: Annotated[Path, typer.Option(help="Where it all is made.")] = Path("build/universal-catalogue"),
    small: Annotated[bool, typer.Option(help="Some classes and photos: a minute.")] = False,
    seed: Annotated[int, typer.Option(help="Draws the world.")] = 0,
    set: Annotated[list[str] | None, typer.Option("--set", help="key=value of the model's config.")] = None,
) -> None:
    claims, begun = Claims(), time.monotonic()
    fresh(folder)
    say("1. Three merchants, their feeds and their photo servers")
    limits = {"some": SOME, "per_class": PER_CLASS} if small else {}
    world = feeds.make(data, folder / "world", own_ids(), seed, **limits)
    print(f"  {len(world.offers)} offers, of which {dict(world.hows())}")
    with merchants_serve(folder / "world") as servers:
        shop = open_shop(folder / "shop", servers, taxonomy)
        values.write(journey, {name: ids[0] for name, ids in own_ids().items()}, shop.folder / "values.csv")
        say("2. etalage ingest")
        for merchant in MERCHANTS:
            done = shop.ingest(
                folder / "world" / merchant.file, "items", attributes={"merchant": merchant.name}
            )
            print(f"  {merchant.file}: inserted {done.inserted}, refused {done.refused}")
        links(shop, world, servers, claims)
    categories(shop, world, claims)
    model(shop, small, parse_pairs("--set", set) or {})
    answers(shop, world, not small, claims)
    print(f"{time.monotonic() - begun:.0f} s; serve it: etalage serve --shop {shop.folder}")
    if claims.broken:
        print("BROKEN: " + "; ".join(claims.broken), file=sys.stderr)
        raise typer.Exit(1)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        typer.run(main)
    except EtalageError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
