"""Faults of the lake, caused for real: kills, cut commits, flipped bytes, read-only and full folders."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from etalage.errors import DataError, TableDamaged
from etalage.lake.delta import Lake, Table
from etalage.lake.ingest import ingest, refused_rows
from etalage.lake.storage import LocalStorage

INGEST = """
import sys
from pathlib import Path
from etalage.lake.delta import Lake
from etalage.lake.ingest import ingest
lake, source = Lake(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
done = ingest(lake, source, sys.argv[3], chunk_rows=int(sys.argv[4]))
print(done.read, done.inserted, done.updated, done.unchanged, done.refused, flush=True)
"""


def start(lake: Lake, source: Path, table: str, chunk_rows: int) -> subprocess.Popen[str]:
    """A process that has imported everything and waits for a line before it ingests."""
    return subprocess.Popen(
        [sys.executable, "-c", INGEST, lake.root, str(source), table, str(chunk_rows)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdout and process.stdin
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    process.stdin.write("go\n")
    process.stdin.flush()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "tables")


@pytest.fixture
def table(lake: Lake) -> Table:
    """A users table at version 3: one row more in each version."""
    users = lake.table("users")
    for n in range(3):
        users.merge(pa.table({"user_id": [f"u{n}"], "attributes": [f'{{"n": "{n}"}}']}))
    assert users.version() == 3
    return users


def afresh(table: Table) -> Table:
    """As another process sees it: nothing verified yet."""
    return Table(LocalStorage(table.name, Path(table.uri)), table.spec)


def commit_file(table: Table, version: int) -> Path:
    return Path(table.uri) / "_delta_log" / f"{version:020d}.json"


def data_file(table: Table) -> Path:
    return max(Path(table.uri).glob("*.parquet"), key=lambda f: f.stat().st_size)


def interactions_file(folder: Path, count: int) -> Path:
    file = folder / "log.csv"
    lines = [f"u{n % 7},i{n % 40},view,{n if n % 50 else 'many'}\n" for n in range(count)]
    file.write_text("user_id,item_id,kind,value\n" + "".join(lines))
    return file


def test_f2_a_killed_ingest_is_run_again_and_every_row_is_there_exactly_once(
    lake: Lake, tmp_path: Path
) -> None:
    count = 2000
    source = interactions_file(tmp_path, count)
    chance, seen = random.Random(7), []
    log = Path(lake.table("interactions").uri) / "_delta_log"
    process = start(lake, source, "interactions", 100)
    for _ in range(4):
        coming = start(lake, source, "interactions", 100)
        commits = len(list(log.glob("*.json"))) + chance.randrange(5)
        go(process)
        while process.poll() is None and len(list(log.glob("*.json"))) < commits:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.08))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        process = coming
        if lake.table("interactions").exists():  # whole and readable at any moment
            seen.append(lake.table("interactions").read().num_rows)
    go(process)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert any(0 < rows < count - count // 50 for rows in seen), "no kill came midway"
    rows = afresh(lake.table("interactions")).read().to_pylist()
    assert len({r["interaction_id"] for r in rows}) == len(rows) == count - count // 50
    expected = Counter((f"u{n % 7}", f"i{n % 40}", float(n)) for n in range(count) if n % 50)
    assert Counter((r["user_id"], r["item_id"], r["value"]) for r in rows) == expected
    assert refused_rows(lake)["line"].to_pylist() == [n + 2 for n in range(0, count, 50)]


def test_f18_two_processes_ingest_the_same_batch_and_rows_are_there_once(lake: Lake, tmp_path: Path) -> None:
    source = interactions_file(tmp_path, 1000)
    both = [start(lake, source, "interactions", 100) for _ in range(2)]
    for process in both:
        go(process)
    told = []
    for process in both:
        output, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        told.append([int(n) for n in output.split()])
    rows = lake.table("interactions").read()
    assert rows.num_rows == len(set(rows["interaction_id"].to_pylist())) == 980
    assert sum(inserted for _, inserted, *_ in told) == 980
    assert all(read == 1000 and refused == 20 for read, _, _, _, refused in told)
    assert refused_rows(lake).num_rows == 20


def test_f18_writers_of_one_table_on_a_machine_wait_for_each_other(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reads and compares what the one before has written: none does it for nothing, again and again."""
    lake.table("users").merge(pa.table({"user_id": ["u0"]}))
    inside, most, turns = [0], [0], [0]
    counting = threading.Lock()
    stored = Table._stored

    def slowly(self: Table, *arguments: Any) -> Any:
        with counting:
            inside[0] += 1
            turns[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.05)
        try:
            return stored(self, *arguments)
        finally:
            with counting:
                inside[0] -= 1

    monkeypatch.setattr(Table, "_stored", slowly)
    writers = [Lake(lake.root).table("users") for _ in range(4)]
    with ThreadPoolExecutor(len(writers)) as pool:
        done = list(pool.map(lambda n: writers[n].merge(pa.table({"user_id": [f"u{n + 1}"]})), range(4)))
    assert sorted(one.version for one in done) == [2, 3, 4, 5]
    assert (most[0], turns[0]) == (1, 4), "one after the other, and nobody twice"


# --- F6, F7: the log


def test_f6_newest_commit_cut_to_nothing_is_refused_by_every_way_of_reading(table: Table) -> None:
    os.truncate(commit_file(table, 3), 0)
    for look in (Table.read, Table.version, Table.count, lambda t: next(t.batches()), lambda t: t.changes(1)):
        with pytest.raises(
            TableDamaged, match=rf"{3:020d}\.json was cut to 0 bytes.*Table.read\(version=2\)"
        ):
            look(afresh(table))
        with pytest.raises(TableDamaged, match="cut to 0 bytes"):
            look(table)
    assert afresh(table).read(version=2)["user_id"].to_pylist() == ["u1", "u0"]


def test_f6_a_damaged_table_is_not_written_to(table: Table) -> None:
    os.truncate(commit_file(table, 3), 0)
    with pytest.raises(TableDamaged):
        afresh(table).merge(pa.table({"user_id": ["u9"]}))
    assert not commit_file(table, 4).exists()


def test_f6_is_noticed_without_a_record_too(table: Table) -> None:
    shutil.rmtree(Path(table.uri) / "_etalage")
    os.truncate(commit_file(table, 3), 0)
    with pytest.raises(TableDamaged, match="cut to 0 bytes"):
        afresh(table).read()


def test_f6_an_older_commit_cut_to_nothing_is_refused(table: Table) -> None:
    os.truncate(commit_file(table, 1), 0)
    with pytest.raises(TableDamaged, match=rf"{1:020d}\.json was cut to 0 bytes.*version=0"):
        afresh(table).read()


def test_f6_newest_commit_deleted_is_refused(table: Table) -> None:
    commit_file(table, 3).unlink()
    with pytest.raises(TableDamaged, match=rf"{3:020d}\.json is missing, though it was committed.*version=2"):
        afresh(table).read()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_f7_newest_commit_torn_offers_the_last_good_version(table: Table, share: float) -> None:
    file = commit_file(table, 3)
    os.truncate(file, int(file.stat().st_size * share))
    with pytest.raises(
        TableDamaged, match=rf"{3:020d}\.json is torn.*last good version is 2.*version=2"
    ) as raised:
        afresh(table).read()
    assert "0: <unknown>" not in str(raised.value)
    assert afresh(table).read(version=2).num_rows == 2


def test_f7_newest_commit_torn_between_two_lines_is_refused(table: Table) -> None:
    file = commit_file(table, 3)
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) > 1
    file.write_bytes(lines[0])
    with pytest.raises(TableDamaged, match=r"is torn or was changed.*version=2"):
        afresh(table).read()


