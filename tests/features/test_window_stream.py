"""Windows of interactions that lie in files: the batches of an epoch, whoever reads them."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etalage.errors import ConfigError, TooLittleData
from etalage.features.behaviour import Interactions
from etalage.features.behaviour_stream import BehaviourStream
from etalage.features.window_stream import WindowStream
from etalage.features.windows import DrawnWindows, Windows
from tests.behaviours import behaviour
from tests.features.behaviour_tables import stored

LENGTH, SIZE = 8, 64


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> BehaviourStream:
    return stored(behaviour(), tmp_path_factory.mktemp("files") / "behaviour")


def positives(acts: Interactions) -> np.ndarray:
    wanted: np.ndarray = acts.labels > 0
    return wanted


def windows_of(stream: BehaviourStream, length: int = LENGTH) -> WindowStream:
    return stream.windows(positives, "positives", length, SIZE)


def in_memory(stream: BehaviourStream, length: int = LENGTH) -> Windows:
    train = stream.data.part("train")
    held = train.take(np.arange(len(train)))
    return Windows(held, positives(held), length, SIZE)


@pytest.mark.parametrize("length", [LENGTH, 0])
def test_they_are_the_windows_that_there_are_in_memory(stream: BehaviourStream, length: int) -> None:
    ours, theirs = windows_of(stream, length), in_memory(stream, length)
    assert len(ours) == len(theirs)
    assert len(ours.order.rows_S) > 20 and len(ours.order.pools(0)) > 5
    assert np.array_equal(ours.index.rows, theirs.rows)
    for step in range(ours.steps):
        drawn = ours.drawn(0, step)
        batch = theirs.batch(drawn.numbers)
        for name in ("users", "items", "kinds", "at", "targets"):
            assert np.array_equal(getattr(drawn.batch, name), getattr(batch, name)), name
        assert np.array_equal(drawn.acts.values, theirs.acts.values[batch.targets], equal_nan=True)
        assert np.array_equal(drawn.every_item, theirs.acts.items[batch.targets])


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_window_comes_once_an_epoch_in_the_batch_that_one_reader_has(
    stream: BehaviourStream, world_size: int
) -> None:
    ours, alone = windows_of(stream), windows_of(stream)
    orders = []
    for epoch in range(2 if world_size < 3 else 1):
        every = []
        for step in range(ours.steps):
            parts = [ours.drawn(epoch, step, rank, world_size) for rank in range(world_size)]
            numbers = np.concatenate([part.numbers for part in parts])
            one = alone.drawn(epoch, step)
            assert sorted(numbers) == sorted(one.numbers)
            assert_of_one_batch(parts, one)
            every.append(numbers)
        orders.append(np.concatenate(every))
        assert sorted(orders[-1]) == list(range(len(ours)))
    assert len(orders) == 1 or not np.array_equal(*orders)


def assert_of_one_batch(parts: list[DrawnWindows], whole: DrawnWindows) -> None:
    """All ranks know all targets, and each has its own."""
    for part in parts:
        assert np.array_equal(part.every_item, whole.every_item)
        assert np.array_equal(part.every_row, whole.every_row)
        assert np.array_equal(part.every_row[part.mine], part.batch.targets)
        assert np.array_equal(part.every_item[part.mine], part.acts.items)
    assert np.array_equal(sum(part.mine.astype(int) for part in parts), np.ones(len(whole.every_row)))


def test_a_shard_is_read_by_one_rank_alone(stream: BehaviourStream, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[int]] = [[], []]
    for rank in (0, 1):
        ours = windows_of(stream)
        load = ours._load
        monkeypatch.setattr(ours._held, "_load", lambda s, r=rank, load=load: read[r].append(s) or load(s))
        for step in range(ours.steps):
            ours.drawn(0, step, rank, 2)
        ours.close()
    pools = windows_of(stream).order.pools(0)
    shared = {int(shard) for pool in pools if len(pool) >= 4 for shard in pool}
    assert shared
    for shard in shared:
        assert sum(shard in mine for mine in read) == 1


def test_any_step_can_be_asked_first(stream: BehaviourStream) -> None:
    one, other = windows_of(stream), windows_of(stream)
    wanted = [one.drawn(1, step).numbers for step in range(one.steps)]
    for step in reversed(range(0, one.steps, 3)):
        assert np.array_equal(other.drawn(1, step).numbers, wanted[step])


def test_batches_have_about_as_many_targets_and_windows_of_about_one_length(stream: BehaviourStream) -> None:
    """Of a buffer that holds everything, which is one pool."""
    large = replace(stream, buffer=10**8)
    ours = windows_of(large)
    assert len(ours.order.pools(0)) == 1
    drawn = [ours.drawn(0, step) for step in range(ours.steps)]
    assert max(abs(len(one.every_row) - SIZE) for one in drawn) <= 2 * LENGTH
    padded = sum(one.batch.items.size for one in drawn)
    filled = sum(int((one.batch.items > 0).sum()) for one in drawn)
    assert filled > 0.85 * padded


def test_another_process_has_the_same_batches(stream: BehaviourStream) -> None:
    other = pickle.loads(pickle.dumps(stream))  # noqa: S301
    assert other.fingerprint() == stream.fingerprint()
    assert np.array_equal(
        windows_of(other).drawn(0, 3).batch.items, windows_of(stream).drawn(0, 3).batch.items
    )
    assert other.data.item_features.columns.keys() == stream.data.item_features.columns.keys()


def test_what_cannot_be_streamed_is_said(stream: BehaviourStream, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the shopper with the most interactions .* max_user"):
        windows_of(replace(stream, buffer=4000))
    with pytest.raises(TooLittleData, match="no interaction to learn from"):
        stream.windows(lambda acts: np.zeros(len(acts), bool), "nothing", LENGTH, SIZE)
