"""What a known feed is: how its file is read, and which of its columns is which of ours."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from etalage.config import Joined, MappingConfig, Source, texts_of
from etalage.lake.paths import path_of
from etalage.lake.raw import LARGEST_CHUNK, RawChunk
from etalage.lake.text_files import AS_FOUND, FileStyle

SEVERAL = ("photo_url",)
"""Of these a shop's own mapping does not replace the feed's columns, it goes before them."""


@dataclass(frozen=True)
class Head:
    """The beginning of a file. `container`: csv, jsonl, parquet or xml. `rows`: the first, by the file's own
    names, which are `names`. `told`: what its reader took for something unasked."""

    file: Path
    container: str
    names: tuple[str, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()
    style: FileStyle = AS_FOUND
    told: tuple[str, ...] = ()


Reader = Callable[[Head, int, MappingConfig], Iterator[RawChunk]]


@dataclass(frozen=True)
class Feed:
    """One kind of feed, which fills `table`.

    `why(head)`: what a file is taken for this feed by; None: it is none. `read(head, rows, own)`: its rows,
    by the feed's names or by ours, where `own` is the shop's mapping. `preset(head, own)`: which of the
    feed's columns is which of ours.
    """

    name: str
    title: str
    table: str
    containers: tuple[str, ...]
    why: Callable[[Head], str | None]
    read: Reader
    preset: Callable[[Head, MappingConfig], MappingConfig]
    own: Callable[[MappingConfig], MappingConfig] = lambda own: own
    """What a shop's mapping means for this feed, where a plain table would not be read so."""
    canonical: Callable[[str], str] = str
    """A name as a file has it → the feed's own."""
    made: Mapping[str, str] = field(default_factory=dict)
    """Columns that are made of several: {name: of what}."""
    notes: tuple[str, ...] = ()
    """What a shop should know of how this feed is read, for the shop.toml that is drafted."""

    def mapping(self, head: Head, own: MappingConfig) -> MappingConfig:
        """`own`, and behind it what the feed's own columns are."""
        own = self.own(own)
        return combined(self.preset(head, own), own, head.names)


def combined(preset: MappingConfig, own: MappingConfig, there: Collection[str] = ()) -> MappingConfig:
    """The shop's `own` mapping first; the feed's `preset` where it says nothing.

    `there`: the columns of the file. Of what `own` reads from others the feed's column stands behind: a
    mapping that was written for another file of the shop hides nothing of a feed.
    """
    columns = dict(own.columns)
    for ours, source in preset.columns.items():
        theirs = [text for text in texts_of(source) if text not in own.leave_out]
        if not theirs or ours in own.constants:
            continue
        if ours not in columns:
            columns[ours] = replace_texts(source, theirs)
        elif not isinstance(columns[ours], Joined):
            mine = texts_of(columns[ours])
            if ours not in SEVERAL and any(root_of(text) in there for text in mine):
                continue
            both = (*mine, *(text for text in theirs if text not in mine))
            columns[ours] = both if len(both) > 1 else both[0]
    read = {text for source in columns.values() for text in texts_of(source)}
    own_skip = {ours: (*words, *preset.skip.get(ours, ())) for ours, words in own.skip.items()}
    return own.model_copy(
        update={
            "columns": columns,
            "constants": preset.constants | own.constants,
            "values": preset.values
            | {ours: preset.values.get(ours, {}) | words for ours, words in own.values.items()},
            "first_of": preset.first_of | own.first_of,
            "skip": preset.skip | own_skip,
            "leave_out": (*own.leave_out, *(name for name in preset.leave_out if name not in read)),
            "keep_others": own.keep_others or preset.keep_others,
            "timezone": own.timezone or preset.timezone,
        }
    )


def root_of(text: str) -> str:
    """The column that a mapping's text reads: `items` of `items[].item_id`."""
    try:
        path = path_of(text)
    except ValueError:
        return text
    return text if path is None else path.root


def replace_texts(source: Source, texts: list[str]) -> Source:
    """`source` with other columns."""
    if isinstance(source, Joined):
        return source.model_copy(update={"join": tuple(texts)})
    return texts[0] if len(texts) == 1 else tuple(texts)


def named(own: MappingConfig) -> frozenset[str]:
    """The columns that a shop's mapping names: a reader leaves them as the file has them."""
    return frozenset(text for source in own.columns.values() for text in texts_of(source))


def renamed(chunks: Iterable[RawChunk], names: Mapping[str, str], own: MappingConfig) -> Iterator[RawChunk]:
    """`chunks` with the columns called as the feed's makers call them ({theirs: the feed's}).

    What `own` names keeps its name; of two columns that are the same one the first is it.
    """
    kept = named(own)
    for chunk in chunks:
        columns: dict[str, list[Any]] = {}
        for name, values in chunk.columns.items():
            known = names.get(name, name)
            free = name not in kept and known not in columns and (known == name or known not in chunk.columns)
            columns[known if free else name] = values
        yield replace(chunk, columns=columns)


class Gathered:
    """Rows that are gathered into chunks of `rows` rows, with the columns in the order in which they came."""

    def __init__(self, rows: int) -> None:
        self._most = rows
        self.clear()

    def clear(self) -> None:
        """Begin again."""
        self.chunk = RawChunk([], {})
        self.size = 0

    def add(self, line: int, row: Mapping[str, Any], size: int = 0) -> None:
        """Add a row; `size`: its characters."""
        count = len(self.chunk.lines)
        self.chunk.lines.append(line)
        columns = self.chunk.columns
        for name, value in row.items():
            if name not in columns:
                columns[name] = [None] * count
            columns[name].append(value)
        for values in columns.values():
            if len(values) == count:
                values.append(None)
        self.size += size

    @property
    def full(self) -> bool:
        return self.chunk.read >= self._most or self.size >= LARGEST_CHUNK
