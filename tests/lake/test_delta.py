"""Tables: merge, read at a version, stream, changes."""

import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.errors import ChangesGone, DataError, TableMissing
from etalage.lake.delta import Changes, Lake, Merged, Table
from etalage.lake.difference import key_of, net_effect
from etalage.lake.schema import TABLES
from etalage.lake.storage import LocalStorage


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "tables")


def items(**columns: list[Any]) -> pa.Table:
    return pa.table(columns)


def prices(rows: pa.Table) -> dict[str, float | None]:
    return dict(zip(rows["item_id"].to_pylist(), rows["price"].to_pylist(), strict=True))


def test_a_table_nobody_wrote_is_missing_and_says_what_to_run(lake: Lake) -> None:
    table = lake.table("items")
    assert not table.exists()
    assert lake.versions() == {}
    with pytest.raises(TableMissing, match="etalage ingest"):
        table.read()
    with pytest.raises(TableMissing, match="etalage ingest"):
        table.version()


def test_a_merge_inserts_updates_and_leaves(lake: Lake) -> None:
    table = lake.table("items")
    assert table.merge(items(item_id=["a", "b", "c"], price=[1.0, 2.0, 3.0])) == Merged(3, 0, 0, 1)
    assert table.merge(items(item_id=["d", "b", "a"], price=[9.0, 2.5, 1.0])) == Merged(1, 1, 1, 2)
    assert prices(table.read()) == {"a": 1.0, "b": 2.5, "c": 3.0, "d": 9.0}
    assert table.count() == 4
    assert lake.versions() == {"items": 2}


def test_the_same_rows_again_commit_nothing(lake: Lake) -> None:
    table = lake.table("items")
    rows = items(item_id=["a", "b"], price=[1.0, None], title=["x", None], in_stock=[True, None])
    first = table.merge(rows)
    again = table.merge(rows.take(pa.array([1, 0])))
    assert again == Merged(0, 0, 2, first.version)
    assert table.changes(first.version).upserted.num_rows == 0


def test_a_stamp_that_the_source_does_not_give_is_no_difference(lake: Lake) -> None:
    table = lake.table("items")
    table.merge(items(item_id=["a"], price=[1.0]))
    stamped = table.read()["updated_at"].to_pylist()[0]
    assert abs((datetime.now(UTC) - stamped).total_seconds()) < 60
    assert table.merge(items(item_id=["a"], updated_at=pa.nulls(1, pa.timestamp("us", "UTC")))).unchanged == 1
    assert table.read()["updated_at"].to_pylist()[0] == stamped
    given_time = datetime(2024, 2, 3, 4, 5, tzinfo=UTC)
    assert table.merge(items(item_id=["a"], updated_at=[given_time])).updated == 1
    assert table.read()["updated_at"].to_pylist()[0] == given_time


def test_a_table_made_before_a_column_was_there_gets_it_with_the_next_row(lake: Lake) -> None:
    before = pa.schema([field for field in TABLES["items"].schema if field.name != "item_group_id"])
    feed = {"delta.enableChangeDataFeed": "true"}
    made = DeltaTable.create(f"{lake.root}/items", before, name="items", configuration=feed)
    old = pa.table({name: ["a"] if name == "item_id" else [None] for name in before.names}, schema=before)
    write_deltalake(made, old, mode="append")
    table = lake.table("items")
    assert table.read(columns=["item_group_id"])["item_group_id"].to_pylist() == [None]
    since = table.version()

    given_time = datetime(2024, 2, 3, tzinfo=UTC)
    rows = items(item_id=["a", "b"], item_group_id=["tee", "tee"], updated_at=[given_time] * 2)
    assert table.merge(rows) == Merged(1, 1, 0, since + 2)
    table.merge(items(item_id=["c"], title=["Cup"]))

    read = {row["item_id"]: row for row in table.read().to_pylist()}
    assert [read[name]["item_group_id"] for name in "abc"] == ["tee", "tee", None]
    assert read["b"]["updated_at"] == given_time and read["c"]["title"] == "Cup"
    changed = table.changes(since).upserted
    assert sorted(zip(changed["item_id"].to_pylist(), changed["item_group_id"].to_pylist(), strict=True)) == [
        ("a", "tee"), ("b", "tee"), ("c", None),
    ]  # fmt: skip
    assert Lake(lake.root).table("items").read(since)["item_group_id"].to_pylist() == [None]


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c", "\r\n", "\ufeff"])
def test_a_text_with_another_end_of_line_in_it_is_a_text(lake: Lake, odd: str) -> None:
    for table in (lake.table("items"), Lake(lake.root).table("items")):
        for price in (1.0, 2.0):
            table.merge(items(item_id=[f"a{odd}b"], title=[f"{odd}Cup{odd}"], price=[price]))
    assert Lake(lake.root).table("items").read()["title"].to_pylist() == [f"{odd}Cup{odd}"]


