"""A disk that is full, or may not be written."""

import os
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etalage.bundle.draft import Draft
from etalage.bundle.manifest import Manifest, verify
from etalage.bundle.pointer import Bundles
from etalage.bundle.publish import publish
from etalage.config import IndexConfig, PublishConfig
from etalage.errors import (
    PublishError,
)
from etalage.lake.delta import Lake

Shop = tuple[Lake, Bundles, Manifest]


def send(bundles: Bundles, draft: Draft, force: bool = False, **settings: Any) -> Manifest:
    config = PublishConfig(**settings)
    return publish(bundles, draft, config=config, index_config=IndexConfig(), force=force)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB; needs the right to mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("needs the right to mount")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_f10_a_full_disk_fails_the_publish_at_any_stage_and_a_rerun_completes(
    shop: Shop, draft: Draft, small_disk: Path
) -> None:
    _, old, first = shop
    bundles = Bundles(small_disk / "bundles")
    shutil.copytree(old.folder, bundles.folder, symlinks=True)
    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    refused = 0
    for left in range(0, 160_000, 8192):
        ballast.write_bytes(b"\0" * (free - left))
        try:
            manifest = send(bundles, draft)
        except PublishError as error:
            refused += 1
            assert re.search(f"{first.id} is still current|cannot write|index could not", str(error))
            assert bundles.current_id() == first.id
            verify(bundles.path(first.id))
            assert not [e for e in bundles.folder.iterdir() if e.name.startswith((".staging", ".current"))]
        else:
            assert bundles.current_id() == manifest.id
            break
    else:
        pytest.fail("no publish ever succeeded")
    assert refused >= 8
    ballast.unlink()
    assert send(bundles, draft).sequence > manifest.sequence


def test_f12_a_read_only_folder_is_refused_before_any_work(
    shop: Shop, draft: Draft, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, old, first = shop
    bundles = Bundles(small_disk / "bundles")
    shutil.copytree(old.folder, bundles.folder, symlinks=True)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    monkeypatch.setattr("etalage.bundle.staging.build", None)  # any work would end in a TypeError
    with pytest.raises(PublishError, match="Read-only file system"):
        send(bundles, draft)
    assert bundles.current_id() == first.id
    with pytest.raises(PublishError, match="Read-only file system"):
        bundles.switch(first.id)


def test_f10_a_file_size_limit_fails_the_publish_and_a_rerun_completes(shop: Shop, draft: Draft) -> None:
    _, bundles, first = shop
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    refused = 0
    try:
        for limit in (0, 1, 1000, 3000, 9000, 20_000):  # Python ignores SIGXFSZ: a write fails with EFBIG
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            with pytest.raises(PublishError, match=r"File too large|index could not be written"):
                send(bundles, draft)
            refused += 1
            assert bundles.current_id() == first.id
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused == 6
    assert bundles.ids() == [first.id]
    verify(bundles.path(send(bundles, draft).id))
