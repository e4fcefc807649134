"""Acts on ids that the catalogue (or the table of users) does not have: how many, which, and what may be
meant.

Ids are compared exactly as they are and never changed: `3.0` is not `3`, `sku1` not `SKU1`. What is counted
here is told by `ingest`, `train` and `publish`, with the likeliest repair; the shop mends it where the ids
are written, or maps it in [ingest.<table>.values].
"""

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from etalage.lake.casting import says_nothing
from etalage.lake.delta import Lake
from etalage.lake.shown import shown
from etalage.lake.spreadsheets import bare

_AT_ONCE = 1 << 18
_COMPACT_FROM = 1 << 21
_EXAMPLES = 3
_LOOKED_AT = 10_000
"""So many unknown ids are compared with all known ones, the most frequent first."""
_INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060\u00ad"
_TABLES = {"item_id": "items", "user_id": "users"}


def _no_fraction(text: str) -> str:
    whole, point, part = text.partition(".")
    return whole if point and whole.isdecimal() and part and not part.strip("0") else text


def _no_zeros(text: str) -> str:
    return (text.lstrip("0") or "0") if text.isdecimal() else text


_STEPS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("blanks around them", lambda text: text.strip().strip(_INVISIBLE).strip()),
    ("a spreadsheet's apostrophe", lambda text: bare(text).lstrip("'’").strip('"')),
    ("their Unicode form", lambda text: unicodedata.normalize("NFKC", text)),
    ("small and capital letters", str.casefold),
    ("a fraction .0", _no_fraction),
    ("leading zeros", _no_zeros),
)
"""(what two ids may differ in, what takes the difference away), in the order in which they are taken away."""


@dataclass(frozen=True)
class UnknownIds:
    """`acts` of `of` are on `ids` distinct values of `column` that its table does not have.

    `examples`: (id, its acts, the known id that it may be). `repairs`: what ids differ in → acts that would
    be known.
    """

    column: str
    acts: int
    of: int
    ids: int
    examples: tuple[tuple[str, int, str | None], ...]
    repairs: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        hints = {one: f"; did you mean {shown(near)}?" for one, _, near in self.examples if near is not None}
        listed = ", ".join(f"{shown(one)} ({acts:,}{hints.get(one, '')})" for one, acts, _ in self.examples)
        more = ", …" if self.ids > len(self.examples) else ""
        share = f"{self.acts:,} of {self.of:,} acts ({_percent(self.acts, self.of)})"
        if self.column == "item_id":
            said = f"{share} are on {self.ids:,} item_ids that the catalogue lacks, and count for nothing"
        else:
            said = f"{share} are of {self.ids:,} user_ids that the table users lacks"
        said += f": {listed}{more}"
        if self.repairs:
            what = ", ".join(f"{name} ({acts:,} acts)" for name, acts in self.repairs)
            said += f". They differ from known ones in {what}: ids are never changed, write them alike"
        return said


def _percent(some: int, of: int) -> str:
    """Some are never 0%, and not all never 100%."""
    if 0 < some < of and not 0.005 <= some / of < 0.995:
        return "less than 1%" if some * 2 < of else "more than 99%"
    return f"{some / of:.0%}"


class IdCounts:
    """How often each id occurs, of columns that come one after the other."""

    def __init__(self) -> None:
        self._parts: list[pa.Table] = []
        self._rows = 0

    def add(self, ids: pa.Array | pa.ChunkedArray) -> None:
        """Count these; nulls are passed over."""
        found = pc.value_counts(ids.drop_null())
        part = pa.table({"id": found.field("values"), "n": found.field("counts")})
        self._parts.append(part)
        self._rows += part.num_rows
        if self._rows > _COMPACT_FROM:
            self._parts = [self.table()]
            self._rows = 0

    def table(self) -> pa.Table:
        """(id, n), the most frequent first."""
        if not self._parts:
            return pa.table({"id": pa.array([], pa.string()), "n": pa.array([], pa.int64())})
        summed = pa.concat_tables(self._parts).group_by("id", use_threads=False).aggregate([("n", "sum")])
        return summed.rename_columns(["id", "n"]).sort_by([("n", "descending"), ("id", "ascending")])


