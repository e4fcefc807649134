"""Bundles in an object store: published by conditional PUTs, fetched by hash, opened as from a folder."""

import json
import signal
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from etalage.bundle import stored
from etalage.bundle.manifest import verify
from etalage.bundle.pointer import Bundles
from etalage.bundle.stored import StoredBundles
from etalage.bundle.sync import sync
from etalage.config import IndexConfig, PublishConfig
from etalage.errors import BundleDamaged, NoBundle, ObjectStoreError, PublishBusy, PublishError
from etalage.lake.delta import Lake
from etalage.lake.leases import Lease
from etalage.lake.object_store import ObjectStore
from etalage.recommend import Recommender
from tests.conftest import PROJECT
from tests.exports import tiny_export
from tests.object_store import ObjectServer
from tests.shops import fill, published


class Shop:
    """A local lake, an export, and bundles in the store; `bundles()` are those of another machine."""

    def __init__(self, folder: Path, server: ObjectServer) -> None:
        self.folder, self.place = folder, server.place(f"{folder.name}/bundles")
        self.lake = Lake(folder / "tables")
        fill(self.lake, range(12))
        self.export = tiny_export(folder / "exports" / "image_similarity" / "0001-tiny", 28, 1, 16, 0)
        self.here = self.bundles("here")

    def bundles(self, machine: str) -> StoredBundles:
        return StoredBundles(self.place.store(), self.folder / machine / "bundles", lease_seconds=3600)

    def publish(self, bundles: Bundles | None = None, **config: Any) -> str:
        made = published(self.lake, bundles or self.here, self.export, config=PublishConfig(**config))
        return made.id

    def end_leases(self) -> None:
        """As when they have run out."""
        self.place.store().delete(["publishing.lease", "moving.lease"])

    def sync(self) -> str:
        config, exports = PublishConfig(), self.folder / "exports"
        done = sync(self.lake, self.here, config=config, index_config=IndexConfig(), exports=exports)
        assert done.manifest is not None
        return done.manifest.id

    def hashes(self, bundle: str) -> set[str]:
        return {one.sha256 for one in self.here.manifest(bundle).files.values()}

    def names(self, prefix: str = "") -> list[str]:
        return [one.name for one in self.place.store().list(prefix)]


@pytest.fixture
def shop(tmp_path: Path, object_server: ObjectServer) -> Shop:
    return Shop(tmp_path, object_server)


def test_a_bundle_that_was_published_is_opened_on_another_machine(shop: Shop) -> None:
    with pytest.raises(NoBundle, match="nothing was published yet"):
        shop.here.current_id()
    first = shop.publish()
    there = shop.bundles("there")
    assert there.current_id() == first and there.ids() == [first]
    folder = there.path(first)
    assert verify(folder) == verify(shop.here.path(first)) and folder.is_relative_to(shop.folder / "there")
    assert Recommender.open(folder).bundle == first
    assert [(one["action"], one["from"], one["to"]) for one in there.log()] == [("publish", None, first)]


def test_what_two_bundles_share_is_stored_and_fetched_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shop.publish()
    there = shop.bundles("there")
    there.path(first)
    before = set(shop.names("files/"))
    fill(shop.lake, [12])
    second = shop.sync()
    assert second == shop.here.current_id() != first
    shared = shop.hashes(first) & shop.hashes(second)
    assert shared and set(shop.names("files/")) - before == {
        f"files/{one}" for one in shop.hashes(second) - shared
    }
    fetched: list[str] = []
    download = ObjectStore.download

    def noted(self: ObjectStore, name: str, file: Path) -> bool:
        fetched.append(name)
        return download(self, name, file)

    monkeypatch.setattr(ObjectStore, "download", noted)
    verify(there.path(second))
    assert fetched and not {f"files/{one}" for one in shared} & set(fetched)


def test_rollback_makes_an_older_bundle_current_and_is_logged(shop: Shop) -> None:
    first, second = shop.publish(), shop.publish()
    there = shop.bundles("there")
    assert there.before(there.current_id()) == first
    assert there.switch(first).id == first and shop.here.current_id() == first
    moves = [(one["action"], one["from"], one["to"]) for one in shop.here.log()]
    assert moves == [("publish", None, first), ("publish", first, second), ("rollback", second, first)]
    assert shop.publish().startswith("b000003-")


def test_old_bundles_and_the_files_that_they_alone_had_are_removed(shop: Shop) -> None:
    made = [shop.publish(keep=2)]
    there = shop.bundles("there")
    there.path(made[0])
    for number in (12, 13):
        fill(shop.lake, [number])
        made.append(shop.publish(keep=2))
    assert shop.here.ids() == made[1:]
    named = shop.hashes(made[1]) | shop.hashes(made[2])
    assert set(shop.names("files/")) == {f"files/{one}" for one in named}
    there.path(made[2])
    assert not (there.folder / made[0]).exists()


@pytest.mark.parametrize("how", ["changed", "missing"])
def test_f13_a_file_that_is_not_as_it_was_is_named_and_nothing_is_left_of_it(shop: Shop, how: str) -> None:
    first = shop.publish()
    name, facts = next(iter(shop.here.manifest(first).files.items()))
    store = shop.place.store()
    if how == "missing":
        store.delete([f"files/{facts.sha256}"])
    else:
        found = store.read(f"files/{facts.sha256}")
        assert found is not None
        store.put(f"files/{facts.sha256}", found.content[:-1] + bytes([found.content[-1] ^ 1]))
    there = shop.bundles("there")
    with pytest.raises(BundleDamaged, match=f"{facts.sha256} .*{name}.*publish again"):
        there.path(first)
    assert not any(one.is_dir() for one in there.folder.iterdir())


