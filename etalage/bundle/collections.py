"""The collections that a shop's bundles have in a vector database: named before they are made, dropped with
their bundle, and an alias for each model that names the current one.

    bundles/collections.json    every collection that this shop made and has not dropped, and where

A collection is written down before it is made, so that one that a kill left half filled is known, and dropped
by the next publish. Only what is written there is ever dropped. A copy of a shop's folder has a copy of the
file, which says which folder it is of: the copy drops nothing.
"""

import json
import logging
import secrets
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from etalage.errors import EtalageError, IndexMismatch, IndexUnavailable
from etalage.index.milvus import MilvusSettings, where
from etalage.index.milvus_collection import Collection, drop_alias, point_alias
from etalage.lake.durable_files import write_file

log = logging.getLogger(__name__)

COLLECTIONS = "collections.json"


class Collections:
    """Those of the bundles in `folder`; whoever writes holds its lock `publishing()`."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def name(self, settings: MilvusSettings) -> str:
        """The name of a collection that is about to be made. Raises OSError."""
        name = f"{settings.prefix}_{secrets.token_hex(6)}"
        self._write({**self._read(), name: settings.model_dump(mode="json")})
        return name

    def sweep(self) -> list[str]:
        """Drop the collections that no bundle has; → their names. What cannot be dropped now is said, and
        stays written down. Raises OSError."""
        known = self._read()
        if not known:
            return []
        try:
            had = {name for folder in self._bundles() for name, _ in indexes_of(folder).values()}
        except IndexMismatch as error:
            log.warning("no collection is dropped while it is not known which ones are needed: %s", error)
            return []
        dropped = []
        for name, raw in known.items():
            if name in had:
                continue
            try:
                Collection(MilvusSettings.model_validate(raw).server, name).drop()
            except EtalageError as error:
                log.warning("collection %s is to be dropped by the next publish: %s", name, error)
                continue
            dropped.append(name)
        if dropped:
            self._write({name: raw for name, raw in known.items() if name not in dropped})
        return dropped

    def _bundles(self) -> Iterator[Path]:
        return (entry for entry in self.folder.iterdir() if (entry / "indexes").is_dir())

    def _read(self) -> dict[str, Any]:
        file = self.folder / COLLECTIONS
        if not file.exists():
            return {}
        try:
            raw = json.loads(file.read_text(encoding="utf-8"))
            of, known = raw["folder"], dict(raw["collections"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be read (%s): collections that it named are not dropped", file, error)
            return {}
        if known and of != str(self.folder.resolve()):
            log.warning(
                "%s is of the shop in %s: the %d collections that it names are left as they are",
                file, of, len(known),
            )  # fmt: skip
            return {}
        return known

    def _write(self, known: dict[str, Any]) -> None:
        content = {"folder": str(self.folder.resolve()), "collections": known}
        temporary = self.folder / f".{COLLECTIONS}"
        temporary.unlink(missing_ok=True)
        write_file(temporary, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
        temporary.rename(self.folder / COLLECTIONS)


def indexes_of(bundle: Path) -> dict[str, tuple[str, MilvusSettings]]:
    """Model → the collection that the bundle in this folder has of it, and where. Raises IndexMismatch."""
    found = {}
    for folder in sorted((bundle / "indexes").glob("*")):
        there = where(folder)
        if there is not None:
            found[folder.name] = there
    return found


def nothing_to_take_back() -> None:
    """What `switch_aliases` returns, before it was called."""


def switch_aliases(before: Path | None, after: Path) -> Callable[[], None]:
    """Make the alias `<prefix>_<model>` name the collection of the bundle in `after`, for each of its models,
    and drop those of models that only the bundle in `before` has; → what takes it back.

    Raises IndexUnavailable: an alias cannot be made or moved; nothing has changed, or it has been taken back.
    An alias that cannot be dropped is said.
    """
    undone: list[Callable[[], object]] = []

    def take_back() -> None:
        for undo in reversed(undone):
            try:
                undo()
            except IndexUnavailable as error:
                log.warning("an alias could not be put back: %s", error)

    theirs = indexes_of(after)
    gone = {}
    if before is not None and before.is_dir():
        gone = {model: there for model, there in indexes_of(before).items() if model not in theirs}
    try:
        for model, (name, settings) in theirs.items():
            alias = f"{settings.prefix}_{model}"
            named = point_alias(settings.server, alias, name)
            if named is None:
                undone.append(partial(drop_alias, settings.server, alias))
            elif named != name:
                undone.append(partial(point_alias, settings.server, alias, named))
    except IndexUnavailable:
        take_back()
        raise
    for model, (name, settings) in gone.items():
        alias = f"{settings.prefix}_{model}"
        try:
            drop_alias(settings.server, alias)
        except IndexUnavailable as error:  # a Milvus that is given up may be gone for good
            log.warning("alias %s still names a collection of the bundle before: %s", alias, error)
            continue
        undone.append(partial(point_alias, settings.server, alias, name))
    return take_back
