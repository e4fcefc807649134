"""Three merchants' feeds out of one set of photos, and the plan of how each link will answer.

Every photo of the Grocery Store data set (DATA) is a product of one merchant; some products are sold by a
second one. Each merchant has its own ids, titles, categories and photo hosts. Which links fail, and how, is
drawn with a seed and counted: `World.offers` says of each what must become of it. `make` fills a folder:

    green-aisle.csv  frischkorb.tsv  kassa24.jsonl    the feeds, as the merchants would send them
    plan.json                                         what server.py answers
    photos/                                           photos that a second merchant made smaller
"""

import csv
import io
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from merchants import MERCHANTS, Class, Merchant, classes, wording
from PIL import Image

INVALID, FAILING, TROUBLED, ELSEWHERE = 0.01, 0.12, 0.02, 0.10
"""Shares: links that are none; that give no photo; that give one at the second attempt or somewhere else; and
products that a second merchant sells, too."""
HOSTS = 6
COLUMNS = ("id", "title", "product_type", "image_link", "brand", "gtin", "google_product_category", "split")
DETOURS = ("moved", "busy", "shaky")
"""How a link gives its photo elsewhere, or at the second attempt."""
FAULTS: dict[str, tuple[str, ...]] = {
    "missing": ("dead",), "home": ("redirected_home",), "page": ("not_an_image",), "silent": ("timeout",),
    "cut": ("broken",), "gone": ("dead",), "pixel": ("too_small",), "refused": ("dead", "host_down"),
    "forbidden": ("http_error",), "fenced": ("refused_by_robots",), "drip": ("timeout",),
    "short": ("broken",), "error": ("http_error",), "opted_out": ("refused_by_robots",),
    "loop": ("too_many_redirects",), "inside": ("refused_by_policy",),
}  # fmt: skip
"""How a link fails (server.py) → the states that it may end in (table `links`); the commonest come first. A
host that refuses every connection is not asked for all of its links."""
TEMPORARY = ("silent", "drip", "refused", "short", "error")
"""Those that may well work the next time."""
BROKEN_LINKS = (
    "htp:/{host}/p/{n}.jpg", "{host}/p/{n}.jpg", "http://", "http://{host}:photo/{n}.jpg",
    "ftp://{host}/p/{n}.jpg", "http:// {host}/p/{n}.jpg", "n/a",
)  # fmt: skip
INSIDE = (
    "http://169.254.169.254/latest/meta-data/{n}",
    "http://10.0.0.1/{n}.jpg",
    "http://[fd00::1]/{n}.jpg",
)
SERVICES = (
    ("Gift wrapping service", "Services > Gift Wrapping"),
    ("Delivery within two hours", "Services > Delivery"),
    ("Cooking class, one evening", "Services > Events"),
)
MISTAKEN = {"wrong": 0.01, "unknown": 0.005, "retired": 0.005}
"""Shares of the items that carry such an id; at least one does."""
RETIRED, UNKNOWN = "10", "987654321"
"""An id of Google's taxonomy of 2012 that is gone since, and one that never was."""


@dataclass(frozen=True)
class Source:
    """One photo file, what it shows, and the part that it was published in."""

    file: Path
    of: Class
    part: str


@dataclass(frozen=True)
class Offer:
    """One row of one merchant's feed; `how` its link answers, `states` what may become of it (none: no link).

    part: as published. of, file: None for a service.
    """

    merchant: Merchant
    item_id: str
    title: str
    category: str
    link: str | None
    gtin: str
    google: str | None
    carries: str
    """What `google` is: `fine`, `google`, `nothing`, `wrong`, `unknown`, `retired`, or `service`."""
    part: str
    of: Class | None
    file: Path | None
    how: str
    states: tuple[str, ...]

    def row(self) -> dict[str, str | None]:
        """As the feed has it."""
        brand = self.of.name.split("-")[0] if self.of and self.of.top == "Packages" else None
        values = (
            self.item_id,
            self.title,
            self.category,
            self.link,
            brand,
            self.gtin,
            self.google,
            self.part,
        )
        return dict(zip(COLUMNS, values, strict=True))


