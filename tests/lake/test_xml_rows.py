"""XML feeds: nothing in them is followed, nothing broken stops them, and no size of them matters."""

import gzip
import io
import tracemalloc
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etalage.errors import InputUnreadable
from etalage.lake.delta import Lake
from etalage.lake.ingest import ingest
from etalage.lake.raw import LONGEST_VALUE, RawChunk
from etalage.lake.readers import open_table
from etalage.lake.text_files import AS_FOUND, FileStyle

ANY_FIXTURE = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
RSS = '<?xml version="1.0"?><rss xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title>'
END = "</channel></rss>"


def read(
    folder: Path, content: str | bytes, style: FileStyle = AS_FOUND, name: str = "a.xml"
) -> tuple[list[tuple[int, dict[str, Any]]], list[tuple[int, str]]]:
    """([(line, fields)], [(line, reason)]) of `content` as a file."""
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    chunks: list[RawChunk] = list(open_table(file, "xml", 1000, style).chunks())
    taken = [
        (line, {name: value for name, value in chunk.row(n).items() if value is not None})
        for chunk in chunks
        for n, line in enumerate(chunk.lines)
    ]
    return taken, [(r.line or 0, r.reason) for chunk in chunks for r in chunk.refused]


def rss(*items: str) -> str:
    return RSS + "".join(f"\n<item>{item}</item>" for item in items) + END


# --- what is not followed


def test_a_billion_laughs_is_refused_and_never_laughed(tmp_path: Path) -> None:
    laughs = "".join(
        f'<!ENTITY lol{n} "{"&lol" + str(n - 1) + ";" if n else "lol"}{"&lol0;" * 9 if n else ""}">'
        for n in range(10)
    )
    tracemalloc.start()
    with pytest.raises(InputUnreadable, match="has a DOCTYPE"):
        read(tmp_path, f"<!DOCTYPE rss [{laughs}]><rss><item><id>&lol9;</id></item></rss>")
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE rss [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE rss [<!ENTITY x SYSTEM "http://127.0.0.1:9/x">]>',
        '<!DOCTYPE rss [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x"> %x;]>',
        '<!DOCTYPE rss SYSTEM "http://127.0.0.1:9/rss.dtd">',
        '<!DOCTYPE rss PUBLIC "-//Netscape//DTD RSS 0.91//EN" "http://127.0.0.1:9/rss.dtd">',
    ],
)
def test_nothing_outside_the_file_is_read(tmp_path: Path, doctype: str) -> None:
    with pytest.raises(InputUnreadable, match="entities, and what lies outside the file, are not followed"):
        read(tmp_path, f'<?xml version="1.0"?>{doctype}<rss><item><id>&x;</id></item></rss>')


def test_an_entity_that_nobody_declared_costs_its_item(tmp_path: Path) -> None:
    taken, refused = read(tmp_path, rss("<id>1</id>", "<id>2</id><title>a &nbsp; b</title>", "<id>3</id>"))
    assert [fields["id"] for _, fields in taken] == ["1", "3"]
    assert refused == [(3, "not XML: undefined entity, in line 3")]


def test_xinclude_and_stylesheets_are_text_like_any_other(tmp_path: Path) -> None:
    style = '<?xml-stylesheet href="http://127.0.0.1:9/x.xsl"?>'
    include = '<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/passwd"/>'
    taken, refused = read(tmp_path, style + f"<rss><item><id>1</id>{include}</item></rss>")
    assert refused == [] and taken[0][1] == {"id": "1", "xi:include": "file:///etc/passwd"}


# --- forms


