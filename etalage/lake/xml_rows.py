"""XML feeds of items, element by element: RSS's `<item>`, Atom's `<entry>`, shop systems' `<product>`,
`<offer>`, …, of any length.

Streamed: one item is in memory at a time, and none may be longer than LONGEST_VALUE. Nothing is followed: a
file with a DOCTYPE is refused, so that no entity can be declared and nothing outside be named. What is no XML
costs its item: reading goes on at the next one.
"""

import codecs
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from etalage.errors import InputUnreadable
from etalage.lake.amounts import currency_code
from etalage.lake.raw import LARGEST_CHUNK, LONGEST_VALUE, RawChunk, Refusal
from etalage.lake.text_files import AS_FOUND, FileStyle, head_of, open_text

ITEMS = ("item", "entry")
_OTHER_WORDS = """
product offer shopitem listing article artikel produkt producto produit prodotto book row record o
"""
OTHER_ITEMS = frozenset(_OTHER_WORDS.split())
"""What shop systems and price portals call an item, in small letters; the first that occurs in a file is it,
beneath the file's own element."""
_BLOCK = 1 << 16
_DEEPEST = 32
_NAMES = 1000
"""So many names of elements are remembered as they were told apart."""
_TOO_LONG = f"longer than {LONGEST_VALUE:,} characters"
_ELEMENTS = 10_000
"""Of one item; more are no product."""
_TEXTS = ("title", "description", "summary", "content")
"""Elements that may hold markup of their own (XHTML): their text counts."""
_LINKED = ("href", "url", "src")
"""Attributes that are the value of an element without a text: `<link href="…"/>`."""
_GOOGLE = "base.google.com/ns"
_INLINE_WORDS = "a abbr b big code em font i mark s small span strong sub sup tt u"
_INLINE = frozenset(_INLINE_WORDS.split())
"""Elements of a text before and behind which words are not apart."""
_LONGEST_TAG = 64
_DECLARED = re.compile(rb"""\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]+)["']""")
_XMLNS = re.compile(r"xmlns(?::(.*))?")
_NO_FIELD = re.compile(r"xmlns$|.*:")
"""Attributes of an item that say nothing of it: namespaces, `xml:lang`, `rdf:about`."""


def _next(names: Collection[str]) -> re.Pattern[bytes]:
    """Where an item begins, in bytes that are no XML."""
    return re.compile(rb"<(?:[\w.-]+:)?(?:" + "|".join(names).encode() + rb")(?=[\s/>])")


class NoFeed(Exception):
    """The file as a whole is not read; the reason."""


class _Node:
    """An element of an item, while it is open. `children`: what ended within it; names in `google` had
    Google's prefix."""

    __slots__ = ("attributes", "children", "google", "marked_up", "name", "says", "texts")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.attributes = attributes
        self.children: dict[str, Any] = {}
        self.google: set[str] = set()
        self.texts: list[str] = []
        """Its own, and those of what is within it, in their order."""
        self.marked_up = False
        self.says = False
        """Whether it has a text of its own."""

    def value(self) -> Any:
        """Text, a dict of what is beneath it, or None. An element that has both is a text with markup."""
        if self.children and not self.says:
            return self.children
        text = "".join(self.texts).strip()
        if self.marked_up:
            text = " ".join(text.split())
        if text:
            return self._with_attributes(text)
        if not self.attributes:
            return None
        link = next((self.attributes[name] for name in _LINKED if self.attributes.get(name)), None)
        return link or dict(self.attributes)

    def _with_attributes(self, text: str) -> Any:
        """`<param name="Colour">red</param>` says what the text is of, `<price currency="EUR">5</price>` in
        what."""
        if not self.attributes:
            return text
        if name := self.attributes.get("name"):
            return {"name": name, "value": text}
        code = currency_code(self.attributes.get("currency", ""))
        return f"{text} {code}" if code is not None and text[-1].isdigit() else text

    def add(self, name: str, google: bool, child: "_Node") -> None:
        """A child; of one name several are a list, and Google's `g:title` counts before a plain `title`."""
        apart = "" if name.lower() in _INLINE else " "
        self.texts += [apart, *child.texts, apart]
        self.marked_up = True
        value = child.value()
        if value is None or self.name in _TEXTS:  # markup within a text
            return
        if name in self.google and not google:
            return
        children = self.children
        if name not in children or (google and name not in self.google):
            children[name] = value
        elif isinstance(children[name], list):
            children[name].append(value)
        else:
            children[name] = [children[name], value]
        if google:
            self.google.add(name)


@dataclass(frozen=True)
class _Found:
    """An item: its line, its fields or why it is refused, its characters."""

    line: int
    fields: dict[str, Any]
    size: int = 0
    why: str | None = None


