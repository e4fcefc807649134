"""Descriptions in HTML as plain text."""

import re
from html.parser import HTMLParser
from typing import Any

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
