"""Labelled rows of sparse and dense features: what a ranker learns from (data = "examples").

    M rows   S sparse features   F dense features   O labels

Arrays may be memory-mapped: nothing here copies them as a whole. `criteo.py` reads the public click logs
into this form, `clicks.py` draws synthetic ones, `pairs.py` makes them of shoppers and their candidates.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from etalage.errors import TableDamaged

PARTS = ("train", "validation", "test")
_ARRAYS = ("sparse", "dense", "labels", "parts", "groups")


@dataclass(frozen=True)
class Examples:
    sparse: np.ndarray
    """(M, S) int64 (int32 in a folder) rows of a vocabulary each; 0 = unknown or missing."""
    sparse_names: tuple[str, ...]
    sizes: tuple[int, ...]
    """Rows of each feature's vocabulary, the unknown one included: every value is below."""
    dense: np.ndarray
    """(M, F) float32, finite; what is missing is 0 and has a feature of its own that says so."""
    dense_names: tuple[str, ...]
    labels: np.ndarray
    """(M, O) float32; NaN = not known, and not learned from."""
    label_names: tuple[str, ...]
    parts: np.ndarray
    """(M,) uint8 codes: the positions of PARTS."""
    groups: np.ndarray | None = None
    """(M,) int64: the query of each row, for metrics by query; None: rows on their own."""

    def __post_init__(self) -> None:
        """Raises ValueError for arrays that do not fit their names or each other."""
        count = len(self.labels)
        wanted = {
            "sparse": (count, len(self.sparse_names)),
            "dense": (count, len(self.dense_names)),
            "labels": (count, len(self.label_names)),
            "parts": (count,),
            "groups": (count,),
        }
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise ValueError(f"{name} is {array.shape}, not {shape}")
        if len(self.sizes) != len(self.sparse_names):
            raise ValueError(f"{len(self.sizes)} sizes for {len(self.sparse_names)} sparse features")

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, part: str) -> np.ndarray:
        """(R,) int64, ascending: where the rows of this part are."""
        return np.flatnonzero(self.parts == PARTS.index(part))

    def take(self, rows: np.ndarray) -> "Examples":
        """A copy of these rows."""
        groups = None if self.groups is None else self.groups[rows]
        columns = {name: getattr(self, name)[rows] for name in ("sparse", "dense", "labels", "parts")}
        return replace(self, **columns, groups=groups)

    def fingerprint(self) -> str:
        """A short hash of what a run learned from."""
        digest = hashlib.sha256(json.dumps(self._facts()).encode())
        for name in _ARRAYS:
            array = getattr(self, name)
            for start in range(0, 0 if array is None else len(array), 2**17):
                digest.update(np.ascontiguousarray(array[start : start + 2**17]).tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write arrays as npy and names as JSON, the JSON last."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "examples.json").unlink(missing_ok=True)
        for name in _ARRAYS:
            array = getattr(self, name)
            if array is not None:
                small = array.astype(np.int32) if name == "sparse" else array
                np.save(folder / f"{name}.npy", small, allow_pickle=False)
        self.describe(folder)

    def describe(self, folder: Path) -> None:
        """Write the names alone, beside arrays that are there already."""
        (folder / "examples.json").write_text(json.dumps(self._facts(), indent=1), encoding="utf-8")

    @classmethod
    def open(cls, folder: Path) -> "Examples":
        """Memory-mapped. Raises TableDamaged: a file is missing, torn, or of another shape."""
        try:
            facts: dict[str, Any] = json.loads((folder / "examples.json").read_text(encoding="utf-8"))
            grouped = facts.pop("grouped")
            arrays: dict[str, Any] = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in _ARRAYS
                if name != "groups" or grouped
            }
            names: dict[str, Any] = {name: tuple(value) for name, value in facts.items()}
            return cls(**names, **arrays)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TableDamaged(f"{folder}: not a folder of examples ({error}); make it again") from error

    @classmethod
    def joined(cls, *sets: "Examples") -> "Examples":
        """One after the other. Groups are numbered anew, so that no two sets share one.

        Raises ValueError unless all have the same features, sizes and labels.
        """
        first = sets[0]
        if any(other._facts() != first._facts() for other in sets):
            raise ValueError("sets of other features, sizes or labels cannot be joined")
        names = ("sparse", "dense", "labels", "parts")
        columns: dict[str, Any] = {n: np.concatenate([getattr(one, n) for one in sets]) for n in names}
        groups, taken = [], 0
        for given in (one.groups for one in sets if one.groups is not None):
            _, numbers = np.unique(given, return_inverse=True)
            groups.append(numbers + taken)
            taken += int(numbers.max(initial=-1)) + 1
        return replace(first, **columns, groups=np.concatenate(groups) if groups else None)

    def _facts(self) -> dict[str, object]:
        names = ("sparse_names", "sizes", "dense_names", "label_names")
        return {**{name: list(getattr(self, name)) for name in names}, "grouped": self.groups is not None}


def shuffled(rows: np.ndarray, seed: Sequence[int], window: int | None = None) -> np.ndarray:
    """The rows in an order drawn by `seed`. With a window: blocks of so many rows in any order, each shuffled
    within itself, so that a set larger than memory is read from disk one block after the other.
    """
    rng = np.random.default_rng(seed)
    if window is None or window >= len(rows):
        return rng.permutation(rows)
    starts = rng.permutation(np.arange(0, len(rows), window))
    return np.concatenate([rng.permutation(rows[start : start + window]) for start in starts])


def blocks(rows: np.ndarray, size: int = 8192) -> Iterator[np.ndarray]:
    """The rows, `size` at a time."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
