"""What a vacuum removes, what it keeps, and that nothing of an erased shopper is left behind it."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest

from etalage.bundle.pointer import Bundles
from etalage.errors import ConfigError, DataError
from etalage.lake import vacuum
from etalage.lake.delta import Lake, Table
from etalage.shop import Shop
from etalage.shop.at_work import alone, working
from etalage.shop.shop_checks import _left_behind
from etalage.shop.upkeep_vacuum import Vacuumed
from tests.shops import act_rows, fill, rows_of
from tests.upkeep import answers, copied, every_kill


@pytest.fixture
def shop(upkept: Shop, tmp_path: Path) -> Shop:
    return copied(upkept, tmp_path / "shop")


def kinds(done: Vacuumed) -> set[str]:
    return {one.kind for one in done.wastes}


def files(shop: Shop) -> list[str]:
    return sorted(one.relative_to(shop.folder).as_posix() for one in shop.folder.rglob("*") if one.is_file())


def traces(shop: Shop, user: str) -> list[str]:
    return [name for name in files(shop) if user.encode() in (shop.folder / name).read_bytes()]


def make_old(path: Path, days: float) -> None:
    then = time.time() - days * 86400
    for one in [*path.rglob("*"), path] if path.is_dir() else [path]:
        os.utime(one, (then, then))


def test_a_shop_that_was_just_made_has_nothing_to_remove(shop: Shop) -> None:
    before = files(shop)
    assert shop.vacuum().wastes == () == shop.vacuum(days=0).wastes
    assert set(files(shop)) - set(before) <= {"runs/.at-work"}


def test_a_dry_run_removes_nothing_and_the_other_what_it_said(shop: Shop) -> None:
    shop.lake.table("users").clear()
    before = files(shop)
    planned = shop.vacuum(days=0, unpin=True)
    assert (
        "tables" in kinds(planned)
        and not planned.done
        and set(files(shop)) - set(before) <= {"runs/.at-work"}
    )
    done = shop.vacuum(days=0, unpin=True, dry=False)
    assert (done.done, done.wastes) == (True, planned.wastes)
    assert shop.vacuum(days=0, unpin=True).wastes == ()
    assert shop.lake.table("users").read().num_rows == 0


def test_versions_of_the_last_days_stay(shop: Shop) -> None:
    table = shop.lake.table("items")
    before = table.version()
    table.clear()
    assert shop.vacuum(unpin=True, dry=False).wastes == ()
    assert table.read(before).num_rows == 12


def test_versions_that_exports_and_bundles_were_made_of_stay_and_are_told(shop: Shop) -> None:
    table = shop.lake.table("interactions")
    trained_on = table.version()
    table.clear()
    done = shop.vacuum(days=0, dry=False)
    assert any("interactions: version" in note and "--unpin" in note for note in done.notes)
    assert table.read(trained_on).num_rows == 44
    shop.sync(force=True)
    lost = shop.vacuum(days=0, unpin=True, dry=False)
    assert any("cannot be read afterwards" in note and "exports/item_knn" in note for note in lost.notes)
    with pytest.raises(DataError):
        table.read(trained_on)
    with pytest.raises(DataError, match="can no longer be had: a vacuum removed"):
        shop.undo("interactions", trained_on)


def test_the_next_sync_still_reads_the_change_feed(shop: Shop) -> None:
    fill(shop.lake, [12], [])
    shop.delete_items(["item-00003"])
    shop.vacuum(days=0, dry=False)
    done = shop.sync(force=True)
    assert done.whole is None, "it need not read the tables whole"
    assert (done.upserted, done.deleted) == (1, 1)


@pytest.mark.parametrize("user", ["user-0", "user-3", "user-7"])
def test_f57_nothing_of_an_erased_shopper_is_left_in_versions_logs_and_copies(shop: Shop, user: str) -> None:
    """The first and the last id stand in the statistics of commits, too."""
    shop.erase(user)
    fill(shop.lake, [12], [])
    said = shop.vacuum(dry=False)
    assert any("erased shoppers" in one.why for one in said.wastes)
    left = {name.split("/")[0] for name in traces(shop, user)}
    assert left <= {"bundles", "exports"} and any("then vacuum again" in note for note in said.notes)
    shop.train("popularity")
    shop.train("item_knn")
    shop.publish(force=True)
    shop.vacuum(dry=False)
    assert traces(shop, user) == []
    assert shop.lake.table("interactions").read().num_rows > 30 and shop.lake.table("users").count() == 7
    assert shop.vacuum(dry=False).wastes == (), "erased once, versions made later stay as others do"
    fill(shop.lake, [13], [])
    assert shop.sync(force=True).manifest is not None


def test_versions_that_were_made_after_an_erasure_stay(shop: Shop) -> None:
    shop.erase("user-3")
    table = shop.lake.table("users")
    after = table.version()
    table.clear()
    shop.vacuum(dry=False)
    assert table.read(after).num_rows == 7


def test_a_pinned_version_between_an_erasure_and_the_first_version_that_stays_is_read_afterwards(
    shop: Shop, tmp_path: Path
) -> None:
    """Its checkpoint is the one that the vacuum makes: the commits before it are gone."""
    table = shop.lake.table("interactions")
    shop.erase("user-3")
    _act(table, 1)
    shop.train("popularity")
    shop.publish(force=True)
    pinned = table.version()
    rows = table.count(pinned)
    _act(table, 2)
    table.clear()
    _act(table, 4)
    shop.vacuum(days=0, dry=False)
    assert table.read(pinned).num_rows == rows > 30
    assert shop.backup(tmp_path / "b").tables["interactions"] == table.version()
    assert shop.vacuum(days=3650).wastes == ()


def _act(table: Table, item: int) -> None:
    table.merge(rows_of("interactions", act_rows([("user-1", item, "buy")])))


def test_f57_an_undo_does_not_bring_an_erased_shopper_back(shop: Shop) -> None:
    table = shop.lake.table("interactions")
    before, count = table.version(), table.count()
    shop.erase("user-3")
    done = shop.undo("interactions", before)
    assert done.erased > 0 and table.count() == count - done.erased
    assert "user-3" not in table.read(columns=["user_id"])["user_id"].to_pylist()


def test_old_exports_that_nobody_needs_go_and_judged_ones_stay(shop: Shop) -> None:
    folder = shop.folder / "exports" / "popularity"
    (first,) = folder.glob("0001-*")
    for number in range(2, 7):
        copy = folder / f"{number:04d}-{number:08x}"
        subprocess.run(["cp", "-r", str(first), str(copy)], check=True)
        facts = json.loads((copy / "export.json").read_text())
        (copy / "export.json").write_text(json.dumps({**facts, "model_hash": f"{number:064x}"}))
        (copy / "evaluation.json").unlink(missing_ok=True)
    (folder / f"0002-{2:08x}" / "evaluation.json").write_text('{"passed": false}')
    shop.vacuum(dry=False)
    assert sorted(one.name[:4] for one in folder.glob("0*")) == ["0002", "0004", "0005", "0006"]
    (bundle,) = shop.bundles.list()
    assert any(one.fitted_on == "everything" for one in bundle.models)
    assert shop.publish(force=True)


def test_old_bundles_go_but_neither_the_current_one_nor_one_that_is_open(shop: Shop) -> None:
    first = shop.bundles.current_id()
    for number in range(12, 15):
        fill(shop.lake, [number], [])
        shop.sync(force=True)
    ids = shop.bundles.ids()
    shop.rollback(ids[1])
    with (shop.bundles.path(first) / "items.arrow").open("rb"):
        code = "import sys, time; f = open(sys.argv[1], 'rb'); print('open', flush=True); time.sleep(600)"
        held = subprocess.Popen(
            [sys.executable, "-c", code, str(shop.bundles.path(ids[2]) / "items.arrow")],
            stdout=subprocess.PIPE,
        )
        assert held.stdout is not None
        held.stdout.readline()
        try:
            done = shop.vacuum(bundles=1, dry=False)
        finally:
            held.kill()
            held.communicate()
    assert shop.bundles.ids() == ids and any("has open" in note for note in done.notes)
    assert shop.vacuum(bundles=1, dry=False).wastes[0].kind == "bundles"
    assert shop.bundles.ids() == [ids[1], ids[3]] and shop.bundles.current_id() == ids[1]
    assert [move["to"] for move in shop.bundles.log()][:4] == ids, "the log stays"


def test_checkpoints_of_runs_that_became_exports_go_and_others_stay(shop: Shop) -> None:
    run = json.loads(next((shop.folder / "exports/item_knn").glob("0001-*/export.json")).read_text())["run"]
    done, going = shop.runs / "item_knn" / run, shop.runs / "item_knn" / "0123456789ab"
    for folder in (done, going):
        (folder / "checkpoints" / "step-00000010").mkdir(parents=True)
        (folder / "checkpoints" / "step-00000010" / "state.json").write_text("{}")
    assert "checkpoints" in kinds(shop.vacuum(dry=False))
    assert not (done / "checkpoints").exists() and (going / "checkpoints/step-00000010/state.json").exists()


def test_drafts_and_old_caches_go_and_young_caches_stay(shop: Shop) -> None:
    draft = shop.folder / "exports" / "item_knn" / ".draft-4711"
    old, young = shop.runs / "pixels" / "0a.pixels", shop.runs / "pixels" / "0b.pixels"
    for file in (draft / "half.npy", old, young):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"some")
    make_old(old, 8)
    done = shop.vacuum(dry=False)
    assert kinds(done) == {"leftovers", "caches"}
    assert not draft.exists() and not old.exists() and young.exists()


def test_a_vacuum_removes_whatever_the_doctor_finds_left_behind(shop: Shop) -> None:
    left = [
        "exports/item_knn/.draft-1", "exports/item_knn/everything/.draft-2", "runs/two_tower/0a/.handed-x",
        "runs/.photos/blocks-1", "runs/.ingest/new-1", "runs/.best", "runs/yardsticks/0a/.draft-3",
        "bundles/.staging-1", "bundles/.removing-1", "cache/bundles/.fetching-1",
    ]  # fmt: skip
    for name in left:
        (shop.folder / name).mkdir(parents=True)
        make_old(shop.folder / name, 1)
    found = _left_behind(shop.folder)
    assert found.state == "warning" and f"and {len(left) - 3} more" in found.said
    shop.vacuum(dry=False)
    assert _left_behind(shop.folder).said == "nothing of killed runs"


def test_files_that_no_commit_names_go_when_they_are_old(shop: Shop) -> None:
    table = shop.folder / "tables" / "items"
    for name, days in (("part-old.zst.parquet", 2.0), ("part-young.zst.parquet", 0.0)):
        (table / name).write_bytes(b"of a writer that was killed, or is at work")
        make_old(table / name, days)
    shop.vacuum(days=0, dry=False)
    assert not (table / "part-old.zst.parquet").exists() and (table / "part-young.zst.parquet").exists()


def test_nothing_is_removed_while_a_step_is_at_work(shop: Shop) -> None:
    shop.lake.table("items").clear()
    with working(shop.runs):
        with pytest.raises(DataError, match=r"is at work.*nothing was removed"):
            shop.vacuum(days=0, unpin=True, dry=False)
        assert any("is at work" in note for note in shop.vacuum(days=0).notes)
    assert shop.vacuum(days=0, unpin=True, dry=False).done


def test_who_begins_while_a_vacuum_only_looks_need_not_wait(shop: Shop) -> None:
    with alone(shop.runs, only_ask=True) as quiet, (shop.runs / ".at-work").open() as lock:
        assert quiet
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # raises where it would wait
    looks = []

    class Asked(Shop):
        @property
        def bundles(self) -> Bundles:  # type: ignore[override]
            with (self.runs / ".at-work").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                looks.append(1)
            return super().bundles

    Asked(shop.folder).vacuum()
    assert looks


class Watched(Shop):
    """Writes down, whenever a step looks at the tables, whether a vacuum could begin."""

    quiet: ClassVar[list[bool]] = []

    @property
    def lake(self) -> Lake:  # type: ignore[override]
        with alone(self.runs) as quiet:
            self.quiet.append(quiet)
        return super().lake


STEPS: dict[str, Callable[[Shop], object]] = {
    "ingest": lambda shop: shop.ingest(shop.folder / "feed.csv", "items"),
    "delete items": lambda shop: shop.delete_items(["item-00001"]),
    "delete photos": lambda shop: shop.delete_photos(every=True),
    "reset": lambda shop: shop.reset("users"),
    "undo": lambda shop: shop.undo("items", 0, dry=True),
    "collect": lambda shop: shop.collect(),
    "erase": lambda shop: shop.erase("user-3"),
    "probe": lambda shop: shop.probe_photos(),
    "rollback": lambda shop: shop.rollback(shop.bundles.current_id()),
}


@pytest.mark.parametrize("name", STEPS)
def test_no_vacuum_begins_while_a_step_reads_or_writes_the_tables(shop: Shop, name: str) -> None:
    (shop.folder / "feed.csv").write_text("item_id,title,photo_url\ni1,A hat,http://127.0.0.1:9/hat.jpg\n")
    shop.ingest(shop.folder / "feed.csv", "items")
    watched = Watched(shop.folder)
    watched.quiet.clear()
    with suppress(ConfigError):
        STEPS[name](watched)
    assert watched.quiet and not any(watched.quiet)
    with alone(shop.runs) as quiet:
        assert quiet, "it is over with the step"


def test_what_was_committed_since_the_look_stays_whole(shop: Shop) -> None:
    """By somebody who writes into the tables without a step."""
    table = shop.lake.table("users")
    before, rows = table.version(), table.read()
    table.clear()
    found = vacuum.waste(table, since=vacuum.days_ago(0), pinned=(), feed_since=None, erased={})
    assert found.files
    table.restore(before)
    vacuum.remove(table, found)
    assert table.read().equals(rows)


def test_a_killed_vacuum_leaves_a_whole_shop_and_the_same_command_does_the_rest(
    upkept: Shop, tmp_path: Path
) -> None:
    shop = copied(upkept, tmp_path / "shop")
    for number in range(12, 15):
        fill(shop.lake, [number], [])
        shop.sync(force=True)
    shop.erase("user-0")
    shop.train("popularity")
    shop.train("item_knn")
    shop.publish(force=True)
    expected = answers(shop)
    (shop.folder / "exports" / "item_knn" / ".draft-1").mkdir()

    killed = 0
    for number in every_kill(shop.folder, "vacuum", shop.folder, every=4):
        killed += 1
        seen = Shop(shop.folder)
        for name in seen.lake.versions():
            assert seen.lake.table(name).read().num_rows == seen.lake.table(name).count()
        assert [one.damage for one in seen.bundles.survey() if one.damage] == []
        if number % 8 == 0:
            assert answers(seen) == expected
        assert killed < 400
    assert killed > 10
    assert answers(Shop(shop.folder)) == expected
    assert traces(shop, "user-0") == [] and Shop(shop.folder).vacuum(days=0, bundles=2).wastes == ()
