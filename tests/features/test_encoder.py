"""Rows of a table → arrays: the same in training and in serving."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.errors import ExportDamaged
from etalage.features.encoder import CATEGORY_STEPS, TITLE_WORDS, Encoder, Features


def items() -> pa.Table:
    said = [
        {"colour": "red", "sku": f"s{n}"} if n % 2 else {"colour": "blue", "sku": f"s{n}"} for n in range(6)
    ]
    return pa.table(
        {
            "item_id": [f"i{n}" for n in range(6)],
            "title": ["Red boot", "red COAT", None, "coat, blue", "", "boot"],
            "brand": ["Ay", "Be", "Ay", "Be", None, "Once"],
            "category_id": ["A > B > C", "A > B", "A", None, "A > B > C", "A > D"],
            "price": [1.0, 10.0, None, 100.0, 0.0, 7.0],
            "attributes": [json.dumps(row) for row in said],
        }
    )


def test_each_column_becomes_the_feature_of_its_kind() -> None:
    encoder = Encoder.fit(items())
    assert set(encoder.sparse) == {"brand", "attributes.colour"}  # each sku is another: it tells nothing
    found = encoder.encode(items())
    assert found.sparse["brand"].tolist() == [1, 2, 1, 2, 0, 0]
    assert found.sparse["attributes.colour"].tolist() == [1, 2, 1, 2, 1, 2]
    assert len(found) == 6
    assert {name: len(v) for name, v in {**encoder.sparse, **encoder.bags}.items()} == found.sizes


def test_a_title_is_a_bag_of_its_words_and_a_category_of_its_path() -> None:
    encoder = Encoder.fit(items())
    found = encoder.encode(items())
    words = {name: encoder.bags["title"].row(name) for name in ("boot", "coat", "red", "blue")}
    assert words == {"boot": 1, "coat": 2, "red": 3, "blue": 0}
    assert found.bags["title"].shape == (6, TITLE_WORDS)
    assert found.bags["title"][:, :3].tolist() == [
        [3, 1, 0],
        [3, 2, 0],
        [0, 0, 0],
        [2, 0, 0],
        [0, 0, 0],
        [1, 0, 0],
    ]
    steps = encoder.bags["category_id"]
    assert steps.ids.to_pylist() == ["A", "A > B", "A > B > C"]
    assert found.bags["category_id"].shape == (6, CATEGORY_STEPS)
    assert found.bags["category_id"][:, :3].tolist() == [
        [1, 2, 3], [1, 2, 0], [1, 0, 0], [0, 0, 0], [1, 2, 3], [1, 0, 0]]  # fmt: skip


def test_what_a_classifier_told_is_a_bag_of_its_own_beside_the_merchants_category() -> None:
    told = items().append_column("classified_path", pa.array(["X > Y", "X > Y", "X", "X", None, "Z"]))
    encoder = Encoder.fit(told)
    assert encoder.bags["classified_path"].ids.to_pylist() == ["X", "X > Y"]
    found = encoder.encode(told)
    assert found.bags["classified_path"][:, :2].tolist() == [[1, 2], [1, 2], [1, 0], [1, 0], [0, 0], [0, 0]]
    assert (
        found.bags["category_id"].tolist()
        == Encoder.fit(items()).encode(items()).bags["category_id"].tolist()
    )
    without = encoder.encode(items())  # the bundle of a shop where nothing is classified any more
    assert without.bags["classified_path"].sum() == 0
    nothing = items().append_column("classified_path", pa.nulls(6, pa.string()))
    assert "classified_path" not in Encoder.fit(nothing).bags


def test_a_price_is_centred_on_what_it_was_fitted_on_and_a_missing_one_says_so() -> None:
    found = Encoder.fit(items()).encode(items()).dense["price"]
    assert found.shape == (6, 2) and found.dtype == np.float32
    assert found[:, 1].tolist() == [0, 0, 1, 0, 0, 0]
    assert found[2, 0] == 0
    there = found[[0, 1, 3, 4, 5], 0]
    np.testing.assert_allclose([there.mean(), there.std()], [0, 1], atol=1e-6)
    assert np.argsort(there).tolist() == [3, 0, 4, 1, 2]


def test_what_training_never_saw_is_unknown_and_moves_nothing_else() -> None:
    encoder = Encoder.fit(items())
    new = pa.table(
        {"title": ["boot newword coat"], "brand": ["New"], "category_id": ["A > X > B"], "price": [10.0]}
    )
    found = encoder.encode(new)
    assert found.sparse["brand"].tolist() == [0]
    assert found.sparse["attributes.colour"].tolist() == [0]  # the column is not even there
    assert found.bags["title"][0, :3].tolist() == [1, 2, 0]
    assert found.bags["category_id"][0, :2].tolist() == [1, 0]
    np.testing.assert_array_equal(found.dense["price"], encoder.encode(items()).dense["price"][1:2])


def test_a_row_is_encoded_alone_as_it_is_among_others() -> None:
    encoder = Encoder.fit(items())
    whole = encoder.encode(items())
    for n in range(6):
        alone = encoder.encode(items().slice(n, 1))
        for name, column in whole.columns.items():
            np.testing.assert_array_equal(alone.columns[name][0], column[n], err_msg=name)


def test_chosen_attributes_are_used_and_no_others() -> None:
    assert "attributes.sku" in Encoder.fit(items(), min_count=1, attributes=("sku",)).sparse
    assert not any(n.startswith("attributes.") for n in Encoder.fit(items(), attributes=()).sparse)


def test_a_table_without_columns_to_learn_from_has_no_features() -> None:
    encoder = Encoder.fit(pa.table({"item_id": ["a", "b"]}))
    found = encoder.encode(pa.table({"item_id": ["a"]}))
    assert len(found) == 0 and found.columns == {}
    empty = Encoder.fit(items().slice(0, 0))
    assert (empty.sparse, empty.bags, empty.dense) == ({}, {}, {})


def test_written_as_json_and_read_it_encodes_the_same() -> None:
    encoder = Encoder.fit(items())
    again = Encoder.from_json(encoder.to_json(), "here")
    assert again.encode(items()).fingerprint() == encoder.encode(items()).fingerprint()
    assert again.encode(items().slice(0, 5)).fingerprint() != encoder.encode(items()).fingerprint()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"sparse": 3, "bags": {}, "dense": {}}',
                                  '{"sparse": {"a": ["x", "x"]}, "bags": {}, "dense": {}}',
                                  '{"sparse": {}, "bags": {}, "dense": {"price": [1]}}'])  # fmt: skip
def test_what_is_no_encoder_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(ExportDamaged, match=r"item\.json"):
        Encoder.from_json(text, "item.json")


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.none() | st.text(max_size=12), st.none() | st.text("AB >", max_size=12),
                  st.none() | st.floats(0, 1e12)),
        max_size=12,
    )
)  # fmt: skip
def test_any_table_is_encoded_within_its_sizes(
    rows: list[tuple[str | None, str | None, float | None]],
) -> None:
    titles, paths, prices = ([row[n] for row in rows] for n in range(3))
    table = pa.table({"title": pa.array(titles, pa.string()), "category_id": pa.array(paths, pa.string()),
                      "price": pa.array(prices, pa.float64())})  # fmt: skip
    found = Encoder.fit(table, min_count=1).encode(table)
    for name, size in found.sizes.items():
        column = found.columns[name]
        assert column.min(initial=0) >= 0 and column.max(initial=0) < size
    assert all(np.isfinite(column).all() for column in found.dense.values())


def test_the_unknown_row_of_features_is_all_zero() -> None:
    encoder = Encoder.fit(items())
    found = encoder.encode(items()).plus("photo", np.arange(12).reshape(6, 2) + 1).with_unknown()
    assert len(found) == 7
    for name, column in found.columns.items():
        assert not column[0].any(), name
    assert found.dense["photo"][1].tolist() == [1, 2] and found.dense["photo"].dtype == np.float32
    np.testing.assert_array_equal(found.take(np.array([3, 0])).dense["photo"], [[5, 6], [0, 0]])
    assert list(found.columns) == ["attributes.colour", "brand", "category_id", "title", "photo", "price"]
    assert len(Features()) == 0