class Repairs:
    """The known id that an unknown one may be, less what writers of files do to ids."""

    def __init__(self, known: Iterable[str]) -> None:
        self._known: dict[str, str | None] = {}
        for one in known:
            plain = _plain(one)
            # Two known ids that are alike but for such things: neither is likelier.
            self._known[plain] = None if plain in self._known else one

    def of(self, unknown: str) -> str | None:
        """The one known id that `unknown` may be."""
        return self._known.get(_plain(unknown))


def unknown_ids(column: str, counts: pa.Table, known: pa.ChunkedArray | pa.Array) -> UnknownIds | None:
    """Those of `counts` (id, n) that are not `known`; None: all are."""
    there = pc.is_in(
        counts["id"], value_set=known.combine_chunks() if isinstance(known, pa.ChunkedArray) else known
    )
    unknown = counts.filter(pc.invert(there))
    if not unknown.num_rows:
        return None
    repairs = Repairs(known.to_pylist())
    ids, acts = unknown["id"].slice(0, _LOOKED_AT).to_pylist(), unknown["n"].to_pylist()
    near = [repairs.of(one) for one in ids]
    by_kind: dict[str, int] = {}
    for one, found, n in zip(ids, near, acts, strict=False):
        if found is not None:
            kind = _difference(one, found)
            by_kind[kind] = by_kind.get(kind, 0) + n
    first = sorted(range(len(ids)), key=lambda n: (near[n] is None, n))[:_EXAMPLES]
    return UnknownIds(
        column,
        int(sum(acts)),
        int(pc.sum(counts["n"]).as_py()),
        unknown.num_rows,
        tuple((ids[n], acts[n], near[n]) for n in first),
        tuple(sorted(by_kind.items(), key=lambda pair: -pair[1])),
    )


def unknown_among(lake: Lake, counts: dict[str, pa.Table]) -> list[str]:
    """What is to be told of ids that were counted ({column: (id, n)}): those that no table has, and gaps."""
    told = []
    for column, name in _TABLES.items():
        if column not in counts or not counts[column].num_rows:
            continue
        table = lake.table(name)
        if table.exists():
            found = unknown_ids(column, counts[column], table.read(columns=[column])[column])
            told += [str(found)] if found is not None else []
        told += _gaps(column, counts[column])
    return told


def unknown_in_tables(lake: Lake, version: int | None = None) -> list[str]:
    """What is to be told of the acts in the table interactions at `version` (None: the newest)."""
    table = lake.table("interactions")
    if not table.exists():
        return []
    counts = {column: IdCounts() for column in _TABLES}
    for batch in table.batches(version, columns=list(counts), rows=_AT_ONCE):
        for column, counted in counts.items():
            counted.add(batch.column(column))
    return unknown_among(lake, {column: counted.table() for column, counted in counts.items()})


def _gaps(column: str, counts: pa.Table) -> list[str]:
    """Ids that are words for `no id`: thousands of acts by one shopper called None."""
    short = counts.filter(pc.less_equal(pc.utf8_length(counts["id"]), 12))
    found = [(one, n) for one, n in zip(*short.to_pydict().values(), strict=True) if says_nothing(one)]
    return [
        f"{n:,} acts have the {column} {shown(one)}: is it a gap in the file? It is taken for one {column}; "
        f"such rows are left out by [ingest.interactions.skip] {column} = [{shown(one)}]"
        for one, n in found
        if any(c.isalpha() for c in one)
    ]


def _plain(text: str) -> str:
    for _, step in _STEPS:
        text = step(text)
    return text


def _difference(one: str, other: str) -> str:
    """What two ids differ in that are plainly the same."""
    for name, step in _STEPS:
        if step(one) == step(other):
            return name
    return "several of these things"
