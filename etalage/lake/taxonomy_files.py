"""Files → Taxonomy: Google's lists with ids, trees as CSV, and more categories beneath either.

A file is taken whole or refused with the line that is wrong: a tree with a hole would give wrong paths and
distances without a word. Google's files of 2015 and 2021 are taken. Its zh-CN file of 2012 is refused: eight
of its lines have no line for their parent, six have the path of an earlier line. `read_google` with a list
for what it leaves out takes the other 4,572 of its 4,586 categories; `read_paths` takes every id, as no tree
is needed to know what an id was called.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from etalage.errors import InputUnreadable
from etalage.lake.casting import identity
from etalage.lake.csv_reader import csv_rows
from etalage.lake.schema import CATEGORY_SEPARATOR
from etalage.lake.taxonomy import Taxonomy

BETWEEN = " - "
"""What stands between an id and its path."""


@dataclass(frozen=True)
class _Entry:
    """One category, as a CSV has it."""

    line: int
    id: str
    parent: str | None
    name: str


def read_google(file: Path, left_out: list[str] | None = None) -> Taxonomy:
    """Lines `id - A > B > C`; a line that begins with # (the version) is a comment.

    Raises InputUnreadable, with the line: no such file, not UTF-8, no id, an empty step, an id twice, a name
    twice beneath one parent, a parent without a line of its own (it may come later), no category at all.
    left_out: given a list, lines without a parent (and all beneath them) and second names and ids are left
    out, and told there, in the order of the file.
    """
    lines: list[tuple[int, str, tuple[str, ...]]] = []
    known: dict[tuple[str, ...], str] = {}
    seen: dict[str, int] = {}
    wrong: dict[int, str] = {}
    for line, id, steps in _google_lines(file):
        if id in seen:
            wrong[line] = f"the id {id} stands in line {seen[id]} already"
        elif steps in known:
            wrong[line] = f"{id}: the id {known[steps]} has the same path, {CATEGORY_SEPARATOR.join(steps)!r}"
        else:
            seen[id], known[steps] = line, id
            lines.append((line, id, steps))
    # Shorter paths first: what stands beneath a category that is left out is left out as well.
    for line, id, steps in sorted(lines, key=lambda entry: len(entry[2])):
        if len(steps) > 1 and steps[:-1] not in known:
            del known[steps]
            above = CATEGORY_SEPARATOR.join(steps[:-1])
            wrong[line] = f"{id}: its parent {above!r} has no line of its own"
    for line, reason in sorted(wrong.items()):
        if left_out is None:
            raise InputUnreadable(f"{file}: line {line}: {reason}; correct the file")
        left_out.append(f"line {line}: {reason}")
    kept = [
        _Entry(line, id, known[steps[:-1]] if len(steps) > 1 else None, steps[-1])
        for line, id, steps in lines
        if line not in wrong
    ]
    return _tree(file, kept)


def read_paths(file: Path) -> dict[str, str]:
    """{id: path}, the first of each id; .csv as `read_csv`, elsewhere holes in the tree do not matter.

    Raises InputUnreadable, with the line: no such file, not UTF-8, no id, an empty step.
    """
    if file.suffix.lower() == ".csv":
        taxonomy = read_csv(file)
        return {id: taxonomy.path(row) for row, id in enumerate(taxonomy.ids)}
    paths: dict[str, str] = {}
    for _, id, steps in _google_lines(file):
        paths.setdefault(id, CATEGORY_SEPARATOR.join(steps))
    return paths


def read_csv(file: Path) -> Taxonomy:
    """A CSV with the columns id, parent (an id; empty: a top category) and name, in any order of rows.

    Raises InputUnreadable, with the line: no such file, not UTF-8, a broken row, no id, an id twice, no name,
    a name with ` > ` in it, a name twice beneath one parent, an unknown parent, a category above itself.
    """
    return _tree(file, _entries(file))


def read_extension(taxonomy: Taxonomy, file: Path) -> Taxonomy:
    """`taxonomy` with the categories of a CSV as in `read_csv` after its own, each beneath a known one.

    Raises InputUnreadable as `read_csv`, and for an id that the taxonomy has, and a row without a parent.
    """
    return _tree(file, _entries(file), taxonomy)


def read_taxonomy(file: Path) -> Taxonomy:
    """By its suffix: .csv as `read_csv`, all others as `read_google`."""
    return read_csv(file) if file.suffix.lower() == ".csv" else read_google(file)


def localised(taxonomy: Taxonomy, paths: Mapping[str, str]) -> tuple[str, ...]:
    """(N,) names by id out of {id: path} in another language, the taxonomy's own where there is none.

    Files differ in age: a category that is younger than its translation keeps its name.
    """
    return tuple(
        paths[id].rsplit(CATEGORY_SEPARATOR, 1)[-1] if id in paths else name
        for id, name in zip(taxonomy.ids, taxonomy.names, strict=True)
    )


def _google_lines(file: Path) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """(line, id, names from the top)."""
    for line, text in enumerate(_text(file).split("\n"), start=1):
        text = text.strip()
        if not text or text.startswith("#"):
            continue
        id, between, path = text.partition(BETWEEN)
        steps = tuple(step.strip() for step in path.split(CATEGORY_SEPARATOR.strip()))
        if not between or not id or any(char.isspace() for char in id):
            raise InputUnreadable(f"{file}: line {line}: no id; expected `id - A > B > C`, got {text[:80]!r}")
        if not all(steps):
            raise InputUnreadable(f"{file}: line {line}: {id} has a step without a name: {text[:80]!r}")
        yield line, _checked(file, line, id), steps


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputUnreadable(f"{file}: cannot be opened: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputUnreadable(
            f"{file}: line {line}: not UTF-8; convert the file: iconv -f LATIN1 -t UTF-8"
        ) from error


def _checked(file: Path, line: int, id: str | None) -> str:
    try:
        return identity(id)
    except ValueError as error:
        raise InputUnreadable(f"{file}: line {line}: id {error}") from error


def _entries(file: Path) -> list[_Entry]:
    found = []
    for line, (id, parent, name) in csv_rows(file, ("id", "parent", "name")):
        checked = _checked(file, line, id)
        if name is None or not name.strip():
            raise InputUnreadable(f"{file}: line {line}: {checked} has no name")
        if CATEGORY_SEPARATOR.strip() in name.split():
            raise InputUnreadable(f"{file}: line {line}: {name!r}: ` > ` stands between names, never in one")
        found.append(_Entry(line, checked, parent, name.strip()))
    return found


def _tree(file: Path, entries: Sequence[_Entry], base: Taxonomy | None = None) -> Taxonomy:
    """Raises InputUnreadable for what makes these entries no tree (beneath `base`)."""
    if not entries:
        raise InputUnreadable(f"{file}: no category in it")
    ids = list(base.ids) if base else []
    names = list(base.names) if base else []
    parents = base.parents_N.tolist() if base else []
    row_of = {id: row for row, id in enumerate(ids)}
    lines = {row: 0 for row in range(len(ids))}
    for entry in entries:
        if (before := row_of.get(entry.id)) is not None:
            where = f"stands in line {lines[before]} already" if lines[before] else "is the taxonomy's own"
            raise InputUnreadable(f"{file}: line {entry.line}: the id {entry.id} {where}")
        row_of[entry.id] = len(ids)
        lines[len(ids)] = entry.line
        ids.append(entry.id)
        names.append(entry.name)
    beneath = {(parent, name): row for row, (parent, name) in enumerate(zip(parents, names, strict=False))}
    for entry in entries:
        parent = _parent(file, entry, row_of, needed=base is not None)
        other = beneath.setdefault((parent, entry.name), row_of[entry.id])
        if other != row_of[entry.id]:
            raise InputUnreadable(
                f"{file}: line {entry.line}: {entry.id} and {ids[other]} have one path: "
                f"{entry.name!r} beneath {ids[parent] if parent >= 0 else 'the root'}"
            )
        parents.append(parent)
    if (row := _above_itself(parents)) is not None:
        raise InputUnreadable(f"{file}: line {lines[row]}: {ids[row]} stands above itself")
    return Taxonomy(ids, names, np.array(parents, dtype=np.int64))


def _parent(file: Path, entry: _Entry, row_of: dict[str, int], needed: bool) -> int:
    if entry.parent is None:
        if needed:
            raise InputUnreadable(
                f"{file}: line {entry.line}: {entry.id} has no parent; "
                "every row of an extension stands beneath a category"
            )
        return -1
    if (row := row_of.get(entry.parent)) is None:
        raise InputUnreadable(
            f"{file}: line {entry.line}: {entry.id} has the parent {entry.parent!r}, which there is not"
        )
    return row


def _above_itself(parents: Sequence[int]) -> int | None:
    """The first row that is its own ancestor."""
    walked = [-1] * len(parents)  # by row: whose walk came past
    for start in range(len(parents)):
        row = start
        while row >= 0 and walked[row] < 0:
            walked[row] = start
            row = parents[row]
        if row >= 0 and walked[row] == start:
            return row
    return None
