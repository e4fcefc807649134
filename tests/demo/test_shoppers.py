"""The demo shop's shoppers: what they did, and the hidden truth behind it."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from etalage.demo import tables
from etalage.demo.facts import TODAY, facts
from etalage.demo.tables import DemoSize
from etalage.demo.tastes import Truth
from etalage.errors import DataError
from etalage.lake.schema import TABLES

SIZE = DemoSize(items=1_500, shoppers=700, seed=7)


@pytest.fixture(scope="module")
def deeds() -> pa.Table:
    return tables.interactions(SIZE)


@pytest.fixture(scope="module")
def frame(deeds: pa.Table) -> pd.DataFrame:
    table = deeds.to_pandas()
    table["item"] = table["item_id"].str[1:].astype(int)
    table["user"] = table["user_id"].str[1:].astype(int)
    return table


@pytest.fixture(scope="module")
def truth() -> Truth:
    return tables.truth(SIZE)


@pytest.fixture(scope="module")
def liking(truth: Truth) -> np.ndarray:
    """(shoppers, items)."""
    return truth.liking([f"u{n:06d}" for n in range(700)], [f"i{n:06d}" for n in range(1_500)])


def _gini(counts: np.ndarray) -> float:
    counts = np.sort(counts)
    ranks = 2 * np.arange(1, len(counts) + 1) - len(counts) - 1
    return float((ranks * counts).sum() / (len(counts) * counts.sum()))


def test_interactions_and_users_have_exactly_the_columns_of_their_tables(deeds: pa.Table) -> None:
    assert deeds.schema.equals(TABLES["interactions"].schema)
    users = tables.shoppers(SIZE)
    assert users.schema.equals(TABLES["users"].schema)
    assert users["user_id"].to_pylist() == [f"u{n:06d}" for n in range(700)]


def test_every_interaction_has_its_own_id_and_known_ends(frame: pd.DataFrame) -> None:
    assert frame["interaction_id"].is_unique
    assert frame["item"].between(0, 1_499).all()
    assert frame["user"].nunique() == 700


def test_the_same_seed_makes_the_same_deeds_and_another_seed_others(deeds: pa.Table) -> None:
    assert tables.interactions(SIZE).equals(deeds)
    other = tables.interactions(DemoSize(1_500, 700, seed=9))
    assert other.num_rows != deeds.num_rows or not other["item_id"].equals(deeds["item_id"])


def test_a_shopper_does_the_same_however_many_others_there_are(deeds: pa.Table) -> None:
    fewer = tables.interactions(DemoSize(1_500, 310, seed=7))
    assert deeds.slice(0, fewer.num_rows).equals(fewer)
    assert set(deeds.slice(fewer.num_rows)["user_id"].to_pylist()).isdisjoint(fewer["user_id"].to_pylist())


def test_carts_follow_views_and_purchases_follow_carts(frame: pd.DataFrame) -> None:
    count = frame["kind"].value_counts()
    assert set(count.index) == {"view", "cart", "buy"}
    assert 0.04 < count["cart"] / count["view"] < 0.25
    assert 0.2 < count["buy"] / count["cart"] < 0.8
    first = frame.groupby(["user", "item", "kind"])["time"].min().unstack()
    carted = first.dropna(subset="cart")
    assert (carted["view"] < carted["cart"]).all()
    bought = first.dropna(subset="buy")
    assert (bought["cart"] < bought["buy"]).all()


def test_values_are_empty_for_views_pieces_for_carts_and_prices_for_purchases(frame: pd.DataFrame) -> None:
    prices = tables.catalogue(SIZE)["price"].to_numpy()
    assert frame.loc[frame["kind"] == "view", "value"].isna().all()
    assert (frame.loc[frame["kind"] == "cart", "value"] == 1).all()
    bought = frame[frame["kind"] == "buy"]
    np.testing.assert_array_equal(bought["value"], prices[bought["item"]])


def test_a_year_passes_and_nothing_happens_after_today_or_before_an_item_was_sold(
    frame: pd.DataFrame,
) -> None:
    assert frame["time"].max() < TODAY
    assert frame["time"].min() >= TODAY - timedelta(days=365)
    assert frame["time"].dt.month.nunique() == 12
    days = facts(7, np.arange(1_500, dtype=np.int64)).release_day
    sold_since = pd.Timestamp(TODAY) - pd.to_timedelta(days[frame["item"]], unit="D")
    assert (frame["time"].to_numpy() >= sold_since.to_numpy()).all()
    assert (days < 365).mean() > 0.4  # new items keep appearing


def test_few_items_get_most_views_and_few_shoppers_are_most_active(frame: pd.DataFrame) -> None:
    views = frame[frame["kind"] == "view"]
    assert 0.45 < _gini(np.bincount(views["item"], minlength=1_500)) < 0.85
    activity = views["user"].value_counts()
    assert _gini(activity.to_numpy()) > 0.35
    assert activity.max() > 5 * activity.median()


def test_coats_are_looked_at_in_winter_and_sandals_in_summer(frame: pd.DataFrame) -> None:
    category = np.array(tables.catalogue(SIZE)["category_id"].to_pylist())[frame["item"]]
    month = frame["time"].dt.month
    winter, summer = month.isin([11, 12, 1]), month.isin([6, 7, 8])
    coats = np.char.find(category.astype(str), "Wool coat") >= 0
    sandals = np.char.find(category.astype(str), "Sandals") >= 0
    # Shares of all that happened in those months: the shop as a whole grows, and is busy in December.
    assert (coats[winter]).mean() > 4 * (coats[summer]).mean()
    assert (sandals[summer]).mean() > 2 * (sandals[winter]).mean()


def test_what_is_bought_is_what_the_truth_says_is_liked(frame: pd.DataFrame, liking: np.ndarray) -> None:
    random = np.random.default_rng(0)
    bought = frame[frame["kind"] == "buy"]
    mine = liking[bought["user"], bought["item"]]
    strangers = liking[random.permutation(bought["user"].to_numpy()), bought["item"]]
    assert (mine > strangers).mean() > 0.8  # 0.5 is chance; items, and so popularity, are equal
    viewed = frame[frame["kind"] == "view"]
    assert mine.mean() > 1.3 * liking[viewed["user"], viewed["item"]].mean()


def test_not_everything_that_is_bought_is_liked(frame: pd.DataFrame, liking: np.ndarray) -> None:
    bought = frame[frame["kind"] == "buy"]
    assert (liking[bought["user"], bought["item"]] < 0.3).mean() > 0.005


def test_tastes_differ_between_shoppers_and_popularity_alone_does_not_explain_them(
    liking: np.ndarray,
) -> None:
    assert liking.dtype == np.float32
    assert 0 < liking.min() < liking.max() < 1
    assert 0.05 < liking.mean() < 0.3
    centred = liking - liking.mean(axis=0)
    assert centred.std() > liking.mean(axis=0).std()


def test_the_truth_answers_for_the_ids_asked_in_their_order(truth: Truth, liking: np.ndarray) -> None:
    some = truth.liking(["u000009", "u000002"], ["i000700", "i000003", "i001499"])
    np.testing.assert_allclose(some, liking[np.ix_([9, 2], [700, 3, 1499])], rtol=1e-5)


def test_the_truth_does_not_change_when_the_shop_grows(truth: Truth) -> None:
    users, items = ["u000001", "u000600"], ["i000000", "i001200"]
    grown = tables.truth(DemoSize(2_100, 900, seed=7)).liking(users, items)
    np.testing.assert_allclose(grown, truth.liking(users, items), rtol=1e-6)


@pytest.mark.parametrize(
    ("user", "item"), [("u000700", "i000000"), ("x1", "i000000"), ("u000000", "i001500"), ("u000000", "ixyz")]
)
def test_the_truth_refuses_ids_that_the_shop_does_not_have(truth: Truth, user: str, item: str) -> None:
    with pytest.raises(DataError, match="the demo shop has no"):
        truth.liking([user], [item])


def test_the_tables_do_not_tell_who_likes_what(liking: np.ndarray) -> None:
    """What the tables say of a shopper explains next to nothing of her tastes."""
    users = tables.shoppers(SIZE)["attributes"].to_pandas()
    departments = np.array([c.split(" > ")[0] for c in tables.catalogue(SIZE)["category_id"].to_pylist()])
    tastes = np.stack([liking[:, departments == d].mean(axis=1) for d in sorted(set(departments))], axis=1)
    groups = users.str.extract(r'"age": "([^"]+)", "country": "([A-Z]+)"')
    for column in groups:
        means = pd.DataFrame(tastes).groupby(groups[column]).transform("mean").to_numpy()
        explained = means.var(axis=0).sum() / tastes.var(axis=0).sum()
        assert explained < 0.05
