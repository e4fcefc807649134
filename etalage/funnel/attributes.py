"""Looks up which items have an attribute, instead of searching for it.

`attributes` is one JSON object of strings per item. Searching and parsing it for each value of a filter took
seconds for one small request (F61). Here every (attribute, value) pair of all items is laid out once, when a
bundle is opened; a filter then costs only as much as the items that it finds.

    N items   E pairs of all items   P distinct pairs
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_TEXT = r'"(?:[^"\\]|\\["\\nrtbf]|\\u00[01][0-9a-f])*"'
# As json.dumps(…, ensure_ascii=False) writes it: in it `", "` stands between pairs, for a quotation mark
# inside a text has a backslash before it; and it is a text of a comma and a blank, which the second pattern
# excludes.
_PLAIN = rf"^\{{{_TEXT}: {_TEXT}(?:, {_TEXT}: {_TEXT})*\}}$"
_COMMA_AND_BLANK = r'[{ ]", "'
_AT_ONCE = 65_536
_CODED = pa.dictionary(pa.int32(), pa.large_string())


class AttributeIndex:
    """Maps an attribute and its value to the rows that have it."""

    def __init__(self, column: pa.Array) -> None:
        """`column`: (N,) JSON objects, or null."""
        self._count = len(column)
        texts: list[pa.Array] = []
        owners: list[np.ndarray] = []
        for start in range(0, self._count, _AT_ONCE):
            some = column.slice(start, _AT_ONCE)
            text, owner = _pairs(some)
            texts.append(text)
            owners.append(owner + start)
        coded = pa.chunked_array(texts, _CODED).unify_dictionaries()
        chunks = [np.asarray(chunk.indices.to_numpy(zero_copy_only=False)) for chunk in coded.chunks]
        codes = np.concatenate([*chunks, np.zeros(0, np.int32)])
        order = np.argsort(codes, kind="stable")
        self._rows = np.concatenate([*owners, np.zeros(0, np.int64)])[order].astype(np.int32)
        """(E,) row of each pair, by pair and row."""
        self._distinct = coded.chunk(0).dictionary if coded.num_chunks else pa.array([], pa.large_string())
        """(P,) text of each pair, as `_written` has it."""
        self._starts = np.searchsorted(codes[order], np.arange(len(self._distinct) + 1))
        self._sorted = np.asarray(pc.sort_indices(self._distinct.cast(pa.large_binary())))
        """(P,) places of the pairs in the order of their UTF-8 bytes."""

    def mask(self, key: str, value: str) -> np.ndarray:
        """(N,) bool: the items that have exactly this."""
        found = np.zeros(self._count, bool)
        place = self._place(_written(key, value))
        if place is not None:
            found[self._rows[self._starts[place] : self._starts[place + 1]]] = True
        return found

    def _place(self, text: str) -> int | None:
        """The position of a pair among the distinct ones, by binary search."""
        wanted = text.encode("utf-8", "surrogatepass")
        low, high = 0, len(self._sorted)
        while low < high:
            middle = (low + high) // 2
            place = int(self._sorted[middle])
            there = self._distinct[place].as_py().encode("utf-8")
            if there == wanted:
                return place
            if there < wanted:
                low = middle + 1
            else:
                high = middle
        return None


def _pairs(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The (E,) text of each pair of these items, dictionary-encoded, and the (E,) item of each."""
    column = column.cast(pa.large_string())
    plain = pc.and_not(
        pc.fill_null(pc.match_substring_regex(column, _PLAIN), False),
        pc.fill_null(pc.match_substring_regex(column, _COMMA_AND_BLANK), False),
    )
    rows = np.flatnonzero(plain.to_numpy(zero_copy_only=False))
    lists = pc.split_pattern(pc.utf8_slice_codeunits(column.take(pa.array(rows)), 2, -2), '", "')
    owners = np.repeat(rows, pc.list_value_length(lists).to_numpy(zero_copy_only=False))
    others, theirs = _others(column, ~np.isin(np.arange(len(column)), rows))
    texts = pa.chunked_array([lists.flatten(), others], pa.large_string()).combine_chunks()
    return texts.dictionary_encode(), np.concatenate([owners, theirs])


def _others(column: pa.Array, asked: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """The same for JSON in any style of writing."""
    texts: list[str] = []
    owners: list[int] = []
    for row in np.flatnonzero(asked & pc.is_valid(column).to_numpy(zero_copy_only=False)):
        try:
            found = json.loads(column[int(row)].as_py())
        except ValueError:
            continue
        for key, value in found.items() if isinstance(found, dict) else ():
            if isinstance(value, str):
                texts.append(_written(key, value))
                owners.append(int(row))
    return pa.array(texts, pa.large_string()), np.array(owners, np.int64)


def _written(key: str, value: str) -> str:
    """A pair as an object's JSON has it, without the quotation marks at both ends: `key": "value`."""
    return f"{json.dumps(key, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False)}"[1:-1]
