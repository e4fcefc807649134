"""Does a training stream keep up with its steps, in how much memory, and how well does it shuffle?

    python benchmarks/stream.py [--gigabytes 4] [--limit 1024] [--buffer 256]

A Delta table of clicks is drawn, in row groups of 16,384 rows, sorted by its label, which is the worst that a
shuffle may be given; photos; and interactions by time. Training runs in a process of its own whose private
memory is limited. Tables, and finished parts, are kept under build/.
"""

import json
import math
import os
import resource
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

# Before pyarrow is imported: its own allocator reserves a gigabyte, which would count as used.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")

import numpy as np
import typer

sys.path[:0] = [str(Path(__file__).parent)]
from table import Out, Row, Run, Small, run_main  # noqa: E402

from etalage.engine.memory import limit_memory  # noqa: E402
from etalage.engine.threads import configure_threads  # noqa: E402

MEGABYTE, GIGABYTE = 2**20, 2**30
SPARSE = (10, 50, 100, 500, 1000, 5000, 10_000, 20_000)
DENSE = 120
ROW_BYTES = 4 * (len(SPARSE) + DENSE + 1) + 8
ACT_BYTES = 40
GROUP, GROUPS_A_FILE = 16_384, 16
BATCH, ROUNDS = 4096, 3
SCANNED = 4
"""One of so many row groups is read in a round of rates."""
SETTINGS: dict[str, Any] = {
    "table": "clicks", "dimension": 16, "bottom": (256, 64), "top": (128,), "epochs": 1, "batch_size": BATCH,
    "precision": "float32", "stream": "always",
}  # fmt: skip
SHOPPERS, ITEMS, ACTS_A_GROUP, TOWER_STEPS = 200_000, 5000, 65_536, 200
TOWERS: dict[str, Any] = {
    "history": 20, "width": 32, "layers": 1, "heads": 1, "epochs": 1, "precision": "float32",
    "stream": "always", "full_up_to": 0, "shared_negatives": 500, "validate_queries": 500,
}  # fmt: skip
PHOTO, PHOTO_CLASSES, PHOTO_STEPS = 128, 50, 100
PHOTO_BATCH = (8, 4)
"""Classes, and photos of each."""
NOTE = (
    "{rows} rows of {sparse} sparse and {dense} dense columns, {size:.2f} GiB encoded, {groups} row groups; "
    "buffer {buffer} MB. Rates: rows a second by the clock, on one reading thread, median of {rounds} rounds "
    "that take turns in one process, lowest and highest; the files are in the page cache. `bare scan`: "
    "pyarrow reads every row group of the same columns and keeps nothing. `loader`: shuffled batches of "
    "{batch}, encoded. Training: one epoch of DLRM in a process of its own with a limit of {limit} MB of "
    "private memory, Python, torch and Arrow included; waiting: share of the steps' time that they waited "
    "for their batches; processor seconds of the whole process. Shuffle: {order_rows} rows of the order of "
    "one epoch; displacement: mean distance of a row from its place in the table, as a share of all rows "
    "(1/3 by chance); neighbours: correlation of the places of one row and the next; labels: spread of the "
    "share of positives over batches of {batch}, of a table sorted by label. Photos: {photos} JPEGs of "
    "{side} pixels a side, {photo_size:.2f} GiB decoded, trained in {steps} class-balanced steps of {looked} "
    "under the same limit. Interactions: {acts} of {shoppers} shoppers on {items} items, in row groups by "
    "time, {acts_size:.2f} GiB as arrays; `divided`: rows a second by the clock, from the table to the files "
    "that are trained from, judged and split; two_tower in {tower_steps} steps of 2048 targets, under the "
    "same limit; `loader`: targets a second of shuffled batches of windows, `bare scan`: rows of their files "
    "a second, each by one reading thread."
)


