"""What a shop remembers of its online stores, beside them: live/stores.json.

    {"seeded": "<store id>",
     "collected": {"<store id>": {"after": 350, "event_id": "e350", "tables": {
         "interactions": {"table_id": "<table>", "version": 12, "commit": "<SHA-256>"}}}}}

The number of an event means something in its own store alone: one that was put in another's place counts from
1 again (F63), as does one that was emptied. So a mark belongs to a store, and names the event that stood
there. And it belongs to what the tables that events go into were then: one that was deleted, or put back from
a copy, may have lost them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from etalage.lake.durable_files import replace_durably
from etalage.lake.ledger import Moment

FILE = "stores.json"


@dataclass(frozen=True)
class Mark:
    """The last event of a store that was collected."""

    after: int
    """Its number."""
    event_id: str
    tables: Mapping[str, Moment]
    """What the tables that events go into were when it had been collected; those that there were."""


@dataclass(frozen=True)
class Marks:
    """All that is remembered."""

    seeded: str | None = None
    """The store that the newest publish filled with histories."""
    collected: Mapping[str, Mark] = field(default_factory=dict)

    def moved(self, store_id: str, mark: Mark) -> "Marks":
        """The same with another mark for one store."""
        return replace(self, collected={**self.collected, store_id: mark})


def read_marks(folder: Path) -> Marks:
    """Of the shop's live/ folder. What cannot be read counts as never written: everything is collected again,
    which changes nothing in the table."""
    try:
        found = json.loads((folder / FILE).read_bytes())
        seeded = found["seeded"]
        marks = {str(name): _mark(one) for name, one in found["collected"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Marks()
    return Marks(None if seeded is None else str(seeded), marks)


def _mark(said: Mapping[str, Any]) -> Mark:
    tables = {
        str(name): Moment(
            str(one["table_id"]),
            int(one["version"]),
            None if one["commit"] is None else str(one["commit"]),
        )
        for name, one in said["tables"].items()
    }
    return Mark(int(said["after"]), str(said["event_id"]), tables)


def write_marks(folder: Path, marks: Marks) -> None:
    """Replace them, whole. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    collected = {name: asdict(mark) for name, mark in marks.collected.items()}
    text = json.dumps({"seeded": marks.seeded, "collected": collected})
    replace_durably(folder / FILE, text.encode())
