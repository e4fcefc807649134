"""Which items a model learns from, is tuned on and is judged on."""

import hashlib
import json

import numpy as np
import pyarrow as pa

from etalage.config import SplitConfig
from etalage.errors import ConfigError

PARTS = ("train", "validation", "test")


def assign(items: pa.Table, config: SplitConfig) -> np.ndarray:
    """(N,) of "train", "validation" or "test", one for each row of `items`.

    An item whose published attribute says "test" or "validation" is just that; one that says
    "train" may still be held out for validation, never for test. All others fall by a hash of their
    `group`, so an item keeps its part when the catalogue grows, and all of a group fall together.

    Raises ConfigError: no such group column, or a published part of another name.
    """
    if config.group not in items.column_names:
        raise ConfigError(f"[split] group = {config.group!r}: items have {', '.join(items.column_names)}")
    draws = np.array([_draw(value) for value in items.column(config.group).to_pylist()])
    parts = np.full(len(draws), "train", dtype="<U10")
    parts[draws < config.test + config.validation] = "validation"
    parts[draws < config.test] = "test"
    if config.published is None:
        return parts
    for row, text in enumerate(items.column("attributes").to_pylist()):
        said = json.loads(text or "{}").get(config.published)
        if said is None:
            continue
        if said not in PARTS:
            raise ConfigError(
                f"[split] published = {config.published!r}: item {items.column('item_id')[row]} says "
                f"{said!r}; expected one of {', '.join(PARTS)}"
            )
        if said == "train" and draws[row] < config.validation:
            parts[row] = "validation"
        else:
            parts[row] = said
    return parts


def _draw(value: object) -> float:
    digest = hashlib.blake2b(repr(value).encode(), digest_size=8, person=b"etalage-split").digest()
    return int.from_bytes(digest, "big") / 2**64