def test_an_atom_feed_is_read_with_googles_names_before_its_own(tmp_path: Path) -> None:
    feed = """<?xml version="1.0"?>
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:goo="http://base.google.com/ns/1.0">
 <id>tag:shop</id><title>Shop</title><link rel="self" href="https://shop.test/"/>
 <entry><goo:id>A-1</goo:id><id>tag:shop,1</id><title type="html">Tee</title>
  <goo:title>Tee, red</goo:title><link href="https://shop.test/1"/><goo:price>1.00 EUR</goo:price></entry>
</feed>"""
    taken, refused = read(tmp_path, feed)
    assert refused == []
    assert taken == [
        (4, {"id": "A-1", "title": "Tee, red", "link": "https://shop.test/1", "price": "1.00 EUR"})
    ]


def test_repeated_elements_are_lists_and_nested_ones_objects(tmp_path: Path) -> None:
    item = (
        "<g:id>1</g:id><g:image>a</g:image><g:image>b</g:image><g:shipping><g:country>DE</g:country>"
        "<g:price>4 EUR</g:price></g:shipping><description><![CDATA[<b>1 < 2</b>]]></description>"
        "<title>Tee <em>red</em></title><empty/><g:x></g:x>"
    )
    taken, _ = read(tmp_path, rss(item))
    assert taken[0][1] == {
        "id": "1",
        "image": ["a", "b"],
        "shipping": {"country": "DE", "price": "4 EUR"},
        "description": "<b>1 < 2</b>",
        "title": "Tee red",
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "iso-8859-15"])
def test_the_encoding_is_the_marks_or_the_declarations(tmp_path: Path, encoding: str) -> None:
    declared = encoding.removesuffix("-sig")
    feed = (
        f'<?xml version="1.0" encoding="{declared}"?><rss><item><id>1</id><title>Café ß</title></item></rss>'
    )
    taken, _ = read(tmp_path, feed.encode(encoding))
    assert taken[0][1]["title"] == "Café ß"
    taken, _ = read(tmp_path, gzip.compress(feed.encode(encoding)), name="a.xml.gz")
    assert taken[0][1]["title"] == "Café ß"


def test_who_declares_iso_8859_1_means_that_of_windows(tmp_path: Path) -> None:
    feed = '<?xml version="1.0" encoding="ISO-8859-1"?><rss><item><price>5 €</price></item></rss>'
    assert read(tmp_path, feed.encode("cp1252"))[0] == [(1, {"price": "5 €"})]


def test_an_encoding_that_nobody_knows_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputUnreadable, match=r"'klingon-1', which nobody knows; .* --encoding"):
        read(tmp_path, '<?xml version="1.0" encoding="klingon-1"?><rss><item><id>1</id></item></rss>')


# --- what is broken


def test_a_bare_ampersand_costs_one_item_and_says_its_line(tmp_path: Path) -> None:
    taken, refused = read(
        tmp_path, rss(*(f"<id>{n}</id><t>{'a & b' if n == 2 else 'x'}</t>" for n in range(5)))
    )
    assert [fields["id"] for _, fields in taken] == ["0", "1", "3", "4"]
    assert [line for line, _ in refused] == [4] and "not XML" in refused[0][1]


