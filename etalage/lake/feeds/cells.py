"""Cells as feeds write them: category paths, one or several in a cell, and descriptions in HTML."""

import re
from collections.abc import Sequence
from html import unescape
from html.parser import HTMLParser
from typing import Any

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


_TAG = re.compile(r"<(?:/?[a-zA-Z][\w-]*[\s/>]|!--)")
_APART = frozenset(
    {"p", "br", "div", "li", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "tr", "td", "th", "table", "hr"}
)
"""Elements before and behind which words are apart."""
_UNREAD = frozenset({"script", "style", "template"})
_BLANKS = re.compile(r"\s+")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._unread: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._unread = self._unread or (tag if tag in _UNREAD else None)
        self.parts += [" "] if tag in _APART else []

    def handle_endtag(self, tag: str) -> None:
        self._unread = None if tag == self._unread else self._unread
        self.parts += [" "] if tag in _APART else []

    def handle_data(self, data: str) -> None:
        if self._unread is None:
            self.parts.append(data)


def plain_text(value: Any) -> Any:
    """A text without its tags, blanks made one; what has no tag stays exactly as it is."""
    if not isinstance(value, str) or "<" not in value or not _TAG.search(value):
        return value
    reader = _Reader()
    reader.feed(value)
    reader.close()
    return _BLANKS.sub(" ", "".join(reader.parts)).strip() or None
