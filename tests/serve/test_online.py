"""F68: whatever becomes of the online store while a server runs, slates go on and say what they lack, and
events that cannot be kept are 503 with Retry-After, until the store is back."""

import ctypes
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from etalage.errors import ConfigError, StoreUnavailable
from etalage.lake.erasures import Erasures
from etalage.online import Act, LiveStore, Patience, open_live
from etalage.online.marks import Marks, write_marks
from etalage.serve import online
from etalage.serve.online import EMPTIED, UNREADABLE, UNWRITABLE, Online
from tests.redis_server import Redis, running_redis
from tests.serve.servers import ThreadServer, metric, until

SLATES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("similar", {"item_id": "item-00003"}),
    ("recommend", {"user_id": "user-1", "explain": True}),
    ("recommend", {"user_id": "nobody"}),
    ("recommend", {"history": [{"item_id": "item-00004"}]}),
    ("rank", {"pairs": [{"user_id": "user-1", "item_id": "item-00003"}]}),
)
LISTS = ("items", "items/item-00003")
READINGS, WRITINGS = "etalage_online_store_degraded", "etalage_online_store_refusing"


@pytest.fixture(autouse=True)
def _looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was wrong is looked at often."""
    monkeypatch.setattr(online, "LOOK_SECONDS", 0.1)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is let wait by the store gives up after two seconds."""
    monkeypatch.setattr(online, "PATIENCE", Patience(2.0, 2.0))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with running_redis(tmp_path) as server:
        yield server


def sent(server: ThreadServer, name: str) -> httpx.Response:
    event = {"event_id": name, "user_id": "late", "item_id": "item-00009", "kind": "buy"}
    return httpx.post(f"{server.url}/v1/events", json={"events": [event]}, timeout=120)


def ready(server: ThreadServer) -> dict[str, Any]:
    response = httpx.get(f"{server.url}/readyz")
    assert response.status_code == 200, "who serves slates stays in the pool of servers"
    found: dict[str, Any] = response.json()
    return found


def slates(server: ThreadServer) -> Iterator[dict[str, Any]]:
    """Everything that can be answered without the online store, answered."""
    for route, body in SLATES:
        response = httpx.post(f"{server.url}/v1/{route}", json=body, timeout=120)
        assert response.status_code == 200, (route, body, response.text)
        yield response.json()
    for path in LISTS:
        response = httpx.get(f"{server.url}/v1/{path}", timeout=120)
        assert response.status_code == 200, (path, response.text)
        yield response.json()


def works(server: ThreadServer) -> None:
    """All is well, and is said to be."""
    until(lambda: ready(server)["status"] == "ready")
    assert ready(server)["degraded"] is None
    assert [answer["degraded"] for answer in slates(server)] == [None] * len([*SLATES, *LISTS])
    assert (metric(server.url, READINGS), metric(server.url, WRITINGS)) == (0, 0)


def lacks(server: ThreadServer, what: str) -> None:
    """Slates are answered; each says what it lacks, and so do /readyz and the metric."""
    assert {answer["degraded"] for answer in slates(server)} == {what}
    assert ready(server)["status"] == "degraded" and what in ready(server)["degraded"]
    assert metric(server.url, READINGS) == 1


def refuses(server: ThreadServer, name: str) -> None:
    """Events and erasures are 503 with Retry-After, and /readyz and the metric say that they are."""
    for response in (sent(server, name), httpx.delete(f"{server.url}/v1/users/user-2", timeout=120)):
        assert (response.status_code, response.json()["error"]["class"]) == (503, "StoreUnavailable")
        assert response.headers["retry-after"] == "1" and response.json()["error"]["message"] == UNWRITABLE
    assert ready(server)["status"] == "degraded" and UNWRITABLE in ready(server)["degraded"]
    assert metric(server.url, WRITINGS) == 1