def test_a_feed_that_ends_in_the_middle_says_so_after_what_came(tmp_path: Path) -> None:
    file = tmp_path / "a.xml"
    file.write_text(rss("<id>1</id>", "<id>2</id>")[:-30])
    chunks = open_table(file, "xml", 1000).chunks()
    assert next(chunks).columns["id"] == ["1"]
    with pytest.raises(InputUnreadable, match=r"ends in the middle, in line 3 .*; fetch the file again"):
        next(chunks)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "ends in the middle|no element"),
        ("no xml", "is no XML"),
        (
            "<html><body><p>Not found</p></body></html>",
            "is in it, by which items are known; it has <html>, <body>, <p>",
        ),
    ],
)
def test_what_is_no_feed_is_said(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(InputUnreadable, match=said):
        read(tmp_path, content)


def test_an_item_too_long_or_too_deep_is_refused_and_the_next_is_read(tmp_path: Path) -> None:
    deep = "<a>" * 40 + "</a>" * 40
    many = "<a>1</a>" * 10_001
    taken, refused = read(tmp_path, rss("<id>1</id>", f"<id>2</id>{deep}", f"<id>3</id>{many}", "<id>4</id>"))
    assert [fields["id"] for _, fields in taken] == ["1", "4"]
    assert [why for _, why in refused] == [
        "has elements within elements, more than 32 deep", "has more than 10,000 elements",
    ]  # fmt: skip


class _Endless(io.RawIOBase):
    """A feed of `count` items, made as it is read."""

    def __init__(self, count: int, text: str) -> None:
        self._count, self._text, self._n, self._rest = count, text, -1, b""

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while not self._rest and self._n <= self._count:
            item = f"<item><id>{self._n}</id>{self._text}</item>"
            part = RSS if self._n < 0 else END if self._n == self._count else item
            self._rest, self._n = part.encode(), self._n + 1
        size = min(len(into), len(self._rest))
        into[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def test_a_feed_is_streamed(tmp_path: Path) -> None:
    file = tmp_path / "a.xml"
    with file.open("wb") as out, _Endless(20_000, "<t>" + "x" * 5000 + "</t>") as feed:  # 100 MB
        while block := feed.read(1 << 20):
            out.write(block)
    tracemalloc.start()
    count = sum(len(chunk.lines) for chunk in open_table(file, "xml", 100).chunks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 16 * 2**20


def test_a_tag_without_an_end_is_not_held(tmp_path: Path) -> None:
    endless = f'<item><id>1</id><x a="{"y" * (LONGEST_VALUE + 2**20)}"/></item>'
    taken, refused = read(tmp_path, RSS + endless + "\n<item><id>2</id></item>" + END)
    assert [fields["id"] for _, fields in taken] == ["2"]
    assert len(refused) == 1 and "longer than" in refused[0][1]


# --- anything


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=30)
NAMES = st.from_regex(r"\A[a-z_][a-z0-9_]{0,8}\Z")


@ANY_FIXTURE
@given(
    st.lists(st.dictionaries(NAMES, TEXTS.filter(str.strip), min_size=1, max_size=5), min_size=1, max_size=8)
)
def test_what_is_written_is_read(tmp_path: Path, items: list[dict[str, str]]) -> None:
    written = rss(*("".join(f"<{k}>{escape(v)}</{k}>" for k, v in item.items()) for item in items))
    taken, refused = read(tmp_path, written)
    assert refused == []
    assert [fields for _, fields in taken] == [{k: v.strip() for k, v in item.items()} for item in items]


PIECES = st.sampled_from(
    ["<item>", "</item>", "<id>1</id>", "<a", ' b="', '"', ">", "</a>", "&amp;", "&x;", "]]>", "<![CDATA[",
     "<!--", "-->", "<?x?>", "\n", "é", "<g:id>2</g:id>", "<entry>", "</entry>", "</channel>"]
)  # fmt: skip


@ANY_FIXTURE
@given(st.lists(PIECES | TEXTS, max_size=40))
def test_whatever_is_broken_is_refused_and_nothing_else_is_raised(tmp_path: Path, pieces: list[str]) -> None:
    """Items before and behind it are read, where the document's end is."""
    try:
        taken, refused = read(tmp_path, rss("<id>first</id>")[: -len(END)] + "".join(pieces) + END)
    except InputUnreadable:
        return
    assert taken[0][1] == {"id": "first"}
    assert all(why for _, why in refused)


@ANY_FIXTURE
@given(st.integers(1, 60), st.integers(1, 40))
def test_a_break_wherever_blocks_end_costs_one_item(tmp_path: Path, width: int, at: int) -> None:
    items = [f"<id>{n}</id><t>{'&' if n == at else ''}{'é' * (width * 97)}</t>" for n in range(45)]
    taken, refused = read(tmp_path, rss(*items))
    assert [fields["id"] for _, fields in taken] == [str(n) for n in range(45) if n != at]
    assert [line for line, _ in refused] == [at + 2]


def test_attributes_are_read_where_there_is_no_text(tmp_path: Path) -> None:
    link = quoteattr("https://i.test/1.jpg?a=1&b=2")
    taken, _ = read(tmp_path, rss(f"<id>1</id><media url={link}/><dims w='1' h='2'/>"))
    assert taken[0][1] == {"id": "1", "media": "https://i.test/1.jpg?a=1&b=2", "dims": {"w": "1", "h": "2"}}


def test_blank_lines_before_the_declaration_are_passed_over_and_counted(tmp_path: Path) -> None:
    taken, refused = read(tmp_path, "\ufeff\n \n" + rss("<id>1</id>", "<id>&x;</id>"))
    assert taken == [(4, {"id": "1"})] and refused == [(5, "not XML: undefined entity, in line 5")]


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (
            '<yml_catalog date="2026-01-01"><shop><name>S</name><categories><category id="1">A</category>'
            '</categories><offers><offer id="9012" available="true"><price>8990</price>'
            '<picture>a.jpg</picture><picture>b.jpg</picture><param name="Colour">red</param></offer>'
            "</offers></shop></yml_catalog>",
            {"id": "9012", "available": "true", "price": "8990", "picture": ["a.jpg", "b.jpg"],
             "param": {"name": "Colour", "value": "red"}},
        ),
        (
            "<SHOP><SHOPITEM><ITEM_ID>AB1</ITEM_ID><PRODUCTNAME>Mug</PRODUCTNAME></SHOPITEM></SHOP>",
            {"ITEM_ID": "AB1", "PRODUCTNAME": "Mug"},
        ),
        (
            '<products xmlns:x="u"><product id="7" x:href="h" xml:lang="de"><id>8</id><item>3</item>'
            '<price currency="EUR">5.50</price><weight unit="kg">2</weight></product></products>',
            {"id": "8", "item": "3", "price": "5.50 EUR", "weight": "2"},
        ),
        (
            '<offers><group name="other"><o id="1" price="3.00"><imgs><main url="a.jpg"/></imgs></o></group>'
            "</offers>",
            {"id": "1", "price": "3.00", "imgs": {"main": "a.jpg"}},
        ),
    ],
)  # fmt: skip
def test_items_of_shop_systems_and_price_portals_are_known_by_their_names(
    tmp_path: Path, content: str, fields: dict[str, Any]
) -> None:
    assert read(tmp_path, content) == ([(1, fields)], [])


