"""The folder of a model's exports, read: which is the newest, what it is, how it was judged.

`training.export` writes them; reading them needs no torch, so publishing needs none either.
"""

import json
from pathlib import Path
from typing import Any

from etalage.errors import ExportDamaged, NothingToPublish

VERDICT = "evaluation.json"


def newest_export(folder: Path) -> Path:
    """The export with the highest number. Raises NothingToPublish when there is none."""
    found = sorted(p for p in folder.glob("[0-9]*-*") if (p / "export.json").is_file())
    if not found:
        raise NothingToPublish(f"{folder}: no trained model; run `etalage train {folder.name}` first")
    return found[-1]


def read_facts(folder: Path) -> dict[str, Any]:
    """What export.json says of the model: config, metrics, data, run."""
    facts: dict[str, Any] = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    return facts


def check_format(folder: Path, version: int, newest: int) -> None:
    """Raises ExportDamaged: an export of a format that came later."""
    if version > newest:
        raise ExportDamaged(
            f"{folder}: format {version}, this Etalage reads up to {newest}; install a newer one"
        )


def check_hash(folder: Path, found: str, kept: str) -> None:
    """Raises ExportDamaged: the files hash to `found`, export.json says `kept`."""
    if found != kept:
        raise ExportDamaged(f"{folder}: the model's hash is {found[:12]}, export.json says {kept[:12]}")


def write_verdict(export: Path, verdict: dict[str, Any]) -> None:
    """Keep what the evaluation found beside the export; whole or not at all."""
    draft = export / f".{VERDICT}"
    draft.write_text(json.dumps(verdict, indent=1), encoding="utf-8")
    draft.replace(export / VERDICT)


def read_verdict(export: Path) -> dict[str, Any] | None:
    """What `evaluate` kept beside the export; None when it was not evaluated."""
    file = export / VERDICT
    if not file.exists():
        return None
    try:
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return kept
    except ValueError as error:
        raise ExportDamaged(f"{file}: {error}; evaluate the model again") from error
