"""MLflow's empty store, made once a run: its migrations take three seconds of processor time, and every
fresh shop that trains would make them anew."""

import os
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any


def share_empty_store(kept: Path) -> None:
    """From now on a new store is a copy of `kept`; where that is not there yet, MLflow makes the store, and
    it is kept. Does nothing until somebody has imported MLflow."""
    stores = sys.modules.get("mlflow.store.db.utils")
    if stores is None or hasattr(stores._initialize_tables, "made_by_mlflow"):
        return
    made_by_mlflow = stores._initialize_tables

    def initialize(engine: Any) -> None:
        if engine.url.get_backend_name() != "sqlite":
            return made_by_mlflow(engine)
        if kept.exists():
            _copy(kept, Path(engine.url.database))
            return None
        made_by_mlflow(engine)
        part = kept.with_suffix(f".{os.getpid()}")  # whoever is first: they are all alike
        _copy(Path(engine.url.database), part)
        part.rename(kept)
        return None

    initialize.made_by_mlflow = made_by_mlflow  # type: ignore[attr-defined]
    stores._initialize_tables = initialize  # type: ignore[attr-defined]


def _copy(source: Path, target: Path) -> None:
    if not target.exists():
        shutil.copyfile(source, target)
        return
    with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as written:
        read.backup(written)
