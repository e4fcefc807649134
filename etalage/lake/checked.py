"""Raw rows → checked rows of our tables: casting, photos, links, interaction ids.

A row without what it needs (its ids; of an interaction everything it says, as an act is one statement) is
refused. Of items, users and photos an unreadable value in any other column costs that value: the row is
taken, the column is null = not known, and the value stands in `refused` with its `field`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa

from etalage.config import MappingConfig
from etalage.errors import ConfigError, InputUnreadable
from etalage.kinds import known_meaning
from etalage.lake.amounts import Amount, Mark, currency_code, proven_mark, read_amount
from etalage.lake.availability import can_be_bought
from etalage.lake.casting import (
    Converter,
    attribute,
    attributes,
    attributes_json,
    cast_column,
    decoded,
    identity,
    instant,
    links,
    paragraphs,
    says_nothing,
    text,
)
from etalage.lake.instants import TimeStyle
from etalage.lake.mapping import ATTRIBUTE, MappedChunk, Mapping
from etalage.lake.notes import Notes
from etalage.lake.occurrences import Occurrences
from etalage.lake.raw import RawChunk, RawTable, Refusal
from etalage.lake.row_photos import add_photo, row_photo
from etalage.lake.schema import CLEARED, PHOTO_PENDING, TABLES, TableSpec
from etalage.lake.shown import shown
from etalage.lake.spreadsheets import is_shortened
from etalage.lake.whence import Whence, noun, place
from etalage.lake.written_times import Order, proven_order, zone_of

_PATHS = ("photo_path", "path")
_PHOTO_COLUMNS = {"items": ("photo", "photo_path", "path"), "photos": ("photo", "photo_path", "path")}
_NEEDED = {"items": ("item_id",), "photos": ("item_id",), "users": ("user_id",),
           "interactions": ("user_id", "item_id")}  # fmt: skip
_NOT_READ = {
    "photos": ("status", "bytes", "width", "height", "sha256", "phash"),
    "items": ("source_updated_at",),
}
_IDS = ("item_id", "user_id", "interaction_id")
_GAPS = frozenset(
    "NULL Null null None none NONE NaN nan NAN N/A n/a NA #N/A nil undefined unknown <NA> - ?".split()  # noqa: SIM905
)
"""Words for `no id`, as ids."""
_LABELS = ("brand", "category_id", "item_group_id", "currency")
"""Texts that items share: a word for `not known` would make all who have it one brand, or one product."""
_NO_GROUP = ("0",)
"""What shop systems write for the parent of a product that has none."""
_WITH_ENTITIES = ("title", "description", "brand", "category_id")


@dataclass
class Loaded:
    """Some checked rows: `read` raw rows became `tables` (photos before items) and `refused`.

    `links`: photos that are links alone, of items whose rows say more than one. `passed`: rows that are none
    of ours. `lines`: of the rows that were taken.
    """

    read: int
    tables: dict[str, pa.Table]
    refused: list[Refusal] = field(default_factory=list)
    links: pa.Table | None = None
    passed: int = 0
    lines: list[int] = field(default_factory=list)


class Checker:
    """Turns raw chunks of one file into rows of `table`, as `mapping` says. What it did unasked is in
    `notes`.

    `photo_root`: the folder that photo paths in the rows lie in; a path that leaves it is refused. `own`: see
    Mapping.
    Raises ConfigError (a mapping to a column that we do not have) and, at the first chunk,
    InputUnreadable (a needed column is not there).
    """

    def __init__(
        self,
        file: Whence,
        table: str,
        mapping: MappingConfig,
        extra: dict[str, str] | None,
        photo_root: Path,
        own: MappingConfig | None = None,
        notes: Notes | None = None,
    ) -> None:
        self.file = file
        self.spec = TABLES[table]
        self.extra = extra or {}
        self.photo_root = photo_root.resolve()
        self.notes = Notes() if notes is None else notes
        known = [n for n in self.spec.names if n not in _NOT_READ.get(table, ())]
        self.mapping = Mapping(file, table, mapping, [*known, *_PHOTO_COLUMNS.get(table, ())], own)
        self.decimal: Mark | None = mapping.decimal
        self._marks: set[Mark] = set()
        try:
            zone = zone_of(mapping.timezone) if mapping.timezone is not None else UTC
        except ValueError as error:
            raise ConfigError(f"[ingest.{table}] timezone: {error}") from None
        self._times = TimeStyle(zone, mapping.dates)
        self._orders: set[Order] = set()
        self._two_dates = 0
        self._required = False
        self._occurrences = Occurrences()

    def require(self, raw: RawTable) -> None:
        """Raises InputUnreadable: no row of the file has a column that rows need. Of a file with one header
        the first chunk tells, as soon as it is looked at."""
        if raw.one_header:
            return
        names: dict[str, list[Any]] = {}
        last: InputUnreadable | None = None
        for chunk in raw.chunks():
            names |= {name: values[:1] for name, values in chunk.columns.items() if name not in names}
            try:
                self._require(RawChunk([], names))
            except InputUnreadable as error:
                last = error
            else:
                return
        if last is not None:
            raise last

    def look(self, chunk: RawChunk) -> list[Sequence[Any]] | None:
        """Looks through a chunk before the rows are checked: which decimal mark its numbers prove, and which
        order of day and month its dates.

        Gives the raw values of the key columns, for finding repeated keys; None when ids are ours to give.
        """
        self._require(chunk)
        numbers = [c.name for c in self.spec.columns if pa.types.is_floating(c.type)]
        times = [c.name for c in self.spec.columns if pa.types.is_timestamp(c.type)]
        wanted = [*self.spec.key, *_PATHS, "url", *numbers, *times]
        mapped = self._with_ids(self.mapping.apply(chunk, only=wanted))
        for name in numbers:
            if self.decimal is None and len(self._marks) < 2:
                marks = (proven_mark(value) for value in mapped.columns.get(name, ()))
                self._marks.update(mark for mark in marks if mark is not None)
        for name in times if self._times.order is None else ():
            self._look_for_order(mapped.columns.get(name, ()))
        return self.keys(mapped)

    def _look_for_order(self, values: Sequence[Any]) -> None:
        for value in values:
            try:
                order = proven_order(value)
            except ValueError:
                self._two_dates += 1
            else:
                if order is not None:
                    self._orders.add(order)

    def mapped(self, chunk: RawChunk) -> MappedChunk:
        """The chunk by our columns, as `check` wants it."""
        self._require(chunk)
        for note in chunk.notes:
            self.notes.add(note.what, note.count, note.example)
        return self._with_ids(self.mapping.apply(chunk, self.notes))

    def keys(self, chunk: MappedChunk) -> list[Sequence[Any]] | None:
        """The raw values of the key columns; None when ids are ours to give."""
        columns = chunk.columns
        if self.spec.name == "photos":
            url = [n for n in ("url", *_PATHS) if n in columns][:1]
            return [_ids(columns[n]) for n in ("item_id", *url) if n in columns] or None
        key = self.spec.key[0]
        return [_ids(columns[key])] if key in columns else None

    def check(self, chunk: MappedChunk) -> Loaded:
        """The chunk's rows cast, with photos where it has them; bad rows, and bad values, among `refused`."""
        sheet = _Sheet(self, chunk)
        refused = list(chunk.refused)
        columns = sheet.cast()
        photos = self._photos(chunk, columns, sheet, refused)
        if self.spec.name == "interactions":
            self._identify(columns, sheet.bad)
        refused += sheet.refusals(columns)
        more = sheet.links(columns)
        tables: dict[str, pa.Table] = {}
        if photos.get("item_id"):
            tables["photos"] = table_of(TABLES["photos"], photos)
        keep = [n for n in range(len(chunk.lines)) if n not in sheet.bad]
        if keep and self.spec.name != "photos":
            if any(sheet.cleared.values()):
                columns[CLEARED] = [sheet.cleared.get(n) for n in range(len(chunk.lines))]
            if sheet.bad:
                columns = {name: [values[n] for n in keep] for name, values in columns.items()}
            tables[self.spec.name] = table_of(self.spec, columns)
        return Loaded(chunk.read, tables, refused, more, chunk.passed, [chunk.lines[n] for n in keep])

    def converter(self, name: str) -> Converter:
        """How the raw values of a column become ours; prices and numbers become Amounts."""
        if name in _IDS:
            return identity
        kind = self.spec.column(name).type
        if pa.types.is_timestamp(kind):
            return instant(datetime.now(UTC), self._style(name))
        if pa.types.is_boolean(kind):
            return can_be_bought
        if pa.types.is_floating(kind):
            return partial(self._amount, name)
        return paragraphs if name == "description" else text

    def _style(self, name: str) -> TimeStyle:
        if len(self._orders) != 1 or self._times.order is not None:
            return self._times
        (order,) = self._orders
        if self._two_dates:
            others = f"others of the {noun(self.file)}"
            self.notes.add(f"{name}: dates such as 03/04/2025 are read as {others} show, dates = {order!r}")
        return replace(self._times, proven=order)

    def _amount(self, name: str, value: Any) -> Amount | None:
        if name == "value" and (truth := _truth(value)) is not None:
            self.notes.add("value: true and false are read as 1 and 0", 1, shown(value))
            return Amount(truth)
        try:
            amount = read_amount(value, self.decimal)
        except ValueError:
            if len(self._marks) != 1:
                raise
            (mark,) = self._marks
            amount = read_amount(value, None, mark)
            self.notes.add(
                f"{name}: read with the decimal mark {mark!r}, as others are written", 1, shown(value)
            )
        if name == "price" and amount is not None and amount.value < 0:
            raise ValueError(f"{shown(value)} is negative")
        return amount

    def _require(self, chunk: RawChunk) -> None:
        if self._required or not (chunk.lines or chunk.columns):
            return
        table = self.spec.name
        needed = _NEEDED[table]
        if table == "items" and "item_id" not in self.mapping.config.columns:
            given = {*self.mapping.sources(chunk.columns), *self.mapping.config.constants}
            needed = () if not given.isdisjoint(_PATHS) else needed
        kind = self.mapping.config.constants.get("kind")
        if table == "interactions" and kind is not None and known_meaning(str(kind)) == "rating":
            # A rating that nothing rates is none: such a file is of something else.
            needed = (*needed, *(name for name in ("value",) if name in self.mapping.config.columns))
        self.mapping.require(
            chunk, needed, ("photo_path", "path", "photo", "url") if table == "photos" else ()
        )
        self._required = True

    def _with_ids(self, chunk: MappedChunk) -> MappedChunk:
        """A table of paths: an item's id is the file's stem."""
        path = next((chunk.columns[name] for name in _PATHS if name in chunk.columns), None)
        if self.spec.name == "items" and "item_id" not in chunk.columns and path is not None:
            chunk.columns["item_id"] = [PurePath(p).stem if isinstance(p, str) else p for p in path]
        return chunk

    def _photos(
        self, chunk: MappedChunk, columns: dict[str, list[Any]], sheet: "_Sheet", refused: list[Refusal]
    ) -> dict[str, list[Any]]:
        """The photos that the rows carry. A bad one refuses a photos row, but leaves its item."""
        which = next((n for n in _PHOTO_COLUMNS.get(self.spec.name, ()) if n in chunk.columns), None)
        own = self.spec.name == "photos"
        if which is None:
            return self._linked(columns, sheet) if own else {}
        urls = columns.get("url" if own else "photo_url") or [None] * len(chunk.lines)
        rows: dict[str, list[Any]] = {name: [] for name in TABLES["photos"].names}
        for n, raw in enumerate(chunk.columns[which]):
            if n in sheet.bad or (not own and (raw is None or raw in ("", b""))):
                continue
            try:
                photo, name = row_photo(raw, None if which == "photo" else self.photo_root)
                url = urls[n] or name
                add_photo(rows, columns["item_id"][n], url, photo)
                urls[n] = url
            except ValueError as error:
                why = f"{which}: {error}"
                if own:
                    sheet.bad[n] = why
                else:
                    key = columns["item_id"][n]
                    refused.append(
                        Refusal(str(self.file), chunk.lines[n], why, chunk.row(n), what="photos", key=key)
                    )
        if own and "fetched_at" in columns:
            rows["fetched_at"] = [t for n, t in enumerate(columns["fetched_at"]) if n not in sheet.bad]
        if not own and any(urls):
            columns["photo_url"] = urls
        return rows

    def _linked(self, columns: dict[str, list[Any]], sheet: "_Sheet") -> dict[str, list[Any]]:
        """Photos that are links alone: pending, until they are fetched. One that was fetched stays."""
        for n, url in enumerate(columns["url"]):
            if n not in sheet.bad and not url:
                sheet.bad[n] = "url: is missing"
        good = [n for n in range(len(columns["url"])) if n not in sheet.bad]
        pairs = [
            (columns["item_id"][n], url) for n in good for url in (columns["url"][n], *sheet.more.get(n, ()))
        ]
        sheet.more.clear()
        return pending(pairs)

    def _identify(self, columns: dict[str, list[Any]], bad: dict[int, str]) -> None:
        """Give the rows an id where they have none: the hash of the row and its occurrence number."""
        if "interaction_id" in columns:
            return
        count = len(columns["user_id"])
        fields = [columns.get(n) or [None] * count for n in ("user_id", "item_id", "kind", "value", "time")]
        digests: dict[int, bytes] = {}
        micros = {when: None if when is None else round(when.timestamp() * 1e6) for when in set(fields[4])}
        for n, row in enumerate(zip(*fields, strict=True)):
            if n in bad:
                continue
            said = repr((*row[:4], micros[row[4]])).encode("utf-8")
            digests[n] = hashlib.blake2b(said, digest_size=16).digest()
        ids: list[str | None] = [None] * count
        numbers = self._occurrences.number(list(digests.values()))
        for (n, digest), occurrence in zip(digests.items(), numbers, strict=True):
            ids[n] = f"{digest.hex()}-{occurrence}"
        columns["interaction_id"] = ids


