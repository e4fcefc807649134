"""Times as people and programs write them."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.lake.instants import EARLIEST, TimeStyle, read_instant
from etalage.lake.written_times import proven_order

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
NINE = datetime(2024, 3, 10, 9, tzinfo=UTC)
MIDNIGHT = datetime(2024, 3, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (20240310, MIDNIGHT),
        (20240310.0, MIDNIGHT),
        ("20240310", MIDNIGHT),
        ("20240310.0", MIDNIGHT),
        ("2024031009", NINE),
        ("202403100900", NINE),
        (20240310090000, NINE),
        ("45361.375", NINE),
        (Decimal("45361.375"), NINE),
        (45361, MIDNIGHT),
        ("2024-03-10 09:00:00 UTC", NINE),
        ("2024-03-10 09:00:00 gmt", NINE),
        ("2024-03-10 09:00:00 +0000", NINE),
        ("2024-03-10T10:00:00+01:00", NINE),
        ("2024-03-10", MIDNIGHT),
        (date(2024, 3, 10), MIDNIGHT),
        (datetime(2024, 3, 10, 9), NINE),
        ("2024-03-10 09:00:00 +0000 UTC", NINE),
        ("2024-03-10 10:00:00 +0100 CET", NINE),
        ("2024-03-10 10:00 GMT+1", NINE),
        ("Sun Mar 10 09:00:00 UTC 2024", NINE),
        ("Sun Mar 10 09:00:00 +0000 2024", NINE),
        ("2024-03-10 09.00.00", NINE),
        ("2024-03-10-09.00.00.000000", NINE),
        ("9:00, 10.03.2024", NINE),
        ("10. März 2024", MIDNIGHT),
        ("dimanche 10 mars 2024 09:00", NINE),
        ("10 de marzo de 2024", MIDNIGHT),
        ("10. mars 2024", MIDNIGHT),
        ("2024年3月10日 09:00", NINE),
        ("'2024-03-10", MIDNIGHT),
        ('="20240310"', MIDNIGHT),
        ("'1710061200", NINE),
        ("1.7100612E+9", NINE),
        ("1710061200000.0", NINE),
        ("/Date(1710061200000)/", NINE),
        ({"$date": "2024-03-10T09:00:00Z"}, NINE),
        ({"$date": {"$numberLong": "1710061200000"}}, NINE),
        ({"_seconds": 1710061200, "_nanoseconds": 5}, NINE),
    ],
)
def test_calendar_numbers_spreadsheet_days_and_zone_words_are_what_they_are(
    written: Any, meant: datetime
) -> None:
    assert read_instant(written, NOW) == meant


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
@given(seconds=st.integers(int(EARLIEST.timestamp()), int(NOW.timestamp())))
def test_every_plausible_moment_is_read_in_whichever_unit_since_1970(unit: int, seconds: int) -> None:
    meant = datetime.fromtimestamp(seconds, UTC)
    assert read_instant(seconds * unit, NOW) == meant
    assert read_instant(str(seconds * unit), NOW) == meant


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (5, "falls before 1995"),
        (0, "falls before 1995"),
        ("1970-01-01T00:00:00Z", "before 1995"),
        (20241341, "falls before 1995"),
        (4_000_000_000, "future"),
        ("2027-01-01", "future"),
        ("yesterday", "not a time"),
        ("2024-03-10T09:00:00+01:00 UTC", "not a time"),
        (True, "not a time"),
        ({"date": "2024-03-10", "x": 1}, "not a time"),
        ({}, "not a time"),
        ("10 marraskuu 2024", "not a time"),
        ("03/04/2025", "may be two dates"),
        (float("nan"), "not a time"),
        (1e300, "not a time"),
    ],
)
def test_what_no_shop_can_mean_is_refused_with_the_reason(written: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_instant(written, NOW)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.decimals()))
def test_anything_at_all_gives_a_plausible_moment_or_a_reason(written: Any) -> None:
    try:
        when = read_instant(written, NOW)
    except ValueError as error:
        assert str(error)
    else:
        assert EARLIEST <= when <= NOW


def test_dates_that_may_be_two_are_read_as_others_show_and_only_those() -> None:
    assert [proven_order(one) for one in ("25/03/2024", "3/25/24", "25-03-2024 10:00")] == [
        "dmy",
        "mdy",
        "dmy",
    ]
    assert [proven_order(one) for one in ("2024-03-10", "10.03.2024", "", None, 20240310)] == [None] * 5
    with pytest.raises(ValueError, match="may be two dates"):
        proven_order("03/04/2025")
    american = TimeStyle(proven="mdy")
    assert read_instant("03/10/2024", NOW, american) == MIDNIGHT
    assert read_instant("10.03.2024", NOW, american) == MIDNIGHT
    assert read_instant("25/03/2024", NOW, american) == datetime(2024, 3, 25, tzinfo=UTC)
