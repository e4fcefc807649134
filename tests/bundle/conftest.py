"""A small published shop and the draft of its next bundle."""

from pathlib import Path

import pytest

from etalage.bundle.draft import Draft
from etalage.bundle.manifest import Manifest
from etalage.bundle.pointer import Bundles
from etalage.lake.delta import Lake
from tests.shops import drafted, small_shop

Shop = tuple[Lake, Bundles, Manifest]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return small_shop(tmp_path, 30, without_photo=[4])


@pytest.fixture
def draft(shop: Shop, tmp_path: Path) -> Draft:
    """The shop's next draft, fit to be published."""
    return drafted(shop[0], tmp_path / "exports" / "image_similarity" / "0001-tiny")
