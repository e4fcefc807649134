"""The pointer, its locks and its log."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etalage.bundle.manifest import Manifest
from etalage.bundle.pointer import CURRENT, LOG, MOVING, REMOVING, STAGING, Bundles
from etalage.errors import BundleDamaged, NoBundle, PointerDamaged, PublishBusy, PublishError
from etalage.lake.delta import Lake
from etalage.lake.durable_files import hash_file, write_file
from tests.bundle.forged import writable
from tests.shops import published, small_shop


@pytest.fixture
def shop(tmp_path: Path) -> tuple[Lake, Bundles, Manifest, Manifest]:
    """Two bundles; the second is current."""
    lake, bundles, first = small_shop(tmp_path, 12)
    return lake, bundles, first, published(lake, bundles, export_of(bundles, first))


def export_of(bundles: Bundles, manifest: Manifest) -> Path:
    return bundles.path(manifest.id) / "models" / manifest.photo_models[0].name


def test_nothing_published_yet_says_what_to_do(tmp_path: Path) -> None:
    bundles = Bundles(tmp_path / "none")
    with pytest.raises(NoBundle, match="etalage publish"):
        bundles.current_id()
    assert (bundles.ids(), bundles.list(), bundles.survey(), bundles.log()) == ([], [], [], [])
    assert not bundles.folder.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"b000009-01234567\n",
        b"../outside\n",
        b"../bundles/{second}\n",
        b"/{folder}/{second}\n",
        b"{second}\n{first}\n",
        b"{second}\n\n",
        b" {second}\n",
        b"{second}\0\n",
        b"{second}/\n",
        b"./{second}\n",
        b"\xff\xfe\n",
        b"{second}" + b"x" * 10_000,
    ],
)
def test_f14_a_damaged_pointer_is_refused_with_the_remedy(
    shop: tuple[Lake, Bundles, Manifest, Manifest], content: bytes
) -> None:
    _, bundles, first, second = shop
    for name, text in (("first", first.id), ("second", second.id), ("folder", str(bundles.folder)[1:])):
        content = content.replace(f"{{{name}}}".encode(), text.encode())
    (bundles.folder.parent / "outside").mkdir()
    pointer = bundles.folder / CURRENT
    pointer.chmod(0o644)
    pointer.write_bytes(content)
    with pytest.raises(PointerDamaged, match=f"etalage rollback {second.id}"):
        bundles.current_id()
    bundles.switch(first.id)
    assert bundles.current_id() == first.id


def test_f14_a_pointer_that_is_a_link_or_a_folder_or_names_a_link_is_refused(
    shop: tuple[Lake, Bundles, Manifest, Manifest], tmp_path: Path
) -> None:
    _, bundles, first, second = shop
    pointer = bundles.folder / CURRENT
    aside = tmp_path / "aside"
    pointer.rename(aside)
    pointer.symlink_to(aside)
    with pytest.raises(PointerDamaged):
        bundles.current_id()
    pointer.unlink()
    pointer.mkdir()
    with pytest.raises(PointerDamaged):
        bundles.current_id()
    pointer.rmdir()
    os.mkfifo(pointer)
    with pytest.raises(PointerDamaged):
        bundles.current_id()
    pointer.unlink()
    aside.rename(pointer)
    (bundles.folder / second.id).rename(tmp_path / "moved")
    (bundles.folder / second.id).symlink_to(tmp_path / "moved")
    with pytest.raises(PointerDamaged, match=first.id):
        bundles.current_id()


def test_f14_a_pointer_to_a_removed_bundle_is_refused(shop: tuple[Lake, Bundles, Manifest, Manifest]) -> None:
    _, bundles, first, second = shop
    (bundles.folder / second.id).rename(bundles.folder / "elsewhere")
    with pytest.raises(PointerDamaged, match=f"{second.id}, which is not there.*rollback {first.id}"):
        bundles.current_id()


def test_a_publish_mends_a_damaged_pointer(shop: tuple[Lake, Bundles, Manifest, Manifest]) -> None:
    lake, bundles, first, _ = shop
    pointer = bundles.folder / CURRENT
    pointer.chmod(0o644)
    pointer.write_bytes(b"")
    third = published(lake, bundles, export_of(bundles, first))
    assert bundles.current_id() == third.id
    assert (third.sequence, third.previous) == (3, None)


def test_rollback_verifies_moves_and_logs(shop: tuple[Lake, Bundles, Manifest, Manifest]) -> None:
    _, bundles, first, second = shop
    assert bundles.switch(first.id) == first
    assert bundles.current_id() == first.id
    assert [(m["action"], m["from"], m["to"]) for m in bundles.log()] == [
        ("publish", None, first.id),
        ("publish", first.id, second.id),
        ("rollback", second.id, first.id),
    ]
    file = bundles.path(second.id) / "photos.arrow"
    writable(bundles.path(second.id))
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(BundleDamaged, match=r"photos\.arrow"):
        bundles.switch(second.id)
    assert bundles.current_id() == first.id
    assert len(bundles.log()) == 3


@pytest.mark.parametrize("bundle", ["b000009-01234567", "../elsewhere", "", "current", ".lock"])
def test_only_a_bundle_that_is_there_can_be_named(
    shop: tuple[Lake, Bundles, Manifest, Manifest], bundle: str
) -> None:
    _, bundles, _, second = shop
    (bundles.folder.parent / "elsewhere").mkdir()
    for call in (bundles.path, bundles.switch):
        with pytest.raises(NoBundle):
            call(bundle)
    assert bundles.current_id() == second.id


def test_the_list_tells_of_damaged_bundles_and_shows_the_others(
    shop: tuple[Lake, Bundles, Manifest, Manifest],
) -> None:
    _, bundles, first, second = shop
    writable(bundles.path(first.id))
    (bundles.path(first.id) / "manifest.json").write_text("{")
    (bundles.folder / "b000007-aaaaaaaa").mkdir()
    (bundles.folder / "notes").mkdir()
    assert bundles.list() == [second]
    survey = bundles.survey()
    assert [one.id for one in survey] == [first.id, second.id, "b000007-aaaaaaaa"]
    assert [one.current for one in survey] == [False, True, False]
    assert survey[0].damage is not None
    assert "manifest.json" in survey[0].damage
    assert survey[1].damage is None
    assert survey[2].damage is not None
    assert "missing" in survey[2].damage


def test_f25_versions_grow_also_when_the_clock_jumps_back(tmp_path: Path) -> None:
    lake, bundles, first = small_shop(tmp_path, 12)
    export = export_of(bundles, first)
    times = [datetime(2031, 5, 1, tzinfo=UTC) - timedelta(days=400 * n) for n in range(3)]
    made = [published(lake, Bundles(bundles.folder, clock=lambda t=t: t), export) for t in times]
    assert [m.sequence for m in made] == [2, 3, 4]
    assert [m.created_at[:10] for m in made] == ["2031-05-01", "2030-03-27", "2029-02-20"]
    assert [m.id for m in bundles.list()] == [first.id, *(m.id for m in made)]
    bundles.switch(first.id)
    assert published(lake, bundles, export).sequence == 5


def test_a_number_is_never_given_twice_even_if_the_newest_bundles_were_deleted_by_hand(
    shop: tuple[Lake, Bundles, Manifest, Manifest],
) -> None:
    lake, bundles, first, second = shop
    (bundles.folder / second.id).rename(bundles.folder.parent / "gone")
    bundles.switch(first.id)
    assert published(lake, bundles, export_of(bundles, first)).sequence == 3


def test_a_torn_line_in_the_log_loses_only_itself(shop: tuple[Lake, Bundles, Manifest, Manifest]) -> None:
    _, bundles, first, second = shop
    log = bundles.folder / LOG
    with log.open("ab") as file:
        file.write(b'{"time": "2026-03-01", "act')
    bundles.switch(first.id)
    assert [m["to"] for m in bundles.log()] == [first.id, second.id, first.id]
    assert log.read_bytes().endswith(b"\n")


def test_a_logged_move_that_never_happened_is_marked_as_interrupted(
    shop: tuple[Lake, Bundles, Manifest, Manifest],
) -> None:
    _, bundles, first, second = shop
    with (bundles.folder / LOG).open("a") as file:
        move = {"time": "x", "action": "rollback", "from": second.id, "to": first.id}
        file.write(json.dumps(move) + "\n")
    bundles.switch(first.id)
    moves = [(m["action"], m["from"], m["to"]) for m in bundles.log()]
    assert moves[-3:] == [
        ("rollback", second.id, first.id),
        ("interrupted", first.id, second.id),
        ("rollback", second.id, first.id),
    ]


def test_clean_up_never_removes_what_is_current_or_spared(
    shop: tuple[Lake, Bundles, Manifest, Manifest],
) -> None:
    lake, bundles, first, second = shop
    third = published(lake, bundles, export_of(bundles, first))
    bundles.switch(first.id)
    with bundles.publishing(), bundles.moving():
        assert bundles.retain(1, None) == [second.id]
        assert bundles.retain(0, third.id) == []
    assert bundles.ids() == [first.id, third.id]


def test_a_removal_that_is_cut_short_leaves_no_half_bundle_and_the_next_publish_ends_it(
    shop: tuple[Lake, Bundles, Manifest, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake, bundles, first, second = shop

    def killed(folder: Path) -> None:
        (folder / "manifest.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as cut, bundles.publishing(), bundles.moving():
        cut.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            bundles.retain(1)
    assert [one.damage for one in bundles.survey()] == [None] and bundles.ids() == [second.id]
    left = bundles.folder / f"{REMOVING}{first.id}"
    assert left.is_dir()
    (bundles.folder / f"{STAGING}half").mkdir()
    (bundles.folder / f"{MOVING}half").write_text("")
    published(lake, bundles, export_of(bundles, second))
    assert not [one for one in bundles.folder.iterdir() if one.name.startswith((REMOVING, STAGING, MOVING))]


def test_the_bundle_before_is_the_one_that_was_replaced_and_not_just_an_older_one(
    shop: tuple[Lake, Bundles, Manifest, Manifest],
) -> None:
    lake, bundles, first, second = shop
    bundles.switch(first.id)
    third = published(lake, bundles, export_of(bundles, first))
    assert bundles.before(third.id) == first.id and bundles.before(second.id) == first.id


def test_another_thread_is_another_publisher(shop: tuple[Lake, Bundles, Manifest, Manifest]) -> None:
    _, bundles, _, _ = shop
    refused: list[type[Exception]] = []

    def publish() -> None:
        try:
            with bundles.publishing():
                pass
        except PublishBusy as error:
            refused.append(type(error))

    with bundles.publishing(), bundles.publishing():
        other = threading.Thread(target=publish)
        other.start()
        other.join(120)
    assert refused == [PublishBusy]


def test_a_file_of_a_bundle_is_never_written_over(tmp_path: Path) -> None:
    written = write_file(tmp_path / "a", b"first")
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first" and hash_file(tmp_path / "a") == written


HOLDER = """
    import sys
    from etalage.bundle.pointer import Bundles
    with getattr(Bundles(sys.argv[1]), sys.argv[2])():
        print("held", flush=True)
        sys.stdin.read()
