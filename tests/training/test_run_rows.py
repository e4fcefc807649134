"""Runs written by SQL are those that MLflow itself would have written, and MLflow reads them."""

import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from etalage.errors import DataError
from etalage.training import run_rows
from etalage.training.experiment_store import MlflowRuns, RunStore
from etalage.training.run_rows import SCHEMA, RunRows, installed_revision, known, schema_revision
from etalage.training.tracking import Run, store
from tests.training.mlflow_schema import schema

mlflow = pytest.importorskip("mlflow")
VARYING = re.compile(r"[0-9a-f]{32}|\b1[6-9]\d{11}\b")
"""Ids of runs, and times in milliseconds."""


def by_mlflow(runs: Path) -> MlflowRuns:
    runs.mkdir(parents=True, exist_ok=True)
    return MlflowRuns(mlflow.MlflowClient(tracking_uri=store(runs), registry_uri=store(runs)))


def by_rows(runs: Path) -> RunRows:
    runs.mkdir(parents=True, exist_ok=True)
    return RunRows(runs)


def tracked(there: RunStore) -> None:
    """Two runs of one model: one that ends well, one that fails."""
    number = there.make_experiment("ease", "file:///shop/runs/mlartifacts")
    for name, status in (("first", "FINISHED"), ("second", "FAILED")):
        run = there.make_run(number, name)
        there.log(run, {"seed": "0", "long": "x" * 7000}, {"seed": "1", "long": "y" * 9000})
        there.log(run, metrics={"loss": 0.5, "gain": float("nan"), "most": float("inf")}, step=1)
        there.log(run, metrics={"loss": 0.25, "gain": 1.0}, step=2)
        there.log(run, tags={"seed": "2"}, metrics={"loss": 0.75}, step=1)
        there.end(run, status)


def rows(runs: Path) -> dict[str, list[str]]:
    """Table → its rows as text, without what differs from run to run."""
    with closing(sqlite3.connect(runs / "mlflow.db")) as opened:
        names = [n for (n,) in opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {
            n: sorted(VARYING.sub("…", repr(r)) for r in opened.execute(f"SELECT * FROM {n}")) for n in names
        }


def masters(made: sqlite3.Connection) -> dict[str, list[str]]:
    found = made.execute("SELECT type || ' ' || name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    # In which order the migrations write a table's constraints differs from process to process.
    return {str(name): sorted(str(sql).replace(",", " ").split()) for name, sql in found}


def test_the_schema_is_that_of_the_installed_mlflow() -> None:
    assert schema_revision() == installed_revision(), "python -m tests.training.mlflow_schema"
    with closing(sqlite3.connect(":memory:")) as ours, closing(sqlite3.connect(":memory:")) as theirs:
        ours.executescript(SCHEMA.read_text(encoding="utf-8"))
        theirs.executescript(schema())
        assert masters(ours) == masters(theirs)
        assert (
            ours.execute("SELECT * FROM workspaces").fetchall()
            == theirs.execute("SELECT * FROM workspaces").fetchall()
        )


def test_what_is_written_is_what_mlflow_would_have_written(tmp_path: Path) -> None:
    tracked(by_mlflow(tmp_path / "theirs"))
    tracked(by_rows(tmp_path / "ours"))
    theirs, ours = rows(tmp_path / "theirs"), rows(tmp_path / "ours")
    assert "Default" in theirs["experiments"][0] and "Default" in ours["experiments"][0]
    theirs["experiments"], ours["experiments"] = theirs["experiments"][1:], ours["experiments"][1:]
    assert ours == theirs


def test_mlflow_finds_the_run_and_its_files(tmp_path: Path) -> None:
    runs, page = tmp_path / "runs", tmp_path / "page.html"
    page.write_text("a report", encoding="utf-8")
    with Run(runs, "ease", "abc") as run:
        run.parameters({"seed": 0})
        run.file(page, "evaluation")
    client = mlflow.MlflowClient(tracking_uri=store(runs))
    found = client.get_run(run.id)
    assert (found.info.status, found.data.params, found.info.run_name) == ("FINISHED", {"seed": "0"}, "abc")
    assert [one.path for one in client.list_artifacts(run.id, "evaluation")] == ["evaluation/page.html"]


def test_a_run_that_is_interrupted_is_told_from_one_that_fails(tmp_path: Path) -> None:
    for error, status in ((KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")):
        with pytest.raises(error), Run(tmp_path, "ease", "abc") as run:
            raise error
        assert mlflow.MlflowClient(tracking_uri=store(tmp_path)).get_run(run.id).info.status == status


def test_a_store_of_another_schema_is_left_to_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_rows(tmp_path)
    assert known(tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as opened, opened:
        opened.execute("UPDATE alembic_version SET version_num = 'another'")
    assert not known(tmp_path / "mlflow.db")
    monkeypatch.setattr(run_rows, "installed_revision", lambda: "newer")
    assert not known(tmp_path / "none.db")


def test_a_deleted_experiment_and_a_damaged_store_are_said(tmp_path: Path) -> None:
    there = by_rows(tmp_path)
    there.make_experiment("ease", "file:///shop")
    with closing(sqlite3.connect(there.file)) as opened, opened:
        opened.execute("UPDATE experiments SET lifecycle_stage = 'deleted'")
    with pytest.raises(DataError, match=r"experiment ease was deleted.*restore"):
        there.experiment("ease")
    there.file.write_bytes(b"no database" * 100)
    with pytest.raises(DataError, match=r"mlflow\.db: the store of runs cannot be used"):
        there.experiment("ease")


def test_tracking_a_run_imports_no_mlflow(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from etalage.training.tracking import Run\n"
        f"with Run(Path({str(tmp_path)!r}), 'ease', 'abc') as run: run.parameters({{'seed': 0}})\n"
        "assert 'mlflow' not in sys.modules and 'sqlalchemy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_two_trainings_that_begin_a_model_at_once_share_its_experiment(tmp_path: Path) -> None:
    one, other = by_rows(tmp_path), by_rows(tmp_path)
    assert one.experiment("ease") is None and other.experiment("ease") is None
    assert one.make_experiment("ease", "file:///a") == other.make_experiment("ease", "file:///b")
    assert other.experiment("ease") == one.experiment("ease")


def test_a_database_is_made_where_the_file_system_has_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(run_rows.os, "link", refuse)
    assert by_rows(tmp_path).make_experiment("ease", "file:///a") == "1"
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize("name", ["100% wool", "what? #1"])
def test_a_folder_with_signs_of_an_address_in_its_name_is_known(tmp_path: Path, name: str) -> None:
    by_rows(tmp_path / name).make_experiment("ease", "file:///a")
    assert known(tmp_path / name / "mlflow.db")
