"""Tables → arrays: what counts, what is positive, who has a row; and the published protocols."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.config import BehaviourConfig
from etalage.datasets.published import ncf, sequences
from etalage.errors import ConfigError, InputUnreadable, TooLittleData
from etalage.features.behaviour import NEVER, PARTS, BehaviourSet, Interactions
from etalage.features.behaviour_set import behaviour_set, describe_taken_again, taken_again
from etalage.features.leakage import check_leakage
from etalage.features.sources import FeatureSource
from etalage.lake.schema import TABLES

START = datetime(2024, 5, 1, tzinfo=UTC)
Row = tuple[str, str, str | None, float | None, int | None]
"""(user, item, kind, value, minute)"""


def table(rows: list[Row], ids: list[str] | None = None) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * 5
    times = [None if minute is None else START + timedelta(minutes=minute) for minute in columns[4]]
    return pa.Table.from_pydict(
        {
            "interaction_id": ids or [f"{n:05d}" for n in range(len(rows))],
            "user_id": list(columns[0]), "item_id": list(columns[1]), "kind": list(columns[2]),
            "value": list(columns[3]), "time": times, "part": [None] * len(rows),
        },
        TABLES["interactions"].schema,
    )  # fmt: skip


def catalogue(*ids: str) -> pa.Table:
    rows = {
        "item_id": list(ids),
        "title": [f"thing {n % 2}" for n in range(len(ids))],
        "brand": [f"brand {n % 3}" for n in range(len(ids))],
        "price": [float(n) for n in range(len(ids))],
    }
    empty = TABLES["items"].schema.empty_table()
    full = {f.name: rows.get(f.name, [None] * len(ids)) for f in empty.schema}
    return pa.Table.from_pydict(full, empty.schema)


SOME: list[Row] = [
    ("u2", "b", "buy", None, 3), ("u1", "c", "view", None, 1), ("u1", "a", "buy", None, 2),
    ("u2", "a", "view", None, 9), ("u1", "b", "buy", None, 4), ("u2", "c", "buy", None, 5),
]  # fmt: skip
ALL_TRAIN = BehaviourConfig(split="leave_one_out", repeat=True)


def everything(data: BehaviourSet) -> Interactions:
    return Interactions.joined(*data.parts.values())


def named(data: BehaviourSet, acts: Interactions) -> list[tuple[str, str]]:
    return [
        (data.users.id(user), data.items.id(item))
        for user, item in zip(acts.users.tolist(), acts.items.tolist(), strict=True)
    ]


def test_acts_are_in_the_order_of_their_time_whatever_the_order_of_the_table() -> None:
    data = behaviour_set(table(SOME), None, None, ALL_TRAIN)
    found = everything(data)
    assert named(data, found) == [
        ("u1", "c"), ("u1", "a"), ("u1", "b"), ("u2", "b"), ("u2", "c"), ("u2", "a")]  # fmt: skip
    assert data.kinds == ("buy", "view")
    assert found.kinds.tolist() == [2, 1, 1, 1, 1, 2]
    minute = 60 * 10**6
    assert (found.times - int(START.timestamp() * 1e6)).tolist() == [n * minute for n in (1, 2, 4, 3, 5, 9)]


def test_acts_of_one_time_follow_by_id_not_by_the_order_of_files() -> None:
    rows: list[Row] = [("u", name, "view", None, None) for name in "cabd"]
    ids = ["u:2", "u:0", "u:1", "u:3"]
    data = behaviour_set(table(rows, ids), None, None, ALL_TRAIN)
    turned = table(rows, ids).take([3, 1, 0, 2])
    for found in (data, behaviour_set(turned, None, None, ALL_TRAIN)):
        assert named(found, everything(found)) == [("u", name) for name in "abcd"]
        assert set(everything(found).times.tolist()) == {NEVER}


def test_a_time_that_is_not_known_comes_first() -> None:
    rows: list[Row] = [("u", "late", None, None, 5), ("u", "bare", None, None, None)]
    data = behaviour_set(table(rows), None, None, ALL_TRAIN)
    assert named(data, everything(data)) == [("u", "bare"), ("u", "late")]
    assert data.kinds == () and everything(data).kinds.tolist() == [0, 0]


def test_a_rating_below_the_threshold_stays_an_explicit_negative() -> None:
    stars = [5.0, 3.5, 4.0, 1.0, None]
    rows: list[Row] = [("u", f"i{n}", "rating", star, n) for n, star in enumerate(stars)]
    data = behaviour_set(table(rows), None, None, BehaviourConfig(split="random", positive_from=4.0))
    found = everything(data)
    assert found.labels.tolist() == [1, 0, 1, 0, 1]
    np.testing.assert_array_equal(found.values, np.array([5, 3.5, 4, 1, np.nan], np.float32))


def test_a_value_that_is_the_threshold_is_positive_whatever_it_is_in_float32() -> None:
    rows: list[Row] = [("u", f"i{n}", "rating", star, n) for n, star in enumerate((3.3, 3.2, 3.4))]
    data = behaviour_set(table(rows), None, None, BehaviourConfig(split="random", positive_from=3.3))
    assert everything(data).labels.tolist() == [1, 0, 1]


def test_which_of_two_purchases_of_one_time_was_returned_is_told_by_their_ids_not_by_the_order_of_files() -> (
    None
):
    rows: list[Row] = [("u", "a", "buy", 2.0, 1), ("u", "a", "Order", 2.0, 1), ("u", "a", "refund", None, 1)]
    rows += [("u", "b", "buy", None, 2)]
    ids = ["1", "2", "3", "4"]
    for order in ([0, 1, 2, 3], [1, 0, 3, 2]):
        data = behaviour_set(table(rows, ids).take(order), None, None, ALL_TRAIN)
        assert sorted(data.kinds[code - 1] for code in everything(data).kinds) == ["buy", "buy"]


def test_only_kinds_with_a_weight_count_and_one_below_0_is_negative() -> None:
    rows: list[Row] = [*SOME, ("u1", "d", "return", None, 7)]
    weights = {"buy": 3.0, "return": -1.0, "view": 0.0}
    data = behaviour_set(table(rows), None, None, BehaviourConfig(weights=weights, split="leave_one_out"))
    found = everything(data)
    assert data.kinds == ("buy", "return")
    assert sorted(zip(found.kinds.tolist(), found.labels.tolist(), strict=True)) == [(1, 1)] * 4 + [(2, 0)]
    assert data.facts["of_other_kinds"] == 2
    assert data.facts["weights"] == {"buy": 3.0, "return": -1.0}
    assert data.facts["other_kinds"] == {}, "that a weight is 0 was said by whoever set it"


def test_a_target_kind_is_what_is_to_be_found() -> None:
    data = behaviour_set(table(SOME), None, None, BehaviourConfig(targets=("buy",), split="leave_one_out"))
    assert data.targets == (1,)
    assert named(data, data.truth("test")) == [("u1", "b"), ("u2", "c")]
    assert named(data, data.part("train")) == [("u1", "c"), ("u1", "a"), ("u2", "b")]
    assert named(data, data.part("test")) == [("u1", "b"), ("u2", "c"), ("u2", "a")]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"weights": {"bought": 1.0}}, "weights names bought, but the interactions are of kind buy, view"),
        ({"targets": ("sale",)}, "targets names sale"),
        ({"weights": {"view": 1.0}, "targets": ("buy",)}, "targets has buy"),
    ],
)
def test_a_kind_that_is_not_there_is_named(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        behaviour_set(table(SOME), None, None, BehaviourConfig(**config))


def test_every_item_of_the_catalogue_has_a_row_and_acts_on_others_are_counted() -> None:
    data = behaviour_set(table(SOME), catalogue("z", "a", "0", "b"), None, ALL_TRAIN)
    assert data.items.ids.to_pylist() == ["0", "a", "b", "z"]
    assert data.facts["of_unknown_items"] == 2
    assert (everything(data).items > 0).all()
    assert {item for _, item in named(data, everything(data))} == {"a", "b"}


def test_features_stand_beside_the_rows_of_the_vocabulary() -> None:
    items = catalogue("c", "x", "a", "b", "y", "z")
    photos = FeatureSource(["b", "gone", "z"], np.array([[1, 2], [9, 9], [3, 4]], np.float32), "f00d")
    users = pa.table({"user_id": ["u3", "u1"], "attributes": ['{"age": "9"}', '{"age": "7"}']})
    data = behaviour_set(table(SOME), items, users, ALL_TRAIN).with_sources({"photo": photos})
    assert data.item_encoder is not None
    encoded = data.item_encoder.encode(items)
    place = {name: n for n, name in enumerate(items["item_id"].to_pylist())}
    for row, name in enumerate(data.items.ids.to_pylist(), start=1):
        for feature, column in encoded.columns.items():
            np.testing.assert_array_equal(data.item_features.columns[feature][row], column[place[name]])
    photo = data.item_features.dense["photo"]
    assert photo.tolist() == [[0, 0], [0, 0], [1, 2], [0, 0], [0, 0], [0, 0], [3, 4]]
    assert data.feature_sources == {"photo": "f00d"}
    assert not any(column[0].any() for column in data.item_features.columns.values())
    assert data.users.ids.to_pylist() == ["u1", "u2", "u3"]
    assert data.user_encoder is None and len(data.user_features) == 0  # one known age tells nobody apart


def test_features_of_users_are_learned_from_those_in_train() -> None:
    rows: list[Row] = [(f"u{n}", item, "view", None, n) for n in range(6) for item in "abc"]
    ages = ["7", "9", "7", "9", "7", None]
    users = pa.table({
        "user_id": [f"u{n}" for n in (5, 4, 3, 2, 1, 0)],
        "attributes": [None if age is None else json.dumps({"age": age}) for age in reversed(ages)],
    })  # fmt: skip
    data = behaviour_set(table(rows), None, users.slice(0, 5), ALL_TRAIN)
    assert data.user_encoder is not None
    assert data.user_features.sparse["attributes.age"].tolist() == [0, 0, 2, 1, 2, 1, 0]
    queries, _ = data.queries("test")
    assert queries.features.sparse["attributes.age"].tolist() == [0, 2, 1, 2, 1, 0]


def test_words_of_cold_items_are_unknown_to_the_encoder() -> None:
    items = catalogue("a", "b", "c", "d", "e", "f")
    data = behaviour_set(table(SOME), items, None, ALL_TRAIN)
    alone = behaviour_set(table(SOME), items.slice(0, 3), None, ALL_TRAIN)
    assert data.item_encoder is not None and alone.item_encoder is not None
    assert data.item_encoder.to_json() == alone.item_encoder.to_json()


def test_users_and_items_with_too_few_acts_go_until_none_is_left_that_has() -> None:
    pairs = ["ann a", "ann b", "bob a", "bob b", "cem a", "cem c", "dan c"]
    rows: list[Row] = [(pair[:3], pair[4], "view", None, n) for n, pair in enumerate(pairs)]
    config = BehaviourConfig(min_user=2, min_item=2, split="random")
    data = behaviour_set(table(rows), catalogue("a", "b", "c"), None, config)
    # dan has one act; then c has one; then cem has one: it ends with two users and two items.
    assert {user for user, _ in named(data, everything(data))} == {"ann", "bob"}
    assert data.facts["of_rare"] == 3
    assert len(data.items) == 4


def test_repeated_acts_are_all_in_the_history() -> None:
    rows: list[Row] = [("u", item, "buy", None, n) for n, item in enumerate("abacade")]
    data = behaviour_set(table(rows), None, None, BehaviourConfig(split="leave_one_out"))
    queries, wanted = data.queries("test")
    names = [data.items.id(row) for row in queries.items.tolist()]
    assert names == list("abacad") and [data.items.id(int(row)) for row in wanted[0]] == ["e"]


@pytest.mark.parametrize("split", ["time", "leave_one_out", "last_n", "random"])
def test_f49_one_act_one_user_one_item_and_all_duplicates(split: Any) -> None:
    config = BehaviourConfig(split=split, seed=2)
    lone: list[Row] = [("u", "a", "view", None, 1)]
    cases: list[list[Row]] = [
        lone,
        lone * 5,
        [("u", f"i{n}", "view", None, n) for n in range(5)],
        [(f"u{n}", "a", "view", None, n) for n in range(5)],
    ]
    for rows in cases:
        try:
            data = behaviour_set(table(rows), None, None, config)
        except TooLittleData as error:
            assert split == "random" and "train has 0" in str(error)
            continue
        assert len(data.part("train").positive) >= 1
        assert not check_leakage(data).found


@pytest.mark.parametrize(
    ("rows", "config", "words"),
    [
        ([], {}, "no interaction; ingest"),
        ([("u", "a", "rating", 1.0, 1)], {"positive_from": 4.0}, "positive_from"),
        ([("u", "a", "view", None, 1)], {"min_user": 2}, "1 of users or items below"),
        ([("u", "gone", "view", None, 1)], {}, "1 of items that the catalogue does not have"),
        ([("u", "a", "view", None, None)], {"split": "time"}, "none of 1 interactions has a time"),
    ],
)
def test_f49_too_little_to_learn_from_is_told_with_the_reason(
    rows: list[Row], config: dict[str, Any], words: str
) -> None:
    with pytest.raises(TooLittleData, match=words):
        behaviour_set(table(rows), catalogue("a", "b"), None, BehaviourConfig(**config))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(st.sampled_from("uvw"), st.sampled_from("abcdx"), st.sampled_from(["view", "buy", None]),
                  st.none() | st.floats(0, 5), st.none() | st.integers(0, 30)),
        max_size=25,
    ),
    st.sampled_from(["time", "leave_one_out", "last_n", "random"]), st.booleans(),
)  # fmt: skip
def test_any_table_trains_or_says_why_not(rows: list[Row], split: Any, repeat: bool) -> None:
    config = BehaviourConfig(split=split, repeat=repeat, positive_from=2.0, last_n=2)
    try:
        data = behaviour_set(table(rows), catalogue("a", "b", "c", "d"), None, config)
    except TooLittleData:
        return
    facts = data.facts
    left_out = ("of_other_kinds", "of_unknown_items", "of_rare", "repeated")
    assert facts["read"] == sum(facts[name] for name in (*left_out, *PARTS))
    assert (data.part("train").items > 0).all() and (data.part("train").users > 0).all()
    assert not check_leakage(data).found


def test_ncf_files_are_read_as_published(shared_data: Path) -> None:
    folder = shared_data / "deepcf-amusic-lastfm"
    for name, users, items, train, test, cold in (
        ("AMusic", 1776, 12_929, 44_311, 1776, 43), ("lastfm", 1741, 2665, 67_408, 1741, 0)):  # fmt: skip
        data = ncf(folder, name)
        assert (len(data.users) - 1, len(data.items) - 1) == (users, items)
        assert len(data.part("train")) + len(data.part("validation")) == train
        queries, wanted = data.queries("test")
        assert len(queries) == test and all(len(right) == 1 for right in wanted)
        assert int((np.diff(queries.starts) == 0).sum()) == cold
        assert data.negatives["test"].shape == (test, 99) and not data.own_split
    by_user = dict(zip(queries.users.tolist(), range(len(queries)), strict=True))
    first = by_user[data.users.row("0")]
    assert data.items.id(int(wanted[first][0])) == "40"
    assert [data.items.id(int(row)) for row in data.negatives["test"][first][:3]] == ["11", "526", "14"]


def test_validation_is_drawn_from_train_by_the_seed(shared_data: Path) -> None:
    folder = shared_data / "deepcf-amusic-lastfm"
    one, same, other = (ncf(folder, "AMusic", seed=seed) for seed in (1, 1, 2))
    held = one.part("validation")
    assert len(np.unique(held.users)) == len(held) == 1685  # 48 of the 1,733 users in train have one act
    assert np.array_equal(held.keys, same.part("validation").keys)
    assert not np.array_equal(held.keys, other.part("validation").keys)
    assert not np.isin(held.keys, one.part("train").keys).any()
    assert len(ncf(folder, "AMusic", validation="none").part("validation")) == 0


def ncf_files(folder: Path, train: str, test: str, negative: str) -> Path:
    for suffix, text in (("train.rating", train), ("test.rating", test), ("test.negative", negative)):
        (folder / f"x.{suffix}").write_text(text)
    return folder


def test_ncf_with_times_validates_on_the_newest(tmp_path: Path) -> None:
    train = "7\t1\t5\t30\n7\t2\t5\t10\n7\t3\t0\t20\n8\t1\t4\t10\n"
    data = ncf(ncf_files(tmp_path, train, "8\t4\t5\t99\n7\t5\t5\t98\n", "(8,4)\t2\t3\n(7,5)\t4\t9\n"), "x")
    assert named(data, data.part("validation")) == [("7", "1")]
    assert named(data, data.part("train")) == [("7", "2"), ("7", "3"), ("8", "1")]
    assert data.part("train").labels.tolist() == [1, 0, 1]
    assert [[data.items.id(row) for row in rows] for rows in data.negatives["test"].tolist()] == [
        ["4", "9"], ["2", "3"]]  # fmt: skip


@pytest.mark.parametrize(
    ("train", "test", "negative", "words"),
    [
        ("1\t2\t3\n1\t2\n", "1\t3\t1\n", "(1,3)\t4\n", r"train\.rating: line 2: has 2 fields"),
        ("1\t2\tx\n", "1\t3\t1\n", "(1,3)\t4\n", r"train\.rating: line 1: .*'x'"),
        ("1\t2\t3\n", "1\t3\t1\n", "1,3\t4\n", r"test\.negative: line 1"),
        ("1\t2\t3\n", "1\t3\t1\n", "(1,9)\t4\n", "not those of the test file"),
        ("1\t2\t3\n", "1\t3\t1\n2\t3\t1\n", "(1,3)\t4\t5\n(2,3)\t6\n", "line 2: 1 negatives"),
    ],
)
def test_ncf_files_that_do_not_fit_are_refused(
    tmp_path: Path, train: str, test: str, negative: str, words: str
) -> None:
    with pytest.raises(InputUnreadable, match=words):
        ncf(ncf_files(tmp_path, train, test, negative), "x")


def test_sequences_test_the_last_item_of_each_line(shared_data: Path) -> None:
    folder = shared_data / "s3rec-amazon-beauty"
    data = sequences(folder / "Beauty.txt", folder / "Beauty_item2attributes.json")
    assert (len(data.users) - 1, len(data.items) - 1) == (22_363, 12_101)
    assert {name: len(part) for name, part in data.parts.items()} == {
        "train": 198_502 - 2 * 22_363, "rank": 0, "validation": 22_363, "test": 22_363}  # fmt: skip
    queries, wanted = data.queries("test")
    of_two = int(np.flatnonzero(queries.users == data.users.row("2"))[0])
    history = queries.items[queries.starts[of_two] : queries.starts[of_two + 1]].tolist()
    assert [data.items.id(row) for row in history] == ["6", "7", "8", "9", "10", "4"]
    assert [data.items.id(int(row)) for row in wanted[of_two]] == ["11"]
    bag = data.item_features.bags["attributes"]
    assert data.item_features.sizes == {"attributes": 638} and len(bag) == 12_102
    assert round((bag > 0).sum() / 12_101, 3) == 3.722
    assert not check_leakage(data).found


def test_a_short_sequence_is_learned_from_and_a_bare_user_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.txt"
    file.write_text("a x\nb x y\nc z x y\n\n")
    data = sequences(file)
    assert named(data, data.part("train")) == [("a", "x"), ("b", "x"), ("c", "z")]
    assert named(data, data.part("validation")) == [("c", "x")]
    assert named(data, data.part("test")) == [("b", "y"), ("c", "y")]
    file.write_text("a x\nb\n")
    with pytest.raises(InputUnreadable, match=r"s\.txt: line 2: has a user but no item"):
        sequences(file)
    file.write_text("\n")
    with pytest.raises(TooLittleData, match="no line"):
        sequences(file)


@pytest.mark.parametrize("text", ["", "[1]", '{"x": 3}'])
def test_attributes_that_are_no_object_of_lists_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.txt").write_text("a x y\n")
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputUnreadable, match=r"a\.json"):
        sequences(tmp_path / "s.txt", tmp_path / "a.json")


def rows_of_receipts(bought_again: int) -> list[Row]:
    """Hundred households, two receipts each; in so many of them the second is of the same milk."""
    first = [(f"h{n}", "milk", "buy", None, n) for n in range(100)]
    second = [(f"h{n}", "milk" if n < bought_again else "bread", "buy", None, 500 + n) for n in range(100)]
    return [*first, *second, *[(f"h{n}", "milk", "view", None, 900) for n in range(100)]]


def test_a_shop_in_which_the_same_is_bought_again_is_told_what_to_set() -> None:
    def described(rows: list[Row], repeat: bool = False) -> list[str]:
        return describe_taken_again(behaviour_set(table(rows), None, None, rule(repeat), whole=True))

    def rule(repeat: bool) -> BehaviourConfig:
        return BehaviourConfig(split="random", repeat=repeat)

    often = behaviour_set(table(rows_of_receipts(90)), None, None, rule(False), whole=True)
    assert taken_again(often) == (200, 90)
    (line,) = described(rows_of_receipts(90))
    assert "45% of what shoppers took (90 of 200 times)" in line and "repeat = true" in line
    assert described(rows_of_receipts(30)) == [] == described(rows_of_receipts(90), repeat=True)
    assert described(rows_of_receipts(90)[:150]) == []


def test_what_goes_into_the_cart_and_is_bought_then_is_not_taken_again() -> None:
    config = BehaviourConfig(split="random", has=("cart", "buy"))
    rows: list[Row] = [("u", "a", "cart", None, 1), ("u", "a", "buy", None, 2), ("u", "a", "buy", None, 9)]
    assert taken_again(behaviour_set(table(rows), None, None, config, whole=True)) == (3, 1)


def test_the_same_item_twice_at_one_moment_is_one_purchase() -> None:
    config = BehaviourConfig(split="random")
    rows: list[Row] = [("u", "a", "buy", None, 1), ("u", "a", "buy", None, 1), ("u", "a", "buy", None, 2)]
    assert taken_again(behaviour_set(table(rows), None, None, config, whole=True)) == (2, 1)
