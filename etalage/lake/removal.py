"""Items that leave the catalogue: those that a whole file does not have, and those whose ids somebody types
or puts into a file.

Their rows go out of the table items, and with them the links of photos that nobody has asked for yet; the
next `etalage sync` takes them out of the bundle. Photos that were fetched stay, so that an item that comes
back has them.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import MappingConfig
from etalage.errors import CatalogueShrank, InputUnreadable
from etalage.lake.casting import cast_column, identity
from etalage.lake.checked import Checker
from etalage.lake.delta import Lake
from etalage.lake.sources import open_file
from etalage.lake.unknown_ids import Repairs
from etalage.nearest import nearest

_AT_ONCE = 10_000
_SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".pq", ".xml", ".xlsx", ".gz")


def ids_of(words: Sequence[str], mapping: MappingConfig, known: Collection[str] = ()) -> Iterator[str]:
    """Item ids, each as it is typed, or those in a file: a line each (.txt), or a table with the mapped
    column.

    Raises InputUnreadable: a file without ids; a row of it that has none; a word that is called as files
    are, and is none, nor one of the `known` ids.
    """
    for word in words:
        file = Path(word)
        if not file.is_file():
            if word not in known and _looks_like_file(word):
                what = "is a folder" if file.is_dir() else "no such file"
                raise InputUnreadable(f"{word}: {what}, and no such item; nothing was deleted")
            yield word
        elif file.suffix.lower() == ".txt":
            yield from _lines(file)
        else:
            yield from _column(file, mapping)


def _looks_like_file(word: str) -> bool:
    return any(mark in word for mark in "/\\") or word.lower().endswith(_SUFFIXES) or Path(word).is_dir()


def _lines(file: Path) -> Iterator[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputUnreadable(f"{file}: cannot be read as UTF-8 text: {error}") from error
    yield from (line for line in text.splitlines() if line)


def _column(file: Path, mapping: MappingConfig) -> Iterator[str]:
    opened = open_file(file, "items", mapping, _AT_ONCE)
    checker = Checker(file, "items", opened.mapping, None, file.parent, opened.own)
    checker.require(opened.raw)
    for chunk in opened.raw.chunks():
        (ids,) = checker.look(chunk) or [[]]
        values, reasons = cast_column(ids, identity)
        refused = [(r.line, r.reason) for r in chunk.refused]
        refused += [(chunk.lines[n], f"item_id: {why}") for n, why in reasons.items()]
        for line, why in refused[:1]:
            raise InputUnreadable(f"{file}: line {line}: {why}; nothing was deleted: mend the row")
        yield from values


_COMPARED = 10
"""So many unknown ids are compared with all known ones letter by letter."""
LOOKS_WHOLE = 0.5
"""A file with this share of the catalogue looks as if it were meant to be all there is."""


class Present:
    """The ids that a file has, as hashes: 8 bytes each. A chance collision only keeps an item that might
    go."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []
        self.count = 0

    def add(self, ids: Collection[str]) -> None:
        """Remember these."""
        if ids:
            self._parts.append(np.fromiter((hash(one) for one in ids), dtype=np.int64, count=len(ids)))
            self.count += len(ids)

    def missing(self, ids: list[str]) -> list[str]:
        """Those of `ids` that were not remembered, in their order."""
        if not ids:
            return []
        own = np.fromiter((hash(one) for one in ids), dtype=np.int64, count=len(ids))
        there = np.isin(own, np.concatenate([*self._parts, np.zeros(0, np.int64)]))
        return [ids[n] for n in np.flatnonzero(~there)]


@dataclass(frozen=True)
class Removed:
    """`items` are gone from the catalogue; `unknown` ids never were in it; `near`: an unknown one → a known
    one that it may be."""

    items: list[str]
    unknown: list[str]
    near: dict[str, str] = field(default_factory=dict)


def item_ids(lake: Lake) -> list[str]:
    """The ids of the catalogue, sorted; none where there is no table yet."""
    table = lake.table("items")
    return sorted(table.read(columns=["item_id"])["item_id"].to_pylist()) if table.exists() else []


def check_shrink(gone: int, of: int, max_shrink: float, force: bool) -> None:
    """Raises CatalogueShrank: so much of the catalogue would go that it looks like a mistake."""
    if gone and not force and gone >= max_shrink * of:
        raise CatalogueShrank(
            f"{gone:,} of {of:,} items would leave the catalogue ({gone / of:.0%}), [publish] max_shrink = "
            f"{max_shrink:g}; none did. If that is meant: --force"
        )


def remove_items(lake: Lake, ids: Iterable[str], max_shrink: float, force: bool = False) -> Removed:
    """Take these items out of the catalogue. Raises CatalogueShrank before anything is changed."""
    there = item_ids(lake)
    known = set(there)
    wanted = list(dict.fromkeys(ids))
    gone = [one for one in wanted if one in known]
    check_shrink(len(gone), len(there), max_shrink, force)
    if gone:
        keys = pa.array(gone, pa.string())
        _remove_links(lake, keys)
        lake.table("items").delete(pa.table({"item_id": keys}))
    unknown = [one for one in wanted if one not in known]
    return Removed(gone, unknown, unknown_near(unknown, there))


def unknown_near(unknown: Sequence[str], there: Sequence[str]) -> dict[str, str]:
    """Unknown ids → the known ones that they may be."""
    if not unknown:
        return {}
    repairs = Repairs(there)
    near = {one: found for one in unknown if (found := repairs.of(one)) is not None}
    for one in unknown[:_COMPARED]:
        if one not in near and (found := nearest(one, there)) is not None:
            near[one] = found
    return near


def links_of(lake: Lake, item_ids: pa.Array) -> pa.Table:
    """(item_id, url) of the links of these items that nobody has asked for yet, or that gave no photo."""
    photos = lake.table("photos")
    if not photos.exists():
        return pa.schema([("item_id", pa.string()), ("url", pa.string())]).empty_table()
    rows = photos.read(columns=["item_id", "url", "sha256"])
    rows = rows.filter(pc.and_(pc.is_in(rows["item_id"], value_set=item_ids), pc.is_null(rows["sha256"])))
    return rows.select(["item_id", "url"])


def _remove_links(lake: Lake, item_ids: pa.Array) -> None:
    links = links_of(lake, item_ids)
    if links.num_rows:
        lake.table("photos").delete(links)
