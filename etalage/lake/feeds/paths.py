"""Categories as feeds write them: one path, or several in one cell."""

import re
from collections.abc import Sequence
from html import unescape

from etalage.lake.schema import CATEGORY_SEPARATOR

_STEP = re.compile(r"\s*>\s*")
_COMMA = re.compile(r"(?<!\\),\s*")


def several_paths(cell: str, repeated: bool = False) -> list[str]:
    """The paths in a cell, separated by commas; `\\,` is a comma of a name.

    repeated: a comma parts two paths only where the second begins with the same root as the first
    (`Home > Mugs, Home > Cups`), for feeds in which a comma may well be part of a name.
    """
    cell = unescape(cell) if "&" in cell else cell
    parts = [part for part in _COMMA.split(cell) if part.strip()]
    if repeated:
        roots = {_STEP.split(part.strip())[0] for part in parts}
        if len(roots) > 1 or not all(">" in part for part in parts):
            parts = [cell] if cell.strip() else []
    return [_plain(part) for part in parts]


def main_path(paths: Sequence[str]) -> str | None:
    """Of several paths the first, or the deepest that goes on from it; None: there is none."""
    best = next(iter(paths), None)
    for path in paths[1:] if best is not None else ():
        if path.startswith(f"{best}{CATEGORY_SEPARATOR}"):
            best = path
    return best


def _plain(path: str) -> str:
    steps = [step.replace("\\,", ",").strip() for step in _STEP.split(path.strip())]
    return CATEGORY_SEPARATOR.join(step for step in steps if step)
