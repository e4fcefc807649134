"""Rows of a table → arrays, the same in training and in serving; fitted once, kept as JSON.

A `sparse` feature is one row of a vocabulary, a `bag` up to T rows (words of a title, the steps of a
category path), a `dense` one D numbers. In vocabularies row 0 is unknown; bags are padded with 0.

    R rows   T entries of a bag   D numbers
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from etalage.errors import ExportDamaged
from etalage.features.vocabulary import Vocabulary
from etalage.lake.schema import CATEGORY_SEPARATOR

_WORD = re.compile(r"\w+")
TITLE_WORDS, CATEGORY_STEPS = 12, 6


@dataclass(frozen=True)
class Features:
    """All arrays have R rows."""

    sparse: dict[str, np.ndarray] = field(default_factory=dict)
    """name → (R,) int64."""
    bags: dict[str, np.ndarray] = field(default_factory=dict)
    """name → (R, T) int64."""
    dense: dict[str, np.ndarray] = field(default_factory=dict)
    """name → (R, D) float32."""
    sizes: dict[str, int] = field(default_factory=dict)
    """name → rows of the vocabulary of a sparse feature or a bag, the unknown one included."""

    def __len__(self) -> int:
        """R; 0 when there is no feature at all."""
        for columns in (self.sparse, self.bags, self.dense):
            for column in columns.values():
                return len(column)
        return 0

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """All of them by name, in a fixed order: sparse, bags, dense, each sorted."""
        return {n: c[n] for c in (self.sparse, self.bags, self.dense) for n in sorted(c)}

    def take(self, rows: np.ndarray) -> "Features":
        sparse, bags, dense = (
            {name: column[rows] for name, column in columns.items()}
            for columns in (self.sparse, self.bags, self.dense)
        )
        return Features(sparse, bags, dense, self.sizes)

    def plus(self, name: str, numbers: np.ndarray) -> "Features":
        """With one more dense feature, (R, D)."""
        dense = {**self.dense, name: np.ascontiguousarray(numbers, np.float32)}
        return Features(self.sparse, self.bags, dense, self.sizes)

    def with_unknown(self) -> "Features":
        """(R + 1) rows: a row 0 of zeros in front, for the vocabulary's row 0."""
        sparse, bags, dense = (
            {n: np.concatenate([np.zeros((1, *c.shape[1:]), c.dtype), c]) for n, c in columns.items()}
            for columns in (self.sparse, self.bags, self.dense)
        )
        return Features(sparse, bags, dense, self.sizes)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for name, column in self.columns.items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Encoder:
    """Which features a table has, and their vocabularies. `fit` it on training rows, then `encode` any."""

    sparse: dict[str, Vocabulary]
    """By feature: a column of text, or `attributes.<key>` for a key of the JSON column."""
    bags: dict[str, Vocabulary]
    """`title` (its words), `category_id` and `classified_path` (a path's steps, each with all above it): the
    merchant's own category, and the one that the classifier told."""
    dense: dict[str, tuple[float, float]]
    """By column of numbers: mean and spread of log(1 + value); → (R, 2): the number, and "is missing"."""

    @classmethod
    def fit(cls, table: pa.Table, min_count: int = 2, attributes: tuple[str, ...] | None = None) -> "Encoder":
        """`table`: rows of items or users. `attributes`: keys to use; None: all that help to tell rows apart
        (at least two values, and fewer values than half the rows)."""
        names = set(table.column_names)
        sparse = {n: Vocabulary.fit(table[n], min_count) for n in ("brand",) if n in names}
        if "attributes" in names:
            for key, values in sorted(_attributes(table, attributes).items()):
                vocabulary = Vocabulary.fit(values, min_count)
                known = attributes is not None or 2 < len(vocabulary) <= max(3, table.num_rows // 2)
                if known:
                    sparse[f"attributes.{key}"] = vocabulary
        bags = {
            name: Vocabulary.fit([word for row in split(table[name].to_pylist()) for word in row], min_count)
            for name, split in _BAGS.items()
            if name in names
        }
        dense = {}
        for name in ("price",):
            if name in names:
                numbers = np.log1p(_numbers(table, name))
                there = numbers[np.isfinite(numbers)]
                if len(there):
                    dense[name] = (float(there.mean()), float(max(there.std(), 1e-6)))
        return cls(
            {name: v for name, v in sparse.items() if len(v) > 2},
            {name: v for name, v in bags.items() if len(v) > 2},
            dense,
        )

    def encode(self, table: pa.Table) -> Features:
        """The features of `table`, one row each; a column that is missing counts as all null."""
        count = table.num_rows
        keys = tuple(n.removeprefix("attributes.") for n in self.sparse if n.startswith("attributes."))
        found: Mapping[str, list[str | None]] = (
            _attributes(table, keys) if keys and "attributes" in table.column_names else {}
        )
        nothing: list[str | None] = [None] * count
        sparse = {}
        for name, vocabulary in self.sparse.items():
            key = name.removeprefix("attributes.")
            values = found.get(key, nothing) if key != name else _texts(table, name)
            sparse[name] = vocabulary.rows(values)
        bags = {
            name: _bag(_BAGS[name](_texts(table, name)), v, _WIDTH[name]) for name, v in self.bags.items()
        }
        dense = {}
        for name, (mean, spread) in self.dense.items():
            numbers = (np.log1p(_numbers(table, name)) - mean) / spread
            missing = ~np.isfinite(numbers)
            dense[name] = np.stack([np.where(missing, 0, numbers), missing], axis=1).astype(np.float32)
        sizes = {name: len(v) for name, v in {**self.sparse, **self.bags}.items()}
        return Features(sparse, bags, dense, sizes)

    def to_json(self) -> str:
        def ids(vocabularies: dict[str, Vocabulary]) -> dict[str, list[str]]:
            return {name: v.ids.to_pylist() for name, v in vocabularies.items()}

        return json.dumps({"sparse": ids(self.sparse), "bags": ids(self.bags), "dense": self.dense})

    @classmethod
    def from_json(cls, text: str, where: str) -> "Encoder":
        """Raises ExportDamaged that names `where`."""
        try:
            raw: dict[str, Any] = json.loads(text)
            sparse, bags = ({n: Vocabulary(ids) for n, ids in raw[k].items()} for k in ("sparse", "bags"))
            dense = {name: (float(a), float(b)) for name, (a, b) in raw["dense"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExportDamaged(f"{where}: not an encoder ({error!r}); export the model again") from error
        return cls(sparse, bags, dense)


def _words(titles: list[str | None]) -> list[list[str]]:
    return [_WORD.findall(title.lower()) if title else [] for title in titles]


def _steps(paths: list[str | None]) -> list[list[str]]:
    """`A > B > C` → `A`, `A > B`, `A > B > C`."""
    split = [path.split(CATEGORY_SEPARATOR) if path else [] for path in paths]
    return [[CATEGORY_SEPARATOR.join(steps[: n + 1]) for n in range(len(steps))] for steps in split]


_BAGS = {"title": _words, "category_id": _steps, "classified_path": _steps}
_WIDTH = {"title": TITLE_WORDS, "category_id": CATEGORY_STEPS, "classified_path": CATEGORY_STEPS}


def _bag(rows: list[list[str]], vocabulary: Vocabulary, width: int) -> np.ndarray:
    """(R, width) int64: known entries first, then zeros."""
    lengths = np.array([min(len(row), width) for row in rows], np.int64)
    flat = vocabulary.rows([word for row in rows for word in row[:width]])
    bag = np.zeros((len(rows), width), np.int64)
    if len(flat):
        owner = np.repeat(np.arange(len(rows)), lengths)
        place = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        bag[owner, place] = flat
    return np.take_along_axis(bag, np.argsort(bag == 0, axis=1, kind="stable"), axis=1)


def _texts(table: pa.Table, name: str) -> list[str | None]:
    return table[name].to_pylist() if name in table.column_names else [None] * table.num_rows


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    return np.asarray(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _attributes(table: pa.Table, keys: tuple[str, ...] | None) -> dict[str, list[str | None]]:
    """The JSON column by key; keys=None: every key that occurs."""
    rows: list[dict[str, str]] = [
        json.loads(text) if text else {} for text in table["attributes"].to_pylist()
    ]
    wanted = keys if keys is not None else sorted({key for row in rows for key in row})
    return {key: [row.get(key) for row in rows] for key in wanted}
