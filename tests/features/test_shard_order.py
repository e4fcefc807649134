"""In which order a stream takes its rows, and what is in memory for it."""

import numpy as np
import pytest

from etalage.errors import ConfigError, TableDamaged, TooLittleData
from etalage.features.shard_buffer import ShardBuffer
from etalage.features.shard_order import MEGABYTE, ShardOrder

ROWS = np.array([40, 0, 60, 50, 50, 33, 61, 50, 50, 41, 55, 10])
BATCH = 32


def order_of(buffer: int | None = 400, seed: int = 0) -> ShardOrder:
    """Each row takes one byte."""
    return ShardOrder(ROWS, ROWS, buffer, seed)


def buffer_of(order: ShardOrder, loaded: list[int] | None = None) -> ShardBuffer:
    """Shards of which each row holds its own shard and place."""

    def load(shard: int) -> dict[str, np.ndarray]:
        if loaded is not None:
            loaded.append(shard)
        return {"id": shard * 1000 + np.arange(ROWS[shard])}

    return ShardBuffer(order, load)


def epoch_of(buffer: ShardBuffer, epoch: int, world_size: int = 1) -> list[np.ndarray]:
    """Batches, each of what all ranks read of it, sorted."""
    starts = range(0, int(ROWS.sum()), BATCH)
    ranks = [
        [buffer.take(epoch, at, at + BATCH, rank, world_size).arrays["id"] for at in starts]
        for rank in range(world_size)
    ]
    return [np.sort(np.concatenate(parts)) for parts in zip(*ranks, strict=True)]


EVERY = sorted(shard * 1000 + row for shard, rows in enumerate(ROWS) for row in range(rows))


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("buffer", [250, 400, None])
def test_every_row_comes_once_an_epoch_however_many_workers_read(world_size: int, buffer: int | None) -> None:
    for epoch in range(2):
        found = np.concatenate(epoch_of(buffer_of(order_of(buffer)), epoch, world_size))
        assert sorted(found.tolist()) == EVERY


@pytest.mark.parametrize("world_size", [2, 3])
def test_a_batch_is_the_same_however_many_workers_share_it(world_size: int) -> None:
    alone, together = epoch_of(buffer_of(order_of()), 1), epoch_of(buffer_of(order_of()), 1, world_size)
    assert all(np.array_equal(*both) for both in zip(alone, together, strict=True))


def test_any_step_can_be_resumed() -> None:
    whole = [buffer_of(order_of()).take(3, at, at + BATCH).arrays["id"] for at in range(0, 500, BATCH)]
    for step in (0, 4, 9, 15):
        fresh = buffer_of(order_of())
        rest = [fresh.take(3, at, at + BATCH).arrays["id"] for at in range(step * BATCH, 500, BATCH)]
        assert all(np.array_equal(*both) for both in zip(whole[step:], rest, strict=True))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [
        np.concatenate(epoch_of(buffer_of(order_of(seed=seed)), epoch)).tolist()
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("world_size", [1, 3])
def test_no_more_is_held_than_the_buffer_says(world_size: int) -> None:
    order = order_of(250)
    assert len(order.pools(0)) > 5
    assert max(int(ROWS[pool].sum()) for pool in order.pools(0)) <= 125
    buffer = buffer_of(order)
    for at in range(0, 500, BATCH):
        buffer.take(0, at, at + BATCH, 0, world_size)
        held = sum(int(ROWS[shard]) for shard in buffer._held)
        assert held <= 250


def test_a_rank_reads_no_shard_of_another_and_none_twice() -> None:
    read: list[list[int]] = [[], []]
    for rank in range(2):
        buffer = buffer_of(order_of(None), read[rank])
        for at in range(0, int(ROWS.sum()), BATCH):
            buffer.take(0, at, at + BATCH, rank, 2)
        buffer.close()
    assert not set(read[0]) & set(read[1])
    assert sorted(read[0] + read[1]) == np.flatnonzero(ROWS).tolist()


def test_a_row_group_that_is_too_large_for_the_buffer_is_refused_with_the_setting() -> None:
    rows = np.array([1000, 10])
    with pytest.raises(ConfigError, match=r"buffer = 8 MB: the largest row group takes 7.*set buffer = 31"):
        ShardOrder(rows, rows * 8000, 8 * MEGABYTE, 0)
    with pytest.raises(TooLittleData):
        ShardOrder(np.array([0, 0]), np.array([0, 0]), 100, 0)


def test_what_goes_wrong_while_reading_ahead_is_raised_by_the_batch_that_needs_it() -> None:
    order = order_of()
    last = int(order.pools(0)[-1][0])

    def load(shard: int) -> dict[str, np.ndarray]:
        if shard == last:
            raise TableDamaged("this one")
        return {"id": np.arange(ROWS[shard])}

    buffer = ShardBuffer(order, load)
    buffer.take(0, 0, BATCH)
    with pytest.raises(TableDamaged, match="this one"):
        buffer.take(0, 400, 500)


# -- how well it shuffles ------------------------------------------------------------------------


def quality(order: np.ndarray, batch: int = 64) -> tuple[float, float, float]:
    """Mean displacement, as a share of all rows; correlation of a row's place with the next one's; spread of
    the batches' mean labels, where the labels are sorted by place."""
    count = len(order)
    displacement = np.abs(order - np.arange(count)).mean() / count
    correlation = np.corrcoef(order[:-1], order[1:])[0, 1]
    batches = (order[: count // batch * batch] >= count // 2).reshape(-1, batch)
    return float(displacement), float(correlation), float(batches.mean(axis=1).std())


def streamed(shards: int, rows: int, pools: int) -> np.ndarray:
    """The order of an epoch, by the places of the rows in the table."""
    sizes = np.full(shards, rows)
    buffer = 2 * (shards * rows // pools + rows)
    order = ShardOrder(sizes, sizes, buffer, 0)
    assert len(order.pools(0)) == pools
    found = order.slice(0, 0, shards * rows)
    return found.shards * rows + found.rows


def test_rows_move_as_far_as_in_a_full_shuffle_and_neighbours_part() -> None:
    full = quality(np.random.default_rng(0).permutation(64 * 128))
    ours = quality(streamed(64, 128, 8))
    by_shard = quality(streamed(64, 128, 64))
    # A third of the set is what chance gives.
    assert full[0] == pytest.approx(1 / 3, abs=0.01)
    assert ours[0] == pytest.approx(1 / 3, abs=0.08)
    assert abs(full[1]) < 0.05
    assert abs(ours[1]) < 0.35
    assert by_shard[1] > 0.9
    # A table that is sorted by label: batches of a pool of eight shards differ more than those of a full
    # shuffle, and far less than those of one shard after the other.
    assert full[2] < ours[2] < 0.5 * by_shard[2]
