"""`etalage photos` as a user meets it: a shop's folder, a feed of links, and a server on loopback."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from etalage.lake.delta import Lake
from etalage.shop import Shop
from tests.lake.photos.hostile import Hostile
from tests.test_cli import Said, environment, quick, refuses, typed

LINKS = 30


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with Hostile() as server:
        yield server


@pytest.fixture
def shop(tmp_path: Path, hostile: Hostile) -> Path:
    """30 links of two merchants; every fifth is gone, one is no link."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "shop.toml").write_text(
        "[photos]\n"
        f'hosts = {{"*.test" = "127.0.0.1:{hostile.port}"}}\n'
        'allow_networks = ["127.0.0.0/8"]\n'
        'merchant = "merchant"\nspacing = 0\nworkers = 1\n'
        '[ingest.items.columns]\n"attributes.merchant" = "merchant"\n'
    )
    lines = ["item_id,photo_url,merchant"]
    for n in range(LINKS):
        path = f"gone/{n}" if n % 5 == 0 else f"photo/{n}.jpg"
        lines.append(f"i{n},http://shop-{n % 2}.test/{path},{'north' if n % 2 else 'south'}")
    lines.append("i99,no-link.jpg,south")
    (tmp_path / "feed.csv").write_text("\n".join(lines) + "\n")
    assert quick("ingest", tmp_path / "feed.csv", "--shop", folder).status == 0
    return folder


def test_a_probe_shows_merchants_reasons_and_what_all_would_cost(shop: Path) -> None:
    said = typed("photos", "probe", "--links", "1000", "--shop", shop)
    assert said.status == 0, said.err
    assert said.lines[0] == "31 of 31 links, seed 0"
    table = {line.split()[0]: line for line in said.lines[2:5]}
    assert (
        "7 (22.6%; 11.4% – 39.8%)" in table["all"]
        and "dead 6" in table["all"]
        and "invalid 1" in table["all"]
    )
    assert "3 (20.0%" in table["north"] and "invalid" not in table["north"]
    assert "4 (25.0%" in table["south"]
    assert "  6 × dead: answers 404" in said.lines
    assert any(line.startswith("all of them: 0.00 hours") for line in said.lines)
    assert set(Lake(shop / "tables").versions()) == {"items"}


def test_a_probe_can_be_seeded_and_small(shop: Path) -> None:
    said = quick("photos", "probe", "--links", "5", "--seed", "3", "--shop", shop)
    assert said.lines[0] == "5 of 31 links, seed 3"


def test_a_fetch_says_what_became_of_the_links_and_goes_on_where_it_was(shop: Path) -> None:
    said = typed("photos", "fetch", "--shop", shop)
    assert said.status == 0, said.err
    assert said.lines[0] == "31 links: 24 ok, 6 dead, 1 invalid"
    assert said.lines[1].startswith("photos new or changed 24, unchanged 0, shared 0; downloaded 0.0 MB")
    assert said.lines[2] == "7 links failed and are not due yet; --again asks for them now"
    assert quick("photos", "fetch", "--shop", shop).lines[0] == "0 links"
    assert quick("photos", "fetch", "--again", "--shop", shop).lines[0] == "7 links: 6 dead, 1 invalid"
    refreshed = quick("photos", "fetch", "--refresh", "0", "--shop", shop)
    assert (
        refreshed.lines[:2]
        == [
            "24 links: 24 ok",
            refreshed.lines[1],
        ]
        and "unchanged 24" in refreshed.lines[1]
    )
    assert Lake(shop / "tables").table("photos").count() == 31


def test_what_was_fetched_is_the_items_photo(shop: Path) -> None:
    from etalage.bundle.contents import gather

    assert Shop(shop).fetch_photos().photos == 24
    payload = gather(Lake(shop / "tables"))
    shas = dict(zip(*(payload.items[name].to_pylist() for name in ("item_id", "photo_sha256")), strict=True))
    assert shas["i1"] is not None and shas["i0"] is None and shas["i99"] is None
    assert payload.photos.num_rows == 24


def test_asking_other_machines_without_a_contact_is_status_2(shop: Path, tmp_path: Path) -> None:
    feed = tmp_path / "away.csv"
    feed.write_text("item_id,photo_url,merchant\nx,https://shop.example/a.jpg,far\n")
    assert quick("ingest", feed, "--shop", shop).status == 0
    for command in ("probe", "fetch"):
        refuses(quick("photos", command, "--shop", shop), 2, "ConfigError", "contact", "shop.example")


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ('allow_networks = ["home"]', "allow_networks"),
        ('hosts = {"a.test" = "here"}', "hosts: a.test"),
        ('ca_file = "nowhere.pem"', "ca_file"),
        ("per_host = 0", "photos.per_host"),
        ("spaceing = 1", "did you mean 'spacing'"),
    ],
)
def test_a_wrong_setting_is_status_2(shop: Path, setting: str, part: str) -> None:
    toml = (shop / "shop.toml").read_text().splitlines()
    name = setting.split(" ")[0]
    kept = [line for line in toml if not line.startswith(name)]
    (shop / "shop.toml").write_text("\n".join([kept[0], setting, *kept[1:]]) + "\n")
    said: Said = quick("photos", "fetch", "--shop", shop)
    assert said.status == 2 and part in said.err, said.err


def test_a_shop_without_items_has_no_links(tmp_path: Path) -> None:
    folder = Shop.create(tmp_path / "empty", "Empty").folder
    for command, first in (("probe", "0 of 0 links, seed 0"), ("fetch", "0 links")):
        said = quick("photos", command, "--shop", folder)
        assert said.lines[0] == first
        assert "map a column to photo_url" in said.out


def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(shop: Path, tmp_path: Path) -> None:
    """A server of the shop's links that never answers: whoever asks it is in the middle of its work."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        answering = (shop / "shop.toml").read_text()
        port = silent.getsockname()[1]
        (shop / "shop.toml").write_text(re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", answering))
        words = [sys.executable, "-m", "etalage.cli", "photos", "fetch", "--shop", str(shop)]
        fetching = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment())
        silent.settimeout(240)
        asked, _ = silent.accept()
        fetching.send_signal(signal.SIGINT)
        _, err = fetching.communicate(timeout=240)
        asked.close()
    assert fetching.returncode == 130 and "Traceback" not in err
    again = f"`etalage photos fetch --shop {shop}`"
    assert err.splitlines()[-1] == (
        f"stopped: photos downloaded until now are kept; to go on with the missing ones: {again}"
    )
    (shop / "shop.toml").write_text(answering)
    assert quick("photos", "fetch", "--shop", shop).lines[0] == "31 links: 24 ok, 6 dead, 1 invalid"
