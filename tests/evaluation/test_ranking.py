"""Whole catalogues ranked: against a loop over users, with ties, holes, broken scores and other blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage import metrics
from etalage.errors import ExportDamaged
from etalage.evaluation.ranking import NEVER_SHOWN, Ranked, rank_all, rank_lists, rank_published
from etalage.features.behaviour import Interactions
from tests.evaluation.fakes import Embedded, Shared, Table, asking

KS = (3, 1, 10)


def drawn(seed: int, users: int = 30, items: int = 50, most: int = 9) -> tuple[np.ndarray, list[np.ndarray]]:
    """Scores without ties, and 1 … `most` right answers a user."""
    rng = np.random.default_rng(seed)
    table = rng.permutation((users + 1) * (items + 1)).reshape(users + 1, items + 1)
    truth = [
        np.sort(rng.choice(items, rng.integers(1, most + 1), replace=False) + 1) for _ in range(1, users + 1)
    ]
    return table, truth


def by_hand(scores: np.ndarray, right: np.ndarray, ks: tuple[int, ...], barred: set[int]) -> dict[str, float]:
    order = sorted((n for n in range(1, len(scores)) if n not in barred), key=lambda n: -scores[n])
    relevant = np.zeros((1, len(scores) + 1), bool)
    relevant[0, : len(order)] = np.isin(order, right)
    total = np.array([len(right)])
    values: dict[str, float] = {"mrr": float(metrics.reciprocal_rank(relevant)[0])}
    for k in ks:
        values[f"hit_at_{k}"] = float(metrics.hit_at_k(relevant, k)[0])
        values[f"recall_at_{k}"] = float(metrics.recall_at_k(relevant, k, total)[0])
        values[f"precision_at_{k}"] = float(metrics.precision_at_k(relevant, k)[0])
        values[f"ndcg_at_{k}"] = float(metrics.ndcg_at_k(relevant, k, total)[0])
        values[f"map_at_{k}"] = float(metrics.average_precision_at_k(relevant, k, total)[0])
    wrong = [n for n in order if n not in right]
    pairs = [(g, w) for g in right for w in wrong]
    values["auroc"] = float(np.mean([g in order and scores[g] > scores[w] for g, w in pairs]))
    return values


@pytest.mark.parametrize("kind", ["table", "embedded"])
@pytest.mark.parametrize("block", [None, 1, 7, 30])
def test_blocked_ranking_is_the_loop_over_users(kind: str, block: int | None) -> None:
    table, truth = drawn(1)
    scorer = Table(table)
    if kind == "embedded":
        rng = np.random.default_rng(5)
        scorer = Embedded(rng.normal(size=(31, 6)), rng.normal(size=(51, 6)))
        table = scorer.scores(asking(np.arange(31)))
    had = [(user, item) for user in range(1, 31) for item in (user % 50 + 1, (user * 3) % 50 + 1)]
    had += [(0, 7)]  # whoever is not known has nothing
    truth = [np.setdiff1d(right, [i for u, i in had if u == user]) for user, right in enumerate(truth, 1)]
    exclude = Interactions.sorted(np.array([u for u, _ in had]), np.array([i for _, i in had]))
    users = np.arange(1, 31)
    users[4] = 0
    ranked = rank_all(scorer, asking(users), truth, ks=KS, exclude=exclude, block=block)
    for number, user in enumerate(users):
        barred = {i for u, i in had if u == user and u > 0}
        expected = by_hand(table[user], truth[number], KS, barred)
        found = {name: values[number] for name, values in ranked.per_query.items()}
        if len(truth[number]):
            assert found == pytest.approx(expected), user
        order = sorted((n for n in range(1, 51) if n not in barred), key=lambda n: -table[user][n])
        assert ranked.slates[number].tolist() == order[:10]
        assert ranked.candidates[number] == 50 - len(barred)
        assert ranked.slate_scores[number] == pytest.approx(table[user][order[:10]], rel=1e-5)


def test_many_right_answers_are_ranked_as_few_are() -> None:
    """More than FEW take another path: sorting."""
    table, truth = drawn(2, most=30)
    assert {len(one) > 4 for one in truth} == {True, False}
    ranked = rank_all(Table(table), asking(np.arange(1, 31)), truth, ks=KS)
    for number, right in enumerate(truth):
        scores = table[number + 1][1:]
        expected = [1 + int((scores > scores[item - 1]).sum()) for item in right]
        assert ranked.ranks[ranked.starts[number] : ranked.starts[number + 1]].tolist() == expected


@pytest.mark.parametrize("right", [1, 6])
def test_a_constant_scorer_is_chance_and_no_better(right: int) -> None:
    rng = np.random.default_rng(3)
    truth = [np.sort(rng.choice(100, right, replace=False) + 1) for _ in range(3000)]
    ranked = rank_all(Table(np.zeros(101)), asking(np.arange(3000)), truth, ks=(10,))
    assert ranked.per_query["recall_at_10"].mean() == pytest.approx(0.1, abs=0.012)
    assert ranked.per_query["auroc"].mean() == pytest.approx(0.5, abs=0.015)
    for start, end in zip(ranked.starts[:-1], ranked.starts[1:], strict=True):
        assert len(set(ranked.ranks[start:end].tolist())) == right, "no two share a place"
    assert set(ranked.ranks.tolist()) == set(range(1, 101))


def test_ties_are_drawn_within_their_level_alone_and_always_alike() -> None:
    scores = np.array([0, 5, 3, 3, 3, 1, 3, 0, 0], float)
    found = set()
    for seed in range(60):
        once = rank_all(Table(scores), asking(np.array([0])), [np.array([2, 6, 1])], ks=(4,), seed=seed)
        again = rank_all(Table(scores), asking(np.array([0])), [np.array([2, 6, 1])], ks=(4,), seed=seed)
        assert np.array_equal(once.ranks, again.ranks)
        assert once.ranks[2] == 1
        assert once.slates.tolist() == [[1, 2, 3, 4]], "equal scores stand in the order of the rows"
        found.add(tuple(sorted(once.ranks[:2].tolist())))
    assert found == {(a, b) for a in range(2, 6) for b in range(a + 1, 6)}


def test_the_unknown_item_and_what_is_left_out_are_never_shown() -> None:
    table, _ = drawn(4)
    allowed = np.zeros(51, bool)
    allowed[[2, 3, 5, 8, 0]] = True
    truth = [np.array([0, 5, 9])] * 30
    ranked = rank_all(Table(table), asking(np.arange(1, 31)), truth, ks=(2, 20), candidates=allowed)
    assert ranked.slates.shape == (30, 4)
    assert set(np.unique(ranked.slates)) == {2, 3, 5, 8}
    assert (ranked.ranks.reshape(30, 3)[:, [0, 2]] == NEVER_SHOWN).all()
    assert (ranked.candidates == 4).all()
    for number in range(30):
        place = 1 + sum(table[number + 1][n] > table[number + 1][5] for n in (2, 3, 8))
        assert ranked.ranks[number * 3 + 1] == place
    assert ranked.per_query["recall_at_20"] == pytest.approx(np.full(30, 1 / 3))


def test_what_the_scorer_gives_away_is_not_written_to() -> None:
    scorer = Shared(np.arange(21.0))
    exclude = Interactions.sorted(np.array([1, 2]), np.array([20, 19]))
    for _ in range(2):
        ranked = rank_all(scorer, asking(np.array([1, 2])), [np.array([3])] * 2, ks=(2,), exclude=exclude)
        assert ranked.slates.tolist() == [[19, 18], [20, 18]]


@pytest.mark.parametrize("where", [4, 17])
def test_a_score_that_is_no_number_is_refused(where: int) -> None:
    table, truth = drawn(6)
    table = table.astype(float)
    table[9, where] = np.nan
    with pytest.raises(ExportDamaged, match=r"broken: a score is NaN \(query 8\)"):
        rank_all(Table(table, "broken"), asking(np.arange(1, 31)), truth, ks=KS)


@pytest.mark.parametrize("levels", [2, 40, 100_000])
@pytest.mark.parametrize("keep", [1, 7, 300])
def test_the_first_of_many_are_those_of_a_stable_sort(levels: int, keep: int) -> None:
    """Large catalogues take a bound first; ties, holes and few finite scores must not mislead it."""
    rng = np.random.default_rng(levels + keep)
    table = rng.integers(0, levels, (6, 5001)).astype(np.float32)
    table[1:3, rng.integers(1, 5001, 3000)] = -np.inf
    table[3, 5:] = -np.inf
    table[4] = -np.inf
    ranked = rank_all(Table(table), asking(np.arange(6)), [np.array([1])] * 6, ks=(keep,))
    for row, slate, count in zip(table, ranked.slates, ranked.candidates, strict=True):
        finite = [n for n in np.argsort(-row[1:], kind="stable")[:keep] + 1 if row[n] > -np.inf]
        assert slate[slate > 0].tolist() == finite
        assert count == (row[1:] > -np.inf).sum()


def test_infinite_scores_have_a_place() -> None:
    scores = np.array([0, np.inf, 2, -np.inf, 3, np.inf])
    ranked = rank_all(Table(scores), asking(np.array([0])), [np.array([1, 3, 4])], ks=(5,))
    assert ranked.ranks[0] in (1, 2)
    assert ranked.ranks[1:].tolist() == [NEVER_SHOWN, 3]
    assert ranked.slates.tolist() == [[1, 5, 4, 2, 0]]


def test_an_embedder_is_asked_in_long_runs() -> None:
    scorer = Embedded(np.ones((5001, 2)), np.random.default_rng(0).normal(size=(9, 2)))
    rank_all(scorer, asking(np.arange(5001)), [np.array([1])] * 5001, ks=(1,), block=10)
    assert scorer.asked == [4096, 905]


def test_of_no_query_nothing_is_measured() -> None:
    ranked = rank_all(Table(np.zeros(5)), asking(np.empty(0, np.int64)), [], ks=(2,))
    assert len(ranked.per_query["mrr"]) == 0


def test_a_part_of_the_right_answers_keeps_its_ranks() -> None:
    table, truth = drawn(7)
    ranked = rank_all(Table(table), asking(np.arange(1, 31)), truth, ks=KS)
    some, stay = ranked.only(ranked.truth % 3 == 0)
    expected = {user for user, right in enumerate(truth) if (right % 3 == 0).any()}
    assert set(stay.tolist()) == expected and 0 < len(expected) < 30
    for number, query in enumerate(stay):
        right = [item for item in truth[query] if item % 3 == 0]
        ranks = [1 + int((table[query + 1][1:] > table[query + 1][item]).sum()) for item in right]
        assert some.ranks[some.starts[number] : some.starts[number + 1]].tolist() == ranks
        assert some.per_query["hit_at_3"][number] == float(min(ranks) <= 3)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_lists_are_ranked_like_the_catalogue_that_they_are(data: st.DataObject) -> None:
    """A list of all items in any order, some twice, equals the catalogue; without ties, to the last rank."""
    items = data.draw(st.integers(2, 12))
    scores = np.array(data.draw(st.permutations(range(items + 1))), float)
    listed = np.array([data.draw(st.permutations(range(1, items + 1)))])
    listed = np.concatenate([listed, listed[:, : data.draw(st.integers(0, items))], [[0, 0]]], axis=1)
    truth = [np.array(sorted(data.draw(st.sets(st.integers(1, items), min_size=1))))]
    whole = rank_all(Table(scores), asking(np.array([0])), truth, ks=(3,))
    lists = rank_lists(scores[listed], listed, truth, ks=(3,))
    assert lists.ranks.tolist() == whole.ranks.tolist()
    assert lists.slates[:, : whole.slates.shape[1]].tolist() == whole.slates.tolist()
    assert lists.candidates.tolist() == whole.candidates.tolist()


def test_a_published_protocol_is_measured_as_published_and_cleaned() -> None:
    """User 1's list holds an item that they had, one twice, and the right answer itself."""
    scores = np.array([0, 9, 8, 7, 6, 5, 4, 3, 2, 1], float)
    negatives = np.array([[1, 1, 2, 4, 6], [3, 4, 5, 6, 7]])
    clean = np.array([[True, True, False, True, True], [True] * 5])
    truth = [np.array([4]), np.array([2])]
    found = rank_published(
        Table(scores), asking(np.array([1, 2])), truth, negatives, clean, ks=(1, 2, 3), block=1
    )
    assert found.as_published.ranks.tolist() == [3, 1]  # behind 1 (once) and 2; itself once
    assert found.cleaned.ranks.tolist() == [2, 1]
    assert found.as_published.candidates.tolist() == [4, 6]
    assert found.cleaned.candidates.tolist() == [3, 6]
    assert found.faulty == pytest.approx(3 / 10)  # the second 1, the had 2, the right answer 4
    assert found.as_published.per_query["hit_at_2"].tolist() == [0, 1]
    assert found.cleaned.per_query["hit_at_2"].tolist() == [1, 1]


def test_a_constant_scorer_among_99_negatives_hits_one_time_in_ten() -> None:
    rng = np.random.default_rng(8)
    lists = np.array([rng.choice(400, 100, replace=False) + 1 for _ in range(2000)])
    truth = [row[:1] for row in lists]
    found: Ranked = rank_published(
        Table(np.zeros(401)), asking(np.arange(2000)), truth, lists[:, 1:], np.ones((2000, 99), bool)
    ).cleaned
    assert found.per_query["hit_at_10"].mean() == pytest.approx(0.1, abs=0.02)


def test_marks_of_other_negatives_are_refused() -> None:
    with pytest.raises(ValueError, match="not the same"):
        rank_published(
            Table(np.zeros(5)), asking(np.array([1])), [np.array([1])], np.ones((1, 3), int), np.ones((1, 2))
        )
