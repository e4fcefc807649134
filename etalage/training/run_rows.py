"""Runs written into MLflow's own database, runs/mlflow.db, without importing MLflow.

That import takes longer than most closed-form models take to count. So what a training tracks, one run with
parameters, tags and metrics, is written by SQL, row by row as MLflow's own client writes it; a test holds the
two equal. This is done only where the database, or for a new one the MLflow that is installed, has exactly
the schema of mlflow_store.sql; everywhere else tracking.py asks MLflow itself.
"""

import math
import os
import re
import sqlite3
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from etalage.errors import DataError
from etalage.training.artifact_places import artifacts
from etalage.training.experiment_store import Experiment, KnownRun

SCHEMA = Path(__file__).with_name("mlflow_store.sql")
LONGEST_PARAMETER, LONGEST_TAG = 6000, 8000
"""Characters of a value; MLflow cuts longer ones, too."""
_REVISION = re.compile(r"INSERT INTO \"?alembic_version\"? VALUES\('(\w+)'\)")
_OF_FILE = re.compile(r"^(revision|down_revision)\s*(?::[^=]*)?=\s*(.*)$", re.MULTILINE)


def known(database: Path) -> bool:
    """Whether a database, or one that MLflow would make here, has the schema that is written here."""
    ours = schema_revision()
    if installed_revision() != ours:
        return False
    if not database.exists():
        return True
    try:
        with closing(
            sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=30.0)
        ) as opened:
            return opened.execute("SELECT version_num FROM alembic_version").fetchall() == [(ours,)]
    except sqlite3.Error:
        return False


