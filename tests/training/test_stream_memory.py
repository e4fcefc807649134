"""Training on several times the memory that a process may have: a table, photos, interactions."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to a limit of its memory"),
]
LIMIT, DATA = 2**28, 2**30
"""Bytes above what Python, torch and Arrow take by themselves; and of the data."""

COMMON = """
import re, sys
from pathlib import Path
import numpy as np, pyarrow as pa, torch
import torch._dynamo  # which an optimiser imports: no part of the data
import pyarrow.parquet as pq, pyarrow.dataset, deltalake
from etalage.engine.memory import limit_memory
from etalage.models import recipe as recipes
from etalage.training.loop import fit

folder, limit, size, stream = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]

def limited():
    torch.zeros(8) @ torch.zeros(8)
    used = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    limit_memory(used + limit)
"""
TABLE = """
from etalage.features.example_stream import ExampleStream
from etalage.features.shards import Shards
from etalage.features.table_encoder import fit_table

names = [f"d{n}" for n in range(512)]
rows, group = size // (4 * len(names)), 2048
rng = np.random.default_rng(0)
file = folder / "table.parquet"
if not file.exists():
    schema = pa.schema([*((name, pa.float32()) for name in names), ("label", pa.float32())])
    with pq.ParquetWriter(file, schema, use_dictionary=False, compression="none") as writer:
        for _ in range(rows // group):
            label = rng.integers(0, 2, group).astype(np.float32)
            dense = rng.random((len(names), group), np.float32)
            dense[0] += label
            writer.write_table(pa.Table.from_arrays([*map(pa.array, dense), pa.array(label)], schema=schema))
recipe = recipes.find("dlrm")
config = recipe.config(
    table="table.parquet", bottom=(16,), top=(16,), dimension=4, epochs=1, stream=stream, buffer=64,
    precision="float32",
)
limited()
shards = Shards(str(file))
data = ExampleStream(shards, fit_table(shards, ("label",)), config.buffer_bytes, 0)
assert data.whole_bytes >= size
streamed = config.streams(data.whole_bytes)
task = recipe.bind(config, data if streamed else data.whole())
found = fit(recipe, task, config, folder / "run")
assert found.metrics["auroc"] > 0.7, found.metrics
print("trained", task.steps)
"""
BEHAVIOUR = """
from etalage.config import BehaviourConfig
from etalage.features import behaviour_files
from etalage.features.behaviour_on_disk import behaviour_on_disk
from etalage.features.behaviour_set import behaviour_set
from etalage.features.behaviour_stream import ACT_BYTES, BehaviourStream
from etalage.features.shards import Shards

USERS, ITEMS, GROUP = 40_000, 2000, 50_000
rows = size // ACT_BYTES
file = folder / "interactions.parquet"
if not file.exists():
    rng, stamp = np.random.default_rng(0), pa.timestamp("us", "UTC")
    users, items = (pa.array([f"{n:06d}" for n in range(count)]) for count in (USERS, ITEMS))
    names = ("interaction_id", "user_id", "item_id")
    schema = pa.schema([*((name, pa.string()) for name in names), ("time", stamp)])
    with pq.ParquetWriter(file, schema) as writer:
        for at in range(0, rows, GROUP):
            who = rng.integers(0, USERS, GROUP)
            taken = (who % 20 * (ITEMS // 20) + (rng.random(GROUP) ** 2 * ITEMS // 20).astype(int)) % ITEMS
            ids = pa.array([f"{n:09d}" for n in range(at, at + GROUP)])
            when = pa.array(np.arange(at, at + GROUP) * 10**6, stamp)
            columns = [ids, users.take(pa.array(who)), items.take(pa.array(taken)), when]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
recipe = recipes.find("two_tower")
config = recipe.config(
    history=10, width=8, layers=1, heads=1, epochs=1, steps_per_epoch=300, stream=stream, buffer=16,
    batch_size=512, learning_rate=0.01,
    full_up_to=0, shared_negatives=200, precision="float32", validate_queries=200,
)
limited()
shards = Shards(str(file))

def read(columns):
    there = [name for name in columns if name in shards.schema.names]
    for number in range(len(shards)):
        yield from shards.batches(number, there)

behaviour = BehaviourConfig(repeat=True, validation=0.01, test=0.01)
if config.streams(ACT_BYTES * shards.count):
    made = folder / "behaviour"
    made.mkdir()
    whole = behaviour_on_disk(read, None, None, behaviour, made, rows=1 << 16)
    behaviour_files.save(whole, made)
    data = BehaviourStream.open(made, config.buffer_bytes, 0)
    assert data.whole_bytes >= size * 0.95
else:
    data = behaviour_set(pa.Table.from_batches(read(shards.schema.names)), None, None, behaviour)
task = recipe.bind(config, data)
found = fit(recipe, task, config, folder / "run")
assert found.metrics["recall_at_20"] > 0.1, found.metrics  # 0.01 by chance
print("trained", task.steps)
"""
PHOTOS = """
import hashlib, io
from PIL import Image
from etalage.lake.delta import Lake
from etalage.shop import photo_steps
from etalage.shop.workspace import Workspace

SIDE = 512
count = -(-size // (SIDE * SIDE * 3))
shop = folder / "shop"
if not shop.exists():
    shop.mkdir()
    (shop / "shop.toml").write_text('name = "photos"')
    rows = []
    for n in range(count):
        sink = io.BytesIO()
        Image.new("RGB", (SIDE, SIDE), (n % 10 * 25, n // 10 % 256, n % 255)).save(sink, "JPEG")
        content = sink.getvalue() + n.to_bytes(4, "big")
        rows.append({"item_id": f"i{n:06d}", "url": f"{n}.jpg", "status": "ok", "bytes": content,
                     "width": SIDE, "height": SIDE, "sha256": hashlib.sha256(content).hexdigest()})
    lake = Lake(shop / "tables")
    lake.table("photos").merge(pa.Table.from_pylist(rows))
    items = [{"item_id": one["item_id"], "category_id": f"c{n % 10}"} for n, one in enumerate(rows)]
    lake.table("items").merge(pa.Table.from_pylist(items))
recipe = recipes.find("image_similarity")
config = recipe.config(
    size=SIDE, stem=4, widths=(4,), dimension=8, classes_per_batch=3, examples_per_class=2, epochs=1,
    steps_per_epoch=4, validate_queries=4, validate_index=8, precision="float32", stream=stream,
)
limited()
data, _ = photo_steps.learned(Workspace(shop), config)
assert data.pixels_NHWC.nbytes >= size
found = fit(recipe, recipe.bind(config, data), config, folder / "run")
print("trained", found.metrics["hit_at_1"])
"""


def trained(
    program: str, folder: Path, stream: str, data: int = DATA, limit: int = LIMIT
) -> subprocess.CompletedProcess[str]:
    # Arrow's own allocator reserves a gigabyte, which would stand in the measured need of the imports.
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", COMMON + program, str(folder), str(limit), str(data), stream]
    return subprocess.run(words, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("program", [TABLE, PHOTOS], ids=["table", "photos"])
def test_a_set_four_times_larger_than_memory_trains_and_in_memory_it_does_not(
    program: str, tmp_path: Path
) -> None:
    streamed = trained(program, tmp_path, "always")
    assert streamed.returncode == 0, streamed.stderr[-3000:]
    assert "trained" in streamed.stdout
    held = trained(program, tmp_path, "never")
    assert held.returncode != 0
    assert "MemoryError" in held.stderr or "not enough memory" in held.stderr, held.stderr[-3000:]


def test_two_towers_train_on_more_interactions_than_memory_holds_and_in_memory_they_do_not(
    tmp_path: Path,
) -> None:
    """Of nine million interactions, and a limit of less than half of what they take."""
    data, limit = 360_000_000, 140_000_000
    streamed = trained(BEHAVIOUR, tmp_path, "always", data, limit)
    assert streamed.returncode == 0, streamed.stderr[-3000:]
    assert "trained" in streamed.stdout
    held = trained(BEHAVIOUR, tmp_path, "never", data, limit)
    assert held.returncode != 0
    assert "MemoryError" in held.stderr or "not enough memory" in held.stderr, held.stderr[-3000:]
