"""Objects of a bucket: conditional PUTs, leases, and errors that say what to do."""

import threading
from pathlib import Path
from typing import Any

import pytest

from etalage.config import ShopConfig, StorageConfig, validated
from etalage.errors import ConfigError, ObjectStoreError
from etalage.lake.erasures import StoredErasures
from etalage.lake.leases import Lease, LeaseHeld
from etalage.lake.object_store import ObjectStore, Stored, Taken
from etalage.lake.places import Place
from tests.object_store import BUCKET, ObjectServer


@pytest.fixture
def store(object_server: ObjectServer, tmp_path: Path) -> ObjectStore:
    return object_server.place(tmp_path.name).store()


def test_an_object_is_created_once_and_replaced_only_as_it_was_read(store: ObjectStore) -> None:
    assert store.read("a") is None and store.head("a") is None
    etag = store.create("a", b"1")
    with pytest.raises(Taken):
        store.create("a", b"2")
    newer = store.replace("a", b"2", etag)
    with pytest.raises(Taken):
        store.replace("a", b"3", etag)
    found = store.read("a")
    assert found is not None and (found.content, found.etag) == (b"2", newer)
    assert store.read("a", found) is found
    store.delete(["a"])
    with pytest.raises(Taken):
        store.replace("a", b"3", newer)
    assert store.read("a", found) is None


