"""Links are dealt out by host: each host to one shard, the one with the most links first."""

from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.config import PhotosConfig
from etalage.lake.photos.links import ASKED
from etalage.lake.photos.shard import STOP, Shard, by_host, run_shard, shard_of
from etalage.lake.photos.spool import read_results
from tests.lake.photos.hostile import Hostile


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a.test", "b.test", "c.test", None]), max_size=40))
def test_every_row_is_in_one_span_of_one_host(hosts: list[str | None]) -> None:
    column = pa.table({"h": pa.array(hosts, pa.string())}).sort_by("h")["h"]
    spans = by_host(column)
    assert sorted(row for start, stop in spans for row in range(start, stop)) == list(range(len(hosts)))
    assert len(spans) == len(set(hosts))
    for start, stop in spans:
        assert len(set(column.slice(start, stop - start).to_pylist())) == 1
    sizes = [stop - start for start, stop in spans]
    assert sizes == sorted(sizes, reverse=True)


def test_hosts_are_spread_over_shards_and_stay_there() -> None:
    hosts = [f"shop-{n}.example" for n in range(1000)]
    counts = [sum(shard_of(host, 4) == number for host in hosts) for number in range(4)]
    assert all(150 < count < 350 for count in counts)
    shard = Shard(2, 4, Path(), Path(), PhotosConfig())
    assert sum(shard.owns(host) for host in hosts) == counts[2]
    assert shard_of(None, 3) == shard_of("", 3)


def links_file(folder: Path, urls: list[str]) -> Path:
    rows = [
        {"url": url, "host": url.split("/")[2], "owners": ["i"], "held": False, "attempts": 0} for url in urls
    ]
    file = folder / "links.arrow"
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, ASKED) as written:
        written.write_table(pa.Table.from_pylist(rows, schema=ASKED).sort_by("host"))
    return file


def test_a_shard_answers_by_files_and_knows_no_shop(tmp_path: Path, hostile: Hostile) -> None:
    urls = [f"http://h{n % 3}.test/photo/{n}.jpg" for n in range(9)]
    shard = Shard(0, 1, links_file(tmp_path, urls), tmp_path, hostile.config())
    assert run_shard(shard) == 9
    rows = [row for file in tmp_path.glob("0*.arrow") for row in read_results(file).to_pylist()]
    assert sorted(row["url"] for row in rows) == sorted(urls)
    assert all(row["status"] == "ok" and row["owners"] == ["i"] and row["bytes"] for row in rows)


def test_a_shard_that_is_asked_to_stop_keeps_what_it_has(tmp_path: Path, hostile: Hostile) -> None:
    urls = [f"http://h0.test/photo/{n}.jpg" for n in range(200)]
    hostile.gate = lambda path: (tmp_path / STOP).touch() if path == "/photo/3.jpg" else None
    shard = Shard(0, 1, links_file(tmp_path, urls), tmp_path, hostile.config(spacing=0.05, per_host=1))
    assert 0 < run_shard(shard) < 200


def test_a_shard_that_is_asked_to_stop_does_not_wait_for_a_host(tmp_path: Path, hostile: Hostile) -> None:
    urls = ["http://h0.test/photo/1.jpg", "http://h0.test/later?after=3600", "http://h0.test/photo/2.jpg"]
    hostile.gate = lambda path: (tmp_path / STOP).touch() if path.startswith("/later") else None
    config = hostile.config(per_host=1, tries=2, patience=7200)
    assert run_shard(Shard(0, 1, links_file(tmp_path, urls), tmp_path, config)) == 1
    assert hostile.paths() == ["/photo/1.jpg", "/later?after=3600"], "nor the hour that the host asks for"


def test_a_shard_that_is_run_again_asks_only_for_what_was_not_written(
    tmp_path: Path, hostile: Hostile
) -> None:
    """As when its worker was killed: in another process, and beside files that are being committed."""
    urls = [f"http://h0.test/photo/{n}.jpg" for n in range(200)]
    hostile.gate = lambda path: (tmp_path / STOP).touch() if path == "/photo/3.jpg" else None
    shard = Shard(0, 1, links_file(tmp_path, urls), tmp_path, hostile.config(spacing=0.05, per_host=1))
    first = run_shard(shard)
    assert 0 < first < 200
    before = {file: file.read_bytes() for file in tmp_path.glob("0*.arrow")}
    (tmp_path / STOP).unlink()
    hostile.gate = None
    hostile.times.clear()
    again = Shard(0, 1, shard.links, tmp_path, hostile.config(spacing=0, per_host=8))
    assert run_shard(again) == 200 - first
    assert sum(hostile.times.values()) - hostile.times["/robots.txt"] == 200 - first
    assert {file: file.read_bytes() for file in before} == before, "no file of the first try is replaced"
    results = [read_results(file) for file in tmp_path.glob("0*.arrow")]
    assert sorted(url for one in results for url in one["url"].to_pylist()) == sorted(urls)
    assert run_shard(again) == 0
