"""IVF-Flat beyond the contract: training, tuning, the recall gate's fault, refused files."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from etalage.config import IndexConfig, PublishConfig
from etalage.errors import IndexMismatch
from etalage.features.array_blocks import ArrayLoop
from etalage.index import EXACT_UP_TO, build, open_index, recall
from etalage.index.exact import ExactIndex
from etalage.index.faiss import FEW, IvfFlatIndex
from tests.engines import Here


def clustered(seed: int, count: int, dimension: int = 24, noise: float = 0.6) -> np.ndarray:
    centres = np.random.default_rng(0).normal(size=(60, dimension))
    rng = np.random.default_rng(seed)
    raw = centres[rng.integers(0, 60, count)] + noise * rng.normal(size=(count, dimension))
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


ROWS = np.arange(12_000)
ITEMS = clustered(1, 12_000)
QUERIES = clustered(2, 150)  # not in the index


@pytest.fixture(scope="module")
def exact() -> ExactIndex:
    index = ExactIndex(24)
    index.add(ROWS, ITEMS)
    return index


@pytest.fixture(scope="module")
def tuned() -> IvfFlatIndex:
    return IvfFlatIndex.build(ROWS, ITEMS)


def test_the_default_index_passes_the_gate_on_unseen_queries_for_every_share(exact, tuned) -> None:
    for row in recall(tuned, exact, QUERIES, 10):
        assert row.recall >= PublishConfig().min_recall, row
    assert tuned.probes < tuned.lists / 2, "it passes because it reads everything"


def test_f55_a_badly_set_index_shows_recall_below_the_gate(exact) -> None:
    bad = IvfFlatIndex.build(ROWS, ITEMS, lists=1_000, probes=1)
    assert recall(bad, exact, QUERIES, 10)[0].recall < PublishConfig().min_recall - 0.1


def test_filters_cost_no_recall_also_above_the_few(exact, tuned) -> None:
    """Per share of allowed items, at random and by the side of space that they lie on."""
    rng = np.random.default_rng(4)
    side = ITEMS[:, 0] > np.quantile(ITEMS[:, 0], 0.6)
    assert side.sum() > FEW
    for allow in (rng.random(len(ROWS)) < 0.5, side, ~side):
        truth, answer = (index.search(QUERIES, 10, allow) for index in (exact, tuned))
        same = [len(np.intersect1d(a, b)) for a, b in zip(truth.rows, answer.rows, strict=True)]
        assert np.mean(same) / 10 > 0.95


def test_all_lists_probed_is_exact_and_says_so(exact) -> None:
    index = IvfFlatIndex.build(ROWS, ITEMS, lists=40, probes=40)
    assert index.is_exact
    assert not IvfFlatIndex.build(ROWS, ITEMS, lists=40, probes=39).is_exact
    assert [row.recall for row in recall(index, exact, QUERIES, 10)] == [1.0] * 4


def test_recall_counts_a_tie_with_the_kth_as_found() -> None:
    """Every item has a twin; the measured index knows only the twin with the higher row."""
    twice, later = ExactIndex(24), ExactIndex(24)
    twice.add(np.arange(24_000), np.concatenate([ITEMS, ITEMS]))
    later.add(ROWS + 12_000, ITEMS)
    assert np.intersect1d(later.search(QUERIES, 1).rows, twice.search(QUERIES, 1).rows).size == 0
    assert recall(later, twice, QUERIES, 1, shares=(None,))[0].recall == 1.0


def test_recall_of_wrong_answers_is_what_share_of_them_is_right(exact) -> None:
    half = ExactIndex(24)
    half.add(ROWS[::2], ITEMS[::2])
    truth = exact.search(QUERIES, 10).rows
    report = recall(half, exact, QUERIES, 10, shares=(None,))
    assert report[0].recall == pytest.approx((truth % 2 == 0).mean())


def test_recall_with_fewer_allowed_than_k_is_out_of_those(exact) -> None:
    tiny = ExactIndex(24)
    tiny.add(ROWS[:300], ITEMS[:300])
    rows = recall(tiny, tiny, QUERIES, 10, shares=(0.01,))
    assert rows[0].recall == 1.0


def test_auto_is_exact_up_to_a_size_and_ivf_above() -> None:
    assert build(ROWS, ITEMS, IndexConfig()).is_exact
    many = np.resize(clustered(3, 4_000, 5), (EXACT_UP_TO + 1, 5))
    assert isinstance(build(np.arange(EXACT_UP_TO + 1), many, IndexConfig(probes=2)), IvfFlatIndex)
    assert isinstance(build(np.arange(EXACT_UP_TO), many[:-1], IndexConfig(probes=2)), ExactIndex)


def test_centroids_are_reused_until_the_index_has_outgrown_them(tuned) -> None:
    config = IndexConfig(kind="ivf_flat")
    kept = build(ROWS[:9_000], ITEMS[:9_000], config, like=tuned)
    assert isinstance(kept, IvfFlatIndex)
    assert (kept.lists, kept.trained_on) == (tuned.lists, 12_000)
    np.testing.assert_array_equal(kept._centroids, tuned._centroids)
    outgrown = build(ROWS[:2_000], ITEMS[:2_000], config, like=tuned)
    assert isinstance(outgrown, IvfFlatIndex)
    assert outgrown.trained_on == 2_000
    other_size = build(ROWS, ITEMS[:, :7] * 1, config, like=tuned, norm="none")
    assert other_size.dimension == 7


def test_lists_have_enough_training_points_and_asked_for_lists_are_kept() -> None:
    assert IvfFlatIndex.build(ROWS[:390], ITEMS[:390]).lists == 10
    assert IvfFlatIndex.build(ROWS[:30], ITEMS[:30], lists=20).lists == 20
    assert IvfFlatIndex.build(ROWS[:30], ITEMS[:30], lists=50).lists == 30


@pytest.mark.parametrize("times", [0.25, 0.9, 5])
def test_a_long_answer_is_as_good_as_a_short_one(exact, tuned, times: float) -> None:
    """`times` as long as what the lists hold that a short one reads."""
    k = int(times * len(tuned) * tuned.probes / tuned.lists)
    truth, answer = exact.search(QUERIES, k), tuned.search(QUERIES, k)
    assert (answer.rows >= 0).all()
    same = [len(np.intersect1d(a, b)) for a, b in zip(truth.rows, answer.rows, strict=True)]
    assert np.mean(same) / k > 0.95


def test_k_items_come_back_from_beside_a_list_that_is_nearly_empty() -> None:
    """The query's own list held 400 items; all but two of them are gone."""
    away = np.full(24, 0.3)
    raw = np.concatenate([clustered(5, 4_000) + away, 0.01 * clustered(6, 400) - away])
    both = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    query = both[4_000:4_001]
    index = IvfFlatIndex.build(np.arange(4_400), both, lists=20, probes=1)
    index.remove(np.arange(4_002, 4_400))
    found = index.search(query, 15)
    assert set(found.rows[0, :2]) == {4_000, 4_001}
    truth = ExactIndex(24)
    truth.add(np.arange(4_002), both[:4_002])
    assert found.rows.tolist() == truth.search(query, 15).rows.tolist()


