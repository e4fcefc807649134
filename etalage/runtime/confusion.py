"""How often a classifier took which category for which, as its evaluation counted it."""

import json
from pathlib import Path

from etalage.config import Settings, validated
from etalage.errors import BundleDamaged, ConfigError

CONFUSION = "confusion.json"


class ConfusionCategory(Settings):
    """One row and column of the matrix. `value`: what the category is worth to the shop."""

    id: str
    path: str
    value: float


class Confusion(Settings):
    """How often which category was taken for which, the most valuable first.

    `counts[p][t]`: items of the true category t for which p was predicted.
    """

    categories: tuple[ConfusionCategory, ...]
    counts: tuple[tuple[int, ...], ...]
    elsewhere: tuple[int, ...] = ()
    """Items of each category that were taken for one that is not shown; (): none were."""


def read_confusion(file: Path) -> Confusion | None:
    """None: none was kept. Raises BundleDamaged."""
    if not file.exists():
        return None
    try:
        found = validated(Confusion, json.loads(file.read_bytes()), str(file))
    except (OSError, ValueError, TypeError, RecursionError, ConfigError) as error:
        raise BundleDamaged(f"{file} cannot be read: {error}; evaluate and publish again") from error
    side = len(found.categories)
    if [len(row) for row in found.counts] != [side] * side or len(found.elsewhere) not in (0, side):
        raise BundleDamaged(f"{file}: {side} categories, but not as many rows and columns; evaluate again")
    return found