class _Document:
    """One XML document, while it is parsed. `outer`: the elements that are open around the items."""

    def __init__(self) -> None:
        self._items: frozenset[str] | None = None
        """What an item is called here, once the first was seen."""
        self._next = _next(ITEMS)
        self._google = {"g"}
        self._names: dict[str, tuple[str, bool]] = {}
        self._spaces: dict[str, str] = {}
        self.names: dict[str, None] = {}
        self.any_item = False
        self.outer: list[str] = []
        self.stack: list[_Node] = []
        self.found: list[_Found] = []
        self._begun = False
        self._lost = False
        """Behind something broken: what comes is passed over until the next item begins."""
        self._tail = b""
        self._lines = 0
        self._line = 0
        self._size = 0
        self._count = 0
        self._why: str | None = None
        self._begin(0)

    def skip(self, lines: int) -> None:
        """Blank lines before the document."""
        self._lines += lines
        self._began += lines

    def feed(self, block: bytes) -> list[_Found]:
        """The items that end in `block`. Raises NoFeed."""
        self.found = []
        start: int | None = 0
        if self._lost:
            start = self._behind(block, 0)
        while start is not None:
            before = self._fed
            try:
                self.parser.Parse(block[start:], False)
                self._fed += len(block) - start
            except expat.ExpatError as error:
                at = start + max(1, self.parser.ErrorByteIndex - before)
                self._broken(f"not XML: {expat.ErrorString(error.code)}", self._began + error.lineno - 1)
                start = self._behind(block, at)
                continue
            if self._fed - self.parser.CurrentByteIndex > LONGEST_VALUE:
                line = self._began + self.parser.CurrentLineNumber - 1
                self._broken(f"a tag longer than {LONGEST_VALUE:,} characters", line)
                self._tail = b""
            break
        self._lines += block.count(b"\n")
        return self.found

    def finish(self) -> list[_Found]:
        """Behind the last block. Raises NoFeed: the document ends in the middle."""
        self.found = []
        if not self._lost:
            try:
                self.parser.Parse(b"", True)
            except expat.ExpatError as error:
                line = self._began + error.lineno - 1
                what = expat.ErrorString(error.code)
                raise NoFeed(f"ends in the middle, in line {line} ({what}); fetch the file again") from None
        return self.found

    def _begin(self, lines: int) -> None:
        """A parser, `lines` lines into the file, within the elements that were open before."""
        self.parser = parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._doctype
        parser.ExternalEntityRefHandler = self._doctype
        self._began = lines + 1
        outer, self.outer, self.stack = self.outer, [], []
        spaces = "".join(f" {name}={quoteattr(uri)}" for name, uri in self._spaces.items())
        again = "".join(f"<{name}{spaces if n == 0 else ''}>" for n, name in enumerate(outer)).encode()
        self._fed = len(again)
        parser.Parse(again, False)

    def _broken(self, why: str, line: int) -> None:
        if not self._begun:
            raise NoFeed(f"is {why.replace('not', 'no', 1)}, in line {line}")
        self.found.append(_Found(self._line if self.stack else line, {}, 0, f"{why}, in line {line}"))
        self._lost = True
        self._tail = b""

    def _behind(self, block: bytes, start: int) -> int | None:
        """Where in `block` the next item begins, for a new parser; None: not in this block."""
        joined = self._tail + block[start:]
        found = self._next.search(joined)
        if found is None:
            self._tail = joined[-_LONGEST_TAG:]
            return None
        at = start + found.start() - len(self._tail)
        lines = self._lines + block[: max(0, at)].count(b"\n")
        self._lost = False
        self._begin(lines)
        if at < start:  # its first characters came with the block before
            missing = joined[found.start() : len(self._tail)]
            self._fed += len(missing)
            self.parser.Parse(missing, False)
        self._tail = b""
        return max(at, start)

    def _doctype(self, *_: Any) -> int:
        raise NoFeed("has a DOCTYPE: entities, and what lies outside the file, are not followed; take it out")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if attributes:
            self._size += sum(len(key) + len(value) for key, value in attributes.items())
            self._find_spaces(attributes)
        if not self.stack:
            self._begun = True
            if not self._is_item(name):
                self._open(name)
                return
            self.any_item = True
            self._line = self._began + self.parser.CurrentLineNumber - 1
            self._size, self._count, self._why = 0, 0, None
        self._count += 1
        self._size += len(name)
        if self._count > _ELEMENTS:
            self._give_up(f"has more than {_ELEMENTS:,} elements")
        if len(self.stack) > _DEEPEST:
            self._give_up(f"has elements within elements, more than {_DEEPEST} deep")
        if self._size > LONGEST_VALUE:
            self._give_up(_TOO_LONG)
        self.stack.append(_Node(self._plain(name)[0], {} if self._why else attributes))

    def _is_item(self, name: str) -> bool:
        local = name.rpartition(":")[2]
        if self._items is None:
            if local in ITEMS:
                self._items = frozenset(ITEMS)
            elif self.outer and local.lower() in OTHER_ITEMS:
                self._items = frozenset({local})
                self._next = _next((local,))
            else:
                return False
        return local in self._items

    def _find_spaces(self, attributes: dict[str, str]) -> None:
        """Namespaces that an element declares: Google's may have any prefix."""
        for key, uri in attributes.items():
            if (space := _XMLNS.fullmatch(key)) is not None:
                self._spaces.setdefault(key, uri)
                if _GOOGLE in uri and space[1]:
                    self._google.add(space[1])
                    self._names.clear()

    def _open(self, name: str) -> None:
        self.outer.append(name)
        if len(self.names) < 5:
            self.names[name] = None
        if len(self.outer) > _DEEPEST:
            raise NoFeed(f"has elements within elements, more than {_DEEPEST} deep, and no item in them")

    def _plain(self, name: str) -> tuple[str, bool]:
        """(the name without Google's prefix, whether it had it); other prefixes stay: media:title is no
        title."""
        plain = self._names.get(name)
        if plain is None:
            prefix, colon, local = name.rpartition(":")
            plain = (local, True) if colon and prefix in self._google else (name, False)
            if len(self._names) < _NAMES:
                self._names[name] = plain
        return plain

    def _end(self, name: str) -> None:
        if not self.stack:
            self.outer.pop()
            return
        node = self.stack.pop()
        if self.stack:
            if self._why is None:
                self.stack[-1].add(*self._plain(name), node)
        elif self._why is not None:
            self.found.append(_Found(self._line, {}, 0, self._why))
        else:
            own = {key: value for key, value in node.attributes.items() if value and not _NO_FIELD.match(key)}
            self.found.append(_Found(self._line, own | node.children, self._size))

    def _text(self, text: str) -> None:
        if self.stack and self._why is None:
            self._size += len(text)
            self.stack[-1].texts.append(text)
            self.stack[-1].says = self.stack[-1].says or not text.isspace()
            if self._size > LONGEST_VALUE:
                self._give_up(_TOO_LONG)

    def _give_up(self, why: str) -> None:
        """The item is refused; what was read of it goes."""
        self._why = self._why or why
        for node in self.stack:
            node.attributes, node.children, node.texts = {}, {}, []


