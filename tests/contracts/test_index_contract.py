"""What every index keeps to, run over each of them and against plain loops.

Milvus is Milvus Lite here, of three types of index. A collection takes it half a second, so that it has a few
fixed examples where others have drawn ones. What it is not asked, and why, is in NOT_MILVUS.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.config import IndexConfig
from etalage.errors import IndexMismatch
from etalage.index import Index, build, open_index, recall
from etalage.index.exact import ExactIndex
from etalage.index.faiss import IvfFlatIndex
from etalage.index.milvus import MilvusIndex

Build = Callable[[np.ndarray, np.ndarray], Index]


def exact(rows: np.ndarray, embeddings: np.ndarray) -> Index:
    index = ExactIndex(embeddings.shape[1])
    index.add(rows, embeddings)
    return index


def ivf_all_probed(rows: np.ndarray, embeddings: np.ndarray) -> Index:
    return IvfFlatIndex.build(rows, embeddings, lists=7, probes=7)


def ivf_one_probed(rows: np.ndarray, embeddings: np.ndarray) -> Index:
    return IvfFlatIndex.build(rows, embeddings, lists=7, probes=1)


def ivf_tuned(rows: np.ndarray, embeddings: np.ndarray) -> Index:
    return IvfFlatIndex.build(rows, embeddings)


def milvus_flat(rows: np.ndarray, embeddings: np.ndarray) -> Index:
    return lite(rows, embeddings, index="FLAT")


def milvus_hnsw(rows: np.ndarray, embeddings: np.ndarray) -> Index:
    return lite(rows, embeddings, index="HNSW", build={"M": 8, "efConstruction": 40}, search={"ef": 16})


def milvus_ivf(rows: np.ndarray, embeddings: np.ndarray) -> Index:
    return lite(rows, embeddings, index="IVF_FLAT", build={"nlist": 7}, search={"nprobe": 1})


@pytest.fixture(autouse=True)
def milvus_lite(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test leaves the Milvus Lite empty."""
    yield
    for index in MADE:
        index.drop()
    MADE.clear()


MADE: list[MilvusIndex] = []
LITE_FOLDER = tempfile.TemporaryDirectory()


def lite(rows: np.ndarray, embeddings: np.ndarray, norm: str = "l2", **settings) -> Index:
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    uri = f"{LITE_FOLDER.name}/contract.db"
    config = IndexConfig(kind="milvus", milvus={"uri": uri, "seconds": 20, **settings})
    index = build(rows, embeddings, config, norm=norm)
    MADE.append(index)
    return index


NOT_MILVUS = {
    "the same files": "a collection has a name of its own, and its embeddings are in no file",
    "equal scores by row": "a graph (HNSW) does not reach every one of 200 equal items",
    "breaks its norm": "its embeddings are in no file; the bundle checks those that it has",
}
LOCAL_EXACT = [exact, ivf_all_probed]
LOCAL = [*LOCAL_EXACT, ivf_one_probed, ivf_tuned]
MILVUS = [milvus_flat, milvus_hnsw, milvus_ivf]
local_index = pytest.mark.parametrize("make", LOCAL, ids=lambda make: make.__name__)
local_exact = pytest.mark.parametrize("make", LOCAL_EXACT, ids=lambda make: make.__name__)
milvus_index = pytest.mark.parametrize("make", MILVUS, ids=lambda make: make.__name__)
every_index = pytest.mark.parametrize("make", [*LOCAL, *MILVUS], ids=lambda make: make.__name__)


def unit(rng: np.random.Generator, count: int, dimension: int = 11) -> np.ndarray:
    """Unit vectors that crowd in one corner: swapped rows, queries or dimensions show."""
    raw = rng.normal(size=(count, dimension)) + np.arange(dimension) * 0.15
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


