"""The tables: what other rooms count on."""

import pyarrow as pa
import pytest

from etalage.lake.schema import TABLES


def test_every_key_column_is_required_and_every_column_says_what_it_means() -> None:
    for spec in TABLES.values():
        for name in spec.key:
            assert not spec.schema.field(name).nullable, f"{spec.name}.{name}"
        for column in spec.columns:
            assert len(column.meaning) > 2, f"{spec.name}.{column.name}"
            assert spec.schema.field(column.name).metadata == {b"comment": column.meaning.encode()}


def test_the_tables_have_the_columns_of_the_design() -> None:
    assert TABLES["items"].names == (
        "item_id",
        "title",
        "description",
        "brand",
        "price",
        "currency",
        "category_id",
        "item_group_id",
        "photo_url",
        "in_stock",
        "attributes",
        "updated_at",
        "source_updated_at",
    )
    assert TABLES["photos"].names == (
        "item_id",
        "url",
        "status",
        "bytes",
        "width",
        "height",
        "sha256",
        "phash",
        "fetched_at",
    )
    assert TABLES["photos"].key == ("item_id", "url")
    assert {"interaction_id", "user_id", "item_id", "kind", "value", "time", "part"} == set(
        TABLES["interactions"].names
    )
    assert TABLES["embeddings"].schema.field("embedding").type == pa.list_(pa.float32())
    assert {"what", "file", "line", "reason", "row"} < set(TABLES["refused"].names)


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(KeyError, match=r"users has no column 'colour'; it has user_id, attributes"):
        TABLES["users"].column("colour")
