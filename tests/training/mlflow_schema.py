"""Writes etalage/training/mlflow_store.sql: the empty store that the installed MLflow makes.

    python -m tests.training.mlflow_schema

To be run when a newer MLflow is pinned; tests/training/test_run_rows.py says so.
"""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from etalage.training.run_rows import SCHEMA


def schema() -> str:
    """The SQL of an empty store of the installed MLflow."""
    from mlflow.tracking import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mlflow.db"
        MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
        with closing(sqlite3.connect(file)) as made:
            made.execute("DELETE FROM experiments")
            made.commit()
            return "\n".join(made.iterdump()) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema(), encoding="utf-8")
