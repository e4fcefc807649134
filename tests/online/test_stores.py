"""The online store, once in a SQLite file and once in a real Redis."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.errors import ConfigError, DataError, Unprocessable
from etalage.lake.erasures import digest
from etalage.online import Act, Event, LiveStore, open_live
from etalage.online.contract import clock, merged_change
from tests.redis_server import running_redis

MINUTE = 60_000_000
Open = Callable[[], LiveStore]


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server.uri


@pytest.fixture(params=["sqlite", "redis"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the same store again and again."""
    uri: str | Path = tmp_path / "shop" / "live.sqlite"
    if request.param == "redis":
        uri = f"{request.getfixturevalue('redis_server')}?prefix={tmp_path.name}"
    stores: list[LiveStore] = []

    def open_it() -> LiveStore:
        stores.append(open_live(uri))
        return stores[-1]

    yield open_it
    for store in stores:
        store.close()


@pytest.fixture
def store(opened: Open) -> LiveStore:
    return opened()


DAY = 1_700_000_000_000_000
"""Microseconds; `at` counts from here, unless it is a moment of today."""


def event(number: int, user: str = "ann", item: str = "hat", at: int = 0, kind: str = "view") -> Event:
    return Event(f"e{number}", user, Act(item, kind, None, at if at > DAY else DAY + at))


def test_a_history_is_in_order_of_time_whatever_the_order_of_arrival(store: LiveStore, opened: Open) -> None:
    store.append([event(1, item="hat", at=300), event(2, item="scarf", at=100)])
    store.append([event(3, item="boots", at=200), event(4, "bob", "coat", 250)])
    assert [act.item_id for act in store.history("ann", 10)] == ["scarf", "boots", "hat"]
    assert [act.item_id for act in store.history("ann", 2)] == ["boots", "hat"]
    assert store.history("nobody", 5) == []
    assert opened().history("bob", 5) == [Act("coat", "view", None, DAY + 250)]


def test_acts_of_one_time_stay_in_order_of_arrival(store: LiveStore) -> None:
    store.append([event(n, item=f"item-{n}", at=7) for n in range(12)])
    assert [act.item_id for act in store.history("ann", 3)] == ["item-9", "item-10", "item-11"]


def test_f50_a_repeated_event_counts_once_and_a_late_one_takes_its_place(store: LiveStore) -> None:
    first = store.append([event(1, at=100), event(2, at=300), event(1, at=100)])
    assert (first.accepted, first.repeated, first.quarantined) == (2, 1, 0)
    again = store.append([event(2, at=300), event(3, item="late", at=200)])
    assert (again.accepted, again.repeated) == (1, 1)
    assert [act.time for act in store.history("ann", 9)] == [DAY + 100, DAY + 200, DAY + 300]


def test_f50_the_future_is_quarantined_and_five_minutes_of_it_are_not(store: LiveStore) -> None:
    now = clock()
    done = store.append(
        [event(1, at=now + 4 * MINUTE), event(2, item="tomorrow", at=now + 1440 * MINUTE), event(3, at=now)]
    )
    assert (done.accepted, done.repeated, done.quarantined) == (2, 0, 1)
    assert "'e2'" in done.reasons[0] and "minutes ahead" in done.reasons[0]
    assert "tomorrow" not in [act.item_id for act in store.history("ann", 9)]
    assert [found.event_id for _, found in store.events(0, 9)] == ["e1", "e3"]


def test_an_event_without_a_time_happened_when_it_arrived(store: LiveStore) -> None:
    before = clock()
    store.append([Event("e1", "ann", Act("hat", "buy", 2.5))])
    (act,) = store.history("ann", 1)
    assert (act.item_id, act.kind, act.value) == ("hat", "buy", 2.5)
    assert act.time is not None and before <= act.time <= clock()


