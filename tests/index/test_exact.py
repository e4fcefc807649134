"""The reference index beyond the contract: blocks, ties across them, mapped files."""

from pathlib import Path

import numpy as np
import pytest

import etalage.index.exact as module
from etalage.errors import IndexMismatch
from etalage.index.exact import ExactIndex


def unit(seed: int, count: int, dimension: int = 9) -> np.ndarray:
    raw = np.random.default_rng(seed).normal(size=(count, dimension)) + 0.2
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("at_once", [64, 1000, 40_000])
@pytest.mark.parametrize("share", [None, 0.02, 0.4, 0.95])
def test_the_answer_does_not_depend_on_the_block_size(
    monkeypatch: pytest.MonkeyPatch, at_once: int, share: float | None
) -> None:
    embeddings = np.concatenate([unit(0, 700), unit(1, 1)[[0] * 300], unit(2, 900)])
    index = ExactIndex(9)
    index.add(np.arange(1900), embeddings)
    queries = np.concatenate([unit(3, 90), unit(1, 1)])
    allow = None if share is None else np.random.default_rng(4).random(1900) < share
    whole = index.search(queries, 21, allow)
    monkeypatch.setattr(module, "SCORES_AT_ONCE", at_once)
    blocked = index.search(queries, 21, allow)
    assert blocked.rows.tolist() == whole.rows.tolist()
    assert blocked.scores.tolist() == whole.scores.tolist()
    scores = queries.astype(float) @ embeddings.T.astype(float)
    if allow is not None:
        scores[:, ~allow] = -np.inf
    expected = np.argsort(-np.round(scores, 7), axis=1, kind="stable")[:, :21]
    assert whole.rows.tolist() == expected.tolist()


@pytest.mark.parametrize("queries", [1, 40])
def test_rounding_in_the_matrix_product_does_not_part_equal_items(queries: int) -> None:
    """The first and the last item are equal and best; their columns may be rounded differently."""
    parted = 0
    for seed in range(150):
        embeddings = unit(seed, 33 + seed % 16, 77)
        asked = unit(1000 + seed, queries, 77)
        embeddings[0] = embeddings[-1] = asked.mean(axis=0) / np.linalg.norm(asked.mean(axis=0))
        products = asked @ embeddings.T
        parted += int((products[:, 0] < products[:, -1]).sum())
        index = ExactIndex(77)
        index.add(np.arange(len(embeddings)), embeddings)
        truth = np.round(embeddings.astype(float) @ asked.T.astype(float), 10)
        best = truth.argmax(axis=0)  # the first of equals
        assert index.search(asked, 1).rows[:, 0].tolist() == best.tolist()
    if not parted:
        pytest.skip("this BLAS rounds all columns alike")


def test_all_items_equal_come_back_by_row() -> None:
    index = ExactIndex(9)
    index.add(np.arange(30_000), unit(0, 1)[[0] * 30_000])
    found = index.search(unit(1, 70), 5)
    assert (found.rows == np.arange(5)).all()


def test_an_opened_index_is_mapped_not_copied_and_keeps_its_file_when_changed(tmp_path: Path) -> None:
    index = ExactIndex(9)
    index.add(np.arange(50), unit(0, 50))
    index.save(tmp_path)
    before = (tmp_path / "embeddings.npy").read_bytes()
    opened = ExactIndex.open(tmp_path)
    assert isinstance(opened._embeddings.base, np.memmap)
    opened.remove(np.arange(10))
    opened.add(np.array([3]), unit(5, 1))
    assert opened.search(unit(5, 1), 1).rows.tolist() == [[3]]
    assert (tmp_path / "embeddings.npy").read_bytes() == before


def test_f15_a_pickle_in_place_of_an_array_is_never_opened(tmp_path: Path) -> None:
    index = ExactIndex(9)
    index.add(np.arange(5), unit(0, 5))
    index.save(tmp_path)
    marker = tmp_path / "executed"

    class Planted:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (marker,)  # type: ignore[return-value]

    for file in ("embeddings.npy", "rows.npy"):
        whole = (tmp_path / file).read_bytes()
        np.save(tmp_path / file, np.array([Planted()], dtype=object), allow_pickle=True)
        with pytest.raises(IndexMismatch, match=file):
            ExactIndex.open(tmp_path)
        assert not marker.exists()
        (tmp_path / file).write_bytes(whole)


def test_an_array_of_another_type_is_refused(tmp_path: Path) -> None:
    index = ExactIndex(9)
    index.add(np.arange(5), unit(0, 5))
    index.save(tmp_path)
    np.save(tmp_path / "embeddings.npy", unit(0, 5).astype(np.float64))
    with pytest.raises(IndexMismatch, match=r"float64.*float32"):
        ExactIndex.open(tmp_path)
