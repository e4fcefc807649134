"""A fetch: every link once, what was stored stays, and the next run asks only for what is due."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from etalage.errors import ConfigError, DataError
from etalage.lake.delta import Lake
from etalage.lake.ingest import ingest
from etalage.lake.photos.fetch import Fetched, fetch
from etalage.lake.photos.spool import alone
from tests.lake.photos.hostile import HTML, Hostile, jpeg
from tests.serve.servers import until

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "tables")


def items(lake: Lake, links: dict[str, str | None]) -> None:
    lake.table("items").merge(pa.table({"item_id": list(links), "photo_url": list(links.values())}))


def fetched(lake: Lake, hostile: Hostile, tmp_path: Path, **changed: Any) -> Fetched:
    asked = {name: changed.pop(name) for name in ("refresh", "again") if name in changed}
    return fetch(lake, hostile.config(**changed), tmp_path / "spool", **asked)


def rows(lake: Lake, table: str) -> dict[Any, dict[str, Any]]:
    spec = lake.table(table).spec
    read = lake.table(table).read().to_pylist()
    keyed = {tuple(row[name] for name in spec.key): row for row in read}
    assert len(keyed) == len(read)
    return {key if len(key) > 1 else key[0]: row for key, row in keyed.items()}


PHOTO, OTHER = "http://a.test/photo/1.jpg", "http://b.test/photo/2.jpg"


def test_a_link_is_downloaded_once_for_all_items_that_have_it(
    lake: Lake, hostile: Hostile, tmp_path: Path
) -> None:
    items(lake, {"i1": PHOTO, "i2": OTHER, "i3": PHOTO, "i4": None, "i5": ""})
    done = fetched(lake, hostile, tmp_path)
    assert (done.states, done.links, done.photos) == ({"ok": 2}, 2, 3)
    assert hostile.times["/photo/1.jpg"] == 1
    photos = rows(lake, "photos")
    assert set(photos) == {("i1", PHOTO), ("i2", OTHER), ("i3", PHOTO)}
    assert photos["i1", PHOTO]["sha256"] == photos["i3", PHOTO]["sha256"] != photos["i2", OTHER]["sha256"]
    assert all(row["status"] == "ok" and row["bytes"] and row["phash"] is not None for row in photos.values())
    links = rows(lake, "links")
    assert links[PHOTO]["status"] == "ok" and links[PHOTO]["host"] == "a.test"
    assert links[PHOTO]["downloaded"] == len(jpeg(1)) and links[PHOTO]["milliseconds"] > 0


def test_an_item_that_comes_later_is_given_what_is_known_of_its_link(
    lake: Lake, hostile: Hostile, tmp_path: Path
) -> None:
    gone = "http://a.test/gone.jpg"
    items(lake, {"i1": PHOTO, "i2": gone})
    fetched(lake, hostile, tmp_path)
    items(lake, {"i3": PHOTO, "i4": gone, "i5": PHOTO})
    asked = len(hostile.asked)
    done = fetched(lake, hostile, tmp_path)
    assert (done.links, done.shared, len(hostile.asked)) == (0, 3, asked)
    photos = rows(lake, "photos")
    assert photos["i3", PHOTO]["bytes"] == photos["i5", PHOTO]["bytes"] == photos["i1", PHOTO]["bytes"]
    assert photos["i4", gone]["status"] == "dead" and photos["i4", gone]["bytes"] is None


def test_an_item_may_have_several_links_from_a_feed_of_them(
    lake: Lake, hostile: Hostile, tmp_path: Path
) -> None:
    feed = tmp_path / "links.csv"
    feed.write_text(f"item_id,url\ni1,{PHOTO}\ni1,{OTHER}\ni2,http://b.test/gone\ni3,\n")
    assert ingest(lake, feed, "photos").inserted == 3
    assert {row["status"] for row in rows(lake, "photos").values()} == {"pending"}
    fetched(lake, hostile, tmp_path)
    assert {key: row["status"] for key, row in rows(lake, "photos").items()} == {
        ("i1", PHOTO): "ok", ("i1", OTHER): "ok", ("i2", "http://b.test/gone"): "dead",
    }  # fmt: skip
    again = ingest(lake, feed, "photos")
    assert (again.inserted, again.updated, again.unchanged) == (0, 0, 3)
    assert rows(lake, "photos")["i1", PHOTO]["status"] == "ok"


def test_f51_a_bad_link_is_told_at_its_item_and_the_rest_goes_on(
    lake: Lake, hostile: Hostile, tmp_path: Path
) -> None:
    items(lake, {"i1": "n/a", "i2": PHOTO, "i3": "http://", "i4": "ftp://a.test/x"})
    done = fetched(lake, hostile, tmp_path)
    assert done.states == {"invalid": 3, "ok": 1}
    assert rows(lake, "photos")["i1", "n/a"]["status"] == "invalid"
    assert rows(lake, "links")["ftp://a.test/x"]["reason"] == "ftp: neither http nor https"
    assert rows(lake, "links")["n/a"]["host"] is None


def test_a_photo_that_was_ingested_as_a_file_is_no_link(lake: Lake, hostile: Hostile, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(jpeg(1))
    ingest(lake, tmp_path / "photos", "items")
    assert fetched(lake, hostile, tmp_path).links == 0
    assert rows(lake, "photos")["one", "one.jpg"]["status"] == "ok"


# -- again -----------------------------------------------------------------------------------------


def test_f47_only_links_that_failed_are_asked_for_again_and_only_when_due(
    lake: Lake, hostile: Hostile, tmp_path: Path
) -> None:
    passing, lasting = "http://a.test/recovering?fails=1&code=500", "http://a.test/gone"
    items(lake, {"i1": PHOTO, "i2": passing, "i3": lasting})
    first = fetched(lake, hostile, tmp_path, retry_minutes=0)
    assert first.states == {"ok": 1, "http_error": 1, "dead": 1}
    before = rows(lake, "links")
    assert before[lasting]["retry_at"] - before[lasting]["checked_at"] == timedelta(days=30)
    second = fetched(lake, hostile, tmp_path, retry_minutes=0)
    assert (second.states, second.waiting) == ({"ok": 1}, 1)
    assert hostile.times["/photo/1.jpg"] == hostile.times["/gone"] == 1
    after = rows(lake, "links")
    assert (after[passing]["status"], after[passing]["attempts"], after[passing]["retry_at"]) == (
        "ok",
        0,
        None,
    )
    assert fetched(lake, hostile, tmp_path).links == 0
    third = fetched(lake, hostile, tmp_path, again=True)
    assert third.states == {"dead": 1}
    assert rows(lake, "links")[lasting]["attempts"] == 2


def test_f47_a_link_that_keeps_failing_waits_twice_as_long_each_time(
    lake: Lake, hostile: Hostile, tmp_path: Path
) -> None:
    link = "http://a.test/status?code=500"
    items(lake, {"i1": link})
    waits = []
    for _ in range(3):
        fetched(lake, hostile, tmp_path, again=True, retry_minutes=10)
        row = rows(lake, "links")[link]
        waits.append((row["retry_at"] - row["checked_at"]).total_seconds() / 60)
    assert waits == [10, 20, 40]


def test_f47_a_pause_that_a_server_asks_for_is_remembered(
    lake: Lake, hostile: Hostile, tmp_path: Path
) -> None:
    items(lake, {"i1": "http://a.test/later?after=7200", "i2": PHOTO})
    done = fetched(lake, hostile, tmp_path, per_host=1)
    assert done.states == {"throttled": 2}
    for row in rows(lake, "links").values():
        assert row["retry_at"] - row["checked_at"] == timedelta(hours=2)


def test_f48_new_content_of_a_link_is_a_new_photo(lake: Lake, hostile: Hostile, tmp_path: Path) -> None:
    link, same = "http://a.test/a.jpg", "http://a.test/b.jpg"
    hostile.files |= {"/a.jpg": jpeg(1), "/b.jpg": jpeg(2)}
    items(lake, {"i1": link, "i2": same})
    fetched(lake, hostile, tmp_path)
    before, version = rows(lake, "photos"), lake.table("photos").version()
    assert fetched(lake, hostile, tmp_path, refresh=1).links == 0  # not old enough
    unchanged = fetched(lake, hostile, tmp_path, refresh=0)
    assert (unchanged.states, unchanged.unchanged, unchanged.downloaded) == ({"ok": 2}, 2, 0)
    assert lake.table("photos").version() == version
    hostile.files["/a.jpg"] = jpeg(3)
    changed = fetched(lake, hostile, tmp_path, refresh=0)
    assert (changed.photos, changed.unchanged) == (1, 1)
    after = rows(lake, "photos")
    assert after["i1", link]["sha256"] != before["i1", link]["sha256"]
    assert after["i1", link]["phash"] != before["i1", link]["phash"]
    assert after["i2", same] == before["i2", same]
    feed = lake.table("photos").changes(version)
    assert feed.upserted["item_id"].to_pylist() == ["i1"]  # what `sync` embeds again


def test_a_photo_stays_when_its_link_fails_later(lake: Lake, hostile: Hostile, tmp_path: Path) -> None:
    link = "http://a.test/a.jpg"
    hostile.files["/a.jpg"] = jpeg(1)
    items(lake, {"i1": link})
    fetched(lake, hostile, tmp_path)
    before = rows(lake, "photos")["i1", link]
    etag = rows(lake, "links")[link]["etag"]
    hostile.files["/a.jpg"] = HTML
    assert fetched(lake, hostile, tmp_path, refresh=0).states == {"not_an_image": 1}
    assert rows(lake, "photos")["i1", link] == before
    assert rows(lake, "links")[link]["status"] == "not_an_image"
    assert fetched(lake, hostile, tmp_path, refresh=0).links == 0  # not due
    hostile.files["/a.jpg"] = jpeg(1)
    back = fetched(lake, hostile, tmp_path, refresh=0, again=True)
    assert (back.states, back.unchanged) == ({"ok": 1}, 1)
    assert rows(lake, "links")[link]["etag"] == etag


def test_other_settings_for_storing_ask_for_the_whole_photo(
    lake: Lake, hostile: Hostile, tmp_path: Path
) -> None:
    link = "http://a.test/a.jpg"
    hostile.files["/a.jpg"] = jpeg(1, 200, 100)
    items(lake, {"i1": link})
    fetched(lake, hostile, tmp_path)
    assert rows(lake, "photos")["i1", link]["width"] == 200
    done = fetched(lake, hostile, tmp_path, refresh=0, side=64)
    assert done.photos == 1
    assert rows(lake, "photos")["i1", link]["width"] == 64
    assert rows(lake, "links")[link]["stored_as"] == "jpeg, 64 px, quality 90"


# -- politeness across workers -----------------------------------------------------------------------


def test_a_host_is_asked_by_one_worker_at_its_rate(lake: Lake, hostile: Hostile, tmp_path: Path) -> None:
    hostile.delay = 0.02
    links = [f"http://{host}.test/photo/{n}.jpg" for host in "abcdef" for n in range(6)]
    items(lake, {f"i{n}": link for n, link in enumerate(links)})
    done = fetched(lake, hostile, tmp_path, workers=2, per_host=2, spacing=0.1)
    assert done.states == {"ok": 36}
    for host in "abcdef":
        times = sorted(asked.when for asked in hostile.asked if asked.host == f"{host}.test")
        assert len(times) == 7  # six photos and one robots.txt
        assert hostile.open_most[f"{host}.test"] <= 2
        assert times[-1] - times[0] >= 6 * 0.1 / 2, "the first may have come late to a busy server"
    assert max(hostile.open_most.values()) >= 1


def test_redirects_of_all_workers_to_one_host_keep_to_its_rate(
    lake: Lake, hostile: Hostile, tmp_path: Path
) -> None:
    links = [
        f"http://{host}.test/to?where=http://cdn.test/photo/{n}.jpg" for host in "abcdefgh" for n in range(2)
    ]
    items(lake, {f"i{n}": link for n, link in enumerate(links)})
    assert fetched(lake, hostile, tmp_path, workers=2, spacing=0.1).states == {"ok": 16}
    times = sorted(asked.when for asked in hostile.asked if asked.host == "cdn.test")
    assert len(times) <= 16 + 2
    assert times[-1] - times[0] >= (len(times) - 2) * 0.1 * 0.75, "each worker at the whole rate: half of it"


# -- what ends a run -----------------------------------------------------------------------------------


def test_another_machine_is_not_asked_without_a_contact(lake: Lake, hostile: Hostile, tmp_path: Path) -> None:
    items(lake, {"i1": PHOTO, "i2": "http://shop.example/a.jpg"})
    with pytest.raises(ConfigError, match=r"contact is not set, and shop\.example is another machine"):
        fetched(lake, hostile, tmp_path)
    assert hostile.asked == []


def test_f18_two_fetches_of_one_shop_do_not_meet(lake: Lake, hostile: Hostile, tmp_path: Path) -> None:
    items(lake, {"i1": PHOTO})
    with alone(tmp_path / "spool"), pytest.raises(DataError, match="another fetch"):
        fetched(lake, hostile, tmp_path)
    assert fetched(lake, hostile, tmp_path).states == {"ok": 1}


def test_f46_a_photo_that_kills_the_decoder_leaves_its_item_without_one(
    lake: Lake, hostile: Hostile, tmp_path: Path
) -> None:
    import io

    from PIL import Image

    sink = io.BytesIO()
    Image.effect_noise((6200, 6200), 90).convert("RGB").save(sink, "JPEG", progressive=True, quality=95)
    hostile.files["/bomb.jpg"] = sink.getvalue()
    items(lake, {"i1": "http://a.test/bomb.jpg", "i2": PHOTO})
    quick = {"decode_seconds": 0.01, "format": "keep", "max_bytes": 2**26, "deadline": 240.0}
    done = fetched(lake, hostile, tmp_path, **quick)
    assert done.states == {"decoder_failed": 1, "ok": 1}
    assert lake.table("items").count() == 2
    assert rows(lake, "photos")["i1", "http://a.test/bomb.jpg"]["bytes"] is None


RUN = """
import sys
from pathlib import Path
from etalage.config import PhotosConfig
from etalage.lake.delta import Lake
from etalage.lake.photos.fetch import fetch
if __name__ == "__main__":
    folder = Path(sys.argv[1])
    fetch(Lake(folder / "tables"), PhotosConfig.model_validate_json(sys.argv[2]), folder / "spool")
