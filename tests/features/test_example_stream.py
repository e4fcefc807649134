"""Examples of a table that does not fit into memory."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from etalage.features.example_stream import ExampleStream
from etalage.features.examples import Examples
from tests.features.example_tables import ROWS, drawn, stored, stream_of

BATCH = 64


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return stored(tmp_path_factory.mktemp("table") / "clicks", drawn())


def batches_of(stream: ExampleStream, epoch: int, world_size: int = 1) -> list[np.ndarray]:
    """Row numbers of each batch, of all ranks."""
    starts = range(0, stream.count("train"), BATCH)
    return [
        np.concatenate(
            [stream.batch(epoch, at, at + BATCH, rank, world_size)[1] for rank in range(world_size)]
        )
        for at in starts
    ]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_training_row_comes_once_an_epoch(uri: str, world_size: int) -> None:
    stream = stream_of(uri)
    assert len(stream.order.pools(0)) > 5
    wanted = np.flatnonzero(np.array([row.parts[0] for row in split(stream.whole())]) == 0)
    for epoch in range(2):
        assert sorted(np.concatenate(batches_of(stream, epoch, world_size))) == wanted.tolist()


def split(examples: Examples) -> list[Examples]:
    return [examples.take(np.array([row])) for row in range(len(examples))]


def test_training_goes_from_one_worker_to_three_between_runs_at_the_same_batches(uri: str) -> None:
    alone = batches_of(stream_of(uri), 1)
    half = len(alone) // 2
    for world_size in (2, 3):
        later = batches_of(stream_of(uri), 1, world_size)[half:]
        assert all(set(a) == set(b) for a, b in zip(alone[half:], later, strict=True))


def test_a_batch_has_the_values_of_its_rows(uri: str) -> None:
    stream = stream_of(uri)
    whole = stream.whole()
    some, rows, _ = stream.batch(0, 100, 200)
    assert len(rows) == 100
    for name in ("sparse", "dense", "labels"):
        assert np.array_equal(getattr(some, name), getattr(whole, name)[rows])
    # The number of each row in the table is a column too; files of a version come in an order of their own.
    place = stream.dense_names.index("id")
    assert sorted(whole.dense[:, place].tolist()) == list(range(ROWS))


def test_parts_come_block_by_block_and_are_counted(uri: str) -> None:
    stream = stream_of(uri)
    whole = stream.whole()
    for part in ("train", "validation", "test"):
        found = Examples.joined(*stream.blocks(part))
        assert len(found) == stream.count(part) == len(whole.rows(part))
        assert np.array_equal(found.labels, whole.labels[whole.rows(part)])


def test_another_process_makes_the_same_batches(uri: str) -> None:
    stream = stream_of(uri)
    stream.batch(0, 0, BATCH)
    other = pickle.loads(pickle.dumps(stream))  # noqa: S301
    assert np.array_equal(other.batch(0, 64, 128)[1], stream.batch(0, 64, 128)[1])
    assert other.fingerprint() == stream.fingerprint()


def test_the_buffer_and_the_version_are_part_of_what_a_run_learned_from(tmp_path: Path, uri: str) -> None:
    other = stored(tmp_path / "other", drawn(seed=1))
    marks = {one.fingerprint() for one in (stream_of(uri), stream_of(uri, 48_000), stream_of(other))}
    assert len(marks) == 3


def test_it_says_how_it_is_read(uri: str) -> None:
    said = stream_of(uri).describe()
    assert "3,000 rows in 30 row groups" in said
    assert "read as a stream" in said