def test_columns_that_the_rows_lack_keep_their_values(lake: Lake) -> None:
    table = lake.table("items")
    table.merge(items(item_id=["a", "b"], title=["Boot", "Coat"], price=[1.0, 2.0]))
    table.merge(items(item_id=["b", "z"], price=[7.0, 8.0]))
    titles = dict(zip(*(table.read()[n].to_pylist() for n in ("item_id", "title")), strict=True))
    assert titles == {"a": "Boot", "b": "Coat", "z": None}
    assert prices(table.read()) == {"a": 1.0, "b": 7.0, "z": 8.0}


def test_of_a_repeated_key_the_last_row_counts(lake: Lake) -> None:
    table = lake.table("items")
    assert table.merge(items(item_id=["a", "b", "a"], price=[1.0, 2.0, 3.0])).inserted == 2
    assert prices(table.read()) == {"a": 3.0, "b": 2.0}


def test_keys_of_two_columns_do_not_run_into_each_other(lake: Lake) -> None:
    table = lake.table("photos")
    table.merge(pa.table({"item_id": ["ab", "a", "1:a"], "url": ["c", "bc", "b"], "status": ["1", "2", "3"]}))
    assert table.count() == 3
    assert table.merge(pa.table({"item_id": ["a"], "url": ["bc"], "status": ["new"]})).updated == 1
    assert sorted(table.read()["status"].to_pylist()) == ["1", "3", "new"]


def test_photos_are_compared_by_their_hash(lake: Lake) -> None:
    table = lake.table("photos")
    row = {"item_id": ["a"], "url": ["u"], "bytes": [b"old"], "sha256": ["1"]}
    table.merge(pa.table(row))
    assert table.merge(pa.table(row | {"bytes": [b"told to be the same"]})).unchanged == 1
    assert table.merge(pa.table(row | {"bytes": [b"new"], "sha256": ["2"]})).updated == 1
    assert table.read(columns=["bytes"])["bytes"].to_pylist() == [b"new"]


def test_embeddings_are_compared_value_by_value(lake: Lake) -> None:
    table = lake.table("embeddings")

    def rows(*embeddings: list[float] | None) -> pa.Table:
        ids = [str(n) for n in range(len(embeddings))]
        return pa.table(
            {
                "owner": ["photo"] * len(ids),
                "id": ids,
                "model": ["m"] * len(ids),
                "embedding": pa.array(embeddings, pa.list_(pa.float32())),
            }
        )

    table.merge(rows([1.0, 2.0], [3.0, 4.0], None, []))
    assert table.merge(rows([1.0, 2.0], [3.0, 4.0], None, [])).unchanged == 4
    assert table.merge(rows([1.0, 2.0], [3.0, 4.5], [0.0], [])).updated == 2


