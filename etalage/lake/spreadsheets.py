"""What spreadsheets do to values: an apostrophe before them, a formula around them, long numbers cut
short."""

import re

_FORMULA = re.compile(r'="([^"]*)"')
_SHORTENED = re.compile(r"[+-]?\d(?:[.,](\d{1,14}))?[eE]\+(\d{1,3})")


def bare(text: str) -> str:
    """`text` without the apostrophe, or the `="…"`, by which a spreadsheet keeps it as it is."""
    text = text.strip()
    found = _FORMULA.fullmatch(text)
    if found is not None:
        return found[1].strip()
    return text[1:].lstrip() if text[:1] in ("'", "’") and len(text) > 1 else text


def is_shortened(text: str) -> bool:
    """Whether a spreadsheet wrote a long number with fewer digits than it had: `1.23457E+12`."""
    found = _SHORTENED.fullmatch(text.strip())
    return found is not None and int(found[2]) > len(found[1] or "")
