"""Times on the wire."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.serve.moments import read_event_moment, read_moment

MOMENT = datetime(2026, 3, 29, 1, 23, 42, tzinfo=UTC)
MICROS = int(MOMENT.timestamp()) * 1_000_000


@pytest.mark.parametrize(
    "said",
    [MICROS // 10**6, MICROS // 10**3, MICROS, MICROS * 1000, str(MICROS // 1000), MICROS / 1e6,
     "2026-03-29T01:23:42Z", "2026-03-29T03:23:42+02:00", "2026-03-29 01:23:42 UTC", "2026-03-29T01:23:42"],
)  # fmt: skip
def test_seconds_milliseconds_microseconds_nanoseconds_and_iso_are_one_moment(said: Any) -> None:
    assert read_moment(said) == read_event_moment(said) == MICROS


@pytest.mark.parametrize("said", [0, 1, 20, "1970-01-01T00:00:00Z", "1969-12-31", -5, 5 * 10**9, "5"])
def test_a_time_before_1995_is_refused_and_left_to_the_store_for_an_event(said: Any) -> None:
    with pytest.raises(ValueError, match=r"1995|future"):
        read_moment(said)
    assert read_event_moment(said) < 788_918_400_000_000


def test_a_time_to_come_is_refused_and_left_to_the_store_for_an_event() -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for said in (tomorrow.isoformat(), tomorrow.timestamp(), int(tomorrow.timestamp() * 1000)):
        with pytest.raises(ValueError, match="future"):
            read_moment(said)
        assert abs(read_event_moment(said) - tomorrow.timestamp() * 1e6) < 2000


@pytest.mark.parametrize("said", ["noon", "", True, [], {}, float("nan"), 1e300, "03/04/2025"])
def test_what_is_no_time_is_none(said: Any) -> None:
    for read in (read_moment, read_event_moment):
        with pytest.raises(ValueError):
            read(said)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.datetimes().map(str)))
def test_anything_at_all_is_whole_microseconds_or_a_reason(said: Any) -> None:
    for read in (read_moment, read_event_moment):
        try:
            found = read(said)
        except ValueError as error:
            assert str(error)
        else:
            assert isinstance(found, int) and abs(found) <= 2**53
