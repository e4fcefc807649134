"""F67: a shop that was copied, moved or received keeps the files of its runs in its own folder, and writes
into no other."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from etalage.errors import DataError
from etalage.training import tracking
from etalage.training.artifact_places import bring_home, require_own
from etalage.training.tracking import Run

ROOT = Path(__file__).resolve().parents[2]


def track(runs: Path, name: str = "first", resume: str | None = None) -> str:
    """A run with one file; its id."""
    report = runs.parent / f"report-{name}.txt"
    runs.mkdir(parents=True, exist_ok=True)
    report.write_text(name)
    with Run(runs, "ease", name, resume) as run:
        run.file(report, "evaluation")
    return run.id


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def places(runs: Path) -> set[str]:
    with closing(sqlite3.connect(runs / "mlflow.db")) as store:
        found = store.execute(
            "SELECT artifact_uri FROM runs UNION SELECT artifact_location FROM experiments "
            "WHERE name = 'ease'"
        )
        return {value for (value,) in found}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """One with a run; its folder has a blank and a percent sign in its name."""
    folder = tmp_path / "an original of 50%"
    track(folder / "runs")
    return folder


@pytest.mark.parametrize("what", ["a new run", "an old run", "an evaluation"])
def test_f67_a_copy_writes_nothing_into_the_folder_that_it_came_from(
    shop: Path, tmp_path: Path, what: str
) -> None:
    run = track(shop / "runs")
    copy = tmp_path / "copy"
    shutil.copytree(shop, copy)
    before = files(shop)
    report = tmp_path / "report.html"
    report.write_text("<p>new</p>")
    if what == "a new run":
        run = track(copy / "runs", "second")
    elif what == "an old run":
        assert track(copy / "runs", "second", resume=run) == run
    else:
        tracking.add(copy / "runs", run, metrics={"recall": 0.5}, files={report: "evaluation"})
    assert files(shop) == before
    kept = copy / "runs" / "mlartifacts" / run / "artifacts" / "evaluation"
    assert (kept / ("report.html" if what == "an evaluation" else "report-second.txt")).exists()
    assert all(place.startswith((copy / "runs" / "mlartifacts").as_uri()) for place in places(copy / "runs"))


def test_f67_a_shop_that_was_moved_finds_what_it_kept(shop: Path, tmp_path: Path) -> None:
    run = track(shop / "runs")
    moved = shop.rename(tmp_path / "moved")
    track(moved / "runs", "second")
    from mlflow.tracking import MlflowClient

    said = MlflowClient(tracking.store(moved / "runs")).get_run(run).info.artifact_uri
    kept = require_own(moved / "runs", said, "the run")
    assert (kept / "evaluation" / "report-first.txt").read_text() == "first"
    assert not shop.exists()


def test_f67_a_shop_at_its_place_is_left_as_it_is(shop: Path) -> None:
    assert bring_home(shop / "runs") == 0
    assert bring_home(shop / "nothing") == 0


OUTSIDE = ("{victim}", "file://{victim}", "s3://bucket/prefix", "http://example.com/artifacts", "mlruns/0",
           "file://{shop}/runs/mlartifacts/../../../victim", "file://{shop}/runs/mlartifacts/%2e%2e/%2e%2e/%2e%2e/victim",
           "dbfs:/tmp/x", "file://otherhost{shop}/runs/mlartifacts")  # fmt: skip


@pytest.mark.parametrize("outside", OUTSIDE)
@pytest.mark.parametrize("where", ["experiments.artifact_location", "runs.artifact_uri"])
def test_f67_a_place_outside_of_the_shop_is_refused_and_nothing_is_written(
    shop: Path, tmp_path: Path, outside: str, where: str
) -> None:
    """The file of a shop that somebody sent says where to write."""
    run = track(shop / "runs")
    victim = tmp_path / "victim"
    victim.mkdir()
    place = outside.format(victim=victim, shop=shop)
    table, column = where.split(".")
    with closing(sqlite3.connect(shop / "runs" / "mlflow.db")) as store, store:
        store.execute(f"UPDATE {table} SET {column} = ?", (place,))
    report = tmp_path / "report.html"
    report.write_text("<p>new</p>")
    before = files(shop / "runs" / "mlartifacts")
    with pytest.raises(DataError, match=r"mlflow\.db: the \w+ \w+ keeps its files at .*not in this shop"):
        if table == "runs":
            tracking.add(shop / "runs", run, metrics={}, files={report: "evaluation"})
        else:
            track(shop / "runs", "second")
    if table == "runs":
        with pytest.raises(DataError, match="not in this shop"):
            track(shop / "runs", "second", resume=run)
    assert files(victim) == {} and files(shop / "runs" / "mlartifacts") == before


def test_f67_a_link_inside_that_leads_outside_is_refused(shop: Path, tmp_path: Path) -> None:
    run = track(shop / "runs")
    victim = tmp_path / "victim"
    victim.mkdir()
    kept = shop / "runs" / "mlartifacts" / run
    shutil.rmtree(kept)
    kept.symlink_to(victim)
    with pytest.raises(DataError, match="not in this shop"):
        track(shop / "runs", "second", resume=run)
    assert files(victim) == {}


def test_f67_a_folder_of_runs_on_another_disk_is_the_shops_own(tmp_path: Path) -> None:
    disk, shop = tmp_path / "disk", tmp_path / "shop"
    disk.mkdir()
    shop.mkdir()
    (shop / "runs").symlink_to(disk)
    run = track(shop / "runs")
    assert track(shop / "runs", "second", resume=run) == run
    assert (disk / "mlartifacts" / run / "artifacts" / "evaluation" / "report-second.txt").exists()


AGAIN = """
import logging, sys
from pathlib import Path
from etalage.training import tracking
logging.basicConfig()
runs = Path(sys.argv[1])
with tracking.Run(runs, "ease", "first", resume=sys.argv[2]) as run:
    run.file(Path(sys.argv[3]), "evaluation")
    assert run.id != sys.argv[2]
