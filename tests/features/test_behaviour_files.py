"""A set of behaviour on disk is the same set, and nobody holds a copy of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from etalage.errors import TableDamaged
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.behaviour_files import DESCRIPTION, open_mapped, save
from etalage.features.encoder import Encoder
from tests.behaviours import behaviour
from tests.shops import item_row, rows_of


def whole() -> BehaviourSet:
    """With everything that a set can have."""
    table = rows_of("items", [item_row(n, brand="a/b") for n in range(4)])
    return replace(
        behaviour(),
        item_encoder=Encoder.fit(table, min_count=1),
        negatives={"test": np.array([[1, 2], [3, 0]])},
        own_split=False,
        facts={"stars": {"rating": (1.0, 5.0)}, "split": "time"},
        targets=(2,),
        weights=(1.0, 0.5, 3.0),
        off_slate=(2,),
        opinions=(2,),
        held=Interactions.sorted(np.array([3]), np.array([4])),
        history=50,
    ).with_parts(rank=Interactions.none())


def test_what_is_opened_is_what_was_saved_and_is_mapped(tmp_path: Path) -> None:
    data = whole()
    save(data, tmp_path / "set")
    found = open_mapped(tmp_path / "set")
    assert found.fingerprint() == data.fingerprint()
    for name in ("kinds", "own_split", "targets", "weights", "off_slate", "opinions", "history"):
        assert getattr(found, name) == getattr(data, name), name
    assert found.facts["stars"] == {"rating": [1.0, 5.0]} and found.facts["split"] == "time"
    assert list(found.parts) == list(data.parts)
    for part in data.parts:
        for column in ("users", "items", "kinds", "values", "times", "labels"):
            np.testing.assert_array_equal(getattr(found.part(part), column), getattr(data.part(part), column))
    assert found.held.keys.tolist() == data.held.keys.tolist()
    assert found.users.ids.equals(data.users.ids) and found.items.ids.equals(data.items.ids)
    assert found.item_features.fingerprint() == data.item_features.fingerprint()
    assert found.item_features.sizes == data.item_features.sizes
    assert found.item_encoder is not None and data.item_encoder is not None
    assert found.item_encoder.to_json() == data.item_encoder.to_json() and found.user_encoder is None
    np.testing.assert_array_equal(found.negatives["test"], data.negatives["test"])
    assert isinstance(found.part("train").items, np.memmap)
    assert isinstance(found.item_features.dense["photo"], np.memmap)


@pytest.mark.parametrize("damage", ["gone", "torn", "other"])
def test_a_damaged_folder_is_refused_and_named(tmp_path: Path, damage: str) -> None:
    save(behaviour(), tmp_path)
    file = tmp_path / "0002.npy"
    if damage == "gone":
        file.unlink()
    elif damage == "torn":
        file.write_bytes(file.read_bytes()[:-40])
    else:
        (tmp_path / DESCRIPTION).write_text("[]")
    with pytest.raises(TableDamaged, match=str(tmp_path)):
        open_mapped(tmp_path)
