"""One taxonomy: a tree of categories with ids of their own, whatever the merchants call theirs.

    N categories   L leaves   D depth   K categories of a level

A row is a category's place in the file, -1 stands for none. The root above the top categories has no row.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from etalage.errors import ExportDamaged
from etalage.lake.schema import CATEGORY_SEPARATOR


class Taxonomy:
    """Immutable. Children may stand before their parents."""

    def __init__(self, ids: Sequence[str], names: Sequence[str], parents_N: np.ndarray) -> None:
        """parents_N: (N,) rows, -1 for a top category. Raises ValueError: empty, an id twice, a cycle."""
        self.ids, self.names = tuple(ids), tuple(names)
        self.parents_N = np.array(parents_N, dtype=np.int64)  # a copy: it becomes read-only
        self._row_of = {id: row for row, id in enumerate(self.ids)}
        if not self.ids or len(self._row_of) != len(self.ids) or len(self.names) != len(self.ids):
            raise ValueError("no category, or an id twice")
        known = (self.parents_N >= -1) & (self.parents_N < len(self.ids))
        if self.parents_N.shape != (len(self.ids),) or not known.all():
            raise ValueError("a parent that is no row")
        self.depths_N = self._depths()
        self.parents_N.flags.writeable = self.depths_N.flags.writeable = False
        digest = hashlib.sha256(json.dumps([self.ids, self.names, self.parents_N.tolist()]).encode())
        self.version = digest.hexdigest()[:12]

    def _depths(self) -> np.ndarray:
        """(N,) int64, 1 = top."""
        depths, above = np.zeros(len(self.ids), np.int64), np.arange(len(self.ids))
        while (there := above >= 0).any():
            depths[there] += 1
            if depths.max() > len(self.ids):
                raise ValueError("a category above itself")
            above = np.where(there, self.parents_N[above], -1)
        return depths

    def __len__(self) -> int:
        return len(self.ids)

    # -- one category ------------------------------------------------------------------------------

    def row(self, id: str) -> int:
        """-1: unknown."""
        return self._row_of.get(id, -1)

    def steps(self, row: int) -> tuple[int, ...]:
        """Rows from the top to the category itself; () for -1."""
        found: list[int] = []
        while row >= 0:
            found.append(row)
            row = int(self.parents_N[row])
        return tuple(reversed(found))

    def path(self, row: int) -> str:
        """`Apparel > Shoes > Boots`."""
        return CATEGORY_SEPARATOR.join(self.names[step] for step in self.steps(row))

    @cached_property
    def top(self) -> np.ndarray:
        """(n,) int64 rows without a parent."""
        return np.flatnonzero(self.parents_N < 0)

    def children(self, row: int) -> np.ndarray:
        """(n,) int64 rows right beneath; of -1, the top ones."""
        return np.flatnonzero(self.parents_N == row) if row >= 0 else self.top

    def ancestor(self, row: int, depth: int) -> int:
        """The category above at this depth; itself where it is not that deep. Depth 1 is the top."""
        return int(self._above_ND[row, min(depth, self.depth) - 1])

    # -- all of them -------------------------------------------------------------------------------

    @cached_property
    def depth(self) -> int:
        """D, of the deepest category."""
        return int(self.depths_N.max())

    @cached_property
    def leaves_L(self) -> np.ndarray:
        """(L,) int64 rows without children, in the order of the file."""
        inner = np.zeros(len(self), dtype=bool)
        inner[self.parents_N[self.parents_N >= 0]] = True
        return np.flatnonzero(~inner)

    @cached_property
    def _above_ND(self) -> np.ndarray:
        """(N, D) int64: by depth what lies above a category; itself from its own depth on."""
        above = np.empty((len(self), self.depth), dtype=np.int64)
        for row in np.argsort(self.depths_N, kind="stable"):
            if (parent := self.parents_N[row]) >= 0:
                above[row] = above[parent]
            above[row, self.depths_N[row] - 1 :] = row
        return above

    def at_level(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        """The categories that part the leaves at this level: those of that depth, and leaves above it.

        → (K,) int64 rows in the order of the file, and (L,) int64: each leaf's place among the K. At the
        deepest level those are the leaves themselves.
        """
        rows, places = np.unique(
            self._above_ND[self.leaves_L, min(level, self.depth) - 1], return_inverse=True
        )
        return rows, places.astype(np.int64)

    def cut(self, level: int) -> "Taxonomy":
        """The categories of depth 1 … level, with their ids; leaves may be shallower."""
        if level < 1:
            raise ValueError(f"level = {level}: at least 1")
        return self if level >= self.depth else self._only(self.depths_N <= level)

    def pruned(self, rows: np.ndarray) -> "Taxonomy":
        """(n,) rows → these categories and what lies above them, with their ids; there must be one."""
        kept = np.zeros(len(self), dtype=bool)
        kept[np.unique(self._above_ND[rows])] = True
        return self._only(kept)

    def _only(self, kept_N: np.ndarray) -> "Taxonomy":
        """kept_N: (N,) bool, true above whatever is true."""
        kept = np.flatnonzero(kept_N)
        place = np.full(len(self) + 1, -1, dtype=np.int64)  # the last entry stands for "no parent"
        place[kept] = np.arange(len(kept))
        ids, names = ([of[row] for row in kept] for of in (self.ids, self.names))
        return Taxonomy(ids, names, place[self.parents_N[kept]])

    # -- two categories ----------------------------------------------------------------------------

    def common_ancestor(self, a: int, b: int) -> int:
        """The deepest category that is, or lies above, both; -1: only the root does."""
        shared = [x for x, y in zip(self.steps(a), self.steps(b), strict=False) if x == y]
        return shared[-1] if shared else -1

    def distance(self, a: int, b: int) -> int:
        """Edges between them; two top categories are 2 apart, by the root."""
        return int(self.distances(np.array([a]), np.array([b]))[0, 0])

    def distances(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """(n,), (m,) rows → (n, m) int16 of `distance`."""
        shared = np.zeros((len(rows), len(others)), dtype=np.int16)
        for level in range(self.depth):
            ours, theirs = self._above_ND[rows, level], self._above_ND[others, level]
            # Beyond its own depth a category stands for itself: that is no further edge in common.
            deep = (self.depths_N[rows] > level)[:, None] & (self.depths_N[others] > level)
            shared += (ours[:, None] == theirs) & deep
        depths = (self.depths_N[rows][:, None] + self.depths_N[others]).astype(np.int16)
        found: np.ndarray = depths - 2 * shared
        return found

    @cached_property
    def leaf_distances_LL(self) -> np.ndarray:
        """(L, L) float32 of `distance` between leaves; kept, as every decision of least risk asks for it."""
        return self.distances(self.leaves_L, self.leaves_L).astype(np.float32)

    # -- kept beside a model -----------------------------------------------------------------------

    def to_json(self) -> str:
        kept = {"ids": self.ids, "names": self.names, "parents": self.parents_N.tolist()}
        return json.dumps(kept, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, where: str) -> "Taxonomy":
        """Raises ExportDamaged."""
        try:
            kept = json.loads(text)
            ids, names = [str(id) for id in kept["ids"]], [str(name) for name in kept["names"]]
            return cls(ids, names, np.array(kept["parents"], dtype=np.int64))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ExportDamaged(f"{where}: not a taxonomy: {error!r}; export the model again") from error
