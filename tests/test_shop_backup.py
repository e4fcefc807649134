"""A shop that was restored answers as the one that was backed up did, and half a backup is none."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from etalage.bundle.pointer import Bundles
from etalage.errors import ConfigError, DataError
from etalage.online import Act, Event
from etalage.runtime.export_files import read_export
from etalage.shop import Shop, upkeep_archive
from etalage.shop.upkeep_archive import MANIFEST, PARTIAL, SHOP, backups_in
from tests.shops import fill
from tests.upkeep import answers, copied, every_kill


@pytest.fixture(scope="module")
def kept(upkept: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = copied(upkept, tmp_path_factory.mktemp("kept") / "shop")
    with shop.live_store() as store:
        store.append([Event("e1", "user-3", Act("item-00004", "buy"))])
    return shop


@pytest.fixture(scope="module")
def backups(kept: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backups")
    kept.backup(folder)
    return folder


@pytest.mark.parametrize("name", ["folder", "one.tar.zst", "one.tar.gz", "one.tar"])
def test_a_restored_shop_answers_as_the_one_that_was_backed_up(kept: Shop, tmp_path: Path, name: str) -> None:
    done = kept.backup(tmp_path / name)
    assert Shop.check_backup(tmp_path / name).files == done.files > 20
    restored = Shop.restore(tmp_path / name, tmp_path / "new")
    shop = Shop(tmp_path / "new")
    assert restored.tables == shop.lake.versions() == kept.lake.versions()
    assert answers(shop) == answers(kept)
    for file in ("bundles/current", "bundles/log.jsonl", "live/events.sqlite", "shop.toml"):
        assert (shop.folder / file).stat().st_mode == (kept.folder / file).stat().st_mode, file
    with shop.live_store() as store:
        assert [act.item_id for act in store.history("user-3", 1)] == ["item-00004"]
    for model in ("popularity", "item_knn"):
        for export in (tmp_path / "new" / "exports" / model).glob("[0-9]*"):
            read_export(export)  # raises where its hash does not hold
    assert shop.status().next == kept.status().next


def test_a_restored_shop_goes_on(kept: Shop, backups: Path, tmp_path: Path) -> None:
    Shop.restore(backups, tmp_path / "new")
    shop = Shop(tmp_path / "new")
    fill(shop.lake, [12])
    manifest = shop.sync(force=True).manifest
    assert manifest is not None and manifest.items == 13
    assert shop.collect().new == 1
    assert shop.train("popularity")[1].exists()


def test_a_second_backup_shares_the_files_of_the_first(kept: Shop, tmp_path: Path) -> None:
    kept.backup(tmp_path / "b")
    again = kept.backup(tmp_path / "b")
    assert again.linked > 20 and again.copied == 0
    first, second = backups_in(tmp_path / "b")
    assert (first / SHOP / "shop.toml").samefile(second / SHOP / "shop.toml")
    shutil.rmtree(first)
    assert Shop.check_backup(tmp_path / "b").files == again.files


def test_a_file_that_went_bad_in_the_first_backup_is_copied_again_by_the_second(
    kept: Shop, tmp_path: Path
) -> None:
    kept.backup(tmp_path / "b")
    (first,) = backups_in(tmp_path / "b")
    _spoil(first / SHOP / "shop.toml")
    assert kept.backup(tmp_path / "b").copied == (kept.folder / "shop.toml").stat().st_size
    with pytest.raises(DataError, match=r"shop\.toml is not what was copied"):
        Shop.check_backup(tmp_path / "b", first.name)
    Shop.check_backup(tmp_path / "b")


def _spoil(file: Path) -> None:
    mode = file.stat().st_mode
    file.chmod(0o600)
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    file.chmod(mode)


def test_a_backup_is_of_one_moment_while_the_shop_is_written(kept: Shop, tmp_path: Path) -> None:
    shop = copied(kept, tmp_path / "shop")
    ended = threading.Event()
    written, errors = threading.Semaphore(0), list[BaseException]()

    def write() -> None:
        number = 100
        other = Shop(shop.folder)
        try:
            while not ended.is_set():
                fill(other.lake, [number], [])
                with other.live_store() as store:
                    store.append([Event(f"w{number}", "user-1", Act("item-00002", "view"))])
                number += 1
                written.release()
        except BaseException as error:
            errors.append(error)
            written.release()

    def wait_for_the_writer() -> None:
        while written.acquire(blocking=False):
            pass
        written.acquire(timeout=300)
        written.acquire(timeout=300)  # this one began after the call
        assert errors == []

    class Written(Shop):
        """Waits, in the midst of a backup, until the shop has been written."""

        waits = 0

        @property
        def bundles(self) -> Bundles:  # type: ignore[override]
            wait_for_the_writer()
            self.waits += 1
            return super().bundles

    writing = threading.Thread(target=write)
    writing.start()
    shop = Written(shop.folder)
    try:
        wait_for_the_writer()
        moments = [shop.backup(tmp_path / "b").tables["items"] for _ in range(3)]
    finally:
        ended.set()
        writing.join()
    assert errors == [] and shop.waits >= 3
    assert moments == sorted(set(moments)), "the shop was written during each backup"
    for number, backup in enumerate(backups_in(tmp_path / "b")):
        done = Shop.restore(tmp_path / "b", tmp_path / f"new-{number}", backup.name)
        restored = Shop(tmp_path / f"new-{number}")
        assert restored.lake.versions() == done.tables
        assert restored.lake.table("items").read().num_rows == restored.lake.table("items").count()
        file = restored.folder / "live" / "events.sqlite"
        assert sqlite3.connect(file).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_is_not_whole_is_no_backup_and_the_same_command_goes_on(kept: Shop, tmp_path: Path) -> None:
    target = tmp_path / "b"
    for number in every_kill(target, "backup", kept.folder, target, every=17):
        assert backups_in(target) == [], f"killed at change {number}"
        assert number < 2000
    (whole,) = backups_in(target)
    Shop.check_backup(target)
    assert not (target / PARTIAL).exists() and (whole / MANIFEST).exists()


def test_a_killed_restore_leaves_no_shop_and_the_same_command_goes_on(
    kept: Shop, backups: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    for number in every_kill(tmp_path, "restore", backups, folder, every=23):
        assert not folder.exists(), f"killed at change {number}"
        assert number < 2000
    assert answers(Shop(folder)) == answers(kept)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["new"]


def test_a_killed_restore_of_another_backup_leaves_nothing_of_it(
    kept: Shop, backups: Path, tmp_path: Path
) -> None:
    staging = tmp_path / ".new.restoring" / SHOP
    staging.mkdir(parents=True)
    (staging / "stray").write_text("of another one")
    Shop.restore(backups, tmp_path / "new")
    assert not (tmp_path / "new" / "stray").exists()


@pytest.mark.parametrize("broken", ["changed", "missing", "cut", "manifest"])
def test_a_damaged_backup_is_named_and_restores_nothing(kept: Shop, tmp_path: Path, broken: str) -> None:
    kept.backup(tmp_path / "b")
    (backup,) = backups_in(tmp_path / "b")
    file = next((backup / SHOP / "bundles").glob("b0*/items.arrow"))
    if broken == "changed":
        _spoil(file)
    elif broken == "missing":
        file.unlink()
    elif broken == "cut":
        os.truncate(file, 10)
    else:
        _spoil(backup / MANIFEST)
    wanted = "manifest" if broken == "manifest" else r"items\.arrow"
    for step in (
        lambda: Shop.check_backup(tmp_path / "b"),
        lambda: Shop.restore(tmp_path / "b", tmp_path / "n"),
    ):
        with pytest.raises(DataError, match=wanted):
            step()
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize("suffix", [".tar.zst", ".tar.gz", ".tar"])
def test_a_file_that_was_cut_is_no_whole_backup(kept: Shop, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"b{suffix}"
    kept.backup(file)
    os.truncate(file, file.stat().st_size * 2 // 3)
    with pytest.raises(DataError, match=r"b\.tar.*(cannot be read to its end|no whole backup)"):
        Shop.check_backup(file)
    with pytest.raises(DataError):
        Shop.restore(file, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_file_that_leads_out_of_the_shop_is_refused(tmp_path: Path) -> None:
    import io
    import tarfile

    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        member = tarfile.TarInfo("shop/../../planted")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(DataError, match="leads elsewhere"):
        Shop.restore(tmp_path / "b.tar", tmp_path / "new")
    assert not (tmp_path / "planted").exists() and not (tmp_path / "new").exists()


def test_a_manifest_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    import gzip
    import tarfile

    member = tarfile.TarInfo(MANIFEST)
    member.size = 1 << 40
    with gzip.open(tmp_path / "b.tar.gz", "wb") as out:
        out.write(member.tobuf() + bytes(4096))
    with pytest.raises(DataError, match=r"its manifest\.json has 1,099,511,627,776 bytes"):
        Shop.check_backup(tmp_path / "b.tar.gz")


def test_a_table_that_came_after_the_moment_is_of_a_later_one(kept: Shop, tmp_path: Path) -> None:
    """Its first rows are committed when the versions have been pinned."""
    shop = copied(kept, tmp_path / "shop")
    shutil.rmtree(shop.folder / "tables" / "users")

    class Later(Shop):
        @property
        def bundles(self) -> Bundles:  # type: ignore[override]
            if not (self.folder / "tables" / "users").exists():
                shutil.copytree(kept.folder / "tables" / "users", self.folder / "tables" / "users")
            return super().bundles

    done = Later(shop.folder).backup(tmp_path / "b")
    assert (shop.folder / "tables" / "users").exists() and "users" not in done.tables
    assert not (done.target / SHOP / "tables" / "users").exists()
    Shop.restore(tmp_path / "b", tmp_path / "new")
    assert Shop(tmp_path / "new").lake.versions() == done.tables


def test_a_database_whose_writer_was_killed_is_copied_as_it_was_before(kept: Shop, tmp_path: Path) -> None:
    shop = copied(kept, tmp_path / "shop")
    file = shop.folder / "runs" / "notes.db"
    with closing(sqlite3.connect(file)) as made:
        made.execute("CREATE TABLE notes (said)")
        made.executemany("INSERT INTO notes VALUES (?)", [("y" * 2000,)] * 400)
        made.commit()
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA cache_size = 5'); "
        "c.execute(\"UPDATE notes SET said = said || 'z'\"); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(file)]).returncode == 9
    assert file.with_name("notes.db-journal").stat().st_size > 0
    done = shop.backup(tmp_path / "b")
    with closing(sqlite3.connect(done.target / SHOP / "runs" / "notes.db")) as copy:
        assert copy.execute("SELECT DISTINCT said FROM notes").fetchall() == [("y" * 2000,)]


def test_a_shop_is_not_restored_into_the_folder_that_one_is_in(
    backups: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    for folder in (".", tmp_path / "new", "../new"):
        with pytest.raises(ConfigError, match="is the folder that you are in"):
            Shop.restore(backups, folder)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["new"]
    Shop.restore(backups, "../other")
    assert Shop(tmp_path / "other").lake.versions()


def test_nothing_is_restored_over_a_shop_or_anything_else(kept: Shop, backups: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a shop, and nothing is restored over one"):
        Shop.restore(backups, kept.folder)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="holds something"):
        Shop.restore(backups, tmp_path / "full")
    (tmp_path / "empty").mkdir()
    Shop.restore(backups, tmp_path / "empty")
    assert answers(Shop(tmp_path / "empty")) == answers(kept)


def test_targets_that_make_no_sense_are_refused(kept: Shop, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lies in the shop"):
        kept.backup(kept.folder / "backups")
    with pytest.raises(ConfigError, match="object store"):
        kept.backup("s3://bucket/backups")
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="holds other things"):
        kept.backup(tmp_path)
    (tmp_path / "b.tar").write_text("mine")
    with pytest.raises(DataError, match="no backup is written over"):
        kept.backup(tmp_path / "b.tar")
    assert (tmp_path / "b.tar").read_text() == "mine"
    with pytest.raises(ConfigError, match="holds no backup"):
        Shop.restore(tmp_path, tmp_path / "new")


def test_tables_in_an_object_store_are_refused(kept: Shop, tmp_path: Path) -> None:
    shop = copied(kept, tmp_path / "shop")
    (shop.folder / "shop.toml").write_text('[storage]\ntables = "s3://bucket/shop"\n')
    with pytest.raises(ConfigError, match=r"\[storage\] tables = 's3://bucket/shop'.*versions of objects"):
        Shop(shop.folder).backup(tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("name", ["b", "b.tar.gz"])
def test_a_full_disk_leaves_no_backup_and_says_so(
    kept: Shop, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = upkeep_archive._Whole.read
    calls = []

    def full(*given: Any) -> bytes:
        calls.append(given)
        if len(calls) > 20:
            raise OSError(28, "No space left on device", str(tmp_path / name))
        return read(*given)

    monkeypatch.setattr(upkeep_archive._Whole, "read", full)
    with pytest.raises(DataError, match=r"No space left on device; there is no backup of this moment"):
        kept.backup(tmp_path / name)
    monkeypatch.undo()
    assert backups_in(tmp_path / "b") == [] and not (tmp_path / "b.tar.gz").exists()
    kept.backup(tmp_path / name)
    Shop.check_backup(tmp_path / name)


def test_a_file_that_cannot_be_read_is_named(
    kept: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Path.open

    def refuse(file: Path, *given: Any, **named: Any) -> Any:
        if file.name == "items.arrow":
            raise PermissionError(13, "Permission denied", str(file))
        return known(file, *given, **named)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(
        DataError, match=r"items\.arrow: Permission denied; there is no backup of this moment"
    ):
        kept.backup(tmp_path / "b")
    assert backups_in(tmp_path / "b") == []


def test_who_was_erased_stays_erased_in_an_older_backup(kept: Shop, tmp_path: Path) -> None:
    shop = copied(kept, tmp_path / "shop")
    old = shop.backup(tmp_path / "b").target.name
    shop.erase("user-3")
    shop.backup(tmp_path / "b")
    done = Shop.restore(tmp_path / "b", tmp_path / "by-later-backup", old)
    assert done.erased_again == 1
    lone = tmp_path / "lone"
    shutil.copytree(tmp_path / "b" / old, lone / old)
    assert Shop.restore(lone, tmp_path / "unknown").erased_until is None
    assert Shop.restore(lone, tmp_path / "by-shop", erased=shop.folder).erased_again == 1
    for name, gone in (("by-later-backup", True), ("by-shop", True), ("unknown", False)):
        restored = Shop(tmp_path / name)
        for table in ("users", "interactions"):
            known = "user-3" in restored.lake.table(table).read(columns=["user_id"])["user_id"].to_pylist()
            assert known is not gone, (name, table)
        with restored.live_store() as store:
            assert bool(store.history("user-3", 1)) is not gone, name
        assert len(restored.lake.table("users").read()) >= 7


def test_links_and_drafts_are_left_out_and_links_are_told(kept: Shop, tmp_path: Path) -> None:
    shop = copied(kept, tmp_path / "shop")
    (shop.folder / "elsewhere").symlink_to(tmp_path)
    (shop.folder / "exports" / "item_knn" / ".draft-1").mkdir()
    (shop.folder / "exports" / "item_knn" / ".draft-1" / "half.npy").write_bytes(b"half")
    done = shop.backup(tmp_path / "b")
    assert any("1 links" in note for note in done.notes)
    assert not list(done.target.rglob("half.npy")) and not list(done.target.rglob("elsewhere"))
