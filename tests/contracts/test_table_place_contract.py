"""What tables keep to wherever they lie: in a folder, or in an object store."""

import json
import signal
import sys
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from etalage.engine.children import child
from etalage.engine.local import LocalEngine
from etalage.errors import ChangesGone, DataError, TableDamaged, TableMissing
from etalage.lake import vacuum
from etalage.lake.delta import Lake, Merged
from etalage.lake.parts import Added, write_part
from etalage.lake.places import Place
from tests.conftest import PROJECT
from tests.lake.part_jobs import write_items
from tests.object_store import KEYS, ObjectServer
from tests.serve.servers import until
from tests.spark_cluster import QUICK, require_spark, running_cluster


class InFolder:
    """Tables in a folder, and what a person could do to its files."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(str(folder))
        self.options = None
        self._folder = folder

    def names(self, prefix: str) -> list[str]:
        found = [one.relative_to(self._folder).as_posix() for one in self._folder.rglob("*") if one.is_file()]
        return sorted(one for one in found if one.startswith(prefix))

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        (self._folder / name).write_bytes(content)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink()


class InStore:
    """The same in a bucket."""

    def __init__(self, server: ObjectServer, prefix: str) -> None:
        self.place = server.place(prefix)
        self.options = self.place.store().options()
        self._store = self.place.store()

    def names(self, prefix: str) -> list[str]:
        return [one.name for one in self._store.list(prefix)]

    def read(self, name: str) -> bytes:
        found = self._store.read(name)
        assert found is not None
        return found.content

    def write(self, name: str, content: bytes) -> None:
        self._store.put(name, content)

    def remove(self, name: str) -> None:
        self._store.delete([name])


Where = InFolder | InStore


@pytest.fixture(params=["folder", "store"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Where:
    if request.param == "folder":
        return InFolder(tmp_path / "tables")
    return InStore(request.getfixturevalue("object_server"), f"{tmp_path.name}/tables")


@pytest.fixture
def lake(where: Where) -> Lake:
    return Lake(where.place)


def items(**columns: list[Any]) -> pa.Table:
    return pa.table(columns)


def prices(rows: pa.Table) -> dict[str, float | None]:
    return dict(zip(rows["item_id"].to_pylist(), rows["price"].to_pylist(), strict=True))


def test_a_table_nobody_wrote_is_missing_and_says_what_to_run(lake: Lake) -> None:
    assert not lake.table("items").exists() and lake.versions() == {}
    with pytest.raises(TableMissing, match="etalage ingest"):
        lake.table("items").read()


def test_rows_are_merged_by_key_and_the_same_ones_again_commit_nothing(lake: Lake) -> None:
    lake.require_writable()
    table = lake.table("items")
    assert table.merge(items(item_id=["a", "b", "c"], price=[1.0, 2.0, 3.0])) == Merged(3, 0, 0, 1)
    assert table.merge(items(item_id=["d", "b", "a"], price=[9.0, 2.5, 1.0])) == Merged(1, 1, 1, 2)
    assert table.merge(items(item_id=["d", "b", "a"], price=[9.0, 2.5, 1.0])) == Merged(0, 0, 3, 2)
    assert prices(table.read()) == {"a": 1.0, "b": 2.5, "c": 3.0, "d": 9.0}
    assert prices(table.read(1)) == {"a": 1.0, "b": 2.0, "c": 3.0} and table.count() == 4
    with pytest.raises(TableMissing, match="no version 3; the newest is 2"):
        table.read(3)


def test_rows_are_deleted_by_key_and_by_what_is_in_them(lake: Lake) -> None:
    table = lake.table("items")
    table.merge(items(item_id=list("abcd"), price=[1.0, 2.0, 3.0, 4.0]))
    assert table.delete(items(item_id=["a", "none"])) == 1
    assert table.delete_matching(["price"], lambda rows: pa.compute.greater(rows["price"], 3)) == 1
    assert prices(table.read()) == {"b": 2.0, "c": 3.0}


def test_a_table_is_cleared_and_restored_in_one_version_each_and_the_feed_tells(lake: Lake) -> None:
    table = lake.table("items")
    table.merge(items(item_id=["a", "b"], price=[1.0, 2.0]))
    assert table.clear() == 2 and table.version() == 2 and table.read().num_rows == 0
    assert table.clear() == 0 and table.version() == 2
    assert sorted(table.changes(1).deleted["item_id"].to_pylist()) == ["a", "b"]
    assert table.restore(1) == 0 and table.version() == 3
    assert prices(table.read()) == {"a": 1.0, "b": 2.0}
    assert sorted(table.changes(2).upserted["item_id"].to_pylist()) == ["a", "b"]
    assert [(one.version, one.rows, one.whole) for one in table.history(2)] == [(3, 2, True), (2, 0, True)]


def test_a_vacuum_keeps_what_is_pinned_young_or_in_the_feed_and_removes_the_rest(
    where: Where, lake: Lake
) -> None:
    table = lake.table("items")
    for number in range(1, 6):
        table.merge(items(item_id=["a", "b"], price=[float(number), 2.0]))
    now = vacuum.days_ago(0)

    def removed(pinned: Collection[int] = (), feed_since: int | None = None, days: float = 0) -> set[str]:
        since = vacuum.days_ago(days) if days else now
        found = vacuum.waste(table, since=since, pinned=pinned, feed_since=feed_since, erased={})
        before = set(where.names(""))
        vacuum.remove(table, found)
        gone = before - set(where.names(""))
        assert {one for one in gone if not one.startswith("items/_etalage/")} == {
            f"items/{n}" for n in found.files
        }
        return gone

    assert removed(days=1) == set()
    assert removed(pinned=[1, 2, 3, 4, 5], feed_since=1) == set()
    removed(pinned=[2], feed_since=4)
    assert prices(table.read(2)) == {"a": 2.0, "b": 2.0}
    assert prices(table.changes(4).upserted) == {"a": 5.0}
    for version in (1, 3):
        with pytest.raises(DataError):
            table.read(version)
    assert removed() and not removed()
    assert prices(table.read()) == {"a": 5.0, "b": 2.0}
    assert [name for name in where.names("items/") if "_change_data" in name] == []
    assert table.merge(items(item_id=["c"], price=[3.0])).inserted == 1


def test_f57_a_vacuum_leaves_nothing_of_who_was_erased_in_data_feed_and_log(where: Where, lake: Lake) -> None:
    table = lake.table("users")
    table.merge(items(user_id=["anna", "bert"], attributes=["{}", "{}"]))
    table.merge(items(user_id=["carl"], attributes=["{}"]))
    lake.erasures.remember("anna")
    table.delete_matching(["user_id"], lambda rows: pa.compute.equal(rows["user_id"], "anna"))
    table.merge(items(user_id=["dora"], attributes=["{}"]))
    assert [name for name in where.names("") if b"anna" in where.read(name)]
    found = vacuum.waste(
        table, since=vacuum.days_ago(7), pinned=[1, 2], feed_since=1, erased=lake.erasures.known()
    )
    assert (found.erased, found.lost, found.first) == (True, (1, 2), 3)
    vacuum.remove(table, found)
    assert [name for name in where.names("") if b"anna" in where.read(name)] == []
    assert sorted(Lake(where.place).table("users").read()["user_id"].to_pylist()) == ["bert", "carl", "dora"]
    assert sorted(table.read(3)["user_id"].to_pylist()) == ["bert", "carl"]
    assert table.merge(items(user_id=["emil"], attributes=["{}"])).inserted == 1


def test_versions_and_change_feed_are_those_that_delta_rs_reads(where: Where, lake: Lake) -> None:
    table = lake.table("items")
    table.merge(items(item_id=["a", "b", "c"], price=[1.0, 2.0, 3.0]))
    table.merge(items(item_id=["b", "d"], price=[2.5, 4.0]))
    table.delete(items(item_id=["a"]))
    opened = DeltaTable(table.uri, storage_options=where.options)
    assert opened.version() == table.version() == 3
    feed = pa.RecordBatchReader.from_stream(opened.load_cdf(starting_version=2)).read_all()
    told = sorted(zip(feed["_change_type"].to_pylist(), feed["item_id"].to_pylist(), strict=True))
    assert told == [("delete", "a"), ("insert", "d"), ("update_postimage", "b"), ("update_preimage", "b")]
    changes = table.changes(1)
    assert prices(changes.upserted) == {"b": 2.5, "d": 4.0} and changes.deleted["item_id"].to_pylist() == [
        "a"
    ]
    with pytest.raises(ChangesGone, match="made anew"):
        table.changes(4)


def test_a_table_is_known_again_until_it_is_made_anew(where: Where, lake: Lake) -> None:
    table = lake.table("items")
    table.merge(items(item_id=["a"], price=[1.0]))
    moment = table.moment()
    table.merge(items(item_id=["b"], price=[1.0]))
    assert moment.commit is not None and table.has_been(moment)
    for name in where.names("items/"):
        where.remove(name)
    fresh = Lake(where.place).table("items")
    assert not fresh.exists()
    fresh.merge(items(item_id=["c"], price=[1.0]))
    assert not fresh.has_been(moment)


@pytest.mark.parametrize("how", ["cut", "torn", "removed", "other"])
def test_f6_f7_a_newest_commit_that_is_not_as_it_was_is_refused(where: Where, lake: Lake, how: str) -> None:
    table = lake.table("items")
    for name in "abc":
        table.merge(items(item_id=[name], price=[1.0]))
    commit = f"items/_delta_log/{3:020d}.json"
    if how == "removed":
        where.remove(commit)
    else:
        content = where.read(commit)
        other = content.replace(b"part-", b"pert-")
        where.write(commit, {"cut": b"", "torn": content[: len(content) // 2], "other": other}[how])
    with pytest.raises(TableDamaged, match=rf"{3:020d}\.json .*(version is 2|version=2)"):
        Lake(where.place).table("items").read()
    assert Lake(where.place).table("items").read(2).num_rows == 2


def test_f8_a_data_file_that_is_missing_or_short_is_named(where: Where, lake: Lake) -> None:
    table = lake.table("items")
    table.merge(items(item_id=["a"], price=[1.0]))
    (file,) = where.names("items/part-")
    content = where.read(file)
    where.write(file, content[:-10])
    with pytest.raises(TableDamaged, match=f"{Path(file).name} has {len(content) - 10} bytes"):
        Lake(where.place).table("items").read()
    where.remove(file)
    with pytest.raises(TableDamaged, match=f"{Path(file).name} is missing"):
        Lake(where.place).table("items").read()


def test_a_log_beyond_its_checkpoint_is_read_and_checked(where: Where, lake: Lake) -> None:
    table = lake.table("items")
    for number in range(4):
        table.merge(items(item_id=[f"i{number}"], price=[1.0]))
    DeltaTable(table.uri, storage_options=where.options).create_checkpoint()
    where.remove(f"items/_delta_log/{1:020d}.json")
    table.merge(items(item_id=["late"], price=[1.0]))
    fresh = Lake(where.place).table("items")
    assert fresh.count() == fresh.read().num_rows == 5
    with pytest.raises(ChangesGone, match="version 1 was cleaned up"):
        fresh.changes(0)


def test_a_commit_that_was_not_recorded_is_recorded_when_it_is_opened(
    where: Where, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer was killed between the two."""
    table = lake.table("items")
    table.merge(items(item_id=["a"], price=[1.0]))
    (record,) = [one for one in where.names("items/_etalage/rows/") if f"{1:020d}" in one]
    where.remove(record)
    assert Lake(where.place).table("items").read().num_rows == 1
    assert record in where.names("items/_etalage/rows/")


