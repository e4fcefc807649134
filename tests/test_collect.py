"""F63: events that were acknowledged reach the table, each once, whatever becomes of the online store between
two collections: damaged and moved away, emptied, put back from a copy, SQLite for Redis and back."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from etalage.errors import StoreUnavailable
from etalage.online import Act, Event
from etalage.online.marks import FILE, Marks, read_marks
from etalage.shop import Shop, live_steps
from tests.redis_server import Redis, running_redis
from tests.shops import act_rows, fill, rows_of


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop.create(tmp_path / "shop", "Collected")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with running_redis(tmp_path) as server:
        yield server


def append(shop: Shop, *numbers: int) -> None:
    """Acknowledged: nobody sends them again."""
    with shop.live_store() as store:
        begin = 1_700_000_000_000_000
        events = [Event(f"e{n}", f"user-{n % 7}", Act(f"item-{n}", "buy", None, begin + n)) for n in numbers]
        assert store.append(events).accepted == len(numbers)


def collected(shop: Shop) -> list[str]:
    table = shop.lake.table("interactions")
    return sorted(table.read(columns=["interaction_id"])["interaction_id"].to_pylist())


def ids(*numbers: int) -> list[str]:
    return sorted(f"event:e{n}" for n in numbers)


def store_file(shop: Shop) -> Path:
    return shop.folder / "live" / "events.sqlite"


def live_in(shop: Shop, uri: str | None) -> Shop:
    """The same shop, whose online store is elsewhere from now on."""
    text = "" if uri is None else f'[serve]\nlive = "{uri}"\n'
    (shop.folder / "shop.toml").write_text(text, encoding="utf-8")
    return Shop(shop.folder)


def test_f63_a_damaged_store_that_was_moved_away_as_the_message_says_loses_no_new_event(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    append(shop, *range(50))
    assert shop.collect().new == 50
    store_file(shop).write_bytes(b"torn" * 4096)
    with pytest.raises(
        StoreUnavailable, match=r"move events\.sqlite away, with -wal and -shm: a new one is made"
    ):
        shop.collect()
    for file in store_file(shop).parent.glob("events.sqlite*"):
        file.rename(shop.folder / file.name)
    append(shop, *range(1000, 1300))
    with caplog.at_level(logging.WARNING):
        assert shop.collect().new == 300
    assert "another one than was collected before" in caplog.text
    assert collected(shop) == ids(*range(50), *range(1000, 1300))
    assert shop.collect().new == 0


def test_f63_a_store_that_begins_again_with_fewer_events_than_the_mark_is_read_from_its_start(
    shop: Shop,
) -> None:
    append(shop, *range(50))
    shop.collect()
    shutil.rmtree(store_file(shop).parent)  # with what was remembered
    append(shop, 100, 101)
    assert shop.collect().new == 2


def test_f63_an_emptied_redis_loses_no_event_that_came_after(shop: Shop, redis: Redis) -> None:
    shop = live_in(shop, redis.uri)
    append(shop, *range(50))
    assert shop.collect().new == 50
    redis.client().flushall()
    append(shop, *range(100, 160))
    assert shop.collect().new == 60 and shop.collect().new == 0
    assert collected(shop) == ids(*range(50), *range(100, 160))


def test_f63_from_sqlite_to_redis_and_back_nothing_is_lost_and_nothing_is_twice(
    shop: Shop, redis: Redis
) -> None:
    append(shop, *range(40))
    assert shop.collect().new == 40
    append(shop, 40, 41)  # not collected before the other store takes over
    elsewhere = live_in(shop, redis.uri)
    append(elsewhere, *range(100, 120))
    assert elsewhere.collect().new == 22, "the file that was the store before is collected too"
    append(elsewhere, 120)
    back = live_in(shop, None)
    append(back, 42, 43)
    assert back.collect().new == 2
    assert live_in(shop, redis.uri).collect().new == 1
    assert collected(shop) == ids(*range(44), *range(100, 121))


def test_f63_the_mark_of_each_store_is_kept_beside_the_others(shop: Shop, redis: Redis) -> None:
    """Going back does not read a million events again."""
    append(shop, *range(5))
    shop.collect()
    elsewhere = live_in(shop, redis.uri)
    append(elsewhere, *range(10, 13))
    elsewhere.collect()
    marks = read_marks(shop.folder / "live")
    assert sorted((mark.after, mark.event_id) for mark in marks.collected.values()) == [(3, "e12"), (5, "e4")]


def test_f63_a_file_that_cannot_be_read_any_more_holds_up_no_collection_from_redis(
    shop: Shop, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = live_in(shop, redis.uri)
    append(elsewhere, 1, 2)
    store_file(shop).parent.mkdir(exist_ok=True)
    store_file(shop).write_bytes(b"torn" * 4096)
    with caplog.at_level(logging.WARNING):
        assert elsewhere.collect().new == 2
    assert "was the online store before" in caplog.text


def test_f63_a_store_put_back_from_an_older_copy_is_read_again(shop: Shop, tmp_path: Path) -> None:
    append(shop, *range(5))
    shutil.copytree(store_file(shop).parent, tmp_path / "copy")
    append(shop, *range(5, 30))
    assert shop.collect().new == 30
    for file in store_file(shop).parent.glob("events.sqlite*"):
        file.unlink()
    shutil.copy(tmp_path / "copy" / "events.sqlite", store_file(shop))
    append(shop, *range(100, 110))  # with the numbers that others had
    assert shop.collect().new == 10
    assert collected(shop) == ids(*range(30), *range(100, 110))


def test_f63_a_table_that_was_made_anew_gets_all_events_again(shop: Shop) -> None:
    append(shop, *range(9))
    assert shop.collect().new == 9
    shutil.rmtree(shop.folder / "tables" / "interactions")
    again = Shop(shop.folder)
    assert again.collect().new == 9
    append(again, 9)
    assert again.collect().new == 1 and collected(again) == ids(*range(10))


def test_f63_a_table_put_back_from_a_copy_gets_what_it_lost_however_far_it_has_grown_since(
    shop: Shop, tmp_path: Path
) -> None:
    """As the message about a damaged table says; more is ingested before the next collection."""
    append(shop, *range(5))
    assert shop.collect().new == 5
    table = Path(shop.lake.table("interactions").uri)
    shutil.copytree(table, tmp_path / "copy")
    append(shop, *range(5, 9))
    assert shop.collect().new == 4
    version = shop.lake.table("interactions").version()
    shutil.rmtree(table)
    shutil.copytree(tmp_path / "copy", table)
    for item in range(3):
        shop.lake.table("interactions").merge(rows_of("interactions", act_rows([("late", item, "buy")])))
    assert shop.lake.table("interactions").version() > version
    assert shop.collect().new == 4
    assert set(ids(*range(9))) <= set(collected(shop))


def test_f63_events_that_were_held_back_in_a_table_that_was_removed_are_held_back_again(shop: Shop) -> None:
    """As the message about a damaged table says: there is no file to ingest them from."""
    fill(shop.lake, range(3), [])
    append(shop, 1, 2)  # of items that nobody knows
    assert shop.collect().waiting == 2
    shutil.rmtree(shop.lake.table("held").uri)
    assert shop.collect().waiting == 2 and shop.collect().held == 0


def test_f63_a_store_that_is_replaced_while_it_is_collected_is_read_from_its_start(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_steps, "COLLECT_AT_ONCE", 10)
    append(shop, *range(30))
    table = shop.lake.table("interactions")
    merge = type(table).merge

    def replacing(self: object, *arguments: object, **options: object) -> object:
        done = merge(self, *arguments, **options)  # type: ignore[arg-type]
        monkeypatch.setattr(type(table), "merge", merge)
        for file in store_file(shop).parent.glob("events.sqlite*"):
            file.unlink()
        append(shop, *range(100, 125))
        return done

    monkeypatch.setattr(type(table), "merge", replacing)
    shop.collect()
    assert set(collected(shop)) >= set(ids(*range(10), *range(100, 125)))


@pytest.mark.parametrize("text", ["350", "", "{}", '{"seeded": 3, "collected": {"a": 1}}', "\0"])
def test_f63_marks_that_cannot_be_read_mean_that_all_is_read_again(shop: Shop, text: str) -> None:
    """350 is what an older version wrote, in a file of its own: whose number it was, nobody knows."""
    append(shop, *range(3))
    (shop.folder / "live" / FILE).write_text(text)
    (shop.folder / "live" / "collected").write_text("350")
    assert read_marks(shop.folder / "live") == Marks()
    assert shop.collect().new == 3 and shop.collect().new == 0


def test_f63_the_mark_moves_behind_the_merge(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection that dies in the merge has collected nothing: the next one brings the events."""
    append(shop, *range(4))
    table = shop.lake.table("interactions")
    merge = type(table).merge

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(table), "merge", dies)
    with pytest.raises(KeyboardInterrupt):
        shop.collect()
    assert read_marks(shop.folder / "live") == Marks()
    monkeypatch.setattr(type(table), "merge", merge)
    assert shop.collect().new == 4


def test_publishing_says_that_the_bundle_stands_where_the_online_store_could_not_be_filled(
    tmp_path: Path,
) -> None:
    shop = Shop.create(tmp_path / "another", "Published")
    fill(shop.lake, range(12), [])
    acts = [(f"user-{user}", item, "buy") for user in range(8) for item in range(user % 4, 12, 2)]
    shop.lake.table("interactions").merge(rows_of("interactions", act_rows(acts)))
    shop.train("popularity")
    store_file(shop).mkdir(parents=True)
    with pytest.raises(
        StoreUnavailable, match=r"bundle b000001-\w+ is current, but .* `etalage publish` again"
    ):
        shop.publish(force=True)
    assert shop.bundles.current_id().startswith("b000001")