def test_a_put_whose_answer_was_lost_has_won(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client tries again, and meets what it wrote itself."""
    put = ObjectStore._put

    def twice(self: ObjectStore, name: str, content: bytes, **condition: str) -> Any:
        put(self, name, content, **condition)
        return put(self, name, content, **condition)

    monkeypatch.setattr(ObjectStore, "_put", twice)
    etag = store.create("a", b"mine")
    assert store.replace("a", b"mine still", etag) != etag


def test_what_lies_beneath_a_prefix_is_listed_by_name_page_by_page(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b/2", "b/1", "a", "b/3"):
        store.put(name, name.encode())
    ask = store._client.list_objects_v2
    monkeypatch.setattr(store._client, "list_objects_v2", lambda **words: ask(**words, MaxKeys=2))
    assert [one.name for one in store.list()] == ["a", "b/1", "b/2", "b/3"]
    assert [(one.name, one.bytes) for one in store.list("b/", after="b/1")] == [("b/2", 3), ("b/3", 3)]
    assert [one.name for one in store.at("b").list()] == ["1", "2", "3"]
    file = tmp_path / "large"
    file.write_bytes(bytes(range(256)) * 40_000)  # 10 MB: in two parts
    store.upload("large", file)
    assert store.download("large", tmp_path / "back") and not store.download("none", tmp_path / "none")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()


def test_a_store_that_does_not_heed_conditions_is_refused_before_anything_is_written(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.require_conditions()
    assert list(store.list()) == []
    put = store._client.put_object

    def heedless(IfNoneMatch: str = "", IfMatch: str = "", **words: Any) -> Any:
        return put(**words)

    monkeypatch.setattr(store._client, "put_object", heedless)
    with pytest.raises(ObjectStoreError, match="does not heed conditional PUTs"):
        store.require_conditions()
    assert list(store.list()) == []


# -- leases ------------------------------------------------------------------------------------


def test_a_lease_is_held_by_one_and_free_when_that_one_has_ended(store: ObjectStore) -> None:
    one, other = Lease(store, "lease"), Lease(store, "lease")
    with one.held(0):
        one.require()
        with pytest.raises(LeaseHeld, match=r"process \d+"), other.held(0):
            pass
    with other.held(0):
        other.require()


def test_who_waits_for_a_lease_has_it_when_it_is_given_back(store: ObjectStore) -> None:
    one, other, had = Lease(store, "lease"), Lease(store, "lease"), threading.Event()

    def wait() -> None:
        with other.held(float("inf")):
            had.set()

    waiting = threading.Thread(target=wait)
    with one.held(0):
        waiting.start()
        assert not had.wait(0.2)
    waiting.join()
    assert had.is_set()


def test_a_lease_that_was_not_renewed_is_anybodys_and_its_holder_is_told(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Lease(store, "lease", seconds=600), Lease(store, "lease", seconds=600)
    with one.held(0):
        head = ObjectStore.head

        def old(self: ObjectStore, name: str) -> Stored | None:
            found = head(self, name)
            return found and Stored(found.name, found.bytes, found.etag, age=601)

        monkeypatch.setattr(ObjectStore, "head", old)
        with other.held(0):
            other.require()
            one._renewed()
            with pytest.raises(ObjectStoreError, match="no sign of life for 600 s"):
                one.require()


# -- who was erased ----------------------------------------------------------------------------


def test_f66_two_machines_that_erase_at_once_remember_both(store: ObjectStore) -> None:
    erasures = [StoredErasures(store) for _ in range(4)]
    threads = [threading.Thread(target=one.remember, args=(f"user-{n}",)) for n, one in enumerate(erasures)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stamp = erasures[0].stamp
    assert len(StoredErasures(store).known()) == 4 and stamp is not None
    with erasures[0].turn():
        erasures[0].came_back(set(erasures[1].known()))
    assert erasures[1].stamp != stamp and all(one.back for one in erasures[2].known().values())


# -- errors ------------------------------------------------------------------------------------


def test_a_bucket_that_is_not_there_is_named(object_server: ObjectServer) -> None:
    place = Place("s3://nobodys-bucket/shop", object_server.url, "us-east-1")
    with pytest.raises(ObjectStoreError, match=r"no bucket 'nobodys-bucket' at http.*make it, or mend"):
        place.store().read("a")
    with pytest.raises(ObjectStoreError, match="no bucket"):
        place.store().require()


def test_a_store_that_is_not_up_is_named_with_its_endpoint(object_server: ObjectServer) -> None:
    place = Place(f"s3://{BUCKET}/shop", "http://127.0.0.1:9", "us-east-1")
    with pytest.raises(ObjectStoreError, match=r"cannot be reached at http://127.0.0.1:9: .* endpoint right"):
        place.store().read("a")


def test_without_credentials_it_is_said_where_they_are_looked_for(
    object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ObjectStoreError, match=r"no credentials were found: set AWS_ACCESS_KEY_ID"):
        object_server.place("shop").store().read("a")
    with pytest.raises(ObjectStoreError, match="no credentials were found"):
        object_server.place("shop").store().options()


@pytest.mark.parametrize(
    ("code", "status", "wanted"),
    [
        ("InvalidAccessKeyId", 403, "refuses the credentials .*AWS_PROFILE"),
        ("SignatureDoesNotMatch", 403, "refuses the credentials"),
        ("AccessDenied", 403, "access is denied .*s3:PutObject"),
        ("PermanentRedirect", 301, "another region .*region in shop.toml"),
        ("SlowDown", 503, r"refused \(503 SlowDown"),
    ],
)
def test_what_a_store_refuses_says_what_to_do(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, code: str, status: int, wanted: str
) -> None:
    from botocore.exceptions import ClientError

    def refuse(**_: Any) -> None:
        raise ClientError(
            {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
            "GetObject",
        )

    monkeypatch.setattr(store._client, "get_object", refuse)
    with pytest.raises(ObjectStoreError, match=wanted):
        store.read("a")


# -- [storage] ---------------------------------------------------------------------------------


def test_bundles_in_a_store_with_vectors_in_a_milvus_are_refused() -> None:
    given = {
        "storage": {"bundles": "s3://bucket/b"},
        "index": {"kind": "milvus", "milvus": {"uri": "http://host:19530"}},
    }
    with pytest.raises(ConfigError, match="do not go together"):
        validated(ShopConfig, given, "shop.toml")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"tables": "/data/tables"}, "expected a bucket and a prefix"),
        ({"tables": "s3://bucket"}, "expected a bucket and a prefix"),
        ({"tables": "gs://bucket/tables"}, "expected a bucket and a prefix"),
        ({"region": "eu-central-1"}, "it would do nothing"),
        (
            {"tables": "s3://bucket/t", "endpoint": "http://minio:9000"},
            "plain http: use https, or set allow_http",
        ),
        ({"tables": "s3://bucket/t", "allow_http": True}, "it would do nothing; remove it"),
        (
            {"tables": "s3://bucket/t", "endpoint": "https://key:secret@minio"},
            "credentials do not belong here",
        ),
        ({"tables": "s3://bucket/shop", "bundles": "s3://bucket/shop/bundles"}, "lie in each other"),
        ({"tables": "s3://bucket/t", "secret_key": "x"}, "unknown key 'secret_key'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(given: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        validated(StorageConfig, given, "shop.toml")