def test_a_crash_between_commit_and_record_heals(table: Table) -> None:
    record = Path(table.uri) / "_etalage" / "rows" / f"{3:020d}.json"
    for content in (None, b"", b'{"ver'):
        record.unlink()
        if content is not None:
            record.write_bytes(content)
        assert afresh(table).read().num_rows == 3
        assert b'"rows": 3' in record.read_bytes()
    os.truncate(commit_file(table, 3), 0)
    with pytest.raises(TableDamaged):
        afresh(table).read()


def test_a_table_past_its_checkpoint_is_still_checked(lake: Lake) -> None:
    users = lake.table("users")
    for n in range(4):
        users.merge(pa.table({"user_id": [f"u{n}"]}))
    DeltaTable(users.uri).create_checkpoint()
    commit_file(users, 1).unlink()  # as the clean-up of old logs does
    for n in range(4, 6):
        users.merge(pa.table({"user_id": [f"u{n}"]}))
    assert afresh(users).read().num_rows == 6
    os.truncate(commit_file(users, 6), 0)
    with pytest.raises(TableDamaged, match=r"version=5"):
        afresh(users).read()
    assert afresh(users).read(version=5).num_rows == 5


def test_a_checkpoint_that_leads_to_fewer_rows_is_refused(lake: Lake) -> None:
    """Commits have a hash each, a checkpoint has none: what it leads to is counted."""
    users = lake.table("users")
    for n in range(4):
        users.merge(pa.table({"user_id": [f"u{n}"]}))
    DeltaTable(users.uri).create_checkpoint()
    for version in range(5):
        commit_file(users, version).unlink(missing_ok=True)  # as the clean-up of old logs does
    (checkpoint,) = (Path(users.uri) / "_delta_log").glob("*.checkpoint.parquet")
    whole = pq.read_table(checkpoint)
    adds = [n for n, add in enumerate(whole["add"].to_pylist()) if add]
    assert afresh(users).read().num_rows == len(adds) == 4
    pq.write_table(whole.take([n for n in range(whole.num_rows) if n != adds[1]]), checkpoint)
    for ask in (lambda: afresh(users).read(), lambda: afresh(users).count(), afresh(users).version):
        with pytest.raises(TableDamaged, match="leads to 3 rows in its log, recorded were 4"):
            ask()
    with pytest.raises(TableDamaged, match="leads to 3 rows"):
        afresh(users).merge(pa.table({"user_id": ["u9"]}))