def test_tables_of_a_folder_that_are_copied_into_a_store_go_on_there(
    object_server: ObjectServer, tmp_path: Path
) -> None:
    folder, copied = InFolder(tmp_path / "tables"), InStore(object_server, f"{tmp_path.name}/copied")
    local = Lake(folder.place).table("items")
    local.merge(items(item_id=["a"], price=[1.0]))
    local.merge(items(item_id=["b"], price=[2.0]))
    for name in folder.names(""):
        copied.write(name, folder.read(name))
    table = Lake(copied.place).table("items")
    assert table.has_been(local.moment())
    assert table.merge(items(item_id=["b", "c"], price=[2.5, 3.0])) == Merged(1, 1, 0, 3)
    assert prices(table.read()) == {"a": 1.0, "b": 2.5, "c": 3.0} and table.changes(0).until == 3


# -- several writers ---------------------------------------------------------------------------

INGESTER = """
import sys, json
import pyarrow as pa
from etalage.lake.delta import Lake
from etalage.lake.places import Place
place, name = Place(*json.loads(sys.argv[1])), sys.argv[2]
table = Lake(place).table("items")
open(sys.argv[3] + "/ready-" + name, "w").close()
while not __import__("os").path.exists(sys.argv[3] + "/go"):
    pass
for number in range(int(sys.argv[4])):
    # Every batch is known to both; what each brings is its own.
    rows = {"item_id": [f"both-{number}", f"{name}-{number}"], "price": [1.0, 2.0]}
    table.merge(pa.table(rows))
    print(number, flush=True)
"""


