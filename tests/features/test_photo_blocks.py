"""Loops over photos: the same results in the same order, whoever does a block; workers where they pay."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from etalage.engine.local import LOCAL
from etalage.errors import DataError, ShardFailed
from etalage.features.photo import PhotoEncoder
from etalage.features.photo_blocks import BLOCK_PHOTOS, Decode, PhotoLoop, own_folder, pixel_blocks
from tests.conftest import PROJECT
from tests.features import photo_work

PHOTOS = [b"x" * n if n % 5 == 0 else b"a" * n for n in range(1, 24)]
"""Every fifth cannot be opened."""


@pytest.fixture(autouse=True)
def _tests_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers look for modules nowhere but where a Python is told to: not in the current folder (F62)."""
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))


def blocks(size: int) -> Iterator[tuple[int, list[bytes]]]:
    yield from ((start, PHOTOS[start : start + size]) for start in range(0, len(PHOTOS), size))


def on_workers(spool: Path) -> PhotoLoop:
    return PhotoLoop(LOCAL, spool, workers=2, measured=0)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_workers_give_what_this_process_gives_in_the_same_order(tmp_path: Path, size: int) -> None:
    here = list(PhotoLoop().run(photo_work.lengths, blocks(size), len(PHOTOS)))
    there = list(on_workers(tmp_path).run(photo_work.lengths, blocks(size), len(PHOTOS)))
    assert [key for key, _ in there] == [key for key, _ in here] == list(range(0, len(PHOTOS), size))
    for (_, one), (_, other) in zip(here, there, strict=True):
        assert one.values.tolist() == other.values.tolist() and one.good.tolist() == other.good.tolist()
        assert one.refused == other.refused
    assert sum(len(one.refused) for _, one in there) == 4
    assert list(tmp_path.iterdir()) == [], "nothing of the blocks is left"


def test_pixels_reach_workers_too(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (600, 2, 3, 3), np.uint8)
    rows = np.arange(0, 600, 2)
    found = list(on_workers(tmp_path).run(photo_work.sums, pixel_blocks(pixels, rows), len(rows)))
    assert [len(some) for some, _ in found] == [BLOCK_PHOTOS, 300 - BLOCK_PHOTOS]
    for some, looked in found:
        assert looked.values.tolist() == pixels[some].sum(axis=(1, 2, 3)).tolist()


@pytest.mark.parametrize(
    ("loop", "other"),
    [
        (dict(), []),
        (dict(worth=1e9), []),
        (dict(worth=-1e9), [2, 3, 4, 5]),
        (dict(worth=-1e9, workers=1), []),
        (dict(worth=-1e9, spool=None), []),
        (dict(measured=0), [0, 1, 2, 3, 4, 5]),
    ],
    ids=["fast photos", "never worth it", "worth it once measured", "one worker", "no spool", "at once"],
)
def test_workers_are_started_where_they_save_enough(
    tmp_path: Path, loop: dict[str, object], other: list[int]
) -> None:
    given = {"engine": LOCAL, "spool": tmp_path, "workers": 2, **loop}
    found = [looked.values[0] for _, looked in PhotoLoop(**given).run(photo_work.who, blocks(4), len(PHOTOS))]
    assert [at for at, process in enumerate(found) if process != os.getpid()] == other
    assert len(found) == 6


def test_this_process_uses_what_it_has_opened_already() -> None:
    ((_, looked),) = PhotoLoop().run(photo_work.die, blocks(100), len(PHOTOS), here=photo_work.lengths)
    assert len(looked.good) == 19


def test_a_killed_worker_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ShardFailed, match="SIGKILL"):
        list(on_workers(tmp_path).run(photo_work.die, blocks(4), len(PHOTOS)))
    assert list(tmp_path.iterdir()) == []


def test_who_stops_listening_leaves_nothing_behind(tmp_path: Path) -> None:
    found = on_workers(tmp_path).run(photo_work.lengths, blocks(1), len(PHOTOS))
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


_KILLED = """
import os, sys
from pathlib import Path
from etalage.features.photo_blocks import own_folder
with own_folder(Path(sys.argv[1])) as folder:
    (folder / "00000000.arrow").write_bytes(b"block")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_goes_with_the_next_but_nothing_that_is_in_use(tmp_path: Path) -> None:
    with own_folder(tmp_path) as ours:
        subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], env={"PYTHONPATH": str(PROJECT)})
        assert len(list(tmp_path.iterdir())) == 2
        with own_folder(tmp_path) as next_one:
            assert sorted(tmp_path.iterdir()) == sorted([ours, next_one])
    assert list(tmp_path.iterdir()) == []


def test_a_block_of_large_photos_holds_fewer() -> None:
    assert Decode(PhotoEncoder(64)).block == BLOCK_PHOTOS
    assert Decode(PhotoEncoder(384)).block == 37
    assert Decode(PhotoEncoder(4096)).block == 1


def test_no_space_for_a_block_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("etalage.features.photo_blocks._written", full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left.*make room"):
        list(on_workers(tmp_path).run(photo_work.lengths, blocks(4), len(PHOTOS)))
    assert list(tmp_path.iterdir()) == []