def test_another_kind_of_faiss_index_is_refused(tmp_path: Path, tuned) -> None:
    tuned.save(tmp_path)
    flat = faiss.IndexFlatIP(24)
    flat.add(ITEMS)
    by_distance = faiss.IndexIVFFlat(faiss.IndexFlatL2(24), 24, 8)
    by_distance.train(ITEMS)
    by_distance.add(ITEMS)
    for other in (flat, by_distance):
        faiss.write_index(other, str(tmp_path / "index.faiss"))
        with pytest.raises(IndexMismatch, match="not an IVF-Flat index of inner products"):
            open_index(tmp_path)


def test_threads_are_set_where_the_index_is_opened(tmp_path: Path, tuned) -> None:
    tuned.save(tmp_path)
    before = faiss.omp_get_max_threads()
    try:
        open_index(tmp_path, threads=2)
        assert faiss.omp_get_max_threads() == 2
        open_index(tmp_path)
        assert faiss.omp_get_max_threads() == 1
    finally:
        faiss.omp_set_num_threads(before)


def test_an_index_built_by_blocks_is_the_one_built_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(1500, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = np.sort(rng.choice(4000, 1500, replace=False)).astype(np.int64)
    IvfFlatIndex.build(rows, vectors, 24).save(tmp_path / "whole")
    monkeypatch.setattr("etalage.index.faiss.BLOCK_ROWS", 230)
    engine = Here()
    loop = ArrayLoop(engine, tmp_path / "spool", measured=0)
    by_blocks = IvfFlatIndex.build(rows, vectors, 24, blocks=loop)
    by_blocks.save(tmp_path / "blocks")
    assert engine.shards == 7 and not list((tmp_path / "spool").iterdir())
    for file in ("index.json", "index.faiss"):
        assert (tmp_path / "blocks" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    assert np.array_equal(by_blocks.rows, rows)
    found = by_blocks.search(vectors[:40], 1)
    assert np.array_equal(found.rows[:, 0], rows[:40])
