"""Looks at files of which nothing is known: how they are written, what ids they share, and what becomes of
their first rows by a mapping."""

import codecs
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from etalage.config import MappingConfig, texts_of
from etalage.errors import EtalageError, InputUnreadable
from etalage.lake.checked import Checker
from etalage.lake.column_names import ITEM_NAMES, rank_of
from etalage.lake.csv_dialect import DELIMITERS, agreement
from etalage.lake.drafting.drafts import Draft, Ids
from etalage.lake.drafting.facts import facts_of
from etalage.lake.drafting.guessing import columns_of, drafted, may_be_id
from etalage.lake.feeds.contract import Head
from etalage.lake.feeds.recognising import Recognised, read_head, recognised
from etalage.lake.raw import RawChunk, RawTable
from etalage.lake.readers import open_table
from etalage.lake.sources import file_style, open_file
from etalage.lake.text_files import AS_FOUND, FileStyle, head_of, open_text

_LOOKED_AT = 1000
_COMPARED = 200_000
"""So many rows of a catalogue are looked through for the ids of the acts."""
_BYTES = 1 << 20
_RARE_DELIMITERS = "^~\x1f\x01\x1e"


@dataclass(frozen=True)
class Tried:
    """The first `read` rows of a file by a mapping: how many could be taken, and why others not ({reason:
    rows})."""

    read: int
    taken: int
    passed: int
    refused: Mapping[str, int]


def draft_files(files: Sequence[Path]) -> list[Draft]:
    """A draft of each file; the id of items is the one that files of acts have. Raises InputUnreadable."""
    found = [_look(file) for file in files]
    drafts = [drafted(one, Ids()) for one in found]
    acts = [draft for draft in drafts if draft.table == "interactions" and draft.feed is None]
    acts = acts or [draft for draft in drafts if draft.table == "interactions"]
    items = [draft for draft in drafts if draft.table == "items"]
    if not acts or not items:
        return drafts
    carried = [_carried(draft) for draft in acts]
    ids = frozenset(one for columns in carried for counts in columns.values() for one in counts)
    there = [_there(draft.head, ids) for draft in items]
    matches: dict[Path, Ids] = {}
    for draft, columns in zip(reversed(acts), reversed(carried), strict=True):
        if not columns:
            continue
        own = _own(draft)
        name, counts = max(columns.items(), key=lambda one: (_most_found(one[1], there), one[0] in own))
        for other, columns_there in zip(items, there, strict=True):
            shares = {
                column: len(known & counts.keys()) / len(counts) for column, known in columns_there.items()
            }
            matches[other.head.file] = Ids(draft.head.file.name, shares)
        if name not in own:
            shares = {one: _most_found(those, there) for one, those in columns.items()}
            matches[draft.head.file] = Ids(" or ".join(one.head.file.name for one in items), shares, True)
    return [
        drafted(one, matches[draft.head.file]) if draft.feed is None and draft.head.file in matches else draft
        for draft, one in zip(drafts, found, strict=True)
    ]


def tried(draft: Draft, mapping: MappingConfig) -> Tried:
    """What becomes of the first rows by `mapping`. Raises InputUnreadable, ConfigError: nothing can."""
    style = draft.head.style
    opened = open_file(
        draft.head.file, draft.table, mapping, _LOOKED_AT, delimiter=style.delimiter, encoding=style.encoding
    )
    checker = Checker(draft.head.file, draft.table, opened.mapping, None, draft.head.file.parent, opened.own)
    chunk = _first_chunk(opened.raw)
    checker.look(chunk)
    loaded = checker.check(checker.mapped(chunk))
    reasons = Counter(f"{'left out: ' if r.field else ''}{r.reason}"[:160] for r in loaded.refused)
    return Tried(loaded.read, len(loaded.lines), loaded.passed, dict(reasons))


def _first_chunk(raw: RawTable) -> RawChunk:
    chunks = raw.chunks()
    chunk = next(chunks, RawChunk([], {}))
    if isinstance(chunks, Generator):
        chunks.close()
    return chunk


