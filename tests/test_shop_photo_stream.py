"""A shop whose photos do not fit into the buffer: they are decoded into a file, by any engine, once."""

from pathlib import Path

import numpy as np
import pytest

from etalage.features.photo_set import fingerprint
from etalage.features.pixel_file import MappedPixels
from etalage.models.image_similarity import RECIPE, ImageSimilarityConfig
from etalage.shop import Shop, photo_steps
from etalage.training.loop import fit
from etalage.training.workers import together
from tests.shops import fill, photo_row, rows_of

SMALL = {
    "size": 256, "channels": 3, "classes_per_batch": 4, "examples_per_class": 2, "stem": 4, "widths": (4,),
    "dimension": 4, "epochs": 1, "steps_per_epoch": 2, "precision": "float32",
}  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop.create(tmp_path / "shop", "photos")
    fill(made.lake, range(30), range(24))
    made.lake.table("photos").merge(rows_of("photos", [photo_row(3, b"broken")]))
    return made


def test_photos_above_the_buffer_are_streamed_and_teach_the_same(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    held, versions = photo_steps.learned(shop, ImageSimilarityConfig(**SMALL))  # 24 photos of 197 KB
    assert not isinstance(held.pixels_NHWC, np.memmap)
    assert "read as a stream" not in caplog.text
    streamed, again = photo_steps.learned(shop, ImageSimilarityConfig(**SMALL, buffer=4))
    assert isinstance(streamed.pixels_NHWC, MappedPixels)
    assert "24 photos of 256 x 256 pixels are 4 MB: they are read as a stream, once" in caplog.text
    assert (fingerprint(streamed), again) == (fingerprint(held), versions)
    assert len(streamed.item_ids) == 23
    assert not streamed.photos
    assert caplog.text.count("left out of training") == 2, "once by each way"


def test_two_workers_map_the_one_file(shop: Shop, tmp_path: Path) -> None:
    config = ImageSimilarityConfig(**SMALL, stream="always", workers=2)
    data, _ = photo_steps.learned(shop, config)
    task = RECIPE.bind(config, data)
    with together(RECIPE, config, data, task, tmp_path) as context:
        handed = sum(file.stat().st_size for file in tmp_path.glob(".handed-*/*"))
        assert handed < 2**20, "the pixels were copied"
        trained = fit(RECIPE, task, config, tmp_path, context=context)
    assert np.isfinite(trained.history[0]["loss"])
