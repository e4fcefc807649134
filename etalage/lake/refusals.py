"""The table `refused`: what an ingest could not take is written there, and goes when a later one takes it.

A refusal with the row's id goes when a row of that id is taken, from whichever file; of a value that was left
out, when such a row has the value. One without an id goes when the same file is read again and its line is
taken.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.lake.checked import Loaded, table_of
from etalage.lake.delta import Lake
from etalage.lake.erasures import digest
from etalage.lake.raw import Refusal
from etalage.lake.schema import TABLES
from etalage.lake.shown import legible, shortened
from etalage.lake.whence import Whence, absolute, place

_KNOWN = ("refused_id", "what", "file", "line", "key", "field")


class Refusals:
    """Those of one ingest into `table`. `by_reason`: how many rows were refused why, values left out;
    `first`: of each why the first of them, with its line, and, of `several` files, its file."""

    def __init__(self, lake: Lake, table: str, several: bool = False) -> None:
        self._refused = lake.table("refused")
        self._erased = lake.erasures.known()
        self._table = table
        self._several = several
        self.by_reason: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self._again: set[str] = set()
        self._by_key: dict[tuple[str, str], list[tuple[str, str | None]]] = {}
        self._by_line: dict[tuple[str, int | None], list[str]] = {}
        self._mended: set[str] = set()
        if self._refused.exists():
            rows = self._refused.read(columns=_KNOWN)
            rows = rows.filter(pc.is_in(rows["what"], value_set=pa.array([table, "photos"])))
            for refused_id, what, file, line, key, field in zip(
                *(rows[n].to_pylist() for n in _KNOWN), strict=True
            ):
                if key is not None:
                    self._by_key.setdefault((what, key), []).append((refused_id, field))
                elif what == table:
                    self._by_line.setdefault((file, line), []).append(refused_id)

    def add(self, refused: Sequence[Refusal]) -> None:
        """Write them down, each once, however often its file is read."""
        if not refused:
            return
        columns: dict[str, list[Any]] = {name: [] for name in TABLES["refused"].names if name != "refused_at"}
        for r in refused:
            what, reason, file = r.what or self._table, legible(r.reason), _path(r.file)
            refused_id = hashlib.sha256(repr((what, file, r.line, reason)).encode()).hexdigest()
            self._again.add(refused_id)
            hidden = TABLES[what].shopper is not None and self._is_of_erased(r)
            raw = None if hidden else shortened(r.row)
            key = None if hidden and what == "users" else r.key
            row = (refused_id, what, file, r.line, reason, raw, key, r.field)
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value)
        for r in refused:
            if r.field is None:
                kind = reason_kind(r.reason)
                self.by_reason[kind] += 1
                places = [Path(r.file).name] if self._several else []
                places += [place(r.file, r.line)] if r.line is not None else []
                where = f"{', '.join(places)}: " if places else ""
                self.first.setdefault(kind, where + legible(r.reason))
        self._refused.merge(table_of(TABLES["refused"], columns))

    def _is_of_erased(self, refusal: Refusal) -> bool:
        """Whether a value of the raw row is the id of a shopper who was erased: a file that is read again
        does not bring them back here either (F66). Line and reason are kept, for whoever mends the file."""
        if not self._erased:
            return False
        row = refusal.row
        if isinstance(row, dict):
            values = [*row.values()]
        elif isinstance(row, list | tuple):
            values = [*row]
        else:
            values = re.split(r"[^\w.@:+-]+", str(row))  # a line that no reader could take apart
        return any(digest(str(one)) in self._erased for one in (*values, refusal.key) if one is not None)

    def taken(self, file: Whence, part: Loaded) -> None:
        """Remember which refusals the rows of `part` mend."""
        if self._by_line:
            where = _path(str(file))
            for line in part.lines:
                self._mended.update(self._by_line.get((where, line), ()))
        if self._by_key:
            for name, rows in part.tables.items():
                self._mend_keys(name, rows)

    def finish(self) -> int:
        """Behind the last row: what was mended goes; how many."""
        gone = sorted(self._mended - self._again)
        return self._refused.delete(pa.table({"refused_id": pa.array(gone, pa.string())})) if gone else 0

    def _mend_keys(self, name: str, rows: pa.Table) -> None:
        keys = rows[TABLES[name].key[0]]
        wanted = pa.array([key for what, key in self._by_key if what == name], pa.string())
        found = pc.fill_null(pc.is_in(keys, value_set=wanted), False).to_numpy()
        for n in np.flatnonzero(found).tolist():
            for refused_id, field in self._by_key[(name, keys[n].as_py())]:
                column = "attributes" if field and field.startswith("attributes") else field
                if column is None or (column in rows.column_names and rows[column][n].is_valid):
                    self._mended.add(refused_id)


def refused_rows(lake: Lake, table: str | None = None) -> pa.Table:
    """The refused rows (of `table`, or all), oldest line first; empty when there are none."""
    refused = lake.table("refused")
    rows = refused.read() if refused.exists() else TABLES["refused"].schema.empty_table()
    if table is not None:
        rows = rows.filter(pc.equal(rows["what"], table))
    return rows.sort_by([("file", "ascending"), ("line", "ascending")])


def reason_kind(reason: str) -> str:
    """A reason without its values, for counting: `price: '-3' is negative` → `price: is negative`."""
    shorter = re.sub(r"'[^']*'|\"[^\"]*\"|<[^>]*>", "", reason)
    shorter = re.sub(r"-?\b\d[\d.e+_]*\b", "N", shorter)
    return re.sub(r"\s+", " ", shorter).strip()[:120]


def _path(file: str) -> str:
    return legible(absolute(file))