"""


def killed(folder: Path, config: str, when: Callable[[], bool]) -> None:
    """A fetch in a process of its own, killed as soon as `when` says, and its workers have seen that."""
    script = folder / "run.py"
    script.write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), config], env=environment, start_new_session=True
    )
    try:
        until(lambda: process.poll() is not None or when())
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    until(lambda: not in_session(process.pid))


def in_session(leader: int) -> list[int]:
    """The processes that came of this one, itself included, as far as they still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, session, *_ = stat.read_text().rpartition(")")[2].split()
            if int(session) == leader and state != "Z":
                found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize(
    ("workers", "moment"),
    [
        (1, "asked"),
        (1, "written"),
        (2, "committed"),
        pytest.param(2, "asked", marks=pytest.mark.slow),
        pytest.param(2, "written", marks=pytest.mark.slow),
        pytest.param(1, "committed", marks=pytest.mark.slow),
    ],
)
def test_f2_a_fetch_that_is_killed_goes_on_with_what_is_missing(
    lake: Lake, hostile: Hostile, tmp_path: Path, workers: int, moment: str
) -> None:
    moments = {
        "asked": lambda: len(hostile.asked) > 20,
        "written": lambda: any((tmp_path / "spool").glob("run-*/0*.arrow")),
        "committed": lambda: (tmp_path / "tables" / "links").exists() and lake.table("links").exists(),
    }
    links = [f"http://h{n % 4}.test/photo/{n}.jpg" for n in range(120)]
    items(lake, {f"i{n}": link for n, link in enumerate(links)})
    enough = threading.Event()

    def hold(path: str) -> None:
        """However late the kill comes, there is something left to be asked for."""
        if len(hostile.asked) > 80:
            enough.wait(240)

    hostile.gate = hold
    slow = hostile.config(workers=workers, spacing=0.05, per_host=1)
    killed(tmp_path, slow.model_dump_json(), moments[moment])
    enough.set()
    asked = len(hostile.asked)
    assert asked < 120
    before = lake.table("links").count() if lake.table("links").exists() else 0
    assert before < 120
    done = fetched(lake, hostile, tmp_path, workers=workers)
    known = 120 - done.links
    assert before <= known <= before + done.taken_up  # a file may be committed and still lie there
    if moment != "asked":
        assert known > 0
    photos = rows(lake, "photos")
    assert len(photos) == 120 and {row["status"] for row in photos.values()} == {"ok"}
    assert len(rows(lake, "links")) == 120
    for n, path in enumerate(f"/photo/{n}.jpg" for n in range(120)):
        assert 1 <= hostile.times[path] <= 2, n
    assert sum(hostile.times.values()) - 120 <= asked + 8, "what was written is not asked for again"
    assert not list((tmp_path / "spool").glob("run-*"))


