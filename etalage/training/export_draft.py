"""A folder that becomes the next export of a model. Nothing here needs torch: closed-form models are exported
without it.

exports/<model>/0003-1a2b3c4d/   export.json, and what the model's kind has beside it
"""

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etalage.errors import NothingToPublish
from etalage.models.recipe import Role, Trained
from etalage.runtime.export_files import FACTS, FORMAT, ModelKind, hash_export, newest_export, read_facts

_MADE_OF = ("model_hash", "data", "tables", "inputs", "config", "judged", "behaviour")
"""Facts of an export that say what its model is, of what it was made, how, and by which settings of
[behaviour]; and which model was judged for it, where it was fitted on everything."""


class ExportDraft:
    """A folder that becomes the next export of a model: its files are written, what is said of them is told,
    and when it was opened and compared it gets its name. What fails on the way leaves no export behind."""

    def __init__(
        self,
        trained: Trained[Any],
        folder: Path,
        role: Role,
        kind: ModelKind,
        hashed: Sequence[str] | None = None,
    ) -> None:
        """folder: of the model's exports. hashed: the files that decide an answer; None: all."""
        self._folder, self._hashed = folder, hashed
        self.path = folder / f".draft-{os.getpid()}"
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True)
        self._facts: dict[str, Any] = {
            "format": FORMAT,
            "name": trained.recipe,
            "role": role,
            "kind": kind,
            "config": trained.config.model_dump(mode="json"),
            "metrics": trained.metrics,
            "history": trained.history,
            "seconds": round(trained.seconds, 3),
            "cpu_seconds": round(trained.cpu_seconds, 3),
            "run": trained.run.name,
            **trained.facts,
        }

    def __enter__(self) -> "ExportDraft":
        return self

    def __exit__(self, *raised: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def tell(self, **facts: Any) -> None:
        """Write export.json about the files as they are now, with these facts and those told before."""
        self._facts |= facts
        self._facts["model_hash"] = hash_export(self.path, self._hashed)
        (self.path / FACTS).write_text(json.dumps(self._facts, indent=1, sort_keys=True), encoding="utf-8")

    def named(self) -> Path:
        """The next `folder/NNNN-hash8`; or the newest export, if it is this very model."""
        if (same := _same_model(self._folder, self._facts)) is not None:
            return same
        target = self._folder / f"{next_number(self._folder):04d}-{self._facts['model_hash'][:8]}"
        self.path.rename(target)
        return target


def _same_model(folder: Path, facts: Mapping[str, Any]) -> Path | None:
    """The newest export, if it is of this very model, made of the same by the same settings: its evaluation
    then still holds. Counts of other data may be the same numbers, and are judged on those."""
    try:
        newest = newest_export(folder)
    except NothingToPublish:
        return None
    known = read_facts(newest)
    return newest if all(known.get(n) == facts.get(n) for n in _MADE_OF) else None


def next_number(folder: Path) -> int:
    """Of the export that comes next into `folder`."""
    taken = [int(m[1]) for p in folder.iterdir() if (m := re.match(r"(\d+)-", p.name))]
    return max(taken, default=0) + 1