class _Sheet:
    """One chunk while it is cast: `bad` rows and why, `lost` values and why, `cleared` columns, `more`
    links."""

    def __init__(self, checker: Checker, chunk: MappedChunk) -> None:
        self._checker = checker
        self._chunk = chunk
        self._spec = checker.spec
        self._whole_rows = {*_NEEDED[self._spec.name], *self._spec.required}
        self.bad: dict[int, str] = {}
        self.lost: dict[int, dict[str, str]] = {}
        self.cleared: dict[int, list[str]] = {}
        """Row → the columns that the file says are not known: a null that is meant, unlike an empty cell."""
        self.more: dict[int, list[str]] = {}

    def cast(self) -> dict[str, list[Any]]:
        """The columns of the table that the chunk has, in its types."""
        columns: dict[str, list[Any]] = {}
        for column in self._spec.columns:
            name = column.name
            if name != "attributes" and name in self._chunk.columns:
                columns[name] = self._column(name, self._chunk.columns[name])
        if "price" in columns:
            self._currencies(columns)
        if "value" in columns:
            for n, amount in enumerate(columns["value"]):
                if amount is not None and amount.currency is not None:
                    self._note("value: the currency beside it is left out", n)
            columns["value"] = [None if a is None else a.value for a in columns["value"]]
        for name in ("photo_url", "url"):
            if name in columns:
                columns[name] = self._first_links(name, columns[name])
        for name in _WITH_ENTITIES:
            if name in columns and self._spec.name == "items":
                columns[name] = self._decoded(name, columns[name])
        if "attributes" in self._spec.names:
            self._attributes(columns)
        for name in _NEEDED[self._spec.name]:
            if name not in columns:
                columns[name] = self._column(name, [None] * len(self._chunk.lines))
        if self._spec.name == "interactions":
            columns["kind"] = self._kinds(columns.get("kind"))
            self._count_timeless(columns.get("time"))
        if "updated_at" in columns:
            columns["source_updated_at"] = columns["updated_at"]
        return columns

    def refusals(self, columns: dict[str, list[Any]]) -> list[Refusal]:
        """Of rows that are not taken, then of values that were left out of those that are."""
        ids = columns.get(self._spec.key[0]) if self._spec.name != "interactions" else None
        if self._spec.name == "interactions" and "interaction_id" in self._chunk.columns:
            ids = columns["interaction_id"]
        key = (lambda n: None if ids is None else ids[n]) if ids is not None else (lambda n: None)
        file, chunk = str(self._checker.file), self._chunk
        rows = [
            Refusal(file, chunk.lines[n], why, chunk.row(n), key=key(n))
            for n, why in sorted(self.bad.items())
        ]
        for n, values in sorted(self.lost.items()):
            if n not in self.bad:
                rows += [
                    Refusal(file, chunk.lines[n], f"{name}: {why}", chunk.row(n), key=key(n), field=name)
                    for name, why in values.items()
                ]
        return rows

    def links(self, columns: dict[str, list[Any]]) -> pa.Table | None:
        """The photos that are links alone: those of a cell with several, but the first."""
        pairs = [
            (columns["item_id"][n], url) for n, urls in self.more.items() if n not in self.bad for url in urls
        ]
        return table_of(TABLES["photos"], pending(pairs)) if pairs else None

    def _column(self, name: str, raw: Sequence[Any]) -> list[Any]:
        linked = name in ("photo_url", "url")
        kind = self._spec.column(name).type
        amounts = pa.types.is_floating(kind)
        values, reasons = cast_column(raw, links if linked else self._checker.converter(name), counts=amounts)
        typed = not pa.types.is_string(kind) or linked or name in _LABELS
        unsaid = [n for n in reasons if typed and says_nothing(raw[n])] if name not in _IDS else []
        if linked or (name in _LABELS and self._spec.name == "items"):
            none = _NO_GROUP if name == "item_group_id" else ()
            filled = [n for n, value in enumerate(values) if value]
            unsaid += [n for n in filled if values[n] in none or says_nothing(raw[n])]
        if name in _IDS:
            self._tell_ids(name, raw)
        elif pa.types.is_timestamp(kind):
            self._tell_times(name, raw)
        for n in unsaid:
            values[n] = None
            reasons.pop(n, None)
            self._clear(n, name)
            self._note(f"{name}: {shown(raw[n])} is taken for `not known`", n)
        for n, why in reasons.items():
            self._refuse(n, name, why)
        return values

    def _tell_ids(self, name: str, raw: Sequence[Any]) -> None:
        """What happened to ids before they came here, or may be none: they stay as they are."""
        catalogue = self._spec.name != "interactions"
        if _plain(raw) and not (catalogue and not _GAPS.isdisjoint(raw)):
            return
        for n, value in enumerate(raw):
            if type(value) is str:
                if "E+" in value and is_shortened(value):
                    what = f"{name}: a number that a spreadsheet cut short; several ids may have become one"
                    self._checker.notes.add(f"{what}; export the column as text", 1, shown(value))
                elif catalogue and value in _GAPS:
                    self._note(f"{name}: {shown(value)} is taken for an id; is it a gap in the file?", n)
            elif type(value) is float and value == value:
                self._note(f"{name}: whole numbers in a column with gaps, 3.0, are read as 3", n)

    def _tell_times(self, name: str, raw: Sequence[Any]) -> None:
        for value in () if _plain(raw) else raw:
            if type(value) is str and "E+" in value and is_shortened(value):
                what = f"{name}: a number that a spreadsheet cut short, so that the time is not exact"
                self._checker.notes.add(what, 1, shown(value))

    def _refuse(self, n: int, name: str, why: str) -> None:
        """An unreadable value: it costs the row where the row needs it, else itself alone."""
        if name in self._whole_rows or self._spec.name == "interactions":
            self.bad.setdefault(n, f"{name}: {why}")
            return
        self.lost.setdefault(n, {})[name] = why
        self._clear(n, name)

    def _clear(self, n: int, name: str) -> None:
        if self._spec.name != "interactions":
            self.cleared.setdefault(n, []).append(name)

    def _note(self, what: str, n: int) -> None:
        self._checker.notes.add(what, 1, place(self._checker.file, self._chunk.lines[n]))

    def _kinds(self, given: list[Any] | None) -> list[Any]:
        """An act of no kind is a view: that somebody was there is all it says."""
        if given is None:
            count = len(self._chunk.lines)
            what = f"kind: the {noun(self._checker.file)} does not say it; taken for a view"
            self._checker.notes.add(what, count)
            return ["view"] * count
        none = {kind for kind in set(given) if kind is None or kind == "" or says_nothing(kind)}
        if not none:
            return given
        kinds: list[Any] = []
        for n, kind in enumerate(given):
            kinds.append("view" if kind in none else kind)
            if kind in none:
                said = f"{shown(kind)} says nothing" if kind else "there is none"
                self._note(f"kind: {said}; taken for a view", n)
        return kinds

    def _count_timeless(self, times: list[Any] | None) -> None:
        """Acts whose time nobody knows have no order, and are left out of splits by time."""
        if times is None:
            what = f"time: the {noun(self._checker.file)} does not say it"
            self._checker.notes.add(what, len(self._chunk.lines))
        elif None in times:
            for n, time in enumerate(times):
                if time is None and n not in self.bad:
                    self._note("time: there is none", n)

    def _currencies(self, columns: dict[str, list[Any]]) -> None:
        """A price's own currency is the item's."""
        amounts = columns["price"]
        columns["price"] = [None if a is None else a.value for a in amounts]
        beside = {n: a.currency for n, a in enumerate(amounts) if a is not None and a.currency is not None}
        given = columns.get("currency")
        if not beside and given is None:
            return
        codes = [None if c is None else currency_code(c) or c for c in given or [None] * len(amounts)]
        for n, code in beside.items():
            if codes[n] not in (None, code):
                self._note(
                    f"currency: the price says {code}, the currency says {codes[n]}; the price counts", n
                )
            codes[n] = code
        columns["currency"] = codes

    def _first_links(self, name: str, found: list[Any]) -> list[str | None]:
        for n, urls in enumerate(found):
            if urls and len(urls) > 1:
                self.more[n] = urls[1:]
                what = f"{name}: several links in a cell; the first is the main photo, the others photos too"
                self._note(what, n)
        return [urls[0] if urls else None for urls in found]

    def _decoded(self, name: str, values: list[Any]) -> list[Any]:
        done = [decoded(value) if value is not None else None for value in values]
        for n, (before, after) in enumerate(zip(values, done, strict=True)):
            if before != after:
                self._note(f"{name}: entities of HTML read as characters", n)
        return done

    def _attributes(self, columns: dict[str, list[Any]]) -> None:
        count = len(self._chunk.lines)
        single = {
            name.removeprefix(ATTRIBUTE): values
            for name, values in self._chunk.columns.items()
            if name.startswith(ATTRIBUTE)
        }
        base = self._chunk.columns.get("attributes")
        if base is None and not single and not self._checker.extra:
            return
        casted, reasons = cast_column(base if base is not None else [None] * count, attributes)
        rows = [dict(row or {}) for row in casted]
        for n, why in reasons.items():
            self.lost.setdefault(n, {})["attributes"] = why
        for name, values in single.items():
            casted, reasons = cast_column(values, _attribute_or_none)
            for row, value in zip(rows, casted, strict=True):
                if value is not None:
                    row[name] = value
            for n, why in reasons.items():
                self._refuse(n, ATTRIBUTE + name, why)
        for n, row in enumerate(rows):
            for name, value in row.items():
                row[name] = decoded(value)
                if row[name] != value:
                    self._note(f"attributes.{name}: entities of HTML read as characters", n)
        columns["attributes"] = [attributes_json(row | self._checker.extra) for row in rows]


