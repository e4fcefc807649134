"""A shop to try everything on: a catalogue with photos, and shoppers with hidden tastes.

Seeded and made by code alone: no download, no licence, no clock. Any size from 100 to 100,000 items.
Item n, its photo and its facts depend on (seed, n) only, so that a shop that grows keeps what it had;
shopper n's deeds depend on (seed, n) and on the catalogue.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from etalage.demo import behaviour, drawn, listing
from etalage.demo.drawn import DrawnPhoto
from etalage.demo.facts import facts, item_ids
from etalage.demo.tastes import Truth, item_tastes, user_tastes
from etalage.errors import DataError
from etalage.lake.schema import PHOTO_OK, TABLES

if TYPE_CHECKING:
    from etalage.lake.delta import Lake

SMALLEST, LARGEST = 100, 100_000
_PHOTOS_A_MERGE = 5_000
_ROWS_A_MERGE = 1_000_000


@dataclass(frozen=True)
class DemoSize:
    """How large the shop is. Raises DataError when that is no size for a shop."""

    items: int = 5000
    shoppers: int = 2000
    seed: int = 7

    def __post_init__(self) -> None:
        if not SMALLEST <= self.items <= LARGEST:
            raise DataError(
                f"demo shop: items={self.items} is out of range; choose from {SMALLEST} to {LARGEST}"
            )
        if self.shoppers < 1:
            raise DataError(f"demo shop: shoppers={self.shoppers} is out of range; choose 1 or more")
        if self.seed < 0:
            raise DataError(f"demo shop: seed={self.seed} is negative; choose 0 or more")


def catalogue(size: DemoSize) -> pa.Table:
    """The rows of the items table, in order of item number."""
    return listing.items(size.seed, np.arange(size.items, dtype=np.int64))


def _photo_rows(some: list[DrawnPhoto]) -> pa.Table:
    ids = item_ids(np.array([photo.number for photo in some], dtype=np.int64))
    columns = {
        "item_id": ids,
        "url": [f"demo://{item_id}" for item_id in ids],
        "status": [PHOTO_OK] * len(ids),
        "bytes": [photo.photo for photo in some],
        "width": [photo.width for photo in some],
        "height": [photo.height for photo in some],
        "sha256": [photo.sha256 for photo in some],
        "phash": [photo.phash for photo in some],
        "fetched_at": listing.times(np.zeros(len(ids), dtype=np.int64)),
    }
    return pa.table(columns, schema=TABLES["photos"].schema)


def photos(
    size: DemoSize, progress: Callable[[int], None] | None = None, workers: int = 2
) -> Iterator[pa.Table]:
    """The rows of the photos table, in order of item number, some at a time; each item has one photo.

    `progress` is called with the number of photos drawn since the last call. `workers` processes draw them
    (fewer than 400 photos, or workers=1: this one); see `drawn.stream`.
    """
    for some in drawn.stream(size.seed, size.items, workers):
        yield _photo_rows(some)
        if progress is not None:
            progress(len(some))


def shoppers(size: DemoSize) -> pa.Table:
    """The rows of the users table."""
    return behaviour.users(size.seed, np.arange(size.shoppers, dtype=np.int64))


def _interactions(size: DemoSize) -> Iterator[pa.Table]:
    return behaviour.interactions(
        size.seed, facts(size.seed, np.arange(size.items, dtype=np.int64)), size.shoppers
    )


def interactions(size: DemoSize) -> pa.Table:
    """The rows of the interactions table, in order of user and time: about a year, up to TODAY."""
    return pa.concat_tables(_interactions(size)).combine_chunks()


def truth(size: DemoSize) -> Truth:
    """How much any shopper likes any item. For benchmarks; a model that asks for it has cheated."""
    return Truth(
        user_tastes(size.seed, np.arange(size.shoppers, dtype=np.int64)),
        item_tastes(size.seed, facts(size.seed, np.arange(size.items, dtype=np.int64))),
    )


def _gathered(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in larger tables of about `rows` each: every merge is a version of the Delta table."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(one.num_rows for one in held) >= rows:
            yield pa.concat_tables(held).combine_chunks()
            held = []
    if held:
        yield pa.concat_tables(held).combine_chunks()


def fill(
    lake: "Lake", size: DemoSize, progress: Callable[[int], None] | None = None, workers: int = 2
) -> dict[str, int]:
    """Merges the whole shop into the lake's tables and returns the rows of each.

    Filling again with the same size changes nothing. `progress` as in `photos`, which take the time.
    """
    counts = dict.fromkeys(("items", "photos", "users", "interactions"), 0)
    parts: list[tuple[str, Iterator[pa.Table]]] = [
        ("items", iter([catalogue(size)])),
        ("photos", _gathered(photos(size, progress, workers), _PHOTOS_A_MERGE)),
        ("users", iter([shoppers(size)])),
        ("interactions", _gathered(_interactions(size), _ROWS_A_MERGE)),
    ]
    for name, tables in parts:
        for table in tables:
            lake.table(name).merge(table)
            counts[name] += table.num_rows
    return counts
