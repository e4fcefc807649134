"""Tables of dense and sparse columns, for the tests of what streams them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import WriterProperties, write_deltalake

from etalage.features.example_stream import ExampleStream
from etalage.features.shards import Shards
from etalage.features.table_encoder import fit_table

ROWS, GROUP = 3000, 100


def drawn(rows: int = ROWS, seed: int = 0, part: bool = True) -> pa.Table:
    """Clicks that depend on a colour and a price; `id` tells the row."""
    rng = np.random.default_rng(seed)
    colour, shop = rng.integers(0, 6, rows), rng.integers(0, 40, rows)
    price = rng.normal(20, 5, rows)
    click = rng.random(rows) < 1 / (1 + np.exp(-(colour - 2.5) - (20 - price) / 5))
    columns = {
        "colour": pa.array([f"c{n}" for n in colour]),
        "shop": pa.array([None if n == 0 else f"s{n}" for n in shop]),
        "price": pa.array(price, pa.float64()),
        "weight": pa.array(np.where(rng.random(rows) < 0.2, np.nan, 1.5), pa.float32(), from_pandas=True),
        "id": pa.array(np.arange(rows), pa.float64()),
        "label": pa.array(click.astype(np.int8)),
    }
    if part:
        columns["part"] = pa.array(rng.choice(["train", "validation", "test"], rows, p=[0.8, 0.1, 0.1]))
    return pa.table(columns)


def stored(folder: Path, table: pa.Table, files: int = 3) -> str:
    """As a Delta table of so many files, in row groups of GROUP."""
    size = -(-table.num_rows // files)
    for at in range(0, table.num_rows, size):
        small = WriterProperties(max_row_group_size=GROUP)
        write_deltalake(str(folder), table.slice(at, size), mode="append", writer_properties=small)
    return str(folder)


def stream_of(uri: str, buffer: int = 24_000, min_count: int = 1) -> ExampleStream:
    shards = Shards(uri)
    return ExampleStream(shards, fit_table(shards, ("label",), min_count=min_count), buffer, seed=3)
