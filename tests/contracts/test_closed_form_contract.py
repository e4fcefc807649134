"""What every model of the role `closed_form` keeps to; run over every such model in the folder."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.errors import ConfigError, TooLittleData
from etalage.features.behaviour import NEVER, BehaviourSet, Interactions, Queries
from etalage.features.vocabulary import Vocabulary
from etalage.models.recipe import ClosedFormArrays, Recipe, Trained
from etalage.runtime.opening import open_scorer
from etalage.runtime.scorer import Scorer
from etalage.training.behaviour_export import export_behaviour
from etalage.training.export_source import Source
from tests.contracts.folder import FOLDER, names

CLOSED_FORM = names("closed_form")
QUICK: dict[str, dict[str, Any]] = {
    "ials": {"dimension": 8, "iterations": 40, "alpha": 10.0, "regularisation": 6.0},
    "ease": {"regularisation": 20.0},
}
"""Small settings for models whose defaults are for larger shops."""
REPEATERS = {"buy_again"}
"""They speak for what a shopper had, and are judged on that; all others for what is new to them."""
USERS, ITEMS, TASTES = 240, 60, 4


def behaviour(seed: int = 0, size: int = USERS) -> BehaviourSet:
    """Shoppers of four tastes, in items 1 … 59 (60 is never acted on). Each taste is a chain: its items
    follow each other one way. A few items are in every history: the matrix is far from symmetrical."""
    rng = np.random.default_rng(seed)
    users, items, times, parts = [], [], [], []
    for user in range(1, size + 1):
        taste = np.arange(user % TASTES + 1, ITEMS, TASTES)
        length = int(rng.integers(3, 9))
        start = int(len(taste) * rng.random() ** 2 * 0.9)
        chosen = list(dict.fromkeys([*taste[start : start + length], *rng.integers(1, 7, 2)]))
        users += [user] * len(chosen)
        items += chosen
        times += [n * 1_000_000 for n in range(len(chosen))]
        held = int(rng.integers(0, min(length, len(taste) - start)))
        parts += ["test" if n == held else "train" for n in range(len(chosen))]
    whole = Interactions.sorted(np.array(users), np.array(items), times=np.array(times))
    test = np.array(parts) == "test"
    ids = [[f"{letter}{n:04d}" for n in range(count)] for letter, count in (("u", size), ("i", ITEMS))]
    split = {"train": whole.take(~test), "test": whole.take(test)}
    return BehaviourSet(Vocabulary(ids[0]), Vocabulary(ids[1]), ("view",), split)


def few(users: list[int], items: list[int]) -> BehaviourSet:
    acts = Interactions.sorted(np.array(users, np.int64), np.array(items, np.int64))
    return BehaviourSet(Vocabulary(["a", "b"]), Vocabulary(["x", "y", "z"]), (), {"train": acts})


def counted(recipe: Recipe[Any], data: BehaviourSet, **changes: Any) -> ClosedFormArrays:
    config = recipe.config(**{**QUICK.get(recipe.name, {}), **changes})
    found: ClosedFormArrays = recipe.bind(config, data).count()
    return found


def opened(
    recipe: Recipe[Any], data: BehaviourSet, folder: Path, found: ClosedFormArrays | None = None
) -> Scorer:
    found = found or counted(recipe, data)
    config = recipe.config(**QUICK.get(recipe.name, {}))
    trained = Trained(recipe.name, config, None, {}, [], 0.0, 0.0, Path("run"), counted=found)
    return open_scorer(export_behaviour(recipe, trained, Source.of(data), folder))


def asked(*histories: list[int]) -> Queries:
    lengths = [len(history) for history in histories]
    flat = np.array([item for history in histories for item in history], np.int64)
    starts, nobody = (
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.zeros(len(histories), np.int64),
    )
    never = np.full(len(flat), NEVER)
    return Queries(nobody, starts, flat, np.zeros(len(flat), np.int64), never, np.full(len(histories), NEVER))


def hit_at_5(scores: np.ndarray, queries: Queries, truth: list[np.ndarray]) -> float:
    scores = scores.astype(np.float64)
    scores[queries.owners, queries.items] = -np.inf
    wanted = scores[np.arange(len(truth)), [one[0] for one in truth]]
    return float(((scores >= wanted[:, None]).sum(axis=1) <= 5).mean())


@pytest.fixture(scope="module", params=CLOSED_FORM)
def recipe(request: pytest.FixtureRequest) -> Recipe[Any]:
    return FOLDER.find(request.param)


@pytest.fixture(scope="module")
def data() -> BehaviourSet:
    return behaviour()


@pytest.fixture(scope="module")
def scorer(recipe: Recipe[Any], data: BehaviourSet, tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    return opened(recipe, data, tmp_path_factory.mktemp("exports"))


def test_there_are_counters() -> None:
    assert {"popularity", "item_knn", "ease", "ials"} <= set(CLOSED_FORM)


def test_it_needs_no_column_of_the_items(recipe: Recipe[Any]) -> None:
    assert recipe.data == "behaviour" and recipe.columns == ()


def test_it_beats_the_floor(recipe: Recipe[Any], data: BehaviourSet, scorer: Scorer) -> None:
    """Popularity beats chance; the others beat popularity by far."""
    queries, truth = data.queries("test")
    if recipe.name in REPEATERS:
        pytest.skip("nobody takes an item twice here")
    found = hit_at_5(scorer.scores(queries), queries, truth)
    prior = np.bincount(data.part("train").items, minlength=ITEMS + 1).astype(float)
    popular = hit_at_5(np.repeat(prior[None], len(queries), axis=0), queries, truth)
    assert popular > 5 / ITEMS
    assert found >= popular if recipe.name == "popularity" else found > popular + 0.3


def test_what_is_scored_is_finite_and_the_unknown_item_never_is(scorer: Scorer, data: BehaviourSet) -> None:
    queries, _ = data.queries("test")
    scores = scorer.scores(queries)
    assert scores.shape == (len(queries), len(data.items))
    assert np.all(scores[:, 0] == -np.inf) and np.isfinite(scores[:, 1:]).all()


def test_what_was_taken_again_is_in_front_of_what_never_was(recipe: Recipe[Any], tmp_path: Path) -> None:
    if recipe.name not in REPEATERS:
        pytest.skip("it speaks for what is new")
    users = np.repeat(np.arange(1, 21), 6)
    items = np.concatenate([[1, 2, 1, 3 + user % 5, 10 + user, 1] for user in range(20)])
    acts = Interactions.sorted(users, items, times=np.arange(len(users)))
    data = behaviour().with_parts(train=acts, test=Interactions.none())
    scores = opened(recipe, data, tmp_path).scores(asked([1, 2, 15], [2, 15]))
    assert scores[0, 1] > scores[0, [2, 15]].max() > 0
    assert scores[1, 1] <= scores[1, [2, 15]].min()


def test_an_item_that_nobody_acted_on_is_never_in_front(scorer: Scorer, data: BehaviourSet) -> None:
    queries, _ = data.queries("test")
    scores = scorer.scores(queries)[:, 1:]
    assert np.all((scores[:, :-1] >= scores[:, -1:]).sum(axis=1) >= 5)


def test_the_first_and_the_last_item_are_ordinary(
    recipe: Recipe[Any], data: BehaviourSet, tmp_path: Path
) -> None:
    """Rows 1 and N swapped with two in the middle: their scores are swapped, nothing else."""
    order = np.arange(ITEMS + 1)
    order[[1, 30, ITEMS, 41]] = order[[30, 1, 41, ITEMS]]
    assert_permuted(recipe, data, order, tmp_path)


def test_f14_the_order_of_the_items_changes_no_score(
    recipe: Recipe[Any], data: BehaviourSet, tmp_path: Path
) -> None:
    for seed in range(2):
        order = np.concatenate([[0], 1 + np.random.default_rng(seed).permutation(ITEMS)])
        assert_permuted(recipe, data, order, tmp_path / str(seed))


def assert_permuted(recipe: Recipe[Any], data: BehaviourSet, order: np.ndarray, folder: Path) -> None:
    train = data.part("train")
    moved = data.with_parts(train=replace(train, items=order[train.items]))
    # A factorisation starts from random numbers by row: permuted rows end elsewhere, at the same quality.
    queries, truth = data.queries("test")
    asked_moved = replace(queries, items=order[queries.items])
    plain, other = (opened(recipe, d, folder / n) for d, n in ((data, "plain"), (moved, "moved")))
    ours, theirs = plain.scores(queries)[:, 1:], other.scores(asked_moved)[:, order[1:]]
    if recipe.name == "ials":
        gap = hit_at_5(plain.scores(queries), queries, truth) - hit_at_5(
            other.scores(asked_moved), asked_moved, [order[one] for one in truth]
        )
        assert abs(gap) < 0.1 and np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9
    else:
        assert np.abs(ours - theirs).max() < 1e-5 * max(1.0, np.abs(ours).max())


def test_offline_and_served_scores_are_the_same(
    recipe: Recipe[Any], data: BehaviourSet, scorer: Scorer
) -> None:
    """ClosedFormArrays, scored as models/recipe.py describes them, by another program: this one."""
    found, (queries, _) = counted(recipe, data), data.queries("test")
    expected = np.stack([by_hand(found, history) for history in histories(queries)])
    assert np.abs(scorer.scores(queries)[:, 1:] - expected[:, 1:]).max() < 1e-4 * max(
        1.0, np.abs(expected).max()
    )


def histories(queries: Queries) -> list[np.ndarray]:
    return [queries.items[a:b] for a, b in pairwise(queries.starts)]


def by_hand(found: ClosedFormArrays, history: np.ndarray) -> np.ndarray:
    arrays = found.arrays
    if found.scoring == "prior":
        return arrays["scores"].astype(np.float64)
    if found.scoring == "embeddings":
        items = arrays["item_embeddings"].astype(np.float64)
        acted, alpha = items[np.unique(history)], found.settings["alpha"]
        confidence = found.settings["others"] + alpha * len(acted)
        ridge = found.settings["reg"] * confidence ** found.settings["frequency"]
        left = arrays["gram"] + alpha * acted.T @ acted + ridge * np.eye(items.shape[1])
        return np.asarray(items @ np.linalg.solve(left, (1 + alpha) * acted.sum(axis=0)))
    scores = np.zeros(len(arrays["indptr"]) - 1)
    for back, item in enumerate(history[::-1]):
        known = item in history[::-1][:back] and not found.settings.get("every_act")
        if item == 0 or known or back >= (found.settings.get("last") or len(history)):
            continue
        for at in range(arrays["indptr"][item], arrays["indptr"][item + 1]):
            scores[arrays["indices"][at]] += found.settings["decay"] ** back * arrays["weights"][at]
    return scores


def test_an_unknown_item_in_a_history_says_nothing(scorer: Scorer) -> None:
    with_unknown, without = scorer.scores(asked([0, 5, 0, 9, 13])), scorer.scores(asked([5, 9, 13]))
    assert np.allclose(with_unknown[:, 1:], without[:, 1:], atol=1e-6)


def test_without_a_history_there_is_no_preference_beyond_popularity(
    recipe: Recipe[Any], scorer: Scorer
) -> None:
    scores = scorer.scores(asked([], [0]))
    assert np.array_equal(scores[0], scores[1])
    assert not scorer.knows(asked([], [0])).any()
    assert recipe.name == "popularity" or not scores[0, 1:].any()


def test_the_same_seed_gives_the_same_arrays(recipe: Recipe[Any], data: BehaviourSet) -> None:
    one, other = counted(recipe, data), counted(recipe, data)
    assert one.settings == other.settings
    for name, array in one.arrays.items():
        assert np.array_equal(array, other.arrays[name])


def test_it_learns_from_the_training_part_alone(recipe: Recipe[Any], data: BehaviourSet) -> None:
    """And from positives alone: what is in other parts, or an explicit negative, changes nothing."""
    train, other = data.part("train"), behaviour(seed=5).part("train")
    hated = replace(other, labels=np.zeros_like(other.labels))
    more = data.with_parts(train=Interactions.joined(train, hated), rank=other, validation=other, test=other)
    one, two = counted(recipe, data), counted(recipe, more)
    for name, array in one.arrays.items():
        assert np.array_equal(array, two.arrays[name])


def test_kinds_that_are_not_named_do_not_count(recipe: Recipe[Any], data: BehaviourSet) -> None:
    train, other = data.part("train"), behaviour(seed=5).part("train")
    bought = replace(train, kinds=np.full_like(train.kinds, 2))
    viewed = replace(other, kinds=np.full_like(other.kinds, 1))
    both = replace(data, kinds=("view", "buy")).with_parts(train=Interactions.joined(bought, viewed))
    one, two = counted(recipe, data), counted(recipe, both, kind_weights={"buy": 1.0})
    for name, array in one.arrays.items():
        assert np.array_equal(array, two.arrays[name])
    with pytest.raises(ConfigError, match="did you mean 'view'"):
        counted(recipe, both, kind_weights={"vew": 1.0})


def test_f49_nothing_at_all_is_refused(recipe: Recipe[Any], data: BehaviourSet) -> None:
    train = data.part("train")
    for nothing in (Interactions.none(), replace(train, labels=np.zeros_like(train.labels))):
        with pytest.raises(TooLittleData, match=f"{recipe.name}: no positive interaction to count"):
            counted(recipe, data.with_parts(train=nothing))


@pytest.mark.parametrize(
    ("users", "items"),
    [([1, 2, 2], [1, 1, 1]), ([1, 1, 1], [1, 2, 3]), ([1] * 9, [2] * 9), ([1] * 6, [1, 2] * 3), ([2], [3])],
    ids=["one item", "one user", "all duplicates", "two duplicated pairs", "one act"],
)
def test_f49_next_to_nothing_trains_or_is_refused(
    recipe: Recipe[Any], users: list[int], items: list[int], tmp_path: Path
) -> None:
    data = few(users, items)
    try:
        found = counted(recipe, data)
    except TooLittleData as error:
        assert recipe.name in str(error) and "popularity" in str(error)
        assert len(set(items)) == 1 or len(set(users)) == len(users)
        return
    scores = opened(recipe, data, tmp_path, found).scores(asked([items[0]], []))
    assert np.isfinite(scores[:, 1:]).all()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), min_size=1, max_size=30))
def test_any_small_shop_trains_or_is_refused(pairs: list[tuple[int, int]]) -> None:
    acts = Interactions.sorted(np.array([u for u, _ in pairs]), np.array([i for _, i in pairs]))
    data = BehaviourSet(Vocabulary(list("abcdef")), Vocabulary(list("vwxyz")), (), {"train": acts})
    for name in CLOSED_FORM:
        try:
            found = counted(FOLDER.find(name), data)
        except TooLittleData:
            assert max(len(set(acts.items[acts.users == user])) for user in acts.users) == 1
            continue
        for array in found.arrays.values():
            assert np.isfinite(array).all()
        if found.scoring == "item_item":
            starts, indices = found.arrays["indptr"], found.arrays["indices"]
            rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
            assert rows.min(initial=1) > 0 and indices.min(initial=1) > 0
            assert name in REPEATERS or (len(rows) and not np.any(rows == indices))
