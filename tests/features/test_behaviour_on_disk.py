"""The shop's behaviour made in files, by blocks of shoppers, beside what is made of it in memory."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from etalage.config import BehaviourConfig, FunnelConfig
from etalage.errors import ConfigError, TooLittleData
from etalage.features.behaviour import PARTS, BehaviourSet
from etalage.features.behaviour_on_disk import behaviour_on_disk
from etalage.features.behaviour_set import behaviour_set
from tests.features.behaviour_tables import acts, catalogue


def on_disk(table: pa.Table, folder: Path, *given: Any, rows: int = 200, **more: Any) -> BehaviourSet:
    """rows: acts of a block; the table comes 97 rows at a time."""

    def read(columns: Sequence[str]) -> Iterable[pa.RecordBatch]:
        return table.select(list(columns)).to_batches(max_chunksize=97)

    folder.mkdir()
    return behaviour_on_disk(read, *given, folder, rows=rows, **more)


CASES: dict[str, dict[str, Any]] = {
    "time": {},
    "time, a part for rankers": {"rank": 0.1, "repeat": True},
    "leave one out": {"split": "leave_one_out", "rank": 0.2, "targets": ["purchase"]},
    "last n": {"split": "last_n", "last_n": 2},
    "random": {"split": "random", "rank": 0.1},
    "random acts": {"split": "random", "repeat": True},
    "few acts": {"min_user": 12, "min_item": 18},
    "no crawlers": {"max_user": 30},
    "by weights and stars": {"weights": {"view": 1, "Rating": 2}, "positive_from": 4},
    "nothing has": {"has": ["wondered"]},
}


def same(ours: BehaviourSet, theirs: BehaviourSet) -> None:
    assert ours.fingerprint() == theirs.fingerprint()
    assert ours.facts == theirs.facts
    for column in ("users", "items", "kinds", "values", "times", "labels"):
        assert np.array_equal(getattr(ours.held, column), getattr(theirs.held, column), equal_nan=True), (
            column
        )
    told = {f.name for f in fields(BehaviourSet)}
    told -= {"users", "items", "parts", "held", "item_features", "user_features", "facts"}
    told -= {"item_encoder", "user_encoder"}
    for name in told:
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("item_encoder", "user_encoder"):
        encoders = [getattr(data, name) for data in (ours, theirs)]
        told_of = [None if one is None else one.to_json() for one in encoders]
        assert told_of[0] == told_of[1], name


@pytest.mark.parametrize("title", CASES)
@pytest.mark.parametrize("known", [True, False], ids=["a catalogue", "no catalogue"])
def test_in_files_it_is_what_it_is_in_memory(title: str, known: bool, tmp_path: Path) -> None:
    config, funnel = BehaviourConfig(**CASES[title]), FunnelConfig()
    given = (catalogue() if known else None, None, config)
    theirs = behaviour_set(acts(), *given, funnel=funnel)
    ours = on_disk(acts(), tmp_path / "blocks", *given, funnel=funnel)
    assert len(theirs.part("train")) > 100
    same(ours, theirs)


@pytest.mark.parametrize("split", ["time", "published"])
def test_all_of_it_to_learn_from_is_what_it_is_in_memory(split: str, tmp_path: Path) -> None:
    given = (catalogue(), None, BehaviourConfig(split=split))
    theirs = behaviour_set(acts(), *given, whole=True)
    ours = on_disk(acts(), tmp_path / "blocks", *given, whole=True)
    assert [len(ours.part(name)) for name in PARTS] == [len(theirs.part("train")), 0, 0, 0]
    same(ours, theirs)
    assert all(isinstance(ours.part(name).users, np.memmap) for name in PARTS if len(ours.part(name)))
    left = {file.name for file in (tmp_path / "blocks").iterdir()}
    assert all(name.split("-")[0] in (*PARTS, "held") for name in left)


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("validated", [True, False])
def test_a_published_split_too(timed: bool, validated: bool, tmp_path: Path) -> None:
    table = acts(timed=timed, part=True)
    if not validated:
        table = table.filter(pa.array([part != "validation" for part in table["part"].to_pylist()]))
    config = BehaviourConfig(split="published", rank=0.1)
    theirs = behaviour_set(table, None, None, config, more_items=["z"])
    assert len(theirs.part("validation"))
    same(on_disk(table, tmp_path / "blocks", None, None, config, more_items=["z"]), theirs)


@pytest.mark.parametrize("rows", [1, 10**6])
def test_the_size_of_blocks_changes_nothing(rows: int, tmp_path: Path) -> None:
    config = BehaviourConfig(min_user=3)
    same(
        on_disk(acts(), tmp_path / "blocks", catalogue(), None, config, rows=rows),
        behaviour_set(acts(), catalogue(), None, config),
    )


def test_what_cannot_be_learned_from_is_refused_in_the_same_words(tmp_path: Path) -> None:
    for number, (table, settings, error) in enumerate(
        [
            (acts().slice(0, 0), {}, TooLittleData),
            (acts(timed=False), {}, TooLittleData),
            (acts(), {"min_user": 10_000}, TooLittleData),
            (acts(), {"targets": ["purchas"]}, ConfigError),
            (acts(), {"split": "published"}, ConfigError),
        ]
    ):
        config = BehaviourConfig(**settings)
        with pytest.raises(error) as theirs:
            behaviour_set(table, None, None, config)
        with pytest.raises(error) as ours:
            on_disk(table, tmp_path / str(number), None, None, config)
        assert str(ours.value) == str(theirs.value)
