"""What a file is, by what is in it: how it is written, and whether it is a feed that Etalage knows."""

import gzip
import re
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from etalage.errors import InputUnreadable
from etalage.lake.feeds import ga4, google_merchant, shopify, woocommerce
from etalage.lake.feeds.contract import Feed, Head
from etalage.lake.raw import RawChunk
from etalage.lake.readers import open_table
from etalage.lake.text_files import AS_FOUND, FileStyle, head_of, open_text

FEEDS: dict[str, Feed] = {
    feed.name: feed for feed in (google_merchant.FEED, shopify.FEED, woocommerce.FEED, ga4.FEED)
}
LOOKED_AT = 200
"""So many of a file's first rows are looked at."""
_SUFFIXES = {
    "csv": "csv",
    "tsv": "csv",
    "parquet": "parquet",
    "pq": "parquet",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "jsonl",
    "xml": "xml",
    "rss": "xml",
    "atom": "xml",
}
_PARQUET = b"PAR1"
_XML = re.compile(r"\s*<(?:\?xml|!--|!DOCTYPE|[A-Za-z][\w.:-]*[\s>/])")
_JSON = re.compile(r"\s*(?:\{|\[\s*[{\]])")
_PAGE = re.compile(r"\s*<(?:!doctype html|html)\b", re.IGNORECASE)
_DELIMITED = re.compile(r"[\t,;|]")


@dataclass(frozen=True)
class Recognised:
    """`feed`: None, it is none that Etalage knows. `why` it is taken for one."""

    head: Head
    feed: Feed | None = None
    why: str | None = None


def container_of(file: Path, style: FileStyle = AS_FOUND) -> str | None:
    """csv, jsonl, parquet or xml, by the name, else by what the file begins with; None: neither tells.

    Raises InputUnreadable: it cannot be read at all.
    """
    try:
        return _container_of(file, style)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputUnreadable(f"{file}: the gzip data is broken: {error}; fetch the file again") from error
    except OSError as error:
        raise InputUnreadable(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeError as error:
        raise InputUnreadable(f"{file}: is not of the encoding that was said: {error}") from error


def _container_of(file: Path, style: FileStyle) -> str | None:
    suffix = file.name.lower().removesuffix(".gz").rpartition(".")[2]
    if suffix in _SUFFIXES and suffix not in ("csv", "tsv"):
        return _SUFFIXES[suffix]
    if head_of(file, len(_PARQUET)) == _PARQUET:
        return "parquet"
    with open_text(file, style.encoding) as text:
        begin = text.read(4096)
    if _PAGE.match(begin):
        raise InputUnreadable(f"{file}: is a web page, no table: was it fetched without its password?")
    if _XML.match(begin):
        return "xml"
    if _JSON.match(begin):
        return "jsonl"
    if suffix in _SUFFIXES:
        return "csv"
    line = begin.lstrip("\r\n").partition("\n")[0]
    plain = not any(ord(letter) < 32 and letter not in "\t\r\n" for letter in begin)
    return "csv" if plain and len(_DELIMITED.findall(line)) >= 1 and "\n" in begin else None


def read_head(file: Path, container: str, style: FileStyle = AS_FOUND, rows: int = LOOKED_AT) -> Head:
    """The first `rows` rows of `file`. Raises InputUnreadable: it cannot be read as `container`."""
    table = open_table(file, container, rows, style)
    with closing(table.chunks()) as chunks:  # type: ignore[type-var]
        chunk = next(chunks, RawChunk([], {}))
    first = tuple(chunk.row(n) for n in range(len(chunk.lines)))
    return Head(file, container, tuple(chunk.columns), first, style, tuple(map(str, chunk.notes)))


def recognised(head: Head) -> Recognised:
    """Which feed it is, by its columns."""
    for feed in FEEDS.values():
        if head.container in feed.containers and (why := feed.why(head)) is not None:
            return Recognised(head, feed, why)
    return Recognised(head)


def as_feed(feed: Feed, head: Head) -> Recognised:
    """`head` as the feed that somebody says it is. Raises InputUnreadable: it cannot be one."""
    if head.container not in feed.containers:
        of = " or ".join(feed.containers)
        raise InputUnreadable(f"{head.file}: is {head.container}, and {feed.name} is {of}")
    return Recognised(head, feed, feed.why(head))
