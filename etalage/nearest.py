"""The known name that somebody most probably meant by one that nobody knows."""

import difflib
import re
from collections.abc import Iterable

LOOKED_THROUGH = 20_000
"""Names that are compared letter by letter; of more, those that begin or end alike."""
LENGTHS = 3
"""By how much the length of a name may differ, where there are too many to compare all."""
_LEADING_ZEROS = re.compile(r"(?<![\d.,])0+(?=\d)")
"""Of every number in a name: `u001` is `u1`, `1.05` stays."""


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of `known` that is most like `name`; None where none is as like it as `cutoff` (0 … 1).

    One that differs only in case, blanks, leading zeros, a spreadsheet's apostrophe or `.0` is taken first.
    """
    names = list(known)
    plain = _plain(name)
    alike = [other for other in names if _plain(other) == plain]
    if alike:
        return alike[0]
    if len(names) > LOOKED_THROUGH:
        ends = (name[:2].casefold(), name[-2:].casefold())
        names = [
            other
            for other in names
            if abs(len(other) - len(name)) <= LENGTHS
            and (other[:2].casefold() == ends[0] or other[-2:].casefold() == ends[1])
        ][:LOOKED_THROUGH]
    found = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    return found[0] if found else None


def _plain(name: str) -> str:
    bare = name.strip().strip("'").strip().casefold().removesuffix(".0")
    return _LEADING_ZEROS.sub("", bare)
