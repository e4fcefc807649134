"""Batches that are made while the step before them is computed."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from etalage.errors import TableDamaged
from etalage.training.prefetch import Prefetched


class Task:
    """Says which batches were asked for, and by which thread."""

    def __init__(self, ahead: int, broken: int | None = None) -> None:
        self.ahead, self.broken = ahead, broken
        self.made: list[tuple[int, int]] = []
        self.threads: set[str] = set()
        self.changed = threading.Condition()

    def batch(self, epoch: int, step: int, rank: int, world_size: int) -> Any:
        with self.changed:
            self.made.append((epoch, step))
            self.threads.add(threading.current_thread().name)
            self.changed.notify_all()
        if step == self.broken:
            raise TableDamaged("row group 3")
        return (epoch, step, rank, world_size)

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.made) >= count, timeout=240)


def test_batches_come_in_order_and_the_next_ones_are_made_before_they_are_asked_for() -> None:
    task = Task(ahead=2)
    batches = Prefetched(task, 5, 1, 2)  # type: ignore[arg-type]
    assert batches.parts(0, 0)[0] == (0, 0, 1, 2)
    task.wait_for(3)
    assert task.made == [(0, 0), (0, 1), (0, 2)]
    assert [batches.parts(0, step)[0] for step in range(1, 5)] == [(0, step, 1, 2) for step in range(1, 5)]
    batches.close()
    # Nothing of the next epoch: validation reads in between.
    assert task.made == [(0, step) for step in range(5)]


def test_an_epoch_may_begin_at_any_step_and_another_may_follow() -> None:
    task = Task(ahead=3)
    batches = Prefetched(task, 4, 0, 1)  # type: ignore[arg-type]
    found = [
        batches.parts(0, 2)[0],
        batches.parts(0, 3)[0],
        *(batches.parts(1, step)[0] for step in range(4)),
    ]
    assert found == [(0, 2, 0, 1), (0, 3, 0, 1), *((1, step, 0, 1) for step in range(4))]
    batches.close()
    assert len(task.made) == 6


def test_a_task_in_memory_makes_its_batches_in_the_thread_of_the_step() -> None:
    for task in (Task(ahead=0), SimpleNamespace(batch=lambda *given: given)):
        batches = Prefetched(task, 3, 0, 1)  # type: ignore[arg-type]
        assert batches.parts(0, 1)[0] == (0, 1, 0, 1)
        assert batches._thread is None
        assert batches.waited > 0
        batches.close()


def test_what_goes_wrong_is_raised_by_the_step_that_needs_the_batch() -> None:
    batches = Prefetched(Task(ahead=2, broken=1), 3, 0, 1)  # type: ignore[arg-type]
    batches.parts(0, 0)[0]
    with pytest.raises(TableDamaged, match="row group 3"):
        batches.parts(0, 1)[0]
    batches.close()


def test_a_step_that_is_accumulated_has_its_batch_in_parts() -> None:
    batches = Prefetched(Task(ahead=0), 3, 1, 2, parts=3)  # type: ignore[arg-type]
    assert batches.parts(0, 2) == [(0, 2, 3, 6), (0, 2, 4, 6), (0, 2, 5, 6)]
