"""Raw rows → checked rows of our tables: mapping of columns, casting, photos, interaction ids."""

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa

from etalage.config import MappingConfig
from etalage.errors import ConfigError, InputUnreadable
from etalage.lake.casting import (
    Converter,
    attribute,
    attributes,
    attributes_json,
    cast_column,
    identity,
    instant,
    number,
    price,
    text,
    yes_or_no,
)
from etalage.lake.raw import RawChunk, Refusal
from etalage.lake.row_photos import add_photo, row_photo
from etalage.lake.schema import PHOTO_PENDING, TABLES, TableSpec

_ATTRIBUTE = "attributes."
_PATHS = ("photo_path", "path")
_PHOTO_COLUMNS = {"items": ("photo", "photo_path", "path"), "photos": ("photo", "photo_path", "path")}
_NEEDED = {"items": ("item_id",), "photos": ("item_id",), "users": ("user_id",),
           "interactions": ("user_id", "item_id")}  # fmt: skip
_NOT_READ = {"photos": ("status", "bytes", "width", "height", "sha256", "phash")}


@dataclass
class Loaded:
    """Some checked rows: `read` raw rows became `tables` (photos before items) and `refused`."""

    read: int
    tables: dict[str, pa.Table]
    refused: list[Refusal] = field(default_factory=list)


