"""A file's own columns → ours, as [ingest.<table>] of shop.toml says; the values stay raw.

`Mapping` finds for each of our columns where it comes from (a column, several, a path into nested values, a
constant), makes a row for each element of a list that is walked, puts our words for theirs, passes over the
rows that are to be skipped, and remembers what a mapping named and the file does not have.
"""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from etalage.config import Joined, MappingConfig, Source, texts_of
from etalage.errors import ConfigError, InputUnreadable
from etalage.lake.column_names import alike, likely
from etalage.lake.notes import Notes
from etalage.lake.paths import Path, path_of, unpacked, value_at
from etalage.lake.raw import RawChunk, Refusal
from etalage.lake.shown import shown
from etalage.lake.whence import FrameName, Whence, noun, place
from etalage.nearest import nearest

ATTRIBUTE = "attributes."
ALIKE = 0.7
"""So like must a column's name be to the one that somebody wrote."""
_TIMES = {"items": "updated_at", "photos": "fetched_at", "interactions": "time"}
_AMOUNTS = {"items": "price", "interactions": "value"}
_FILES = ("photo", "photo_path", "path")
"""Names that mean photos in files, unless a mapping reads something else from them: a category's path."""
_SEVERAL_LINKS = ("photo_url", "url")
"""A list of columns for one of these is all of their links, not the first of them."""
_BY_NAME_ALONE = ("attributes", "photo", "photo_path", "path", "interaction_id")
"""Read where a file's column is called exactly so; `Path` may be anything."""
_TOLD = 8
"""So many columns that nothing is read from are named."""


@dataclass
class MappedChunk:
    """Rows by our columns' names, still raw. Row n comes from row `origins[n]` of `raw`.

    `passed`: rows of the file that are none of ours, as the mapping says.
    """

    lines: list[int]
    columns: dict[str, list[Any]]
    raw: RawChunk
    origins: Sequence[int]
    refused: list[Refusal] = field(default_factory=list)
    passed: int = 0

    @property
    def read(self) -> int:
        return len(self.lines) + len(self.refused) + self.passed

    def row(self, n: int) -> dict[str, Any]:
        """The n-th row as the file has it."""
        return self.raw.row(self.origins[n])

    def part(self, wanted: np.ndarray, rest: bool) -> "MappedChunk":
        """The rows of `wanted` ((N,) bool); `rest`: with what was refused and passed over."""
        rows = np.flatnonzero(wanted).tolist()
        columns = {name: [values[n] for n in rows] for name, values in self.columns.items()}
        origins = [self.origins[n] for n in rows]
        lines = [self.lines[n] for n in rows]
        refused, passed = (self.refused, self.passed) if rest else ([], 0)
        return MappedChunk(lines, columns, self.raw, origins, refused, passed)


