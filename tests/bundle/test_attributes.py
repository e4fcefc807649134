"""F61: attributes are looked up; the answer is what reading every item's JSON would give."""

import json
import math
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etalage.funnel import attributes
from etalage.funnel.attributes import AttributeIndex

TEXTS = st.sampled_from(
    ["", "a", "b", '"', '", "', '": "', "\\", '\\"', "\\\\", "{", '"}', "é", "e\u0301", "\n", "\x01", "\x1f",
     "\x7f", "\u2028", "😀", "/", " ", ", ", "a, b", "null"]
) | st.text(st.characters(codec="utf-8"), max_size=4)  # fmt: skip
PAIRS = st.dictionaries(TEXTS, TEXTS, max_size=4)
HOW: tuple[dict[str, Any], ...] = (
    {"ensure_ascii": False, "sort_keys": True},  # as our own tables have them
    {"ensure_ascii": True},
    {"separators": (",", ":"), "ensure_ascii": False},
    {"indent": 1},
)
ITEMS = st.lists(
    st.none()
    | st.tuples(PAIRS, st.sampled_from(HOW)).map(lambda given: json.dumps(given[0], **given[1]))
    | st.sampled_from(
        ["", "{}", "[]", "null", "7", '{"a": 1}', '{"a": "b", "b": null}', '{"a": ["b"]}', "{"]
    ),
    max_size=8,
)


def read(items: list[str | None], key: str, value: str) -> list[bool]:
    """The slow way."""
    found = []
    for written in items:
        try:
            read = json.loads(written or "null")
        except ValueError:
            read = None
        found.append(isinstance(read, dict) and read.get(key) == value)
    return found


@settings(max_examples=400, deadline=None)
@given(ITEMS, TEXTS, TEXTS)
@example(['{"a": "b\\", \\"c"}', '{"a": "b", "c": "d"}'], "c", "d")
@example(['{"a": "x\\\\", "b": "y"}'], "b", "y")
@example(['{"a": "b", "a": "c"}'], "a", "c")
@example(['{"": ", ", "0": ""}', '{", ": "a", "b": ", "}', '{"a": ": ", "b": "c "}'], "0", "")
def test_f61_an_attribute_is_found_exactly_where_reading_would_find_it(
    items: list[str | None], key: str, value: str
) -> None:
    index = AttributeIndex(pa.array(items, pa.string()))
    asked = {(key, value)}
    for written in items:
        try:
            pairs = json.loads(written or "null")
        except ValueError:
            continue
        asked |= (
            {(k, v) for k, v in pairs.items() if isinstance(v, str)} if isinstance(pairs, dict) else set()
        )
    for key, value in asked:
        assert index.mask(key, value).tolist() == read(items, key, value), (key, value)


def test_f61_items_of_several_blocks_are_found(monkeypatch: Any) -> None:
    monkeypatch.setattr(attributes, "_AT_ONCE", 7)
    items = [json.dumps({"n": str(n % 5), "one": str(n)}) for n in range(60)]
    index = AttributeIndex(pa.array(items, pa.large_string()))
    assert np.flatnonzero(index.mask("n", "3")).tolist() == list(range(3, 60, 5))
    assert np.flatnonzero(index.mask("one", "41")).tolist() == [41]
    assert not index.mask("one", "60").any() and not index.mask("two", "1").any()


def test_f61_a_lookup_takes_some_comparisons_however_many_values_there_are() -> None:
    """The cost, counted: not the seconds of a busy machine."""

    class Counted:
        def __init__(self, texts: Any) -> None:
            self.texts, self.reads = texts, 0

        def __getitem__(self, at: int) -> Any:
            self.reads += 1
            return self.texts[at]

    reads = {}
    for count in (1_000, 32_000):
        index = AttributeIndex(pa.array([json.dumps({"gtin": str(n)}) for n in range(count)]))
        counted = index._distinct = Counted(index._distinct)
        index.mask("gtin", "none"), index.mask("gtin", "17")
        reads[count] = counted.reads
        assert counted.reads <= 2 * (math.log2(count) + 1)
    assert reads[32_000] - reads[1_000] <= 2 * 6