def history(server: ThreadServer, user: str) -> list[str]:
    found = httpx.get(f"{server.url}/v1/users/{user}/history", timeout=120).json()
    return [act["item_id"] for act in found["acts"]]


def store_of(bundles: Path) -> Path:
    return bundles.parent / "live" / "events.sqlite"


@contextmanager
def locked(file: Path) -> Iterator[None]:
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


# -- SQLite ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_f68_while_somebody_holds_the_lock_slates_lack_nothing_and_events_are_refused(
    shop_copy: Path,
) -> None:
    with ThreadServer(shop_copy) as server:
        works(server)
        with locked(store_of(shop_copy)):
            refuses(server, "e1")
            assert {answer["degraded"] for answer in slates(server)} == {None}
            assert metric(server.url, READINGS) == 0
        works(server)
        assert sent(server, "e1").json()["accepted"] == 1, "what was refused was not kept: it is sent again"
        assert history(server, "user-2")


def test_f68_a_deleted_store_is_noticed_and_no_event_goes_into_a_file_that_nobody_finds(
    shop_copy: Path,
) -> None:
    with ThreadServer(shop_copy) as server:
        works(server)
        assert sent(server, "e1").json()["accepted"] == 1
        shutil.rmtree(store_of(shop_copy).parent)
        assert sent(server, "e2").json()["accepted"] == 1
        lacks(server, EMPTIED)
        assert history(server, "late") == ["item-00009"] and history(server, "user-1") == []
        # What a publish does, in another process:
        again = open_live(store_of(shop_copy))
        assert [event.event_id for _, event in again.events(0, 9)] == ["e2"]
        again.seed([("user-1", Act("item-00005", "buy", None, 5))])
        works(server)
        assert history(server, "user-1") == ["item-00005"]


def test_f66_a_store_that_is_replaced_while_a_server_runs_is_told_who_was_erased(shop_copy: Path) -> None:
    """By `etalage erase`, which the tables remember: a copy that comes back does not bring them back."""
    live = store_of(shop_copy).parent
    erasures = Erasures(shop_copy.parent / "tables")
    with ThreadServer(shop_copy) as server:
        works(server)
        assert history(server, "user-1") and history(server, "user-2")
        shutil.copytree(live, live.with_name("copy"))
        erasures.remember("user-1")
        until(lambda: history(server, "user-1") == [])
        shutil.rmtree(live)
        live.with_name("copy").rename(live)
        until(lambda: history(server, "user-2") != [] and history(server, "user-1") == [])
        long_ago = {"event_id": "e1", "user_id": "user-1", "item_id": "item-00009", "time": 1_700_000_000}
        done = httpx.post(f"{server.url}/v1/events", json={"events": [long_ago]}, timeout=120).json()
        assert (done["accepted"], done["erased"]) == (0, 1)