def test_events_go_back_into_the_lake_in_order_of_arrival_page_by_page(store: LiveStore) -> None:
    store.seed([("ann", Act("old", "buy", None, 1))])
    sent = [event(n, item=f"item-{n}", at=1000 - n) for n in range(7)]
    store.append(sent)
    found: list[Event] = []
    after = 0
    while page := store.events(after, 3):
        after = page[-1][0]
        found += [one for _, one in page]
    assert found == sent


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (Event("", "ann", Act("hat")), "event_id is missing"),
        (Event("e", "", Act("hat")), "user_id is missing"),
        (Event("e", " ", Act("hat")), "user_id is missing: blanks"),
        (Event("e", "ann", Act("h" * 600)), "600 characters"),
        (Event("e", "an\ud800n", Act("hat")), "surrogate"),
        (Event("e", "ann", Act("h\x00t")), "NUL"),
    ],
)
def test_an_id_that_cannot_be_one_is_refused_and_nothing_of_its_batch_is_kept(
    store: LiveStore, bad: Event, said: str
) -> None:
    with pytest.raises(Unprocessable, match=said):
        store.append([event(1), bad])
    assert store.history("ann", 5) == []


def test_f30_ids_that_look_alike_are_different_shoppers(store: LiveStore) -> None:
    names = ["café", "cafe\u0301", "CAFÉ", " café", "ق", "a:b", "a*", "a?"]
    store.append([event(n, name, f"item-{n}", n + 1) for n, name in enumerate(names)])
    for n, name in enumerate(names):
        assert [act.item_id for act in store.history(name, 9)] == [f"item-{n}"]
    assert store.history("half \ud800 pair", 3) == []


def test_f57_an_erased_shopper_is_gone_and_nobody_else(store: LiveStore) -> None:
    store.seed([("ann", Act("old", "buy", None, 1)), ("bob", Act("old", "buy", None, 1))])
    far = clock() + 60 * MINUTE
    store.append([event(1, at=5), event(2, at=far), event(3, "bob", at=6)])
    assert store.erase("ann") == 3
    assert store.history("ann", 9) == []
    assert [one.user_id for _, one in store.events(0, 9)] == ["bob"]
    assert store.erase("ann") == 0
    assert len(store.history("bob", 9)) == 2
    assert store.users(9) == ["bob"]


def test_f57_nothing_of_an_erased_shopper_is_left_in_the_file(tmp_path: Path) -> None:
    store = open_live(tmp_path / "live.sqlite")
    name = "a-name-that-nobody-else-has"
    store.append([event(n, name, f"item-{n}", n + 1) for n in range(50)] + [event(99, "bob")])
    assert name.encode() in b"".join(p.read_bytes() for p in tmp_path.iterdir())
    store.erase(name)
    assert name.encode() not in b"".join(p.read_bytes() for p in tmp_path.iterdir())
    store.close()


def test_f66_what_an_erased_shopper_did_is_not_taken_again(store: LiveStore, opened: Open) -> None:
    """Sent again by a queue that never heard of the erasure, seeded by a bundle that was read before it."""
    now = clock()
    timeless = Event("e9", "ann", Act("bag", "view"))
    store.append([event(1, at=5), timeless, event(2, "bob", at=6), event(3, at=now + 60 * MINUTE)])
    assert store.erase("ann") == 3
    again = opened().append([event(1, at=5), event(4, at=7), timeless, event(3, at=now + 60 * MINUTE)])
    assert (again.accepted, again.repeated, again.quarantined, again.erased) == (0, 0, 0, 4)
    past = [("ann", Act("hat", "buy", None, DAY)), ("ann", Act("cap", "buy", None, None))]
    assert store.seed([*past, ("bob", Act("hat", "buy", None, DAY))]) == 1
    assert store.history("ann", 9) == [] and store.users(9) == ["bob"]
    assert [one.user_id for _, one in store.events(0, 9)] == ["bob"]


def test_f66_what_they_do_from_then_on_is_taken(store: LiveStore) -> None:
    store.append([event(1, at=5)])
    store.erase("ann")
    done = store.append([Event("e2", "ann", Act("hat")), event(3, at=clock() + MINUTE), event(4, at=9)])
    assert (done.accepted, done.erased) == (2, 1)
    assert [act.item_id for act in store.history("ann", 9)] == ["hat", "hat"] and store.users(9) == ["ann"]