@dataclass(frozen=True)
class World:
    """Everything that was drawn."""

    offers: tuple[Offer, ...]

    def expected(self) -> dict[str, tuple[str, ...]]:
        """{link: the states that it may end in}."""
        return {offer.link: offer.states for offer in self.offers if offer.link}

    def hows(self) -> Counter[str]:
        return Counter(offer.how for offer in self.offers)


def sources(data: Path, some: Sequence[Class], per_class: int | None = None) -> list[Source]:
    """The photos of these classes: at most `per_class` of each for training, a third as many for validation.

    The iconic photo on white counts as one for training.
    """
    root = data / "dataset"
    listed = classes(data)
    chosen = {one.name for one in some}
    iconic = root / "iconic-images-and-descriptions"
    found = [Source(next(iconic.rglob(f"{one.name}_Iconic.jpg")), one, "train") for one in some]
    for part, name, most in (
        ("train", "train.txt", per_class),
        ("validation", "val.txt", per_class and max(1, per_class // 3)),
    ):
        taken: Counter[str] = Counter()
        for line in (root / name).read_text(encoding="utf-8").splitlines():
            path, fine, _ = line.split(", ")
            one = listed[int(fine)]
            taken[one.name] += 1
            if one.name in chosen and (most is None or taken[one.name] <= most):
                found.append(Source(root / path, one, part))
    return found


def gtin(number: int) -> str:
    """A 13-digit article number of the range that shops may use among themselves, with its check digit."""
    digits = f"20{number:010d}"
    total = sum(int(digit) * (1, 3)[place % 2] for place, digit in enumerate(digits))
    return digits + str(-total % 10)


def identity(
    merchant: Merchant, one: Class, ids: dict[str, tuple[str, str]], draw: random.Random
) -> tuple[str | None, str]:
    """The category id that an item carries, and what kind of one. ids: {class: (its own, Google's above)}."""
    luck = draw.random()
    if luck < merchant.fine:
        return ids[one.name][0], "fine"
    return (ids[one.name][1], "google") if luck < merchant.fine + merchant.google else (None, "nothing")


# -- who sells what, and what their servers do -------------------------------------------------


def make(data: Path, folder: Path, ids: dict[str, tuple[str, str]], seed: int = 0,
         some: int | None = None, per_class: int | None = None) -> World:  # fmt: skip
    """Draw the world and write it to `folder`: feeds, plan and the smaller photos.

    ids: {class: (id of the class, Google's id above it)}. some, per_class: only so many classes, photos.
    """
    draw = random.Random(seed)
    every = classes(data)
    chosen = every if some is None else every[:: max(1, len(every) // some)][:some]
    photos = sources(data, chosen, per_class)
    draw.shuffle(photos)
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    offers = []
    counts: Counter[str] = Counter()
    for number, photo in enumerate(photos):
        sellers = draw.choices(MERCHANTS, [merchant.share for merchant in MERCHANTS])
        if draw.random() < ELSEWHERE:
            sellers.append(draw.choice([merchant for merchant in MERCHANTS if merchant not in sellers]))
        for place, merchant in enumerate(sellers):
            file = photo.file
            if place and number % 2:
                file = smaller(photo.file, folder / "photos" / f"{number:05d}.jpg")
            counts[merchant.prefix] += 1
            title, category = wording(merchant, photo.of, draw)
            carried, kind = identity(merchant, photo.of, ids, draw)
            offers.append(Offer(
                merchant, f"{merchant.prefix}-{counts[merchant.prefix]:05d}", title, category,
                f"http://img{draw.randrange(HOSTS)}.{merchant.domain}/p/{number:05d}-{place}.jpg",
                gtin(number), carried, kind, photo.part, photo.of, file, "photo", ("ok",),
            ))  # fmt: skip
    offers = troubled(mistaken(offers, ids, draw), draw)
    offers += services(counts)
    world = World(tuple(offers))
    write(world, folder)
    return world


def smaller(file: Path, into: Path) -> Path:
    """The photo as a second merchant keeps it: another size, another compression, the same thing to see."""
    with Image.open(file) as opened:
        image = opened.convert("RGB")
        image.thumbnail((240, 240), Image.Resampling.BICUBIC)
        image.save(into, "JPEG", quality=72)
    return into


def mistaken(offers: list[Offer], ids: dict[str, tuple[str, str]], draw: random.Random) -> list[Offer]:
    """The same offers, some of which carry another class's id, one that never was, or one that is gone."""
    changed = list(offers)
    order = draw.sample(range(len(offers)), len(offers))
    for kind, share in MISTAKEN.items():
        for _ in range(max(1, round(share * len(offers)))):
            at = order.pop()
            one = changed[at].of
            others = [offer.of.name for offer in offers if offer.of and offer.of is not one]
            carried = {"wrong": ids[draw.choice(others)][0], "unknown": UNKNOWN, "retired": RETIRED}[kind]
            changed[at] = replace(changed[at], google=carried, carries=kind)
    return changed


def troubled(offers: list[Offer], draw: random.Random) -> list[Offer]:
    """The same offers, exact shares of which have no real link, a failing one, or one with a detour."""
    count = len(offers)
    order = draw.sample(range(count), count)
    changed = list(offers)

    def spoil(share: float, kinds: Iterable[str], change: Callable[[Offer, str, int], Offer]) -> None:
        names = list(kinds)
        for number in range(round(share * count)):
            at = order.pop()
            changed[at] = change(changed[at], names[number % len(names)], number)

    spoil(INVALID, BROKEN_LINKS, lambda offer, text, n: replace(
        offer, link=text.format(host=f"img0.{offer.merchant.domain}", n=f"{offer.item_id}"),
        how="invalid", states=("invalid",)))  # fmt: skip
    spoil(FAILING, FAULTS, failing)
    spoil(TROUBLED, DETOURS, lambda offer, how, n: replace(offer, how=how))
    return changed


def failing(offer: Offer, how: str, number: int) -> Offer:
    """The offer with a link that gives no photo."""
    link = offer.link
    if how == "refused":
        link = f"http://down.{offer.merchant.domain}/p/{offer.item_id}.jpg"
    elif how == "inside":
        link = INSIDE[number // len(FAULTS) % len(INSIDE)].format(n=offer.item_id)
    elif how == "fenced":
        link = f"http://img0.{offer.merchant.domain}/members/{offer.item_id}.jpg"
    return replace(offer, link=link, how=how, states=FAULTS[how])


def services(counts: Counter[str]) -> list[Offer]:
    """What is no product: no photo, and no place in a taxonomy of retail."""
    return [
        Offer(merchant, f"{merchant.prefix}-{counts[merchant.prefix] + number:05d}", title, category, None,
              "", None, "service", "train", None, None, "none", ())
        for merchant in MERCHANTS for number, (title, category) in enumerate(SERVICES, start=1)
    ]  # fmt: skip


# -- files -------------------------------------------------------------------------------------


def write(world: World, folder: Path) -> None:
    """The three feeds, each in its merchant's format, and the server's plan."""
    rows: dict[Merchant, list[dict[str, str | None]]] = defaultdict(list)
    for offer in world.offers:
        rows[offer.merchant].append(offer.row())
    for merchant, own in rows.items():
        if merchant.file.endswith(".jsonl"):
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in own)
        else:
            buffer = io.StringIO()
            delimiter = "\t" if merchant.file.endswith(".tsv") else ","
            writer = csv.DictWriter(buffer, COLUMNS, delimiter=delimiter, lineterminator="\n")
            writer.writeheader()
            writer.writerows(own)
            text = buffer.getvalue()
        (folder / merchant.file).write_text(text, encoding="utf-8")
    (folder / "plan.json").write_text(json.dumps(plan(world), indent=1), encoding="utf-8")


def plan(world: World) -> dict[str, Any]:
    """What server.py has to know."""
    links: dict[str, dict[str, Any]] = {}
    for offer in world.offers:
        if offer.link is None or offer.how in ("invalid", "refused", "inside"):
            continue
        links[offer.link] = {"how": offer.how, "file": str(offer.file)}
        if offer.how == "opted_out":
            links[offer.link]["headers"] = {"X_Robots_Tag": "noai, noimageindex"}
        if offer.how == "moved":
            to = offer.link.replace("//img", "//cdn").replace("/p/", "/new/")
            links[offer.link]["to"] = to
            links[to] = {"how": "photo", "file": str(offer.file)}
    robots = {f"img0.{merchant.domain}": "User-agent: *\nDisallow: /members/\n" for merchant in MERCHANTS}
    return {"links": links, "robots": robots}
