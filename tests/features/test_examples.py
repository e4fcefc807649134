"""Labelled rows: their shapes, folders and order."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.errors import TableDamaged
from etalage.features.examples import Examples, blocks, shuffled


def examples(rows: int = 7) -> Examples:
    number = np.arange(rows)
    return Examples(
        np.stack([number % 3, number % 5], axis=1),
        ("colour", "brand"),
        (3, 5),
        number[:, None].astype(np.float32) / 4,
        ("price",),
        (number % 2).astype(np.float32)[:, None],
        ("click",),
        np.where(number < 4, 0, np.where(number < 6, 1, 2)).astype(np.uint8),
        np.array([4, 4, 9, 9, 9, 2, 2])[:rows] if rows == 7 else None,
    )


def test_parts_are_rows_in_ascending_order() -> None:
    found = examples()
    assert found.rows("train").tolist() == [0, 1, 2, 3]
    assert found.rows("validation").tolist() == [4, 5]
    assert found.rows("test").tolist() == [6]


@pytest.mark.parametrize("name", ["sparse", "dense", "labels", "parts", "groups"])
def test_an_array_that_does_not_fit_is_named(name: str) -> None:
    good = examples()
    with pytest.raises(ValueError, match=name if name != "labels" else "sparse"):
        replace(good, **{name: getattr(good, name)[:-1]})


def test_sizes_are_as_many_as_sparse_features() -> None:
    with pytest.raises(ValueError, match="1 sizes for 2"):
        replace(examples(), sizes=(3,))


def test_a_folder_gives_back_what_was_saved(tmp_path: Path) -> None:
    for made in (examples(), replace(examples(), groups=None)):
        made.save(tmp_path)
        opened = Examples.open(tmp_path)
        assert isinstance(opened.sparse, np.memmap)
        for name in ("sparse", "dense", "labels", "parts"):
            assert np.array_equal(getattr(opened, name), getattr(made, name))
        assert (opened.groups is None) == (made.groups is None)
        assert (opened.sizes, opened.sparse_names, opened.label_names) == (
            (3, 5),
            ("colour", "brand"),
            ("click",),
        )


@pytest.mark.parametrize("file", ["examples.json", "sparse.npy", "parts.npy"])
def test_a_folder_with_a_torn_or_missing_file_is_refused(tmp_path: Path, file: str) -> None:
    examples().save(tmp_path / "torn")
    whole = (tmp_path / "torn" / file).read_bytes()
    (tmp_path / "torn" / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TableDamaged, match="torn"):
        Examples.open(tmp_path / "torn")
    (tmp_path / "torn" / file).unlink()
    with pytest.raises(TableDamaged, match="torn"):
        Examples.open(tmp_path / "torn")


def test_arrays_of_objects_are_never_unpickled(tmp_path: Path) -> None:
    examples().save(tmp_path)
    np.save(tmp_path / "labels.npy", np.array([[object()]] * 7), allow_pickle=True)
    with pytest.raises(TableDamaged, match="not a folder of examples"):
        Examples.open(tmp_path)


def test_the_fingerprint_tells_any_changed_value_apart() -> None:
    whole = examples()
    prints = {whole.fingerprint()}
    for name in ("sparse", "dense", "labels", "parts", "groups"):
        changed = getattr(whole, name).copy()
        changed[-1] = changed[-1] + 1
        prints.add(replace(whole, **{name: changed}).fingerprint())
    prints.add(replace(whole, sizes=(3, 6)).fingerprint())
    assert len(prints) == 7
    assert examples().fingerprint() == whole.fingerprint()


def test_sets_are_joined_and_their_groups_stay_apart() -> None:
    one = examples()
    both = Examples.joined(one, one.take(np.array([2, 3, 5])))
    assert both.groups is not None
    assert both.groups.tolist() == [1, 1, 2, 2, 2, 0, 0, 4, 4, 3]
    assert both.labels[:, 0].tolist() == [0, 1, 0, 1, 0, 1, 0, 0, 1, 1]
    with pytest.raises(ValueError, match="cannot be joined"):
        Examples.joined(one, replace(one, sizes=(3, 9)))


@given(st.integers(0, 50), st.integers(0, 3), st.none() | st.integers(1, 60))
def test_shuffling_keeps_every_row_once(count: int, seed: int, window: int | None) -> None:
    rows = np.arange(count) * 3 + 1
    order = shuffled(rows, (seed, 0), window)
    assert np.array_equal(np.sort(order), rows)
    assert np.array_equal(order, shuffled(rows, (seed, 0), window))


def test_within_a_window_rows_stay_near_each_other() -> None:
    order = shuffled(np.arange(1000), (1, 2), window=100)
    for start in range(0, 1000, 100):
        block = order[start : start + 100]
        assert np.ptp(block) == 99
        assert not np.array_equal(block, np.sort(block))
    assert not np.array_equal(np.argsort(order[::100]), np.arange(10))


def test_blocks_cover_all_rows() -> None:
    assert [block.tolist() for block in blocks(np.arange(5), 2)] == [[0, 1], [2, 3], [4]]
    assert list(blocks(np.arange(0), 2)) == []
