"""Several links in one cell, with the right value."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from etalage.lake.delta import Lake
from tests.cases.conftest import typed


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port(cases: Path) -> Iterator[int]:
    """Where the pictures of the case are served on this machine."""
    folder = cases / "several_links_in_one_cell" / "www"
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_several_links_in_one_cell_are_several_photos(cases: Path, port: int, tmp_path: Path) -> None:
    case = cases / "several_links_in_one_cell"
    feed = (case / "wc.csv").read_text("utf-8").replace("18932", str(port))
    (tmp_path / "wc.csv").write_text(feed, "utf-8")
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "shop.toml").write_bytes((case / "shop.toml").read_bytes())

    loaded = typed("ingest wc.csv items --format csv", tmp_path, shop)
    assert loaded.status == 0 and "several links in a cell" in loaded.text
    fetched = typed("photos fetch", tmp_path, shop)
    assert fetched.status == 0 and "2 links: 2 ok" in fetched.text

    lake = Lake(shop / "tables")
    (item,) = lake.table("items").read().to_pylist()
    assert (item["title"], item["category_id"]) == ("Hoodie – Classic", "Clothing > Hoodies, Sale")
    assert item["photo_url"] == f"http://127.0.0.1:{port}/a.jpg"
    photos = lake.table("photos").read(columns=["item_id", "url", "status", "sha256"]).to_pylist()
    assert sorted((p["item_id"], p["url"].rpartition("/")[2], p["status"]) for p in photos) == [
        ("44", "a.jpg", "ok"),
        ("44", "b.jpg", "ok"),
    ]
    assert len({p["sha256"] for p in photos}) == 2
