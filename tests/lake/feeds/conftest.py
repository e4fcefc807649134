"""Feeds and exports as files, loaded into a lake of their own."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from etalage.config import MappingConfig
from etalage.lake.delta import Lake
from etalage.lake.ingest import Ingested, TableName, ingest


@dataclass(frozen=True)
class LoadedFile:
    """What an ingest did, and the lake that it left."""

    done: Ingested
    lake: Lake

    @property
    def notes(self) -> str:
        return "\n".join(map(str, self.done.notes))

    def rows(self, table: str = "items") -> list[dict[str, Any]]:
        there = self.lake.table(table)
        return there.read().to_pylist() if there.exists() else []

    @property
    def items(self) -> dict[str, dict[str, Any]]:
        return {row["item_id"]: row for row in self.rows()}

    def attributes(self, item: str) -> dict[str, str]:
        return json.loads(self.items[item]["attributes"] or "{}")

    def links(self, item: str) -> list[str]:
        """The item's photos: the main one, then the others by url."""
        main = self.items[item]["photo_url"]
        return [main, *sorted(row["url"] for row in self.rows("photos") if row["item_id"] == item)]


Load = Callable[..., LoadedFile]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """load(content, name, table, mapping, **options of ingest)"""

    def loaded(
        content: str | bytes,
        name: str = "feed.csv",
        table: TableName = "items",
        mapping: MappingConfig | None = None,
        **options: Any,
    ) -> LoadedFile:
        file = tmp_path / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        lake = Lake(tmp_path / "tables")
        return LoadedFile(ingest(lake, file, table, mapping, **options), lake)

    return loaded