def test_a_cached_bundle_that_was_changed_is_fetched_again(shop: Shop) -> None:
    first = shop.publish()
    file = shop.bundles("there").path(first) / "items.arrow"
    file.chmod(0o644)
    file.write_bytes(b"other")
    assert verify(shop.bundles("there").path(first)).id == first


def test_nothing_is_published_into_a_store_that_does_not_heed_conditions(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = ObjectStore._put
    monkeypatch.setattr(ObjectStore, "_put", lambda self, name, content, **_: put(self, name, content))
    with pytest.raises(ObjectStoreError, match="does not heed conditional PUTs"):
        shop.publish()
    assert shop.names() == []


# -- several publishers ------------------------------------------------------------------------


def test_f17_of_two_publishers_one_is_told_who_is_at_work(shop: Shop) -> None:
    there = shop.bundles("there")
    with shop.here.publishing(), pytest.raises(PublishBusy, match=r"is publishing in s3://.*process \d+"):
        shop.publish(there)
    assert shop.publish(there) == there.current_id()


def test_f17_a_publisher_that_lost_its_lease_does_not_move_the_pointer(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that slept: the lease ran out, somebody else published, and it wakes up before its last PUT."""
    first = shop.publish()
    there = shop.bundles("there")
    append = StoredBundles._append

    def asleep(self: StoredBundles, *arguments: Any) -> None:
        append(self, *arguments)
        monkeypatch.setattr(StoredBundles, "_append", append)
        monkeypatch.setattr(Lease, "require", lambda _: None)
        shop.end_leases()
        shop.publish(there)

    monkeypatch.setattr(StoredBundles, "_append", asleep)
    with pytest.raises(PublishBusy, match=r"somebody else made b000003-\w+ current"):
        shop.publish()
    assert there.current_id() == shop.bundles("third").current_id() != first
    shop.publish(there)
    assert [one["action"] for one in there.log()] == [
        "publish",
        "publish",
        "interrupted",
        "publish",
        "publish",
    ]


def test_f24_rollback_and_publish_race_in_one_order(shop: Shop) -> None:
    first, _ = shop.publish(), shop.publish()
    racing = threading.Thread(target=lambda: shop.bundles("there").switch(first, wait=600))
    racing.start()
    shop.publish()
    racing.join()
    moves = shop.here.log()
    assert sorted(one["action"] for one in moves) == ["publish", "publish", "publish", "rollback"]
    assert all(one["from"] == before["to"] for before, one in pairwise(moves))
    assert moves[-1]["to"] == shop.here.current_id()


PUBLISHER = """
import sys, json
from pathlib import Path
from etalage.bundle.stored import StoredBundles
from etalage.lake.delta import Lake
from etalage.lake.leases import Lease
from etalage.lake.object_store import ObjectStore
from etalage.lake.object_store import ObjectStore
from etalage.lake.places import Place
from tests.shops import published
place, folder, stop = Place(*json.loads(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
bundles = StoredBundles(place.store(), folder / "killed" / "bundles", lease_seconds=3600)
for verb in ("put", "create", "replace", "upload"):
    def one(self, name, *rest, _do=getattr(ObjectStore, verb)):
        if name.startswith(stop):
            print("there", flush=True)
            sys.stdin.read()
        return _do(self, name, *rest)
    setattr(ObjectStore, verb, one)
published(Lake(folder / "tables"), bundles, folder / "exports" / "image_similarity" / "0001-tiny")
"""


@pytest.mark.parametrize(
    "stop",
    ["manifests/", "current", *(pytest.param(n, marks=pytest.mark.slow) for n in ("files/", "log.jsonl"))],
)
def test_f1_a_publisher_killed_before_any_of_its_writes_leaves_the_old_bundle(shop: Shop, stop: str) -> None:
    first = shop.publish()
    fill(shop.lake, [12])
    place = json.dumps([shop.place.uri, shop.place.endpoint, shop.place.region])
    killed = subprocess.Popen(
        [sys.executable, "-c", PUBLISHER, place, str(shop.folder), stop],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=PROJECT,
    )
    assert killed.stdout is not None and killed.stdout.readline() == b"there\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert shop.here.current_id() == first and verify(shop.here.path(first)).id == first
    with pytest.raises(PublishBusy, match=f"process {killed.pid}"):
        shop.publish()
    shop.end_leases()
    shop.publish()
    assert shop.here.current_id() != first and verify(shop.bundles("there").path(shop.here.current_id()))
    assert shop.here.log()[-1]["to"] == shop.here.current_id()


def test_files_that_no_manifest_names_are_removed_once_they_are_old(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = shop.place.store()
    store.put("files/" + "0" * 64, b"left by a publisher that was killed")
    shop.publish()
    assert "files/" + "0" * 64 in shop.names()
    monkeypatch.setattr(stored, "LEFT_FOR", -1.0)
    shop.publish()
    assert "files/" + "0" * 64 not in shop.names()


# -- the store itself --------------------------------------------------------------------------


def test_a_store_that_fails_in_the_middle_of_a_publish_says_how_to_go_on(
    shop: Shop, object_server: ObjectServer
) -> None:
    first = shop.publish()
    fill(shop.lake, [12])
    upload = ObjectStore.upload

    def failing(self: ObjectStore, name: str, file: Path) -> None:
        object_server.fail(True)
        upload(self, name, file)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ObjectStore, "upload", failing)
        try:
            with pytest.raises(PublishError, match=r"publish failed: .*503.* when the store is back"):
                shop.publish()
        finally:
            object_server.fail(False)
    assert shop.here.current_id() == first
    shop.end_leases()
    assert shop.publish() == shop.here.current_id() != first
