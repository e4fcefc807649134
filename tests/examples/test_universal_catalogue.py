"""The example's world: what its servers answer, what its feeds promise, what a category is worth."""

import csv
import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "examples" / "universal_catalogue"
sys.path.insert(0, str(EXAMPLE.parent))
sys.path.insert(0, str(EXAMPLE))
import checks  # noqa: E402
import feeds  # noqa: E402
import merchants  # noqa: E402
import server  # noqa: E402
import values  # noqa: E402

from etalage.config import PhotosConfig  # noqa: E402


@dataclass
class Running:
    """A server process that answers `plan`."""

    port: int
    closed: int
    log: Path

    def get(self, url: str, **options: object) -> httpx.Response:
        """The URL asked of this server, redirects not followed."""
        host = httpx.URL(url).host
        return httpx.get(
            url.replace(host, f"127.0.0.1:{self.port}", 1),
            headers={"Host": host, **options.pop("headers", {})},  # type: ignore[dict-item]
            timeout=options.pop("timeout", 240.0),
            **options,  # type: ignore[arg-type]
        )

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("photo") / "one.jpg"
    Image.linear_gradient("L").resize((200, 90)).convert("RGB").save(file, "JPEG")
    return file


@pytest.fixture(scope="module")
def running(photo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("server")
    links = {
        f"http://img1.shop.test/{how}.jpg": {
            "how": how,
            "file": str(photo),
            "to": "http://cdn.shop.test/x.jpg",
        }
        for how in server.ANSWERS
    }
    links["http://img1.shop.test/opted_out.jpg"]["headers"] = {"X_Robots_Tag": "noai"}  # type: ignore[assignment]
    plan = {"links": links, "robots": {"img1.shop.test": "User-agent: *\nDisallow: /members/\n"}}
    (folder / "plan.json").write_text(json.dumps(plan))
    command = [
        sys.executable,
        str(EXAMPLE / "server.py"),
        str(folder / "plan.json"),
        str(folder / "log.jsonl"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    word, port, closed = process.stdout.readline().split()
    assert word == "listening"
    yield Running(int(port), int(closed), folder / "log.jsonl")
    process.terminate()
    process.wait()


def test_a_photo_is_served_and_known_again_by_its_tag(running: Running, photo: Path) -> None:
    first = running.get("http://img1.shop.test/photo.jpg")
    assert (first.status_code, first.content) == (200, photo.read_bytes())
    again = running.get("http://img1.shop.test/photo.jpg", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("how", "status"), [("missing", 404), ("gone", 410), ("forbidden", 403), ("error", 500)]
)
def test_a_status_is_answered(running: Running, how: str, status: int) -> None:
    assert running.get(f"http://img1.shop.test/{how}.jpg").status_code == status


@pytest.mark.parametrize(("how", "status"), [("busy", 429), ("shaky", 503)])
def test_what_fails_at_first_is_fine_after(running: Running, photo: Path, how: str, status: int) -> None:
    assert running.get(f"http://img1.shop.test/{how}.jpg").status_code == status
    assert running.get(f"http://img1.shop.test/{how}.jpg").content == photo.read_bytes()


@pytest.mark.parametrize(
    ("how", "to"),
    [
        ("moved", "http://cdn.shop.test/x.jpg"),
        ("home", "http://www.shop.test/"),
        ("loop", "http://img1.shop.test/loop.jpg"),
    ],
)
def test_a_redirect_leads_where_it_should(running: Running, how: str, to: str) -> None:
    assert running.get(f"http://img1.shop.test/{how}.jpg").headers["location"] == to


def test_a_page_says_that_it_is_a_jpeg(running: Running) -> None:
    answer = running.get("http://img1.shop.test/page.jpg")
    assert answer.headers["content-type"] == "image/jpeg" and answer.content.startswith(b"<!doctype html>")


def test_half_a_photo_is_announced_honestly_or_not(running: Running, photo: Path) -> None:
    whole = photo.read_bytes()
    assert running.get("http://img1.shop.test/cut.jpg").content == whole[: len(whole) // 2]
    with pytest.raises(httpx.RemoteProtocolError):
        running.get("http://img1.shop.test/short.jpg")


@pytest.mark.parametrize("how", ["silent", "drip"])
def test_nothing_comes_to_an_end(running: Running, how: str) -> None:
    begun = time.monotonic()
    with pytest.raises(httpx.ReadTimeout if how == "silent" else TimeoutError):
        if how == "silent":
            running.get("http://img1.shop.test/silent.jpg", timeout=1.0)
        with httpx.stream(
            "GET",
            f"http://127.0.0.1:{running.port}/drip.jpg",
            headers={"Host": "img1.shop.test"},
            timeout=240.0,
        ) as answer:
            for _ in answer.iter_raw():
                if time.monotonic() > begun + 1.2:
                    raise TimeoutError
    assert time.monotonic() > begun + 0.9


def test_wishes_are_told_by_header_and_by_robots_txt(running: Running) -> None:
    assert running.get("http://img1.shop.test/opted_out.jpg").headers["x-robots-tag"] == "noai"
    assert "Disallow: /members/" in running.get("http://img1.shop.test/robots.txt").text
    assert running.get("http://img2.shop.test/robots.txt").text == ""


def test_the_held_port_refuses(running: Running) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", running.closed), timeout=240)


def test_every_request_is_noted_with_its_host(running: Running) -> None:
    running.get("http://img7.shop.test/never-planned.jpg")
    until = time.monotonic() + 240  # the line is written after the answer
    while (last := running.lines()[-1])["host"] != "img7.shop.test" and time.monotonic() < until:
        time.sleep(0.02)
    assert (last["host"], last["path"], last["status"]) == ("img7.shop.test", "/never-planned.jpg", 404)
    assert last["at_once"] == 1


# -- feeds -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[feeds.World, Path]:
    data, folder = shared_data / "grocery-store", tmp_path_factory.mktemp("world")
    return feeds.make(data, folder, own_and_above(data)), folder


def own_and_above(data: Path) -> dict[str, tuple[str, str]]:
    """Ids that tell themselves apart: the class's name, and its coarse number."""
    return {one.name: (one.name, str(one.coarse)) for one in feeds.classes(data)}


def test_exact_shares_of_the_links_are_none_or_fail(world: tuple[feeds.World, Path]) -> None:
    with_link = [offer for offer in world[0].offers if offer.link]
    hows = Counter(offer.how for offer in with_link)
    assert hows["invalid"] == round(0.01 * len(with_link))
    failing = {how: hows[how] for how in feeds.FAULTS}
    assert sum(failing.values()) == round(0.12 * len(with_link))
    assert max(failing.values()) - min(failing.values()) <= 1
    assert hows["busy"] > 0 and hows["shaky"] > 0 and hows["moved"] > 0


def test_every_class_photo_and_merchant_is_there(world: tuple[feeds.World, Path], shared_data: Path) -> None:
    offers = [offer for offer in world[0].offers if offer.of]
    assert len({offer.gtin for offer in offers}) == 2640 + 296 + 81
    assert len({offer.of.name for offer in offers if offer.of}) == 81
    parts = {offer.gtin: offer.part for offer in offers}
    assert Counter(parts.values()) == {"train": 2640 + 81, "validation": 296}
    assert len({offer.item_id for offer in world[0].offers}) == len(world[0].offers)


def test_a_product_at_two_merchants_has_one_number_and_two_links(world: tuple[feeds.World, Path]) -> None:
    by_gtin: dict[str, list[feeds.Offer]] = {}
    for offer in world[0].offers:
        if offer.of:
            by_gtin.setdefault(offer.gtin, []).append(offer)
    shared = [pair for pair in by_gtin.values() if len(pair) == 2]
    assert 0.08 < len(shared) / len(by_gtin) < 0.12
    assert all(a.merchant != b.merchant and a.part == b.part and a.of == b.of for a, b in shared)
    assert any(a.file == b.file for a, b in shared)
    smaller = [b.file for a, b in shared if a.file != b.file]
    assert smaller and all(file is not None and file.exists() for file in smaller)


def test_article_numbers_have_their_check_digit() -> None:
    assert feeds.gtin(12345) == "2000000123455"  # 2·1 + 1·3 + 2·1 + 3·3 + 4·1 + 5·3 = 35, and 5 makes it 40


def test_titles_do_not_always_tell_the_class(world: tuple[feeds.World, Path]) -> None:
    own = [offer for offer in world[0].offers if offer.of and offer.merchant.prefix == "ga"]
    told = sum(offer.title == offer.of.english for offer in own if offer.of) / len(own)
    assert 0.4 < told < 0.6
    assert merchants.receipt("Golden Delicious apples") == "GLDN DLCS APPLS"


def test_some_items_carry_an_id_that_is_wrong_unknown_or_retired(world: tuple[feeds.World, Path]) -> None:
    for offer in world[0].offers:
        if offer.of is None:
            assert (offer.carries, offer.google, offer.link) == ("service", None, None)
        elif offer.carries in ("fine", "google"):
            assert offer.google == (offer.of.name if offer.carries == "fine" else str(offer.of.coarse))
        elif offer.carries == "wrong":
            assert offer.google not in (offer.of.name, None)
    kinds = Counter(offer.carries for offer in world[0].offers)
    assert min(kinds[kind] for kind in ("nothing", "service")) >= 5
    count = len(world[0].offers) - kinds["service"]
    assert [kinds[kind] for kind in feeds.MISTAKEN] == [round(count * s) for s in feeds.MISTAKEN.values()]


def test_three_formats_hold_the_same_columns(world: tuple[feeds.World, Path]) -> None:
    drawn, folder = world
    with (folder / "green-aisle.csv").open(encoding="utf-8") as file:
        first = list(csv.DictReader(file))
    with (folder / "frischkorb.tsv").open(encoding="utf-8") as file:
        second = list(csv.DictReader(file, delimiter="\t"))
    third = [json.loads(line) for line in (folder / "kassa24.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(first) + len(second) + len(third) == len(drawn.offers)
    assert {tuple(row) for row in (*first, *second, *third)} == {feeds.COLUMNS}


def test_the_plan_answers_every_link_that_can_be_asked(world: tuple[feeds.World, Path]) -> None:
    drawn, folder = world
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    for offer in drawn.offers:
        asked = offer.link is not None and offer.how not in ("invalid", "refused", "inside")
        assert (offer.link in plan["links"]) == asked
        if asked and offer.link:
            assert plan["links"][offer.link]["how"] in server.ANSWERS
    assert set(drawn.expected().values()) == {("ok",), ("invalid",), *feeds.FAULTS.values()}


def test_the_same_seed_draws_the_same_world(
    world: tuple[feeds.World, Path], shared_data: Path, tmp_path: Path
) -> None:
    data = shared_data / "grocery-store"
    small = [feeds.make(data, tmp_path / name, own_and_above(data), seed, 6, 6)
             for name, seed in (("a", 3), ("b", 3), ("c", 4))]  # fmt: skip
    told = [[(offer.item_id, offer.title, offer.link, offer.google) for offer in one.offers] for one in small]
    assert told[0] == told[1] != told[2]
    assert len({offer.of.name for offer in small[0].offers if offer.of}) == 6


# -- claims ------------------------------------------------------------------------------------


def requests(
    *asked: tuple[str, float], at_once: int = 1, host: str = "img1.shop.test"
) -> list[dict[str, object]]:
    """As a server's log has them: path and time of each."""
    return [
        {
            "host": host,
            "path": path,
            "time": when,
            "status": 200,
            "at_once": at_once,
            "agent": "Etalage (+me)",
        }
        for path, when in asked
    ]


@pytest.mark.parametrize(
    ("asked", "broken"),
    [
        (requests(("/robots.txt", 0.0), ("/p/1.jpg", 1.0), ("/p/2.jpg", 2.0)), None),
        (requests(("/robots.txt", 0.0), ("/members/1.jpg", 1.0)), "robots.txt keeps back"),
        (requests(("/p/1.jpg", 0.0), ("/robots.txt", 1.0)), "robots.txt first"),
        (requests(("/robots.txt", 0.0), ("/p/1.jpg", 1.0), at_once=3), "at once to a host"),
        (requests(("/robots.txt", 0.0), ("/p/1.jpg", 0.3), ("/p/2.jpg", 0.7)), "more often than"),
    ],
)
def test_bad_manners_are_found(asked: list[dict[str, object]], broken: str | None) -> None:
    claims = checks.Claims()
    config = PhotosConfig(contact="me", spacing=0.5, per_host=2)
    checks.crawler_behaved(asked, config, claims)
    assert [claim for claim in claims.broken if not broken or broken not in claim] == []
    assert bool(claims.broken) == bool(broken)


def test_a_link_in_a_wrong_state_is_found(world: tuple[feeds.World, Path]) -> None:
    drawn = world[0]
    rows = [{"url": url, "status": states[-1]} for url, states in drawn.expected().items()]
    fine, claims = checks.Claims(), checks.Claims()
    checks.links_ended_well(drawn, rows, fine)
    home = next(offer.link for offer in drawn.offers if offer.how == "home")
    checks.links_ended_well(
        drawn, [row if row["url"] != home else {**row, "status": "ok"} for row in rows], claims
    )
    assert fine.broken == [] and len(claims.broken) == 1


def test_a_photo_that_is_fetched_twice_is_found(world: tuple[feeds.World, Path]) -> None:
    by_how = {offer.how: offer.link for offer in world[0].offers if offer.link}
    for how, fine in (("silent", True), ("photo", False), ("missing", False)):
        claims, url = checks.Claims(), httpx.URL(by_how[how])
        checks.only_failed_asked_again(world[0], requests((url.path, 0.0), host=url.host), claims)
        assert (claims.broken == []) == fine, how


# -- values ------------------------------------------------------------------------------------


def test_classes_that_share_a_product_type_share_its_sales(shared_data: Path) -> None:
    journey = shared_data / "complete-journey"
    sold, worth = values.sales(journey), values.class_values(journey)
    assert len(worth) == 81 and min(worth.values()) > 0
    assert worth["Banana"] == pytest.approx(sold["TROPICAL FRUIT", "BANANAS"])
    milks = [
        worth[name] for name in worth if name.endswith("-Milk") and name.startswith(("Arla-E", "Garant"))
    ]
    assert milks == pytest.approx([sold["FLUID MILK PRODUCTS", "FLUID MILK WHITE ONLY"] / 5] * 3)


def test_values_of_classes_of_one_category_add_up(shared_data: Path, tmp_path: Path) -> None:
    journey = shared_data / "complete-journey"
    values.write(journey, {"Banana": "6574", "Lemon": "c", "Lime": "c"}, tmp_path / "values.csv")
    worth = values.class_values(journey)
    with (tmp_path / "values.csv").open(encoding="utf-8") as file:
        rows = {row["category_id"]: float(row["value"]) for row in csv.DictReader(file)}
    assert rows == pytest.approx({"6574": worth["Banana"], "c": worth["Lemon"] + worth["Lime"]}, abs=0.01)