def test_ids_keep_their_exact_identity(lake: Lake) -> None:
    ids = [
        "a",
        " a",
        "a ",
        "A",
        "\u00e9",
        "e\u0301",
        "'; DROP",
        'say "x"',
        "\u202eabc",
        "a\nb",
        "0",
        "00",
        "x" * 500,
    ]
    table = lake.table("users")
    assert table.merge(
        pa.table({"user_id": ids, "attributes": [str(n) for n in range(len(ids))]})
    ).inserted == len(ids)
    changed = pa.table({"user_id": ids, "attributes": [f"new {n}" for n in range(len(ids))]})
    assert table.merge(changed).updated == len(ids)
    stored = table.read()
    assert dict(zip(*(stored[n].to_pylist() for n in stored.column_names), strict=True)) == dict(
        zip(ids, changed["attributes"].to_pylist(), strict=True)
    )


def test_each_version_can_be_read(lake: Lake) -> None:
    table = lake.table("items")
    for price in (1.0, 2.0, 3.0):
        table.merge(items(item_id=["a"], price=[price]))
    assert [prices(table.read(v)).get("a") for v in (0, 1, 2, 3)] == [None, 1.0, 2.0, 3.0]
    assert [table.count(v) for v in (0, 1, 2, 3)] == [0, 1, 1, 1]
    with pytest.raises(TableMissing, match="no version 9; the newest is 3"):
        table.read(9)


def test_only_the_columns_asked_for_are_read_and_a_wrong_one_is_named(lake: Lake) -> None:
    table = lake.table("items")
    table.merge(items(item_id=["a"], price=[1.5]))
    assert table.read(columns=["price", "item_id"]).column_names == ["price", "item_id"]
    with pytest.raises(KeyError, match="colour"):
        table.read(columns=["colour"])


def test_a_table_streams_in_batches_of_the_asked_size(lake: Lake) -> None:
    table = lake.table("users")
    table.merge(pa.table({"user_id": [f"u{n}" for n in range(2500)]}))
    sizes = [batch.num_rows for batch in table.batches(rows=1000)]
    assert sum(sizes) == 2500
    assert max(sizes) == 1000
    assert {u for batch in table.batches(columns=["user_id"]) for u in batch["user_id"].to_pylist()} == {
        f"u{n}" for n in range(2500)
    }


def test_rows_that_do_not_fit_are_refused_whole(lake: Lake) -> None:
    table = lake.table("items")
    with pytest.raises(DataError, match=r"unknown columns \['colour'\]"):
        table.merge(items(item_id=["a"], colour=["red"]))
    with pytest.raises(DataError, match=r"missing key columns \['item_id'\]"):
        table.merge(items(price=[1.0]))
    with pytest.raises(DataError, match="1 rows have no item_id"):
        table.merge(pa.table({"item_id": pa.array(["a", None])}))
    with pytest.raises(DataError, match="does not fit"):
        table.merge(items(item_id=["a"], price=["cheap"]))
    assert not table.exists()


def test_delete_removes_by_key_and_again_does_nothing(lake: Lake) -> None:
    table = lake.table("items")
    table.merge(items(item_id=["a", "b", "c"], price=[1.0, 2.0, 3.0]))
    assert table.delete(items(item_id=["b", "nobody"])) == 1
    version = table.version()
    assert table.delete(items(item_id=["b", "nobody"])) == 0
    assert table.version() == version
    assert prices(table.read()) == {"a": 1.0, "c": 3.0}


# --- changes


def told(changes: Changes) -> tuple[dict[str, float | None], set[str]]:
    assert changes.upserted.schema.names == list(TABLES["items"].names)
    return prices(changes.upserted), set(changes.deleted["item_id"].to_pylist())


def test_changes_are_the_net_effect(lake: Lake) -> None:
    table = lake.table("items")
    table.merge(items(item_id=["stays", "twice", "goes", "back"], price=[1.0, 2.0, 3.0, 4.0]))
    since = table.version()
    table.merge(items(item_id=["twice", "brief", "new", "back"], price=[2.1, 5.0, 6.0, 4.5]))
    table.merge(items(item_id=["twice"], price=[2.2]))
    table.delete(items(item_id=["goes", "brief", "back"]))
    table.merge(items(item_id=["back"], price=[7.0]))
    assert told(table.changes(since)) == ({"twice": 2.2, "new": 6.0, "back": 7.0}, {"goes"})


