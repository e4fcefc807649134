"""What somebody wrote as a price or a number → a float, and the currency that stands beside it.

    29.95 EUR   1,249.00 EUR   € 1.249,00   USD 5   1 249,00 kr   CHF 1'249.–   12,50   -3e2

Which of `.` and `,` is the decimal mark is told by the text itself, where it can be: by both of them, by a
number of digits that no thousands have, by marks that are repeated, by a currency that has no cents
(`150.000 VND`). `1.249` and `1,249` do not tell. They are read by the setting `decimal`, else by what the
other values of the column prove (`proven_mark`), else not at all.
"""

import math
import re
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from etalage.lake.shown import kind_of, shown
from etalage.lake.spreadsheets import bare

Mark = Literal[".", ","]
_CODES = """
AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF
CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD
HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL
LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR
PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP
TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWL
"""
CURRENCIES = frozenset(_CODES.split())
"""ISO 4217."""
_SIGNS = {
    "€": "EUR", "£": "GBP", "₹": "INR", "₺": "TRY", "₽": "RUB", "₴": "UAH", "₩": "KRW", "₪": "ILS", "₫":
    "VND", "₱": "PHP", "₦": "NGN", "₸": "KZT", "₾": "GEL", "฿": "THB", "zł": "PLN", "zl": "PLN", "kč":
    "CZK", "ft": "HUF", "lei": "RON", "лв": "BGN", "лв.": "BGN", "руб": "RUB", "руб.": "RUB", "円": "JPY",
    "元": "CNY", "fr.": "CHF", "sfr.": "CHF", "sfr": "CHF", "us$": "USD", "ca$": "CAD", "c$": "CAD", "au$":
    "AUD", "a$": "AUD", "nz$": "NZD", "hk$": "HKD", "s$": "SGD", "r$": "BRL", "mx$": "MXN", "euro": "EUR",
    "rur": "RUB", "rp": "IDR", "rp.": "IDR", "₡": "CRC", "₲": "PYG",
}  # fmt: skip
_SHARED = frozenset({"$", "¥", "￥", "kr", "kr.", "rs", "rs.", "fr"})
"""Signs of several currencies: the amount is read, which of them it is in stays unsaid."""
_WHOLE = frozenset("CLP COP HUF IDR IRR ISK JPY KRW PYG RWF UGX VND XAF XOF XPF".split())  # noqa: SIM905
"""Currencies in which nobody writes thousandths: three digits behind a mark are thousands."""
_LONGEST = 64
"""Characters of an amount with its currency."""
_SPACE = " \t\u00a0\u2007\u2009\u202f"
_AMOUNT = re.compile(
    rf"(?P<sign>[+\-−]?)(?P<before>(?:[^\d+\-−.,]|(?<=[^\W\d_])\.)*?)[{_SPACE}]*(?P<inner>[+\-−]?)"
    rf"(?P<digits>(?:(?<![^\W\d_])[.,])?\d(?:[\d.,'’{_SPACE}]*\d)?)(?P<dash>[.,](?:[\-–—]+)?)?(?P<after>\D*)"
)
_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")
_GROUPED = re.compile(rf"\d{{1,3}}(?:[{_SPACE}'’]\d{{3}})+")


class Amount(NamedTuple):
    """`currency`: an ISO 4217 code; None: none stands there, or a sign that several currencies share."""

    value: float
    currency: str | None = None


def read_amount(value: Any, decimal: Mark | None = None, proven: Mark | None = None) -> Amount | None:
    """`value` as a finite amount; None and "" are None.

    decimal: the decimal mark that every text has; proven: the one to take where a text does not tell. Raises
    ValueError with the reason: no number, more than a number and a currency, a mark that may mean either.
    """
    if value is None or value == "":
        return None
    if type(value) is str and value.isdecimal() and len(value) < 16:
        return Amount(float(value))
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise ValueError(f"{shown(value)} is {kind_of(value)}, not a number")
    if not isinstance(value, str):
        return Amount(_finite(value, value))
    text = bare(value).strip(_SPACE)
    if _PLAIN.fullmatch(text) and ("e" in text or "E" in text or (decimal != "," and not _either(text))):
        return Amount(_finite(text, value))
    found = _AMOUNT.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise ValueError(_no_number(value))
    named = [word.strip(_SPACE + "*:") for word in (found["before"], found["after"])]
    if all(named) and named[0] != named[1]:
        raise ValueError(f"{shown(value)} has two currencies, or words beside it")
    currency = _currency(next((word for word in named if word), ""), value)
    negative = "-" in found["sign"] + found["inner"] or "−" in found["sign"] + found["inner"]
    digits = found["digits"]
    if decimal is None and currency in _WHOLE and _either(digits):
        digits = digits.replace(".", "").replace(",", "")
    amount = _finite(_with_point(digits, decimal, proven, value), value)
    return Amount(-amount if negative else amount, currency)


