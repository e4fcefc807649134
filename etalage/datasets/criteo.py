"""Criteo's click logs → Examples: label, I1-I13 counts, C1-C26 hashed categories, empty = missing.

Tab or comma, with or without header. Read in two passes, a block at a time: the first fits the
vocabularies on the training rows, the second encodes; with a folder, what is encoded goes to disk.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from etalage.errors import InputUnreadable, TooLittleData
from etalage.features.examples import PARTS, Examples
from etalage.features.vocabulary import Vocabulary

COUNTS = tuple(f"I{n}" for n in range(1, 14))
CATEGORIES = tuple(f"C{n}" for n in range(1, 27))
COLUMNS = ("label", *COUNTS, *CATEGORIES)


def read_criteo(
    files: Mapping[str, Path],
    *,
    min_count: int = 2,
    folder: Path | None = None,
    block_bytes: int = 16 * 2**20,
) -> tuple[Examples, dict[str, Vocabulary]]:
    """files: part → its file, of train, validation and test; one file under "all" is cut in its order into
    80%, 10%, 10%, since the logs stand in order of time.

    A category seen fewer than `min_count` times in training is row 0, as is a missing one. Of each count
    there are two dense features: sign(x)·log(1 + |x|) (some counts are negative), and `<name>.missing`.
    folder: where the arrays are written and mapped from; None: in memory.
    Raises InputUnreadable (a file missing, a line that is not of the form), TooLittleData (no training row).
    """
    plan = _plan(files, block_bytes)
    total = sum(sum(counts) for _, counts in plan)
    vocabularies = _fit(plan, min_count, block_bytes)
    shape = {
        "sparse": ((total, len(CATEGORIES)), np.dtype(np.int32 if folder else np.int64)),
        "dense": ((total, 2 * len(COUNTS)), np.dtype(np.float32)),
        "labels": ((total, 1), np.dtype(np.float32)),
        "parts": ((total,), np.dtype(np.uint8)),
    }
    arrays = {name: _array(folder, name, size, kind) for name, (size, kind) in shape.items()}
    at = 0
    for table, parts in _read(plan, block_bytes):
        rows = slice(at, at + table.num_rows)
        for column, name in enumerate(CATEGORIES):
            arrays["sparse"][rows, column] = vocabularies[name].rows(table[name])
        arrays["dense"][rows] = _dense(table)
        arrays["labels"][rows, 0] = table["label"].to_numpy()
        arrays["parts"][rows] = parts
        at += table.num_rows
    dense_names = (*COUNTS, *(f"{name}.missing" for name in COUNTS))
    sizes = tuple(len(vocabularies[name]) for name in CATEGORIES)
    examples = Examples(
        arrays["sparse"], CATEGORIES, sizes, arrays["dense"], dense_names, arrays["labels"], ("click",),
        arrays["parts"],
    )  # fmt: skip
    if folder is not None:
        for array in arrays.values():
            if isinstance(array, np.memmap):
                array.flush()
        examples.describe(folder)
        examples = Examples.open(folder)
    return examples, vocabularies


_Plan = list[tuple[Path, list[int]]]
"""Each file and how many of its rows are of each part, in order."""


def _plan(files: Mapping[str, Path], block_bytes: int) -> _Plan:
    plan: _Plan = []
    for part, file in files.items():
        count = sum(table.num_rows for table in _tables(file, block_bytes, ["label"]))
        if part == "all":
            train, validation = int(count * 0.8), int(count * 0.1)
            plan.append((file, [train, validation, count - train - validation]))
        else:
            plan.append((file, [count if part == other else 0 for other in PARTS]))
    if sum(counts[0] for _, counts in plan) == 0:
        raise TooLittleData(f"no training row in {', '.join(str(file) for file in files.values())}")
    return plan


def _fit(plan: _Plan, min_count: int, block_bytes: int) -> dict[str, Vocabulary]:
    seen: dict[str, Counter[str]] = {name: Counter() for name in CATEGORIES}
    for table, parts in _read(plan, block_bytes):
        train = table.filter(pa.array(parts == 0))
        for name, counter in seen.items():
            counted = pc.value_counts(train[name].combine_chunks().drop_null())
            pairs = zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)
            counter.update(dict(pairs))
    return {
        name: Vocabulary(sorted(value for value, count in counter.items() if count >= min_count))
        for name, counter in seen.items()
    }


def _read(plan: _Plan, block_bytes: int) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Blocks of all files, each with the (rows,) codes of the parts of its rows."""
    for file, counts in plan:
        codes = np.repeat(np.arange(len(PARTS), dtype=np.uint8), counts)
        at = 0
        for table in _tables(file, block_bytes, list(COLUMNS)):
            yield table, codes[at : at + table.num_rows]
            at += table.num_rows


def _tables(file: Path, block_bytes: int, columns: list[str]) -> Iterator[pa.Table]:
    try:
        with file.open("rb") as source:
            first = source.readline().decode("utf-8", "replace")
        if not first.strip():
            return
        delimiter = "\t" if "\t" in first else ","
        header = first.split(delimiter)[0].strip() == "label"
        kinds = (
            {"label": pa.float32()}
            | dict.fromkeys(COUNTS, pa.float32())
            | dict.fromkeys(CATEGORIES, pa.string())
        )
        with csv.open_csv(
            file,
            read_options=csv.ReadOptions(
                column_names=list(COLUMNS), skip_rows=int(header), block_size=block_bytes, use_threads=False
            ),
            parse_options=csv.ParseOptions(delimiter=delimiter, quote_char=False),
            convert_options=csv.ConvertOptions(
                column_types=kinds, null_values=[""], strings_can_be_null=True, include_columns=columns
            ),
        ) as reader:
            for batch in reader:
                table = pa.Table.from_batches([batch])
                if table["label"].null_count:
                    raise InputUnreadable(f"{file}: a row has no label; every row needs 0 or 1")
                yield table
    except (OSError, pa.ArrowException) as error:
        raise InputUnreadable(
            f"{file}: not a Criteo log ({error}); expected label, I1-I13, C1-C26 by tab or comma"
        ) from error


def _dense(table: pa.Table) -> np.ndarray:
    numbers = np.stack([table[name].to_numpy() for name in COUNTS], axis=1)  # missing is NaN
    missing = ~np.isfinite(numbers)
    logs = np.sign(numbers) * np.log1p(np.abs(numbers))
    return np.hstack([np.where(missing, 0, logs), missing]).astype(np.float32)


def _array(folder: Path | None, name: str, shape: tuple[int, ...], kind: np.dtype) -> np.ndarray:
    if folder is None:
        return np.empty(shape, kind)
    folder.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=kind, shape=shape)