def test_changes_can_end_before_the_newest_version(lake: Lake) -> None:
    table = lake.table("items")
    for n in range(4):
        table.merge(items(item_id=[f"i{n}"], price=[float(n)]))
    changes = table.changes(1, 3)
    assert (changes.since, changes.until) == (1, 3)
    assert told(changes) == ({"i1": 1.0, "i2": 2.0}, set())


def test_a_row_that_ends_as_it_began_has_not_changed(lake: Lake) -> None:
    table = lake.table("users")
    table.merge(pa.table({"user_id": ["a", "b"], "attributes": ["{}", "{}"]}))
    since = table.version()
    table.merge(pa.table({"user_id": ["a", "b"], "attributes": ['{"x":"1"}', '{"x":"1"}']}))
    table.merge(pa.table({"user_id": ["a"], "attributes": ["{}"]}))
    assert table.changes(since).upserted["user_id"].to_pylist() == ["b"]


def test_changes_vacuumed_away_are_gone_and_say_what_to_do(lake: Lake) -> None:
    table = lake.table("items")
    table.merge(items(item_id=["a", "b"], price=[1.0, 2.0]))
    table.merge(items(item_id=["a"], price=[1.5]))
    table.merge(items(item_id=["a"], price=[1.7]))
    DeltaTable(table.uri).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert prices(table.read()) == {"a": 1.7, "b": 2.0}
    with pytest.raises(ChangesGone, match=r"version 0 to \d+: part-.* was vacuumed.*etalage publish"):
        table.changes(0)


def test_a_cleaned_up_log_means_the_changes_are_gone(lake: Lake) -> None:
    table = lake.table("items")
    for n in range(3):
        table.merge(items(item_id=["a"], price=[float(n)]))
    DeltaTable(table.uri).create_checkpoint()
    os.remove(Path(table.uri) / "_delta_log" / f"{1:020d}.json")
    assert prices(table.read()) == {"a": 2.0}
    with pytest.raises(ChangesGone, match="the log of version 1 was cleaned up"):
        table.changes(0)
    assert told(table.changes(2)) == ({"a": 2.0}, set())


def test_changes_since_a_version_that_is_not_there_yet_mean_the_table_was_made_anew(lake: Lake) -> None:
    table = lake.table("items")
    table.merge(items(item_id=["a"], price=[1.0]))
    with pytest.raises(ChangesGone, match="made anew"):
        table.changes(5)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=3), max_size=6),
    st.data(),
)
def test_net_effect_equals_replaying_the_feed(
    versions: list[list[tuple[str, int]]], data: st.DataObject
) -> None:
    """Each (key, value) sets the key, and value 0 deletes it; the feed is as Delta writes it."""
    state: dict[str, int] = {"b": 2} if data.draw(st.booleans()) else {}
    before, rows = dict(state), []
    for version, steps in enumerate(versions):
        for key, value in dict(steps).items():
            old = state.get(key)
            if value == 0:
                if old is not None:
                    rows.append((key, old, "delete", version))
                    del state[key]
            elif old is None:
                rows.append((key, value, "insert", version))
                state[key] = value
            else:
                rows += [(key, old, "update_preimage", version), (key, value, "update_postimage", version)]
                state[key] = value
    rows = data.draw(st.permutations(rows))
    kinds = (pa.string(), pa.string(), pa.string(), pa.int64())
    names = ("user_id", "attributes", "_change_type", "_commit_version")
    columns = [[r[n] if n != 1 else str(r[1]) for r in rows] for n in range(4)]
    feed = pa.table([pa.array(c, k) for c, k in zip(columns, kinds, strict=True)], names=list(names))
    upserted, deleted = net_effect(feed, TABLES["users"])
    expected = {k: v for k, v in state.items() if before.get(k) != v}
    assert dict(zip(*(upserted[n].to_pylist() for n in names[:2]), strict=True)) == {
        k: str(v) for k, v in expected.items()
    }
    assert set(deleted["user_id"].to_pylist()) == set(before) - set(state)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), min_size=2, max_size=6))