def ingester(where: Where, name: str, folder: Path, count: int) -> Any:
    place = json.dumps([where.place.uri, where.place.endpoint, where.place.region])
    return child([sys.executable, "-c", INGESTER, place, name, str(folder), str(count)], cwd=PROJECT)


@pytest.mark.parametrize("where", ["store"], indirect=True)  # folders: tests/lake/test_lake_faults.py
def test_f18_two_ingesters_of_the_same_batches_add_each_row_once(where: Where, tmp_path: Path) -> None:
    Lake(where.place).table("items").merge(items(item_id=["first"], price=[0.0]))
    both = [ingester(where, name, tmp_path, 3) for name in ("one", "two")]
    until(lambda: (tmp_path / "ready-one").exists() and (tmp_path / "ready-two").exists())
    (tmp_path / "go").touch()
    assert [one.wait() for one in both] == [0, 0]
    table = Lake(where.place).table("items")
    ids = table.read()["item_id"].to_pylist()
    wanted = [f"{name}-{number}" for name in ("both", "one", "two") for number in range(3)]
    assert sorted(ids) == sorted([*wanted, "first"])
    feed = table.changes(0)
    assert sorted(feed.upserted["item_id"].to_pylist()) == sorted(ids)


@pytest.mark.parametrize("where", ["store"], indirect=True)  # folders: tests/lake/test_lake_faults.py
def test_f2_a_writer_killed_in_the_middle_leaves_nothing_half(where: Where, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    table = Lake(where.place).table("items")
    writer = ingester(where, "one", tmp_path, 6)
    until(lambda: table.exists() and table.version() >= 2)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    ids = table.read()["item_id"].to_pylist()
    assert len(ids) == len(set(ids)) and len(ids) % 2 == 0  # batches of two
    assert ingester(where, "one", tmp_path, 6).wait() == 0
    ids = Lake(where.place).table("items").read()["item_id"].to_pylist()
    assert sorted(ids) == sorted(f"{name}-{n}" for name in ("both", "one") for n in range(6))


# -- files that workers write ------------------------------------------------------------------


def test_parts_are_no_rows_before_they_are_committed_in_one_version(where: Where, lake: Lake) -> None:
    table = lake.table("items")
    table.merge(items(item_id=["old"], price=[9.0]))
    parts = [write_items(where.place, range(start, start + 5)) for start in (0, 5, 10)]
    assert table.count() == 1 and table.version() == 1
    assert table.add_parts(parts, "load-1") == Added(15, 0, 2)
    assert Lake(where.place).table("items").read().num_rows == table.count() == 16
    opened = DeltaTable(table.uri, storage_options=where.options)
    feed = pa.RecordBatchReader.from_stream(opened.load_cdf(starting_version=2)).read_all()
    assert opened.version() == 2 and feed["_change_type"].to_pylist() == ["insert"] * 15
    assert prices(table.changes(1).upserted) == {f"i{n}": float(n) for n in range(15)}


def test_f2_a_commit_of_parts_that_is_repeated_adds_nothing(where: Where, lake: Lake) -> None:
    table = lake.table("items")
    parts = [write_items(where.place, range(5))]
    assert table.add_parts(parts, "load-1") == Added(5, 0, 1)
    table.merge(items(item_id=["i3"], price=[99.0]))
    assert table.add_parts(parts, "load-1") == Added(0, 0, 2)
    # Written again by whoever starts the whole run again, under another name.
    assert write_items(where.place, range(5)) == parts[0]
    done = table.add_parts([write_items(where.place, range(7))], "load-2")
    assert (done.inserted, done.merged) == (0, 7)
    assert prices(table.read()) == {f"i{n}": float(n) for n in range(7)}


def test_parts_with_rows_that_are_stored_or_come_twice_are_merged(where: Where, lake: Lake) -> None:
    table = lake.table("items")
    table.merge(items(item_id=["i1"], title=["kept"], price=[0.0]))
    place = where.place
    twice = [items(item_id=["x", "x"], price=[1.0, 2.0]), items(item_id=["x", "y"], price=[3.0, 4.0])]
    parts = [*(write_part(place, "items", rows) for rows in twice), write_items(place, range(20, 25))]
    done = table.add_parts([*parts, write_items(place, range(3))], "load-1")
    assert (done.inserted, done.merged) == (5, 6)
    found = prices(table.read())
    assert len(found) == 10 and found["x"] == 3.0 and found["i1"] == 1.0


def test_f66_parts_do_not_bring_back_a_shopper_who_was_erased(where: Where, lake: Lake) -> None:
    acts = pa.table(
        {
            "interaction_id": ["1", "2"],
            "user_id": ["gone", "here"],
            "item_id": ["a", "a"],
            "kind": ["buy", "buy"],
            "time": pa.array([10**15, 10**15], pa.timestamp("us", "UTC")),
        }
    )
    part = write_part(where.place, "interactions", acts)
    lake.erasures.remember("gone")
    Lake(where.place).table("interactions").add_parts([part], "load-1")
    assert lake.table("interactions").read()["user_id"].to_pylist() == ["here"]


def test_a_part_that_fits_no_table_is_refused_where_it_is_written(where: Where, lake: Lake) -> None:
    with pytest.raises(DataError, match=r"unknown columns \['colour'\]"):
        write_part(where.place, "items", items(item_id=["a"], colour=["red"]))
    with pytest.raises(DataError, match="1 rows have no item_id"):
        write_part(where.place, "items", items(item_id=["a", None]))
    part = write_items(where.place, range(3))
    where.remove(f"items/{part.name}")
    with pytest.raises(DataError, match="have its shard write it again"):
        lake.table("items").add_parts([part], "load-1")


def test_f18_workers_write_parts_and_two_drivers_commit_each_row_once(where: Where, lake: Lake) -> None:
    shards = [range(start, start + 4) for start in range(0, 16, 4)]
    parts = list(LocalEngine(2).map(partial(write_items, where.place), shards))
    lake.table("items").merge(items(item_id=["first"], price=[0.0]))
    tables = [Lake(where.place).table("items") for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda table: table.add_parts(parts, "load-1"), tables))
    assert sorted(one.inserted for one in done) == [0, 16]
    assert lake.table("items").count() == 17


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_of_a_spark_write_parts_into_a_store(
    object_server: ObjectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each task has its credentials from its own environment; the driver commits the list once."""
    require_spark()
    from etalage.engine.spark import SparkEngine

    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    place = object_server.place(f"{tmp_path.name}/tables")
    settings = {"spark.executorEnv.PYTHONPATH": str(PROJECT), "spark.driver.extraJavaOptions": QUICK}
    settings |= {f"spark.executorEnv.{name}": value for name, value in KEYS.items()}
    with running_cluster(tmp_path) as cluster:
        engine = SparkEngine(cluster.master, 2, None, {**settings, "spark.executor.memory": "512m"})
        shards = [range(start, start + 50) for start in range(0, 400, 50)]
        parts = list(engine.map(partial(write_items, place), shards))
    table = Lake(place).table("items")
    assert table.add_parts(parts, "load-1") == Added(400, 0, 1)
    assert table.add_parts(parts, "load-1") == Added(0, 0, 1)
    options = place.store().options()
    feed = DeltaTable(table.uri, storage_options=options).load_cdf(starting_version=1)
    assert pa.RecordBatchReader.from_stream(feed).read_all().num_rows == table.count() == 400
