"""A probe: the same sample for the same seed, honest intervals, and an estimate that knows its bottleneck."""

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etalage.config import PhotosConfig
from etalage.errors import ConfigError
from etalage.lake.delta import Lake
from etalage.lake.photos.estimate import BUSY_SECONDS, estimate, wilson
from etalage.lake.photos.links import RESULT
from etalage.lake.photos.probe import Merchant, probe, sample
from tests.lake.photos.hostile import Hostile, jpeg


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Three merchants on five hosts: of `bold` every third link fails, of `calm` none, `down` is down."""
    links = [f"http://bold-{n % 3}.test/{'photo/1.jpg' if n % 3 else f'gone/{n}'}?{n}" for n in range(60)]
    links += [f"http://calm.test/photo/{n}.jpg" for n in range(30)]
    links += [f"http://down.test/to?where=/&n={n}" for n in range(10)]
    made = Lake(tmp_path / "tables")
    made.table("items").merge(
        pa.table(
            {
                "item_id": [f"i{n:03d}" for n in range(len(links))],
                "photo_url": links,
                "attributes": [f'{{"merchant":"{link[7:11]}"}}' for link in links],
            }
        )
    )
    return made


def test_a_probe_tells_the_kinds_of_failure_of_each_merchant_and_writes_nothing(
    lake: Lake, hostile: Hostile
) -> None:
    before = lake.versions()
    done = probe(lake, hostile.config(merchant="merchant"), count=1000)
    assert lake.versions() == before
    assert (done.links, done.asked) == (100, 100)
    assert [one.name for one in done.merchants] == ["bold", "calm", "down"]
    bold, calm, down = done.merchants
    assert {state: share.count for state, share in bold.states.items()} == {"ok": 40, "dead": 20}
    assert {state: share.count for state, share in calm.states.items()} == {"ok": 30}
    assert {state: share.count for state, share in down.states.items()} == {"redirected_home": 10}
    assert (done.whole.failed.count, done.whole.failed.of) == (30, 100)
    assert done.reasons["dead"] == {"answers 404": 20}
    assert list(done.reasons["redirected_home"]) == ["to http://down.test/"]
    assert done.cost.downloaded.value > 30 * len(jpeg(1)) * 0.5
    assert 0 < done.cost.stored.low <= done.cost.stored.value <= done.cost.stored.high


def test_without_a_merchant_attribute_the_host_counts(lake: Lake, hostile: Hostile) -> None:
    done = probe(lake, hostile.config(), count=1000)
    assert {one.name for one in done.merchants} == {
        "bold-0.test",
        "bold-1.test",
        "bold-2.test",
        "calm.test",
        "down.test",
    }


def test_the_same_seed_asks_for_the_same_links(lake: Lake, hostile: Hostile) -> None:
    asked = []
    for seed in (1, 1, 2):
        hostile.asked.clear()
        assert probe(lake, hostile.config(), count=20, seed=seed).asked == 20
        asked.append({f"{one.host}{one.path}" for one in hostile.asked if one.path != "/robots.txt"})
    assert asked[0] == asked[1] != asked[2]


def test_a_shop_without_links_has_nothing_to_probe(tmp_path: Path, hostile: Hostile) -> None:
    done = probe(Lake(tmp_path / "empty"), hostile.config())
    assert (done.links, done.asked, done.merchants) == (0, 0, ())
    assert done.cost.hours.value == 0


def test_a_probe_needs_a_contact_as_a_fetch_does(tmp_path: Path, hostile: Hostile) -> None:
    made = Lake(tmp_path / "tables")
    made.table("items").merge(pa.table({"item_id": ["i"], "photo_url": ["https://shop.example/a.jpg"]}))
    with pytest.raises(ConfigError, match="contact"):
        probe(made, hostile.config())


@settings(deadline=None)
@given(st.lists(st.text(max_size=8), unique=True, max_size=40), st.integers(0, 50), st.text(max_size=8))
def test_a_link_that_is_added_changes_one_of_the_sample_at_most(
    urls: list[str], count: int, new: str
) -> None:
    before = {urls[row] for row in sample(urls, count, seed=3)}
    assert len(before) == min(count, len(urls))
    more = [*urls, new] if new not in urls else urls
    after = {more[row] for row in sample(more, count, seed=3)}
    assert len(before - after) <= 1 and len(after - before) <= 1


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662), (10, 10, 0.7225, 1.0)],
)
def test_the_interval_is_wilsons(count: int, of: int, low: float, high: float) -> None:
    """The third row is Newcombe (1998), table I, method 3."""
    share = wilson(count, of)
    assert (share.low, share.high) == pytest.approx((low, high), abs=5e-5)


def test_of_nothing_nothing_is_known() -> None:
    share = wilson(0, 0)
    assert math.isnan(share.share) and (share.low, share.high) == (0.0, 1.0)
    assert Merchant("m", 3, 0, {}).failed.of == 0


def results(hosts: list[str], seconds: list[float], size: int = 1000) -> pa.Table:
    count = len(hosts)
    given = {"host": hosts, "milliseconds": [1000 * s for s in seconds], "downloaded": [size] * count,
             "stored": [size // 2] * count}  # fmt: skip
    return pa.table([given.get(f.name, pa.nulls(count, f.type)) for f in RESULT], schema=RESULT)


def hosts_of(sizes: dict[str, int]) -> pa.ChunkedArray:
    return pa.chunked_array([[host for host, size in sizes.items() for _ in range(size)]])


QUICK = PhotosConfig(workers=2, per_host=2, spacing=0.5, connections=10)


def test_the_slowest_host_is_the_bottleneck_by_its_spacing() -> None:
    sizes = {"large": 7200, "small": 30}
    cost = estimate(results(["large"] * 10 + ["small"] * 10, [0.1] * 20), hosts_of(sizes), QUICK, seed=0)
    assert cost.hours.value == pytest.approx(7200 * 0.5 / 3600)
    assert cost.bottleneck == "large"
    assert cost.longest[0] == ("large", pytest.approx(1.0))


def test_the_slowest_host_may_be_the_one_that_answers_slowly() -> None:
    sizes = {"large": 1000, "slow": 900}
    times = [0.1] * 10 + [4.0] * 10
    cost = estimate(results(["large"] * 10 + ["slow"] * 10, times), hosts_of(sizes), QUICK, seed=0)
    assert cost.bottleneck == "slow"
    assert cost.hours.value == pytest.approx(900 * 4.0 / 2 / 3600)


def test_many_hosts_wait_for_connections_or_processors() -> None:
    sizes = {f"h{n}": 20 for n in range(1000)}
    slow = estimate(results(["h0"] * 10, [2.0] * 10), hosts_of(sizes), QUICK, seed=0)
    assert slow.bottleneck == "connections"
    assert slow.hours.value == pytest.approx(20_000 * 2.0 / 20 / 3600)
    many = QUICK.model_copy(update={"connections": 1000, "spacing": 0.0})
    quick = estimate(results(["h0"] * 10, [0.001] * 10), hosts_of(sizes), many, seed=0)
    assert quick.bottleneck == "processors"
    assert quick.hours.value == pytest.approx(20_000 * BUSY_SECONDS / 2 / 3600)


def test_bytes_have_an_interval_that_narrows_with_the_sample() -> None:
    generator = np.random.default_rng(5)
    widths = []
    for count in (20, 2000):
        table = results(["h"] * count, [0.1] * count)
        sizes = pa.array(generator.lognormal(10, 1, count).astype(np.int64))
        table = table.set_column(table.schema.get_field_index("downloaded"), "downloaded", sizes)
        figure = estimate(table, hosts_of({"h": 10_000}), QUICK, seed=0).downloaded
        assert figure.low < figure.value < figure.high
        assert figure.value == pytest.approx(10_000 * np.asarray(sizes).mean())
        widths.append(figure.high - figure.low)
    assert widths[1] < widths[0] / 3