def xml_chunks(file: Path, rows: int, style: FileStyle = AS_FOUND) -> Iterator[RawChunk]:
    """The items of an XML feed, `rows` at a time; repeated elements are lists, nested ones dicts.

    Raises InputUnreadable: no XML, a DOCTYPE, no item in it, or it ends in the middle.
    """
    document = _Document()
    chunk, size, yielded = _Chunk(str(file)), 0, False
    try:
        for found in _items(file, document, style):
            chunk.add(found)
            size += found.size
            if chunk.count >= rows or size >= LARGEST_CHUNK:
                yield chunk.raw()
                chunk, size, yielded = _Chunk(str(file)), 0, True
    except NoFeed as error:
        if chunk.count:
            yield chunk.raw()
        raise InputUnreadable(f"{file}: {error}") from None
    if not document.any_item:
        there = ", ".join(f"<{name}>" for name in document.names)
        known = ", ".join(f"<{name}>" for name in (*ITEMS, *sorted(OTHER_ITEMS)))
        raise InputUnreadable(
            f"{file}: XML, but none of {known} is in it, by which items are known; it has {there}"
        )
    if chunk.count or not yielded:
        yield chunk.raw()


def _items(file: Path, document: _Document, style: FileStyle) -> Iterator[_Found]:
    with open_text(file, _encoding(file, style.encoding)) as text:
        begun = False
        while block := text.read(_BLOCK):
            if not begun:
                # Before the declaration nothing may stand, and blank lines do all the same.
                bare = block.lstrip()
                document.skip(block[: len(block) - len(bare)].count("\n"))
                block, begun = bare, bool(bare)
            # A byte that is not of the encoding is no UTF-8 here either: it costs its item.
            yield from document.feed(block.encode("utf-8", "surrogatepass"))
        yield from document.finish()


def _encoding(file: Path, said: str | None) -> str | None:
    """What the settings say, else what the file declares; its mark counts before both."""
    if said is not None:
        return said
    declared = _DECLARED.match(head_of(file, 400))
    if declared is None:
        return None
    name = declared[1].decode("ascii")
    try:
        "".encode(name)
        known = codecs.lookup(name).name
    except (LookupError, ValueError):
        raise InputUnreadable(
            f"{file}: declares the encoding {name!r}, which nobody knows; say the right one: --encoding"
        ) from None
    # Who can read the declaration byte by byte reads no UTF-16, whatever it declares.
    return None if known.startswith(("utf-16", "utf-32")) else known


class _Chunk:
    """The items of one chunk, while they are gathered: columns in the order in which they came."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._lines: list[int] = []
        self._rows: list[dict[str, Any]] = []
        self._refused: list[Refusal] = []

    @property
    def count(self) -> int:
        return len(self._lines) + len(self._refused)

    def add(self, found: _Found) -> None:
        if found.why is not None:
            self._refused.append(Refusal(self._where, found.line, found.why))
        else:
            self._lines.append(found.line)
            self._rows.append(found.fields)

    def raw(self) -> RawChunk:
        names = dict.fromkeys(name for row in self._rows for name in row)
        columns = {name: [row.get(name) for row in self._rows] for name in names}
        return RawChunk(self._lines, columns, self._refused)