# --- F8: data files


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    state = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))


def test_f8_a_data_file_with_fewer_rows_is_noticed_where_its_hash_was_never_recorded(lake: Lake) -> None:
    """As long as before, and a Parquet file: after a crash between a commit and its record only the count
    tells."""
    users = lake.table("users")
    chance = random.Random(7)
    texts = [chance.randbytes(40).hex() for _ in range(300)]
    users.merge(pa.table({"user_id": [f"u{n:03d}" for n in range(300)], "attributes": texts}))
    file = data_file(users)
    size, rows = file.stat().st_size, pq.read_table(file)

    def fewer(pad: int) -> bytes:
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, rows.schema, compression="zstd", store_schema=False) as writer:
            writer.write_table(rows.slice(0, 200))
            writer.add_key_value_metadata({"pad": "x" * pad})
        return bytes(sink.getvalue())

    pad = size - len(fewer(0))
    content = next(found for more in range(-8, 9) if len(found := fewer(pad + more)) == size)
    file.write_bytes(content)
    for record in (Path(users.uri) / "_etalage" / "sums").iterdir():
        record.unlink()
    with pytest.raises(TableDamaged, match="leads to 200 rows in its data files, recorded were 300"):
        afresh(users).read()
    with pytest.raises(TableDamaged, match="200 rows"):
        list(afresh(users).batches(columns=["user_id"]))


