"""Where a shop's MLflow store keeps files: beneath its own runs/mlartifacts, and nowhere else (F67).

MLflow writes whole paths into runs/mlflow.db. Of a shop that was copied they are those of the one that it
came from, of one that somebody sent they may be any. So before anything is written, places that stand beneath
a folder `mlartifacts` are laid into this shop's, and what is elsewhere is refused.
"""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from etalage.errors import DataError

log = logging.getLogger(__name__)

FOLDER = "mlartifacts"
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)


def artifacts(runs: Path) -> Path:
    """Where the shop's MLflow store keeps files."""
    return runs.resolve() / FOLDER


def bring_home(runs: Path) -> int:
    """Lay every place that stands beneath some folder `mlartifacts` into this shop's; how many were moved.

    Raises DataError: the store cannot be read or written.
    """
    file = runs / "mlflow.db"
    if not file.exists():
        return 0
    try:
        with closing(sqlite3.connect(file, timeout=30.0)) as store:
            moved = list(_moves(store, artifacts(runs)))
            with store:
                for table, column, before, after in moved:
                    store.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (after, before))
    except sqlite3.Error as error:
        raise DataError(
            f"{file}: the store of runs cannot be used: {error}; restore it, or move it away: a new one is "
            "made, and what was tracked before is not seen any more"
        ) from error
    if moved:
        log.info("%s: %d places of files were another folder's, and are this shop's now", file, len(moved))
    return len(moved)


def require_own(runs: Path, location: str, whose: str) -> Path:
    """The folder that a path or URI of MLflow names. Raises DataError: it is not in this shop."""
    place, own = _path(location), artifacts(runs)
    if place is None or not (place.resolve() == own or place.resolve().is_relative_to(own)):
        raise DataError(
            f"{runs / 'mlflow.db'}: {whose} keeps its files at {location[:200]!r}, which is not in this "
            "shop; nothing was written there. Move mlflow.db away: a new one is made"
        )
    return place


def _moves(store: Any, own: Path) -> Iterator[tuple[str, str, str, str]]:
    """(table, column, value, what it is to be)."""
    tables = {name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for table, column in _COLUMNS:
        if table not in tables or column not in _columns_of(store, table):
            continue
        for (before,) in store.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall():
            after = _moved(before, own)
            if after is not None and after != before:
                yield table, column, before, after


def _columns_of(store: Any, table: str) -> set[str]:
    return {row[1] for row in store.execute(f"PRAGMA table_info({table})")}


def _moved(location: object, own: Path) -> str | None:
    """The same place beneath `own`; None: it stands beneath no folder `mlartifacts`, or climbs out of it."""
    place = _path(location) if isinstance(location, str) else None
    if place is None or FOLDER not in place.parts:
        return None
    at = len(place.parts) - 1 - place.parts[::-1].index(FOLDER)
    beneath = place.parts[at + 1 :]
    if ".." in place.parts or not place.is_absolute():
        return None
    return own.joinpath(*beneath).as_uri()


def _path(location: str) -> Path | None:
    """The local path that a URI or a path names; None: it is no local one."""
    parts = urlsplit(location)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(PurePosixPath(unquote(parts.path)))
    if parts.scheme == "" and location.startswith("/"):
        return Path(location)
    return None
