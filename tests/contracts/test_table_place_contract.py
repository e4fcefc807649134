"""What tables keep to wherever they lie: in a folder, or in an object store."""

import signal
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from etalage.engine.children import child
from etalage.errors import ChangesGone, TableDamaged, TableMissing
from etalage.lake.delta import Lake, Merged
from etalage.lake.places import Place
from tests.conftest import PROJECT
from tests.object_store import ObjectServer
from tests.serve.servers import until


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
    import json

    place = json.dumps([where.place.uri, where.place.endpoint, where.place.region])
    return child([sys.executable, "-c", INGESTER, place, name, str(folder), str(count)], cwd=PROJECT)


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
