"""Bundles of older formats, read as ones of today: what stood in places of its own becomes an entry of the
manifest, and rows that were counted from 0 are counted from 1.

N items   D embedding dimension
"""

from pathlib import Path
from typing import Any

import numpy as np

from etalage.index import Index, open_index
from etalage.index.contract import Found, Norm

ENTRIES = 4
"""The first format in which every model is an entry of `models`."""
_APART = ("model", "index", "indexed", "classifier", "verdict")
"""Where photos and classifier stood before."""


def as_today(raw: Any) -> Any:
    """The content of manifest.json in the fields of the newest format; what is none of ours comes back as it
    is, for the fields' own checks to refuse."""
    if not isinstance(raw, dict) or not isinstance(raw.get("format"), int) or raw["format"] >= ENTRIES:
        return raw
    kept = {key: value for key, value in raw.items() if key not in _APART}
    try:
        models = [_behaviour(one) for one in raw.get("models", ())]
        if raw.get("model") is not None:
            models.append(_photos(raw))
        if raw.get("classifier") is not None:
            models.append(_classifier(raw["classifier"]))
    except (KeyError, TypeError, AttributeError):
        return raw
    return {**kept, "models": models}


def _behaviour(one: dict[str, Any]) -> dict[str, Any]:
    entry = {key: value for key, value in one.items() if key not in ("scoring", "placed", "indexed")}
    index = one.get("index")
    if index is not None:
        index = {**index, "dir": f"indexes/{one['name']}", "indexed": one.get("indexed", 0), "first_row": 0}
    role = "closed_form" if one["role"] == "counter" else one["role"]
    return {**entry, "role": role, "kind": one["scoring"], "aligned": one["placed"], "index": index}


def _photos(raw: dict[str, Any]) -> dict[str, Any]:
    model = raw["model"]
    return {
        "name": model["name"],
        "kind": "photos",
        "role": "embedder",
        "hash": model["hash"],
        "aligned": model["hash"],
        "dir": f"models/{model['name']}",
        "dimension": model["dimension"],
        "verdict": raw.get("verdict"),
        "forced": "gate" in raw.get("forced", ()),
        "embeddings": "embeddings.npy",
        "index": {**raw["index"], "dir": "index", "indexed": raw["indexed"], "first_row": 0},
    }


def _classifier(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": one["name"],
        "kind": "classifier",
        "role": "classifier",
        "hash": one["hash"],
        "aligned": one["hash"],
        "dir": f"models/{one['name']}",
        "verdict": one.get("verdict"),
        "forced": one.get("forced", False),
        "classifier": {name: one[name] for name in ("taxonomy", "leaves", "text", "settings")},
    }


def opened_embeddings(embeddings: np.ndarray, first_row: int) -> np.ndarray:
    """(N + 1, D) of what a photo embedder made, row 0 unknown; first_row: of the first item in the bundle."""
    if first_row == 1:
        return embeddings
    return np.concatenate([np.zeros_like(embeddings[:1]), embeddings])


def opened_index(folder: Path, first_row: int, threads: int, **expected: Any) -> Index:
    """The index in `folder`, whose rows are the bundle's item rows; see `index.open_index`."""
    index = open_index(folder, threads, **expected)
    return index if first_row == 1 else _CountedFrom1(index)


class _CountedFrom1:
    """An index of rows 0 … N - 1, asked about rows 1 … N."""

    filters_itself = False

    def __init__(self, index: Index) -> None:
        self._index = index
        self.dimension: int = index.dimension
        self.norm: Norm = index.norm
        self.model_hash: str = index.model_hash

    @property
    def is_exact(self) -> bool:
        return self._index.is_exact

    @property
    def rows(self) -> np.ndarray:
        return self._index.rows + 1

    def __len__(self) -> int:
        return len(self._index)

    def add(self, rows: np.ndarray, embeddings: np.ndarray) -> None:
        self._index.add(np.asarray(rows) - 1, embeddings)

    def remove(self, rows: np.ndarray) -> int:
        return self._index.remove(np.asarray(rows) - 1)

    def reset(self) -> None:
        self._index.reset()

    def search(self, queries: np.ndarray, k: int, allow: np.ndarray | None = None) -> Found:
        found = self._index.search(queries, k, None if allow is None else allow[1:])
        return Found(found.scores, np.where(found.rows < 0, -1, found.rows + 1))

    def save(self, folder: Path) -> None:
        self._index.save(folder)
