"""Whole columns become ours as their values would one by one."""

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from etalage.lake.casting import cast_column, identity, instant, number, text

MOMENTS = st.datetimes(
    datetime(1990, 1, 1), datetime(2040, 1, 1), timezones=st.none() | st.timezones(), allow_imaginary=False
)
VALUES = (
    st.sampled_from(["a", "", " ", "7", "2024-01-02", "1.5", "NaN"])
    | st.integers(-3, 2_000_000_000)
    | st.sampled_from([0.0, -0.0, 1.0, 2.5, float("nan"), float("inf")])
    | st.sampled_from([Decimal("1.0"), Decimal("1.00"), True, None])
    | MOMENTS
)
COLUMNS = (
    st.lists(VALUES, max_size=6)
    | st.lists(st.integers(-3, 3) | st.none(), max_size=6)
    | st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.5, float("nan")]), max_size=6)
    | st.lists(MOMENTS, max_size=3)
    | st.lists(st.text(max_size=2), max_size=6)
).map(lambda some: some * 3)


def one_by_one(values: list[Any], convert: Any) -> tuple[list[Any], dict[int, str]]:
    found: list[Any] = []
    reasons: dict[int, str] = {}
    for n, value in enumerate(values):
        try:
            found.append(convert(value))
        except ValueError as error:
            found.append(None)
            reasons[n] = str(error)
    return found, reasons


@given(COLUMNS, st.sampled_from([identity, text, number, instant(datetime(2026, 1, 1, tzinfo=UTC))]))
def test_a_column_becomes_what_its_values_become_one_by_one(values: list[Any], convert: Any) -> None:
    # repr: the sign of a zero counts, as interactions without an id are told apart by it.
    assert repr(cast_column(values, convert)) == repr(one_by_one(values, convert))


def test_the_hour_that_comes_twice_is_two_hours() -> None:
    first = datetime(2024, 10, 27, 2, 10, tzinfo=ZoneInfo("Europe/Berlin"))
    night = [first, first.replace(fold=1)] * 3
    read, _ = cast_column(night, instant(datetime(2026, 1, 1, tzinfo=UTC)))
    assert [one.hour for one in read[:2]] == [0, 1]


def test_equal_values_are_converted_once_unless_they_are_counted() -> None:
    seen: list[Any] = []

    def convert(value: Any) -> Any:
        seen.append(value)
        return value

    assert cast_column(["a", "b", "a", "a"] * 3, convert)[0] == ["a", "b", "a", "a"] * 3
    assert seen == ["a", "b"]
    seen.clear()
    cast_column(["a", "b", "a", "a"], convert, counts=True)
    assert seen == ["a", "b", "a", "a"]
    seen.clear()
    cast_column([1.5, 1.5, 1.5, 1.5], convert, counts=True)
    assert seen == [1.5]
    assert math.copysign(1, cast_column([0.0, 0.0, 0.0, -0.0], convert)[0][-1]) == -1
