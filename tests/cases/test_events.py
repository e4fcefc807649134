"""Events as a shop's page sends them, with the right value."""

import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from etalage.lake.delta import Lake
from tests.cases.conftest import Play
from tests.serve.servers import ProcessServer

MOMENT = datetime(2026, 11, 29, 1, 23, 42, tzinfo=UTC)


@pytest.mark.skipif(datetime.now(UTC) < MOMENT, reason="the events of this case have not happened yet")
def test_events_in_seconds_milliseconds_and_microseconds_are_of_one_moment(
    play: Play, cases: Path, tmp_path: Path
) -> None:
    # Any published shop: that of another case, whose items are p1, p2 and p3.
    played = play("gone_from_the_feed_stays", [
        "ingest monday.csv items", "ingest acts.csv interactions", "train popularity", "publish",
    ])  # fmt: skip
    events = json.loads((cases / "events_in_milliseconds" / "events.json").read_text())
    with ProcessServer(played.shop / "bundles", tmp_path / "log") as server:
        done = httpx.post(f"{server.url}/v1/events", json=events).json()
        acts = httpx.get(f"{server.url}/v1/users/u98/history").json()["acts"]
    assert (done["accepted"], done["quarantined"]) == (3, 0)
    assert {datetime.fromtimestamp(act["time"] // 1_000_000, UTC) for act in acts} == {MOMENT}
    play("gone_from_the_feed_stays", ["collect"])
    stored = Lake(played.shop / "tables").table("interactions").read().to_pylist()
    times = [row["time"].replace(microsecond=0) for row in stored if row["user_id"] == "u98"]
    assert times == [MOMENT] * 3
