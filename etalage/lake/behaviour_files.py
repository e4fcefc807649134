"""Published files of behaviour as they are: set ratings, leave-one-out files, sequences, transactions.

Line-based formats are read in chunks of raw rows, as every table is (readers.py), so that they go through the
same checks; a malformed line is refused with its number and the reason.

    NAME.train.rating    user <tab> item <tab> rating [<tab> seconds since 1970]
    NAME.test.rating     the same, one held-out item a user
    NAME.test.negative   (user,item) <tab> negative item <tab> negative item ...
    pairs                user item [value [seconds since 1970]], by tab, comma or blanks, without a header
    sequences            user item item item ...   oldest first
    set ratings          userId,movieId_1,...,movieId_5,rating,timestamp
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from etalage.errors import InputUnreadable
from etalage.lake.casting import number
from etalage.lake.csv_reader import csv_chunks
from etalage.lake.raw import LONGEST_VALUE, RawChunk, Refusal, open_bytes

_PAIR = re.compile(r"\(([^,()]+),([^,()]+)\)")
_BETWEEN = re.compile(r"[,\t ]+")
_MEMBER = re.compile(r"movieId_\d+|item_id_\d+")
Row = dict[str, str | None]


def part_of(file: Path) -> str | None:
    """The part of a published split that a file's name says: `train` of NAME.train.rating."""
    words = file.name.removesuffix(".gz").split(".")
    return words[-2] if len(words) > 2 and words[-2] in ("train", "validation", "test") else None


def ncf_chunks(file: Path, rows: int) -> Iterator[RawChunk]:
    """One act a line of NAME.train.rating or NAME.test.rating: kind `rating`, the value as it stands, the
    part of the split by the file's name.

    Raises InputUnreadable: a file of negatives, which are no acts.
    """
    part = part_of(file)
    if file.name.endswith(".negative"):
        raise InputUnreadable(
            f"{file}: published negatives are no interactions; name the file in shop.toml, where models are "
            'judged: [behaviour] split = "published" and negatives = "FILE"'
        )

    def parse(line: str) -> list[Row]:
        fields = line.split("\t")
        if len(fields) not in (3, 4) or not all(fields):
            raise ValueError(
                f"has {len(fields)} fields; expected user, item, rating and perhaps a time, by tab"
            )
        for field in fields[2:]:
            number(field)
        when = fields[3] if len(fields) == 4 else None
        return [
            {"user_id": fields[0], "item_id": fields[1], "kind": "rating", "value": fields[2], "time": when}
            | ({} if part is None else {"part": part})
        ]

    names = ("user_id", "item_id", "kind", "value", "time", *(() if part is None else ("part",)))
    return _line_chunks(file, rows, names, parse)


def pair_chunks(file: Path, rows: int) -> Iterator[RawChunk]:
    """One act a line: user, item, perhaps a value and a time; no header. With a value it is a `rating`."""

    def parse(line: str) -> list[Row]:
        fields = _BETWEEN.split(line.strip(" "))
        if not 2 <= len(fields) <= 4 or not all(fields):
            raise ValueError(
                f"has {len(fields)} fields; expected user, item, perhaps a value and a time, by tab, comma "
                "or blanks"
            )
        for field in fields[2:]:
            number(field)
        user, item, value, when = (*fields, None, None)[:4]
        kind = "view" if value is None else "rating"
        return [{"user_id": user, "item_id": item, "kind": kind, "value": value, "time": when}]

    return _line_chunks(file, rows, ("user_id", "item_id", "kind", "value", "time"), parse)


def sequence_chunks(file: Path, rows: int) -> Iterator[RawChunk]:
    """One act for each item of a line. There are no times: the order is kept by the ids, `<user>:<place>`."""

    def parse(line: str) -> list[Row]:
        user, *items = line.split()
        if not items:
            raise ValueError("has a user but no item; expected `user item item ...`")
        return [
            {"interaction_id": f"{user}:{place:09d}", "user_id": user, "item_id": item, "kind": "view"}
            for place, item in enumerate(items)
        ]

    return _line_chunks(file, rows, ("interaction_id", "user_id", "item_id", "kind"), parse)


def set_rating_chunks(file: Path, rows: int) -> Iterator[RawChunk]:
    """One act for each member of a rated set: kind `set_rating`, its value the rating of the set as a whole.

    A set's stars say little of one member: who wants stars of items must not take these for them.
    """
    for chunk in csv_chunks(file, rows):
        members = [name for name in chunk.columns if _MEMBER.fullmatch(name)]
        missing = [n for n in ("userId", "rating", "timestamp") if n not in chunk.columns]
        if missing or not members:
            raise InputUnreadable(
                f"{file}: no column {', '.join(missing) or 'movieId_1'}; a file of set ratings has userId, "
                f"movieId_1 ... movieId_5, rating, timestamp"
            )
        columns: dict[str, list[str | None]] = {
            n: [] for n in ("user_id", "item_id", "kind", "value", "time")
        }
        lines: list[int] = []
        for n, line in enumerate(chunk.lines):
            there = [chunk.columns[name][n] for name in members if chunk.columns[name][n] is not None]
            for item in there or [None]:
                lines.append(line)
                row = (chunk.columns["userId"][n], item, "set_rating", chunk.columns["rating"][n],
                       chunk.columns["timestamp"][n])  # fmt: skip
                for values, value in zip(columns.values(), row, strict=True):
                    values.append(value)
        yield RawChunk(lines, columns, chunk.refused)


def negatives(file: Path) -> Iterator[tuple[int, str, str, list[str]]]:
    """(line, user, held-out item, negatives) of NAME.test.negative. Raises InputUnreadable with the line."""
    for line, raw in _lines(file):
        pair, *found = _decoded(raw).split("\t")
        said = _PAIR.fullmatch(pair)
        if said is None or not all(found):
            raise InputUnreadable(f"{file}: line {line}: expected `(user,item)` and negatives, by tab")
        yield line, said[1], said[2], found


def _line_chunks(
    file: Path, rows: int, names: tuple[str, ...], parse: Callable[[str], list[Row]]
) -> Iterator[RawChunk]:
    """Chunks of about `rows` rows: a line's rows stay together."""
    where = str(file)
    chunk = RawChunk([], {name: [] for name in names})
    yielded = False
    for line, raw in _lines(file):
        try:
            if len(raw) > LONGEST_VALUE:
                raise ValueError(f"longer than {LONGEST_VALUE} bytes")
            parsed = parse(_decoded(raw))
        except ValueError as error:
            shown = raw[:500].decode("utf-8", "backslashreplace")
            chunk.refused.append(Refusal(where, line, str(error), shown))
            parsed = []
        for row in parsed:
            chunk.lines.append(line)
            for name in names:
                chunk.columns[name].append(row[name])
        if chunk.read >= rows:
            yield chunk
            chunk, yielded = RawChunk([], {name: [] for name in names}), True
    if chunk.read or not yielded:
        yield chunk


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """(number, line without its end) of each line that is not blank; of one too long only the beginning."""
    with open_bytes(file) as binary:
        number = 0
        while line := binary.readline(LONGEST_VALUE + 1):
            number += 1
            rest = line
            while not rest.endswith(b"\n") and len(rest) > LONGEST_VALUE:
                rest = binary.readline(LONGEST_VALUE + 1)
            if line.strip():
                yield number, line.rstrip(b"\r\n")


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from None
