"""Interactions as tables, and behaviour whose acts lie in files, for the tests of what streams it."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from etalage.features import behaviour_files
from etalage.features.behaviour import BehaviourSet, Interactions
from etalage.features.behaviour_on_disk import COLUMNS
from etalage.features.behaviour_stream import BehaviourStream
from etalage.features.growing_array import GrowingArray, mapped
from etalage.lake.schema import TABLES

USERS, ITEMS, ROWS = 60, 40, 1500
DAY = 86_400_000_000


def acts(rows: int = ROWS, seed: int = 0, timed: bool = True, part: bool = False) -> pa.Table:
    """Views, purchases, refunds and stars, some taken back, some at one time; rows that name nobody; a
    shopper who touches everything; ids that are sorted otherwise than they come."""
    rng = np.random.default_rng(seed)
    users = [f"u{n}" for n in (rng.random(rows) ** 2 * USERS).astype(int)]
    users[: ITEMS + 5] = ["crawler"] * (ITEMS + 5)
    items: list[str | None] = [f"i{n}" for n in (rng.random(rows) ** 1.5 * (ITEMS + 3)).astype(int)]
    items[: ITEMS + 3] = [f"i{n}" for n in range(ITEMS + 3)]
    names = ["view", "purchase", "refund", "rating", "wondered", None]
    kinds = [names[n] for n in rng.choice(len(names), rows, p=[0.4, 0.25, 0.05, 0.2, 0.05, 0.05])]
    values = [float(rng.integers(1, 6)) if kind == "rating" else None for kind in kinds]
    for place in rng.integers(0, rows, 9).tolist():
        items[place] = None
    times = [int(n) * DAY // 4 for n in rng.integers(0, 400, rows)]
    parts = rng.choice(["train", "validation", "test"], rows, p=[0.8, 0.1, 0.1]).tolist()
    return pa.Table.from_pydict(
        {
            "interaction_id": [f"{n:05d}" for n in rng.permutation(rows)],
            "user_id": users, "item_id": items, "kind": kinds, "value": values,
            "time": times if timed else [None] * rows,
            "part": parts if part else [None] * rows,
        },
        TABLES["interactions"].schema,
    )  # fmt: skip


def catalogue() -> pa.Table:
    ids = [f"i{n}" for n in range(ITEMS)]
    rows = {
        "item_id": ids,
        "brand": [f"b{n % 7}" for n in range(ITEMS)],
        "price": [float(n) for n in range(ITEMS)],
    }
    empty = TABLES["items"].schema.empty_table()
    return pa.Table.from_pydict(
        {f.name: rows.get(f.name, [None] * ITEMS) for f in empty.schema}, empty.schema
    )


def stored(data: BehaviourSet, folder: Path, buffer: int = 40_000, seed: int = 0) -> BehaviourStream:
    """The same set as a stream."""
    folder.mkdir(parents=True)
    found = {}
    for name, acts in data.parts.items():
        for column, kind in COLUMNS.items():
            with GrowingArray(folder / f"{name}-{column}.npy", kind) as file:
                file.append(getattr(acts, column))
        found[name] = Interactions(*(mapped(folder / f"{name}-{column}.npy") for column in COLUMNS))
    behaviour_files.save(data.with_parts(**found), folder)
    return BehaviourStream.open(folder, buffer, seed)
