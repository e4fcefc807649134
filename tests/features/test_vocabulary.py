"""ids ↔ rows: nothing collides, the first and the last id are like any other, unknown is row 0."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.errors import ExportDamaged
from etalage.features.vocabulary import Vocabulary

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(deadline=None, max_examples=50)
@given(st.lists(TEXTS, unique=True, max_size=40))
def test_every_id_has_a_row_of_its_own_and_back(ids: list[str]) -> None:
    vocabulary = Vocabulary(ids)
    rows = vocabulary.rows(ids)
    assert rows.tolist() == list(range(1, len(ids) + 1)) == [vocabulary.row(name) for name in ids]
    assert [vocabulary.id(row) for row in rows.tolist()] == ids
    assert len(vocabulary) == len(ids) + 1


def test_ids_called_zero_and_the_last_one_are_ordinary() -> None:
    vocabulary = Vocabulary.fit(["9", "0", "10", "0"])
    assert vocabulary.ids.to_pylist() == ["0", "10", "9"]
    assert vocabulary.rows(["0", "9", "10"]).tolist() == [1, 3, 2]
    assert vocabulary.id(1) == "0" and vocabulary.id(3) == "9"


def test_unknown_ids_and_nulls_have_row_0() -> None:
    vocabulary = Vocabulary(["b", "a"])
    assert vocabulary.rows(["c", None, "a", ""]).tolist() == [0, 0, 2, 0]
    assert vocabulary.row(None) == vocabulary.row("A") == 0
    assert Vocabulary([]).rows(["a"]).tolist() == [0]
    assert vocabulary.rows([]).tolist() == []


@pytest.mark.parametrize("row", [0, -1, 3])
def test_a_row_without_an_id_is_refused(row: int) -> None:
    with pytest.raises(IndexError, match=str(row)):
        Vocabulary(["b", "a"]).id(row)


def test_an_id_given_twice_or_null_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Vocabulary(["a", "b", "a"])
    with pytest.raises(ValueError, match="null"):
        Vocabulary(["a", None])


def test_rare_ids_are_left_out_and_the_rest_is_sorted_by_bytes() -> None:
    told = ["é", "z", "b", "z", "é", "Z", None, "Z", "Z"]
    assert Vocabulary.fit(told, min_count=2).ids.to_pylist() == ["Z", "z", "é"]
    assert Vocabulary.fit(told, min_count=3).ids.to_pylist() == ["Z"]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_every_kind_of_arrow_text_is_taken(kind: pa.DataType) -> None:
    ids = pa.array(["b", "a", "c"]).cast(kind)
    vocabulary = Vocabulary(pa.chunked_array([ids]))
    assert vocabulary.rows(ids).tolist() == [1, 2, 3]
    assert vocabulary.rows(pa.chunked_array([], pa.string())).tolist() == []
    assert vocabulary.rows(pa.chunked_array([["c"], ["x", "b"]])).tolist() == [3, 0, 1]


def test_what_looks_alike_is_told_apart() -> None:
    ids = ["é", "e\u0301", "a", " a", "a\u200f", "A"]
    assert Vocabulary(ids).rows(ids).tolist() == [1, 2, 3, 4, 5, 6]


@settings(deadline=None, max_examples=50)
@given(ids=st.lists(TEXTS, unique=True, max_size=20))
def test_saved_and_opened_it_is_the_same(ids: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("v") / "items.arrow"
    Vocabulary(ids).save(file)
    assert Vocabulary.open(file).ids.to_pylist() == ids


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "items.arrow"
    Vocabulary(["a", "b"]).save(file)
    whole = file.read_bytes()
    for broken in (b"", b"no arrow", whole[: len(whole) // 2]):
        file.write_bytes(broken)
        with pytest.raises(ExportDamaged, match=r"items\.arrow"):
            Vocabulary.open(file)
    file.unlink()
    with pytest.raises(ExportDamaged, match=r"items\.arrow"):
        Vocabulary.open(file)
