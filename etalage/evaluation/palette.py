"""One colour and one mark a system, the same in every chart and table of a page.

The colours differ for all kinds of colour blindness, and each has a contrast of 4.5 : 1 and more on white.
The mark says the same without colour.
"""

from collections.abc import Iterable, Mapping

from etalage.bundle.admission import CHANCE, FLOOR

COLOURS = ("#0b5cad", "#b34700", "#00705a", "#8a3fa0", "#7a6200", "#a3123f", "#2c6e8f", "#5a4632")
MARKS = ("●", "■", "▲", "◆", "▼", "★", "✚", "⬟")
GREY, DARK = "#6b6b6b", "#1f2430"
FIXED = {CHANCE: (GREY, "◇"), FLOOR: (DARK, "○")}
"""What stands in most pages has a colour of its own; hollow marks are what others are compared with."""

Marks = Mapping[str, tuple[str, str]]
"""System → its colour and its mark."""


def palette(systems: Iterable[str]) -> Marks:
    """System → its colour and its mark, by the order in which they come; repeated ones count once."""
    found: dict[str, tuple[str, str]] = {}
    for name in dict.fromkeys(systems):
        number = sum(one not in FIXED for one in found)
        colour = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        found[name] = FIXED.get(name, colour)
    return found