def _look(file: Path) -> Recognised:
    if not file.exists():
        raise InputUnreadable(f"{file}: no such file")
    style = _style(file)
    container, style = file_style(file, None, MappingConfig(), style.delimiter, style.encoding)
    if container not in ("csv", "jsonl", "parquet", "xml"):
        raise InputUnreadable(f"{file}: is {container}, and needs no mapping: `etalage ingest {file}`")
    head = read_head(file, container, style, _LOOKED_AT)
    if container == "csv" and len(head.names) == 1 and style.delimiter is None:
        head = _by_a_rare_delimiter(head)
    return recognised(head)


def _style(file: Path) -> FileStyle:
    """The encoding, where the bytes are no UTF-8: UTF-16 without its mark, else the one of Windows."""
    begin = head_of(file, _BYTES)
    if begin[:4] == b"PAR1" or begin.startswith(
        (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE)
    ):
        return AS_FOUND
    for encoding, zeros in (("utf-16-le", begin[1:400:2]), ("utf-16-be", begin[:400:2])):
        if len(begin) >= 8 and zeros and not any(zeros):
            return FileStyle(encoding=encoding)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(begin)
    except UnicodeDecodeError:
        return FileStyle(encoding="cp1252" if _is_of(begin, "cp1252") else "iso-8859-15")
    return AS_FOUND


def _is_of(begin: bytes, encoding: str) -> bool:
    try:
        begin.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _by_a_rare_delimiter(head: Head) -> Head:
    with open_text(head.file, head.style.encoding) as text:
        lines = list(islice(text, 100))
    scores = {one: agreement(lines, one) for one in _RARE_DELIMITERS if one not in DELIMITERS}
    best = max(scores, key=lambda one: scores[one])
    if scores[best][0] < 0.9 or scores[best][1] < 2:
        return head
    return read_head(head.file, "csv", FileStyle(best, head.style.encoding), _LOOKED_AT)


def _own(acts: Draft) -> tuple[str, ...]:
    source = columns_of(acts.lines).get("item_id")
    return texts_of(source) if source is not None else ()


def _carried(acts: Draft) -> dict[str, Counter[str]]:
    """Column of `acts` that may be an item's id → how many acts carry which id; the one it is taken for
    first."""
    facts = facts_of(acts.head.names, acts.head.rows)
    read = {
        text
        for ours, source in columns_of(acts.lines).items()
        if ours != "item_id"
        for text in texts_of(source)
    }
    own = [name for name in _own(acts) if name in facts]
    others = [
        name for name, one in facts.items()
        if name not in read and may_be_id(one) and rank_of(name, ITEM_NAMES["item_id"]) is not None
    ]  # fmt: skip
    names = own if len(own) > 1 or acts.feed is not None else dict.fromkeys([*own, *others])
    return {name: facts[name].counts for name in names if facts[name].counts}


def _most_found(counts: Counter[str], there: Sequence[Mapping[str, set[str]]]) -> float:
    """The share of acts that find their item by the column of the catalogue by which most do."""
    found = [
        sum(counts[one] for one in known if one in counts) for columns in there for known in columns.values()
    ]
    return max(found, default=0) / counts.total()


def _there(head: Head, ids: frozenset[str]) -> dict[str, set[str]]:
    """Column → those of `ids` that are in it; of columns that may be an item's id."""
    facts = facts_of(head.names, head.rows)
    columns = [
        name
        for name in head.names
        if name in facts and facts[name].scalar and facts[name].words < 3
        and (rank_of(name, ITEM_NAMES["item_id"]) is not None or facts[name].unlike > 0.5)
    ]  # fmt: skip
    found: dict[str, set[str]] = {name: set() for name in columns}
    read = 0
    try:
        for chunk in open_table(head.file, head.container, 10_000, head.style).chunks():
            for name in columns:
                found[name].update(
                    ids.intersection(str(v) for v in chunk.columns.get(name, ()) if v is not None)
                )
            read += chunk.read
            if read >= _COMPARED:
                break
    except EtalageError:
        pass  # the first rows could be read; what is wrong behind them an ingest says
    return found