def test_key_values_are_equal_exactly_where_the_columns_are(pairs: list[tuple[str, str]]) -> None:
    rows = pa.table(
        {"a": [p[0] for p in pairs], "b": [p[1] for p in pairs]},
        schema=pa.schema([("a", pa.string()), ("b", pa.string())]),
    )
    keys = key_of(rows, ["a", "b"]).to_pylist()
    for x in range(len(pairs)):
        for y in range(len(pairs)):
            assert (keys[x] == keys[y]) == (pairs[x] == pairs[y])


def test_many_rows_merge_and_merge_again_without_a_new_version(lake: Lake) -> None:
    generator = np.random.default_rng(0)
    count = 60_000
    rows = pa.table(
        {
            "item_id": [f"i{n}" for n in range(count)],
            "url": ["u"] * count,
            "bytes": [generator.bytes(100) for _ in range(count)],
            "sha256": [f"{n:064x}" for n in range(count)],
        }
    )
    table = lake.table("photos")
    assert table.merge(rows).inserted == count
    assert table.merge(rows) == Merged(0, 0, count, 1)


def test_rows_that_are_only_wanted_where_they_are_new_change_nothing(lake: Lake) -> None:
    table = lake.table("items")
    table.merge(items(item_id=["a"], price=[1.0]))
    done = table.merge(items(item_id=["a", "b"], price=[9.0, 2.0]), only_new=True)
    assert (done.inserted, done.updated) == (1, 0) and prices(table.read()) == {"a": 1.0, "b": 2.0}


@pytest.mark.parametrize("ledger", [True, False])
def test_a_table_is_known_again_until_it_is_made_anew(lake: Lake, ledger: bool) -> None:
    """By its commit, and by its id where that was never recorded."""
    table = lake.table("items")
    table.merge(items(item_id=["a"], price=[1.0]))
    if not ledger:
        table._storage.commit_sha256 = lambda version: None
    moment = table.moment()
    assert (moment.commit is None) != ledger and table.has_been(moment)
    Lake(lake.root).table("items").merge(items(item_id=["b"], price=[1.0]))
    assert table.has_been(moment)
    shutil.rmtree(table.uri)
    assert not table.has_been(moment)
    for name in "abc":
        Lake(lake.root).table("items").merge(items(item_id=[name], price=[1.0]))
    assert table.version() > moment.version and not table.has_been(moment)


def test_of_two_writers_who_read_the_same_version_one_starts_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an object store, where no lock makes them queue: also of two who only append."""
    lake.table("items").merge(items(item_id=["a"], price=[1.0]))
    write = Table._write

    def later(self: Table, *arguments: Any) -> None:
        monkeypatch.setattr(Table, "_write", write)
        Lake(lake.root).table("items").merge(items(item_id=["b"], price=[2.0]))
        write(self, *arguments)

    monkeypatch.setattr(Table, "_write", later)
    monkeypatch.setattr(LocalStorage, "_turn", lambda _: nullcontext())
    done = lake.table("items").merge(items(item_id=["b"], price=[3.0]))
    assert (done.inserted, done.updated) == (0, 1)
    assert lake.table("items").read()["item_id"].to_pylist() in (["a", "b"], ["b", "a"])


def test_a_process_that_read_a_table_ends_well(lake: Lake) -> None:
    table = lake.table("users")
    table.merge(pa.table({"user_id": [f"u{n}" for n in range(20_000)]}))
    code = (
        "import sys; from etalage.lake.delta import Lake; "
        "t = Lake(sys.argv[1]).table('users'); print(t.read().num_rows, sum(b.num_rows for b in t.batches()))"
    )
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code, lake.root], capture_output=True, text=True, timeout=240
        )
        assert (done.returncode, done.stdout.strip()) == (0, "20000 20000"), done.stderr
