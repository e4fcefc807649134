"""Splits: by a stable hash of the group, or as published."""

import json

import numpy as np
import pyarrow as pa
import pytest

from etalage.config import SplitConfig
from etalage.errors import ConfigError
from etalage.features.split import assign


def items(count: int, said: dict[int, str] | None = None) -> pa.Table:
    attributes = [json.dumps({"part": (said or {})[n]}) if n in (said or {}) else None for n in range(count)]
    return pa.table(
        {
            "item_id": [f"i{n}" for n in range(count)],
            "brand": [f"b{n % 7}" for n in range(count)],
            "attributes": pa.array(attributes, pa.string()),
        }
    )


def test_shares_are_as_asked() -> None:
    parts = assign(items(5000), SplitConfig(validation=0.2, test=0.1))
    assert abs((parts == "validation").mean() - 0.2) < 0.02
    assert abs((parts == "test").mean() - 0.1) < 0.02


def test_an_item_keeps_its_part_when_the_catalogue_grows() -> None:
    small, large = assign(items(100), SplitConfig()), assign(items(900), SplitConfig())
    assert np.array_equal(small, large[:100])
    assert len(set(small)) == 3


def test_a_group_falls_together() -> None:
    table = items(400)
    parts = assign(table, SplitConfig(group="brand", validation=0.3, test=0.3))
    by_brand: dict[str, set[str]] = {}
    for brand, part in zip(table["brand"].to_pylist(), parts, strict=True):
        by_brand.setdefault(brand, set()).add(part)
    assert all(len(found) == 1 for found in by_brand.values())


def test_published_parts_are_kept_and_validation_comes_out_of_train_alone() -> None:
    said = {n: "test" if n % 4 == 0 else "train" for n in range(2000)}
    parts = assign(items(2000, said), SplitConfig(published="part", validation=0.1, test=0.5))
    for n, part in enumerate(parts):
        assert (part == "test") == (n % 4 == 0)
    assert 0.05 < (parts == "validation").mean() < 0.1


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(ConfigError, match=r"i1 says 'exam'"):
        assign(items(3, {1: "exam"}), SplitConfig(published="part"))


def test_an_unknown_group_is_named() -> None:
    with pytest.raises(ConfigError, match="colour"):
        assign(items(3), SplitConfig(group="colour"))
