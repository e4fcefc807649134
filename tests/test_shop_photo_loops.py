"""The steps that look at photos, on two workers: the tables and bundles are those of one process."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etalage import Shop
from etalage.engine.local import LOCAL
from etalage.errors import NotTrusted
from etalage.features.photo_blocks import PhotoLoop
from etalage.runtime.photos import PhotoEmbedder
from etalage.shop import photo_steps
from etalage.shop.workspace import Workspace
from tests.category_exports import classified_shop, coloured, leaf_of
from tests.exports import tiny_export
from tests.own_models import put
from tests.shops import item_row, photo_row, rows_of

EMBEDDER = "image_similarity"


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """24 items, of which one has a photo that cannot be opened; on as many as two workers."""
    shop = classified_shop(tmp_path / "shop")
    shop.lake.table("photos").merge(rows_of("photos", [photo_row(7, b"no image")]))
    return shop


def on_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first block on, blocks of five."""
    from etalage.bundle import contents, pooling

    for module in (contents, pooling):
        monkeypatch.setattr(module, "BLOCK_PHOTOS", 5)
    loop = property(lambda shop: PhotoLoop(LOCAL, shop.runs / ".photos", workers=2, measured=0))
    monkeypatch.setattr(Workspace, "photo_loop", loop)


def classifications(shop: Shop) -> list[dict[str, Any]]:
    rows = shop.lake.table("classifications").read().to_pylist()
    return [{**row, "classified_at": None} for row in sorted(rows, key=lambda row: row["item_id"])]


def embeddings_of(shop: Shop, bundle: str) -> np.ndarray:
    return np.load(shop.bundles.path(bundle) / "models" / EMBEDDER / "embeddings.npy")


def test_classifying_publishing_and_a_sync(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(shop.folder, tmp_path / "other")
    other = Shop(tmp_path / "other")
    changed = [item_row(40, category_id=None), item_row(3, price=1.0)]
    fresh = [photo_row(40, coloured("301", 40)), photo_row(3, coloured("21", 3)), photo_row(9, b"broken")]

    def life(one: Shop) -> tuple[Any, ...]:
        said = one.classify()
        published = one.publish()
        one.lake.table("items").merge(rows_of("items", changed))
        one.lake.table("photos").merge(rows_of("photos", fresh))
        synced = one.sync()
        assert synced.manifest is not None
        made = [embeddings_of(one, id) for id in (published.id, synced.manifest.id)]
        return said, classifications(one), synced.embedded, synced.carried, synced.refused, made

    here = life(other)
    on_workers(monkeypatch)
    there = life(shop)
    assert there[:2] == here[:2] and len(there[0].refused) == 1
    assert there[2:5] == here[2:5] and there[2] == 2, "only what the bundle does not know is embedded"
    for one, same in zip(there[-1], here[-1], strict=True):
        np.testing.assert_array_equal(one, same)
    assert not list((shop.runs / ".photos").iterdir())


def test_a_model_of_the_shops_own_is_embedded_with_on_workers_and_none_of_its_code_runs(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shop.folder, {"fossil.py": _OWN})
    export = tiny_export(shop.exports("fossil") / "0001-tiny", size=9, channels=3, name="fossil")
    with pytest.raises(NotTrusted):
        shop.models.find("fossil")
    on_workers(monkeypatch)
    found = photo_steps.by_item(shop, "fossil")
    assert found is not None
    embedder = PhotoEmbedder.open(export)
    ids = list(found.item_ids)
    at = [str(id) for id in ids].index("item-00005")
    np.testing.assert_allclose(found.embeddings[at], embedder.embed([coloured(leaf_of(5), 5)])[0], atol=4e-7)
    assert len(ids) == 24 - 4 - 1


_OWN = """
raise SystemExit("this file was run")
from etalage.models.recipe import Recipe
RECIPE = Recipe(name="fossil", role="embedder", paper="none", config=None, columns=(), data="photos")
"""

_KILLED = """
import os, sys
from etalage.bundle import contents
from etalage.shop import Shop, kept_embeddings
contents.BLOCK_PHOTOS = 2
kept_embeddings.KEPT_AT_ONCE = 4
kept = kept_embeddings._write
def keep(*given):
    kept(*given)
    if Shop(sys.argv[1]).lake.table("embeddings").count() >= 8:
        os.kill(os.getpid(), 9)
kept_embeddings._write = keep
Shop(sys.argv[1]).publish()
"""


def test_a_publish_that_was_killed_while_it_embedded_goes_on_where_it_stood(
    shop: Shop, tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(shop.folder, tmp_path / "other")
    command = [sys.executable, "-c", _KILLED, str(shop.folder)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(project)})
    assert done.returncode == -signal.SIGKILL
    kept = shop.lake.table("embeddings").count()
    assert 8 <= kept < 19 and not shop.bundles.survey()
    looked: list[int] = []
    look = PhotoEmbedder.look

    def counted(self: PhotoEmbedder, photos: Any) -> Any:
        looked.append(len(photos))
        return look(self, photos)

    monkeypatch.setattr(PhotoEmbedder, "look", counted)
    published = shop.publish()
    assert sum(looked) == 20 - kept
    whole = Shop(tmp_path / "other").publish()
    made = embeddings_of(shop, published.id), embeddings_of(Shop(tmp_path / "other"), whole.id)
    np.testing.assert_allclose(*made, atol=4e-7)
