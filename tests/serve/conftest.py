"""Two small published shops and running servers for the tests: one of photos, one of shoppers too."""

import shutil
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
    with httpx.Client(base_url=server.url, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def shoppers_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop of 40 items with photos, all kinds of models, a classifier, and six shoppers, `user-N` of whom
    bought the 3 + N items from 5 N on; its online store holds them. The ranker knows user-1, who likes high
    numbers.

    Its bundles/ folder.
    """
    import numpy as np

    from etalage.bundle.draft import DraftedModel
    from etalage.online import Act, open_live
    from etalage.runtime.export_files import read_verdict
    from tests.behaviour_exports import ranker_export
    from tests.category_exports import CLASSIFIER, classifier_export
    from tests.shops import behaviour_shop

    folder, items = tmp_path_factory.mktemp("shoppers"), 40
    logits = np.zeros((2, items + 1), np.float32)
    logits[1, 1:] = (np.arange(items) - 24.5) / 8
    ids = [f"item-{n:05d}" for n in range(items)]
    ranker = ranker_export(folder / "exports" / "neumf" / "0001-tiny", ids, ["user-1"], logits)
    verdict = {"passed": True, "metric": "auc"}
    export = classifier_export(folder / "exports" / CLASSIFIER / "0001-tiny")
    classifier = DraftedModel(export, read_verdict(export))
    _, bundles, _ = behaviour_shop(
        folder, items, photos=True, extra=[DraftedModel(ranker, verdict)], classifier=classifier
    )
    live = open_live(folder / "live" / "events.sqlite")
    live.seed(
        (f"user-{user}", Act(ids[5 * user + step], "buy", None, 1_700_000_000_000_000 + 100 * user + step))
        for user in range(6)
        for step in range(3 + user)
    )
    live.close()
    return bundles.folder


@pytest.fixture
def shop_copy(shoppers_shop: Path, tmp_path: Path) -> Path:
    """A copy of that shop to be changed; its bundles/ folder."""
    return _copied(shoppers_shop, tmp_path / "copy")


def _copied(bundles: Path, folder: Path) -> Path:
    shutil.copytree(bundles.parent, folder)
    return folder / bundles.name


@pytest.fixture(scope="session")
def shoppers_server(shoppers_shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    """Of a copy: its online store learns from many tests."""
    bundles = _copied(shoppers_shop, tmp_path_factory.mktemp("shoppers-server") / "shop")
    with ThreadServer(bundles, max_body_bytes=200_000) as running:
        yield running


@pytest.fixture(scope="session")
def shoppers(shoppers_server: ThreadServer) -> Iterator[httpx.Client]:
    """A client of that server. The shop's own six shoppers are only asked about, never changed."""
    with httpx.Client(base_url=shoppers_server.url, timeout=120) as client:
        yield client