def test_f66_who_is_erased_while_histories_are_seeded_is_not_in_them(store: LiveStore, opened: Open) -> None:
    """The erasure comes when half is written: SQLite makes it wait, Redis writes, and takes it out."""
    other = opened()
    done: list[int] = []
    erasing = threading.Thread(target=lambda: done.append(other.erase("ann")))

    def acts() -> Iterator[tuple[str, Act]]:
        yield "ann", Act("hat", "buy", None, DAY)
        erasing.start()
        yield "bob", Act("hat", "buy", None, DAY)

    store.seed(acts())
    erasing.join(240)
    assert len(done) == 1
    assert store.history("ann", 9) == [] and len(store.history("bob", 9)) == 1 and store.users(9) == ["bob"]


def test_f66_a_redis_that_turns_over_its_seeds_leaves_out_who_was_erased_meanwhile(
    redis_server: str, tmp_path: Path
) -> None:
    """Erased after the seeds were written, and before they hold."""
    uri = f"{redis_server}?prefix={tmp_path.name}"
    store, other = open_live(uri), open_live(uri)
    client = store._client  # type: ignore[attr-defined]
    turn_over = client.transaction

    def erased_first(*arguments: object, **options: object) -> object:
        other.erase("ann")
        return turn_over(*arguments, **options)

    client.transaction = erased_first
    store.seed([("ann", Act("hat", "buy", None, DAY)), ("bob", Act("hat", "buy", None, DAY))])
    assert store.history("ann", 9) == [] and len(store.history("bob", 9)) == 1 and store.users(9) == ["bob"]
    keys = [key for key in client.scan_iter(f"{tmp_path.name}:*") if "ann" in key]
    assert keys == []
    for one in (store, other):
        one.close()