def proven_mark(value: Any) -> Mark | None:
    """The decimal mark that a text proves; None: it proves none, or is no amount."""
    if not isinstance(value, str) or not ("." in value or "," in value):
        return None
    text = bare(value).strip(_SPACE)
    found = _AMOUNT.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None or _either(found["digits"]):
        return None
    digits = found["digits"]
    last: Mark = "," if digits.rfind(",") > digits.rfind(".") else "."
    if last not in digits:
        return None
    other: Mark = "." if last == "," else ","
    return last if digits.count(last) == 1 else other


def currency_code(text: str) -> str | None:
    """The ISO 4217 code that a code or a sign stands for; None: neither, or a sign of several currencies."""
    word = text.strip()
    word = word[:-1] if word[:-1].upper() in CURRENCIES else word
    return word.upper() if word.upper() in CURRENCIES else _SIGNS.get(word.lower())


def _currency(word: str, value: Any) -> str | None:
    if not word or word.lower() in _SHARED:
        return None
    code = currency_code(word)
    if code is None:
        raise ValueError(_no_number(value))
    return code


def _either(digits: str) -> bool:
    """Whether one mark may be a decimal mark or one of thousands: `1.249`, and not `0.125` or `1249.125`."""
    return _EITHER.fullmatch(digits) is not None


def _with_point(digits: str, decimal: Mark | None, proven: Mark | None, value: Any) -> str:
    """`digits` as Python reads a number. Raises ValueError."""
    mark = decimal or _mark_of(digits, proven, value)
    whole, found, part = digits.rpartition(mark) if digits.count(mark) == 1 else (digits, "", "")
    other = "," if mark == "." else "."
    if digits.count(mark) > 1 or other in part or any(c in part for c in _SPACE + "'’"):
        raise ValueError(_with_setting(value, decimal))
    whole = whole or "0"
    if _GROUPED.fullmatch(whole):
        whole = re.sub(r"\D", "", whole)
    elif other in whole:
        groups = whole.split(other)
        sizes = [len(group) for group in groups]
        if not (1 <= sizes[0] <= 3 and sizes[-1] == 3 and all(g.isdigit() for g in groups)
                and all(size == 3 or (size == 2 and other == ",") for size in sizes[1:])):  # fmt: skip
            raise ValueError(_with_setting(value, decimal))
        whole = "".join(groups)
    if not whole.isdigit():
        raise ValueError(_with_setting(value, decimal))
    return f"{whole}.{part}" if found else whole


def _mark_of(digits: str, proven: Mark | None, value: Any) -> Mark:
    if _either(digits):
        if proven is None:
            other = digits.replace(".", "").replace(",", "")
            raise ValueError(
                f"{shown(value)} may be {digits.replace(',', '.')} or {other}; say which mark is the decimal "
                'one: decimal = "." or ","'
            )
        return proven
    comma, point = digits.rfind(","), digits.rfind(".")
    last: Mark = "," if comma > point else "."
    if digits.count(last) > 1:
        return "." if last == "," else ","
    return last


def _finite(text: Any, value: Any) -> float:
    try:
        converted = float(text)
    except (ValueError, OverflowError):
        raise ValueError(_no_number(value)) from None
    if not math.isfinite(converted):
        raise ValueError(f"{shown(value)} is not a finite number")
    return converted


def _with_setting(value: Any, decimal: Mark | None) -> str:
    return f"{_no_number(value)}, with decimal = {decimal!r}" if decimal else _no_number(value)


def _no_number(value: Any) -> str:
    if isinstance(value, str) and value.strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return f"{shown(value)} is not a finite number"
    return f"{shown(value)} is not a number"
