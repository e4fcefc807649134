"""How a table of dense and sparse columns becomes examples."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from etalage.errors import ConfigError, ExportDamaged, InputUnreadable, TooLittleData
from etalage.features.shards import Shards
from etalage.features.table_encoder import TableEncoder, columns_of, drawn_parts, fit_table
from tests.features.example_tables import drawn, stored


def test_columns_are_sparse_or_dense_by_type_and_whole_numbers_have_to_be_said() -> None:
    schema = drawn(10).schema
    assert columns_of(schema, ("label",), None, None) == (("colour", "shop"), ("price", "weight", "id"))
    assert columns_of(schema, ("label",), ("shop",), ("price",)) == (("shop",), ("price",))
    with_codes = schema.append(pa.field("city", pa.int64()))
    with pytest.raises(ConfigError, match="city: whole numbers may be quantities or codes"):
        columns_of(with_codes, ("label",), None, None)
    assert columns_of(with_codes, ("label",), ("city",), None)[0] == ("city",)


@pytest.mark.parametrize(
    ("labels", "sparse", "dense", "message"),
    [
        (("labl",), None, None, "labels: the table has no column 'labl'.*label"),
        (("colour",), None, None, "labels: 'colour' is string, and has to be numbers"),
        (("label",), None, ("shop",), "dense: 'shop' is string"),
        (("label",), ("label",), None, "sparse: 'label' is one of `labels` already"),
        (("label",), (), (), "no sparse and no dense column"),
    ],
)
def test_columns_that_cannot_be_meant_are_refused(
    labels: tuple[str, ...], sparse: tuple[str, ...] | None, dense: tuple[str, ...] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        columns_of(drawn(10).schema, labels, sparse, dense)


def test_one_pass_fits_vocabularies_and_moments_on_the_training_rows_alone(tmp_path: Path) -> None:
    table = drawn()
    fitted = fit_table(Shards(stored(tmp_path / "t", table)), ("label",), min_count=70)
    train = table.filter(pa.array(np.array(table["part"].to_pylist()) == "train"))
    counts = {v["values"]: v["counts"] for v in train["shop"].drop_null().value_counts().to_pylist()}
    kept = sorted(name for name, count in counts.items() if count >= 70)
    assert 0 < len(kept) < 39
    assert fitted.encoder.vocabularies["shop"].ids.to_pylist() == kept
    assert fitted.encoder.missing == ("weight",)
    assert fitted.moments.rows == train.num_rows == fitted.counts_K3[:, 0].sum()
    price = train["price"].to_numpy().astype(np.float32).astype(np.float64)
    assert fitted.moments.dense_mean_F[0] == pytest.approx(price.mean())
    assert fitted.moments.dense_spread_F[0] == pytest.approx(price.std())
    missing = train["weight"].null_count / train.num_rows
    assert fitted.moments.dense_mean_F[3] == pytest.approx(missing)
    assert fitted.moments.label_mean_O[0] == pytest.approx(train["label"].to_numpy().mean())


def test_a_missing_number_is_zero_and_says_so_and_an_unknown_word_is_row_0(tmp_path: Path) -> None:
    encoder = fit_table(Shards(stored(tmp_path / "t", drawn())), ("label",)).encoder
    row = {"colour": ["new"], "shop": [None], "price": [float("inf")], "weight": [None], "id": [1.0]}
    row |= {"label": [None], "part": ["test"]}
    batch = pa.record_batch(row, pa.schema([(name, drawn(1).schema.field(name).type) for name in row]))
    found = encoder.encode(batch, encoder.parts(batch, 0))
    assert found.sparse.tolist() == [[0, 0]]
    assert found.dense_names == ("price", "weight", "id", "weight.missing")
    assert found.dense.tolist() == [[0, 0, 1, 1]]
    assert np.isnan(found.labels).all()
    assert found.parts.tolist() == [2]


def test_without_a_column_of_parts_a_tenth_each_is_drawn_by_the_rows_number() -> None:
    parts = drawn_parts(0, 100_000)
    assert np.bincount(parts) / len(parts) == pytest.approx([0.8, 0.1, 0.1], abs=0.005)
    assert np.array_equal(drawn_parts(500, 100), parts[500:600])


def test_a_row_of_no_part_is_refused_with_its_number(tmp_path: Path) -> None:
    table = drawn(300)
    parts = table["part"].to_pylist()
    parts[120] = "later"
    wrong = table.set_column(table.column_names.index("part"), "part", pa.array(parts))
    with pytest.raises(InputUnreadable, match="row 120: the column part is 'later'"):
        fit_table(Shards(stored(tmp_path / "t", wrong, files=1)), ("label",))


def test_a_table_without_training_rows_is_too_little(tmp_path: Path) -> None:
    table = drawn(100)
    none = table.set_column(table.column_names.index("part"), "part", pa.array(["test"] * 100))
    with pytest.raises(TooLittleData, match="none of its 100 rows is of the part train"):
        fit_table(Shards(stored(tmp_path / "t", none)), ("label",))


def test_an_encoder_is_kept_beside_the_export_and_opened_again(tmp_path: Path) -> None:
    encoder = fit_table(Shards(stored(tmp_path / "t", drawn())), ("label",)).encoder
    encoder.to_folder(tmp_path / "kept")
    again = TableEncoder.from_folder(tmp_path / "kept")
    batch = drawn(50).select(encoder.columns).to_batches()[0]
    for name in ("sparse", "dense", "labels", "parts"):
        ours, theirs = (getattr(one.encode(batch, one.parts(batch, 0)), name) for one in (encoder, again))
        assert np.array_equal(ours, theirs, equal_nan=name != "parts")
    (tmp_path / "kept" / "0.arrow").unlink()
    with pytest.raises(ExportDamaged, match="again"):
        TableEncoder.from_folder(tmp_path / "kept")
