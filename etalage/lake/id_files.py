"""Ids that somebody typed, or put into a file."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from etalage.config import MappingConfig
from etalage.errors import InputUnreadable
from etalage.lake.casting import cast_column, identity
from etalage.lake.checked import Checker
from etalage.lake.sources import open_file

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