def test_behind_something_broken_the_next_item_of_that_name_is_read(tmp_path: Path) -> None:
    product = "<product><id>{}</id><name>{}</name></product>\n"
    body = product.format(1, "a") + product.format(2, "a & b") + product.format(3, "c")
    taken, refused = read(tmp_path, f"<products>\n{body}</products>")
    assert [fields["id"] for _, fields in taken] == ["1", "3"]
    assert [line for line, _ in refused] == [3]


def test_markup_within_a_text_is_read_in_its_order(tmp_path: Path) -> None:
    text = "<div><p>One <b>two</b> H<sub>2</sub>O</p><ul><li>three</li></ul><p>four</p></div>"
    taken, _ = read(tmp_path, rss(f"<id>1</id><summary>{text}</summary><name>Mug <i>big</i></name>"))
    assert taken[0][1] == {"id": "1", "summary": "One two H2O three four", "name": "Mug big"}


def test_xml_of_unknown_names_is_refused_with_the_command_that_finds_its_mapping(tmp_path: Path) -> None:
    file = tmp_path / "my feed.xml"
    file.write_text('<catalog><product code="1"><naam>A</naam></product></catalog>')
    with pytest.raises(InputUnreadable, match=r"`etalage new SHOP --from '.*my feed\.xml'`"):
        ingest(Lake(tmp_path / "tables"), file, "items")