class Mapping:
    """The mapping of one file into `table`. `known`: our columns that a file may fill. `own`: what of it the
    shop says itself, where a feed's mapping stands behind.

    Raises ConfigError: it names a column that we do not have, or says what cannot act.
    """

    def __init__(
        self,
        file: Whence,
        table: str,
        config: MappingConfig,
        known: Collection[str],
        own: MappingConfig | None = None,
    ) -> None:
        self.file = file
        self._own = config if own is None else own
        self.table = table
        self.config = config
        self._known = list(known)
        self._found: dict[str, None] = {}
        self._kept: dict[str, None] = {}
        self._alike: dict[str, str] = {}
        self._unread: dict[str, bool] = {}
        """Columns that nothing was read from yet, and whether one of their cells says something."""
        _check_settings(table, config, self._known)
        self._paths = {text: path for text in _texts(config) if (path := self._path(text)) is not None}
        lists = {path.walked: path.list_name for path in self._paths.values() if path.walked}
        if len(lists) > 1:
            raise ConfigError(
                f"[ingest.{table}.columns] walks {' and '.join(lists.values())}; a row can be made for each "
                "element of one list"
            )

    def apply(self, chunk: RawChunk, notes: Notes | None = None, only: Collection[str] = ()) -> MappedChunk:
        """`chunk` by our columns; `only`: those alone (empty: all). What is passed over goes into `notes`."""
        self._found.update(dict.fromkeys(chunk.columns))
        sources = self.sources(chunk.columns)
        if not only:
            self._look_for_unread(chunk, sources)
        mapped, elements = self._walked(chunk, sources, notes)
        wanted = set(only) | set(self.config.skip) if only else set(sources) | set(self.config.constants)
        for ours, source in sources.items():
            if ours in wanted:
                mapped.columns[ours] = self._values(ours, source, mapped, elements)
                if ours.startswith(ATTRIBUTE) and ours not in self._own.columns and ours not in self._kept:
                    filled = any(value not in (None, "") for value in mapped.columns[ours])
                    self._kept |= {ours: None} if filled else {}
        for ours, constant in self.config.constants.items():
            if ours in wanted:
                there = mapped.columns.get(ours)
                empty = [None] * len(mapped.lines) if there is None else there
                mapped.columns[ours] = [constant if value in (None, "") else value for value in empty]
        for ours, mark in self.config.first_of.items():
            if ours in mapped.columns:
                mapped.columns[ours] = self._first_of(ours, mark, mapped, notes)
        mapped = self._skipped(mapped, notes)
        for ours, words in self.config.values.items():
            if ours in mapped.columns:
                mapped.columns[ours] = [words.get(_word(v), v) for v in mapped.columns[ours]]
        return mapped

    def sources(self, there: Collection[str]) -> dict[str, Source]:
        """{our column: where it comes from} of a chunk that has the columns `there`."""
        sources: dict[str, Source] = {}
        for ours, source in self.config.columns.items():
            if any(self._is_there(text, there) for text in texts_of(source)):
                sources[ours] = source
        read = {text for source in sources.values() for text in texts_of(source)}
        for name in self._known:
            given = name in self.config.columns or name in self.config.constants
            given = given or (name in _FILES and name in read)
            if name in there and not given and name not in self.config.leave_out:
                sources[name] = name
        if "attributes" in self._known:
            read = self._read(sources) | set(self.config.leave_out)
            sources |= {name: name for name in there if _is_attribute(name) and name not in {*sources, *read}}
        sources |= self._nearly(there, sources)
        if self.config.keep_others:
            sources |= self._others(there, sources)
        return sources

    def _nearly(self, there: Collection[str], sources: dict[str, Source]) -> dict[str, Source]:
        """Ours that a file has by a name that differs in case, blanks and marks alone."""
        found: dict[str, Source] = {}
        wanted = [
            name
            for name in self._known
            if name not in there and name not in self.config.columns and name not in self.config.constants
            and name not in _BY_NAME_ALONE
        ]  # fmt: skip
        read = self._read(sources) | {*_texts(self.config), *self.config.leave_out}
        free = [name for name in there if name not in read] if wanted else []
        for ours in wanted if free else ():
            name = alike(ours, free)
            if name is not None:
                found[ours] = self._alike[ours] = name
        return found

    def _read(self, sources: dict[str, Source]) -> set[str]:
        """The file's columns that `sources` are read from."""
        read = {text for source in sources.values() for text in texts_of(source)}
        return read | {self._paths[text].root for text in read if text in self._paths}

    def _look_for_unread(self, chunk: RawChunk, sources: dict[str, Source]) -> None:
        read = self._read(sources) | set(self.config.leave_out)
        for name, values in chunk.columns.items():
            if name not in read and not self._unread.get(name):
                self._unread[name] = any(value not in (None, "") for value in values)

    def _others(self, there: Collection[str], sources: dict[str, Source]) -> dict[str, Source]:
        """Those columns that nothing is read from, as attributes of their names."""
        read = self._read(sources)
        others: dict[str, Source] = {}
        for name in there:
            ours = name if name.startswith(ATTRIBUTE) else ATTRIBUTE + name
            if name and name not in read and name not in self.config.leave_out and ours not in sources:
                others[ours] = name
        return others

    def require(self, chunk: RawChunk, needed: Sequence[str], either: Sequence[str] = ()) -> None:
        """Raises InputUnreadable where the file has no column for one of `needed`, nor any of `either`."""
        there = list(chunk.columns)
        self._found.update(dict.fromkeys(there))
        given = {*self.sources(there), *self.config.constants}
        listed = ", ".join(map(repr, there)) or "none"
        for ours in (*needed, *either):
            texts = texts_of(self.config.columns[ours]) if ours in self.config.columns else ()
            if ours in given or not texts or (ours in either and not given.isdisjoint(either)):
                continue
            says = " or ".join(map(repr, texts))
            if ours not in self._own.columns:
                raise InputUnreadable(
                    f"{self.file}: no column {says}, the {ours} of this feed. It has: {listed}"
                )
            raise InputUnreadable(
                f"{self.file}: [ingest.{self.table}.columns] says {ours} = {says}, but the {noun(self.file)} "
                f"has no such column{self._did_you_mean(texts)}. It has: {listed}"
            )
        missing = [name for name in needed if name not in given]
        if either and given.isdisjoint(either):
            missing.append(either[0])
        if missing:
            lines = "\n".join(f'{name} = "{self._guess(name, chunk)}"' for name in missing)
            if either and either[0] in missing:
                lines += f"\n(for links instead of files: {either[-1]})"
            found = f"{self.file}: no column for {', '.join(missing)}. Columns found: {listed}. "
            in_toml = f"in shop.toml which they are:\n[ingest.{self.table}.columns]\n{lines}"
            if isinstance(self.file, FrameName):
                said = {name: self._guess(name, chunk) for name in missing}
                raise InputUnreadable(f"{found}Say which they are, columns={said}, or write {in_toml}")
            raise InputUnreadable(
                f"{found}Write {in_toml}\n"
                f"(guessed for all columns: `etalage new SHOP --from {shlex.quote(str(self.file))}`)"
            )

    def _guess(self, ours: str, chunk: RawChunk) -> str:
        """What to write as the source of one of ours."""
        for name in chunk.columns:
            if likely(self.table, name) == ours:
                return name
        for name, values in chunk.columns.items():
            first = unpacked(next((value for value in values if value not in (None, "")), None))
            if isinstance(first, list) and first and isinstance(first[0], dict):
                inner = next(
                    (key for key in first[0] if likely(self.table, str(key)) == ours or key == ours), ""
                )
                return f"{name}[].{inner or '<one of ' + ', '.join(map(str, first[0])) + '>'}"
        return "<one of the columns found>"

    def tell_missing(self, notes: Notes) -> None:
        """Behind the last chunk: which columns a setting names and the file does not have, and which of the
        file's nothing is read from."""
        for ours, name in self._alike.items():
            notes.add(f"{ours}: read from the column {name!r}")
        hinted: set[str | None] = set()
        if self._kept:
            names = ", ".join(name.removeprefix(ATTRIBUTE) for name in self._kept)
            notes.add(f"columns with no place of their own are kept as attributes: {names}")
        where = f"[ingest.{self.table}"
        for ours, source in self._own.columns.items():
            texts = texts_of(source)
            absent = [text for text in texts if not self._is_there(text, self._found)]
            hint = self._did_you_mean(absent)
            behind = set(texts_of(self.config.columns[ours])) - set(texts)
            read = next((text for text in behind if self._is_there(text, self._found)), None)
            hinted.add(self._near(absent))
            if len(absent) == len(texts) and read is not None:
                notes.add(f"{ours}: read from {read!r}, as the {noun(self.file)} has no column {absent[0]!r}")
            elif absent and (hint or len(absent) == len(texts)):
                says = " and ".join(map(repr, absent))
                stays = "" if len(absent) < len(texts) else f"; {ours} stays as the table has it"
                notes.add(
                    f"{ours}: the {noun(self.file)} has no column {says} ({where}.columns]){hint}{stays}"
                )
        for name in self._own.leave_out:
            if name not in self._found and name not in self._known:
                lacks = f"the {noun(self.file)} has no column {name!r}{self._did_you_mean([name])}"
                notes.add(f"{where}] leave_out: {lacks}")
        if self._own is self.config:
            self._tell_unread(notes, hinted)

    def _tell_unread(self, notes: Notes, told: Collection[str | None]) -> None:
        """A column that the mapping does not know is not lost unsaid: it may be the time of all acts."""
        names = [name for name, says in self._unread.items() if says and name not in told]
        if not names:
            return
        given = {*self.sources(self._found), *self.config.constants}
        guesses: dict[str, str] = {}
        for name in names:
            ours = likely(self.table, name)
            if ours is not None and ours not in given:
                guesses.setdefault(ours, name)
        listed = ", ".join(map(repr, names[:_TOLD]))
        more = f", … ({len(names):,} in all)" if len(names) > _TOLD else ""
        hint = "; perhaps " + ", ".join(f'{o} = "{n}"' for o, n in guesses.items()) if guesses else ""
        notes.add(
            f"nothing is read from {_columns(len(names))} {listed}{more} ([ingest.{self.table}.columns] says "
            f"what is what, leave_out what is not wanted){hint}"
        )

    def _is_there(self, text: str, there: Collection[str]) -> bool:
        return text in there or (text in self._paths and self._paths[text].root in there)

    def _did_you_mean(self, texts: Sequence[str]) -> str:
        near = self._near(texts)
        return f"; did you mean {near!r}?" if near else ""

    def _near(self, texts: Sequence[str]) -> str | None:
        """A column of the file that is nearly one of `texts`, and that nothing else is read from."""
        taken = {*_texts(self.config), *self._known}
        free = [name for name in self._found if name not in taken or name in self.config.leave_out]
        return next((found for text in texts if (found := nearest(text, free, ALIKE))), None)

    def _path(self, text: str) -> Path | None:
        try:
            return path_of(text)
        except ValueError as error:
            raise ConfigError(f"[ingest.{self.table}.columns]: {error}") from None

    def _walked(
        self, chunk: RawChunk, sources: dict[str, Source], notes: Notes | None
    ) -> tuple[MappedChunk, list[Any]]:
        """The chunk's rows, one for each element of the list that is walked, and those elements."""
        walking = next(
            (path for source in sources.values() for text in texts_of(source)
             if (path := self._paths.get(text)) and path.each and text not in chunk.columns), None
        )  # fmt: skip
        refused = list(chunk.refused)
        if walking is None:
            return MappedChunk(list(chunk.lines), {}, chunk, range(len(chunk.lines)), refused), []
        origins: list[int] = []
        elements: list[Any] = []
        passed = 0
        without = self._without_list(chunk, sources.get("item_id"))
        for n, value in enumerate(chunk.columns[walking.root]):
            found = unpacked(value_at(value, walking.before))
            if found is None or found in ("", [], {}):
                if any(values[n] not in (None, "") for values in without):
                    origins.append(n)
                    elements.append(None)
                    continue
                passed += 1
                if notes is not None:
                    at = place(self.file, chunk.lines[n])
                    notes.add(f"nothing in {walking.list_name}: passed over", 1, at)
            elif isinstance(found, list | dict):
                each = found if isinstance(found, list) else [found]
                origins += [n] * len(each)
                elements += each
            else:
                why = f"{walking.list_name}: {shown(found)} is not a list"
                refused.append(Refusal(str(self.file), chunk.lines[n], why, chunk.row(n)))
        return MappedChunk([chunk.lines[n] for n in origins], {}, chunk, origins, refused, passed), elements

    def _without_list(self, chunk: RawChunk, source: Source | None) -> list[list[Any]]:
        """Values of an item's id that stand beside the list: an event of one item in a file of events of
        several."""
        found = []
        for text in texts_of(source) if source is not None else ():
            path = self._paths.get(text)
            if text in chunk.columns:
                found.append(chunk.columns[text])
            elif path is not None and not path.each and path.root in chunk.columns:
                found.append([value_at(value, path.before) for value in chunk.columns[path.root]])
        return found

    def _values(self, ours: str, source: Source, mapped: MappedChunk, elements: list[Any]) -> list[Any]:
        columns = [
            self._column(text, mapped, elements)
            for text in texts_of(source)
            if self._is_there(text, mapped.raw.columns)
        ]
        if isinstance(source, Joined):
            return [
                source.by.join(_word(value) for value in row if value not in (None, "")) or None
                for row in zip(*columns, strict=True)
            ]
        if len(columns) == 1:
            return columns[0]
        if ours in _SEVERAL_LINKS:
            return [[value for value in row if value not in (None, "")] for row in zip(*columns, strict=True)]
        return [
            next((value for value in row if value not in (None, "")), None)
            for row in zip(*columns, strict=True)
        ]

    def _column(self, text: str, mapped: MappedChunk, elements: list[Any]) -> list[Any]:
        columns, origins = mapped.raw.columns, mapped.origins
        if text in columns:
            values = columns[text]
            return (
                values if len(elements) == 0 and len(origins) == len(values) else [values[n] for n in origins]
            )
        path = self._paths[text]
        if path.each:
            return [value_at(element, path.after) for element in elements]
        return [value_at(columns[path.root][n], path.before) for n in origins]

    def _first_of(self, ours: str, mark: str, mapped: MappedChunk, notes: Notes | None) -> list[Any]:
        """Of texts that are lists the first value; how many there were goes into `notes`."""
        found: list[Any] = []
        for n, value in enumerate(mapped.columns[ours]):
            several = (
                [part for one in value.split(mark) if (part := one.strip())] if _is_list(value, mark) else []
            )
            if len(several) > 1 and notes is not None:
                what = f"{ours}: of several values the first is taken ([ingest.{self.table}.first_of])"
                notes.add(what, 1, f"{shown(value)} at {place(self.file, mapped.lines[n])}")
            found.append(several[0] if several else value)
        return found

    def _skipped(self, mapped: MappedChunk, notes: Notes | None) -> MappedChunk:
        wanted = np.ones(len(mapped.lines), dtype=bool)
        for ours, words in self.config.skip.items():
            if ours not in mapped.columns:
                continue
            for n, value in enumerate(mapped.columns[ours]):
                if wanted[n] and _word(value) in words:
                    wanted[n] = False
                    if notes is not None:
                        what = f"{ours} is {_word(value)!r}: passed over ([ingest.{self.table}.skip])"
                        notes.add(what, 1, place(self.file, mapped.lines[n]))
        if wanted.all():
            return mapped
        left = mapped.part(wanted, rest=True)
        left.passed += int((~wanted).sum())
        return left


