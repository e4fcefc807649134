"""Request bodies are JSON as the standard has it, or refused with the field's name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.errors import RequestError
from etalage.serve.strict_json import MAX_DEPTH, MAX_VALUES, deep_path, parse

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(TREES)
def test_whatever_is_json_is_read_as_python_reads_it(tree: Any) -> None:
    text = json.dumps(tree, ensure_ascii=False)
    assert parse(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"k": NaN}', r"^k: NaN is not a JSON number"),
        (b'{"filters": {"min_price": -Infinity}}', r"^filters\.min_price: -Infinity"),
        (b'{"filters": {"max_price": 1e999}}', r"^filters\.max_price: 1e999 is too large"),
        (b'{"photos": ["a", NaN]}', r"^photos\.1: NaN"),
        (b'{"k": 1, "k": 2}', r"^k: given twice"),
        (b'{"filters": {"category": "a", "k": true, "category": "a"}}', r"^filters\.category: given twice"),
        (b'{"k": 1, "\\u006b": 2}', r"^k: given twice"),
        (b'{"item_id": "\\ud800"}', r"^item_id: half of a surrogate pair"),
        (b'{"\\udfff": 1}', r"half of a surrogate pair"),
        (b'{"item_id": "\xff"}', r"^body: not UTF-8 at byte 13"),
        (b'{"k": 1} x', r"^body: not JSON: Extra data at line 1, column 10"),
        (b"{'k': 1}", r"^body: not JSON"),
        (b"", r"^body: not JSON"),
        (b'\xef\xbb\xbf{"k": 1}', r"^body: not JSON"),
        (b'{"k": ' + b"9" * 5000 + b"}", r"^k: a number of 5000 digits"),
        (b'{"item_id": "a\nb"}', r"^body: not JSON: Invalid control character"),
    ],
)
def test_f28_what_is_no_json_is_refused_with_the_field(body: bytes, says: str) -> None:
    with pytest.raises(RequestError, match=says):
        parse(body)


@given(
    st.text(min_size=1, max_size=8),
    st.lists(st.none() | st.text(max_size=5), min_size=MAX_DEPTH, max_size=60),
    st.lists(TREES, max_size=3),
)
def test_f28_deep_json_is_refused_with_the_fields_name(
    field: str, steps: list[str | None], before: list[Any]
) -> None:
    """`steps` nest a value: an object by a key, or a list."""
    deep: Any = 1
    for step in steps:
        deep = [*before[:1], deep] if step is None else {step: deep}
    body = json.dumps({"a": before, field: deep})
    if json.loads(body) != {"a": before, field: deep}:
        return  # field is "a"; json.dumps then writes one of the two
    with pytest.raises(RequestError, match="nested deeper than 32 levels") as caught:
        parse(body.encode())
    assert str(caught.value).startswith(field)
    # The flat scan, for what cannot be parsed at all, finds the same path.
    scanned, raw = deep_path(body), json.dumps(field)[1:-1]
    assert scanned[0] == raw and len(scanned) == MAX_DEPTH


@pytest.mark.parametrize("open_, shut", [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("depth", [33, 1_500, 100_000])
def test_f28_no_depth_reaches_the_parsers_stack(open_: bytes, shut: bytes, depth: int) -> None:
    body = b'{"filters": ' + open_ * depth + b"1" + shut * depth + b"}"
    with pytest.raises(RequestError, match=r"^filters\..*nested deeper than 32"):
        parse(body)


def test_32_levels_are_still_read() -> None:
    assert parse(b"[" * 32 + b"]" * 32) is not None


def test_more_values_than_a_request_can_have_are_refused_unparsed() -> None:
    with pytest.raises(RequestError, match=f"more than {MAX_VALUES} values"):
        parse(b'{"photos": [' + b"1," * 20_000 + b"1]}")