tracking.add(runs, sys.argv[2], metrics={"recall": 0.5}, files={})
"""


def test_f67_with_the_store_moved_away_as_the_message_says_training_goes_on(
    shop: Path, tmp_path: Path
) -> None:
    run = track(shop / "runs")
    (shop / "runs" / "mlflow.db").rename(tmp_path / "mlflow.db")
    words = [sys.executable, "-P", "-c", AGAIN, str(shop / "runs"), run, str(shop / "report-first.txt")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=500, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert f"has no run {run}" in done.stderr


def test_f67_a_store_that_is_none_is_said_so(shop: Path) -> None:
    (shop / "runs" / "mlflow.db").write_bytes(b"no database at all" * 500)
    with pytest.raises(DataError, match=r"mlflow\.db: the store of runs cannot be used.*move it away"):
        track(shop / "runs", "second")


def test_f67_a_bundle_is_registered_in_the_shop_or_not_at_all(shop: Path) -> None:
    tracking.require_own_experiment(
        shop / "runs", "bundles"
    )  # there is none yet: one is made beside the store
    with closing(sqlite3.connect(shop / "runs" / "mlflow.db")) as store, store:
        store.execute(
            "UPDATE experiments SET name = 'bundles', artifact_location = 's3://b' WHERE name = 'ease'"
        )
    with pytest.raises(DataError, match="the experiment bundles keeps its files at 's3://b'"):
        tracking.require_own_experiment(shop / "runs", "bundles")


def test_f67_only_a_place_beneath_is_the_shops_own(tmp_path: Path) -> None:
    own = tmp_path / "runs" / "mlartifacts"
    for good in (own, own / "run" / "artifacts"):
        require_own(tmp_path / "runs", good.as_uri(), "the run")
        require_own(tmp_path / "runs", str(good), "the run")
    for bad in (own.parent, tmp_path / "runs" / "mlartifacts-2", own / ".." / "x", Path("/")):
        with pytest.raises(DataError):
            require_own(tmp_path / "runs", str(bad), "the run")
