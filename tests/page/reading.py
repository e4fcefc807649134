"""Reads a page as a test looks at it: elements by a simple selector, their attributes and texts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

EMPTY = {"meta", "link", "input", "img", "br", "hr", "path", "circle", "rect"}


@dataclass
class Element:
    """One element of a page."""

    tag: str
    attributes: dict[str, str]
    parts: list["Element | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All of its text, with single blanks."""
        return " ".join(self._raw().split())

    def _raw(self) -> str:
        return "".join(part if isinstance(part, str) else part._raw() for part in self.parts)

    def __getitem__(self, name: str) -> str:
        return self.attributes[name]

    def get(self, name: str) -> str | None:
        return self.attributes.get(name)

    def all(self, selector: str) -> list["Element"]:
        """Those beneath it: `tag.class#id[name=value]`, blanks between a step and one beneath it."""
        found = [self]
        for step in re.findall(r"(?:\[[^\]]*\]|\S)+", selector):
            beneath = [one for root in found for one in root._beneath() if one._is(step)]
            found = list({id(one): one for one in beneath}.values())
        return found

    def one(self, selector: str) -> "Element":
        found = self.all(selector)
        assert len(found) == 1, (selector, [one.text for one in found])
        return found[0]

    def texts(self, selector: str) -> list[str]:
        return [one.text for one in self.all(selector)]

    def _beneath(self) -> Iterator["Element"]:
        for part in self.parts:
            if isinstance(part, Element):
                yield part
                yield from part._beneath()

    def _is(self, step: str) -> bool:
        classes = self.attributes.get("class", "").split()
        for kind, name in re.findall(r"(^|[.#])([\w-]+)", re.sub(r"\[[^\]]*\]", "", step)):
            have = {"": [self.tag], ".": classes, "#": [self.attributes.get("id")]}[kind]
            if name not in have:
                return False
        for name, equals, value in re.findall(r"\[([\w-]+)(=?)([^\]]*)\]", step):
            if name not in self.attributes or (equals and self.attributes[name] != value):
                return False
        return True


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("page", {})]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attributes})
        self.open[-1].parts.append(element)
        if tag not in EMPTY:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].parts.append(data)


def read(html: str) -> Element:
    """The whole page; every element is closed where it should be."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    (root,) = reader.open
    return root