def pending(pairs: Sequence[tuple[str, str]]) -> dict[str, list[Any]]:
    """Columns of photos that nobody has asked for yet, of (item_id, url)."""
    return {
        "item_id": [item_id for item_id, _ in pairs],
        "url": [url for _, url in pairs],
        "status": [PHOTO_PENDING] * len(pairs),
    }


def table_of(spec: TableSpec, columns: dict[str, list[Any]]) -> pa.Table:
    """The given columns as an Arrow table of the table's types, with CLEARED where it is among them."""
    fields = [spec.schema.field(name) for name in spec.names if name in columns]
    if CLEARED in columns:
        fields.append(pa.field(CLEARED, pa.list_(pa.string())))
    return pa.Table.from_arrays([pa.array(columns[f.name], f.type) for f in fields], schema=pa.schema(fields))


def _plain(raw: Sequence[Any]) -> bool:
    """Whether a column is of texts alone, none of which may be a number that was cut short."""
    try:
        return "E+" not in "".join(raw)
    except TypeError:
        return False


def _ids(raw: Sequence[Any]) -> Sequence[Any]:
    """Raw ids as text where they are numbers with a fraction: 3.0 and 3 are one."""
    if not any(type(value) is float for value in raw):
        return raw
    return [int(v) if type(v) is float and v.is_integer() else v for v in raw]


def _truth(value: Any) -> float | None:
    """1 and 0 for true and false, as values or as words; None: it is neither."""
    if isinstance(value, bool):
        return float(value)
    word = value.strip().lower() if type(value) is str and len(value) < 8 else None
    return {"true": 1.0, "false": 0.0}.get(word) if word else None


def _attribute_or_none(value: Any) -> str | None:
    return None if value is None else attribute(value)
