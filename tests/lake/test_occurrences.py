"""Equal rows are numbered in the order in which they come, however they are cut into chunks."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from etalage.lake.occurrences import Occurrences

ROWS = st.lists(st.integers(0, 6), max_size=60)


@given(ROWS, st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_each_row_is_numbered_by_the_equal_ones_before_it(rows: list[int], sizes: list[int]) -> None:
    digests = [bytes([9 * row]) * 16 for row in rows]
    seen: Counter[int] = Counter()
    expected = []
    for row in rows:
        expected.append(seen[row])
        seen[row] += 1
    occurrences, found = Occurrences(), []
    while digests:
        size = sizes[len(found) % len(sizes)]
        found += occurrences.number(digests[:size])
        digests = digests[size:]
    assert found == expected


def test_no_rows_are_no_numbers() -> None:
    assert Occurrences().number([]) == []
