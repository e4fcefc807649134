"""The golden set: what every model of a shop is judged on, fixed once, and never learned from.

One JSON file in the shop's folder, made once from the test part. It names each photo by its SHA-256 and
perceptual hash, and its item by id, product key and category, so that a leak is found also where an item
comes back under another id, at another merchant, or as a retouched photo. The file holds the hash of all
that it says: a changed one is refused.

    P photos (an item without one has one row)   G rows of the golden set
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from etalage.errors import GoldenChanged, LeakageFound, TooLittleData
from etalage.features.grouping import degenerate, near_unique, unsigned
from etalage.lake.durable_files import write_durably

FORMAT = 1
NAMED = 3
"""So many of the offending rows stand in the message, of each kind."""


class GoldenPhoto(NamedTuple):
    """One row. `phash`: signed, 0 without a photo; `key`: the product's across merchants, such as a GTIN."""

    item_id: str
    sha256: str | None
    phash: int
    key: str | None
    category_id: str | None


@dataclass(frozen=True)
class Golden:
    """Rows in order, none twice. `phash_distance`: bits by which a near-duplicate's hash may differ."""

    rows: tuple[GoldenPhoto, ...]
    phash_distance: int
    hash: str = field(init=False)
    """SHA-256, hex, of all of the above: it stands in a report beside each figure on the set."""

    def __post_init__(self) -> None:
        content = json.dumps(
            [FORMAT, self.phash_distance, self.rows], ensure_ascii=True, separators=(",", ":")
        )
        object.__setattr__(self, "hash", hashlib.sha256(content.encode()).hexdigest())

    @cached_property
    def item_ids(self) -> frozenset[str]:
        return frozenset(row.item_id for row in self.rows)

    def to_json(self) -> str:
        content = {
            "format": FORMAT,
            "hash": self.hash,
            "phash_distance": self.phash_distance,
            "rows": [row._asdict() for row in self.rows],
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def make_golden(
    item_ids: Sequence[str],
    sha256s: Sequence[str | None],
    phashes: Sequence[int] | np.ndarray,
    keys: Sequence[str | None],
    category_ids: Sequence[str | None],
    *,
    phash_distance: int,
) -> Golden:
    """The golden set of these rows, one a photo: usually those of the test part that have a category.

    The same rows in any order give the same hash. Raises TooLittleData: no row.
    """
    if not len(item_ids):
        raise TooLittleData("no row for the golden set: the test part is empty, see [split] in shop.toml")
    rows = zip(item_ids, sha256s, (int(phash) for phash in phashes), keys, category_ids, strict=True)
    ordered = sorted({GoldenPhoto(*row) for row in rows}, key=lambda row: json.dumps(row))
    return Golden(tuple(ordered), phash_distance)


def write_golden(golden: Golden, file: Path) -> None:
    """Write the file, once; the same set again changes nothing. Raises GoldenChanged: another is there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        write_durably(draft, golden.to_json().encode())
        os.link(draft, file)  # fails where the file is there, whoever was first
    except FileExistsError:
        there = read_golden(file)
        if there.hash != golden.hash:
            raise GoldenChanged(
                f"{file} holds another golden set ({there.hash[:12]}, {len(there.rows)} rows) than this one "
                f"({golden.hash[:12]}, {len(golden.rows)} rows); figures of the two do not compare: move the "
                "old file away to start anew"
            ) from None
    finally:
        draft.unlink(missing_ok=True)


def read_golden(file: Path) -> Golden:
    """Raises GoldenChanged: it cannot be read, or is not what was written."""
    try:
        raw: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        rows = tuple(_row(row) for row in raw["rows"])
        golden = Golden(rows, int(raw["phash_distance"]))
        said, form = str(raw["hash"]), int(raw["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GoldenChanged(f"{file}: not a golden set ({error!r}); {_AGAIN}") from error
    if form != FORMAT:
        raise GoldenChanged(f"{file}: a golden set of format {form}, this is {FORMAT}; update etalage")
    if golden.hash != said:
        raise GoldenChanged(
            f"{file}: its rows have the hash {golden.hash[:12]}, it says {said[:12]}; {_AGAIN}"
        )
    return golden


_AGAIN = "put back the file as it was, or move it away and evaluate every model again on a new one"


def check_golden(
    golden: Golden,
    item_ids: Sequence[str],
    sha256s: Sequence[str | None],
    phashes: Sequence[int] | np.ndarray,
    keys: Sequence[str | None],
) -> None:
    """See that none of these rows, those of training and validation, one a photo, is in the golden set.

    By id, by product key, by photo, or by a photo whose hash is near (degenerate hashes count for nothing).
    Raises LeakageFound naming the first of each kind.
    """
    found: dict[str, list[str]] = {}

    def look(what: str, known: dict[Any, str], values: Sequence[Any], shown: Callable[[Any], str]) -> None:
        for item_id, value in zip(item_ids, values, strict=True):
            if value is not None and value in known:
                found.setdefault(what, []).append(f"{item_id!r} ({shown(value)} of golden {known[value]!r})")

    look("by id", {row.item_id: row.item_id for row in golden.rows}, item_ids, lambda _: "the id")
    by_key = {row.key: row.item_id for row in golden.rows if row.key is not None}
    look("by product", by_key, keys, lambda key: f"the product {key!r}")
    by_photo = {row.sha256: row.item_id for row in golden.rows if row.sha256 is not None}
    look("by photo", by_photo, sha256s, lambda sha256: f"the photo {sha256[:12]}")
    near = _near(golden, np.asarray(phashes, np.int64).reshape(len(item_ids)))
    hashes = [int(phash) if int(phash) in near else None for phash in phashes]
    look("by near-duplicate", near, hashes, lambda phash: f"hash {phash & (2**64 - 1):016x}, near that")
    if found:
        kinds = "; ".join(
            f"{len(rows)} {what}: {', '.join(rows[:NAMED])}{', …' if len(rows) > NAMED else ''}"
            for what, rows in found.items()
        )
        raise LeakageFound(
            f"training or validation rows stand in the golden set ({golden.hash[:12]}): {kinds}. Split by "
            "group ([split] product, near_duplicates, burst), or leave these items out of training"
        )


def _near(golden: Golden, phashes_P: np.ndarray) -> dict[int, str]:
    """{hash: item of the golden set} of those hashes, of `phashes_P` alone, that are near one of the set."""
    ours = np.array([row.phash for row in golden.rows], np.int64)
    owner = {phash: row.item_id for phash, row in zip(ours.tolist(), golden.rows, strict=True)}
    ours, theirs = np.unique(ours[~degenerate(ours)]), np.unique(phashes_P[~degenerate(phashes_P)])
    near = {phash: owner[phash] for phash in np.intersect1d(ours, theirs).tolist()}
    every = np.union1d(ours, theirs)
    in_ours, in_theirs = np.isin(every, ours), np.isin(every, theirs)
    for a_E, b_E in near_unique(unsigned(every), golden.phash_distance):
        for one, other in ((a_E, b_E), (b_E, a_E)):
            leaks = in_ours[one] & in_theirs[other]
            pairs = zip(every[one[leaks]].tolist(), every[other[leaks]].tolist(), strict=True)
            for golden_hash, phash in pairs:
                near.setdefault(phash, owner[golden_hash])
    return near


def _row(raw: dict[str, Any]) -> GoldenPhoto:
    row = GoldenPhoto(**raw)
    texts = (row.sha256, row.key, row.category_id)
    if not isinstance(row.item_id, str) or not all(text is None or isinstance(text, str) for text in texts):
        raise ValueError(f"row {raw!r}")
    if not isinstance(row.phash, int) or not -(2**63) <= row.phash < 2**63:
        raise ValueError(f"phash of {raw!r}")
    return row
