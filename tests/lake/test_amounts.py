"""Prices and numbers as shops write them."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etalage.lake.amounts import Amount, Mark, currency_code, proven_mark, read_amount


@pytest.mark.parametrize(
    ("written", "value", "currency"),
    [
        ("29.95 EUR", 29.95, "EUR"),
        ("1,249.00 EUR", 1249.0, "EUR"),
        ("€ 1.249,00", 1249.0, "EUR"),
        ("1.249,00€", 1249.0, "EUR"),
        ("USD 5", 5.0, "USD"),
        ("usd5.50", 5.5, "USD"),
        ("US$ 12", 12.0, "USD"),
        ("1\u00a0249,00 kr", 1249.0, None),
        ("1 249 000 CZK", 1249000.0, "CZK"),
        ("CHF 1'249.–", 1249.0, "CHF"),
        ("5,-", 5.0, None),
        ("$5", 5.0, None),
        ("£0.125", 0.125, "GBP"),
        ("12,50", 12.5, None),
        ("12,5", 12.5, None),
        ("0,125", 0.125, None),
        ("1249,125", 1249.125, None),
        ("1.234.567", 1234567.0, None),
        ("1,234,567.89", 1234567.89, None),
        ("₹ 1,24,900.00", 124900.0, "INR"),
        ("-3e2", -300.0, None),
        ("-5 EUR", -5.0, "EUR"),
        ("€-5", -5.0, "EUR"),
        (" 7 ", 7.0, None),
        ("Rs. 499", 499.0, None),
        ("Rs.499", 499.0, None),
        ("kr.1.249,50", 1249.5, None),
        ("Fr.12.50", 12.5, "CHF"),
        ("EUR. 5", 5.0, "EUR"),
        ("'12.50", 12.5, None),
        ('="12.50"', 12.5, None),
        (".5", 0.5, None),
        ("150.000 VND", 150000.0, "VND"),
        ("1,299 JPY", 1299.0, "JPY"),
        ("Rp 150.000", 150000.0, "IDR"),
        ("12.5 HUF", 12.5, "HUF"),
        (3, 3.0, None),
        (1.249, 1.249, None),
        (Decimal("2.50"), 2.5, None),
    ],
)
def test_an_amount_is_read_with_its_currency(written: Any, value: float, currency: str | None) -> None:
    assert read_amount(written) == Amount(value, currency)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("on request", "is not a number"),
        ("12 50", "is not a number"),
        ("1,23,4", "is not a number"),
        ("1.2.3", "is not a number"),
        ("29.95 EUR / kg", "is not a number"),
        ("29.95 XYZ", "is not a number"),
        ("EUR 5 USD", "two currencies"),
        ("10 - 20 EUR", "is not a number"),
        ("nan", "not a finite number"),
        ("1e999", "not a finite number"),
        ("1_000", "is not a number"),
        (True, "true/false"),
        ([1], "a list"),
        ("1.249", "may be 1.249 or 1249; say which mark is the decimal one"),
        ("1,249 EUR", "may be 1.249 or 1249"),
    ],
)
def test_what_is_no_amount_or_may_be_two_says_so(written: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_amount(written)


def test_the_setting_decides_what_a_text_does_not_tell() -> None:
    assert read_amount("1.249", decimal=",") == read_amount("1,249", decimal=".") == Amount(1249.0)
    assert read_amount("1.249", decimal=".") == read_amount("1,249", decimal=",") == Amount(1.249)
    assert read_amount("1.249", proven=",") == Amount(1249.0)
    assert read_amount("1.249 JPY", proven=".") == Amount(1249.0, "JPY")
    assert read_amount("1.249 JPY", decimal=".") == Amount(1.249, "JPY"), "what is said counts"
    assert read_amount("12.5", proven=",") == Amount(12.5), "a text that tells is read as it is"
    with pytest.raises(ValueError, match="with decimal = ','"):
        read_amount("12.5", decimal=",")


def test_a_text_proves_its_decimal_mark_or_none() -> None:
    assert [proven_mark(t) for t in ("29,95", "1.249,00 €", "1.234.567", "9.9", "1,249.00")] == [
        *",,,",
        *"..",
    ]
    assert [proven_mark(t) for t in ("1.249", "1,249", "12", "a,b", None, 5)] == [None] * 6


def test_signs_and_codes_are_currencies() -> None:
    assert [currency_code(t) for t in ("eur", "€", "zł", "CHF", "$", "XYZ", "")] == [
        "EUR", "EUR", "PLN", "CHF", None, None, None,
    ]  # fmt: skip


@given(
    cents=st.integers(0, 10**9),
    mark=st.sampled_from([".", ","]),
    grouped=st.booleans(),
    currency=st.sampled_from(["", "EUR", "€"]),
    before=st.booleans(),
)
def test_every_price_with_cents_is_read_as_it_was_written(
    cents: int, mark: Mark, grouped: bool, currency: str, before: bool
) -> None:
    written = f"{cents // 100:,}.{cents % 100:02d}" if grouped else f"{cents // 100}.{cents % 100:02d}"
    if mark == ",":
        written = written.translate(str.maketrans(".,", ",."))
    text = f"{currency} {written}" if before else f"{written} {currency}"
    assert read_amount(text) == Amount(cents / 100, "EUR" if currency else None)
    assert proven_mark(text) == mark


@given(
    st.one_of(st.text(max_size=80), st.floats(), st.integers(), st.text("0123456789.,' €-eE", max_size=20))
)
def test_anything_at_all_is_an_amount_nothing_or_a_reason(written: Any) -> None:
    try:
        amount = read_amount(written)
    except ValueError as error:
        str(error).encode()
    else:
        assert amount is None or abs(amount.value) < float("inf")
    proven_mark(written)