def _check_settings(table: str, config: MappingConfig, known: list[str]) -> None:
    """Raises ConfigError: a column that we do not have, or a setting that cannot act."""
    where = f"[ingest.{table}"
    for key in ("columns", "constants", "values", "skip", "first_of"):
        for name in getattr(config, key):
            if name not in known and not (name.startswith(ATTRIBUTE) and "attributes" in known):
                near = nearest(name, known, ALIKE)
                hint = f"did you mean {near!r}?" if near else f"we have {', '.join(known)}"
                what = f"{where}]" if key in ("columns", "constants") else f"{where}.{key}]"
                raise ConfigError(f"{what}: table {table} has no column {name!r}; {hint}")
    for ours, mark in config.first_of.items():
        if not mark:
            raise ConfigError(f"{where}.first_of] {ours}: which mark stands between the values?")
    for name in config.leave_out:
        if name in _texts(config):
            raise ConfigError(
                f"{where}] leave_out: {name!r} is read in {where}.columns]; take one of them away"
            )
    if config.keep_others and "attributes" not in known:
        raise ConfigError(f"{where}] keep_others: table {table} has no attributes; take it away")
    if config.decimal is not None and table not in _AMOUNTS:
        raise ConfigError(f"{where}] decimal: table {table} has no number; take it away")
    for key, value in (("timezone", config.timezone), ("dates", config.dates)):
        if value is not None and table not in _TIMES:
            raise ConfigError(f"{where}] {key}: table {table} has no time; take it away")


def _is_list(value: Any, mark: str) -> bool:
    return isinstance(value, str) and mark in value


def _columns(count: int) -> str:
    return "the column" if count == 1 else "the columns"


def _texts(config: MappingConfig) -> list[str]:
    return [text for source in config.columns.values() for text in texts_of(source)]


def _is_attribute(name: str) -> bool:
    """Whether a file's column is called as an attribute of ours: `attributes.colour`."""
    return name.startswith(ATTRIBUTE) and len(name) > len(ATTRIBUTE)


def _word(value: Any) -> str:
    """A value as a mapping of words names it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else "" if value is None else str(value)
