"""Retrieval against scores written out in full: the k best of what is allowed, whatever the way there."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.config import IndexConfig
from etalage.features.behaviour import NEVER, Queries
from etalage.funnel.candidates import (
    Excluded,
    Hits,
    Retriever,
    candidates,
    fused,
    merged,
    normalised,
)
from etalage.index import build
from etalage.runtime.opening import open_scorer
from etalage.runtime.photos import LookAlikeRetriever, PhotoModel
from etalage.runtime.prior import PriorRetriever
from etalage.runtime.retrieving import SCORED_ALL, kept, searched
from etalage.runtime.scorer import Scorer
from tests.behaviour_exports import embedding_export, item_item_export, prior_export

ITEMS = 60
NAMES = [f"i{n:02d}" for n in range(ITEMS)]


def asked(*histories: list[int]) -> Queries:
    """Queries with these item rows as histories."""
    starts = np.cumsum([0, *map(len, histories)])
    rows = np.array([row for history in histories for row in history], np.int64)
    none = np.zeros(len(histories), np.int64)
    return Queries(none, starts, rows, np.zeros(len(rows), np.int64), np.full(len(rows), NEVER), none)


@pytest.fixture(scope="module")
def scorers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scorer]:
    folder = tmp_path_factory.mktemp("exports")
    rng = np.random.default_rng(5)
    matrix = rng.random((ITEMS, ITEMS)) * (rng.random((ITEMS, ITEMS)) < 0.12)
    prior_export(folder / "p", NAMES, np.round(rng.random(ITEMS), 1).tolist())  # ties
    item_item_export(folder / "k", NAMES, matrix)
    item_item_export(folder / "f", NAMES, rng.normal(size=(ITEMS, ITEMS)), "ease")
    embedding_export(folder / "e", NAMES, rng.normal(size=(ITEMS, 6)))
    opened = [open_scorer(folder / name) for name in "pkfe"]
    return {one.name: one for one in opened}


@pytest.fixture(scope="module")
def ways(scorers: dict[str, Scorer]) -> dict[str, Retriever]:
    return {name: scorer.retriever() for name, scorer in scorers.items()}


def in_full(
    scorer: Scorer, queries: Queries, quota: int, allow: np.ndarray, out: list[set[int]]
) -> list[list[int]]:
    """The best allowed rows of each query, by every score."""
    found = []
    for query, scores in enumerate(np.array(scorer.scores(queries))):
        rows = [r for r in range(1, ITEMS + 1) if allow[r] and r not in out[query]]
        if scorer.name in ("item_knn", "ease"):
            rows = [r for r in rows if scores[r] > 0]
        if scorer.name != "popularity" and not scorer.knows(queries)[query]:
            rows = []
        found.append(sorted(rows, key=lambda r: (-round(float(scores[r]), 5), r))[:quota])
    return found


histories = st.lists(st.lists(st.integers(0, ITEMS), max_size=6), min_size=1, max_size=4)


@settings(max_examples=80, deadline=None)
@given(
    history=histories,
    quota=st.integers(1, 70),
    share=st.sampled_from([0.0, 0.05, 0.3, 0.8, 1.0]),
    seed=st.integers(0, 99),
)
@pytest.mark.parametrize("name", ["popularity", "item_knn", "ease", "two_tower"])
def test_a_retriever_brings_the_best_that_is_allowed_and_as_many_as_there_are(
    scorers: dict[str, Scorer],
    ways: dict[str, Retriever],
    name: str,
    history: list[list[int]],
    quota: int,
    share: float,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    allow = np.concatenate([[False], rng.random(ITEMS) < share])
    out = [rng.integers(0, ITEMS + 1, rng.integers(0, 9)) for _ in history]
    queries = asked(*history)
    found = ways[name].find(queries, quota, allow, Excluded(out, ITEMS + 1))
    assert found.rows.shape == found.scores.shape == (len(history), quota)
    expected = in_full(scorers[name], queries, quota, allow, [set(some.tolist()) for some in out])
    every = np.array(scorers[name].scores(queries))
    for query, rows in enumerate(expected):
        there = found.rows[query][found.rows[query] > 0]
        assert len(there) == len(set(there.tolist())) == len(rows)
        assert (found.rows[query][len(there) :] == 0).all()
        np.testing.assert_allclose(found.scores[query][: len(rows)], every[query][rows], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            every[query][there], found.scores[query][: len(rows)], rtol=1e-4, atol=1e-5
        )
        assert all(allow[row] and row not in out[query] for row in there)


def test_without_a_mask_and_without_exclusions_nothing_is_missing(ways: dict[str, Retriever]) -> None:
    queries = asked([3, 9], [])
    every = np.arange(ITEMS + 1) > 0
    for way in ways.values():
        plain = way.find(queries, 20, None, Excluded.none(2))
        masked = way.find(queries, 20, every, Excluded.none(2))
        np.testing.assert_array_equal(plain.rows, masked.rows)


def test_a_stranger_is_brought_something_by_the_prior_alone(ways: dict[str, Retriever]) -> None:
    found = candidates(list(ways.values()), asked([], [0]), {name: 9 for name in ways})
    assert found.counts.tolist() == [9, 9]
    assert found.found_by("popularity").sum() == 18
    assert not any(found.found_by(name).any() for name in ("item_knn", "ease", "two_tower"))


def test_candidates_hold_each_item_once_with_the_score_of_every_retriever_that_found_it(
    ways: dict[str, Retriever],
) -> None:
    queries = asked([4, 17], [30])
    quotas = {"two_tower": 8, "item_knn": 5, "popularity": 11}
    found = candidates(list(ways.values()), queries, quotas)
    assert set(found.scores) == set(quotas)
    for query in range(2):
        rows = found.rows[query][found.rows[query] > 0].tolist()
        assert len(rows) == len(set(rows)) == found.counts[query]
        union: set[int] = set()
        for name, quota in quotas.items():
            alone = ways[name].find(queries, quota, None, Excluded.none(2))
            theirs = {r: s for r, s in zip(alone.rows[query], alone.scores[query], strict=True) if r > 0}
            union |= set(theirs)
            at = np.flatnonzero(found.found_by(name)[query])
            assert {int(found.rows[query][n]): found.scores[name][query][n] for n in at} == theirs
        assert set(rows) == union


def test_candidates_do_not_depend_on_the_other_queries_of_a_batch(ways: dict[str, Retriever]) -> None:
    many = [[n % 40 + 1, (7 * n) % 60] for n in range(300)]
    together = candidates(list(ways.values()), asked(*many), {name: 7 for name in ways})
    for query in (0, 1, 255, 256, 299):
        alone = candidates(list(ways.values()), asked(many[query]), {name: 7 for name in ways})
        width = alone.rows.shape[1]
        np.testing.assert_array_equal(together.rows[query][:width], alone.rows[0])
        assert not together.rows[query][width:].any()


def test_merging_nothing_is_nothing() -> None:
    found = merged({}, 3)
    assert found.rows.shape == (3, 0) and found.counts.tolist() == [0, 0, 0]
    empty = Hits(np.zeros((2, 4), np.int64), np.full((2, 4), -np.inf, np.float32))
    assert merged({"a": empty}, 2).rows.shape == (2, 0)


def test_scores_are_brought_to_one_scale_before_they_are_added() -> None:
    found = merged(
        {
            "a": Hits(np.array([[3, 1, 2]]), np.array([[900.0, 500.0, 100.0]], np.float32)),
            "b": Hits(np.array([[2, 4, 0]]), np.array([[0.9, 0.1, -np.inf]], np.float32)),
        },
        1,
    )
    assert found.rows.tolist() == [[3, 1, 2, 4]]
    np.testing.assert_allclose(fused(found, {}), [[1.0, 0.505, 0.01 + 1.0, 0.01]], atol=1e-6)
    np.testing.assert_allclose(fused(found, {"b": 0.1}), [[1.0, 0.505, 0.11, 0.001]], atol=1e-6)
    np.testing.assert_allclose(
        normalised(np.array([[4.0, 4.0, -np.inf], [-np.inf] * 3])), [[1, 1, 0], [0, 0, 0]]
    )


def test_the_priors_order_is_walked_or_sorted_with_one_result() -> None:
    rng = np.random.default_rng(1)
    prior = np.concatenate([[9.0], np.round(rng.random(5000), 2)]).astype(np.float32)
    way = PriorRetriever("popularity", prior)
    for allowed in (3, 90, 101, 2500, 5000):
        allow = np.zeros(5001, bool)
        allow[rng.permutation(5000)[:allowed] + 1] = True
        rows = np.concatenate(list(way.walk(allow)))
        assert rows.tolist() == sorted(np.flatnonzero(allow), key=lambda r: (-prior[r], r))


@pytest.fixture(scope="module")
def large() -> tuple[np.ndarray, Callable[..., object]]:
    """More items than are all scored, in an approximate index that reads few of its lists."""
    rng = np.random.default_rng(3)
    count = SCORED_ALL * 2
    embeddings = np.zeros((count + 1, 8), np.float32)
    embeddings[1:] = rng.normal(size=(count, 8))
    rows = np.arange(1, count + 1)
    index = build(rows, embeddings[1:], IndexConfig(kind="ivf_flat", lists=64, probes=24), norm="none")
    return embeddings, lambda *a: searched(index, embeddings, *a)


@pytest.mark.parametrize("share", [0.0005, 0.05, 0.3, 0.7, 0.98])
def test_of_many_items_as_many_come_back_as_are_asked_for_whatever_the_share_allowed(
    large: tuple[np.ndarray, Callable[..., Hits]], share: float
) -> None:
    embeddings, search = large
    rng = np.random.default_rng(4)
    allow = rng.random(len(embeddings)) < share
    allow[0] = False
    queries = rng.normal(size=(3, 8)).astype(np.float32)
    out = [np.flatnonzero(allow)[:5], np.empty(0, np.int64), np.array([1, 2, 3])]
    found = search(queries, 25, allow, Excluded(out, len(embeddings)))
    expected = min(25, int(allow.sum()) - 5)
    for query in range(3):
        rows = found.rows[query][found.rows[query] > 0]
        assert len(rows) >= expected
        assert allow[rows].all() and not set(rows.tolist()) & set(out[query].tolist())
        scores = np.where(allow, embeddings @ queries[query], -np.inf)
        scores[out[query]] = -np.inf
        given = found.scores[query][: len(rows)]
        np.testing.assert_allclose(given, embeddings[rows] @ queries[query], rtol=1e-4)
        lowest = np.sort(scores)[::-1][len(rows) - 1]
        assert (given >= lowest - 1e-4).mean() >= 0.9  # recall of an index that reads few lists


def test_where_what_is_allowed_lies_far_from_the_query_the_mask_is_used_instead(
    large: tuple[np.ndarray, Callable[..., Hits]],
) -> None:
    embeddings, search = large
    query = np.zeros((1, 8), np.float32)
    query[0, 0] = 1
    allow = embeddings[:, 0] < np.quantile(embeddings[:, 0], 0.6)  # the 40 % nearest are not allowed
    allow[0] = False
    found = search(query, 30, allow, Excluded.none(1))
    assert (found.rows > 0).all() and allow[found.rows[0]].all()


def test_look_alikes_are_those_of_the_newest_items_with_a_photo() -> None:
    embeddings = np.zeros((7, 2), np.float32)
    embeddings[[1, 2, 3, 5]] = [[1, 0], [0.8, 0.6], [0, 1], [-1, 0]]
    rows = np.array([1, 2, 3, 5])
    way = LookAlikeRetriever(
        PhotoModel(
            SimpleNamespace(name="photos"),
            embeddings,
            build(rows, embeddings[rows], IndexConfig(kind="exact")),
        )  # type: ignore[arg-type]
    )
    queries = asked([1], [4, 6], [3, 0, 4])
    assert way.knows(queries).tolist() == [True, False, True]
    found = way.find(queries, 2, None, Excluded([np.array([1]), np.array([]), np.array([])], 7))
    assert found.rows.tolist() == [[2, 3], [0, 0], [3, 2]]


def test_what_is_kept_moves_together_and_the_rest_is_nothing() -> None:
    brought = Hits(np.array([[5, 2, 9, 1]]), np.array([[4.0, 3.0, 2.0, 1.0]], np.float32))
    found = kept(brought, Excluded([np.array([2])], 10), 3, allow=np.arange(10) != 9)
    assert found.rows.tolist() == [[5, 1, 0]]
    assert found.scores.tolist() == [[4.0, 1.0, -np.inf]]


def test_an_embedder_without_an_index_leaves_out_items_without_an_embedding(tmp_path: Path) -> None:
    embeddings = np.array([[1.0, 0], [0, 0], [0.5, 0.5]])
    way = open_scorer(embedding_export(tmp_path / "e", ["a", "b", "c"], embeddings)).retriever()
    assert way.find(asked([1]), 3, None, Excluded.none(1)).rows.tolist() == [[1, 3, 0]]
