"""What every exported model of behaviour has: facts, vocabularies, arrays, and how it is asked.

The folder of an export (training/behaviour_export.py) or, laid onto a bundle's items, of a model in a
bundle (bundle/placing.py):

    export.json   items.arrow users.arrow   *.npy   query.onnx item.onnx rank.onnx
    item_encoder.json user_encoder.json   item_features/   pairs/

    B queries   N items (row 0: unknown)   K items a query
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from etalage.bundle.exports import check_format, check_hash
from etalage.errors import ExportDamaged
from etalage.features.behaviour import NEVER, Queries
from etalage.features.encoder import Encoder, Features
from etalage.features.vocabulary import Vocabulary

FORMAT = 1
FACTS, VERDICT, ITEMS, USERS, TO_MODEL = (
    "export.json",
    "evaluation.json",
    "items.arrow",
    "users.arrow",
    "to_model.npy",
)
QUERY, ITEM, RANK = "query.onnx", "item.onnx", "rank.onnx"
ITEM_ENCODER, USER_ENCODER, ITEM_FEATURES, PAIRS = (
    "item_encoder.json",
    "user_encoder.json",
    "item_features",
    "pairs",
)


def hash_export(folder: Path) -> str:
    """SHA-256 over the names and bytes of everything that decides a score."""
    digest = hashlib.sha256()
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = file.relative_to(folder).as_posix()
        if name not in (FACTS, VERDICT) and not file.name.startswith("."):
            digest.update(name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Opened:
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


class Base(ABC):
    """Name, vocabularies, and how a question is put to this model."""

    def __init__(self, opened: Opened) -> None:
        facts = opened.facts
        self.opened = opened
        self.name, self.role = str(facts["name"]), str(facts["role"])
        self.model_hash = str(facts.get("export_hash", facts["model_hash"]))
        self.kinds: tuple[str, ...] = tuple(facts.get("kinds", ()))
        self.items, self.users = opened.items, opened.users
        self._code = {kind: n for n, kind in enumerate(self.kinds, start=1)}
        file = opened.folder / USER_ENCODER
        self.user_encoder = Encoder.from_json(file.read_text("utf-8"), str(file)) if file.exists() else None

    def ask(
        self,
        user_id: str | None,
        rows: Sequence[int] | np.ndarray,
        kinds: Sequence[str],
        times: Sequence[int] | np.ndarray,
        now: int = NEVER,
        attributes: str | None = None,
    ) -> Queries:
        """One question: the acts' item rows (of `self.items`), oldest first, with their kinds and times.

        attributes: the users table's JSON of this shopper.
        """
        features = Features()
        if self.user_encoder is not None:
            features = self.user_encoder.encode(pa.table({"attributes": pa.array([attributes], pa.string())}))
        return Queries(
            np.array([self.users.row(user_id)], np.int64),
            np.array([0, len(rows)], np.int64),
            np.asarray(rows, np.int64),
            np.array([self._code.get(kind, 0) for kind in kinds], np.int64),
            np.asarray(times, np.int64),
            np.array([now], np.int64),
            features,
        )

    @abstractmethod
    def knows(self, queries: Queries) -> np.ndarray: ...

    @abstractmethod
    def scores(self, queries: Queries) -> np.ndarray: ...

    def scores_of(self, queries: Queries, items_BK: np.ndarray) -> np.ndarray:
        return np.take_along_axis(self.scores(queries), items_BK, axis=1)


def user_feature(queries: Queries, name: str) -> np.ndarray:
    columns = queries.features.columns
    key = name.removeprefix("user.")
    if key not in columns:
        raise ExportDamaged(
            f"the model asks for {name!r}; of a shopper there are: {', '.join(columns) or 'none'}"
        )
    return columns[key]


def read_opened(folder: Path, verify: bool = True) -> Opened:
    """Check and open what every export has. verify=False: its files were hashed just now.

    Raises ExportDamaged.
    """
    try:
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        kept, version, _ = str(facts["model_hash"]), int(facts["format"]), str(facts["scoring"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportDamaged(f"{folder / FACTS}: {error!r}; export the model again") from error
    check_format(folder, version, FORMAT)
    if verify:
        check_hash(folder, hash_export(folder), kept)
    none = Vocabulary([])
    items, users = (Vocabulary.open(folder / f) if (folder / f).exists() else none for f in (ITEMS, USERS))
    opened = Opened(folder, facts, items, users, None)
    if (folder / TO_MODEL).exists():
        opened = Opened(folder, facts, items, users, np.array(opened.array("to_model", 1), np.int64))
    return opened