class Checker:
    """Turns raw chunks of one file into rows of `table`, as `mapping` says.

    `photo_root`: the folder that photo paths in the rows lie in; a path that leaves it is refused.
    Raises ConfigError (a mapping to a column that we do not have) and, at the first chunk,
    InputUnreadable (a needed column is not there).
    """

    def __init__(
        self, file: Path, table: str, mapping: MappingConfig, extra: dict[str, str] | None, photo_root: Path
    ) -> None:
        self.file = file
        self.spec = TABLES[table]
        self.mapping = mapping
        self.extra = extra or {}
        self.photo_root = photo_root.resolve()
        self._checked_columns = False
        self._occurrences: dict[bytes, int] = {}
        known = [
            *(n for n in self.spec.names if n not in _NOT_READ.get(table, ())),
            *_PHOTO_COLUMNS.get(table, ()),
        ]
        for name in (*mapping.columns, *mapping.constants):
            if name not in known and not (name.startswith(_ATTRIBUTE) and "attributes" in known):
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"we have {', '.join(known)}"
                raise ConfigError(f"[ingest.{table}]: table {table} has no column {name!r}; {hint}")
        self._known = known

    def sources(self, chunk: RawChunk) -> dict[str, str]:
        """{our column: their column} for this chunk. Raises InputUnreadable at the first chunk."""
        mapped = dict(self.mapping.columns)
        for name in self._known:
            if name in chunk.columns and name not in mapped and name not in self.mapping.constants:
                mapped[name] = name
        if not self._checked_columns and (chunk.lines or chunk.columns):
            self._require(mapped, list(chunk.columns))
            self._checked_columns = True
        sources = {ours: theirs for ours, theirs in mapped.items() if theirs in chunk.columns}
        path = next((sources[n] for n in _PATHS if n in sources), None)
        if self.spec.name == "items" and "item_id" not in mapped and path is not None:
            sources["item_id"] = path  # a table of paths: the id is the file's stem
        return sources

    def key_columns(self, chunk: RawChunk) -> list[Sequence[Any]] | None:
        """The raw values of the key columns, for finding repeated keys; None when ids are ours to give."""
        sources = self.sources(chunk)
        if self.spec.name == "interactions":
            return [chunk.columns[sources["interaction_id"]]] if "interaction_id" in sources else None
        if self.spec.name == "photos":
            url = [n for n in ("url", *_PATHS) if n in sources][:1]
            keys: list[Sequence[Any]] = [chunk.columns[sources[n]] for n in ("item_id", *url) if n in sources]
            return keys or None
        key = self.spec.key[0]
        if key not in sources:
            return None
        ids = chunk.columns[sources[key]]
        if self._ids_from_paths(sources, key):
            ids = [PurePath(str(path)).stem for path in ids]
        return [ids]

    def _ids_from_paths(self, sources: dict[str, str], name: str) -> bool:
        if self.spec.name != "items" or name != "item_id" or name in self.mapping.columns:
            return False
        return name in sources and sources[name] in [sources[path] for path in _PATHS if path in sources]

    def check(self, chunk: RawChunk) -> Loaded:
        """The chunk's rows cast, with photos where it has them; bad rows among `refused`."""
        sources = self.sources(chunk)
        bad: dict[int, str] = {}
        columns = self._cast(chunk, sources, bad)
        refused = list(chunk.refused)
        photos = self._photos(chunk, sources, columns, bad, refused)
        if self.spec.name == "interactions":
            self._identify(columns, bad)
        refused += [
            Refusal(str(self.file), chunk.lines[n], why, chunk.row(n)) for n, why in sorted(bad.items())
        ]
        tables: dict[str, pa.Table] = {}
        if photos.get("item_id"):
            tables["photos"] = table_of(TABLES["photos"], photos)
        keep = [n for n in range(len(chunk.lines)) if n not in bad]
        if keep and self.spec.name != "photos":
            kept = {name: [values[n] for n in keep] for name, values in columns.items()} if bad else columns
            tables[self.spec.name] = table_of(self.spec, kept)
        return Loaded(chunk.read, tables, refused)

    def _cast(self, chunk: RawChunk, sources: dict[str, str], bad: dict[int, str]) -> dict[str, list[Any]]:
        count = len(chunk.lines)
        columns: dict[str, list[Any]] = {}
        for column in self.spec.columns:
            name = column.name
            if name == "attributes" or (name not in sources and name not in self.mapping.constants):
                continue
            if name in _NOT_READ.get(self.spec.name, ()):
                continue
            raw = chunk.columns[sources[name]] if name in sources else [self.mapping.constants[name]] * count
            convert = _stem if self._ids_from_paths(sources, name) else converter(self.spec, name)
            columns[name] = cast_column(name, raw, convert, bad)
        if "attributes" in self.spec.names:
            self._attributes(chunk, sources, columns, bad)
        for name in _NEEDED[self.spec.name]:
            if name not in columns:
                columns[name] = cast_column(name, [None] * count, identity, bad)
        if self.spec.name == "interactions" and "kind" not in columns:
            columns["kind"] = ["view"] * count
        return columns

    def _attributes(
        self, chunk: RawChunk, sources: dict[str, str], columns: dict[str, list[Any]], bad: dict[int, str]
    ) -> None:
        single = {ours.removeprefix(_ATTRIBUTE): theirs for ours, theirs in sources.items()
                  if ours.startswith(_ATTRIBUTE)}  # fmt: skip
        fixed = {name.removeprefix(_ATTRIBUTE): value for name, value in self.mapping.constants.items()
                 if name.startswith(_ATTRIBUTE)}  # fmt: skip
        fixed |= self.extra
        whole = sources.get("attributes")
        constant = self.mapping.constants.get("attributes")
        if whole is None and constant is None and not single and not fixed:
            return
        base = chunk.columns[whole] if whole is not None else [constant] * len(chunk.lines)
        rows = [dict(row or {}) for row in cast_column("attributes", base, attributes, bad)]
        for name, theirs in single.items():
            values = cast_column(_ATTRIBUTE + name, chunk.columns[theirs], _attribute_or_none, bad)
            for row, value in zip(rows, values, strict=True):
                if value is not None:
                    row[name] = value
        columns["attributes"] = [attributes_json(row | fixed) for row in rows]

    def _photos(
        self, chunk: RawChunk, sources: dict[str, str], columns: dict[str, list[Any]], bad: dict[int, str],
        refused: list[Refusal],
    ) -> dict[str, list[Any]]:  # fmt: skip
        """The photos that the rows carry. A bad one refuses a photos row, but leaves its item."""
        which = next((n for n in _PHOTO_COLUMNS.get(self.spec.name, ()) if n in sources), None)
        own = self.spec.name == "photos"
        if which is None:
            return self._links(columns, bad) if own else {}
        urls = columns.get("url" if own else "photo_url") or [None] * len(chunk.lines)
        rows: dict[str, list[Any]] = {name: [] for name in TABLES["photos"].names}
        for n, raw in enumerate(chunk.columns[sources[which]]):
            if n in bad or (not own and (raw is None or raw in ("", b""))):
                continue
            try:
                photo, name = row_photo(raw, None if which == "photo" else self.photo_root)
                url = urls[n] or name
                add_photo(rows, columns["item_id"][n], url, photo)
                urls[n] = url
            except ValueError as error:
                why = f"{which}: {error}"
                if own:
                    bad[n] = why
                else:
                    refused.append(Refusal(str(self.file), chunk.lines[n], why, chunk.row(n), what="photos"))
        if own and "fetched_at" in columns:
            rows["fetched_at"] = [t for n, t in enumerate(columns["fetched_at"]) if n not in bad]
        if not own and any(urls):
            columns["photo_url"] = urls
        return rows

    def _links(self, columns: dict[str, list[Any]], bad: dict[int, str]) -> dict[str, list[Any]]:
        """Photos that are links alone: pending, until they are fetched. One that was fetched stays."""
        links: dict[str, list[Any]] = {"item_id": [], "url": [], "status": []}
        for n, (item_id, url) in enumerate(zip(columns["item_id"], columns["url"], strict=True)):
            if n not in bad and not url:
                bad[n] = "url: is missing"
            if n not in bad:
                links["item_id"].append(item_id)
                links["url"].append(url)
                links["status"].append(PHOTO_PENDING)
        return links

    def _identify(self, columns: dict[str, list[Any]], bad: dict[int, str]) -> None:
        """Give the rows an id where they have none: the hash of the row and its occurrence number."""
        if "interaction_id" in columns:
            return
        count = len(columns["user_id"])
        fields = [columns.get(n) or [None] * count for n in ("user_id", "item_id", "kind", "value", "time")]
        ids: list[str | None] = []
        for n, row in enumerate(zip(*fields, strict=True)):
            if n in bad:
                ids.append(None)
                continue
            when = row[4]
            micros = None if when is None else round(when.timestamp() * 1e6)
            said = repr((*row[:4], micros)).encode("utf-8")
            digest = hashlib.blake2b(said, digest_size=16).digest()
            occurrence = self._occurrences.get(digest, 0)
            self._occurrences[digest] = occurrence + 1
            ids.append(f"{digest.hex()}-{occurrence}")
        columns["interaction_id"] = ids

    def _require(self, mapped: dict[str, str], found: list[str]) -> None:
        table = self.spec.name
        shown = ", ".join(map(repr, found)) or "none"
        for ours, theirs in mapped.items():
            if theirs not in found:
                near = difflib.get_close_matches(theirs, found, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise InputUnreadable(
                    f"{self.file}: [ingest.{table}.columns] says {ours} = {theirs!r}, but the file has no "
                    f"such column{hint}. It has: {shown}"
                )
        given = {*mapped, *self.mapping.constants}
        if table == "items" and not given.isdisjoint(_PATHS):
            given.add("item_id")
        needed = [n for n in _NEEDED[table] if n not in given]
        if table == "photos" and not any(n in mapped for n in (*_PHOTO_COLUMNS["photos"], "url")):
            needed.append("photo_path")
        if needed:
            lines = "\n".join(f'{n} = "<one of the columns found>"' for n in needed)
            lines += "\n(for links instead of files: url)" if "photo_path" in needed else ""
            raise InputUnreadable(
                f"{self.file}: no column for {', '.join(needed)}. Columns found: {shown}. "
                f"Write in shop.toml which they are:\n[ingest.{table}.columns]\n{lines}"
            )


def converter(spec: TableSpec, name: str) -> Converter:
    """How the raw values of a column become ours."""
    if name in ("item_id", "user_id", "interaction_id"):
        return identity
    if name == "price":
        return price
    kind = spec.column(name).type
    if pa.types.is_timestamp(kind):
        return instant(datetime.now(UTC))
    if pa.types.is_boolean(kind):
        return yes_or_no
    return number if pa.types.is_floating(kind) else text


def table_of(spec: TableSpec, columns: dict[str, list[Any]]) -> pa.Table:
    """The given columns as an Arrow table of the table's types."""
    fields = [spec.schema.field(name) for name in spec.names if name in columns]
    return pa.Table.from_arrays([pa.array(columns[f.name], f.type) for f in fields], schema=pa.schema(fields))


def _stem(value: Any) -> str:
    return identity(PurePath(value).stem if isinstance(value, str) else value)


def _attribute_or_none(value: Any) -> str | None:
    return None if value is None else attribute(value)