def items(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows with holes, in no order, and their embeddings."""
    rows = rng.permutation(3 * count + 5)[:count].astype(np.int64)
    return rows, unit(rng, count)


def by_hand(
    rows: np.ndarray, embeddings: np.ndarray, query: np.ndarray, k: int, allow: np.ndarray | None
) -> list[tuple[float, int]]:
    """The k best as (score, row), by plain sorting in double precision."""
    scored = []
    for row, embedding in zip(rows.tolist(), embeddings, strict=True):
        if allow is None or (row < len(allow) and allow[row]):
            scored.append((-float(embedding.astype(float) @ query.astype(float)), row))
    return [(-score, row) for score, row in sorted(scored)[:k]]


def assert_answers(index: Index, rows, embeddings, queries, k, allow=None) -> None:
    found = index.search(queries, k, allow)
    assert found.scores.shape == found.rows.shape == (len(queries), k)
    assert (found.scores.dtype, found.rows.dtype) == (np.float32, np.int64)
    for number, query in enumerate(queries):
        expected = by_hand(rows, embeddings, query, k, allow)
        missing = k - len(expected)
        assert found.rows[number].tolist() == [row for _, row in expected] + [-1] * missing
        scores = [score for score, _ in expected] + [-np.inf] * missing
        np.testing.assert_allclose(found.scores[number], scores, atol=2e-6)


@local_exact
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 300),
    k=st.integers(1, 40),
    share=st.sampled_from([None, 0.0, 0.01, 0.05, 0.5, 0.9, 1.0]),
)
def test_an_exact_search_finds_what_sorting_by_hand_finds(make: Build, seed, count, k, share) -> None:
    rng = np.random.default_rng(seed)
    rows, embeddings = items(rng, count)
    allow = None if share is None else rng.random(rng.integers(1, 3 * count + 9)) < share
    assert_answers(make(rows, embeddings), rows, embeddings, unit(rng, 3), k, allow)


@pytest.mark.parametrize("count", [1, 40, 2_500])
def test_an_exact_milvus_finds_what_sorting_by_hand_finds(count: int) -> None:
    rng = np.random.default_rng(count)
    rows, embeddings = items(rng, count)
    index = milvus_flat(rows, embeddings)
    for k in (1, 7, 40):
        for share in (None, 0.0, 0.01, 0.05, 0.5, 0.9, 1.0):
            allow = None if share is None else rng.random(rng.integers(1, 3 * count + 9)) < share
            assert_answers(index, rows, embeddings, unit(rng, 3), k, allow)


@local_index
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 400), k=st.integers(1, 30), data=st.data())
def test_k_items_come_back_whenever_k_are_allowed(make: Build, seed, count, k, data) -> None:
    rng = np.random.default_rng(seed)
    rows, embeddings = items(rng, count)
    many = data.draw(st.sampled_from(sorted({0, 1, min(k, count), min(k + 1, count), count // 2, count})))
    assert_full(make(rows, embeddings), rng, rows, k, many)


@milvus_index
def test_k_items_come_back_from_milvus_whenever_k_are_allowed(make: Build) -> None:
    rng = np.random.default_rng(4)
    rows, embeddings = items(rng, 2_200)
    index = make(rows, embeddings)
    for k in (1, 30):
        for many in (0, 1, k, k + 1, 60, 1_050, 2_100, 2_200):
            assert_full(index, rng, rows, k, many)


def assert_full(index: Index, rng: np.random.Generator, rows: np.ndarray, k: int, many: int) -> None:
    allow = np.zeros(rows.max() + 1, bool)
    allow[rng.permutation(rows)[:many]] = True
    found = index.search(unit(rng, 5), k, allow)
    for answer, scores in zip(found.rows, found.scores, strict=True):
        real = answer[answer >= 0]
        assert len(real) == len(set(real.tolist())) == min(k, many)
        assert allow[real].all()
        assert (answer[len(real) :] == -1).all() and np.isneginf(scores[len(real) :]).all()
        assert (np.diff(scores[: len(real)]) <= 0).all()


@pytest.mark.parametrize("allowed", [6_000, 1_500])
def test_a_filter_far_from_the_query_still_fills_the_slate(allowed: int) -> None:
    """Only the items farthest from the query are allowed, so none is in the nearest lists."""
    rng = np.random.default_rng(3)
    embeddings, query = unit(rng, 12_000), unit(rng, 1)
    index = IvfFlatIndex.build(np.arange(12_000), embeddings, lists=200, probes=2)
    allow = np.zeros(12_000, bool)
    allow[np.argsort(embeddings @ query[0])[:allowed]] = True
    found = index.search(query, 9, allow)
    assert allow[found.rows[0]].all() and (found.rows >= 0).all()
    if allowed == 1_500:  # few enough to be scored one and all
        expected = by_hand(np.arange(12_000), embeddings, query[0], 9, allow)
        assert found.rows[0].tolist() == [row for _, row in expected]


@every_index
def test_an_empty_index_answers_with_nothing(make: Build) -> None:
    index = make(np.empty(0, np.int64), np.empty((0, 11), np.float32))
    found = index.search(unit(np.random.default_rng(0), 2), 3, np.ones(4, bool))
    assert len(index) == 0
    assert found.rows.tolist() == [[-1] * 3] * 2 and np.isneginf(found.scores).all()
    index.add(np.array([6]), unit(np.random.default_rng(1), 1))
    assert index.search(unit(np.random.default_rng(0), 1), 2).rows.tolist() == [[6, -1]]


@every_index
def test_no_queries_get_no_answers(make: Build) -> None:
    index = make(*items(np.random.default_rng(0), 20))
    assert index.search(np.empty((0, 11), np.float32), 3).rows.shape == (0, 3)


@every_index
@pytest.mark.parametrize("filtered", [False, True])
def test_equal_scores_are_ordered_by_row_also_where_k_cuts(make: Build, filtered: bool) -> None:
    if make is milvus_hnsw:
        pytest.skip(NOT_MILVUS["equal scores by row"])
    rng = np.random.default_rng(5)
    embeddings = np.repeat(unit(rng, 3), [200, 90, 40], axis=0)
    rows = rng.permutation(330).astype(np.int64)
    index = make(rows[100:], embeddings[100:])
    index.add(rows[:100], embeddings[:100])  # equal to items that stand in it already
    allow = rng.random(330) < 0.6 if filtered else None
    assert_answers(index, rows, embeddings, embeddings[[0, 250, 329]], 17, allow)


@every_index
def test_one_query_and_a_batch_answer_alike(make: Build) -> None:
    rng = np.random.default_rng(6)
    rows, embeddings = items(rng, 700)
    queries, allow = unit(rng, 130), rng.random(2000) < 0.3
    index = make(rows, embeddings)
    for mask in (None, allow):
        batch = index.search(queries, 9, mask)
        for number in range(0, len(queries), 1 if make in LOCAL else 10):
            single = index.search(queries[number : number + 1], 9, mask)
            assert single.rows[0].tolist() == batch.rows[number].tolist()
            assert single.scores[0].tolist() == batch.scores[number].tolist()


@local_exact
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), steps=st.lists(st.integers(1, 60), min_size=1, max_size=6))
def test_adding_and_removing_equals_building_from_what_is_left(
    tmp_path_factory: pytest.TempPathFactory, make: Build, seed: int, steps: list[int]
) -> None:
    assert_builds(make, seed, steps, tmp_path_factory.mktemp("index"))


def test_adding_to_and_removing_from_milvus_equals_building_from_what_is_left(tmp_path: Path) -> None:
    assert_builds(milvus_flat, 3, [60, 41, 17], tmp_path)


def assert_builds(make: Build, seed: int, steps: list[int], folder: Path) -> None:
    rng = np.random.default_rng(seed)
    rows, embeddings = items(rng, 500)
    here = np.zeros(500, bool)
    here[:80] = True
    index = make(rows[here], embeddings[here])
    for number, size in enumerate(steps):
        chosen = rng.permutation(500)[:size]
        if number % 2:
            assert index.remove(rows[chosen]) == here[chosen].sum()
            here[chosen] = False
        else:
            fresh = chosen[~here[chosen]]
            index.add(rows[fresh], embeddings[fresh])
            here[fresh] = True
        assert len(index) == here.sum()
        assert index.rows.tolist() == sorted(rows[here].tolist())
    index.save(folder)
    for one in (index, open_index(folder)):
        assert_answers(one, rows[here], embeddings[here], unit(rng, 4), 13)


@every_index
def test_f56_a_removed_item_never_comes_back(make: Build, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    rows, embeddings = items(rng, 600)
    index = make(rows, embeddings)
    gone = rows[::3]
    assert index.remove(np.concatenate([gone, [10**9]])) == len(gone)
    assert index.remove(gone) == 0
    index.save(tmp_path)
    for one in (index, open_index(tmp_path)):
        for allow in (None, np.isin(np.arange(2000), gone), np.ones(2000, bool)):
            found = one.search(embeddings[::45], 600, allow)
            assert not np.isin(found.rows, gone).any()
        assert (np.sort(found.rows[0][found.rows[0] >= 0]) == np.sort(np.setdiff1d(rows, gone))).all()


@every_index
def test_an_index_opens_as_it_was_saved(make: Build, tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    rows, embeddings = items(rng, 800)
    index, queries = make(rows, embeddings), unit(rng, 6)
    index.save(tmp_path / "index")
    opened = open_index(tmp_path / "index")
    assert type(opened) is type(index)
    assert (len(opened), opened.dimension, opened.is_exact) == (800, 11, index.is_exact)
    for allow in (None, rng.random(2405) < 0.2):
        assert opened.search(queries, 7, allow).rows.tolist() == index.search(queries, 7, allow).rows.tolist()
    opened.add(np.array([9_999]), queries[:1])
    assert opened.search(queries[:1], 1).rows.tolist() == [[9_999]]


@local_index
def test_the_same_seed_makes_the_same_files(make: Build, tmp_path: Path) -> None:
    """NOT_MILVUS: the same files."""
    for name in "ab":
        make(*items(np.random.default_rng(9), 900)).save(tmp_path / name)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


@every_index
@pytest.mark.parametrize(
    ("rows", "change", "says"),
    [
        ([50, 51], lambda e: e[:, :10], "row 50"),
        ([50, 51], lambda e: np.where([[0], [1]], np.nan, e), "row 51"),
        ([51, 50], lambda e: np.where([[0], [1]], np.inf, e), "row 50"),
        ([50, 51], lambda e: e * np.array([[1], [1.5]]), "row 51.*length 1.5"),
        ([50, 51], lambda e: e * np.array([[0], [1]]), "row 50.*length 0"),
        ([50, 50], lambda e: e, "row 50 is given twice"),
        ([50, -1], lambda e: e, "row -1 is negative"),
        ([50, 7], lambda e: e, "row 7 is in the index already"),
        ([50], lambda e: e, "2, 11.* for 1 rows"),
        ([0.5, 1.5], lambda e: e, "whole numbers"),
    ],
)
def test_a_wrong_item_is_refused_by_its_row_and_nothing_is_added(make: Build, rows, change, says) -> None:
    rng = np.random.default_rng(10)
    index = make(np.arange(30), unit(rng, 30))
    with pytest.raises(IndexMismatch, match=says):
        index.add(np.array(rows), change(unit(rng, 2)))
    assert len(index) == 30 and index.search(unit(rng, 1), 30).rows.max() == 29


@every_index
def test_a_wrong_query_is_refused(make: Build) -> None:
    index = make(np.arange(30), unit(np.random.default_rng(11), 30))
    queries = unit(np.random.default_rng(12), 3)
    with pytest.raises(IndexMismatch, match="11 numbers"):
        index.search(queries[:, :5], 2)
    with pytest.raises(IndexMismatch, match="query 2"):
        index.search(np.where(np.arange(3)[:, None] == 2, np.nan, queries), 2)
    with pytest.raises(ValueError, match="k = 0"):
        index.search(queries, 0)
    with pytest.raises(ValueError, match="bool mask"):
        index.search(queries, 2, np.ones(30, np.int64))


@every_index
def test_rows_may_be_sparse_and_huge(make: Build) -> None:
    rng = np.random.default_rng(13)
    rows, embeddings = np.array([2**62, 3, 2**40], np.int64), unit(rng, 3)
    index = make(rows, embeddings)
    assert_answers(index, rows, embeddings, embeddings, 3)
    assert_answers(index, rows, embeddings, embeddings, 2, np.ones(5, bool))


@every_index
def test_f54_an_index_of_another_model_size_norm_or_type_is_refused(make: Build, tmp_path: Path) -> None:
    index = make(*items(np.random.default_rng(14), 60))
    index.model_hash = "a" * 64
    index.save(tmp_path)
    assert open_index(tmp_path, model_hash="a" * 64, dimension=11).model_hash == "a" * 64
    with pytest.raises(IndexMismatch, match=r"aaaaaaaaaaaa.*not of bbbbbbbbbbbb"):
        open_index(tmp_path, model_hash="b" * 64)
    with pytest.raises(IndexMismatch, match="11 numbers, the model makes 12"):
        open_index(tmp_path, dimension=12)
    header = tmp_path / "index.json"
    good = header.read_text()
    for old, new in [
        ('"dimension": 11', '"dimension": 10'),
        ('"rows": 60', '"rows": 59'),
        ('"rows": 60', '"rows": -1'),
        ('"dtype": "float32"', '"dtype": "float16"'),
        ('"norm": "l2"', '"norm": "l1"'),
        (f'"kind": "{index.kind}"', '"kind": "hnsw"'),
        ('"dimension": 11,', ""),
        ('"dimension": 11', '"colour": 11'),
        ("{", ""),
    ]:
        assert old in good
        header.write_text(good.replace(old, new, 1))
        with pytest.raises(IndexMismatch):
            open_index(tmp_path)
    header.unlink()
    with pytest.raises(IndexMismatch, match="not an index header"):
        open_index(tmp_path)


@local_index
def test_f54_an_index_whose_embeddings_break_its_norm_is_refused(make: Build, tmp_path: Path) -> None:
    """NOT_MILVUS: breaks its norm."""
    rows, embeddings = items(np.random.default_rng(15), 60)
    free = build(rows, embeddings * 3, _config_of(make(rows, embeddings)), norm="none")
    free.save(tmp_path)
    assert len(open_index(tmp_path)) == 60
    header = tmp_path / "index.json"
    header.write_text(header.read_text().replace('"norm": "none"', '"norm": "l2"'))
    with pytest.raises(IndexMismatch, match=r"row \d+: its embedding has length 3"):
        open_index(tmp_path)


@every_index
def test_a_torn_or_missing_file_is_refused_by_name(make: Build, tmp_path: Path) -> None:
    make(*items(np.random.default_rng(16), 60)).save(tmp_path)
    for file in sorted(tmp_path.iterdir()):
        whole = file.read_bytes()
        for torn in (whole[: len(whole) // 2], whole[:3], b""):
            file.write_bytes(torn)
            with pytest.raises(IndexMismatch, match=file.name):
                open_index(tmp_path)
        file.unlink()
        with pytest.raises(IndexMismatch, match=file.name):
            open_index(tmp_path)
        file.write_bytes(whole)
    assert len(open_index(tmp_path)) == 60


@every_index
def test_recall_against_exact_is_reported_for_each_share(make: Build) -> None:
    rng = np.random.default_rng(17)
    rows, embeddings = items(rng, 900)
    report = recall(make(rows, embeddings), exact(rows, embeddings), unit(rng, 40), 6)
    assert [(row.share, row.k, row.queries) for row in report] == [
        (share, 6, 40) for share in (None, 0.5, 0.05, 0.01)
    ]
    assert all(0 <= row.recall <= 1 for row in report)
    if make not in (ivf_one_probed, milvus_hnsw, milvus_ivf):  # which are set badly
        assert min(row.recall for row in report) > 0.95


def _config_of(index: Index) -> IndexConfig:
    return IndexConfig(kind="exact" if isinstance(index, ExactIndex) else "ivf_flat")
