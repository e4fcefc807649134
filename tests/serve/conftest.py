"""One small published shop and one running server for the tests that only ask."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serve.servers import ThreadServer

STRANGE = {
    "rtl": "قميص-۱۲",
    "nfc": "caf\u00e9",
    "nfd": "cafe\u0301",
    "slashes": "a/b//c/photo",
    "traversal": "../../etc/hosts",
    "percent": "50%25 off",
    "query": "what?is#this&that=1",
    "emoji": "👗" * 128,
    "slash_at_end": "ends/",
}
"""Ids that somebody's catalogue will hold one day; the longest is 512 bytes in UTF-8."""


@pytest.fixture(scope="session")
def served_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop of 40 items (7 has no photo) and the STRANGE ones, published; its bundles/ folder."""
    from tests.exports import tiny_export
    from tests.shops import Bundles, Lake, fill, interact, item_row, photo_row, published, rows_of

    folder = tmp_path_factory.mktemp("served")
    lake = Lake(folder / "tables")
    fill(lake, range(40), [n for n in range(40) if n != 7])
    numbers = range(100, 100 + len(STRANGE))
    items = [
        item_row(n, item_id=item_id, title=f"Strange {name}")
        for n, (name, item_id) in zip(numbers, STRANGE.items(), strict=True)
    ]
    photos = [photo_row(n, item_id=item_id) for n, item_id in zip(numbers, STRANGE.values(), strict=True)]
    lake.table("items").merge(rows_of("items", items))
    lake.table("photos").merge(rows_of("photos", photos))
    interact(lake, [(1, "view"), (1, "buy"), (3, "cart"), (39, "view"), (5, "buy")])
    bundles = Bundles(folder / "bundles")
    published(lake, bundles, tiny_export(folder / "exports" / "image_similarity" / "0001-tiny"))
    return bundles.folder


@pytest.fixture(scope="session")
def server(served_shop: Path) -> Iterator[ThreadServer]:
    with ThreadServer(served_shop, max_body_bytes=200_000) as running:
        yield running


@pytest.fixture(scope="session")
def http(server: ThreadServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client