def test_f66_the_log_of_a_store_that_somebody_reads_is_said_to_hold_the_erased_one(tmp_path: Path) -> None:
    """A reader of an older state keeps the log: that is said, and when it is done, the log goes."""
    import sqlite3

    from etalage.online.contract import Patience

    file, name = tmp_path / "live.sqlite", "a-name-that-nobody-else-has"
    store = open_live(file, Patience(0.2, 0.2))
    store.append([event(n, name, f"item-{n}", n + 1) for n in range(50)])
    reader = sqlite3.connect(file, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM acts").fetchone() == (50,)
    assert store.erase(name) == 50
    (left,) = store.remains()
    assert "live.sqlite-wal" in left
    assert name.encode() in b"".join(p.read_bytes() for p in tmp_path.iterdir())
    reader.execute("COMMIT")
    reader.close()
    store.check()  # as a server does every second
    assert name.encode() not in b"".join(p.read_bytes() for p in tmp_path.iterdir())
    store.close()


def test_f66_a_store_that_was_away_is_told_who_was_erased_meanwhile(store: LiveStore, opened: Open) -> None:
    """What they did before goes, out of quarantine too; nobody else's does."""
    now = clock()
    store.seed([(name, Act("old", "buy", None, at)) for name in ("ann", "bob") for at in (DAY, now + MINUTE)])
    far = event(4, at=now + 60 * MINUTE)
    store.append([event(1, at=5), event(2, "bob", at=6), event(3, at=now + MINUTE), far, event(5, at=-DAY)])
    erased = {digest("ann"): now, digest("nobody"): now}
    assert store.forget(erased) == 3 and opened().forget(erased) == 0
    assert [act.item_id for act in store.history("ann", 9)] == ["old", "hat"]
    assert [one.event_id for _, one in store.events(0, 9)] == ["e2", "e3"]
    assert len(store.history("bob", 9)) == 3 and set(store.users(9)) == {"ann", "bob"}
    again = store.append([event(1, at=now + 2 * MINUTE), event(6, at=7), event(7, at=now + MINUTE)])
    assert (again.accepted, again.erased) == (1, 2)
    assert store.seed([("ann", Act("old", "buy", None, DAY))]) == 0


def test_f66_of_whom_nothing_is_left_the_store_knows_no_name(store: LiveStore) -> None:
    store.seed([("ann", Act("old", "buy", None, DAY))])
    store.append([event(1, at=5), event(2, "bob")])
    assert store.forget({digest("ann"): clock()}) == 2
    assert store.users(9) == ["bob"] and store.history("ann", 9) == []
    assert store.forget({digest("ann"): DAY}) == 0, "an older erasure does not replace a newer one"
    assert store.append([event(3, at=9)]).erased == 1


def test_f66_of_the_erased_only_digests_are_kept(tmp_path: Path) -> None:
    store = open_live(tmp_path / "live.sqlite")
    store.append([Event("an-event-of-nobody-else", "a-name-that-nobody-else-has", Act("hat"))])
    store.erase("a-name-that-nobody-else-has")
    store.close()
    content = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert b"nobody-else" not in content


@pytest.mark.parametrize("told_later", [False, True])
def test_f57_redis_has_no_key_and_no_value_of_an_erased_shopper(
    told_later: bool, redis_server: str, tmp_path: Path
) -> None:
    """Nor where seeds of theirs were left by a publish that was killed."""
    store = open_live(f"{redis_server}?prefix={tmp_path.name}")
    client = store._client  # type: ignore[attr-defined]
    store.seed([("ann", Act("old", "buy", None, DAY)), ("bob", Act("old", "buy", None, DAY))])
    store.append([event(1, at=5), event(2, "bob"), event(3, at=clock() + 60 * MINUTE)])
    generation = client.incr(f"{tmp_path.name}:generation")
    client.rpush(f"{tmp_path.name}:seed:{generation}:ann", '["old", "buy", null, 5]')
    gone = store.forget({digest("ann"): clock() + 120 * MINUTE}) if told_later else store.erase("ann")
    assert gone == 3
    read = {"string": client.get, "hash": client.hgetall, "list": lambda key: client.lrange(key, 0, -1),
            "zset": lambda key: client.zrange(key, 0, -1), "set": client.smembers}  # fmt: skip
    keys = list(client.scan_iter(f"{tmp_path.name}:*"))
    told = [(key, read[client.type(key)](key)) for key in keys]
    assert "bob" in str(told) and "ann" not in str(told).replace(tmp_path.name, "")
    store.close()


def test_what_is_cut_short_while_histories_are_seeded_changes_nothing(store: LiveStore) -> None:
    store.seed([("ann", Act("old", "buy", None, DAY))])

    def acts() -> Iterator[tuple[str, Act]]:
        yield "ann", Act("new", "buy", None, DAY)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.seed(acts())
    assert [act.item_id for act in store.history("ann", 9)] == ["old"]


def test_a_value_that_is_no_number_and_a_time_before_1995_are_quarantined(store: LiveStore) -> None:
    nan = Event("e1", "ann", Act("hat", "buy", float("nan"), DAY))
    done = store.append([nan, Event("e2", "ann", Act("hat", "buy", 1.0, 1_700_000_000))])
    assert (done.accepted, done.quarantined) == (0, 2)
    assert "not finite" in done.reasons[0] and "before 1995" in done.reasons[1]
    assert store.history("ann", 9) == []


def test_seeding_again_replaces_what_was_seeded_and_spares_events(store: LiveStore) -> None:
    store.append([event(1, item="hat", at=50, kind="buy")])
    first = [("ann", Act("coat", "buy", 2.0, DAY + 10)), ("ann", Act("cap", "view", None, None))]
    assert store.seed([*first, ("bob", Act("coat", "buy", None, DAY + 20))]) == 3
    assert [act.item_id for act in store.history("ann", 9)] == ["cap", "coat", "hat"]
    # The event came back out of the lake: it is not there twice.
    assert (
        store.seed([("ann", Act("hat", "buy", None, DAY + 50)), ("ann", Act("bag", "buy", None, DAY + 60))])
        == 1
    )
    assert [act.item_id for act in store.history("ann", 9)] == ["hat", "bag"]
    assert store.history("bob", 9) == []


def test_changes_to_items_add_up_and_can_be_taken_back(store: LiveStore, opened: Open) -> None:
    assert store.items() == {}
    store.set_items({"hat": {"in_stock": False, "price": 9}, "cap": {"price": 3.5}})
    store.set_items({"hat": {"price": None}})
    found = opened().items()
    assert {k: {n: v for n, v in change.items() if n != "time"} for k, change in found.items()} == {
        "hat": {"in_stock": False},
        "cap": {"price": 3.5},
    }
    assert all(abs(change["time"] - clock()) < MINUTE for change in found.values())
    store.set_items({"hat": {"in_stock": None}})
    assert set(store.items()) == {"cap"}


def test_items_are_the_very_same_object_until_somebody_changes_something(
    store: LiveStore, opened: Open
) -> None:
    store.set_items({"hat": {"price": 1.0}})
    before = store.items()
    assert store.items() is before
    opened().set_items({"hat": {"price": 2.0}})
    assert store.items() is not before
    assert store.items()["hat"]["price"] == 2.0


@pytest.mark.parametrize(
    "change", [{"price": -1}, {"price": float("nan")}, {"price": "9"}, {"in_stock": 1}, {"title": "x"}]
)
def test_a_change_of_a_wrong_kind_is_refused(store: LiveStore, change: dict[str, object]) -> None:
    with pytest.raises(Unprocessable, match="'hat'"):
        store.set_items({"cap": {"price": 2.0}, "hat": change})
    assert store.items() == {}


def test_many_threads_write_and_read_at_once_and_nothing_is_lost(opened: Open) -> None:
    stores = [opened(), opened()]
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            mine = stores[number % 2]
            for n in range(20):
                mine.append([event(100 * number + n, f"user-{number}", f"item-{n}", n + 1), event(7_000)])
                mine.set_items({f"item-{number}": {"price": float(n)}})
                if len(mine.history(f"user-{number}", 99)) != n + 1:
                    wrong.append((number, n))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(stores[0].events(0, 1000)) == 6 * 20 + 1
    assert {change["price"] for change in stores[1].items().values()} == {19.0}


def test_what_was_appended_survives_a_kill(tmp_path: Path) -> None:
    code = (
        "import os, sys; from etalage.online import *\n"
        "s = open_live(sys.argv[1]); s.append([Event('e1', 'ann', Act('hat', 'buy', None, 17 * 10**14))])\n"
        "os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "live.sqlite")], check=False)
    assert done.returncode == 9
    assert [a.item_id for a in open_live(tmp_path / "live.sqlite").history("ann", 3)] == ["hat"]


_sent = st.lists(st.tuples(st.integers(0, 9), st.integers(-50, 50), st.integers(0, 2)), max_size=30)


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(_sent, max_size=4), limit=st.integers(1, 12))
def test_a_history_is_what_a_list_would_be(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[tuple[int, int, int]]], limit: int
) -> None:
    store = open_live(tmp_path_factory.mktemp("any") / "live.sqlite")
    known: dict[str, tuple[int, int, Event]] = {}
    for batch in batches:
        events = [event(number, f"user-{user}", f"item-{at}", at) for number, at, user in batch]
        done = store.append(events)
        fresh = 0
        for one in events:
            if one.event_id not in known:
                known[one.event_id] = (one.act.time or 0, len(known), one)
                fresh += 1
        assert (done.accepted, done.repeated) == (fresh, len(events) - fresh)
    for user in ("user-0", "user-1", "user-2"):
        mine = sorted((at, n, one.act.item_id) for at, n, one in known.values() if one.user_id == user)
        assert [act.item_id for act in store.history(user, limit)] == [i for _, _, i in mine][-limit:]
    store.close()


def test_what_is_no_store_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "live.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(DataError, match=r"live\.sqlite.*next publish"):
        open_live(tmp_path / "live.sqlite")
    with pytest.raises(ConfigError, match="redis://"):
        open_live("mongodb://localhost")
    with pytest.raises(DataError, match="is the server up"):
        pytest.importorskip("redis")
        open_live("redis://127.0.0.1:1/0")
    store = open_live(f"sqlite:{tmp_path / 'other.sqlite'}")
    store.close()
    with pytest.raises(DataError, match="closed"):
        store.history("ann", 1)


def test_a_change_merges_into_what_held_before() -> None:
    assert merged_change(None, {"price": 2.0}, 5) == {"price": 2.0, "time": 5}
    assert merged_change({"price": 2.0, "time": 5}, {"in_stock": False}, 7) == {
        "price": 2.0,
        "in_stock": False,
        "time": 7,
    }
    assert merged_change({"price": 2.0, "time": 5}, {"price": None}, 7) == {}