def test_a_fetch_of_which_a_worker_is_killed_goes_on(lake: Lake, hostile: Hostile, tmp_path: Path) -> None:
    links = [f"http://h{n % 4}.test/photo/{n}.jpg" for n in range(160)]
    items(lake, {f"i{n}": link for n, link in enumerate(links)})
    killed: list[int] = []

    def kill_one(path: str) -> None:
        written = list((tmp_path / "spool").glob("run-*/0*.finished"))
        if written and not killed:
            killed.append(int(multiprocessing.active_children()[0].pid or 0))
            os.kill(killed[0], signal.SIGKILL)

    hostile.gate = kill_one
    done = fetched(lake, hostile, tmp_path, workers=2, spacing=0.1, per_host=1)
    assert killed and done.states == {"ok": 160}
    photos = rows(lake, "photos")
    assert len(photos) == 160 and {row["status"] for row in photos.values()} == {"ok"}
    again = sum(hostile.times[f"/photo/{n}.jpg"] for n in range(160)) - 160
    assert again < 80, "what the killed worker had written is not asked for again"


def test_a_link_that_is_due_is_due_by_the_clock(lake: Lake, hostile: Hostile, tmp_path: Path) -> None:
    link = "http://a.test/gone"
    items(lake, {"i1": link})
    fetched(lake, hostile, tmp_path)
    past = datetime.now(UTC) - timedelta(seconds=1)
    lake.table("links").merge(
        pa.table({"url": [link], "status": ["dead"], "retry_at": pa.array([past], pa.timestamp("us", "UTC"))})
    )
    assert fetched(lake, hostile, tmp_path).states == {"dead": 1}