def main(
    gigabytes: Annotated[float, typer.Option(help="Of the table, encoded; and of the photos' pixels.")] = 4.0,
    limit: Annotated[int, typer.Option(help="MB of private memory of the process that trains.")] = 1024,
    buffer: Annotated[int, typer.Option(help="MB.")] = 256,
    work: Annotated[Path | None, typer.Option(help="Where tables are kept.")] = None,
    small: Small = False,
    out: Out = None,
) -> None:
    bench = Run.of("stream", small, out)
    configure_threads(1)
    work = bench.work(work)
    if small:
        gigabytes, buffer = 0.01, 40
    rows = int(gigabytes * GIGABYTE) // ROW_BYTES
    photos = max(200, int(gigabytes * GIGABYTE) // (PHOTO * PHOTO * 3))
    table = work / f"clicks-{rows}"
    if not (table / "_delta_log").exists():
        bench.alone(_draw, table, rows)
    shop = work / f"photos-{photos}"
    if not (shop / "done").exists():
        bench.alone(_draw_photos, shop, photos)
    acts = int(gigabytes * GIGABYTE) // ACT_BYTES
    behaviour = work / f"interactions-{acts}"
    if not (behaviour / "done").exists():
        bench.alone(_draw_interactions, behaviour, acts)
    found: list[Row] = []
    for measure, given in (
        (_rates, (table, buffer)),
        (_training, (table, buffer, None if small else limit)),
        (_shuffle, (table, buffer)),
        (_photos, (shop, buffer, None if small else limit)),
        (_interactions, (behaviour, buffer, None if small else limit)),
    ):
        kept = work / f"{measure.__name__}-{gigabytes:g}-{limit}-{buffer}.json"
        if not kept.exists():
            kept.write_text(json.dumps([asdict(row) for row in bench.alone(measure, *given)]))
        found += [Row(**row) for row in json.loads(kept.read_text())]
        print(measure.__name__, "is done", flush=True)
    held = f"{rows * 0.8:,.0f}"
    bench.write(
        found,
        command=f"python benchmarks/stream.py --gigabytes {gigabytes:g} --limit {limit} --buffer {buffer}",
        seeds=[0],
        packages=["torch", "pyarrow", "deltalake"],
        note=NOTE.format(
            rows=f"{rows:,}", sparse=len(SPARSE), dense=DENSE, size=rows * ROW_BYTES / GIGABYTE,
            groups=-(-rows // GROUP), buffer=buffer, rounds=ROUNDS, batch=BATCH, limit=limit, order_rows=held,
            photos=f"{photos:,}", side=PHOTO, photo_size=photos * PHOTO**2 * 3 / GIGABYTE, steps=PHOTO_STEPS,
            looked=PHOTO_BATCH[0] * PHOTO_BATCH[1], acts=f"{acts:,}", shoppers=f"{SHOPPERS:,}",
            items=f"{ITEMS:,}", acts_size=acts * ACT_BYTES / GIGABYTE, tower_steps=TOWER_STEPS,
        ),
    )  # fmt: skip


# -- what is drawn -------------------------------------------------------------------------------


def _draw(folder: Path, rows: int) -> None:
    """Sorted by label: the first half of the row groups has none that was clicked."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from deltalake import convert_to_deltalake

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = [[f"s{n}-{value}" for value in range(size)] for n, size in enumerate(SPARSE)]
    writer, file = None, 0
    for number, at in enumerate(range(0, rows, GROUP)):
        count = min(GROUP, rows - at)
        label = np.full(count, float(at + count / 2 > rows / 2), np.float32)
        dense = rng.random((DENSE, count), np.float32)
        dense[0] += 0.3 * label  # something to learn
        columns: dict[str, Any] = {
            f"c{n}": pa.DictionaryArray.from_arrays(
                pa.array((rng.random(count) ** 2 * len(one)).astype(np.int32)), pa.array(one)
            ).cast(pa.string())
            for n, one in enumerate(names)
        }
        columns |= {f"d{n}": pa.array(values) for n, values in enumerate(dense)}
        table = pa.table({**columns, "label": pa.array(label)})
        if number % GROUPS_A_FILE == 0:
            if writer is not None:
                writer.close()
            strings = [name for name in columns if name.startswith("c")]
            writer = pq.ParquetWriter(folder / f"{file:05d}.parquet", table.schema, use_dictionary=strings)
            file += 1
        assert writer is not None
        writer.write_table(table, row_group_size=GROUP)
    if writer is not None:
        writer.close()
    convert_to_deltalake(str(folder))


def _draw_photos(folder: Path, count: int) -> None:
    """A shop whose photos are of PHOTO_CLASSES classes, a pattern each, with noise."""
    import hashlib
    import io

    import pyarrow as pa
    from PIL import Image

    from etalage.lake.delta import Lake

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "shop.toml").write_text('name = "photos"\n', encoding="utf-8")
    lake, rng = Lake(folder / "tables"), np.random.default_rng(0)
    looks = np.kron(rng.integers(30, 225, (PHOTO_CLASSES, 8, 8, 3)), np.ones((1, PHOTO // 8, PHOTO // 8, 1)))
    noise = rng.normal(0, 20, (64, PHOTO, PHOTO, 3))
    for start in range(0, count, 4096):
        rows: list[dict[str, Any]] = []
        for n in range(start, min(start + 4096, count)):
            pixels = looks[n % PHOTO_CLASSES] + noise[rng.integers(64)] + rng.normal(0, 5)
            sink = io.BytesIO()
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(sink, "JPEG", quality=80)
            content = sink.getvalue()
            rows.append(
                {"item_id": f"i{n:08d}", "url": f"i{n}.jpg", "status": "ok", "bytes": content,
                 "width": PHOTO, "height": PHOTO, "sha256": hashlib.sha256(content).hexdigest()}
            )  # fmt: skip
        lake.table("photos").merge(pa.Table.from_pylist(rows))
    ids = [f"i{n:08d}" for n in range(count)]
    classes = [f"class {n % PHOTO_CLASSES}" for n in range(count)]
    titles = pa.table({"item_id": ids, "title": ids, "category_id": classes})
    lake.table("items").merge(titles)
    (folder / "done").touch()


def _draw_interactions(folder: Path, acts: int) -> None:
    """By time; a shopper keeps to a twentieth of the items."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng, stamp = np.random.default_rng(0), pa.timestamp("us", "UTC")
    users, items = (pa.array([f"{n:07d}" for n in range(count)]) for count in (SHOPPERS, ITEMS))
    names = ("interaction_id", "user_id", "item_id")
    schema = pa.schema([*((name, pa.string()) for name in names), ("time", stamp)])
    with pq.ParquetWriter(folder / "acts.parquet", schema) as writer:
        for at in range(0, acts, ACTS_A_GROUP):
            numbers = np.arange(at, min(at + ACTS_A_GROUP, acts))
            who = rng.integers(0, SHOPPERS, len(numbers))
            some = ITEMS // 20
            what = who % 20 * some + (rng.random(len(numbers)) ** 2 * some).astype(int)
            ids = pa.array([f"{n:011d}" for n in numbers])
            columns = [ids, users.take(pa.array(who)), items.take(pa.array(what))]
            when = pa.array(numbers * 1_000_000, stamp)
            writer.write_table(pa.Table.from_arrays([*columns, when], schema=schema))
    (folder / "done").touch()


# -- what is measured ----------------------------------------------------------------------------


def _stream(table: Path, buffer: int) -> Any:
    from etalage.features.example_stream import ExampleStream
    from etalage.features.shards import Shards
    from etalage.features.table_encoder import fit_table

    shards = Shards(str(table))
    return ExampleStream(shards, fit_table(shards, ("label",)), buffer * MEGABYTE, 0)


def _rates(table: Path, buffer: int) -> list[Row]:
    import pyarrow.parquet as pq

    from etalage.features.example_stream import ExampleStream
    from etalage.features.shards import Shards
    from etalage.features.table_encoder import fit_table

    started = time.perf_counter()
    shards = Shards(str(table))
    fitted = fit_table(shards, ("label",))
    first_pass = shards.count / (time.perf_counter() - started)
    stream = ExampleStream(shards, fitted, buffer * MEGABYTE, 0)
    files = sorted(table.glob("*.parquet"))
    files = files[: -(-len(files) // SCANNED)]
    scans, loads = [], []
    for round_ in range(ROUNDS):
        started, seen = time.perf_counter(), 0
        for file in files:
            with pq.ParquetFile(file) as opened:
                for group in range(opened.num_row_groups):
                    seen += opened.read_row_group(group, use_threads=False).num_rows
        scans.append(seen / (time.perf_counter() - started))
        started, seen = time.perf_counter(), 0
        for at in range(0, stream.count("train") // SCANNED, BATCH):
            seen += len(stream.batch(round_, at, at + BATCH)[1])
        loads.append(seen / (time.perf_counter() - started))
        stream.close()
    share = [load / scan for load, scan in zip(loads, scans, strict=True)]
    rows = [
        Row("reading", system, "rows", float(np.median(some)), min(some), max(some), "1/s")
        for system, some in (("bare scan", scans), ("loader", loads))
    ]
    rows.append(
        Row("reading", "loader over bare scan", "rows", float(np.median(share)), min(share), max(share))
    )
    rows.append(Row("reading", "first pass (vocabularies, moments)", "rows", *[first_pass] * 3, "1/s"))
    return rows


class _Told:
    """The figures of a run."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self.values |= values


def _training(table: Path, buffer: int, limit: int | None) -> list[Row]:
    import tempfile

    from etalage.models import recipe as recipes
    from etalage.training.loop import fit

    if limit is not None:
        limit_memory(limit * MEGABYTE)
    told = _Told()
    recipe = recipes.find("dlrm")
    config = recipe.config(**SETTINGS, buffer=buffer)
    stream = _stream(table, buffer)
    task = recipe.bind(config, stream)
    before = time.process_time()
    with tempfile.TemporaryDirectory() as run:
        started = time.perf_counter()
        trained = fit(recipe, task, config, Path(run), tracker=told)
        seconds = time.perf_counter() - started
    steps = trained.seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {
        ("rows", "1/s"): stream.count("train") / steps,
        ("waiting", "%"): 100 * told.values["waited_for_data"],
        ("an epoch with its validation", "s"): seconds,
        ("processor", "s"): time.process_time() - before,
        ("resident memory at its peak, mapped files included", "MB"): peak,
        ("AUROC on validation", ""): trained.metrics["auroc"],
    }
    return [Row("training", "dlrm", name, *[value] * 3, unit) for (name, unit), value in figures.items()]


def _shuffle(table: Path, buffer: int) -> list[Row]:
    from etalage.features.shard_order import ShardOrder
    from etalage.features.shards import Shards
    from etalage.features.table_encoder import drawn_parts

    shards = Shards(str(table)).shards
    rows_of = np.array([int((drawn_parts(one.first, one.rows) == 0).sum()) for one in shards])
    plan = ShardOrder(rows_of, rows_of * ROW_BYTES, buffer * MEGABYTE, 0)
    begins = np.concatenate([[0], np.cumsum(rows_of)])
    found = plan.slice(0, 0, plan.count)
    ours = begins[found.shards] + found.rows
    count = len(ours)
    full = np.random.default_rng(0).permutation(count)
    by_shard = np.concatenate(
        [np.arange(begins[s], begins[s + 1]) for s in np.random.default_rng(0).permutation(len(rows_of))]
    )
    rows = []
    for system, order in (("the stream", ours), ("full shuffle", full), ("row groups alone", by_shard)):
        labels = (order[: count // BATCH * BATCH] >= count // 2).reshape(-1, BATCH).mean(axis=1)
        figures = {
            "displacement": np.abs(order - np.arange(count)).mean() / count,
            "neighbours": np.corrcoef(order[:-1], order[1:])[0, 1],
            "labels": labels.std(),
        }
        rows += [Row("shuffle", system, name, *[float(value)] * 3) for name, value in figures.items()]
    return rows


def _photos(folder: Path, buffer: int, limit: int | None) -> list[Row]:
    from etalage.models import recipe as recipes
    from etalage.shop import photo_steps
    from etalage.shop.workspace import Workspace
    from etalage.training.loop import fit

    if limit is not None:
        limit_memory(limit * MEGABYTE)
    shutil.rmtree(folder / "runs", ignore_errors=True)
    recipe = recipes.find("image_similarity")
    steps = 3 if limit is None else PHOTO_STEPS
    config = recipe.config(
        size=PHOTO, stem=4, widths=(16, 32), epochs=1, steps_per_epoch=steps, buffer=min(buffer, 8),
        precision="float32",
        classes_per_batch=PHOTO_BATCH[0], examples_per_class=PHOTO_BATCH[1], validate_index=256,
        validate_queries=64,
    )  # fmt: skip
    before, started = time.process_time(), time.perf_counter()
    data, _ = photo_steps.learned(Workspace(folder), config)
    seconds, processor = time.perf_counter() - started, time.process_time() - before
    assert isinstance(data.pixels_NHWC, np.memmap)
    told = _Told()
    trained = fit(recipe, recipe.bind(config, data), config, folder / "runs" / "fit", tracker=told)
    figures = {
        ("decoded into a file", "1/s"): len(data.item_ids) / seconds,
        ("processor, a thousand decoded", "s"): 1000 * processor / len(data.item_ids),
        ("waiting", "%"): 100 * told.values["waited_for_data"],
        ("trained, with a validation", "1/s"): steps * math.prod(PHOTO_BATCH) / trained.seconds,
        ("resident memory at its peak, mapped files included", "MB"): resource.getrusage(
            resource.RUSAGE_SELF
        ).ru_maxrss / 1024,
    }  # fmt: skip
    return [Row("photos", "image_similarity", name, *[v] * 3, unit) for (name, unit), v in figures.items()]


def _interactions(folder: Path, buffer: int, limit: int | None) -> list[Row]:
    from collections.abc import Iterator, Sequence

    from etalage.config import BehaviourConfig
    from etalage.features import behaviour_files
    from etalage.features.behaviour_on_disk import behaviour_on_disk
    from etalage.features.behaviour_stream import BehaviourStream
    from etalage.features.shards import Shards
    from etalage.models import recipe as recipes
    from etalage.training.loop import fit

    if limit is not None:
        limit_memory(limit * MEGABYTE)
    made = folder / "behaviour"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    shards = Shards(str(folder / "acts.parquet"))

    def read(columns: Sequence[str]) -> Iterator[Any]:
        there = [name for name in columns if name in shards.schema.names]
        for number in range(len(shards)):
            yield from shards.batches(number, there, ACTS_A_GROUP)

    started, before = time.perf_counter(), time.process_time()
    config = BehaviourConfig(repeat=True, validation=0.01, test=0.01)
    behaviour_files.save(behaviour_on_disk(read, None, None, config, made), made)
    divided, processor = time.perf_counter() - started, time.process_time() - before
    recipe = recipes.find("two_tower")
    steps = 3 if limit is None else TOWER_STEPS
    towers = recipe.config(**TOWERS, steps_per_epoch=steps, buffer=buffer)
    stream = BehaviourStream.open(made, towers.buffer_bytes, 0)
    task = recipe.bind(towers, stream)
    scans, loads = [], []
    for round_ in range(ROUNDS):
        started = time.perf_counter()
        for column in ("users", "items", "kinds", "values", "times", "labels"):
            np.fromfile(made / f"train-{column}.npy", np.uint8)
        scans.append(len(task.train) / (time.perf_counter() - started))
        started, seen = time.perf_counter(), 0
        for step in range(min(task.steps, steps)):
            seen += len(task.plan.drawn(round_, step).every_row)
        loads.append(seen / (time.perf_counter() - started))
        task.plan.close()
    told = _Told()
    trained = fit(recipe, task, towers, folder / "runs" / str(os.getpid()), tracker=told)
    figures = {
        ("divided", "1/s"): shards.count / divided,
        ("processor, a million divided", "s"): processor / shards.count * 1e6,
        ("targets trained, with a validation", "1/s"): steps * towers.batch_size / trained.seconds,
        ("waiting", "%"): 100 * told.values["waited_for_data"],
        ("resident memory at its peak, mapped files included", "MB"): resource.getrusage(
            resource.RUSAGE_SELF
        ).ru_maxrss / 1024,
        ("recall@20 on validation", ""): trained.metrics["recall_at_20"],
    }  # fmt: skip
    rates = [
        Row("interactions", system, name, float(np.median(some)), min(some), max(some), "1/s")
        for system, name, some in (("bare scan", "rows", scans), ("loader", "targets", loads))
    ]
    return rates + [
        Row("interactions", "two_tower", name, *[v] * 3, unit) for (name, unit), v in figures.items()
    ]


if __name__ == "__main__":
    run_main(main)
