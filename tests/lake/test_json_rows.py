"""JSON in files: a line each, over several lines, one list; what is broken costs itself."""

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.lake.json_rows import Walk
from etalage.lake.raw import LONGEST_VALUE
from etalage.lake.readers import open_table
from etalage.lake.text_files import AS_FOUND, FileStyle
from tests.lake.raw_files import ANY_FIXTURE, Rows, read_as


def read(
    folder: Path, content: str | bytes, style: FileStyle = AS_FOUND
) -> tuple[Rows, list[tuple[int, str]], list[str]]:
    """([(line, row without nulls)], [(line, reason)], notes) of `content` as a file."""
    taken, refused, notes = read_as("jsonl", folder, content, style)
    bare = [(line, {k: v for k, v in row.items() if v is not None}) for line, row in taken]
    return bare, refused, notes


values = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab\"\\{}[],", max_size=4), inner),
    max_leaves=8,
)  # fmt: skip
objects = st.lists(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), values, min_size=1, max_size=3), max_size=8
)


@ANY_FIXTURE
@given(rows=objects, indent=st.sampled_from([None, 0, 2]), ascii=st.booleans(), marked=st.booleans())
def test_a_list_is_read_as_the_same_objects_a_line_each(
    tmp_path: Path, rows: list[dict[str, Any]], indent: int | None, ascii: bool, marked: bool
) -> None:
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii)
    taken, refused, notes = read(tmp_path, text.encode("utf-8-sig" if marked else "utf-8"))
    lines = "".join(json.dumps(row, ensure_ascii=ascii) + "\n" for row in rows)
    assert ([row for _, row in taken], refused) == ([row for _, row in read(tmp_path, lines)[0]], [])
    assert notes == ["the file is one list in JSON: a row for each of its objects"] * bool(rows)


@ANY_FIXTURE
@given(rows=objects, indent=st.sampled_from([None, 2]), inside=st.sampled_from([0, 1]),
       size=st.integers(1, 40))  # fmt: skip
def test_wherever_a_text_is_cut_into_pieces_its_objects_are_found(
    rows: list[dict[str, Any]], indent: int | None, inside: int, size: int
) -> None:
    texts = [json.dumps(row, indent=indent) for row in rows]
    text = f"[{', '.join(texts)}]" if inside else "\n".join(texts)
    assert [(piece, why) for _, piece, why in Walk(io.StringIO(text), inside, size).pieces()] == [
        (piece, None) for piece in texts
    ]


def test_objects_over_several_lines_are_rows(tmp_path: Path) -> None:
    taken, refused, notes = read(tmp_path, '{\n  "a": 1\n}\n{\n  "a": "}{"\n}\n')
    assert (taken, refused) == ([(1, {"a": 1}), (4, {"a": "}{"})], [])
    assert notes == ["objects of JSON over several lines: a row for each"]


def test_a_first_line_that_is_cut_off_costs_itself(tmp_path: Path) -> None:
    taken, refused, _ = read(tmp_path, '{"a": 1,\n{"a": 2}\n{"a": 3}\n')
    assert taken == [(2, {"a": 2}), (3, {"a": 3})]
    assert [line for line, _ in refused] == [1]


def test_what_is_broken_in_a_list_costs_itself(tmp_path: Path) -> None:
    text = '[\n{"a": 1},\n{"a": ,},\n"no object", 7,\n[{"a": 2}],\n{"a": 3}\n]\n'
    taken, refused, _ = read(tmp_path, text)
    assert taken == [(2, {"a": 1}), (6, {"a": 3})]
    assert [line for line, _ in refused] == [3, 3, 5] or [line for line, _ in refused] == [3, 4, 5]
    assert "not a JSON object but list" in refused[-1][1]


@pytest.mark.parametrize("end", ["", ",", ',\n{"a": 3, "b": "cut o'])
def test_a_list_that_was_cut_off_is_told(tmp_path: Path, end: str) -> None:
    taken, refused, _ = read(tmp_path, '[{"a": 1},\n{"a": 2}' + end)
    assert [row for _, row in taken] == [{"a": 1}, {"a": 2}]
    assert len(refused) == 1 and refused[0][0] == 2 + ("\n" in end)


def test_objects_with_a_comma_behind_them_or_as_python_writes_them_are_read_and_told(tmp_path: Path) -> None:
    taken, refused, notes = read(tmp_path, "{\"a\": 1},\n{'a': 'it\\'s', 'b': None, 'c': ['x']}\n")
    assert (taken, refused) == ([(1, {"a": 1}), (2, {"a": "it's", "c": ["x"]})], [])
    assert notes == [
        "1 × a comma behind the object: left out, such as line 1",
        "1 × an object as Python writes it, in single quotation marks: read so, such as line 2",
    ]


@pytest.mark.parametrize("line", ["{'a': open('x')}", "{'a': [" + "[" * 500 + "]" * 500 + "]}", "{'a'"])
def test_what_is_only_nearly_python_is_refused(tmp_path: Path, line: str) -> None:
    taken, refused, _ = read(tmp_path, f'{{"a": 1}}\n{line}\n')
    assert [row for _, row in taken][:1] == [{"a": 1}]
    assert len(taken) + len(refused) == 2


@pytest.mark.parametrize("said", ["utf-16", "cp1252"])
def test_a_list_is_of_the_encoding_that_its_mark_or_somebody_says(tmp_path: Path, said: str) -> None:
    content = '[{"a": "Café"}]'.encode(said)
    assert read(tmp_path, content, FileStyle(encoding=said))[0] == [(1, {"a": "Café"})]


def test_bytes_of_another_encoding_cost_their_object(tmp_path: Path) -> None:
    taken, refused, _ = read(tmp_path, b'[{"a": "caf\xe9"}, {"a": 2}]')
    assert taken == [(1, {"a": 2})]
    assert refused[0][1].startswith("not UTF-8")


def test_f65_an_object_without_end_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    with file.open("w") as text:
        text.write('[{"a": 1}, {"a": "')
        for _ in range(6):
            text.write('{}[]\\"' * (LONGEST_VALUE // 12))
        text.write('"}, {"a": 2}]')
    tracemalloc.start()
    chunks = list(open_table(file, "jsonl", 1000).chunks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [value for chunk in chunks for value in chunk.columns["a"]] == [1, 2]
    assert [r.reason for chunk in chunks for r in chunk.refused] == [f"longer than {LONGEST_VALUE:,} bytes"]
    assert peak < 5 * LONGEST_VALUE