@pytest.mark.parametrize("damage", ["missing", "torn", "empty", "first", "middle", "last"])
def test_f8_a_damaged_parquet_file_is_named(table: Table, damage: str) -> None:
    table.read()
    file = data_file(table)
    size = file.stat().st_size
    if damage == "missing":
        file.unlink()
    elif damage in ("torn", "empty"):
        os.truncate(file, size // 2 if damage == "torn" else 0)
    else:
        flip(file, {"first": 5, "middle": size // 2, "last": size - 1}[damage])
    for seen in (table, afresh(table)):
        with pytest.raises(TableDamaged, match=file.name):
            seen.read()
        with pytest.raises(TableDamaged, match=file.name):
            list(seen.batches(columns=["user_id"]))


def test_f8_every_flipped_byte_is_noticed(table: Table) -> None:
    file = data_file(table)
    whole = file.read_bytes()
    for at in range(0, len(whole), 37):
        flip(file, at)
        with pytest.raises(TableDamaged, match=file.name):
            afresh(table).read()
        file.write_bytes(whole)
    assert afresh(table).read().num_rows == 3


def test_f8_a_damaged_change_file_is_named_by_changes(table: Table) -> None:
    table.merge(pa.table({"user_id": ["u0"], "attributes": ["changed"]}))
    (file,) = (Path(table.uri) / "_change_data").glob("*.parquet")
    flip(file, file.stat().st_size // 2)
    assert afresh(table).read().num_rows == 3
    with pytest.raises(TableDamaged, match=file.name):
        afresh(table).changes(3)


def test_f9_leftover_files_of_a_commit_have_no_effect(table: Table) -> None:
    folder = Path(table.uri)
    planted: dict[str, Any] = {
        "_delta_log/_commit_0b5d.json.tmp": b'{"add": ',
        f"_delta_log/{4:020d}.json.tmp": b"",
        "_delta_log/.tmp": b"x",
        f"_etalage/rows/.{4:020d}.json.ab12": b'{"version": 4, "rows": 99',
        "part-00000-orphan-c000.snappy.parquet": data_file(table).read_bytes(),
        "_change_data/part-orphan.parquet": b"PAR1",
    }
    for name, content in planted.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    assert sorted(afresh(table).read()["user_id"].to_pylist()) == ["u0", "u1", "u2"]
    assert afresh(table).merge(pa.table({"user_id": ["u9"]})).version == 4
    assert afresh(table).changes(3).upserted["user_id"].to_pylist() == ["u9"]
    assert afresh(table).read().num_rows == 4


# --- F10, F12: the folder


def in_mount_namespace(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script where it may mount; skips where the system does not let us."""
    flags = ["-m"] if os.geteuid() == 0 else ["-r", "-m"]
    if subprocess.run(["unshare", *flags, "true"], capture_output=True).returncode:
        pytest.skip("this system lets us make no mount namespace")
    return subprocess.run(
        ["unshare", *flags, "bash", "-ec", script, "bash", *arguments],
        capture_output=True,
        text=True,
        timeout=500,
    )


TRY = """
import sys
from etalage.errors import EtalageError
from etalage.lake.delta import Lake
from etalage.lake.ingest import ingest
try:
    print(ingest(Lake(sys.argv[1]), sys.argv[2], "users", chunk_rows=2000))
except EtalageError as error:
    print(type(error).__name__, error)
    sys.exit(error.exit_code)
"""


def test_f12_a_read_only_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    """Read-only by mount, which binds root as well; the source is not even looked at."""
    (tmp_path / "shop").mkdir()
    mount = 'mount -t tmpfs none "$1"; mkdir "$1/tables"; mount -o remount,ro "$1"'
    script = mount + '; exec "$2" -c "$3" "$1/tables" "$4"'
    done = in_mount_namespace(
        script, str(tmp_path / "shop"), sys.executable, TRY, str(tmp_path / "nowhere.csv")
    )
    assert done.returncode == DataError.exit_code, done.stdout + done.stderr
    assert "cannot be written (Read-only file system); nothing was read or changed" in done.stdout


def test_f12_a_table_on_a_read_only_folder_can_be_read(lake: Lake, table: Table, tmp_path: Path) -> None:
    shutil.rmtree(Path(table.uri) / "_etalage" / "rows")
    code = (
        "import sys; from etalage.lake.delta import Lake; "
        "print(Lake(sys.argv[1]).table('users').read().num_rows)"
    )
    script = 'mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"; exec "$2" -c "$3" "$1"'
    done = in_mount_namespace(script, lake.root, sys.executable, code)
    assert done.stdout.strip() == "3", done.stderr


def test_a_place_where_no_folder_can_be_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="cannot be written"):
        ingest(Lake(tmp_path / "file" / "tables"), tmp_path / "nowhere.csv", "users")


def test_f10_a_full_disk_is_a_clear_error_and_a_rerun_with_space_completes(tmp_path: Path) -> None:
    source = tmp_path / "users.csv"
    chance = random.Random(1)
    ids = [f"{chance.getrandbits(800):x}" for _ in range(12_000)]
    source.write_text("user_id\n" + "\n".join(ids) + "\n")
    (tmp_path / "shop").mkdir()
    script = (
        'mount -t tmpfs -o size=1m none "$1"; "$2" -c "$3" "$1/tables" "$4" || echo "code $?"; '
        'mount -o remount,size=64m "$1"; "$2" -c "$3" "$1/tables" "$4"; cp -r "$1/tables" "$5"'
    )
    folder, saved = str(tmp_path / "shop"), tmp_path / "saved"
    done = in_mount_namespace(script, folder, sys.executable, TRY, str(source), str(saved))
    assert done.returncode == 0, done.stdout + done.stderr
    first, code, second = done.stdout.strip().split("\n")
    assert first.startswith("DataError table users: could not be written")
    assert "No space left" in first
    assert code == "code 3"
    assert "12,000 rows read" in second
    assert sorted(Lake(saved).table("users").read()["user_id"].to_pylist()) == sorted(ids)
