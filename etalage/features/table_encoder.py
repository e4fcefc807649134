"""A table of dense and sparse columns → examples: vocabularies, missing numbers, parts; fitted in one pass.

    M rows   S sparse columns   F dense features   O labels   K shards

A column of text or of truth values is sparse, one of fractions is dense; whole numbers may be either, so
they have to be said. A number that is missing, or not finite, is 0, and has a feature `<name>.missing`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etalage.config import suggestion
from etalage.errors import ConfigError, ExportDamaged, InputUnreadable, TooLittleData
from etalage.features.examples import PARTS, Examples
from etalage.features.shards import Shards
from etalage.features.vocabulary import Vocabulary

PART = "part"
"""The column that says the part of each row; without it a tenth is validation, and another one test, drawn by
the number of the row."""
SHARES = (0.8, 0.9)
"""Of the rows below the first is training, from the second on test."""
_MERGE_AT = 2**20
"""Values of a column that are counted before counts of the same value are added up."""


@dataclass(frozen=True)
class TableEncoder:
    vocabularies: dict[str, Vocabulary]
    """Of the sparse columns."""
    dense: tuple[str, ...]
    missing: tuple[str, ...]
    """The dense columns that have a feature which says that they are missing."""
    labels: tuple[str, ...]
    has_part: bool

    @property
    def columns(self) -> list[str]:
        """What is read of the table."""
        return [*self.vocabularies, *self.dense, *self.labels, *([PART] if self.has_part else [])]

    @property
    def dense_names(self) -> tuple[str, ...]:
        return (*self.dense, *(f"{name}.missing" for name in self.missing))

    @property
    def row_bytes(self) -> int:
        """What a row takes when it is encoded, its number included."""
        return 4 * (len(self.vocabularies) + len(self.dense_names) + len(self.labels)) + 8

    def encode(self, batch: pa.RecordBatch, parts: np.ndarray) -> Examples:
        """parts: (M,) of the batch's rows, as `parts` says."""
        rows = batch.num_rows
        sparse = np.empty((rows, len(self.vocabularies)), np.int32)
        for place, (name, vocabulary) in enumerate(self.vocabularies.items()):
            sparse[:, place] = _rows_of(batch.column(name), vocabulary)
        # Columns one by one as they lie in the batch, then turned once: several times faster than by row.
        dense_FM = np.empty((len(self.dense_names), rows), np.float32)
        for place, name in enumerate(self.dense):
            values = numbers(batch.column(name))
            there = np.isfinite(values)
            dense_FM[place] = values
            if not there.all():
                dense_FM[place][~there] = 0
            if name in self.missing:
                dense_FM[len(self.dense) + self.missing.index(name)] = ~there
        dense = np.ascontiguousarray(dense_FM.T)
        labels = np.stack([numbers(batch.column(name)) for name in self.labels], axis=1)
        return Examples(
            sparse, tuple(self.vocabularies), tuple(map(len, self.vocabularies.values())), dense,
            self.dense_names, labels.astype(np.float32), self.labels, parts,
        )  # fmt: skip

    def parts(self, batch: pa.RecordBatch, first: int) -> np.ndarray:
        """(M,) uint8 codes of PARTS. first: the number of the batch's first row in the table.

        Raises InputUnreadable: a row is of no part.
        """
        if not self.has_part:
            return drawn_parts(first, batch.num_rows)
        found = pc.index_in(batch.column(PART).cast(pa.string()), value_set=pa.array(PARTS))
        if found.null_count:
            at = int(np.flatnonzero(np.asarray(pc.is_null(found)))[0])
            raise InputUnreadable(
                f"row {first + at}: the column {PART} is {batch.column(PART)[at].as_py()!r}; "
                f"it has to be one of {', '.join(PARTS)}"
            )
        return np.asarray(found.to_numpy(zero_copy_only=False), np.uint8)

    def facts(self) -> dict[str, Any]:
        return {
            "sparse": list(self.vocabularies), "dense": list(self.dense), "missing": list(self.missing),
            "labels": list(self.labels), "part": self.has_part,
        }  # fmt: skip

    def to_folder(self, folder: Path) -> None:
        """Write a vocabulary for each sparse column, and what the others are."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, vocabulary in enumerate(self.vocabularies.values()):
            vocabulary.save(folder / f"{number}.arrow")
        (folder / "table.json").write_text(json.dumps(self.facts(), indent=1), encoding="utf-8")

    @classmethod
    def from_folder(cls, folder: Path) -> "TableEncoder":
        """Raises ExportDamaged: a file is missing or torn."""
        try:
            said = json.loads((folder / "table.json").read_text(encoding="utf-8"))
            names = {name: Vocabulary.open(folder / f"{n}.arrow") for n, name in enumerate(said["sparse"])}
            dense, missing, labels = (tuple(said[name]) for name in ("dense", "missing", "labels"))
            return cls(names, dense, missing, labels, bool(said["part"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ExportDamaged(f"{folder}: not an encoder of a table ({error!r}); train again") from error


@dataclass(frozen=True)
class Moments:
    """Of the training rows; what a network starts from."""

    rows: int
    dense_mean_F: np.ndarray
    dense_spread_F: np.ndarray
    """float64, spreads may be 0."""
    label_mean_O: np.ndarray
    label_spread_O: np.ndarray
    labelled_O: np.ndarray
    """(O,) int64 rows whose label is known."""


@dataclass(frozen=True)
class FittedTable:
    encoder: TableEncoder
    counts_K3: np.ndarray
    """(K, 3) int64 rows of each shard by part."""
    moments: Moments
    occurrences: dict[str, np.ndarray]
    """By sparse column, (rows of its vocabulary,) int64: how many training rows have each value; row 0:
    unknown or missing."""


@dataclass
class _Sums:
    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, values: np.ndarray) -> None:
        there = values[np.isfinite(values)].astype(np.float64)
        self.count += len(there)
        self.total += float(there.sum())
        self.squares += float(np.square(there).sum())

    def over(self, count: int) -> tuple[float, float]:
        """Mean and spread over so many rows, of which those not counted are 0."""
        mean = self.total / max(count, 1)
        return mean, max(self.squares / max(count, 1) - mean**2, 0.0) ** 0.5


@dataclass
class _Counts:
    """How often each value of a column stands in training rows; memory is of the different ones."""

    parts: list[pa.Table] = field(default_factory=list)
    rows: int = 0

    def add(self, column: pa.Array) -> None:
        if isinstance(column, pa.DictionaryArray):
            codes = pc.value_counts(column.indices.drop_null())
            names = column.dictionary.cast(pa.string()).take(codes.field(0))
            counted = pa.StructArray.from_arrays([names, codes.field(1)], ["values", "counts"])
        else:
            counted = pc.value_counts(column.cast(pa.string()).drop_null())
        self.parts.append(pa.table({"value": counted.field(0), "count": counted.field(1)}))
        self.rows += len(counted)
        if self.rows > _MERGE_AT:
            self._merge()

    def _merge(self) -> pa.Table:
        merged = (
            pa.concat_tables(self.parts)
            .group_by("value", use_threads=False)
            .aggregate([("count", "sum")])
            .rename_columns(["value", "count"])
        )
        self.parts, self.rows = [merged], merged.num_rows // 2
        return merged

    def vocabulary(self, min_count: int, rows: int) -> tuple[Vocabulary, np.ndarray]:
        """The values that occur so often, and how often each row of the vocabulary does, of so many rows."""
        if not self.parts:
            return Vocabulary([]), np.array([rows])
        merged = self._merge()
        kept = merged.filter(pc.greater_equal(merged["count"], min_count)).sort_by("value")
        counts = kept["count"].to_numpy()
        return Vocabulary(kept["value"]), np.concatenate([[rows - counts.sum()], counts])


def fit_table(
    shards: Shards,
    labels: Sequence[str],
    sparse: Sequence[str] | None = None,
    dense: Sequence[str] | None = None,
    min_count: int = 1,
    progress: Callable[[int], None] | None = None,
) -> FittedTable:
    """One pass over the table. A value that fewer than `min_count` training rows have is unknown, row 0.

    sparse, dense: None: by type. progress: told rows. Raises ConfigError: columns that are not there, or not
    clear; InputUnreadable, TableDamaged; TooLittleData: no training row.
    """
    sparse, dense = columns_of(shards.schema, labels, sparse, dense)
    has_part = PART in shards.schema.names
    plain = TableEncoder(dict.fromkeys(sparse, Vocabulary([])), dense, (), tuple(labels), has_part)
    values, sums = {name: _Counts() for name in sparse}, {name: _Sums() for name in (*dense, *labels)}
    counts = np.zeros((len(shards), len(PARTS)), np.int64)
    for shard in shards.shards:
        first = shard.first
        for batch in shards.batches(shard.number, plain.columns, codes=sparse):
            parts = plain.parts(batch, first)
            counts[shard.number] += np.bincount(parts, minlength=len(PARTS))
            train = batch.filter(pa.array(parts == 0))
            for name, counted in values.items():
                counted.add(train.column(name))
            for name, summed in sums.items():
                summed.add(numbers(train.column(name)))
            first += batch.num_rows
            if progress is not None:
                progress(batch.num_rows)
    rows = int(counts[:, 0].sum())
    if not rows:
        raise TooLittleData(f"{shards.uri}: none of its {shards.count:,} rows is of the part train")
    missing = tuple(name for name in dense if sums[name].count < rows)
    found = [sums[name].over(rows) for name in dense]
    for name in missing:
        share = 1 - sums[name].count / rows
        found.append((share, (share - share**2) ** 0.5))
    of_labels = [sums[name].over(sums[name].count) for name in labels]
    moments = Moments(
        rows,
        np.array([mean for mean, _ in found]),
        np.array([spread for _, spread in found]),
        np.array([mean for mean, _ in of_labels]),
        np.array([spread for _, spread in of_labels]),
        np.array([sums[name].count for name in labels]),
    )
    found_values = {name: counted.vocabulary(min_count, rows) for name, counted in values.items()}
    vocabularies = {name: vocabulary for name, (vocabulary, _) in found_values.items()}
    encoder = TableEncoder(vocabularies, dense, missing, tuple(labels), has_part)
    return FittedTable(encoder, counts, moments, {name: often for name, (_, often) in found_values.items()})


def columns_of(
    schema: pa.Schema, labels: Sequence[str], sparse: Sequence[str] | None, dense: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The sparse and the dense columns: those that are named, the others by type. Raises ConfigError."""
    named = {"labels": labels, "sparse": sparse or (), "dense": dense or ()}
    seen: dict[str, str] = {}
    for setting, names in named.items():
        for name in names:
            if name not in schema.names:
                raise ConfigError(
                    f"{setting}: the table has no column {name!r}; {suggestion(name, schema.names)}"
                )
            if name in seen:
                raise ConfigError(f"{setting}: {name!r} is one of `{seen[name]}` already")
            if setting != "sparse" and not _is_number(schema.field(name).type):
                raise ConfigError(f"{setting}: {name!r} is {schema.field(name).type}, and has to be numbers")
            seen[name] = setting
    rest = [field for field in schema if field.name not in seen and field.name != PART]
    unclear = [field.name for field in rest if pa.types.is_integer(field.type)]
    if sparse is not None and dense is not None:
        rest = unclear = []
    if unclear:
        raise ConfigError(
            f"{', '.join(unclear)}: whole numbers may be quantities or codes; name them in `dense` or in "
            "`sparse` (where both are given, no other column is read)"
        )
    more_sparse = [f.name for f in rest if sparse is None and _is_code(f.type)]
    more_dense = [f.name for f in rest if dense is None and pa.types.is_floating(f.type)]
    found = tuple([*(sparse or ()), *more_sparse]), tuple([*(dense or ()), *more_dense])
    if not any(found):
        raise ConfigError("the table has no sparse and no dense column beside its labels")
    return found


def drawn_parts(first: int, rows: int) -> np.ndarray:
    """(rows,) uint8 codes of PARTS, by the row's number: the same in every pass (splitmix64)."""
    z = np.arange(first, first + rows, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    share = (z ^ (z >> np.uint64(31))).astype(np.float64) / 2.0**64
    return np.searchsorted(SHARES, share, side="right").astype(np.uint8)


def _rows_of(column: pa.Array, vocabulary: Vocabulary) -> np.ndarray:
    """(M,) int64 rows of the vocabulary; each different value is looked up once."""
    if not isinstance(column, pa.DictionaryArray):
        return vocabulary.rows(column)
    found = np.append(vocabulary.rows(column.dictionary), 0)  # the last one is of nulls
    at = pc.fill_null(column.indices.cast(pa.int32()), len(found) - 1)
    return found[at.to_numpy()]


def numbers(column: pa.Array) -> np.ndarray:
    """(M,) float32; NaN where there is none."""
    floats = column.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    return np.asarray(floats, np.float32)


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
    )  # fmt: skip


def _is_code(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        or pa.types.is_boolean(kind)
    )  # fmt: skip