def test_f66_where_the_list_of_the_erased_cannot_be_read_events_are_kept(
    shop_copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (shop_copy.parent / "tables").mkdir(exist_ok=True)
    (shop_copy.parent / "tables" / "erased.json").write_text("[")
    with ThreadServer(shop_copy) as server:
        works(server)
        assert sent(server, "e1").json()["accepted"] == 1
    told = [one for one in caplog.records if "cannot be told who was erased" in one.message]
    assert len(told) == 1 and "erased.json" in told[0].getMessage()


def test_f68_a_store_that_is_deleted_in_the_middle_of_a_write_is_written_again(tmp_path: Path) -> None:
    """Deleted between the first statement and the commit: the answer is no, and the next one is kept."""
    from etalage.online import Event
    from etalage.online.sqlite_store import SqliteStore

    file = tmp_path / "live" / "events.sqlite"
    store = SqliteStore(file)
    event = Event("e1", "ann", Act("hat"))
    with pytest.raises(StoreUnavailable, match="was deleted"), store._transaction() as run:
        run("UPDATE counters SET value = value + 1")
        shutil.rmtree(file.parent)
    assert store.append([event]).accepted == 1
    log = file.with_name(f"{file.name}-wal")
    with pytest.raises(StoreUnavailable, match="was deleted"), store._transaction() as run:
        run("UPDATE counters SET value = value + 1")
        log.unlink()
    assert store.append([event, Event("e2", "ann", Act("cap"))]).accepted >= 1
    assert {act.item_id for act in open_live(file).history("ann", 9)} == {"hat", "cap"}


def exchange(one: Path, other: Path) -> None:
    """Each has the other's name, at once (renameat2's RENAME_EXCHANGE): a server that looks in between finds
    nothing missing, and makes nothing new."""
    assert ctypes.CDLL(None).renameat2(-100, bytes(one), -100, bytes(other), 2) == 0


@pytest.mark.parametrize("damage", ["torn", "a folder"])
def test_f68_a_server_starts_with_a_store_that_cannot_be_opened(shop_copy: Path, damage: str) -> None:
    file = store_of(shop_copy)
    whole = file.read_bytes()
    if damage == "torn":
        file.write_bytes(b"no database at all" * 500)
    else:
        file.unlink()
        file.mkdir()
    with ThreadServer(shop_copy) as server:
        lacks(server, UNREADABLE)
        refuses(server, "e1")
        for path in ("users", "users/user-1/history"):
            response = httpx.get(f"{server.url}/v1/{path}")
            assert (response.status_code, response.headers["retry-after"]) == (503, "1"), (
                "only the store knows"
            )
        repaired = file.with_name("repaired")
        repaired.write_bytes(whole)
        exchange(repaired, file)
        works(server)
        assert sent(server, "e1").json()["accepted"] == 1 and history(server, "user-1")


LAUNCH = """
import sys
from pathlib import Path
from etalage.config import ServeConfig
from etalage.online import Patience
from etalage.serve import online
from etalage.serve.run import run
online.PATIENCE, online.LOOK_SECONDS = Patience(240.0, 240.0), 0.1
run(Path(sys.argv[1]), ServeConfig(port=0))
"""


@contextmanager
def on_a_disk(bundles: Path, place: Path, mount: str) -> Iterator[tuple[Any, Callable[[str], Path]]]:
    """A server whose shop lies on a disk of its own, and where that disk is seen from here.

    `mount`: a shell script that fills $1 from $2.
    """
    place.mkdir()
    flags = ["-m"] if os.geteuid() == 0 else ["-r", "-m"]
    if subprocess.run(["unshare", *flags, "true"], capture_output=True).returncode:
        pytest.skip("this system lets us make no mount namespace")
    script = f'{mount}; exec "$3" -c "$4" "$1/bundles"'
    words = ["unshare", *flags, "bash", "-ec", script, "bash", str(place), str(bundles.parent)]
    process = subprocess.Popen([*words, sys.executable, LAUNCH], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None

        class Running:
            url = process.stdout.readline().strip()

        assert Running.url.startswith("http://")
        yield Running(), lambda path: Path(f"/proc/{process.pid}/root{place}/{path}")
    finally:
        process.terminate()
        process.wait(120)


def test_f68_on_a_full_disk_slates_lack_nothing_and_events_are_refused_until_there_is_room(
    shop_copy: Path, tmp_path: Path
) -> None:
    mount = 'mount -t tmpfs -o size=16m none "$1"; cp -r "$2"/. "$1"'
    with on_a_disk(shop_copy, tmp_path / "disk", mount) as (server, seen):
        works(server)
        filling = seen("filling")
        with filling.open("wb", buffering=0) as file:
            try:
                while file.write(b"\0" * 65_536):
                    pass
            except OSError:
                pass
        until(lambda: ready(server)["status"] == "degraded")
        refuses(server, "e1")
        assert {answer["degraded"] for answer in slates(server)} == {None}
        filling.unlink()
        works(server)
        assert sent(server, "e1").json()["accepted"] == 1


def test_f68_on_a_read_only_disk_slates_go_on_and_events_are_refused(shop_copy: Path, tmp_path: Path) -> None:
    mount = 'mount -t tmpfs none "$1"; cp -r "$2"/. "$1"; mount -o remount,ro "$1"'
    with on_a_disk(shop_copy, tmp_path / "disk", mount) as (server, _):
        refuses(server, "e1")
        list(slates(server))


# -- Redis -------------------------------------------------------------------------------------


def filled(redis: Redis) -> None:
    store = open_live(redis.uri)
    store.seed([("user-1", Act("item-00005", "buy", None, 5)), ("user-2", Act("item-00006", "buy", None, 6))])
    store.close()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", ["down", "hung"])
def test_f68_with_redis_down_or_hung_slates_go_on_and_events_are_refused(
    shop_copy: Path, redis: Redis, how: str
) -> None:
    filled(redis)
    with ThreadServer(shop_copy, live=redis.uri) as server:
        works(server)
        assert sent(server, "e1").json()["accepted"] == 1
        if how == "down":
            redis.stop()
        else:
            redis.process.send_signal(signal.SIGSTOP)
        lacks(server, UNREADABLE)
        refuses(server, "e2")
        if how == "down":
            redis.start()
            # It kept nothing: that is said too, until the next publish.
            until(lambda: ready(server)["degraded"] == EMPTIED)
            filled(redis)
        else:
            redis.process.send_signal(signal.SIGCONT)
        works(server)
        again = sent(server, "e2").json()
        # One that hung may have read the refused event before it went on: it is kept once all the same.
        assert (again["accepted"], again["repeated"]) in [(1, 0), *([(0, 1)] if how == "hung" else [])]


def test_f68_while_the_store_is_away_stock_and_prices_are_as_they_were_known_last(
    shop_copy: Path, redis: Redis
) -> None:
    filled(redis)
    with ThreadServer(shop_copy, live=redis.uri) as server:
        works(server)

        def shown() -> tuple[bool | None, float | None]:
            item = httpx.get(f"{server.url}/v1/items/item-00003", timeout=120).json()["item"]
            return item["in_stock"], item["price"]

        store = open_live(redis.uri)
        store.set_items({"item-00003": {"in_stock": False, "price": 1.5}})
        store.close()
        until(lambda: shown() == (False, 1.5))
        redis.stop()
        lacks(server, UNREADABLE)
        assert shown() == (False, 1.5)


def test_f68_a_redis_that_was_emptied_is_told_from_one_that_knows_nothing(
    shop_copy: Path, redis: Redis
) -> None:
    filled(redis)
    with ThreadServer(shop_copy, live=redis.uri) as server:
        works(server)
        redis.client().flushall()
        lacks(server, EMPTIED)
        assert sent(server, "e1").json()["accepted"] == 1, "a new store takes events all the same"
        lacks(server, EMPTIED)
        filled(redis)
        works(server)


def test_f68_a_redis_that_takes_no_writes_refuses_events_and_slates_lack_nothing(
    shop_copy: Path, redis: Redis
) -> None:
    filled(redis)
    client = redis.client()
    with ThreadServer(shop_copy, live=redis.uri) as server:
        works(server)
        client.config_set("maxmemory", "1")
        refuses(server, "e1")
        assert {answer["degraded"] for answer in slates(server)} == {None}
        client.config_set("maxmemory", "0")
        works(server)


def test_f68_nobody_waits_for_a_store_that_has_just_let_another_one_wait(tmp_path: Path) -> None:
    watched = Online(tmp_path / "events.sqlite")

    def locked(_: LiveStore) -> None:
        raise StoreUnavailable("database is locked")

    asked: list[LiveStore] = []
    for ask in (watched.writing, watched.reading):
        with pytest.raises(StoreUnavailable):
            ask(locked)
        with pytest.raises(StoreUnavailable):
            ask(asked.append)
    assert asked == []
    watched.look()
    watched.writing(asked.append)
    watched.reading(asked.append)
    assert len(asked) == 2
    watched.close()


def test_f68_a_store_that_always_answers_late_is_gone_without_until_it_is_quick_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call within its patience, all of them together holding the only scorer for seconds."""
    now = [0.0]
    monkeypatch.setattr(online, "monotonic", lambda: now[0])
    monkeypatch.setattr(online, "PATIENCE", Patience(1.0, 1.0))

    def late(store: LiveStore) -> list[Act]:
        now[0] += 1.5
        return store.history("ann", 3)

    watched = Online(tmp_path / "events.sqlite")
    quick = watched.reading(lambda store: store.history("ann", 3))
    for _ in range(2):
        watched.reading(late)
        assert watched.reading(lambda store: store.history("ann", 3)) == quick, "late once is no fault"
    for _ in range(2):
        assert watched.reading(late) == []
        now[0] += 9
    items = type(watched._store).items

    def late_items(store: LiveStore) -> object:
        now[0] += 0.3
        return items(store)  # type: ignore[arg-type]

    with monkeypatch.context() as looked:
        looked.setattr(type(watched._store), "items", late_items)
        watched.look()
        assert watched.degraded is None
    assert watched.reading(late) == []
    assert watched.degraded == UNREADABLE
    with pytest.raises(StoreUnavailable):
        watched.reading(late)
    monkeypatch.setattr(type(watched._store), "items", late_items)
    watched.look()
    assert watched.degraded == UNREADABLE, "it answers, and still late"
    monkeypatch.setattr(type(watched._store), "items", items)
    watched.look()
    assert watched.degraded is None and watched.reading(lambda store: store.history("ann", 3)) == []
    watched.close()


def test_f68_a_server_starts_while_redis_is_down(shop_copy: Path, redis: Redis) -> None:
    redis.stop()
    with ThreadServer(shop_copy, live=redis.uri) as server:
        lacks(server, UNREADABLE)
        redis.start()
        works(server)


# -- what is remembered ------------------------------------------------------------------------


def test_f68_a_server_that_starts_after_the_store_was_replaced_says_so(shop_copy: Path) -> None:
    """The shop remembers which store the newest publish filled."""
    store = open_live(store_of(shop_copy))
    write_marks(store_of(shop_copy).parent, Marks(seeded=store.about().store_id))
    store.close()
    with ThreadServer(shop_copy) as server:
        works(server)
    store_of(shop_copy).unlink()
    with ThreadServer(shop_copy) as server:
        lacks(server, EMPTIED)


def test_f68_a_shop_that_was_never_filled_lacks_nothing(served_shop: Path, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(served_shop.parent, shop)
    shutil.rmtree(shop / "live", ignore_errors=True)
    with ThreadServer(shop / "bundles") as server:
        assert ready(server)["status"] == "ready"


def test_a_store_of_no_known_kind_is_still_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="redis://"):
        Online("mongodb://localhost")


@pytest.mark.usefixtures("impatient")
def test_f68_the_log_has_a_line_when_it_fails_and_one_when_it_is_back(
    shop_copy: Path, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    filled(redis)
    with caplog.at_level(logging.INFO, "etalage.serve"), ThreadServer(shop_copy, live=redis.uri) as server:
        works(server)
        caplog.clear()
        redis.process.send_signal(signal.SIGSTOP)
        for _ in range(3):
            list(slates(server))
        refuses(server, "e1")
        redis.process.send_signal(signal.SIGCONT)
        works(server)
        lines = [record.getMessage() for record in caplog.records if record.name == "etalage.serve"]
    for start in (
        "slates go on without",
        "events are refused",
        "the online store can be read",
        "the online store takes",
    ):
        assert sum(line.startswith(start) for line in lines) == 1, lines
    assert len(lines) == 4
