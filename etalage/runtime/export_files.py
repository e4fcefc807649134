"""A model's export on disk: which is the newest, what it says of itself, its verdict, its files, their hash.

The folder of an export of behaviour (training/behaviour_export.py) or, aligned to a bundle's items, of a
model in a bundle (runtime/aligning.py):

    export.json   items.arrow users.arrow   *.npy   query.onnx item.onnx rank.onnx
    item_encoder.json user_encoder.json   item_features/   pairs/   feature_sources/<name>.npy

`training.export` and its siblings write them; reading them needs no torch, so publishing needs none either.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from etalage.errors import ExportDamaged, NothingToPublish
from etalage.features.vocabulary import Vocabulary

if TYPE_CHECKING:
    from etalage.features.photo_blocks import Given, Looked

FORMAT = 2
"""1: the kind of an export of behaviour was called `scoring`, the others had none, and each had a hash of its
own. 2: every export says its `kind`, and has the one hash. Both are read."""
ModelKind = Literal["prior", "item_item", "embeddings", "pairs", "photos", "classifier"]
"""How an export is opened: the name of a file of runtime/."""
FACTS, VERDICT, ITEMS, USERS, TO_MODEL = (
    "export.json",
    "evaluation.json",
    "items.arrow",
    "users.arrow",
    "to_model.npy",
)
QUERY, ITEM, RANK = "query.onnx", "item.onnx", "rank.onnx"
TABLE = "table"
"""Folder of a ranker that learned from a table of the shop's own: how its columns are encoded."""
ITEM_ENCODER, USER_ENCODER, ITEM_FEATURES, PAIRS = (
    "item_encoder.json",
    "user_encoder.json",
    "item_features",
    "pairs",
)
FEATURE_SOURCES = "feature_sources"
"""Folder of (N + 1, D) float32 by source: what the model learned its items from. In export.json: the hash of
the export that made each."""


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


def export_role(facts: Mapping[str, Any]) -> str:
    """What the model is for: embedder, ranker, classifier or closed_form, which format 1 called counter."""
    role = str(facts.get("role", "embedder"))
    return "closed_form" if role == "counter" else role


def export_kind(facts: Mapping[str, Any]) -> str:
    """One of ModelKind, or what a later version has; exports of format 1 are known by what they hold."""
    said = facts.get("kind") or facts.get("scoring")
    return str(said) if said else "classifier" if facts.get("role") == "classifier" else "photos"


def check_format(folder: Path, version: int, newest: int = FORMAT) -> None:
    """Raises ExportDamaged: an export of a format that came later."""
    if version > newest:
        raise ExportDamaged(
            f"{folder}: format {version}, this Etalage reads up to {newest}; install a newer one"
        )


def check_hash(folder: Path, found: str, kept: str) -> None:
    """Raises ExportDamaged: the files hash to `found`, export.json says `kept`."""
    if found != kept:
        raise ExportDamaged(f"{folder}: the model's hash is {found[:12]}, export.json says {kept[:12]}")


def require_same(folder: Path, found: str, meant: str) -> None:
    """Raises ExportDamaged: what a worker opens is another model than the one that it was asked to open."""
    if found != meant:
        raise ExportDamaged(
            f"{folder}: model {found[:12]} is there, and not {meant[:12]}, which the work began with: "
            "was it exported anew meanwhile? Run it again"
        )


def write_verdict(export: Path, verdict: dict[str, Any]) -> None:
    """Keep what the evaluation found beside the export; whole or not at all."""
    write_beside(export, VERDICT, json.dumps(verdict, indent=1))


def write_beside(export: Path, name: str, text: str) -> None:
    """A file in the folder of an export, written whole or not at all."""
    draft = export / f".{name}"
    draft.write_text(text, encoding="utf-8")
    draft.replace(export / name)


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


def hash_export(folder: Path, names: Iterable[str] | None = None) -> str:
    """SHA-256 over the names and bytes of everything that decides an answer: the files `names`, or all but
    what is said of the model."""
    if names is None:
        every = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        names = (n for n in every if n not in (FACTS, VERDICT) and not n.rpartition("/")[2].startswith("."))
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(name.encode() + b"\0" + (folder / name).read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class ExportFiles:
    """What every export has."""

    folder: Path
    facts: dict[str, Any]
    items: Vocabulary
    users: Vocabulary
    to_model: np.ndarray | None
    """(N + 1,) int64: row of the bundle's items → row of the model's; None: they are the same."""

    def array(self, name: str, ndim: int) -> np.ndarray:
        """Map `name`.npy. Raises ExportDamaged."""
        file = self.folder / f"{name}.npy"
        try:
            found: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            try:  # an array without elements cannot be mapped
                found = np.load(file, allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise ExportDamaged(f"{file}: {error}; export the model again") from error
        if found.ndim != ndim:
            raise ExportDamaged(f"{file}: shape {found.shape}, expected {ndim} axes; export the model again")
        return found

    def model_rows(self, rows: np.ndarray) -> np.ndarray:
        return rows if self.to_model is None else self.to_model[rows]


def read_export(folder: Path, verify: bool = True) -> ExportFiles:
    """Check and open what every export has. verify=False: its files were hashed just now.

    Raises ExportDamaged.
    """
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        kept, version, _ = str(facts["model_hash"]), int(facts["format"]), str(facts["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportDamaged(f"{folder / FACTS}: {error!r}; export the model again") from error
    check_format(folder, version)
    if verify:
        check_hash(folder, hash_export(folder), kept)
    none = Vocabulary([])
    items, users = (Vocabulary.open(folder / f) if (folder / f).exists() else none for f in (ITEMS, USERS))
    opened = ExportFiles(folder, facts, items, users, None)
    if (folder / TO_MODEL).exists():
        opened = ExportFiles(folder, facts, items, users, np.array(opened.array("to_model", 1), np.int64))
    return opened


def save_array(file: Path, array: np.ndarray) -> None:
    """Write an array that cannot run code when it is read."""
    with file.open("wb") as sink:
        np.lib.format.write_array(sink, np.ascontiguousarray(array), allow_pickle=False)


class LooksAtPhotos(Protocol):
    """An opened export that embeds photos or makes features of them."""

    model_hash: str

    def look(self, photos: "Given") -> "Looked": ...


@dataclass(frozen=True)
class LookBy:
    """`look` of the export in `folder`, in whatever process; opened there once, on one thread. Raises
    ExportDamaged: also another model than the one that was meant."""

    opener: Callable[[Path], LooksAtPhotos]
    folder: Path
    model_hash: str

    def __call__(self, photos: "Given") -> "Looked":
        return _opened(self).look(photos)


@lru_cache(maxsize=2)
def _opened(by: LookBy) -> LooksAtPhotos:
    found = by.opener(by.folder)
    require_same(by.folder, found.model_hash, by.model_hash)
    return found