@cache
def schema_revision() -> str:
    """The revision of mlflow_store.sql."""
    found = _REVISION.search(SCHEMA.read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


@cache
def installed_revision() -> str | None:
    """The newest schema of the MLflow that is installed, read from its files; None: there is none."""
    spec = find_spec("mlflow")
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    revisions: set[str] = set()
    before: set[str] = set()
    for place in places:
        for file in Path(place, "store", "db_migrations", "versions").glob("*.py"):
            for name, value in _OF_FILE.findall(file.read_text(encoding="utf-8")):
                named = re.findall(r"['\"](\w+)['\"]", value)
                (revisions if name == "revision" else before).update(named)
    heads = revisions - before
    return heads.pop() if len(heads) == 1 else None


class RunRows:
    """The experiments and runs of a shop's MLflow database. Raises DataError: it cannot be used."""

    def __init__(self, runs: Path) -> None:
        self.file = runs / "mlflow.db"
        if not self.file.exists():
            self._make(runs)

    def _make(self, runs: Path) -> None:
        """As MLflow makes one: the tables, and an experiment 0. Made beside it: it is there whole."""
        part = self.file.with_name(f".mlflow-{os.getpid()}.db")
        part.unlink(missing_ok=True)
        with self._usable():
            with closing(sqlite3.connect(part)) as made:
                made.executescript(SCHEMA.read_text(encoding="utf-8"))
                _insert_experiment(made, "Default", (artifacts(runs) / "0").as_uri(), number=0)
                made.commit()
            try:
                os.link(part, self.file)  # whoever is first
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                if not self.file.exists():
                    part.rename(self.file)
            finally:
                part.unlink(missing_ok=True)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise DataError(
                f"{self.file}: the store of runs cannot be used: {error}; restore it, or move it away: a new "
                "one is made, and what was tracked before is not seen any more"
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._usable(), closing(sqlite3.connect(self.file, timeout=30.0)) as opened, opened:
            opened.execute("BEGIN IMMEDIATE")
            yield opened

    def experiment(self, name: str) -> Experiment | None:
        """None: there is none of this name."""
        with self._transaction() as opened:
            found = opened.execute(
                "SELECT experiment_id, artifact_location, lifecycle_stage FROM experiments WHERE name = ?",
                (name,),
            ).fetchone()
        if found is None:
            return None
        if found[2] != "active":
            raise DataError(
                f"{self.file}: the experiment {name} was deleted in MLflow; restore it there: `mlflow "
                f"experiments restore --experiment-id {found[0]}`"
            )
        return Experiment(str(found[0]), str(found[1]))

    def make_experiment(self, name: str, location: str) -> str:
        """The id of a new one, whose files are beneath `location`, a URI; or of the one of this name that
        another training has made meanwhile."""
        with self._transaction() as opened:
            there = opened.execute("SELECT experiment_id FROM experiments WHERE name = ?", (name,)).fetchone()
            return str(there[0] if there else _insert_experiment(opened, name, location))

    def make_run(self, experiment: str, name: str) -> str:
        """The id of a new run."""
        run = uuid.uuid4().hex
        with self._transaction() as opened:
            (location,) = opened.execute(
                "SELECT artifact_location FROM experiments WHERE experiment_id = ?", (experiment,)
            ).fetchone()
            opened.execute(
                "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, "
                "status, start_time, source_version, lifecycle_stage, artifact_uri, experiment_id) "
                "VALUES (?, ?, 'UNKNOWN', '', '', 'unknown', 'RUNNING', ?, '', 'active', ?, ?)",
                (run, name, _now(), f"{location}/{run}/artifacts", experiment),
            )
            _put_tags(opened, run, {"mlflow.runName": name})
        return run

    def run(self, run: str) -> KnownRun | None:
        """None: there is no such run, it may have been moved away."""
        with self._transaction() as opened:
            found = opened.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run,)).fetchone()
            parameters = opened.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run,)).fetchall()
        return None if found is None else KnownRun(str(found[0]), dict(parameters))

    def log(
        self,
        run: str,
        parameters: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
    ) -> None:
        """New parameters, tags, and metrics of a step."""
        now = _now()
        with self._transaction() as opened:
            opened.executemany(
                "INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)",
                [(key, value[:LONGEST_PARAMETER], run) for key, value in (parameters or {}).items()],
            )
            _put_tags(opened, run, tags or {})
            rows = [(key, *_finite(value), now, step, run) for key, value in (metrics or {}).items()]
            opened.executemany(
                "INSERT OR IGNORE INTO metrics (key, value, is_nan, timestamp, step, run_uuid) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )
            opened.executemany(
                "INSERT INTO latest_metrics (key, value, is_nan, timestamp, step, run_uuid) "
                "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value, "
                "is_nan = excluded.is_nan, timestamp = excluded.timestamp, step = excluded.step "
                "WHERE (excluded.step, excluded.timestamp, excluded.value) > (step, timestamp, value)",
                rows,
            )

    def end(self, run: str, status: str) -> None:
        """FINISHED, FAILED or KILLED."""
        with self._transaction() as opened:
            opened.execute(
                "UPDATE runs SET status = ?, end_time = ? WHERE run_uuid = ?", (status, _now(), run)
            )


def _insert_experiment(
    opened: sqlite3.Connection, name: str, location: str, number: int | None = None
) -> int | None:
    now = _now()
    return opened.execute(
        "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, "
        "last_update_time) VALUES (?, ?, ?, 'active', ?, ?)",
        (number, name, location, now, now),
    ).lastrowid


def _put_tags(opened: sqlite3.Connection, run: str, tags: Mapping[str, str]) -> None:
    opened.executemany(
        "INSERT OR REPLACE INTO tags (key, value, run_uuid) VALUES (?, ?, ?)",
        [(key, value[:LONGEST_TAG], run) for key, value in tags.items()],
    )


def _finite(value: float) -> tuple[float, bool]:
    """The value as a database takes it, and whether it is none."""
    if math.isnan(value):
        return 0.0, True
    return max(min(float(value), sys.float_info.max), -sys.float_info.max), False


def _now() -> int:
    return int(time.time() * 1000)