"""


def held(bundles: Bundles, lock: str, project: Path) -> subprocess.Popen[str]:
    """Another process that holds `publishing` or `moving` until its stdin is closed."""
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(bundles.folder), lock],
        cwd=project,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_rollback_need_not_wait_for_a_long_publish(
    shop: tuple[Lake, Bundles, Manifest, Manifest], project: Path
) -> None:
    lake, bundles, first, _ = shop
    with held(bundles, "publishing", project) as holder:
        with pytest.raises(PublishBusy, match="somebody else is publishing"):
            published(lake, bundles, export_of(bundles, first))
        bundles.switch(first.id)
        holder.communicate()
    assert published(lake, bundles, export_of(bundles, first)).previous == first.id


def test_a_pointer_that_stays_locked_is_an_error_and_a_killed_holder_locks_nothing(
    shop: tuple[Lake, Bundles, Manifest, Manifest], project: Path
) -> None:
    _, bundles, first, second = shop
    with held(bundles, "moving", project) as holder:
        with pytest.raises(PublishBusy, match="moving the pointer"):
            bundles.switch(first.id, wait=0.05)
        assert bundles.current_id() == second.id
        holder.kill()
    bundles.switch(first.id, wait=0.05)
    assert bundles.current_id() == first.id


def test_a_folder_that_cannot_be_made_is_a_publish_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PublishError, match="cannot write to"), Bundles(tmp_path / "file" / "b").publishing():
        raise AssertionError("unreachable")
