"""Published protocols → BehaviourSet: NCF's leave-one-out files, and sequences of one line a user."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from etalage.errors import InputUnreadable, TooLittleData
from etalage.features.behaviour import NEVER, BehaviourSet, Interactions
from etalage.features.encoder import Features
from etalage.features.split_interactions import carved, leave_one_out
from etalage.features.vocabulary import Vocabulary
from etalage.lake.behaviour_files import ncf_chunks, negatives, sequence_chunks
from etalage.lake.raw import RawChunk

ROWS = 100_000


def ncf(
    folder: Path, name: str, validation: Literal["leave_one_out", "none"] = "leave_one_out", seed: int = 0
) -> BehaviourSet:
    """`NAME.train.rating`, `NAME.test.rating` and `NAME.test.negative` of `folder`, as published.

    Ratings above 0 are positive. The published negatives are in `negatives["test"]`, (B, n), beside
    `queries("test")`; users that occur in the test file alone are there too, with an empty history.
    validation: one act of each user with two or more in train: the newest, where the files have times, else
    one drawn by `seed`. Raises InputUnreadable (with file and line), TooLittleData.
    """
    files = [folder / f"{name}.{part}" for part in ("train.rating", "test.rating", "test.negative")]
    train, test = (_columns(file, ncf_chunks(file, ROWS)) for file in files[:2])
    drawn = list(negatives(files[2]))
    if not len(train["user_id"]):
        raise TooLittleData(f"{files[0]}: no line")
    users = Vocabulary.fit([*train["user_id"], *test["user_id"]])
    items = Vocabulary.fit(
        [*train["item_id"], *test["item_id"], *(item for _, _, _, found in drawn for item in found)]
    )
    held = _interactions(test, users, items)
    parts = {"train": _interactions(train, users, items), "test": held}
    if validation == "leave_one_out":
        parts |= carved(parts["train"], seed)
    return BehaviourSet(
        users,
        items,
        ("rating",),
        parts,
        negatives={"test": _aligned(files[2], drawn, held, users, items)},
        own_split=False,
        facts={"protocol": "ncf", "name": name, "validation": validation, "seed": seed, "repeat": False},
    )


def sequences(file: Path, attributes: Path | None = None) -> BehaviourSet:
    """One user a line, items oldest first: the last is `test`, the one before it `validation`.

    attributes: JSON {item id: [attribute ids]}; it becomes the bag `attributes` of the items' features.
    A user of two items has no validation, one of a single item is in train alone.
    Raises InputUnreadable (with file and line), TooLittleData.
    """
    columns = _columns(file, sequence_chunks(file, ROWS))
    if not len(columns["user_id"]):
        raise TooLittleData(f"{file}: no line")
    users, items = Vocabulary.fit(columns["user_id"]), Vocabulary.fit(columns["item_id"])
    acts = Interactions.sorted(
        users.rows(columns["user_id"]), items.rows(columns["item_id"]), np.ones(len(columns["user_id"]))
    )
    parts = leave_one_out(acts, repeat=True)
    return BehaviourSet(
        users,
        items,
        ("view",),
        parts,
        item_features=Features() if attributes is None else _bag(attributes, items),
        own_split=False,
        facts={"protocol": "sequences", "split": "leave_one_out", "name": file.stem, "repeat": False},
    )


def with_negatives(data: BehaviourSet, file: Path) -> BehaviourSet:
    """`data`, whose test part was published with this file of negatives: one line for each user who is asked.

    Lines of users who are not asked (what they took is of no item of the catalogue, say), and negatives of
    items that the data lack, are counted in the facts: `idle_negatives`, `unknown_negatives`.
    Raises InputUnreadable: no such file, a user without a line, or with another item to be found.
    """
    if not file.is_file():
        raise InputUnreadable(
            f"{file}: no such file; [behaviour] negatives names one relative to the shop's folder"
        )
    lines = {user: (line, item, found) for line, user, item, found in negatives(file)}
    truth = data.truth("test")
    asked, first = np.unique(truth.users, return_index=True)
    bounds = np.append(first, len(truth))
    width = len(next(iter(lines.values()))[2]) if lines else 0
    rows = np.zeros((len(asked), width), np.int64)
    for n, user in enumerate(asked.tolist()):
        name = data.users.id(user)
        if name not in lines:
            raise InputUnreadable(
                f"{file}: no line of user {name!r}, who has something to be found in the part test; the "
                "negatives and the interactions are of one published split"
            )
        line, item, found = lines[name]
        wanted = truth.items[bounds[n] : bounds[n + 1]]
        if data.items.row(item) not in wanted:
            took = ", ".join(repr(data.items.id(int(row))) for row in wanted[:3])
            raise InputUnreadable(
                f"{file}: line {line}: item {item!r} is to be found for user {name!r}, but the part test has "
                f"{took}: not of one published split, or the catalogue lacks it"
            )
        if len(found) != width:
            raise InputUnreadable(f"{file}: line {line}: {len(found)} negatives, the first line has {width}")
        rows[n] = data.items.rows(found)
    facts = {"unknown_negatives": int((rows == 0).sum()), "idle_negatives": len(lines) - len(asked)}
    return replace(data, negatives={**data.negatives, "test": rows}, facts={**data.facts, **facts})


def negative_items(file: Path) -> list[str]:
    """The ids of a file of negatives. Raises InputUnreadable."""
    return [] if not file.is_file() else sorted({i for _, _, _, found in negatives(file) for i in found})


def _columns(file: Path, chunks: Iterable[RawChunk]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for chunk in chunks:
        for refusal in chunk.refused:
            raise InputUnreadable(f"{file}: line {refusal.line}: {refusal.reason}")
        for name, values in chunk.columns.items():
            columns.setdefault(name, []).extend(values)
    return columns


def _interactions(columns: dict[str, list[Any]], users: Vocabulary, items: Vocabulary) -> Interactions:
    values = np.array([float(value) for value in columns["value"]], np.float32)
    times = [NEVER if when is None else int(float(when)) * 1_000_000 for when in columns["time"]]
    return Interactions.sorted(
        users.rows(columns["user_id"]), items.rows(columns["item_id"]), np.ones(len(values)), values,
        np.array(times, np.int64), values > 0,
    )  # fmt: skip


def _aligned(
    file: Path,
    drawn: list[tuple[int, str, str, list[str]]],
    held: Interactions,
    users: Vocabulary,
    items: Vocabulary,
) -> np.ndarray:
    """(B, n) item rows in ascending order of the user, as queries("test") asks."""
    owners = users.rows([user for _, user, _, _ in drawn])
    asked = items.rows([item for _, _, item, _ in drawn])
    order = np.argsort(owners, kind="stable")
    truth = held.positive
    if len(truth) != len(drawn) or not (
        np.array_equal(owners[order], truth.users) and np.array_equal(asked[order], truth.items)
    ):
        raise InputUnreadable(f"{file}: its pairs (user,item) are not those of the test file, one a user")
    width = len(drawn[0][3]) if drawn else 0
    for number, _, _, found in drawn:
        if len(found) != width:
            raise InputUnreadable(
                f"{file}: line {number}: {len(found)} negatives, the first line has {width}"
            )
    flat = items.rows([item for _, _, _, found in drawn for item in found])
    return flat.reshape(len(drawn), width)[order]


def _bag(file: Path, items: Vocabulary) -> Features:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        of = {str(item): [str(value) for value in values] for item, values in said.items()}
    except OSError as error:
        raise InputUnreadable(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise InputUnreadable(
            f"{file}: expected a JSON object {{item id: [attribute ids]}}: {error}"
        ) from error
    values = Vocabulary.fit([value for found in of.values() for value in found])
    ids = items.ids.to_pylist()
    rows = [of.get(item, []) for item in ids]
    bag = np.zeros((len(ids) + 1, max(map(len, rows), default=0) or 1), np.int64)
    for place, found in enumerate(rows, start=1):
        bag[place, : len(found)] = values.rows(found)
    return Features(bags={"attributes": bag}, sizes={"attributes": len(values)})
