"""Blocks of arrays: who does them, when workers are started, and what lies on disk meanwhile."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from etalage.engine.worth import Cost
from etalage.errors import DataError
from etalage.features import array_blocks
from etalage.features.array_blocks import ArrayLoop, Arrays


@dataclass(frozen=True)
class Sum:
    by: float

    def __call__(self, arrays: Arrays, block: tuple[int, int]) -> float:
        first, last = block
        return float(arrays["values"][first:last].sum() * self.by + arrays.get("more", np.zeros(1))[0])


class Here:
    workers = 2

    def __init__(self, spool: Path) -> None:
        self.shards: list[Any] = []
        self.spool, self.files, self.maps = spool, 0, 0

    def map(
        self, function: Callable[[Any], Any], shards: Iterable[Any], workers: int | None = None
    ) -> Iterator[Any]:
        self.maps += 1
        for shard in shards:
            self.shards.append(shard)
            self.files = len(list(self.spool.rglob("*.npy")))
            yield function(shard)


BLOCKS = [(n, n + 5) for n in range(0, 40, 5)]
VALUES = {"values": np.arange(40.0), "nothing": np.empty((0, 3), np.int32)}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    array_blocks._mapped.cache_clear()
    array_blocks._changed.cache_clear()


def costing(monkeypatch: pytest.MonkeyPatch, thread: float, process: float) -> None:
    """Every block that is done here takes so many seconds, whatever the clock says."""
    timed = array_blocks.timed

    def said(work: Any, units: float) -> Any:
        return timed(work, units)[0], Cost(thread / units, process / units)

    monkeypatch.setattr(array_blocks, "timed", said)


def test_results_come_in_order_and_arrays_of_one_loop_are_gone_with_it(tmp_path: Path) -> None:
    engine = Here(tmp_path)
    wanted = [float(sum(range(first, last))) for first, last in BLOCKS]
    with ArrayLoop(engine, tmp_path, measured=0).over(VALUES) as over:
        assert list(over.run(Sum(1.0), BLOCKS, np.ones(8))) == wanted
        assert engine.files == 2
        for number in (5.0, 7.0):
            found = list(over.run(Sum(1.0), BLOCKS, np.ones(8), {"more": np.array([number])}))
            assert found == [one + number for one in wanted] and engine.files == 3
        assert len(list(tmp_path.rglob("*.npy"))) == 2
    assert not list(tmp_path.iterdir())


def test_workers_begin_where_they_save_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block takes 3 seconds: after two of eight, 18 are left, of which two workers save 9."""
    costing(monkeypatch, 3.0, 3.0)
    for worth, begun in ((8.9, 6), (7.4, 6), (9.1, 0)):
        engine = Here(tmp_path)
        with ArrayLoop(engine, tmp_path, worth=worth).over(VALUES) as over:
            assert len(list(over.run(Sum(1.0), BLOCKS, np.ones(8)))) == 8
        assert len(engine.shards) == begun


def test_a_block_that_costs_most_counts_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costing(monkeypatch, 3.0, 3.0)
    engine = Here(tmp_path)
    with ArrayLoop(engine, tmp_path, worth=9.1).over(VALUES) as over:
        list(over.run(Sum(1.0), BLOCKS, [1, 1, 1, 1, 1, 1, 1, 10]))
    assert [block for _, _, block in engine.shards] == BLOCKS[2:]


def test_what_its_own_threads_keep_busy_gains_nothing_by_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costing(monkeypatch, 30.0, 60.0)
    engine = Here(tmp_path)
    with ArrayLoop(engine, tmp_path).over(VALUES) as over:
        list(over.run(Sum(1.0), BLOCKS, np.ones(8)))
    assert not engine.shards


def test_loops_that_follow_count_and_workers_stay_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 18 seconds that are left and 24 later, two workers save 21; of the last loop alone, 9."""
    costing(monkeypatch, 3.0, 3.0)
    engine = Here(tmp_path)
    with ArrayLoop(engine, tmp_path, worth=20).over(VALUES) as over:
        list(over.run(Sum(1.0), BLOCKS, np.ones(8), later=8))
        assert len(engine.shards) == 6 and engine.maps == 1
        list(over.run(Sum(2.0), BLOCKS, np.ones(8)))
        assert len(engine.shards) == 14 and engine.maps == 1
    engine = Here(tmp_path)
    with ArrayLoop(engine, tmp_path, worth=20).over(VALUES) as over:
        list(over.run(Sum(1.0), BLOCKS, np.ones(8)))
    assert not engine.shards


def test_what_one_loop_measured_the_next_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costing(monkeypatch, 3.0, 3.0)
    engine = Here(tmp_path)
    with ArrayLoop(engine, tmp_path, worth=11).over(VALUES) as over:
        list(over.run(Sum(1.0), BLOCKS, np.ones(8)))
        list(over.run(Sum(2.0), BLOCKS, np.ones(8)))
        assert not engine.shards
        list(over.run(Sum(1.0), BLOCKS, np.ones(8)))
        assert len(engine.shards) == 8


def test_it_is_said_that_workers_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    costing(monkeypatch, 30.0, 30.0)
    with caplog.at_level(logging.INFO), ArrayLoop(Here(tmp_path), tmp_path).over(VALUES) as over:
        list(over.run(Sum(1.0), BLOCKS, np.ones(8)))
        list(over.run(Sum(1.0), BLOCKS, np.ones(8)))
    assert [one.getMessage() for one in caplog.records] == ["Sum: 6 of 8 blocks on 2 workers"]


def test_without_a_spool_nothing_leaves_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    costing(monkeypatch, 30.0, 30.0)
    with ArrayLoop(Here(Path("nowhere"))).over(VALUES) as over:
        assert len(list(over.run(Sum(1.0), BLOCKS, np.ones(8)))) == 8


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with (
        pytest.raises(DataError, match=r"cannot be written \(No space left.*make room"),
        ArrayLoop(Here(tmp_path), tmp_path, measured=0).over(VALUES) as over,
    ):
        list(over.run(Sum(1.0), BLOCKS, np.ones(8)))
    assert not list(tmp_path.iterdir())
