"""What a ranker is told of a shopper and a candidate: every number counted by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.errors import ExportDamaged
from etalage.features.behaviour import NEVER, Interactions, Queries
from etalage.features.encoder import Features
from etalage.features.pairs import DAY, FAR_DAYS, PairEncoder, pair_sparse, ranking_examples, sparse_names

N = 5
ITEMS = Features(
    {"brand": np.array([0, 1, 2, 1, 0, 2])},
    {"category_id": np.array([[0, 0], [1, 2], [1, 3], [1, 2], [4, 0], [1, 3]])},
    {"price": np.array([[0, 1], [1.0, 0], [3.0, 0], [2.0, 0], [0, 1], [5.0, 0]], np.float32)},
    {"brand": 3, "category_id": 5},
)
NOW = 100 * DAY
TRAIN = Interactions.sorted(
    np.array([1, 1, 2, 2, 2, 3]),
    np.array([2, 2, 2, 4, 5, 2]),
    times=np.array([10, 20, 90, 95, 99, 96]) * DAY,
)


def queries(*histories: list[tuple[int, int]], users: list[int] | None = None) -> Queries:
    """Histories of (item, day)."""
    acts = [act for history in histories for act in history]
    starts = np.concatenate([[0], np.cumsum([len(history) for history in histories])]).astype(np.int64)
    times = np.array([NEVER if day < 0 else day * DAY for _, day in acts], np.int64)
    items = np.array([item for item, _ in acts], np.int64)
    who = np.array(users or range(1, len(histories) + 1))
    sizes = {"region": 7}
    features = Features({"region": who % 7}, sizes=sizes)
    return Queries(who, starts, items, np.zeros_like(items), times, np.full(len(histories), NOW), features)


@pytest.fixture
def encoder() -> PairEncoder:
    return PairEncoder.fit(TRAIN, N + 1, ITEMS, retrievers=("nearest", "popular"), recent_days=7)


def column(encoder: PairEncoder, encoded: np.ndarray, name: str) -> list[list[float]]:
    return np.asarray(encoded[..., encoder.names.index(name)], float).round(4).tolist()


def test_acts_with_the_candidate_are_counted_in_this_shoppers_history_alone(encoder: PairEncoder) -> None:
    asked = queries([(3, 10), (1, 20), (3, 97)], [(1, 50)], [])
    found = encoder.encode(asked, np.array([[3, 1], [3, 1], [3, 1]]))
    two, one = round(np.log1p(2), 4), round(np.log1p(1), 4)
    assert column(encoder, found, "times_before") == [[two, one], [0, one], [0, 0]]
    assert column(encoder, found, "acted_before") == [[1, 1], [0, 1], [0, 0]]
    lengths = [round(np.log1p(n), 4) for n in (3, 1, 0)]
    assert column(encoder, found, "history_length") == [[n, n] for n in lengths]


def test_days_are_since_the_newest_act_and_have_an_end(encoder: PairEncoder) -> None:
    asked = queries([(3, 10), (3, 97), (1, -1)])
    found = encoder.encode(asked, np.array([[3, 1, 5]]))
    far = round(np.log1p(FAR_DAYS), 4)
    assert column(encoder, found, "days_since") == [[round(np.log1p(3), 4), far, far]]
    undated = replace(asked, now=np.array([NEVER]))
    assert column(encoder, encoder.encode(undated, np.array([[3]])), "days_since") == [[far]]
    early = replace(asked, now=np.array([50 * DAY]))
    assert column(encoder, encoder.encode(early, np.array([[3]])), "days_since") == [[0]]


def test_shares_of_category_and_brand_are_those_of_the_leaf(encoder: PairEncoder) -> None:
    asked = queries([(1, 1), (3, 2), (5, 3), (4, 4)])
    found = encoder.encode(asked, np.array([[1, 2, 4, 0]]))
    assert column(encoder, found, "category_share") == [[0.5, 0.25, 0.25, 0]]
    assert column(encoder, found, "brand_share") == [[0.5, 0.25, 0, 0]]


def test_popularity_is_over_the_mean_item_and_recent_is_of_the_last_days(encoder: PairEncoder) -> None:
    """Of six acts four are with item 2; those of days 95, 96 and 99 are recent."""
    asked, items = queries([]), np.array([[2, 5, 1, 0]])
    found = np.expm1(encoder.encode(asked, items))
    at = encoder.names.index
    assert found[0, :, at("popularity")] == pytest.approx(np.array([4, 1, 0, 0]) / (6 / N))
    assert found[0, :, at("recent_popularity")] == pytest.approx(np.array([1, 1, 0, 0]) / (3 / N))


def test_explicit_negatives_make_nothing_popular() -> None:
    acts = replace(TRAIN, labels=np.where(TRAIN.items == 2, 0, 1).astype(np.float32))
    assert PairEncoder.fit(acts, N + 1).popularity[2] == 0


def test_prices_stand_against_the_shoppers_usual_one(encoder: PairEncoder) -> None:
    asked = queries([(1, 1), (2, 2), (4, 3)], [(4, 1)])
    found = encoder.encode(asked, np.array([[5, 3, 4], [5, 3, 4]]))
    assert column(encoder, found, "price_against_usual") == [[3, 0, 0], [0, 0, 0]]


def test_what_retrievers_say_of_their_candidates(encoder: PairEncoder) -> None:
    scores = {"popular": np.array([[2.0, -np.inf, 6.0, 4.0]]), "unheard": np.ones((1, 4))}
    found = encoder.encode(queries([]), np.array([[1, 2, 3, 0]]), scores)
    assert column(encoder, found, "score.popular") == [[2, 0, 6, 0]]
    assert column(encoder, found, "normalised.popular") == [[-1, 0, 1, 0]]
    assert column(encoder, found, "position.popular") == [[0.5, 0, 1, 0]]
    assert column(encoder, found, "found.popular") == [[1, 0, 1, 0]]
    for kind in ("score", "normalised", "position", "found"):
        assert column(encoder, found, f"{kind}.nearest") == [[0, 0, 0, 0]]
    assert np.isfinite(found).all()


def test_nan_is_not_found_and_equal_scores_are_no_news(encoder: PairEncoder) -> None:
    found = encoder.encode(queries([]), np.array([[1, 2, 3]]), {"nearest": np.array([[7.0, 7.0, np.nan]])})
    assert column(encoder, found, "found.nearest") == [[1, 1, 0]]
    assert column(encoder, found, "normalised.nearest") == [[0, 0, 0]]


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_a_query_alone_is_encoded_as_it_is_among_others(data: st.DataObject) -> None:
    encoder = PairEncoder.fit(TRAIN, N + 1, ITEMS, retrievers=("nearest",))
    act = st.tuples(st.integers(0, N), st.integers(-1, 100))
    histories = data.draw(st.lists(st.lists(act, max_size=6), min_size=1, max_size=4))
    histories = [sorted(history, key=lambda a: a[1]) for history in histories]
    items = np.array(
        data.draw(
            st.lists(
                st.lists(st.integers(0, N), min_size=3, max_size=3),
                min_size=len(histories),
                max_size=len(histories),
            )
        )
    )
    scores = np.linspace(-1, 1, items.size).reshape(items.shape)
    asked = queries(*histories)
    whole = encoder.encode(asked, items, {"nearest": scores})
    for b in range(len(histories)):
        alone = encoder.encode(asked.block(b, b + 1), items[b : b + 1], {"nearest": scores[b : b + 1]})
        assert np.array_equal(alone[0], whole[b])
    assert np.isfinite(whole).all()


def test_a_folder_gives_back_the_same_encoder(encoder: PairEncoder, tmp_path: Path) -> None:
    encoder.to_folder(tmp_path)
    opened = PairEncoder.from_folder(tmp_path)
    asked, items = queries([(3, 10), (1, 20)]), np.array([[1, 3, 5]])
    assert opened.names == encoder.names
    assert np.array_equal(opened.encode(asked, items), encoder.encode(asked, items))


@pytest.mark.parametrize("file", ["pairs.json", "pairs-prices.npy"])
def test_a_damaged_folder_is_refused_with_its_name(encoder: PairEncoder, tmp_path: Path, file: str) -> None:
    folder = tmp_path / "torn"
    encoder.to_folder(folder)
    (folder / file).write_bytes((folder / file).read_bytes()[:-40])
    with pytest.raises(ExportDamaged, match="torn"):
        PairEncoder.from_folder(folder)


def test_arrays_of_another_catalogue_are_refused(encoder: PairEncoder, tmp_path: Path) -> None:
    encoder.to_folder(tmp_path)
    np.save(tmp_path / "pairs-recent.npy", encoder.recent[:-1])
    with pytest.raises(ExportDamaged, match="not of 6 items"):
        PairEncoder.from_folder(tmp_path)


def test_placed_on_another_vocabulary_it_says_the_same_of_the_same_items(encoder: PairEncoder) -> None:
    to_model = np.array([0, 5, 0, 3, 1])  # row 2 there is not known here
    to_here = {5: 1, 3: 3, 1: 4}
    moved = encoder.aligned(to_model)
    asked = queries([(3, 10), (1, 20)])
    there = replace(asked, items=np.array([to_here[row] for row in asked.items.tolist()]))
    assert np.array_equal(
        moved.encode(there, np.array([[1, 3, 4]])), encoder.encode(asked, np.array([[5, 3, 1]]))
    )
    unknown = moved.encode(there, np.array([[2]]))
    assert column(moved, unknown, "popularity") == [[0]]


def test_sparse_inputs_are_ids_features_and_the_ends_of_bags() -> None:
    asked = queries([], [], users=[6, 0])
    names = sparse_names(asked.features, ITEMS)
    assert names == (
        "user", "item", "user.region", "item.brand", "item.category_id.first", "item.category_id.last",
    )  # fmt: skip
    found = pair_sparse((*names, "item.gone", "user.gone"), asked, np.array([[2, 4], [0, 5]]), ITEMS)
    assert found[0].tolist() == [[6, 2, 6, 2, 1, 3, 0, 0], [6, 4, 6, 0, 4, 4, 0, 0]]
    assert found[1].tolist() == [[0, 0, 0, 0, 0, 0, 0, 0], [0, 5, 0, 2, 1, 3, 0, 0]]
    assert sparse_names(Features(), ITEMS, ids=False)[0] == "item.brand"


def built(encoder: PairEncoder, **settings: object) -> object:
    asked = queries([(3, 10)], [], [(1, 5), (2, 6)])
    truth = [np.array([1, 5]), np.array([2]), np.array([3])]
    candidates = np.array([[5, 2, 0], [1, 3, 4], [4, 3, 1]])
    scores = {"nearest": np.arange(9.0).reshape(3, 3)}
    return ranking_examples(
        asked,
        truth,
        candidates,
        scores,
        encoder=encoder,
        item_features=ITEMS,
        users=9,
        part="validation",
        **settings,
    )  # type: ignore[arg-type]


def test_candidates_become_examples_and_queries_without_a_right_one_do_not(encoder: PairEncoder) -> None:
    examples = built(encoder)
    assert examples.groups.tolist() == [0, 0, 2, 2, 2]  # padding is left out, and query 1 found nothing right
    assert examples.sparse[:, 1].tolist() == [5, 2, 4, 3, 1]
    assert examples.labels[:, 0].tolist() == [1, 0, 0, 1, 0]
    assert examples.rows("validation").tolist() == [0, 1, 2, 3, 4]
    assert examples.sizes == (9, 6, 7, 3, 5, 5)
    assert (examples.dense_names, examples.label_names) == (encoder.names, ("acted",))


def test_training_sees_the_numbers_that_serving_computes(encoder: PairEncoder) -> None:
    examples = built(encoder)
    asked = queries([(3, 10)], [], [(1, 5), (2, 6)])
    served = encoder.encode(
        asked.block(2, 3), np.array([[4, 3, 1]]), {"nearest": np.array([[6.0, 7.0, 8.0]])}
    )
    assert np.array_equal(examples.dense[2:], served[0])


def test_wrong_candidates_can_be_thinned_and_right_ones_never_are(encoder: PairEncoder) -> None:
    one, again, other = (built(encoder, negatives=1, seed=seed) for seed in (3, 3, 5))
    assert one.fingerprint() == again.fingerprint()
    for found in (one, other):
        assert found.labels[:, 0].sum() == 2
        assert np.bincount(found.groups).tolist() == [2, 0, 2]


def test_items_that_came_without_categories_are_alike_by_the_classified_one() -> None:
    own = ITEMS.bags["category_id"]
    bare = {name: bag for name, bag in ITEMS.bags.items() if name != "category_id"}
    classified = Features(ITEMS.sparse, {**bare, "classified_path": own}, ITEMS.dense, ITEMS.sizes)
    both = Features(ITEMS.sparse, {**ITEMS.bags, "classified_path": own[::-1]}, ITEMS.dense, ITEMS.sizes)
    expected = PairEncoder.fit(TRAIN, N + 1, ITEMS).categories
    assert expected.any()
    np.testing.assert_array_equal(PairEncoder.fit(TRAIN, N + 1, classified).categories, expected)
    np.testing.assert_array_equal(PairEncoder.fit(TRAIN, N + 1, both).categories, expected)
