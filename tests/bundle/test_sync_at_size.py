"""S0.2, proved at full size: 1,000 real photos appended to 60,000, only those embedded."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etalage.bundle.files import ITEMS, PHOTOS, read_arrow, read_embeddings
from etalage.bundle.manifest import verify
from etalage.bundle.pointer import Bundles
from etalage.bundle.selfcheck import check_consistency
from etalage.bundle.sync import sync
from etalage.config import IndexConfig, PublishConfig
from etalage.index import build, open_index, recall
from etalage.lake.delta import Lake
from etalage.lake.ingest import ingest
from etalage.runtime.photos import PhotoEmbedder
from tests.exports import tiny_export
from tests.shops import PHOTO_EMBEDDINGS, PHOTO_INDEX, drafted, embeddings_of, published

FRESH, QUERIES, K = 1000, 300, 10
TIE = 1e-5


def test_appending_1000_photos_to_60000_embeds_1000_and_answers_like_a_full_rebuild(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shared_data / "fashion-mnist"
    lake, bundles = Lake(tmp_path / "tables"), Bundles(tmp_path / "bundles")
    export = tiny_export(tmp_path / "export", dimension=32)
    ingest(lake, data / "train-images-idx3-ubyte.gz", "photos", chunk_rows=60_000)
    first = published(lake, bundles, export)
    assert (first.items, first.photo_models[0].index.kind) == (60_000, "ivf_flat")

    pixels = images(data / "t10k-images-idx3-ubyte.gz")
    ingest(lake, fresh_set(tmp_path, data, pixels), "photos")
    passed: list[int] = []
    real = PhotoEmbedder.embed_pixels

    def counted(self: PhotoEmbedder, pixels: np.ndarray, progress: Any = None) -> np.ndarray:
        passed.append(len(pixels))
        return real(self, pixels, progress)

    monkeypatch.setattr(PhotoEmbedder, "embed_pixels", counted)
    result = sync(lake, bundles, config=PublishConfig(), index_config=IndexConfig())
    monkeypatch.undo()
    assert (result.embedded, result.carried, result.upserted, result.deleted) == (FRESH, 60_000, FRESH, 0)
    assert result.whole is None
    # Besides the fresh ones, 8 photos that publish embeds to compare the model with the embeddings.
    assert sum(passed) == FRESH + 8
    assert result.manifest is not None
    folder = bundles.path(result.manifest.id)
    check_consistency(folder, verify(folder))

    rebuilt = drafted(lake, export)
    assert read_arrow(folder / ITEMS).equals(rebuilt.items)
    assert read_arrow(folder / PHOTOS).equals(rebuilt.photos)
    kept = np.asarray(read_embeddings(folder, PHOTO_EMBEDDINGS))
    np.testing.assert_allclose(kept, embeddings_of(rebuilt), atol=2e-6)

    rows = np.arange(1, len(kept))
    queries = PhotoEmbedder.open(export).embed_pixels(pixels[-QUERIES:, :, :, None])
    exact = IndexConfig.model_validate({"kind": "exact"})
    synced, whole = build(rows, kept[1:], exact), build(rows, embeddings_of(rebuilt)[1:], exact)
    assert_same_up_to_ties(synced.search(queries, K), whole.search(queries, K))
    approximate = open_index(folder / PHOTO_INDEX)
    for row in recall(approximate, whole, queries, K):
        assert row.recall >= PublishConfig.model_validate({}).min_recall, row
    assert min(row.recall for row in result.manifest.photo_models[0].index.recall) >= 0.95
    # The fresh items are really in it: each of them finds itself first.
    fresh = np.flatnonzero([name.startswith("fresh") for name in rebuilt.items["item_id"].to_pylist()])
    assert len(fresh) == FRESH
    found = approximate.search(np.ascontiguousarray(kept[fresh + 1]), 1)
    np.testing.assert_allclose(found.scores[:, 0], 1, atol=1e-5)


def images(file: Path) -> np.ndarray:
    """(N, 28, 28) uint8 of a gzipped IDX file."""
    return np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)


def fresh_set(folder: Path, data: Path, pixels: np.ndarray) -> Path:
    """The first FRESH test images as an IDX pair of their own."""
    count = FRESH.to_bytes(4, "big")
    header = gzip.decompress((data / "t10k-images-idx3-ubyte.gz").read_bytes())[:16]
    labels = gzip.decompress((data / "t10k-labels-idx1-ubyte.gz").read_bytes())
    file = folder / "fresh-images-idx3-ubyte"
    file.write_bytes(header[:4] + count + header[8:] + pixels[:FRESH].tobytes())
    (folder / "fresh-labels-idx1-ubyte").write_bytes(labels[:4] + count + labels[8 : 8 + FRESH])
    return file


def assert_same_up_to_ties(ours: Any, theirs: Any) -> None:
    """Equal scores rank by rank; another item only where its score ties with the one expected."""
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=TIE)
    for mine, other, scores in zip(ours.rows, theirs.rows, theirs.scores, strict=True):
        for place in np.flatnonzero(mine != other):
            neighbours = np.abs(scores - scores[place]) < TIE
            last = scores[place] - scores[-1] < TIE
            assert mine[place] in other[neighbours] or last
